//! Sessions that begin with evidence: nothing of the application moves before it was judged, whatever the wire or the peer does. [P-6.16]

mod world;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use attest::binding::Binding;
use attest::claims::Measurement;
use attest::evidence::{Attester, Error as EvidenceError, Format};
use attest::mock::{FORMAT, Mock};
use attest::policy::{Asks, Policy};
use attest::verdict::Verdict;
use endpoint::config::Config;
use endpoint::error::Ended;
use endpoint::events::Event;
use handshake::error::{Error, Stage};
use proto::time::Instant;
use wire::ids::{RpcId, Side};
use wire::trailer::Kind;
use world::forger::Forger;
use world::{CLIENT, Rng, SERVER, World, address};

fn measured(value: &str) -> Measurement {
    Measurement { register: 0, value: value.as_bytes().to_vec() }
}

fn mock(value: &str) -> Arc<dyn Attester> {
    Arc::new(Mock::measured(vec![measured(value)]))
}

fn pinned(value: &str) -> Arc<Policy> {
    Arc::new(Asks::new().verifier(Mock::default()).pin(measured(value)).development())
}

/// Who shows what, and who wants to see what: the server first, then the client.
fn world(shows: [Option<&str>; 2], wants: [Option<&str>; 2]) -> World {
    World::with(7, 1, |at, config| {
        config.attest.attester = shows[at].map(mock);
        config.attest.policy = wants[at].map(pinned);
    })
}

/// What end `at` knows of its peer.
fn report(world: &World, at: usize) -> Option<String> {
    let sessions = world.ends[at].sessions();
    sessions.first().and_then(|session| session.origin.report.as_ref()).map(|report| report.measurements[0].to_string())
}

/// Why the client's session did not come about, and its only call.
fn failed(world: &World) -> Error {
    let of = |event: &Event| match event {
        Event::ConnectFailed { why, .. } => Some((**why).clone()),
        _ => None,
    };
    let why = world.events[CLIENT].iter().find_map(of).expect("it failed");
    let of_call = |event: &Event| match event {
        Event::Failed { why: Ended::Handshake(why), may_have_run: false, .. } => Some((**why).clone()),
        _ => None,
    };
    assert_eq!(world.events[CLIENT].iter().find_map(of_call), Some(why.clone()));
    why
}

fn assert_nothing_came(world: &mut World) {
    let (delivered, _) = world.outcome(SERVER);
    assert!(delivered.is_empty() && world.counters(SERVER).messages_delivered == 0);
    assert!(world.trace.iter().all(|datagram| !datagram.data() || datagram.from == SERVER || is_evidence(datagram)));
    for at in [CLIENT, SERVER] {
        assert!(world.ends[at].sessions().is_empty(), "{:?}", world.ends[at].sessions());
        assert_eq!(world.ends[at].holdings().attesting, 0);
    }
    world.assert_quiet();
}

/// Whether all records of a packet are of the message that evidence is in.
fn is_evidence(datagram: &world::Datagram) -> bool {
    wire::data::record_at(&datagram.bytes, 20).expect("a record").number.message().rpc().sequence() == 0
}

/// [P-6.16] Each combination of who demands: both sides have what they demanded, the application's messages go both ways, and evidence
/// is shown to nobody who did not ask.
#[test]
fn whoever_demands_gets_it() {
    for (server_wants, client_wants) in [(false, true), (true, false), (true, true), (false, false)] {
        let good = |wants: bool| wants.then_some("GOOD");
        let mut world = world([Some("GOOD"); 2], [good(server_wants), good(client_wants)]);
        world.request(CLIENT, 100);
        world.request(CLIENT, 100_000);
        world.pass(Duration::from_millis(100));
        assert_eq!(world.outcome(SERVER), (vec![100, 100_000], 0), "{server_wants} {client_wants}");
        assert_eq!(world.outcome(CLIENT), (vec![100, 100_000], 0));
        assert_eq!(report(&world, SERVER), good(server_wants).map(|good| format!("0={good}")));
        assert_eq!(report(&world, CLIENT), good(client_wants).map(|good| format!("0={good}")));
        let shown = [SERVER, CLIENT].map(|at| world.counters(at).evidence_shown);
        assert_eq!(shown, [u64::from(client_wants), u64::from(server_wants)]);
        world.events.iter_mut().for_each(Vec::clear);
        world.assert_quiet();
    }
}

