//! Owns the bounds of a gRPC server and client. Each has a name and says what happens past it.

use std::time::Duration;

/// Parts of one direction of a call that are on their way or wait to be taken. More would help only where a part of 64 KiB is shorter than
/// what the network holds in a quarter of a round trip.
pub const WINDOW: u64 = 4;

/// How often a client says of a call that it is still there, when nothing else does.
pub const TOUCH_EVERY: Duration = Duration::from_secs(15);

/// What a server and a client allow. A call past a limit ends with `RESOURCE_EXHAUSTED`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one piece of a body: a message with the five bytes that gRPC puts before it, or several short ones. Default 4 MiB, which is
    /// what tonic decodes by default, and 64 KiB. The socket's own limit comes on top. Cost: a server may hold so much for each part under way.
    pub piece_bytes: usize,
    /// Calls that a server works on at once, of any kind. Default 10,000.
    pub calls: usize,
    /// Calls of one session. Default 1,000.
    pub calls_per_session: usize,
    /// After so long without a word of its client a call with a stream ends with `CANCELLED`. Default 60 s; clients say every 15 s that they
    /// are there, so less than 30 s ends calls of clients that lost one message.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            piece_bytes: (4 << 20) + (64 << 10),
            calls: 10_000,
            calls_per_session: 1_000,
            idle: Duration::from_secs(60),
        }
    }
}
