//! Owns how a session is spread over shards: which lanes there are, when their keys are made, and which packets belong to
//! them. What shards tell each other is in `together`. [P-9.2] [P-9.3]
//!
//! The keys of a lane are made when the first message is to go in it, or when the first packet names it. That is the most that who reads
//! the path can cause without a key: as many derivations as there are lanes, once.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use handshake::params::TransportParams;
use proto::time::Instant;
use record::budget::OpenFailures;
use record::epochs::{Inbound, Outbound};
use record::keys::Secret;
use record::lanes::LaneSecrets;
use record::seal::Ids;
use wire::header::Header;
use wire::ids::{SessionId, Side};
use wire::lanes::{Lane, Lanes, receiver};

use crate::error::Misuse;
use crate::lanes::{Plan, Root};
use crate::notes::{Note, Opened};
use crate::rates::host;
use crate::session::{Early, Keys, Phase, Session};
use crate::state::State;

/// The shard that has the handshakes.
pub(crate) const FIRST: u8 = 0;

impl State {
    pub(crate) fn is_first(&self) -> bool {
        self.config.shard.number == FIRST
    }

    pub(crate) fn tell_first(&mut self, note: Note) {
        self.lanes.tell(FIRST, note);
    }

    // ---- A session begins ----

    /// A session of ours in the first shard has keys: what its lanes come from, if it has any. [P-9.3]
    pub(crate) fn plan_lanes(
        &mut self,
        slot: u32,
        secret: &Secret,
        peer: &TransportParams,
        rtt: Duration,
        now: Instant,
    ) {
        let lanes = self.config.shard.count.max(peer.shards);
        if lanes == 1 {
            return;
        }
        let secrets = LaneSecrets::new(self.config.crypto, secret);
        let plan = Plan { secrets, theirs: peer.shards, unscheduled: peer.unscheduled, rtt, since: now };
        let session = self.at(slot);
        let (id, cipher) = (session.id, session.cipher);
        if let Some(keys) = &mut session.keys {
            keys.failures = failures(cipher, lanes);
        }
        session.root = Some(slot);
        self.lanes.put(Root::new(id, Some(plan), None));
    }

    /// The application's messages may go in that session: each shard gets its lanes.
    pub(crate) fn announce_lanes(&mut self, slot: u32) {
        let session = self.sessions[slot as usize].as_ref().expect("a session in use");
        let Some(plan) = session.root.and_then(|root| self.lanes.root(root)).and_then(|root| root.planned.take())
        else {
            return;
        };
        let (crypto, count) = (self.config.crypto, self.config.shard.count);
        for number in 0..count {
            let number = number as u8;
            let lanes = Lanes::new(number, count, plan.theirs);
            let secret = |place: usize| {
                let (ours, theirs) = (number, lanes.partner(place));
                let (client, server) = if session.side == Side::Client { (ours, theirs) } else { (theirs, ours) };
                // The main lane is the session, which has its keys.
                (ours, theirs).ne(&(0, 0)).then(|| plan.secrets.lane(crypto, client, server))
            };
            let opened = Box::new(Opened {
                session: session.id,
                peer_id: session.peer_id,
                side: session.side,
                target: session.target,
                address: session.address,
                cipher: session.cipher,
                identity: Arc::clone(&session.identity),
                mutual: session.mutual,
                exchange: session.exchange,
                resumed: session.resumed,
                report: session.report.clone(),
                datagram_max: session.datagram_max,
                peer_datagram_max: session.peer_datagram_max,
                message_max: session.message_max,
                sends_slices: session.sends_slices,
                unscheduled: plan.unscheduled,
                rtt: plan.rtt,
                since: plan.since,
                theirs: plan.theirs,
                secrets: (0..lanes.count()).map(secret).collect(),
            });
            if number != FIRST {
                self.lanes.tell(number, Note::Opened(opened));
            } else if let Some(root) = self.lanes.root(slot) {
                root.slots = vec![None; opened.secrets.len()];
                root.slots[0] = Some(slot);
                root.opened = Some(opened);
            }
        }
    }

