//! Whoever is refused learns why, nothing of the application is sent before, and nothing can have run.
#![cfg(feature = "aws-lc")]

mod common;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::{Authority, LONG, beside_echo, bounded, patient, until};
use sealane::builder::Ready;
use sealane::{
    Builder, CallOptions, Clients, Delivery, Error, Fault, HandshakeError, Identity, PeerIdentity, Socket, Trust,
};
use wire::ids::Side;

/// What a client with this name for the server gets from it, twice; the server's application sees nothing.
fn refusal(server: Builder<Ready>, client: Builder<Ready>, name: &str) -> Error {
    let server = server.bind("127.0.0.1:0").unwrap();
    let client = client.bind("127.0.0.1:0").unwrap();
    let peer = client.peer(server.local_addr(), name).unwrap();
    let error = client.call_with(&peer, b"a secret", patient()).unwrap_err();
    assert!(!error.may_have_run(), "{error}");
    let again = client.call_with(&peer, b"a secret", patient()).unwrap_err();
    assert_eq!(again.to_string(), error.to_string(), "the next attempt is refused alike");
    assert!(error.to_string().contains(&server.local_addr().to_string()), "{error} names the peer");
    assert!(server.recv_timeout(Duration::from_millis(50)).unwrap().is_none());
    let seen = server.info().counters;
    assert_eq!((seen.messages_delivered, seen.records_opened, seen.dropped_too_early), (0, 0, 0));
    assert_eq!(client.info().counters.records_sealed, 0, "nothing of the application was sent");
    assert_eq!(client.info().held_bytes, 0);
    until("failed handshakes are forgotten", || client.info().sessions.is_empty());
    error
}

/// Checks that `error` is a handshake's, whose fault it is, and that its text says all of `words`.
fn expect(error: &Error, fault: Fault, is_it: fn(&HandshakeError) -> bool, words: &[&str]) {
    let Error::Handshake { source, .. } = error else { panic!("{error:?} is no handshake's") };
    assert!(is_it(source), "{error:?}");
    assert_eq!(error.fault(), fault, "{error}");
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text:?} does not say {words:?}");
}

#[test]
fn untrusted_authority() {
    bounded(|| {
        let (ca, other) = (Authority::new(), Authority::named("other"));
        let server = ca.server_as(other.identity("localhost"));
        let error = refusal(server, ca.client(), "localhost");
        let is_it = |e: &HandshakeError| matches!(e, HandshakeError::Untrusted { whose: Side::Server });
        expect(&error, Fault::Peer, is_it, &["server's certificate", "not issued by anyone trusted"]);
    });
}

#[test]
fn expired() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server_as(ca.identity_with("localhost", |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }));
        let error = refusal(server, ca.client(), "localhost");
        let is_it = |e: &HandshakeError| matches!(e, HandshakeError::Expired { whose: Side::Server, .. });
        expect(&error, Fault::Peer, is_it, &["server's certificate expired", "days ago"]);
    });
}

#[test]
fn not_yet_valid() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server_as(ca.identity_with("localhost", |params| {
            params.not_before = rcgen::date_time_ymd(2999, 1, 1);
            params.not_after = rcgen::date_time_ymd(3000, 1, 1);
        }));
        let error = refusal(server, ca.client(), "localhost");
        let is_it = |e: &HandshakeError| matches!(e, HandshakeError::NotYetValid { whose: Side::Server, .. });
        expect(&error, Fault::Peer, is_it, &["becomes valid in", "days"]);
    });
}

#[test]
fn wrong_name() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server_as(ca.identity("a.example"));
        let error = refusal(server, ca.client(), "b.example");
        let is_it = |e: &HandshakeError| matches!(e, HandshakeError::WrongName { .. });
        expect(&error, Fault::Peer, is_it, &["\"b.example\"", "\"a.example\""]);
    });
}

