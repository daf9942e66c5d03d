//! First flights in whole endpoints, by published tickets above all: taken once, marked, refused, brought again, and never run twice.
//! [P-6.9] [P-6.11] [P-6.12]
#![cfg(feature = "tls")]

mod world;

use world::{CLIENT, Datagram, Rng, SERVER, World, address, body};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use attest::mock::Mock;
use attest::policy::Asks;
use endpoint::config::Config;
use endpoint::endpoint::{Endpoint, To};
use endpoint::error::Ended;
use endpoint::events::Event;
use endpoint::rates::Rate;
use endpoint::session::{CallId, Protection, Upgrade};
use handshake::config::{ClientConfig, Clients, ServerConfig, Trust};
use handshake::identity::Identity;
use handshake::limits::PUBLISHED_LIFETIME;
use handshake::published::{Publisher, VerifiedTicket};
use proto::io::Failure;
use record::aead::Cipher;
use wire::handshake::Level;
use wire::ids::SessionId;
use wire::packet::Packet;
use wire::trailer::Kind;

const TODAY: u64 = 1_790_000_000;
const WAYS: [Upgrade; 2] = [Upgrade::TicketOnly, Upgrade::ForwardSecret];

/// Who a server is, and whom clients believe.
#[derive(Clone)]
struct Named {
    identity: Identity,
    trust: Trust,
}

fn named() -> Named {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    Named {
        identity: Identity::pem("test", certificate.as_bytes(), key.as_bytes()).unwrap(),
        trust: Trust::pem("test", certificate.as_bytes()).unwrap(),
    }
}

impl Named {
    fn configure(&self, config: &mut Config, flights_max: usize) {
        let publisher = Arc::new(Publisher::new(&self.identity, &Cipher::ALL, PUBLISHED_LIFETIME, flights_max));
        let server = ServerConfig::new(&self.identity, Clients::Anonymous, &Cipher::ALL).unwrap();
        config.server = Some(Arc::new(server.publish(Some(publisher))));
        config.client = Some(Arc::new(ClientConfig::new(&self.trust, None, &Cipher::ALL).unwrap()));
        config.unix_seconds_at_zero = TODAY;
    }

    fn world_with(&self, seed: u64, clients: usize, change: impl Fn(&mut Config), flights_max: usize) -> World {
        let mut world = World::with(seed, clients, |_, config| {
            self.configure(config, flights_max);
            change(config);
        });
        for at in 1..=clients {
            world.targets[at] = world.ends[at].target(address(SERVER), "localhost", 1452);
        }
        world
    }

    fn world(&self) -> World {
        self.world_with(1, 1, |_| (), 1000)
    }

    /// The ticket that the server publishes now.
    fn ticket(&self, world: &World) -> VerifiedTicket {
        let ticket = world.ends[SERVER].published_ticket(world.now).unwrap().unwrap();
        ticket.verify(&self.trust, "localhost", TODAY + 1).unwrap()
    }

    fn use_ticket(&self, world: &mut World, at: usize, way: Upgrade) {
        let (ticket, target) = (self.ticket(world), world.targets[at]);
        assert_eq!(world.ends[at].wants_ticket(target), Some("localhost"));
        world.ends[at].use_ticket(target, ticket, way);
    }

    /// The server crashes and is started again.
    fn restart(&self, world: &mut World) {
        self.restart_with(world, |_| ());
        world.ends[SERVER].published_ticket(world.now).unwrap();
    }

    fn restart_with(&self, world: &mut World, change: impl Fn(&mut Config)) {
        let mut config = Config::new(offload::software::crypto());
        config.proto.serving = true;
        self.configure(&mut config, 1000);
        change(&mut config);
        let mut rng = Rng::new(0xdead);
        let entropy = move |bytes: &mut [u8]| bytes.iter_mut().for_each(|b| *b = rng.next() as u8);
        world.ends[SERVER] = Endpoint::new(config, Box::new(entropy));
    }
}

/// A request that may go early.
fn early(world: &mut World, at: usize, length: usize) -> CallId {
    world.ends[at].early_next(true);
    let id = world.send(at, Kind::Request, &body(length));
    world.ends[at].early_next(false);
    id
}

