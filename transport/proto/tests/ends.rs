//! How RPCs begin to count and cease to: at most once, acknowledgements, floors, refusals, cancels, closed sessions.

mod half;

use std::time::Duration;

use half::{Half, Message, message, ours, serving, theirs};
use proto::config::Config;
use proto::io::{Arrival, Event, Failure, State};
use proto::peer::{ACKS_MANY, ACKS_OWED_MAX, ACKS_PAUSE};
use wire::control::{Frame, RefusalCode};
use wire::limits::SEQUENCE_WINDOW;
use wire::trailer::Kind;

const NEW: fn(u32) -> Arrival = |slot| Arrival::New { slot, first: true, complete: true };

fn request(sequence: u64) -> Message {
    message(theirs(sequence), Kind::Request, 500, 500)
}

fn one_way(sequence: u64) -> Message {
    message(theirs(sequence), Kind::OneWay, 500, 500)
}

fn response(sequence: u64) -> Message {
    message(ours(sequence), Kind::Response, 500, 500)
}

fn acks(said: &[Frame]) -> usize {
    said.iter().filter(|frame| matches!(frame, Frame::Ack { .. })).count()
}

/// [P-7.1] A request that comes again never runs again: not in service, not answered, not long after.
#[test]
fn at_most_once() {
    let mut half = Half::new(serving());
    assert_eq!(half.record(&request(0), 0), NEW(0));
    assert_eq!(half.record(&request(0), 0), Arrival::Duplicate);
    half.respond(theirs(0), 100);
    assert_eq!(half.record(&request(0), 0), Arrival::Duplicate);
    half.frame(Frame::Ack { rpc: theirs(0) });
    assert_eq!(half.record(&request(0), 0), Arrival::Duplicate);
    assert_eq!(half.events(), [Event::Released { slot: 0, cancelled: false, acknowledged: true }]);
    assert_eq!(half.record(&request(0), 0), Arrival::Duplicate);
    assert_eq!(half.machine.rpcs_open(), 0);
}

/// A response that comes twice is delivered once, before and after the caller took it.
#[test]
fn one_response() {
    let mut half = Half::new(serving());
    let slot = half.begin(ours(0), Kind::Request, 500);
    half.sent();
    assert_eq!(half.record(&response(0), 0), NEW(slot));
    assert_eq!(half.record(&response(0), 0), Arrival::Duplicate);
    half.machine.free(slot);
    assert_eq!(half.record(&response(0), 0), Arrival::Unexpected);
}

/// [P-8.9] Acks wait for a ride for as long as configured, many of them for a short time only, and very many not at all.
#[test]
fn acks_are_batched() {
    let mut half = Half::new(serving());
    half.record(&one_way(0), 0);
    half.record(&one_way(1), 0);
    assert_eq!(half.pass(Duration::from_micros(3999)), []);
    assert_eq!(half.pass(Duration::from_micros(1)).len(), 2);
    let mut sequences = 2..;
    let mut come = |half: &mut Half, count: usize| {
        for sequence in sequences.by_ref().take(count) {
            assert_eq!(half.said(), []);
            half.record(&one_way(sequence), 0);
        }
    };
    come(&mut half, ACKS_MANY - 1);
    assert_eq!(half.pass(ACKS_PAUSE), []);
    come(&mut half, 1);
    assert_eq!(half.pass(ACKS_PAUSE - Duration::from_nanos(1)), []);
    come(&mut half, 20);
    assert_eq!(acks(&half.pass(Duration::from_nanos(1))), ACKS_MANY + 20);
    come(&mut half, ACKS_OWED_MAX);
    assert_eq!(acks(&half.said()), ACKS_OWED_MAX);
    assert_eq!(half.pass(Duration::from_secs(1)), []);
}

