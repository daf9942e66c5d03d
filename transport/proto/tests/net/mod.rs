//! Two machines and a network between them that loses, repeats, reorders and delays; virtual time, one seed.
//!
//! What must always hold is asserted at every step: a request is delivered once, each record of a message is new once,
//! grants and buffers stay in their budgets, no timer asks for the moment that just passed.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part of the harness")]

mod rng;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::time::Duration;

use proto::config::Config;
use proto::io::{Arrival, Event, Failure, State};
use proto::machine::Machine;
use proto::time::Instant;
use wire::control::Frame;
use wire::geometry::Geometry;
use wire::ids::{RpcId, Side};
use wire::trailer::{Kind, Trailer};

pub use rng::Rng;

/// The session's slot in both machines.
pub const PEER: u32 = 0;

/// What crosses the network.
#[derive(Clone, Debug)]
pub enum Packet {
    Record { rpc: RpcId, index: u16, trailer: Trailer, acks: Vec<RpcId> },
    Frames(Vec<Frame>),
}

/// What the network does to packets.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub loss_percent: u64,
    pub repeat_percent: u64,
    /// Delay is between one and this many times 10 us.
    pub delay_steps: u64,
}

pub const NO_FAULTS: Faults = Faults { loss_percent: 0, repeat_percent: 0, delay_steps: 1 };

/// How a call of ours ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Open,
    Answered,
    Arrived,
    Failed(Failure, bool),
    Cancelled,
}

enum Happening {
    Arrives(Packet),
    Wakes,
    Answers(u32, RpcId),
    Begins { kind: Kind, length: usize },
    Cancels(usize),
    Dies,
}

/// One end.
pub struct Node {
    pub machine: Machine,
    pub side: Side,
    pub alive: bool,
    pub datagram: usize,
    /// What goes out, by slot: the trailer and acks that every record of it carries.
    out: HashMap<u32, (Trailer, Vec<RpcId>)>,
    /// What came in of messages that are not complete.
    parts: HashMap<RpcId, HashSet<u16>>,
    pub calls: Vec<(RpcId, Fate)>,
    /// Requests and one-way messages that were delivered.
    pub delivered: HashSet<RpcId>,
    /// In the order in which they were.
    pub order: Vec<RpcId>,
    link_free: Instant,
    /// When it is woken next.
    wakes_at: Instant,
    next: u64,
    /// Records that came and were not new.
    pub wasted: u64,
}

/// The world.
pub struct Net {
    pub nodes: [Node; 2],
    pub faults: Faults,
    pub now: Instant,
    pub rng: Rng,
    /// Longest time that a request is in service, in microseconds.
    pub service_us: u64,
    happenings: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    what: HashMap<u64, Happening>,
    count: u64,
    seed: u64,
}

impl Drop for Net {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} at {:?}, {:?}", self.seed, self.now, self.faults);
        }
    }
}

fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

impl Net {
    pub fn new(seed: u64, config: Config, faults: Faults) -> Self {
        let node = |side: Side| {
            let mut machine = Machine::new(config, (seed, 1));
            machine.open_peer(PEER, side, us(100), config.unscheduled_bytes, 0);
            Node {
                machine,
                side,
                alive: true,
                datagram: if seed.is_multiple_of(2) { 1472 } else { 16_384 },
                out: HashMap::new(),
                parts: HashMap::new(),
                calls: Vec::new(),
                delivered: HashSet::new(),
                order: Vec::new(),
                link_free: Instant::ZERO,
                wakes_at: Instant::FAR,
                next: 0,
                wasted: 0,
            }
        };
        Self {
            nodes: [node(Side::Client), node(Side::Server)],
            faults,
            now: Instant::ZERO,
            rng: Rng::new(seed),
            service_us: 500,
            happenings: BinaryHeap::new(),
            what: HashMap::new(),
            count: 0,
            seed,
        }
    }

    fn plan(&mut self, at: Instant, node: usize, what: Happening) {
        self.count += 1;
        self.happenings.push(Reverse((at, self.count, node)));
        self.what.insert(self.count, what);
    }

    /// `node` will begin a message after `wait`.
    pub fn begin_after(&mut self, wait: Duration, node: usize, kind: Kind, length: usize) {
        self.plan(self.now + wait, node, Happening::Begins { kind, length });
    }

    /// `node` will cancel its call number `call` after `wait`.
    pub fn cancel_after(&mut self, wait: Duration, node: usize, call: usize) {
        self.plan(self.now + wait, node, Happening::Cancels(call));
    }

    /// `node` will fall silent for ever after `wait`.
    pub fn die_after(&mut self, wait: Duration, node: usize) {
        self.plan(self.now + wait, node, Happening::Dies);
    }

