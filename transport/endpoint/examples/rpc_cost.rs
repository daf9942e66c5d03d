//! What one RPC costs without a kernel: two endpoints in one thread, datagrams handed over in memory.
//! `cargo run --release -p endpoint --example rpc_cost -- [bytes] [rounds]`
#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::net::SocketAddr;
use std::time::Instant as Clock;

use endpoint::config::Config;
use endpoint::endpoint::{Endpoint, Sending, To};
use endpoint::state::Event;
use proto::time::Instant;
use record::keys::Secret;
use wire::ids::Side;
use wire::trailer::Kind;

fn endpoint(seed: u8) -> Endpoint {
    let mut config = Config::new(offload::software::crypto());
    config.proto.serving = true;
    let mut counter = u64::from(seed) << 56;
    let entropy = move |bytes: &mut [u8]| {
        for chunk in bytes.chunks_mut(8) {
            counter = counter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let n = chunk.len();
            chunk.copy_from_slice(&counter.to_le_bytes()[..n]);
        }
    };
    Endpoint::new(config, Box::new(entropy))
}

/// Everything that `from` has to send goes to `to`.
fn carry(now: Instant, from: &mut Endpoint, to: &mut Endpoint, address: SocketAddr, wire: &mut [u8]) -> bool {
    let mut any = false;
    while let Some(train) = from.poll_transmit(now, wire) {
        let mut buffer = to.buffer();
        buffer.bytes()[..train.len].copy_from_slice(&wire[..train.len]);
        to.handle_datagrams(now, address, buffer, train.len, train.segment);
        any = true;
    }
    any
}

fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<usize>().expect("a number"));
    let bytes = args.next().unwrap_or(64);
    let rounds = args.next().unwrap_or(1_000_000) as u64;
    let (mut client, mut server) = (endpoint(1), endpoint(2));
    let (ca, sa) = (SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2)));
    let secret = Secret::new([7; 32]);
    server.install(ca, Side::Server, &secret, "client", 16_367);
    let target = client.install(sa, Side::Client, &secret, "server", 16_367).expect("a client's end has a target");
    let mut wire = vec![0; 1 << 16];
    let mut now = Instant::from_nanos(1_000_000_000);
    let body = vec![5u8; bytes];
    let mut rpc = |client: &mut Endpoint, server: &mut Endpoint| {
        now += std::time::Duration::from_micros(5);
        let body = client.copy(&body);
        let sending = Sending { kind: Kind::Request, cookie: 0, waited: true, deadline: Instant::FAR, streamed: false };
        client.send(now, To::Target(target), body, sending).expect("it is taken");
        loop {
            let moved = carry(now, client, server, ca, &mut wire);
            while let Some(event) = server.poll_event() {
                if let Event::Request { id, payload, .. } = event {
                    server.reply(now, id, payload).expect("it is taken");
                }
            }
            let back = carry(now, server, client, sa, &mut wire);
            while let Some(event) = client.poll_event() {
                if let Event::Response { payload, .. } = event {
                    assert_eq!(payload.len(), bytes);
                    return;
                }
            }
            assert!(moved || back, "nothing moves");
        }
    };
    for _ in 0..1000 {
        rpc(&mut client, &mut server);
    }
    sizes();
    let start = Clock::now();
    for _ in 0..rounds {
        rpc(&mut client, &mut server);
    }
    let each = start.elapsed().as_nanos() as u64 / rounds;
    println!("{bytes} bytes: {each} ns per RPC, both sides, without a kernel");
}
#[allow(dead_code)]
fn sizes() {
    println!(
        "Rpc {} Option<Call> {} Event {} Message {} Incoming {} Outgoing {} Queued {}",
        size_of::<proto::rpc::Rpc>(),
        size_of::<Option<endpoint::state::Call>>(),
        size_of::<Event>(),
        size_of::<record::seal::Message<endpoint::pool::Payload>>(),
        size_of::<proto::incoming::Incoming>(),
        size_of::<proto::outgoing::Outgoing>(),
        size_of::<endpoint::session::Queued>()
    );
}
