//! Owns the receiver's choice: who may send how much. Shortest remaining first, a few at once. [P-8.2]
//!
//! Peers share: with several that want grants, none gets more than its part of the places, and none ever holds all of the
//! budget, so one that begins thousands of messages and finishes none takes grants from nobody but itself. What senders
//! send without grants is not counted: it is what they say, and a lie must not cost others their grants.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::config::Config;
use crate::heap::IndexHeap;
use crate::incoming::Incoming;
use crate::table::Table;

/// Most messages that are granted at once, whatever the configuration says.
pub const OVERCOMMIT_MAX: usize = 32;

/// A peer may hold this many times the budget that is left: three of four parts when it is alone, so that there is always
/// something for the next one.
const SHARE_OF_LEFT: u64 = 3;

/// Entries of ended messages that a peer's heap may have beyond half of it.
const STALE_MIN: usize = 16;

/// A message that wants grants: bytes not granted yet, then its age, then its slot.
type Wish = (u32, u64, u32);

/// What one peer wants and has.
#[derive(Debug, Default)]
struct Share {
    /// One entry for each of its messages with bytes not granted yet, and perhaps for some that ended.
    wanting: BinaryHeap<Reverse<Wish>>,
    /// How many entries may be of messages that ended.
    stale: usize,
    /// Granted bytes that have not arrived.
    scheduled: u64,
    /// Its messages among the chosen ones.
    places: usize,
}

/// Messages that want grants, and what is outstanding over all messages.
#[derive(Debug, Default)]
pub struct Granter {
    /// By peer.
    shares: Vec<Share>,
    /// Peers by the first entry of what they want.
    order: IndexHeap<(u32, u64)>,
    /// Granted bytes that have not arrived, over all messages.
    scheduled: u64,
    chosen: Vec<(u32, Wish)>,
}

/// One decision: this message may send up to `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The message, by slot.
    pub slot: u32,
    /// End of what it may send.
    pub offset: u32,
    /// At which priority, 0 to 7.
    pub priority: u8,
}

/// Whether the message that was born as `age` is still in `slot` and wants more.
fn wants(rpcs: &Table, slot: u32, age: u64) -> bool {
    rpcs.get(slot)
        .filter(|rpc| rpc.age == age && !rpc.ended)
        .is_some_and(|rpc| rpc.inc.as_ref().is_some_and(|inc| !inc.is_complete() && inc.bytes_not_granted() > 0))
}

impl Granter {
    /// Granted bytes that have not arrived. Never over the budget, but for one record when there is less budget than that.
    pub const fn outstanding(&self) -> u64 {
        self.scheduled
    }

    /// A message began; its sender sends some of it on its own.
    pub fn begin(&mut self, peer: u32, slot: u32, age: u64, incoming: &Incoming) {
        if self.shares.len() <= peer as usize {
            self.shares.resize_with(peer as usize + 1, Share::default);
        }
        let left = incoming.bytes_not_granted();
        if left > 0 && !incoming.is_complete() {
            self.shares[peer as usize].wanting.push(Reverse((left, age, slot)));
            self.relist(peer);
        }
    }

    /// `before` granted bytes had not arrived of the message, now it is as `incoming` says.
    pub fn update(&mut self, peer: u32, before: u32, incoming: &Incoming) {
        let arrived = u64::from(before - incoming.scheduled());
        self.shares[peer as usize].scheduled -= arrived;
        self.scheduled -= arrived;
    }

    /// A message ended, complete or not, and is no longer among `rpcs`.
    pub fn end(&mut self, rpcs: &Table, peer: u32, incoming: &Incoming) {
        let share = &mut self.shares[peer as usize];
        share.scheduled -= u64::from(incoming.scheduled());
        self.scheduled -= u64::from(incoming.scheduled());
        if incoming.bytes_not_granted() == 0 {
            return;
        }
        share.stale += 1;
        // Now and then, so that who begins and cancels for ever costs a bounded memory.
        if share.stale > STALE_MIN + share.wanting.len() / 2 {
            share.stale = 0;
            share.wanting.retain(|Reverse((_, age, slot))| wants(rpcs, *slot, *age));
            self.relist(peer);
        }
    }

