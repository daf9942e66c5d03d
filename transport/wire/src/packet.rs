//! Owns the way from one datagram to one typed packet or a refusal. [P-5]

use crate::error::Refusal;
use crate::handshake::{HandshakePacket, RetryPacket};
use crate::header::{Header, PacketType};
use crate::limits::{CONTROL_HEADER_LEN, DATA_HEADER_LEN, RECORD_HEADER_LEN, TAG_LEN, TRAILER_LEN};
use crate::reset::ResetPacket;

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
    Reset(ResetPacket<'a>),
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
            PacketType::Reset => Ok(Self::Reset(ResetPacket::parse(header, datagram)?)),
            PacketType::Retry => Ok(Self::Retry(RetryPacket::parse(header, datagram)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::bytes::Writer;
    use crate::ids::SessionId;
    use crate::limits::HEADER_LEN;

    fn packet(kind: PacketType, flags: u8, len: usize) -> Vec<u8> {
        let session = SessionId::new(3, 0x1234_5678_9abc_def0);
        let header = Header { kind, flags, epoch: 0, priority: 0, steer: 0, segment: 0, session };
        let mut bytes = std::vec![0; len.max(HEADER_LEN)];
        header.emit(&mut Writer::new(&mut bytes));
        bytes.truncate(len);
        bytes
    }

    /// [P-5.1] [P-5.2] [P-5.3] Shorter than the smallest form is truncated; a flag that the type does not have is malformed.
    #[test]
    fn the_outer_shape() {
        for (kind, least) in [(PacketType::Data, 65), (PacketType::Control, 40)] {
            for len in 0..least {
                assert!(matches!(Packet::parse(&packet(kind, 0, len)), Err(Refusal::Truncated)), "{kind:?} {len}");
            }
            assert!(Packet::parse(&packet(kind, 0, least)).is_ok());
            for bit in 0..8 {
                let flagged = packet(kind, 1 << bit, least);
                assert!(matches!(Packet::parse(&flagged), Err(Refusal::Malformed)), "{kind:?} {bit}");
            }
        }
    }

    /// [P-1.1] Every type is refused for its version alone.
    #[test]
    fn every_type_has_the_version() {
        for kind in [1, 2, 3, 4, 5, 6, 15] {
            let mut bytes = packet(PacketType::Data, 0, 1232);
            for version in (0..16).filter(|version| *version != crate::limits::VERSION) {
                bytes[0] = version << 4 | kind;
                assert!(matches!(Packet::parse(&bytes), Err(Refusal::Version)));
            }
        }
    }

    proptest! {
        /// Any datagram is refused or becomes a packet whose parts lie within it.
        #[test]
        fn any_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..1300), first in 0x10u8..0x17, tame in any::<bool>()) {
            if let (true, [head, flags, _, priority, ..]) = (tame, &mut bytes[..]) {
                (*head, *flags, *priority) = (first, *flags & 7, *priority & 7);
            }
            if let (true, Some(segment)) = (tame, bytes.get_mut(6..8)) {
                segment.fill(0);
            }
            match Packet::parse(&bytes) {
                Ok(Packet::Handshake(packet)) => {
                    prop_assert!(packet.covered.len() + TAG_LEN <= bytes.len());
                    prop_assert!(packet.fragment.len() + packet.cookie.len() <= packet.covered.len());
                }
                Ok(Packet::Retry(packet)) => prop_assert!(packet.cookie.len() <= 64 && packet.clear.len() < bytes.len()),
                Ok(Packet::Reset(packet)) => prop_assert_eq!(bytes.len(), 16 + packet.token.len()),
                Ok(Packet::Data(header) | Packet::Control(header)) => {
                    prop_assert!(header.priority <= 7);
                }
                Err(_) => {}
            }
        }
    }
}
