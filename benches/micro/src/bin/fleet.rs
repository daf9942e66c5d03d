//! What an RPC of 64 bytes costs among so many sessions, a random one each time, without a kernel:
//! `cargo run --release -p micro --bin fleet -- [sessions] [calls]`. What is not in a cache there shows under
//! `valgrind --tool=cachegrind --cache-sim=yes`.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::time::{Duration, Instant};

use micro::Crowd;

/// Between two calls: ten thousand a second.
const APART: Duration = Duration::from_micros(100);

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().expect("a number"));
    let sessions = args.next().unwrap_or(16).max(1);
    let calls = args.next().unwrap_or(100_000);
    let mut crowd = Crowd::awake(sessions);
    let mut state = 1u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % sessions
    };
    crowd.calls((0..calls.min(2 * sessions)).map(|_| next()), APART);
    let start = Instant::now();
    crowd.calls((0..calls).map(|_| next()), APART);
    let each = start.elapsed().as_nanos() / calls.max(1) as u128;
    println!("{sessions} sessions: {each} ns per RPC, both sides, without a kernel");
}
