//! Owns what is to happen, in order: by time, and what was put in first goes first among what happens at one time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::clock::Time;

/// Something that is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A frame reaches the end of a port's link.
    Arrive {
        /// The frame.
        frame: u32,
        /// The port that it left by.
        port: u32,
    },
    /// A port has sent what it was sending.
    Free {
        /// The port.
        port: u32,
    },
    /// A host's timer.
    Wake {
        /// The host.
        host: u32,
    },
    /// Whoever drives the world wants to be called.
    Alarm {
        /// What for.
        token: u64,
    },
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Time,
    sequence: u64,
    what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    /// The other way round: the heap gives out its greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

/// Picoseconds of a slot, as a power of two: some 16 ns, in which a large network has a dozen things to do.
const SLOT_BITS: u32 = 14;
/// Slots, as a power of two: together some 130 us, beyond which hardly anything but timers lies.
const SLOTS_BITS: u32 = 13;
const SLOTS: u64 = 1 << SLOTS_BITS;

/// The queue: a wheel of slots for what is near, a heap for what is far. Only the slot that time is in is sorted.
#[derive(Debug)]
pub struct Queue {
    /// What happens in the slot that time is in, last first.
    now: Vec<Entry>,
    /// Which slot that is, counted from the beginning.
    slot: u64,
    /// The next `SLOTS - 1` slots, each at its number modulo `SLOTS`.
    wheel: Vec<Vec<Entry>>,
    /// Bit n: slot n of the wheel is not empty.
    occupied: Vec<u64>,
    in_wheel: usize,
    /// All that is later.
    far: BinaryHeap<Entry>,
    sequence: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            now: Vec::new(),
            slot: 0,
            wheel: (0..SLOTS).map(|_| Vec::new()).collect(),
            occupied: vec![0; SLOTS as usize / 64],
            in_wheel: 0,
            far: BinaryHeap::new(),
            sequence: 0,
        }
    }
}

impl Queue {
    /// `what` happens at `at`, which is not before what was taken out last.
    pub fn push(&mut self, at: Time, what: Happening) {
        self.sequence += 1;
        self.put(Entry { at, sequence: self.sequence, what });
    }

    fn put(&mut self, entry: Entry) {
        let slot = entry.at >> SLOT_BITS;
        if slot <= self.slot {
            // Sorted last first, as the heap's order is the other way round.
            let place = self.now.partition_point(|other| *other < entry);
            self.now.insert(place, entry);
        } else if slot - self.slot < SLOTS {
            let at = (slot % SLOTS) as usize;
            self.wheel[at].push(entry);
            self.occupied[at / 64] |= 1 << (at % 64);
            self.in_wheel += 1;
        } else {
            self.far.push(entry);
        }
    }

    /// The next slot of the wheel, from the current one on, that is not empty.
    fn next_occupied(&self) -> u64 {
        let begin = (self.slot + 1) % SLOTS;
        let mut word = (begin / 64) as usize;
        let mut bits = self.occupied[word] & (u64::MAX << (begin % 64));
        // Once around, and the first word's lower part again.
        for _ in 0..=self.occupied.len() {
            if bits != 0 {
                let at = word as u64 * 64 + u64::from(bits.trailing_zeros());
                return self.slot + 1 + (at + SLOTS - begin) % SLOTS;
            }
            word = (word + 1) % self.occupied.len();
            bits = self.occupied[word];
        }
        unreachable!("the wheel is not empty")
    }

    /// Moves on to the next slot in which something happens, if that begins by `until`. Not beyond: what is put in until then
    /// would have to be sorted in. `false` when there is none.
    fn turn(&mut self, until: Time) -> bool {
        let far = self.far.peek().map(|entry| entry.at >> SLOT_BITS);
        let near = (self.in_wheel > 0).then(|| self.next_occupied());
        let next = near.into_iter().chain(far).min();
        let Some(slot) = next.filter(|slot| *slot <= until >> SLOT_BITS) else { return false };
        self.slot = slot;
        if near == Some(slot) {
            let at = (slot % SLOTS) as usize;
            core::mem::swap(&mut self.now, &mut self.wheel[at]);
            self.occupied[at / 64] &= !(1 << (at % 64));
            self.in_wheel -= self.now.len();
            self.now.sort_unstable();
        }
        // What was far may be near by now.
        while self.far.peek().is_some_and(|entry| (entry.at >> SLOT_BITS) - slot < SLOTS) {
            let entry = self.far.pop().expect("it was just there");
            self.put(entry);
        }
        true
    }

    /// What happens next, if that is at `until` or before.
    pub fn pop(&mut self, until: Time) -> Option<(Time, Happening)> {
        if self.now.is_empty() && !self.turn(until) {
            return None;
        }
        self.now.pop_if(|entry| entry.at <= until).map(|entry| (entry.at, entry.what))
    }

    /// How many things are to happen.
    #[must_use]
    pub fn len(&self) -> usize {
        self.now.len() + self.in_wheel + self.far.len()
    }

    /// Whether nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn by_time_then_by_age() {
        let mut rng = Rng::new(7, 0);
        let mut queue = Queue::default();
        let mut expected = Vec::new();
        for token in 0..10_000 {
            let at = rng.below(500);
            queue.push(at, Happening::Alarm { token });
            expected.push((at, token));
        }
        expected.sort_unstable();
        for (at, token) in expected {
            assert_eq!(at.checked_sub(1).and_then(|before| queue.pop(before)), None);
            assert_eq!(queue.pop(at), Some((at, Happening::Alarm { token })));
        }
        assert!(queue.is_empty());
    }

    /// While things are put in and taken out, near and far, nothing comes too early, too late, or in the wrong order.
    #[test]
    fn near_and_far() {
        let mut rng = Rng::new(8, 0);
        let mut queue = Queue::default();
        let mut expected = std::collections::BTreeSet::new();
        let (mut now, mut token) = (0, 0);
        for _ in 0..200_000 {
            let push = expected.len() < 50 || rng.chance(0.49);
            if push {
                // From the same moment to some milliseconds, and now and then far more.
                let span = 1u64 << (rng.below(34) + if rng.chance(0.001) { 15 } else { 0 });
                let at = now + rng.below(span);
                token += 1;
                queue.push(at, Happening::Alarm { token });
                expected.insert((at, token));
            } else {
                let (at, token) = expected.pop_first().expect("it is not empty");
                assert_eq!(at.checked_sub(1).and_then(|before| queue.pop(before)), None);
                assert_eq!(queue.pop(Time::MAX), Some((at, Happening::Alarm { token })));
                now = at;
            }
            assert_eq!(queue.len(), expected.len());
        }
    }
}
