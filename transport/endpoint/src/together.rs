//! Owns what shards do with what they tell each other: sessions that open, retire, move and end in all of them. [P-9.2]
//!
//! The first shard decides; another one that learns of something does its own part at once and tells it. None of this is on the way of a
//! message.

use std::net::SocketAddr;

use proto::time::Instant;
use wire::ids::SessionId;

use crate::endpoint::Endpoint;
use crate::error::Ended;
use crate::lanes::Root;
use crate::notes::Note;
use crate::session::{Phase, Session};
use crate::spread::FIRST;
use crate::state::State;

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
    // ---- Notes ----

    fn take_note(&mut self, now: Instant, note: Note) {
        match note {
            Note::Datagram { .. } | Note::HangUp { .. } => {}
            // Its lanes are not known there yet, or just ended.
            Note::Stray { session, .. } if self.has_session(session) => self.counters.dropped_too_early += 1,
            Note::Stray { from, session, len } => self.unknown(now, from, session, len),
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

    pub(crate) fn retire_root(&mut self, at: u32) {
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
        match self.at(slot).root {
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
            if self.sessions[slot as usize].as_deref().is_some_and(elsewhere) {
                self.move_to(slot, address);
                self.paths.forget(slot);
            }
        }
        if first {
            self.tell_others(|| Note::Moved { session, address });
        }
    }
}
