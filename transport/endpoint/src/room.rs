//! Owns how many bytes of our own messages are held, and that it is not more than may be.

use crate::error::Misuse;

/// What of our own messages is held until it is acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Bytes.
    pub(crate) held: u64,
    /// How many messages were let go. As long as it stays the same, there is no more room than there was.
    pub(crate) let_go: u64,
}

impl Room {
    /// A message of `bytes` is held.
    pub(crate) fn hold(&mut self, bytes: usize) {
        self.held += bytes as u64;
    }

    /// A message of `bytes` is no longer held.
    pub(crate) fn let_go(&mut self, bytes: usize) {
        self.held -= bytes as u64;
        self.let_go += 1;
    }
}

/// Whether a message of `bytes` may be held beside others. One is always taken, however low the limit is.
#[inline]
pub(crate) fn may_hold(held: u64, bytes: usize, limit: u64) -> Result<(), Misuse> {
    if held == 0 || held.saturating_add(bytes as u64) <= limit {
        Ok(())
    } else {
        Err(Misuse::SendBufferFull { held, limit })
    }
}
