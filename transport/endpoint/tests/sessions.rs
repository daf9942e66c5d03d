//! How sessions begin, are limited, and end, and what becomes of the calls in them.

mod world;

use std::time::Duration;

use world::forger::Forger;
use world::{CLIENT, Datagram, SERVER, World, address, body};

use endpoint::endpoint::To;
use endpoint::error::{Ended, Misuse};
use endpoint::events::Event;
use proto::io::Failure;
use wire::control::RefusalCode;
use wire::header::PacketType;
use wire::ids::Side;
use wire::trailer::Kind;

const MINUTE: Duration = Duration::from_secs(60);

/// Why the calls of `at` ended, and whether they may have run.
fn failures(world: &World, at: usize) -> Vec<(String, bool)> {
    let failed = |event: &Event| match event {
        Event::Failed { why, may_have_run, .. } => Some((why.to_string(), *may_have_run)),
        _ => None,
    };
    world.events[at].iter().filter_map(failed).collect()
}

fn why(failure: Failure) -> String {
    Ended::Failed(failure).to_string()
}

/// [P-2.2] In one session both sides begin RPCs, under sequences of their own.
#[test]
fn both_sides_begin() {
    let mut world = World::new().warm();
    let to = To::Session(world.session(SERVER));
    for length in [0, 100, 9_000] {
        world.try_send(SERVER, to, Kind::Request, &body(length)).expect("it is taken");
        world.request(CLIENT, length + 1);
    }
    world.pass(Duration::from_millis(50));
    let sorted = |at: usize| {
        let mut lengths = world.outcome(at).0;
        lengths.sort_unstable();
        lengths
    };
    // Each end had three requests and three responses.
    let all = vec![0, 1, 100, 101, 9_000, 9_001];
    assert_eq!((sorted(SERVER), sorted(CLIENT)), (all.clone(), all));
    world.assert_quiet();
}

/// [P-2.4] What is heard of no more is forgotten by both sides, without a word; the next call makes a new session.
#[test]
fn idle_sessions_are_forgotten() {
    let mut world = World::with(1, 1, |_, config| config.session_idle = MINUTE).warm();
    let old = world.session(CLIENT);
    for _ in 0..5 {
        // As long as something is heard, it lives.
        world.pass(MINUTE / 2);
        assert_eq!(world.request(CLIENT, 10).session, old);
    }
    world.pass(MINUTE / 2);
    let said = world.trace.len();
    world.pass(2 * MINUTE);
    assert_eq!(world.trace.len(), said);
    assert_eq!((world.ends[CLIENT].sessions().len(), world.ends[SERVER].sessions().len()), (0, 0));
    assert_eq!(world.timeout(), None, "nothing is left to wait for");
    assert_ne!(world.request(CLIENT, 10).session, old);
    world.settle();
    assert_eq!(world.outcome(CLIENT), (vec![10; 6], 0));
}

/// [P-5.4] What does not open keeps no session alive.
#[test]
fn forgeries_keep_nothing_alive() {
    let mut world = World::with(1, 1, |_, config| config.session_idle = MINUTE).warm();
    let mut forged: Vec<Datagram> = world.trace.iter().filter(|datagram| datagram.sealed()).cloned().collect();
    for datagram in &mut forged {
        *datagram.bytes.last_mut().expect("a tag") ^= 1;
    }
    for _ in 0..10 {
        world.pass(MINUTE / 4);
        for datagram in &forged {
            world.deliver(datagram);
        }
    }
    assert_eq!((world.ends[CLIENT].sessions().len(), world.ends[SERVER].sessions().len()), (0, 0));
}

/// [P-2.4] [P-7.3] A peer that falls silent ends its RPCs, which may have run, and new calls make a new session.
#[test]
fn a_silent_peer() {
    let mut world = World::new().warm();
    let old = world.session(CLIENT);
    world.lose = Box::new(|_| true);
    world.request(CLIENT, 10);
    world.pass(Duration::from_secs(10));
    assert_eq!(failures(&world, CLIENT), [(why(Failure::PeerSilent), true)]);
    assert_eq!(world.ends[CLIENT].held_bytes(), 0);
    world.lose = Box::new(|_| false);
    assert_ne!(world.request(CLIENT, 20).session, old);
    world.pass(Duration::from_millis(50));
    assert_eq!(world.outcome(CLIENT), (vec![20], 1));
}

