//! Owns slices: one sealed record that travels in several DATA packets. [P-4.6]
//!
//! What a slice says of itself is in clear and proves nothing. It is believed only where it says what follows from its message's trailer,
//! which an ordinary record brought: see [`SliceView::place`].

use core::ops::Range;

use crate::bytes::Reader;
use crate::data::{NONCE_LEN, RecordView, TLS_VERSION, aad_of, record_at};
use crate::error::Refusal;
use crate::geometry::Geometry;
use crate::ids::RecordNumber;
use crate::limits::{RECORD_HEADER_LEN, RECORD_PLAINTEXT_MAX, SLICE_HEADER_LEN, TAG_LEN, TRAILER_LEN};

/// Content type of a slice, and in the additional data of the record that it is part of.
const CONTENT_TYPE: u8 = 0x18;
/// Bytes behind the record number: offset, and length of the sealed record.
const PLACE_LEN: usize = SLICE_HEADER_LEN - RECORD_HEADER_LEN;

/// The 17 clear bytes of a slice: bytes `slice` of a sealed record of `sealed_len` bytes.
pub fn slice_header(number: RecordNumber, slice: &Range<usize>, sealed_len: usize) -> [u8; SLICE_HEADER_LEN] {
    debug_assert!(slice.end <= sealed_len && sealed_len <= RECORD_PLAINTEXT_MAX + TAG_LEN);
    let mut b = [0; SLICE_HEADER_LEN];
    b[0] = CONTENT_TYPE;
    b[1..3].copy_from_slice(&TLS_VERSION);
    b[3..5].copy_from_slice(&((NONCE_LEN + PLACE_LEN + slice.len()) as u16).to_be_bytes());
    b[5..13].copy_from_slice(&number.as_u64().to_be_bytes());
    b[13..15].copy_from_slice(&(slice.start as u16).to_be_bytes());
    b[15..17].copy_from_slice(&(sealed_len as u16).to_be_bytes());
    b
}

/// The additional data of a spanning record.
pub fn span_aad(number: RecordNumber, plaintext_len: usize) -> [u8; 13] {
    aad_of(CONTENT_TYPE, number, plaintext_len)
}

/// What a slice says, and where its bytes stand in the packet. Proves only that the lengths fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceView {
    /// That of the sealed record.
    pub number: RecordNumber,
    /// Which bytes of the sealed record it claims to be.
    pub slice: Range<usize>,
    /// Bytes of the sealed record.
    pub sealed_len: usize,
    /// Where it stands in the packet.
    pub bytes: Range<usize>,
}

impl SliceView {
    /// Which record of the message its packet counts as, and all that are sealed with it, if it is just the slice that a message cut
    /// like `geometry` has there: the first attempt's, of the length that it must have.
    pub fn place(&self, geometry: Geometry) -> Option<(u16, Range<u32>)> {
        let first = self.number.index();
        if !geometry.spans() || self.number.message().attempt() != 0 || u32::from(first) >= geometry.records() {
            return None;
        }
        let span = geometry.sealed_with(first);
        let step = geometry.slice(&span, first).len().max(1);
        let index = u16::try_from(usize::from(first) + self.slice.start / step).ok()?;
        let fits = span.start == u32::from(first)
            && span.end - span.start > 1
            && u32::from(index) < span.end
            && self.sealed_len == geometry.span_sealed_len(&span)
            && self.slice == geometry.slice(&span, index);
        fits.then_some((index, span))
    }
}

/// What stands in a DATA packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A whole record.
    Record(RecordView),
    /// A slice of one.
    Slice(SliceView),
}

impl Part {
    /// Its number: that of the record which it is, or is a slice of.
    pub const fn number(&self) -> RecordNumber {
        match self {
            Self::Record(view) => view.number,
            Self::Slice(view) => view.number,
        }
    }

    /// Where it ends in its packet, and the next begins.
    pub const fn end(&self) -> usize {
        match self {
            Self::Record(view) => view.sealed.end,
            Self::Slice(view) => view.bytes.end,
        }
    }
}

/// What begins at byte `at` of `packet`.
///
/// # Errors
/// Why that is neither a record nor a slice.
#[inline]
pub fn part_at(packet: &[u8], at: usize) -> Result<Part, Refusal> {
    if packet.get(at) == Some(&CONTENT_TYPE) {
        slice_at(packet, at).map(Part::Slice)
    } else {
        record_at(packet, at).map(Part::Record)
    }
}

