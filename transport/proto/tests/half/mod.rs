//! One machine, and a peer that is played by hand.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part of the harness")]

use std::time::Duration;

use proto::config::Config;
use proto::io::{Arrival, Event};
use proto::machine::Machine;
use proto::time::Instant;
use wire::control::Frame;
use wire::geometry::Geometry;
use wire::ids::{RpcId, Side};
use wire::trailer::{Kind, Trailer};

/// The peer's round trip as the handshake measured it.
pub const RTT: Duration = Duration::from_micros(100);

/// A message: its RPC, and what each of its records says.
pub type Message = (RpcId, Trailer);

/// We are the server's side of the session with peer 0.
pub struct Half {
    pub machine: Machine,
    pub now: Instant,
}

/// An RPC that the peer began.
pub const fn theirs(sequence: u64) -> RpcId {
    RpcId::new(Side::Client, sequence)
}

/// An RPC that we began.
pub const fn ours(sequence: u64) -> RpcId {
    RpcId::new(Side::Server, sequence)
}

/// A message of `length` bytes in records of 1,000, of which `unscheduled` bytes come without grants. It states 0 as floor.
pub fn message(rpc: RpcId, kind: Kind, length: u32, unscheduled: u32) -> Message {
    let geometry = Geometry::stated(length, 1000).expect("it can be cut");
    let floor_distance = if kind == Kind::Response { 0 } else { rpc.sequence() as u32 };
    (rpc, Trailer { unscheduled: unscheduled.min(length), floor_distance, ..Trailer::new(geometry, kind) })
}

pub fn serving() -> Config {
    Config { serving: true, ..Config::default() }
}

impl Half {
    pub fn new(config: Config) -> Self {
        let mut half = Self { machine: Machine::new(config, (1, 2)), now: Instant::from_nanos(1_000_000) };
        half.open(0);
        half
    }

    pub fn open(&mut self, peer: u32) {
        self.open_at(peer, peer.into());
    }

    /// A session with the host of that number.
    pub fn open_at(&mut self, peer: u32, host: u64) {
        self.machine.open_peer(peer, Side::Server, RTT, u32::MAX, host);
    }

    /// Record `index` of `message` comes from `peer`.
    pub fn record_of(&mut self, peer: u32, message: &Message, index: u16) -> Arrival {
        let found = self.machine.find(peer, message.0);
        self.machine.arrived(self.now, peer, message.0, found, index, &message.1)
    }

    pub fn record(&mut self, message: &Message, index: u16) -> Arrival {
        self.record_of(0, message, index)
    }

    /// All records of `message` that are in `bytes` come.
    pub fn bytes(&mut self, message: &Message, bytes: core::ops::Range<u32>) -> Arrival {
        let arrivals = message.1.geometry.records_of(bytes).map(|index| self.record(message, index as u16));
        arrivals.last().expect("a record")
    }

    pub fn frame(&mut self, frame: Frame) -> bool {
        self.machine.frame(self.now, 0, frame)
    }

    pub fn slot(&self, rpc: RpcId) -> u32 {
        self.machine.find(0, rpc).expect("it is open")
    }

    /// We begin a message of `length` bytes.
    pub fn begin(&mut self, rpc: RpcId, kind: Kind, length: u32) -> u32 {
        let geometry = Geometry::stated(length, 1000).expect("it can be cut");
        self.machine.begin(self.now, 0, rpc, kind, geometry, Instant::FAR)
    }

    /// We answer a request with `length` bytes.
    pub fn respond(&mut self, rpc: RpcId, length: u32) -> bool {
        let geometry = Geometry::stated(length, 1000).expect("it can be cut");
        let slot = self.slot(rpc);
        self.machine.respond(self.now, slot, geometry)
    }

    /// What goes out now: (RPC, first record, end).
    pub fn sent(&mut self) -> Vec<(RpcId, u32, u32)> {
        let mut sent = Vec::new();
        while let Some(work) = self.machine.next_work(self.now, u32::MAX) {
            let (rpc, ..) = self.machine.rpc(work.slot).expect("it is open");
            sent.push((rpc, work.start, work.end));
        }
        sent
    }

    /// What is said now, after a decision on grants.
    pub fn said(&mut self) -> Vec<Frame> {
        self.machine.schedule_grants();
        let mut said = Vec::new();
        while self.machine.peek_talkative().is_some() {
            self.machine.next_frames(|frame| {
                said.push(*frame);
                true
            });
        }
        said
    }

    pub fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.machine.next_event() {
            self.machine.free(event.slot());
            events.push(event);
        }
        events
    }

    /// Time passes, timer by timer; what is said meanwhile.
    pub fn pass(&mut self, time: Duration) -> Vec<Frame> {
        let end = self.now + time;
        let mut said = self.said();
        while let Some(at) = self.machine.timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
            assert!(self.machine.timeout().is_none_or(|at| at > self.now), "a timer spins");
            said.extend(self.said());
        }
        self.now = end;
        said
    }
}
