//! What a peer with the right keys may say and this version does not: dropped, counted, not answered, and nothing of it is
//! kept, as the table of [P-10.1] has it. And what it may say at bad moments.

mod world;

use std::time::Duration;

use world::forger::Forger;
use world::{CLIENT, SERVER, World, body};

use endpoint::events::Event;
use wire::bytes::Writer;
use wire::control::Frame;
use wire::geometry::Geometry;
use wire::header::{Header, PacketType};
use wire::ids::{MessageId, RecordNumber, RpcId, Side};
use wire::trailer::{Kind, Trailer};

/// A world that is warm, and who speaks as its client.
fn as_client() -> (World, Forger) {
    let mut world = World::new().warm();
    world.echo = false;
    let forger = Forger::new(&world, CLIENT, Side::Client);
    (world, forger)
}

/// An RPC of the client's that it has not begun.
fn rpc(sequence: u64) -> RpcId {
    RpcId::new(Side::Client, 50 + sequence)
}

/// The forger is believed: what it seals as an honest sender would is delivered.
#[test]
fn honest_records_are_taken() {
    let (mut world, forger) = as_client();
    for index in 0..3 {
        world.feed(CLIENT, SERVER, &forger.data(&[forger.part(rpc(0), index, Kind::Request, 3_000, 1_000)]));
    }
    world.settle();
    assert_eq!(world.outcome(SERVER).0, [3_000]);
}

/// [P-3.4] Records of any attempt are of one message, and what came under one attempt stays; another cut is nonsense. When the
/// message has run, no attempt runs it again.
#[test]
fn attempts_are_of_one_message() {
    let (mut world, forger) = as_client();
    let part = |attempt: u8, index: u16, payload: u16| {
        let message = MessageId::new(rpc(0), attempt);
        forger.data(&[forger.part_of(message, index, Kind::Request, 3_000, payload, 0, &[])])
    };
    world.feed(CLIENT, SERVER, &part(3, 0, 1_000));
    world.assert_dropped(CLIENT, SERVER, &part(4, 2, 900), &["dropped_nonsense"]);
    world.assert_dropped(CLIENT, SERVER, &part(7, 0, 1_000), &["dropped_duplicate"]);
    world.feed(CLIENT, SERVER, &part(0, 2, 1_000));
    world.feed(CLIENT, SERVER, &part(7, 1, 1_000));
    world.settle();
    assert_eq!(world.outcome(SERVER).0, [3_000]);
    for attempt in 0..=MessageId::ATTEMPT_MAX {
        world.feed(CLIENT, SERVER, &part(attempt, 0, 1_000));
    }
    world.settle();
    assert_eq!((world.outcome(SERVER).0, world.counters(SERVER).dropped_duplicate), (vec![3_000], 9));
}

/// [P-10.1] Bundles, kind 3, are opened and dropped.
#[test]
fn bundles() {
    let (mut world, forger) = as_client();
    let geometry = Geometry::stated(40, 40).expect("it can be cut");
    let mut trailer = Trailer { unscheduled: 40, ..Trailer::new(geometry, Kind::OneWay) }.emit();
    trailer[14] = 3;
    let record = forger.record(RecordNumber::new(MessageId::new(rpc(0), 0), 0), &[&[0; 40][..], &trailer].concat());
    world.assert_dropped(CLIENT, SERVER, &forger.data(&[record]), &["dropped_nonsense"]);
}

