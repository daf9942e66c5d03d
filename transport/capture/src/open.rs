//! Owns the messages that are open: where each is, and when it is over.
//!
//! A message is over [`LINGER_NS`] after it was complete, or [`IDLE_NS`] after the last that was new of it; and earlier where more are open
//! than [`OPEN_MAX`], or their records take more than [`SLOTS_MAX`], so that no capture takes all memory. One that is over is not found any
//! more; it may be handed out later than that, since the queues are only nearly in order.

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

/// Entries of a queue that are let be, whatever they are of.
const STALE_MIN: usize = 1 << 10;

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

impl Place {
    /// Whether its message is over.
    fn is_over(&self, now_ns: u64) -> bool {
        let Message { last_ns, complete_ns, .. } = self.message;
        complete_ns.is_some_and(|complete_ns| complete_ns.saturating_add(LINGER_NS) <= now_ns)
            || last_ns.saturating_add(IDLE_NS) <= now_ns
    }
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
    /// The message of that key, unless it is over.
    pub fn get(&mut self, key: Key, now_ns: u64) -> Option<&mut Place> {
        let place = *self.by_key.get(&packed(key))?;
        self.places[place as usize].as_mut().filter(|place| !place.is_over(now_ns))
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
        // Messages that ended since left entries behind; that many more may come before they are due.
        for queue in [&mut self.complete, &mut self.idle] {
            if queue.len() > STALE_MIN + 2 * self.by_key.len() {
                let lives = |due: &Due| self.places[due.place as usize].as_ref().is_some_and(|p| p.life == due.life);
                queue.retain(lives);
            }
        }
    }

    /// Changes one that is open and not over, and sees what follows for when it is over.
    pub fn change<T>(&mut self, key: Key, now_ns: u64, change: impl FnOnce(&mut Place) -> T) -> Option<T> {
        let at = *self.by_key.get(&packed(key))?;
        let place = self.places[at as usize].as_mut().filter(|place| !place.is_over(now_ns))?;
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

    /// Takes out the message of that key.
    pub fn end(&mut self, key: Key) -> Option<Place> {
        let place = *self.by_key.get(&packed(key))?;
        let life = self.places[place as usize].as_ref()?.life;
        self.remove(Due { at_ns: 0, place, life })
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

#[cfg(test)]
mod tests {
    use super::*;

    const fn arrival(time_ns: u64, index: u16) -> Arrival {
        Arrival { time_ns, index, attempt: 0, payload: 100, check: 0, length: 0 }
    }

    #[test]
    fn what_is_idle_is_over_in_time_whoever_stands_before_it() {
        let (mut open, second) = (Open::default(), 1_000_000_000);
        // The first one lives on for a second and is queued behind the second one, which is due later.
        open.begin((0, 0, false), &arrival(0, 0), false);
        open.change((0, 0, false), 0, |place| place.message.take(&arrival(0, 0)));
        open.change((0, 0, false), second, |place| place.message.take(&arrival(second, 1)));
        open.begin((0, 2, false), &arrival(59 * second, 0), false);
        assert!(open.over(60 * second).is_none());
        assert!(open.get((0, 0, false), 61 * second - 1).is_some());
        assert!(open.get((0, 0, false), 61 * second).is_none());
        assert!(open.change((0, 0, false), 61 * second, |_| ()).is_none());
        assert!(open.end((0, 0, false)).is_some() && open.end((0, 0, false)).is_none());
        assert!(open.get((0, 2, false), 61 * second).is_some());
    }

    #[test]
    fn what_ended_is_forgotten() {
        let mut open = Open::default();
        for rpc in 0..100_000 {
            open.begin((0, rpc, false), &arrival(0, 0), false);
            open.end((0, rpc, false)).expect("it was just begun");
        }
        assert!(open.is_empty() && open.idle.len() <= 2 * STALE_MIN, "{}", open.idle.len());
    }
}
