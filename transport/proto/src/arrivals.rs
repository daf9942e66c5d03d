//! Owns what a record that verified does to the machine. [P-7], [P-8.1]
//!
//! The peer is authenticated, not trusted: whatever it says is counted, bounded or refused here, and nothing that it says
//! makes another peer's messages wait for ever.

use core::ops::Range;
use core::time::Duration;

use wire::control::{Frame, RefusalCode};
use wire::ids::RpcId;
use wire::trailer::{Kind, Trailer};

use crate::incoming::Incoming;
use crate::io::{Arrival, Failure, State};
use crate::machine::Machine;
use crate::peer::{ACKS_MANY, ACKS_OWED_MAX, ACKS_PAUSE};
use crate::resend;
use crate::seen::Verdict;
use crate::time::Instant;

/// How long cutoffs wait for a ride: until the message that showed that they are needed was delivered, and perhaps answered.
const CUTOFFS_DELAY: Duration = Duration::from_micros(100);

impl Machine {
    /// Record `index` of a message of `rpc` verified. `slot` is what [`Self::find`] said of it.
    pub fn arrived(
        &mut self,
        now: Instant,
        peer: u32,
        rpc: RpcId,
        slot: Option<u32>,
        index: u16,
        trailer: &Trailer,
    ) -> Arrival {
        self.note_time(now);
        let ours = rpc.began() == self.peer(peer).side;
        // A response comes to its beginner, everything else from it. And no message has records past its end. [P-4.4]
        if ours != (trailer.kind == Kind::Response) || u32::from(index) >= trailer.geometry.records() {
            return Arrival::Contradiction;
        }
        if !ours {
            let floor = rpc.sequence().saturating_sub(u64::from(trailer.floor_distance));
            self.raise_floor(peer, floor);
        }
        match slot {
            Some(slot) if self.rpcs.taken(slot).ended => Arrival::Duplicate,
            Some(slot) => self.arrived_known(now, slot, index, trailer),
            None if ours => Arrival::Unexpected,
            None => self.arrived_new(now, peer, rpc, index, trailer),
        }
    }

    /// Whether a message of that length may be buffered. Whatever a host holds already, it leaves as much to the others:
    /// so messages that were begun and never finished cost their own host first, however many sessions it has. Room that is kept
    /// is not free.
    #[inline(always)]
    fn has_room(&self, peer: u32, length: u32) -> bool {
        let left = self.config.buffered_bytes_max.saturating_sub(self.buffered + self.room.kept_bytes());
        let Some(p) = self.peers[peer as usize].as_ref() else { return false };
        let (mut by_peer, mut by_host) =
            (p.buffered + u64::from(length), self.hosts.buffered(p.host) + u64::from(length));
        if !self.room.is_idle() {
            by_peer += self.room.kept_for(|other| other == peer);
            by_host +=
                self.room.kept_for(|other| self.peers[other as usize].as_ref().is_some_and(|o| o.host == p.host));
        }
        by_peer <= self.config.buffered_bytes_per_peer_max
            && by_host <= left.min(self.config.buffered_bytes_per_host_max)
    }

    /// A message begins to come: whether it is taken now. If not it waits, and its sender is told so. Nobody who waits would
    /// fit at this moment, because whatever gets free is offered to them first; so nobody is overtaken. [P-8.7]
    #[inline]
    fn takes_room(&mut self, now: Instant, peer: u32, rpc: RpcId, length: u32) -> bool {
        self.room.is_idle() && self.has_room(peer, length) || self.takes_kept_room(now, peer, rpc, length)
    }

    #[cold]
    fn takes_kept_room(&mut self, now: Instant, peer: u32, rpc: RpcId, length: u32) -> bool {
        // What is kept for itself is in nobody's way.
        let waited = self.room.stop_keeping(peer, rpc);
        if self.has_room(peer, length) {
            self.room.forget(peer, rpc);
            return true;
        }
        let p = self.peers[peer as usize].as_ref().expect("an open peer");
        let pause = resend::patience(&self.config, p.rtt(), 0);
        let noted = self.room.note(&self.config, now, (peer, rpc, length), pause);
        if noted.tell {
            self.say(peer, Frame::Busy { rpc });
        }
        if let Some(slot) = self.find(peer, rpc) {
            self.wait_for_room(slot, noted.waits);
        }
        if let Some(slot) = noted.instead_of.and_then(|entry| self.find(entry.peer, entry.rpc)) {
            self.wait_for_room(slot, false);
        }
        if waited {
            self.offer_room();
        }
        false
    }

