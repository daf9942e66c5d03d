//! Owns the secrets that were installed here, by their public ids. There may be one for each session, so each costs what it is and some
//! bytes.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use handshake::installed::{InstalledKey, KeyId};
use hashbrown::HashTable;
use wire::ids::Side;

use crate::chunks::Chunks;

/// Secrets for sessions that are not negotiated by TLS, and which end we are with each.
#[derive(Default)]
pub(crate) struct Installed {
    keys: Chunks<(InstalledKey, Side)>,
    /// Where a secret stands in the list.
    places: HashTable<u32>,
    hash: RandomState,
    /// What was called by it last: many secrets have one label.
    label: Option<Arc<str>>,
}

impl fmt::Debug for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Installed({})", self.keys.len())
    }
}

impl Installed {
    fn place(&self, id: KeyId) -> Option<u32> {
        self.places.find(self.hash.hash_one(id), |at| self.keys[*at as usize].0.id() == id).copied()
    }

    /// Installs a secret, instead of what was installed with its id; its number.
    pub(crate) fn insert(&mut self, key: InstalledKey, side: Side) -> u32 {
        if let Some(at) = self.place(key.id()) {
            self.keys[at as usize] = (key, side);
            return at;
        }
        let (at, hash) = (self.keys.len() as u32, self.hash.hash_one(key.id()));
        self.keys.push((key, side));
        let Self { keys, places, hash: of, .. } = self;
        places.insert_unique(hash, at, |at| of.hash_one(keys[*at as usize].0.id()));
        at
    }

    /// The secret with that id.
    pub(crate) fn get(&self, id: &KeyId) -> Option<&(InstalledKey, Side)> {
        self.keys.get(self.place(*id)? as usize)
    }

    /// The id of the secret with that number.
    pub(crate) fn id(&self, at: u32) -> KeyId {
        self.keys[at as usize].0.id()
    }

    /// One handle for all that are called the same, one after the other.
    pub(crate) fn label(&mut self, label: &str) -> Arc<str> {
        match &self.label {
            Some(known) if **known == *label => known.clone(),
            _ => self.label.insert(label.into()).clone(),
        }
    }
}