/// [P-6.16] 30 % of all packets are lost, others come twice or late. Both sides attest, everything arrives once, and no request is
/// there before its client's evidence was judged.
#[test]
fn a_lossy_wire() {
    for seed in 1..=20 {
        let mut world = world([Some(&"S".repeat(200)), Some("GOOD")], [Some("GOOD"), Some(&"S".repeat(200))]);
        let mut rng = Rng::new(seed);
        world.lose = Box::new(move |_| rng.below(100) < 30);
        let lengths: Vec<usize> = (0..30).map(|i| 10 + 400 * i).collect();
        for length in &lengths {
            world.request(CLIENT, *length);
        }
        let mut dice = Rng::new(seed + 100);
        for _ in 0..400 {
            world.collect();
            if let Some(at) = (world.wire.len() > 1).then(|| dice.below(world.wire.len() as u64) as usize) {
                let late = world.wire.remove(at).expect("it is there");
                if dice.below(4) == 0 {
                    world.wire.push_back(late.clone());
                }
                world.wire.push_back(late);
            }
            world.pass(Duration::from_millis(25));
            let came = world.events[SERVER].iter().any(|event| matches!(event, Event::Request { .. }));
            assert!(!came || world.counters(SERVER).evidence_taken == 1, "seed {seed}");
        }
        for at in [SERVER, CLIENT] {
            let (mut delivered, failed) = world.outcome(at);
            delivered.sort_unstable();
            assert_eq!((delivered, failed), (lengths.clone(), 0), "seed {seed}, end {at}");
            assert_eq!(world.counters(at).evidence_taken, 1, "seed {seed}");
        }
        assert_eq!(report(&world, SERVER).as_deref(), Some("0=GOOD"));
    }
}

/// [P-6.16] What is not pinned is refused before any byte of the application, and the error says what was expected and what was found.
#[test]
fn what_is_not_pinned() {
    let mut world = world([Some("GOOD"), None], [None, Some("BAD")]);
    world.request(CLIENT, 100);
    world.pass(Duration::from_secs(2));
    let why = failed(&world);
    assert_eq!(why.to_string(), "the server's evidence is refused: register 0: expected BAD, found GOOD");
    assert_eq!((world.counters(CLIENT).evidence_refused, world.counters(CLIENT).evidence_taken), (1, 0));
    assert_nothing_came(&mut world);
}

/// The server refuses: the client learns what kind of thing is wrong, and not what would be right.
#[test]
fn the_refused_side_is_told() {
    let mut world = world([None, Some("GOOD")], [Some("BAD"), None]);
    world.request(CLIENT, 100);
    world.pass(Duration::from_secs(2));
    assert_eq!(failed(&world), Error::EvidenceRefused { whose: Side::Server, verdict: Verdict::Measurement });
    assert_eq!(world.counters(SERVER).evidence_refused, 1);
    assert_nothing_came(&mut world);
}

/// Under loss, too: the answer is repeated until it is there.
#[test]
fn the_refused_side_is_told_under_loss() {
    for seed in 1..=20 {
        let mut world = world([None, Some("GOOD")], [Some("BAD"), None]);
        let mut rng = Rng::new(seed);
        world.lose = Box::new(move |_| rng.below(100) < 30);
        world.request(CLIENT, 100);
        world.pass(Duration::from_secs(20));
        assert!(matches!(failed(&world), Error::EvidenceRefused { .. }), "seed {seed}");
        assert_nothing_came(&mut world);
    }
}

/// [P-6.16] Who demands evidence of a side that has none, or none that can be judged, has no session; both know why at once.
#[test]
fn nothing_to_show() {
    let before = world([None, None], [None, None]).now;
    let mut client_demands = world([None, None], [None, Some("GOOD")]);
    client_demands.request(CLIENT, 100);
    client_demands.pass(Duration::from_millis(100));
    assert_eq!(failed(&client_demands), Error::EvidenceMissing { whose: Side::Server });
    assert!(client_demands.now.since(before) < Duration::from_secs(1));
    assert_nothing_came(&mut client_demands);
    let mut server_demands = world([None, None], [Some("GOOD"), None]);
    server_demands.request(CLIENT, 100);
    server_demands.pass(Duration::from_millis(100));
    assert_eq!(failed(&server_demands), Error::EvidenceDemanded { whose: Side::Server });
    assert_nothing_came(&mut server_demands);
    // A policy without a verifier can judge nothing.
    let mut blind = World::with(7, 1, |at, config| {
        config.attest.attester = (at == SERVER).then(|| mock("GOOD"));
        config.attest.policy = (at == CLIENT).then(|| Arc::new(Asks::new().development()));
    });
    blind.request(CLIENT, 100);
    blind.pass(Duration::from_millis(100));
    assert_eq!(failed(&blind), Error::EvidenceMissing { whose: Side::Server });
    assert_nothing_came(&mut blind);
}

