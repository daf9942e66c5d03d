//! Messages that travel together: what goes, what comes, what is lost, and what a faulty peer may make of it. [P-4.7]

mod world;

use std::time::Duration;

use endpoint::endpoint::To;
use endpoint::events::Event;
use proptest::prelude::*;
use wire::bundle::{INDEX, Tail, put, put_ack};
use wire::bytes::Writer;
use wire::control::Frame;
use wire::data::record_at;
use wire::ids::{MessageId, RecordNumber, RpcId, Side};
use wire::trailer::{Bits, Kind};
use world::forger::Forger;
use world::{CLIENT, Datagram, SERVER, World, body};

const MS: Duration = Duration::from_millis(1);

fn is_bundle(datagram: &Datagram) -> bool {
    datagram.data() && record_at(&datagram.bytes, 20).is_ok_and(|view| view.number.index() == INDEX)
}

fn bundles(world: &World) -> usize {
    world.trace.iter().filter(|datagram| is_bundle(datagram)).count()
}

/// [P-4.7] What is ready together goes together, in as many packets as it takes; so do the responses. One alone goes alone.
#[test]
fn what_is_ready_goes_together() {
    let mut world = World::new().warm();
    for _ in 0..40 {
        world.request(CLIENT, 64);
    }
    world.settle();
    assert_eq!(world.outcome(CLIENT), (vec![64; 40], 0));
    // 1,452 bytes hold 18 entries of 73 bytes; the responses are answers to one packet each.
    assert_eq!(bundles(&world), 3 + 3, "{:?}", world.counters(CLIENT));
    let counters = world.counters(CLIENT);
    assert_eq!((counters.bundles_sealed, counters.messages_bundled, counters.records_repeated), (3, 40, 0));
    world.request(CLIENT, 64);
    world.pass(MS * 50);
    assert_eq!(bundles(&world), 6);
    world.assert_quiet();
}

/// [P-4.7] All bundles of a train have one length, whatever acknowledgements some of them carry.
#[test]
fn a_train_of_bundles() {
    let mut world = World::new().warm();
    let to = To::Session(world.session(SERVER));
    for _ in 0..3 {
        world.try_send(SERVER, to, Kind::OneWay, &body(64)).expect("it is taken");
    }
    world.settle();
    // Now acknowledgements are owed, and ride with the first of these.
    for _ in 0..60 {
        world.send(CLIENT, Kind::OneWay, &body(64));
    }
    let mut out = vec![0; 1 << 16];
    let train = world.ends[CLIENT].poll_transmit(world.now, &mut out).expect("there is much");
    assert_eq!(train.len.div_ceil(train.segment), 4, "{train:?}");
    assert!(world.ends[CLIENT].poll_transmit(world.now, &mut out).is_none());
    world.feed_from(SERVER, world::address(CLIENT), &out[..train.len], train.segment);
    world.pass(MS * 50);
    assert_eq!(world.outcome(SERVER), (vec![64; 60], 0));
    world.assert_quiet();
}

/// [P-4.7] What is for another peer, and what goes again, does not travel in a bundle.
#[test]
fn who_does_not_ride() {
    let mut world = World::with(1, 2, |_, _| ()).warm();
    for session in world.ends[SERVER].open_sessions() {
        world.try_send(SERVER, To::Session(session), Kind::OneWay, &body(64)).expect("it is taken");
    }
    world.pass(MS * 50);
    assert_eq!((world.outcome(1), world.outcome(2), bundles(&world)), ((vec![64], 0), (vec![64], 0), 0));
    world.events.iter_mut().for_each(Vec::clear);
    // Two requests are lost with their bundle: each is asked for, and goes again by itself.
    for _ in 0..2 {
        world.request(CLIENT, 64);
    }
    let mut lost = 0;
    world.lose = Box::new(move |datagram| {
        lost += usize::from(is_bundle(datagram));
        is_bundle(datagram) && lost == 1
    });
    world.pass(MS * 500);
    assert_eq!(world.outcome(CLIENT), (vec![64; 2], 0));
    assert_eq!(world.counters(CLIENT).bundles_sealed, 1);
    world.assert_quiet();
}