    /// The response of `slot` waits for room, or does no longer: then its timer is for its sender's silence again.
    fn wait_for_room(&mut self, slot: u32, waits: bool) {
        let rpc = self.rpcs.taken(slot);
        if rpc.waits_for_room != waits && !rpc.ended {
            rpc.waits_for_room = waits;
            let now = self.now;
            self.arm(slot, now);
        }
    }

    /// `rpc` is here, or will never be.
    #[inline]
    pub(crate) fn leave_room(&mut self, peer: u32, rpc: RpcId) {
        if !self.room.is_idle() {
            self.room.forget(peer, rpc);
            self.offer_room();
        }
    }

    /// Room may have become free: the shortest that waits and fits is asked for, and has it for as long as it may take to
    /// come. [P-8.7]
    pub(crate) fn offer_room(&mut self) {
        let (mut at, now) = (0, self.now);
        while let Some(waiting) = self.room.get(at) {
            let (peer, rpc) = (waiting.peer, waiting.rpc);
            let stale = self.room.is_silent(&waiting, now);
            if !stale && !self.has_room(peer, waiting.length) {
                at += 1;
                continue;
            }
            if stale {
                self.room.drop_waiting(at);
            } else {
                let rtt = self.peers[peer as usize].as_ref().expect("an open peer").rtt();
                self.room.keep(at, now + resend::patience(&self.config, rtt, 2));
                self.say(peer, Frame::Resend { rpc, start: 0, end: u32::MAX });
            }
            if let Some(slot) = self.find(peer, rpc) {
                self.wait_for_room(slot, false);
            }
        }
    }

    fn arrived_known(&mut self, now: Instant, slot: u32, index: u16, trailer: &Trailer) -> Arrival {
        let rpc = self.rpcs.taken(slot);
        let (peer, id) = (rpc.peer, rpc.id);
        match rpc.state {
            State::Requesting => {
                // Whether we take it or not: its sender lives.
                rpc.heard = now;
                if trailer.geometry.length() > self.config.message_bytes_max {
                    self.fail(slot, Failure::Refused(RefusalCode::TooLong), true);
                    self.say(peer, Frame::Ack { rpc: id });
                    return Arrival::Refused;
                }
                if !self.is_unscheduled(trailer, index) {
                    return Arrival::NotGranted;
                }
                if !self.takes_room(now, peer, id, trailer.geometry.length()) {
                    return Arrival::NoRoom;
                }
                let rpc = self.rpcs.taken(slot);
                if !rpc.repeated && rpc.sent_at != Instant::FAR {
                    let sent = rpc.sent_at;
                    self.peers[peer as usize].as_mut().expect("an open peer").answered(&self.config, sent, now);
                }
                // The response says that the request arrived in full.
                rpc.state = State::Answering;
                rpc.out = None;
                self.unready(slot);
                self.begin_incoming(now, slot, index, trailer)
            }
            State::Answering | State::Receiving => {
                let sealed = u32::from(index)..u32::from(index) + 1;
                self.arrived_more(now, slot, sealed, trailer)
            }
            State::Telling => Arrival::Contradiction,
            // All of it was here: our answer or our ack got lost, or theirs is late. The timers settle it.
            State::InService | State::Responding | State::Complete => Arrival::Duplicate,
        }
    }

    // ---- Slices [P-4.6] ----

    /// These slices, of the record that `span` is sealed as, came for the message that comes in for `slot`, and wait. Whether all of that
    /// record are here: then it is to be opened, and [`Self::arrived_span`] or [`Self::spoiled`] comes next. Nothing is proven by it, so
    /// nothing else happens.
    pub fn stage(&mut self, now: Instant, slot: u32, slices: Range<u32>, span: &Range<u32>) -> bool {
        self.note_time(now);
        self.rpcs.taken(slot).inc.as_mut().is_some_and(|inc| inc.stage(slices, span, now))
    }

    /// The spanning record verified whose slices are `span`.
    pub fn arrived_span(&mut self, now: Instant, slot: u32, span: Range<u32>, trailer: &Trailer) -> Arrival {
        let rpc = self.rpcs.taken(slot);
        if rpc.ended {
            return Arrival::Duplicate;
        }
        if let Some(inc) = rpc.inc.as_mut() {
            inc.unstage(&span);
        }
        let (peer, id, ours) = (rpc.peer, rpc.id, rpc.ours);
        if !ours {
            self.raise_floor(peer, id.sequence().saturating_sub(u64::from(trailer.floor_distance)));
        }
        self.arrived_more(now, slot, span, trailer)
    }