/// [P-8.9] A short response is acknowledged late, a longer one as soon as anything, in one record or in several; and who waits for that asks later, too.
#[test]
fn acks_of_short_responses_wait_longer() {
    let Config { ack_delay, short_ack_delay, resend_min, .. } = serving();
    let just = Duration::from_nanos(1);
    let mut half = Half::new(serving());
    for (sequence, length, delay) in [(0, 1024, short_ack_delay), (1, 1025, ack_delay), (2, 50_000, ack_delay)] {
        half.begin(ours(sequence), Kind::Request, 500);
        half.sent();
        half.bytes(&message(ours(sequence), Kind::Response, length, length), 0..length);
        assert_eq!(half.pass(delay - just), []);
        assert_eq!(half.pass(just), [Frame::Ack { rpc: ours(sequence) }]);
    }
    for (sequence, length, ride) in
        [(0, 1024, (short_ack_delay + ack_delay) * 2), (1, 1025, ack_delay * 4), (2, 50_000, ack_delay * 4)]
    {
        half.record(&request(sequence), 0);
        half.respond(theirs(sequence), length);
        half.sent();
        let mut waited = Duration::ZERO;
        while !half.pass(resend_min).contains(&Frame::NeedAck { rpc: theirs(sequence) }) {
            waited += resend_min;
        }
        assert!(waited >= ride - resend_min && waited < ride * 2, "{waited:?}");
        half.frame(Frame::Ack { rpc: theirs(sequence) });
    }
}

/// Who tells one peer tells those, too, that would be told soon.
#[test]
fn acks_to_many_peers_go_together() {
    let mut half = Half::new(serving());
    for peer in 1..4 {
        half.open(peer);
    }
    for (peer, pause) in [(0, 1900), (1, 300), (2, 0), (3, 0)] {
        half.record_of(peer, &one_way(0), 0);
        assert_eq!(half.pass(Duration::from_micros(pause)), []);
    }
    // The first of them waits 4 ms, the second's were up 1.9 ms later, and the rest had more than half of theirs left.
    assert_eq!(half.pass(Duration::from_micros(1800)).len(), 2);
    assert_eq!(half.pass(Duration::from_micros(2200)).len(), 2);
    assert_eq!(half.pass(Duration::from_secs(1)), []);
}

/// [P-8.9] Acks ride in messages, and in control packets that go anyway.
#[test]
fn acks_ride() {
    let mut half = Half::new(serving());
    for sequence in 0..7 {
        half.record(&one_way(sequence), 0);
    }
    let mut riding = [theirs(77); 5];
    assert_eq!(half.machine.take_acks(0, 0, &mut riding), 5);
    half.frame(Frame::Resend { rpc: theirs(77), start: 0, end: u32::MAX });
    assert_eq!(half.said().len(), 3);
    assert_eq!(half.pass(Duration::from_secs(1)), []);
}

/// [P-7.2] What a message states as its floor needs no ack; what is above does.
#[test]
fn a_floor_acknowledges() {
    let mut half = Half::new(serving());
    for sequence in 0..4 {
        let slot = half.begin(ours(sequence), Kind::Request, 500);
        half.sent();
        if sequence != 2 {
            half.record(&response(sequence), 0);
            half.machine.free(slot);
        }
    }
    assert_eq!(half.machine.floor(0), 2);
    let mut riding = [ours(77); 5];
    assert_eq!(half.machine.take_acks(0, half.machine.floor(0), &mut riding), 1);
    assert_eq!(riding[0], ours(3));
}

/// [P-7.2] A floor releases all responses below it, whatever order they were given in, and none above.
#[test]
fn a_floor_releases_responses() {
    let mut half = Half::new(serving());
    for sequence in 0..6 {
        half.record(&request(sequence), 0);
    }
    for sequence in [5, 1, 4, 0, 3] {
        half.respond(theirs(sequence), 100);
    }
    let mut next = request(6);
    next.1.floor_distance = 2;
    half.record(&next, 0);
    let events = half.events();
    assert_eq!(events.len(), 3, "0, 1 and 3; 2 is still in service");
    assert!(events.iter().all(|event| matches!(event, Event::Released { acknowledged: true, .. })));
    assert_eq!(half.machine.rpcs().filter(|info| info.state == State::Responding).count(), 2);
    assert_eq!(half.record(&request(0), 0), Arrival::Duplicate);
}

