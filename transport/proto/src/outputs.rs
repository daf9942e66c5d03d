//! Owns what the machine hands out: events, records to send, frames to say, grants.

use wire::control::Frame;

use crate::grant::OVERCOMMIT_MAX;
use crate::io::{Event, Work};
use crate::machine::Machine;
use crate::time::Instant;

impl Machine {
    /// The next thing that happened.
    pub fn next_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.rpcs.taken(event.slot()).told = true;
        Some(event)
    }

    pub(crate) fn refresh_ready(&mut self, slot: u32) {
        let rpc = self.rpcs.taken(slot);
        match rpc.out.as_ref().filter(|out| out.is_ready() && !rpc.ended) {
            Some(out) => {
                let key = (out.bytes_left(), rpc.age);
                self.ready.set(slot, key);
            }
            None => drop(self.ready.remove(slot)),
        }
    }

    /// The RPC whose records go next (fewest bytes left first), its peer, and its next record. [P-8.4]
    pub fn peek_work(&self) -> Option<(u32, u32, u32)> {
        let (_, slot) = self.ready.peek()?;
        let rpc = self.rpcs.get(slot)?;
        Some((slot, rpc.peer, rpc.out.as_ref()?.next_record()?))
    }

    /// Takes up to `most` records of that RPC; they count as sent at `now`.
    pub fn next_work(&mut self, now: Instant, most: u32) -> Option<Work> {
        self.note_time(now);
        let (_, slot) = self.ready.peek()?;
        let rpc = self.rpcs.taken(slot);
        let out = rpc.out.as_mut()?;
        let (records, again) = out.take(most.max(1))?;
        rpc.repeated |= again;
        rpc.sent_at = now;
        let work = Work { slot, peer: rpc.peer, start: records.start, end: records.end, priority: out.priority, again };
        self.refresh_ready(slot);
        Some(work)
    }

    pub(crate) fn say(&mut self, peer: u32, frame: Frame) {
        self.peer(peer).say(frame);
        self.list(peer);
    }

    pub(crate) fn flush_acks(&mut self, peer: u32) {
        self.ack_timers.remove(peer);
        self.peer(peer).flush_acks();
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

    /// Moves frames for the peer of [`Self::peek_talkative`] to `say`, as long as it takes them. When the packet has room
    /// after that, acks that wait for a ride go along.
    pub fn next_frames(&mut self, mut say: impl FnMut(&Frame) -> bool) {
        let Some(slot) = self.talkative.last().copied() else { return };
        let peer = self.peers[slot as usize].as_mut().expect("an open peer");
        let taken = peer.frames.iter().take_while(|frame| say(frame)).count();
        peer.frames.drain(..taken);
        if peer.frames.is_empty() {
            let riding = peer.acks.iter().take_while(|rpc| say(&Frame::Ack { rpc: **rpc })).count();
            peer.acks.drain(..riding);
            if peer.acks.is_empty() {
                peer.acks_due = Instant::FAR;
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
        let mut decided = [None; OVERCOMMIT_MAX];
        let mut places = decided.iter_mut();
        let Self { granter, config, rpcs, .. } = self;
        granter.schedule(config, rpcs, |grant| {
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
