//! A bad network around any backend: loses, reorders, duplicates, corrupts, truncates and delays datagrams; or one that ends.
//!
//! Owns the faults and their count. Refuses to know trains: it takes them apart both ways, so that a train does not live
//! or die as one, and hands out single datagrams.
//!
//! The same seed and the same datagrams in the same order meet the same fate. Only delays depend on the clock.

mod cut;

pub use cut::Cut;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::batch::{Datagrams, Received, SendError, Transmit};
use crate::caps::Caps;
use crate::poll::Set;
use crate::sys;

/// A reordered datagram is let go after this long even if nothing passes it.
const HELD_MAX: Duration = Duration::from_millis(1);
/// At most so many later datagrams pass a reordered one.
const PASSED_MAX: u64 = 8;
/// How soon to try again what the backend had no room for.
const RETRY_AFTER: Duration = Duration::from_micros(100);

/// What goes wrong on the way in one direction, and how often. Every rate is per datagram, from 0 to 1, default 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// Never arrives.
    pub loss: f64,
    /// Is overtaken by 1 to 8 later ones, or waits a millisecond if none come.
    pub reorder: f64,
    /// Arrives twice; each copy meets its own fate from here on.
    pub duplicate: f64,
    /// One bit is flipped.
    pub corrupt: f64,
    /// Loses at least one byte of its end.
    pub truncate: f64,
    /// Whence the dice come. Default 0.
    pub seed: u64,
    /// Arrives later, by an amount drawn evenly from this. Default zero; anything but a point also reorders.
    pub delay: RangeInclusive<Duration>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            loss: 0.0,
            reorder: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
            truncate: 0.0,
            seed: 0,
            delay: Duration::ZERO..=Duration::ZERO,
        }
    }
}

/// What was done to the datagrams of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Came in.
    pub seen: u64,
    /// Never went on.
    pub lost: u64,
    /// Had to wait for later ones.
    pub reordered: u64,
    /// Copies made.
    pub duplicated: u64,
    /// Had a bit flipped.
    pub corrupted: u64,
    /// Were shortened.
    pub truncated: u64,
    /// Had to wait for the clock.
    pub delayed: u64,
    /// Were let go, but the backend refused them.
    pub refused: u64,
}

/// Reads the counts of a [`Faulty`] that has been given away.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    out: Arc<Mutex<Counts>>,
    back: Arc<Mutex<Counts>>,
}

