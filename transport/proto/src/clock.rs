//! Owns what time does to the machine: timers that fire, questions, ends by silence.

use alloc::vec::Vec;
use core::time::Duration;

use wire::control::Frame;

use crate::io::{Failure, State};
use crate::machine::Machine;
use crate::outgoing::Outgoing;
use crate::resend::{self, Due};
use crate::rpc::Rpc;
use crate::time::Instant;

/// How late a deadline may be found to have passed, by who sleeps: looking through all RPCs for the first one is not done more often.
const DEADLINES_APART: Duration = Duration::from_millis(1);

impl Machine {
    /// When [`Self::handle_timeout`] wants to be called next. [`Instant::ZERO`], that is at once, when grants are due that
    /// nobody has decided on: what ended may be all that others waited for. And perhaps for a timer that was taken back meanwhile: then it
    /// finds nothing to do.
    pub fn timeout(&self) -> Option<Instant> {
        let at = self.timeout_at();
        (at != Instant::FAR).then_some(at)
    }

    /// The same; [`Instant::FAR`] for never.
    #[inline]
    pub fn timeout_at(&self) -> Instant {
        self.soonest(self.timers.not_before())
    }

    /// The soonest of what it waits for, if the first timer of an RPC is at `rpc`.
    #[inline]
    fn soonest(&self, rpc: Instant) -> Instant {
        if self.grants_due {
            return Instant::ZERO;
        }
        let ack = self.ack_timers.peek().map_or(Instant::FAR, |(at, _)| at);
        rpc.min(ack).min(self.room.expires()).min(self.held_until())
    }

    /// [`Self::timeout_at`] for who sleeps until then: what is only asked because nothing came may be `slack` late. Callers' deadlines,
    /// the link's pace and room that was promised are not.
    pub fn alarm_at(&mut self, now: Instant, slack: Duration) -> Instant {
        let soon = now + slack;
        // Timers of what has ended meanwhile wake nobody.
        let first = self.timers.first(soon);
        let exact = self.soonest(first);
        if exact >= soon || self.grants_due {
            return exact;
        }
        if self.first_deadline <= now {
            // It was of a call that has ended since.
            let first = self.rpcs.iter().map(|(_, rpc)| rpc.deadline).min();
            self.first_deadline = first.unwrap_or(Instant::FAR).max(now + DEADLINES_APART);
        }
        soon.min(self.first_deadline).min(self.room.expires()).min(self.held_until())
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.note_time(now);
        // Those that are due soon go along: many peers at one address, or many addresses of one host, are then one train, or one wake-up.
        if self.ack_timers.peek().is_some_and(|(at, _)| at <= now) {
            let soon = now + self.config.ack_delay / 2;
            while let Some((_, peer)) = self.ack_timers.peek().filter(|(at, _)| *at <= soon) {
                self.flush_acks(peer);
            }
        }
        if self.rpcs.is_empty() {
            self.timers.clear();
        }
        // Whatever fires is set to later than now, or not at all: so this ends.
        while let Some(slot) = self.timers.pop(now) {
            self.fire(slot, now);
        }
        // After them: a call whose response waited, and whose peer was silent for too long, has ended by now.
        if self.room.expires() <= now && self.room.expire(now) {
            self.offer_room();
        }
        self.schedule_grants();
    }

    /// Asks for the acknowledgements that our messages wait for, which else wait for a ride: somebody is about to close. [P-8.9]
    pub fn ask_for_acks(&mut self) {
        let waits = |rpc: &Rpc| {
            let state = matches!(rpc.state, State::Responding | State::Telling);
            state && !rpc.ended && rpc.out.as_ref().is_some_and(Outgoing::is_all_sent)
        };
        let waiting: Vec<_> =
            self.rpcs.iter().filter(|(_, rpc)| waits(rpc)).map(|(_, rpc)| (rpc.peer, rpc.id)).collect();
        for (peer, rpc) in waiting {
            self.say(peer, Frame::NeedAck { rpc });
        }
    }

    fn fire(&mut self, slot: u32, now: Instant) {
        let rpc = self.rpcs.taken(slot);
        let peer = self.peers[rpc.peer as usize].as_ref().expect("an open peer");
        let (peer_slot, id) = (rpc.peer, rpc.id);
        let at = match resend::judge(&self.config, peer.rtt(), rpc, now) {
            Due::Wait(at) => at,
            Due::Deadline => {
                if rpc.may_have_run() {
                    self.say(peer_slot, Frame::Cancel { rpc: id });
                }
                return self.end(slot, Failure::Deadline);
            }
            Due::GiveUp => return self.end(slot, Failure::PeerSilent),
            Due::AskForMessage(pause) => {
                rpc.asked = rpc.asked.saturating_add(1);
                let at = (now + pause).min(rpc.deadline);
                self.ask_for_message(slot);
                at
            }
            Due::AskForAck(pause) => {
                rpc.asked = rpc.asked.saturating_add(1);
                let at = (now + pause).min(rpc.deadline);
                self.say(peer_slot, Frame::NeedAck { rpc: id });
                at
            }
        };
        self.timers.set(slot, at.max(now + Duration::from_nanos(1)));
    }
}
