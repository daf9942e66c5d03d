//! Owns where each byte of a message lands: message -> records. Nobody else multiplies an index by a size. [P-4.4]
//!
//! A message whose first attempt spans is cut the same way: what is an ordinary record's is then a slice's, and a run of slices is one
//! sealed record, which is named by its first. So whoever counts records counts what a packet carries, in either layout. [P-4.6]

use core::ops::Range;

use crate::limits::{
    DATAGRAM_MIN, MESSAGE_MAX, PACKET_MAX, PACKET_OVERHEAD, RECORD_PAYLOAD_MAX, RECORD_PLAINTEXT_MAX, RECORDS_MAX,
    SLICE_SPARE, SPAN_PACKETS_MAX, SPAN_PACKETS_MIN, SPAN_PAYLOAD_MIN, TAG_LEN, TRAILER_LEN,
};

/// Bytes of a block of AES.
pub const CIPHER_BLOCK: usize = 16;
// Else whole blocks of payload would not be whole blocks of a record.
const _: () = assert!(TRAILER_LEN.is_multiple_of(CIPHER_BLOCK));

/// How a message is cut: all records but the last hold the same number of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    length: u32,
    payload: u16,
    /// How many slices the spanning records of the first attempt are cut to, but the last of its message; 0: there are none.
    slices: u8,
}

impl Geometry {
    /// Cuts a message of `length` bytes for datagrams of at most `datagram_max` bytes.
    ///
    /// The cut is even: no record is much shorter than the others, so packets of one message, and of messages of the same
    /// length, have one size and share a segment. But they end at whole blocks of a block cipher where the datagram has the room: a
    /// part of one costs ciphers more than all of it (decision 0014).
    ///
    /// ```
    /// let cut = wire::geometry::Geometry::cut(3000, 1472);
    /// assert_eq!((cut.records(), cut.payload()), (3, 1008));
    /// assert_eq!(cut.bytes(2), 2016..3000);
    /// ```
    ///
    /// # Panics
    /// When `length` is over [`MESSAGE_MAX`] or `datagram_max` under [`DATAGRAM_MIN`]: both are checked where they enter.
    pub const fn cut(length: usize, datagram_max: usize) -> Self {
        assert!(length <= MESSAGE_MAX && datagram_max >= DATAGRAM_MIN);
        let datagram = if datagram_max < PACKET_MAX { datagram_max } else { PACKET_MAX };
        let most = datagram - PACKET_OVERHEAD;
        // The common case, without divisions.
        let payload = match length {
            0 => 1,
            _ if length <= most => length,
            _ => {
                let even = length.div_ceil(length.div_ceil(most));
                let blocks = even.next_multiple_of(CIPHER_BLOCK);
                if blocks <= most { blocks } else { even }
            }
        };
        Self { length: length as u32, payload: payload as u16, slices: 0 }
    }

    /// The geometry that a sealed trailer states, if it can be one. [P-4.2]
    pub const fn stated(length: u32, payload: u16) -> Option<Self> {
        let fits = length as usize <= MESSAGE_MAX
            && payload > 0
            && payload as usize <= RECORD_PAYLOAD_MAX
            && (length <= payload as u32 || (length as usize).div_ceil(payload as usize) <= RECORDS_MAX);
        if fits { Some(Self { length, payload, slices: 0 }) } else { None }
    }

    /// Bytes of the message.
    pub const fn length(self) -> u32 {
        self.length
    }

    /// Message bytes in every record but the last.
    pub const fn payload(self) -> u16 {
        self.payload
    }

    /// How many records there are: at least one, also for an empty message.
    pub const fn records(self) -> u32 {
        // Asked of every record; most messages are one.
        if self.length <= self.payload as u32 { 1 } else { self.length.div_ceil(self.payload as u32) }
    }

    /// The bytes of record `index`; empty past the end.
    pub const fn bytes(self, index: u16) -> Range<usize> {
        let start = index as usize * self.payload as usize;
        let length = self.length as usize;
        let start = if start < length { start } else { length };
        let end = start + self.payload as usize;
        start..if end < length { end } else { length }
    }

    /// The records that hold any of the bytes in `bytes`; all there are for an empty message.
    pub const fn records_of(self, bytes: Range<u32>) -> Range<u32> {
        let all = self.records();
        if self.length == 0 {
            return 0..1;
        }
        let first = bytes.start / self.payload as u32;
        let last = bytes.end.div_ceil(self.payload as u32);
        let last = if last < all { last } else { all };
        (if first < last { first } else { last })..last
    }

    /// How many records, from the first, lie wholly below byte `offset`. An empty message's only record always does.
    pub const fn records_below(self, offset: u32) -> u32 {
        if offset >= self.length { self.records() } else { offset / self.payload as u32 }
    }

    // ---- Spanning records [P-4.6] ----