    /// The slot of a lane of the session at `root`, whose keys are made if they were not yet.
    fn lane(&mut self, at: u32, place: usize) -> Result<u32, Misuse> {
        let shard = self.config.shard;
        let root = self.lanes.root(at).ok_or(Misuse::NoSession)?;
        if let Some(slot) = *root.slots.get(place).ok_or(Misuse::NoSession)? {
            return Ok(slot);
        }
        let (slot, random) = self.reserve()?;
        let root = self.lanes.root(at).expect("it was just there");
        let opened = root.opened.as_mut().expect("it has lanes");
        let Some(secret) = opened.secrets[place].take() else { unreachable!("a lane is made once") };
        root.slots[place] = Some(slot);
        let partner = Lanes::new(shard.number, shard.count, opened.theirs).partner(place);
        let session = Session {
            id: SessionId::of_lane(slot, shard.number, random.as_u64()),
            peer_id: opened.peer_id,
            promise: [0; wire::reset::TOKEN_LEN],
            side: opened.side,
            address: opened.address,
            phase: Phase::Open,
            keys: Some(Box::new(Keys {
                sealing: Outbound::new(self.config.crypto, &secret, opened.cipher, opened.side, self.config.key_limits),
                opening: Inbound::new(self.config.crypto, &secret, opened.cipher, opened.side.peer()),
                failures: failures(opened.cipher, shard.count.max(opened.theirs)),
                since: opened.since,
                asked: None,
            })),
            cipher: opened.cipher,
            identity: Arc::clone(&opened.identity),
            mutual: opened.mutual,
            exchange: opened.exchange,
            resumed: opened.resumed,
            datagram_max: opened.datagram_max,
            peer_datagram_max: opened.peer_datagram_max,
            message_max: opened.message_max,
            sends_slices: opened.sends_slices,
            ids: Ids::new(opened.side),
            may_send: true,
            queued: VecDeque::new(),
            sending_bytes: 0,
            heard: opened.since,
            dying: false,
            closing: false,
            renewing: false,
            done_said: Instant::ZERO,
            dones_left: 0,
            target: opened.target,
            steer: Lane { from: shard.number, to: partner }.steer(),
            root: Some(at),
            early: Early::default(),
            attesting: None,
            evidence_id: None,
            report: opened.report.clone(),
            origin: None,
        };
        self.machine.open_peer(slot, opened.side, opened.rtt, opened.unscheduled, host(opened.address.ip()));
        let since = opened.since;
        self.sessions[slot as usize] = Some(Box::new(session));
        if self.idle_look == Instant::FAR {
            self.idle_look = since + self.config.session_idle / 4;
        }
        Ok(slot)
    }

    // ---- Messages ----

    /// The lane in which the next message of the session in `slot` goes: they go round, but past one in which more are open than in the next.
    /// A shard that is slower has fewer of them then, instead of all in the end.
    #[inline]
    pub(crate) fn lane_from(&mut self, slot: u32) -> u32 {
        match self.sessions[slot as usize].as_ref().and_then(|session| session.root) {
            None => slot,
            Some(at) => self.next_lane(at).unwrap_or(slot),
        }
    }

    fn next_lane(&mut self, at: u32) -> Result<u32, Misuse> {
        let root = self.lanes.root(at).ok_or(Misuse::NoSession)?;
        let count = root.slots.len();
        if count == 0 {
            return Err(Misuse::NoSession);
        }
        let (turn, next) = (root.turn % count, (root.turn + 1) % count);
        let open = |place: usize| root.slots[place].map_or(0, |slot| self.machine.begun_with(slot));
        let place = if open(next) < open(turn) { next } else { turn };
        root.turn = root.turn.wrapping_add(1);
        self.lane(at, place)
    }

