//! Owns slices that come in: how they wait, and become a message. [P-4.6]
//!
//! A slice proves nothing by itself, so what it may do is little: its bytes go where the message's own will stand, in a buffer that an
//! ordinary record of the message made, once, and as long as nothing else stands there. When all slices of a record are there it is opened
//! in its place. If that fails, nothing of the message is believed before its next attempt, which has no slices.

use proto::io::Arrival;
use proto::time::Instant;
use record::open::{Acks, open_span, put_slice};
use wire::ids::RpcId;
use wire::slice::SliceView;

use crate::state::State;

impl State {
    /// A slice came.
    pub(crate) fn slice(&mut self, now: Instant, peer: u32, epoch: u8, packet: &[u8], view: &SliceView) {
        let found = self.machine.find(peer, view.number.message().rpc());
        let waits = found.and_then(|slot| Some((slot, self.machine.awaits_slices(slot)?)));
        let Some((slot, incoming)) = waits else { return self.counters.dropped_slice += 1 };
        let geometry = incoming.geometry();
        let Some((index, span)) = self.follows.place(view, geometry) else { return self.counters.dropped_slice += 1 };
        if incoming.has(index) || incoming.is_staged(index) {
            return self.counters.dropped_duplicate += 1;
        }
        if !incoming.allows(index) {
            return self.counters.dropped_not_granted += 1;
        }
        let buffer = self.calls[slot as usize].as_mut().and_then(|call| call.buffer.as_mut());
        let buffer = buffer.expect("a message of several records has a buffer").bytes();
        put_slice(geometry, &span, index, &packet[view.bytes.clone()], buffer);
        if !self.machine.stage(now, slot, index, &span) {
            return;
        }
        let keys = self.sessions[peer as usize].as_ref().and_then(|session| session.keys.as_ref());
        let key = keys.and_then(|keys| keys.opening.named(epoch)).expect("addressed");
        let arrival = match open_span(&key.data, view.number, geometry, &span, buffer) {
            Err(why) => {
                self.refused(peer, why);
                // That may have ended the session.
                return self.spoiled(peer, slot, view.number.message().rpc());
            }
            Ok(trailer) => {
                self.alive(peer, epoch, now);
                self.counters.records_opened += 1;
                let arrival = self.machine.arrived_span(now, slot, span, &trailer);
                self.arrived(now, peer, arrival, &Acks::default(), &[], view.number.index(), &trailer, 0..0);
                arrival
            }
        };
        if !matches!(arrival, Arrival::New { .. }) {
            self.spoiled(peer, slot, view.number.message().rpc());
        }
        // There was no room to remember that it ran: the machine has dropped it, and its half here goes, too.
        if self.machine.rpc(slot).is_none() {
            self.drop_call(slot);
        }
    }

    /// What came together of a message is not what its sender sealed, or makes no sense.
    #[cold]
    fn spoiled(&mut self, peer: u32, slot: u32, rpc: RpcId) {
        if self.machine.find(peer, rpc) == Some(slot) {
            self.machine.spoiled(slot);
        }
    }

    /// The peer could not open what came together of our message: it goes on under its next attempt, unless it does already. Whoever
    /// brought that about can do it again, so nothing else spans in this session. [P-3.4]
    #[cold]
    pub(crate) fn leave_attempt(&mut self, peer: u32, rpc: RpcId) {
        let Some(slot) = self.machine.find(peer, rpc) else { return };
        let message = self.calls[slot as usize].as_mut().and_then(|call| call.out.as_mut());
        let (Some(message), Some(session)) = (message, self.sessions[peer as usize].as_mut()) else { return };
        if message.geometry().spans() && message.id().attempt() == 0 {
            session.sends_slices = false;
            if let Some(keys) = session.keys.as_mut() {
                message.unbind(&mut keys.sealing);
            }
        }
    }
}
