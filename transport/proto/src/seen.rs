//! Owns the exact memory of which sequences of a peer are finished. [P-7.1] [P-7.2]
//!
//! It may be told of something only after its tag verified; until then it is asked, never changed. When memory runs out
//! it refuses what it could not remember, so a request never runs twice and a late one is never taken for a repeat.

use alloc::collections::VecDeque;

use wire::ids::RpcId;

/// Sequences are 44 bits: this is the first number that is none.
pub const SEQUENCE_END: u64 = RpcId::SEQUENCE_MAX + 1;

/// What [`Seen`] knows of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Never inserted.
    New,
    /// Inserted before.
    Seen,
    /// Below the floor that the peer stated: finished, whether or not it ever came here.
    BelowFloor,
    /// Too far above the floor: the peer may not be that far ahead. Also what is no sequence at all.
    BeyondWindow,
    /// Never inserted, and there is no room to remember it: to be refused now; it may come again.
    Full,
}

/// Exact memory of the sequences that one peer used in one role.
///
/// All below the *mark* are finished; above it is a sorted list of disjoint intervals `start..end`, none touching the
/// next nor the mark. A peer that uses its sequences in order costs one comparison each and no memory at all.
#[derive(Clone, Debug)]
pub struct Seen {
    window: u64,
    intervals_max: usize,
    floor: u64,
    mark: u64,
    intervals: VecDeque<(u64, u64)>,
}

/// Where a new sequence goes that is not the next.
enum Place {
    /// The interval of this index grows at its end, and may then touch the next.
    End(usize),
    /// The interval of this index grows at its start.
    Start(usize),
    /// An interval of its own, before that of this index.
    Own(usize),
}

impl Seen {
    /// Nothing seen; the floor is 0.
    ///
    /// Sequences in `[floor, floor + window)` are taken; at most `intervals_max` gaps between them can be remembered
    /// (16 bytes each, allotted when needed and then kept).
    pub const fn new(window: u64, intervals_max: usize) -> Self {
        Self { window, intervals_max, floor: 0, mark: 0, intervals: VecDeque::new() }
    }

    /// One that knows what another did: see [`Self::into_parts`]. `limits` are the window and how many intervals are remembered.
    pub(crate) const fn from_parts(
        limits: (u64, usize),
        mark: u64,
        intervals: VecDeque<(u64, u64)>,
        floor: u64,
    ) -> Self {
        Self { window: limits.0, intervals_max: limits.1, floor, mark, intervals }
    }

    /// All that it knows: floor, mark, and the intervals above that.
    pub(crate) fn into_parts(self) -> (u64, u64, VecDeque<(u64, u64)>) {
        (self.floor, self.mark, self.intervals)
    }

    /// All below are finished.
    pub const fn mark(&self) -> u64 {
        self.mark
    }

    /// The highest floor that the peer stated.
    pub const fn floor(&self) -> u64 {
        self.floor
    }

    /// How many intervals are remembered above the mark.
    pub fn intervals(&self) -> usize {
        self.intervals.len()
    }

    /// Whether `seq` is the one that comes next in order, and may come.
    #[inline]
    const fn is_next(&self, seq: u64) -> bool {
        seq == self.mark && seq < SEQUENCE_END && seq - self.floor < self.window
    }

    /// What is known of `seq`. Changes nothing.
    #[inline]
    pub fn state(&self, seq: u64) -> Verdict {
        if self.is_next(seq) {
            return Verdict::New;
        }
        match self.place(seq) {
            Ok(_) => Verdict::New,
            Err(verdict) => verdict,
        }
    }

    /// Remembers `seq`, whose tag verified. [`Verdict::New`] says that it was new and is remembered from now on; any
    /// other verdict changes nothing.
    #[inline]
    pub fn insert(&mut self, seq: u64) -> Verdict {
        if !self.is_next(seq) {
            return self.insert_beside(seq);
        }
        self.mark = seq + 1;
        if !self.intervals.is_empty() {
            self.join_mark();
        }
        Verdict::New
    }

