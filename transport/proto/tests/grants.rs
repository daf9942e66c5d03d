//! The receiver's choice: who is granted what, and that nobody else's lies change it.

mod half;

use std::time::Duration;

use half::{Half, Message, message, ours, serving, theirs};
use proto::config::{Config, GrantWindow, Order, Priorities};
use proto::io::{Arrival, State};
use wire::control::Frame;
use wire::trailer::Kind;

fn request(sequence: u64, length: u32) -> Message {
    message(theirs(sequence), Kind::Request, length, 10_000)
}

fn small() -> Config {
    Config {
        unscheduled_bytes: 10_000,
        grant_window: GrantWindow::Fixed(40_000),
        incoming_bytes_max: 100_000,
        raise_tail: false,
        ..serving()
    }
}

fn granted(said: &[Frame]) -> Vec<(u64, u32, u8)> {
    let grant = |frame: &Frame| match *frame {
        Frame::Grant { rpc, offset, priority } => Some((rpc.sequence(), offset, priority)),
        _ => None,
    };
    said.iter().filter_map(grant).collect()
}

/// [P-8.2] A message is granted a window ahead of what arrived, in steps of a quarter, to its end.
#[test]
fn a_window_ahead_of_what_arrived() {
    let mut half = Half::new(small());
    let m = request(0, 100_000);
    half.record(&m, 0);
    assert_eq!(granted(&half.said()), [(0, 41_000, 0)]);
    half.bytes(&m, 1_000..10_000);
    assert_eq!(granted(&half.said()), [], "less than a quarter window");
    half.record(&m, 10);
    assert_eq!(granted(&half.said()), [(0, 51_000, 0)]);
    half.bytes(&m, 11_000..51_000);
    assert_eq!(granted(&half.said()), [(0, 91_000, 0)]);
    half.bytes(&m, 51_000..60_000);
    assert_eq!(granted(&half.said()), [(0, 100_000, 0)], "the rest, however little");
    half.bytes(&m, 60_000..100_000);
    assert_eq!((half.machine.incoming_bytes(), half.said().len()), (0, 0));
}

/// [P-8.2] [P-8.1] What fits the unscheduled bytes is never granted anything.
#[test]
fn short_messages_need_no_grants() {
    let mut half = Half::new(small());
    half.record(&request(0, 10_000), 3);
    assert_eq!(half.said(), []);
}

/// [P-8.2] [P-8.3] No more messages than `overcommit` are granted at once: those with the fewest bytes left, the shortest
/// first and at the highest priority.
#[test]
fn the_shortest_few() {
    let mut half = Half::new(Config { overcommit: Some(2), incoming_bytes_max: 1 << 20, ..small() });
    for (sequence, length) in [(0, 90_000), (1, 60_000), (2, 70_000), (3, 50_000)] {
        half.record(&request(sequence, length), 0);
    }
    assert_eq!(granted(&half.said()), [(3, 41_000, 1), (1, 41_000, 0)]);
    half.bytes(&request(3, 50_000), 0..41_000);
    assert_eq!(granted(&half.said()), [(3, 50_000, 1)]);
    half.bytes(&request(3, 50_000), 41_000..50_000);
    assert_eq!(granted(&half.said()), [(2, 41_000, 0)], "the place is free for the next");
}

/// [P-8.2] Granted bytes that have not arrived stay within the budget, whoever wants what; one peer leaves a part of it.
#[test]
fn the_budget_holds() {
    let mut half = Half::new(small());
    for sequence in 0..20 {
        half.record(&request(sequence, 500_000), 0);
        half.said();
        assert!(half.machine.incoming_bytes() <= 75_000);
    }
    half.open(1);
    half.record_of(1, &request(0, 500_000), 0);
    assert!(!granted(&half.said()).is_empty(), "another peer still has its part");
    assert!(half.machine.incoming_bytes() <= 100_000);
}

/// [P-8.2] A budget smaller than one record does not stop everything.
#[test]
fn less_budget_than_a_record() {
    let mut half = Half::new(Config { incoming_bytes_max: 300, ..small() });
    let m = request(0, 30_000);
    half.bytes(&m, 0..10_000);
    for next in 10..30 {
        assert_eq!(granted(&half.said()), [(0, (next + 1) * 1000, 0)]);
        half.record(&m, next as u16);
    }
    assert_eq!(half.machine.rpc(half.slot(m.0)).expect("open").2, State::InService);
}

/// [P-8.1] A sender that says it sends everything unscheduled is believed no more than we allowed, and takes nothing from
/// the budget of others.
#[test]
fn unscheduled_lies_cost_nobody_else() {
    let mut half = Half::new(small());
    for sequence in 0..50 {
        half.record(&message(theirs(sequence), Kind::OneWay, 5_000_000, u32::MAX), 0);
    }
    let lied = half.machine.rpcs().map(|info| info.in_granted).max();
    assert_eq!(lied, Some(10_000));
    half.open(1);
    half.record_of(1, &request(0, 20_000), 0);
    let said = half.said();
    assert!(granted(&said).iter().any(|grant| grant.1 == 20_000), "{said:?}");
}