/// [P-7.3] [P-2.4] A handshake that nobody answers fails, and nothing of its calls has run.
#[test]
fn nobody_answers() {
    let mut world = World::new();
    world.lose = Box::new(|_| true);
    world.request(CLIENT, 10);
    world.request(CLIENT, 20_000);
    world.pass(MINUTE);
    let failed = failures(&world, CLIENT);
    assert_eq!(failed.iter().map(|(_, may_have_run)| *may_have_run).collect::<Vec<_>>(), [false, false]);
    assert!(matches!(world.events[CLIENT][0], Event::ConnectFailed { .. }));
    assert!(world.ends[CLIENT].sessions().is_empty() && world.ends[CLIENT].held_bytes() == 0);
    assert_eq!(world.timeout(), None);
    world.lose = Box::new(|_| false);
    world.request(CLIENT, 30);
    world.settle();
    assert_eq!(world.outcome(CLIENT).0, [30]);
}

/// [P-2.4] A session that is closed tells its peer; calls at both ends fail; what comes late does nothing.
#[test]
fn closed_sessions_and_late_packets() {
    let mut world = World::new().warm();
    world.echo = false;
    let (ours, theirs) = (world.session(CLIENT), world.session(SERVER));
    world.request(CLIENT, 100);
    world.request(CLIENT, 200);
    world.settle();
    // One reply is on its way when the client closes, and repeated after that.
    let Some(Event::Request { id, payload, .. }) = world.events[SERVER].pop() else { panic!("a request") };
    world.ends[SERVER].reply(world.now, id, payload).expect("it is taken");
    world.collect();
    let late: Vec<Datagram> = world.wire.drain(..).collect();
    world.ends[CLIENT].close_session(ours);
    assert!(world.ends[CLIENT].open_sessions().is_empty());
    for datagram in &late {
        world.deliver(datagram);
    }
    assert_eq!(world.counters(CLIENT).dropped_too_early, late.len() as u64, "nothing is taken any more");
    world.ends[CLIENT].close_session(ours);
    let refused = world.try_send(CLIENT, To::Session(ours), Kind::Request, b"late");
    assert!(matches!(refused, Err(Misuse::NoSession)));
    world.collect();
    for datagram in &late {
        world.deliver(datagram);
    }
    assert_eq!(world.counters(CLIENT).dropped_unknown_session, late.len() as u64);
    world.settle();
    assert_eq!(failures(&world, CLIENT), vec![(why(Failure::SessionClosed), true); 2]);
    assert_eq!(world.ends[SERVER].sessions().len(), 0);
    let cancelled = world.events[SERVER].iter().filter(|event| matches!(event, Event::Cancelled { .. })).count();
    assert_eq!(cancelled, 1, "the server has one of them still");
    let reply = world.ends[SERVER].copy(b"late");
    assert!(matches!(world.ends[SERVER].reply(world.now, id, reply), Err(Misuse::UnknownRequest(_))));
    world.ends[SERVER].close_session(theirs);
    world.pass(MINUTE);
    world.assert_quiet();
    // And all begins anew.
    world.echo = true;
    world.request(CLIENT, 300);
    world.settle();
    assert_eq!(world.outcome(CLIENT).0, [300]);
}

