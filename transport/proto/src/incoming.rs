//! Owns one message on its way in: what has arrived, what is missing, what was granted.

use core::ops::Range;
use core::time::Duration;

use wire::geometry::Geometry;
use wire::trailer::Kind;

use crate::ranges::Bits;
use crate::time::Instant;

/// What becomes of slices of a message. [P-4.6]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slices {
    /// None are kept: there are none, or a later attempt has begun.
    Dropped,
    /// They wait until all of their record are here.
    Kept,
    /// Some did not open. None are kept, and the next attempt is asked for.
    Spoiled,
}

/// The receiver's view of one message.
#[derive(Debug)]
pub struct Incoming {
    geometry: Geometry,
    kind: Kind,
    arrived: Bits,
    received: u32,
    granted: u32,
    /// What was granted at the beginning, by nobody.
    unscheduled: u32,
    /// When the last new record came.
    pub heard: Instant,
    slices: Slices,
    /// Slices that wait: nothing proves them yet.
    staged: Bits,
    /// When the last of them came.
    staged_at: Instant,
}

impl Incoming {
    /// A message of which nothing has arrived, and whose sender will send `unscheduled` bytes on its own: whole records,
    /// at least one, so that what may come is always a number of records that can be asked for.
    pub fn new(geometry: Geometry, kind: Kind, unscheduled: u32, now: Instant) -> Self {
        let mut arrived = Bits::new();
        arrived.reset(geometry.records());
        let granted = geometry.offset_of(geometry.records_below(unscheduled).max(1));
        let (mut staged, mut slices) = (Bits::new(), Slices::Dropped);
        if geometry.spans() {
            staged.reset(geometry.records());
            slices = Slices::Kept;
        }
        let unscheduled = granted;
        Self { geometry, kind, arrived, received: 0, granted, unscheduled, heard: now, slices, staged, staged_at: now }
    }

    /// How it is cut.
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// What it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether record `index` is here.
    pub fn has(&self, index: u16) -> bool {
        self.arrived.contains(index.into())
    }

    /// Record `index` arrived; the bytes that are new by it.
    pub fn arrive(&mut self, index: u16, now: Instant) -> u32 {
        if !self.arrived.set(index.into()) {
            return 0;
        }
        self.heard = now;
        let bytes = self.geometry.bytes(index).len() as u32;
        self.received += bytes;
        bytes
    }

    // ---- Slices [P-4.6] ----

    /// Whether slices of it are kept.
    pub fn keeps_slices(&self) -> bool {
        self.slices == Slices::Kept
    }

    /// Whether slice `index` waits.
    pub fn is_staged(&self, index: u16) -> bool {
        self.staged.contains(index.into())
    }

    /// These slices of the record that `span` is sealed as wait from now on. Whether all of that record do.
    pub fn stage(&mut self, slices: Range<u32>, span: &Range<u32>, now: Instant) -> bool {
        for index in slices {
            self.staged.set(index);
        }
        self.staged_at = now;
        // Most come in order: if one is missing it is likely the last.
        span.clone().rev().all(|index| self.staged.contains(index))
    }

    /// These do not wait any more: they were opened.
    pub fn unstage(&mut self, span: &Range<u32>) {
        for index in span.clone() {
            self.staged.clear(index);
        }
    }

    /// A record did not open: whatever waits is worth nothing, and what is missing is asked for under another attempt.
    pub fn spoil(&mut self) {
        self.forget_slices();
        self.slices = Slices::Spoiled;
    }

    /// A later attempt has begun: nothing of the first comes any more.
    pub fn forget_slices(&mut self) {
        self.slices = Slices::Dropped;
        self.staged = Bits::new();
    }

    /// Whether the next attempt is to be asked for.
    pub fn wants_next_attempt(&self) -> bool {
        self.slices == Slices::Spoiled
    }

    /// Since when there was silence that is worth a question. Slices prove nothing, so they put it off, but no longer than `most`.
    pub fn silent_since(&self, most: Duration) -> Instant {
        self.heard.max(self.staged_at.min(self.heard + most))
    }

    /// Bytes that have arrived.
    pub const fn received(&self) -> u32 {
        self.received
    }

    /// Bytes that the sender may send, unscheduled ones included.
    pub const fn granted(&self) -> u32 {
        self.granted
    }

    /// Grants up to `offset`.
    pub const fn grant(&mut self, offset: u32) {
        self.granted = offset;
    }

    /// Whether record `index` may have been sent.
    pub fn allows(&self, index: u16) -> bool {
        self.geometry.bytes(index).end <= self.granted as usize
    }

    /// Bytes that have not arrived.
    pub const fn bytes_left(&self) -> u32 {
        self.geometry.length() - self.received
    }

    /// Bytes that nobody granted yet.
    pub const fn bytes_not_granted(&self) -> u32 {
        self.geometry.length() - self.granted
    }

    /// Bytes that were granted by us and have not arrived.
    pub const fn scheduled(&self) -> u32 {
        self.granted.saturating_sub(if self.received > self.unscheduled { self.received } else { self.unscheduled })
    }

    /// Bytes that may be on their way.
    pub const fn outstanding(&self) -> u32 {
        self.granted.saturating_sub(self.received)
    }

    /// Whether all records are here.
    pub fn is_complete(&self) -> bool {
        self.arrived.is_complete()
    }

    /// Bytes from the start that are here without a gap.
    pub fn contiguous(&self) -> u32 {
        self.geometry.offset_of(self.arrived.contiguous())
    }

    /// Gaps below what was granted, as bytes. What waits to be opened is none.
    pub fn gaps(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        let geometry = self.geometry;
        let bound = geometry.records_below(self.granted).max(1);
        self.arrived
            .missing_in_both(&self.staged, bound)
            .map(move |(start, end)| geometry.offset_of(start)..geometry.offset_of(end))
    }
}
