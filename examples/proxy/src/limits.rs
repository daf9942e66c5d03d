//! Owns what a proxy allows, and how much of one connection is under way at once.

use std::time::Duration;

/// Bytes that one push or pull carries at most.
pub(crate) const CHUNK_BYTES: usize = 32 << 10;
/// Pushes of one connection that wait for their answers.
pub(crate) const PUSHES: usize = 8;
/// Pulls of one connection that are asked for ahead.
pub(crate) const PULLS: usize = 8;

/// What a proxy allows.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at once; one more is closed as soon as it comes. Each takes up to half a megabyte while it is busy, and a file.
    /// Default 256.
    pub connections: usize,
    /// How long the exit may take to reach its target. Default 10 s.
    pub connect: Duration,
    /// An entrance that said nothing for so long is gone, and its connections are reset at the exit. Entrances say something four times
    /// as often. Default 60 s; the same at both ends.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 256, connect: Duration::from_secs(10), silence: Duration::from_secs(60) }
    }
}
