//! Owns a map from bytes to values whose entries stay where they are while they live: SCAN walks the places, so what was there from
//! its beginning to its end is seen once, whatever is added or taken meanwhile. Random entries, for eviction, are places too.
//!
//! It refuses to give memory of places back before all entries are gone; free places are taken again first.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;
use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

/// Bytes that an entry costs beside its own: its place, its share of the index, the allocator's head.
pub const ENTRY_BYTES: usize = 64;

/// Longest key that stands in its place: one line of memory less to wait for when it is compared.
const KEY_BYTES: usize = 24;

#[derive(Debug)]
struct Place<V> {
    key: SmallVec<[u8; KEY_BYTES]>,
    hash: u64,
    value: V,
}

/// The map. Hashes are keyed with randomness of the process: clients cannot choose collisions.
#[derive(Debug)]
pub struct Table<V> {
    index: HashTable<u32>,
    places: Vec<Option<Place<V>>>,
    free: Vec<u32>,
    hasher: SipHasher13,
    /// Bytes of all keys.
    key_bytes: usize,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        let random = RandomState::new();
        let hasher = SipHasher13::new_with_keys(random.hash_one(0), random.hash_one(1));
        Self { index: HashTable::new(), places: Vec::new(), free: Vec::new(), hasher, key_bytes: 0 }
    }
}

impl<V> Table<V> {
    fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash(key)
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes of keys and of what keeps the entries, without values.
    pub fn bytes(&self) -> usize {
        self.key_bytes + self.index.len() * ENTRY_BYTES
    }

    /// Where the key's entry is.
    pub fn find(&self, key: &[u8]) -> Option<usize> {
        let hash = self.hash(key);
        let is_it = |at: &u32| self.places[*at as usize].as_ref().is_some_and(|place| place.key[..] == *key);
        self.index.find(hash, is_it).map(|at| *at as usize)
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        self.find(key).and_then(|at| self.value(at))
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        let at = self.find(key)?;
        self.value_mut(at)
    }

    /// The value at a place.
    pub fn value(&self, at: usize) -> Option<&V> {
        self.places.get(at)?.as_ref().map(|place| &place.value)
    }

    /// The same, to be changed.
    pub fn value_mut(&mut self, at: usize) -> Option<&mut V> {
        self.places.get_mut(at)?.as_mut().map(|place| &mut place.value)
    }

    /// Key and value at a place.
    pub fn entry(&self, at: usize) -> Option<(&[u8], &V)> {
        self.places.get(at)?.as_ref().map(|place| (&*place.key, &place.value))
    }

    /// Places, free ones included: the bound of a walk.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    /// Where the key's entry is, which `make` makes if there is none; and whether it did.
    pub fn find_or_insert_with(&mut self, key: &[u8], make: impl FnOnce() -> V) -> (usize, bool) {
        let hash = self.hash(key);
        let places = &self.places;
        let is_it = |at: &u32| places[*at as usize].as_ref().is_some_and(|place| place.key[..] == *key);
        let hash_of = |at: &u32| places[*at as usize].as_ref().map_or(0, |place| place.hash);
        match self.index.entry(hash, is_it, hash_of) {
            Slot::Occupied(found) => (*found.get() as usize, false),
            Slot::Vacant(slot) => {
                let at = self.free.pop().unwrap_or(self.places.len() as u32);
                slot.insert(at);
                let place = Some(Place { key: key.into(), hash, value: make() });
                match self.places.get_mut(at as usize) {
                    Some(free) => *free = place,
                    None => self.places.push(place),
                }
                self.key_bytes += key.len();
                (at as usize, true)
            }
        }
    }

    /// Sets a value; gives the one that was there.
    pub fn insert(&mut self, key: &[u8], value: V) -> Option<V> {
        let mut value = Some(value);
        let (at, made) = self.find_or_insert_with(key, || value.take().expect("it is made once"));
        if made {
            return None;
        }
        let place = self.places[at].as_mut().expect("it was found there");
        Some(std::mem::replace(&mut place.value, value.take().expect("it was not made")))
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &[u8]) -> Option<V> {
        let hash = self.hash(key);
        let places = &self.places;
        let is_it = |at: &u32| places[*at as usize].as_ref().is_some_and(|place| place.key[..] == *key);
        let at = self.index.find_entry(hash, is_it).ok()?.remove().0;
        let place = self.places[at as usize].take()?;
        self.key_bytes -= place.key.len();
        if self.index.is_empty() {
            // Nothing stands anywhere: no walk can miss anything.
            (self.places, self.free) = (Vec::new(), Vec::new());
            self.index = HashTable::new();
        } else {
            self.free.push(at);
        }
        Some(place.value)
    }

    /// All entries, in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &V)> {
        self.places.iter().flatten().map(|place| (&*place.key, &place.value))
    }

    /// Some entry, by a random number: the first from there on. Costs more the more places are free.
    pub fn some(&self, random: u64) -> Option<usize> {
        let count = self.places.len();
        if self.is_empty() {
            return None;
        }
        let from = (random % count as u64) as usize;
        (from..count).chain(0..from).find(|at| self.places[*at].is_some())
    }

    /// Walks the places from `cursor` on until `most` entries were seen, or ten times as many places; where to go on, zero at the end.
    pub fn scan<'a>(&'a self, cursor: u64, most: usize, mut see: impl FnMut(&'a [u8], &'a V)) -> u64 {
        let mut at = usize::try_from(cursor).unwrap_or(usize::MAX).min(self.places.len());
        let end = at.saturating_add(most.saturating_mul(10)).min(self.places.len());
        let mut seen = 0;
        while at < end && seen < most {
            if let Some(place) = &self.places[at] {
                see(&place.key, &place.value);
                seen += 1;
            }
            at += 1;
        }
        if at >= self.places.len() { 0 } else { at as u64 }
    }
}
