//! Owns the way from one datagram to one typed packet or a refusal. [P-5]

use crate::error::Refusal;
use crate::handshake::{HandshakePacket, RetryPacket};
use crate::header::{Header, PacketType};
use crate::limits::{CONTROL_HEADER_LEN, DATA_HEADER_LEN, RECORD_HEADER_LEN, TAG_LEN, TRAILER_LEN};

/// A packet whose outer shape is right. Nothing in it is proven yet.
#[derive(Debug)]
pub enum Packet<'a> {
    /// At least one record's worth of bytes follows the header.
    Data(Header),
    /// A packet number and at least an empty sealed body follow the header.
    Control(Header),
    /// A fragment of a flight.
    Handshake(HandshakePacket<'a>),
    /// A stateless reset.
    Reset(Header),
    /// A retry with a cookie.
    Retry(RetryPacket<'a>),
}

impl<'a> Packet<'a> {
    /// Reads one datagram.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Refusal> {
        let header = Header::parse(datagram)?;
        let at_least = |n: usize| if datagram.len() < n { Err(Refusal::Truncated) } else { Ok(()) };
        match header.kind {
            PacketType::Data => {
                at_least(DATA_HEADER_LEN + RECORD_HEADER_LEN + TRAILER_LEN + TAG_LEN)?;
                if header.flags != 0 { Err(Refusal::Malformed) } else { Ok(Self::Data(header)) }
            }
            PacketType::Control => {
                at_least(CONTROL_HEADER_LEN + TAG_LEN)?;
                if header.flags != 0 { Err(Refusal::Malformed) } else { Ok(Self::Control(header)) }
            }
            PacketType::Handshake => Ok(Self::Handshake(HandshakePacket::parse(header, datagram)?)),
            PacketType::Reset => Ok(Self::Reset(header)),
            PacketType::Retry => Ok(Self::Retry(RetryPacket::parse(header, datagram)?)),
        }
    }
}
