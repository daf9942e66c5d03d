//! Owns who waits for memory, and for whom it is kept. [P-8.7]
//!
//! A message that finds no room is not forgotten: its name and length are, and the shortest that fits is asked for when
//! there is room, which is kept for it for the time that it needs to come. Both lists are bounded, for each peer as well,
//! and what is in them ends by itself, so that who begins and never sends takes nothing from others for long.

use alloc::vec::Vec;
use core::time::Duration;

use wire::ids::RpcId;

use crate::config::{Config, Order};
use crate::time::Instant;

/// A message that waits, or for which room is kept.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Bytes of it; what it is ordered by.
    pub length: u32,
    /// The order in which they came.
    age: u64,
    /// Its sender.
    pub peer: u32,
    /// Its name.
    pub rpc: RpcId,
    /// When something was last heard of it, as long as it waits; then until when room is kept.
    pub at: Instant,
    /// When its sender was last told that it waits.
    told: Instant,
}

impl Entry {
    fn key(&self, order: Order) -> (u32, u64) {
        (if order == Order::Srpt { self.length } else { 0 }, self.age)
    }

    fn is(&self, peer: u32, rpc: RpcId) -> bool {
        self.peer == peer && self.rpc == rpc
    }
}

/// Messages that found no room.
#[derive(Debug)]
pub struct Room {
    /// In the order in which they will be asked for.
    waiting: Vec<Entry>,
    /// Asked for, and not here yet.
    kept: Vec<Entry>,
    kept_bytes: u64,
    /// When the first of them is kept no longer, or the first that waits may have been silent for too long: not later than that, but
    /// perhaps earlier, as what is heard does not move it.
    expires: Instant,
    entries: u64,
    /// Silence after which one that waits is forgotten.
    silence: Duration,
}

/// What became of a message that found no room.
#[derive(Debug, Default)]
pub struct Noted {
    /// Its sender is to be told that it waits.
    pub tell: bool,
    /// It is remembered.
    pub waits: bool,
    /// Another is not any more.
    pub instead_of: Option<Entry>,
}

impl Room {
    /// One in which nobody waits.
    pub const fn new(config: &Config) -> Self {
        let silence = config.peer_timeout;
        Self { waiting: Vec::new(), kept: Vec::new(), kept_bytes: 0, expires: Instant::FAR, entries: 0, silence }
    }

