//! Owns slices of records that wait for the others of theirs: nothing proves one alone. [P-4.6]
//!
//! A message's first record says how it is cut, so slices are placed by it; those of a message that nothing is known of are counted by what
//! they say themselves, which is believed only where there are no keys.

use std::collections::VecDeque;

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

/// Records that may wait for slices at once. The oldest is given up for the next.
const WAITING_MAX: usize = 4096;

/// A record of which slices came.
#[derive(Debug)]
struct Waiting {
    sealed: Vec<u8>,
    /// Its slices, and how each counts.
    came: Vec<(usize, Arrival)>,
    left: usize,
}

/// All that wait.
#[derive(Debug, Default)]
pub(super) struct Slices {
    waiting: FxHashMap<(u32, u64), Waiting>,
    order: VecDeque<(u32, u64)>,
}

impl Slices {
    /// One more slice of the record `name`. The record, once all of it is here, and what its slices count as.
    fn put(&mut self, name: (u32, u64), view: &SliceView, bytes: &[u8], arrival: Arrival) -> Option<Waiting> {
        let new = || Waiting { sealed: vec![0; view.sealed_len], came: Vec::new(), left: view.sealed_len };
        if !self.waiting.contains_key(&name) {
            if self.order.len() == WAITING_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.waiting.remove(&oldest);
            }
            self.order.push_back(name);
        }
        let waiting = self.waiting.entry(name).or_insert_with(new);
        if waiting.sealed.len() != view.sealed_len {
            return None;
        }
        if waiting.came.iter().all(|(start, _)| *start != view.slice.start) {
            waiting.left = waiting.left.saturating_sub(bytes.len());
            waiting.sealed[view.slice.clone()].copy_from_slice(bytes);
            waiting.came.push((view.slice.start, arrival));
        }
        if waiting.left > 0 {
            return None;
        }
        self.order.retain(|other| *other != name);
        self.waiting.remove(&name)
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

    /// A slice, which counts as `arrival`. With keys it counts once its record has opened.
    fn slice(&mut self, key: Key, epoch: u8, view: &SliceView, bytes: &[u8], arrival: Arrival) {
        if self.ring.is_none() {
            return self.record(key, &arrival, None);
        }
        let flow = &mut self.flows[key.0 as usize];
        let number: RecordNumber = view.number;
        // Of a direction whose keys are not known yet, no slice tells: the first record of a message does.
        let Some(unsealer) = known(&mut flow.keys) else {
            self.sealed.without_key += 1;
            return self.record(key, &arrival, None);
        };
        let Some(mut waiting) = self.slices.put((key.0, number.as_u64()), view, bytes, arrival) else { return };
        let opened: Result<_, OpenError> =
            unsealer.with(epoch, |data, _| open_slices(data, number, &mut waiting.sealed));
        match opened {
            Err(error) => self.failed(error),
            Ok(trailer) => {
                self.sealed.opened_records += 1;
                let geometry = trailer.geometry;
                let said: Told = told(&trailer);
                for (_, arrival) in waiting.came {
                    self.sealed.opened_bytes += geometry.bytes(arrival.index).len() as u64;
                    self.record(key, &arrival, said);
                }
            }
        }
    }
}
