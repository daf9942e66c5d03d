//! Owns how requests are answered, and refused.

use proto::io::State as RpcState;
use proto::time::Instant;
use record::seal::{Id, Message};
use wire::control::Frame;
use wire::limits::PIGGYBACK_ACKS_MAX;

use crate::endpoint::Endpoint;
use crate::error::Misuse;
use crate::pool::Body;
use crate::room::may_hold;
use crate::session::CallId;
use crate::trail::Step;

impl Endpoint {
    #[inline]
    pub(crate) fn request(&self, id: CallId) -> Option<(u32, u32)> {
        let (peer, session) = self.state.session(id.session)?;
        let slot = self.state.machine.find(peer, id.rpc)?;
        let (_, _, state) = self.state.machine.rpc(slot)?;
        (id.rpc.began() != session.side && state == RpcState::InService).then_some((peer, slot))
    }

    /// Answers a request.
    ///
    /// # Errors
    /// When no such request waits for a reply, or the response is not taken.
    pub fn reply(&mut self, now: Instant, id: CallId, body: impl Into<Body>) -> Result<(), Misuse> {
        self.reply_of(now, id, &mut body.into())
    }

    /// The same; what is not taken stays where it is.
    ///
    /// # Errors
    /// As [`Self::reply`].
    #[inline]
    pub fn reply_of(&mut self, now: Instant, id: CallId, body: &mut Body) -> Result<(), Misuse> {
        let unknown = || Misuse::UnknownRequest(format!("{:?}", id.rpc));
        if self.state.reply_early(id, body) {
            return Ok(());
        }
        let (peer, slot) = self.request(id).ok_or_else(unknown)?;
        let length = body.len();
        self.may_hold(length)?;
        let state = &mut self.state;
        let session = state.sessions[peer as usize].as_mut().ok_or(Misuse::NoSession)?;
        may_hold(session.sending_bytes, length, state.config.peer_send_bytes_max)?;
        if length > session.message_max {
            return Err(Misuse::TooLong { length, limit: session.message_max });
        }
        let geometry = session.cut(length, state.device.is_some());
        let age_max = state.config.session_age_max;
        let old = session.keys.as_ref().is_some_and(|keys| now.is_past(keys.since, age_max));
        if old && !core::mem::replace(&mut session.renewing, true) {
            state.notices.push_back((peer, Frame::Renew));
        }
        let mut acks = [id.rpc; PIGGYBACK_ACKS_MAX];
        let room = geometry.records() == 1 && length + 256 < session.datagram_max;
        let acks_len = if room { state.machine.take_acks(peer, 0, &mut acks) } else { 0 };
        let trailer = state.machine.trailer_to_respond(slot, geometry).ok_or_else(unknown)?;
        if !state.machine.respond(now, slot, geometry) {
            return Err(unknown());
        }
        // The machine went from "in service" to "responding" just now, which it does once: the id's only use. [P-3.3]
        let body = core::mem::take(body);
        state.room.hold(length);
        state.trail.mark_at(now, Step::Replied, peer, id.rpc, length as u32);
        session.sending_bytes += length as u64;
        let call = state.calls[slot as usize].as_mut().expect("a request in service has both halves");
        // With nothing to drop there, the message is made in its place.
        (call.out, call.whole) = (None, None);
        call.out = Some(Message::freeze(Id::response(id.rpc), body, trailer, &acks[..acks_len]));
        Ok(())
    }

    /// Refuses a request without a response.
    ///
    /// # Errors
    /// When no such request waits for a reply.
    pub fn refuse(&mut self, id: CallId) -> Result<(), Misuse> {
        if self.state.refuse_early(id) {
            return Ok(());
        }
        let (_, slot) = self.request(id).ok_or_else(|| Misuse::UnknownRequest(format!("{:?}", id.rpc)))?;
        self.state.machine.refuse(slot);
        self.state.drain_machine();
        Ok(())
    }
}