    /// Whether nobody waits and nothing is kept: so it is as long as there is memory.
    pub const fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.kept.is_empty()
    }

    /// Bytes that are kept free.
    pub const fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Bytes that are kept free for those peers.
    pub fn kept_for(&self, whom: impl Fn(u32) -> bool) -> u64 {
        self.kept.iter().filter(|entry| whom(entry.peer)).map(|entry| u64::from(entry.length)).sum()
    }

    /// Whether anything of `peer` waits, or has room kept for it.
    pub fn concerns(&self, peer: u32) -> bool {
        self.waiting.iter().chain(&self.kept).any(|entry| entry.peer == peer)
    }

    /// How many wait.
    pub const fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The `at`th of those that wait.
    pub fn get(&self, at: usize) -> Option<Entry> {
        self.waiting.get(at).copied()
    }

    /// Something was heard of `rpc`. Whether it waits.
    pub fn heard(&mut self, peer: u32, rpc: RpcId, now: Instant) -> bool {
        let entry = self.waiting.iter_mut().find(|entry| entry.is(peer, rpc));
        entry.map(|entry| entry.at = now).is_some()
    }

    /// A record of a message came and there is no room. `pause` is how long its sender believes that it waits.
    pub fn note(
        &mut self,
        config: &Config,
        now: Instant,
        (peer, rpc, length): (u32, RpcId, u32),
        pause: Duration,
    ) -> Noted {
        if let Some(entry) = self.waiting.iter_mut().find(|entry| entry.is(peer, rpc)) {
            entry.at = now;
            let tell = now.since(entry.told) >= pause;
            if tell {
                entry.told = now;
            }
            return Noted { tell, waits: true, instead_of: None };
        }
        self.entries += 1;
        let entry = Entry { length, age: self.entries, peer, rpc, at: now, told: now };
        let key = entry.key(config.order);
        // A full list keeps the shortest; and what one peer may have in it is for that peer to lose.
        let of_peer = self.waiting.iter().filter(|entry| entry.peer == peer).count();
        let last = if of_peer >= config.waiting_per_peer_max {
            self.waiting.iter().rposition(|entry| entry.peer == peer)
        } else if self.waiting.len() >= config.waiting_max {
            self.waiting.len().checked_sub(1)
        } else {
            Some(usize::MAX)
        };
        let instead_of = match last {
            Some(usize::MAX) => None,
            Some(last) if key < self.waiting[last].key(config.order) => Some(self.waiting.remove(last)),
            _ => return Noted::default(),
        };
        let at = self.waiting.partition_point(|entry| entry.key(config.order) < key);
        self.waiting.insert(at, entry);
        self.expires = self.expires.min(now + self.silence);
        Noted { tell: true, waits: true, instead_of }
    }

    /// Room is kept until `until` for the `at`th of those that wait.
    pub fn keep(&mut self, at: usize, until: Instant) {
        let entry = self.waiting.remove(at);
        self.kept.push(Entry { at: until, ..entry });
        self.recount();
    }

    /// The `at`th of those that wait does so no longer.
    pub fn drop_waiting(&mut self, at: usize) {
        self.waiting.remove(at);
        self.recount();
    }

    /// Room is not kept for `rpc` any more. Whether it was.
    pub fn stop_keeping(&mut self, peer: u32, rpc: RpcId) -> bool {
        let before = self.kept.len();
        self.kept.retain(|entry| !entry.is(peer, rpc));
        self.recount();
        self.kept.len() != before
    }

    /// `rpc` neither waits nor has room kept for it any more: it is here, or will never be.
    pub fn forget(&mut self, peer: u32, rpc: RpcId) {
        self.retain(|entry| !entry.is(peer, rpc));
    }

    /// The same for all that `peer` sends.
    pub fn forget_peer(&mut self, peer: u32) {
        self.retain(|entry| entry.peer != peer);
    }

    fn retain(&mut self, stays: impl Fn(&Entry) -> bool) {
        self.waiting.retain(&stays);
        self.kept.retain(stays);
        self.recount();
    }

    fn recount(&mut self) {
        self.kept_bytes = self.kept.iter().map(|entry| u64::from(entry.length)).sum();
        let silent = self.waiting.iter().map(|entry| entry.at + self.silence);
        self.expires = self.kept.iter().map(|entry| entry.at).chain(silent).min().unwrap_or(Instant::FAR);
    }

    /// When to call [`Self::expire`]; [`Instant::FAR`] when nobody waits and nothing is kept.
    pub const fn expires(&self) -> Instant {
        self.expires
    }

    /// Room that was kept long enough is kept no longer. Whether there was any, or somebody waits who was silent for too long: then
    /// [`Self::get`] is to be asked for all of them.
    pub fn expire(&mut self, now: Instant) -> bool {
        let before = self.kept.len();
        self.kept.retain(|entry| entry.at > now);
        self.recount();
        self.kept.len() != before || self.waiting.iter().any(|entry| self.is_silent(entry, now))
    }

    /// Whether nothing was heard for so long of one that waits that it is to be forgotten.
    pub fn is_silent(&self, waiting: &Entry, now: Instant) -> bool {
        now.since(waiting.at) >= self.silence
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use wire::ids::Side;

    use super::*;

    fn note(room: &mut Room, config: &Config, peer: u32, sequence: u64, length: u32) -> Noted {
        let rpc = RpcId::new(Side::Client, sequence);
        room.note(config, Instant::ZERO, (peer, rpc, length), Duration::from_millis(1))
    }

    fn lengths(room: &Room) -> Vec<u32> {
        room.waiting.iter().map(|entry| entry.length).collect()
    }

    /// [P-8.7] The shortest first, the older of two; one peer cannot fill the list, and a full list keeps the shortest.
    #[test]
    fn the_list_is_short_and_sorted() {
        let config = Config { waiting_max: 6, waiting_per_peer_max: 4, ..Config::default() };
        let mut room = Room::new(&Config::default());
        for (sequence, length) in [50, 10, 40, 20, 60].into_iter().enumerate() {
            assert_eq!(note(&mut room, &config, 0, sequence as u64, length).waits, length != 60);
        }
        assert_eq!(note(&mut room, &config, 0, 9, 30).instead_of.map(|entry| entry.length), Some(50));
        assert_eq!(lengths(&room), [10, 20, 30, 40]);
        note(&mut room, &config, 1, 0, 20);
        note(&mut room, &config, 2, 0, 100);
        assert!(!note(&mut room, &config, 3, 0, 100).waits);
        assert_eq!(note(&mut room, &config, 3, 0, 5).instead_of.map(|entry| entry.peer), Some(2));
        assert_eq!(lengths(&room), [5, 10, 20, 20, 30, 40]);
        assert_eq!((room.waiting[2].peer, room.waiting[3].peer), (0, 1));
        room.forget_peer(0);
        assert_eq!(lengths(&room), [5, 20]);
    }

    /// [P-8.7] Room is kept for a time, and its sender is told at most once in a pause.
    #[test]
    fn what_is_kept_ends() {
        let (config, mut room) = (Config::default(), Room::new(&Config::default()));
        let rpc = RpcId::new(Side::Client, 0);
        assert!(note(&mut room, &config, 0, 0, 70).tell && !note(&mut room, &config, 0, 0, 70).tell);
        let later = Instant::from_nanos(1_000_000);
        assert!(room.note(&config, later, (0, rpc, 70), Duration::from_millis(1)).tell);
        room.keep(0, later);
        assert_eq!(
            (room.kept_bytes(), room.kept_for(|p| p == 0), room.kept_for(|p| p == 1), room.expires()),
            (70, 70, 0, later)
        );
        assert!(!room.expire(Instant::from_nanos(999_999)) && room.expire(later) && room.is_idle());
        assert_eq!(room.kept_bytes(), 0);
    }
}
