//! Owns a priority queue over slots of a table: who is next, and what if somebody's key changes.
//!
//! Most keys come in order: timers of equal patience, messages of equal length by age. What comes in order stands in a run, where
//! coming and going cost a few instructions however many there are; what does not stands in a heap. Wide nodes (four children) because
//! a step down then reads one cache line and the tree is half as deep as a binary one. Equal keys leave in the order of their slots, so
//! the order never depends on where they stood. Refuses to allocate once it has seen its highest slot and its longest run.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

const CHILDREN: usize = 4;

/// The position of a slot that is not in it.
const ABSENT: u32 = u32::MAX;

/// In a position: the slot stands in the run, at a place which is counted from its first entry ever, in the bits of [`PLACE`].
const IN_RUN: u32 = 1 << 31;
const PLACE: u32 = (1 << 30) - 1;

/// Entries of the run that nobody stands at any more, beside as many as are in use, before they are swept.
const STALE_MAX: usize = 16;

/// A min-heap over slot numbers in which any slot can be found, re-keyed and removed.
///
/// Memory is 4 bytes per slot up to the highest ever used, one entry per slot that was in it at the same time, and a few more.
#[derive(Clone, Debug)]
pub struct IndexHeap<K> {
    nodes: Vec<(K, u32)>,
    /// In order. Both ends are in use; between them may be entries that are not.
    run: VecDeque<(K, u32)>,
    /// How many entries of the run are in use.
    in_run: usize,
    /// The place of the first of the run.
    run_start: u32,
    positions: Vec<u32>,
}

impl<K> Default for IndexHeap<K> {
    fn default() -> Self {
        Self { nodes: Vec::new(), run: VecDeque::new(), in_run: 0, run_start: 0, positions: Vec::new() }
    }
}

/// Where a slot stands.
enum At {
    Nowhere,
    Heap(usize),
    Run(usize),
}

impl<K: Ord + Copy> IndexHeap<K> {
    /// How many slots are in it.
    pub fn len(&self) -> usize {
        self.nodes.len() + self.in_run
    }

