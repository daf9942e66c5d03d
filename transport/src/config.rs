//! Owns the public knobs of calls, and how the path's MTU becomes the size of datagrams.

use std::net::SocketAddr;
use std::time::Duration;

use proto::time::Instant;
use wire::ids::Side;

/// What a socket keeps of its choices of credentials: without TLS there are none.
#[cfg(feature = "aws-lc")]
pub(crate) type Credentials = Box<crate::credentials::Choices>;
#[cfg(not(feature = "aws-lc"))]
pub(crate) type Credentials = ();

/// Priorities that a packet can have.
pub(crate) const PRIORITIES: usize = 8;

/// How a blocking call waits, and how long an asynchronous socket looks on before its runtime sleeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wait {
    /// Polls until there is something: the shortest latency, at the cost of a core per waiting thread.
    Spin,
    /// Sleeps in the kernel: no cost while nothing happens; a wake-up of tens of microseconds when it does.
    Block,
    /// Polls for 20 us, then sleeps. The default. An asynchronous socket polls for 50 us, and sleeps at once where that is in vain more
    /// often than not.
    #[default]
    Adaptive,
}

/// Choices that go together: see [`crate::Builder::profile`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Profile {
    /// [`Wait::Spin`], and each message in packets of its own, so that a lost packet delays no other message. Costs a core per waiting
    /// thread, and up to several times the packets where many small messages are ready at once.
    Latency,
    /// [`Wait::Adaptive`], and small messages that are ready together share packets. The default.
    #[default]
    Balanced,
    /// [`Wait::Block`], the same bundles, and four times the receive buffer. No work is done in vain; costs a wake-up of tens of
    /// microseconds per wait.
    Throughput,
}

/// Which end of an installed session a socket is; the other end is the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Opens the session when it first sends.
    Client,
    /// Answers.
    Server,
}

impl Role {
    pub(crate) const fn side(self) -> Side {
        match self {
            Self::Client => Side::Client,
            Self::Server => Side::Server,
        }
    }
}

/// How to make one call.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallOptions {
    pub(crate) deadline: Option<Duration>,
    pub(crate) early: bool,
}

impl CallOptions {
    /// The defaults: no deadline (a peer that no longer answers is found out all the same).
    pub const fn new() -> Self {
        Self { deadline: None, early: false }
    }

    /// Whether the request may go with the first flight of a new session, which saves a round trip: by a ticket of an earlier
    /// session (TLS early data), or by a published one ([`crate::Builder::tickets_from`]), which is used where there is one. Default
    /// false. It runs at most once, and a request that the server says it did not take is sent again by itself. It is for requests
    /// that may as well run later than meant: who records a flight that never arrived can bring it later, and until then it is
    /// protected by a ticket alone. It goes early only when there is a ticket of the server that allows it and the request has at most
    /// 1,093 bytes; otherwise this changes nothing. The server sees it marked [`crate::Protection::EarlyData`] or
    /// [`crate::Protection::PublishedTicket`].
    ///
    /// It ends with [`crate::Error::PeerRestarted`], "may have run", when nobody can know whether it ran: the server has forgotten the
    /// ticket because it was started again or loaded other certificates, or somebody brought a copy of the flight before it. Such a
    /// call is not repeated by itself. [P-6.9] [P-6.12]
    #[must_use]
    pub const fn early(mut self, on: bool) -> Self {
        self.early = on;
        self
    }

    pub(crate) const fn is_early(&self) -> bool {
        self.early
    }

    /// When a call that begins at `now` is given up.
    pub(crate) fn until(&self, now: Instant) -> Instant {
        self.deadline.map_or(Instant::FAR, |span| now + span)
    }

    /// Give up after `span`, the wait for room to send in included. The peer is told; it may have executed the request.
    #[must_use]
    pub const fn deadline(mut self, span: Duration) -> Self {
        self.deadline = Some(span);
        self
    }
}

/// The largest UDP payload in an IP packet of `mtu` bytes to `address`, as far as we use it.
pub(crate) fn datagram_bytes(mtu: u32, address: SocketAddr) -> usize {
    let headers = if address.is_ipv4() { 20 + 8 } else { 40 + 8 };
    (mtu as usize).saturating_sub(headers).clamp(wire::limits::DATAGRAM_MIN, wire::limits::PACKET_MAX)
}
