//! Epochs under traffic: both directions go on, nothing is lost or doubled, nothing waits, and what was sealed with old keys is
//! worth nothing.

mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use world::forger::Forger;
use world::{CLIENT, Datagram, Rng, SERVER, World, body};

use endpoint::endpoint::To;
use endpoint::events::Event;
use proto::io::Failure;
use record::budget::Limits;
use wire::control::Frame;
use wire::header::PacketType;
use wire::ids::{RecordNumber, SessionId, Side};
use wire::trailer::Kind;

const MS: Duration = Duration::from_millis(1);

/// A pair that begins an epoch after so many records; what a key may protect at most is as ever.
fn rekeying(records: u64) -> World {
    limited(Limits::PROTOCOL.rekey_after(records), false)
}

/// A pair whose keys have those limits. Without bundles a message of one record is one of these, so they can be counted.
fn limited(limits: Limits, bundles: bool) -> World {
    World::with(1, 1, |_, config| (config.key_limits, config.bundles) = (limits, bundles)).warm()
}

/// The epochs that an end seals in, and has seen of its peer.
fn epochs(world: &World, at: usize) -> (u64, u64) {
    world.ends[at].sessions()[0].epochs.expect("it has keys")
}

fn number(datagram: &Datagram) -> RecordNumber {
    datagram.number().0
}

/// A body that tells which call it is of.
fn named(call: u64, length: usize) -> Vec<u8> {
    let mut bytes = body(length.max(8));
    bytes[..8].copy_from_slice(&call.to_be_bytes());
    bytes
}

fn name(bytes: &[u8]) -> u64 {
    let bytes = if bytes.is_empty() { &[0; 8] } else { bytes };
    u64::from_be_bytes(bytes[..8].try_into().expect("a name"))
}

/// A wire that loses, doubles and mixes up.
struct Rough {
    rng: Rng,
    /// Of a thousand.
    lost: u64,
}

impl Rough {
    /// Everything that is on the wire goes, in some order; some of it stays for later.
    fn carry(&mut self, world: &mut World) {
        let count = world.wire.len();
        for _ in 0..count {
            let depth = (world.wire.len() as u64).min(40);
            let at = self.rng.below(depth) as usize;
            let datagram = world.wire.remove(at).expect("it is there");
            match self.rng.below(1000) {
                n if n < self.lost => {}
                n if n < 2 * self.lost => {
                    world.deliver(&datagram);
                    world.wire.push_back(datagram);
                }
                n if n < 3 * self.lost => world.wire.push_back(datagram),
                _ => world.deliver(&datagram),
            }
        }
    }
}

/// [P-6.5] [P-7.1] Both directions begin an epoch every 1,000 messages, of requests, responses and one-way messages of all sizes,
/// while packets are lost, doubled and reordered: each is delivered once, in one session, and none waits for an epoch at all.
#[test]
fn both_directions_rekey_under_load() {
    rekey_under_load(limited(Limits::PROTOCOL.rekey_after(1000), false));
}

/// [P-6.5] [P-4.7] The same of messages that travel in bundles, with an epoch every 150 records.
#[test]
fn bundles_rekey_under_load() {
    let world = rekey_under_load(limited(Limits::PROTOCOL.rekey_after(150), true));
    assert!(world.counters(CLIENT).messages_bundled > 10_000);
}