    /// The same cut, for a first attempt with spanning records. `None` when there would be none, or slices too short for them.
    pub const fn spanning(self) -> Option<Self> {
        // Asked of every message; most are one record.
        if self.records() < 3 || (self.payload as usize) < SPAN_PAYLOAD_MIN {
            return None;
        }
        let most = (RECORD_PLAINTEXT_MAX + TAG_LEN) / (self.payload as usize + SLICE_SPARE);
        let slices = if most < SPAN_PACKETS_MAX { most } else { SPAN_PACKETS_MAX };
        if slices >= SPAN_PACKETS_MIN { Some(Self { slices: slices as u8, ..self }) } else { None }
    }

    /// Whether the first attempt has spanning records.
    pub const fn spans(self) -> bool {
        self.slices != 0
    }

    /// The records, as they are counted, that are sealed as one with record `index` in a first attempt: the first is alone always, the
    /// last may be.
    pub const fn sealed_with(self, index: u16) -> Range<u32> {
        let index = index as u32;
        if !self.spans() || index == 0 {
            return index..index + 1;
        }
        let most = self.slices as u32;
        let start = index - (index - 1) % most;
        let (end, all) = (start + most, self.records());
        start..if end < all { end } else { all }
    }

    /// Whether record `index` travels as a slice in a first attempt.
    pub const fn is_sliced(self, index: u16) -> bool {
        let sealed = self.sealed_with(index);
        sealed.end - sealed.start > 1
    }

    /// The bytes of the message in the spanning record of these slices.
    pub const fn span_bytes(self, span: &Range<u32>) -> Range<usize> {
        self.bytes(span.start as u16).start..self.bytes((span.end - 1) as u16).end
    }

    /// Bytes of that record, sealed: what ends it fills its slices.
    pub const fn span_sealed_len(self, span: &Range<u32>) -> usize {
        let bytes = self.span_bytes(span);
        bytes.end - bytes.start + (span.end - span.start) as usize * SLICE_SPARE
    }

    /// Which bytes of that sealed record slice `index` is.
    pub const fn slice(self, span: &Range<u32>, index: u16) -> Range<usize> {
        let start = (index as usize - span.start as usize) * (self.payload as usize + SLICE_SPARE);
        let bytes = self.bytes(index);
        start..start + (bytes.end - bytes.start) + SLICE_SPARE
    }

    /// Bytes of all spanning records together that are not the message's: their padding, trailers and tags. None if none spans.
    pub const fn span_spare(self) -> usize {
        if self.spans() { self.records() as usize * SLICE_SPARE } else { 0 }
    }

    /// Where the sealed record ends that byte `offset - 1` is in; 0 for 0. Only what is sent up to such an end can be opened.
    pub const fn sealed_end(self, offset: u32) -> u32 {
        if !self.spans() || offset == 0 {
            return self.offset_of(self.records_below(offset));
        }
        let last = if offset < self.length { offset - 1 } else { self.length - 1 };
        self.offset_of(self.sealed_with((last / self.payload as u32) as u16).end)
    }

    /// The last end of a sealed record at or before byte `offset`.
    pub const fn sealed_end_before(self, offset: u32) -> u32 {
        let end = self.sealed_end(offset);
        if !self.spans() || end <= offset {
            return end;
        }
        self.bytes(self.sealed_with(((offset - 1) / self.payload as u32) as u16).start as u16).start as u32
    }