/// How each request at the server was protected, by its length.
fn ran(world: &World, length: usize) -> Vec<Protection> {
    let is_it = |event: &Event| match event {
        Event::Request { from, payload, .. } if payload.len() == length => Some(from.protection),
        _ => None,
    };
    world.events[SERVER].iter().filter_map(is_it).collect()
}

fn failure(world: &World, at: usize, call: CallId) -> Option<(Failure, bool)> {
    world.events[at].iter().find_map(|event| match event {
        Event::Failed { id, why: Ended::Failed(why), may_have_run, .. } if *id == call => Some((*why, *may_have_run)),
        _ => None,
    })
}

fn is_answered(world: &World, at: usize, call: CallId) -> bool {
    world.events[at].iter().any(|event| matches!(event, Event::Response { id, .. } if *id == call))
}

fn handshake_level(bytes: &[u8]) -> Option<Level> {
    match Packet::parse(bytes) {
        Ok(Packet::Handshake(packet)) => Some(packet.fields.level),
        _ => None,
    }
}

/// What a stranger brings, from an address of its own.
fn bring(world: &mut World, datagrams: &[Datagram], from: u8) {
    for datagram in datagrams {
        world.feed_from(SERVER, SocketAddr::from(([198, 51, 100, from], 9)), &datagram.bytes, datagram.bytes.len());
    }
    world.pass(Duration::from_millis(50));
}

/// [P-6.12] Requests of a first flight run once and say how they came; what follows in the session is as always. Both ways, as many
/// as fit and more.
#[test]
fn taken_and_marked() {
    let named = named();
    for way in WAYS {
        let mut world = named.world();
        named.use_ticket(&mut world, CLIENT, way);
        let calls: Vec<CallId> = (1..=10).map(|n| early(&mut world, CLIENT, n * 100)).collect();
        world.pass(Duration::from_millis(50));
        for (call, n) in calls.into_iter().zip(1..) {
            assert!(is_answered(&world, CLIENT, call), "{way:?} {n}");
            let expected = if n <= 8 { Protection::PublishedTicket } else { Protection::Full };
            assert_eq!(ran(&world, n * 100), [expected]);
        }
        assert_eq!((world.counters(CLIENT).early_sent, world.counters(SERVER).early_taken), (8, 8));
        let later = early(&mut world, CLIENT, 5000);
        world.pass(Duration::from_millis(50));
        assert!(is_answered(&world, CLIENT, later));
        assert_eq!(ran(&world, 5000), [Protection::Full]);
        let server = world.server().sessions();
        assert!(server[0].open && !server[0].mutual);
        world.pass(Duration::from_secs(20));
        world.assert_quiet();
    }
}

/// [P-6.16] A server that demands evidence publishes nothing and takes no flight, of whichever ticket: it comes before evidence can. A
/// client that demands it sends none.
#[test]
fn nothing_before_evidence() {
    let named = named();
    let policy = || Some(Arc::new(Asks::new().verifier(Mock::default()).development()));
    for way in WAYS {
        let mut world = named.world();
        let ticket = named.ticket(&world);
        named.restart_with(&mut world, |config| config.attest.policy = policy());
        assert!(world.ends[SERVER].published_ticket(world.now).unwrap().is_none());
        let (client, target) =
            (ServerConfig::new(&named.identity, Clients::Anonymous, &Cipher::ALL), world.targets[CLIENT]);
        let publisher = Publisher::new(&named.identity, &Cipher::ALL, PUBLISHED_LIFETIME, 1000);
        let server = client.unwrap().publish(Some(Arc::new(publisher)));
        world.ends[SERVER].reload(None, Some(Arc::new(server)));
        assert!(world.ends[SERVER].published_ticket(world.now).unwrap().is_none());
        world.ends[CLIENT].use_ticket(target, ticket, way);
        early(&mut world, CLIENT, 100);
        world.pass(Duration::from_secs(2));
        assert_eq!(ran(&world, 100), []);
        assert_eq!((world.counters(CLIENT).early_sent, world.counters(SERVER).early_taken), (1, 0), "{way:?}");

        let shows = |config: &mut Config| config.attest.attester = Some(Arc::new(Mock::default()));
        let mut world = named.world_with(1, 1, shows, 1000);
        named.use_ticket(&mut world, CLIENT, way);
        let ticket = named.ticket(&world);
        let mut config = Config::new(offload::software::crypto());
        named.configure(&mut config, 1000);
        config.attest.policy = policy();
        world.ends[CLIENT] = Endpoint::new(config, Box::new(|bytes: &mut [u8]| bytes.fill(7)));
        world.targets[CLIENT] = world.ends[CLIENT].target(address(SERVER), "localhost", 1452);
        let target = world.targets[CLIENT];
        world.ends[CLIENT].use_ticket(target, ticket, way);
        early(&mut world, CLIENT, 100);
        world.pass(Duration::from_millis(50));
        assert_eq!(ran(&world, 100), [Protection::Full]);
        assert_eq!(world.counters(CLIENT).early_sent, 0);
    }
}

