//! Each stage alone: parse, seal, open, grant, egress, ingress; and one whole RPC. `cargo bench -p micro`; with `-- --test` each
//! runs once.
#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use micro::{Pair, Trains};
use proto::config::Config;
use proto::machine::Machine;
use proto::time::Instant;
use record::aead::Cipher;
use record::budget::Limits;
use record::epochs::{Inbound, Outbound};
use record::keys::Secret;
use record::open::{TAIL_MAX, open_into};
use record::seal::{Ids, Message};
use wire::bytes::Writer;
use wire::data::{emit_header, record_at, record_header};
use wire::geometry::Geometry;
use wire::header::{Header, PacketType};
use wire::ids::{RecordNumber, RpcId, SessionId, Side};
use wire::limits::{DATA_HEADER_LEN, PACKET_MAX, RECORD_HEADER_LEN};
use wire::packet::Packet;
use wire::trailer::{Kind, Trailer};

/// Bytes of a message in one record: small, a packet's worth on Ethernet, a packet's worth on loopback.
const SIZES: [usize; 3] = [64, 1387, 16_302];
/// RPCs that go through egress and ingress at once.
const OUTSTANDING: usize = 32;

fn parse(c: &mut Criterion) {
    let mut packet = vec![0; PACKET_MAX];
    let session = SessionId::new(1, 2);
    let header = Header { kind: PacketType::Data, flags: 0, epoch: 0, priority: 0, steer: 0, segment: 0, session };
    emit_header(&mut Writer::new(&mut packet), &header, 16_302);
    let plaintext = PACKET_MAX - DATA_HEADER_LEN - RECORD_HEADER_LEN - 16;
    packet[DATA_HEADER_LEN..][..RECORD_HEADER_LEN]
        .copy_from_slice(&record_header(RecordNumber::from_u64(7), plaintext));
    c.bench_function("parse", |b| {
        b.iter(|| {
            let Ok(Packet::Data(header)) = Packet::parse(black_box(&packet)) else { panic!("it is one") };
            (header, record_at(&packet, DATA_HEADER_LEN).expect("it is one"))
        });
    });
}

fn message(size: usize) -> Message<Vec<u8>> {
    let geometry = Geometry::cut(size, PACKET_MAX);
    let trailer = Trailer { unscheduled: size as u32, ..Trailer::new(geometry, Kind::Request) };
    Message::freeze(Ids::new(Side::Client).take().expect("the first"), vec![5; size], trailer, &[])
}

fn seal_and_open(c: &mut Criterion) {
    let crypto = offload::software::crypto();
    for cipher in Cipher::ALL {
        let secret = Secret::new([7; 32]);
        let mut sealing = Outbound::new(crypto, &secret, cipher, Side::Client, Limits::PROTOCOL);
        let inbound = Inbound::new(crypto, &secret, cipher, Side::Client);
        let opening = inbound.named(0).expect("the first epoch");
        for size in SIZES {
            let mut message = message(size);
            message.bind(&mut sealing).expect("there is enough");
            let mut record = vec![0; message.record_len(0)];
            let mut group = c.benchmark_group("seal");
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new(cipher.name(), size), |b| {
                b.iter(|| message.seal(&sealing, 0, black_box(&mut record)));
            });
            group.finish();
            // Once more, for who wants to see `open` alone.
            message.seal(&sealing, 0, &mut record);
            let view = record_at(&record, 0).expect("it is one");
            let mut out = vec![0; size + TAIL_MAX];
            let mut group = c.benchmark_group("open");
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new(cipher.name(), size), |b| {
                b.iter(|| {
                    open_into(&opening.data, black_box(&record), &view, size, &mut out, false).expect("it is ours")
                });
            });
            group.finish();
        }
    }
}

