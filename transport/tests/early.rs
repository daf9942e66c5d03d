//! Requests in the first flight over real sockets: what is taken, marked, refused, sent again, and never run twice. [P-6.9]
#![cfg(feature = "aws-lc")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "an application may sleep, an attacker has sockets"
)]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::tap::Tap;
use common::{Authority, Server, hostile, numbered, with_faults};
use sealane::builder::Ready;
use sealane::{Builder, CallOptions, Clients, Error, Identity, Peer, Protection, Request, Socket, Trust};

const EARLY: CallOptions = CallOptions::new().early(true);

fn builder(identity: Identity) -> Builder<Ready> {
    let server = Socket::builder().trust(Trust::nobody()).identity(identity).serve(Clients::Anonymous);
    server.accept_early_data(1 << 14)
}

fn server(ca: &Authority) -> Server {
    Server::echo(builder(ca.identity("localhost")).bind("127.0.0.1:0").unwrap())
}

fn client(ca: &Authority) -> Builder<Ready> {
    Socket::builder().trust(ca.trust()).anonymous()
}

/// A client that has a ticket of the server, and no session with it.
fn with_ticket(builder: Builder<Ready>, at: SocketAddr) -> (Socket, Peer) {
    let client = builder.bind("127.0.0.1:0").unwrap();
    let peer = client.peer(at, "localhost").unwrap();
    for _ in 0..20 {
        client.call(&peer, b"first").unwrap();
        client.disconnect(&peer).unwrap();
    }
    (client, peer)
}

/// [P-6.9] A request in the first flight runs once and says how it came; what follows in the session is as always. The first
/// session, which has no ticket, and a request that does not ask for it, go the ordinary way.
#[test]
fn taken_and_marked() {
    let ca = Authority::new();
    let server = server(&ca);
    let client = client(&ca).bind("127.0.0.1:0").unwrap();
    let peer = client.peer(server.at, "localhost").unwrap();
    for n in 0..20u64 {
        let message = numbered(n, 500);
        assert_eq!(*client.call_with(&peer, &message, EARLY).unwrap(), *message);
        let expected = if n == 0 { Protection::Full } else { Protection::EarlyData };
        assert_eq!(server.ran(&message), [expected], "session {n}");
        let later = numbered(1000 + n, 5000);
        assert_eq!(*client.call_with(&peer, &later, EARLY).unwrap(), *later);
        assert_eq!(server.ran(&later), [Protection::Full]);
        client.disconnect(&peer).unwrap();
    }
    client.call(&peer, b"not early").unwrap();
    assert_eq!(server.ran(b"not early"), [Protection::Full]);
    assert_eq!(client.info().counters.early_sent, 19);
    assert_eq!(server.socket.info().counters.early_taken, 19);
}

/// [P-6.9] What is too long for a first flight, or more than it may bring, goes the ordinary way beside it, and long answers
/// wait for the session.
#[test]
fn more_than_fits() {
    let ca = Authority::new();
    let answer = |request: &Request| request.payload.repeat(40);
    let server = Server::new(builder(ca.identity("localhost")).bind("127.0.0.1:0").unwrap(), answer);
    let (client, peer) = with_ticket(client(&ca), server.at);
    let (client, peer) = (&client, &peer);
    std::thread::scope(|scope| {
        for n in 0..30u64 {
            scope.spawn(move || {
                let message = numbered(n, if n % 3 == 0 { 3000 } else { 900 });
                assert_eq!(*client.call_with(peer, &message, EARLY).unwrap(), *message.repeat(40));
            });
        }
    });
    for n in 0..30u64 {
        let ran = server.ran(&numbered(n, if n % 3 == 0 { 3000 } else { 900 }));
        assert_eq!(ran.len(), 1);
        assert!(n % 3 != 0 || ran == [Protection::Full]);
    }
}

/// [P-6.9] A server that was started again has forgotten its tickets, and the one before may have run the request: the caller is told so, and
/// it does not run.
#[test]
fn restarted_server() {
    let ca = Authority::new();
    let first = server(&ca);
    let at = first.at;
    let (client, peer) = with_ticket(client(&ca), at);
    drop(first);
    let second = Server::echo(builder(ca.identity("localhost")).bind(at).unwrap());
    let lost = client.call_with(&peer, b"lost", EARLY).unwrap_err();
    assert!(matches!(lost, Error::PeerRestarted { .. }) && lost.may_have_run(), "{lost:?}");
    assert_eq!(second.ran(b"lost"), []);
    assert_eq!(client.info().counters.early_sent, 1, "it was tried");
    client.call(&peer, b"the same session").unwrap();
    client.disconnect(&peer).unwrap();
    client.call_with(&peer, b"and early", EARLY).unwrap();
    assert_eq!(second.ran(b"and early"), [Protection::EarlyData]);
}

