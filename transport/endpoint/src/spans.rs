//! Owns slices that come in: how they wait, and become a message. [P-4.6]
//!
//! A slice proves nothing by itself, so what it may do is little: its bytes go where the message's own will stand, in a buffer that an
//! ordinary record of the message made, once, and as long as nothing else stands there. When all slices of a record are there it is opened
//! in its place. If that fails, nothing of the message is believed before its next attempt, which has no slices.

use core::ops::Range;

use proto::io::Arrival;
use proto::time::Instant;
use record::open::{Acks, open_span, put_slice};
use wire::ids::RpcId;
use wire::limits::{DATA_HEADER_LEN, SLICE_HEADER_LEN};
use wire::slice::{SliceView, slice_header};

use crate::counters::Counters;
use crate::state::State;

/// Bytes before a slice that stands first in its packet.
const CLEAR_LEN: usize = DATA_HEADER_LEN + SLICE_HEADER_LEN;

/// Whether `packet` is all of `slice` of the record that `view` is of, with a header like `header`.
#[inline]
fn goes_on(header: &[u8], view: &SliceView, slice: &Range<usize>, packet: &[u8]) -> bool {
    packet.len() == CLEAR_LEN + slice.len()
        && packet[..DATA_HEADER_LEN] == *header
        && packet[DATA_HEADER_LEN..CLEAR_LEN] == slice_header(view.number, slice, view.sealed_len)
}

/// What counts a slice that is dropped.
type Dropped = fn(&mut Counters) -> &mut u64;

impl State {
    /// Of which RPC of `peer` a slice is, which record of its message it counts as, and all that are sealed with that; or why it is dropped.
    fn slice_place(&self, peer: u32, view: &SliceView) -> Result<(u32, u16, Range<u32>), Dropped> {
        const NONE: Dropped = |counters| &mut counters.dropped_slice;
        let slot = self.machine.find(peer, view.number.message().rpc()).ok_or(NONE)?;
        let incoming = self.machine.awaits_slices(slot).ok_or(NONE)?;
        let (index, span) = view.place(incoming.geometry()).ok_or(NONE)?;
        if incoming.has(index) || incoming.is_staged(index) {
            return Err(|counters| &mut counters.dropped_duplicate);
        }
        if !incoming.allows(index) {
            return Err(|counters| &mut counters.dropped_not_granted);
        }
        Ok((slot, index, span))
    }

    /// A slice came, in the first packet of `train`, whose packets but the last have `packet_len` bytes each. Those of its record that follow
    /// it packet by packet, as most do, are taken with it: they are compared with what they have to be, and need not be understood. How many
    /// bytes of the train were taken, which are whole packets.
    pub(crate) fn slices(
        &mut self,
        now: Instant,
        peer: u32,
        epoch: u8,
        train: &[u8],
        packet_len: usize,
        view: &SliceView,
    ) -> usize {
        let (slot, index, span) = match self.slice_place(peer, view) {
            Ok(found) => found,
            Err(counter) => {
                *counter(&mut self.counters) += 1;
                return packet_len;
            }
        };
        let incoming = self.machine.incoming(slot).expect("it awaits slices");
        let geometry = incoming.geometry();
        let buffer = self.calls[slot as usize].as_mut().and_then(|call| call.buffer.as_mut());
        let buffer = buffer.expect("a message of several records has a buffer").bytes();
        put_slice(geometry, &span, index, &train[view.bytes.clone()], buffer);
        let (mut next, mut taken) = (u32::from(index) + 1, packet_len);
        for packet in train[packet_len..].chunks(packet_len).take((span.end - next) as usize) {
            let index = next as u16;
            let is_new = !incoming.has(index) && !incoming.is_staged(index) && incoming.allows(index);
            if !is_new || !goes_on(&train[..DATA_HEADER_LEN], view, &geometry.slice(&span, index), packet) {
                break;
            }
            put_slice(geometry, &span, index, &packet[CLEAR_LEN..], buffer);
            next += 1;
            taken += packet.len();
            self.counters.datagrams_received += 1;
        }
        if !self.machine.stage(now, slot, u32::from(index)..next, &span) {
            return taken;
        }
        let keys = self.sessions[peer as usize].as_ref().and_then(|session| session.keys.as_ref());
        let key = keys.and_then(|keys| keys.opening.named(epoch)).expect("addressed");
        let arrival = match open_span(&key.data, view.number, geometry, &span, buffer) {
            Err(why) => {
                self.refused(peer, why);
                // That may have ended the session.
                self.spoiled(peer, slot, view.number.message().rpc());
                return taken;
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
        taken
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
