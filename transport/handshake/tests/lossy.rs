//! Flights that are lost, repeated, reordered and altered: the handshake completes all the same.

mod common;

use common::{Faults, ONE_WAY, World, shared};
use handshake::limits::INTERVAL_FIRST;
use proto::time::Instant;
use record::aead::Cipher;

const BAD: Faults = Faults { loss: 30, duplicate: 10, corrupt: 5, jitter_us: 4000 };

fn survives(make: impl Fn(u64) -> World) {
    for seed in 0..200 {
        let mut world = make(seed).with(BAD, seed);
        world.run();
        assert_eq!((&world.at_client.error, &world.at_server.error), (&None, &None), "seed {seed} at {:?}", world.now);
        world.assert_agreed();
        world.assert_rtt();
    }
}

/// [P-6.2] At 30 % loss with duplicates, reordering and flipped bits, for mutual TLS in the smallest datagrams.
#[cfg(feature = "tls")]
#[test]
fn tls() {
    use common::pki::{Ca, client_config, server_config, world};
    let ca = Ca::new();
    let server = server_config(&ca.issue(&["localhost"]), Some(&ca));
    let client = client_config(&ca, Some(&ca.issue(&["client"])));
    survives(|_| world(&client, "localhost", &server, 1232));
}

/// [P-6.4] The same when the server wants a cookie first.
#[cfg(feature = "tls")]
#[test]
fn tls_with_cookies() {
    use common::pki::{Ca, client_config, server_config, world};
    let ca = Ca::new();
    let server = server_config(&ca.issue(&["localhost"]), None);
    let client = client_config(&ca, None);
    survives(|_| {
        let mut world = world(&client, "localhost", &server, 1232);
        let secret = record::keys::Secret::new([3; 32]);
        world.cookies = Some(handshake::cookie::Cookies::new(&common::CRYPTO, &secret));
        world
    });
}

/// [P-6.6] The same for an installed secret.
#[test]
fn installed() {
    let key = shared::key(1, Cipher::Aes128Gcm);
    survives(|seed| shared::world(&key, &key, [[seed as u8; 16], [!seed as u8; 16]]));
}

/// The same seed gives the same run, packet by packet. (TLS draws its own randomness; an installed secret does not.)
#[test]
fn repeatable() {
    let key = shared::key(1, Cipher::Aes128Gcm);
    let run = || {
        let mut world = shared::world(&key, &key, [[1; 16], [2; 16]]).with(BAD, 7);
        world.run();
        (world.now, world.sent, *world.at_client.established.unwrap().secret.expose())
    };
    assert_eq!(run(), run());
}

/// [P-6.2] Who hears the other side repeat itself answers at once, not when its own interval ends.
#[test]
fn answers_repeats() {
    let key = shared::key(1, Cipher::Aes128Gcm);
    let mut world = shared::world(&key, &key, [[1; 16], [2; 16]]);
    let mut n = 0;
    world.tap = Box::new(move |_, bytes| {
        n += 1;
        // The hello, then (after its repeat) the answer and the answer's own repeat.
        if [1, 3, 4].contains(&n) {
            bytes.clear();
        }
    });
    world.run();
    world.assert_agreed();
    // The third hello leaves at 20 + 40 ms; the answer's second repeat would leave at 20.5 + 20 + 40 ms.
    let at = Instant::ZERO + INTERVAL_FIRST * 3 + ONE_WAY * 2;
    assert_eq!(world.at_client.established_at, Some(at));
}
