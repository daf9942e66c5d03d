//! Owns what an endpoint tells about itself: snapshots, which change nothing.

use std::fmt;
use std::net::SocketAddr;

use handshake::exchange::KeyExchange;
use proto::io::RpcInfo;
use record::aead::Cipher;
use wire::ids::{RpcId, SessionId, Side};

use crate::counters::Counters;
use crate::endpoint::Endpoint;
use crate::session::CallId;
use crate::session::Origin;
use crate::state::State;
use crate::trail::TimeTrace;

/// A snapshot of one RPC.
#[derive(Clone, Debug)]
pub struct CallInfo {
    /// Its name.
    pub id: CallId,
    /// Where its peer is.
    pub address: SocketAddr,
    /// How far it is.
    pub rpc: RpcInfo,
}

/// A snapshot of one session.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// Our name for it.
    pub id: SessionId,
    /// The peer.
    pub origin: Origin,
    /// Which end we are.
    pub side: Side,
    /// The AEAD.
    pub cipher: Cipher,
    /// Whether it has keys.
    pub open: bool,
    /// Both sides proved who they are.
    pub mutual: bool,
    /// How its secret was agreed on; `None` for an installed one.
    pub exchange: Option<KeyExchange>,
    /// Whether it goes back to an earlier session by a ticket.
    pub resumed: bool,
    /// Largest datagram towards the peer.
    pub datagram_max: usize,
    /// Which epoch we seal in, and the latest of the peer's in which anything opened.
    pub epochs: Option<(u64, u64)>,
    /// How long the peer takes to answer, smoothed.
    pub rtt: Option<std::time::Duration>,
}

/// What an endpoint holds, against what it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Sessions, those whose handshake is under way included.
    pub sessions: usize,
    /// Sessions among them that rest: nothing is under way there, and little memory is used.
    pub resting: usize,
    /// Handshakes that others began.
    pub accepting: usize,
    /// Bytes of our messages that are held until they are acknowledged.
    pub held_bytes: u64,
    /// Frames of sessions that wait to be sent.
    pub notices: usize,
    /// Answers to strangers that wait to be sent.
    pub strangers: usize,
    /// Sessions that wait for evidence, or for the judgement of ours.
    pub attesting: usize,
    /// Peers that may have moved, and questions about that which wait to be sent.
    pub moving: (usize, usize),
    /// Sessions that moved, since the endpoint was made.
    pub moved: u64,
    /// What the state machine holds.
    pub machine: proto::io::Holdings,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("sessions", &self.sessions_open)
            .field("rpcs", &self.machine.rpcs_open())
            .finish_non_exhaustive()
    }
}

impl State {
    /// The name of an RPC with the peer in slot `peer`.
    pub(crate) fn call_id(&self, peer: u32, rpc: RpcId) -> CallId {
        CallId { session: self.sessions[peer as usize].as_ref().expect("a session in use").id, rpc }
    }
}

impl Endpoint {
    /// What it holds.
    pub fn holdings(&self) -> Holdings {
        Holdings {
            sessions: self.state.sessions_open,
            resting: self.state.rests.count,
            accepting: self.state.accepting.len(),
            held_bytes: self.state.room.held,
            notices: self.state.notices.len(),
            strangers: self.state.strangers.len(),
            attesting: self.state.evidence.timers.len(),
            moving: self.state.paths.holdings(),
            moved: self.state.counters.sessions_moved,
            machine: self.state.machine.holdings(),
        }
    }

    /// The most that it holds for any one peer.
    pub fn peer_holdings(&self) -> proto::io::PeerHoldings {
        self.state.machine.peer_holdings()
    }

