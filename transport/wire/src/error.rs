//! Owns the reasons why bytes are refused. A reason is for counters and logs: no peer is ever told.

use core::fmt;

/// Why a datagram, packet, record or frame does not have a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Shorter than its own layout says.
    Truncated,
    /// Longer than the layout allows, or with bytes left over.
    Oversized,
    /// Another wire version.
    Version,
    /// A packet type that this version does not have.
    PacketType,
    /// A field holds a value that it cannot have.
    Malformed,
}

impl Refusal {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 5] = [Self::Truncated, Self::Oversized, Self::Version, Self::PacketType, Self::Malformed];

    /// The name used in counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Oversized => "oversized",
            Self::Version => "wrong_version",
            Self::PacketType => "unknown_type",
            Self::Malformed => "malformed",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for Refusal {}
