//! Handshakes, timed: from nothing to the first reply, over Sealane and what it is compared with.
//!
//! Owns the ways to begin, and one *lane* for each transport: a server in a thread of this process, a client in another, both on blocking
//! calls, with the same certificate, suites, key exchanges and kind of tickets. Refuses printing, and the order of rounds: who measures
//! lets lanes take turns, so that all have the same luck with the machine.

mod times;
mod tls;
mod tcp;
mod floor;
mod memory;
#[cfg(feature = "heavy")]
mod quic;
mod sealed;

pub use floor::{InMemory, RoundTrip};
pub use memory::{Copied, TlsSession};
#[cfg(feature = "heavy")]
pub use quic::{Client as QuicClient, Server as QuicServer};
pub use sealed::{Client as SealaneClient, Server as SealaneServer};
pub use tcp::{Client as TcpClient, Server as TcpServer};
pub use times::{Times, pause};
pub use tls::{Client as TlsClient, Server as TlsServer};

/// What each first request says.
pub const REQUEST: [u8; 64] = *b"a first request of sixty-four bytes, which the server says again";
/// Handshakes of one kind in a row, before the next kind has its turn.
pub const ROUND: usize = 20;

/// What is timed of a session's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// Until the client's keys are in use.
    Handshake,
    /// Until the reply to a first request.
    FirstReply,
    /// The end of the session before, and all of this one until the reply to a first request. The session before was made off the clock.
    Reconnect,
}

/// How a session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is known of the server but whom to trust.
    Full,
    /// By a ticket of an earlier session.
    Resumed,
    /// By a ticket, with the request in the first flight.
    EarlyData,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Full, Self::Resumed, Self::EarlyData];

    /// As it is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::EarlyData => "early-data",
        }
    }
}
