//! Owns the 16 bytes that open every packet. [P-5.1]

use crate::bytes::{Reader, Writer};
use crate::error::Refusal;
use crate::ids::SessionId;
use crate::limits::{HEADER_LEN, VERSION};

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketType {
    /// Records of a message.
    Data,
    /// Sealed frames.
    Control,
    /// A fragment of a handshake flight.
    Handshake,
    /// "I do not know this session", with a token. [P-5.5]
    Reset,
    /// "Prove your address first", with a cookie. [P-6.4]
    Retry,
}

impl PacketType {
    const fn code(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Control => 2,
            Self::Handshake => 3,
            Self::Reset => 4,
            Self::Retry => 5,
        }
    }

    const fn from_code(code: u8) -> Result<Self, Refusal> {
        match code {
            1 => Ok(Self::Data),
            2 => Ok(Self::Control),
            3 => Ok(Self::Handshake),
            4 => Ok(Self::Reset),
            5 => Ok(Self::Retry),
            _ => Err(Refusal::PacketType),
        }
    }
}

/// The common header, as a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the packet is.
    pub kind: PacketType,
    /// Bits whose meaning depends on the type; unknown ones must be zero.
    pub flags: u8,
    /// Which generation of keys sealed it, modulo 256. [P-6.5]
    pub epoch: u8,
    /// 0 (lowest) to 7, as the network may honour it. [P-8.3]
    pub priority: u8,
    /// The lane, whose receiver it picks. [P-9.1]
    pub steer: u16,
    /// Bytes of each packet of the segment that this one was sent in, of which the last may be shorter; 0 when it does not
    /// say. A hint for whoever takes merged datagrams apart; never more than a hint. [P-5.1]
    pub segment: u16,
    /// The receiver's name for the session.
    pub session: SessionId,
}

impl Header {
    /// Reads the header from the front of `packet`.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(packet: &[u8]) -> Result<Self, Refusal> {
        let mut r = Reader::new(packet);
        let first = r.u8()?;
        // The version is judged first: nothing else can be read in another one. [P-1.1]
        if first >> 4 != VERSION {
            return Err(Refusal::Version);
        }
        let header = Self {
            kind: PacketType::from_code(first & 0xf)?,
            flags: r.u8()?,
            epoch: r.u8()?,
            priority: r.u8()?,
            steer: r.u16()?,
            segment: r.u16()?,
            session: SessionId::from_u64(r.u64()?),
        };
        if header.priority > 7 {
            return Err(Refusal::Malformed);
        }
        if header.segment != 0 && packet.len() > usize::from(header.segment) {
            Err(Refusal::Oversized)
        } else {
            Ok(header)
        }
    }

    /// Appends the header.
    pub fn emit(&self, w: &mut Writer<'_>) {
        let mut b = [0u8; HEADER_LEN];
        b[0] = VERSION << 4 | self.kind.code();
        b[1] = self.flags;
        b[2] = self.epoch;
        b[3] = self.priority;
        b[4..6].copy_from_slice(&self.steer.to_be_bytes());
        b[6..8].copy_from_slice(&self.segment.to_be_bytes());
        b[8..16].copy_from_slice(&self.session.as_u64().to_be_bytes());
        w.put(&b);
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const HEADER: Header = Header {
        kind: PacketType::Control,
        flags: 1,
        epoch: 0xe0,
        priority: 7,
        steer: 0x5eed,
        segment: 0x1122,
        session: SessionId::from_u64(0x8877_6655_4433_2211),
    };

    fn emitted(header: &Header) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        header.emit(&mut Writer::new(&mut bytes));
        bytes
    }

    /// [P-5.1] [P-9.1] Every field stands where the specification says, and the steering field is found at the same offset in
    /// each type.
    #[test]
    fn each_field_has_its_place() {
        let expected = [0x12, 0x01, 0xe0, 0x07, 0x5e, 0xed, 0x11, 0x22, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11];
        assert_eq!(emitted(&HEADER), expected);
        let kinds = [
            (PacketType::Data, 0x11),
            (PacketType::Control, 0x12),
            (PacketType::Handshake, 0x13),
            (PacketType::Reset, 0x14),
            (PacketType::Retry, 0x15),
        ];
        for (kind, first) in kinds {
            let bytes = emitted(&Header { kind, ..HEADER });
            assert_eq!((bytes[0], &bytes[1..]), (first, &expected[1..]));
        }
    }

    /// [P-5.1] A packet that is longer than its segment says is refused; one that is as long or shorter, or that does not
    /// say, is not.
    #[test]
    fn a_segment_bounds_its_packets() {
        let mut packet = [0; 64];
        for (segment, verdict) in
            [(0, Ok(())), (1, Err(Refusal::Oversized)), (63, Err(Refusal::Oversized)), (64, Ok(())), (65, Ok(()))]
        {
            packet[..HEADER_LEN].copy_from_slice(&emitted(&Header { segment, ..HEADER }));
            assert_eq!(Header::parse(&packet).map(drop), verdict, "{segment}");
        }
    }

    proptest! {
        /// [P-1.1] Whatever else a packet of another version says, its version is why it is refused; a byte is enough to tell.
        #[test]
        fn the_version_is_judged_first(mut packet in prop::collection::vec(any::<u8>(), 1..40), version in 0u8..16) {
            packet[0] = version << 4 | packet[0] & 0xf;
            let refused_for_it = Header::parse(&packet) == Err(Refusal::Version);
            prop_assert_eq!(refused_for_it, version != VERSION);
        }

        /// [P-5.1] Any 16 bytes are refused for a reason that is there, or mean exactly what they say.
        #[test]
        fn meaning_is_exact(bytes in any::<[u8; HEADER_LEN]>(), first in 0x10u8..0x18, priority in 0u8..12, more in 0usize..99) {
            let mut packet = Vec::from(bytes);
            (packet[0], packet[3]) = (first, priority);
            packet.resize(HEADER_LEN + more, 0);
            let segment = usize::from(u16::from_be_bytes([packet[6], packet[7]]));
            match Header::parse(&packet) {
                Ok(header) => {
                    prop_assert_eq!(&emitted(&header)[..], &packet[..HEADER_LEN]);
                    prop_assert!(priority <= 7 && (segment == 0 || packet.len() <= segment));
                }
                Err(Refusal::PacketType) => prop_assert!(!(0x11..=0x15).contains(&first)),
                Err(Refusal::Malformed) => prop_assert!(priority > 7),
                Err(why) => prop_assert_eq!(why, Refusal::Oversized),
            }
            for cut in 0..HEADER_LEN {
                prop_assert!(matches!(Header::parse(&packet[..cut]), Err(Refusal::Truncated | Refusal::PacketType)));
            }
        }
    }
}
