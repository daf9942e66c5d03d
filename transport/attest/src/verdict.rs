//! Owns what a side that showed evidence is told of it: one byte, which says what is wrong and nothing of what would be right.

use std::fmt;

use crate::evidence::Error;

/// What became of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It cannot be read.
    Unreadable,
    /// Its format cannot be judged.
    Format,
    /// It is not genuine.
    NotGenuine,
    /// It does not hold at this time.
    Expired,
    /// It was made for something else.
    NotBound,
    /// A debug mode is on.
    Debug,
    /// The platform is not in order.
    Platform,
    /// A pinned register has another value, or is missing.
    Measurement,
    /// Too much of it came at once.
    Busy,
    /// Another reason, which this version does not know.
    Other,
}

impl Verdict {
    const ALL: [(Self, u8); 9] = [
        (Self::Unreadable, 1),
        (Self::Format, 2),
        (Self::NotGenuine, 3),
        (Self::Expired, 4),
        (Self::NotBound, 5),
        (Self::Debug, 6),
        (Self::Platform, 7),
        (Self::Measurement, 8),
        (Self::Busy, 9),
    ];

    /// On the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        Self::ALL.iter().find(|(verdict, _)| *verdict == self).map_or(u8::MAX, |(_, code)| *code)
    }

    /// From the wire.
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        Self::ALL.iter().find(|(_, known)| *known == code).map_or(Self::Other, |(verdict, _)| *verdict)
    }

    /// What the other side is told of this.
    #[must_use]
    pub const fn of(why: &Error) -> Self {
        match why {
            Error::Malformed(_) => Self::Unreadable,
            Error::UnknownFormat(_) => Self::Format,
            Error::NotGenuine(_) => Self::NotGenuine,
            Error::Expired(_) => Self::Expired,
            Error::NotBound => Self::NotBound,
            Error::Debug => Self::Debug,
            Error::Shortcoming(_) => Self::Platform,
            Error::Measurement { .. } => Self::Measurement,
            Error::Busy => Self::Busy,
            Error::Unavailable(_) | Error::NoPins | Error::MockInProduction => Self::Other,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "it cannot be read there",
            Self::Format => "its format cannot be judged there",
            Self::NotGenuine => "it is not genuine",
            Self::Expired => "it does not hold at this time",
            Self::NotBound => "it was not made for this session and side",
            Self::Debug => "a debug mode is on here",
            Self::Platform => "this platform is not in order",
            Self::Measurement => "a measurement is not what is pinned there",
            Self::Busy => "more waits to be judged there than can be",
            Self::Other => "for a reason that is not known here",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_go_both_ways() {
        for (verdict, code) in Verdict::ALL {
            assert_eq!((Verdict::from_code(code), verdict.code()), (verdict, code));
        }
        assert_eq!((Verdict::from_code(0), Verdict::from_code(200)), (Verdict::Other, Verdict::Other));
    }
}
