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
    /// Picks the receiving shard. [P-9.1]
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
