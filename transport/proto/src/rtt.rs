//! Owns the estimate of how long a peer takes to answer. (RFC 6298, without its one-second floor.)

use core::time::Duration;

use crate::time::Instant;

/// How long a sample counts for the shortest time: for so long at least, for twice that at most. A path that got longer is
/// noticed after seconds; a server that works for milliseconds on each request answers one of them at once meanwhile.
const SHORTEST_SPAN: Duration = Duration::from_secs(5);

/// Smoothed answer time and its variation, and the shortest of late: what the path takes, without the time that somebody
/// thought.
#[derive(Clone, Copy, Debug)]
pub struct Rtt {
    smoothed_ns: u64,
    variation_ns: u64,
    shortest_ns: u64,
    /// The shortest in the span before this one.
    shortest_before_ns: u64,
    span_end: Instant,
}

impl Rtt {
    /// Starts from one sample, for instance the handshake's.
    pub const fn new(sample: Duration) -> Self {
        let ns = sample.as_nanos() as u64;
        Self { smoothed_ns: ns, variation_ns: ns / 2, shortest_ns: ns, shortest_before_ns: ns, span_end: Instant::ZERO }
    }

    /// Takes one more sample, in nanoseconds, into account. Whether the shortest time changed by it.
    #[inline]
    pub fn sample(&mut self, ns: u64, now: Instant) -> bool {
        let off = self.smoothed_ns.abs_diff(ns);
        self.variation_ns = self.variation_ns - self.variation_ns / 4 + off / 4;
        self.smoothed_ns = self.smoothed_ns - self.smoothed_ns / 8 + ns / 8;
        let before = self.shortest_of_both();
        if now >= self.span_end {
            self.shortest_before_ns = self.shortest_ns;
            self.shortest_ns = ns;
            self.span_end = now + SHORTEST_SPAN;
        }
        self.shortest_ns = self.shortest_ns.min(ns);
        self.shortest_of_both() != before
    }

    fn shortest_of_both(&self) -> u64 {
        self.shortest_ns.min(self.shortest_before_ns)
    }

    /// The shortest time of late.
    pub fn shortest(&self) -> Duration {
        Duration::from_nanos(self.shortest_of_both())
    }

    /// The smoothed time.
    pub const fn smoothed(&self) -> Duration {
        Duration::from_nanos(self.smoothed_ns)
    }

    /// Nanoseconds to wait before silence means loss: the least, or the most, if it would be less or more.
    #[inline]
    pub fn patience_ns(&self, (least, most): (u64, u64)) -> u64 {
        (self.smoothed_ns + 4 * self.variation_ns).max(least).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [P-8.1] The shortest time outlives slow answers, and is forgotten when no answer comes near it any more.
    #[test]
    fn the_shortest_of_late() {
        let (us, ns) = (Duration::from_micros, |us: u64| us * 1000);
        let mut rtt = Rtt::new(us(500));
        let mut now = Instant::from_nanos(1);
        assert!(rtt.sample(ns(20), now));
        for _ in 0..100 {
            now += Duration::from_millis(40);
            assert!(!rtt.sample(ns(3_000), now) && rtt.shortest() == us(20));
        }
        for _ in 0..300 {
            now += Duration::from_millis(40);
            rtt.sample(ns(40), now);
        }
        assert_eq!(rtt.shortest(), us(40));
    }
}
