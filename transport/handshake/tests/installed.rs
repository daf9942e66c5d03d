//! Sessions from installed secrets: works without TLS, never repeats a key, and believes only holders of the secret.

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use common::{CLIENT, CRYPTO, ONE_WAY, SERVER, World, setup, shared};
use handshake::client::Client;
use handshake::contract::{Progress, Reason};
use handshake::error::{Alert, Error, Stage};
use handshake::identity::PeerIdentity;
use handshake::limits::HINT_WAIT;
use handshake::server::{Offer, Server, offer, refuse};
use proto::time::Instant;
use record::aead::Cipher;
use wire::handshake::FLAG_CLIENT;
use wire::header::Header;
use wire::ids::Side;
use wire::packet::Packet;

const NONCES: [[u8; 16]; 2] = [[1; 16], [2; 16]];

fn key() -> handshake::installed::InstalledKey {
    shared::key(1, Cipher::Aes128Gcm)
}

fn secret_of(nonces: [[u8; 16]; 2]) -> [u8; 32] {
    let mut world = shared::world(&key(), &key(), nonces);
    world.run();
    world.assert_agreed();
    *world.at_client.established.unwrap().secret.expose()
}

/// The first datagram of a client.
fn hello() -> Vec<u8> {
    let mut client = Client::installed(&key(), NONCES[0], &setup(CLIENT, 1232, Instant::ZERO));
    let mut out = vec![0; 1232];
    let len = client.poll_transmit(Instant::ZERO, &mut out).unwrap();
    out.truncate(len);
    out
}

fn accept(bytes: &[u8]) -> Result<Server, Reason> {
    let Ok(Packet::Handshake(packet)) = Packet::parse(bytes) else { return Err(Reason::Over) };
    Server::installed(&key(), NONCES[1], &packet, false, &setup(SERVER, 1232, Instant::ZERO))
}

/// [P-6.6] Both ends agree after one round trip and a half, with the cipher of the installation, and know each other by its label.
#[test]
fn agree() {
    for cipher in Cipher::ALL {
        let mut world = shared::world(&shared::key(1, cipher), &shared::key(1, cipher), NONCES);
        world.run();
        world.assert_agreed();
        let client = world.at_client.established.as_ref().unwrap();
        assert_eq!((client.cipher, client.mutual), (cipher, true));
        assert_eq!(client.identity, PeerIdentity::Installed { label: "the other one".into() });
        assert_eq!(world.at_server.established.as_ref().unwrap().identity, client.identity);
        assert!(!world.client.must_wait_for_done());
        assert_eq!(world.at_client.established_at, Some(Instant::ZERO + ONE_WAY * 2));
        assert_eq!([world.sent[0].len(), world.sent[1].len()], [2, 1]);
        assert_eq!(world.sent[0][0], wire::limits::DATAGRAM_MIN, "the first datagram is padded");
    }
}

/// [P-6.6] A fresh nonce on either side is enough for fresh keys: a restart, a clone, a second installation.
#[test]
fn keys_never_repeat() {
    let all = [NONCES, [[3; 16], [2; 16]], [[1; 16], [3; 16]], [[3; 16], [3; 16]]].map(secret_of);
    for (i, a) in all.iter().enumerate() {
        assert!(all[i + 1..].iter().all(|b| a != b));
    }
    assert_eq!(secret_of(NONCES), all[0], "and nothing but nonces, parameters and the secret decides");
}

/// A client that holds another secret is told that this one is unknown, and no server takes its packets.
#[test]
fn wrong_secret() {
    let other = shared::key(2, Cipher::Aes128Gcm);
    assert_ne!(other.id(), key().id());
    assert_eq!(key().id(), shared::key(1, Cipher::Aes128Gcm).id());
    let mut world = shared::world(&other, &key(), NONCES);
    let log = Rc::new(RefCell::new(Vec::new()));
    let tap = log.clone();
    world.tap = Box::new(move |_, bytes| tap.borrow_mut().push(bytes.clone()));
    world.step();
    assert_eq!(world.dropped, [Reason::Tag]);
    assert!(world.server.is_none());
    let first = log.borrow()[0].clone();
    let Ok(Packet::Handshake(packet)) = Packet::parse(&first) else { panic!() };
    assert_eq!(offer(&packet), Some(Offer::Installed(other.id())));
    let mut out = [0; 100];
    let len = refuse(&CRYPTO, &packet, Alert::UNKNOWN_PSK_IDENTITY, &mut out).unwrap();
    world.inject(Side::Client, out[..len].to_vec());
    let at = world.now + ONE_WAY + HINT_WAIT;
    world.run_out();
    let unknown = Error::Refused { alert: Alert::UNKNOWN_PSK_IDENTITY, proven: false };
    assert_eq!((world.at_client.error, world.at_client.error_at), (Some(unknown), Some(at)));
    assert!(world.server.is_none());
}

