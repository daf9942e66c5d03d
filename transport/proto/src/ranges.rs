//! Owns the set of records of one message that have arrived, and the question which are missing.
//!
//! One bit per record. A message of up to 64 records needs no memory beside the value itself; longer ones keep their
//! words for the next message in the same slot. Refuses indexes that the message does not have: those are refused to the
//! peer before they come here.

use alloc::vec::Vec;
use core::fmt;

/// The most records of a message. [`wire::limits`]
const RECORDS_MAX: u32 = wire::limits::RECORDS_MAX as u32;

/// Which of the records `0..len` of a message have arrived.
#[derive(Clone, Default)]
pub struct Bits {
    /// The bits 0 to 63, here so that a short message allocates nothing.
    first: u64,
    /// The bits from 64 on.
    rest: Vec<u64>,
    len: u32,
    count: u32,
    /// The first that is missing, or `len`.
    lead: u32,
}

impl Bits {
    /// The set for a message without records.
    pub const fn new() -> Self {
        Self { first: 0, rest: Vec::new(), len: 0, count: 0, lead: 0 }
    }

    /// Begins anew, for a message of `len` records of which none has arrived. Keeps the memory it has.
    ///
    /// # Panics
    /// When `len` is more than [`wire::limits::RECORDS_MAX`].
    pub fn reset(&mut self, len: u32) {
        assert!(len <= RECORDS_MAX, "a message of too many records");
        self.rest.clear();
        self.rest.resize(len.div_ceil(64).saturating_sub(1) as usize, 0);
        (self.first, self.len, self.count, self.lead) = (0, len, 0, 0);
    }

    /// How many records the message has.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether the message has no records.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many have arrived.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether all have arrived.
    pub const fn is_complete(&self) -> bool {
        self.count == self.len
    }

    /// How many have arrived without a gap, from the first on.
    pub const fn contiguous(&self) -> u32 {
        self.lead
    }

    /// The first that is missing.
    pub const fn first_missing(&self) -> Option<u32> {
        if self.lead < self.len { Some(self.lead) } else { None }
    }

    /// Whether record `i` has arrived. Of what the message does not have, nothing has.
    pub fn contains(&self, i: u32) -> bool {
        i < self.len && self.word(i) & bit(i) != 0
    }

    /// Notes that record `i` has arrived; whether that is new.
    ///
    /// # Panics
    /// When the message has no record `i`.
    pub fn set(&mut self, i: u32) -> bool {
        assert!(i < self.len, "record {i} of {}", self.len);
        let word = if i < 64 { &mut self.first } else { &mut self.rest[i as usize / 64 - 1] };
        if *word & bit(i) != 0 {
            return false;
        }
        *word |= bit(i);
        self.count += 1;
        if i == self.lead {
            self.lead = self.next(i + 1, false);
        }
        true
    }

    /// Notes that record `i` is not here any more; whether it was.
    pub fn clear(&mut self, i: u32) -> bool {
        if !self.contains(i) {
            return false;
        }
        let word = if i < 64 { &mut self.first } else { &mut self.rest[i as usize / 64 - 1] };
        *word &= !bit(i);
        self.count -= 1;
        self.lead = self.lead.min(i);
        true
    }

    /// Those that are missing here and in `other`, below `bound`, as ranges `(start, end)`, in order and as long as they can be.
    pub fn missing_in_both<'a>(&'a self, other: &'a Self, bound: u32) -> Missing<'a> {
        Missing { other: Some(other), ..self.missing(bound) }
    }

    /// The missing ones below `bound`, as ranges `(start, end)`, in order and as long as they can be.
    pub fn missing(&self, bound: u32) -> Missing<'_> {
        Missing { bits: self, other: None, at: self.lead, bound: bound.min(self.len) }
    }

    /// The first from `i` on that has arrived, or has not; `len` if there is none.
    fn next(&self, mut i: u32, arrived: bool) -> u32 {
        while i < self.len {
            let word = if arrived { self.word(i) } else { !self.word(i) };
            let left = word & (u64::MAX << (i % 64));
            i &= !63;
            if left != 0 {
                // Never past the end: the bits from `len` on are clear, so bit `len` itself looks missing.
                return i + left.trailing_zeros();
            }
            i += 64;
        }
        self.len
    }

    /// The word that holds bit `i`.
    fn word(&self, i: u32) -> u64 {
        if i < 64 { self.first } else { self.rest[i as usize / 64 - 1] }
    }
}

const fn bit(i: u32) -> u64 {
    1 << (i % 64)
}

impl fmt::Debug for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}, missing ", self.count, self.len)?;
        f.debug_list().entries(self.missing(self.len).map(|(start, end)| start..end)).finish()
    }
}

/// Ranges of missing records. Made by [`Bits::missing`].
#[derive(Clone, Debug)]
pub struct Missing<'a> {
    bits: &'a Bits,
    other: Option<&'a Bits>,
    at: u32,
    bound: u32,
}

