//! Owns slices of records that wait for the others of theirs, as nothing proves one alone, and knows copies of those that opened. [P-4.6]
//!
//! A message's first record says how it is cut, so slices are placed by it; those of a message that nothing is known of are counted by what
//! they say themselves, which is believed only where there are no keys.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use record::error::OpenError;
use record::open::open_slices;
use rustc_hash::FxHashMap;
use wire::header::Header;
use wire::ids::RecordNumber;
use wire::limits::SLICE_SPARE;
use wire::slice::SliceView;

use super::Analyzer;
use super::sealed::{Told, known, told};
use crate::message::Arrival;
use crate::open::Key;

/// Records that are known of at once, waiting or opened. The oldest is given up for the next.
const KNOWN_MAX: usize = 4096;

/// Slices that are remembered of one record, copies included: a record has a fraction of that. Copies beyond it do not count.
const CAME_MAX: usize = 256;

/// A slice that came, and what it counts as.
#[derive(Debug)]
struct Came {
    start: usize,
    hash: u64,
    /// It came before, and while its record waited.
    is_copy: bool,
    arrival: Arrival,
}

/// A record of which slices came. One that has opened keeps what tells their copies, and no bytes.
#[derive(Debug)]
struct Gathered {
    sealed: Vec<u8>,
    came: Vec<Came>,
    left: usize,
}

/// What one more slice is.
enum Put {
    /// One of a record whose others are not all here; or one that says something else than that which came first in its place.
    Waits,
    /// The last of its record.
    Last,
    /// A copy of one whose record has opened.
    Copy,
}

/// All that are known of.
#[derive(Debug, Default)]
pub(super) struct Slices {
    known: FxHashMap<(u32, u64), Gathered>,
    order: VecDeque<(u32, u64)>,
    /// Keyed, so that nobody can make another slice pass for a copy.
    hasher: RandomState,
}

impl Slices {
    /// One more slice of the record `name`. The first in a place stays; copies of it count as it does. [P-4.6]
    fn put(&mut self, name: (u32, u64), view: &SliceView, bytes: &[u8], arrival: Arrival) -> Put {
        if !self.known.contains_key(&name) {
            if self.order.len() == KNOWN_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
            self.order.push_back(name);
        }
        let (start, hash) = (view.slice.start, self.hasher.hash_one((view.sealed_len, bytes)));
        let new = || Gathered { sealed: vec![0; view.sealed_len], came: Vec::new(), left: view.sealed_len };
        let record = self.known.entry(name).or_insert_with(new);
        let is_open = record.left == 0;
        let first = record.came.iter().find(|came| came.start == start);
        let is_copy = first.is_some();
        match first {
            Some(came) if came.hash != hash => return Put::Waits,
            Some(_) if is_open => return Put::Copy,
            Some(_) => {}
            None if is_open || record.sealed.len() != view.sealed_len => return Put::Waits,
            None => {
                record.left = record.left.saturating_sub(bytes.len());
                record.sealed[view.slice.clone()].copy_from_slice(bytes);
            }
        }
        if !is_copy || record.came.len() < CAME_MAX {
            record.came.push(Came { start, hash, is_copy, arrival });
        }
        if record.left == 0 { Put::Last } else { Put::Waits }
    }

    /// Nothing of the record `name` is known any more, as it did not open: one of its slices may be forged.
    fn forget(&mut self, name: (u32, u64)) {
        self.known.remove(&name);
        self.order.retain(|other| *other != name);
    }
}

/// Which of its message's records a slice counts as, by itself: those of one record are as long as its first, whose packet says how long
/// the packets of its train are. [P-5.1]
fn place(view: &SliceView, segment: u16, len: usize) -> u16 {
    let beside = len - view.slice.len();
    let step = usize::from(segment).max(len) - beside;
    view.number.index().saturating_add((view.slice.start / step.max(1)) as u16)
}

impl Analyzer {
    /// A slice that stands in a packet.
    pub(super) fn slice_of(&mut self, time_ns: u64, flow: u32, header: &Header, packet: &[u8], view: &SliceView) {
        let bytes = &packet[view.bytes.clone()];
        let check = bytes.iter().rev().zip(0..4).fold(0, |check, (byte, at)| check | u32::from(*byte) << (8 * at));
        let message = view.number.message();
        let arrival = Arrival {
            time_ns,
            index: place(view, header.segment, packet.len()),
            attempt: message.attempt(),
            payload: view.slice.len().saturating_sub(SLICE_SPARE) as u32,
            check,
            length: u32::from_be_bytes([packet[16], packet[17], packet[18], packet[19]]),
        };
        self.slice((flow, message.rpc().as_u48(), false), header.epoch, view, bytes, arrival);
    }

    /// A slice that counts as a record of its message.
    fn counted(&mut self, key: Key, arrival: &Arrival, told: Told) {
        self.counts.slices += 1;
        self.record(key, arrival, told);
    }

    /// A slice, which counts as `arrival`. With keys it counts once its record has opened.
    fn slice(&mut self, key: Key, epoch: u8, view: &SliceView, bytes: &[u8], arrival: Arrival) {
        if self.ring.is_none() {
            return self.counted(key, &arrival, None);
        }
        let flow = &mut self.flows[key.0 as usize];
        let number: RecordNumber = view.number;
        // Of a direction whose keys are not known yet, no slice tells: the first record of a message does.
        let Some(unsealer) = known(&mut flow.keys) else {
            self.sealed.without_key += 1;
            return self.counted(key, &arrival, None);
        };
        let name = (key.0, number.as_u64());
        match self.slices.put(name, view, bytes, arrival) {
            Put::Waits => return,
            Put::Copy => return self.counted(key, &arrival, None),
            Put::Last => {}
        }
        let record = self.slices.known.get_mut(&name).expect("its last slice was put there");
        let mut sealed = std::mem::take(&mut record.sealed);
        let opened: Result<_, OpenError> = unsealer.with(epoch, |data, _| open_slices(data, number, &mut sealed));
        match opened {
            Err(error) => {
                self.slices.forget(name);
                self.failed(error);
            }
            Ok(trailer) => {
                let came: Vec<_> = record.came.iter().map(|came| (came.is_copy, came.arrival)).collect();
                self.sealed.opened_records += 1;
                let geometry = trailer.geometry;
                let said: Told = told(&trailer);
                for (is_copy, arrival) in came {
                    if !is_copy {
                        self.sealed.opened_bytes += geometry.bytes(arrival.index).len() as u64;
                    }
                    self.counted(key, &arrival, said);
                }
            }
        }
    }
}
