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

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    heap: BinaryHeap<Entry>,
    sequence: u64,
}

impl Queue {
    /// `what` happens at `at`.
    pub fn push(&mut self, at: Time, what: Happening) {
        self.sequence += 1;
        self.heap.push(Entry { at, sequence: self.sequence, what });
    }

    /// When something happens next.
    #[must_use]
    pub fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// What happens next.
    pub fn pop(&mut self) -> Option<(Time, Happening)> {
        self.heap.pop().map(|entry| (entry.at, entry.what))
    }

    /// How many things are to happen.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// How many things were ever put in.
    #[must_use]
    pub const fn pushed(&self) -> u64 {
        self.sequence
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
            assert_eq!(queue.next_at(), Some(at));
            assert_eq!(queue.pop(), Some((at, Happening::Alarm { token })));
        }
        assert!(queue.is_empty());
    }
}
