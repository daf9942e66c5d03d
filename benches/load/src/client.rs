//! What every peer's client can do.
//!
//! Owns the contract between a transport and the loop that measures it. Refuses: timing and
//! verification (`cell`), and knowing the peers (`connect`).

use std::ops::Range;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::sample::Session;

/// After so long without a reply, messages count as lost. Longer than any round trip, retransmissions included.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// Called with the number of a message and the bytes that came back for it.
pub(crate) type Deliver<'a> = &'a mut dyn FnMut(u64, &[u8]);

/// A connected client. Message N has the content that the pattern gives it.
pub(crate) trait Client {
    /// Sends messages, numbered from where the last call ended. What the kernel does not take now goes out in
    /// `receive`.
    fn send(&mut self, ids: Range<u64>) -> Result<()>;

    /// Delivers the replies that are there. Spinning, it looks once; blocking, it sleeps until something came, for
    /// `REPLY_TIMEOUT` at most. Whether anything came, if only a part of a reply.
    fn receive(&mut self, deliver: Deliver<'_>) -> Result<bool>;

    /// Delivers the replies that are there, without waiting. Only for modes that poll.
    fn look(&mut self, deliver: Deliver<'_>) -> Result<bool> {
        self.receive(deliver)
    }

    /// Starts over after a loss, forgetting all that is on its way; the next message will be `next`.
    fn reset(&mut self, next: u64) -> Result<()> {
        bail!("no reply within {REPLY_TIMEOUT:?}, waiting for message {}", next.saturating_sub(1))
    }

    /// What the transport itself says about its session; only Sealane is asked.
    fn session(&self) -> Option<Session> {
        None
    }
}
