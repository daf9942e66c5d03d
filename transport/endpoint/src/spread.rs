//! Owns how a session is spread over shards: which lanes there are, when their keys are made, and what shards do with what they tell each
//! other. [P-9.2] [P-9.3]
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

use crate::endpoint::Endpoint;
use crate::error::{Ended, Misuse};
use crate::lanes::{Plan, Root};
use crate::notes::{Note, Opened};
use crate::rates::host;
use crate::session::{Early, Keys, Phase, Session};
use crate::state::State;

/// The shard that has the handshakes.
const FIRST: u8 = 0;

impl Endpoint {
    /// What another shard is to be told next, and which. Drained like events; each shard is told in order, by
    /// [`Self::take_note`].
    pub fn poll_note(&mut self) -> Option<(u8, Note)> {
        self.state.lanes.next_note()
    }

    /// Another shard of this endpoint says something. An input like any other.
    pub fn take_note(&mut self, now: Instant, note: Note) {
        match note {
            Note::Datagram { from, bytes } => {
                let mut buffer = self.buffer();
                let len = bytes.len().min(buffer.bytes().len());
                buffer.bytes()[..len].copy_from_slice(&bytes[..len]);
                if let Some(buffer) = self.handle_datagrams(now, from, buffer, len, len) {
                    self.state.pool.give_back(buffer);
                }
            }
            Note::HangUp { session } => self.close_session(session),
            note => self.state.take_note(now, note),
        }
    }

    /// Whether this shard can send to `target` now, as far as sessions go.
    pub fn reaches(&self, target: u32) -> bool {
        self.state.config.shard.number == FIRST || self.state.lanes.target(target).is_some()
    }
}

impl State {
    fn is_first(&self) -> bool {
        self.config.shard.number == FIRST
    }