    /// A spanning record of the message that comes in for `slot` did not open, or contradicts it. Somebody put bytes between, and may do so
    /// again: all that waits is forgotten, and what is missing is asked for in ordinary records, under the next attempt.
    pub fn spoiled(&mut self, slot: u32) {
        let rpc = self.rpcs.taken(slot);
        if let Some(inc) = rpc.inc.as_mut().filter(|_| !rpc.ended) {
            inc.spoil();
            self.ask_for_message(slot);
        }
    }

    /// More of a message came: what is sealed as `sealed`, which is one record or the slices of one.
    #[inline]
    fn arrived_more(&mut self, now: Instant, slot: u32, sealed: Range<u32>, trailer: &Trailer) -> Arrival {
        let rpc = self.rpcs.taken(slot);
        let inc = rpc.inc.as_mut().expect("a message comes in");
        // All records of a message tell the same of it, or its sender is faulty. [P-4.4]
        if inc.geometry() != trailer.geometry || inc.kind() != trailer.kind {
            return Arrival::Contradiction;
        }
        rpc.heard = now;
        let (first, last) = (sealed.start as u16, (sealed.end - 1) as u16);
        if inc.has(first) {
            return Arrival::Duplicate;
        }
        if !inc.allows(last) {
            return Arrival::NotGranted;
        }
        // What comes in an ordinary record where the first attempt has slices is of a later one.
        if first == last && trailer.geometry.is_sliced(first) {
            inc.forget_slices();
        }
        let before = inc.scheduled();
        for index in sealed {
            inc.arrive(index as u16, now);
        }
        rpc.asked = 0;
        let complete = inc.is_complete();
        self.granter.update(rpc.peer, slot, rpc.age, before, inc);
        self.grants_due |= !self.granter.is_idle();
        if complete {
            let one_way = inc.kind() == Kind::OneWay;
            return self.completed(slot, false, one_way);
        }
        Arrival::New { slot, first: false, complete }
    }

    fn arrived_new(&mut self, now: Instant, peer: u32, id: RpcId, index: u16, trailer: &Trailer) -> Arrival {
        let length = trailer.geometry.length();
        let rpcs_max = self.config.rpcs_per_peer_max;
        let (serving, length_max) = match self.peer(peer).first_max.filter(|_| id.sequence() == 0) {
            Some(length_max) => (true, length_max),
            None => (self.config.serving, self.config.message_bytes_max),
        };
        match self.peer(peer).seen.state(id.sequence()) {
            Verdict::New => {}
            // It finished earlier. A one-way message may lack our ack; a request's outcome is no longer known.
            Verdict::Seen if trailer.kind == Kind::OneWay => {
                self.owe_ack(peer, id, now, self.config.ack_delay);
                return Arrival::Duplicate;
            }
            Verdict::Seen | Verdict::BelowFloor => return Arrival::Duplicate,
            Verdict::BeyondWindow => return Arrival::OutsideWindow,
            Verdict::Full => return Arrival::NoRoom,
        }
        let refusal = if !serving {
            Some(RefusalCode::NotServing)
        } else if length > length_max {
            Some(RefusalCode::TooLong)
        } else {
            None
        };
        if let Some(code) = refusal {
            // Not remembered as finished: then a repeat would be acknowledged, or called "may have run".
            self.say(peer, Frame::Refused { rpc: id, code });
            return Arrival::Refused;
        }
        if !self.is_unscheduled(trailer, index) {
            return Arrival::NotGranted;
        }
        if self.peer(peer).begun_by_peer >= rpcs_max || !self.takes_room(now, peer, id, length) {
            return Arrival::NoRoom;
        }
        self.peer(peer).begun_by_peer += 1;
        let slot = self.insert(peer, id, false, State::Receiving, now);
        self.begin_incoming(now, slot, index, trailer)
    }

    /// Bytes of a message that its sender sends without grants. More than we allow is not believed: its sender gets grants as
    /// everybody. [P-8.1]
    fn believed(&self, trailer: &Trailer) -> u32 {
        trailer.unscheduled.min(self.config.unscheduled_bytes)
    }

    /// Whether record `index` may come first.
    fn is_unscheduled(&self, trailer: &Trailer, index: u16) -> bool {
        index == 0 || u32::from(index) < trailer.geometry.records_below(self.believed(trailer)).max(1)
    }

