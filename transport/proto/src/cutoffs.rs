//! Owns which priority a message's bytes carry, and how the receiver finds that out from what it sees. [P-8.3]
//!
//! The receiver counts, by length of message, the bytes that came unscheduled. The upper priorities are for those, as many
//! as their share of all bytes; each is to carry the same number of them, shorter messages above longer ones. The rest of
//! the priorities are for what is granted. Homa leaves this to a program beside the kernel; here nothing has to be run.

use alloc::vec::Vec;

use wire::control::Frame;
use wire::trailer::CUTOFFS_VERSIONS;

use crate::config::{Config, Priorities};

/// Priorities that there are.
pub const LEVELS: u8 = 8;

/// Priority of unscheduled bytes to a receiver that said nothing of its own: above all that is granted.
const UNKNOWN_LEVEL: u8 = 6;

/// Priorities for what is granted, as long as nothing was computed: those of Homa.
const SCHEDULED_LEVELS: u8 = 4;

/// Messages after which the first computations are due.
const EARLY: [u32; 2] = [100, 1000];

/// A level may carry so many hundredths more or less than its part before cutoffs that were told are told anew.
const OFF_PERCENT_MAX: u64 = 20;

/// Lengths below have a bin each; above, each doubling has [`PER_OCTAVE`] of them.
const EXACT: u32 = 64;
const PER_OCTAVE: u32 = 32;
const BINS: usize = (EXACT + (32 - EXACT.ilog2()) * PER_OCTAVE) as usize;

/// Which lengths carry which priority, as one receiver wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cutoffs {
    /// Rises with every change; 0 means that nothing was said.
    pub version: u16,
    /// The largest length for priorities 7 down to 0.
    pub largest: [u32; LEVELS as usize],
}

impl Cutoffs {
    /// Those of a receiver that said nothing.
    pub const UNKNOWN: Self = Self { version: 0, largest: [u32::MAX; LEVELS as usize] };

    /// What tells a sender of them.
    pub const fn frame(&self) -> Frame {
        Frame::Cutoffs { version: self.version, cutoffs: self.largest }
    }

    /// The priority of unscheduled bytes of a message of that length.
    pub fn level(&self, length: u32) -> u8 {
        if self.version == 0 {
            return UNKNOWN_LEVEL;
        }
        let place = self.largest.iter().position(|largest| *largest >= length);
        place.map_or(0, |place| LEVELS - 1 - place as u8)
    }

    /// Priorities for what is granted: all below those that unscheduled bytes carry.
    pub fn scheduled_levels(&self) -> u8 {
        if self.version == 0 {
            return SCHEDULED_LEVELS;
        }
        let lowest = self.largest.iter().position(|largest| *largest == u32::MAX);
        lowest.map_or(1, |place| LEVELS - 1 - place as u8).max(1)
    }

    /// The priority of a grant to the message of `rank` among `active` ones. With fewer messages than levels the upper ones
    /// stay free, so that a shorter newcomer goes before all of them at once.
    pub fn granted_level(&self, rank: usize, active: usize) -> u8 {
        let used = active.min(self.scheduled_levels().into());
        used.saturating_sub(rank + 1) as u8
    }

    /// What a trailer states of the version. [P-4.2]
    pub const fn stated(&self) -> u8 {
        (self.version % CUTOFFS_VERSIONS as u16) as u8
    }

    /// Whether `other` was said after this. Versions go round, so only the difference tells.
    pub const fn is_older_than(&self, other: &Self) -> bool {
        self.version == 0 || (other.version.wrapping_sub(self.version) as i16) > 0
    }

    /// The next version: never one that reads as "nothing was said".
    const fn next_version(&self) -> u16 {
        let next = self.version.wrapping_add(1);
        if next.is_multiple_of(CUTOFFS_VERSIONS as u16) { next.wrapping_add(1) } else { next }
    }
}

