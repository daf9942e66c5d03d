//! Owns the 16 sealed bytes that end every record's plaintext: all that a receiver acts on. [P-4.2]
//!
//! They stand at the end, not at the front, so that the message's bytes are sealed straight from where the caller has
//! them and opened straight to where they belong (docs/decisions/0001).

use crate::bytes::Reader;
use crate::error::Refusal;
use crate::geometry::Geometry;
use crate::limits::{ACK_LEN, AUX_MAX, TRAILER_LEN};

/// Versions of cutoffs that a trailer can tell apart; 0 says that the receiver never told any. [P-8.3]
pub const CUTOFFS_VERSIONS: u8 = 32;

/// Bits of the byte that holds the kind.
const KIND_BITS: u32 = 2;
const INCAST_BIT: u8 = 1 << KIND_BITS;
const CUTOFFS_SHIFT: u32 = KIND_BITS + 1;

/// Bit of the byte that holds the length of the acknowledgements: the first attempt has spanning records. [P-4.6]
const SPANS_BIT: u8 = 0x80;

/// The fourth code of a kind, which is no message's: bundles have it, and acknowledgements in them. [P-4.7]
pub const KIND_OTHER: u8 = 3;

/// What a message is to its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Wants a response.
    Request,
    /// Answers a request.
    Response,
    /// Wants none.
    OneWay,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Request => 0,
            Self::Response => 1,
            Self::OneWay => 2,
        }
    }
}

/// What the fifteenth byte of a trailer says: also each message in a bundle has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// Request, response or one-way.
    pub kind: Kind,
    /// See [`Trailer::incast`].
    pub incast: bool,
    /// See [`Trailer::cutoffs`].
    pub cutoffs: u8,
}

impl Bits {
    /// The byte.
    pub const fn emit(self) -> u8 {
        self.kind.code() | if self.incast { INCAST_BIT } else { 0 } | self.cutoffs << CUTOFFS_SHIFT
    }

    /// Reads the byte.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] when it is not that of a message.
    pub const fn parse(bits: u8) -> Result<Self, Refusal> {
        let kind = match bits & (INCAST_BIT - 1) {
            0 => Kind::Request,
            1 => Kind::Response,
            2 => Kind::OneWay,
            _ => return Err(Refusal::Malformed),
        };
        Ok(Self { kind, incast: bits & INCAST_BIT != 0, cutoffs: bits >> CUTOFFS_SHIFT })
    }
}

/// The sealed trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// How the message is cut; states its length.
    pub geometry: Geometry,
    /// Bytes that the sender sends without waiting for grants. [P-8.1]
    pub unscheduled: u32,
    /// How far the sender's floor lies below this message's sequence; 0 in responses. [P-7.2]
    pub floor_distance: u32,
    /// Request, response or one-way.
    pub kind: Kind,
    /// Bytes of piggybacked acknowledgements between the message's bytes and this trailer. [P-4.3]
    pub aux_len: u8,
    /// Its sender waits for many responses: most of this one should wait for grants. [P-8.11]
    pub incast: bool,
    /// The version of the receiver's cutoffs that the sender goes by, modulo [`CUTOFFS_VERSIONS`]. [P-8.3]
    pub cutoffs: u8,
}

impl Trailer {
    /// That of a message without unscheduled bytes, acknowledgements or anything else to say.
    pub const fn new(geometry: Geometry, kind: Kind) -> Self {
        Self { geometry, unscheduled: 0, floor_distance: 0, kind, aux_len: 0, incast: false, cutoffs: 0 }
    }

    /// That of a message that came whole, in a bundle, from a sender whose floor is `floor_distance` below it.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] when no message of one record is that long.
    pub fn of_bundled(bits: Bits, length: usize, floor_distance: u32) -> Result<Self, Refusal> {
        let length = u16::try_from(length).map_err(|_| Refusal::Malformed)?;
        let geometry = Geometry::stated(length.into(), length.max(1)).ok_or(Refusal::Malformed)?;
        let Bits { kind, incast, cutoffs } = bits;
        Ok(Self { geometry, unscheduled: length.into(), floor_distance, kind, aux_len: 0, incast, cutoffs })
    }

    /// What else it says of the message.
    pub const fn bits(&self) -> Bits {
        Bits { kind: self.kind, incast: self.incast, cutoffs: self.cutoffs }
    }

    /// The 16 bytes.
    pub fn emit(&self) -> [u8; TRAILER_LEN] {
        let mut b = [0; TRAILER_LEN];
        b[0..4].copy_from_slice(&self.geometry.length().to_be_bytes());
        b[4..8].copy_from_slice(&self.unscheduled.to_be_bytes());
        b[8..12].copy_from_slice(&self.floor_distance.to_be_bytes());
        b[12..14].copy_from_slice(&self.geometry.payload().to_be_bytes());
        b[14] = self.bits().emit();
        b[15] = self.aux_len | if self.geometry.spans() { SPANS_BIT } else { 0 };
        b
    }

