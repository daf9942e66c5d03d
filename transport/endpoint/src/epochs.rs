//! Owns when epochs begin: asks the peer to be ready, answers when it asks, begins, and gives up on a peer that is never ready.
//! [P-6.5] Which keys live and what they may protect is in `record`; messages that wait are put aside in `proto`.
//!
//! The next epoch is asked for at a quarter of what a key may protect, so that nothing waits for the answer. Should a key be
//! used up all the same, messages wait, the way they would for a grant.

use std::time::Duration;

use proto::time::Instant;
use record::seal::{Bound, Unbound};
use wire::control::Frame;

use crate::session::Asked;
use crate::state::{NOTICES_MAX, State};

/// The shortest and the longest pause before the peer is asked again.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(250);

impl State {
    /// The keys of `slot` have protected a good part of what they may: the peer is asked to be ready for the next, unless it was.
    #[cold]
    pub(crate) fn want_epoch(&mut self, slot: u32, now: Instant) {
        let answer = self.machine.rtt(slot).unwrap_or(PAUSE_MIN);
        let Some(keys) = self.at(slot).keys.as_mut().filter(|keys| keys.asked.is_none()) else { return };
        // Twice the time of an answer: the question rides with nothing, and the peer may be busy.
        let pause = (answer * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        keys.asked = Some(Asked { since: now, pause });
        self.ask_for_epoch(slot, now + pause);
    }

    fn ask_for_epoch(&mut self, slot: u32, again: Instant) {
        let Some(keys) = &self.at(slot).keys else { return };
        let epoch = (keys.sealing.epoch() + 1) as u8;
        self.counters.epochs_wanted += 1;
        self.notices.push_back((slot, Frame::EpochWanted { epoch }));
        self.set_epoch_timer(slot, Some(again));
    }

    pub(crate) fn set_epoch_timer(&mut self, slot: u32, at: Option<Instant>) {
        match at {
            Some(at) => self.epoch_timers.set(slot, at),
            None => drop(self.epoch_timers.remove(slot)),
        }
        self.epochs_due = self.epoch_timers.peek().map_or(Instant::FAR, |(at, _)| at);
    }

    /// The peer wants to begin an epoch of its own.
    pub(crate) fn epoch_wanted(&mut self, slot: u32, epoch: u8) {
        let crypto = self.config.crypto;
        let Some(keys) = self.at(slot).keys.as_mut() else { return };
        if !keys.opening.prepare(crypto, epoch) {
            return self.counters.dropped_nonsense += 1;
        }
        // Once is enough, however often it is wanted until it is said: a peer must not take the place of others' words.
        let notice = (slot, Frame::EpochReady { epoch });
        if self.notices.len() < NOTICES_MAX && !self.notices.contains(&notice) {
            self.notices.push_back(notice);
        }
    }

    /// The peer can open an epoch of ours. It begins now, if it is the one that it was asked for; a late or repeated word is of one
    /// that has begun, and changes nothing.
    pub(crate) fn epoch_ready(&mut self, slot: u32, epoch: u8) {
        let asked = |keys: &crate::session::Keys| keys.asked.is_some() && (keys.sealing.epoch() + 1) as u8 == epoch;
        if self.at(slot).keys.as_deref().is_some_and(asked) {
            self.begin_epoch(slot);
        }
    }

    fn begin_epoch(&mut self, slot: u32) {
        let crypto = self.config.crypto;
        self.drain_oldest(slot);
        let Some(keys) = self.at(slot).keys.as_mut() else { return };
        keys.sealing.advance(crypto);
        keys.asked = None;
        self.set_epoch_timer(slot, None);
        self.counters.epochs_begun += 1;
        self.forget_device_keys();
        self.machine.resume(slot);
    }

    /// Messages that hold up the drain of the oldest epoch leave it. What they have sent stays sent; should anything of them have to
    /// go later, it goes under their next attempt, and if nothing has to, no attempt is spent. [P-3.4]
    fn drain_oldest(&mut self, slot: u32) {
        let keys = self.sessions[slot as usize].as_mut().and_then(|session| session.keys.as_mut());
        if let Some(oldest) = keys.and_then(|keys| keys.sealing.undrained()) {
            self.leave_epoch(slot, oldest);
        }
    }

    /// No message is bound to that epoch any more.
    pub(crate) fn leave_epoch(&mut self, slot: u32, epoch: u64) {
        let Some(keys) = self.sessions[slot as usize].as_mut().and_then(|session| session.keys.as_mut()) else {
            return;
        };
        for (at, call) in self.calls.iter_mut().enumerate() {
            let Some(message) = call.as_mut().and_then(|call| call.out.as_mut()) else { continue };
            if message.epoch() == Some(epoch) && self.machine.rpc(at as u32).is_some_and(|(_, peer, _)| peer == slot) {
                message.unbind(&mut keys.sealing);
            }
        }
    }

    /// Something is to be done beside sealing, or instead of it: the message of `slot` was bound to an epoch for a later attempt,
    /// or as the one with which the next epoch is due, or it cannot be.
    #[cold]
    pub(crate) fn bound(&mut self, slot: u32, peer: u32, outcome: Result<Bound, Unbound>, now: Instant) {
        let attempt = self.call(slot).and_then(|call| call.out.as_ref()).map_or(0, |message| message.id().attempt());
        match outcome {
            Ok(_) => self.counters.attempts += u64::from(attempt > 0),
            Err(Unbound::Exhausted) => {
                self.counters.messages_held += 1;
                self.machine.hold(slot);
            }
            Err(Unbound::Never) => {
                self.machine.undeliverable(slot, proto::io::Failure::KeysExhausted);
                self.drain_machine();
            }
        }
        // What waits may be so large that the key is worn out for it long before it is for others.
        let waits = outcome == Err(Unbound::Exhausted);
        let keys = self.sessions[peer as usize].as_mut().and_then(|session| session.keys.as_mut());
        if keys.is_some_and(|keys| waits || keys.sealing.current().wants_next_epoch()) {
            self.want_epoch(peer, now);
        }
    }

    /// Peers that did not answer in time are asked again, and given up in the end: then new calls make a new session.
    pub(crate) fn epoch_timeouts(&mut self, now: Instant) {
        while self.epochs_due <= now {
            let Some((_, slot)) = self.epoch_timers.peek() else { return };
            self.set_epoch_timer(slot, None);
            let patience = self.config.proto.peer_timeout;
            let Some(keys) = self.at(slot).keys.as_mut() else { continue };
            let Some(asked) = keys.asked.as_mut() else { continue };
            if now.since(asked.since) < patience {
                asked.pause = (asked.pause * 2).min(PAUSE_MAX);
                let again = now + asked.pause;
                self.ask_for_epoch(slot, again);
                continue;
            }
            keys.asked = None;
            self.notices.push_back((slot, Frame::Renew));
            self.retire(slot);
            self.machine.fail_held(slot);
            self.drain_machine();
        }
    }
}