/// The bin of a length.
const fn bin(length: u32) -> usize {
    if length < EXACT {
        return length as usize;
    }
    let octave = length.ilog2() - EXACT.ilog2();
    let step = (length >> (octave + EXACT.ilog2() - PER_OCTAVE.ilog2())) - PER_OCTAVE;
    (EXACT + octave * PER_OCTAVE + step) as usize
}

/// The largest length in a bin.
const fn largest_in(bin: usize) -> u32 {
    if bin < EXACT as usize {
        return bin as u32;
    }
    let (octave, step) = ((bin as u32 - EXACT) / PER_OCTAVE, (bin as u32 - EXACT) % PER_OCTAVE);
    let end = (PER_OCTAVE + step + 1) as u64;
    ((end << (octave + EXACT.ilog2() - PER_OCTAVE.ilog2())) - 1) as u32
}

/// What one receiver sees, and what follows from it.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Unscheduled bytes, by length of message; halved with each computation, so that what is long past counts little.
    bins: Vec<u64>,
    unscheduled: u64,
    scheduled: u64,
    messages: u32,
    /// Messages after which the next computation is due; `u32::MAX` for never.
    due: u32,
    cutoffs: Cutoffs,
}

impl Traffic {
    /// Nothing seen yet.
    pub fn new(config: &Config) -> Self {
        let (due, cutoffs) = match config.priorities {
            Priorities::Off => (u32::MAX, Cutoffs::UNKNOWN),
            Priorities::Fixed(largest) => (u32::MAX, Cutoffs { version: 1, largest }),
            Priorities::Measured { messages } => (EARLY[0].min(messages.max(1)), Cutoffs::UNKNOWN),
        };
        let mut bins = Vec::new();
        if due != u32::MAX {
            bins.resize(BINS, 0);
        }
        Self { bins, unscheduled: 0, scheduled: 0, messages: 0, due, cutoffs }
    }

    /// What holds now.
    pub const fn cutoffs(&self) -> &Cutoffs {
        &self.cutoffs
    }

    /// A message begins to come, so many bytes of it unscheduled. Whether the cutoffs change by that.
    #[inline]
    pub fn note(&mut self, config: &Config, length: u32, unscheduled: u32) -> bool {
        if self.due == u32::MAX {
            return false;
        }
        self.bins[bin(length)] += u64::from(unscheduled);
        self.unscheduled += u64::from(unscheduled);
        self.scheduled += u64::from(length - unscheduled);
        self.messages += 1;
        self.messages >= self.due && self.compute(config)
    }

    fn compute(&mut self, config: &Config) -> bool {
        let Priorities::Measured { messages: every } = config.priorities else { return false };
        let levels = self.unscheduled_levels();
        let changes = self.cutoffs.version == 0 || self.is_off(levels);
        if changes {
            self.cutoffs = Cutoffs { version: self.cutoffs.next_version(), largest: self.equal_parts(levels) };
        }
        match EARLY.into_iter().find(|early| *early > self.messages && *early < every) {
            Some(early) => self.due = early,
            None => {
                self.due = every.max(1);
                self.messages = 0;
                self.bins.iter_mut().for_each(|bytes| *bytes /= 2);
                self.unscheduled = self.bins.iter().sum();
                self.scheduled /= 2;
            }
        }
        changes
    }

    /// How many levels unscheduled bytes get: their share, rounded, and one at least for either kind. It stays as it is
    /// until the share is clearly another.
    fn unscheduled_levels(&self) -> u8 {
        let all = (self.unscheduled + self.scheduled).max(1);
        let quarters = (u128::from(self.unscheduled) * 4 * u128::from(LEVELS) / u128::from(all)) as u8;
        let now = LEVELS - self.cutoffs.scheduled_levels();
        let stays = self.cutoffs.version != 0 && quarters.abs_diff(4 * now) <= 3;
        if stays { now } else { ((quarters + 2) / 4).clamp(1, LEVELS - 1) }
    }