/// [P-4.6] A slice of what nobody waits for is dropped alone; what is none takes the rest of its packet with it.
#[test]
fn slices_of_spanning_records() {
    let (mut world, forger) = as_client();
    let mut slice = vec![0x18, 3, 3, 0, 112];
    slice.extend(RecordNumber::new(MessageId::new(rpc(0), 0), 1).as_u64().to_be_bytes());
    slice.extend([0, 0, 0x10, 0]);
    slice.resize(slice.len() + 100, 0xab);
    world.assert_dropped(CLIENT, SERVER, &forger.data(std::slice::from_ref(&slice)), &["dropped_slice"]);
    let (before, after) = (rpc(1), rpc(2));
    let mixed =
        [forger.part(before, 0, Kind::OneWay, 10, 10), slice.clone(), forger.part(after, 0, Kind::OneWay, 20, 20)];
    world.feed(CLIENT, SERVER, &forger.data(&mixed));
    world.settle();
    assert_eq!((world.outcome(SERVER).0, world.counters(SERVER).dropped_slice), (vec![10, 20], 2));
    slice[15] = 0;
    let mixed = [forger.part(rpc(3), 0, Kind::OneWay, 30, 30), slice, forger.part(rpc(4), 0, Kind::OneWay, 40, 40)];
    world.feed(CLIENT, SERVER, &forger.data(&mixed));
    world.settle();
    assert_eq!((world.outcome(SERVER).0, world.counters(SERVER).dropped_malformed), (vec![10, 20, 30], 1));
}

/// [P-5.2] [P-10.1] Any number of records in a packet, of any messages: each is taken.
#[test]
fn several_records_in_a_packet() {
    let (mut world, forger) = as_client();
    let mut records: Vec<Vec<u8>> =
        (0..5).map(|n| forger.part(rpc(n), 0, Kind::Request, 50 + n as usize, 500)).collect();
    records.extend((0..3).rev().map(|index| forger.part(rpc(9), index, Kind::OneWay, 250, 100)));
    world.feed(CLIENT, SERVER, &forger.data(&records));
    world.settle();
    assert_eq!(world.outcome(SERVER).0, [50, 51, 52, 53, 54, 250]);
    assert_eq!(world.counters(SERVER).dropped(), 0);
}

/// [P-4.5] [P-10.1] Padding is removed: in messages of one record, and in any record of longer ones, with acknowledgements and
/// without.
#[test]
fn padding() {
    let (mut world, forger) = as_client();
    let mut expected = Vec::new();
    for (n, padding) in [0, 1, 29, 30, 31, 46, 100, 1_000].into_iter().enumerate() {
        let id = |n: usize| MessageId::new(rpc(n as u64), 0);
        let acks = [RpcId::new(Side::Server, 3); 2];
        let single = forger.part_of(id(2 * n), 0, Kind::OneWay, 300, 300, padding, &acks[..n % 3]);
        world.feed(CLIENT, SERVER, &forger.data(&[single]));
        // The last record first: the others open into a buffer that has something behind their place.
        for index in [2, 0, 1] {
            let part = forger.part_of(id(2 * n + 1), index, Kind::OneWay, 290, 100, padding, &[]);
            world.feed(CLIENT, SERVER, &forger.data(&[part]));
        }
        expected.extend([300, 290]);
        world.settle();
        assert_eq!(world.outcome(SERVER).0, expected, "{padding} bytes of padding");
    }
    assert_eq!(world.counters(SERVER).dropped(), 0);
}

/// [P-5.4] [P-4.4] While a message grows, its records that come again, altered or not, and records past its end change nothing
/// of what is there.
#[test]
fn what_arrived_stays_as_it_is() {
    let (mut world, forger) = as_client();
    let part = |index: u16| forger.data(&[forger.part(rpc(0), index, Kind::OneWay, 5_000, 1_000)]);
    world.feed(CLIENT, SERVER, &part(1));
    world.feed(CLIENT, SERVER, &part(3));
    for at in [33, 500, 1_050, 1_064] {
        for index in [1, 3] {
            let mut forged = part(index);
            forged[at] ^= 0x40;
            world.assert_dropped(CLIENT, SERVER, &forged, &["dropped_duplicate"]);
        }
    }
    world.assert_dropped(CLIENT, SERVER, &part(3), &["dropped_duplicate"]);
    let geometry = Geometry::stated(5_000, 1_000).expect("it can be cut");
    let trailer = Trailer { unscheduled: 5_000, floor_distance: 50, ..Trailer::new(geometry, Kind::OneWay) };
    for index in [5, 6, u16::MAX] {
        let number = RecordNumber::new(MessageId::new(rpc(0), 0), index);
        let record = forger.record(number, &[&[0xff; 1_000][..], &trailer.emit()].concat());
        world.assert_dropped(CLIENT, SERVER, &forger.data(&[record]), &["dropped_nonsense"]);
    }
    for index in [4, 2, 0] {
        world.feed(CLIENT, SERVER, &part(index));
    }
    world.settle();
    assert_eq!(world.outcome(SERVER).0, [5_000]);
}