/// [P-7.2] Sequences beyond the window are not taken; a floor moves it.
#[test]
fn the_window() {
    let mut half = Half::new(serving());
    let far = message(theirs(SEQUENCE_WINDOW), Kind::Request, 500, 500);
    assert_eq!(half.record(&far, 0), Arrival::OutsideWindow);
    let mut nearer = far;
    nearer.1.floor_distance -= 1;
    assert!(matches!(half.record(&nearer, 0), Arrival::New { .. }));
    assert_eq!(half.record(&request(0), 0), Arrival::Duplicate, "below the floor");
    assert!(half.machine.may_begin(0, SEQUENCE_WINDOW - 1) && !half.machine.may_begin(0, SEQUENCE_WINDOW));
    half.machine.skip(0, ours(0));
    assert!(half.machine.may_begin(0, SEQUENCE_WINDOW));
}

/// [P-8.6] A request whose CANCEL came first never runs.
#[test]
fn cancelled_before_it_came() {
    let mut half = Half::new(serving());
    half.frame(Frame::Cancel { rpc: theirs(0) });
    assert_eq!(half.record(&request(0), 0), Arrival::Duplicate);
    // One that is half here ends; one in service is reported as cancelled.
    let long = message(theirs(1), Kind::Request, 5_000, 5_000);
    half.record(&long, 2);
    half.record(&request(2), 0);
    half.frame(Frame::Cancel { rpc: theirs(1) });
    half.frame(Frame::Cancel { rpc: theirs(2) });
    let released = |slot, cancelled| Event::Released { slot, cancelled, acknowledged: false };
    assert_eq!(half.events(), [released(0, false), released(1, true)]);
    assert_eq!(half.record(&long, 0), Arrival::Duplicate);
    assert!(!half.frame(Frame::Cancel { rpc: ours(0) }), "it cannot cancel ours");
}

/// [P-8.8] A refusal is repeated for as long as its message comes, and is never followed by an ack.
#[test]
fn not_serving() {
    let mut half = Half::new(Config { serving: false, ..Config::default() });
    let refused = |sequence| Frame::Refused { rpc: theirs(sequence), code: RefusalCode::NotServing };
    let long = message(theirs(0), Kind::OneWay, 3_000, 3_000);
    for index in 0..3 {
        assert_eq!(half.record(&long, index), Arrival::Refused);
    }
    assert_eq!(half.said(), [refused(0)]);
    half.frame(Frame::NeedAck { rpc: theirs(0) });
    assert_eq!(half.pass(Duration::from_secs(1)), [Frame::Unknown { rpc: theirs(0) }]);
    assert_eq!(half.record(&long, 0), Arrival::Refused);
    assert_eq!(half.said(), [refused(0)]);
    // Our own calls still get their responses.
    let slot = half.begin(ours(0), Kind::Request, 500);
    half.sent();
    assert_eq!(half.record(&response(0), 0), NEW(slot));
}

/// [P-8.8] Messages over the limit are refused: requests with the reason, responses by failing their call.
#[test]
fn too_long() {
    let mut half = Half::new(Config { message_bytes_max: 499, ..serving() });
    assert_eq!(half.record(&request(0), 0), Arrival::Refused);
    assert_eq!(half.said(), [Frame::Refused { rpc: theirs(0), code: RefusalCode::TooLong }]);
    let slot = half.begin(ours(0), Kind::Request, 100);
    half.sent();
    assert_eq!(half.record(&response(0), 0), Arrival::Refused);
    half.frame(Frame::NeedAck { rpc: ours(0) });
    let why = Failure::Refused(RefusalCode::TooLong);
    assert_eq!(half.events(), [Event::Failed { slot, why, may_have_run: true }]);
    assert_eq!(half.said(), [Frame::Ack { rpc: ours(0) }], "the peer may forget it");
}

