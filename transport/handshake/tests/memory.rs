//! What one handshake holds of its peer's bytes, whatever a stranger sends: streams with gaps, and what overtakes its keys. [P-6.2]
#![cfg(feature = "tls")]

mod common;

use common::pki::{Ca, client_config, server_config};
use common::{CLIENT, SERVER, forge, packet, setup};
use handshake::client::Client;
use handshake::identity::Identity;
use handshake::limits::{BUFFERED_MAX, EARLY_MAX, INITIAL_MAX};
use handshake::server::Server;
use proto::time::Instant;
use wire::bytes::Writer;
use wire::handshake::{FLAG_CLIENT, HANDSHAKE_OVERHEAD, HandshakeFields, HandshakePacket, Level, Method};
use wire::ids::{SessionId, Side};

/// Bytes of each fragment.
const FRAGMENT: usize = 1000;

/// A packet of a stranger's: its public check is good, and nothing else.
fn stranger(from: Side, level: Level, number: u32, offset: usize) -> Vec<u8> {
    let (sender, receiver, flags) = match from {
        Side::Client => (CLIENT, SessionId::NONE, FLAG_CLIENT),
        Side::Server => (SERVER, CLIENT, 0),
    };
    let (method, offset) = (Method::Tls, offset as u32);
    let fields = HandshakeFields { sender, method, level, number, echo: 0, echo_age: 0, offset, acks: [0; 2] };
    let mut bytes = vec![0; HANDSHAKE_OVERHEAD + FRAGMENT];
    let mut w = Writer::new(&mut bytes);
    HandshakePacket::emit(&HandshakePacket::header(flags, receiver, CLIENT), &fields, b"", FRAGMENT, &mut w);
    w.put(&[7; FRAGMENT]);
    forge(&mut bytes, |_| ());
    bytes
}

fn identity(ca: &Ca) -> Identity {
    let (certificate, key) = ca.pair(&["localhost"], |_| ());
    Identity::pem("made here", certificate.as_bytes(), key.as_bytes()).unwrap()
}

/// [P-6.2] A server that waits for the beginning of a ClientHello: all that comes behind it is kept up to a limit, and so are packets of a
/// first flight whose key is not there.
#[test]
fn a_server_holds_no_more_than_it_says() {
    let ca = Ca::new();
    let now = Instant::ZERO;
    let first = stranger(Side::Client, Level::Initial, 0, FRAGMENT);
    let setup = setup(SERVER, 1232, now);
    let mut server = Server::tls(&server_config(&identity(&ca), None), &packet(&first), false, &setup).unwrap();
    let give = |server: &mut Server, bytes: &[u8]| {
        let _ = server.handle(now, &packet(bytes), bytes.len());
        assert!(server.buffered_bytes() <= BUFFERED_MAX, "{}", server.buffered_bytes());
    };
    for at in 1..200 {
        give(&mut server, &stranger(Side::Client, Level::Initial, at, at as usize * FRAGMENT));
    }
    let stream = server.buffered_bytes();
    assert!((INITIAL_MAX - FRAGMENT..=INITIAL_MAX).contains(&stream), "{stream}");
    for at in 200..400 {
        give(&mut server, &stranger(Side::Client, Level::Early, at, 0));
    }
    let early = server.buffered_bytes() - stream;
    assert!((EARLY_MAX - 2 * FRAGMENT..=EARLY_MAX).contains(&early), "{early}");
}

/// [P-6.2] A client that waits for the ServerHello: sealed packets that overtake it are kept up to a limit.
#[test]
fn a_client_holds_no_more_than_it_says() {
    let ca = Ca::new();
    let now = Instant::ZERO;
    let setup = setup(CLIENT, 1232, now);
    let mut client = Client::tls(&client_config(&ca, None), "localhost", &setup).unwrap();
    for at in 0..200 {
        for (level, offset) in [(Level::Sealed, at as usize * FRAGMENT), (Level::Initial, (at as usize + 1) * FRAGMENT)]
        {
            let bytes = stranger(Side::Server, level, at, offset);
            let _ = client.handle(now, &packet(&bytes), bytes.len());
        }
    }
    let held = client.buffered_bytes();
    assert!((INITIAL_MAX + EARLY_MAX - 3 * FRAGMENT..=INITIAL_MAX + EARLY_MAX).contains(&held), "{held}");
}
