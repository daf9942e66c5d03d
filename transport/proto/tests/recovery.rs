//! What is asked for again, what is answered, and when somebody is given up.

mod half;

use std::time::Duration;

use half::{Half, Message, message, ours, serving, theirs};
use proto::config::{Config, GrantWindow};
use proto::io::{Arrival, Event, Failure, State};
use proto::time::Instant;
use wire::control::{Frame, RefusalCode};
use wire::geometry::Geometry;
use wire::trailer::Kind;

const LONG: Duration = Duration::from_secs(20);

/// The shortest patience here: more than the answer time that the peer starts with.
const MS: Duration = Duration::from_millis(1);

fn config() -> Config {
    Config { unscheduled_bytes: 10_000, grant_window: GrantWindow::Fixed(40_000), resend_min: MS, ..serving() }
}

fn request(sequence: u64, length: u32) -> Message {
    message(theirs(sequence), Kind::Request, length, 10_000)
}

fn resends(said: &[Frame]) -> Vec<(u32, u32)> {
    let resend = |frame: &Frame| {
        if let Frame::Resend { start, end, .. } = *frame { Some((start, end)) } else { None }
    };
    said.iter().filter_map(resend).collect()
}

/// [P-8.5] The receiver asks for the gaps, and for nothing that it has or did not grant.
#[test]
fn gaps_only() {
    let mut half = Half::new(config());
    let m = request(0, 100_000);
    for index in [0, 1, 4, 5, 8] {
        half.record(&m, index);
    }
    half.said();
    let said = half.pass(Duration::from_millis(1));
    assert_eq!(resends(&said), [(2_000, 4_000), (6_000, 8_000), (9_000, 45_000)]);
}

/// [P-8.5] A request to repeat what was not granted tells of a grant that got lost.
#[test]
fn a_lost_grant_is_inferred() {
    let mut half = Half::new(config());
    half.begin(ours(0), Kind::OneWay, 50_000);
    assert_eq!(half.sent(), [(ours(0), 0, 10)]);
    half.frame(Frame::Resend { rpc: ours(0), start: 10_000, end: 30_000 });
    assert_eq!(half.sent(), [(ours(0), 10, 30)]);
}

/// [P-8.5] Pauses between questions double, up to the longest.
#[test]
fn questions_become_rare() {
    let mut half = Half::new(config());
    half.begin(ours(0), Kind::Request, 1_000);
    half.sent();
    assert_eq!(half.pass(Duration::from_micros(999)), []);
    assert_eq!(half.pass(Duration::from_micros(1)), [Frame::Resend { rpc: ours(0), start: 0, end: u32::MAX }]);
    assert_eq!(half.pass(Duration::from_millis(1)).len(), 1);
    assert_eq!(half.pass(Duration::from_millis(1)).len(), 0);
    assert_eq!(half.pass(Duration::from_millis(124)).len(), 5);
    assert_eq!(half.pass(Duration::from_millis(1000)).len(), 10);
}

/// [P-8.5] BUSY keeps a call alive for as long as the peer says it, and does not make us ask faster.
#[test]
fn busy_keeps_a_call_alive() {
    let mut half = Half::new(config());
    half.begin(ours(0), Kind::Request, 1_000);
    half.sent();
    let mut asked = 0;
    let mut said = half.pass(Duration::from_millis(200));
    for _ in 0..200 {
        asked += resends(&said).len();
        half.frame(Frame::Busy { rpc: ours(0) });
        said = half.pass(Duration::from_millis(100));
    }
    assert!(half.events().is_empty() && asked < 230, "{asked} questions in 20 s");
    half.pass(Duration::from_secs(4));
    let silent = Event::Failed { slot: 0, why: Failure::PeerSilent, may_have_run: true };
    assert_eq!(half.events(), [silent]);
}

/// A request in service answers questions with BUSY; one that is half here, with what is missing.
#[test]
fn a_question_for_the_response() {
    let mut half = Half::new(config());
    half.record(&request(0, 500), 0);
    half.bytes(&request(1, 3_000), 1_000..2_000);
    half.bytes(&request(2, 90_000), 0..10_000);
    half.said();
    let slot = half.slot(theirs(2));
    let granted = half.machine.incoming(slot).expect("it comes in").granted();
    let ask = |sequence| Frame::Resend { rpc: theirs(sequence), start: 0, end: u32::MAX };
    for sequence in 0..4 {
        half.frame(ask(sequence));
    }
    let expected = [
        Frame::Busy { rpc: theirs(0) },
        Frame::Resend { rpc: theirs(1), start: 0, end: 1_000 },
        Frame::Resend { rpc: theirs(1), start: 2_000, end: 3_000 },
        Frame::Resend { rpc: theirs(2), start: 10_000, end: granted },
        Frame::Unknown { rpc: theirs(3) },
    ];
    assert_eq!(half.said(), expected);
}