fn rekey_under_load(mut world: World) -> World {
    let to = To::Session(world.session(SERVER));
    // Where an ack of the oldest epoch gets lost that epoch lives some milliseconds longer, in which thousands of messages go: other seeds
    // have 7 to 36 epochs.
    let mut rough = Rough { rng: Rng::new(84), lost: 20 };
    let (mut executed, mut answered) = ([BTreeSet::new(), BTreeSet::new()], [BTreeSet::new(), BTreeSet::new()]);
    let calls = 20_000_u64;
    let (mut begun, mut requests) = (0, 0_u64);
    for round in 0..1_000_000 {
        for _ in 0..if begun < calls { 40 } else { 0 } {
            let length = match begun % 97 {
                0 => 20_000,
                1 => 3_000,
                n => 8 + n as usize,
            };
            let kind = if begun % 3 == 0 { Kind::OneWay } else { Kind::Request };
            requests += u64::from(kind == Kind::Request);
            world
                .try_send(CLIENT, To::Target(world.targets[CLIENT]), kind, &named(begun, length))
                .expect("it is taken");
            world.try_send(SERVER, to, kind, &named(begun, length)).expect("it is taken");
            begun += 1;
        }
        world.collect();
        rough.carry(&mut world);
        world.collect();
        let next = world.timeout().unwrap_or(world.now);
        world.now = if world.wire.is_empty() { world.now.max(next) } else { world.now + Duration::from_micros(5) };
        for at in [CLIENT, SERVER] {
            for event in std::mem::take(&mut world.events[at]) {
                match event {
                    Event::Request { payload, .. } | Event::OneWay { payload, .. } => {
                        assert!(executed[at].insert(name(&payload)), "it runs once");
                    }
                    Event::Response { payload, .. } => assert!(answered[at].insert(name(&payload))),
                    Event::Failed { why, .. } => panic!("{why}"),
                    _ => {}
                }
            }
        }
        if begun >= calls && world.wire.is_empty() && world.ends.iter().all(|end| !end.is_busy()) {
            break;
        }
        assert!(round < 900_000, "it goes on for ever");
    }
    assert_eq!(executed.map(|set| set.len() as u64), [calls; 2]);
    assert_eq!(answered.map(|set| set.len() as u64), [requests; 2]);
    for at in [CLIENT, SERVER] {
        let counters = world.counters(at);
        assert!(counters.epochs_begun >= 20, "{counters:?}");
        assert_eq!((counters.messages_held, counters.handshakes_completed), (0, 1));
        assert_eq!(world.ends[at].sessions().len(), 1);
    }
    world.assert_old_packets_do_nothing();
    world
}

impl World {
    /// Everything that was ever sent comes again, in another order: nothing but counters moves, at either end.
    fn assert_old_packets_do_nothing(&mut self) {
        self.pass(Duration::from_secs(1));
        let mut trace: Vec<Datagram> = self.trace.iter().filter(|datagram| datagram.sealed()).cloned().collect();
        let mut rng = Rng::new(5);
        for at in (1..trace.len()).rev() {
            trace.swap(at, rng.below(at as u64 + 1) as usize);
        }
        let quiet = |world: &World| {
            [world.ends[0].sessions(), world.ends[1].sessions()]
                .map(|sessions| sessions.iter().map(|s| (s.id, s.epochs, s.open)).collect::<Vec<_>>())
        };
        let (sessions, delivered) = (quiet(self), [0, 1].map(|at| self.counters(at).messages_delivered));
        for datagram in trace {
            self.deliver(&datagram);
        }
        assert_eq!(quiet(self), sessions);
        assert_eq!([0, 1].map(|at| self.counters(at).messages_delivered), delivered);
        assert!(self.ends.iter_mut().all(|end| end.poll_event().is_none()));
    }
}

/// [P-6.5] As long as EPOCH_WANTED or EPOCH_READY is lost, traffic goes on in the old epoch; the question is asked again.
#[test]
fn question_or_answer_lost() {
    for loser in [CLIENT, SERVER] {
        let mut world = rekeying(100);
        world.lose = Box::new(move |datagram| datagram.from == loser && datagram.header().kind == PacketType::Control);
        for _ in 0..300 {
            world.request(CLIENT, 20);
            world.pass(MS / 10);
        }
        assert_eq!((world.counters(CLIENT).epochs_begun, world.counters(CLIENT).messages_held), (0, 0));
        assert!(world.counters(CLIENT).epochs_wanted >= 3, "asked again");
        world.lose = Box::new(|_| false);
        world.pass(Duration::from_secs(1));
        let begun = world.counters(CLIENT).epochs_begun;
        assert_eq!((begun, world.outcome(CLIENT)), (1, (vec![20; 300], 0)));
        world.request(CLIENT, 20);
        world.settle();
        assert_eq!(epochs(&world, SERVER).1, begun);
    }
}

