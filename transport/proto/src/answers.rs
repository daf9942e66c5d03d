//! Owns what a frame that verified does to the machine, and the questions that frames ask.
//!
//! A frame may be late, repeated, or about an RPC that is long gone: then it changes nothing, or is answered with what is
//! known. Only what no honest peer says at any time is called nonsense.

use wire::control::{Frame, RefusalCode};
use wire::ids::RpcId;

use crate::cutoffs::Cutoffs;
use crate::incoming::Incoming;
use crate::io::{Failure, State};
use crate::machine::Machine;
use crate::seen::Verdict;
use crate::time::Instant;

/// Gaps that one question names; more of them means that asking again later is soon enough.
const GAPS_PER_QUESTION: usize = 16;

impl Machine {
    /// A frame came in a control packet that verified. Returns `false` when it makes no sense.
    pub fn frame(&mut self, now: Instant, peer: u32, frame: Frame) -> bool {
        self.note_time(now);
        match frame {
            Frame::Grant { rpc, offset, priority } => {
                return self.on_grant(now, peer, rpc, offset, priority);
            }
            Frame::Resend { rpc, start, end } => self.on_resend(now, peer, rpc, start, end),
            // Which attempt a message is sent under is the endpoint's.
            Frame::Busy { rpc } | Frame::NextAttempt { rpc } => self.on_busy(now, peer, rpc),
            Frame::Unknown { rpc } => self.on_unknown(now, peer, rpc),
            Frame::Ack { rpc } => self.on_ack(peer, rpc),
            Frame::NeedAck { rpc } => self.on_need_ack(now, peer, rpc),
            Frame::Cancel { rpc } => return self.on_cancel(peer, rpc),
            Frame::Refused { rpc, code } => return self.on_refused(peer, rpc, code),
            Frame::Floor { floor } => self.raise_floor(peer, floor),
            Frame::Cutoffs { version, cutoffs } => return self.on_cutoffs(peer, Cutoffs { version, largest: cutoffs }),
            // Not this layer's, or not in use yet.
            Frame::PathChallenge { .. } | Frame::PathResponse { .. } => {}
            Frame::EpochReady { .. } | Frame::EpochWanted { .. } => {}
            Frame::Done | Frame::Close | Frame::Renew => {}
        }
        true
    }

    /// The peer wants our unscheduled bytes at these priorities. What is frozen keeps the ones that it states. [P-8.3]
    fn on_cutoffs(&mut self, peer: u32, cutoffs: Cutoffs) -> bool {
        // A version that reads as "none was told" would be told for ever.
        if cutoffs.stated() == 0 {
            return false;
        }
        let known = &mut self.peer(peer).cutoffs;
        if known.is_older_than(&cutoffs) {
            *known = cutoffs;
        }
        true
    }

    fn is_ours(&mut self, peer: u32, rpc: RpcId) -> bool {
        rpc.began() == self.peer(peer).side
    }

    fn on_grant(&mut self, now: Instant, peer: u32, rpc: RpcId, offset: u32, priority: u8) -> bool {
        let Some(slot) = self.find(peer, rpc) else { return true };
        let r = self.rpcs.taken(slot);
        if r.ended {
            return true;
        }
        // A request of ours may have been answered meanwhile; but nobody grants an answer that was never begun. [P-8.2]
        let Some(out) = r.out.as_mut() else { return r.ours };
        // A receiver that grants more than there is, is faulty.
        if offset > out.geometry().length() {
            return false;
        }
        r.heard = now;
        r.asked = 0;
        out.priority = priority;
        if out.grant(offset) {
            self.refresh_ready(slot);
        }
        true
    }

    /// The peer asks for our message, or for a part of it. [P-8.5]
    fn on_resend(&mut self, now: Instant, peer: u32, rpc: RpcId, start: u32, end: u32) {
        let Some(slot) = self.find(peer, rpc) else {
            let frame = if self.is_ours(peer, rpc) {
                // It still waits for a request that we gave up: our CANCEL got lost. [P-8.6]
                Frame::Cancel { rpc }
            } else {
                // Its request waits until there is room for it.
                if self.room.heard(peer, rpc, now) {
                    return self.say(peer, Frame::Busy { rpc });
                }
                // It asks for a response. Either its request never came, or all about it is finished and forgotten.
                match self.peer(peer).seen.state(rpc.sequence()) {
                    Verdict::Seen | Verdict::BelowFloor => Frame::Refused { rpc, code: RefusalCode::Forgotten },
                    _ => Frame::Unknown { rpc },
                }
            };
            return self.say(peer, frame);
        };
        let crossing = self.peer(peer).rtt().shortest().min(self.config.resend_min);
        let r = self.rpcs.taken(slot);
        r.heard = now;
        if r.ended {
            return;
        }
        match &mut r.out {
            // It asked before what we sent last could be there: nothing is known to be lost.
            Some(_) if end == u32::MAX && r.sent_at != Instant::FAR && now.since(r.sent_at) < crossing => {}
            Some(out) => {
                out.miss(start..end);
                r.repeated = true;
                r.asked = 0;
                self.refresh_ready(slot);
                // Others may go first for a long time: without a word the peer would think us dead.
                if self.ready.peek().is_none_or(|(_, first)| first != slot) {
                    self.say(peer, Frame::Busy { rpc });
                }
            }
            // It has begun to answer, so it had all of our request: an old question, or nonsense. A question in return would make
            // two that each lack something ask each other without end.
            None if r.ours => {}
            // It believes that its request is here. If not, it learns what is missing, else that it has to wait.
            None => self.ask_for_gaps_or_wait(slot),
        }
    }

