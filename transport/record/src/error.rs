//! Owns the reasons why a record or a control packet was refused.

use core::fmt;

/// Why sealed bytes did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenError {
    /// The tag does not verify: forged, altered, or of other keys.
    Tag,
    /// It opened, yet its sealed trailer has no meaning: a faulty peer.
    Trailer,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tag => "the tag does not verify",
            Self::Trailer => "the sealed trailer has no meaning",
        })
    }
}

impl core::error::Error for OpenError {}

impl From<crate::aead::Refused> for OpenError {
    fn from(_: crate::aead::Refused) -> Self {
        Self::Tag
    }
}