    #[inline(always)]
    fn begin_incoming(&mut self, now: Instant, slot: u32, index: u16, trailer: &Trailer) -> Arrival {
        let length = trailer.geometry.length();
        let rpc = self.rpcs.taken(slot);
        let peer = rpc.peer;
        rpc.heard = now;
        rpc.asked = 0;
        rpc.incast = trailer.incast;
        // One record is all of it: nothing is missing, nothing to be granted.
        let whole = trailer.geometry.records() == 1;
        let unscheduled = if whole { length } else { self.begin_long(now, slot, index, trailer) };
        self.traffic.note(&self.config, length, unscheduled);
        if trailer.cutoffs != self.traffic.cutoffs().stated() {
            self.tell_cutoffs(now, peer);
        }
        self.buffered += u64::from(length);
        let p = self.peers[peer as usize].as_mut().expect("an open peer");
        p.buffered += u64::from(length);
        self.hosts.add(p.host, length.into());
        if whole {
            self.rpcs.taken(slot).whole = length;
            return self.completed(slot, true, trailer.kind == Kind::OneWay);
        }
        self.grants_due |= !self.granter.is_idle();
        self.arm(slot, now);
        Arrival::New { slot, first: true, complete: false }
    }

    /// The first record of a message of several came. How many of its bytes need no grant.
    fn begin_long(&mut self, now: Instant, slot: u32, index: u16, trailer: &Trailer) -> u32 {
        let believed = self.believed(trailer);
        let rpc = self.rpcs.taken(slot);
        let mut inc = Incoming::new(trailer.geometry, trailer.kind, believed, now);
        inc.arrive(index, now);
        // Of a later attempt: nothing of the first comes any more. [P-4.6]
        if trailer.geometry.is_sliced(index) {
            inc.forget_slices();
        }
        self.granter.begin(rpc.peer, slot, rpc.age, &inc);
        let unscheduled = inc.granted();
        rpc.inc = Some(inc);
        unscheduled
    }

    /// The last record of a message came.
    #[inline(always)]
    fn completed(&mut self, slot: u32, first: bool, one_way: bool) -> Arrival {
        // From here on it is the endpoint's or the application's turn; a timer that fired now would find nothing to do.
        self.timers.remove(slot);
        let rpc = self.rpcs.taken(slot);
        let (peer, id, now, ours) = (rpc.peer, rpc.id, rpc.heard, rpc.ours);
        let length = rpc.inc.as_ref().map_or(rpc.whole, |inc| inc.geometry().length());
        self.awaited -= u32::from(rpc.awaits_response());
        rpc.state = if ours || one_way { State::Complete } else { State::InService };
        // From here on it counts as executed: at most once, whatever comes later. [P-7.1]
        if !ours && self.peer(peer).seen.insert(id.sequence()) != Verdict::New {
            // There is no room to remember that it ran, so it must not run. Its sender will try again.
            self.free(slot);
            return Arrival::NoRoom;
        }
        if ours || one_way {
            let config = &self.config;
            let delay = if ours { config.response_ack_delay(length) } else { config.ack_delay };
            self.owe_ack(peer, id, now, delay);
        }
        Arrival::New { slot, first, complete: true }
    }

    /// The sender of a message goes by cutoffs that are not the ones that hold: it is told, once in the time in which that can
    /// have an effect. [P-8.3]
    #[cold]
    fn tell_cutoffs(&mut self, now: Instant, peer: u32) {
        let p = self.peer(peer);
        if p.told_cutoffs == Instant::FAR || now.since(p.told_cutoffs) >= p.rtt().smoothed() {
            p.told_cutoffs = now;
            p.owes_cutoffs = true;
            self.owe(peer, now + CUTOFFS_DELAY);
        }
    }

    fn owe_ack(&mut self, peer: u32, rpc: RpcId, now: Instant, delay: Duration) {
        let p = self.peer(peer);
        p.acks.push(rpc);
        match p.acks.len() {
            ACKS_OWED_MAX.. => self.flush_acks(peer),
            ACKS_MANY => self.owe(peer, now + delay.min(ACKS_PAUSE)),
            _ => self.owe(peer, now + delay),
        }
    }

    /// What `peer` is owed may wait for a ride until `due`.
    fn owe(&mut self, peer: u32, due: Instant) {
        let p = self.peer(peer);
        if due < p.acks_due {
            p.acks_due = due;
            self.ack_timers.set(peer, due);
        }
    }

    /// The peer stated that all it began below `floor` is finished: our responses to that arrived. [P-7.2]
    #[inline]
    pub(crate) fn raise_floor(&mut self, peer: u32, floor: u64) {
        let p = self.peer(peer);
        if floor <= p.seen.floor() {
            return;
        }
        p.seen.raise_floor(floor);
        while let Some((sequence, slot)) = self.peer(peer).below_floor(floor) {
            if self.rpcs.get(slot).is_some_and(|rpc| rpc.is_response(peer, sequence)) {
                self.release(slot, false, true);
            }
        }
    }
}