    /// The peer lives and knows of the RPC. Questions keep their pace: one every `resend_max` at last, not every
    /// millisecond for as long as a call takes.
    fn on_busy(&mut self, now: Instant, peer: u32, rpc: RpcId) {
        if let Some(slot) = self.find(peer, rpc) {
            self.rpcs.taken(slot).heard = now;
        }
    }

    /// The peer has no trace of our request or one-way message: it goes again from the start. [P-8.5]
    fn on_unknown(&mut self, now: Instant, peer: u32, rpc: RpcId) {
        let Some(slot) = self.find(peer, rpc) else { return };
        let r = self.rpcs.taken(slot);
        let Some(out) = r.out.as_mut().filter(|_| !r.ended && r.ours) else { return };
        out.restart();
        r.repeated = true;
        // No new patience: a peer that has no room says this every time, and must not be flooded meanwhile.
        r.heard = now;
        self.refresh_ready(slot);
        // The floor that it states is that of its beginning. Where a peer's memory of what is finished is full, only the
        // floor of now makes room in it. [P-7.2]
        let floor = self.floor(peer);
        self.say(peer, Frame::Floor { floor });
    }

    fn on_ack(&mut self, peer: u32, rpc: RpcId) {
        if let Some(slot) = self.find(peer, rpc)
            && matches!(self.rpcs.taken(slot).state, State::Telling | State::Responding)
        {
            self.release(slot, false, true);
        }
    }

    /// The peer wants to know whether its message is here.
    fn on_need_ack(&mut self, now: Instant, peer: u32, rpc: RpcId) {
        if let Some(slot) = self.find(peer, rpc) {
            let r = self.rpcs.taken(slot);
            r.heard = now;
            r.asked = 0;
            return match r.state {
                _ if r.ended => self.say(peer, Frame::Ack { rpc }),
                State::Complete | State::InService | State::Responding => self.say(peer, Frame::Ack { rpc }),
                // Nothing comes to who sends a one-way message.
                State::Telling => {}
                State::Requesting if r.waits_for_room => {
                    self.room.heard(peer, rpc, now);
                    self.say(peer, Frame::Busy { rpc });
                }
                State::Requesting => drop(self.ask_for_message(slot)),
                State::Receiving | State::Answering => self.ask_for_gaps_or_wait(slot),
            };
        }
        if self.room.heard(peer, rpc, now) {
            return self.say(peer, Frame::Busy { rpc });
        }
        // What is finished is no longer wanted, in either direction.
        let finished = self.is_ours(peer, rpc)
            || matches!(self.peer(peer).seen.state(rpc.sequence()), Verdict::Seen | Verdict::BelowFloor);
        self.say(peer, if finished { Frame::Ack { rpc } } else { Frame::Unknown { rpc } });
    }

    fn on_cancel(&mut self, peer: u32, rpc: RpcId) -> bool {
        if self.is_ours(peer, rpc) {
            return false;
        }
        // Remembered, so that a copy of the request that comes late does not run either. [P-8.6]
        self.peer(peer).seen.insert(rpc.sequence());
        self.leave_room(peer, rpc);
        if let Some(slot) = self.find(peer, rpc) {
            let in_service = self.rpcs.taken(slot).state == State::InService;
            self.release(slot, in_service, false);
        }
        true
    }

    fn on_refused(&mut self, peer: u32, rpc: RpcId, code: RefusalCode) -> bool {
        if !self.is_ours(peer, rpc) {
            return false;
        }
        if let Some(slot) = self.find(peer, rpc) {
            let ran = matches!(code, RefusalCode::Forgotten | RefusalCode::Aborted);
            self.fail(slot, Failure::Refused(code), ran);
        }
        true
    }

    /// Asks for what is missing of the message that comes in, or for all of it when nothing came. Returns whether there
    /// was anything to ask for.
    pub(crate) fn ask_for_message(&mut self, slot: u32) -> bool {
        let rpc = self.rpcs.taken(slot);
        let (peer, id) = (rpc.peer, rpc.id);
        let mut gaps = [None; GAPS_PER_QUESTION];
        match &rpc.inc {
            Some(inc) => gaps.iter_mut().zip(inc.gaps()).for_each(|(to, gap)| *to = Some((gap.start, gap.end))),
            None => gaps[0] = Some((0, u32::MAX)),
        }
        if rpc.inc.as_ref().is_some_and(Incoming::wants_next_attempt) {
            self.say(peer, Frame::NextAttempt { rpc: id });
        }
        for (start, end) in gaps.into_iter().flatten() {
            self.say(peer, Frame::Resend { rpc: id, start, end });
        }
        gaps[0].is_some()
    }

    /// The sender of a message has done all that it may: it learns what is missing, or that it has to wait for grants or
    /// for the application.
    fn ask_for_gaps_or_wait(&mut self, slot: u32) {
        let rpc = self.rpcs.taken(slot);
        let (peer, id) = (rpc.peer, rpc.id);
        if rpc.inc.is_none() || !self.ask_for_message(slot) {
            self.say(peer, Frame::Busy { rpc: id });
        }
    }
}
