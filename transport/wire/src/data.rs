//! Owns the DATA packet: a header that is the same in all packets of a segment, then whole records. [P-5.2], [P-4.1]

use core::ops::Range;

use crate::bytes::{Reader, Writer};
use crate::error::Refusal;
use crate::header::Header;
use crate::ids::RecordNumber;
use crate::limits::{RECORD_HEADER_LEN, RECORD_PLAINTEXT_MAX, TAG_LEN, TRAILER_LEN};

/// Content type of a record that is whole in its packet; those of slices are in `slice`. [P-4.1], [P-4.6]
const CONTENT_TYPE: u8 = 0x17;
/// TLS 1.2 (RFC 5246), the record shape that NICs seal.
pub(crate) const TLS_VERSION: [u8; 2] = [3, 3];
/// Bytes of the explicit nonce.
pub(crate) const NONCE_LEN: usize = 8;

/// Appends a DATA packet's header. `length` is for the network's eyes only.
pub fn emit_header(w: &mut Writer<'_>, header: &Header, length: u32) {
    header.emit(w);
    w.u32(length);
}

/// The 13 clear bytes of a record that seals `plaintext_len` bytes.
pub fn record_header(number: RecordNumber, plaintext_len: usize) -> [u8; RECORD_HEADER_LEN] {
    debug_assert!(plaintext_len <= RECORD_PLAINTEXT_MAX);
    let mut b = [0; RECORD_HEADER_LEN];
    b[0] = CONTENT_TYPE;
    b[1..3].copy_from_slice(&TLS_VERSION);
    b[3..5].copy_from_slice(&((NONCE_LEN + plaintext_len + TAG_LEN) as u16).to_be_bytes());
    b[5..13].copy_from_slice(&number.as_u64().to_be_bytes());
    b
}

/// The additional data of that record (RFC 5246 section 6.2.3.3). [P-4.1]
pub fn record_aad(number: RecordNumber, plaintext_len: usize) -> [u8; 13] {
    aad_of(CONTENT_TYPE, number, plaintext_len)
}

/// The same of a record of that content type: what was sealed as one is never opened as the other.
pub(crate) fn aad_of(content_type: u8, number: RecordNumber, plaintext_len: usize) -> [u8; 13] {
    let mut b = [0; 13];
    b[0..8].copy_from_slice(&number.as_u64().to_be_bytes());
    b[8] = content_type;
    b[9..11].copy_from_slice(&TLS_VERSION);
    b[11..13].copy_from_slice(&(plaintext_len as u16).to_be_bytes());
    b
}

/// Where a sealed record stands in its packet, and its number. Proves only that the lengths fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordView {
    /// As the explicit nonce says; true once the tag has verified.
    pub number: RecordNumber,
    /// Ciphertext and tag, as a range of the packet.
    pub sealed: Range<usize>,
}

impl RecordView {
    /// Bytes of plaintext that it seals, the trailer included.
    pub fn plaintext_len(&self) -> usize {
        self.sealed.len() - TAG_LEN
    }
}

