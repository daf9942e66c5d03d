//! Sessions that rest: nothing is lost by it, whatever the wire does and whenever keys change; who forges packets wakes nobody, and who
//! repeats those of others does so seldom. (decision 0020)

mod world;

use std::time::Duration;

use endpoint::config::Config;
use endpoint::endpoint::To;
use endpoint::rates::Rate;
use mlx5_shim::fault::{Fault, Faulty};
use mlx5_shim::model::{Config as Card, Model};
use offload::frame::Cable;
use offload::gcm::Provided;
use offload::nic::{Config as NicConfig, Nic};
use offload::software;
use proptest::prelude::*;
use record::budget::Limits;
use wire::trailer::Kind;
use world::{CLIENT, Rng, SERVER, World, address, body};

/// Whatever has nothing under way rests as soon as anybody looks.
fn restless(config: &mut Config) {
    config.session_rests_after = Duration::from_micros(1);
    config.sessions_awake_max = 1;
}

fn resting(world: &World, at: usize) -> usize {
    world.ends[at].holdings().resting
}

/// All sessions of a world that was warmed up rest.
fn asleep(clients: usize, change: impl Fn(usize, &mut Config)) -> World {
    let mut world = World::with(5, clients, |at, config| {
        restless(config);
        change(at, config);
    })
    .warm();
    world.pass(Duration::from_millis(200));
    assert_eq!((resting(&world, SERVER), resting(&world, CLIENT)), (clients, 1));
    world
}

/// After a minute of silence a session rests, and with it the timers that looked for it; a call in it wakes it, without a handshake.
#[test]
fn a_minute_of_silence() {
    let mut world = World::with(1, 3, |_, _| ()).warm();
    world.pass(Duration::from_secs(55));
    assert_eq!(resting(&world, SERVER), 0);
    world.pass(Duration::from_secs(30));
    assert_eq!((resting(&world, SERVER), resting(&world, CLIENT), resting(&world, 3)), (3, 1, 1));
    assert!(world.timeout().is_some_and(|at| at.since(world.now) > Duration::from_secs(60)), "nobody looks for more");
    let (sessions, handshakes) = (world.ends[SERVER].sessions(), world.counters(SERVER).handshakes_completed);
    world.request(2, 10_000);
    world.pass(Duration::from_millis(50));
    assert_eq!(world.outcome(2), (vec![10_000], 0));
    assert_eq!(resting(&world, SERVER), 2);
    assert_eq!(world.counters(SERVER).handshakes_completed, handshakes);
    let told = |infos: &[endpoint::info::SessionInfo]| {
        infos.iter().map(|s| (s.id, s.origin.address, s.open, s.epochs, s.datagram_max)).collect::<Vec<_>>()
    };
    assert_eq!(told(&world.ends[SERVER].sessions()), told(&sessions), "and all of them are told of");
    // The server may begin something in a session that rests.
    let to = To::Session(world.ends[SERVER].sessions()[0].id);
    world.ends.iter_mut().for_each(|end| while end.poll_event().is_some() {});
    world.try_send(SERVER, to, Kind::OneWay, &body(30)).expect("it is taken");
    world.pass(Duration::from_millis(50));
    assert_eq!(world.outcome(1).0, [30]);
}

/// With a place for one, sessions take turns; whatever is under way stays awake.
#[test]
fn more_than_may_be_awake() {
    let mut world = World::with(2, 12, |_, config| config.sessions_awake_max = 4).warm();
    world.pass(Duration::from_millis(20));
    assert!(resting(&world, SERVER) >= 8, "{} rest", resting(&world, SERVER));
    world.echo = false;
    for at in 1..=12 {
        world.request(at, 100);
    }
    world.pass(Duration::from_millis(20));
    assert_eq!(resting(&world, SERVER), 0, "all have a request to answer");
    for event in std::mem::take(&mut world.events[SERVER]) {
        if let endpoint::events::Event::Request { id, payload, .. } = event {
            world.ends[SERVER].reply(world.now, id, payload).expect("it waits for that");
        }
    }
    world.pass(Duration::from_millis(20));
    assert!((1..=12).all(|at| world.outcome(at) == (vec![100], 0)));
    assert!(resting(&world, SERVER) >= 8);
    world.assert_quiet();
}