/// A forged refusal does not stop two holders of a secret.
#[test]
fn forged_refusal() {
    let mut world = shared::world(&key(), &key(), NONCES);
    let bytes = hello();
    let Ok(Packet::Handshake(packet)) = Packet::parse(&bytes) else { panic!() };
    let mut out = [0; 100];
    for alert in [Alert::UNKNOWN_PSK_IDENTITY, Alert::HANDSHAKE_FAILURE, Alert::NO_APPLICATION_PROTOCOL] {
        let len = refuse(&CRYPTO, &packet, alert, &mut out).unwrap();
        world.inject(Side::Client, out[..len].to_vec());
    }
    world.run();
    world.assert_agreed();
    assert_eq!(world.dropped, [Reason::Hint; 3]);
}

/// One secret, installed for two ciphers: both are told, under the secret's own seal.
#[test]
fn other_cipher() {
    let mut world = shared::world(&key(), &shared::key(1, Cipher::ChaCha20Poly1305), NONCES);
    world.run();
    assert_eq!(world.at_client.error, Some(Error::NothingInCommon));
    assert_eq!(world.at_server.error, Some(Error::NothingInCommon));
}

/// [P-6.6] A hello that was recorded and comes again makes a half-open handshake that ends by itself: no session, and at
/// most three times the hello's bytes are sent.
#[test]
fn replayed_hello() {
    let bytes = hello();
    let mut server = accept(&bytes).unwrap();
    let Ok(Packet::Handshake(packet)) = Packet::parse(&bytes) else { panic!() };
    assert_eq!(server.handle(Instant::ZERO, &packet, bytes.len()), Ok(Progress::Taken));
    let (mut now, mut sent, mut out) = (Instant::ZERO, 0, [0; 1232]);
    let end = loop {
        while let Some(len) = server.poll_transmit(now, &mut out) {
            sent += len;
        }
        now = server.timeout().unwrap();
        if let Err(error) = server.handle_timeout(now) {
            break error;
        }
    };
    assert_eq!(end, Error::TimedOut { stage: Stage::Underway });
    assert!(server.established().is_none() && server.is_over() && server.timeout().is_none());
    assert!(sent <= 3 * bytes.len());
}

/// [P-6.6] A recorded finish does not complete a replayed hello: the server's nonce is another.
#[test]
fn replayed_finish() {
    let log = Rc::new(RefCell::new(Vec::new()));
    let tap = log.clone();
    let mut world = shared::world(&key(), &key(), NONCES);
    world.tap = Box::new(move |side, bytes| {
        if side == Side::Client {
            tap.borrow_mut().push(bytes.clone());
        }
    });
    world.run();
    world.assert_agreed();
    // The same two packets to a server that was restarted, and was even given the same session id.
    let mut again: World = shared::world(&key(), &key(), [NONCES[0], [9; 16]]);
    for bytes in log.borrow().iter() {
        again.tap = Box::new(|_, bytes| bytes.clear());
        again.inject(Side::Server, bytes.clone());
        again.step();
    }
    again.run_out();
    assert!(again.at_server.established.is_none());
    assert!(matches!(again.at_server.error, Some(Error::Protocol { .. })), "{:?}", again.at_server.error);
}

/// [P-6.6] Not one bit of a first packet can be changed: nothing is made of it. Not even by sending it back.
#[test]
fn every_bit_counts() {
    let bytes = hello();
    assert!(accept(&bytes).is_ok());
    for bit in 0..bytes.len() * 8 {
        let mut copy = bytes.clone();
        copy[bit / 8] ^= 1 << (bit % 8);
        assert!(accept(&copy).is_err(), "bit {bit}");
    }
    let mut client = Client::installed(&key(), NONCES[1], &setup(CLIENT, 1232, Instant::ZERO));
    let mut back = bytes.clone();
    back[1] &= !FLAG_CLIENT;
    back[8..16].copy_from_slice(&CLIENT.as_u64().to_be_bytes());
    let packet = wire::handshake::HandshakePacket::parse(Header::parse(&back).unwrap(), &back).unwrap();
    assert_eq!(client.handle(Instant::ZERO, &packet, back.len()), Ok(Progress::Dropped(Reason::Tag)));
}

/// Nothing secret is printed.
#[test]
fn printed() {
    let text = format!("{:?}", key());
    assert!(text.contains("the other one") && !text.contains("1, 1"), "{text}");
}
