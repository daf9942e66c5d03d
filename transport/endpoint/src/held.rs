//! Owns what of a handshake leaves behind what somebody waits for. [P-6.2] [P-6.8]
//!
//! - A server's ticket leaves with its first reply, in one call and in front of it: behind anything that was sealed the client would have
//!   forgotten its handshake.
//! - A server's flight leaves with the replies to the requests that came with the client's first: who is woken by it reads all of it. [P-6.9]
//! - A client looks for the reply to its early request before it sends its last packet, which nobody waits for then.
//! - What a handshake kept is given back when nobody waits.
//!
//! None of it waits longer than [`PATIENCE`], or for anything but that: what else is to be sent to anybody takes it along at once.

use std::time::Duration;

use proto::time::Instant;

use crate::egress::{CONTROL_PRIORITY, Transmit};
use crate::parting::{Quiet, Ticket};
use crate::session::{Answer, Phase};
use crate::state::State;

/// How long an application may take to answer a request, or a reply to follow a handshake's end, for both to leave or be read together.
const PATIENCE: Duration = Duration::from_micros(50);
/// When what handshakes kept is given back: late enough that no sleep of a conversation that begins is cut short for it.
const REMAINS_AFTER: Duration = Duration::from_millis(10);
/// How many of them at most: where there are more, nothing is won by waiting.
const REMAINS_MAX: usize = 8;

impl State {
    /// The last packet of the handshake of `slot` waits for the first reply.
    pub(crate) fn hold_ticket(&mut self, slot: u32, bytes: &[u8], now: Instant) {
        if let Some(other) = self.parting.ticket.take() {
            self.answer_stranger(other.to, &other.bytes);
        }
        let (to, until) = (self.at(slot).address, now + PATIENCE);
        self.parting.ticket = Some(Ticket { slot, to, bytes: bytes.to_vec(), until });
        if !self.flights.contains(&slot) {
            self.flights.push_back(slot);
        }
        self.handshake_timers.set(slot, until);
    }

    /// A request came with the first flight of the client of `slot`, and the application answers it next.
    pub(crate) fn hold_flight(&mut self, slot: u32, now: Instant) {
        self.parting.flight = Some((slot, now + PATIENCE));
    }

    /// Nobody answers anything now: what waits for replies goes. Whether there was anything.
    pub(crate) fn let_flight_go(&mut self) -> bool {
        self.parting.flight.take().is_some()
    }

    /// The client of `slot` is done, and the reply to its early request is on its way.
    pub(crate) fn hold_last(&mut self, slot: u32, now: Instant) {
        self.parting.last = Some((slot, now + PATIENCE));
    }

    /// What waited in the place of `slot`, the first of those that have something to send, and goes now.
    pub(crate) fn held(&mut self, slot: u32, now: Instant, out: &mut [u8]) -> Result<Option<Transmit>, Quiet> {
        if let Some(ticket) = self.parting.ticket.take_if(|ticket| ticket.slot == slot) {
            if now < ticket.until && self.is_quiet(slot, now) {
                self.parting.ticket = Some(ticket);
                return Err(Quiet);
            }
            self.handshake_timers.set(slot, now + REMAINS_AFTER);
            return Ok(self.send_ticket(&ticket, now, out));
        }
        if let Some((_, until)) = self.parting.flight.take_if(|(of, _)| *of == slot)
            && now < until
            && self.at(slot).early.requests.iter().any(|request| matches!(request.state, Answer::Awaited))
            && self.is_quiet(slot, now)
        {
            self.parting.flight = Some((slot, until));
            self.handshake_timers.set(slot, until);
            return Err(Quiet);
        }
        if let Some((_, until)) = self.parting.last.take_if(|(of, _)| *of == slot)
            && now < until
            && self.is_quiet(slot, now)
        {
            self.parting.last = Some((slot, until));
            self.handshake_timers.set(slot, until);
            return Err(Quiet);
        }
        Ok(None)
    }

    fn send_ticket(&mut self, ticket: &Ticket, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        let (to, len) = (ticket.to, ticket.bytes.len());
        out[..len].copy_from_slice(&ticket.bytes);
        let same = |session: &crate::session::Session| session.address == to && session.may_send;
        if self.sessions[ticket.slot as usize].as_deref().is_some_and(same) {
            return self.behind(ticket.slot, len, now, out);
        }
        self.counters.packets_sent += 1;
        self.machine.count_sent(now, len);
        Some(Transmit { to, len, segment: len, priority: CONTROL_PRIORITY })
    }

    /// Whether nothing else is to be sent now, but what the state machine says to that peer: how it does its work can wait as well, and
    /// would make it forget its handshake.
    fn is_quiet(&self, slot: u32, now: Instant) -> bool {
        self.flights.iter().all(|flight| *flight == slot)
            && self.notices.is_empty()
            && !self.machine.is_talkative_beside(slot)
            && self.machine.peek_work(now).is_none()
    }

    /// The session of `slot` is open, and what its handshake kept is not needed any more.
    pub(crate) fn part(&mut self, slot: u32, now: Instant) {
        let remains = core::mem::replace(&mut self.at(slot).phase, Phase::Open);
        if self.parting.remains.len() >= REMAINS_MAX {
            self.parting.remains.clear();
        }
        self.parting.remains.push(remains);
        if self.handshake_timers.key(slot).is_none() {
            self.handshake_timers.set(slot, now + REMAINS_AFTER);
        }
    }

    /// When the remains of handshakes are looked after, if there are any.
    pub(crate) fn remains_due(&self, now: Instant) -> Option<Instant> {
        (!self.parting.remains.is_empty()).then(|| now + REMAINS_AFTER)
    }

    /// The session of `slot` has ended: what it still has to say goes by itself.
    pub(crate) fn end_parting(&mut self, slot: u32) {
        self.handshake_timers.remove(slot);
        self.bury_remains();
        self.parting.last.take_if(|(of, _)| *of == slot);
        self.parting.flight.take_if(|(of, _)| *of == slot);
        if let Some(ticket) = self.parting.ticket.take_if(|ticket| ticket.slot == slot) {
            self.answer_stranger(ticket.to, &ticket.bytes);
        }
    }

    /// Nobody waits.
    pub(crate) fn bury_remains(&mut self) {
        self.parting.remains.clear();
    }
}