/// The record that begins at byte `at` of `packet`; the next one begins where its sealed bytes end.
///
/// # Errors
/// Why what stands there is no record.
pub fn record_at(packet: &[u8], at: usize) -> Result<RecordView, Refusal> {
    let mut r = Reader::new(packet.get(at..).ok_or(Refusal::Truncated)?);
    if r.u8()? != CONTENT_TYPE || r.array::<2>()? != TLS_VERSION {
        return Err(Refusal::Malformed);
    }
    let length = usize::from(r.u16()?);
    if length < NONCE_LEN + TRAILER_LEN + TAG_LEN {
        return Err(Refusal::Malformed);
    }
    if length > NONCE_LEN + RECORD_PLAINTEXT_MAX + TAG_LEN {
        return Err(Refusal::Oversized);
    }
    let number = RecordNumber::from_u64(r.u64()?);
    let start = at + RECORD_HEADER_LEN;
    let end = start + length - NONCE_LEN;
    if end > packet.len() { Err(Refusal::Truncated) } else { Ok(RecordView { number, sealed: start..end }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::DATA_HEADER_LEN;
    use proptest::prelude::*;

    proptest! {
        /// [P-4.1] What is read as a record lies inside its packet and is long enough to be opened; what we wrote is read.
        #[test]
        fn views_are_safe(mut packet in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..80, honest in any::<bool>(), number in any::<u64>()) {
            if honest && packet.len() > at + RECORD_HEADER_LEN + TRAILER_LEN + TAG_LEN {
                let plaintext = packet.len() - at - RECORD_HEADER_LEN - TAG_LEN;
                let header = record_header(RecordNumber::from_u64(number), plaintext);
                packet[at..at + RECORD_HEADER_LEN].copy_from_slice(&header);
                let view = record_at(&packet, at).unwrap();
                prop_assert_eq!(view.number.as_u64(), number);
                prop_assert_eq!(view.sealed.clone(), at + RECORD_HEADER_LEN..packet.len());
                prop_assert_eq!(view.plaintext_len(), plaintext);
            }
            if let Ok(view) = record_at(&packet, at) {
                prop_assert!(view.sealed.end <= packet.len() && view.sealed.start < view.sealed.end);
                prop_assert!(view.plaintext_len() >= TRAILER_LEN);
            }
        }
    }

    /// [P-4.1] [P-5.2] A DATA packet and its additional data, byte for byte.
    #[test]
    fn each_field_has_its_place() {
        let number = RecordNumber::from_u64(0x0102_0304_0506_0708);
        let expected = [0x17, 3, 3, 0x01, 0x18, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(record_header(number, 0x100), expected, "the length covers nonce and tag");
        assert_eq!(record_aad(number, 0x100), [1, 2, 3, 4, 5, 6, 7, 8, 0x17, 3, 3, 0x01, 0x00]);
    }

    /// [P-4.1] [P-4.6] Another content type is no record, that of a slice included; neither is another version or
    /// a record without room for a trailer; a record over the largest is oversized.
    #[test]
    fn other_records_are_refused() {
        let mut packet = std::vec![0; 1 << 15];
        let mut read = |change: &dyn Fn(&mut [u8])| {
            packet[..RECORD_HEADER_LEN].copy_from_slice(&record_header(RecordNumber::from_u64(1), 16));
            change(&mut packet);
            record_at(&packet, 0).map(|view| view.plaintext_len())
        };
        let length = |bytes: u16| move |record: &mut [u8]| record[3..5].copy_from_slice(&bytes.to_be_bytes());
        assert_eq!(read(&|_| ()), Ok(16));
        for kind in (0..=255).filter(|kind| *kind != 0x17) {
            assert_eq!(read(&|record| record[0] = kind), Err(Refusal::Malformed));
        }
        assert_eq!(read(&|record| record[2] = 4), Err(Refusal::Malformed));
        assert_eq!(read(&length(8 + 15 + 16)), Err(Refusal::Malformed));
        assert_eq!(read(&length(8 + 16_384 + 16)), Ok(16_384));
        assert_eq!(read(&length(8 + 16_385 + 16)), Err(Refusal::Oversized));
    }

    proptest! {
        /// [P-5.2] Records stand one after the other up to the end of the packet, and each is found.
        #[test]
        fn records_follow_each_other(lengths in proptest::collection::vec(16usize..400, 1..9), cut in any::<bool>()) {
            let mut packet = std::vec![0; DATA_HEADER_LEN];
            for (index, length) in lengths.iter().enumerate() {
                packet.extend(record_header(RecordNumber::from_u64(index as u64), *length));
                packet.resize(packet.len() + length + TAG_LEN, 0xee);
            }
            packet.truncate(packet.len() - usize::from(cut));
            let (mut at, mut found) = (DATA_HEADER_LEN, std::vec![]);
            while at < packet.len() {
                match record_at(&packet, at) {
                    Ok(view) => {
                        prop_assert_eq!(view.number.as_u64(), found.len() as u64);
                        found.push(view.plaintext_len());
                        at = view.sealed.end;
                    }
                    Err(why) => {
                        prop_assert!(cut && why == Refusal::Truncated);
                        break;
                    }
                }
            }
            prop_assert_eq!(&found[..], &lengths[..lengths.len() - usize::from(cut)]);
        }
    }

    #[test]
    fn header_lengths_are_what_limits_says() {
        let mut buffer = [0; 64];
        let mut w = Writer::new(&mut buffer);
        let header = Header {
            kind: crate::header::PacketType::Data,
            flags: 0,
            epoch: 3,
            priority: 7,
            steer: 1,
            segment: 64,
            session: crate::ids::SessionId::new(5, 99),
        };
        emit_header(&mut w, &header, 9);
        assert_eq!(w.len(), DATA_HEADER_LEN);
        assert_eq!(Header::parse(&buffer), Ok(header));
    }
}