    fn insert_beside(&mut self, seq: u64) -> Verdict {
        let place = match self.place(seq) {
            Ok(place) => place,
            Err(verdict) => return verdict,
        };
        match place {
            Place::End(i) => {
                self.intervals[i].1 = seq + 1;
                if self.intervals.get(i + 1).is_some_and(|next| next.0 == seq + 1) {
                    let (_, end) = self.intervals.remove(i + 1).expect("it was just looked at");
                    self.intervals[i].1 = end;
                }
            }
            Place::Start(i) => self.intervals[i].0 = seq,
            Place::Own(i) => self.intervals.insert(i, (seq, seq + 1)),
        }
        Verdict::New
    }

    /// The peer stated, under a tag that verified, that all below `floor` are finished. Floors only rise: a lower one is
    /// an old packet that came late.
    pub fn raise_floor(&mut self, floor: u64) {
        let floor = floor.min(SEQUENCE_END);
        if floor <= self.floor {
            return;
        }
        self.floor = floor;
        if floor > self.mark {
            self.mark = floor;
            self.join_mark();
        }
    }

    /// Takes the intervals that the mark has reached, the last of them perhaps in its middle.
    fn join_mark(&mut self) {
        while let Some(&(start, end)) = self.intervals.front() {
            if start > self.mark {
                break;
            }
            self.mark = self.mark.max(end);
            self.intervals.pop_front();
        }
    }

