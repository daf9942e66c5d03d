//! Owns all keys: their values, when they end, how much memory they take and which is evicted. Time is an argument, set once per turn of
//! the loop. What ends by itself is noted in `gone`, because a log must say so where it happened.
//!
//! It refuses to know commands, and files.

use std::collections::BTreeSet;

use crate::table::Table;
use crate::value::Value;

/// A key without an end.
pub const NEVER: u64 = u64::MAX;
/// Keys that are looked at to find one that was not used for long.
const SAMPLES: usize = 10;
/// Bytes of an entry's value, end and marks.
const OWN_BYTES: usize = 48;
/// Bytes that a key with an end costs more.
const END_BYTES: usize = 24;

/// What happens when there is no memory left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eviction {
    /// Commands that need memory fail.
    #[default]
    Refuse,
    /// Keys that were not used for long go.
    AllKeys,
    /// The same, of those that have an end.
    Volatile,
}

impl Eviction {
    /// As Redis names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuse => "noeviction",
            Self::AllKeys => "allkeys-lru",
            Self::Volatile => "volatile-lru",
        }
    }

    /// By Redis's name for it.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Refuse, Self::AllKeys, Self::Volatile].into_iter().find(|one| one.name() == name)
    }
}

/// What a key has.
#[derive(Debug)]
pub struct Entry {
    /// Its value.
    pub value: Value,
    /// When it ends, in milliseconds since 1970.
    ends: u64,
    /// The number of the last use of any key when it was used.
    used: u64,
    /// The last rewrite of the log that has it.
    pub(crate) written: u32,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Reads that found their key.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Keys that came to their end.
    pub expired: u64,
    /// Keys that had to go.
    pub evicted: u64,
}

/// All keys.
#[derive(Debug, Default)]
pub struct Store {
    keys: Table<Entry>,
    value_bytes: usize,
    ends: BTreeSet<(u64, u32)>,
    uses: u64,
    random: u64,
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// While a log is read nothing ends by itself: the log says what ended.
    pub loading: bool,
    /// Changes so far.
    pub dirty: u64,
    /// Keys that ended or were evicted since somebody looked.
    pub gone: Vec<Vec<u8>>,
    /// The rewrite of the log that is under way, or was the last.
    pub(crate) writing: u32,
    /// What was counted.
    pub counts: Counts,
}

impl Store {
    /// Keys, those included that ended but were not looked at.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Keys that have an end.
    pub fn ending(&self) -> usize {
        self.ends.len()
    }

    /// Bytes that all of it takes, about.
    pub fn bytes(&self) -> usize {
        self.keys.bytes() + self.keys.len() * OWN_BYTES + self.value_bytes + self.ends.len() * END_BYTES
    }

    /// The keys, for walks. Some may have ended.
    pub fn table(&self) -> &Table<Entry> {
        &self.keys
    }

    /// Whether an entry has ended.
    pub fn has_ended(&self, entry: &Entry) -> bool {
        !self.loading && entry.ends <= self.now_ms
    }

    /// A number that nobody can predict the use of: xorshift, for samples.
    pub fn chance(&mut self) -> u64 {
        self.random = if self.random == 0 { self.now_ms | 1 } else { self.random };
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// The place of a key that has not ended; one that has is removed.
    fn live(&mut self, key: &[u8]) -> Option<usize> {
        let at = self.keys.find(key)?;
        let entry = self.keys.value(at)?;
        if self.has_ended(entry) {
            self.counts.expired += 1;
            self.forget(key);
            return None;
        }
        Some(at)
    }

    /// Removes what ended or must go, and notes it.
    fn forget(&mut self, key: &[u8]) {
        self.take(key);
        self.gone.push(key.to_vec());
    }

    /// The value of a key, for a command that reads.
    pub fn read(&mut self, key: &[u8]) -> Option<&Value> {
        let at = self.seek(key)?;
        self.at(at)
    }

    /// The place of a key, for a command that reads. It is the key's until something is written.
    pub fn seek(&mut self, key: &[u8]) -> Option<usize> {
        let Some(at) = self.live(key) else {
            self.counts.misses += 1;
            return None;
        };
        self.counts.hits += 1;
        self.uses += 1;
        let uses = self.uses;
        self.keys.value_mut(at)?.used = uses;
        Some(at)
    }

    /// The value at a place.
    pub fn at(&self, place: usize) -> Option<&Value> {
        self.keys.value(place).map(|entry| &entry.value)
    }

    /// The value of a key, for a command that writes; reading it counts nothing.
    pub fn peek(&mut self, key: &[u8]) -> Option<&Value> {
        let at = self.live(key)?;
        self.at(at)
    }

    /// Changes the value of a key. What is empty then is removed.
    pub fn change<R>(&mut self, key: &[u8], change: impl FnOnce(&mut Value) -> R) -> Option<R> {
        let at = self.live(key)?;
        self.uses += 1;
        let entry = self.keys.value_mut(at)?;
        entry.used = self.uses;
        let before = entry.value.bytes();
        let done = change(&mut entry.value);
        let empty = entry.value.is_empty_collection();
        self.value_bytes = self.value_bytes + entry.value.bytes() - before;
        if empty {
            self.take(key);
        }
        Some(done)
    }

    /// The same; a key that does not exist is made first.
    pub fn change_or<R>(
        &mut self,
        key: &[u8],
        make: impl FnOnce() -> Value,
        change: impl FnOnce(&mut Value) -> R,
    ) -> R {
        if self.live(key).is_none() {
            self.set(key, make(), NEVER);
        }
        self.change(key, change).expect("it was just made")
    }

    /// Sets a key, whatever it was, with its end.
    pub fn set(&mut self, key: &[u8], value: Value, ends: u64) {
        self.uses += 1;
        self.value_bytes += value.bytes();
        let mut entry = Some(Entry { value, ends, used: self.uses, written: self.writing });
        let (at, made) = self.keys.find_or_insert_with(key, || entry.take().expect("it is made once"));
        let mut old_end = NEVER;
        if !made && let (Some(old), Some(mut entry)) = (self.keys.value_mut(at), entry) {
            self.value_bytes -= old.value.bytes();
            old_end = old.ends;
            entry.written = old.written;
            *old = entry;
        }
        if old_end != NEVER {
            self.ends.remove(&(old_end, at as u32));
        }
        if ends != NEVER {
            self.ends.insert((ends, at as u32));
        }
    }

    /// Takes a key out, ended or not.
    pub fn take(&mut self, key: &[u8]) -> Option<Entry> {
        let at = self.keys.find(key)?;
        let entry = self.keys.remove(key)?;
        self.value_bytes -= entry.value.bytes();
        if entry.ends != NEVER {
            self.ends.remove(&(entry.ends, at as u32));
        }
        Some(entry)
    }

    /// Removes a key; whether it was there.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.live(key).is_some() && self.take(key).is_some()
    }

