//! What a handshake and its first call cost without a kernel, both sides together, beside rustls's own in memory:
//! `cargo run --release -p micro --bin handshakes -- [full|resumed|early-data] [count] [sealane|rustls|both]`.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use load::certs::Credentials;
use load::handshake::{InMemory, Kind};
use micro::Beginnings;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let kind = Kind::ALL.into_iter().find(|kind| args.first().is_some_and(|arg| arg == kind.name()));
    let kind = kind.unwrap_or(Kind::Full);
    let count: u32 = args.get(1).map_or(500, |count| count.parse().expect("a number"));
    let who = args.get(2).map_or("both", String::as_str);
    let credentials = Credentials::generate().expect("certificates");
    let unix_seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut pair = Beginnings::new(&credentials, kind, unix_seconds);
    let memory = InMemory::new(&credentials.authority, &credentials.server, kind).expect("rustls takes them");
    let (mut ours, mut theirs) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..count {
        if who != "rustls" {
            let start = Instant::now();
            pair.begin();
            pair.end();
            ours += start.elapsed();
        }
        if who != "sealane" {
            let start = Instant::now();
            memory.one(true).expect("a handshake");
            theirs += start.elapsed();
        }
    }
    let us = |sum: Duration| sum.as_secs_f64() * 1e6 / f64::from(count.max(1));
    println!("{}: sealane {:.0} us, rustls {:.0} us, both sides, without a kernel", kind.name(), us(ours), us(theirs));
}
