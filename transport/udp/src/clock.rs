//! Owns the driver's clock: the kernel's monotonic one, read once in a while, and between that the processor's counter.
//!
//! A small message needs the time some five times on its way there and back. The kernel's clock costs 30 ns each, the counter 10. So the
//! counter is told against the clock about once in a millisecond, and carries the time from there.
//!
//! Refuses counters that the kernel does not go by itself: it watches its own for steadiness, and for being the same on all processors.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::Instant;

use crate::sys;

/// For how long the counter carries the time alone: what its rate is wrong by, a few in a million, is nanoseconds by then.
const CARRIES_NANOS: u64 = 1_000_000;
/// How far apart two readings stand that give a rate.
const LEARNS_NANOS: u64 = 20_000_000;
/// Ticks between which the kernel's clock is read. If it took more, somebody else had the processor, and nobody knows when in between.
const GLANCE_TICKS: u64 = 10_000;
/// By what part of itself a rate may differ from the one before; else the counter was set, or the machine slept or moved.
const DRIFT: u64 = 1000;
/// Bits behind the point in a rate.
const RATE_BITS: u32 = 32;

/// What the clock and the counter said at one moment.
#[derive(Debug, Clone, Copy)]
struct Reading {
    nanos: u64,
    ticks: u64,
}

/// Nanoseconds since it was made. A copy counts from the same moment.
#[derive(Debug, Clone)]
pub struct Clock {
    start: Instant,
    counts: bool,
    /// Where the rate is taken from; `None` until it was read without a break.
    origin: Cell<Option<Reading>>,
    anchor: Cell<Reading>,
    /// For how many ticks the anchor holds: none while there is no rate.
    holds: Cell<u64>,
    /// Nanoseconds a tick, in 2^-32.
    rate: Cell<u64>,
    /// The latest time that was given.
    last: Cell<u64>,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self::counting(kernel_counts())
    }

    fn counting(counts: bool) -> Self {
        let nothing = Reading { nanos: 0, ticks: 0 };
        Self {
            start: sys::now(),
            counts,
            origin: Cell::new(None),
            anchor: Cell::new(nothing),
            holds: Cell::new(0),
            rate: Cell::new(0),
            last: Cell::new(0),
        }
    }

    /// Nanoseconds since the start; never less than it said before.
    #[inline]
    pub fn nanos(&self) -> u64 {
        if !self.counts {
            return self.ask();
        }
        let ticks = sys::ticks();
        let anchor = self.anchor.get();
        // One that ran backwards is far ahead here.
        let since = ticks.wrapping_sub(anchor.ticks);
        if since < self.holds.get() {
            self.give(anchor.nanos + carried(since, self.rate.get()))
        } else {
            self.settle(ticks)
        }
    }

    /// That time, or the last that was given if that is later: what was carried too far is waited for, not kept.
    #[inline]
    fn give(&self, nanos: u64) -> u64 {
        self.last.set(nanos.max(self.last.get()));
        self.last.get()
    }

    /// What the kernel says.
    fn ask(&self) -> u64 {
        u64::try_from(sys::now().saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX / 2)
    }

    /// Asks the kernel, and makes a new anchor of that.
    #[cold]
    fn settle(&self, before: u64) -> u64 {
        let asked = self.ask();
        let after = sys::ticks();
        self.note(Reading { nanos: asked, ticks: before }, after.wrapping_sub(before))
    }

    /// The kernel's clock was read within so many ticks. What the time is then.
    fn note(&self, reading: Reading, glance: u64) -> u64 {
        self.holds.set(0);
        // Somebody else had the processor in between: not a moment to go by.
        if glance <= GLANCE_TICKS {
            self.learn(reading);
        }
        self.give(reading.nanos)
    }

    /// Takes the rate since the origin, and goes by that from here on; or begins anew.
    fn learn(&self, reading: Reading) {
        let Some(origin) = self.origin.get() else {
            return self.origin.set(Some(reading));
        };
        let (span, ticks) = (reading.nanos.wrapping_sub(origin.nanos), reading.ticks.wrapping_sub(origin.ticks));
        if span < LEARNS_NANOS {
            return;
        }
        let rate = u64::try_from((u128::from(span) << RATE_BITS) / u128::from(ticks.max(1))).unwrap_or(0);
        let known = self.rate.replace(rate);
        if rate == 0 || known != 0 && known.abs_diff(rate) > known / DRIFT {
            self.rate.set(0);
            return self.origin.set(Some(reading));
        }
        self.anchor.set(reading);
        self.holds.set(u64::try_from((u128::from(CARRIES_NANOS) << RATE_BITS) / u128::from(rate)).unwrap_or(0));
    }
}

/// What so many ticks are, in nanoseconds.
#[inline]
const fn carried(ticks: u64, rate: u64) -> u64 {
    ((ticks as u128 * rate as u128) >> RATE_BITS) as u64
}