/// Thousands of messages that are begun and never go on take neither all places nor all of the budget.
#[test]
fn half_begun_messages_starve_nobody() {
    let mut half = Half::new(Config { overcommit: Some(4), ..small() });
    for sequence in 0..5_000 {
        half.record(&message(theirs(sequence), Kind::Request, 11_000, 10_000), 0);
    }
    half.said();
    half.open(1);
    // Its messages have more bytes left than all of those.
    let m = request(0, 200_000);
    let mut next = 0;
    while next < 200 {
        let end =
            half.machine.find(1, m.0).map_or(10, |slot| half.machine.incoming(slot).expect("open").granted() / 1000);
        assert!(next < end, "no grant at {next}");
        half.record_of(1, &m, next as u16);
        next += 1;
        half.said();
    }
}

/// [P-8.2] What was not granted is dropped, whatever else comes, and upsets no account; what was granted is taken.
#[test]
fn sending_more_than_was_granted() {
    let mut half = Half::new(Config { incoming_bytes_max: 5_000, ..small() });
    let m = request(0, 100_000);
    assert_eq!(half.record(&m, 10), Arrival::NotGranted, "nothing of it is here");
    assert_eq!(half.machine.find(0, m.0), None);
    let mut granted = 10_000;
    for index in 0..100 {
        assert!(granted == 100_000 || half.record(&m, 99) == Arrival::NotGranted);
        assert!(matches!(half.record(&m, index), Arrival::New { .. }), "{index}");
        granted = half.said().iter().fold(granted, |granted, frame| match frame {
            Frame::Grant { offset, .. } => *offset,
            _ => granted,
        });
        let next = (granted / 1000) as u16;
        assert!(next == 100 || half.record(&m, next) == Arrival::NotGranted, "{next}");
    }
    assert_eq!(half.machine.rpc(half.slot(m.0)).expect("open").2, State::InService);
    assert_eq!((half.said().len(), half.machine.incoming_bytes()), (0, 0));
    half.machine.free(half.slot(m.0));
    assert_eq!((half.machine.incoming_bytes(), half.machine.buffered_bytes()), (0, 0));
}

/// The end of one message is all that another waits for: it is granted though no packet comes any more.
#[test]
fn an_end_wakes_who_waits() {
    let mut half = Half::new(Config { overcommit: Some(1), ..small() });
    half.record(&request(0, 50_000), 0);
    half.record(&request(1, 60_000), 0);
    assert_eq!(granted(&half.said()).len(), 1);
    half.frame(Frame::Cancel { rpc: theirs(0) });
    half.events();
    assert_eq!(half.machine.timeout(), Some(proto::time::Instant::ZERO));
    half.machine.handle_timeout(half.now);
    assert!(granted(&half.said()).iter().any(|(sequence, ..)| *sequence == 1));
}

/// [P-8.2] A grant beyond the end of the message is nonsense, and changes nothing.
#[test]
fn grants_beyond_the_end() {
    let mut half = Half::new(small());
    half.begin(ours(0), Kind::Request, 20_000);
    assert_eq!(half.sent(), [(ours(0), 0, 10)]);
    assert!(!half.frame(Frame::Grant { rpc: ours(0), offset: 20_001, priority: 0 }));
    assert_eq!(half.sent(), []);
    assert!(half.frame(Frame::Grant { rpc: ours(0), offset: 20_000, priority: 0 }));
    assert_eq!(half.sent(), [(ours(0), 10, 20)]);
}

/// [P-8.4] Of two messages that are ready the shorter goes first; of two that are as short, the older.
#[test]
fn the_shorter_message_goes_first() {
    let mut half = Half::new(small());
    for (sequence, length) in [(0, 9_000), (1, 2_000), (2, 3_000), (3, 2_000)] {
        half.begin(ours(sequence), Kind::Request, length);
    }
    assert_eq!(half.sent(), [(ours(1), 0, 2), (ours(3), 0, 2), (ours(2), 0, 3), (ours(0), 0, 9)]);
}

/// [P-8.4] What is nearly all sent goes before what is shorter but has more left.
#[test]
fn what_is_left_counts() {
    let mut half = Half::new(small());
    half.begin(ours(0), Kind::Request, 9_000);
    assert_eq!(half.machine.next_work(half.now, 8).map(|work| work.end), Some(8));
    half.begin(ours(1), Kind::Request, 2_000);
    assert_eq!(half.sent(), [(ours(0), 8, 9), (ours(1), 0, 2)]);
}

/// Messages of other peers are granted after the one whose sender went away is given up.
#[test]
fn a_vanished_sender_gives_its_grants_back() {
    let mut half = Half::new(small());
    half.open(1);
    half.record(&request(0, 500_000), 0);
    half.said();
    assert!(half.machine.incoming_bytes() > 0);
    half.pass(half.machine.config().peer_timeout + Duration::from_secs(1));
    assert_eq!(half.events().len(), 1);
    assert_eq!((half.machine.incoming_bytes(), half.machine.rpcs_open()), (0, 0));
}

