//! Owns when to send again: the round trip as measured, and doubling while nothing comes.

use core::time::Duration;

use proto::time::Instant;

use crate::limits::{ACK_DELAY, INTERVAL_FIRST, INTERVAL_MAX, INTERVAL_MIN};

/// How many of our latest packets' times are remembered.
const REMEMBERED: usize = 16;

/// The measured round trip of one handshake.
#[derive(Debug)]
pub(crate) struct Pace {
    smooth: Option<(Duration, Duration)>,
    shortest: Option<Duration>,
    repeats: u32,
    sent: [(u32, Instant); REMEMBERED],
    echoed: u32,
}

impl Pace {
    pub(crate) const fn new() -> Self {
        Self { smooth: None, shortest: None, repeats: 0, sent: [(u32::MAX, Instant::ZERO); REMEMBERED], echoed: 0 }
    }

    /// Packet `number` left.
    pub(crate) const fn sent(&mut self, number: u32, now: Instant) {
        self.sent[number as usize % REMEMBERED] = (number, now);
    }

    /// The other side says that `echo - 1` is the highest number it has seen, `age` microseconds before it said so. Numbers
    /// never repeat, so each new one is an exact sample, however often its fragment was sent before.
    pub(crate) fn echo(&mut self, echo: u32, age: u32, now: Instant) {
        if echo <= self.echoed {
            return;
        }
        let number = echo - 1;
        let (remembered, at) = self.sent[number as usize % REMEMBERED];
        if remembered != number {
            return;
        }
        let Some(sample) = now.since(at).checked_sub(Duration::from_micros(age.into())) else {
            return;
        };
        self.echoed = echo;
        self.shortest = Some(self.shortest.map_or(sample, |s| s.min(sample)));
        self.smooth = Some(match self.smooth {
            None => (sample, sample / 2),
            // RFC 6298 section 2.
            Some((mean, var)) => ((mean * 7 + sample) / 8, (var * 3 + mean.abs_diff(sample)) / 4),
        });
    }

    /// The other side has more than before.
    pub(crate) const fn progress(&mut self) {
        self.repeats = 0;
    }

    /// Nothing came in time; says how often in a row.
    pub(crate) const fn repeat(&mut self) -> u32 {
        self.repeats += 1;
        self.repeats
    }

    /// How long to wait for an answer now.
    pub(crate) fn interval(&self) -> Duration {
        let first = self.smooth.map_or(INTERVAL_FIRST, |(mean, var)| (mean + var * 4 + ACK_DELAY).max(INTERVAL_MIN));
        (first * (1 << self.repeats.min(8))).min(first.max(INTERVAL_MAX))
    }

    /// How long an answer takes when nothing is lost, with some room.
    pub(crate) fn round_trip(&self) -> Duration {
        self.smooth.map_or(INTERVAL_FIRST, |(mean, var)| (mean + var * 4 + ACK_DELAY).max(INTERVAL_MIN))
    }

    /// The shortest round trip.
    pub(crate) const fn shortest(&self) -> Option<Duration> {
        self.shortest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    /// Samples are of the packet that was echoed; old, unknown and forgotten ones are none.
    #[test]
    fn samples() {
        let mut pace = Pace::new();
        (0..40).for_each(|n| pace.sent(n, at(n.into())));
        pace.echo(1, 0, at(500));
        assert_eq!(pace.shortest(), None, "forgotten");
        pace.echo(41, 0, at(500));
        assert_eq!(pace.shortest(), None, "never sent");
        pace.echo(38, 4000, at(40));
        assert_eq!(pace.shortest(), None, "older than the packet");
        pace.echo(38, 1000, at(41));
        assert_eq!(pace.shortest(), Some(Duration::from_millis(3)));
        pace.echo(38, 0, at(500));
        pace.echo(30, 0, at(500));
        assert_eq!(pace.shortest(), Some(Duration::from_millis(3)), "no second sample of one packet");
        assert_eq!(pace.interval(), Duration::from_millis(3 + 6 + 1));
    }

    /// Intervals double up to the bound, or stay at one round trip where that is longer.
    #[test]
    fn doubling() {
        let mut pace = Pace::new();
        assert_eq!(pace.interval(), INTERVAL_FIRST);
        (0..50).for_each(|_| _ = pace.repeat());
        assert_eq!(pace.interval(), INTERVAL_MAX);
        pace.progress();
        assert_eq!(pace.interval(), INTERVAL_FIRST);
        pace.sent(0, at(0));
        pace.echo(1, 0, at(2000));
        assert!(pace.interval() > Duration::from_secs(2));
        (0..50).for_each(|_| _ = pace.repeat());
        assert!(pace.interval() > Duration::from_secs(2));
    }
}