/// [P-6.7] A burst of more than a key may protect waits for one question and one answer, not for longer, and goes on in the same
/// session. Nothing more than the key may protect is sealed with it.
#[test]
fn a_burst_waits_for_a_round_trip() {
    // Soft at 128 records, hard at 512.
    let mut world = limited(Limits::lowered(19), false);
    let session = world.session(CLIENT);
    for _ in 0..1500 {
        world.request(CLIENT, 20);
    }
    let mut round_trips = 0;
    while world.outcome(CLIENT).0.len() < 1500 {
        // There and back again, everything that is on the wire.
        for _ in 0..2 {
            world.collect();
            for datagram in std::mem::take(&mut world.wire) {
                world.deliver(&datagram);
            }
        }
        world.collect();
        round_trips += 1;
        assert!(round_trips < 20);
    }
    // 1,500 are less than three keys' worth: three round trips, and one for the acknowledgements and the last of them.
    assert!(round_trips <= 4, "{round_trips}");
    assert!(world.counters(CLIENT).messages_held > 0 && world.session(CLIENT) == session);
    assert_eq!(world.outcome(CLIENT).1, 0);
    let mut sealed = std::collections::BTreeMap::new();
    for datagram in world.trace.iter().filter(|datagram| datagram.data() && datagram.from == CLIENT) {
        sealed.entry(datagram.header().epoch).or_insert_with(BTreeSet::new).insert(number(datagram));
    }
    assert!(sealed.values().all(|numbers| numbers.len() <= 512), "refusing beats exceeding");
    world.pass(Duration::from_secs(1));
    world.assert_quiet();
}

/// [P-6.7] A peer that is never ready: what waits fails in the end, and new calls go in a new session.
#[test]
fn a_peer_that_is_never_ready() {
    let mut world = limited(Limits::lowered(19), false);
    let old = world.session(CLIENT);
    world.lose = Box::new(|datagram| datagram.from == SERVER && datagram.header().kind == PacketType::Control);
    for _ in 0..700 {
        world.request(CLIENT, 20);
    }
    world.pass(Duration::from_secs(2));
    assert_eq!(world.outcome(CLIENT), (vec![20; 511], 0), "one of 512 was the call before");
    world.pass(Duration::from_secs(2));
    let (answered, failed) = world.outcome(CLIENT);
    assert_eq!((answered.len(), failed), (511, 189));
    let why = |event: &Event| match event {
        Event::Failed { why, may_have_run, .. } => Some((why.to_string(), *may_have_run)),
        _ => None,
    };
    let exhausted = endpoint::error::Ended::Failed(Failure::KeysExhausted).to_string();
    assert!(world.events[CLIENT].iter().filter_map(why).all(|why| why == (exhausted.clone(), false)));
    world.lose = Box::new(|_| false);
    assert_ne!(world.request(CLIENT, 30).session, old);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.outcome(CLIENT).0.len(), 512);
    world.assert_quiet();
}

/// [P-6.7] An end that seals nothing but CONTROL packets changes keys, too.
#[test]
fn control_keys_change() {
    let mut world = rekeying(20);
    for _ in 0..200 {
        world.send(CLIENT, Kind::OneWay, &body(20));
        world.pass(2 * MS);
    }
    let counters = world.counters(SERVER);
    assert!(counters.epochs_begun >= 5 && counters.records_sealed <= 1, "{counters:?}");
    assert_eq!(epochs(&world, CLIENT).1, epochs(&world, SERVER).0);
}

/// So many epochs of the client's pass.
fn go_on(world: &mut World, count: u64) {
    let end = world.counters(CLIENT).epochs_begun + count;
    while world.counters(CLIENT).epochs_begun < end {
        world.request(CLIENT, 20);
        world.pass(MS / 10);
    }
}

fn lose_numbers_of(world: &mut World, call: endpoint::session::CallId) {
    world.lose = Box::new(move |d| d.data() && number(d).message().rpc() == call.rpc);
}

/// [P-3.4] A message that cannot get through while epochs pass moves by attempt: the same bytes, under the next attempt and the keys
/// of now. What its first attempt brought stays, and it runs once.
#[test]
fn a_stuck_message_moves() {
    stuck_message_moves(false, 10_000, 2, 8);
}

/// [P-3.4] [P-4.6] The same where records span packets: a spanning record that came stays, and the next attempt has none.
#[test]
fn a_stuck_message_leaves_its_slices() {
    stuck_message_moves(true, 30_000, 12, 12);
}