/// [P-2.4] Ends of all kinds while what has ended before is not forgotten yet: neither takes the other for itself.
#[test]
fn ends_before_anything_was_tidied() {
    let mut world = World::with(1, 2, |_, config| config.tidies_when_idle = true).warm();
    for round in 0..20 {
        let (first, second) = (world.request(1, 10 + round), world.request(2, 20));
        let given_up = world.request(1, 30);
        // Something stays on the wire all the time, so nothing is tidied but by what ends.
        world.wire.extend([world.trace[0].clone()]);
        for _ in 0..12 {
            world.collect();
            let datagram = world.wire.pop_front().expect("something is");
            world.deliver(&datagram);
            world.wire.push_back(world.trace[0].clone());
        }
        match round % 4 {
            0 => drop(world.ends[1].abort(first)),
            1 => world.ends[1].path_shrank(address(SERVER), 1232),
            2 => world.ends[1].close_session(first.session),
            _ => world.ends[1].handle_timeout(world.now),
        }
        world.ends[1].abort(given_up);
        world.request(1, 40);
        world.pass(Duration::from_millis(50));
        assert!(!world.ends[1].is_open(first) && !world.ends[2].is_open(second));
        world.assert_quiet();
    }
    assert_eq!(world.outcome(2), (vec![20; 20], 0));
    assert_eq!(world.outcome(1).0.iter().filter(|length| **length == 40).count(), 20);
}

/// So many sessions, and no more: the server drops who comes then, the client's caller is told.
#[test]
fn sessions_max() {
    let mut world = World::with(1, 2, |at, config| config.sessions_max = if at == SERVER { 1 } else { 10 });
    world.request(1, 10);
    world.settle();
    world.request(2, 10);
    world.pass(MINUTE);
    assert_eq!((world.outcome(1).0, world.outcome(2)), (vec![10], (vec![], 1)));
    assert!(world.counters(SERVER).dropped_handshake > 0);
    assert_eq!(world.ends[SERVER].sessions().len(), 1);
    // When the first has gone, there is room for the second.
    let first = world.session(1);
    world.ends[1].close_session(first);
    world.settle();
    world.request(2, 20);
    world.settle();
    assert_eq!(world.outcome(2).0, [20]);

    let mut narrow = World::with(1, 1, |_, config| config.sessions_max = 1).warm();
    let other = narrow.ends[CLIENT].install(address(9), Side::Client, &world::secret(9), "another", 1452);
    let refused = narrow.try_send(CLIENT, To::Target(other.expect("a target")), Kind::Request, b"x");
    assert!(matches!(refused, Err(Misuse::TooManySessions(1))));
    assert_eq!(narrow.ends[CLIENT].held_bytes(), 0);
}

fn is(datagram: &Datagram, kind: PacketType) -> bool {
    datagram.header().kind == kind
}

/// [P-6.4] Under load a client proves its address first, by a cookie, and the server keeps nothing until then.
#[test]
fn cookies_under_load() {
    // A quarter of four: one half-open handshake is load.
    let mut world = World::with(1, 2, |at, config| config.handshakes_max = if at == SERVER { 4 } else { 4096 });
    world.lose = Box::new(|datagram| datagram.to == 1);
    world.request(1, 10);
    world.settle();
    assert_eq!(world.ends[SERVER].sessions().len(), 1, "half open");
    world.request(2, 20);
    world.collect();
    let first = world.wire.pop_front().expect("a first packet");
    assert_eq!((first.to, world.wire.len()), (SERVER, 0));
    world.deliver(&first);
    world.collect();
    let retry = world.wire.pop_front().expect("an answer");
    assert!(is(&retry, PacketType::Retry) && retry.bytes.len() <= first.bytes.len());
    assert_eq!(world.ends[SERVER].sessions().len(), 1, "nothing is kept");
    // Neither an altered cookie nor one from another address is good.
    world.deliver(&retry);
    world.collect();
    let proof = world.wire.pop_front().expect("the first flight again, with the cookie");
    world.feed_from(SERVER, address(1), &proof.bytes, proof.bytes.len());
    assert_eq!(world.ends[SERVER].sessions().len(), 1);
    world.deliver(&proof);
    assert_eq!(world.ends[SERVER].sessions().len(), 2);
    world.pass(Duration::from_millis(50));
    assert_eq!(world.outcome(2), (vec![20], 0));
}