/// `connect` tells what a call would: also what the server says of our certificate after we are done.
#[test]
fn connect_waits_for_the_verdict() {
    bounded(|| {
        let (ca, other) = (Authority::new(), Authority::named("other"));
        let server = ca.server().bind("127.0.0.1:0").unwrap();
        for _ in 0..20 {
            let client = Socket::builder().trust(ca.trust()).identity(other.identity("client"));
            let client = client.bind("127.0.0.1:0").unwrap();
            let peer = client.peer(server.local_addr(), "localhost").unwrap();
            let error = client.connect(&peer).unwrap_err();
            let is_it = |e: &HandshakeError| matches!(e, HandshakeError::Refused { proven: true, .. });
            expect(&error, Fault::Peer, is_it, &["certificate"]);
        }
    });
}

#[test]
fn no_name() {
    bounded(|| {
        let ca = Authority::new();
        let client = ca.client().bind("127.0.0.1:0").unwrap();
        let peer = client.peer("127.0.0.1:9", "not a name").unwrap();
        let error = client.call_with(&peer, b"x", patient()).unwrap_err();
        assert!(error.to_string().contains("\"not a name\""), "{error}");
        assert!(!error.may_have_run());
        assert_eq!(error.fault(), Fault::Caller);
    });
}

#[test]
fn wrong_alpn() {
    bounded(|| {
        let ca = Authority::new();
        let client = ca.client().danger_alpn(b"sealane/99");
        let error = refusal(ca.server(), client, "localhost");
        let is_it = |e: &HandshakeError| matches!(e, HandshakeError::AlpnMismatch);
        expect(&error, Fault::Peer, is_it, &["ALPN", "another version"]);
    });
}

#[test]
fn no_cipher_in_common() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server().cipher(sealane::Cipher::Aes128Gcm);
        let client = ca.client().cipher(sealane::Cipher::ChaCha20Poly1305);
        let error = refusal(server, client, "localhost");
        let is_it = |e: &HandshakeError| matches!(e, HandshakeError::NothingInCommon);
        expect(&error, Fault::Peer, is_it, &["no cipher"]);
    });
}

#[test]
fn client_certificate_missing() {
    bounded(|| {
        let ca = Authority::new();
        let client = Socket::builder().trust(ca.trust()).anonymous();
        let error = refusal(ca.server(), client, "localhost");
        let is_it = |e: &HandshakeError| matches!(e, HandshakeError::ClientCertificateRequired);
        expect(&error, Fault::Caller, is_it, &["requires a client certificate"]);
    });
}

#[test]
fn client_certificate_of_another_authority() {
    bounded(|| {
        let (ca, other) = (Authority::new(), Authority::named("other"));
        let client = Socket::builder().trust(ca.trust()).identity(other.identity("client"));
        let error = refusal(ca.server(), client, "localhost");
        let is_it = |e: &HandshakeError| {
            matches!(e, HandshakeError::Refused { proven: true, .. } | HandshakeError::ClientCertificateRequired)
        };
        expect(&error, error.fault(), is_it, &["certificate"]);
    });
}

#[test]
fn client_certificate_expired() {
    bounded(|| {
        let ca = Authority::new();
        let old = ca.identity_with("client", |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        });
        let client = Socket::builder().trust(ca.trust()).identity(old);
        let error = refusal(ca.server(), client, "localhost");
        let is_it = |e: &HandshakeError| matches!(e, HandshakeError::Refused { proven: true, .. });
        expect(&error, Fault::Peer, is_it, &["certificate_expired"]);
    });
}

/// Anonymous clients are served where that was said, and are known to be anonymous.
#[test]
fn anonymous_clients_where_they_may() {
    bounded(|| {
        let ca = Authority::new();
        let server = Socket::builder()
            .trust(Trust::nobody())
            .identity(ca.identity("localhost"))
            .serve(Clients::Anonymous)
            .bind("127.0.0.1:0")
            .unwrap();
        let at = server.local_addr();
        let client = Socket::builder().trust(ca.trust()).anonymous().bind("127.0.0.1:0").unwrap();
        let handler = thread::spawn(move || {
            let Delivery::Request(request) = server.recv().unwrap() else { panic!("a request") };
            assert!(matches!(*request.peer.identity(), PeerIdentity::Anonymous));
            server.reply(request.token, b"welcome").unwrap();
            assert!(!server.info().sessions[0].mutual);
            server.close().unwrap();
        });
        let peer = client.peer(at, "localhost").unwrap();
        assert_eq!(&*client.call_with(&peer, b"hello", patient()).unwrap(), b"welcome");
        handler.join().unwrap();
    });
}