    /// Whether none is in it.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.run.is_empty()
    }

    /// The key of `slot`, if it is in.
    pub fn key(&self, slot: u32) -> Option<K> {
        match self.at(slot) {
            At::Nowhere => None,
            At::Heap(at) => Some(self.nodes[at].0),
            At::Run(at) => Some(self.run[at].0),
        }
    }

    /// The smallest key and its slot.
    #[inline]
    pub fn peek(&self) -> Option<(K, u32)> {
        match (self.run.front(), self.nodes.first()) {
            (Some(run), Some(node)) => Some(*run.min(node)),
            (run, node) => run.or(node).copied(),
        }
    }

    /// All that is in it, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (K, u32)> + '_ {
        let run = self.run.iter().enumerate().filter(|(at, (_, slot))| self.stands_at(*slot, *at));
        self.nodes.iter().copied().chain(run.map(|(_, node)| *node))
    }

    /// Puts `slot` in with `key`, or gives it that key if it is in already.
    #[inline]
    pub fn set(&mut self, slot: u32, key: K) {
        let node = (key, slot);
        match self.at(slot) {
            At::Heap(at) if node < self.nodes[at] => self.rise(at, node),
            At::Heap(at) => self.sink(at, node),
            At::Run(at) => {
                self.leave_run(at, slot);
                self.insert(node);
            }
            At::Nowhere => self.add(slot, key),
        }
    }

    /// Puts `slot` in, which is not.
    #[inline]
    pub fn add(&mut self, slot: u32, key: K) {
        debug_assert!(matches!(self.at(slot), At::Nowhere), "it is not in");
        if slot as usize >= self.positions.len() {
            self.positions.resize(slot as usize + 1, ABSENT);
        }
        self.insert((key, slot));
    }

    #[inline]
    fn insert(&mut self, node: (K, u32)) {
        if self.run.back().is_none_or(|last| *last < node) {
            self.positions[node.1 as usize] = self.run_place(self.run.len());
            self.run.push_back(node);
            self.in_run += 1;
        } else {
            self.nodes.push(node);
            self.rise(self.nodes.len() - 1, node);
        }
    }

    /// Takes `slot` out; its key, if it was in.
    #[inline]
    pub fn remove(&mut self, slot: u32) -> Option<K> {
        match self.at(slot) {
            At::Nowhere => None,
            At::Run(at) => Some(self.leave_run(at, slot)),
            At::Heap(at) => Some(self.leave_heap(at, slot)),
        }
    }

    /// Takes the smallest out.
    pub fn pop(&mut self) -> Option<(K, u32)> {
        let first = self.peek()?;
        self.remove(first.1);
        Some(first)
    }

    #[inline]
    fn at(&self, slot: u32) -> At {
        match self.positions.get(slot as usize) {
            None | Some(&ABSENT) => At::Nowhere,
            Some(&at) if at & IN_RUN == 0 => At::Heap(at as usize),
            Some(&at) => At::Run((at.wrapping_sub(self.run_start) & PLACE) as usize),
        }
    }

    // ---- The run ----

    /// What the position of the `at`th of the run is.
    #[inline]
    const fn run_place(&self, at: usize) -> u32 {
        self.run_start.wrapping_add(at as u32) & PLACE | IN_RUN
    }

    #[inline]
    fn stands_at(&self, slot: u32, at: usize) -> bool {
        self.positions[slot as usize] == self.run_place(at)
    }

    #[inline]
    fn leave_run(&mut self, at: usize, slot: u32) -> K {
        let (key, _) = self.run[at];
        self.positions[slot as usize] = ABSENT;
        self.in_run -= 1;
        if self.in_run == 0 {
            // Nobody else has a place that is counted from the old start.
            self.run.clear();
        } else if at == 0 {
            self.trim_front();
        } else if at + 1 == self.run.len() {
            self.trim_back();
        } else if self.run.len() > 2 * (self.in_run + STALE_MAX) {
            self.sweep();
        }
        key
    }

    /// The run begins with an entry that is in use.
    fn trim_front(&mut self) {
        while self.run.front().is_some_and(|(_, slot)| !self.stands_at(*slot, 0)) {
            self.run.pop_front();
            self.run_start = self.run_start.wrapping_add(1);
        }
    }

    /// The run ends with an entry that is in use.
    fn trim_back(&mut self) {
        while self.run.back().is_some_and(|(_, slot)| !self.stands_at(*slot, self.run.len() - 1)) {
            self.run.pop_back();
        }
    }

    #[cold]
    fn sweep(&mut self) {
        let mut kept = 0;
        for at in 0..self.run.len() {
            let node = self.run[at];
            if self.stands_at(node.1, at) {
                self.run[kept] = node;
                // Its place moves down, and none of those that follow has it: each is above.
                self.positions[node.1 as usize] = self.run_place(kept);
                kept += 1;
            }
        }
        self.run.truncate(kept);
    }

    // ---- The heap ----

    fn leave_heap(&mut self, at: usize, slot: u32) -> K {
        let (key, _) = self.nodes[at];
        self.positions[slot as usize] = ABSENT;
        let last = self.nodes.pop().expect("the slot is in it");
        if at < self.nodes.len() {
            // The last node fills the gap; it may come from another branch, and so belong further up or down.
            if last < self.nodes[at] { self.rise(at, last) } else { self.sink(at, last) }
        }
        key
    }

    fn place(&mut self, at: usize, node: (K, u32)) {
        self.nodes[at] = node;
        self.positions[node.1 as usize] = at as u32;
    }

    /// Puts `node` at `at` or above, moving the larger ones down.
    fn rise(&mut self, mut at: usize, node: (K, u32)) {
        while at > 0 {
            let parent = (at - 1) / CHILDREN;
            if self.nodes[parent] <= node {
                break;
            }
            self.place(at, self.nodes[parent]);
            at = parent;
        }
        self.place(at, node);
    }

    /// Puts `node` at `at` or below, moving the smaller ones up.
    fn sink(&mut self, mut at: usize, node: (K, u32)) {
        loop {
            let first = at * CHILDREN + 1;
            let end = (first + CHILDREN).min(self.nodes.len());
            let Some(child) = (first..end).min_by_key(|&child| self.nodes[child]) else { break };
            if node <= self.nodes[child] {
                break;
            }
            self.place(at, self.nodes[child]);
            at = child;
        }
        self.place(at, node);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Act {
        Set(u32, u16),
        /// With a key a little above the largest so far.
        Later(u32),
        Remove(u32),
        Pop,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            // Few keys, so that many are equal.
            5 => (0_u32..60, 0_u16..20).prop_map(|(slot, key)| Act::Set(slot, key)),
            5 => (0_u32..60).prop_map(Act::Later),
            2 => (0_u32..70).prop_map(Act::Remove),
            1 => Just(Act::Pop),
        ];
        prop::collection::vec(act, 0..400)
    }

    proptest! {
        #[test]
        fn is_a_sorted_set_by_key_and_slot(acts in acts()) {
            let mut heap = IndexHeap::default();
            let mut keys = BTreeMap::new();
            let mut order = BTreeSet::new();
            for (n, act) in acts.into_iter().enumerate() {
                let act = if let Act::Later(slot) = act { Act::Set(slot, n as u16 / 3) } else { act };
                match act {
                    Act::Later(_) => unreachable!("it was made a Set"),
                    Act::Set(slot, key) => {
                        heap.set(slot, key);
                        if let Some(old) = keys.insert(slot, key) {
                            order.remove(&(old, slot));
                        }
                        order.insert((key, slot));
                    }
                    Act::Remove(slot) => {
                        let key = keys.remove(&slot);
                        prop_assert_eq!(heap.remove(slot), key);
                        order.remove(&(key.unwrap_or(0), slot));
                    }
                    Act::Pop => {
                        let first = order.pop_first();
                        prop_assert_eq!(heap.pop(), first);
                        if let Some((_, slot)) = first {
                            keys.remove(&slot);
                        }
                    }
                }
                prop_assert_eq!(heap.peek(), order.first().copied());
                prop_assert_eq!((heap.len(), heap.is_empty()), (order.len(), order.is_empty()));
                prop_assert_eq!(heap.iter().collect::<BTreeSet<_>>(), order.clone());
                for slot in 0..70 {
                    prop_assert_eq!(heap.key(slot), keys.get(&slot).copied());
                }
            }
            let rest: Vec<_> = core::iter::from_fn(|| heap.pop()).collect();
            prop_assert_eq!(rest, order.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn allocates_only_to_grow() {
        let mut heap = IndexHeap::default();
        let mut room = None;
        for round in 0..10_u64 {
            for slot in 0..100 {
                heap.set(slot, (u64::from(slot) * 7919 + round) % 101);
            }
            for slot in (0..100).step_by(3) {
                heap.remove(slot);
            }
            while heap.pop().is_some() {}
            let now = (heap.nodes.as_ptr(), heap.positions.as_ptr(), heap.nodes.capacity(), heap.run.capacity());
            assert_eq!(*room.get_or_insert(now), now);
        }
    }

    /// Keys that come in order never touch the heap, however long one of them stays, and the run does not grow for ever; its places
    /// are counted beyond their largest number.
    #[test]
    fn what_comes_in_order() {
        let mut heap = IndexHeap { run_start: u32::MAX - 5_000, ..IndexHeap::default() };
        heap.set(1000, 0_u64);
        for n in 1..10_000_u64 {
            heap.set((n % 100) as u32, n);
            if n > 50 {
                assert_eq!(heap.remove(((n - 50) % 100) as u32), Some(n - 50));
            }
            assert!(heap.nodes.is_empty() && heap.run.len() <= 2 * (52 + STALE_MAX), "{}", heap.run.len());
            assert_eq!((heap.peek(), heap.len() as u64), (Some((0, 1000)), 1 + n.min(50)));
        }
        heap.remove(1000);
        assert_eq!((heap.peek(), heap.key(99)), (Some((9_950, 50)), Some(9_999)));
    }
}
