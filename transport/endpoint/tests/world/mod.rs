//! Endpoints in one thread, with a wire between them that the test holds in its hand: virtual time, installed secrets, the
//! record engine in software, one seed.
#![allow(dead_code, unreachable_pub, missing_debug_implementations, reason = "each test file uses its part")]

pub mod forger;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use endpoint::config::Config;
use endpoint::counters::Counters;
use endpoint::endpoint::{Endpoint, Sending, To};
use endpoint::error::Misuse;
use endpoint::events::Event;
use endpoint::session::CallId;
use proto::time::Instant;
use record::keys::Secret;
use wire::header::Header;
use wire::ids::{RecordNumber, SessionId, Side};
use wire::slice::{Part, part_at};
use wire::trailer::Kind;

/// The server's place among the ends; the others are clients.
pub const SERVER: usize = 0;
/// The first client's.
pub const CLIENT: usize = 1;

/// The secret of client `at` and the server.
pub fn secret(at: usize) -> Secret {
    Secret::new([at as u8; 32])
}

pub fn address(at: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, at as u8], 7000))
}

/// xorshift64*.
pub struct Rng(pub u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }
}

/// A datagram on its way, or as it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub from: usize,
    pub to: usize,
    pub bytes: Vec<u8>,
}

impl Datagram {
    pub fn header(&self) -> Header {
        Header::parse(&self.bytes).expect("it is ours")
    }
    /// DATA or CONTROL: sealed with a session's keys.
    pub fn sealed(&self) -> bool {
        matches!(self.bytes[0] & 0xf, 1 | 2)
    }
    pub fn data(&self) -> bool {
        self.bytes[0] & 0xf == 1
    }
    /// The number of the first record of a DATA packet, or of the one that it has a slice of; and which byte of that the slice begins with.
    pub fn number(&self) -> (RecordNumber, usize) {
        match part_at(&self.bytes, 20).expect("a record, or a slice of one") {
            Part::Record(view) => (view.number, 0),
            Part::Slice(view) => (view.number, view.slice.start),
        }
    }
}

/// A server, clients, and a wire.
pub struct World {
    pub now: Instant,
    pub ends: Vec<Endpoint>,
    /// Each client's target: the server.
    pub targets: Vec<u32>,
    pub wire: VecDeque<Datagram>,
    /// Everything that was ever sent, in order.
    pub trace: Vec<Datagram>,
    pub events: Vec<Vec<Event>>,
    /// Requests are answered with what they say.
    pub echo: bool,
    /// Evidence of this end is neither made nor judged.
    pub idle_judge: Option<usize>,
    /// What the wire loses.
    pub lose: Box<dyn FnMut(&Datagram) -> bool>,
}

/// How everything looks from outside, but for what counts drops. Equal before and after means that nothing happened.
pub type View = String;

impl World {
    /// A server and one client.
    pub fn new() -> Self {
        Self::with(1, 1, |_, _| ())
    }

    /// A server and so many clients, as `change` makes them.
    pub fn with(seed: u64, clients: usize, change: impl Fn(usize, &mut Config)) -> Self {
        Self::on_path(seed, clients, 1452, change)
    }

    pub fn on_path(seed: u64, clients: usize, datagram_max: usize, change: impl Fn(usize, &mut Config)) -> Self {
        let end = |at: usize| {
            let mut config = Config::new(offload::software::crypto());
            config.proto.serving = true;
            // What is left is looked at soon after.
            config.proto.short_ack_delay = config.proto.ack_delay;
            config.spans = true;
            change(at, &mut config);
            let mut rng = Rng::new(seed * 1000 + at as u64);
            let entropy = move |bytes: &mut [u8]| bytes.iter_mut().for_each(|byte| *byte = rng.next() as u8);
            Endpoint::new(config, Box::new(entropy))
        };
        let mut ends: Vec<Endpoint> = (0..=clients).map(end).collect();
        let mut targets = vec![u32::MAX];
        for at in 1..=clients {
            ends[SERVER].install(address(at), Side::Server, &secret(at), "a client", datagram_max);
            let target = ends[at].install(address(SERVER), Side::Client, &secret(at), "the server", datagram_max);
            targets.push(target.expect("a client's end has a target"));
        }
        let events = ends.iter().map(|_| Vec::new()).collect();
        Self {
            now: Instant::from_nanos(1_000_000_000),
            ends,
            targets,
            wire: VecDeque::new(),
            trace: Vec::new(),
            events,
            echo: true,
            idle_judge: None,
            lose: Box::new(|_| false),
        }
    }