    /// Begins a message now.
    pub fn begin(&mut self, node: usize, kind: Kind, length: usize) -> RpcId {
        let now = self.now;
        let n = &mut self.nodes[node];
        let id = RpcId::new(n.side, n.next);
        n.next += 1;
        let geometry = Geometry::cut(length, n.datagram);
        let floor = n.machine.floor(PEER);
        assert!(n.machine.may_begin(PEER, id.sequence()));
        let mut acks = [id; 5];
        let riding = if geometry.records() == 1 { n.machine.take_acks(PEER, floor, &mut acks) } else { 0 };
        let trailer = n.machine.trailer_to_begin(PEER, id, kind, geometry);
        let slot = n.machine.begin(now, PEER, id, kind, geometry, Instant::FAR);
        assert!(n.out.insert(slot, (trailer, acks[..riding].to_vec())).is_none());
        n.calls.push((id, Fate::Open));
        self.pump(node);
        id
    }

    fn answer(&mut self, node: usize, slot: u32, rpc: RpcId) {
        let length = self.rng.length();
        let now = self.now;
        let n = &mut self.nodes[node];
        if n.machine.rpc(slot).is_none_or(|(id, _, state)| id != rpc || state != State::InService) {
            return;
        }
        let geometry = Geometry::cut(length, n.datagram);
        let trailer = n.machine.trailer_to_respond(slot, geometry).expect("it is in service");
        assert!(n.machine.respond(now, slot, geometry));
        assert!(n.out.insert(slot, (trailer, Vec::new())).is_none());
        self.pump(node);
    }

    fn transmit(&mut self, from: usize, packet: Packet) {
        let copies = u64::from(!self.rng.chance(self.faults.loss_percent))
            + u64::from(self.rng.chance(self.faults.repeat_percent));
        for _ in 0..copies {
            let delay = us(10 + 10 * self.rng.below(self.faults.delay_steps));
            self.plan(self.now + delay, 1 - from, Happening::Arrives(packet.clone()));
        }
    }

    /// Drains all outputs of a node, as fast as its link takes them: about 10 Gbit/s.
    fn pump(&mut self, node: usize) {
        if !self.nodes[node].alive {
            return;
        }
        self.events(node);
        while self.nodes[node].machine.peek_talkative().is_some() {
            let mut frames = Vec::new();
            self.nodes[node].machine.next_frames(|frame| {
                let fits = frames.len() < 64;
                if fits {
                    frames.push(*frame);
                }
                fits
            });
            assert!(!frames.is_empty(), "a control packet without frames");
            self.transmit(node, Packet::Frames(frames));
        }
        while self.nodes[node].link_free <= self.now {
            let n = &mut self.nodes[node];
            let peeked = n.machine.peek_work(self.now);
            let Some(work) = n.machine.next_work(self.now, 16) else { break };
            assert_eq!(peeked, Some((work.slot, work.peer, work.start, work.priority)));
            let (rpc, ..) = n.machine.rpc(work.slot).expect("work of an open RPC");
            let (trailer, acks) = n.out[&work.slot].clone();
            let bytes = trailer.geometry.offset_of(work.end) - trailer.geometry.offset_of(work.start);
            n.link_free = self.now + Duration::from_nanos(100 + u64::from(bytes) * 8 / 10);
            for index in work.records() {
                self.transmit(node, Packet::Record { rpc, index: index as u16, trailer, acks: acks.clone() });
            }
        }
        let n = &mut self.nodes[node];
        let link = n.machine.peek_work(self.now).map(|_| n.link_free);
        let at = n.machine.timeout().into_iter().chain(link).min().unwrap_or(Instant::FAR).max(self.now);
        if at < n.wakes_at {
            n.wakes_at = at;
            self.plan(at, node, Happening::Wakes);
        }
    }

    fn events(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        while let Some(event) = n.machine.next_event() {
            let slot = event.slot();
            let (id, ..) = n.machine.rpc(slot).expect("events are of open RPCs");
            let fate = match event {
                Event::Failed { why, may_have_run, .. } => Some(Fate::Failed(why, may_have_run)),
                Event::Released { acknowledged, .. } => {
                    (id.began() == n.side).then_some(if acknowledged { Fate::Arrived } else { Fate::Cancelled })
                }
            };
            if let Some(fate) = fate {
                n.settle(id, fate);
            }
            n.free(slot, id);
        }
    }

    fn arrives(&mut self, node: usize, packet: Packet) {
        let now = self.now;
        let service = us(self.rng.below(self.service_us + 1));
        let n = &mut self.nodes[node];
        match packet {
            Packet::Frames(frames) => {
                for frame in frames {
                    assert!(n.machine.frame(now, PEER, frame), "{frame:?} makes sense");
                }
            }
            Packet::Record { rpc, index, trailer, acks } => {
                let found = n.machine.find(PEER, rpc);
                let arrival = n.machine.arrived(now, PEER, rpc, found, index, &trailer);
                assert_ne!(arrival, Arrival::Contradiction);
                for rpc in acks {
                    n.machine.frame(now, PEER, Frame::Ack { rpc });
                }
                n.wasted += u64::from(!matches!(arrival, Arrival::New { .. }));
                if let Arrival::New { slot, first, complete } = arrival {
                    n.part(rpc, index, &trailer, first, complete);
                    match n.machine.rpc(slot).expect("it is open").2 {
                        State::Complete if complete && rpc.began() == n.side => {
                            n.settle(rpc, Fate::Answered);
                            n.free(slot, rpc);
                        }
                        State::Complete if complete => n.free(slot, rpc),
                        State::InService if complete => self.plan(now + service, node, Happening::Answers(slot, rpc)),
                        _ => assert!(!complete),
                    }
                }
            }
        }
        self.nodes[node].machine.schedule_grants();
    }