/// [P-6.12] The answers of the first flight leave the server before its session is open, and none of them is lost by that: an
/// application that takes its time answers when it is open.
#[test]
fn answers_early_and_late() {
    let named = named();
    for way in WAYS {
        for late in [false, true] {
            let mut world = named.world();
            world.echo = !late;
            named.use_ticket(&mut world, CLIENT, way);
            let call = early(&mut world, CLIENT, 200);
            world.pass(Duration::from_millis(50));
            let early_answers =
                world.trace.iter().filter(|d| d.from == SERVER && handshake_level(&d.bytes) == Some(Level::Early));
            assert_eq!(early_answers.count(), usize::from(!late));
            if late {
                let at = world.events[SERVER].iter().position(|event| matches!(event, Event::Request { .. })).unwrap();
                let Event::Request { id, payload, .. } = &world.events[SERVER][at] else { panic!() };
                let (id, payload, now) = (*id, payload.clone(), world.now);
                world.server().reply(now, id, payload).unwrap();
                world.pass(Duration::from_millis(50));
            }
            assert!(is_answered(&world, CLIENT, call), "{way:?} {late}");
            assert_eq!(ran(&world, 200).len(), 1);
        }
    }
}

/// [P-6.12] Everything that a client sent is brought again: to the same process, to one that was started again, to a second server, from
/// other addresses, forwards and backwards. Nothing runs, no session opens, nothing is kept.
#[test]
fn brought_again() {
    let named = named();
    for way in WAYS {
        let mut world = named.world();
        named.use_ticket(&mut world, CLIENT, way);
        early(&mut world, CLIENT, 300);
        world.pass(Duration::from_millis(50));
        assert_eq!(ran(&world, 300).len(), 1);
        let mut recorded: Vec<Datagram> = world.trace.iter().filter(|d| d.to == SERVER).cloned().collect();
        assert!(recorded.iter().any(|d| handshake_level(&d.bytes) == Some(Level::Early)));
        recorded.extend(recorded.clone().into_iter().rev());
        for server in 0..3 {
            match server {
                0 => {}
                1 => named.restart(&mut world),
                _ => self::named().restart(&mut world),
            }
            let before = world.counters(SERVER).handshakes_completed;
            for from in 1..4 {
                bring(&mut world, &recorded, from);
            }
            assert_eq!(ran(&world, 300).len(), 1, "{way:?}, server {server}");
            world.pass(Duration::from_secs(30));
            assert_eq!(world.counters(SERVER).handshakes_completed, before);
            assert!(world.server().sessions().len() <= 1, "what the client has, and no half-open ones");
        }
    }
}

/// [P-6.12] [P-7.3] Somebody brings a copy of the flight before the client does: it runs once, and the client, who cannot have the answer,
/// is told that it may have run. It does not run it again; what comes after it goes on.
#[test]
fn a_copy_was_faster() {
    let named = named();
    for way in WAYS {
        let mut world = named.world();
        named.use_ticket(&mut world, CLIENT, way);
        let call = early(&mut world, CLIENT, 300);
        let other = world.request(CLIENT, 400);
        world.collect();
        let flight: Vec<Datagram> = world.wire.drain(..).collect();
        bring(&mut world, &flight, 7);
        assert_eq!(ran(&world, 300), [Protection::PublishedTicket]);
        world.pass(Duration::from_secs(1));
        assert_eq!(ran(&world, 300).len(), 1, "{way:?}");
        assert_eq!(failure(&world, CLIENT, call), Some((Failure::PeerRestarted, true)));
        assert!(is_answered(&world, CLIENT, other));
        let target = world.targets[CLIENT];
        let again = world.try_send(CLIENT, To::Target(target), Kind::Request, &body(500)).unwrap();
        world.pass(Duration::from_secs(1));
        assert!(is_answered(&world, CLIENT, again));
    }
}