/// [P-8.5] UNKNOWN makes everything that was sent go again; said again and again, it does not make a flood.
#[test]
fn unknown_restarts() {
    let mut half = Half::new(config());
    half.begin(ours(0), Kind::Request, 50_000);
    assert_eq!(half.sent(), [(ours(0), 0, 10)]);
    let mut rounds = 0;
    let end = half.now + Duration::from_secs(10);
    while half.now < end {
        if !resends(&half.pass(Duration::from_millis(1))).is_empty() {
            half.frame(Frame::Unknown { rpc: ours(0) });
            assert_eq!(half.sent(), [(ours(0), 0, 10)]);
            rounds += 1;
        }
    }
    assert!(half.events().is_empty(), "it lives");
    assert!((90..130).contains(&rounds), "{rounds} times in 10 s");
}

/// NEED_ACK is answered with ACK, with what is missing, with BUSY when grants are held back, or with UNKNOWN.
#[test]
fn need_ack() {
    let mut half = Half::new(Config { incoming_bytes_max: 0, ..config() });
    let one_way = |sequence, length| message(theirs(sequence), Kind::OneWay, length, 10_000);
    half.record(&one_way(0, 500), 0);
    half.record(&one_way(1, 2_000), 0);
    half.bytes(&one_way(2, 90_000), 0..10_000);
    half.bytes(&one_way(3, 90_000), 0..10_000);
    half.said();
    half.begin(ours(0), Kind::Request, 500);
    half.sent();
    let rpcs = [theirs(0), theirs(1), theirs(3), theirs(4), ours(0), ours(1)];
    for rpc in rpcs {
        half.frame(Frame::NeedAck { rpc });
    }
    let expected = [
        Frame::Ack { rpc: theirs(0) },
        Frame::Resend { rpc: theirs(1), start: 1_000, end: 2_000 },
        Frame::Busy { rpc: theirs(3) },
        Frame::Unknown { rpc: theirs(4) },
        Frame::Resend { rpc: ours(0), start: 0, end: u32::MAX },
        Frame::Ack { rpc: ours(1) },
    ];
    assert_eq!(half.said(), expected);
}

/// [P-8.9] [P-7.3] A response that nobody acknowledges: the server asks, and at last lets it go.
#[test]
fn a_response_without_ack() {
    let mut half = Half::new(config());
    half.record(&request(0, 500), 0);
    half.respond(theirs(0), 700);
    assert_eq!(half.sent(), [(theirs(0), 0, 1)]);
    let said = half.pass(LONG);
    assert!(said.len() > 10 && said.iter().all(|frame| *frame == Frame::NeedAck { rpc: theirs(0) }));
    assert_eq!(half.events(), [Event::Released { slot: 0, cancelled: false, acknowledged: false }]);
    // Its client comes back: it learns that the outcome is gone, and nothing runs again.
    assert_eq!(half.record(&request(0, 500), 0), Arrival::Duplicate);
    half.frame(Frame::Resend { rpc: theirs(0), start: 0, end: u32::MAX });
    assert_eq!(half.said(), [Frame::Refused { rpc: theirs(0), code: RefusalCode::Forgotten }]);
}

/// A sender that vanishes while we hold its grants back does not keep its slot; one that asks does.
#[test]
fn vanished_while_grants_are_held_back() {
    let mut half = Half::new(Config { overcommit: Some(1), incoming_bytes_max: 100, ..config() });
    half.open(1);
    let m = request(0, 50_000);
    half.record_of(1, &request(0, 20_000), 0);
    half.bytes(&m, 0..10_000);
    half.said();
    let slot = half.slot(m.0);
    assert_eq!(half.machine.incoming(slot).expect("it comes in").outstanding(), 0);
    for _ in 0..100 {
        half.machine.frame(half.now, 1, Frame::Busy { rpc: theirs(0) });
        half.frame(Frame::Resend { rpc: m.0, start: 0, end: u32::MAX });
        assert!(half.pass(Duration::from_millis(100)).contains(&Frame::Busy { rpc: m.0 }));
    }
    assert!(half.events().is_empty());
    let mut ended = Vec::new();
    for _ in 0..40 {
        half.machine.frame(half.now, 1, Frame::Busy { rpc: theirs(0) });
        half.pass(Duration::from_millis(100));
        ended.extend(half.events());
    }
    assert_eq!(ended, [Event::Released { slot, cancelled: false, acknowledged: false }]);
}

