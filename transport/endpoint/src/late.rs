//! Owns which packets of a handshake travel with data: a client's last one with its first request. [P-6.2] [P-6.8]
//!
//! Both leave in one call and arrive in one, so that a handshake costs a server one wake-up less. The first packet is padded to the length
//! of the others, as the kernel wants them in a train. A server's last one, with its ticket, waits for its first reply in the same way: see
//! `held`.

use proto::time::Instant;
use wire::ids::Side;
use wire::limits::{DATA_HEADER_LEN, DATAGRAM_MIN};

use crate::egress::{CONTROL_PRIORITY, Transmit};
use crate::state::State;

/// The longest packet that is padded: what travels with long ones costs nothing beside them.
const PADDED_MAX: usize = 2048;

impl State {
    /// The client is known to be done, so its handshake is about to be forgotten: what is left to say in it, a ticket, goes before all else.
    /// It is when the last packet of a client's handshake and its first request come in one train; and behind anything sealed the client
    /// would have forgotten its handshake, too.
    pub(crate) fn last_words(&mut self, slot: u32, now: Instant) {
        let mut out = [0; DATAGRAM_MIN];
        if self.at(slot).side == Side::Client {
            return;
        }
        let mut waits = false;
        while let Some(len) = self.flight_of(slot, now, &mut out) {
            if core::mem::replace(&mut waits, true) {
                let to = self.at(slot).address;
                self.answer_stranger(to, &out[..len]);
            } else {
                self.hold_ticket(slot, &out[..len], now);
            }
        }
    }

    /// A packet of `len` bytes stands at the start of `out`: what is next to be sent to `slot` joins it.
    pub(crate) fn behind(&mut self, slot: u32, len: usize, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        let to = self.sessions[slot as usize].as_ref()?.address;
        self.counters.packets_sent += 1;
        self.machine.count_sent(now, len);
        let alone = Transmit { to, len, segment: len, priority: CONTROL_PRIORITY };
        let Some(packet_len) = self.next_packet(now, slot).filter(|next| *next.max(&len) <= PADDED_MAX) else {
            return Some(alone);
        };
        // Behind a longer one there is room for one only.
        let end = if packet_len < len { PADDED_MAX + len } else { out.len() };
        let Some(data) = self.segment_aside(now, &mut out[PADDED_MAX..end]) else { return Some(alone) };
        let segment = data.segment.max(len);
        if data.to != to || segment > PADDED_MAX || (data.segment < segment && data.len > segment) {
            // Something else came first after all: a new key, for instance. This one follows.
            self.strangers.push_front((to, out[..len].to_vec()));
            out.copy_within(PADDED_MAX..PADDED_MAX + data.len, 0);
            return Some(data);
        }
        out.copy_within(PADDED_MAX..PADDED_MAX + data.len, segment);
        out[len..segment].fill(0);
        Some(Transmit { to, len: segment + data.len, segment, priority: data.priority })
    }

    /// How long the next packet of data is, if it goes to `slot`.
    fn next_packet(&self, now: Instant, slot: u32) -> Option<usize> {
        let (call, _, record, _) = self.machine.peek_work(now).filter(|(_, peer, ..)| *peer == slot)?;
        let message = self.calls[call as usize].as_ref()?.out.as_ref()?;
        Some(DATA_HEADER_LEN + message.record_len(record as u16))
    }
}
