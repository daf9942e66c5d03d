//! Owns which sessions have lanes beside their own, and where these are. What they do is in `spread`. [P-9.2]
//!
//! A lane stands in the table of sessions like a session, under a local name, so that all ways of a message are the same for both. The
//! session itself is the main lane, of the first shard at either end; only the first shard has it.

use std::collections::VecDeque;
use std::time::Duration;

use proto::time::Instant;
use record::lanes::LaneSecrets;
use wire::ids::SessionId;
use wire::lanes::Lanes;

use crate::config::Shard;
use crate::notes::{Note, Opened};

/// Datagrams for other shards that may wait to be carried; what comes beyond is dropped, as the network might.
pub(crate) const HANDED_MAX: usize = 4096;

/// A session with several lanes, or with one that is another shard's than the first.
#[derive(Debug)]
pub(crate) struct Root {
    /// The session's name.
    pub(crate) session: SessionId,
    /// What the lanes come from, until the session may be used.
    pub(crate) planned: Option<Plan>,
    /// What they are made with, from then on.
    pub(crate) opened: Option<Box<Opened>>,
    /// The slots of the lanes, by place; none before a lane is used.
    pub(crate) slots: Vec<Option<u32>>,
    /// Messages that were begun, to go round.
    pub(crate) turn: usize,
    /// It takes no new calls.
    pub(crate) retired: bool,
    /// When the first shard was told last that the peer lives.
    pub(crate) told: Instant,
}

/// What is known of lanes before the session may be used.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) secrets: LaneSecrets,
    pub(crate) theirs: u16,
    pub(crate) unscheduled: u32,
    pub(crate) rtt: Duration,
    pub(crate) since: Instant,
}

impl Root {
    pub(crate) fn new(session: SessionId, planned: Option<Plan>, opened: Option<Box<Opened>>) -> Self {
        let slots = vec![None; opened.as_ref().map_or(0, |opened| opened.secrets.len())];
        Self { session, planned, opened, slots, turn: 0, retired: false, told: Instant::ZERO }
    }

    /// The lanes, once the session may be used.
    pub(crate) fn lanes(&self, shard: Shard) -> Option<Lanes> {
        self.opened.as_ref().map(|opened| Lanes::new(shard.number, shard.count, opened.theirs))
    }
}

/// All sessions with lanes, and what is to be told other shards.
#[derive(Debug, Default)]
pub(crate) struct LaneTable {
    /// By the slot in the session's name.
    roots: Vec<Option<Box<Root>>>,
    /// By target, in other shards than the first: the place among `roots`.
    targets: Vec<Option<u32>>,
    notes: VecDeque<(u8, Note)>,
    /// How many of them anybody could cause.
    handed: usize,
}

impl LaneTable {
    pub(crate) fn root(&mut self, at: u32) -> Option<&mut Root> {
        self.roots.get_mut(at as usize)?.as_deref_mut()
    }

    /// The place of the session of that name.
    pub(crate) fn find(&mut self, session: SessionId) -> Option<u32> {
        let at = session.slot();
        (self.root(at)?.session == session).then_some(at)
    }

    pub(crate) fn put(&mut self, root: Root) -> u32 {
        let at = root.session.slot();
        if self.roots.len() <= at as usize {
            self.roots.resize_with(at as usize + 1, || None);
        }
        self.roots[at as usize] = Some(Box::new(root));
        at
    }

    pub(crate) fn take(&mut self, at: u32) -> Option<Box<Root>> {
        self.roots.get_mut(at as usize)?.take()
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = u32> + use<> {
        0..self.roots.len() as u32
    }

    /// The place of the session in use with `target`.
    pub(crate) fn target(&self, target: u32) -> Option<u32> {
        *self.targets.get(target as usize)?
    }

    pub(crate) fn set_target(&mut self, target: u32, at: Option<u32>) {
        if self.targets.len() <= target as usize {
            self.targets.resize(target as usize + 1, None);
        }
        self.targets[target as usize] = at;
    }

    /// The name of that session.
    pub(crate) fn of_target(&self, target: u32) -> Option<SessionId> {
        self.roots.get(self.target(target)? as usize)?.as_ref().map(|root| root.session)
    }

    pub(crate) fn tell(&mut self, to: u8, note: Note) {
        self.notes.push_back((to, note));
    }

    /// Tells what anybody could cause, if there is room.
    pub(crate) fn hand_over(&mut self, to: u8, note: Note) -> bool {
        debug_assert!(note.is_of_stranger(), "what a session needs is told in any case");
        let room = self.handed < HANDED_MAX;
        if room {
            self.handed += 1;
            self.notes.push_back((to, note));
        }
        room
    }

    pub(crate) fn next_note(&mut self) -> Option<(u8, Note)> {
        let next = self.notes.pop_front()?;
        self.handed -= usize::from(next.1.is_of_stranger());
        Some(next)
    }
}
