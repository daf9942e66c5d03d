//! What happens when there is no memory for what comes: who waits, who is asked for, and that nobody can make it last.

mod half;

use std::time::Duration;

use half::{Half, Message, message, ours, serving, theirs};
use proto::config::{Config, GrantWindow};
use proto::io::{Arrival, Event, Failure};
use wire::control::Frame;
use wire::ids::RpcId;
use wire::trailer::Kind;

fn config() -> Config {
    Config {
        buffered_bytes_max: 30_000,
        buffered_bytes_per_peer_max: 30_000,
        buffered_bytes_per_host_max: 30_000,
        ..serving()
    }
}

fn request(sequence: u64, length: u32) -> Message {
    message(theirs(sequence), Kind::Request, length, length)
}

const fn ask(rpc: RpcId) -> Frame {
    Frame::Resend { rpc, start: 0, end: u32::MAX }
}

/// Peer 0 holds 15,000 bytes, peer 1 holds 7,000: nothing more fits but 1,000 bytes of peer 1 and what is shorter.
fn full() -> Half {
    let mut half = Half::new(config());
    (1..4).for_each(|peer| half.open(peer));
    assert!(matches!(half.record_of(0, &request(0, 15_000), 0), Arrival::New { .. }));
    assert!(matches!(half.record_of(1, &request(0, 7_000), 0), Arrival::New { .. }));
    half.said();
    half
}

/// [P-8.7] Who finds no room is told once that it waits, is answered when it asks, and the shortest that fits is asked for
/// when there is room. A newcomer does not get what is kept.
#[test]
fn the_shortest_that_waits_is_next() {
    let mut half = full();
    for (sequence, length) in [(1, 14_000), (2, 9_000), (3, 12_000)] {
        for index in 0..3 {
            assert_eq!(half.record_of(2, &request(sequence, length), index), Arrival::NoRoom);
        }
        assert_eq!(half.said(), [Frame::Busy { rpc: theirs(sequence) }]);
        half.machine.frame(half.now, 2, ask(theirs(sequence)));
        assert_eq!(half.said(), [Frame::Busy { rpc: theirs(sequence) }], "not UNKNOWN: it need not send all again");
    }
    half.frame(Frame::Cancel { rpc: theirs(0) });
    half.events();
    assert_eq!(half.said(), [ask(theirs(2))]);
    assert_eq!(half.record_of(3, &request(0, 14_500), 0), Arrival::NoRoom, "what is kept is not free");
    assert!(matches!(half.record_of(2, &request(2, 9_000), 0), Arrival::New { .. }));
    assert_eq!(half.machine.buffered_bytes(), 16_000);
}

/// [P-8.7] Room is kept for a while and no longer: who is asked and does not come loses it to the next.
#[test]
fn who_does_not_come_loses_its_room() {
    let mut half = full();
    for (peer, length) in [(2, 9_000), (3, 14_500)] {
        assert_eq!(half.record_of(peer, &request(5, length), 0), Arrival::NoRoom);
    }
    half.frame(Frame::Cancel { rpc: theirs(0) });
    half.events();
    half.said();
    half.now += Duration::from_millis(1);
    assert_eq!(half.record_of(3, &request(5, 14_500), 0), Arrival::NoRoom);
    half.said();
    let said = half.pass(Duration::from_millis(10));
    assert!(said.contains(&ask(theirs(5))), "{said:?}");
    assert!(matches!(half.record_of(3, &request(5, 14_500), 0), Arrival::New { .. }));
    // The first one comes after all, and is as any other that finds no room.
    assert_eq!(half.record_of(2, &request(5, 9_000), 0), Arrival::NoRoom);
}

/// [P-8.7] Without the list nobody is told and nobody is asked.
#[test]
fn no_list() {
    let mut half = full();
    let mut without = Half::new(Config { waiting_max: 0, ..config() });
    without.record(&request(0, 15_000), 0);
    for half in [&mut half, &mut without] {
        assert_eq!(half.record(&request(1, 9_000), 0), Arrival::NoRoom);
    }
    assert_eq!((half.said().len(), without.said().len()), (1, 0));
    for half in [&mut half, &mut without] {
        half.frame(Frame::Cancel { rpc: theirs(0) });
        half.events();
    }
    assert_eq!((half.said().len(), without.said().len()), (1, 0));
}

/// [P-8.7] One peer holds no more than its limit, however much is free.
#[test]
fn a_limit_for_each_peer() {
    let mut half = Half::new(Config { buffered_bytes_max: 1 << 30, buffered_bytes_per_peer_max: 10_000, ..serving() });
    half.open(1);
    half.record(&request(0, 8_000), 0);
    assert_eq!(half.record(&request(1, 3_000), 0), Arrival::NoRoom);
    assert!(matches!(half.record_of(1, &request(1, 3_000), 0), Arrival::New { .. }));
}