/// What was held back and is granted at last is asked for as soon as anything else.
#[test]
fn granted_after_a_long_wait() {
    let mut half = Half::new(Config { overcommit: Some(1), ..config() });
    let (short, long) = (request(0, 20_000), request(1, 50_000));
    half.record(&short, 0);
    half.bytes(&long, 0..10_000);
    half.said();
    for _ in 0..10 {
        half.frame(Frame::Busy { rpc: short.0 });
        half.frame(Frame::Resend { rpc: long.0, start: 0, end: u32::MAX });
        half.pass(Duration::from_millis(50));
    }
    half.bytes(&short, 1_000..20_000);
    let grant = Frame::Grant { rpc: long.0, offset: 50_000, priority: 0 };
    assert_eq!(half.pass(Duration::from_micros(999)), [grant]);
    assert_eq!(resends(&half.pass(Duration::from_micros(1))), [(10_000, 50_000)]);
}

/// A sender whose other messages go first says so, or it would be taken for dead.
#[test]
fn busy_while_others_go_first() {
    let mut half = Half::new(config());
    half.begin(ours(0), Kind::OneWay, 9_000);
    half.sent();
    half.begin(ours(1), Kind::OneWay, 2_000);
    half.begin(ours(2), Kind::OneWay, 5_000);
    half.frame(Frame::Resend { rpc: ours(2), start: 0, end: u32::MAX });
    assert_eq!(half.said(), [Frame::Busy { rpc: ours(2) }]);
    half.frame(Frame::Resend { rpc: ours(0), start: 3_000, end: 4_000 });
    assert_eq!(half.said(), [], "what little is left of it goes first");
    assert_eq!(half.sent()[0], (ours(0), 3, 4));
}

/// [P-8.6] A CANCEL that got lost is said again to who still asks for the request.
#[test]
fn a_lost_cancel() {
    let mut half = Half::new(config());
    let slot = half.begin(ours(0), Kind::Request, 50_000);
    half.sent();
    half.machine.cancel(slot);
    assert_eq!(half.said(), [Frame::Cancel { rpc: ours(0) }]);
    half.frame(Frame::Resend { rpc: ours(0), start: 3_000, end: 4_000 });
    assert_eq!(half.said(), [Frame::Cancel { rpc: ours(0) }]);
}

/// [P-7.3] The deadline ends a call, whatever the peer says; the peer is told. One that is complete has its result.
#[test]
fn the_deadline() {
    let mut half = Half::new(config());
    let deadline = half.now + Duration::from_millis(50);
    let geometry = request(0, 500).1.geometry;
    for sequence in 0..3 {
        half.machine.begin(half.now, 0, ours(sequence), Kind::Request, geometry, deadline);
        if sequence < 2 {
            half.sent();
        }
    }
    half.record(&message(ours(0), Kind::Response, 500, 500), 0);
    let (complete, unsent) = (half.slot(ours(0)), half.slot(ours(2)));
    let said = half.pass(Duration::from_secs(1));
    assert_eq!(
        said.iter().filter(|f| matches!(f, Frame::Cancel { .. })).collect::<Vec<_>>(),
        [&Frame::Cancel { rpc: ours(1) }]
    );
    let events = half.events();
    assert_eq!(events.len(), 2);
    assert!(events.contains(&Event::Failed { slot: unsent, why: Failure::Deadline, may_have_run: false }));
    assert_eq!(half.machine.rpc(complete).map(|(_, _, state)| state), Some(State::Complete));
}

/// Silence is not the peer's as long as what we have for it waits to go out.
#[test]
fn our_own_silence() {
    let mut half = Half::new(config());
    half.begin(ours(0), Kind::Request, 1_000);
    assert_eq!(half.pass(LONG), []);
    half.sent();
    assert!(half.events().is_empty());
}

/// [P-8.5] A peer without a trace of our message forgot its grants as well: what it did not allow is not sent again.
#[test]
fn unknown_after_grants() {
    let mut half = Half::new(config());
    half.begin(ours(0), Kind::Request, 50_000);
    half.frame(Frame::Grant { rpc: ours(0), offset: 30_000, priority: 0 });
    half.sent();
    half.frame(Frame::Unknown { rpc: ours(0) });
    assert_eq!(half.sent(), [(ours(0), 0, 10)]);
    half.frame(Frame::Grant { rpc: ours(0), offset: 20_000, priority: 0 });
    assert_eq!(half.sent(), [(ours(0), 10, 20)]);
    half.frame(Frame::Refused { rpc: ours(0), code: RefusalCode::Forgotten });
    assert!(matches!(half.events()[..], [Event::Failed { may_have_run: true, .. }]));
}