    /// The same in another shard than the first, which opens sessions.
    pub(crate) fn lane_to(&mut self, now: Instant, target: u32) -> Result<u32, Misuse> {
        let at = self.lanes.target(target).ok_or(Misuse::Elsewhere)?;
        let heard = self.heard_in(at);
        let root = self.lanes.root(at).ok_or(Misuse::Elsewhere)?;
        let since = root.opened.as_ref().map_or(Instant::ZERO, |opened| opened.since);
        // As in the first shard: keys that are old, or a peer that may have forgotten the session. [P-6.7]
        let old = now.is_past(since, self.config.session_age_max);
        if old || now.is_past(heard, self.silence_max) {
            self.retire_root(at);
            return Err(Misuse::Elsewhere);
        }
        match self.next_lane(at) {
            Err(Misuse::NoSession) => Err(Misuse::Elsewhere),
            done => done,
        }
    }

    /// A lane of the session that the first shard calls so.
    pub(crate) fn lane_in(&mut self, session: SessionId) -> Option<u32> {
        let at = self.lanes.find(session)?;
        self.next_lane(at).ok()
    }

    /// When the peer was heard last in any of our lanes; not before the session began.
    pub(crate) fn heard_in(&mut self, at: u32) -> Instant {
        let Some(root) = self.lanes.root(at) else { return Instant::ZERO };
        let since = root.opened.as_ref().map_or(Instant::ZERO, |opened| opened.since);
        let sessions = &self.sessions;
        let heard = root.slots.iter().flatten().filter_map(|slot| Some(sessions[*slot as usize].as_ref()?.heard));
        heard.max().unwrap_or(since).max(since)
    }

    // ---- Packets ----

    /// A datagram may be another shard's: then that one gets it, unopened.
    pub(crate) fn hand_over(&mut self, from: SocketAddr, datagram: &[u8]) -> bool {
        let shard = self.config.shard;
        let to = receiver(datagram);
        if to == shard.number || u16::from(to) >= shard.count {
            return false;
        }
        if self.lanes.hand_over(to, Note::Datagram { from, bytes: datagram.to_vec() }) {
            self.counters.datagrams_handed_over += 1;
        } else {
            self.counters.dropped_no_room += 1;
        }
        true
    }

    /// The slot of the lane that a packet names, unless that is the main one.
    #[inline(never)]
    pub(crate) fn lane_addressed(&mut self, now: Instant, header: &Header, len: usize) -> Option<u32> {
        let (shard, lane) = (self.config.shard, Lane::from_steer(header.steer));
        let Some(at) = self.lanes.find(header.session) else {
            self.stray(now, header, len);
            return None;
        };
        let Some(lanes) = self.lanes.root(at).and_then(|root| root.lanes(shard)) else {
            // Its lanes are not to be used yet.
            self.counters.dropped_too_early += 1;
            return None;
        };
        let Some(place) = lanes.place(lane.from).filter(|_| lane.to == shard.number) else {
            self.counters.dropped_malformed += 1;
            return None;
        };
        let slot = self.lane(at, place).ok();
        self.counters.dropped_no_room += u64::from(slot.is_none());
        slot
    }

    /// A sealed packet came for no lane of ours.
    fn stray(&mut self, now: Instant, header: &Header, len: usize) {
        if !header.session.is_lane() && self.has_session(header.session) {
            self.counters.dropped_malformed += 1;
        } else if self.is_first() {
            self.unknown(now, self.from, header.session, len);
        } else {
            self.counters.dropped_unknown_session += 1;
            let (from, session) = (self.from, header.session);
            // Like a datagram: nobody can make us keep more of them.
            self.lanes.hand_over(FIRST, Note::Stray { from, session, len });
        }
    }
}

/// All lanes of a session together bear what a session without others does: so each bears its part. [P-9.3]
fn failures(cipher: record::aead::Cipher, lanes: u16) -> OpenFailures {
    OpenFailures::lowered(cipher, u32::from(lanes).next_power_of_two().trailing_zeros())
}