impl Tally {
    /// Of the datagrams transmitted so far.
    pub fn transmitted(&self) -> Counts {
        *self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of the datagrams received so far.
    pub fn received(&self) -> Counts {
        *self.back.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A backend behind a bad network.
///
/// Held datagrams move on when `transmit` or `receive` is called, so a driver must heed `next_due`.
#[derive(Debug)]
pub struct Faulty<D> {
    inner: D,
    out: Lane,
    back: Lane,
    scratch: Box<[u8]>,
    start: Instant,
}

impl<D: Datagrams> Faulty<D> {
    /// The same faults both ways, by different dice.
    pub fn new(inner: D, faults: Faults) -> Self {
        let back = Faults { seed: !faults.seed, ..faults.clone() };
        Self::each_way(inner, faults, back)
    }

    /// Faults of what is transmitted, and of what is received.
    pub fn each_way(inner: D, out: Faults, back: Faults) -> Self {
        Self {
            inner,
            out: Lane::new(out),
            back: Lane::new(back),
            scratch: vec![0; usize::from(u16::MAX)].into(),
            start: sys::now(),
        }
    }

    /// A reader of the counts, which stays valid when this is boxed and given away.
    pub fn tally(&self) -> Tally {
        Tally { out: Arc::clone(&self.out.counts), back: Arc::clone(&self.back.counts) }
    }

    /// The backend itself.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    fn elapsed(&self) -> Duration {
        sys::now().saturating_duration_since(self.start)
    }

    /// Sends what is ready. The first refusal of a datagram numbered `ours` or later is returned, those of earlier ones,
    /// whose callers have gone, are only counted. What finds no room stays.
    fn flush(&mut self, ours: u64) -> Result<(), SendError> {
        let mut result = Ok(());
        while let Some(packet) = self.out.ready.pop_front() {
            let bytes = &packet.bytes;
            let segment = bytes.len();
            match self.inner.transmit(&Transmit { to: packet.peer, bytes, segment, tos: packet.tos }) {
                Ok(()) => {}
                Err(SendError::WouldBlock { .. }) => {
                    self.out.ready.push_front(packet);
                    break;
                }
                Err(error) => {
                    self.out.count(|counts| counts.refused += 1);
                    if packet.number >= ours && result.is_ok() {
                        result = Err(error);
                    }
                }
            }
        }
        result
    }
}

impl<D: Datagrams> Datagrams for Faulty<D> {
    fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr()
    }

    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    fn transmit(&mut self, train: &Transmit<'_>) -> Result<(), SendError> {
        let now = self.elapsed();
        self.out.release(now);
        let ours = self.out.number;
        self.flush(ours)?;
        if !self.out.ready.is_empty() {
            return Err(SendError::WouldBlock { sent: 0 });
        }
        for datagram in train.datagrams() {
            self.out.enter(train.to, train.tos, datagram, false, now);
        }
        self.flush(ours)
    }

    fn receive(&mut self, into: &mut [u8]) -> io::Result<Option<Received>> {
        let now = self.elapsed();
        self.out.release(now);
        // Nothing here is of this call, so refusals have nobody to be told to.
        let _ = self.flush(u64::MAX);
        self.back.release(now);
        loop {
            if let Some(packet) = self.back.ready.pop_front() {
                return Ok(Some(packet.deliver(into)));
            }
            let Some(train) = self.inner.receive(&mut self.scratch)? else { return Ok(None) };
            let ends_short = train.truncated;
            let mut datagrams = train.datagrams(&self.scratch).peekable();
            while let Some(datagram) = datagrams.next() {
                let is_short = ends_short && datagrams.peek().is_none();
                self.back.enter(train.from, Some(train.tos), datagram, is_short, now);
            }
        }
    }

    fn fds(&self) -> BorrowedFd<'_> {
        self.inner.fds()
    }

    fn set(&self) -> Option<&Set> {
        self.inner.set()
    }

    fn watched(&mut self, on: bool) -> io::Result<()> {
        self.inner.watched(on)
    }

    fn next_due(&self) -> Option<Duration> {
        let now = self.elapsed();
        let held = [self.out.due(), self.back.due()].into_iter().flatten();
        let held = held.map(|due| due.saturating_sub(now));
        let arrived = (!self.back.ready.is_empty()).then_some(Duration::ZERO);
        let unsent = (!self.out.ready.is_empty()).then_some(RETRY_AFTER);
        held.chain(arrived).chain(unsent).chain(self.inner.next_due()).min()
    }
}

/// A datagram on its way through a lane. Ordered by when it is due, then by when it came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    due: Duration,
    number: u64,
    /// How many later ones shall pass it; 0 if it keeps its place.
    passes: u64,
    peer: SocketAddr,
    tos: Option<u8>,
    bytes: Vec<u8>,
    is_short: bool,
}

impl Packet {
    fn deliver(&self, into: &mut [u8]) -> Received {
        let len = self.bytes.len().min(into.len());
        into[..len].copy_from_slice(&self.bytes[..len]);
        Received {
            from: self.peer,
            len,
            segment: len,
            tos: self.tos.unwrap_or(0),
            truncated: self.is_short || len < self.bytes.len(),
        }
    }
}

/// One direction: datagrams enter, wait, and become ready. Time is an argument, counted from an arbitrary zero.
#[derive(Debug)]
struct Lane {
    faults: Faults,
    dice: Dice,
    counts: Arc<Mutex<Counts>>,
    /// Of the next packet.
    number: u64,
    /// Wait for the clock.
    delayed: BinaryHeap<Reverse<Packet>>,
    /// Wait for later ones to pass, or for the clock if none come.
    held: Vec<Packet>,
    ready: VecDeque<Packet>,
}

