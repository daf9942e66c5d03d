//! Scheduling through the whole stack: what is sealed says what the machine decided, and datagrams leave as it allows.

mod world;

use std::time::Duration;

use proto::config::{Config, Priorities};
use wire::control::Frame;
use wire::ids::{RpcId, Side};
use wire::trailer::Kind;
use world::forger::Forger;
use world::{CLIENT, SERVER, World, body};

/// A world where the forger can speak as `side` of client 1's session.
fn with_forger(side: Side, change: impl Fn(usize, &mut Config)) -> (World, Forger) {
    let world = World::with(1, 1, |at, config| change(at, &mut config.proto)).warm();
    let forger = Forger::new(&world, CLIENT, side);
    (world, forger)
}

/// [P-8.10] With a known rate the datagrams of a long message leave one by one, as the link takes them, and control goes at
/// once; without it they leave together.
#[test]
fn datagrams_leave_as_the_link_takes_them() {
    for rate in [Some(1_000_000_000), None] {
        let (mut world, _) = with_forger(Side::Client, |at, config| {
            config.link_bits_per_second = rate.filter(|_| at == CLIENT);
            config.backlog_max = Duration::ZERO;
        });
        world.pass(Duration::from_millis(5));
        world.send(CLIENT, Kind::OneWay, &body(9_000));
        let began = world.now;
        let mut left = Vec::new();
        while world.now.since(began) < Duration::from_millis(1) {
            world.collect();
            let gone: Vec<_> = world.wire.drain(..).filter(|datagram| datagram.data()).collect();
            left.extend(gone.iter().map(|_| world.now.since(began)));
            gone.iter().for_each(|datagram| world.deliver(datagram));
            let next = world.timeout().expect("an acknowledgement waits").max(world.now);
            world.now = next;
        }
        let first = left.iter().filter(|at| at.is_zero()).count();
        assert_eq!((left.len(), first), (7, if rate.is_some() { 1 } else { 7 }), "{left:?}");
        // About 1,290 bytes and what is around them, at 1 Gbit/s.
        let apart = |two: &[Duration]| (11_000..13_000).contains(&(two[1] - two[0]).as_nanos());
        assert!(rate.is_none() || left.windows(2).all(apart), "{left:?}");
    }
}

/// [P-8.10] The rate of the link may become known while the endpoint works.
#[test]
fn a_rate_that_becomes_known() {
    let (mut world, _) = with_forger(Side::Client, |_, config| config.backlog_max = Duration::ZERO);
    world.ends[CLIENT].set_link_rate(Some(1_000_000_000));
    // The acknowledgement of a response goes first, in a control packet: the link is busy with that already.
    world.request(CLIENT, 10);
    world.settle();
    while world.trace.last().is_some_and(|datagram| datagram.from != CLIENT || datagram.data()) {
        world.now = world.timeout().expect("an acknowledgement waits");
        world.collect();
    }
    world.send(CLIENT, Kind::OneWay, &body(9_000));
    world.collect();
    assert!(world.wire.iter().all(|datagram| !datagram.data()));
    world.now += Duration::from_micros(2);
    world.collect();
    assert_eq!(world.wire.iter().filter(|datagram| datagram.data()).count(), 1);
    world.pass(Duration::from_millis(20));
    assert_eq!(world.outcome(SERVER).0, [10, 9_000]);
}

/// [P-8.3] [P-8.4] Messages of different priority leave in different trains, each marked as its packets are.
#[test]
fn one_priority_in_a_train() {
    let mut world = World::with(1, 1, |_, config| config.bundles = false).warm();
    let mut forger = Forger::new(&world, CLIENT, Side::Server);
    let cutoffs = [200, 2_000, u32::MAX, 0, 0, 0, 0, 0];
    world.feed(SERVER, CLIENT, &forger.control(&[Frame::Cutoffs { version: 5, cutoffs }]));
    for length in [100, 100, 1_000, 1_000, 30_000] {
        world.send(CLIENT, Kind::OneWay, &body(length));
    }
    let (mut out, mut trains) = (vec![0; 1 << 16], Vec::new());
    let reader = Forger::new(&world, CLIENT, Side::Client);
    while let Some(train) = world.ends[CLIENT].poll_transmit(world.now, &mut out) {
        let packets: Vec<&[u8]> = out[..train.len].chunks(train.segment).collect();
        for packet in &packets {
            assert_eq!(packet[3], train.priority);
            // What a slice is of says it again.
            if packet[20] == 0x17 {
                assert_eq!(reader.open(packet).1.cutoffs, 5);
            }
        }
        trains.push((train.priority, packets.len()));
    }
    let by_priority = |priority| trains.iter().filter(|train| train.0 == priority).map(|train| train.1).sum::<usize>();
    assert_eq!([by_priority(7), by_priority(6), by_priority(5)], [2, 2, 22], "{trains:?}");
}

