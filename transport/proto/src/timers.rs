//! Owns when RPCs want to be looked at: one timer for each, which most never need.
//!
//! Nearly every timer is taken back before it rings, and set again for the next RPC in the same slot. So a timer is only a time that its
//! slot has, and taking it back is forgetting that. What stands in order are entries: a slot with a timer has one that is no later, and where
//! that turns out to be too early it is made anew. An entry outlives the RPC that it was made for, and serves the next one in its slot.

use alloc::collections::{BinaryHeap, VecDeque};
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::time::Instant;

/// Entries beside two for each slot before those that nobody needs any more are swept.
const STALE_MAX: usize = 64;

/// What is kept of one slot.
#[derive(Clone, Copy, Debug)]
struct Timer {
    /// When it rings; [`Instant::FAR`] for never.
    at: Instant,
    /// When its first entry is; [`Instant::FAR`] while it has none.
    entered: Instant,
}

impl Timer {
    const NONE: Self = Self { at: Instant::FAR, entered: Instant::FAR };
}

/// Timers by slot.
///
/// Memory is 16 bytes per slot up to the highest ever used, and 16 for each entry: no more than two per slot and a few.
#[derive(Debug, Default)]
pub struct Timers {
    timers: Vec<Timer>,
    /// Entries each of which is no earlier than the one before: of timers that were set, and of those that were looked at too early. Both
    /// come in order, mostly.
    runs: [VecDeque<(Instant, u32)>; 2],
    /// The others.
    odd: BinaryHeap<Reverse<(Instant, u32)>>,
}

impl Timers {
    /// Sets the timer of `slot`, whether it has one or not.
    #[inline]
    pub fn set(&mut self, slot: u32, at: Instant) {
        if slot as usize >= self.timers.len() {
            self.timers.resize(slot as usize + 1, Timer::NONE);
        }
        let timer = &mut self.timers[slot as usize];
        timer.at = at;
        if at < timer.entered {
            timer.entered = at;
            self.enter(at, slot);
        }
    }

    /// Takes the timer of `slot` back, if it has one.
    #[inline]
    pub fn remove(&mut self, slot: u32) {
        if let Some(timer) = self.timers.get_mut(slot as usize) {
            timer.at = Instant::FAR;
        }
    }

    /// No timer rings before this; perhaps none does then.
    #[inline]
    pub fn not_before(&self) -> Instant {
        self.first_entry().map_or(Instant::FAR, |(at, _)| at)
    }

    /// When the first timer rings, if that is not after `until`; else something later than `until`.
    pub fn first(&mut self, until: Instant) -> Instant {
        self.settle(until).map_or_else(|| self.not_before(), |(at, _)| at)
    }

    /// Takes out the first timer that has rung by `now`.
    pub fn pop(&mut self, now: Instant) -> Option<u32> {
        let first = self.settle(now)?;
        self.leave(first);
        let (_, slot) = first;
        self.timers[slot as usize] = Timer::NONE;
        Some(slot)
    }

    /// There are no RPCs: nothing rings.
    pub fn clear(&mut self) {
        if self.entries() > 0 {
            self.timers.fill(Timer::NONE);
            self.runs.iter_mut().for_each(VecDeque::clear);
            self.odd.clear();
        }
    }

    /// The first timer, if it rings by `until`: then its entry is the first.
    fn settle(&mut self, until: Instant) -> Option<(Instant, u32)> {
        while let Some((at, slot)) = self.first_entry().filter(|(at, _)| *at <= until) {
            let timer = &mut self.timers[slot as usize];
            if timer.entered == at {
                if timer.at == at {
                    return Some((at, slot));
                }
                let later = timer.at;
                timer.entered = later;
                self.leave((at, slot));
                if later != Instant::FAR {
                    self.enter(later, slot);
                }
            } else {
                self.leave((at, slot));
            }
        }
        None
    }

    fn entries(&self) -> usize {
        self.runs[0].len() + self.runs[1].len() + self.odd.len()
    }

    #[inline]
    fn first_entry(&self) -> Option<(Instant, u32)> {
        let odd = self.odd.peek().map(|Reverse(entry)| entry);
        self.runs.iter().filter_map(VecDeque::front).chain(odd).min().copied()
    }

