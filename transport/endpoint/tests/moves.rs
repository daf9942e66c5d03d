//! A peer whose address changes keeps its sessions; nobody who copies packets moves one. [P-2.3]

mod world;

use world::{CLIENT, SERVER, World, address};

use std::net::SocketAddr;
use std::time::Duration;

use endpoint::config::Config;
use endpoint::endpoint::To;
use endpoint::events::Event;
use wire::limits::DATAGRAM_MIN;
use wire::trailer::Kind;

/// Where the client, or an attacker, is then.
const ELSEWHERE: usize = 77;

/// How the network of a test is.
struct Way {
    /// Where the client is.
    home: usize,
    /// Whoever is at the client's first address hears nothing any more.
    left: bool,
    /// Somebody at this place sees all packets, and is faster than they are: a copy of each of the client's comes first, from there;
    /// what is sent there goes on to the client.
    copier: Option<usize>,
    /// Bytes that came from elsewhere and went there, as long as the session had not moved.
    came: usize,
    went: usize,
}

impl Way {
    const fn to(home: usize) -> Self {
        Self { home, left: true, copier: None, came: 0, went: 0 }
    }
}

impl World {
    /// Lets everything happen for so long.
    fn travel(&mut self, way: &mut Way, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.travel_now(way);
            let due = self.timeout().filter(|at| *at > self.now).unwrap_or(end);
            self.now = due.min(end).min(self.now + Duration::from_millis(1));
        }
        self.travel_now(way);
    }

    fn travel_now(&mut self, way: &mut Way) {
        let mut out = vec![0; 1 << 16];
        for _ in 0..1000 {
            let mut moved = false;
            for at in [CLIENT, SERVER] {
                if self.ends[at].timeout().is_some_and(|due| due <= self.now) {
                    self.ends[at].handle_timeout(self.now);
                }
                self.ends[at].tidy();
                while let Some(event) = self.ends[at].poll_event() {
                    if let (true, Event::Request { id, payload, .. }) = (self.echo, &event) {
                        let _ = self.ends[at].reply(self.now, *id, payload.clone());
                    }
                    self.events[at].push(event);
                }
                while let Some(train) = self.ends[at].poll_transmit(self.now, &mut out) {
                    moved = true;
                    for bytes in out[..train.len].chunks(train.segment) {
                        self.carry(way, at, train.to, bytes);
                    }
                }
            }
            if !moved {
                return;
            }
        }
        panic!("it goes on for ever");
    }

    fn carry(&mut self, way: &mut Way, from: usize, to: SocketAddr, bytes: &[u8]) {
        let home = self.ends[SERVER].sessions().first().map(|session| session.origin.address);
        if from == CLIENT {
            if let Some(copier) = way.copier {
                way.came += bytes.len();
                self.feed_from(SERVER, address(copier), bytes, bytes.len());
            }
            way.came += if way.home == CLIENT { 0 } else { bytes.len() };
            return self.feed_from(SERVER, address(way.home), bytes, bytes.len());
        }
        if to != address(CLIENT) && home != Some(to) {
            way.went += bytes.len();
        }
        let hears = to == address(way.home) && !(to == address(CLIENT) && way.left);
        if hears || way.copier.is_some_and(|copier| to == address(copier)) {
            self.feed(SERVER, CLIENT, bytes);
        }
    }

    fn place(&self) -> SocketAddr {
        self.ends[SERVER].sessions()[0].origin.address
    }

    /// From where the last request came, as the application was told.
    fn asked_from(&self) -> SocketAddr {
        let from = |event: &Event| match event {
            Event::Request { from, .. } => Some(from.address),
            _ => None,
        };
        self.events[SERVER].iter().rev().find_map(from).expect("something was asked")
    }

    fn answered(&self) -> usize {
        self.events[CLIENT].iter().filter(|event| matches!(event, Event::Response { .. })).count()
    }
}

fn jumbo() -> World {
    World::on_path(1, 1, 9_000, |_, config: &mut Config| config.proto.resend_min = Duration::from_millis(1)).warm()
}

