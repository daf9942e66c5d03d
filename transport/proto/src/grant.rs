//! Owns the receiver's choice: who may send how much. Shortest remaining first, a few at once. [P-8.2]
//!
//! Peers share: with several that want grants, none gets more than its part of the places, and none ever holds all of the
//! budget, so one that begins thousands of messages and finishes none takes grants from nobody but itself. What senders
//! send without grants is not counted: it is what they say, and a lie must not cost others their grants.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::config::{Config, GrantWindow, Order, Priorities};
use crate::cutoffs::Cutoffs;
use crate::heap::IndexHeap;
use crate::incoming::Incoming;
use crate::table::Table;
use crate::time::Instant;

/// Most messages that are granted at once, whatever the configuration says.
pub const OVERCOMMIT_MAX: usize = 32;

/// Fewest messages that are granted at once when their number follows the priorities: a sender that is busy elsewhere must
/// not leave our link idle.
const OVERCOMMIT_MIN: usize = 2;

/// Decisions of one round: one for each message that is granted at once, and one for the oldest.
pub const GRANTS_MAX: usize = OVERCOMMIT_MAX + 1;

/// A peer may hold this many times the budget that is left: three of four parts when it is alone, so that there is always
/// something for the next one.
const SHARE_OF_LEFT: u64 = 3;

/// Entries of ended messages that a peer's heap may have beyond half of it.
const STALE_MIN: usize = 16;

/// A message that wants grants: bytes not granted yet (0 when the order is by age), then its age, then its slot.
type Wish = (u32, u64, u32);

/// What decisions depend on besides the messages.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The priorities that hold now.
    pub cutoffs: &'a Cutoffs,
    /// The time.
    pub now: Instant,
}