    /// Reads the trailer from the last bytes of an opened record.
    ///
    /// # Errors
    /// When no honest sender would have written it.
    #[inline]
    pub fn parse(bytes: &[u8; TRAILER_LEN]) -> Result<Self, Refusal> {
        let mut r = Reader::new(bytes);
        let (length, unscheduled, floor_distance) = (r.u32()?, r.u32()?, r.u32()?);
        let (payload, bits, last) = (r.u16()?, r.u8()?, r.u8()?);
        let (aux_len, spans) = (last & !SPANS_BIT, last & SPANS_BIT != 0);
        let Bits { kind, incast, cutoffs } = Bits::parse(bits)?;
        if usize::from(aux_len) > AUX_MAX || !usize::from(aux_len).is_multiple_of(ACK_LEN) || unscheduled > length {
            return Err(Refusal::Malformed);
        }
        let geometry = Geometry::stated(length, payload);
        let geometry =
            if spans { geometry.and_then(Geometry::spanning) } else { geometry }.ok_or(Refusal::Malformed)?;
        Ok(Self { geometry, unscheduled, floor_distance, kind, aux_len, incast, cutoffs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A request of 0x30000 bytes in records of 0x1234, with two acks in front.
    const BYTES: [u8; TRAILER_LEN] = [0, 3, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0x55, 0x12, 0x34, 0, 12];

    /// [P-4.2] A trailer, byte for byte.
    #[test]
    fn each_field_has_its_place() {
        let geometry = Geometry::stated(0x30000, 0x1234).unwrap();
        let trailer = Trailer {
            unscheduled: 0x20001,
            floor_distance: 0x55,
            aux_len: 12,
            ..Trailer::new(geometry, Kind::Request)
        };
        assert_eq!((trailer.emit(), Trailer::parse(&BYTES)), (BYTES, Ok(trailer)));
        assert_eq!(Trailer { incast: true, ..trailer }.emit()[14], 4);
        assert_eq!(Trailer { cutoffs: CUTOFFS_VERSIONS - 1, ..trailer }.emit()[14], 31 << 3);
        for (kind, code) in [(Kind::Response, 1), (Kind::OneWay, 2)] {
            assert_eq!(Trailer { kind, ..trailer }.emit()[14], code);
        }
    }

    /// [P-4.2] What has no meaning: lengths over the limits, records without bytes or too many of them, other kinds (a
    /// bundle among them), acknowledgements that are not whole or too many.
    #[test]
    fn impossible_values_are_malformed() {
        let read = |at: usize, bytes: &[u8]| {
            let mut trailer = BYTES;
            trailer[at..at + bytes.len()].copy_from_slice(bytes);
            Trailer::parse(&trailer).map(drop)
        };
        let ends =
            [(0, &[4, 0, 0, 0][..]), (12, &[0x3f, 0xf0]), (12, &[0, 4]), (14, &[2]), (15, &[30]), (4, &[0, 3, 0, 0])];
        assert!(ends.iter().all(|(at, bytes)| read(*at, bytes).is_ok()), "the last that mean something");
        let spans = [0, 0, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0c, 0, 0, 0x80];
        assert!(Trailer::parse(&spans).is_ok_and(|trailer| trailer.geometry.spans() && trailer.emit() == spans));
        // Too few records to span any, too long ones, too short ones.
        for (at, byte) in [(2, 0x10), (12, 0x10), (12, 1)] {
            let mut none = spans;
            none[at] = byte;
            assert_eq!(Trailer::parse(&none), Err(Refusal::Malformed), "{at} {byte}");
        }
        let beyond: [(usize, &[u8]); 9] = [
            (0, &[4, 0, 0, 1]),
            (0, &[0xff; 4]),
            (4, &[0, 3, 0, 1]),
            (12, &[0x3f, 0xf1]),
            (12, &[0, 3]),
            (12, &[0, 0]),
            (14, &[3]),
            (15, &[36]),
            (15, &[5]),
        ];
        for (at, bytes) in beyond {
            assert_eq!(read(at, bytes), Err(Refusal::Malformed), "{at} {bytes:?}");
        }
    }

    proptest! {
        /// [P-4.2] Any 16 bytes are refused or mean exactly what they say.
        #[test]
        fn meaning_is_exact(bytes in any::<[u8; TRAILER_LEN]>(), small in any::<bool>()) {
            let mut bytes = bytes;
            if small {
                // Steer half of the cases into the range where trailers have a meaning.
                bytes[0] = 0;
                bytes[4..6].fill(0);
                bytes[12] &= 0x3f;
                bytes[14] -= u8::from(bytes[14] % 4 == 3);
                bytes[15] = (bytes[15] % 6 * 6) | (bytes[15] & SPANS_BIT);
            }
            if let Ok(trailer) = Trailer::parse(&bytes) {
                prop_assert_eq!(trailer.emit(), bytes);
            }
        }
    }
}