    /// Goes on until nothing is open and nothing is under way, at most for `limit`; whether it came to that.
    pub fn run(&mut self, limit: Duration) -> bool {
        let end = self.now + limit;
        while let Some(Reverse((at, number, node))) = self.happenings.pop() {
            if at > end {
                return false;
            }
            let what = self.what.remove(&number).expect("it was planned");
            self.now = at;
            if !self.nodes[node].alive {
                continue;
            }
            match what {
                Happening::Arrives(packet) => self.arrives(node, packet),
                Happening::Wakes if at == self.nodes[node].wakes_at => self.nodes[node].wakes_at = Instant::FAR,
                Happening::Wakes => continue,
                Happening::Answers(slot, rpc) => self.answer(node, slot, rpc),
                Happening::Begins { kind, length } => drop(self.begin(node, kind, length)),
                Happening::Cancels(call) => self.nodes[node].cancel(call),
                Happening::Dies => self.nodes[node].alive = false,
            }
            let n = &mut self.nodes[node];
            if n.machine.timeout().is_some_and(|at| at <= self.now) {
                n.machine.handle_timeout(self.now);
                assert!(n.machine.timeout().is_none_or(|at| at > self.now), "a timer spins");
            }
            self.pump(node);
            self.nodes[node].check();
        }
        true
    }

    /// Everything is as if nothing had ever been.
    pub fn assert_quiet(&self) {
        for n in self.nodes.iter().filter(|n| n.alive) {
            assert_eq!(n.machine.rpcs_open(), 0, "{:?} {:?}", n.side, n.machine.rpcs().collect::<Vec<_>>());
            assert_eq!((n.machine.buffered_bytes(), n.machine.incoming_bytes()), (0, 0));
            assert_eq!(n.machine.timeout(), None);
            assert_eq!(n.machine.floor(PEER), n.next, "all sequences are finished");
            assert!(n.calls.iter().all(|(_, fate)| *fate != Fate::Open));
        }
    }
}

impl Node {
    fn settle(&mut self, id: RpcId, fate: Fate) {
        let call = self.calls.iter_mut().find(|(rpc, _)| *rpc == id).expect("a call of ours");
        assert_eq!(call.1, Fate::Open, "{id:?} ends twice, now by {fate:?}");
        call.1 = fate;
    }

    fn free(&mut self, slot: u32, id: RpcId) {
        self.machine.free(slot);
        self.out.remove(&slot);
        self.parts.remove(&id);
    }

    fn cancel(&mut self, call: usize) {
        let Some((id, fate)) = self.calls.get_mut(call) else { return };
        let id = *id;
        let Some(slot) = self.machine.find(PEER, id) else { return };
        *fate = Fate::Cancelled;
        self.machine.cancel(slot);
        self.out.remove(&slot);
        self.parts.remove(&id);
    }

    /// A record was new: none of its message is new twice, and complete is when all are here. [P-4.4] [P-7.1]
    fn part(&mut self, rpc: RpcId, index: u16, trailer: &Trailer, first: bool, complete: bool) {
        if first {
            self.parts.insert(rpc, HashSet::new());
        }
        let parts = self.parts.get_mut(&rpc).expect("its first record came");
        assert!(parts.insert(index));
        assert_eq!(complete, parts.len() as u32 == trailer.geometry.records());
        if complete && rpc.began() != self.side {
            assert!(self.delivered.insert(rpc), "{rpc:?} is delivered twice");
            self.order.push(rpc);
        }
    }

    /// Budgets. [P-8.2]
    pub fn check(&self) {
        let config = self.machine.config();
        let least = wire::limits::RECORD_PAYLOAD_MAX as u64;
        let (mut scheduled, mut coming, mut blind, mut buffered) = (0, 0, 0, 0);
        for info in self.machine.rpcs() {
            let unscheduled = u64::from(config.unscheduled_bytes).max(least).min(info.in_length.into());
            coming += u64::from(info.in_granted.saturating_sub(info.in_received));
            blind += unscheduled;
            buffered += u64::from(info.in_length);
            let slot = self.machine.find(info.peer, info.rpc).expect("it is open");
            scheduled += self.machine.incoming(slot).map_or(0, |inc| u64::from(inc.scheduled()));
        }
        assert_eq!(self.machine.incoming_bytes(), scheduled);
        assert!(scheduled <= config.incoming_bytes_max.max(least), "granted {scheduled}");
        assert!(coming <= config.incoming_bytes_max.max(least) + blind);
        assert_eq!(self.machine.buffered_bytes(), buffered);
        assert!(buffered <= config.buffered_bytes_max);
    }
}