/// [P-8.7] Sessions of one host hold no more together than its limit, and leave as much to other hosts as they hold. What is kept for one
/// of them counts, too.
#[test]
fn a_limit_for_each_host() {
    let limits = |host: u64| Config {
        buffered_bytes_max: 40_000,
        buffered_bytes_per_peer_max: 10_000,
        buffered_bytes_per_host_max: host,
        ..serving()
    };
    for (host, third) in [(1 << 30, true), (19_000, false)] {
        let mut half = Half::new(limits(host));
        half.open_at(1, 0);
        half.open_at(2, 0);
        half.open_at(3, 1);
        half.record(&request(0, 9_000), 0);
        assert_eq!(half.record(&request(1, 2_000), 0), Arrival::NoRoom, "more than a session may have");
        assert!(matches!(half.record_of(1, &request(0, 9_000), 0), Arrival::New { .. }));
        let taken = matches!(half.record_of(2, &request(0, 2_000), 0), Arrival::New { .. });
        assert_eq!(taken, third, "more than a host may have");
        if third {
            assert_eq!(
                half.record_of(2, &request(1, 3_000), 0),
                Arrival::NoRoom,
                "23,000 of 40,000 leave less to the others"
            );
        }
        assert!(matches!(half.record_of(3, &request(0, 9_000), 0), Arrival::New { .. }), "another host");
        // With its sessions, what they held is free.
        half.machine.close_peer(0, Failure::SessionClosed);
        half.machine.close_peer(1, Failure::SessionClosed);
        half.events();
        let arrival = half.record_of(2, &request(7, 4_000), 0);
        assert!(matches!(arrival, Arrival::New { .. }), "{arrival:?}");
    }
}

/// [P-8.7] A peer that begins, says that it lives and never sends holds its memory for a limited time; another peer that
/// waits for grants of ours is not taken for one.
#[test]
fn a_peer_that_only_says_it_lives() {
    let window = GrantWindow::Fixed(1 << 20);
    let mut half =
        Half::new(Config { unscheduled_bytes: 5_000, incoming_bytes_max: 0, grant_window: window, ..serving() });
    half.open(1);
    half.record(&request(0, 6_000), 0);
    for index in 0..5 {
        half.record_of(1, &message(theirs(0), Kind::Request, 9_000, 5_000), index);
    }
    let until = half.now + half.machine.config().stall_timeout + Duration::from_secs(1);
    let mut ended = Vec::new();
    while half.now < until {
        half.machine.frame(half.now, 0, Frame::Busy { rpc: theirs(0) });
        half.machine.frame(half.now, 1, Frame::NeedAck { rpc: theirs(0) });
        half.pass(Duration::from_millis(500));
        ended.extend(half.events().iter().map(|event| (half.now, event.slot())));
    }
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert!(half.machine.rpcs().all(|info| info.peer == 1));
}

/// [P-8.7] A message that waits for room and is not heard of any more is forgotten by itself, whether or not anything else happens. One
/// that is heard of stays.
#[test]
fn who_waits_and_falls_silent() {
    let mut half = full();
    let silence = half.machine.config().peer_timeout;
    assert_eq!(half.record_of(2, &request(0, 20_000), 0), Arrival::NoRoom);
    assert_eq!(half.record_of(3, &request(0, 20_000), 0), Arrival::NoRoom);
    let waiting = |half: &Half| half.machine.holdings().waiting;
    assert_eq!(waiting(&half), 2);
    // Those that hold the room go on, and one of those that wait.
    for _ in 0..4 {
        half.pass(silence / 2);
        for peer in [0, 1, 3] {
            half.machine.frame(half.now, peer, Frame::NeedAck { rpc: theirs(0) });
            half.machine.frame(half.now, peer, Frame::Busy { rpc: theirs(0) });
        }
    }
    assert_eq!(waiting(&half), 1);
}

/// [P-8.7] A response that waits for room keeps its call alive as long as its sender asks, and not longer.
#[test]
fn a_response_that_waits() {
    let mut half = full();
    let answer = message(ours(0), Kind::Response, 12_000, 12_000);
    half.begin(ours(0), Kind::Request, 500);
    half.sent();
    assert_eq!(half.record(&answer, 0), Arrival::NoRoom);
    for _ in 0..20 {
        half.frame(Frame::NeedAck { rpc: ours(0) });
        half.frame(Frame::Busy { rpc: theirs(0) });
        half.machine.frame(half.now, 1, Frame::Busy { rpc: theirs(0) });
        half.pass(Duration::from_millis(500));
    }
    assert!(half.events().is_empty(), "it waits");
    let said = half.pass(half.machine.config().peer_timeout * 2);
    assert!(!said.contains(&ask(ours(0))));
    let failed = |event: &Event| matches!(event, Event::Failed { .. });
    assert_eq!(half.events().iter().filter(|event| failed(event)).count(), 1);
}

/// [P-8.7] A request that was answered needs no memory: else two endpoints full of them would have no room for each other's
/// responses, for ever. (Found by seed 2597 of the lossy network.)
#[test]
fn an_answered_request_needs_no_memory() {
    let mut half = Half::new(config());
    half.bytes(&request(0, 14_000), 0..14_000);
    half.begin(ours(0), Kind::Request, 500);
    half.sent();
    let answer = message(ours(0), Kind::Response, 12_000, 12_000);
    assert_eq!(half.record(&answer, 0), Arrival::NoRoom);
    half.said();
    half.respond(theirs(0), 3_000_000);
    assert_eq!((half.machine.buffered_bytes(), half.said()), (0, vec![ask(ours(0))]));
    assert!(matches!(half.record(&answer, 0), Arrival::New { .. }));
}

/// [P-8.7] A response that lost its place in the list is asked for by its own call's timer again; one that waits is not.
#[test]
fn a_place_that_is_lost() {
    let mut half = Half::new(Config { waiting_per_peer_max: 1, ..config() });
    half.record(&request(0, 15_000), 0);
    for (sequence, length) in [(0, 12_000), (1, 11_000)] {
        half.begin(ours(sequence), Kind::Request, 500);
        half.sent();
        let answer = message(ours(sequence), Kind::Response, length, length);
        assert_eq!(half.record(&answer, 0), Arrival::NoRoom);
    }
    let said = half.pass(Duration::from_millis(5));
    assert!(said.contains(&ask(ours(0))) && !said.contains(&ask(ours(1))), "{said:?}");
}