    /// The time trace, if something stopped it, or in any case; it goes on from here.
    pub fn time_trace(&mut self, even_if_it_goes_on: bool) -> Option<TimeTrace> {
        let (cause, marks) = self.state.trail.take(even_if_it_goes_on)?;
        // Nothing is sorted here: it holds up who sends.
        let mut seen = vec![false; self.state.sessions.len()];
        for mark in &marks {
            if let Some(seen) = seen.get_mut(mark.peer as usize) {
                *seen = true;
            }
        }
        let seen = self.state.sessions.iter().zip(seen).enumerate().filter(|(_, (_, seen))| *seen);
        let peers = seen.filter_map(|(peer, (session, _))| Some((peer as u32, session.as_ref()?.address))).collect();
        Some(TimeTrace { cause, peers, marks })
    }

    /// What was counted.
    pub const fn counters(&self) -> &Counters {
        &self.state.counters
    }

    /// Bytes of our messages that are held until they are acknowledged.
    pub const fn held_bytes(&self) -> u64 {
        self.state.room.held
    }

    /// How many messages of ours were let go: as long as it stays the same, there is no more room for others than there was.
    pub const fn let_go(&self) -> u64 {
        self.state.room.let_go
    }

    /// How many RPCs are open.
    pub fn rpcs_open(&self) -> usize {
        self.state.machine.rpcs_open()
    }

    /// Snapshots of all open RPCs.
    pub fn calls(&self) -> Vec<CallInfo> {
        let info = |rpc: RpcInfo| {
            let session = self.state.sessions[rpc.peer as usize].as_ref()?;
            Some(CallInfo { id: CallId { session: session.id, rpc: rpc.rpc }, address: session.address, rpc })
        };
        self.state.machine.rpcs().filter_map(info).collect()
    }

    /// Snapshots of all sessions.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        let info = |(slot, session): (usize, &Option<Box<crate::session::Session>>)| {
            let session = session.as_ref()?;
            Some(SessionInfo {
                id: session.id,
                origin: Origin::of(session.id, session.address, &session.identity, session.report.as_ref()),
                side: session.side,
                cipher: session.cipher,
                open: session.keys.is_some(),
                mutual: session.mutual,
                exchange: session.exchange,
                resumed: session.resumed,
                datagram_max: session.datagram_max,
                epochs: session.keys.as_ref().map(|keys| (keys.sealing.epoch(), keys.opening.epoch())),
                rtt: self.state.machine.rtt(slot as u32),
            })
        };
        let awake = self.state.sessions.iter().enumerate().filter_map(info);
        let at_rest = |resting: &crate::resting::Resting| SessionInfo {
            id: resting.id,
            origin: Origin::of(resting.id, resting.address(), &resting.identity, resting.report.as_ref()),
            side: resting.side,
            cipher: resting.cipher,
            open: true,
            mutual: resting.mutual,
            exchange: resting.exchange,
            resumed: resting.resumed,
            datagram_max: resting.datagram_max as usize,
            epochs: Some((resting.sealing.epoch(), resting.opening.epoch())),
            rtt: Some(resting.peer.rtt().smoothed()),
        };
        let mut all: Vec<SessionInfo> = awake.chain(self.state.rests.iter().map(at_rest)).collect();
        all.sort_by_key(|info| info.id.slot());
        all
    }

    /// All sessions that have keys.
    pub fn open_sessions(&self) -> Vec<SessionId> {
        let awake = self.state.sessions.iter().flatten();
        let awake = awake.filter(|s| s.keys.is_some() && !s.closing && !s.id.is_lane()).map(|s| s.id);
        awake.chain(self.state.rests.iter().map(|resting| resting.id)).collect()
    }

    /// The session that new calls to `target` go into, if there is one.
    pub fn session_of(&self, target: u32) -> Option<SessionId> {
        let Some(slot) = self.state.targets.get(target as usize)?.session else {
            return self.state.lanes.of_target(target);
        };
        self.state.id_of(slot)
    }

    /// Whether a session is there and takes messages of the application.
    pub fn is_session_open(&self, id: SessionId) -> bool {
        let awake = self.state.session(id).is_some_and(|(_, session)| session.may_send);
        awake || self.state.rests.get(id).is_some()
    }
}