/// A message of `length` bytes of which the first `through` packets get through at first, and of which `opened` records are opened.
fn stuck_message_moves(spans: bool, length: usize, through: u16, opened: u64) {
    let mut world = World::with(1, 1, |_, config| {
        (config.key_limits, config.bundles, config.spans) = (Limits::PROTOCOL.rekey_after(100), false, spans);
    })
    .warm();
    let mut dropped = 0;
    let stuck = world.request(CLIENT, length);
    world.lose = Box::new(move |d| {
        let lose = d.data() && d.from == CLIENT && number(d).message().rpc() == stuck.rpc;
        dropped += usize::from(lose);
        lose && dropped > usize::from(through)
    });
    world.pass(MS);
    go_on(&mut world, 9);
    let from = world.trace.len();
    world.lose = Box::new(|_| false);
    world.pass(MS * 300);
    assert!(world.outcome(SERVER).0.contains(&length) && !world.ends[CLIENT].is_open(stuck));
    let of_stuck = |d: &&Datagram| d.data() && d.from == CLIENT && number(d).message().rpc() == stuck.rpc;
    let all: BTreeSet<(u8, u8)> =
        world.trace.iter().filter(of_stuck).map(|d| (number(d).message().attempt(), d.header().epoch)).collect();
    let attempts: BTreeSet<u8> = all.iter().map(|(attempt, _)| *attempt).collect();
    assert_eq!(all.len(), attempts.len(), "an attempt has one epoch: {all:?}");
    let last = attempts.last().copied().expect("it went");
    assert!(last >= 1 && world.counters(CLIENT).attempts == u64::from(last), "{all:?}");
    let late: BTreeSet<u16> = world.trace[from..].iter().filter(of_stuck).map(|d| number(d).index()).collect();
    assert!(late.iter().all(|index| *index >= through), "what arrived under attempt 0 stays: {late:?}");
    assert_eq!(world.counters(SERVER).messages_delivered, world.counters(SERVER).records_opened - opened + 1);
    world.assert_quiet();
}

/// [P-3.4] A call that its server works on for as long as forty epochs holds up none of them, and spends no attempt: nothing of it
/// has to go again.
#[test]
fn waiting_spends_no_attempts() {
    let mut world = rekeying(100);
    world.echo = false;
    let slow = world.request(CLIENT, 40);
    world.settle();
    let request = world.events[SERVER].pop().expect("it is there");
    world.echo = true;
    go_on(&mut world, 40);
    let Event::Request { id, payload, .. } = request else { panic!("a request") };
    world.ends[SERVER].reply(world.now, id, payload).expect("it is still wanted");
    world.pass(MS);
    assert!(!world.ends[CLIENT].is_open(slow) && world.outcome(CLIENT).1 == 0);
    assert_eq!((world.counters(CLIENT).attempts, world.counters(SERVER).attempts), (0, 0));
}

/// [P-3.4] After attempt 7 a message fails rather than be sealed once more. What has become of it is not known.
#[test]
fn attempts_run_out() {
    let mut world = rekeying(100);
    let stuck = world.request(CLIENT, 40);
    lose_numbers_of(&mut world, stuck);
    for _ in 0..60 {
        go_on(&mut world, 1);
        // Long enough for a question, so that it goes again in each epoch.
        world.pass(MS * 110);
    }
    let failed: Vec<_> = world.events[CLIENT].iter().filter(|event| matches!(event, Event::Failed { .. })).collect();
    let [Event::Failed { id, may_have_run: true, why, .. }] = failed[..] else { panic!("{failed:?}") };
    assert_eq!((*id, why.to_string()), (stuck, endpoint::error::Ended::Failed(Failure::KeysExhausted).to_string()));
    assert_eq!(world.counters(CLIENT).attempts, 7);
    world.lose = Box::new(|_| false);
    world.pass(Duration::from_secs(1));
    world.assert_quiet();
}

/// [P-6.5] A packet of epoch e is nothing but a count after e + 4 has begun, whether its byte names an epoch that lives or not.
#[test]
fn old_keys_are_gone() {
    let mut world = rekeying(100);
    let from = world.trace.len();
    go_on(&mut world, 1);
    let old: Vec<Datagram> = world.trace[from..].iter().filter(|d| d.sealed() && d.from == CLIENT).cloned().collect();
    go_on(&mut world, 4);
    world.pass(Duration::from_secs(1));
    for datagram in old.iter().filter(|d| d.header().epoch == 0) {
        world.assert_dropped(CLIENT, SERVER, &datagram.bytes, &["dropped_wrong_epoch"]);
        let mut renamed = datagram.bytes.clone();
        renamed[2] = epochs(&world, CLIENT).0 as u8;
        world.assert_dropped(CLIENT, SERVER, &renamed, &["dropped_bad_tag"]);
    }
}