/// [P-6.4] Half-open handshakes of clients that proved their addresses have a limit, too. Those that were completed do not count.
#[test]
fn handshakes_max() {
    let mut world = World::with(1, 4, |at, config| config.handshakes_max = if at == SERVER { 2 } else { 4096 });
    // A quarter of two is none: everyone is asked for a cookie, and all get through.
    for at in 1..=4 {
        world.request(at, 10);
        world.settle();
        assert_eq!(world.outcome(at), (vec![10], 0));
    }
    assert!(world.trace.iter().filter(|datagram| is(datagram, PacketType::Retry)).count() >= 4);
    let mut world = World::with(1, 4, |at, config| config.handshakes_max = if at == SERVER { 2 } else { 4096 });
    world.lose = Box::new(|datagram| datagram.from == SERVER && is(datagram, PacketType::Handshake));
    for at in 1..=4 {
        world.request(at, 10);
    }
    world.settle();
    assert_eq!(world.ends[SERVER].sessions().len(), 2);
    assert!(world.counters(SERVER).dropped_handshake >= 2);
    world.lose = Box::new(|_| false);
    world.pass(Duration::from_secs(5));
    assert!((1..=4).all(|at| world.outcome(at) == (vec![10], 0)), "all of them in the end");

    // Whoever completes its handshake makes room: five after each other, where a second at once would be load.
    let mut world = World::with(1, 5, |at, config| config.handshakes_max = if at == SERVER { 4 } else { 4096 });
    for at in 1..=5 {
        world.request(at, 10);
        world.settle();
    }
    assert!(!world.trace.iter().any(|datagram| is(datagram, PacketType::Retry)));
}

/// [P-6.4] [P-5.4] A flood of first packets, each from another address, ends in cookies: what is kept has a bound, and ends by
/// itself.
#[test]
fn half_open_handshakes_are_bounded() {
    let mut world = World::with(1, 1, |at, config| config.handshakes_max = if at == SERVER { 8 } else { 4096 });
    world.request(CLIENT, 10);
    world.collect();
    let first = world.wire.pop_front().expect("a first packet");
    for n in 0..500u16 {
        let from = ([198, 51, (n >> 8) as u8, n as u8], 4000).into();
        world.feed_from(SERVER, from, &first.bytes, first.bytes.len());
    }
    assert_eq!(world.ends[SERVER].sessions().len(), 2, "a quarter of eight");
    // What the strangers would get: never more than three times what came from them.
    let (mut out, mut sent) = (vec![0; 1 << 16], std::collections::BTreeMap::new());
    for _ in 0..30 {
        while let Some(train) = world.ends[SERVER].poll_transmit(world.now, &mut out) {
            *sent.entry(train.to).or_insert(0) += train.len;
        }
        world.now += Duration::from_secs(1);
        world.ends[SERVER].handle_timeout(world.now);
    }
    assert!(sent.values().all(|bytes| *bytes <= 3 * first.bytes.len()));
    assert!(world.ends[SERVER].sessions().is_empty(), "they end by themselves");
}

/// [P-7.2] A call that is given up before its handshake is complete is never sent, and does not hold the floor: the next
/// states a floor above it.
#[test]
fn given_up_before_the_handshake() {
    let mut world = World::new();
    let first = world.request(CLIENT, 10);
    world.request(CLIENT, 20);
    assert!(world.ends[CLIENT].abort(first) && !world.ends[CLIENT].abort(first));
    assert_eq!((world.ends[CLIENT].held_bytes(), world.ends[CLIENT].is_open(first)), (20, false));
    world.pass(Duration::from_millis(50));
    assert_eq!((world.outcome(SERVER).0, world.outcome(CLIENT)), (vec![20], (vec![20], 0)));
    world.request(CLIENT, 30);
    world.collect();
    let ours = Forger::new(&world, CLIENT, Side::Client);
    let (number, trailer) = ours.open(&world.wire.pop_front().expect("the request").bytes);
    assert_eq!((number.message().rpc().sequence(), trailer.floor_distance), (2, 0));
}

