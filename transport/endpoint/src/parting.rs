//! Owns what is kept of handshakes that end: what waits to leave, and what is to be given back. When it does is in `held`.

use std::net::SocketAddr;

use proto::time::Instant;

use crate::session::Phase;

/// What waits.
#[derive(Debug, Default)]
pub(crate) struct Parting {
    pub(crate) ticket: Option<Ticket>,
    /// A server whose flight waits for the replies to what came with the client's, and until when.
    pub(crate) flight: Option<(u32, Instant)>,
    /// A client whose last packet waits, and until when.
    pub(crate) last: Option<(u32, Instant)>,
    pub(crate) remains: Vec<Phase>,
}

/// A server's last packet to a client.
pub(crate) struct Ticket {
    pub(crate) slot: u32,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
    pub(crate) until: Instant,
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ticket({} bytes)", self.bytes.len())
    }
}

/// Something waits for company, and there is nothing else to be sent.
pub(crate) struct Quiet;
