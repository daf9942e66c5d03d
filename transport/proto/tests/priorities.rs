//! Which priority bytes carry, and how sender and receiver agree on that.

mod half;

use std::time::Duration;

use half::{Half, RTT, message, ours, serving, theirs};
use proto::config::{Config, Priorities};
use wire::control::Frame;
use wire::geometry::Geometry;
use wire::trailer::{Kind, Trailer};

/// Up to 1,000 bytes at 7, up to 5,000 at 6, all others at 5: five levels are left for what is granted.
const CUTOFFS: [u32; 8] = [1_000, 5_000, u32::MAX, 0, 0, 0, 0, 0];

fn config() -> Config {
    Config { unscheduled_bytes: 10_000, priorities: Priorities::Fixed(CUTOFFS), ..serving() }
}

fn tell(half: &mut Half, version: u16, cutoffs: [u32; 8]) -> bool {
    half.frame(Frame::Cutoffs { version, cutoffs })
}

/// Priorities of what goes out now, with the first record of each piece.
fn sent(half: &mut Half) -> Vec<(u32, u8)> {
    let mut sent = Vec::new();
    while let Some((_, _, record, priority)) = half.machine.peek_work(half.now) {
        let work = half.machine.next_work(half.now, u32::MAX).expect("what was seen");
        assert_eq!((work.start, work.priority), (record, priority));
        sent.push((work.start, work.priority));
    }
    sent
}

fn stated(half: &Half, length: usize) -> Trailer {
    half.machine.trailer_to_begin(0, ours(9), Kind::Request, Geometry::cut(length, 1472))
}

/// [P-8.3] A sender goes by the receiver's cutoffs and says so; what is granted carries what the grant says.
#[test]
fn by_length_of_message() {
    let mut half = Half::new(config());
    half.begin(ours(0), Kind::Request, 900);
    assert_eq!((sent(&mut half), stated(&half, 900).cutoffs), (vec![(0, 6)], 0), "nothing was said yet");
    assert!(tell(&mut half, 33, CUTOFFS));
    assert_eq!(stated(&half, 900).cutoffs, 1);
    for (sequence, length) in [(1, 900), (2, 5_000), (3, 90_000)] {
        half.begin(ours(sequence), Kind::Request, length);
    }
    assert_eq!(sent(&mut half), [(0, 7), (0, 6), (0, 5)]);
    half.frame(Frame::Grant { rpc: ours(3), offset: 30_000, priority: 2 });
    assert_eq!(sent(&mut half), [(10, 2)]);
    half.frame(Frame::Resend { rpc: ours(3), start: 8_000, end: 12_000 });
    assert_eq!(sent(&mut half), [(8, 7), (10, 7)], "again, before all others: it is late already");
}

/// [P-8.3] Older cutoffs that come late change nothing; a version that reads as none is nonsense.
#[test]
fn late_cutoffs() {
    let mut half = Half::new(config());
    assert!(tell(&mut half, 2, CUTOFFS) && tell(&mut half, 1, [u32::MAX; 8]));
    half.begin(ours(0), Kind::Request, 5_000);
    assert_eq!(sent(&mut half), [(0, 6)]);
    assert!(!tell(&mut half, 64, CUTOFFS) && !tell(&mut half, 0, CUTOFFS));
    assert!(tell(&mut half, 65_535, [u32::MAX; 8]), "older, because versions go round");
    assert_eq!(stated(&half, 1).cutoffs, 2);
}

/// [P-8.3] A sender that states another version is told, once in a round trip however much it sends, and not before what it sent is delivered.
#[test]
fn who_errs_is_told() {
    let mut half = Half::new(config());
    let count = |said: &[Frame]| said.iter().filter(|frame| matches!(frame, Frame::Cutoffs { .. })).count();
    let mut sequence = 0;
    let mut send = |half: &mut Half, cutoffs: u8| {
        let (rpc, trailer) = message(theirs(sequence), Kind::OneWay, 100, 100);
        half.record(&(rpc, Trailer { cutoffs, ..trailer }), 0);
        sequence += 1;
    };
    (0..20).for_each(|_| send(&mut half, 0));
    assert_eq!(half.pass(RTT / 2), []);
    send(&mut half, 0);
    let said = half.pass(RTT / 2);
    assert!(said.contains(&Frame::Cutoffs { version: 1, cutoffs: CUTOFFS }), "{said:?}");
    assert_eq!(count(&said), 1);
    assert_eq!(count(&half.pass(2 * RTT)), 0);
    send(&mut half, 1);
    assert_eq!(count(&half.pass(2 * RTT)), 0, "it knows");
    send(&mut half, 31);
    assert_eq!(count(&half.pass(RTT)), 1);
    // A ride that comes by is taken.
    half.now += RTT;
    send(&mut half, 31);
    half.record(&message(theirs(1000), Kind::Request, 100_000, 1_000), 0);
    half.machine.schedule_grants();
    let said = half.said();
    assert_eq!((count(&said), said.len() > 1), (1, true), "{said:?}");
    assert_eq!(count(&half.pass(2 * RTT)), 0);
}

