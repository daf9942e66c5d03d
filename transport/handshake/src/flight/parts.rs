//! Owns what a flight is made of.

use wire::handshake::HandshakePacket;

use crate::assembly::Assembly;
use crate::error::Alert;
use crate::limits::AMPLIFICATION;

/// One stream on its way out, and its counterpart on its way in.
pub(super) struct Stream {
    pub(super) out: Vec<u8>,
    pub(super) acked: usize,
    pub(super) next: usize,
    pub(super) sent: usize,
    pub(super) inward: Assembly,
}

impl Stream {
    pub(super) const fn new(inward_max: usize) -> Self {
        Self { out: Vec::new(), acked: 0, next: 0, sent: 0, inward: Assembly::new(inward_max) }
    }
}

/// An alert on its way out: once, and once more for each packet that shows that the other side has not heard it.
pub(super) struct AlertOut {
    pub(super) alert: Alert,
    pub(super) due: bool,
}

/// Bytes of an address that is not proven.
#[derive(Default)]
pub(super) struct Credit {
    pub(super) received: usize,
    pub(super) sent: usize,
}

impl Credit {
    /// Whether so many bytes may be sent; then they count as sent. [P-6.4]
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let may = self.sent + bytes <= AMPLIFICATION * self.received;
        self.sent += if may { bytes } else { 0 };
        may
    }
}

impl super::Flight {
    /// The packet at this place passed the public check, and comes next.
    #[cfg(feature = "tls")]
    pub(crate) fn vouch_for(self, at: usize) -> Self {
        Self { vouched: Some(at), ..self }
    }

    /// Bytes of the other side's streams that it holds.
    pub(crate) fn buffered(&self) -> usize {
        self.streams.iter().map(|stream| stream.inward.buffered()).sum()
    }

    /// Another packet came for a handshake that failed: the other side has not heard. Says whether the packet was genuine.
    pub(crate) fn alert_again(&mut self, packet: &HandshakePacket<'_>, datagram_len: usize) -> bool {
        if packet.alert() || self.addressed(packet).is_err() || self.open(packet).is_err() {
            return false;
        }
        if let Some(credit) = &mut self.credit {
            credit.received += datagram_len;
        }
        if let Some(alert) = &mut self.alert {
            alert.due = true;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [P-6.4] What is sent, padding included, never exceeds three times what came.
    #[test]
    fn credit_is_three_times_what_came() {
        let mut credit = Credit { received: 100, sent: 0 };
        assert!(credit.take(200) && !credit.take(101) && credit.take(100) && !credit.take(1));
        credit.received += 1;
        assert!(credit.take(3) && !credit.take(1));
    }
}
