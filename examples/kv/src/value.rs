//! Owns the kinds of values, and how many bytes each takes: every change keeps the count.

use std::collections::VecDeque;

use crate::table::Table;

/// Bytes that an item of a list costs beside its own.
const ITEM_BYTES: usize = 32;

/// What a key holds.
#[derive(Debug)]
pub enum Value {
    /// A string of bytes.
    Text(Vec<u8>),
    /// A list.
    List(Box<List>),
    /// A hash: fields with values.
    Hash(Box<Hash>),
    /// A set.
    Set(Box<Table<()>>),
}

impl Value {
    /// What TYPE calls it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "string",
            Self::List(_) => "list",
            Self::Hash(_) => "hash",
            Self::Set(_) => "set",
        }
    }

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.capacity(),
            Self::List(list) => list.bytes + list.items.len() * ITEM_BYTES,
            Self::Hash(hash) => hash.bytes + hash.fields.bytes(),
            Self::Set(set) => set.bytes(),
        }
    }

    /// Whether nothing is in it: an empty collection is no value.
    pub fn is_empty_collection(&self) -> bool {
        match self {
            Self::Text(_) => false,
            Self::List(list) => list.items.is_empty(),
            Self::Hash(hash) => hash.fields.is_empty(),
            Self::Set(set) => set.is_empty(),
        }
    }
}

/// A list, and the bytes of its items.
#[derive(Debug, Default)]
pub struct List {
    items: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl List {
    /// Its items.
    pub fn items(&self) -> &VecDeque<Vec<u8>> {
        &self.items
    }

    /// Adds an item at one end.
    pub fn push(&mut self, left: bool, item: &[u8]) {
        self.bytes += item.len();
        if left { self.items.push_front(item.to_vec()) } else { self.items.push_back(item.to_vec()) }
    }

    /// Takes an item from one end.
    pub fn pop(&mut self, left: bool) -> Option<Vec<u8>> {
        let item = if left { self.items.pop_front() } else { self.items.pop_back() }?;
        self.bytes -= item.len();
        Some(item)
    }

    /// Replaces an item; `false` when there is none.
    pub fn replace(&mut self, index: usize, item: &[u8]) -> bool {
        let Some(old) = self.items.get_mut(index) else { return false };
        self.bytes = self.bytes - old.len() + item.len();
        *old = item.to_vec();
        true
    }

    /// Puts an item before the one at `index`.
    pub fn insert(&mut self, index: usize, item: &[u8]) {
        self.bytes += item.len();
        self.items.insert(index, item.to_vec());
    }

    /// Takes an item out.
    pub fn remove(&mut self, index: usize) {
        if let Some(item) = self.items.remove(index) {
            self.bytes -= item.len();
        }
    }

    /// Keeps the items from one to before another.
    pub fn keep(&mut self, from: usize, to: usize) {
        self.items.truncate(to);
        self.items.drain(..from.min(self.items.len()));
        self.bytes = self.items.iter().map(Vec::len).sum();
    }
}

/// A hash, and the bytes of its values.
#[derive(Debug, Default)]
pub struct Hash {
    fields: Table<Vec<u8>>,
    bytes: usize,
}

impl Hash {
    /// Its fields.
    pub fn fields(&self) -> &Table<Vec<u8>> {
        &self.fields
    }

    /// Sets a field; whether it is new.
    pub fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        self.bytes += value.len();
        match self.fields.insert(field, value.to_vec()) {
            Some(old) => {
                self.bytes -= old.len();
                false
            }
            None => true,
        }
    }

    /// Takes a field out; whether it was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        let old = self.fields.remove(field);
        self.bytes -= old.as_ref().map_or(0, Vec::len);
        old.is_some()
    }
}