    /// Whether nobody wants grants: so it is as long as messages are short.
    pub fn is_idle(&self) -> bool {
        self.order.is_empty()
    }

    fn relist(&mut self, peer: u32) {
        match self.shares[peer as usize].wanting.peek() {
            Some(&Reverse((left, age, _))) => self.order.set(peer, (left, age)),
            None => drop(self.order.remove(peer)),
        }
    }

    /// Takes the messages that are furthest ahead out of the heaps: `most` of them, no peer more than its part.
    fn choose(&mut self, most: usize, rpcs: &Table) {
        self.chosen.clear();
        let part = most.div_ceil(self.order.len().max(1));
        while self.chosen.len() < most {
            let Some((_, peer)) = self.order.peek() else { break };
            let share = &mut self.shares[peer as usize];
            if let Some(Reverse(wish)) = share.wanting.pop() {
                if wants(rpcs, wish.2, wish.1) {
                    share.places += 1;
                    self.chosen.push((peer, wish));
                } else {
                    share.stale = share.stale.saturating_sub(1);
                }
            }
            if share.places < part {
                self.relist(peer);
            } else {
                self.order.remove(peer);
            }
        }
    }

    /// How many bytes a message of `peer`, cut into records of `record` bytes, may be granted now.
    fn room(&self, config: &Config, peer: u32, record: u64) -> u64 {
        let held = self.shares[peer as usize].scheduled;
        let left = config.incoming_bytes_max.saturating_sub(self.scheduled);
        let part = (left.saturating_mul(SHARE_OF_LEFT).saturating_sub(held) / (SHARE_OF_LEFT + 1)).min(left);
        // A budget, or a part, smaller than a record must not stop everything.
        match (self.scheduled, held) {
            (0, _) => part.max(record),
            (_, 0) if left >= record => part.max(record),
            _ => part,
        }
    }

    /// Decides for the messages that are furthest ahead, and hands over every decision.
    pub fn schedule(&mut self, config: &Config, rpcs: &mut Table, mut decided: impl FnMut(Grant)) {
        self.choose((config.overcommit as usize).min(OVERCOMMIT_MAX), rpcs);
        for rank in 0..self.chosen.len() {
            let (peer, (_, age, slot)) = self.chosen[rank];
            let incoming = rpcs.taken(slot).inc.as_mut().expect("it wants grants");
            let geometry = incoming.geometry();
            let room = self.room(config, peer, geometry.payload().into());
            let wish = u64::from(incoming.received()) + u64::from(config.grant_window_bytes);
            let wish = wish.min(u64::from(incoming.granted()) + room).min(u64::from(geometry.length()));
            // Whole records only; and a grant for less than a quarter window waits for more, unless it is the last one.
            let offset = geometry.offset_of(geometry.records_below(wish as u32));
            let step = offset.saturating_sub(incoming.granted());
            let last = offset == geometry.length();
            if step > 0 && (last || step >= config.grant_window_bytes / 4 || incoming.outstanding() == 0) {
                let before = incoming.scheduled();
                incoming.grant(offset);
                let more = u64::from(incoming.scheduled() - before);
                self.shares[peer as usize].scheduled += more;
                self.scheduled += more;
                // Fewest bytes left: highest of the scheduled priorities; ranks beyond share the lowest.
                decided(Grant { slot, offset, priority: 3u8.saturating_sub(rank as u8) });
            }
            let left = incoming.bytes_not_granted();
            if left > 0 {
                self.shares[peer as usize].wanting.push(Reverse((left, age, slot)));
            }
        }
        for at in 0..self.chosen.len() {
            let peer = self.chosen[at].0;
            self.shares[peer as usize].places = 0;
            self.relist(peer);
        }
    }
}
