//! Owns what the machine hands out: events, records to send, frames to say, grants.

use alloc::boxed::Box;

use wire::control::Frame;

use crate::config::{Config, Order, Priorities};
use crate::grant::{GRANTS_MAX, Terms};
use crate::io::{Event, Work};
use crate::machine::Machine;
use crate::outgoing::Outgoing;
use crate::peer::Peer;
use crate::time::Instant;

/// RPCs that are looked at to find company for a packet.
const LOOKED_AT_MAX: usize = 32;

/// At which priority `record` goes.
#[inline]
fn priority_of(config: &Config, peers: &[Option<Box<Peer>>], peer: u32, out: &Outgoing, record: u32) -> u8 {
    if matches!(config.priorities, Priorities::Off) {
        return 0;
    }
    if config.priority_by_left
        && out.is_first_unscheduled(record)
        && let Some(peer) = &peers[peer as usize]
    {
        return peer.cutoffs.level(out.geometry().length() - out.geometry().offset_of(record));
    }
    out.priority_of(record)
}

impl Machine {
    /// The next thing that happened.
    pub fn next_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.rpcs.taken(event.slot()).told = true;
        Some(event)
    }

    #[inline]
    pub(crate) fn refresh_ready(&mut self, slot: u32) {
        let rpc = self.rpcs.taken(slot);
        let Some(out) = rpc.out.as_ref().filter(|out| out.is_ready() && !rpc.ended && !rpc.held) else {
            return self.unready(slot);
        };
        let left = if self.config.order == Order::Srpt { out.bytes_left() } else { 0 };
        self.ready.set(slot, (left, rpc.age));
        if self.pacer.is_on() {
            self.ready_by_age.set(slot, rpc.age);
        }
    }

    /// The message of `slot` may begin to leave: nothing of the RPC was ready before.
    #[inline]
    pub(crate) fn make_ready(&mut self, slot: u32) {
        let rpc = self.rpcs.taken(slot);
        let out = rpc.out.as_ref().expect("its message was just given");
        let left = if self.config.order == Order::Srpt { out.bytes_left() } else { 0 };
        self.ready.add(slot, (left, rpc.age));
        if self.pacer.is_on() {
            self.ready_by_age.add(slot, rpc.age);
        }
    }

    pub(crate) fn unready(&mut self, slot: u32) {
        self.ready.remove(slot);
        if self.pacer.is_on() {
            self.ready_by_age.remove(slot);
        }
    }

    /// The RPC whose records go next, unless the link is busy; and whether it is its turn for its age. [P-8.4] [P-8.10]
    #[inline]
    fn next_to_send(&self, now: Instant) -> Option<(u32, bool)> {
        let (_, slot) = self.ready.peek()?;
        if !self.pacer.is_on() || !self.is_deferrable(slot) {
            return Some((slot, false));
        }
        // All others have more left, so they wait as well.
        if self.pacer.opens_at(&self.config) > now {
            return None;
        }
        match self.ready_by_age.peek() {
            Some((_, oldest)) if self.pacer.owes_the_oldest() => Some((oldest, true)),
            _ => Some((slot, false)),
        }
    }

    fn is_deferrable(&self, slot: u32) -> bool {
        let out = self.rpcs.get(slot).and_then(|rpc| rpc.out.as_ref());
        out.is_some_and(|out| out.bytes_left() >= self.config.defer_bytes_min)
    }

    /// When work that is held back may go, if that is later than now; else [`Instant::FAR`]. [P-8.10]
    pub(crate) fn held_until(&self) -> Instant {
        if !self.pacer.is_on() || self.ready.is_empty() {
            return Instant::FAR;
        }
        let at = self.pacer.opens_at(&self.config);
        if at > self.now { at } else { Instant::FAR }
    }

    /// The RPC whose records go next (fewest bytes left first), its peer, its next record, and at which priority that goes.
    /// None while the link is busy with as much as it may be. [P-8.4] [P-8.10]
    pub fn peek_work(&self, now: Instant) -> Option<(u32, u32, u32, u8)> {
        let (slot, _) = self.next_to_send(now)?;
        let rpc = self.rpcs.get(slot)?;
        let out = rpc.out.as_ref()?;
        let record = out.next_record()?;
        Some((slot, rpc.peer, record, priority_of(&self.config, &self.peers, rpc.peer, out, record)))
    }

    /// Whether more than one RPC has something to send.
    pub fn has_several_ready(&self) -> bool {
        self.ready.len() > 1
    }

    /// How many records of `slot`'s message may go for the first time, one after the other, and none of another; 0 where others wait.
    pub fn may_follow_alone(&self, slot: u32) -> u32 {
        if self.has_several_ready() {
            return 0;
        }
        self.rpcs.get(slot).and_then(|rpc| rpc.out.as_ref()).map_or(0, Outgoing::may_follow)
    }

    /// Whether any RPC has something to send; perhaps not now.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether the message of `slot` has one record, which never went.
    pub fn may_ride(&self, slot: u32) -> bool {
        let out = self.rpcs.get(slot).and_then(|rpc| rpc.out.as_ref());
        out.is_some_and(Outgoing::may_ride)
    }

    /// An RPC whose message travels with what goes to `peer` anyway, at `priority` if one is given: one that [`Self::may_ride`] and `fits`.
    /// It is the one whose records go next; where that is another peer's, one of some that are ready. All of it counts as sent at `now`.
    pub fn take_rider(
        &mut self,
        now: Instant,
        peer: u32,
        priority: Option<u8>,
        mut fits: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let (first, _) = self.next_to_send(now)?;
        let is_company = |slot: u32| {
            let out = self.rpcs.get(slot).and_then(|rpc| rpc.out.as_ref()).filter(|out| out.may_ride());
            let other = |out| priority.is_some_and(|of| priority_of(&self.config, &self.peers, peer, out, 0) != of);
            out.is_some_and(|out| !other(out))
        };
        let is_for_peer = |slot: u32| self.rpcs.get(slot).is_some_and(|rpc| rpc.peer == peer);
        let slot = if is_for_peer(first) {
            Some(first).filter(|slot| is_company(*slot) && fits(*slot))?
        } else if self.pacer.is_on() {
            return None;
        } else {
            // The first is kept waiting by no more than what the packet has room for.
            let some = self.ready.iter().take(LOOKED_AT_MAX).map(|(_, slot)| slot);
            some.filter(|slot| is_for_peer(*slot)).find(|slot| is_company(*slot) && fits(*slot))?
        };
        if self.pacer.is_on() {
            return self.next_work(now, 1).map(|work| work.slot);
        }
        let rpc = self.rpcs.taken(slot);
        rpc.out.as_mut()?.take(1);
        rpc.sent_at = now;
        self.ready.remove(slot);
        Some(slot)
    }

    /// Takes up to `most` records of that RPC; they count as sent at `now`.
    pub fn next_work(&mut self, now: Instant, most: u32) -> Option<Work> {
        self.note_time(now);
        let (slot, owed) = self.next_to_send(now)?;
        let rpc = self.rpcs.taken(slot);
        let out = rpc.out.as_mut()?;
        let geometry = out.geometry();
        let priority = priority_of(&self.config, &self.peers, rpc.peer, out, out.next_record()?);
        let paced = self.pacer.is_on() && out.bytes_left() >= self.config.defer_bytes_min;
        let most = if paced { most.min(self.pacer.packets(&self.config, now, geometry.payload())) } else { most };
        let (records, again) = out.take(most.max(1))?;
        rpc.repeated |= again;
        rpc.sent_at = now;
        let peer = rpc.peer;
        if self.pacer.is_on() {
            let bytes = geometry.offset_of(records.end) - geometry.offset_of(records.start);
            self.pacer.took(&self.config, records.end - records.start, bytes, owed, now);
        }
        self.refresh_ready(slot);
        Some(Work { slot, peer, start: records.start, end: records.end, priority, again })
    }

    /// A datagram of so many bytes that is not data was given to the link at `now`. [P-8.10]
    pub fn count_sent(&mut self, now: Instant, bytes: usize) {
        if self.pacer.is_on() {
            self.pacer.count_control(&self.config, now, bytes);
        }
    }

    pub(crate) fn say(&mut self, peer: u32, frame: Frame) {
        self.peer(peer).say(frame);
        self.list(peer);
    }

    pub(crate) fn flush_acks(&mut self, peer: u32) {
        self.ack_timers.remove(peer);
        let cutoffs = *self.traffic.cutoffs();
        self.peer(peer).flush_acks(&cutoffs);
        self.list(peer);
    }

    fn list(&mut self, slot: u32) {
        let peer = self.peer(slot);
        if !peer.listed {
            peer.listed = true;
            self.talkative.push(slot);
        }
    }

    /// The next peer that something must be said to.
    pub fn peek_talkative(&self) -> Option<u32> {
        self.talkative.last().copied()
    }

    /// Whether something must be said to anybody but `peer`.
    pub fn is_talkative_beside(&self, peer: u32) -> bool {
        self.talkative.iter().any(|slot| *slot != peer)
    }

    /// Moves frames for the peer of [`Self::peek_talkative`] to `say`, as long as it takes them. When the packet has room
    /// after that, acks and cutoffs that wait for a ride go along.
    pub fn next_frames(&mut self, mut say: impl FnMut(&Frame) -> bool) {
        let Some(slot) = self.talkative.last().copied() else { return };
        let peer = self.peers[slot as usize].as_mut().expect("an open peer");
        let taken = peer.frames.iter().take_while(|frame| say(frame)).count();
        peer.frames.drain(..taken);
        if peer.frames.is_empty() {
            let riding = peer.acks.iter().take_while(|rpc| say(&Frame::Ack { rpc: **rpc })).count();
            peer.acks.drain(..riding);
            peer.owes_cutoffs = peer.owes_cutoffs && !say(&self.traffic.cutoffs().frame());
            peer.rode();
            if peer.acks_due == Instant::FAR {
                self.ack_timers.remove(slot);
            }
            peer.listed = false;
            self.talkative.pop();
        }
    }

    /// Decides on grants, once per batch of input. Whoever forgets it is reminded by [`Self::timeout`]. [P-8.2]
    pub fn schedule_grants(&mut self) {
        if !core::mem::take(&mut self.grants_due) {
            return;
        }
        let mut decided = [None; GRANTS_MAX];
        let mut places = decided.iter_mut();
        let Self { granter, config, rpcs, traffic, peers, .. } = self;
        let unscheduled = |peer: u32| peers[peer as usize].as_ref().map_or(0, |peer| peer.unscheduled);
        let terms = Terms { config, cutoffs: traffic.cutoffs(), now: self.now };
        granter.schedule(&terms, rpcs, unscheduled, |grant| {
            *places.next().expect("no more than that are granted at once") = Some(grant)
        });
        let now = self.now;
        for grant in decided.into_iter().flatten() {
            let rpc = self.rpcs.taken(grant.slot);
            let (peer, id) = (rpc.peer, rpc.id);
            // While grants were held back its timer only watched for a sign of life.
            self.arm(grant.slot, now);
            self.say(peer, Frame::Grant { rpc: id, offset: grant.offset, priority: grant.priority });
        }
    }
}