/// [P-8.8] [P-7.3] REFUSED ends a call of ours with its reason, and no call of the peer's.
#[test]
fn refused() {
    let mut half = Half::new(serving());
    half.record(&request(0), 0);
    assert!(!half.frame(Frame::Refused { rpc: theirs(0), code: RefusalCode::NotServing }));
    for (sequence, code, may_have_run) in
        [(0, RefusalCode::NotServing, false), (1, RefusalCode::Forgotten, true), (2, RefusalCode::Aborted, true)]
    {
        let slot = half.begin(ours(sequence), Kind::Request, 500);
        half.sent();
        half.frame(Frame::Refused { rpc: ours(sequence), code });
        half.frame(Frame::Refused { rpc: ours(sequence), code });
        assert_eq!(half.events(), [Event::Failed { slot, why: Failure::Refused(code), may_have_run }]);
    }
    assert_eq!(half.machine.rpcs_open(), 1);
}

/// [P-8.7] A peer may have so many RPCs open and no more; the next is taken when one has ended.
#[test]
fn rpcs_per_peer() {
    let mut half = Half::new(Config { rpcs_per_peer_max: 2, ..serving() });
    half.record(&request(0), 0);
    half.record(&request(1), 0);
    assert_eq!(half.record(&request(2), 0), Arrival::NoRoom);
    half.machine.refuse(0);
    assert_eq!(half.events().len(), 1);
    assert!(matches!(half.record(&request(2), 0), Arrival::New { .. }));
}

/// [P-8.7] What cannot be buffered is left out, and taken when there is room. A peer that holds much leaves as much to
/// others.
#[test]
fn no_room() {
    let mut half = Half::new(Config { buffered_bytes_max: 10_000, ..serving() });
    let long = |sequence| message(theirs(sequence), Kind::Request, 4_000, 4_000);
    half.record(&long(0), 0);
    assert_eq!(half.record(&long(1), 0), Arrival::NoRoom);
    half.open(1);
    assert!(matches!(half.record_of(1, &long(1), 0), Arrival::New { .. }), "another peer's part");
    // A response that finds no room is asked for again.
    let slot = half.begin(ours(0), Kind::Request, 500);
    half.sent();
    let answer = message(ours(0), Kind::Response, 5_000, 5_000);
    assert_eq!(half.record(&answer, 0), Arrival::NoRoom);
    let ask = |rpc| Frame::Resend { rpc, start: 0, end: u32::MAX };
    let said = half.pass(Duration::from_millis(1));
    assert!(said.contains(&Frame::Busy { rpc: ours(0) }) && !said.contains(&ask(ours(0))), "{said:?}");
    // It waits for as long as that takes: its peer is not silent.
    for _ in 0..50 {
        half.frame(Frame::Busy { rpc: theirs(0) });
        half.machine.frame(half.now, 1, Frame::Busy { rpc: theirs(1) });
        half.frame(Frame::NeedAck { rpc: ours(0) });
        half.frame(ask(theirs(1)));
        let said = half.pass(Duration::from_millis(100));
        assert!([ours(0), theirs(1)].iter().all(|rpc| said.contains(&Frame::Busy { rpc: *rpc })), "{said:?}");
        assert!(!said.contains(&ask(ours(0))), "nobody asks for what there is no room for");
    }
    half.frame(Frame::Cancel { rpc: theirs(0) });
    assert_eq!(half.events().len(), 1, "the cancelled one, not ours");
    assert_eq!(half.said(), [ask(theirs(1))], "the shorter one first");
    assert_eq!(half.record(&answer, 0), Arrival::NoRoom, "that room is kept");
    half.frame(Frame::Cancel { rpc: theirs(1) });
    assert!(half.said().contains(&ask(ours(0))));
    assert_eq!(half.record(&answer, 0), Arrival::New { slot, first: true, complete: false });
    assert_eq!(half.machine.buffered_bytes(), 9_000);
}

