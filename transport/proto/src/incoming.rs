//! Owns one message on its way in: what has arrived, what is missing, what was granted.

use core::ops::Range;

use wire::geometry::Geometry;
use wire::trailer::Kind;

use crate::ranges::Bits;
use crate::time::Instant;

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
}

impl Incoming {
    /// A message of which nothing has arrived, and whose sender will send `unscheduled` bytes on its own: whole records,
    /// at least one, so that what may come is always a number of records that can be asked for.
    pub fn new(geometry: Geometry, kind: Kind, unscheduled: u32, now: Instant) -> Self {
        let mut arrived = Bits::new();
        arrived.reset(geometry.records());
        let granted = geometry.offset_of(geometry.records_below(unscheduled).max(1));
        Self { geometry, kind, arrived, received: 0, granted, unscheduled: granted, heard: now }
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

    /// Gaps below what was granted, as bytes.
    pub fn gaps(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        let geometry = self.geometry;
        let bound = geometry.records_below(self.granted).max(1);
        self.arrived.missing(bound).map(move |(start, end)| geometry.offset_of(start)..geometry.offset_of(end))
    }
}
