//! Sessions from installed secrets: all ciphers, no key used twice, nobody without the secret. Runs with every record engine.

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::tap::Tap;
use common::{LONG, bounded, echo, hostile, numbered, patient, pattern, rebind, seed, until, with_faults};
use sealane::builder::Ready;
use sealane::{Builder, Cipher, Delivery, Error, HandshakeError, Peer, PeerIdentity, Role, Socket};

const SECRET: [u8; 32] = *b"thirty-two bytes that both know!";

fn builder(cipher: Cipher) -> Builder<Ready> {
    Socket::builder().installed_only().cipher(cipher)
}

/// A server with the secret, and a client that was given one for it.
fn pair(server: Builder<Ready>, client: Builder<Ready>, secret: [u8; 32]) -> (Socket, Socket, Peer) {
    let server = server.serve_installed().bind("127.0.0.1:0").unwrap();
    let client = client.bind("127.0.0.1:0").unwrap();
    let from = client.local_addr();
    assert!(server.install_session(from, Role::Server, SECRET, "the client").is_none());
    let peer = client.install_session(server.local_addr(), Role::Client, secret, "the server");
    (server, client, peer.expect("a client's end gives a peer"))
}

#[test]
fn calls_work_in_every_cipher() {
    bounded(|| {
        for cipher in Cipher::ALL {
            let (server, client, peer) = pair(builder(cipher), builder(cipher), SECRET);
            let server = echo(server);
            client.connect(&peer).unwrap();
            assert_eq!(client.info().sessions[0].cipher, cipher);
            assert!(client.info().sessions[0].mutual, "both have shown that they know the secret");
            for (n, size) in [0, 1, 64, 1_024, 16_302, 16_303, 200_000, 4 << 20].into_iter().enumerate() {
                let sent = pattern(n as u64, size);
                assert!(*client.call_with(&peer, &sent, patient()).unwrap() == *sent, "{size} bytes, {cipher}");
            }
            client.call(&peer, b"quit").unwrap();
            assert_eq!(server.join().unwrap(), 8);
        }
    });
}

/// Deliveries say whose secret it was, on both sides.
#[test]
fn deliveries_carry_the_label() {
    bounded(|| {
        let cipher = Cipher::Aes128Gcm;
        let (server, client, peer) = pair(builder(cipher), builder(cipher), SECRET);
        let named = |identity: &PeerIdentity, name: &str| {
            assert!(matches!(identity, PeerIdentity::Installed { label } if **label == *name), "{identity}");
        };
        client.send(&peer, b"who am I?", 1).unwrap();
        let Delivery::Request(request) = server.recv().unwrap() else { panic!("a request") };
        named(request.peer.identity(), "the client");
        server.reply(request.token, request.payload).unwrap();
        let Delivery::Response(response) = client.recv().unwrap() else { panic!("a response") };
        named(response.peer.identity(), "the server");
    });
}

/// The same secret installed twice, once more after a restart of both ends: identical messages, and not one record, nor any
/// 16 bytes of one, is the same. With a key used twice all of them would be: their numbers are.
#[test]
fn the_same_secret_again_gives_other_keys() {
    bounded(|| {
        for cipher in Cipher::ALL {
            let mut chunks = HashSet::new();
            for life in 0..3 {
                let (tap, server_tap) = (Tap::new(), Tap::new());
                let server = builder(cipher).danger_wrap(server_tap.wrap());
                let client = builder(cipher).danger_wrap(tap.wrap());
                let (server, client, peer) = pair(server, client, SECRET);
                let server = echo(server);
                for n in 0..20 {
                    let sent = numbered(n, 1_000);
                    assert!(*client.call_with(&peer, &sent, patient()).unwrap() == *sent);
                }
                client.call(&peer, b"quit").unwrap();
                server.join().unwrap();
                for tap in [tap, server_tap] {
                    let sent = tap.take_sent();
                    let records: HashSet<Vec<u8>> = sent
                        .into_iter()
                        .filter(|packet| packet[0] & 0xf == 1)
                        // Behind the packet's header and the record's: ciphertext and tag. Repeats are the same bytes.
                        .map(|packet| packet[20 + 13..].to_vec())
                        .collect();
                    assert!(records.len() >= 21, "{} records", records.len());
                    for record in records {
                        for chunk in record.chunks_exact(16) {
                            assert!(chunks.insert(chunk.to_vec()), "the same ciphertext in life {life}, {cipher}");
                        }
                    }
                }
            }
        }
    });
}

/// Only the server restarts and is given the secret again: the client is told so at once, and its next session works. [P-5.5]
#[test]
fn a_restarted_server() {
    bounded(|| {
        let cipher = Cipher::Aes128Gcm;
        let silence = Duration::from_millis(300);
        let tap = Tap::new();
        let (server, client, peer) =
            pair(builder(cipher).danger_wrap(tap.wrap()), builder(cipher).peer_timeout(silence), SECRET);
        let at = server.local_addr();
        thread::scope(|scope| {
            let call = scope.spawn(|| client.call_with(&peer, b"one", patient()));
            let Delivery::Request(request) = server.recv().unwrap() else { panic!("a request") };
            server.reply(request.token, b"first").unwrap();
            assert_eq!(&*call.join().unwrap().unwrap(), b"first");
        });
        tap.cut();
        drop(server);
        let server = rebind(at, || builder(cipher).serve_installed());
        server.install_session(client.local_addr(), Role::Server, SECRET, "the client");
        let server = echo(server);
        let error = client.call_with(&peer, b"two", patient()).unwrap_err();
        assert!(matches!(error, Error::PeerRestarted { .. }), "{error:?}");
        assert_eq!(&*client.call_with(&peer, b"three", patient()).unwrap(), b"three");
        client.call(&peer, b"quit").unwrap();
        server.join().unwrap();
    });
}

