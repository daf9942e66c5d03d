//! Owns the only time there is: picoseconds since the world began, and what a host's own clock makes of them.

use proto::time::Instant;

/// Picoseconds since the world began. A byte on a 10 Gbit/s link takes 800 of them: no rounding adds up.
pub type Time = u64;

/// A nanosecond.
pub const NS: Time = 1_000;
/// A microsecond.
pub const US: Time = 1_000 * NS;
/// A millisecond.
pub const MS: Time = 1_000 * US;
/// A second.
pub const SEC: Time = 1_000 * MS;
/// Later than anything that happens.
pub const NEVER: Time = Time::MAX;

/// A host's clock: where it stood when the world began, and how much too fast it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skew {
    /// Nanoseconds that it shows at the world's zero.
    pub offset_ns: u64,
    /// Nanoseconds per second that it runs too fast, or too slow.
    pub drift_ppb: i32,
}

impl Skew {
    /// What the host's clock shows at `now`.
    #[must_use]
    pub fn local(self, now: Time) -> Instant {
        let ns = now / NS;
        let drift = (i128::from(ns) * i128::from(self.drift_ppb)).div_euclid(1_000_000_000);
        Instant::from_nanos((i128::from(self.offset_ns) + i128::from(ns) + drift).max(0) as u64)
    }

    /// The first time at which the host's clock shows `local` or later.
    #[must_use]
    pub fn global(self, local: Instant) -> Time {
        if local == Instant::FAR {
            return NEVER;
        }
        let ns = local.as_nanos().saturating_sub(self.offset_ns);
        if self.drift_ppb == 0 {
            return ns.saturating_mul(NS);
        }
        let rate = 1_000_000_000 + i128::from(self.drift_ppb);
        let mut at = (i128::from(ns) * 1_000_000_000 / rate).clamp(0, i128::from(NEVER / NS)) as u64;
        // Rounding may have gone either way.
        at = at.saturating_sub(2);
        while self.local(at * NS) < local {
            at += 1;
        }
        at * NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_fires_when_the_local_clock_says_so_and_not_before() {
        for drift_ppb in [0, 1, -1, 200_000_000, -300_000_000] {
            let skew = Skew { offset_ns: 123_456_789, drift_ppb };
            for local in [123_456_789, 123_456_790, 2_000_000_001, 77_777_777_777] {
                let local = Instant::from_nanos(local);
                let at = skew.global(local);
                assert!(skew.local(at) >= local);
                assert!(at == 0 || skew.local(at - NS) < local, "{drift_ppb} {local:?}");
            }
        }
    }
}
