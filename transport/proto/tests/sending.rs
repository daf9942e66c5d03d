//! What the sender sends when: the unscheduled limit, the pacer, incast control, the order.

mod half;

use std::time::Duration;

use half::{Half, RTT, message, ours, serving, theirs};
use proto::config::{Config, Order};
use proto::io::Work;
use proto::time::Instant;
use wire::control::Frame;
use wire::geometry::Geometry;
use wire::trailer::{Kind, Trailer};

const TEN_GIGABIT: u64 = 10_000_000_000;

fn paced() -> Config {
    Config {
        unscheduled_bytes: 1 << 20,
        link_bits_per_second: Some(TEN_GIGABIT),
        link_usage_per_mille: 1000,
        link_packet_bytes: 250,
        backlog_max: Duration::ZERO,
        ..serving()
    }
}

/// Sends for `time`, whenever the machine says that it may; everything that went, with when.
fn run(half: &mut Half, time: Duration) -> Vec<(Instant, Work)> {
    let (mut sent, end) = (Vec::new(), half.now + time);
    loop {
        while let Some(work) = half.machine.next_work(half.now, 64) {
            sent.push((half.now, work));
        }
        assert_eq!(half.machine.peek_work(half.now), None);
        match half.machine.timeout().filter(|at| *at <= end) {
            Some(at) => {
                half.now = half.now.max(at);
                half.machine.handle_timeout(half.now);
                half.said();
            }
            None => return sent,
        }
    }
}

/// [P-8.10] One packet at a time, each when the link has sent the one before: 1,000 bytes and 250 around them take 1 us.
#[test]
fn one_packet_at_a_time() {
    let mut half = Half::new(paced());
    half.begin(ours(0), Kind::OneWay, 20_000);
    let sent = run(&mut half, Duration::from_micros(100));
    assert_eq!(sent.len(), 20);
    assert!(sent.windows(2).all(|two| two[1].0.since(two[0].0) == Duration::from_micros(1)), "{sent:?}");
}

/// [P-8.10] A shorter message goes before what is held back, a very short one at once; control counts and never waits.
#[test]
fn the_shortest_at_every_moment() {
    let mut half = Half::new(paced());
    half.begin(ours(0), Kind::OneWay, 50_000);
    assert!(half.machine.next_work(half.now, 64).is_some_and(|work| work.end == 1));
    half.begin(ours(1), Kind::OneWay, 3_000);
    half.begin(ours(2), Kind::OneWay, 999);
    let next = half.machine.next_work(half.now, 64).map(|work| half.machine.rpc(work.slot).expect("open").0);
    assert_eq!((next, half.machine.next_work(half.now, 64)), (Some(ours(2)), None));
    half.machine.count_sent(half.now, 1_065);
    let sent = run(&mut half, Duration::from_micros(10));
    let first = half.now.since(sent[0].0);
    assert!(sent[..3].iter().all(|(_, work)| half.machine.rpc(work.slot).expect("open").0 == ours(1)), "{first:?}");
    // 999 and 1,000 bytes of message and the control packet, each with 250 or 185 around it.
    assert_eq!(sent[0].0, Instant::from_nanos(1_000_000 + 1_000 + 1_000 + 1_000));
}

/// [P-8.10] The longest message gets its part of the link although shorter ones always wait; without the part it does not.
#[test]
fn the_oldest_has_a_part() {
    for (pacer_fifo_per_mille, expected) in [(50, 45..=55), (0, 0..=0)] {
        let mut half = Half::new(Config { pacer_fifo_per_mille, ..paced() });
        half.begin(ours(0), Kind::OneWay, 1_000_000);
        let mut of_oldest = 0;
        for sequence in 1..500 {
            half.begin(ours(sequence), Kind::OneWay, 2_000);
            half.begin(ours(1_000 + sequence), Kind::OneWay, 2_000);
            for (_, work) in run(&mut half, Duration::from_micros(2)) {
                of_oldest += u32::from(half.machine.rpc(work.slot).expect("open").0 == ours(0));
            }
        }
        assert!(expected.contains(&of_oldest), "{of_oldest}");
    }
}