/// [P-2.3] [P-5.6] The client moves in the middle of calls: they all end well, in the same session, which goes on at the new address
/// and assumes nothing of the way there.
#[test]
fn a_client_that_moves_keeps_its_session() {
    let mut world = jumbo();
    let session = world.session(SERVER);
    let carried = world.ends[SERVER].sessions()[0].datagram_max;
    assert!(carried > DATAGRAM_MIN);
    for n in 0..20 {
        world.request(CLIENT, 500 * n);
    }
    let mut way = Way::to(ELSEWHERE);
    world.travel(&mut way, Duration::from_millis(500));
    assert_eq!((world.answered(), world.outcome(CLIENT).1), (20, 0));
    assert_eq!((world.place(), world.session(SERVER)), (address(ELSEWHERE), session));
    assert_eq!(world.counters(SERVER).sessions_moved, 1);
    assert!(way.went <= 3 * way.came, "{} bytes went where {} came from", way.went, way.came);
    assert_eq!(world.ends[SERVER].sessions()[0].datagram_max, DATAGRAM_MIN);
    let told = |event: &Event| matches!(event, Event::Moved { address: at, .. } if *at == address(ELSEWHERE));
    assert!(world.events[SERVER].iter().any(told));
    // Who knows what the way carries says so; no more than the peer takes.
    world.server().path_carries(session, 60_000);
    assert_eq!(world.ends[SERVER].sessions()[0].datagram_max, carried);
    // Both sides go on in it, also with what only the server begins.
    let call = world.try_send(SERVER, To::Session(session), Kind::OneWay, &world::body(3_000)).expect("it is taken");
    world.request(CLIENT, 100_000);
    world.travel(&mut way, Duration::from_millis(500));
    assert_eq!((world.answered(), world.outcome(CLIENT).1), (21, 0));
    assert!(world.events[SERVER].iter().any(|event| matches!(event, Event::Arrived { id, .. } if *id == call)));
    assert_eq!(world.asked_from(), address(ELSEWHERE));
    // And back again.
    world.request(CLIENT, 100);
    let mut way = Way { left: false, ..Way::to(CLIENT) };
    world.travel(&mut way, Duration::from_secs(2));
    world.request(CLIENT, 100);
    world.travel(&mut way, Duration::from_millis(500));
    assert_eq!((world.answered(), world.place(), world.asked_from()), (23, address(CLIENT), address(CLIENT)));
    world.assert_quiet();
}

/// [P-2.3] Whoever sees all packets, sends a faster copy of each from its own address, and passes on what is sent there: the session
/// stays where its peer answers.
#[test]
fn a_copier_moves_nothing() {
    let mut world = jumbo();
    let mut way = Way { left: false, copier: Some(ELSEWHERE), ..Way::to(CLIENT) };
    for _ in 0..200 {
        world.request(CLIENT, 2_000);
        world.travel(&mut way, Duration::from_millis(20));
        assert_eq!(world.place(), address(CLIENT));
    }
    assert_eq!((world.answered(), world.outcome(CLIENT).1), (200, 0));
    assert_eq!(world.counters(SERVER).sessions_moved, 0);
    assert!(way.went <= 3 * way.came && way.went < 49 * 10, "{} bytes went to the copier", way.went);
    world.assert_quiet();
}

/// [P-2.3] [P-5.4] What does not open asks nothing and moves nothing, wherever it comes from; nor does what opens and was here before.
#[test]
fn forgeries_and_copies_that_are_late_ask_nothing() {
    let mut world = jumbo();
    world.request(CLIENT, 10);
    world.collect();
    let datagram = world.wire.pop_front().expect("the request");
    for at in 20..datagram.bytes.len() {
        let mut bytes = datagram.bytes.clone();
        bytes[at] ^= 1;
        world.feed_from(SERVER, address(ELSEWHERE), &bytes, bytes.len());
        world.assert_silent(SERVER);
    }
    world.deliver(&datagram);
    world.settle();
    assert_eq!(world.outcome(CLIENT), (vec![10], 0));
    world.pass(Duration::from_millis(100));
    let old: Vec<Vec<u8>> =
        world.trace.iter().filter(|d| d.to == SERVER && d.sealed()).map(|d| d.bytes.clone()).collect();
    assert!(old.len() > 2);
    for bytes in old {
        world.feed_from(SERVER, address(ELSEWHERE), &bytes, bytes.len());
        world.server().tidy();
        world.assert_silent(SERVER);
    }
    assert_eq!(world.ends[SERVER].holdings().moving, (0, 0));
}