/// Whether the kernel keeps its own time by the counter. Where it cannot be asked it does not.
fn kernel_counts() -> bool {
    const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    static COUNTS: OnceLock<bool> = OnceLock::new();
    let asked =
        || cfg!(target_arch = "x86_64") && std::fs::read_to_string(SOURCE).is_ok_and(|name| name.trim() == "tsc");
    *COUNTS.get_or_init(asked)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// Ticks in a nanosecond, of the counters below.
    const TICKS: u64 = 3;

    fn at(clock: &Clock, nanos: u64, glance: u64) -> u64 {
        clock.note(Reading { nanos, ticks: nanos * TICKS }, glance)
    }

    /// What it would say when the counter stands there; `None` when it would ask.
    fn says(clock: &Clock, ticks: u64) -> Option<u64> {
        let since = ticks.wrapping_sub(clock.anchor.get().ticks);
        (since < clock.holds.get()).then(|| clock.give(clock.anchor.get().nanos + carried(since, clock.rate.get())))
    }

    #[test]
    fn it_carries_what_it_learnt_for_a_millisecond() {
        let clock = Clock::counting(true);
        assert_eq!(at(&clock, 1000, 9), 1000);
        assert_eq!(at(&clock, 1_000_000, 9), 1_000_000);
        assert_eq!(says(&clock, 1_000_001 * TICKS), None, "there is no rate yet");
        let then = 1000 + LEARNS_NANOS;
        assert_eq!(at(&clock, then, 9), then);
        for after in [0, 1, 999, 999_000] {
            let said = says(&clock, (then + after) * TICKS).expect("it carries");
            assert!(said.abs_diff(then + after) <= 1, "{said} at {}", then + after);
        }
        assert_eq!(says(&clock, (then + CARRIES_NANOS + 2) * TICKS), None, "it looks again");
        assert_eq!(says(&clock, then * TICKS - 1), None, "the counter went back");
    }

    #[test]
    fn a_counter_that_was_set_is_learnt_anew() {
        let clock = Clock::counting(true);
        at(&clock, 0, 9);
        at(&clock, LEARNS_NANOS, 9);
        assert!(says(&clock, LEARNS_NANOS * TICKS).is_some());
        let nanos = 2 * LEARNS_NANOS;
        assert_eq!(clock.note(Reading { nanos, ticks: 5 }, 9), nanos);
        assert_eq!(says(&clock, 6), None);
        assert_eq!(clock.note(Reading { nanos: 2 * nanos, ticks: 5 + nanos }, 9), 2 * nanos);
        assert_eq!(says(&clock, 5 + nanos + 100), Some(2 * nanos + 100), "a tick is a nanosecond now");
    }

    /// A counter that goes back makes it look again, and what it looked ahead by then is gone by the next look.
    #[test]
    fn it_does_not_run_away() {
        let clock = Clock::counting(true);
        at(&clock, 0, 9);
        let mut nanos = LEARNS_NANOS;
        for _ in 0..1000 {
            assert_eq!(at(&clock, nanos, 9), nanos);
            assert_eq!(says(&clock, nanos * TICKS - 1), None, "the counter went back");
            nanos += 10;
        }
    }

    #[test]
    fn a_look_that_was_interrupted_teaches_nothing() {
        let clock = Clock::counting(true);
        at(&clock, 0, 9);
        at(&clock, LEARNS_NANOS, GLANCE_TICKS + 1);
        assert_eq!(says(&clock, LEARNS_NANOS * TICKS), None);
    }

    proptest! {
        /// Whatever the counter does, and however long a look takes, the time does not go back.
        #[test]
        fn never_back(steps in prop::collection::vec((0u64..5_000_000, -50i64..2_000_000, 0u64..20_000), 1..60)) {
            let (clock, mut nanos, mut ticks, mut last) = (Clock::counting(true), 0, 1_000_000_000u64, 0);
            for (passed, counted, glance) in steps {
                nanos += passed;
                ticks = ticks.wrapping_add_signed(if counted < 0 { -(1 << 29) } else { (passed * TICKS) as i64 + counted });
                let now = says(&clock, ticks).unwrap_or_else(|| clock.note(Reading { nanos, ticks }, glance));
                prop_assert!(now >= last, "{} after {}", now, last);
                last = now;
            }
        }
    }

    /// On this machine, whatever it goes by.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "time has to pass")]
    fn it_agrees_with_the_kernel() {
        for clock in [Clock::start(), Clock::counting(false)] {
            let mut last = 0;
            for _ in 0..40 {
                std::thread::sleep(Duration::from_millis(1));
                for _ in 0..100 {
                    // Between the two looks at the kernel's clock, however long they are apart, but for what a rate may be wrong by.
                    let (before, now, after) = (clock.ask(), clock.nanos(), clock.ask());
                    assert!(before <= now + 20_000 && now <= after + 20_000, "{before} {now} {after}");
                    assert!(now >= last);
                    last = now;
                }
            }
        }
    }
}