impl Lane {
    fn new(faults: Faults) -> Self {
        Self {
            dice: Dice(faults.seed),
            faults,
            counts: Arc::default(),
            number: 0,
            delayed: BinaryHeap::new(),
            held: Vec::new(),
            ready: VecDeque::new(),
        }
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn enter(&mut self, peer: SocketAddr, tos: Option<u8>, bytes: &[u8], is_short: bool, now: Duration) {
        let (is_lost, is_doubled) = (self.dice.says(self.faults.loss), self.dice.says(self.faults.duplicate));
        self.count(|counts| {
            counts.seen += 1;
            counts.lost += u64::from(is_lost);
            counts.duplicated += u64::from(is_doubled && !is_lost);
        });
        if is_lost {
            return;
        }
        for _ in 0..1 + usize::from(is_doubled) {
            let fate = Fate::draw(&mut self.dice, &self.faults);
            let mut bytes = bytes.to_vec();
            let done = fate.apply(&mut bytes);
            self.count(|counts| {
                counts.corrupted += u64::from(done.is_corrupted);
                counts.truncated += u64::from(done.is_truncated);
                counts.reordered += u64::from(fate.passes > 0);
                counts.delayed += u64::from(!fate.delay.is_zero());
            });
            let (number, passes, due) = (self.number, fate.passes, now + fate.delay);
            self.number += 1;
            let packet = Packet { due, number, passes, peer, tos, bytes, is_short };
            if fate.delay.is_zero() {
                self.arrive(packet, now);
            } else {
                self.delayed.push(Reverse(packet));
            }
        }
    }

    /// Lets everything go that has waited long enough.
    fn release(&mut self, now: Duration) {
        while self.delayed.peek().is_some_and(|packet| packet.0.due <= now) {
            if let Some(Reverse(packet)) = self.delayed.pop() {
                self.arrive(packet, now);
            }
        }
        self.ready.extend(self.held.extract_if(.., |packet| packet.due <= now));
    }

    /// When to call `release` next.
    fn due(&self) -> Option<Duration> {
        let held = self.held.iter().map(|packet| packet.due);
        held.chain(self.delayed.peek().map(|packet| packet.0.due)).min()
    }

    fn arrive(&mut self, mut packet: Packet, now: Duration) {
        if packet.passes > 0 {
            packet.due = now + HELD_MAX;
            self.held.push(packet);
            return;
        }
        self.ready.push_back(packet);
        let overtaken = |packet: &mut Packet| {
            packet.passes -= 1;
            packet.passes == 0
        };
        self.ready.extend(self.held.extract_if(.., overtaken));
    }
}

/// What happens to one copy of a datagram. Always drawn in full, so that one rate does not shift another's dice.
struct Fate {
    corrupt: Option<u64>,
    truncate: Option<u64>,
    passes: u64,
    delay: Duration,
}

struct Done {
    is_corrupted: bool,
    is_truncated: bool,
}

impl Fate {
    fn draw(dice: &mut Dice, faults: &Faults) -> Self {
        let (corrupts, corrupt) = (dice.says(faults.corrupt), dice.roll());
        let (truncates, truncate) = (dice.says(faults.truncate), dice.roll());
        let (reorders, passes) = (dice.says(faults.reorder), 1 + dice.roll() % PASSED_MAX);
        let (least, most) = (*faults.delay.start(), *faults.delay.end());
        let delay = least + most.saturating_sub(least).mul_f64(dice.unit());
        Self {
            corrupt: corrupts.then_some(corrupt),
            truncate: truncates.then_some(truncate),
            passes: if reorders { passes } else { 0 },
            delay,
        }
    }

    /// Alters the bytes. An empty datagram has nothing to alter.
    fn apply(&self, bytes: &mut Vec<u8>) -> Done {
        let bits = bytes.len() as u64 * 8;
        let corrupt = self.corrupt.filter(|_| bits > 0).map(|roll| roll % bits);
        if let Some(bit) = corrupt {
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
        let truncate = self.truncate.filter(|_| bits > 0).map(|roll| roll % (bits / 8));
        if let Some(len) = truncate {
            bytes.truncate(len as usize);
        }
        Done { is_corrupted: corrupt.is_some(), is_truncated: truncate.is_some() }
    }
}

/// SplitMix64: small, and good from any seed.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Evenly in 0..1.
    fn unit(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn says(&mut self, rate: f64) -> bool {
        self.unit() < rate
    }
}