/// [P-8.3] A receiver that sees only short messages gives them seven levels, and says so to who sends.
#[test]
fn measured() {
    let mut half = Half::new(Config { priorities: Priorities::Measured { messages: 1_000 }, ..config() });
    for sequence in 0..101 {
        let length = 100 + 10 * sequence as u32;
        half.record(&message(theirs(sequence), Kind::OneWay, length, length), 0);
    }
    let said = half.pass(RTT);
    let cutoffs = said.iter().find_map(|frame| match frame {
        Frame::Cutoffs { version: 1, cutoffs } => Some(*cutoffs),
        _ => None,
    });
    let cutoffs = cutoffs.expect("they are told");
    assert!(cutoffs[..7].is_sorted_by(|a, b| a < b), "{cutoffs:?}");
    assert_eq!(cutoffs[6..], [u32::MAX; 2], "seven levels");
}

/// [P-8.3] Without priorities everything is sent and granted at the lowest, whatever the other side says.
#[test]
fn off() {
    let mut half = Half::new(Config { priorities: Priorities::Off, ..config() });
    tell(&mut half, 1, CUTOFFS);
    half.begin(ours(0), Kind::Request, 20_000);
    half.frame(Frame::Grant { rpc: ours(0), offset: 20_000, priority: 3 });
    assert_eq!(sent(&mut half), [(0, 0), (10, 0)]);
    half.record(&message(theirs(0), Kind::Request, 15_000, 10_000), 0);
    half.record(&message(theirs(1), Kind::Request, 90_000, 10_000), 0);
    let said = half.said();
    assert!(said.len() == 2 && said.iter().all(|frame| matches!(frame, Frame::Grant { priority: 0, .. })), "{said:?}");
}

/// [P-8.3] Where that is wanted, a long message's unscheduled bytes rise as it comes to its end.
#[test]
fn by_bytes_left() {
    let mut half = Half::new(Config { priority_by_left: true, ..config() });
    tell(&mut half, 1, CUTOFFS);
    half.begin(ours(0), Kind::Request, 7_000);
    let levels: Vec<u8> = (0..7).map(|_| half.machine.next_work(half.now, 1).expect("work").priority).collect();
    assert_eq!(levels, [5, 5, 6, 6, 6, 6, 7]);
}

/// [P-8.3] What comes to the end of its message is worth as much as a short one; without the switch it is not.
#[test]
fn the_tail_is_raised() {
    for (raise_tail, expected) in [(true, [0, 5]), (false, [0, 0])] {
        let mut half = Half::new(Config { raise_tail, grant_step_bytes: Some(1), ..config() });
        let m = message(theirs(0), Kind::Request, 20_000, 10_000);
        let (mut levels, mut granted) = (Vec::new(), 10_000);
        half.machine.set_link_rate(None);
        for index in 0..20 {
            half.record(&m, index);
            for frame in half.said() {
                if let Frame::Grant { offset, priority, .. } = frame {
                    assert!(offset > granted);
                    granted = offset;
                    levels.push(priority);
                }
            }
        }
        // All at once here: the window is larger than what is left.
        assert_eq!((granted, levels), (20_000, vec![expected[1]]));
        let long = message(theirs(1), Kind::Request, 9_000_000, 10_000);
        half.record(&long, 0);
        assert!(
            half.said().iter().any(|frame| matches!(frame, Frame::Grant { priority, .. } if *priority == expected[0]))
        );
        half.pass(Duration::from_millis(1));
    }
}