/// [P-8.3] What a receiver computed comes back in what its sender seals, and the network sees it.
#[test]
fn measured_and_told() {
    let (mut world, _) = with_forger(Side::Client, |_, config| {
        config.priorities = Priorities::Measured { messages: 50 };
    });
    for n in 0..120 {
        world.send(CLIENT, Kind::OneWay, &body(100 + 20 * (n * 37 % 50)));
        world.pass(Duration::from_millis(3));
    }
    let seen: Vec<u8> = world.trace.iter().filter(|d| d.data() && d.from == CLIENT).map(|d| d.bytes[3]).collect();
    assert!(seen[..40].iter().all(|priority| *priority == 6) && seen.contains(&7), "{seen:?}");
    assert!(seen[60..].windows(2).any(|two| two[0] > two[1]), "longer ones lower: {seen:?}");
}

/// [P-8.11] Of many responses at once most wait for grants; all of them come.
#[test]
fn many_responses_hold_back() {
    for (incast_calls, expected) in [(Some(2), 2 * 21 + 8), (None, 10 * 21)] {
        let (mut world, _) = with_forger(Side::Client, |_, config| config.incast_calls = incast_calls);
        for _ in 0..10 {
            world.request(CLIENT, 29_000);
        }
        world.collect();
        let requests: Vec<_> = world.wire.drain(..).collect();
        requests.iter().for_each(|datagram| world.deliver(datagram));
        world.collect();
        let blind = world.wire.iter().filter(|datagram| datagram.data() && datagram.from == SERVER).count();
        assert_eq!(blind, expected);
        world.pass(Duration::from_millis(50));
        assert_eq!(world.outcome(CLIENT), (vec![29_000; 10], 0));
    }
}

/// [P-8.2] A grant of what there is not, and a record that nobody granted, are dropped and counted as such.
#[test]
fn more_than_was_granted() {
    let (mut world, mut forger) = with_forger(Side::Client, |_, config| {
        config.unscheduled_bytes = 5_000;
        config.incoming_bytes_max = 5_000;
    });
    let rpc = RpcId::new(Side::Client, 50);
    let part = |forger: &Forger, index| forger.data(&[forger.part(rpc, index, Kind::Request, 90_000, 1_000)]);
    let too_far = part(&forger, 5);
    world.feed(CLIENT, SERVER, &too_far);
    assert!(!world.ends[SERVER].is_busy() && world.counters(SERVER).dropped_not_granted == 1);
    world.assert_silent(SERVER);
    world.feed(CLIENT, SERVER, &part(&forger, 0));
    world.collect();
    world.wire.clear();
    let too_far = part(&forger, 70);
    world.feed(CLIENT, SERVER, &too_far);
    assert_eq!(world.counters(SERVER).dropped_not_granted, 2);
    let grant = forger.control(&[Frame::Grant { rpc, offset: 1, priority: 0 }]);
    world.feed(CLIENT, SERVER, &grant);
    assert_eq!((world.counters(SERVER).dropped_grant, world.counters(SERVER).dropped_nonsense), (1, 0));
}

/// A message that has the network to itself leaves in trains of about one length, of whole records where these span packets; beside others
/// in trains as long as can be, into which the others fit.
#[test]
fn trains_of_one_length() {
    let cases = [(1452, 70_000, [23, 28]), (65_507, 65_536, [3, 2])];
    for (datagram_max, length, expected) in cases {
        let mut world = World::on_path(1, 1, datagram_max, |_, config| config.segment_packets_max = 48).warm();
        let mut out = vec![0; 1 << 16];
        let mut trains = |world: &mut World, messages: usize| {
            for _ in 0..messages {
                world.send(CLIENT, Kind::OneWay, &body(length));
            }
            let mut next = || world.ends[CLIENT].poll_transmit(world.now, &mut out);
            std::iter::from_fn(|| next().map(|train| train.len.div_ceil(train.segment))).collect::<Vec<usize>>()
        };
        assert_eq!(trains(&mut world, 1), expected, "{datagram_max}");
        let several = trains(&mut world, 2);
        assert!(several[0] > expected[0], "{datagram_max}: {several:?}");
    }
}
