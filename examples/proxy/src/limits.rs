//! Owns what a proxy allows, and how much of one connection is under way at once.

use sealane::Builder;
use sealane::builder::Ready;
use std::time::Duration;

/// Bytes that one push or pull carries at most.
pub(crate) const CHUNK_BYTES: usize = 32 << 10;
/// Pushes of one connection that wait for their answers.
pub(crate) const PUSHES: usize = 8;
/// Pulls of one connection that are asked for ahead.
pub(crate) const PULLS: usize = 8;

/// Bytes of the longest head of a request or answer.
pub(crate) const HEAD_BYTES: usize = 64;
/// Bytes of the longest request or answer.
const MESSAGE_BYTES: usize = HEAD_BYTES + CHUNK_BYTES;
/// Connections at most that one session carries.
const CONNECTIONS_MAX: usize = 2048;
/// RPCs that a socket takes of one peer.
const PEER_RPCS_MAX: usize = 1 << 16;

// Each has its asks, and one more: it is opened, alive or reset.
const _: () = assert!(CONNECTIONS_MAX * (PUSHES + PULLS + 1) <= PEER_RPCS_MAX);

/// What a proxy allows.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at once; one more is closed as soon as it comes. Each takes up to half a megabyte while it is busy, and a file.
    /// Default 256; [`Self::CONNECTIONS_MAX`] at most.
    pub connections: usize,
    /// How long the exit may take to reach its target. Default 10 s.
    pub connect: Duration,
    /// A connection of which its entrance said nothing for so long is reset at the exit: the entrance is gone, or has forgotten it.
    /// Entrances say something of each four times as often. Default 60 s; the same at both ends.
    pub silence: Duration,
    /// How long the exit lets an ask for bytes wait that do not come, before the entrance has to ask again. Default 10 s.
    pub wait: Duration,
}

impl Limits {
    /// The most connections that can be allowed: more than what one session carries would wait for each other.
    pub const CONNECTIONS_MAX: usize = CONNECTIONS_MAX;

    /// A socket that has room for this, and takes nothing that is longer.
    #[must_use]
    pub fn apply(&self, builder: Builder<Ready>) -> Builder<Ready> {
        // What is answered may not be acknowledged yet when the next is asked for.
        let held = 2 * self.connections * PUSHES.max(PULLS) * MESSAGE_BYTES;
        builder.message_bytes_max(MESSAGE_BYTES).send_bytes_max(held as u64)
    }
}

impl Default for Limits {
    fn default() -> Self {
        let (connect, silence, wait) = (Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(10));
        Self { connections: 256, connect, silence, wait }
    }
}