/// [P-8.5] A question for all that was sent, asked before that could be there, repeats nothing.
#[test]
fn a_question_that_crosses_its_answer() {
    let mut half = Half::new(config());
    half.record(&request(0, 500), 0);
    half.respond(theirs(0), 700);
    assert_eq!(half.sent(), [(theirs(0), 0, 1)]);
    let ask = Frame::Resend { rpc: theirs(0), start: 0, end: u32::MAX };
    half.now += half::RTT / 2;
    half.frame(ask);
    assert_eq!(half.sent(), []);
    half.now += half::RTT;
    half.frame(ask);
    assert_eq!(half.sent(), [(theirs(0), 0, 1)]);
}

/// [P-7.2] [P-7.1] A request that states an old floor, to a peer whose memory is full of gaps: our floor of now ends it.
#[test]
fn a_floor_makes_room_for_what_states_an_old_one() {
    let mut half = Half::new(Config { intervals_max: 1, ..config() });
    half.record(&request(2, 500), 0);
    assert_eq!(half.record(&request(5, 500), 0), Arrival::NoRoom);
    half.frame(Frame::Resend { rpc: theirs(5), start: 0, end: u32::MAX });
    assert_eq!(half.said(), [Frame::Unknown { rpc: theirs(5) }]);
    half.frame(Frame::Floor { floor: 5 });
    assert!(matches!(half.record(&request(5, 500), 0), Arrival::New { .. }));
    // The other side: who is told UNKNOWN says its floor.
    for sequence in 0..3 {
        half.begin(ours(sequence), Kind::Request, 500);
    }
    half.sent();
    for sequence in [0, 1] {
        half.frame(Frame::Refused { rpc: ours(sequence), code: RefusalCode::NotServing });
    }
    half.events();
    half.frame(Frame::Unknown { rpc: ours(2) });
    assert_eq!(half.said(), [Frame::Floor { floor: 2 }]);
    assert_eq!(half.sent(), [(ours(2), 0, 1)]);
}

/// [P-8.5] Once a response has begun, nobody needs the request: a question about it is not answered with a question, whose answer might
/// be the same question again.
#[test]
fn a_question_about_an_answered_request_is_not_answered() {
    let mut half = Half::new(serving());
    half.begin(ours(0), Kind::Request, 300);
    half.sent();
    let response = message(ours(0), Kind::Response, 3_000, 3_000);
    half.record(&response, 0);
    half.said();
    assert!(half.frame(Frame::Resend { rpc: ours(0), start: 0, end: 300 }));
    assert_eq!(half.said(), []);
    // What is missing of the response is asked for in time all the same.
    let asked = half.pass(half.machine.config().resend_max);
    assert!(asked.contains(&Frame::Resend { rpc: ours(0), start: 1_000, end: 3_000 }), "{asked:?}");
}

/// Who sleeps may be late for what only watches for silence, but not for a caller's deadline; and what had one and ended wakes nobody again.
#[test]
fn an_alarm_waits_for_company() {
    const SLACK: Duration = Duration::from_millis(4);
    let mut half = Half::new(config());
    assert_eq!(half.machine.alarm_at(half.now, SLACK), Instant::FAR);
    half.begin(ours(0), Kind::Request, 500);
    half.sent();
    assert_eq!(half.machine.timeout_at(), half.now + MS);
    assert_eq!(half.machine.alarm_at(half.now, SLACK), half.now + SLACK);
    assert_eq!(half.machine.alarm_at(half.now, Duration::ZERO), half.now + MS);
    assert_eq!(half.machine.alarm_at(half.now, MS / 2), half.now + MS);
    let (geometry, deadline) = (Geometry::stated(500, 1000).expect("one record"), half.now + 2 * MS);
    let slot = half.machine.begin(half.now, 0, ours(1), Kind::Request, geometry, deadline);
    half.sent();
    assert_eq!(half.machine.alarm_at(half.now, SLACK), deadline);
    half.machine.cancel(slot);
    half.now = deadline;
    assert_eq!(half.machine.alarm_at(half.now, SLACK), half.now + SLACK);
    // One that is not looked at in time is found at once.
    half.machine.begin(half.now, 0, ours(2), Kind::Request, geometry, half.now + MS);
    half.now += 2 * MS;
    assert!(half.machine.alarm_at(half.now, SLACK) <= half.now + MS);
}