/// [P-6.5] Whatever the epoch byte of a packet is changed to, at any moment of a rekey: one counter rises, no epoch begins or ends,
/// and the packet itself, late, still opens.
#[test]
fn flipped_epoch_bytes() {
    let mut world = rekeying(40);
    let mut seen = BTreeSet::new();
    for step in 0..400_u64 {
        world.request(CLIENT, 20);
        world.collect();
        while let Some(datagram) = world.wire.pop_front() {
            let before = epochs(&world, datagram.to);
            for flip in [1_u8, 2, 3, 4, 5, 128, 255, (step % 255 + 1) as u8] {
                let mut bytes = datagram.bytes.clone();
                bytes[2] ^= flip;
                let names = ["dropped_wrong_epoch", "dropped_bad_tag", "dropped_replayed_control"];
                world.assert_dropped(datagram.from, datagram.to, &bytes, &names);
            }
            assert_eq!(epochs(&world, datagram.to), before);
            let counted = world.counters(datagram.to);
            world.deliver(&datagram);
            let after = world.counters(datagram.to);
            assert_eq!(
                after.records_opened + after.controls_opened,
                counted.records_opened + counted.controls_opened + 1
            );
            seen.insert(datagram.header().epoch);
            world.collect();
        }
        world.pass(MS / 20);
    }
    assert!(seen.len() > 8, "{seen:?}");
    assert_eq!(world.outcome(CLIENT), (vec![20; 400], 0));
}

/// [P-6.5] What a faulty peer says of epochs: a readiness for what was not asked for begins nothing, an epoch far ahead is nonsense,
/// and the next one is prepared once, however often it is wanted.
#[test]
fn a_faulty_peer() {
    let mut world = World::new().warm();
    let mut forger = Forger::new(&world, CLIENT, Side::Client);
    for epoch in [1, 2, 255] {
        world.feed(CLIENT, SERVER, &forger.control(&[Frame::EpochReady { epoch }]));
    }
    for epoch in [2, 3, 100, 255] {
        world.assert_dropped(CLIENT, SERVER, &[], &["dropped_truncated"]);
        let nonsense = world.counters(SERVER).dropped_nonsense;
        world.feed(CLIENT, SERVER, &forger.control(&[Frame::EpochWanted { epoch }]));
        assert_eq!(world.counters(SERVER).dropped_nonsense, nonsense + 1);
        world.assert_silent(SERVER);
    }
    for _ in 0..5000 {
        world.feed(CLIENT, SERVER, &forger.control(&[Frame::EpochWanted { epoch: 1 }]));
    }
    assert_eq!(world.ends[SERVER].holdings().notices, 1);
    assert_eq!(epochs(&world, SERVER), (0, 0));
    world.settle();
    world.request(CLIENT, 10);
    world.settle();
    assert_eq!((epochs(&world, SERVER), world.outcome(CLIENT)), ((0, 0), (vec![10], 0)));
}

/// [P-6.7] A session is renewed before its keys are a day old, whoever calls, and what is under way in it ends there.
#[test]
fn sessions_are_renewed() {
    let day = Duration::from_secs(24 * 3600);
    let mut world = World::with(1, 1, |_, config| config.session_idle = 2 * day).warm();
    let first = world.session(CLIENT);
    let mut last = first;
    for hour in 0..24 {
        last = world.request(CLIENT, 10).session;
        assert_eq!(last, first, "{hour}");
        world.pass(day / 25);
    }
    world.pass(day / 25);
    assert_ne!(world.request(CLIENT, 10).session, last);
    world.pass(MS);

    // A server whose patience is shorter tells its client.
    let mut world = World::with(1, 1, |at, config| {
        config.session_age_max = if at == SERVER { Duration::from_secs(60) } else { day };
    })
    .warm();
    let first: SessionId = world.session(CLIENT);
    world.pass(Duration::from_secs(61));
    assert_eq!(world.request(CLIENT, 10).session, first);
    world.pass(MS);
    assert_ne!(world.request(CLIENT, 10).session, first);
    world.pass(MS);
    assert_eq!(world.outcome(CLIENT), (vec![10; 2], 0));
}