/// A decision on grants after each record, with so many long messages to choose from.
fn grant(c: &mut Criterion) {
    let mut group = c.benchmark_group("grant");
    for messages in [1_u64, 100, 10_000] {
        let mut config = Config { serving: true, unscheduled_bytes: 10_000, ..Config::default() };
        config.buffered_bytes_max = 1 << 50;
        let geometry = Geometry::cut(64 << 20, PACKET_MAX);
        let mut machine = Machine::new(config, (1, 2));
        machine.open_peer(0, Side::Server, Duration::from_micros(50), u32::MAX, 0);
        let now = Instant::from_nanos(1_000_000);
        let arrive = |machine: &mut Machine, sequence: u64, index: u32| {
            let rpc = RpcId::new(Side::Client, sequence);
            let floor_distance = sequence as u32;
            let trailer = Trailer { floor_distance, ..Trailer::new(geometry, Kind::OneWay) };
            let found = machine.find(0, rpc);
            let arrival = machine.arrived(now, 0, rpc, found, index as u16, &trailer);
            machine.schedule_grants();
            while machine.peek_talkative().is_some() {
                machine.next_frames(|_| true);
            }
            arrival
        };
        // Each message, and its next record.
        let mut open: Vec<(u64, u32)> = (0..messages).map(|sequence| (sequence, 1)).collect();
        for (sequence, _) in &open {
            arrive(&mut machine, *sequence, 0);
        }
        let (mut fresh, mut at) = (messages, 0);
        group.bench_function(BenchmarkId::from_parameter(messages), |b| {
            b.iter(|| {
                at = (at + 1) % open.len();
                let (sequence, next) = &mut open[at];
                if *next == geometry.records() {
                    // It is complete; another of the same length takes its place.
                    let slot = machine.find(0, RpcId::new(Side::Client, *sequence)).expect("it is complete");
                    machine.free(slot);
                    (*sequence, *next) = (fresh, 0);
                    fresh += 1;
                }
                *next += 1;
                arrive(&mut machine, *sequence, *next - 1)
            });
        });
    }
    group.finish();
}

/// One way through the endpoint of a burst of RPCs; the rest of each round is not counted.
fn ways(c: &mut Criterion) {
    for (name, inward) in [("egress", false), ("ingress", true)] {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(OUTSTANDING as u64));
        for size in SIZES {
            let (mut pair, mut trains) = (Pair::new(size), Trains::default());
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter_custom(|rounds| {
                    let mut total = Duration::ZERO;
                    for _ in 0..rounds {
                        let start = Clock::now();
                        pair.request(OUTSTANDING);
                        pair.egress(Side::Client, &mut trains);
                        let sent = Clock::now();
                        pair.ingress(Side::Server, &trains);
                        total += if inward { sent.elapsed() } else { sent - start };
                        pair.answer();
                        pair.finish(OUTSTANDING, &mut trains);
                    }
                    total
                });
            });
        }
        group.finish();
    }
}

fn rpc(c: &mut Criterion) {
    let mut group = c.benchmark_group("rpc");
    for size in [64, 1024, 65_536] {
        let (mut pair, mut trains) = (Pair::new(size), Trains::default());
        group.throughput(Throughput::Bytes(2 * size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| b.iter(|| pair.round(1, &mut trains)));
    }
    group.finish();
}

/// What a packet with a wrong tag costs the server, when its session is awake and when it rests. [P-6.20]
fn forged(c: &mut Criterion) {
    let mut group = c.benchmark_group("forged");
    for (name, rests) in [("awake", false), ("at rest", true)] {
        let (mut pair, mut trains) = (Pair::new(64), Trains::default());
        pair.request(1);
        pair.egress(Side::Client, &mut trains);
        trains.spoil();
        if rests {
            pair.rest();
        }
        group.bench_function(name, |b| b.iter(|| pair.ingress(Side::Server, &trains)));
        assert_eq!(pair.rests(), rests, "nothing forged wakes it");
    }
    group.finish();
}

criterion_group!(stages, parse, seal_and_open, grant, ways, rpc, forged);
criterion_main!(stages);