/// [P-8.2] A grant of an answer that was never begun is nonsense; one that comes after the answer is only late.
#[test]
fn grants_of_nothing() {
    let mut half = Half::new(small());
    half.record(&request(0, 500), 0);
    assert!(!half.frame(Frame::Grant { rpc: theirs(0), offset: 1, priority: 0 }));
    half.begin(ours(0), Kind::Request, 500);
    half.sent();
    half.record(&message(ours(0), Kind::Response, 50_000, 10_000), 0);
    assert!(half.frame(Frame::Grant { rpc: ours(0), offset: 500, priority: 0 }));
    assert!(half.frame(Frame::Grant { rpc: ours(77), offset: 500, priority: 0 }), "of what ended long ago");
}

/// [P-8.2] The dynamic window: with each message more that is granted, each gets less, and one more would still fit.
#[test]
fn the_window_is_shared() {
    let mut half = Half::new(Config { grant_window: GrantWindow::Dynamic, ..small() });
    (1..4).for_each(|peer| half.open(peer));
    let mut windows = Vec::new();
    for peer in 0..4 {
        half.record_of(peer, &request(0, 500_000), 0);
        let said = granted(&half.said());
        windows.push(said.iter().map(|(_, offset, _)| offset - 1_000).max());
    }
    assert_eq!(windows, [Some(50_000), Some(33_000), Some(25_000), Some(20_000)]);
}

/// [P-8.2] With the smallest step each record that arrives is worth a grant.
#[test]
fn record_by_record() {
    let mut half = Half::new(Config { grant_step_bytes: Some(1), ..small() });
    let m = request(0, 100_000);
    for index in 0..60 {
        half.record(&m, index);
        assert_eq!(granted(&half.said()), [(0, 41_000 + 1_000 * u32::from(index), 0)]);
    }
}

/// A long message that waits while shorter ones come all the time: how many bytes it is granted, and how many they are.
fn granted_to_the_oldest(config: Config) -> (u32, u32) {
    let mut half = Half::new(config);
    let long = request(0, 5_000_000);
    half.record(&request(1, 100_000), 0);
    half.record(&long, 0);
    let granted = |half: &Half, rpc| half.machine.incoming(half.slot(rpc)).expect("open").granted();
    let all = 200 * 90_000;
    for sequence in 1..=200 {
        let m = request(sequence, 100_000);
        half.record(&request(sequence + 1, 100_000), 0);
        // What was granted comes, and then the next is granted.
        for _ in 0..20 {
            let (m_end, long_end) = (granted(&half, m.0), granted(&half, long.0));
            half.bytes(&m, 0..m_end);
            half.bytes(&long, 0..long_end);
            half.said();
        }
        assert_eq!(half.machine.rpc(half.slot(m.0)).expect("open").2, State::InService);
        half.machine.refuse(half.slot(m.0));
        half.events();
    }
    (granted(&half, long.0) - 10_000, all)
}

/// [P-8.2] Of all that is granted the oldest gets its part, although shorter ones never leave it a place; without the part
/// it gets nothing.
#[test]
fn the_oldest_has_a_part() {
    let config = Config { overcommit: Some(1), incoming_bytes_max: 1 << 20, ..small() };
    let (oldest, all) = granted_to_the_oldest(config);
    let per_mille = oldest / (all / 1_000);
    assert!((45..=55).contains(&per_mille), "{oldest} of {all}");
    let (oldest, _) = granted_to_the_oldest(Config { fifo_share_per_mille: 0, ..config });
    assert_eq!(oldest, 0);
}

/// [P-8.2] In the order of age the oldest is granted, however long it is.
#[test]
fn order_by_age() {
    for (order, first) in [(Order::Srpt, 1), (Order::Fifo, 0)] {
        let mut half = Half::new(Config { order, overcommit: Some(1), ..small() });
        half.record(&request(0, 900_000), 0);
        half.record(&request(1, 50_000), 0);
        assert_eq!(granted(&half.said())[0].0, first);
    }
}

/// [P-8.2] The number of messages that are granted at once follows the priorities that there are for them.
#[test]
fn overcommitment_follows_the_levels() {
    let levels = |scheduled: usize| core::array::from_fn(|at| if at + scheduled < 7 { 100 } else { u32::MAX });
    for (scheduled, expected) in [(1, 2), (4, 4), (7, 7)] {
        let mut half = Half::new(Config {
            priorities: Priorities::Fixed(levels(scheduled)),
            incoming_bytes_max: 1 << 30,
            ..small()
        });
        (0..20)
            .for_each(|sequence| assert!(matches!(half.record(&request(sequence, 500_000), 0), Arrival::New { .. })));
        assert_eq!(granted(&half.said()).len(), expected);
    }
}