/// [P-6.5] Epochs that nobody asked for are not in use: dropped, whatever the packet.
#[test]
fn other_epochs() {
    let (mut world, mut forger) = as_client();
    let data = forger.data(&[forger.part(rpc(0), 0, Kind::Request, 100, 100)]);
    let control = forger.control(&[Frame::Done]);
    for epoch in 1..=255 {
        for mut bytes in [data.clone(), control.clone()] {
            bytes[2] = epoch;
            world.assert_dropped(CLIENT, SERVER, &bytes, &["dropped_wrong_epoch"]);
        }
    }
}

/// [P-10.1] [P-6.5] Frames that are specified and not used yet, and a readiness that nobody asked for, are read and ignored:
/// nothing is answered, nothing moves.
#[test]
fn frames_for_later() {
    let (mut world, mut forger) = as_client();
    let sessions = format!("{:?}", world.ends[SERVER].sessions());
    for frame in [Frame::EpochReady { epoch: 1 }, Frame::PathResponse { token: 5 }] {
        world.feed(CLIENT, SERVER, &forger.control(&[frame]));
        world.assert_silent(SERVER);
    }
    assert_eq!(world.counters(SERVER).dropped(), 0);
    assert_eq!(format!("{:?}", world.ends[SERVER].sessions()), sessions);
    world.request(CLIENT, 10);
    world.collect();
    assert!(world.wire.iter().all(|datagram| datagram.header().epoch == 0));
}

/// [P-2.3] PATH_CHALLENGE is answered at the address that is known, wherever it came from; and a flood of them has a bound.
#[test]
fn path_challenges() {
    let (mut world, mut forger) = as_client();
    let ours = Forger::new(&world, CLIENT, Side::Server);
    let challenge = forger.control(&[Frame::PathChallenge { token: 0x1234 }]);
    world.feed_from(SERVER, world::address(99), &challenge, challenge.len());
    world.collect();
    let said: Vec<(usize, Frame)> =
        world.wire.drain(..).flat_map(|d| ours.read(&d.bytes).into_iter().map(move |frame| (d.to, frame))).collect();
    // Is the client still there? It is asked nothing that only a new address would tell.
    let [(CLIENT, Frame::PathChallenge { .. }), (CLIENT, Frame::PathResponse { token: 0x1234 })] = said[..] else {
        panic!("{said:?}")
    };
    for token in 0..5_000 {
        let challenge = forger.control(&[Frame::PathChallenge { token }]);
        world.feed(CLIENT, SERVER, &challenge);
    }
    world.collect();
    let answers: Vec<Frame> = world.wire.iter().flat_map(|datagram| ours.read(&datagram.bytes)).collect();
    assert!((1..=1024).contains(&answers.len()), "{}", answers.len());
    assert!(world.wire.iter().all(|datagram| datagram.bytes.len() <= 1232));
    assert_eq!(answers[0], Frame::PathResponse { token: 0 });
}

/// [P-5.3] [P-5.4] A packet number counts once; what cannot be told from a repeat is dropped; and a number counts as seen
/// only after its tag verified.
#[test]
fn control_packets_count_once() {
    let (mut world, mut forger) = as_client();
    let challenge = forger.control(&[Frame::PathChallenge { token: 1 }]);
    let mut forged = challenge.clone();
    *forged.last_mut().expect("a tag") ^= 1;
    world.assert_dropped(CLIENT, SERVER, &forged, &["dropped_bad_tag"]);
    world.feed(CLIENT, SERVER, &challenge);
    world.collect();
    assert_eq!(world.wire.len(), 1, "the genuine one is answered");
    for _ in 0..3 {
        world.assert_dropped(CLIENT, SERVER, &challenge, &["dropped_replayed_control"]);
    }
    let old = forger.control_numbered(forger.number - 1_984, &[13]);
    world.assert_dropped(CLIENT, SERVER, &old, &["dropped_replayed_control"]);
    let young = forger.control_numbered(forger.number - 1_983, &[13]);
    world.feed(CLIENT, SERVER, &young);
    assert_eq!(world.counters(SERVER).dropped_replayed_control, 4);
}