/// [P-7.1] A request that could not be remembered as finished does not run. It runs when there is memory again.
#[test]
fn no_memory_no_run() {
    let mut half = Half::new(Config { intervals_max: 1, ..serving() });
    let late = message(theirs(7), Kind::Request, 2_000, 2_000);
    half.record(&late, 0);
    half.record(&request(3), 0);
    assert_eq!(half.record(&late, 1), Arrival::NoRoom);
    assert_eq!(half.machine.find(0, theirs(7)), None);
    assert_eq!(half.machine.buffered_bytes(), 500);
    for sequence in 0..3 {
        half.record(&request(sequence), 0);
    }
    half.record(&late, 0);
    assert!(matches!(half.record(&late, 1), Arrival::New { complete: true, .. }));
}

/// [P-4.4] All records of a message tell the same of it, and none lies past its end.
#[test]
fn contradictions() {
    let mut half = Half::new(serving());
    let m = message(theirs(0), Kind::Request, 5_000, 5_000);
    assert_eq!(half.record(&m, 5), Arrival::Contradiction);
    half.record(&m, 0);
    assert_eq!(half.record(&m, u16::MAX), Arrival::Contradiction);
    assert_eq!(half.record(&message(theirs(0), Kind::Request, 5_001, 5_000), 1), Arrival::Contradiction);
    assert_eq!(half.record(&message(theirs(0), Kind::OneWay, 5_000, 5_000), 1), Arrival::Contradiction);
    assert_eq!(half.record(&message(theirs(1), Kind::Response, 500, 500), 0), Arrival::Contradiction);
    half.begin(ours(0), Kind::OneWay, 500);
    assert_eq!(half.record(&message(ours(0), Kind::Request, 500, 500), 0), Arrival::Contradiction);
    assert_eq!(half.record(&message(ours(0), Kind::Response, 500, 500), 0), Arrival::Contradiction);
    assert!(matches!(half.record(&m, 1), Arrival::New { .. }), "the message itself is unharmed");
}

/// [P-2.4] A session that ends takes everything with it, also what is complete and was not taken yet.
#[test]
fn a_closed_session() {
    let mut half = Half::new(serving());
    half.record(&request(0), 0);
    half.record(&one_way(1), 0);
    half.record(&message(theirs(2), Kind::Request, 90_000, 5_000), 0);
    for sequence in 0..2 {
        half.begin(ours(sequence), Kind::Request, 500);
    }
    half.sent();
    half.record(&response(1), 0);
    half.said();
    half.machine.close_peer(0, Failure::SessionClosed);
    let events = half.events();
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Failed { .. })).count(), 2);
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Released { .. })).count(), 3);
    assert_eq!((half.machine.rpcs_open(), half.machine.buffered_bytes(), half.machine.incoming_bytes()), (0, 0, 0));
    half.machine.handle_timeout(half.now);
    assert_eq!((half.machine.timeout(), half.machine.peek_talkative()), (None, None));
    half.open(0);
    assert_eq!(half.record(&request(0), 0), NEW(half.slot(theirs(0))), "a new session knows nothing of the old");
}

/// An event is never read as one of the next RPC in its slot.
#[test]
fn events_belong_to_their_rpc() {
    let mut half = Half::new(serving());
    let slot = half.begin(ours(0), Kind::Request, 500);
    half.sent();
    half.frame(Frame::Refused { rpc: ours(0), code: RefusalCode::Aborted });
    half.machine.cancel(slot);
    assert_eq!(half.begin(ours(1), Kind::Request, 500), slot);
    assert_eq!(half.events(), []);
    assert_eq!(half.machine.rpcs_open(), 1);
}

/// [P-8.6] A call that is cancelled before anything of it left is nobody's business; one that is complete needs no
/// cancel.
#[test]
fn cancels_that_nobody_needs() {
    let mut half = Half::new(serving());
    let slot = half.begin(ours(0), Kind::Request, 500);
    half.machine.cancel(slot);
    let slot = half.begin(ours(1), Kind::Request, 500);
    half.sent();
    half.record(&response(1), 0);
    half.machine.cancel(slot);
    assert_eq!((half.said(), half.machine.rpcs_open()), (vec![], 0));
    assert_eq!(half.pass(Duration::from_secs(1)), [Frame::Ack { rpc: ours(1) }]);
}