    /// When a key ends; `None` when there is no such key.
    pub fn end(&mut self, key: &[u8]) -> Option<u64> {
        let at = self.live(key)?;
        self.keys.value(at).map(|entry| entry.ends)
    }

    /// Sets when a key ends; whether there is one.
    pub fn set_end(&mut self, key: &[u8], ends: u64) -> bool {
        let Some(at) = self.live(key) else { return false };
        let Some(entry) = self.keys.value_mut(at) else { return false };
        let old = std::mem::replace(&mut entry.ends, ends);
        if old != NEVER {
            self.ends.remove(&(old, at as u32));
        }
        if ends != NEVER {
            self.ends.insert((ends, at as u32));
        }
        true
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.keys = Table::default();
        self.value_bytes = 0;
        self.ends.clear();
    }

    /// Some key that has not ended.
    pub fn some_key(&mut self) -> Option<Vec<u8>> {
        for _ in 0..100 {
            let random = self.chance();
            let at = self.keys.some(random)?;
            let (key, entry) = self.keys.entry(at)?;
            if !self.has_ended(entry) {
                return Some(key.to_vec());
            }
        }
        None
    }

    /// Removes keys that have ended, at most so many; when the next one ends.
    pub fn expire(&mut self, most: usize) -> Option<u64> {
        for _ in 0..most {
            let (ends, at) = *self.ends.first()?;
            if ends > self.now_ms {
                return Some(ends);
            }
            let Some(key) = self.keys.entry(at as usize).map(|(key, _)| key.to_vec()) else {
                self.ends.remove(&(ends, at));
                continue;
            };
            self.counts.expired += 1;
            self.forget(&key);
        }
        self.ends.first().map(|(ends, _)| *ends)
    }

    /// Removes keys that were not used for long until no more than so many bytes are left. Whether that could be done.
    pub fn evict(&mut self, bytes_max: usize, how: Eviction) -> bool {
        while self.bytes() > bytes_max {
            let mut oldest: Option<(u64, usize)> = None;
            // Of few keys with an end among many without, random ones may all be without.
            let samples = if how == Eviction::Volatile { SAMPLES * 10 } else { SAMPLES };
            if how == Eviction::Refuse || how == Eviction::Volatile && self.ends.is_empty() {
                return false;
            }
            for _ in 0..samples {
                let random = self.chance();
                let Some(at) = self.keys.some(random) else { return false };
                let Some(entry) = self.keys.value(at) else { continue };
                if how == Eviction::AllKeys || entry.ends != NEVER {
                    oldest = oldest.min(Some((entry.used, at))).or(Some((entry.used, at)));
                }
            }
            let at = match (oldest, self.ends.first()) {
                (Some((_, at)), _) => at,
                (None, Some((_, at))) => *at as usize,
                (None, None) => return false,
            };
            let Some(key) = self.keys.entry(at).map(|(key, _)| key.to_vec()) else { return false };
            self.counts.evicted += 1;
            self.forget(&key);
        }
        true
    }

    /// Marks a place as written by the rewrite that is under way; its key and entry, unless it was before.
    pub(crate) fn claim_for_rewrite(&mut self, at: usize) -> Option<(&[u8], &Entry)> {
        let writing = self.writing;
        let entry = self.keys.value_mut(at)?;
        if entry.written == writing {
            return None;
        }
        entry.written = writing;
        self.keys.entry(at)
    }
}

impl Entry {
    /// When it ends, in milliseconds since 1970.
    pub fn ends(&self) -> u64 {
        self.ends
    }
}
