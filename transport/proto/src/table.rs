//! Owns the table of open RPCs: slots that are used again, and the way from a name to a slot.

use alloc::vec;
use alloc::vec::Vec;
use core::hash::BuildHasher;

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;
use wire::ids::RpcId;

use crate::incoming::Incoming;
use crate::io::State;
use crate::rpc::Rpc;
use crate::time::Instant;

/// Hashes names with a key of its own: the peer chooses sequences, and must not be able to choose collisions.
#[derive(Clone, Debug)]
struct Keyed(u64, u64);

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

/// What is still of interest in an RPC that was removed: to move all of it out would be the most work of its end.
#[derive(Debug)]
pub struct Removed {
    /// Its peer.
    pub peer: u32,
    /// Its name.
    pub id: RpcId,
    /// Whether we began it.
    pub ours: bool,
    /// It ended, and the endpoint was not told.
    pub untold: bool,
    /// A response was awaited.
    pub awaited: bool,
}

/// Places at the beginning; there are never fewer than two for each open RPC, up to [`PLACES_MAX`].
const PLACES_MIN: usize = 64;
/// 256 KiB of places: beyond as many RPCs the names of some are hashed.
const PLACES_MAX: usize = 1 << 16;

/// A place where nobody stands.
const NOBODY: u32 = u32::MAX;

/// Open RPCs by slot and by name.
#[derive(Debug)]
pub struct Table {
    /// One that is not [open](Rpc::open) is free.
    slots: Vec<Rpc>,
    free: Vec<u32>,
    /// The slot of an RPC, at the place that its name says. Sequences are counted, so most names have a place of their own.
    places: Vec<u32>,
    /// Of those whose place was taken when they came.
    names: HashTable<u32>,
    hash: Keyed,
}