/// A socket that was not told to serve begins no session for others.
#[test]
fn a_socket_that_does_not_serve_refuses_sessions() {
    bounded(|| {
        let ca = Authority::new();
        let error = refusal(ca.client(), ca.client(), "localhost");
        let is_it = |e: &HandshakeError| matches!(e, HandshakeError::Refused { .. });
        expect(&error, Fault::Peer, is_it, &["access_denied"]);
    });
}

/// Nor does it take requests in a session that it began itself.
#[test]
fn a_socket_that_does_not_serve_refuses_requests() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server().bind("127.0.0.1:0").unwrap();
        let client = Arc::new(ca.client().bind("127.0.0.1:0").unwrap());
        let peer = client.peer(server.local_addr(), "localhost").unwrap();
        let asking = Arc::clone(&client);
        let caller = thread::spawn(move || asking.call_with(&peer, b"?", patient()));
        let Delivery::Request(request) = server.recv().unwrap() else { panic!("a request") };
        let back = request.peer.peer();
        let error = server.call_with(&back, b"and you?", patient()).unwrap_err();
        assert!(matches!(error, Error::NotServing { address } if address == client.local_addr()), "{error:?}");
        assert!(!error.may_have_run());
        assert_eq!(error.fault(), Fault::Peer);
        let error = server.tell(&back, b"just so you know").unwrap_err();
        assert!(matches!(error, Error::NotServing { .. }), "{error:?}");
        let id = server.send(&back, b"once more", 7).unwrap();
        let Delivery::Failed(failed) = server.recv().unwrap() else { panic!("a failure") };
        assert_eq!((failed.id, failed.cookie), (id, 7));
        assert!(matches!(failed.error, Error::NotServing { .. }), "{:?}", failed.error);
        server.reply(request.token, b"!").unwrap();
        let server = thread::spawn(move || server.recv_timeout(Duration::from_millis(200)));
        assert_eq!(&*caller.join().unwrap().unwrap(), b"!");
        assert!(server.join().unwrap().unwrap().is_none());
        assert_eq!(client.info().counters.messages_delivered, 1, "the response only");
    });
}

/// The receiver's limit holds, before the session is there and after.
#[test]
fn longer_than_the_receiver_accepts() {
    bounded(|| {
        let ca = Authority::new();
        let (server, client, peer) = beside_echo(
            ca.server().message_bytes_max(10_000).bind("127.0.0.1:0").unwrap(),
            ca.client().bind("127.0.0.1:0").unwrap(),
        );
        let error = client.call_with(&peer, vec![1; 10_001], patient()).unwrap_err();
        assert!(matches!(error, Error::TooLongForPeer), "{error:?}");
        assert_eq!((error.may_have_run(), error.fault()), (false, Fault::Peer));
        let error = client.call_with(&peer, vec![1; 10_001], patient()).unwrap_err();
        assert!(matches!(error, Error::TooLong { length: 10_001, limit: 10_000 }), "{error:?}");
        assert!(error.to_string().contains("10001") && error.to_string().contains("10000"), "{error}");
        assert_eq!((error.may_have_run(), error.fault()), (false, Fault::Caller));
        assert_eq!(client.call_with(&peer, vec![1; 10_000], patient()).unwrap().len(), 10_000);
        until("nothing is held, of refused messages neither", || client.info().held_bytes == 0);
        client.call(&peer, b"quit").unwrap();
        assert_eq!(server.join().unwrap(), 1);
    });
}

