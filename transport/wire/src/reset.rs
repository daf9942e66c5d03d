//! Owns the layout of RESET packets: "I do not know this session", and what proves who says so. [P-5.5]

use crate::bytes::Writer;
use crate::error::Refusal;
use crate::header::{Header, PacketType};
use crate::ids::SessionId;
use crate::limits::HEADER_LEN;

/// Bytes of the token.
pub const TOKEN_LEN: usize = 16;

/// Bytes of a RESET packet: never more, so that it is smaller than whatever it answers.
pub const RESET_LEN: usize = HEADER_LEN + TOKEN_LEN;

/// A RESET packet, as a meaning. Nothing in it is proven before the token was compared.
#[derive(Clone, Copy)]
pub struct ResetPacket<'a> {
    /// The common header. Its session is the one that is not known: the sender's name for it, which stood in the packet
    /// that this one answers.
    pub header: Header,
    /// What the sender promised to say here.
    pub token: &'a [u8; TOKEN_LEN],
}

impl core::fmt::Debug for ResetPacket<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // The token stays out: who knows it can end the session.
        f.debug_struct("ResetPacket").field("header", &self.header).finish_non_exhaustive()
    }
}

impl<'a> ResetPacket<'a> {
    /// Reads what follows `header` in `packet`.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(header: Header, packet: &'a [u8]) -> Result<Self, Refusal> {
        if packet.len() > RESET_LEN {
            return Err(Refusal::Oversized);
        }
        let token = packet.get(HEADER_LEN..).and_then(<[u8]>::first_chunk).ok_or(Refusal::Truncated)?;
        if header.flags != 0 { Err(Refusal::Malformed) } else { Ok(Self { header, token }) }
    }

    /// Writes the RESET of `session` to the front of `out`, of [`RESET_LEN`] bytes at least.
    pub fn emit(session: SessionId, token: &[u8; TOKEN_LEN], out: &mut [u8]) {
        let (kind, segment) = (PacketType::Reset, RESET_LEN as u16);
        let header = Header { kind, flags: 0, epoch: 0, priority: 7, steer: 0, segment, session };
        let mut w = Writer::new(out);
        header.emit(&mut w);
        w.put(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [P-5.5] Byte for byte; shorter, longer, or with a flag it is none.
    #[test]
    fn each_field_has_its_place() {
        let (session, token) = (SessionId::from_u64(0x8877_6655_4433_2211), [7; TOKEN_LEN]);
        let mut bytes = [0xff; RESET_LEN + 1];
        ResetPacket::emit(session, &token, &mut bytes);
        let head = [0x14, 0, 0, 7, 0, 0, 0, 32, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11];
        assert_eq!((&bytes[..16], &bytes[16..32], bytes[32]), (&head[..], &token[..], 0xff));
        let parse = |bytes: &[u8]| {
            let header = Header::parse(bytes)?;
            ResetPacket::parse(header, bytes).map(|packet| (packet.header.session, *packet.token))
        };
        assert_eq!(parse(&bytes[..RESET_LEN]), Ok((session, token)));
        for len in 0..RESET_LEN {
            assert_eq!(parse(&bytes[..len]), Err(Refusal::Truncated), "{len}");
        }
        assert_eq!(parse(&bytes), Err(Refusal::Oversized));
        bytes[6..8].fill(0);
        assert_eq!(parse(&bytes), Err(Refusal::Oversized));
        bytes[1] = 1;
        assert_eq!(parse(&bytes[..RESET_LEN]), Err(Refusal::Malformed));
    }
}
