//! Owns the messages of a first flight: no stream, each a packet by itself. [P-6.9]

use proto::time::Instant;
use wire::handshake::{HandshakePacket, Level};
use wire::ids::Side;

use super::{Arrival, Flight};
use crate::contract::Reason;
use crate::guard::Guard;
use crate::limits::EARLY_MESSAGES_MAX;

impl Flight {
    /// The first flight has a key.
    #[cfg(feature = "tls")]
    pub(crate) fn set_early(&mut self, guard: Guard) {
        self.early = Some(guard);
    }

    #[cfg(feature = "tls")]
    pub(crate) const fn crypto(&self) -> &'static dyn record::aead::Crypto {
        self.crypto
    }

    /// Early responses have a key, although there is no sealed level: a server's randomness is in it.
    #[cfg(feature = "tls")]
    pub(crate) fn set_reply(&mut self, guard: Guard) {
        self.reply = Some(guard);
        if self.ends.side == Side::Client {
            // The server has the first flight, or will never take it.
            (self.messages, self.early) = (Vec::new(), None);
        }
    }

    /// Whether a message of a first flight can be opened now, or, where it cannot, will never be.
    pub(crate) fn knows_messages(&self) -> bool {
        self.guards[1].is_some() || self.reply.is_some()
    }

    /// Whether messages of the first flight can be sealed: requests before the server answered, responses after.
    pub(crate) fn takes_message(&self) -> bool {
        self.early.is_some() && self.message_guard(true).is_some() && self.messages.len() < EARLY_MESSAGES_MAX
    }

    /// A request of the first flight, or the response to one.
    pub(crate) fn send_message(&mut self, message: Vec<u8>) {
        self.messages.push((message, true));
    }

    /// What seals and opens messages of the first flight. A server seals with keys that its own randomness is in. [P-6.9]
    pub(super) fn message_guard(&self, outgoing: bool) -> Option<&Guard> {
        match (self.ends.side, outgoing) {
            (Side::Client, true) | (Side::Server, false) => self.early.as_ref(),
            (Side::Server, true) | (Side::Client, false) => self.reply.as_ref().or(self.guards[1].as_ref()),
        }
    }

    pub(super) fn repeat_messages(&mut self) {
        if self.ends.side == Side::Client {
            self.messages.iter_mut().for_each(|(_, due)| *due = true);
        }
    }

    /// It says nothing of the streams, and its other fields are not read.
    pub(super) fn receive_message(
        &mut self,
        packet: &HandshakePacket<'_>,
        datagram_len: usize,
    ) -> Result<Arrival, Reason> {
        let guard = self.message_guard(false).ok_or(Reason::Early)?;
        let message = guard.open(self.crypto, packet).ok_or(Reason::Tag)?;
        if let Some(credit) = &mut self.credit {
            credit.received += datagram_len;
        }
        Ok(Arrival::Message(message))
    }

    pub(super) fn poll_message(&mut self, now: Instant, out: &mut [u8], at: usize) -> Option<usize> {
        let message = core::mem::take(&mut self.messages[at].0);
        let len = self.emit(now, out, 0, Level::Early, 0, &message);
        self.messages[at] = (message, len.is_none());
        len
    }
}