/// A response that its caller does not accept: the server is told so.
#[test]
fn a_response_longer_than_its_caller_accepts() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server().bind("127.0.0.1:0").unwrap();
        let client = Arc::new(ca.client().message_bytes_max(10_000).bind("127.0.0.1:0").unwrap());
        let peer = client.peer(server.local_addr(), "localhost").unwrap();
        let asking = Arc::clone(&client);
        let options = CallOptions::new().deadline(Duration::from_secs(2));
        let caller = thread::spawn(move || asking.call_with(&peer, b"all of it", options));
        let Delivery::Request(request) = server.recv().unwrap() else { panic!("a request") };
        let error = server.reply(request.token, vec![1; 10_001]).unwrap_err();
        assert!(matches!(error, Error::TooLong { length: 10_001, limit: 10_000 }), "{error:?}");
        drop(server.recv_timeout(Duration::from_millis(20)).unwrap());
        let error = caller.join().unwrap().unwrap_err();
        assert!(error.may_have_run(), "{error:?}");
    });
}

/// A reply to what is no longer there: answered, refused, cancelled, or of a session that ended.
#[test]
fn replies_to_nothing() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server().bind("127.0.0.1:0").unwrap();
        let at = server.local_addr();
        let client = ca.client().bind("127.0.0.1:0").unwrap();
        let peer = client.peer(at, "localhost").unwrap();
        let request = || {
            let delivery = server.recv_timeout(LONG).unwrap();
            let Some(Delivery::Request(request)) = delivery else { panic!("{delivery:?}") };
            request
        };
        let unknown = |error: Error| {
            assert!(matches!(error, Error::UnknownRequest(_)), "{error:?}");
            assert!(error.to_string().contains("waits for a reply"), "{error}");
            assert_eq!((error.may_have_run(), error.fault()), (false, Fault::Caller));
        };
        let id = client.send(&peer, b"cancelled", 0).unwrap();
        let cancelled = request();
        assert!(client.abort(id));
        until("the server hears of it", || {
            let _ = server.try_recv();
            server.info().rpcs.is_empty()
        });
        unknown(server.reply(cancelled.token, b"too late").unwrap_err());

        let id = client.send(&peer, b"refused", 0).unwrap();
        server.refuse(request().token).unwrap();
        let error = client.wait(id).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error:?}");
        assert!(error.to_string().contains("said no"), "{error}");
        assert_eq!((error.may_have_run(), error.fault()), (true, Fault::Peer));

        client.send(&peer, b"of a session that ends", 0).unwrap();
        let orphan = request();
        drop(client);
        until("the server hears of it", || {
            let _ = server.try_recv();
            server.info().sessions.is_empty()
        });
        unknown(server.reply(orphan.token, b"too late").unwrap_err());
        unknown(server.refuse(common_token(&server, &ca)).unwrap_err());
    });
}

/// The token of a request whose caller has left.
fn common_token(server: &Socket, ca: &Authority) -> sealane::ReplyToken {
    let client = ca.client().bind("127.0.0.1:0").unwrap();
    client.send(&client.peer(server.local_addr(), "localhost").unwrap(), b"bye", 0).unwrap();
    let Some(Delivery::Request(request)) = server.recv_timeout(LONG).unwrap() else { panic!() };
    drop(client);
    until("the server hears of it", || {
        let _ = server.try_recv();
        server.info().sessions.is_empty()
    });
    request.token
}

#[test]
fn a_port_that_is_taken() {
    let ca = Authority::new();
    let first = ca.server().bind("127.0.0.1:0").unwrap();
    let address = first.local_addr().to_string();
    let error = ca.server().bind(address.as_str()).unwrap_err();
    let Error::Bind { address: named, source } = &error else { panic!("{error:?}") };
    assert_eq!((named.as_str(), source.kind()), (address.as_str(), io::ErrorKind::AddrInUse));
    let text = error.to_string();
    assert!(text.contains(&address) && text.to_lowercase().contains("in use"), "{text}");
    assert_eq!((error.may_have_run(), error.fault()), (false, Fault::System));
    let at = first.local_addr();
    drop(first);
    drop(common::rebind(at, || ca.server()));
}