/// [P-4.7] Of what is ready for several peers each packet takes what is for its own, whatever stands between in the order; the shortest
/// of all still goes first.
#[test]
fn company_is_looked_for_among_several_peers() {
    let mut world = World::with(1, 2, |_, _| ()).warm();
    let to = world.ends[SERVER].open_sessions();
    for round in 0..6 {
        for session in &to {
            world.try_send(SERVER, To::Session(*session), Kind::OneWay, &body(60 + round)).expect("it is taken");
        }
    }
    world.collect();
    let lengths: Vec<usize> = world.wire.iter().map(|datagram| datagram.bytes.len()).collect();
    assert_eq!((bundles(&world), lengths.len()), (2, 2), "{lengths:?}");
    world.pass(MS * 50);
    let all: Vec<usize> = (60..66).collect();
    assert_eq!((world.outcome(1), world.outcome(2)), ((all.clone(), 0), (all, 0)));
    world.assert_quiet();
}

/// [P-8.3] Messages of different priorities travel together where nobody marks datagrams with them, and apart where somebody does.
#[test]
fn priorities_part_where_they_are_marked() {
    for (marks, expected) in [(true, 2), (false, 1)] {
        let mut world = World::with(1, 1, |_, config| config.marks_priorities = marks).warm();
        let mut forger = Forger::new(&world, CLIENT, Side::Server);
        let cutoffs = [100, u32::MAX, 0, 0, 0, 0, 0, 0];
        world.feed(SERVER, CLIENT, &forger.control(&[Frame::Cutoffs { version: 5, cutoffs }]));
        for length in [50, 200, 60, 210] {
            world.send(CLIENT, Kind::OneWay, &body(length));
        }
        world.collect();
        assert_eq!(bundles(&world), expected, "marked: {marks}");
        world.pass(MS * 50);
        assert_eq!(world.outcome(SERVER).0.len(), 4);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    /// [P-4.7] [P-7.1] Messages of any lengths in any mixture, packets lost, doubled, late: each is delivered once, at either end.
    #[test]
    fn each_is_delivered_once(
        lengths in prop::collection::vec((0usize..1600, any::<bool>(), any::<bool>()), 1..120),
        fate in prop::collection::vec(0u8..12, 1..64),
    ) {
        let mut world = World::new().warm();
        let to = To::Session(world.session(SERVER));
        let (mut expected, mut answers) = ([Vec::new(), Vec::new()], Vec::new());
        for (length, from_client, request) in &lengths {
            let kind = if *request { Kind::Request } else { Kind::OneWay };
            let (at, to) = if *from_client { (CLIENT, To::Target(world.targets[CLIENT])) } else { (SERVER, to) };
            world.try_send(at, to, kind, &body(*length)).expect("it is taken");
            expected[usize::from(*from_client)].push(*length);
            if *request {
                answers.push((at, *length));
            }
        }
        let (mut n, mut late) = (0, Vec::new());
        for _ in 0..4000 {
            world.collect();
            let Some(datagram) = world.wire.pop_front().or_else(|| late.pop()) else { break };
            n += 1;
            match fate[n % fate.len()] {
                0 if n < 400 => {}
                1 => (0..2).for_each(|_| world.deliver(&datagram)),
                2 if n < 400 => late.push(datagram),
                _ => world.deliver(&datagram),
            }
        }
        world.pass(MS * 2_000);
        for at in [SERVER, CLIENT] {
            let (mut came, failed) = world.outcome(at);
            prop_assert_eq!(failed, 0);
            let mut all = expected[usize::from(at == SERVER)].clone();
            all.extend(answers.iter().filter(|(of, _)| *of == at).map(|(_, length)| *length));
            came.sort_unstable();
            all.sort_unstable();
            prop_assert_eq!(came, all, "end {}", at);
        }
        world.assert_quiet();
    }
}

/// A bundle of any plaintext, sealed by who has the keys.
fn forged(forger: &Forger, entries: &[u8], tail: &Tail) -> Vec<u8> {
    let leader = MessageId::new(RpcId::new(Side::Client, 1 << 30), 0);
    forger.data(&[forger.record(RecordNumber::new(leader, INDEX), &[entries, &tail.emit()].concat())])
}

fn entries(list: &[(u64, Kind, usize)]) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let mut w = Writer::new(&mut bytes);
    for (sequence, kind, length) in list {
        let bits = Bits { kind: *kind, incast: false, cutoffs: 0 };
        put(&mut w, RpcId::new(Side::Client, *sequence), bits.emit(), &body(*length));
    }
    let len = w.len();
    bytes.truncate(len);
    bytes
}