    /// Takes out `first`, which is the first entry.
    fn leave(&mut self, first: (Instant, u32)) {
        match self.runs.iter_mut().find(|run| run.front() == Some(&first)) {
            Some(run) => drop(run.pop_front()),
            None => drop(self.odd.pop()),
        }
    }

    fn enter(&mut self, at: Instant, slot: u32) {
        match self.runs.iter_mut().find(|run| run.back().is_none_or(|last| *last <= (at, slot))) {
            Some(run) => run.push_back((at, slot)),
            None => self.odd.push(Reverse((at, slot))),
        }
        if self.entries() > 2 * self.timers.len() + STALE_MAX {
            let Self { timers, runs, odd } = self;
            let is_first = |at: &Instant, slot: &u32| timers[*slot as usize].entered == *at;
            runs.iter_mut().for_each(|run| run.retain(|(at, slot)| is_first(at, slot)));
            odd.retain(|Reverse((at, slot))| is_first(at, slot));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Set(u32, u64),
        Remove(u32),
        Pass(u64),
        First(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (0..8_u32, 0..60_u64).prop_map(|(slot, after)| Act::Set(slot, after)),
            2 => (0..8_u32).prop_map(Act::Remove),
            2 => (0..40_u64).prop_map(Act::Pass),
            1 => (0..60_u64).prop_map(Act::First),
        ]
    }

    proptest! {
        /// Timers ring when they were last set to, first things first, and none that was taken back; what is kept stays within its bound.
        #[test]
        fn rings_like_a_plain_map(acts in prop::collection::vec(act(), 0..400)) {
            let mut timers = Timers::default();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let (mut now, at) = (0, Instant::from_nanos);
            for act in acts {
                let first = model.values().min().copied();
                match act {
                    Act::Set(slot, after) => {
                        timers.set(slot, at(now + after));
                        model.insert(slot, now + after);
                    }
                    Act::Remove(slot) => {
                        timers.remove(slot);
                        model.remove(&slot);
                    }
                    Act::Pass(span) => {
                        now += span;
                        let rung: Vec<u32> = core::iter::from_fn(|| timers.pop(at(now))).collect();
                        let mut due: Vec<(u64, u32)> =
                            model.iter().filter(|(_, at)| **at <= now).map(|(slot, at)| (*at, *slot)).collect();
                        due.sort_unstable();
                        prop_assert_eq!(rung, due.iter().map(|(_, slot)| *slot).collect::<Vec<_>>());
                        model.retain(|_, at| *at > now);
                    }
                    Act::First(span) => {
                        let until = now + span;
                        match first.filter(|first| *first <= until) {
                            Some(first) => prop_assert_eq!(timers.first(at(until)), at(first)),
                            None => prop_assert!(timers.first(at(until)) > at(until)),
                        }
                    }
                }
                let first = model.values().min().map_or(Instant::FAR, |first| at(*first));
                prop_assert!(timers.not_before() <= first);
                prop_assert!(timers.entries() <= 2 * timers.timers.len() + STALE_MAX);
            }
        }
    }

    /// What is set and taken back again and again needs no entry for each time.
    #[test]
    fn what_never_rings_costs_nothing() {
        let mut timers = Timers::default();
        for n in 0..10_000 {
            timers.set(3, Instant::from_nanos(1_000_000 + n));
            timers.remove(3);
        }
        assert_eq!(timers.entries(), 1);
        assert_eq!(timers.first(Instant::from_nanos(5_000_000)), Instant::FAR, "it is found to be nobody's");
    }

    /// Entries that a nearer one replaced are swept, however far away they are.
    #[test]
    fn entries_are_bounded() {
        let mut timers = Timers::default();
        for n in 0..10_000 {
            timers.set(0, Instant::from_nanos(1 << 50));
            timers.set(0, Instant::from_nanos(n));
            assert_eq!(timers.pop(Instant::from_nanos(n)), Some(0));
            assert!(timers.entries() <= STALE_MAX + 2);
        }
    }
}
