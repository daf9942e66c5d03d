//! Owns the contexts of one queue: which TIS seals with which key, where each believes to be, and which goes when another key comes.
//!
//! The card counts records itself and tells nobody. So what it believes is counted here as well, in 64 bits: a message that goes on where the
//! last one of its context ended costs nothing, all others a resync.

use mlx5_shim::device::Object;
use mlx5_shim::spread::Map;

use crate::plan::KeyName;

/// What a context must be told before a record of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// Nothing: it is there.
    Nothing,
    /// That it is at the record which it was told last.
    Progress,
    /// Key and number.
    All,
}

/// A TIS, and what it believes.
#[derive(Debug)]
struct Context {
    tis: Object,
    key: Option<KeyName>,
    /// The record that it was told last, if what it was told still counts.
    told: Option<u64>,
    /// The record that it is at.
    next: Option<u64>,
    /// When it was used last, in uses of the queue.
    used: u64,
}

/// The contexts of one queue.
#[derive(Debug)]
pub struct Contexts {
    all: Vec<Context>,
    by_key: Map<KeyName, usize>,
    /// The one that was used last.
    last: usize,
    most: usize,
    uses: u64,
    /// How often a context was given to another key.
    pub evicted: u64,
}

impl Contexts {
    /// None yet, and never more than `most`.
    ///
    /// # Panics
    /// When `most` is 0.
    pub fn new(most: usize) -> Self {
        assert!(most > 0, "a queue has a context");
        Self { all: Vec::new(), by_key: Map::default(), last: 0, most, uses: 0, evicted: 0 }
    }

    /// The context of `key`; if it has none, one that `make` makes, or the one that was not used for the longest time. `None` when there
    /// is none at all.
    pub fn of(&mut self, key: KeyName, make: impl FnOnce() -> Option<Object>) -> Option<usize> {
        self.uses += 1;
        let last = self.all.get(self.last).filter(|context| context.key == Some(key)).map(|_| self.last);
        if let Some(at) = last.or_else(|| self.by_key.get(&key).copied()) {
            (self.all[at].used, self.last) = (self.uses, at);
            return Some(at);
        }
        let fresh = if self.all.len() < self.most { make() } else { None };
        let at = match fresh {
            Some(tis) => {
                self.all.push(Context { tis, key: None, told: None, next: None, used: 0 });
                self.all.len() - 1
            }
            None => {
                let (at, _) = self.all.iter().enumerate().min_by_key(|(_, context)| context.used)?;
                if let Some(old) = self.all[at].key {
                    self.by_key.remove(&old);
                    self.evicted += 1;
                }
                at
            }
        };
        let context = &mut self.all[at];
        (context.key, context.told, context.next, context.used) = (Some(key), None, None, self.uses);
        self.by_key.insert(key, at);
        Some(at)
    }

    /// The number of its TIS.
    pub fn tis(&self, at: usize) -> u32 {
        self.all[at].tis.number
    }

    /// What it must be told before record `number`.
    pub fn needs(&self, at: usize, number: u64) -> Needed {
        let context = &self.all[at];
        if context.next == Some(number) {
            Needed::Nothing
        } else if context.told == Some(number) {
            Needed::Progress
        } else {
            Needed::All
        }
    }

    /// It was told to be at `number`, if it had to be, and fed `count` records.
    pub fn fed(&mut self, at: usize, needed: Needed, number: u64, count: u32) {
        let context = &mut self.all[at];
        if needed == Needed::All {
            context.told = Some(number);
        }
        context.next = number.checked_add(count.into());
    }

    /// The queue was emptied: what its contexts know is not known. Gives the keys that they had.
    pub fn reset(&mut self) -> Vec<KeyName> {
        for context in &mut self.all {
            (context.key, context.told, context.next) = (None, None, None);
        }
        self.by_key.drain().map(|(key, _)| key).collect()
    }

    /// A key is no more.
    pub fn forget(&mut self, key: KeyName) {
        if let Some(at) = self.by_key.remove(&key) {
            let context = &mut self.all[at];
            (context.key, context.told, context.next, context.used) = (None, None, None, 0);
        }
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Gives up all of them.
    pub fn into_tis(self) -> impl Iterator<Item = Object> {
        self.all.into_iter().map(|context| context.tis)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use proptest::prelude::*;

    fn key(session: u64) -> KeyName {
        KeyName { session, epoch: 0 }
    }

    proptest! {
        /// Beside a card that counts by itself: with what `needs` says, it is always at the record that it is fed, and never told anything
        /// that it knows.
        #[test]
        fn the_shadow_is_what_the_card_counts(plans in proptest::collection::vec((0u64..6, 0u64..4, 1u32..5, any::<bool>()), 1..200), most in 1usize..4) {
            let mut contexts = Contexts::new(most);
            // Per TIS: told, and at.
            let mut card: HashMap<u32, (Option<(KeyName, u64)>, u64)> = HashMap::new();
            let mut made = 0;
            let mut last: HashMap<KeyName, u64> = HashMap::new();
            for (session, message, count, goes_on) in plans {
                let key = key(session);
                let number = match last.get(&key) {
                    Some(next) if goes_on => *next,
                    _ => message << 16,
                };
                let at = contexts.of(key, || { made += 1; Some(Object { number: made, handle: 0 }) }).unwrap();
                let needed = contexts.needs(at, number);
                let (told, next) = card.entry(contexts.tis(at)).or_default();
                match needed {
                    Needed::All => (*told, *next) = (Some((key, number)), number),
                    Needed::Progress => *next = told.unwrap().1,
                    Needed::Nothing => {}
                }
                prop_assert_eq!((told.unwrap().0, *next), (key, number));
                *next += u64::from(count);
                contexts.fed(at, needed, number, count);
                last.insert(key, number + u64::from(count));
                prop_assert!(contexts.len() <= most);
            }
        }
    }

    /// The one that was not used for the longest time goes; who goes on where it was needs nothing, after a reset everything.
    #[test]
    fn the_oldest_goes() {
        let mut contexts = Contexts::new(2);
        let mut made = 0;
        let mut of = |contexts: &mut Contexts, session| {
            contexts.of(key(session), || {
                made += 1;
                Some(Object { number: made, handle: 0 })
            })
        };
        let a = of(&mut contexts, 1).unwrap();
        let b = of(&mut contexts, 2).unwrap();
        contexts.fed(a, Needed::All, 10, 5);
        contexts.fed(b, Needed::All, 10, 5);
        assert_eq!(
            (contexts.needs(a, 15), contexts.needs(a, 10), contexts.needs(a, 11)),
            (Needed::Nothing, Needed::Progress, Needed::All)
        );
        assert_eq!(of(&mut contexts, 1), Some(a));
        assert_eq!(of(&mut contexts, 3), Some(b), "the other one was used since");
        assert_eq!((contexts.needs(b, 15), contexts.evicted), (Needed::All, 1));
        contexts.forget(key(1));
        assert_eq!(of(&mut contexts, 4), Some(a));
        let mut keys = contexts.reset();
        keys.sort();
        assert_eq!(keys, [key(3), key(4)]);
        assert_eq!(contexts.needs(a, 15), Needed::All);
    }
}