/// [P-6.9] Tickets of before a reload are good for nothing, and what was sent by one does not run; nobody remembers whether it did.
#[test]
fn reloaded_server() {
    let ca = Authority::new();
    let server = server(&ca);
    let (client, peer) = with_ticket(client(&ca), server.at);
    server.socket.reload(None, Some(ca.identity("localhost"))).unwrap();
    let lost = client.call_with(&peer, b"lost", EARLY).unwrap_err();
    assert!(matches!(lost, Error::PeerRestarted { .. }) && lost.may_have_run(), "{lost:?}");
    assert_eq!(server.ran(b"lost"), []);
    client.call_with(&peer, b"again", EARLY).unwrap();
    assert_eq!(server.ran(b"again"), [Protection::Full]);
}

/// [P-6.9] Where the network loses, reorders and repeats, every request runs exactly once, however it came.
#[test]
fn hostile_network() {
    let ca = Authority::new();
    let server = Server::echo(with_faults(builder(ca.identity("localhost")), hostile(1)).bind("127.0.0.1:0").unwrap());
    let client = with_faults(client(&ca), hostile(2)).bind("127.0.0.1:0").unwrap();
    let peer = client.peer(server.at, "localhost").unwrap();
    for n in 0..60u64 {
        let message = numbered(n, 300);
        assert_eq!(*client.call_with(&peer, &message, EARLY).unwrap(), *message);
        client.disconnect(&peer).unwrap();
    }
    for n in 0..60u64 {
        assert_eq!(server.ran(&numbered(n, 300)).len(), 1, "message {n}");
    }
    assert!(server.ran.lock().unwrap().values().any(|ran| ran == &[Protection::EarlyData]));
}

/// [P-6.9] A whole conversation is recorded and sent again, many times and in any order, to the same server, to one that was
/// started again, and to another one: nothing runs a second time.
#[test]
fn replayed() {
    let ca = Authority::new();
    let server = server(&ca);
    let tap = Tap::new();
    let (client, peer) = with_ticket(client(&ca).danger_wrap(tap.wrap()), server.at);
    tap.take_sent();
    client.call_with(&peer, b"once", EARLY).unwrap();
    assert_eq!(server.ran(b"once"), [Protection::EarlyData]);
    // The client's last packet goes with the next request.
    client.call(&peer, b"afterwards").unwrap();
    let recorded = tap.take_sent();
    assert!(recorded.len() >= 3);
    let replay = |at: SocketAddr| {
        let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..3 {
            recorded.iter().chain(recorded.iter().rev()).for_each(|datagram| {
                stranger.send_to(datagram, at).unwrap();
            });
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    replay(server.at);
    assert_eq!(server.ran(b"once").len(), 1);
    let other = self::server(&ca);
    replay(other.at);
    assert!(other.ran.lock().unwrap().is_empty());
    let at = server.at;
    drop((server, client));
    let again = Server::echo(builder(ca.identity("localhost")).bind(at).unwrap());
    replay(at);
    assert!(again.ran.lock().unwrap().is_empty());
}

/// [P-6.9] An application that takes its time answers when the session is open; the request does not run again meanwhile. One
/// that the caller gave up on is not run again either.
#[test]
fn slow_answers() {
    let ca = Authority::new();
    let slow = |request: &Request| {
        std::thread::sleep(Duration::from_millis(200));
        request.payload.to_vec()
    };
    let server = Server::new(builder(ca.identity("localhost")).bind("127.0.0.1:0").unwrap(), slow);
    let client = client(&ca).bind("127.0.0.1:0").unwrap();
    let peer = client.peer(server.at, "localhost").unwrap();
    client.call(&peer, b"first").unwrap();
    client.disconnect(&peer).unwrap();
    assert_eq!(*client.call_with(&peer, b"slow", EARLY).unwrap(), *b"slow");
    assert_eq!(server.ran(b"slow"), [Protection::EarlyData]);
    client.disconnect(&peer).unwrap();
    let short = EARLY.deadline(Duration::from_millis(50));
    let given_up = client.call_with(&peer, b"given up", short).unwrap_err();
    assert!(matches!(given_up, Error::Deadline { may_have_run: true, .. }), "{given_up:?}");
    client.call(&peer, b"after").unwrap();
    assert_eq!(server.ran(b"given up").len(), 1);
}

/// [P-6.9] Early data and authenticated clients exclude each other.
#[test]
fn not_where_clients_prove_themselves() {
    let ca = Authority::new();
    let error = ca.server().accept_early_data(1000).bind("127.0.0.1:0").unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    let server = Server::echo(ca.server().bind("127.0.0.1:0").unwrap());
    let client = ca.client().bind("127.0.0.1:0").unwrap();
    let peer = client.peer(server.at, "localhost").unwrap();
    for _ in 0..3 {
        client.call_with(&peer, b"hello", EARLY).unwrap();
        client.disconnect(&peer).unwrap();
    }
    assert_eq!(server.ran(b"hello"), [Protection::Full; 3]);
    assert_eq!(client.info().counters.early_sent, 0);
}