/// [P-5.3] A frame that cannot be read makes the rest of its packet nonsense; the frames before it stand.
#[test]
fn frames_before_nonsense_stand() {
    let (mut world, mut forger) = as_client();
    let token = [10, 0, 0, 0, 0, 0, 0, 0, 9];
    for rest in [&[0][..], &[16], &[5, 1], &[1, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        let packet = forger.control_bytes(&[&token[..], rest, &token[..]].concat());
        world.feed(CLIENT, SERVER, &packet);
        world.collect();
        assert_eq!(world.wire.drain(..).count(), 1);
    }
    assert_eq!((world.counters(SERVER).dropped_nonsense, world.counters(SERVER).dropped()), (4, 4));
}

/// [P-4.4] A record with the wrong kind for its direction is nonsense; a response to nothing is unexpected; what was here
/// before is a duplicate.
#[test]
fn kinds_have_directions() {
    let (mut world, forger) = as_client();
    let record = |id: RpcId, kind: Kind| forger.data(&[forger.part(id, 0, kind, 10, 10)]);
    let mut counted = |bytes: &[u8]| {
        let before = world.counters(SERVER);
        world.feed(CLIENT, SERVER, bytes);
        world.collect();
        let after = world.counters(SERVER);
        let risen = before.iter().zip(after.iter()).filter(|(a, b)| a.0.starts_with("dropped_") && a != b);
        risen.map(|(a, _)| a.0).collect::<Vec<_>>()
    };
    assert_eq!(counted(&record(rpc(0), Kind::Response)), ["dropped_nonsense"]);
    for kind in [Kind::Request, Kind::OneWay] {
        assert_eq!(counted(&record(RpcId::new(Side::Server, 0), kind)), ["dropped_nonsense"]);
    }
    assert_eq!(counted(&record(RpcId::new(Side::Server, 0), Kind::Response)), ["dropped_unexpected"]);
    assert_eq!(counted(&record(rpc(0), Kind::Request)), [""; 0]);
    assert_eq!(counted(&record(rpc(0), Kind::Request)), ["dropped_duplicate"]);
}

/// [P-6.7] RENEW: calls that are under way go on in their session, the next begins a new one.
#[test]
fn renew() {
    let mut world = World::new().warm();
    world.echo = false;
    let mut forger = Forger::new(&world, CLIENT, Side::Server);
    let old = world.session(CLIENT);
    let first = world.request(CLIENT, 20);
    world.settle();
    world.feed(SERVER, CLIENT, &forger.control(&[Frame::Renew]));
    let second = world.request(CLIENT, 30);
    assert_eq!((first.session, second.session == old), (old, false));
    world.settle();
    assert_eq!(world.outcome(SERVER).0, [20, 30], "both requests are there");
    for event in std::mem::take(&mut world.events[SERVER]) {
        if let Event::Request { id, payload, .. } = event {
            world.ends[SERVER].reply(world.now, id, payload).expect("it is taken");
        }
    }
    world.settle();
    assert_eq!(world.outcome(CLIENT), (vec![20, 30], 0));
    assert_eq!(world.request(CLIENT, 40).session, second.session, "and stays there");
}

/// [P-2.4] CLOSE in the same train as a message that was complete: neither is left, and the next message that comes in the
/// same train is not taken for it.
#[test]
fn close_behind_a_message() {
    for length in [0, 35] {
        let mut world = World::with(5, 2, |_, _| ()).warm();
        let (mut closing, other) = (Forger::new(&world, 1, Side::Client), Forger::new(&world, 2, Side::Client));
        let message = closing.data(&[closing.part(rpc(0), 0, Kind::OneWay, length, 35)]);
        let close = closing.control_bytes(&[&[14][..], &vec![13; message.len() - 41]].concat());
        let next = other.data(&[other.part(rpc(0), 0, Kind::OneWay, 35, 35)]);
        let train =
            if length == 35 { [message.clone(), close, next].concat() } else { [message.clone(), close].concat() };
        world.feed_from(SERVER, world::address(1), &train, message.len());
        world.settle();
        assert_eq!(world.ends[SERVER].sessions().len(), 1);
        let delivered: Vec<_> = (world.events[SERVER].iter())
            .filter_map(|event| match event {
                Event::OneWay { from, payload, .. } => Some((from.address, payload.len())),
                _ => None,
            })
            .collect();
        let expected = if length == 35 { vec![(world::address(2), 35)] } else { vec![] };
        assert_eq!(delivered, expected);
        world.pass(Duration::from_secs(1));
        assert!(!world.ends[SERVER].is_busy());
    }
}

/// [P-2.4] CLOSE while messages are half here, in service, or on their way out: all end, and their memory comes back.
#[test]
fn close_in_the_midst() {
    let (mut world, mut forger) = as_client();
    world.feed(CLIENT, SERVER, &forger.data(&[forger.part(rpc(0), 1, Kind::Request, 90_000, 1_000)]));
    world.feed(CLIENT, SERVER, &forger.data(&[forger.part(rpc(1), 0, Kind::Request, 100, 1_000)]));
    world.feed(CLIENT, SERVER, &forger.data(&[forger.part(rpc(2), 0, Kind::Request, 200, 1_000)]));
    world.collect();
    let answered = world.events[SERVER].iter().find_map(|event| match event {
        Event::Request { id, payload, .. } if payload.len() == 200 => Some(*id),
        _ => None,
    });
    let reply = world.ends[SERVER].copy(&body(50_000));
    world.ends[SERVER].reply(world.now, answered.expect("it is in service"), reply).expect("it is taken");
    world.feed(CLIENT, SERVER, &forger.control(&[Frame::Close]));
    world.collect();
    assert!(world.ends[SERVER].sessions().is_empty() && !world.ends[SERVER].is_busy());
    assert_eq!(world.ends[SERVER].held_bytes(), 0);
    let cancelled = world.events[SERVER].iter().filter(|event| matches!(event, Event::Cancelled { .. })).count();
    assert_eq!(cancelled, 1, "the application hears of the one that it has");
    world.feed(CLIENT, SERVER, &forger.data(&[forger.part(rpc(1), 0, Kind::Request, 100, 1_000)]));
    assert_eq!(world.counters(SERVER).dropped_unknown_session, 1);
}

/// A header that lies about its segment is dropped; one that tells the truth is not.
#[test]
fn segments_are_hints() {
    let (mut world, forger) = as_client();
    let mut packet = forger.data(&[forger.part(rpc(0), 0, Kind::OneWay, 10, 10)]);
    let stated = |segment: usize| {
        let mut bytes = [0; 16];
        let header = Header { segment: segment as u16, ..forger.header(PacketType::Data) };
        header.emit(&mut Writer::new(&mut bytes));
        bytes
    };
    let len = packet.len();
    packet[..16].copy_from_slice(&stated(len - 1));
    world.assert_dropped(CLIENT, SERVER, &packet, &["dropped_oversized"]);
    packet[..16].copy_from_slice(&stated(len + 1));
    world.feed(CLIENT, SERVER, &packet);
    world.settle();
    assert_eq!(world.outcome(SERVER).0, [10]);
}

/// [P-8.9] Who is about to close asks for the acknowledgements that else wait for a ride, and has them a round trip later.
#[test]
fn acknowledgements_are_asked_for() {
    for asks in [false, true] {
        let mut world = World::with(1, 1, |_, config| config.proto.short_ack_delay = Duration::from_millis(100));
        world.request(CLIENT, 100);
        world.settle();
        assert!(world.ends[SERVER].is_busy(), "its response is not acknowledged");
        if asks {
            world.ends[SERVER].ask_for_acks();
        }
        world.settle();
        assert_eq!(world.ends[SERVER].is_busy(), !asks);
        world.pass(Duration::from_millis(200));
        world.assert_quiet();
    }
}