/// [P-4.3] [P-8.9] The acknowledgement of a response rides in the next request that is above it and cannot say it by its floor.
#[test]
fn acknowledgements_ride() {
    let mut world = World::new().warm();
    world.echo = false;
    world.request(CLIENT, 10);
    world.request(CLIENT, 20);
    world.settle();
    // The second is answered, the first is not: the floor stays below both.
    let Some(Event::Request { id, payload, .. }) = world.events[SERVER].pop() else { panic!("a request") };
    assert_eq!(payload.len(), 20);
    world.ends[SERVER].reply(world.now, id, payload).expect("it is taken");
    world.settle();
    assert!(world.ends[SERVER].held_bytes() > 0);
    world.request(CLIENT, 30);
    world.collect();
    let request = world.wire.pop_front().expect("the request");
    let (_, trailer) = Forger::new(&world, CLIENT, Side::Client).open(&request.bytes);
    assert_eq!((trailer.aux_len, trailer.floor_distance), (6, 2));
    world.deliver(&request);
    assert_eq!(world.ends[SERVER].held_bytes(), 0, "the response is let go");
}

/// [P-5.6] On the narrowest path there is, everything fits 1,232 bytes; and no path is believed to carry less.
#[test]
fn the_narrowest_path() {
    let mut world = World::on_path(1, 1, 1232, |_, _| ());
    world.request(CLIENT, 100_000);
    world.pass(Duration::from_millis(50));
    world.ends[CLIENT].path_shrank(address(SERVER), 500);
    world.request(CLIENT, 50_000);
    world.pass(Duration::from_millis(50));
    assert_eq!(world.outcome(CLIENT), (vec![100_000, 50_000], 0));
    let longest = world.trace.iter().map(|datagram| datagram.bytes.len()).max();
    assert!(longest.is_some_and(|longest| (1200..=1232).contains(&longest)), "{longest:?}");
}

/// [P-5.6] Whatever an end was told of its path, it states what the protocol allows, and sends no more than a record holds.
#[test]
fn paths_that_cannot_be() {
    for (path, longest) in [(1, 1_232), (600, 1_232), (9_000, 9_000), (1 << 20, 16_367)] {
        let mut world = World::on_path(1, 1, path, |_, config| config.datagram_bytes_max = 1 << 20);
        world.request(CLIENT, 150_000);
        world.pass(Duration::from_millis(50));
        assert_eq!(world.outcome(CLIENT), (vec![150_000], 0), "a path of {path}");
        let sent = world.trace.iter().map(|datagram| datagram.bytes.len()).max();
        assert!(sent.is_some_and(|sent| sent <= longest && sent > longest - longest / 8), "{sent:?} on {path}");
    }
}

/// [P-3.4] When a path carries less than was thought, what was cut for more ends at once and says so; the next is cut for
/// what the path carries.
#[test]
fn a_path_that_shrinks() {
    let mut world = World::new().warm();
    world.lose = Box::new(|datagram| datagram.bytes.len() > 1300);
    world.request(CLIENT, 5_000);
    world.request(CLIENT, 100);
    world.settle();
    assert_eq!(world.outcome(CLIENT), (vec![100], 0));
    world.ends[CLIENT].path_shrank(address(SERVER), 1300);
    world.settle();
    assert_eq!(failures(&world, CLIENT), [(why(Failure::PathShrank), true)]);
    world.request(CLIENT, 1_232 - 65);
    world.pass(Duration::from_millis(50));
    // Now the server's side of it: the response is cut for more.
    world.request(CLIENT, 4_000);
    world.settle();
    world.ends[SERVER].path_shrank(address(CLIENT), 1300);
    world.pass(Duration::from_millis(50));
    assert_eq!(failures(&world, CLIENT)[1..], [(why(Failure::Refused(RefusalCode::Aborted)), true)]);
    world.request(CLIENT, 6_000);
    world.pass(Duration::from_millis(50));
    // What is known of the path outlives the session.
    let session = world.session(CLIENT);
    world.ends[CLIENT].close_session(session);
    world.settle();
    world.request(CLIENT, 8_000);
    world.pass(Duration::from_millis(50));
    assert_eq!(world.outcome(CLIENT), (vec![100, 1_167, 6_000, 8_000], 2));
    world.assert_quiet();
}
