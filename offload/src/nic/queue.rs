//! Owns one queue: its ring, its part of the card's memory, its contexts, and what of them is under way.

use std::collections::VecDeque;
use std::ops::Range;

use mlx5_shim::cqe::{Completion, Outcome};
use mlx5_shim::device::{self, Device};
use mlx5_shim::error::Failed;
use mlx5_shim::wqe::{BLOCK, Control, Descriptor};

use crate::context::Contexts;
use crate::plan::KeyName;

/// A plan that the card was told.
#[derive(Debug)]
struct Flight {
    /// The index of its last descriptor, which completes it.
    index: u16,
    /// Blocks of the ring up to its end.
    blocks_end: u64,
    /// Bytes of memory up to its end, those that were left out at the memory's end included.
    bytes_end: u64,
    key: KeyName,
}

/// What a look at the completions found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// As far as there is anything, it went well.
    Well,
    /// The queue has stopped.
    Stopped,
}

/// A queue.
#[derive(Debug)]
pub(crate) struct Queue {
    device: device::Queue,
    pub(crate) contexts: Contexts,
    /// Its part of the memory.
    memory: Range<usize>,
    /// Bytes given out and given back, ever.
    bytes: (u64, u64),
    /// Blocks posted and completed, ever.
    blocks: (u64, u64),
    /// Where the last descriptor begins; and whether it, or one before, awaits the doorbell.
    last: u16,
    unrung: bool,
    flights: VecDeque<Flight>,
}

impl Queue {
    pub(crate) fn new(device: device::Queue, memory: Range<usize>, contexts: usize) -> Self {
        Self {
            device,
            contexts: Contexts::new(contexts),
            memory,
            bytes: (0, 0),
            blocks: (0, 0),
            last: 0,
            unrung: false,
            flights: VecDeque::new(),
        }
    }

    /// Whether so many more blocks and bytes have room.
    pub(crate) fn has_room(&self, blocks: u64, bytes: usize) -> bool {
        let ring = u64::from(self.device.blocks).min(1 << 15);
        self.blocks.0 + blocks - self.blocks.1 <= ring && self.place(bytes).is_some()
    }

    /// Where the next `bytes` bytes in one piece would be, and up to where memory was given out then.
    fn place(&self, bytes: usize) -> Option<(Range<usize>, u64)> {
        let len = self.memory.len() as u64;
        let mut start = self.bytes.0;
        if start % len + bytes as u64 > len {
            start = start.next_multiple_of(len);
        }
        let end = start + bytes as u64;
        let at = self.memory.start + (start % len) as usize;
        (end - self.bytes.1 <= len).then_some((at..at + bytes, end))
    }

    /// Takes the next `bytes` bytes in one piece.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<Range<usize>> {
        let (place, end) = self.place(bytes)?;
        self.bytes.0 = end;
        Some(place)
    }

    /// Posts the descriptor that `make` makes; it adds what it wants to the control segment.
    pub(crate) fn post(
        &mut self,
        device: &mut dyn Device,
        make: impl FnOnce(Control) -> Descriptor,
    ) -> Result<u16, Failed> {
        let index = self.blocks.0 as u16;
        let descriptor = make(Control { index, queue: self.device.number, ..Control::default() });
        device.post(self.device, index, descriptor.bytes())?;
        debug_assert!(descriptor.bytes().len() == usize::from(descriptor.blocks()) * BLOCK, "whole blocks");
        self.blocks.0 += u64::from(descriptor.blocks());
        (self.last, self.unrung) = (index, true);
        Ok(descriptor.blocks())
    }

    /// All that was posted since the last flight is one, which its last descriptor completes.
    pub(crate) fn depart(&mut self, key: KeyName) {
        let (blocks_end, bytes_end) = (self.blocks.0, self.bytes.0);
        self.flights.push_back(Flight { index: self.last, blocks_end, bytes_end, key });
    }

    /// Tells the card of what was posted.
    pub(crate) fn ring(&mut self, device: &mut dyn Device) -> Result<(), Failed> {
        if !std::mem::take(&mut self.unrung) {
            return Ok(());
        }
        device.doorbell(self.device, self.blocks.0 as u16, self.last)
    }

    /// Takes note of what is complete.
    pub(crate) fn poll(&mut self, device: &mut dyn Device) -> Found {
        if self.flights.is_empty() {
            return Found::Well;
        }
        while let Some(Completion { index, outcome, .. }) = device.complete(self.device) {
            if outcome != Outcome::Done {
                return Found::Stopped;
            }
            // All before it are complete too.
            let Some(at) = self.flights.iter().position(|flight| flight.index == index) else { return Found::Stopped };
            for flight in self.flights.drain(..=at) {
                (self.blocks.1, self.bytes.1) = (flight.blocks_end, flight.bytes_end);
            }
        }
        if self.flights.is_empty() {
            // From the beginning again: that memory is still in the processor's caches.
            self.bytes = (0, 0);
        }
        Found::Well
    }

    /// Whether anything under way is sealed with `key`.
    pub(crate) fn uses(&self, key: KeyName) -> bool {
        self.flights.iter().any(|flight| flight.key == key)
    }

    /// Empties it and starts it again. Gives the keys of which the card may have sealed anything it should not.
    pub(crate) fn reset(&mut self, device: &mut dyn Device) -> (Vec<KeyName>, Result<(), Failed>) {
        let mut keys = self.contexts.reset();
        keys.extend(self.flights.drain(..).map(|flight| flight.key));
        keys.sort_unstable();
        keys.dedup();
        (self.bytes, self.blocks, self.last, self.unrung) = ((0, 0), (0, 0), 0, false);
        let fresh = device.reset_queue(self.device);
        (keys, fresh.map(|fresh| self.device = fresh))
    }
}