/// [P-8.10] A link whose rate is not known holds nothing back; one whose rate becomes known does from then on.
#[test]
fn no_rate_no_pacing() {
    let mut half = Half::new(Config { link_bits_per_second: None, ..paced() });
    half.begin(ours(0), Kind::OneWay, 20_000);
    assert_eq!(half.machine.next_work(half.now, 64).map(|work| work.end), Some(20));
    half.begin(ours(1), Kind::OneWay, 20_000);
    half.machine.set_link_rate(Some(TEN_GIGABIT));
    assert_eq!(run(&mut half, Duration::from_micros(100)).len(), 20);
    half.now += Duration::from_micros(100);
    half.begin(ours(2), Kind::OneWay, 20_000);
    assert_eq!(half.machine.next_work(half.now, 64).map(|work| work.end), Some(1));
    half.machine.set_link_rate(None);
    assert_eq!(half.machine.next_work(half.now, 64).map(|work| work.end), Some(20));
}

/// [P-8.4] In the order of age the older goes first, however long it is.
#[test]
fn order_by_age() {
    for (order, first) in [(Order::Srpt, ours(1)), (Order::Fifo, ours(0))] {
        let mut half = Half::new(Config { order, ..serving() });
        half.begin(ours(0), Kind::OneWay, 90_000);
        half.begin(ours(1), Kind::OneWay, 2_000);
        assert_eq!(half.sent()[0].0, first);
    }
}

/// [P-8.1] With a known rate a message's unscheduled bytes are what the link carries in the shortest answer time; that the
/// server thinks for long does not count.
#[test]
fn unscheduled_bytes_follow_the_path() {
    let mut half = Half::new(Config { backlog_max: Duration::from_secs(1), ..paced() });
    let limit = |half: &Half| half.machine.unscheduled(0, Geometry::stated(900_000, 1000).expect("it can be cut"));
    assert_eq!(limit(&half), 125_000, "of the handshake's {RTT:?}");
    for (sequence, service) in [(0, 40), (1, 900), (2, 50)] {
        let slot = half.begin(ours(sequence), Kind::Request, 500);
        half.sent();
        half.now += Duration::from_micros(service);
        half.record(&message(ours(sequence), Kind::Response, 500, 500), 0);
        half.machine.free(slot);
    }
    assert_eq!(limit(&half), 50_000);
    half.machine.set_link_rate(Some(TEN_GIGABIT / 5));
    assert_eq!(limit(&half), 10_000);
    half.machine.set_link_rate(None);
    assert_eq!(limit(&half), 900_000);
}

/// [P-8.11] A client that waits for many responses says so; it does not when they are here.
#[test]
fn many_calls_say_so() {
    let mut half = Half::new(Config { incast_calls: Some(2), ..serving() });
    let geometry = Geometry::stated(500, 1000).expect("it can be cut");
    let says = |half: &Half, kind| half.machine.trailer_to_begin(0, ours(9), kind, geometry).incast;
    for sequence in 0..2 {
        assert!(!says(&half, Kind::Request));
        half.begin(ours(sequence), Kind::Request, 500);
        half.begin(ours(10 + sequence), Kind::OneWay, 500);
    }
    assert!(says(&half, Kind::Request) && !says(&half, Kind::OneWay));
    half.sent();
    let answer = message(ours(0), Kind::Response, 2_000, 2_000);
    half.record(&answer, 0);
    assert!(says(&half, Kind::Request), "not all of it is here");
    half.record(&answer, 1);
    assert!(!says(&half, Kind::Request));
    half.machine.free(half.slot(ours(0)));
    half.begin(ours(2), Kind::Request, 500);
    assert!(says(&half, Kind::Request));
    half.machine.cancel(half.slot(ours(1)));
    assert!(!says(&half, Kind::Request));
    let off = Half::new(Config { incast_calls: None, ..serving() });
    assert!(!says(&off, Kind::Request));
}

/// [P-8.11] The response to such a request holds back, but for a record at least; it comes when it is granted.
#[test]
fn a_response_that_holds_back() {
    for (incast, limit, records) in [(true, 500, 1), (true, 3_000, 3), (false, 500, 50)] {
        let mut half = Half::new(Config { incast_unscheduled_bytes: limit, ..serving() });
        let (rpc, trailer) = message(theirs(0), Kind::Request, 500, 500);
        half.record(&(rpc, Trailer { incast, ..trailer }), 0);
        let geometry = Geometry::stated(50_000, 1000).expect("it can be cut");
        let stated = half.machine.trailer_to_respond(half.slot(rpc), geometry).expect("it is in service");
        half.respond(rpc, 50_000);
        assert_eq!((half.sent(), stated.unscheduled), (vec![(rpc, 0, records)], records * 1_000));
        half.frame(Frame::Grant { rpc, offset: 50_000, priority: 0 });
        assert_eq!(half.sent().last().map_or(50, |sent| sent.2), 50);
    }
}
