//! Owns where each byte of a message lands: message -> records. Nobody else multiplies an index by a size. [P-4.4]

use core::ops::Range;

use crate::limits::{
    DATAGRAM_MIN, MESSAGE_MAX, PACKET_MAX, PACKET_OVERHEAD, RECORD_PAYLOAD_MAX, RECORDS_MAX, TRAILER_LEN,
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
        Self { length: length as u32, payload: payload as u16 }
    }

    /// The geometry that a sealed trailer states, if it can be one. [P-4.2]
    pub const fn stated(length: u32, payload: u16) -> Option<Self> {
        let fits = length as usize <= MESSAGE_MAX
            && payload > 0
            && payload as usize <= RECORD_PAYLOAD_MAX
            && (length <= payload as u32 || (length as usize).div_ceil(payload as usize) <= RECORDS_MAX);
        if fits { Some(Self { length, payload }) } else { None }
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

    /// Where the first `records` records end, in bytes.
    pub const fn offset_of(self, records: u32) -> u32 {
        let end = records as u64 * self.payload as u64;
        if end < self.length as u64 { end as u32 } else { self.length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

        /// [P-4.2] What a peer states is either refused or safe to index with.
        #[test]
        fn stated_is_safe(length in any::<u32>(), payload in any::<u16>(), index in any::<u16>(), a in any::<u32>(), b in any::<u32>()) {
            if let Some(g) = Geometry::stated(length, payload) {
                let bytes = g.bytes(index);
                prop_assert!(bytes.start <= bytes.end && bytes.end <= length as usize);
                let records = g.records_of(a.min(b)..a.max(b));
                prop_assert!(records.start <= records.end && records.end <= g.records());
                prop_assert!(g.records_below(a) <= g.records());
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
