//! Certificates, keys and tickets over real sockets: reloaded while they work, revoked, raw, several, logged, resumed.
#![cfg(feature = "aws-lc")]

mod common;

use common::{Authority, echo};
use rcgen::KeyPair;
use sealane::{
    Clients, Error, HandshakeError, Identity, KeyExchange, Payload, Peer, PeerIdentity, SessionInfo, Side, Socket,
    Trust,
};

fn call(client: &Socket, peer: &Peer) -> Result<Payload, Error> {
    client.call(peer, b"hello")
}

fn refusal(outcome: Result<Payload, Error>) -> HandshakeError {
    match outcome {
        Err(Error::Handshake { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

/// The only open session of a socket.
fn session(socket: &Socket) -> SessionInfo {
    let mut sessions = socket.info().sessions;
    sessions.retain(|session| session.open);
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    sessions.remove(0)
}

/// Both ends tell what they agreed on: by default the hybrid of X25519 and ML-KEM-768; else what is left.
#[test]
fn key_exchange_is_told() {
    let ca = Authority::new();
    for only in [None, Some(KeyExchange::X25519)] {
        let server = ca.server().bind("127.0.0.1:0").unwrap();
        let (at, server) = (server.local_addr(), echo(server));
        let client = match only {
            Some(only) => ca.client().key_exchanges(&[only]),
            None => ca.client(),
        };
        let client = client.bind("127.0.0.1:0").unwrap();
        let peer = client.peer(at, "localhost").unwrap();
        call(&client, &peer).unwrap();
        let expected = only.unwrap_or(KeyExchange::X25519MlKem768);
        assert_eq!(session(&client).exchange, Some(expected));
        assert!(client.info().to_string().contains(expected.name()));
        client.call(&peer, b"quit").unwrap();
        server.join().unwrap();
    }
}

/// A session that was ended is resumed by the next one, with the same identities on both sides; without resumption it is not.
#[test]
fn resumed() {
    let ca = Authority::new();
    for on in [true, false] {
        let server = ca.server().bind("127.0.0.1:0").unwrap();
        let (at, server) = (server.local_addr(), echo(server));
        let client = ca.client().resumption(on).bind("127.0.0.1:0").unwrap();
        let peer = client.peer(at, "localhost").unwrap();
        for n in 0..5 {
            call(&client, &peer).unwrap();
            let session = session(&client);
            assert!(session.mutual);
            assert!(
                matches!(&*session.origin.identity, PeerIdentity::Certificate(c) if c.names()[0].to_string() == "localhost")
            );
            assert_eq!(session.resumed, on && n > 0, "session {n}");
            client.disconnect(&peer).unwrap();
        }
        client.call(&peer, b"quit").unwrap();
        server.join().unwrap();
    }
}

/// A server's certificate is renewed while it works: new sessions see the new one, the open one stays, and a ticket of
/// before opens nothing.
#[test]
fn reloaded_identity() {
    let (old, new) = (Authority::named("old"), Authority::named("new"));
    let server = Socket::builder().trust(Trust::nobody()).identity(old.identity("localhost"));
    let server = std::sync::Arc::new(server.serve(Clients::Anonymous).bind("127.0.0.1:0").unwrap());
    let at = server.local_addr();
    let serving = std::sync::Arc::clone(&server);
    let thread = std::thread::spawn(move || {
        while let Ok(delivery) = serving.recv() {
            if let sealane::Delivery::Request(request) = delivery {
                let _ = serving.reply(request.token, request.payload);
            }
        }
    });
    let client = |ca: &Authority| {
        let client = Socket::builder().trust(ca.trust()).anonymous().bind("127.0.0.1:0").unwrap();
        let peer = client.peer(at, "localhost").unwrap();
        (client, peer)
    };
    let (before, peer) = client(&old);
    call(&before, &peer).unwrap();
    server.reload(None, Some(new.identity("localhost"))).unwrap();
    call(&before, &peer).unwrap();
    assert_eq!(session(&before).origin.address, at, "the session of before goes on");
    let (after, peer_after) = client(&new);
    call(&after, &peer_after).unwrap();
    before.disconnect(&peer).unwrap();
    assert_eq!(refusal(call(&before, &peer)), HandshakeError::Untrusted { whose: Side::Server });
    before.reload(Some(new.trust()), None).unwrap();
    call(&before, &peer).unwrap();
    assert!(!session(&before).resumed);
    // What cannot work changes nothing.
    assert!(server.reload(Some(Trust::nobody()), None).is_ok());
    assert!(Trust::pem(b"nothing").is_err());
    server.close().unwrap();
    thread.join().unwrap();
}

/// A client's certificate is revoked while it is connected: its session stays, and it gets no other, also not by a ticket.
#[test]
fn revoked_while_connected() {
    let ca = Authority::new();
    let server = std::sync::Arc::new(ca.server().bind("127.0.0.1:0").unwrap());
    let at = server.local_addr();
    let serving = std::sync::Arc::clone(&server);
    let thread = std::thread::spawn(move || {
        while let Ok(delivery) = serving.recv() {
            if let sealane::Delivery::Request(request) = delivery {
                let _ = serving.reply(request.token, request.payload);
            }
        }
    });
    let connect = |serial: u64| {
        let identity = ca.identity_with("client", |p| p.serial_number = Some(serial.into()));
        let client = Socket::builder().trust(ca.trust()).identity(identity).bind("127.0.0.1:0").unwrap();
        let peer = client.peer(at, "localhost").unwrap();
        call(&client, &peer).unwrap();
        (client, peer)
    };
    let clients = [connect(7), connect(8)];
    server.reload(Some(ca.trust().revoked(ca.revoke(7).as_bytes()).unwrap()), None).unwrap();
    for (n, (client, peer)) in clients.iter().enumerate() {
        call(client, peer).unwrap();
        client.disconnect(peer).unwrap();
        let outcome = call(client, peer);
        assert_eq!(outcome.is_ok(), n == 1, "{outcome:?}");
    }
    server.close().unwrap();
    thread.join().unwrap();
}

/// Two ends that know each other's public keys need no certificates, and learn the key of the other.
#[test]
fn raw_public_keys() {
    let [a, b] = [(); 2].map(|()| Identity::raw_key(KeyPair::generate().unwrap().serialize_pem().as_bytes()).unwrap());
    let [trust_a, trust_b] = [&a, &b].map(|identity| Trust::raw_keys(&identity.public_key()).unwrap());
    let builder = Socket::builder().trust(trust_b).identity(a.clone()).serve(Clients::Authenticated);
    let server = builder.bind("127.0.0.1:0").unwrap();
    let (at, server) = (server.local_addr(), echo(server));
    let client = Socket::builder().trust(trust_a).identity(b).bind("127.0.0.1:0").unwrap();
    let peer = client.peer(at, "any name").err();
    assert!(peer.is_none());
    let peer = client.peer(at, "any.name").unwrap();
    for _ in 0..2 {
        call(&client, &peer).unwrap();
        let session = session(&client);
        assert!(matches!(&*session.origin.identity, PeerIdentity::RawKey(key) if key.der() == a.public_key()));
        assert!(session.mutual);
        client.disconnect(&peer).unwrap();
    }
    client.call(&peer, b"quit").unwrap();
    server.join().unwrap();
}

/// One server for two names: each client is shown the certificate of the name that it asks for.
#[test]
fn two_names() {
    let (one, two) = (Authority::named("one"), Authority::named("two"));
    let both = one.identity("one.example").and(two.identity("two.example")).unwrap();
    let server = Socket::builder().trust(Trust::nobody()).identity(both).serve(Clients::Anonymous);
    let server = server.bind("127.0.0.1:0").unwrap();
    let (at, server) = (server.local_addr(), echo(server));
    for (ca, name) in [(&one, "one.example"), (&two, "two.example")] {
        let client = Socket::builder().trust(ca.trust()).anonymous().bind("127.0.0.1:0").unwrap();
        let peer = client.peer(at, name).unwrap();
        call(&client, &peer).unwrap();
        if name == "two.example" {
            client.call(&peer, b"quit").unwrap();
        }
    }
    server.join().unwrap();
}

/// The key log is written where it was asked for, to a file that only its owner can read; the environment turns nothing on.
#[test]
fn key_log() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let ca = Authority::new();
    let server = ca.server().bind("127.0.0.1:0").unwrap();
    let (at, server) = (server.local_addr(), echo(server));
    let client = ca.client().key_log(&path).bind("127.0.0.1:0").unwrap();
    let peer = client.peer(at, "localhost").unwrap();
    client.call(&peer, b"quit").unwrap();
    server.join().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    for label in ["CLIENT_HANDSHAKE_TRAFFIC_SECRET ", "SERVER_HANDSHAKE_TRAFFIC_SECRET ", "SEALANE_SESSION_SECRET "] {
        assert_eq!(text.lines().filter(|line| line.starts_with(label)).count(), 1, "{label}: {text}");
    }
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let nowhere = ca.client().key_log(folder.path().join("no/such/folder")).bind("127.0.0.1:0").unwrap_err();
    assert!(matches!(nowhere, Error::Config(_)), "{nowhere:?}");
}
