//! Owns when what may go leaves: at once, with what follows, or turn by turn.

use endpoint::egress::Transmit;
use proto::time::Instant;
use udp::batch::SendError;

use super::{Core, TURN_BYTES};
use crate::config::PRIORITIES;

/// A priority as type of service: DSCP's class selector, the upper three bits. [P-8.3]
const fn class_selector(priority: u8) -> u8 {
    priority << 5
}

impl Core {
    /// Sends what may go, unless more of the same will follow at once: the application has not yet seen all that came
    /// with the last train, or said that it has more to send; what it answers then travels together.
    #[inline]
    pub(crate) fn flush_soon(&mut self, now: Instant, answers: bool) {
        let follows = self.corks > 0 || !self.inbox().is_empty();
        if self.company.joins(now, self.endpoint.rpcs_open(), follows, answers) {
            self.flush_at(now);
        }
    }

    /// Sends what was put off.
    pub(crate) fn flush_waiting(&mut self) {
        if self.company.waits() {
            self.flush();
        }
    }

    /// Sends what may go.
    pub(crate) fn flush(&mut self) {
        let now = self.now();
        self.flush_at(now);
    }

    /// The same. While something long leaves turn by turn, its turns come when the network was looked at.
    pub(crate) fn flush_at(&mut self, now: Instant) {
        let most = if self.unflushed { TURN_BYTES } else { usize::MAX };
        self.send_some(now, most);
    }

    /// Sends what may go, until it was so many bytes.
    pub(super) fn send_some(&mut self, now: Instant, most: usize) {
        self.company.leaves(self.endpoint.rpcs_open());
        self.unflushed = false;
        if let Some((train, from)) = self.stuck.take()
            && !self.hand_over(train, from)
        {
            return;
        }
        let mut sent = 0;
        while let Some(train) = self.endpoint.poll_transmit(now, &mut self.sending) {
            sent += train.len;
            if !self.hand_over(train, 0) {
                return;
            }
            if sent >= most {
                self.unflushed = true;
                return;
            }
        }
    }

    /// Gives a train to the kernel. `false` when that has no room: the rest is kept.
    #[inline]
    fn hand_over(&mut self, train: Transmit, from: usize) -> bool {
        let bytes = &self.sending[from..train.len];
        // The lowest is what datagrams have unmarked, which is cheaper. [P-8.3]
        let tos = (self.marks && train.priority > 0).then(|| class_selector(train.priority));
        let transmit = udp::batch::Transmit { to: train.to, bytes, segment: train.segment, tos };
        let done = self.udp.transmit(&transmit);
        let sent = match done {
            Ok(()) => bytes.len(),
            Err(SendError::WouldBlock { sent }) => sent,
            Err(_) => 0,
        };
        self.segments.0 += u64::from(sent > 0);
        self.sent_bytes[usize::from(train.priority) % PRIORITIES] += sent as u64;
        match done {
            Ok(()) => true,
            Err(SendError::WouldBlock { sent }) => {
                self.stuck = Some((train, from + sent));
                false
            }
            // Lost, like any datagram; the protocol repeats it, smaller ones if it was too big.
            Err(SendError::TooBig) => {
                self.oversized += 1;
                let route = udp::caps::path_mtu(train.to).unwrap_or(1280);
                self.endpoint
                    .path_shrank(train.to, crate::config::datagram_bytes(route, train.to).min(train.segment - 1));
                true
            }
            Err(SendError::Other(_)) => {
                self.unsent += 1;
                true
            }
        }
    }
}