/// [P-6.20] [P-5.4] Forged packets for sessions that rest are dropped and counted, wake nobody, and make nobody rest.
#[test]
fn forgeries_wake_nobody() {
    let mut world = asleep(4, |_, _| ());
    let sent: Vec<_> = world.trace.iter().filter(|datagram| datagram.sealed()).cloned().collect();
    let mut rng = Rng::new(9);
    let mut tried = 0;
    for datagram in sent.iter().cycle().take(400) {
        let mut forged = datagram.bytes.clone();
        // The tag is last.
        let at = forged.len() - 1 - rng.below(16) as usize;
        forged[at] ^= 1 + rng.below(255) as u8;
        let reasons = ["dropped_bad_tag", "dropped_replayed_control"];
        world.assert_dropped(datagram.from, datagram.to, &forged, &reasons);
        tried += 1;
    }
    assert!(tried == 400 && world.counters(SERVER).dropped_bad_tag > 50);
    assert_eq!((resting(&world, SERVER), resting(&world, CLIENT)), (4, 1));
}

/// [P-6.7] What a session bears of forgeries it also bears at rest: they are counted, and a session with too many is closed. Here the count
/// is looked at from outside: it is the same session that is awake afterwards.
#[test]
fn a_packet_that_is_short_or_of_no_epoch() {
    let mut world = asleep(1, |_, _| ());
    let data =
        world.trace.iter().rfind(|datagram| datagram.data() && datagram.to == SERVER).cloned().expect("a request");
    let mut other_epoch = data.bytes.clone();
    other_epoch[2] ^= 0x55;
    let names = ["dropped_wrong_epoch", "dropped_malformed", "dropped_wrong_version", "dropped_truncated"];
    world.assert_dropped(CLIENT, SERVER, &other_epoch, &names);
    for len in 21..data.bytes.len() {
        let names = ["dropped_truncated", "dropped_malformed", "dropped_bad_tag", "dropped_oversized"];
        world.assert_dropped(CLIENT, SERVER, &data.bytes[..len], &names);
    }
    assert_eq!(resting(&world, SERVER), 1);
}

/// [P-7.1] Who repeats what it saw wakes sessions at a limited rate, and nothing runs twice; a control packet wakes nobody a second time.
#[test]
fn repeats_are_limited() {
    let mut world = asleep(1, |_, config| config.limits.wakes_by_repeats = Rate::new(10, 5));
    let (sent, ran) = (world.trace.clone(), world.events[SERVER].len());
    let before = world.counters(SERVER).sessions_woken;
    for _ in 0..100 {
        for datagram in sent.iter().filter(|datagram| datagram.sealed() && datagram.to == SERVER) {
            world.deliver(datagram);
            world.pass(Duration::from_millis(1));
        }
    }
    let woken = world.counters(SERVER).sessions_woken - before;
    assert!((5..=12).contains(&woken), "{woken}");
    assert_eq!(world.events[SERVER].len(), ran, "nothing was delivered");
    assert!(world.counters(SERVER).dropped_duplicate > 50);
}

/// [P-6.20] [P-3.3] [P-6.5] [P-7.1] Sessions fall idle and wake all the time, at both ends, while the wire loses, doubles and reorders, and keys
/// change: every call has one outcome, every message that ran did so once, and an end that never rests does the same.
fn constantly(seed: u64, rekey_after: u64, lose: u64, clients: usize) -> (u64, u64) {
    let mut world = World::with(seed, clients, |at, config| {
        // One of the clients never rests.
        if at != 2 {
            restless(config);
        }
        config.key_limits = Limits::PROTOCOL.rekey_after(rekey_after);
        config.proto.unscheduled_bytes = 6_000;
        config.limits.wakes_by_repeats = Rate::new(1_000_000, 1_000_000);
    });
    let mut rng = Rng::new(seed + 1);
    world.lose = Box::new(move |_| rng.below(100) < lose);
    let mut rng = Rng::new(seed + 2);
    let mut wanted = vec![Vec::new(); clients + 1];
    for _ in 0..60 {
        let at = 1 + rng.below(clients as u64) as usize;
        let length = [10, 700, 3_000, 20_000][rng.below(4) as usize];
        let kind = if rng.below(3) == 0 { Kind::OneWay } else { Kind::Request };
        world.send(at, kind, &body(length));
        wanted[at].push((kind, length));
        // Repeats of what was seen before, and a pause that may be long enough to fall idle.
        if !world.trace.is_empty() && rng.below(2) == 0 {
            let old = world.trace[rng.below(world.trace.len() as u64) as usize].clone();
            world.deliver(&old);
        }
        world.pass(Duration::from_micros([1, 50, 3_000, 30_000][rng.below(4) as usize]));
    }
    world.pass(Duration::from_secs(20));
    let mut served: Vec<usize> = wanted.iter().flatten().map(|(_, length)| *length).collect();
    served.sort_unstable();
    let mut ran = world.outcome(SERVER).0;
    ran.sort_unstable();
    assert_eq!(ran, served, "each once");
    for (at, wanted) in wanted.iter().enumerate().skip(1) {
        let mut answers: Vec<usize> =
            wanted.iter().filter(|(kind, _)| *kind == Kind::Request).map(|(_, length)| *length).collect();
        let (mut got, failed) = world.outcome(at);
        answers.sort_unstable();
        got.sort_unstable();
        assert_eq!((got, failed), (answers, 0));
    }
    world.assert_quiet();
    let sum =
        |of: fn(&endpoint::counters::Counters) -> u64| world.ends.iter().map(|end| of(end.counters())).sum::<u64>();
    (sum(|counters| counters.sessions_woken), sum(|counters| counters.epochs_begun))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn they_come_and_go(seed in 1..1_000_000_u64, rekey_after in 3..60_u64, lose in 0..20_u64, clients in 1..5_usize) {
        let (woken, _) = constantly(seed, rekey_after, lose, clients);
        // How often depends on pauses and losses; that it is often is what the next test holds.
        prop_assert!(clients == 2 || woken > 0, "{} woken", woken);
    }
}

