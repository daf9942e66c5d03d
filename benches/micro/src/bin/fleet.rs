//! What an RPC of 64 bytes costs among so many sessions, a random one each time, without a kernel:
//! `cargo run --release -p micro --bin fleet -- [sessions] [calls]`. What is not in a cache there shows under
//! `valgrind --tool=cachegrind --cache-sim=yes`. Beside it what no server with a key for each client can be below: nothing but a
//! request opened, a response and an acknowledgement sealed or opened, each with a key of its own.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::time::{Duration, Instant};

use micro::Crowd;
use record::aead::{Aead, Cipher, NONCE_LEN};

/// Between two calls: ten thousand a second.
const APART: Duration = Duration::from_micros(100);
/// Bytes of a record of the floor, with its tag: a request, a response, an acknowledgement.
const RECORDS: [usize; 3] = [112, 112, 48];

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().expect("a number"));
    let sessions = args.next().unwrap_or(16).max(1);
    let calls = args.next().unwrap_or(100_000);
    let mut state = 1u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % sessions
    };
    let mut crowd = Crowd::awake(sessions);
    crowd.calls((0..calls.min(2 * sessions)).map(|_| next()), APART);
    let start = Instant::now();
    crowd.calls((0..calls).map(|_| next()), APART);
    let each = start.elapsed().as_nanos() / calls.max(1) as u128;
    drop(crowd);

    let crypto = offload::software::crypto();
    let key = |client: usize, of: usize| {
        let mut bytes = [of as u8; 16];
        bytes[..8].copy_from_slice(&client.to_le_bytes());
        crypto.aead(Cipher::Aes128Gcm, &bytes)
    };
    let keys: Vec<[Box<dyn Aead>; 3]> = (0..sessions).map(|client| [0, 1, 2].map(|of| key(client, of))).collect();
    let start = Instant::now();
    for call in 0..calls as u64 {
        let client = &keys[next()];
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&call.to_le_bytes());
        for (key, len) in client.iter().zip(RECORDS) {
            key.seal_in_place(&nonce, &nonce, &mut [0; 112][..len]);
        }
    }
    let floor = start.elapsed().as_nanos() / calls.max(1) as u128;
    println!(
        "{sessions} sessions: {each} ns per RPC, both sides, without a kernel; {floor} ns for a server's keys alone"
    );
}
