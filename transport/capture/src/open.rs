//! Owns the messages that are open: where each is, and when it is over.
//!
//! A message is over [`LINGER_NS`] after it was complete, or [`IDLE_NS`] after the last that was new of it; and earlier where more are open
//! than [`OPEN_MAX`], or their records take more than [`SLOTS_MAX`], so that no capture takes all memory.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::counts::{IDLE_NS, LINGER_NS};
use crate::message::{Arrival, Message};

/// Most messages that are open.
pub const OPEN_MAX: usize = 1 << 20;
/// Most records of long messages that are remembered at once.
pub const SLOTS_MAX: usize = 1 << 26;

/// Which message: the flow, the RPC, and whether it is a bundle.
pub type Key = (u32, u64, bool);

/// The key as it is hashed: an RPC has 45 bits.
const fn packed((flow, rpc, bundle): Key) -> (u32, u64) {
    (flow, rpc << 1 | bundle as u64)
}

/// A message that is open.
#[derive(Debug)]
pub struct Place {
    /// Which.
    pub key: Key,
    /// What is known of it.
    pub message: Message,
    /// Whether all that happens to it is told.
    pub followed: bool,
    /// Tells it from what was in this place before.
    life: u32,
}

/// When to look at a message again.
#[derive(Clone, Copy, Debug)]
struct Due {
    at_ns: u64,
    place: u32,
    life: u32,
}

/// All that are open.
#[derive(Debug, Default)]
pub struct Open {
    by_key: FxHashMap<(u32, u64), u32>,
    places: Vec<Option<Place>>,
    free: Vec<u32>,
    complete: VecDeque<Due>,
    idle: VecDeque<Due>,
    lives: u32,
    slots: usize,
}

impl Open {
    /// The message of that key.
    pub fn get(&mut self, key: Key) -> Option<&mut Place> {
        let place = *self.by_key.get(&packed(key))?;
        self.places[place as usize].as_mut()
    }

    /// Opens one.
    pub fn begin(&mut self, key: Key, first: &Arrival, followed: bool) {
        self.lives = self.lives.wrapping_add(1);
        let new = Place { key, message: Message::new(first), followed, life: self.lives };
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() as u32 - 1
        });
        self.places[place as usize] = Some(new);
        self.by_key.insert(packed(key), place);
        self.idle.push_back(Due { at_ns: first.time_ns.saturating_add(IDLE_NS), place, life: self.lives });
    }

    /// Changes one that is open, and sees what follows for when it is over.
    pub fn change<T>(&mut self, key: Key, change: impl FnOnce(&mut Place) -> T) -> Option<T> {
        let at = *self.by_key.get(&packed(key))?;
        let place = self.places[at as usize].as_mut()?;
        let (was, slots) = (place.message.complete_ns, place.message.slots());
        let changed = change(place);
        self.slots += place.message.slots() - slots;
        if let (None, Some(complete_ns)) = (was, place.message.complete_ns) {
            self.complete.push_back(Due { at_ns: complete_ns.saturating_add(LINGER_NS), place: at, life: place.life });
        }
        Some(changed)
    }

    /// Takes out one that is over at `now_ns`, if there is one.
    #[inline]
    pub fn over(&mut self, now_ns: u64) -> Option<Place> {
        let due = |queue: &VecDeque<Due>| queue.front().is_some_and(|due| due.at_ns <= now_ns);
        let too_many = self.by_key.len() > OPEN_MAX || self.slots > SLOTS_MAX;
        if !too_many && !due(&self.complete) && !due(&self.idle) {
            return None;
        }
        self.over_cold(now_ns, too_many)
    }

    #[cold]
    fn over_cold(&mut self, now_ns: u64, mut too_many: bool) -> Option<Place> {
        let front = |queue: &mut VecDeque<Due>, any: bool| {
            let due = queue.front().is_some_and(|due| any || due.at_ns <= now_ns);
            if due { queue.pop_front() } else { None }
        };
        while let Some(due) = front(&mut self.complete, too_many) {
            if let Some(place) = self.remove(due) {
                return Some(place);
            }
        }
        while let Some(due) = front(&mut self.idle, too_many) {
            let place = self.places[due.place as usize].as_ref().filter(|place| place.life == due.life);
            let Some(place) = place else { continue };
            let at_ns = place.message.last_ns.saturating_add(IDLE_NS);
            if !too_many && at_ns > now_ns {
                self.idle.push_back(Due { at_ns, ..due });
                continue;
            }
            too_many = false;
            if let Some(place) = self.remove(due) {
                return Some(place);
            }
        }
        None
    }

    /// Takes out any, at the end.
    pub fn rest(&mut self) -> impl Iterator<Item = Place> + use<> {
        self.by_key.clear();
        std::mem::take(&mut self.places).into_iter().flatten()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    fn remove(&mut self, due: Due) -> Option<Place> {
        let place = self.places[due.place as usize].take_if(|place| place.life == due.life)?;
        self.by_key.remove(&packed(place.key));
        self.free.push(due.place);
        self.slots -= place.message.slots();
        Some(place)
    }
}