/// The same, for certain with many epochs.
#[test]
fn they_come_and_go_over_epochs() {
    let (woken, epochs) = constantly(7, 4, 8, 4);
    assert!(woken > 40 && epochs > 40, "{woken} woken, {epochs} epochs");
}

/// A session that rests is forgotten when nothing was heard for long, and closed when it is to be.
#[test]
fn ends_at_rest() {
    let mut world = asleep(2, |_, _| ());
    let session = world.session(CLIENT);
    world.ends[CLIENT].close_session(session);
    world.pass(Duration::from_millis(50));
    assert_eq!((world.ends[SERVER].sessions().len(), world.ends[CLIENT].sessions().len()), (1, 0));
    world.pass(Duration::from_secs(2 * 3600));
    assert!(world.ends.iter().all(|end| end.sessions().is_empty() && end.holdings().resting == 0));
    world.request(2, 10);
    world.pass(Duration::from_millis(50));
    assert_eq!(world.outcome(2), (vec![10], 0), "a new one");
}

/// [P-3.5] A card that fails may have disclosed all keys that it knew: also those of a session that rests, which must not come back to them.
#[test]
fn keys_are_given_up_at_rest() {
    let mut world = World::with(9, 2, |_, config| config.session_rests_after = Duration::from_millis(50)).warm();
    let (card, trigger) =
        Faulty::new(Model::new(Card::default(), Box::new(Provided(software::crypto()))), Fault::Reset);
    let cable = Cable { from: address(SERVER), vlan: None };
    let config = NicConfig { queues: 1, ..NicConfig::default() };
    world.ends[SERVER].set_nic(Nic::new(Box::new(card), Box::new(cable), config).expect("the model is a card"));
    let to = |world: &World, at: usize| To::Session(world.ends[SERVER].sessions()[at].id);
    let tell = |world: &mut World, at: usize| {
        let to = to(world, at);
        world.try_send(SERVER, to, Kind::OneWay, &body(5000)).expect("it is taken");
        world.pass(Duration::from_millis(1));
    };
    tell(&mut world, 0);
    tell(&mut world, 1);
    world.pass(Duration::from_millis(200));
    assert_eq!((resting(&world, SERVER), world.ends[SERVER].nic().map(Nic::keys)), (2, Some(2)));
    trigger.arm();
    while trigger.strikes() == 0 {
        assert!(resting(&world, SERVER) >= 1, "the other session rests meanwhile");
        tell(&mut world, 0);
    }
    world.pass(Duration::from_millis(20));
    assert_eq!(world.counters(SERVER).device_keys_given_up, 2);
    tell(&mut world, 1);
    world.pass(Duration::from_millis(20));
    let epochs: Vec<_> =
        world.ends[SERVER].sessions().iter().map(|session| session.epochs.map(|(ours, _)| ours)).collect();
    assert_eq!(epochs, [Some(1), Some(1)], "both go on with another key");
    assert_eq!(world.outcome(2).0, [5000, 5000]);
}
