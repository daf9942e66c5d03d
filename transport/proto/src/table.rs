//! Owns the table of open RPCs: slots that are used again, and the way from a name to a slot.

use alloc::vec::Vec;
use core::hash::BuildHasher;

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;
use wire::ids::RpcId;

use crate::incoming::Incoming;
use crate::io::State;
use crate::rpc::Rpc;

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
    /// The peer's message.
    pub inc: Option<Incoming>,
}

/// Open RPCs by slot and by name.
#[derive(Debug)]
pub struct Table {
    slots: Vec<Option<Rpc>>,
    free: Vec<u32>,
    /// Of all but the youngest, and those that were over when the next one came.
    names: HashTable<u32>,
    /// The slot of the youngest: where few are open it is mostly the one that is asked for. It gets a name when another comes, so that
    /// one at a time needs no hash.
    youngest: u32,
    hash: Keyed,
}

impl Table {
    /// An empty table. `key` is random: who chooses sequences must not be able to choose collisions.
    pub fn new(key: (u64, u64)) -> Self {
        let (slots, free, names) = (Vec::new(), Vec::new(), HashTable::new());
        Self { slots, free, names, youngest: 0, hash: Keyed(key.0, key.1) }
    }

    fn hash_of(&self, peer: u32, rpc: RpcId) -> u64 {
        self.hash.hash_one((peer, rpc.as_u48()))
    }

    /// The slot of an RPC.
    pub fn find(&self, peer: u32, rpc: RpcId) -> Option<u32> {
        let is_it = |slot: &u32| self.get(*slot).is_some_and(|r| r.peer == peer && r.id == rpc);
        if is_it(&self.youngest) {
            return Some(self.youngest);
        }
        if self.names.is_empty() {
            return None;
        }
        let hash = self.hash_of(peer, rpc);
        self.names.find(hash, is_it).copied()
    }

    /// Takes an RPC in.
    pub fn insert(&mut self, rpc: Rpc) -> u32 {
        self.name_youngest();
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        if slot as usize == self.slots.len() {
            self.slots.push(Some(rpc));
        } else {
            self.slots[slot as usize] = Some(rpc);
        }
        self.youngest = slot;
        slot
    }

    /// Another comes: what was the youngest is asked for by name from now on, if it is at all. A response that arrived is not:
    /// whoever still asks is told from the memory of what is finished. [P-7.1]
    fn name_youngest(&mut self) {
        let Self { slots, names, hash: keyed, youngest, .. } = self;
        let hash_of = |rpc: &Rpc| keyed.hash_one((rpc.peer, rpc.id.as_u48()));
        let Some(rpc) = slots.get_mut(*youngest as usize).and_then(Option::as_mut) else { return };
        if rpc.named || (rpc.ended && rpc.state == State::Responding) {
            return;
        }
        rpc.named = true;
        let hash = hash_of(rpc);
        names.insert_unique(hash, *youngest, |slot| {
            hash_of(slots[*slot as usize].as_ref().expect("named slots are taken"))
        });
    }

    /// Gives an RPC out; its slot may be used again.
    pub fn remove(&mut self, slot: u32) -> Option<Removed> {
        let place = self.slots.get_mut(slot as usize)?;
        let rpc = place.as_mut()?;
        let (peer, id, ours, named) = (rpc.peer, rpc.id, rpc.ours, rpc.named);
        let untold = rpc.ended && !rpc.told;
        let removed = Removed { peer, id, ours, untold, awaited: rpc.awaits_response(), inc: rpc.inc.take() };
        *place = None;
        if named {
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
        self.slots.get(slot as usize)?.as_ref()
    }

    /// The RPC in `slot`.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Rpc> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// The RPC in a slot that is known to be taken.
    pub(crate) fn taken(&mut self, slot: u32) -> &mut Rpc {
        self.slots[slot as usize].as_mut().expect("a slot in use")
    }

    /// All open RPCs.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Rpc)> {
        self.slots.iter().enumerate().filter_map(|(i, rpc)| Some((i as u32, rpc.as_ref()?)))
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
    use super::*;
    use wire::ids::Side;

    use crate::time::Instant;

    /// What is remembered of the youngest is never taken for another, whatever has become of its slot.
    #[test]
    fn names_are_exact() {
        let mut table = Table::new((1, 2));
        let name = |sequence| RpcId::new(Side::Client, sequence);
        let rpc = |peer, sequence| Rpc::new(peer, name(sequence), true, State::Requesting, Instant::ZERO);
        assert_eq!(table.find(0, name(0)), None);
        let (a, b) = (table.insert(rpc(0, 0)), table.insert(rpc(0, 1)));
        assert_eq!((table.find(0, name(0)), table.find(0, name(1)), table.find(1, name(1))), (Some(a), Some(b), None));
        table.remove(b);
        assert_eq!((table.find(0, name(1)), table.find(0, name(0))), (None, Some(a)));
        assert_eq!(table.insert(rpc(1, 1)), b, "a slot is used again");
        assert_eq!((table.find(0, name(1)), table.find(1, name(1))), (None, Some(b)));
        table.remove(a);
        assert_eq!((table.find(0, name(0)), table.find(1, name(1)), table.len()), (None, Some(b), 1));
    }
}