/// A peer that says it has evidence and never shows it: the session ends with the time that a handshake may take.
#[test]
fn evidence_that_never_comes() {
    let mut world = world([Some("GOOD"), None], [None, Some("GOOD")]);
    world.idle_judge = Some(SERVER);
    world.request(CLIENT, 100);
    world.pass(Duration::from_secs(9));
    assert!(world.events[CLIENT].is_empty() && world.events[SERVER].is_empty(), "{:?}", world.events);
    world.pass(Duration::from_secs(3));
    assert_eq!(failed(&world), Error::TimedOut { stage: Stage::Evidence });
    assert_nothing_came(&mut world);
}

/// [P-6.16] A peer that begins with the application's messages, as the code here never does: they are left unread until its evidence
/// was judged, and leave nothing behind that would keep them from being taken then.
#[test]
fn a_peer_that_does_not_wait() {
    let mut world = world([None, Some("GOOD")], [Some("GOOD"), None]);
    world.echo = false;
    world.idle_judge = Some(SERVER);
    world.request(CLIENT, 50);
    world.pass(Duration::from_millis(50));
    let rogue = Forger::new(&world, CLIENT, Side::Client);
    let of = |sequence: u64, kind| rogue.data(&[rogue.part(RpcId::new(Side::Client, sequence), 0, kind, 40, 1000)]);
    for packet in [of(1, Kind::Request), of(5, Kind::Request), of(6, Kind::OneWay), of(7, Kind::Request)] {
        world.assert_dropped(CLIENT, SERVER, &packet, &["dropped_before_evidence"]);
    }
    // A response to nothing, and evidence once more.
    let response = rogue.part(RpcId::new(Side::Server, 0), 0, Kind::Response, 40, 1000);
    world.assert_dropped(CLIENT, SERVER, &rogue.data(&[response]), &["dropped_before_evidence"]);
    world.feed(CLIENT, SERVER, &of(0, Kind::Request));
    assert_eq!(world.counters(SERVER).dropped_duplicate, 1);
    world.idle_judge = None;
    world.pass(Duration::from_millis(50));
    let packet = of(5, Kind::Request);
    world.feed(CLIENT, SERVER, &packet);
    world.settle();
    assert_eq!(world.outcome(SERVER), (vec![50, 40], 0));
}

/// A peer's first message is not a request, or not evidence at all.
#[test]
fn a_first_message_of_another_kind() {
    for (kind, why) in [(Kind::OneWay, "it is not a request"), (Kind::Request, "no verifier for evidence of format 7")]
    {
        let mut world = world([None, Some("GOOD")], [Some("GOOD"), None]);
        // What the client really says is lost.
        world.lose = Box::new(|datagram| datagram.from == CLIENT && datagram.data());
        world.request(CLIENT, 50);
        world.pass(Duration::from_micros(100));
        let rogue = Forger::new(&world, CLIENT, Side::Client);
        let packet = rogue.data(&[rogue.part(RpcId::new(Side::Client, 0), 0, kind, 40, 1000)]);
        world.feed(CLIENT, SERVER, &packet);
        world.pass(Duration::from_secs(2));
        assert_eq!(world.counters(SERVER).evidence_refused, 1, "{why}");
        assert!(world.ends[SERVER].sessions().is_empty());
        assert_eq!(world.counters(SERVER).messages_delivered, 0);
    }
}

/// Evidence needs neither a side that serves nor one that takes messages of its length.
#[test]
fn a_side_that_takes_nothing() {
    let long = "L".repeat(250);
    let change = |at: usize, config: &mut Config| {
        config.proto.message_bytes_max = 64;
        config.proto.serving = at == SERVER;
        config.stream_above = Some(100);
        config.attest.attester = Some(mock(&"L".repeat(250)));
        config.attest.policy = Some(pinned(&"L".repeat(250)));
    };
    let mut world = World::with(3, 1, change);
    world.request(CLIENT, 64);
    world.pass(Duration::from_millis(50));
    assert_eq!((world.outcome(SERVER), world.outcome(CLIENT)), ((vec![64], 0), (vec![64], 0)));
    assert_eq!(report(&world, CLIENT), Some(format!("0={long}")));
}