    fn tell_first(&mut self, note: Note) {
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
            side: opened.side,
            address: opened.address,
            phase: Phase::Open,
            keys: Some(Box::new(Keys {
                sealing: Outbound::new(
                    self.config.crypto,
                    &secret,
                    opened.cipher,
                    opened.side,
                    self.config.key_limits,
                ),
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
            ids: Ids::new(opened.side),
            may_send: true,
            queued: VecDeque::new(),
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
        };
        self.machine.open_peer(slot, opened.side, opened.rtt, opened.unscheduled, host(opened.address.ip()));
        let since = opened.since;
        self.sessions[slot as usize] = Some(session);
        if self.idle_look == Instant::FAR {
            self.idle_look = since + self.config.session_idle / 4;
        }
        Ok(slot)
    }

    // ---- Messages ----

    /// The lane in which the next message of the session in `slot` goes: they go round.
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
        let place = root.turn % count;
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
        let old = now.since(since) >= self.config.session_age_max;
        if old || now.since(heard) >= self.config.session_idle / 4 * 3 {
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
    fn heard_in(&mut self, at: u32) -> Instant {
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
        if self.session(header.session).is_some_and(|(_, session)| !session.id.is_lane()) {
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

    // ---- Notes ----

    fn take_note(&mut self, now: Instant, note: Note) {
        match note {
            Note::Datagram { .. } | Note::HangUp { .. } => {}
            Note::Stray { from, session, len } => match self.session(session) {
                // Its lanes are not known there yet, or just ended.
                Some(_) => self.counters.dropped_too_early += 1,
                None => self.unknown(now, from, session, len),
            },
            Note::Opened(opened) => {
                let (session, target, lanes) = (opened.session, opened.target, opened.secrets.len());
                debug_assert!(lanes > 0, "every shard has a lane to every peer");
                let at = self.lanes.put(Root::new(session, None, Some(opened)));
                if let Some(target) = target {
                    self.lanes.set_target(target, Some(at));
                }
            }
            Note::Retired { session } => {
                if let Some(at) = self.lanes.find(session) {
                    self.retire_root(at);
                }
            }
            Note::Closed { session, why } => {
                if let Some(at) = self.lanes.find(session) {
                    self.close_root(at, &why);
                }
            }
            Note::Heard { session, at } => {
                if let Some((slot, _)) = self.session(session) {
                    let session = self.at(slot);
                    session.heard = session.heard.max(at);
                }
            }
            Note::Moved { session, address } => {
                if let Some(at) = self.lanes.find(session) {
                    self.root_follows(at, address);
                }
            }
        }
    }

    // ---- Ends ----

    /// New calls to the session's target make a new session; what is under way in this one goes on.
    pub(crate) fn retire(&mut self, slot: u32) {
        let Some(session) = self.sessions[slot as usize].as_ref() else { return };
        let target = session.target;
        if let Some(at) = session.root {
            return self.retire_root(at);
        }
        self.retire_target(target, slot);
    }

    fn retire_target(&mut self, target: Option<u32>, slot: u32) {
        if let Some(target) = target.and_then(|t| self.targets.get_mut(t as usize)).filter(|t| t.session == Some(slot))
        {
            target.session = None;
        }
    }

    fn retire_root(&mut self, at: u32) {
        let Some(root) = self.lanes.root(at).filter(|root| !root.retired) else { return };
        root.retired = true;
        let (session, announced) = (root.session, root.opened.is_some());
        let target = root.opened.as_ref().and_then(|opened| opened.target);
        if self.is_first() {
            let target = self.sessions[at as usize].as_ref().and_then(|session| session.target);
            self.retire_target(target, at);
            if announced {
                self.tell_others(|| Note::Retired { session });
            }
            return;
        }
        if let Some(target) = target.filter(|target| self.lanes.target(*target) == Some(at)) {
            self.lanes.set_target(target, None);
        }
        self.tell_first(Note::Retired { session });
    }

    fn tell_others(&mut self, note: impl Fn() -> Note) {
        (1..self.config.shard.count).for_each(|number| self.lanes.tell(number as u8, note()));
    }

    /// Ends a session, all lanes of it. What was under way fails.
    pub(crate) fn close(&mut self, slot: u32, why: &Ended) {
        match self.sessions[slot as usize].as_ref().and_then(|session| session.root) {
            Some(at) => self.close_root(at, why),
            None => self.close_one(slot, why),
        }
    }

    fn close_root(&mut self, at: u32, why: &Ended) {
        self.retire_root(at);
        let Some(root) = self.lanes.take(at) else { return };
        let (session, main) = (root.session, self.is_first().then_some(at));
        for slot in root.slots.iter().flatten().filter(|slot| Some(**slot) != main) {
            self.close_one(*slot, why);
        }
        if !self.is_first() {
            return self.tell_first(Note::Closed { session, why: why.clone() });
        }
        self.close_one(at, why);
        if root.opened.is_some() {
            self.tell_others(|| Note::Closed { session, why: why.clone() });
        }
    }

    /// What is to be closed here when the application wants that session to end; `None` when the first shard was asked to do it.
    pub(crate) fn session_to_close(&mut self, id: SessionId) -> Option<SessionId> {
        let root = self.session(id).and_then(|(_, session)| session.root);
        let at = if self.is_first() { root } else { root.or_else(|| self.lanes.find(id)) };
        let session = at.and_then(|at| self.lanes.root(at)).map_or(id, |root| root.session);
        if self.is_first() {
            return Some(session);
        }
        self.tell_first(Note::HangUp { session });
        None
    }

    /// The first shard learns when peers were heard in lanes, as long as it may take for them to be forgotten.
    pub(crate) fn gather_heard(&mut self, now: Instant) {
        if now < self.idle_look {
            return;
        }
        for at in self.lanes.places() {
            let heard = self.heard_in(at);
            let Some(root) = self.lanes.root(at).filter(|root| root.told < heard) else { continue };
            root.told = heard;
            let session = root.session;
            if self.is_first() {
                self.take_note(now, Note::Heard { session, at: heard });
            } else {
                self.tell_first(Note::Heard { session, at: heard });
            }
        }
    }

    // ---- Moves ----

    /// The peer of the session in `slot` moved: so it did for all lanes. [P-2.3]
    pub(crate) fn lanes_follow(&mut self, slot: u32, address: SocketAddr) {
        if let Some(at) = self.sessions[slot as usize].as_ref().and_then(|session| session.root) {
            let first = self.is_first();
            let Some(root) = self.lanes.root(at) else { return };
            let session = root.session;
            self.root_follows(at, address);
            if !first {
                self.tell_first(Note::Moved { session, address });
            }
        }
    }

    /// What the way to the peer of one lane carries, those take that are made later, too.
    pub(crate) fn lanes_carry(&mut self, root: Option<u32>, datagram_max: usize) {
        let root = root.and_then(|at| self.lanes.root(at));
        if let Some(opened) = root.and_then(|root| root.opened.as_mut()) {
            opened.datagram_max = datagram_max;
        }
    }

    fn root_follows(&mut self, at: u32, address: SocketAddr) {
        let first = self.is_first();
        let Some(root) = self.lanes.root(at) else { return };
        let (session, slots) = (root.session, root.slots.clone());
        let Some(opened) = root.opened.as_mut() else { return };
        if core::mem::replace(&mut opened.address, address) == address {
            return;
        }
        opened.datagram_max = wire::limits::DATAGRAM_MIN;
        for slot in slots.into_iter().flatten() {
            let elsewhere = |session: &Session| session.address != address && matches!(session.phase, Phase::Open);
            if self.sessions[slot as usize].as_ref().is_some_and(elsewhere) {
                self.move_to(slot, address);
                self.paths.forget(slot);
            }
        }
        if first {
            self.tell_others(|| Note::Moved { session, address });
        }
    }
}

/// All lanes of a session together bear what a session without others does: so each bears its part. [P-9.3]
fn failures(cipher: record::aead::Cipher, lanes: u16) -> OpenFailures {
    OpenFailures::lowered(cipher, u32::from(lanes).next_power_of_two().trailing_zeros())
}