    /// Whether the cutoffs that were told no longer do what they are for.
    fn is_off(&self, levels: u8) -> bool {
        if LEVELS - self.cutoffs.scheduled_levels() != levels {
            return true;
        }
        let carried = |largest: &[u32; LEVELS as usize]| {
            let mut carried = [0_u64; LEVELS as usize];
            let cutoffs = Cutoffs { version: 1, largest: *largest };
            for (bin, bytes) in self.bins.iter().enumerate() {
                carried[usize::from(cutoffs.level(largest_in(bin)))] += bytes;
            }
            carried
        };
        let (now, better) = (carried(&self.cutoffs.largest), carried(&self.equal_parts(levels)));
        let part = self.unscheduled / u64::from(levels);
        now.iter().zip(better).any(|(now, better)| now.abs_diff(better) * 100 > part * OFF_PERCENT_MAX)
    }

    /// Cutoffs by which each of the upper `levels` carries the same part. A length that has more than that has a level of
    /// its own, and the others share what is left.
    fn equal_parts(&self, levels: u8) -> [u32; LEVELS as usize] {
        let mut largest = [u32::MAX; LEVELS as usize];
        let mut left = self.unscheduled;
        let mut bins = self.bins.iter().enumerate().peekable();
        let mut last = 0;
        for level in 0..levels - 1 {
            let part = left.div_ceil(u64::from(levels - level));
            let mut carried = 0;
            // To the end of the bin that comes closest; of one at least, if there is any.
            let more = |carried: u64, bytes: u64| part > 0 && (carried == 0 || carried + bytes / 2 < part);
            while let Some((bin, bytes)) = bins.next_if(|(_, bytes)| more(carried, **bytes)) {
                carried += bytes;
                last = largest_in(bin);
            }
            left -= carried;
            largest[usize::from(level)] = last;
        }
        largest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn measured(messages: u32) -> Config {
        Config { priorities: Priorities::Measured { messages }, ..Config::default() }
    }

    fn see(traffic: &mut Traffic, config: &Config, messages: u32, length: impl Fn(u32) -> u32) -> u32 {
        (0..messages).filter(|n| traffic.note(config, length(*n), length(*n).min(10_000))).count() as u32
    }

    proptest! {
        /// Every length is in a bin, no bin reaches into the next, and none is wider than a part in 32 of its lengths.
        #[test]
        fn bins_hold_their_lengths(length in 0_u32.., small in 0_u32..5_000) {
            for length in [length, small] {
                let bin = bin(length);
                prop_assert!(bin < BINS && length <= largest_in(bin));
                prop_assert!(bin == 0 || largest_in(bin - 1) < length);
                prop_assert!(largest_in(bin) - length <= length / 32);
            }
        }

        /// [P-8.3] Whatever is seen: both kinds have a level, cutoffs rise, shorter never goes below longer, and the parts
        /// that levels carry are as equal as the bins allow.
        #[test]
        fn any_traffic(lengths in prop::collection::vec((0_u32..25, 0_u32..1_000), 100..400)) {
            let config = measured(100);
            let mut traffic = Traffic::new(&config);
            let length = |n: u32| {
                let (octave, more) = lengths[n as usize % lengths.len()];
                (1 << octave) + more
            };
            see(&mut traffic, &config, 100, length);
            let cutoffs = traffic.cutoffs();
            let levels = LEVELS - cutoffs.scheduled_levels();
            prop_assert!((1..=7).contains(&levels) && cutoffs.version == 1);
            prop_assert!(cutoffs.largest.is_sorted() && cutoffs.level(u32::MAX) == cutoffs.scheduled_levels());
            prop_assert!((0..25).all(|octave| cutoffs.level(1 << octave) >= cutoffs.level(2 << octave)));
            let unscheduled: u64 = (0..100).map(|n| u64::from(length(n).min(10_000))).sum();
            let all: u64 = (0..100).map(|n| u64::from(length(n))).sum();
            let share = 8.0 * unscheduled as f64 / all as f64;
            prop_assert!((share.clamp(1.0, 7.0) - f64::from(levels)).abs() <= 0.76, "{share} {levels}");
        }
    }

    /// [P-8.3] With many lengths each unscheduled level carries its part within a few percent.
    #[test]
    fn levels_carry_equal_parts() {
        let config = measured(10_000);
        let mut traffic = Traffic::new(&config);
        let length = |n: u32| n * 7919 % 10_000;
        see(&mut traffic, &config, 10_000, length);
        let mut bytes = [0_u64; 8];
        (0..10_000).for_each(|n| bytes[usize::from(traffic.cutoffs().level(length(n)))] += u64::from(length(n)));
        let part = bytes.iter().sum::<u64>() / 7;
        assert_eq!((traffic.cutoffs().scheduled_levels(), bytes[0]), (1, 0));
        assert!(bytes[1..].iter().all(|b| b.abs_diff(part) * 100 < part * 25), "{bytes:?}");
    }

    /// [P-8.3] The same traffic again changes nothing; another does, and its version is another.
    #[test]
    fn told_anew_only_when_it_matters() {
        let config = measured(2_000);
        let mut traffic = Traffic::new(&config);
        see(&mut traffic, &config, 10_000, |n| n * 7919 % 3_000);
        let before = *traffic.cutoffs();
        assert_eq!(see(&mut traffic, &config, 20_000, |n| n * 7907 % 3_000), 0);
        assert!(see(&mut traffic, &config, 20_000, |n| n * 7919 % 300_000) > 0);
        let after = *traffic.cutoffs();
        assert!(before.is_older_than(&after) && !after.is_older_than(&before) && !after.is_older_than(&after));
        assert!(after.scheduled_levels() > before.scheduled_levels());
    }

    /// [P-8.3] One length has a level of its own, and the rest do not go without.
    #[test]
    fn one_length_takes_one_level() {
        let config = measured(1_000);
        let mut traffic = Traffic::new(&config);
        see(&mut traffic, &config, 1_000, |n| if n % 5 == 0 { 1_000 + 10 * n } else { 100_000 });
        let cutoffs = traffic.cutoffs();
        assert!(cutoffs.level(100) >= cutoffs.level(9_000) && cutoffs.level(9_000) >= cutoffs.level(100_000));
        let mut same = Traffic::new(&config);
        see(&mut same, &config, 1_000, |_| 64);
        assert_eq!((same.cutoffs().level(64), same.cutoffs().level(66)), (7, 1));
    }

    /// [P-8.3] Granted messages take the lowest levels, the shortest of them the highest of these.
    #[test]
    fn few_messages_leave_the_upper_levels_free() {
        let cutoffs = Cutoffs { version: 1, largest: [10, 20, 30, u32::MAX, 0, 0, 0, 0] };
        assert_eq!((cutoffs.scheduled_levels(), cutoffs.level(31), cutoffs.level(10)), (4, 4, 7));
        let levels = |active| (0..active).map(|rank| cutoffs.granted_level(rank, active)).collect::<Vec<_>>();
        assert_eq!([levels(1), levels(2), levels(4)], [&[0][..], &[1, 0], &[3, 2, 1, 0]]);
        assert_eq!(levels(6), [3, 2, 1, 0, 0, 0], "more messages than levels share the lowest");
    }

    #[test]
    fn versions_go_round() {
        let mut cutoffs = Cutoffs { version: 1, ..Cutoffs::UNKNOWN };
        for _ in 0..200_000 {
            let next = Cutoffs { version: cutoffs.next_version(), ..cutoffs };
            assert!(next.stated() != 0 && next.stated() != cutoffs.stated() && cutoffs.is_older_than(&next));
            cutoffs = next;
        }
    }
}