/// The slice that begins at byte `at` of `packet`.
///
/// # Errors
/// Why what stands there is no slice.
pub fn slice_at(packet: &[u8], at: usize) -> Result<SliceView, Refusal> {
    let mut r = Reader::new(packet.get(at..).ok_or(Refusal::Truncated)?);
    if r.u8()? != CONTENT_TYPE || r.array::<2>()? != TLS_VERSION {
        return Err(Refusal::Malformed);
    }
    let length = usize::from(r.u16()?);
    let number = RecordNumber::from_u64(r.u64()?);
    let (offset, sealed_len) = (usize::from(r.u16()?), usize::from(r.u16()?));
    let len = length.checked_sub(NONCE_LEN + PLACE_LEN).ok_or(Refusal::Malformed)?;
    if sealed_len > RECORD_PLAINTEXT_MAX + TAG_LEN {
        return Err(Refusal::Oversized);
    }
    // A bundle has no slices: its index is no place in a message. [P-4.7]
    let whole = sealed_len >= TRAILER_LEN + TAG_LEN && number.index() != crate::bundle::INDEX;
    if len == 0 || !whole || offset + len > sealed_len {
        return Err(Refusal::Malformed);
    }
    let start = at + SLICE_HEADER_LEN;
    let bytes = start..start + len;
    let view = SliceView { number, slice: offset..offset + len, sealed_len, bytes };
    if view.bytes.end > packet.len() { Err(Refusal::Truncated) } else { Ok(view) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{MessageId, RpcId, Side};

    fn number(attempt: u8, index: u16) -> RecordNumber {
        RecordNumber::new(MessageId::new(RpcId::new(Side::Client, 7), attempt), index)
    }

    /// [P-4.6] A slice, byte for byte, and the additional data of its record.
    #[test]
    fn each_field_has_its_place() {
        let number = RecordNumber::from_u64(0x0102_0304_0506_0708);
        let expected = [0x18, 3, 3, 0x01, 0x0c, 1, 2, 3, 4, 5, 6, 7, 8, 0x02, 0x00, 0x30, 0x10];
        assert_eq!(slice_header(number, &(0x200..0x300), 0x3010), expected, "the length covers number and place");
        assert_eq!(span_aad(number, 0x3000), [1, 2, 3, 4, 5, 6, 7, 8, 0x18, 3, 3, 0x30, 0x00]);
    }

    /// [P-4.6] What is no slice: another type or version, nothing in it, beyond its record, of a record that cannot be, of a bundle.
    #[test]
    fn others_are_refused() {
        let mut packet = std::vec![0; 1 << 15];
        let mut read = |change: &dyn Fn(&mut [u8])| {
            packet[..SLICE_HEADER_LEN].copy_from_slice(&slice_header(number(0, 1), &(100..200), 300));
            change(&mut packet);
            slice_at(&packet, 0).map(|view| view.slice)
        };
        let put =
            |at: usize, value: u16| move |slice: &mut [u8]| slice[at..at + 2].copy_from_slice(&value.to_be_bytes());
        assert_eq!(read(&|_| ()), Ok(100..200));
        for kind in (0..=255).filter(|kind| *kind != 0x18) {
            assert_eq!(read(&|slice| slice[0] = kind), Err(Refusal::Malformed));
        }
        assert_eq!(read(&|slice| slice[1] = 4), Err(Refusal::Malformed));
        assert_eq!(read(&put(3, 12)), Err(Refusal::Malformed));
        assert_eq!(read(&put(3, 11)), Err(Refusal::Malformed));
        assert_eq!(read(&put(3, 13)), Ok(100..101));
        assert_eq!(read(&put(13, 200)), Ok(200..300));
        assert_eq!(read(&put(13, 201)), Err(Refusal::Malformed));
        assert_eq!(read(&put(15, 199)), Err(Refusal::Malformed));
        assert_eq!(read(&put(15, 16_400)), Ok(100..200));
        assert_eq!(read(&put(15, 16_401)), Err(Refusal::Oversized));
        assert_eq!(read(&put(11, 0xffff)), Err(Refusal::Malformed));
        packet.truncate(SLICE_HEADER_LEN + 99);
        packet[..SLICE_HEADER_LEN].copy_from_slice(&slice_header(number(0, 1), &(100..200), 300));
        assert_eq!(slice_at(&packet, 0), Err(Refusal::Truncated));
    }

    proptest! {
        /// [P-4.6] What is read as a slice lies inside its packet and inside its record; what we wrote is read.
        #[test]
        fn views_are_safe(mut packet in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..80, honest in any::<bool>()) {
            if honest && packet.len() > at + SLICE_HEADER_LEN {
                let len = packet.len() - at - SLICE_HEADER_LEN;
                let header = slice_header(number(0, 3), &(50..50 + len), 1000);
                packet[at..at + SLICE_HEADER_LEN].copy_from_slice(&header);
                let expected = SliceView { number: number(0, 3), slice: 50..50 + len, sealed_len: 1000, bytes: at + SLICE_HEADER_LEN..packet.len() };
                prop_assert_eq!(part_at(&packet, at), Ok(Part::Slice(expected)));
            }
            if let Ok(view) = slice_at(&packet, at) {
                prop_assert!(view.bytes.end <= packet.len() && view.bytes.len() == view.slice.len());
                prop_assert!(!view.slice.is_empty() && view.slice.end <= view.sealed_len);
            }
        }

        /// [P-4.6] Every slice of a message is found to be in its place; with another bit it is none, or claims to be of another record.
        #[test]
        fn the_place_is_exact(length in 2000usize..200_000, datagram in 1232usize..9000, which in any::<prop::sample::Index>(), bit in 0usize..17 * 8, attempt in 1u8..8) {
            let Some(geometry) = Geometry::cut(length, datagram).spanning() else { return Ok(()) };
            let index = which.index(geometry.records() as usize) as u16;
            let span = geometry.sealed_with(index);
            let (slice, sealed) = (geometry.slice(&span, index), geometry.span_sealed_len(&span));
            let view = |number| SliceView { number, slice: slice.clone(), sealed_len: sealed, bytes: 0..slice.len() };
            let sliced = geometry.is_sliced(index);
            let honest = view(number(0, span.start as u16));
            prop_assert_eq!(honest.place(geometry), sliced.then_some((index, span.clone())));
            prop_assert_eq!(honest.place(Geometry::cut(length, datagram)), None);
            prop_assert_eq!(view(number(attempt, span.start as u16)).place(geometry), None);
            if sliced {
                let mut packet = slice_header(honest.number, &slice, sealed).to_vec();
                packet[bit / 8] ^= 1 << (bit % 8);
                packet.resize(SLICE_HEADER_LEN + slice.len(), 0);
                if let Ok(view) = slice_at(&packet, 0) {
                    let place = view.place(geometry);
                    prop_assert!(place.is_none() || view == honest || view.number != honest.number);
                }
            }
        }
    }
}
