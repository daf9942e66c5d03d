//! Owns bundles: several small messages in one record. [P-4.7]
//!
//! A bundle is a way to travel, not a message: it has no name of its own, is sealed once and never repeated. What it brought, and
//! what was lost with it, are its messages, each under the rules that hold for it alone (docs/decisions/0017).

use core::ops::Range;

use crate::bytes::{Reader, Writer};
use crate::error::Refusal;
use crate::ids::RpcId;
use crate::limits::TRAILER_LEN;
use crate::trailer::{Bits, KIND_OTHER};

/// The index of the record that is a bundle, in the message that leads it: no message has a record of that index. [P-3.2]
pub const INDEX: u16 = u16::MAX;

/// Bytes in front of each message in a bundle.
pub const ENTRY_HEADER_LEN: usize = 9;

/// The last 16 bytes of a bundle's plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Bytes of entries; what follows them is padding.
    pub len: u16,
    /// All that the sender began below this sequence is finished. [P-7.2]
    pub floor: u64,
}

impl Tail {
    /// The 16 bytes. Where other records have the kind of their message, a bundle has a fourth kind.
    pub fn emit(&self) -> [u8; TRAILER_LEN] {
        let mut b = [0; TRAILER_LEN];
        b[0..2].copy_from_slice(&self.len.to_be_bytes());
        b[2..8].copy_from_slice(&self.floor.to_be_bytes()[2..]);
        b[14] = KIND_OTHER;
        b
    }

    /// Reads them.
    ///
    /// # Errors
    /// When no honest sender would have written them.
    pub fn parse(bytes: &[u8; TRAILER_LEN]) -> Result<Self, Refusal> {
        let mut r = Reader::new(bytes);
        let tail = Self { len: r.u16()?, floor: r.u48()? };
        if tail.floor <= RpcId::SEQUENCE_MAX + 1 && r.rest() == [0, 0, 0, 0, 0, 0, KIND_OTHER, 0] {
            Ok(tail)
        } else {
            Err(Refusal::Malformed)
        }
    }
}

/// What an entry brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brings {
    /// A whole message, and what else its trailer would say.
    Message(Bits),
    /// An acknowledgement: as an ACK frame. [P-4.3]
    Ack,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of which RPC.
    pub rpc: RpcId,
    /// What.
    pub brings: Brings,
    /// Where the message's bytes stand among those that were read.
    pub bytes: Range<usize>,
}

/// Appends a message.
///
/// # Panics
/// When there is no room, or it is longer than a bundle can be.
#[inline]
pub fn put(w: &mut Writer<'_>, rpc: RpcId, bits: u8, message: &[u8]) {
    let len = u16::try_from(message.len()).expect("a message that fits a bundle");
    // Eight of the nine bytes are one word: there are many headers.
    w.u64(rpc.as_u48() << 16 | u64::from(bits) << 8 | u64::from(len >> 8));
    w.u8(len as u8);
    w.put(message);
}

/// Appends an acknowledgement: it takes [`ENTRY_HEADER_LEN`] bytes.
///
/// # Panics
/// When there is no room.
pub fn put_ack(w: &mut Writer<'_>, rpc: RpcId) {
    put(w, rpc, KIND_OTHER, &[]);
}

/// The entry that begins at byte `at` of `entries`; the next one begins where its bytes end.
///
/// # Errors
/// Why what stands there is none: the rest is not read then.
#[inline]
pub fn entry_at(entries: &[u8], at: usize) -> Result<Entry, Refusal> {
    let mut r = Reader::new(entries.get(at..).ok_or(Refusal::Truncated)?);
    let (word, last) = (r.u64()?, r.u8()?);
    let (rpc, bits) = (RpcId::from_u48(word >> 16)?, (word >> 8) as u8);
    let len = usize::from(word as u8) << 8 | usize::from(last);
    let start = at + ENTRY_HEADER_LEN;
    r.take(len)?;
    let brings = match bits {
        KIND_OTHER if len == 0 => Brings::Ack,
        bits => Brings::Message(Bits::parse(bits)?),
    };
    Ok(Entry { rpc, brings, bytes: start..start + len })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec;

    use super::*;
    use crate::geometry::Geometry;
    use crate::ids::Side;
    use crate::limits::RECORDS_MAX;
    use crate::trailer::Kind;

    /// [P-4.7] A bundle, byte for byte.
    #[test]
    fn each_field_has_its_place() {
        let tail = Tail { len: 0x0102, floor: 0x0304_0506_0708 };
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 3, 0];
        assert_eq!((tail.emit(), Tail::parse(&bytes)), (bytes, Ok(tail)));
        let mut out = [0; 2 * ENTRY_HEADER_LEN + 3];
        let mut w = Writer::new(&mut out);
        let rpc = RpcId::new(Side::Server, 0x0102);
        put(&mut w, rpc, Bits { kind: Kind::Response, incast: true, cutoffs: 31 }.emit(), b"abc");
        put_ack(&mut w, rpc);
        assert_eq!(out, *b"\0\0\0\0\x02\x05\xfd\0\x03abc\0\0\0\0\x02\x05\x03\0\0");
        assert_eq!(entry_at(&out, 12).unwrap(), Entry { rpc, brings: Brings::Ack, bytes: 21..21 });
    }

    /// [P-4.7] [P-3.2] No message has a record of the index of bundles.
    #[test]
    fn the_index_is_free() {
        assert!(RECORDS_MAX <= usize::from(INDEX));
        assert_eq!(Geometry::stated(u32::from(INDEX), 1).map(Geometry::records), Some(u32::from(INDEX)));
        assert_eq!(Geometry::stated(u32::from(INDEX) + 1, 1), None);
    }

    proptest! {
        /// [P-4.7] Any bytes are refused or mean exactly what they say, and nothing that is read lies outside of them.
        #[test]
        fn meaning_is_exact(bytes in proptest::collection::vec(any::<u8>(), 0..40), small in any::<bool>(), at in 0usize..44) {
            let mut bytes = bytes;
            if small && let Some(entry) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<ENTRY_HEADER_LEN>()) {
                (entry[0], entry[1] , entry[7], entry[8]) = (0, entry[1] & 31, 0, entry[8] & 15);
            }
            if let Ok(entry) = entry_at(&bytes, at) {
                prop_assert!(entry.bytes.end <= bytes.len());
                let mut again = vec![0; entry.bytes.end - at];
                let message = &bytes[entry.bytes.clone()];
                match entry.brings {
                    Brings::Message(bits) => put(&mut Writer::new(&mut again), entry.rpc, bits.emit(), message),
                    Brings::Ack => put_ack(&mut Writer::new(&mut again), entry.rpc),
                }
                prop_assert_eq!(&again[..], &bytes[at..entry.bytes.end]);
            }
        }

        /// [P-4.7] The same of the tail.
        #[test]
        fn tails_are_exact(bytes in any::<[u8; TRAILER_LEN]>(), small in any::<bool>()) {
            let mut bytes = bytes;
            if small {
                bytes[2] &= 31;
                bytes[8..].copy_from_slice(&[0, 0, 0, 0, 0, 0, 3, 0]);
            }
            if let Ok(tail) = Tail::parse(&bytes) {
                prop_assert_eq!(tail.emit(), bytes);
            } else {
                prop_assert!(!small || bytes[2] >= 16);
            }
        }
    }
}
