//! Where the bytes of messages are, and how many of them: views of receive buffers or copies, limits of what is held, and the
//! same run from the same seed.

mod world;

use std::time::Duration;

use world::forger::Forger;
use world::{CLIENT, SERVER, World, body};

use endpoint::endpoint::To;
use endpoint::error::Misuse;
use endpoint::events::Event;
use endpoint::pool::Payload;
use wire::header::PacketType;
use wire::ids::{RpcId, Side};
use wire::trailer::Kind;

fn packet(forger: &Forger, sequence: u64, length: usize) -> Vec<u8> {
    let rpc = RpcId::new(Side::Client, 50 + sequence);
    forger.data(&[forger.part(rpc, 0, Kind::OneWay, length, 10_000)])
}

/// A train arrives; whether its buffer came back, and the payloads.
fn train(world: &mut World, packets: &[Vec<u8>]) -> (bool, Vec<Payload>) {
    let bytes = packets.concat();
    let mut buffer = world.ends[SERVER].buffer();
    buffer.bytes()[..bytes.len()].copy_from_slice(&bytes);
    let from = world::address(CLIENT);
    let back = world.ends[SERVER].handle_datagrams(world.now, from, buffer, bytes.len(), packets[0].len());
    let mut payloads = Vec::new();
    while let Some(event) = world.ends[SERVER].poll_event() {
        if let Event::OneWay { payload, .. } = event {
            payloads.push(payload);
        }
    }
    (back.is_some(), payloads)
}

fn unharmed(payloads: &[Payload]) {
    assert!(payloads.iter().all(|payload| payload[..] == body(payload.len())));
}

/// A message of one record is a view of the buffer that it came in, without a copy, unless it is small and others came with
/// it: then it does not keep the memory of all.
#[test]
fn views_and_copies() {
    let mut world = World::new().warm();
    let forger = Forger::new(&world, CLIENT, Side::Client);
    let (back, alone) = train(&mut world, &[packet(&forger, 0, 500)]);
    assert!(!back && alone.len() == 1, "alone: a view");
    let (back, two) = train(&mut world, &[packet(&forger, 1, 500), packet(&forger, 2, 500)]);
    assert!(back && two.len() == 2, "two small ones: copies");
    let (back, mixed) = train(&mut world, &[packet(&forger, 3, 3_000), packet(&forger, 4, 500)]);
    assert!(!back && mixed.len() == 2, "a large one: a view");
    let apart = (mixed[0].as_ptr() as usize).abs_diff(mixed[1].as_ptr() as usize);
    assert!(apart > 1 << 12, "the small one beside it: a copy");
    let (back, empty) = train(&mut world, &[packet(&forger, 5, 0)]);
    assert!(back && empty.len() == 1, "nothing to view");
    [alone, two, mixed, empty].iter().for_each(|payloads| unharmed(payloads));
}

/// An application that keeps what it gets keeps its bytes, however much comes later; when it keeps two receive buffers, what fills little
/// of another is copied.
#[test]
fn kept_payloads_stay_as_they_are() {
    let mut world = World::new().warm();
    let forger = Forger::new(&world, CLIENT, Side::Client);
    let (mut kept, mut copied) = (Vec::new(), 0);
    for n in 0..300 {
        let (back, payloads) = train(&mut world, &[packet(&forger, n, 100 + n as usize)]);
        copied += usize::from(back);
        kept.extend(payloads);
        unharmed(&kept);
    }
    assert_eq!(kept.len(), 300);
    assert_eq!(copied, 298);
    kept.clear();
    for n in 300..400 {
        train(&mut world, &[packet(&forger, n, 100)]);
    }
    let (back, _) = train(&mut world, &[packet(&forger, 400, 100)]);
    assert!(!back, "views again, when the buffers are free");
}

/// [P-8.7] More comes than may be buffered: what finds no room is dropped and comes again, and all of it arrives.
#[test]
fn buffers_have_a_limit() {
    let mut world = World::with(1, 2, |at, config| {
        if at == SERVER {
            config.proto.buffered_bytes_max = 200_000;
        }
    })
    .warm();
    world.echo = false;
    for n in 0..12 {
        world.send(1 + n % 2, Kind::OneWay, &body(50_000));
    }
    // All first records before any other.
    world.collect();
    let (first, rest): (Vec<_>, Vec<_>) = world.wire.drain(..).partition(|datagram| datagram.number().0.index() == 0);
    world.wire.extend(first.into_iter().chain(rest));
    world.pass(Duration::from_secs(5));
    assert!(world.counters(SERVER).dropped_no_room > 0);
    assert_eq!(world.outcome(SERVER).0, [50_000; 12]);
    world.assert_quiet();
}

