//! Owns the memory of which control packets were already seen.
//!
//! It may be told of a packet only after its tag verified; until then it is asked, never changed. It forgets the oldest
//! and then refuses it, so a control packet may be lost that way: it is only a hint, and another follows. What must be
//! exact, the sequences of RPCs, has a memory of its own in the state machine.

/// Words of the bitmap of a [`Window`]; a power of two.
const WORDS: u64 = 32;

/// How far below the highest packet number a [`Window`] can tell new from seen. One word less than the bitmap holds:
/// the word at the edge is shared by the newest and what would be the oldest.
pub const WINDOW_SPAN: u64 = (WORDS - 1) * 64;

/// Anti-replay window for packet numbers: a bitmap that slides with the highest (the scheme of RFC 6479).
#[derive(Clone, Debug)]
pub struct Window {
    highest: u64,
    words: [u64; WORDS as usize],
}

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

impl Window {
    /// Nothing seen.
    pub const fn new() -> Self {
        Self { highest: 0, words: [0; WORDS as usize] }
    }

    /// Whether `number` may be new: neither committed nor too old to tell. Changes nothing.
    pub const fn check(&self, number: u64) -> bool {
        if number > self.highest {
            return true;
        }
        self.highest - number < WINDOW_SPAN && self.words[Self::word(number)] & Self::bit(number) == 0
    }

    /// Marks `number` as seen, whose tag verified after [`Window::check`] allowed it. A number too old to be in the
    /// window stays refused as it is.
    pub fn commit(&mut self, number: u64) {
        if number > self.highest {
            // The words that the window now enters hold numbers from a round before.
            let (old, new) = (self.highest / 64, number / 64);
            for word in 1..=(new - old).min(WORDS) {
                self.words[Self::word((old + word) * 64)] = 0;
            }
            self.highest = number;
        } else if self.highest - number >= WINDOW_SPAN {
            return;
        }
        self.words[Self::word(number)] |= Self::bit(number);
    }

    /// What is kept of it while its session rests.
    pub(crate) fn marks(&self) -> Marks {
        let seen = |back: &u64| *back <= self.highest && !self.check(self.highest - back);
        Marks { highest: self.highest, recent: (0..MARKS_SPAN).filter(seen).map(|back| 1 << back).sum() }
    }

    const fn word(number: u64) -> usize {
        (number / 64 % WORDS) as usize
    }

    const fn bit(number: u64) -> u64 {
        1 << (number % 64)
    }
}

/// How far below the highest packet number [`Marks`] can tell new from seen.
const MARKS_SPAN: u64 = 64;

/// A [`Window`] in two words: what is further back than these reach, it takes for seen. So a packet that was late may be lost, and none
/// is taken twice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    highest: u64,
    /// Bit `n`: the number that is `n` below the highest was seen.
    recent: u64,
}

impl Marks {
    /// Whether `number` may be new.
    pub(crate) const fn check(&self, number: u64) -> bool {
        if number > self.highest {
            return true;
        }
        let back = self.highest - number;
        back < MARKS_SPAN && self.recent >> back & 1 == 0
    }

    /// The window again.
    pub(crate) fn window(&self) -> Window {
        let mut window = Window { highest: self.highest, words: [u64::MAX; WORDS as usize] };
        // Numbers of the highest one's word that are still to come, and those that are known not to have been.
        let ahead = (self.highest..=self.highest | 63).skip(1);
        let back = (0..MARKS_SPAN.min(self.highest.saturating_add(1))).map(|back| self.highest - back);
        for number in ahead.chain(back.filter(|number| self.check(*number))) {
            window.words[Window::word(number)] &= !Window::bit(number);
        }
        window
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn window_refuses_what_it_saw_and_what_it_cannot_know(
            base in prop_oneof![Just(0_u64), any::<u64>(), Just(u64::MAX - 10_000)],
            steps in prop::collection::vec(
                prop_oneof![8 => -40_i64..40, 3 => -2100_i64..2100, 1 => -5000_i64..9000],
                1..300,
            ),
        ) {
            let mut window = Window::new();
            let mut seen: BTreeSet<u64> = BTreeSet::new();
            let mut at = base;
            for step in steps {
                at = at.saturating_add_signed(step);
                let highest = seen.last().copied().unwrap_or(0);
                let stale = highest.saturating_sub(at) >= WINDOW_SPAN;
                let expected = !stale && !seen.contains(&at);
                prop_assert_eq!(window.check(at), expected, "{} after {}", at, highest);
                if expected {
                    window.commit(at);
                    seen.insert(at);
                    prop_assert!(!window.check(at));
                }
            }
            // All of the window, not only what was asked for on the way.
            let highest = seen.last().copied().unwrap_or(0);
            for number in highest.saturating_sub(2 * WINDOW_SPAN)..=highest {
                let expected = highest - number < WINDOW_SPAN && !seen.contains(&number);
                prop_assert_eq!(window.check(number), expected, "{} below {}", number, highest);
            }
        }
    }

    proptest! {
        /// A window that rests time and again takes nothing that it saw, and all that is higher than that.
        #[test]
        fn marks_take_nothing_twice(
            base in prop_oneof![Just(0_u64), any::<u64>(), Just(u64::MAX - 3_000)],
            steps in prop::collection::vec((-80_i64..100, any::<bool>()), 1..200),
        ) {
            let mut window = Window::new();
            let mut seen: BTreeSet<u64> = BTreeSet::new();
            let mut at = base;
            for (step, rests) in steps {
                at = at.saturating_add_signed(step);
                if rests {
                    let marks = window.marks();
                    window = marks.window();
                    prop_assert_eq!(marks.check(at), window.check(at), "marks and their window agree on {}", at);
                }
                prop_assert!(!seen.contains(&at) || !window.check(at), "{} was seen", at);
                prop_assert!(seen.last().is_some_and(|highest| *highest >= at) || window.check(at), "{} is new", at);
                if window.check(at) {
                    window.commit(at);
                    seen.insert(at);
                }
            }
        }

        /// Without anything that came between, marks know all of the last 64 numbers.
        #[test]
        fn marks_know_the_last(highest in any::<u64>(), recent in any::<u64>()) {
            let mut window = Window::new();
            let back: Vec<u64> = (0..64).filter(|back| recent >> back & 1 == 1 && *back <= highest).collect();
            back.iter().rev().for_each(|back| window.commit(highest - back));
            window.commit(highest);
            let marks = window.marks().window();
            for number in highest.saturating_sub(63)..=highest.saturating_add(70) {
                prop_assert_eq!(marks.check(number), window.check(number), "{} of {}", number, highest);
            }
        }
    }

    #[test]
    fn a_leap_empties_the_whole_window() {
        let mut window = Window::new();
        for number in 0..WINDOW_SPAN {
            window.commit(number);
        }
        let far = u64::MAX - 5;
        window.commit(far);
        assert!(!window.check(far) && !window.check(WINDOW_SPAN - 1));
        assert!((1..WINDOW_SPAN).all(|back| window.check(far - back)));
        window.commit(u64::MAX);
        assert!(!window.check(u64::MAX) && !window.check(far) && window.check(u64::MAX - 1));
    }

    #[test]
    fn a_stale_commit_does_not_touch_the_newer_number_in_its_place() {
        let mut window = Window::new();
        window.commit(WORDS * 64 + 63);
        window.commit(1);
        assert!(!window.check(1) && window.check(WORDS * 64 + 1));
    }

    const _: () = assert!(WINDOW_SPAN >= 1024 && WORDS.is_power_of_two());
}
