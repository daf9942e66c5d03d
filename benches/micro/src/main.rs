//! What one RPC costs without a kernel, both sides together:
//! `cargo run --release -p micro -- [bytes] [rounds] [outstanding] [records per key] [bytes of a datagram]`.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::time::Instant;

use micro::{DATAGRAM_MAX, Pair, Trains};

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().expect("a number"));
    let bytes = args.next().unwrap_or(64);
    let rounds = args.next().unwrap_or(1_000_000);
    let outstanding = args.next().unwrap_or(1).max(1);
    let rekey_after = args.next().filter(|records| *records > 0).map_or(u64::MAX, |records| records as u64);
    let datagram_max = args.next().unwrap_or(DATAGRAM_MAX);
    let (mut pair, mut trains) = (Pair::on_path(bytes, datagram_max, rekey_after), Trains::default());
    for _ in 0..rounds.min(1000) / outstanding {
        pair.round(outstanding, &mut trains);
    }
    let rounds = (rounds / outstanding).max(1);
    let start = Instant::now();
    for _ in 0..rounds {
        pair.round(outstanding, &mut trains);
    }
    let each = start.elapsed().as_nanos() / (rounds * outstanding) as u128;
    println!("{bytes} bytes, {outstanding} outstanding: {each} ns per RPC, both sides, without a kernel");
}