/// Of our own messages so many bytes are held; one is always taken, however long.
#[test]
fn held_bytes_have_a_limit() {
    let mut world = World::with(1, 1, |_, config| config.send_bytes_max = 10_000).warm();
    let to = To::Target(world.targets[CLIENT]);
    let id = world.request(CLIENT, 20_000);
    let refused = world.try_send(CLIENT, to, Kind::Request, b"");
    assert!(matches!(refused, Err(Misuse::SendBufferFull { held: 20_000, limit: 10_000 })));
    assert!(world.ends[CLIENT].abort(id));
    world.request(CLIENT, 6_000);
    world.request(CLIENT, 4_000);
    let refused = world.try_send(CLIENT, to, Kind::Request, b"x");
    assert!(matches!(refused, Err(Misuse::SendBufferFull { held: 10_000, .. })));
    world.pass(Duration::from_millis(50));
    assert_eq!(world.outcome(CLIENT), (vec![4_000, 6_000], 0));
    let refused = world.try_send(CLIENT, to, Kind::Request, &body(65 << 20));
    assert!(matches!(refused, Err(Misuse::TooLong { .. })));
    assert_eq!(world.ends[CLIENT].held_bytes(), 0);
}

/// Calls of all kinds and lengths over a wire that loses every seventh datagram.
fn run(seed: u64) -> World {
    run_with(seed, false)
}

fn run_with(seed: u64, tidies_when_idle: bool) -> World {
    let mut world = World::with(seed, 3, |_, config| {
        config.proto.unscheduled_bytes = 8_000;
        config.tidies_when_idle = tidies_when_idle;
    });
    let mut count = 0;
    world.lose = Box::new(move |_| {
        count += 1;
        count % 7 == 0
    });
    for round in 0..20 {
        for at in 1..=3 {
            let kind = if (round + at) % 4 == 0 { Kind::OneWay } else { Kind::Request };
            world.send(at, kind, &body(round * round * 100));
        }
        world.pass(Duration::from_micros(700));
    }
    world.pass(Duration::from_secs(5));
    world
}

/// Same inputs and same seed: the same datagrams, to the byte. Another seed, or what has ended forgotten later: the same
/// outcome.
#[test]
fn a_seed_is_a_run() {
    let (first, again, other) = (run(1), run(1), run(2));
    let lazy = run_with(1, true);
    assert!(first.trace.len() > 1_000 && first.trace == again.trace);
    assert_ne!(first.trace, other.trace);
    for mut world in [first, again, other, lazy] {
        for at in 1..=3 {
            assert_eq!((world.outcome(at).0.len(), world.outcome(at).1), (15, 0));
        }
        assert_eq!(world.outcome(SERVER).0.len(), 60);
        world.assert_quiet();
    }
}

/// [P-9.1] [P-8.3] [P-5.1] What the network may read of a run: a single shard at either end is lane 0, CONTROL and HANDSHAKE go
/// before all else, as does what goes again; what was granted goes after what was not, and the segment is told.
#[test]
fn the_headers_of_a_run() {
    let world = run(3);
    let (mut granted, mut repeated) = (0, 0);
    let mut sent = std::collections::HashSet::new();
    for datagram in &world.trace {
        let header = datagram.header();
        match header.kind {
            PacketType::Data => {
                let (number, slice) = datagram.number();
                assert_eq!(header.steer, 0);
                assert!(datagram.bytes.len() <= usize::from(header.segment));
                assert_eq!(number.message().attempt(), 0);
                let first = sent.insert((datagram.from, datagram.to, number.as_u64(), slice));
                assert!(header.priority < 7 || !first, "only what goes again");
                repeated += usize::from(header.priority == 7);
                granted += usize::from(header.priority <= 3);
            }
            PacketType::Control => {
                assert_eq!((header.priority, usize::from(header.segment)), (7, datagram.bytes.len()));
                assert_eq!(header.steer, 0);
            }
            PacketType::Handshake => {
                assert_eq!((header.priority, header.segment, header.epoch), (7, 0, 0));
                let wire::packet::Packet::Handshake(packet) =
                    wire::packet::Packet::parse(&datagram.bytes).expect("it is ours")
                else {
                    panic!("it said so")
                };
                let client = if datagram.to == SERVER { packet.fields.sender } else { header.session };
                assert_eq!(header.steer, (client.as_u64() >> 20) as u16);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(granted > 100 && repeated > 0);
}