    /// Where the first `records` records end, in bytes.
    pub const fn offset_of(self, records: u32) -> u32 {
        let end = records as u64 * self.payload as u64;
        if end < self.length as u64 { end as u32 } else { self.length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{DATA_HEADER_LEN, SLICE_HEADER_LEN};
    use proptest::prelude::*;

    proptest! {
        /// [P-4.4] Every byte lands in exactly one record, in order, and the inverse finds it.
        #[test]
        fn every_byte_once(length in 0usize..300_000, datagram in DATAGRAM_MIN..70_000) {
            let g = Geometry::cut(length, datagram);
            let mut next = 0;
            for index in 0..g.records() {
                let bytes = g.bytes(index as u16);
                prop_assert_eq!(bytes.start, next);
                prop_assert!(bytes.len() + PACKET_OVERHEAD <= datagram);
                prop_assert!(index + 1 == g.records() || bytes.len() == usize::from(g.payload()));
                let has_room = (datagram.min(PACKET_MAX) - PACKET_OVERHEAD - bytes.len()) >= CIPHER_BLOCK;
                prop_assert!(index + 1 == g.records() || !has_room || bytes.len().is_multiple_of(CIPHER_BLOCK), "whole blocks");
                prop_assert!(!bytes.is_empty() || length == 0);
                prop_assert_eq!(g.records_below(bytes.end as u32), if bytes.end == length { g.records() } else { index + 1 });
                prop_assert_eq!(g.offset_of(index + 1) as usize, bytes.end);
                if !bytes.is_empty() {
                    let range = bytes.start as u32..bytes.end as u32;
                    prop_assert_eq!(g.records_of(range), index..index + 1);
                }
                next = bytes.end;
            }
            prop_assert_eq!(next, length);
            prop_assert_eq!(Geometry::stated(g.length(), g.payload()), Some(g));
        }

        /// [P-4.6] Spanning records hold all but the first record's bytes, each once; none is larger than a record may be, and its slices
        /// are all of it, in packets as long as those of ordinary records.
        #[test]
        fn every_byte_once_in_spans(length in 0usize..300_000, datagram in DATAGRAM_MIN..20_000) {
            let cut = Geometry::cut(length, datagram);
            let Some(g) = cut.spanning() else {
                let long = cut.records() >= 3 && usize::from(cut.payload()) >= SPAN_PAYLOAD_MIN;
                prop_assert!(!long || SPAN_PACKETS_MIN * (usize::from(cut.payload()) + SLICE_SPARE) > RECORD_PLAINTEXT_MAX + TAG_LEN);
                return Ok(());
            };
            prop_assert_eq!((g.records(), g.payload(), g.length()), (cut.records(), cut.payload(), cut.length()));
            prop_assert_eq!(cut.span_spare(), 0);
            prop_assert_eq!(g.sealed_with(0), 0..1);
            let (mut next, mut spares) = (1, SLICE_SPARE);
            while next < g.records() {
                let span = g.sealed_with(next as u16);
                prop_assert_eq!(span.start, next);
                prop_assert!(span.clone().all(|index| g.sealed_with(index as u16) == span));
                prop_assert!(span.clone().all(|index| g.is_sliced(index as u16) == (span.len() > 1)));
                let bytes = g.span_bytes(&span);
                prop_assert_eq!((bytes.start, bytes.end), (g.offset_of(span.start) as usize, g.offset_of(span.end) as usize));
                for end in [bytes.start + 1, bytes.end - 1, bytes.end] {
                    prop_assert_eq!(g.sealed_end(end as u32) as usize, bytes.end);
                }
                for (at, before) in [(bytes.start, bytes.start), (bytes.start + 1, bytes.start), (bytes.end - 1, bytes.start)] {
                    prop_assert_eq!(g.sealed_end_before(at as u32) as usize, before);
                }
                let sealed = g.span_sealed_len(&span);
                prop_assert!(span.len() == 1 || sealed >= bytes.len() + TRAILER_LEN + TAG_LEN);
                prop_assert!(sealed <= RECORD_PLAINTEXT_MAX + TAG_LEN && span.len() <= SPAN_PACKETS_MAX);
                let mut at = 0;
                for index in span.clone() {
                    let slice = g.slice(&span, index as u16);
                    prop_assert_eq!(slice.start, at);
                    let packet = DATA_HEADER_LEN + SLICE_HEADER_LEN + slice.len();
                    prop_assert_eq!(packet, PACKET_OVERHEAD + g.bytes(index as u16).len());
                    at = slice.end;
                }
                prop_assert_eq!(at, sealed);
                spares += span.len() * SLICE_SPARE;
                next = span.end;
            }
            prop_assert_eq!((next, spares), (g.records(), g.span_spare()));
            prop_assert_eq!((g.sealed_end(0), g.sealed_end(u32::MAX)), (0, g.length()));
            prop_assert_eq!((g.sealed_end_before(0), g.sealed_end_before(u32::MAX)), (0, g.length()));
        }

        /// [P-4.2] What a peer states is either refused or safe to index with.
        #[test]
        fn stated_is_safe(length in any::<u32>(), payload in any::<u16>(), index in any::<u16>(), a in any::<u32>(), b in any::<u32>()) {
            if let Some(g) = Geometry::stated(length, payload) {
                let bytes = g.bytes(index);
                prop_assert!(bytes.start <= bytes.end && bytes.end <= length as usize);
                let records = g.records_of(a.min(b)..a.max(b));
                prop_assert!(records.start <= records.end && records.end <= g.records());
                prop_assert!(g.records_below(a) <= g.records());
                if let Some(g) = g.spanning().filter(|g| u32::from(index) < g.records()) {
                    let span = g.sealed_with(index);
                    prop_assert!(span.contains(&index.into()) && span.end <= g.records());
                    prop_assert!(g.slice(&span, index).end <= g.span_sealed_len(&span));
                    prop_assert!(g.span_sealed_len(&span) <= RECORD_PLAINTEXT_MAX + TAG_LEN);
                    prop_assert!(g.span_spare() * 18 <= g.length() as usize + SPAN_PAYLOAD_MIN, "a small part");
                }
            }
        }
    }

    /// [P-5.6] [P-4.2]
    #[test]
    fn the_largest_message_on_the_smallest_path() {
        assert_eq!(DATAGRAM_MIN, 1232);
        let g = Geometry::cut(MESSAGE_MAX, DATAGRAM_MIN);
        assert!(g.records() as usize <= RECORDS_MAX);
    }
}