    /// Where `seq`, which is not the next, would go, or why it will not.
    fn place(&self, seq: u64) -> Result<Place, Verdict> {
        if seq < self.mark {
            return Err(if seq < self.floor { Verdict::BelowFloor } else { Verdict::Seen });
        }
        if seq - self.floor >= self.window || seq >= SEQUENCE_END {
            return Err(Verdict::BeyondWindow);
        }
        // In order behind a gap, the common case after a loss: the last interval grows.
        let i = match self.intervals.back() {
            Some(&(start, _)) if start <= seq => self.intervals.len(),
            Some(_) => self.intervals.partition_point(|&(start, _)| start <= seq),
            None => 0,
        };
        if let Some(before) = i.checked_sub(1) {
            let end = self.intervals[before].1;
            if seq < end {
                return Err(Verdict::Seen);
            }
            if seq == end {
                return Ok(Place::End(before));
            }
        }
        if self.intervals.get(i).is_some_and(|after| after.0 == seq + 1) {
            return Ok(Place::Start(i));
        }
        if self.intervals.len() >= self.intervals_max {
            return Err(Verdict::Full);
        }
        Ok(Place::Own(i))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const LAST: u64 = SEQUENCE_END - 1;

    /// The same memory, told plainly.
    struct Model {
        window: u64,
        intervals_max: usize,
        floor: u64,
        seen: BTreeSet<u64>,
    }

    impl Model {
        fn mark(&self) -> u64 {
            (self.floor..).find(|seq| !self.seen.contains(seq)).unwrap()
        }

        fn intervals(&self) -> usize {
            let above = self.seen.range(self.mark()..);
            above.filter(|&&seq| !self.seen.contains(&(seq - 1))).count()
        }

        fn state(&self, seq: u64) -> Verdict {
            let touches = seq == self.mark()
                || self.seen.contains(&(seq + 1))
                || seq > self.floor && self.seen.contains(&(seq - 1));
            if seq < self.floor {
                Verdict::BelowFloor
            } else if self.seen.contains(&seq) {
                Verdict::Seen
            } else if seq >= self.floor + self.window {
                Verdict::BeyondWindow
            } else if !touches && self.intervals() >= self.intervals_max {
                Verdict::Full
            } else {
                Verdict::New
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Act {
        Insert(u64),
        /// Relative to the mark: the case of every day.
        InsertNear(u64),
        Floor(u64),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            6 => (0_u64..150).prop_map(Act::Insert),
            6 => (0_u64..12).prop_map(Act::InsertNear),
            1 => (0_u64..120).prop_map(Act::Floor),
        ];
        prop::collection::vec(act, 0..200)
    }

    proptest! {
        /// [P-7.1] [P-7.2] Told any sequences and floors, it answers as a plain set would.
        #[test]
        fn seen_is_exact(acts in acts(), window in 1_u64..140, intervals_max in 0_usize..8) {
            let mut seen = Seen::new(window, intervals_max);
            let mut model = Model { window, intervals_max, floor: 0, seen: BTreeSet::new() };
            for act in acts {
                match act {
                    Act::Insert(_) | Act::InsertNear(_) => {
                        let seq = match act {
                            Act::Insert(seq) => seq,
                            Act::InsertNear(ahead) => model.mark() + ahead,
                            Act::Floor(_) => unreachable!(),
                        };
                        let expected = model.state(seq);
                        prop_assert_eq!(seen.state(seq), expected);
                        prop_assert_eq!(seen.insert(seq), expected);
                        if expected == Verdict::New {
                            model.seen.insert(seq);
                        }
                    }
                    Act::Floor(floor) => {
                        seen.raise_floor(floor);
                        model.floor = model.floor.max(floor);
                        model.seen = model.seen.split_off(&model.floor);
                    }
                }
                prop_assert_eq!(seen.mark(), model.mark());
                prop_assert_eq!(seen.floor(), model.floor);
                prop_assert_eq!(seen.intervals(), model.intervals());
                prop_assert!(seen.intervals() <= intervals_max);
            }
            for seq in 0..300 {
                prop_assert_eq!(seen.state(seq), model.state(seq), "{}", seq);
            }
        }
    }

    #[test]
    fn in_order_needs_no_memory() {
        let mut seen = Seen::new(1 << 20, 64);
        for seq in 0..10_000 {
            assert_eq!(seen.insert(seq), Verdict::New);
            assert_eq!(seen.insert(seq), Verdict::Seen);
            assert!(seen.intervals.capacity() == 0 && seen.mark() == seq + 1);
        }
    }

    #[test]
    fn reordering_stops_to_allocate() {
        let mut seen = Seen::new(1 << 20, 64);
        let mut capacity = 0;
        for round in 0..1000_u64 {
            for i in (0..20).rev() {
                assert_eq!(seen.insert(round * 20 + i), Verdict::New);
            }
            seen.raise_floor(round * 20);
            if round == 0 {
                capacity = seen.intervals.capacity();
            }
        }
        assert_eq!(seen.intervals.capacity(), capacity);
    }

    #[test]
    fn a_full_memory_still_takes_what_closes_gaps() {
        let mut seen = Seen::new(1 << 20, 3);
        for seq in [10, 20, 30] {
            assert_eq!(seen.insert(seq), Verdict::New);
        }
        assert_eq!(seen.insert(40), Verdict::Full);
        assert_eq!(seen.state(40), Verdict::Full, "a refusal is not remembered");
        assert_eq!([seen.insert(31), seen.insert(9), seen.insert(0)], [Verdict::New; 3]);
        seen.raise_floor(15);
        assert_eq!(seen.insert(40), Verdict::New);
        assert_eq!(seen.state(12), Verdict::BelowFloor);
    }

    #[test]
    fn the_last_sequence_and_the_highest_floor() {
        let mut seen = Seen::new(1 << 20, 3);
        assert_eq!(seen.insert(LAST), Verdict::BeyondWindow);
        seen.raise_floor(LAST);
        assert_eq!(seen.insert(LAST), Verdict::New);
        assert_eq!(seen.mark(), SEQUENCE_END);
        assert_eq!(seen.insert(SEQUENCE_END), Verdict::BeyondWindow);
        seen.raise_floor(u64::MAX);
        assert_eq!((seen.floor(), seen.mark()), (SEQUENCE_END, SEQUENCE_END));
        assert_eq!(seen.state(LAST), Verdict::BelowFloor);
        assert_eq!(seen.insert(u64::MAX), Verdict::BeyondWindow);
    }
}
