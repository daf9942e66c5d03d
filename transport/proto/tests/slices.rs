//! Slices that wait: what they put off and what not, what is asked for beside them, and that nothing waits for ever.

mod half;

use std::time::Duration;

use half::{Half, Message, message, serving, theirs};
use proto::io::Arrival;
use wire::control::Frame;
use wire::geometry::Geometry;
use wire::trailer::{Kind, Trailer};

/// A request of 40 records of 1,000 bytes: the first, and then 15, 15 and 9 of them in one record.
fn spanning() -> Message {
    let (rpc, trailer) = message(theirs(0), Kind::Request, 40_000, 40_000);
    let geometry: Geometry = trailer.geometry.spanning().expect("it is long");
    assert_eq!((geometry.sealed_with(1), geometry.sealed_with(39)), (1..16, 31..40));
    (rpc, Trailer { geometry, ..trailer })
}

/// A machine that has the first record, and slices `1..end`, but for 7.
fn waiting(end: u16) -> (Half, Message) {
    let mut half = Half::new(serving());
    let message = spanning();
    half.record(&message, 0);
    let slot = half.machine.find(0, message.0).expect("it begins");
    for index in (1..end).filter(|index| *index != 7) {
        let span = message.1.geometry.sealed_with(index);
        assert!(
            !half.machine.stage(half.now, slot, index.into()..u32::from(index) + 1, &span),
            "one of each is missing"
        );
    }
    half.said();
    (half, message)
}

fn asked(said: &[Frame]) -> Vec<(u32, u32)> {
    let ask = |frame: &Frame| match *frame {
        Frame::Resend { start, end, .. } => Some((start, end)),
        _ => None,
    };
    said.iter().filter_map(ask).collect()
}

fn next_attempts(said: &[Frame]) -> usize {
    said.iter().filter(|frame| matches!(frame, Frame::NextAttempt { .. })).count()
}

/// [P-4.6] [P-8.5] What waits is not asked for, and what is missing beside it is; what was opened is neither.
#[test]
fn only_what_is_missing() {
    let (mut half, message) = waiting(16);
    let said = half.pass(Duration::from_millis(1));
    assert_eq!(asked(&said)[..2], [(7_000, 8_000), (16_000, 40_000)]);
    let slot = half.machine.find(0, message.0).expect("it is open");
    let span = message.1.geometry.sealed_with(7);
    assert!(half.machine.stage(half.now, slot, 7..8, &span));
    assert_eq!(
        half.machine.arrived_span(half.now, slot, span, &message.1),
        Arrival::New { slot, first: false, complete: false }
    );
    assert_eq!(half.machine.incoming(slot).expect("it comes").received(), 16_000);
    half.said();
    let said = half.pass(Duration::from_millis(1));
    assert_eq!(asked(&said)[0], (16_000, 40_000));
}

/// [P-4.6] What did not open is forgotten, and asked for at once, under another attempt; so it is with each question until one came.
#[test]
fn the_next_attempt_is_asked_for() {
    let (mut half, message) = waiting(30);
    let slot = half.machine.find(0, message.0).expect("it is open");
    half.machine.spoiled(slot);
    let said = half.said();
    assert_eq!((asked(&said), next_attempts(&said)), (vec![(1_000, 40_000)], 1));
    assert!(half.machine.awaits_slices(slot).is_none());
    assert!(next_attempts(&half.pass(Duration::from_millis(1))) >= 1);
    half.record(&message, 5);
    let said = half.pass(Duration::from_millis(1));
    assert_eq!((asked(&said)[..2].to_vec(), next_attempts(&said)), (vec![(1_000, 5_000), (6_000, 40_000)], 0));
    half.bytes(&message, 1_000..40_000);
    assert_eq!(half.machine.incoming(slot).map(|incoming| incoming.is_complete()), Some(true));
}

/// [P-4.6] [P-3.4] A record of a later attempt where slices wait: they wait no longer, and are missing again.
#[test]
fn a_later_attempt_ends_the_wait() {
    for first in [false, true] {
        let (mut half, message) = waiting(16);
        if first {
            // Or it begins the message.
            half = Half::new(serving());
        }
        half.record(&message, 3);
        let slot = half.machine.find(0, message.0).expect("it is open");
        assert!(half.machine.awaits_slices(slot).is_none());
        let said = half.pass(Duration::from_millis(1));
        let start = if first { 0 } else { 1_000 };
        assert_eq!(asked(&said)[..2], [(start, 3_000), (4_000, 40_000)]);
    }
}

/// [P-5.4] [P-8.5] Slices prove nothing: they put a question off, and for no longer than the longest patience. Whoever sends them for ever
/// keeps nothing open.
#[test]
fn slices_are_no_sign_of_life() {
    let (mut half, message) = waiting(2);
    let slot = half.machine.find(0, message.0).expect("it is open");
    let (most, step) = (half.machine.config().resend_max, Duration::from_micros(100));
    let (mut waited, mut said) = (Duration::ZERO, Vec::new());
    while asked(&said).is_empty() {
        let span = message.1.geometry.sealed_with(8);
        half.machine.stage(half.now, slot, 8..9, &span);
        said = half.pass(step);
        waited += step;
        assert!(waited < most * 2, "it is never asked");
    }
    assert!(waited >= most, "{waited:?}");
    // Three seconds without a record: its sender is given up.
    for _ in 0..40_000 {
        let Some(slot) = half.machine.find(0, message.0) else { return };
        let span = message.1.geometry.sealed_with(8);
        half.machine.stage(half.now, slot, 8..9, &span);
        half.pass(step);
        if half.machine.next_event().is_some() {
            return;
        }
    }
    panic!("it is kept for ever");
}