/// Whoever has another secret is refused, and learns nothing but that.
#[test]
fn another_secret_is_refused() {
    bounded(|| {
        let cipher = Cipher::Aes128Gcm;
        let mut other = SECRET;
        other[31] ^= 1;
        let client = builder(cipher).handshake_timeout(Duration::from_secs(3));
        let (server, client, peer) = pair(builder(cipher), client, other);
        let error = client.call_with(&peer, b"let me in", patient()).unwrap_err();
        let Error::Handshake { address, source } = &error else { panic!("{error:?}") };
        assert_eq!(*address, server.local_addr());
        assert!(matches!(source, HandshakeError::Refused { proven: false, .. }), "{error:?}");
        assert!(error.to_string().contains("not given that secret"), "{error}");
        assert!(!error.may_have_run());
        assert!(server.recv_timeout(Duration::from_millis(50)).unwrap().is_none());
        assert!(server.info().sessions.is_empty(), "{}", server.info());
        until("it is forgotten", || client.info().sessions.is_empty());
    });
}

/// Both ends must have chosen the same cipher.
#[test]
fn another_cipher_is_refused() {
    bounded(|| {
        let client = builder(Cipher::ChaCha20Poly1305).handshake_timeout(Duration::from_secs(3));
        let (server, client, peer) = pair(builder(Cipher::Aes128Gcm), client, SECRET);
        let error = client.call_with(&peer, b"let me in", patient()).unwrap_err();
        assert!(matches!(&error, Error::Handshake { .. }), "{error:?}");
        assert!(!error.may_have_run());
        assert_eq!(server.info().counters.messages_delivered, 0);
    });
}

/// A socket that has secrets but was not told to serve refuses requests.
#[test]
fn serving_is_opted_in() {
    bounded(|| {
        let cipher = Cipher::Aes256Gcm;
        let server = builder(cipher).bind("127.0.0.1:0").unwrap();
        let client = builder(cipher).bind("127.0.0.1:0").unwrap();
        server.install_session(client.local_addr(), Role::Server, SECRET, "the client");
        let peer = client.install_session(server.local_addr(), Role::Client, SECRET, "the server").unwrap();
        let error = client.call_with(&peer, b"hello?", patient()).unwrap_err();
        assert!(matches!(error, Error::NotServing { .. }), "{error:?}");
        assert_eq!(server.info().counters.messages_delivered, 0);
    });
}

/// Without certificates no other handshake can begin.
#[test]
fn no_session_without_a_secret() {
    bounded(|| {
        let client = builder(Cipher::Aes128Gcm).bind("127.0.0.1:0").unwrap();
        let peer = client.peer("127.0.0.1:9", "localhost").unwrap();
        let error = client.call(&peer, b"x").unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
    });
}

/// Several clients with secrets of their own at one server, which tells them apart.
#[test]
fn one_server_many_secrets() {
    bounded(|| {
        let cipher = Cipher::Aes128Gcm;
        let server = Arc::new(builder(cipher).serve_installed().bind("127.0.0.1:0").unwrap());
        let at = server.local_addr();
        let serving = Arc::clone(&server);
        let handler = thread::spawn(move || {
            for _ in 0..8 * 20 {
                let Some(Delivery::Request(request)) = serving.recv_timeout(LONG).unwrap() else { panic!() };
                let label = request.peer.identity().to_string();
                assert!(label.contains(std::str::from_utf8(&request.payload).unwrap()), "{label}");
                serving.reply(request.token, request.payload).unwrap();
            }
            serving
        });
        let clients: Vec<_> = (0..8u8)
            .map(|n| {
                let client = builder(cipher).bind("127.0.0.1:0").unwrap();
                let (secret, name) = ([n; 32], format!("client-{n}"));
                server.install_session(client.local_addr(), Role::Server, secret, &name);
                let peer = client.install_session(at, Role::Client, secret, "the server").unwrap();
                thread::spawn(move || {
                    for _ in 0..20 {
                        assert_eq!(&*client.call_with(&peer, name.as_str(), patient()).unwrap(), name.as_bytes());
                    }
                    client
                })
            })
            .collect();
        let _clients: Vec<_> = clients.into_iter().map(|c| c.join().unwrap()).collect();
        let server = handler.join().unwrap();
        assert_eq!(server.info().sessions.len(), 8);
    });
}

/// Its handshake and its calls survive a hostile network like all others.
#[test]
fn through_a_hostile_network() {
    bounded(|| {
        let seed = seed();
        let cipher = Cipher::Aes128Gcm;
        let server = with_faults(builder(cipher).mtu(1500), hostile(seed));
        let client = with_faults(builder(cipher).mtu(1500), hostile(seed + 1));
        let (server, client, peer) = pair(server, client, SECRET);
        let server = echo(server);
        let sent = pattern(seed, 2 << 20);
        assert!(*client.call_with(&peer, &sent, patient()).unwrap() == *sent);
        for n in 0..100 {
            let sent = numbered(n, 8 + (n as usize * 97) % 5_000);
            assert!(*client.call_with(&peer, &sent, patient()).unwrap() == *sent);
        }
        drop(client);
        drop(server);
    });
}