#[test]
fn addresses_that_cannot_be() {
    let ca = Authority::new();
    let error = ca.client().bind("203.0.113.1:0").unwrap_err();
    assert!(matches!(error, Error::Bind { .. }), "{error:?}");
    assert!(error.to_string().contains("203.0.113.1:0"), "{error}");
    let error = ca.client().bind("nowhere.invalid:0").unwrap_err();
    assert!(matches!(error, Error::Bind { .. }), "{error:?}");
    let client = ca.client().bind("127.0.0.1:0").unwrap();
    let error = client.peer("nowhere.invalid:1", "nowhere").unwrap_err();
    assert!(matches!(error, Error::Address { .. }), "{error:?}");
    assert!(error.to_string().contains("nowhere.invalid:1"), "{error}");
    assert_eq!(error.fault(), Fault::System);
}

#[test]
fn choices_that_cannot_work() {
    let ca = Authority::new();
    let no_identity = Socket::builder().trust(ca.trust()).anonymous().serve(Clients::Authenticated);
    let nobody = || Socket::builder().trust(Trust::nobody()).identity(ca.identity("localhost"));
    let cases = [
        (no_identity, "identity"),
        (nobody().serve(Clients::Authenticated), "trusts nobody"),
        (ca.client().mtu(100), "100"),
        (ca.client().mtu(70_000), "70000"),
        (ca.client().message_bytes_max((64 << 20) + 1), "67108865"),
        (ca.client().peer_timeout(Duration::ZERO), "timeout"),
        (ca.client().handshake_timeout(Duration::ZERO), "timeout"),
    ];
    for (builder, word) in cases {
        let error = builder.bind("127.0.0.1:0").unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(word), "{error} does not say {word}");
        assert_eq!((error.may_have_run(), error.fault()), (false, Fault::Caller));
    }
    let error = ca.client().ciphers(&[]).bind("127.0.0.1:0").unwrap_err();
    assert!(matches!(error, Error::Credentials(HandshakeError::NoCipher)), "{error:?}");
    // Who trusts nobody can begin no session.
    let client = nobody().bind("127.0.0.1:0").unwrap();
    let error = client.call(&client.peer("127.0.0.1:9", "localhost").unwrap(), b"x").unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert!(error.to_string().contains("nobody to trust"), "{error}");
}

#[test]
fn credentials_that_cannot_be_used() {
    let error = Trust::pem_file("/does/not/exist.pem").unwrap_err();
    assert!(matches!(error, Error::Credentials(HandshakeError::File { .. })), "{error:?}");
    assert!(error.to_string().contains("/does/not/exist.pem"), "{error}");
    assert_eq!((error.may_have_run(), error.fault()), (false, Fault::Caller));
    let error = Identity::pem(b"nothing", b"at all").unwrap_err();
    assert!(matches!(error, Error::Credentials(_)), "{error:?}");
    assert_eq!(error.fault(), Fault::Caller);
}

/// Nothing works after the end, and everything says so.
#[test]
fn a_closed_socket_says_so() {
    bounded(|| {
        let ca = Authority::new();
        let (server, client, peer) =
            beside_echo(ca.server().bind("127.0.0.1:0").unwrap(), ca.client().bind("127.0.0.1:0").unwrap());
        client.call_with(&peer, b"x", patient()).unwrap();
        client.call_with(&peer, b"quit", patient()).unwrap();
        server.join().unwrap();
        client.close().unwrap();
        let errors = [
            client.close().unwrap_err(),
            client.call(&peer, b"x").unwrap_err(),
            client.send(&peer, b"x", 0).unwrap_err(),
            client.send_one_way(&peer, b"x").unwrap_err(),
            client.connect(&peer).unwrap_err(),
            client.recv().unwrap_err(),
            client.try_recv().unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, Error::Closed), "{error:?}");
            assert_eq!((error.may_have_run(), error.fault()), (false, Fault::Caller));
        }
    });
}