/// [P-6.9] The same of early data, whose ticket is of an earlier session: where the server does not resume, a copy may have been faster. Where it
/// resumes without early data, its word that nothing ran is as good as its keys, and the request goes on.
#[test]
fn early_data_that_is_not_taken() {
    let named = named();
    for faster in [true, false] {
        let server = ServerConfig::new(&named.identity, Clients::Anonymous, &Cipher::ALL).unwrap().early_data(true);
        let mut world = named.world_with(1, 1, |config| config.early_data_bytes_max = 1 << 14, 1000);
        world.ends[SERVER].reload(None, Some(Arc::new(server.clone())));
        world.request(CLIENT, 100);
        world.pass(Duration::from_millis(50));
        let session = world.session(CLIENT);
        world.client().close_session(session);
        world.pass(Duration::from_millis(50));

        let call = early(&mut world, CLIENT, 300);
        if faster {
            world.collect();
            let flight: Vec<Datagram> = world.wire.drain(..).collect();
            bring(&mut world, &flight, 7);
            assert_eq!(ran(&world, 300), [Protection::EarlyData]);
        } else {
            world.ends[SERVER].reload(None, Some(Arc::new(server.early_data(false))));
        }
        world.pass(Duration::from_secs(1));
        assert_eq!(world.counters(CLIENT).early_sent, 1);
        let expected = if faster { Protection::EarlyData } else { Protection::Full };
        assert_eq!(ran(&world, 300), [expected]);
        assert_eq!(failure(&world, CLIENT, call), faster.then_some((Failure::PeerRestarted, true)));
        assert_eq!(is_answered(&world, CLIENT, call), !faster);
        let again = world.request(CLIENT, 400);
        world.pass(Duration::from_secs(1));
        assert!(is_answered(&world, CLIENT, again));
    }
}

/// [P-6.12] A memory that is full takes nothing more, and says so under keys: the request goes on like any other, and runs once.
#[test]
fn a_full_memory() {
    let named = named();
    for way in WAYS {
        let mut world = named.world_with(1, 3, |_| (), 2);
        for at in 1..=3 {
            named.use_ticket(&mut world, at, way);
            let call = early(&mut world, at, at * 100);
            world.pass(Duration::from_millis(100));
            assert!(is_answered(&world, at, call));
            let expected = if at <= 2 { Protection::PublishedTicket } else { Protection::Full };
            assert_eq!(ran(&world, at * 100), [expected], "{way:?}");
        }
    }
}

/// [P-6.12] [P-6.4] Openings are limited, whoever brings them: who comes above the limit waits, and is served.
#[test]
fn openings_are_limited() {
    let named = named();
    let few = |config: &mut Config| config.limits.tickets_opened = Rate::new(10, 1);
    let mut world = named.world_with(1, 4, few, 1000);
    let calls: Vec<CallId> = (1..=4)
        .map(|at| {
            named.use_ticket(&mut world, at, Upgrade::TicketOnly);
            early(&mut world, at, at * 100)
        })
        .collect();
    world.settle();
    let taken = |world: &World| (1..=4).map(|at| ran(world, at * 100).len()).sum::<usize>();
    assert_eq!(taken(&world), 1);
    assert!(world.counters(SERVER).dropped_rate_limited + world.counters(SERVER).dropped_handshake >= 3);
    world.pass(Duration::from_secs(5));
    assert_eq!(taken(&world), 4);
    for (at, call) in (1..=4).zip(calls) {
        assert!(is_answered(&world, at, call));
        assert_eq!(ran(&world, at * 100), [Protection::PublishedTicket]);
    }
    // Names of tickets that nobody has cost no opening.
    let mut world = named.world_with(2, 2, few, 1000);
    named.use_ticket(&mut world, 1, Upgrade::TicketOnly);
    early(&mut world, 1, 100);
    world.collect();
    let genuine: Vec<Datagram> = world.wire.drain(..).collect();
    for n in 0..50u8 {
        let mut bytes = genuine[0].bytes.clone();
        // The ticket's name, behind the fields, the type and the length.
        bytes[53 + 3] ^= 1 + n;
        bytes[16 + 7] ^= n;
        world.feed_from(SERVER, SocketAddr::from(([198, 51, 100, n], 9)), &bytes, bytes.len());
    }
    genuine.iter().for_each(|datagram| world.deliver(datagram));
    world.settle();
    assert_eq!(ran(&world, 100).len(), 1);
}

