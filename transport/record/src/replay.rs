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

    const fn word(number: u64) -> usize {
        (number / 64 % WORDS) as usize
    }

    const fn bit(number: u64) -> u64 {
        1 << (number % 64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
