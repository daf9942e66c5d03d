//! Owns a priority queue over slots of a table: who is next, and what if somebody's key changes.
//!
//! Wide nodes (four children) because a step down then reads one cache line and the tree is half as deep as a binary one.
//! Equal keys leave in the order of their slots, so the order never depends on how the heap came to be. Refuses to
//! allocate once it has seen its highest slot.

use alloc::vec::Vec;

const CHILDREN: usize = 4;

/// The position of a slot that is not in the heap.
const ABSENT: u32 = u32::MAX;

/// A min-heap over slot numbers in which any slot can be found, re-keyed and removed.
///
/// Memory is 4 bytes per slot up to the highest ever used, and one entry per slot that was in it at the same time.
#[derive(Clone, Debug)]
pub struct IndexHeap<K> {
    nodes: Vec<(K, u32)>,
    positions: Vec<u32>,
}

impl<K> Default for IndexHeap<K> {
    fn default() -> Self {
        Self { nodes: Vec::new(), positions: Vec::new() }
    }
}

impl<K: Ord + Copy> IndexHeap<K> {
    /// An empty heap that has allocated nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty heap with room for the slots `0..slots`.
    pub fn with_capacity(slots: usize) -> Self {
        let mut positions = Vec::new();
        positions.resize(slots, ABSENT);
        Self { nodes: Vec::with_capacity(slots), positions }
    }

    /// How many slots are in it.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether none is in it.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The key of `slot`, if it is in.
    pub fn key(&self, slot: u32) -> Option<K> {
        self.position(slot).map(|at| self.nodes[at].0)
    }

    /// The smallest key and its slot.
    pub fn peek(&self) -> Option<(K, u32)> {
        self.nodes.first().copied()
    }

    /// All that is in it, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (K, u32)> + '_ {
        self.nodes.iter().copied()
    }

    /// Puts `slot` in with `key`, or gives it that key if it is in already.
    pub fn set(&mut self, slot: u32, key: K) {
        let node = (key, slot);
        match self.position(slot) {
            Some(at) if node < self.nodes[at] => self.rise(at, node),
            Some(at) => self.sink(at, node),
            None => {
                if slot as usize >= self.positions.len() {
                    self.positions.resize(slot as usize + 1, ABSENT);
                }
                self.nodes.push(node);
                self.rise(self.nodes.len() - 1, node);
            }
        }
    }

    /// Takes `slot` out; its key, if it was in.
    pub fn remove(&mut self, slot: u32) -> Option<K> {
        let at = self.position(slot)?;
        let (key, _) = self.nodes[at];
        self.positions[slot as usize] = ABSENT;
        let last = self.nodes.pop().expect("the slot is in it");
        if at < self.nodes.len() {
            // The last node fills the gap; it may come from another branch, and so belong further up or down.
            if last < self.nodes[at] { self.rise(at, last) } else { self.sink(at, last) }
        }
        Some(key)
    }

    /// Takes the smallest out.
    pub fn pop(&mut self) -> Option<(K, u32)> {
        let first = self.peek()?;
        self.remove(first.1);
        Some(first)
    }

    fn position(&self, slot: u32) -> Option<usize> {
        self.positions.get(slot as usize).filter(|&&at| at != ABSENT).map(|&at| at as usize)
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
        Set(u32, u8),
        Remove(u32),
        Pop,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            // Few keys, so that many are equal.
            5 => (0_u32..60, 0_u8..20).prop_map(|(slot, key)| Act::Set(slot, key)),
            2 => (0_u32..70).prop_map(Act::Remove),
            1 => Just(Act::Pop),
        ];
        prop::collection::vec(act, 0..400)
    }

    proptest! {
        #[test]
        fn is_a_sorted_set_by_key_and_slot(acts in acts()) {
            let mut heap = IndexHeap::new();
            let mut keys = BTreeMap::new();
            let mut order = BTreeSet::new();
            for act in acts {
                match act {
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
        let mut heap = IndexHeap::with_capacity(100);
        let room = (heap.nodes.as_ptr(), heap.positions.as_ptr(), heap.nodes.capacity());
        for round in 0..10_u64 {
            for slot in 0..100 {
                heap.set(slot, (u64::from(slot) * 7919 + round) % 101);
            }
            for slot in (0..100).step_by(3) {
                heap.remove(slot);
            }
            while heap.pop().is_some() {}
        }
        assert_eq!((heap.nodes.as_ptr(), heap.positions.as_ptr(), heap.nodes.capacity()), room);
    }
}