/// [P-6.12] [P-7.3] A server that was started again does not know the ticket. Nobody can say whether the flight ran before: the caller is
/// told so. In the same session what was not early is answered, and the ticket is not tried again.
#[test]
fn a_stale_ticket() {
    let named = named();
    for way in WAYS {
        let mut world = named.world();
        named.use_ticket(&mut world, CLIENT, way);
        named.restart(&mut world);
        let call = early(&mut world, CLIENT, 300);
        let other = world.request(CLIENT, 400);
        let held: SessionId = call.session;
        world.pass(Duration::from_secs(1));
        assert_eq!(failure(&world, CLIENT, call), Some((Failure::PeerRestarted, true)), "{way:?}");
        assert!(ran(&world, 300).is_empty());
        assert!(is_answered(&world, CLIENT, other));
        assert_eq!((other.session, world.session(CLIENT)), (held, held));
        assert_eq!(world.counters(CLIENT).tickets_stale, u64::from(way == Upgrade::TicketOnly));
        world.ends[CLIENT].close_session(held);
        world.pass(Duration::from_millis(10));
        let next = early(&mut world, CLIENT, 500);
        world.pass(Duration::from_secs(1));
        assert!(is_answered(&world, CLIENT, next));
        assert_eq!(ran(&world, 500), [Protection::Full]);
    }
}

/// [P-6.12] Other trust, other tickets: those of before a reload are used no more, nor taken.
#[test]
fn reloaded() {
    let named = named();
    let mut world = named.world();
    named.use_ticket(&mut world, CLIENT, Upgrade::TicketOnly);
    let client = world.client().config().client.clone();
    world.client().reload(client, None);
    let call = early(&mut world, CLIENT, 100);
    world.pass(Duration::from_secs(1));
    assert!(is_answered(&world, CLIENT, call));
    assert_eq!(ran(&world, 100), [Protection::Full]);
}

/// [P-6.12] [P-7.1] Where a fifth of everything is lost and some comes twice, every request runs at most once; one that was answered ran;
/// one that failed is said to have perhaps run.
#[test]
fn under_loss() {
    let named = named();
    let mut early_ones = 0;
    for seed in 0..60 {
        for way in WAYS {
            let mut world = named.world_with(seed + 1, 1, |_| (), 1000);
            named.use_ticket(&mut world, CLIENT, way);
            let mut rng = Rng::new(seed);
            world.lose = Box::new(move |_| rng.below(5) == 0);
            let calls: Vec<CallId> = (1..=4).map(|n| early(&mut world, CLIENT, n * 100)).collect();
            for _ in 0..40 {
                world.pass(Duration::from_millis(50));
                // Some of what was sent comes again.
                let again = world.trace.iter().filter(|d| d.to == SERVER).nth(seed as usize % 5).cloned();
                world.wire.extend(again);
            }
            for (call, n) in calls.into_iter().zip(1..) {
                let times = ran(&world, n * 100).len();
                assert!(times <= 1, "{way:?}, seed {seed}");
                match failure(&world, CLIENT, call) {
                    Some((_, may_have_run)) => assert!(may_have_run || times == 0),
                    None => assert!(is_answered(&world, CLIENT, call) && times == 1, "{way:?}, seed {seed}, {n}"),
                }
                early_ones += usize::from(ran(&world, n * 100) == [Protection::PublishedTicket]);
            }
        }
    }
    assert!(early_ones > 240, "{early_ones} of 480");
}