impl Iterator for Missing<'_> {
    type Item = (u32, u32);

    fn next(&mut self) -> Option<(u32, u32)> {
        let mut start = self.bits.next(self.at, false);
        while let Some(other) = self.other.filter(|other| other.contains(start)) {
            start = self.bits.next(other.next(start, false), false);
        }
        if start >= self.bound {
            return None;
        }
        let mut end = self.bits.next(start, true).min(self.bound);
        if let Some(other) = self.other.filter(|other| !other.is_empty()) {
            end = end.min(other.next(start, true));
        }
        self.at = end;
        Some((start, end))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// Messages around the borders of words, and a few that are long.
    fn lengths() -> impl Strategy<Value = u32> {
        prop_oneof![3 => 0_u32..10, 4 => 60_u32..70, 3 => 100_u32..300, 1 => Just(RECORDS_MAX)]
    }

    fn missing(arrived: &BTreeSet<u32>, bound: u32) -> Vec<(u32, u32)> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for i in (0..bound).filter(|i| !arrived.contains(i)) {
            match ranges.last_mut() {
                Some((_, end)) if *end == i => *end = i + 1,
                _ => ranges.push((i, i + 1)),
            }
        }
        ranges
    }

    proptest! {
        #[test]
        fn is_a_set_of_indexes(
            messages in prop::collection::vec(
                (lengths(), prop::collection::vec(any::<prop::sample::Index>(), 0..300), any::<prop::sample::Index>()),
                1..5,
            ),
        ) {
            // One value for all messages: what is reused must not remember.
            let mut bits = Bits::new();
            for (len, order, bound) in messages {
                bits.reset(len);
                let mut arrived = BTreeSet::new();
                for i in order.iter().filter(|_| len > 0).map(|i| i.index(len as usize) as u32) {
                    prop_assert_eq!(bits.set(i), arrived.insert(i));
                    let lead = (0..).find(|i| !arrived.contains(i)).unwrap();
                    prop_assert_eq!(bits.contiguous(), lead);
                    prop_assert_eq!(bits.first_missing(), (lead < len).then_some(lead));
                    prop_assert_eq!(bits.count(), arrived.len() as u32);
                }
                prop_assert_eq!(bits.is_complete(), arrived.len() as u32 == len);
                prop_assert!((0..len + 130).all(|i| bits.contains(i) == arrived.contains(&i)));
                for bound in [0, bound.index(len as usize + 1) as u32, len, u32::MAX] {
                    let ranges: Vec<_> = bits.missing(bound).collect();
                    prop_assert_eq!(ranges, missing(&arrived, bound.min(len)), "below {}", bound);
                }
            }
        }

        #[test]
        fn what_two_sets_miss(len in 1_u32..300, acts in prop::collection::vec((any::<prop::sample::Index>(), 0u8..4), 0..400), bound in 0_u32..310) {
            let (mut a, mut b) = (Bits::new(), Bits::new());
            a.reset(len);
            b.reset(len);
            let (mut in_a, mut in_b) = (BTreeSet::new(), BTreeSet::new());
            for (i, act) in acts {
                let i = i.index(len as usize) as u32;
                match act {
                    0 => prop_assert_eq!(a.set(i), in_a.insert(i)),
                    1 => prop_assert_eq!(a.clear(i), in_a.remove(&i)),
                    2 => prop_assert_eq!(b.set(i), in_b.insert(i)),
                    _ => prop_assert_eq!(b.clear(i), in_b.remove(&i)),
                }
                prop_assert_eq!(a.contiguous(), (0..).find(|i| !in_a.contains(i)).unwrap());
                prop_assert_eq!(a.count(), in_a.len() as u32);
            }
            let both: BTreeSet<u32> = in_a.union(&in_b).copied().collect();
            let ranges: Vec<_> = a.missing_in_both(&b, bound).collect();
            prop_assert_eq!(ranges, missing(&both, bound.min(len)));
            let none = Bits::new();
            let ranges: Vec<_> = a.missing_in_both(&none, bound).collect();
            prop_assert_eq!(ranges, missing(&in_a, bound.min(len)));
        }

        #[test]
        fn every_order_completes(len in 1_u32..400, seed in prop::collection::vec(any::<u32>(), 400)) {
            let mut order: Vec<u32> = (0..len).collect();
            order.sort_by_key(|&i| seed[i as usize]);
            let mut bits = Bits::new();
            bits.reset(len);
            for &i in &order {
                prop_assert!(!bits.is_complete() && bits.first_missing().is_some());
                prop_assert!(bits.set(i) && !bits.set(i));
            }
            prop_assert!(bits.is_complete() && bits.first_missing().is_none());
            prop_assert_eq!((bits.contiguous(), bits.missing(len).count()), (len, 0));
        }
    }

    #[test]
    fn short_messages_allocate_nothing_and_long_ones_once() {
        let mut bits = Bits::new();
        for len in 0..=64 {
            bits.reset(len);
            assert_eq!(bits.rest.capacity(), 0);
        }
        bits.reset(RECORDS_MAX);
        let room = (bits.rest.as_ptr(), bits.rest.capacity());
        for len in [3, 65, RECORDS_MAX, 1000, 64, RECORDS_MAX] {
            bits.reset(len);
            assert_eq!((bits.rest.as_ptr(), bits.rest.capacity()), room);
        }
    }

    #[test]
    fn reads_as_what_is_missing() {
        let mut bits = Bits::new();
        bits.reset(70);
        for i in (0..70).filter(|i| ![3, 4, 69].contains(i)) {
            bits.set(i);
        }
        assert_eq!(std::format!("{bits:?}"), "67 of 70, missing [3..5, 69..70]");
    }

    #[test]
    #[should_panic(expected = "record 5 of 5")]
    fn a_record_that_the_message_does_not_have_is_our_bug() {
        let mut bits = Bits::new();
        bits.reset(5);
        bits.set(5);
    }
}