/// The place of a name among `places` of them, a power of two. Whoever chooses names may choose those of one place, and gets the hash.
#[inline]
const fn place(peer: u32, rpc: RpcId, places: usize) -> usize {
    // Peers that count alike stand apart.
    let apart = (peer as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    (rpc.as_u48() ^ apart) as usize & (places - 1)
}

impl Table {
    /// An empty table. `key` is random: who chooses sequences must not be able to choose collisions.
    pub fn new(key: (u64, u64)) -> Self {
        let places = vec![NOBODY; PLACES_MIN];
        Self { slots: Vec::new(), free: Vec::new(), places, names: HashTable::new(), hash: Keyed(key.0, key.1) }
    }

    fn hash_of(&self, peer: u32, rpc: RpcId) -> u64 {
        self.hash.hash_one((peer, rpc.as_u48()))
    }

    /// The slot of an RPC.
    #[inline]
    pub fn find(&self, peer: u32, rpc: RpcId) -> Option<u32> {
        let is_it = |slot: &u32| self.get(*slot).is_some_and(|r| r.peer == peer && r.id == rpc);
        let first = self.places[place(peer, rpc, self.places.len())];
        if is_it(&first) {
            return Some(first);
        }
        if self.names.is_empty() {
            return None;
        }
        let hash = self.hash_of(peer, rpc);
        self.names.find(hash, is_it).copied()
    }

    /// Takes an RPC in that begins now. It is made in its place: moved there, it would be read again before it was written.
    #[inline]
    pub fn insert(&mut self, peer: u32, id: RpcId, ours: bool, state: State, now: Instant) -> u32 {
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        if slot as usize == self.slots.len() {
            self.slots.push(Rpc::vacant());
        }
        self.slots[slot as usize].begin(peer, id, ours, state, now);
        if 2 * self.len() > self.places.len() && self.places.len() < PLACES_MAX {
            self.spread();
        } else {
            self.name(slot, peer, id);
        }
        slot
    }

    #[inline]
    fn name(&mut self, slot: u32, peer: u32, id: RpcId) {
        let at = place(peer, id, self.places.len());
        if self.places[at] == NOBODY {
            self.places[at] = slot;
        } else {
            self.name_hashed(slot, peer, id);
        }
    }

    fn name_hashed(&mut self, slot: u32, peer: u32, id: RpcId) {
        let hash = self.hash_of(peer, id);
        let Self { slots, names, hash: keyed, .. } = self;
        names.insert_unique(hash, slot, |slot| {
            let rpc = &slots[*slot as usize];
            keyed.hash_one((rpc.peer, rpc.id.as_u48()))
        });
    }

    /// Twice as many places, and everybody at the right one.
    #[cold]
    fn spread(&mut self) {
        let places = 2 * self.places.len();
        self.places.clear();
        self.places.resize(places, NOBODY);
        self.names.clear();
        for slot in 0..self.slots.len() as u32 {
            if let Some((peer, id)) = self.get(slot).map(|rpc| (rpc.peer, rpc.id)) {
                self.name(slot, peer, id);
            }
        }
    }

    /// Takes the peer's message of several records out of an RPC that ends.
    pub fn take_incoming(&mut self, slot: u32) -> Option<Incoming> {
        self.get_mut(slot)?.inc.take()
    }

    /// Gives an RPC out; its slot may be used again.
    #[inline(always)]
    pub fn remove(&mut self, slot: u32) -> Option<Removed> {
        let rpc = self.get_mut(slot)?;
        let (peer, id, ours) = (rpc.peer, rpc.id, rpc.ours);
        let untold = rpc.ended && !rpc.told;
        let removed = Removed { peer, id, ours, untold, awaited: rpc.awaits_response() };
        (rpc.open, rpc.out, rpc.inc) = (false, None, None);
        let at = place(peer, id, self.places.len());
        if self.places[at] == slot {
            self.places[at] = NOBODY;
        } else {
            let hash = self.hash_of(peer, id);
            if let Ok(entry) = self.names.find_entry(hash, |s| *s == slot) {
                entry.remove();
            }
        }
        self.free.push(slot);
        Some(removed)
    }

    /// The RPC in `slot`.
    pub fn get(&self, slot: u32) -> Option<&Rpc> {
        self.slots.get(slot as usize).filter(|rpc| rpc.open)
    }

    /// The RPC in `slot`.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Rpc> {
        self.slots.get_mut(slot as usize).filter(|rpc| rpc.open)
    }

    /// The RPC in a slot that is known to be taken.
    pub(crate) fn taken(&mut self, slot: u32) -> &mut Rpc {
        self.get_mut(slot).expect("a slot in use")
    }

    /// All open RPCs.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Rpc)> {
        self.slots.iter().enumerate().filter(|(_, rpc)| rpc.open).map(|(i, rpc)| (i as u32, rpc))
    }

    /// How many RPCs are open.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use wire::ids::Side;

    fn name(sequence: u64) -> RpcId {
        RpcId::new(Side::Client, sequence)
    }

    fn insert(table: &mut Table, peer: u32, sequence: u64) -> u32 {
        table.insert(peer, name(sequence), true, State::Requesting, Instant::ZERO)
    }

    proptest! {
        /// Whatever names come and go, also many of one place and more than there are places: each is found where it is, and no other.
        #[test]
        fn names_are_exact(acts in prop::collection::vec((0u32..4, 0u64..40, any::<bool>(), any::<bool>()), 0..400)) {
            let mut table = Table::new((1, 2));
            let mut open = BTreeMap::new();
            for (peer, sequence, crowded, ends) in acts {
                // All of one place, however many places there are.
                let sequence = if crowded { sequence << 30 } else { sequence };
                match open.get(&(peer, sequence)) {
                    Some(slot) if ends => {
                        prop_assert_eq!(table.remove(*slot).map(|rpc| (rpc.peer, rpc.id)), Some((peer, name(sequence))));
                        open.remove(&(peer, sequence));
                    }
                    Some(_) => {}
                    None => {
                        let slot = insert(&mut table, peer, sequence);
                        prop_assert!(open.values().all(|other| *other != slot));
                        open.insert((peer, sequence), slot);
                    }
                }
                prop_assert_eq!(table.len(), open.len());
            }
            for peer in 0..4 {
                for sequence in (0..40).flat_map(|n| [n, n << 30]) {
                    prop_assert_eq!(table.find(peer, name(sequence)), open.get(&(peer, sequence)).copied());
                }
            }
        }
    }

    /// Names in the order of their sequences are not hashed, however many are open, nor are those of several peers.
    #[test]
    fn counted_names_have_places() {
        let mut table = Table::new((1, 2));
        let mut slots = Vec::new();
        for sequence in 0..20_000 {
            slots.push(insert(&mut table, 7, sequence));
            assert!(table.names.is_empty());
        }
        assert_eq!(table.places.len(), PLACES_MAX);
        assert!(slots.drain(..).all(|slot| table.remove(slot).is_some()));
        assert!(table.is_empty() && table.places.iter().all(|place| *place == NOBODY));
        assert_eq!(table.find(7, name(3)), None);
    }
}
