//! Owns which packets of a handshake travel with data: a client's last one with its first request, and a server's ticket with its first
//! reply. [P-6.2] [P-6.8]
//!
//! Each pair leaves in one call and arrives in one, so that a handshake costs each side one wake-up less. The first packet is padded to the
//! length of the others, as the kernel wants them in a train.

use std::net::SocketAddr;
use std::time::Duration;

use proto::time::Instant;
use wire::limits::{DATA_HEADER_LEN, DATAGRAM_MIN};

use crate::egress::{CONTROL_PRIORITY, Transmit};
use crate::session::Late;
use crate::state::State;

/// How long a ticket waits for a reply to go with. Longer than a server needs that answers at once.
const WAIT: Duration = Duration::from_millis(1);
/// Tickets that wait. Beyond it a client gets none, and its next handshake is a full one.
const LATE_MAX: usize = 1024;
/// The longest packet that is padded: what travels with long ones costs nothing beside them.
const PADDED_MAX: usize = 2048;

impl State {
    /// The client is known to be done, so its handshake is about to be forgotten: what is left to say in it, a ticket, is kept.
    pub(crate) fn last_words(&mut self, slot: u32, now: Instant) {
        // What waited for an earlier session of that slot has nobody to go to.
        self.late.retain(|late| late.slot != slot);
        let mut out = [0; DATAGRAM_MIN];
        // A ticket fits one packet, and comes before a mere acknowledgement.
        if self.late.len() < LATE_MAX
            && let Some(len) = self.flight_of(slot, now, &mut out)
        {
            let session = self.at(slot).id;
            self.late.push_back(Late { due: now + WAIT, slot, session, bytes: out[..len].to_vec() });
            self.handshake_timers.set(slot, now + WAIT);
        }
    }

    /// What waited for company until now goes alone.
    pub(crate) fn ticket_alone(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        loop {
            let at = self.late.iter().position(|late| late.due <= now)?;
            if let Some((to, len)) = self.take_late(at, out) {
                self.counters.packets_sent += 1;
                self.machine.count_sent(now, len);
                return Some(Transmit { to, len, segment: len, priority: CONTROL_PRIORITY });
            }
        }
    }

    /// `None` when it is for a session that has ended meanwhile, and whose place may be another's.
    fn take_late(&mut self, at: usize, out: &mut [u8]) -> Option<(SocketAddr, usize)> {
        let Late { slot, session, bytes, .. } = self.late.remove(at)?;
        let to = self.sessions[slot as usize].as_ref().filter(|s| s.id == session)?.address;
        out.get_mut(..bytes.len())?.copy_from_slice(&bytes);
        Some((to, bytes.len()))
    }

    /// The next segment, behind a ticket for the same client.
    pub(crate) fn ticket_and_segment(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        let (_, peer, ..) = self.machine.peek_work(now)?;
        let at = self.late.iter().position(|late| late.slot == peer)?;
        let (_, len) = self.take_late(at, out)?;
        self.behind(peer, len, now, out)
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