impl Terms<'_> {
    fn overcommit(&self) -> usize {
        let levels = usize::from(self.cutoffs.scheduled_levels()).max(OVERCOMMIT_MIN);
        self.config.overcommit.map_or(levels, |most| most as usize).min(OVERCOMMIT_MAX)
    }

    fn window(&self, active: usize) -> u64 {
        match self.config.grant_window {
            GrantWindow::Dynamic => self.config.incoming_bytes_max / (active as u64 + 1),
            GrantWindow::Fixed(bytes) => bytes.into(),
        }
    }

    /// The priority of a grant by which `left` bytes come to their end, or of one at `level`.
    fn priority(&self, left: u32, unscheduled: u32, level: u8) -> u8 {
        match self.config.priorities {
            Priorities::Off => 0,
            _ if self.config.raise_tail && left <= unscheduled => self.cutoffs.level(left),
            _ => level,
        }
    }
}

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
#[derive(Debug)]
pub struct Granter {
    /// By peer.
    shares: Vec<Share>,
    /// Peers by the first entry of what they want.
    order: IndexHeap<(u32, u64)>,
    /// Granted bytes that have not arrived, over all messages.
    scheduled: u64,
    chosen: Vec<(u32, Wish)>,
    order_by: Order,
    /// Messages that want grants, by age; without those that have so much granted that they must first use it. Empty when
    /// nobody gets grants for its age.
    oldest: IndexHeap<u64>,
    by_age: bool,
    /// Thousandths of bytes that the oldest is owed.
    owed: u64,
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

/// The order of a message with `left` bytes not granted among others.
const fn rank(order: Order, left: u32) -> u32 {
    match order {
        Order::Srpt => left,
        Order::Fifo => 0,
    }
}

/// Whether the message that was born as `age` is still in `slot` and wants as much more as its entry says.
fn wants(order: Order, rpcs: &Table, (key, age, slot): Wish) -> bool {
    let wanting = |inc: &Incoming| !inc.is_complete() && inc.bytes_not_granted() > 0;
    rpcs.get(slot)
        .filter(|rpc| rpc.age == age && !rpc.ended)
        .and_then(|rpc| rpc.inc.as_ref())
        .is_some_and(|inc| wanting(inc) && rank(order, inc.bytes_not_granted()) == key)
}

/// Whether what was granted ends within a spanning record, as the unscheduled bytes may. Nothing of it can be opened before the rest of it
/// is here. [P-4.6]
fn is_torn(incoming: &Incoming) -> bool {
    incoming.geometry().sealed_end_before(incoming.granted()) < incoming.granted()
}

/// The least that can be granted next: a record, or the rest of one.
fn record(incoming: &Incoming) -> u32 {
    let (geometry, granted) = (incoming.geometry(), incoming.granted());
    if geometry.spans() { geometry.sealed_end(granted + 1) - granted } else { geometry.payload().into() }
}

impl Granter {
    /// One that nobody wants anything of.
    pub fn new(config: &Config) -> Self {
        Self {
            shares: Vec::new(),
            order: IndexHeap::default(),
            scheduled: 0,
            chosen: Vec::new(),
            order_by: config.order,
            oldest: IndexHeap::default(),
            // In the order of age everybody has its turn anyway.
            by_age: config.fifo_share_per_mille > 0 && config.order != Order::Fifo,
            owed: 0,
        }
    }

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
            self.shares[peer as usize].wanting.push(Reverse((rank(self.order_by, left), age, slot)));
            self.relist(peer);
            if self.by_age {
                self.oldest.set(slot, age);
            }
        }
    }

    /// `before` granted bytes had not arrived of the message, now it is as `incoming` says.
    pub fn update(&mut self, peer: u32, slot: u32, age: u64, before: u32, incoming: &Incoming) {
        let arrived = u64::from(before - incoming.scheduled());
        self.shares[peer as usize].scheduled -= arrived;
        self.scheduled -= arrived;
        if self.by_age && incoming.bytes_not_granted() > 0 && self.oldest.key(slot).is_none() {
            self.oldest.set(slot, age);
        }
    }

    /// A message ended, complete or not, and is no longer with its RPC among `rpcs`.
    pub fn end(&mut self, rpcs: &Table, peer: u32, slot: u32, incoming: &Incoming) {
        let share = &mut self.shares[peer as usize];
        share.scheduled -= u64::from(incoming.scheduled());
        self.scheduled -= u64::from(incoming.scheduled());
        if incoming.bytes_not_granted() == 0 {
            return;
        }
        self.oldest.remove(slot);
        share.stale += 1;
        // Now and then, so that who begins and cancels for ever costs a bounded memory.
        if share.stale > STALE_MIN + share.wanting.len() / 2 {
            share.stale = 0;
            share.wanting.retain(|Reverse(wish)| wants(self.order_by, rpcs, *wish));
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
                if wants(self.order_by, rpcs, wish) {
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

    /// Grants up to `offset`. The bytes that are new by it.
    fn grant(&mut self, terms: &Terms<'_>, peer: u32, slot: u32, incoming: &mut Incoming, offset: u32) -> u32 {
        // Until now it was us who made it wait.
        if incoming.outstanding() == 0 {
            incoming.heard = terms.now;
        }
        let (before, new) = (incoming.scheduled(), offset - incoming.granted());
        incoming.grant(offset);
        let more = u64::from(incoming.scheduled() - before);
        self.shares[peer as usize].scheduled += more;
        self.scheduled += more;
        if incoming.bytes_not_granted() == 0 {
            self.oldest.remove(slot);
        }
        new
    }

    /// Decides for the messages that are furthest ahead, and hands over every decision. `unscheduled` says what the sender
    /// of a message may send of one without grants.
    pub fn schedule(
        &mut self,
        terms: &Terms<'_>,
        rpcs: &mut Table,
        unscheduled: impl Fn(u32) -> u32,
        mut decided: impl FnMut(Grant),
    ) {
        self.choose(terms.overcommit(), rpcs);
        let window = terms.window(self.chosen.len());
        let step_min = terms.config.grant_step_bytes.map_or(window / 4, u64::from);
        if let Some(grant) = self.serve_oldest(terms, rpcs, window, &unscheduled) {
            decided(grant);
        }
        for rank in 0..self.chosen.len() {
            let (peer, (_, age, slot)) = self.chosen[rank];
            let incoming = rpcs.taken(slot).inc.as_mut().expect("it wants grants");
            let geometry = incoming.geometry();
            let (record, torn) = (u64::from(record(incoming)), is_torn(incoming));
            let room = self.room(terms.config, peer, record);
            // A window smaller than a record must not stop everything.
            let wish = u64::from(incoming.received()) + window.max(geometry.payload().into()).max(record);
            let wish = if torn { wish.max(u64::from(incoming.granted()) + record) } else { wish };
            let wish = wish.min(u64::from(incoming.granted()) + room).min(u64::from(geometry.length()));
            // Whole records only; and a grant for less than a step waits for more, unless it is the last one.
            let offset = geometry.sealed_end_before(wish as u32);
            let step = offset.saturating_sub(incoming.granted());
            let last = offset == geometry.length();
            if step > 0 && (last || u64::from(step) >= step_min || incoming.outstanding() == 0 || torn) {
                // Fewest bytes left: highest of the scheduled priorities; ranks beyond share the lowest.
                let level = terms.cutoffs.granted_level(rank, self.chosen.len());
                let priority = terms.priority(incoming.bytes_not_granted(), unscheduled(peer), level);
                let new = self.grant(terms, peer, slot, incoming, offset);
                self.owed += u64::from(new) * u64::from(terms.config.fifo_share_per_mille.min(500));
                decided(Grant { slot, offset, priority });
            }
            let left = incoming.bytes_not_granted();
            if left > 0 {
                let key = self::rank(self.order_by, left);
                self.shares[peer as usize].wanting.push(Reverse((key, age, slot)));
            }
        }
        for at in 0..self.chosen.len() {
            let peer = self.chosen[at].0;
            self.shares[peer as usize].places = 0;
            self.relist(peer);
        }
    }

    /// A part of all that is granted goes to the oldest message, whatever it has left, so that none waits for ever.
    fn serve_oldest(
        &mut self,
        terms: &Terms<'_>,
        rpcs: &mut Table,
        window: u64,
        unscheduled: impl Fn(u32) -> u32,
    ) -> Option<Grant> {
        let increment = terms.config.fifo_increment_bytes;
        // Bounded, so that what was never needed is not made up for at once.
        self.owed = self.owed.min(u64::from(increment) * 2000);
        while self.by_age && self.owed >= u64::from(increment) * 1000 {
            let (age, slot) = self.oldest.peek()?;
            // First of all it is already.
            if self.chosen.first().is_some_and(|(_, wish)| wish.2 == slot) {
                return None;
            }
            let rpc = rpcs.taken(slot);
            let (peer, ended) = (rpc.peer, rpc.ended);
            let incoming = rpc.inc.as_mut().expect("it wants grants");
            if ended || u64::from(incoming.outstanding()) > window + 2 * u64::from(increment) {
                // It wants nothing more, or has enough until something of it arrives; then it is put back.
                self.oldest.remove(slot);
                continue;
            }
            let geometry = incoming.geometry();
            let record = record(incoming);
            let room = self.room(terms.config, peer, record.into());
            let room = u32::try_from(room).unwrap_or(u32::MAX);
            let wish = incoming.granted().saturating_add(increment.max(record).min(room));
            let offset = geometry.sealed_end_before(wish);
            if offset <= incoming.granted() {
                return None;
            }
            // Not the highest, or it would hold up the shortest; not the lowest, or all others would go before it.
            let level = terms.cutoffs.scheduled_levels().saturating_sub(2);
            let priority = terms.priority(incoming.bytes_not_granted(), unscheduled(peer), level);
            let new = self.grant(terms, peer, slot, incoming, offset);
            let left = incoming.bytes_not_granted();
            self.owed = self.owed.saturating_sub(u64::from(new) * 1000);
            // Its entry tells what it had left before. One that is chosen gets another in any case.
            if !self.chosen.iter().any(|(_, wish)| wish.2 == slot) {
                let share = &mut self.shares[peer as usize];
                share.stale += 1;
                if left > 0 {
                    share.wanting.push(Reverse((rank(self.order_by, left), age, slot)));
                    // A peer that has all its places is listed when they are given back.
                    if share.places == 0 {
                        self.relist(peer);
                    }
                }
            }
            return Some(Grant { slot, offset, priority });
        }
        None
    }
}
