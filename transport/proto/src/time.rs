//! Owns the core's idea of time: nanoseconds since the machine began.
//!
//! The core has no clock. Whoever drives it (the real driver, the simulator) says what time it is with every input;
//! nothing here can ask.

use core::fmt;
use core::ops::{Add, AddAssign, Sub};
use core::time::Duration;

/// A point in time: nanoseconds since an origin that the driver chose.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The origin.
    pub const ZERO: Self = Self(0);
    /// Later than any time that occurs: "no deadline".
    pub const FAR: Self = Self(u64::MAX);

    /// The instant `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero when `earlier` is in fact later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Nanoseconds since `earlier`; zero when `earlier` is in fact later. Costs less than [`Self::since`], which divides.
    #[inline]
    pub const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// So many nanoseconds later.
    #[inline]
    pub const fn plus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// Whether `span` has passed since `earlier`. Costs less than to compare with [`Self::since`], which divides.
    #[inline]
    pub const fn is_past(self, earlier: Self, span: Duration) -> bool {
        self.0.saturating_sub(earlier.0) >= nanos(span)
    }
}

/// Nanoseconds of `span`; `u64::MAX` for more.
const fn nanos(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000_000).saturating_add(span.subsec_nanos() as u64)
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

impl Sub for Instant {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::FAR { f.write_str("never") } else { write!(f, "{:.6}s", self.0 as f64 / 1e9) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The cheap comparison says what the plain one does, at the ends of both ranges, too.
        #[test]
        fn is_past_compares_like_since(
            now: u64, earlier: u64, secs in prop_oneof![0..10u64, any::<u64>()], nanos in 0..1_000_000_000u32, exact: bool,
        ) {
            let (now, earlier) = (Instant(now), Instant(earlier));
            let span = if exact { now.since(earlier) } else { Duration::new(secs, nanos) };
            // What no instant is apart by has never passed, but for the longest that can be told.
            let longest = span.as_nanos() > u128::from(u64::MAX) && now.since(earlier).as_nanos() == u128::from(u64::MAX);
            prop_assert_eq!(now.is_past(earlier, span), now.since(earlier) >= span || longest);
        }
    }
}
