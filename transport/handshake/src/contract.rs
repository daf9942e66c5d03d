//! Owns what every handshake begins with, and what is said of each packet.

use core::fmt;
use core::time::Duration;

use proto::time::Instant;
use record::aead::Crypto;

use crate::params::TransportParams;

/// What a handshake of either side begins with.
#[derive(Clone)]
pub struct Setup {
    /// Who computes. (TLS has its own.)
    pub crypto: &'static dyn Crypto,
    /// What the other side is told; `session` is our name for the session.
    pub local: TransportParams,
    /// The largest datagram to send: UDP payload, in bytes, at least [`wire::limits::DATAGRAM_MIN`].
    pub datagram_max: usize,
    /// The time.
    pub now: Instant,
    /// The time by the calendar, in seconds since 1970: certificates are judged by it.
    pub unix_seconds: u64,
    /// How long the handshake may take. Default: [`crate::limits::LIFETIME`].
    pub lifetime: Duration,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("local", &self.local).field("now", &self.now).finish_non_exhaustive()
    }
}

/// What a packet did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Nothing, for this reason.
    Dropped(Reason),
    /// It was taken.
    Taken,
    /// It completed the handshake on this side.
    Established,
    /// Server: the client still repeats itself although this side is done. Send it something sealed (a DONE frame).
    Unconfirmed,
    /// The handshake failed before; the alert goes out once more.
    Closing,
}

/// Why a handshake packet changed nothing. For counters: no peer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Its tag is bad: altered on the way, or forged.
    Tag,
    /// It comes from the same side as we are: something sent our own packet back.
    Direction,
    /// It is of another handshake.
    Session,
    /// It belongs to a method that this handshake does not use.
    Method,
    /// It is sealed with keys that are not there yet, and there was no room to keep it.
    Early,
    /// Its fragment goes beyond what is buffered.
    Beyond,
    /// An alert that anyone could have sent; it is remembered, and believed if nothing better comes.
    Hint,
    /// The handshake is over.
    Over,
    /// A cookie that was not asked for, or one too many.
    Cookie,
}

impl Reason {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 9] = [
        Self::Tag,
        Self::Direction,
        Self::Session,
        Self::Method,
        Self::Early,
        Self::Beyond,
        Self::Hint,
        Self::Over,
        Self::Cookie,
    ];

    /// The name used in counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tag => "handshake_bad_tag",
            Self::Direction => "handshake_reflected",
            Self::Session => "handshake_wrong_session",
            Self::Method => "handshake_wrong_method",
            Self::Early => "handshake_early",
            Self::Beyond => "handshake_beyond_limit",
            Self::Hint => "handshake_unproven_alert",
            Self::Over => "handshake_over",
            Self::Cookie => "handshake_unasked_cookie",
        }
    }
}
