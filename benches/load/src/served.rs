//! What every peer's server can do.
//!
//! Owns the contract between a server and the loop or the client that drives it, and what one-way messages are answered with.
//! Refuses: knowing the peers (`server`).

use anyhow::Result;

use crate::checksum::sum;

/// A server with one client.
pub(crate) trait Served: Send {
    /// Takes in what is there and answers, waiting as the mode says; `false` when the client is gone.
    fn turn(&mut self) -> Result<bool>;
}

/// Bytes of the answer to a one-way message.
pub(crate) const ANSWER: usize = 8;

/// The answer to a one-way message: what its receiver found in it, every byte.
pub(crate) fn answer(message: &[u8]) -> [u8; ANSWER] {
    sum(message).to_le_bytes()
}