    /// The same, after one call of each client went through and everything became quiet.
    pub fn warm(mut self) -> Self {
        for at in 1..self.ends.len() {
            self.request(at, 10);
        }
        self.pass(Duration::from_millis(50));
        for at in 1..self.ends.len() {
            assert!(matches!(self.events[at][..], [Event::Connected { .. }, Event::Response { .. }]));
        }
        self.events.iter_mut().for_each(Vec::clear);
        self.assert_quiet();
        self
    }

    pub fn client(&mut self) -> &mut Endpoint {
        &mut self.ends[CLIENT]
    }

    pub fn server(&mut self) -> &mut Endpoint {
        &mut self.ends[SERVER]
    }

    /// What end `at` calls its only session.
    pub fn session(&self, at: usize) -> SessionId {
        match self.ends[at].open_sessions()[..] {
            [session] => session,
            ref sessions => panic!("{sessions:?}"),
        }
    }

    pub fn counters(&self, at: usize) -> Counters {
        *self.ends[at].counters()
    }

    // ---- Calls ----

    pub fn try_send(&mut self, at: usize, to: To, kind: Kind, body: &[u8]) -> Result<CallId, Misuse> {
        let body = self.ends[at].copy(body);
        let sending = Sending { kind, cookie: 0, waited: false, deadline: Instant::FAR, streamed: false };
        self.ends[at].send(self.now, to, body, sending)
    }

    pub fn send(&mut self, at: usize, kind: Kind, body: &[u8]) -> CallId {
        let to = To::Target(self.targets[at]);
        self.try_send(at, to, kind, body).expect("it is taken")
    }

    /// Client `at` begins a request of so many bytes.
    pub fn request(&mut self, at: usize, length: usize) -> CallId {
        self.send(at, Kind::Request, &body(length))
    }

    // ---- The wire ----

    /// Everything that the ends have to do now is done, and what they have to send goes onto the wire.
    pub fn collect(&mut self) {
        let mut out = vec![0; 1 << 16];
        for at in 0..self.ends.len() {
            if self.wire.is_empty() {
                self.ends[at].tidy();
            }
            if self.ends[at].timeout().is_some_and(|due| due <= self.now) {
                self.ends[at].handle_timeout(self.now);
            }
            while self.idle_judge != Some(at)
                && let Some(work) = self.ends[at].poll_work()
            {
                self.ends[at].work_done(self.now, work.run());
            }
            while let Some(event) = self.ends[at].poll_event() {
                if let (true, Event::Request { id, payload, .. }) = (self.echo, &event) {
                    let _ = self.ends[at].reply(self.now, *id, payload.clone());
                }
                self.events[at].push(event);
            }
            while let Some(train) = self.ends[at].poll_transmit(self.now, &mut out) {
                // Where nobody is, nothing arrives.
                let Some(to) = (0..self.ends.len()).find(|to| address(*to) == train.to) else { continue };
                for bytes in out[..train.len].chunks(train.segment) {
                    let datagram = Datagram { from: at, to, bytes: bytes.to_vec() };
                    self.trace.push(datagram.clone());
                    self.wire.push_back(datagram);
                }
            }
        }
    }

    /// Bytes arrive at `to` from an address, as one train.
    pub fn feed_from(&mut self, to: usize, from: SocketAddr, bytes: &[u8], segment: usize) {
        let mut buffer = self.ends[to].buffer();
        buffer.bytes()[..bytes.len()].copy_from_slice(bytes);
        self.ends[to].handle_datagrams(self.now, from, buffer, bytes.len(), segment);
    }