/// [P-4.7] [P-7.1] What a bundle must not do, sealed by a peer that is faulty: each entry is judged by itself.
#[test]
fn a_faulty_peer() {
    let mut world = World::new().warm();
    world.echo = false;
    let forger = Forger::new(&world, CLIENT, Side::Client);
    let tail = |bytes: &[u8]| Tail { len: bytes.len() as u16, floor: 0 };
    // Twice the same, one in the wrong direction, one that is over already, one beyond the window: one is new.
    let list = [
        (5, Kind::Request, 10),
        (5, Kind::Request, 10),
        (6, Kind::Response, 10),
        (0, Kind::Request, 10),
        (1 << 40, Kind::Request, 10),
    ];
    let bytes = entries(&list);
    let before = world.counters(SERVER);
    world.feed(CLIENT, SERVER, &forged(&forger, &bytes, &tail(&bytes)));
    let after = world.counters(SERVER);
    assert_eq!(after.messages_delivered - before.messages_delivered, 1);
    assert_eq!(after.dropped_duplicate - before.dropped_duplicate, 2);
    assert_eq!(after.dropped_nonsense - before.dropped_nonsense, 2);
    // Entries end where they should not: what stands before is taken.
    let mut bytes = entries(&[(7, Kind::OneWay, 10), (8, Kind::OneWay, 10)]);
    bytes.pop();
    world.feed(CLIENT, SERVER, &forged(&forger, &bytes, &tail(&bytes)));
    assert_eq!(world.counters(SERVER).messages_delivered, after.messages_delivered + 1);
    assert_eq!(world.counters(SERVER).dropped_nonsense, after.dropped_nonsense + 1);
    // Acknowledgements of nothing, and a record of that index that is an ordinary one.
    let mut acks = vec![0; 18];
    let mut w = Writer::new(&mut acks);
    (0..2).for_each(|n| put_ack(&mut w, RpcId::new(Side::Server, n)));
    world.feed(CLIENT, SERVER, &forged(&forger, &acks, &tail(&acks)));
    world.pass(MS * 50);
    let part = forger.part(RpcId::new(Side::Client, 9), INDEX, Kind::Request, 0, 1);
    world.assert_dropped(CLIENT, SERVER, &forger.data(&[part]), &["dropped_nonsense"]);
    // A tail that tells of more than there is.
    let lie = forged(&forger, &bytes, &Tail { len: 2000, floor: 0 });
    world.assert_dropped(CLIENT, SERVER, &lie, &["dropped_nonsense"]);
    // One bit on the way.
    let bytes = entries(&[(10, Kind::Request, 10)]);
    let mut packet = forged(&forger, &bytes, &tail(&bytes));
    packet[50] ^= 1;
    world.assert_dropped(CLIENT, SERVER, &packet, &["dropped_bad_tag"]);
    let delivered = |event: &&Event| matches!(event, Event::Request { .. } | Event::OneWay { .. });
    world.collect();
    assert_eq!(world.events[SERVER].iter().filter(delivered).count(), 2);
}

/// [P-7.2] The floor of a bundle releases what stands below it.
#[test]
fn a_floor_that_rises() {
    let mut world = World::new().warm();
    world.request(CLIENT, 64);
    world.settle();
    // The response waits for a floor above it.
    assert_eq!(world.ends[SERVER].calls().len(), 1);
    let forger = Forger::new(&world, CLIENT, Side::Client);
    let bytes = entries(&[(2, Kind::OneWay, 10)]);
    world.feed(CLIENT, SERVER, &forged(&forger, &bytes, &Tail { len: bytes.len() as u16, floor: 2 }));
    world.ends[SERVER].tidy();
    assert_eq!(world.ends[SERVER].calls().len(), 0);
}