/// Shows what it is told to, and keeps what it was asked for.
#[derive(Debug, Default)]
struct Store {
    made: Mutex<Vec<Vec<u8>>>,
    replays: Mutex<Option<Vec<u8>>>,
}

impl Attester for Store {
    fn format(&self) -> Format {
        FORMAT
    }
    fn evidence(&self, binding: &Binding) -> Result<Vec<u8>, EvidenceError> {
        let fresh = Mock::measured(vec![measured("GOOD")]).evidence(binding)?;
        self.made.lock().unwrap().push(fresh.clone());
        Ok(self.replays.lock().unwrap().clone().unwrap_or(fresh))
    }
}

/// A server and a client whose evidence passes through stores.
fn stored(seed: u64) -> (World, [Arc<Store>; 2]) {
    let stores = [Arc::<Store>::default(), Arc::default()];
    let world = World::with(seed, 1, |at, config| {
        config.attest.attester = Some(Arc::clone(&stores[at]) as Arc<dyn Attester>);
        config.attest.policy = Some(pinned("GOOD"));
    });
    (world, stores)
}

/// [P-6.16] Evidence of another session, and the other side's of this one, is genuine and worth nothing.
#[test]
fn evidence_that_was_shown_before() {
    let (mut first, stores) = stored(1);
    first.request(CLIENT, 10);
    first.pass(Duration::from_millis(50));
    assert_eq!(first.outcome(CLIENT), (vec![10], 0));
    let [servers, clients] = stores.map(|store| store.made.lock().unwrap()[0].clone());
    assert_ne!(servers, clients);
    let refused = Error::Evidence { whose: Side::Server, why: EvidenceError::NotBound };
    // Another session between the same two, with the same secret installed; what the server showed, and what the client did.
    for replayed in [servers, clients] {
        let (mut second, stores) = stored(2);
        *stores[SERVER].replays.lock().unwrap() = Some(replayed);
        second.request(CLIENT, 10);
        second.pass(Duration::from_secs(2));
        assert_eq!(failed(&second), refused);
        assert_nothing_came(&mut second);
    }
    // The client's own evidence, sent back to it in the same session: the server is asked after it was shown.
    let (mut third, stores) = stored(3);
    third.idle_judge = Some(SERVER);
    third.request(CLIENT, 10);
    third.pass(Duration::from_millis(5));
    *stores[SERVER].replays.lock().unwrap() = Some(stores[CLIENT].made.lock().unwrap()[0].clone());
    third.idle_judge = None;
    third.pass(Duration::from_secs(2));
    assert_eq!(failed(&third), refused);
}

/// Says that it has none today.
#[derive(Debug)]
struct Broken;

impl Attester for Broken {
    fn format(&self) -> Format {
        FORMAT
    }
    fn evidence(&self, _: &Binding) -> Result<Vec<u8>, EvidenceError> {
        Err(EvidenceError::Unavailable("no such device".to_owned()))
    }
}

#[test]
fn a_platform_that_makes_none() {
    let mut world = World::with(1, 1, |at, config| {
        config.attest.attester = (at == CLIENT).then(|| Arc::new(Broken) as Arc<dyn Attester>);
        config.attest.policy = (at == SERVER).then(|| pinned("GOOD"));
    });
    world.request(CLIENT, 10);
    world.pass(Duration::from_secs(2));
    assert_eq!(failed(&world), Error::NoEvidence { why: EvidenceError::Unavailable("no such device".to_owned()) });
    assert_nothing_came(&mut world);
}

/// Who closes, or restarts, in the middle: the other side's caller is told.
#[test]
fn a_peer_that_goes_in_the_middle() {
    let mut world = world([Some("GOOD"), None], [None, Some("GOOD")]);
    world.idle_judge = Some(CLIENT);
    world.request(CLIENT, 10);
    world.pass(Duration::from_millis(5));
    let session = world.session(SERVER);
    let now = world.now;
    world.server().close_session(session);
    world.pass(Duration::from_millis(50));
    assert_eq!(failed(&world), Error::EvidenceRefused { whose: Side::Server, verdict: Verdict::Other });
    assert!(world.now > now && now > Instant::ZERO);
    // What is judged too late changes nothing.
    world.idle_judge = None;
    world.pass(Duration::from_millis(50));
    assert_nothing_came(&mut world);
    assert_ne!(address(SERVER), address(CLIENT));
}