    /// One datagram arrives at `to`, from the address of `from`.
    pub fn feed(&mut self, from: usize, to: usize, bytes: &[u8]) {
        self.feed_from(to, address(from), bytes, bytes.len());
    }

    /// One datagram arrives.
    pub fn deliver(&mut self, datagram: &Datagram) {
        self.feed(datagram.from, datagram.to, &datagram.bytes);
    }

    /// Until nothing is on the wire, without time passing.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            self.collect();
            match self.wire.pop_front() {
                Some(datagram) if (self.lose)(&datagram) => {}
                Some(datagram) => self.deliver(&datagram),
                None => return,
            }
        }
        panic!("it goes on for ever");
    }

    /// Time passes, timer by timer; the wire carries everything at once.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        for _ in 0..100_000 {
            let Some(next) = self.timeout().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            for end in &mut self.ends {
                end.handle_timeout(self.now);
                assert!(end.timeout().is_none_or(|at| at > self.now), "a timer spins");
            }
            self.settle();
        }
        panic!("it goes on for ever");
    }

    pub fn timeout(&self) -> Option<Instant> {
        self.ends.iter().filter_map(Endpoint::timeout).min()
    }

    // ---- Looking ----

    /// End `at` as it looks from outside.
    pub fn view(&self, at: usize) -> View {
        let end = &self.ends[at];
        let counters: Vec<_> = (end.counters().iter())
            .filter(|(name, _)| !name.starts_with("dropped_") && *name != "datagrams_received")
            .collect();
        let (sessions, calls) = (end.sessions(), end.calls());
        format!("{counters:?} {sessions:?} {calls:?} {:?} {} {}", end.timeout(), end.held_bytes(), end.is_busy())
    }

    /// `bytes` arrive at `to` and do nothing: one of the counters of `names` rises by one, and that is all.
    pub fn assert_dropped(&mut self, from: usize, to: usize, bytes: &[u8], names: &[&str]) {
        let (view, before) = (self.view(to), self.counters(to));
        self.feed(from, to, bytes);
        let after = self.counters(to);
        let risen: Vec<_> = (before.iter().zip(after.iter()))
            .filter(|((name, before), (_, after))| before != after && *name != "datagrams_received")
            .map(|((name, before), (_, after))| (name, after - before))
            .collect();
        assert!(risen.len() == 1 && names.contains(&risen[0].0) && risen[0].1 == 1, "{risen:?}, not {names:?}");
        assert_eq!(self.view(to), view);
        self.assert_silent(to);
    }

    /// End `at` has nothing to send or to tell.
    pub fn assert_silent(&mut self, at: usize) {
        let mut out = vec![0; 1 << 16];
        assert_eq!(self.ends[at].poll_transmit(self.now, &mut out), None);
        assert!(self.ends[at].poll_event().is_none());
    }

    /// Nothing of any call is left.
    pub fn assert_quiet(&mut self) {
        for at in 0..self.ends.len() {
            assert!(!self.ends[at].is_busy(), "{at}: {:?}", self.ends[at].calls());
            self.assert_silent(at);
        }
        assert!(self.wire.is_empty());
    }

    /// Lengths of what was delivered at `at`, and the number of calls that failed.
    pub fn outcome(&self, at: usize) -> (Vec<usize>, usize) {
        let delivered = |event: &Event| match event {
            Event::Request { payload, .. } | Event::OneWay { payload, .. } | Event::Response { payload, .. } => {
                assert_eq!(payload[..], body(payload.len()));
                Some(payload.len())
            }
            _ => None,
        };
        let failed = self.events[at].iter().filter(|event| matches!(event, Event::Failed { .. })).count();
        (self.events[at].iter().filter_map(delivered).collect(), failed)
    }
}

/// Bytes that tell where they belong.
pub fn body(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 251) as u8).collect()
}
