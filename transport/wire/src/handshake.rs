//! Owns the HANDSHAKE and RETRY packets: fragments of two byte streams, with acknowledgements, before any session key exists. [P-6.2]
//!
//! A HANDSHAKE packet carries one fragment of one level's stream: level 0 can be read by everyone, level 1 is sealed with
//! keys that the method agreed on. All bytes before the fragment are clear; the tag behind it covers them. What the tag is
//! worth depends on method and level, and is not judged here: parsing says "has this shape", never "is from the peer".

use crate::bytes::{Reader, Writer};
use crate::error::Refusal;
use crate::header::{Header, PacketType};
use crate::ids::SessionId;
use crate::limits::{DATAGRAM_MIN, HEADER_LEN, TAG_LEN};

/// Set in packets of the side that began the handshake: a packet sent back to its sender is refused. [P-6.2.1]
pub const FLAG_CLIENT: u8 = 1;
/// The sender wants an answer although the fragment may be empty. [P-6.2.2]
pub const FLAG_PING: u8 = 2;
/// The fragment is one byte, a TLS alert (RFC 8446 section 6): the handshake failed. [P-6.2.3]
pub const FLAG_ALERT: u8 = 4;

/// Priority of every handshake packet: they are few, and data waits for them.
pub const HANDSHAKE_PRIORITY: u8 = 7;

/// Most bytes of a cookie. [P-6.4]
pub const COOKIE_MAX: usize = 64;

/// Bytes of the RPC's id in front of a message of the first flight. [P-6.9]
pub const EARLY_ID_LEN: usize = 6;

/// Most bytes of a request of the first flight, and of an early response to it: what the smallest path carries. [P-6.9]
pub const EARLY_BODY_MAX: usize = DATAGRAM_MIN - HANDSHAKE_OVERHEAD - COOKIE_MAX - EARLY_ID_LEN;

/// Bytes before the cookie: header, sender, method, level, number, echo and its age, offset, two acknowledgements, cookie
/// length.
const BEFORE_COOKIE: usize = HEADER_LEN + 8 + 1 + 1 + 4 + 4 + 4 + 4 + 8 + 1;

/// Bytes of a HANDSHAKE packet that are not cookie or fragment.
pub const HANDSHAKE_OVERHEAD: usize = BEFORE_COOKIE + 2 + TAG_LEN;

/// Bytes of a RETRY packet without its cookie.
pub const RETRY_OVERHEAD: usize = HEADER_LEN + 4 + 1 + TAG_LEN;

const _: () = assert!(COOKIE_MAX <= u8::MAX as usize);

/// How the two sides come to a common secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// TLS 1.3. [P-6.1]
    Tls,
    /// A secret that both were given. [P-6.6]
    Installed,
    /// A published ticket of the server: a public key of its process. [P-6.11]
    Published,
}

impl Method {
    const fn code(self) -> u8 {
        match self {
            Self::Tls => 1,
            Self::Installed => 2,
            Self::Published => 3,
        }
    }
}

/// Which of the two streams of a direction, or none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Before there are keys.
    Initial,
    /// Sealed with the keys that the initial level agreed on.
    Sealed,
    /// No stream: the fragment is a request of the first flight, or the response to one. [P-6.9]
    Early,
}

impl Level {
    /// Those of the streams, in order.
    pub const STREAMS: [Self; 2] = [Self::Initial, Self::Sealed];

    /// Its place in arrays.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// The fields between the common header and the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeFields {
    /// The sender's name for the session: what answers are addressed to.
    pub sender: SessionId,
    /// How the two come to a common secret; the same in all packets of a handshake.
    pub method: Method,
    /// Which stream the fragment belongs to.
    pub level: Level,
    /// Counts the sender's packets from 0; never repeats, for it is a nonce at the sealed level.
    pub number: u32,
    /// One more than the highest number received from the other side; 0 for none. Measures the round trip.
    pub echo: u32,
    /// How long ago that packet came, in microseconds: a repeat that echoes an old packet measures no worse.
    pub echo_age: u32,
    /// Where the fragment stands in its stream.
    pub offset: u32,
    /// How many bytes from the start of each of the other side's streams arrived without a gap.
    pub acks: [u32; 2],
}

impl HandshakeFields {
    /// Those of a sender's first packet: nothing went before it, and nothing came.
    pub const fn first(sender: SessionId, method: Method) -> Self {
        Self { sender, method, level: Level::Initial, number: 0, echo: 0, echo_age: 0, offset: 0, acks: [0; 2] }
    }
}

/// A HANDSHAKE packet.
#[derive(Clone, Copy, Debug)]
pub struct HandshakePacket<'a> {
    /// The common header.
    pub header: Header,
    /// What follows it.
    pub fields: HandshakeFields,
    /// What a RETRY gave; empty when there was none.
    pub cookie: &'a [u8],
    /// All that stands before the fragment, as it came.
    pub clear: &'a [u8],
    /// Bytes of the stream, or of an alert; ciphertext at the sealed level.
    pub fragment: &'a [u8],
    /// `clear` and `fragment` in one piece: what the tag covers.
    pub covered: &'a [u8],
    /// The tag over `covered`.
    pub tag: &'a [u8; TAG_LEN],
}

impl<'a> HandshakePacket<'a> {
    /// Reads the rest of a datagram that begins with `header`.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(header: Header, datagram: &'a [u8]) -> Result<Self, Refusal> {
        if header.flags & !(FLAG_CLIENT | FLAG_PING | FLAG_ALERT) != 0 {
            return Err(Refusal::Malformed);
        }
        let mut r = Reader::new(datagram);
        r.take(HEADER_LEN)?;
        let sender = SessionId::from_u64(r.u64()?);
        let method = match r.u8()? {
            1 => Method::Tls,
            2 => Method::Installed,
            3 => Method::Published,
            _ => return Err(Refusal::Malformed),
        };
        let level = match r.u8()? {
            0 => Level::Initial,
            1 => Level::Sealed,
            2 => Level::Early,
            _ => return Err(Refusal::Malformed),
        };
        let (number, echo, echo_age) = (r.u32()?, r.u32()?, r.u32()?);
        let (offset, acks) = (r.u32()?, [r.u32()?, r.u32()?]);
        let fields = HandshakeFields { sender, method, level, number, echo, echo_age, offset, acks };
        let cookie = take_cookie(&mut r)?;
        let len = usize::from(r.u16()?);
        let clear = &datagram[..datagram.len() - r.rest().len()];
        let fragment = r.take(len)?;
        let covered = &datagram[..clear.len() + len];
        let tag = r.rest().first_chunk().ok_or(Refusal::Truncated)?;
        r.take(TAG_LEN)?;
        // Only padding may follow: other bytes would be covered by no tag. [P-6.2.4]
        if r.rest().iter().any(|&b| b != 0) {
            return Err(Refusal::Oversized);
        }
        let alert = header.flags & FLAG_ALERT != 0;
        if sender == SessionId::NONE || offset.checked_add(len as u32).is_none() || (alert && len != 1) {
            return Err(Refusal::Malformed);
        }
        Ok(Self { header, fields, cookie, clear, fragment, covered, tag })
    }

    /// Appends all that stands before a fragment of `fragment_len` bytes. Fragment and tag are the caller's to append.
    ///
    /// # Panics
    /// When the cookie is longer than [`COOKIE_MAX`] or the fragment than a datagram: both are sizes of our own making.
    pub fn emit(header: &Header, fields: &HandshakeFields, cookie: &[u8], fragment_len: usize, w: &mut Writer<'_>) {
        header.emit(w);
        w.u64(fields.sender.as_u64());
        w.u8(fields.method.code());
        w.u8(fields.level.index() as u8);
        w.u32(fields.number);
        w.u32(fields.echo);
        w.u32(fields.echo_age);
        w.u32(fields.offset);
        fields.acks.iter().for_each(|&ack| w.u32(ack));
        put_cookie(cookie, w);
        w.u16(u16::try_from(fragment_len).expect("a fragment fits a datagram"));
    }

    /// The header of a packet to `receiver` in the handshake that `client` began.
    ///
    /// The steering field is made of the client's session id, in both directions, for whoever spreads flows on the way; the first shard
    /// takes what is of a handshake, whatever stands there.
    #[must_use]
    pub const fn header(flags: u8, receiver: SessionId, client: SessionId) -> Header {
        let steer = (client.as_u64() >> SessionId::SLOT_BITS) as u16;
        Header {
            kind: PacketType::Handshake,
            flags,
            epoch: 0,
            priority: HANDSHAKE_PRIORITY,
            steer,
            segment: 0,
            session: receiver,
        }
    }

    /// Whether the side that began the handshake sent it.
    #[must_use]
    pub const fn from_client(&self) -> bool {
        self.header.flags & FLAG_CLIENT != 0
    }

    /// Whether an answer is wanted.
    #[must_use]
    pub const fn ping(&self) -> bool {
        self.header.flags & FLAG_PING != 0
    }

    /// Whether the fragment is an alert.
    #[must_use]
    pub const fn alert(&self) -> bool {
        self.header.flags & FLAG_ALERT != 0
    }

    /// Bytes of the packet without padding.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.covered.len() + TAG_LEN
    }

    /// Never: a packet has a header.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }
}

/// A RETRY packet: "send that again with this cookie, so that I see you receive at your address". [P-6.4]
#[derive(Clone, Copy, Debug)]
pub struct RetryPacket<'a> {
    /// The common header; its session is the client's.
    pub header: Header,
    /// The number of the packet that caused it.
    pub number: u32,
    /// To be put into every packet until the server's session id is known.
    pub cookie: &'a [u8],
    /// All that stands before the tag.
    pub clear: &'a [u8],
    /// The tag over `clear`.
    pub tag: &'a [u8; TAG_LEN],
}

impl<'a> RetryPacket<'a> {
    /// Reads the rest of a datagram that begins with `header`.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(header: Header, datagram: &'a [u8]) -> Result<Self, Refusal> {
        let mut r = Reader::new(datagram);
        r.take(HEADER_LEN)?;
        let number = r.u32()?;
        let cookie = take_cookie(&mut r)?;
        let clear = &datagram[..datagram.len() - r.rest().len()];
        let tag = r.rest().first_chunk().ok_or(Refusal::Truncated)?;
        if r.rest().len() != TAG_LEN {
            return Err(Refusal::Oversized);
        }
        if header.flags != 0 || cookie.is_empty() {
            return Err(Refusal::Malformed);
        }
        Ok(Self { header, number, cookie, clear, tag })
    }

    /// Appends all that stands before the tag of an answer to `packet`.
    ///
    /// # Panics
    /// When the cookie is longer than [`COOKIE_MAX`].
    pub fn emit(packet: &HandshakePacket<'_>, cookie: &[u8], w: &mut Writer<'_>) {
        let client = packet.fields.sender;
        Header { kind: PacketType::Retry, ..HandshakePacket::header(0, client, client) }.emit(w);
        w.u32(packet.fields.number);
        put_cookie(cookie, w);
    }
}

fn take_cookie<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], Refusal> {
    let len = usize::from(r.u8()?);
    if len > COOKIE_MAX { Err(Refusal::Malformed) } else { r.take(len) }
}

fn put_cookie(cookie: &[u8], w: &mut Writer<'_>) {
    assert!(cookie.len() <= COOKIE_MAX, "a cookie of our own making");
    w.u8(cookie.len() as u8);
    w.put(cookie);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    fn fields() -> impl Strategy<Value = HandshakeFields> {
        (1u64.., (0usize..3, 0usize..3), any::<[u32; 3]>(), 0u32..1 << 31, any::<[u32; 2]>()).prop_map(
            |(sender, (method, level), [number, echo, echo_age], offset, acks)| HandshakeFields {
                sender: SessionId::from_u64(sender),
                method: [Method::Tls, Method::Installed, Method::Published][method],
                level: [Level::Initial, Level::Sealed, Level::Early][level],
                number,
                echo,
                echo_age,
                offset,
                acks,
            },
        )
    }

    fn build(fields: &HandshakeFields, cookie: &[u8], fragment: &[u8], padding: usize) -> Vec<u8> {
        let mut bytes = vec![0; HANDSHAKE_OVERHEAD + cookie.len() + fragment.len() + padding];
        let mut w = Writer::new(&mut bytes);
        let header = HandshakePacket::header(FLAG_CLIENT | FLAG_PING, SessionId::NONE, fields.sender);
        HandshakePacket::emit(&header, fields, cookie, fragment.len(), &mut w);
        w.put(fragment);
        w.put(&[7; TAG_LEN]);
        bytes
    }

    proptest! {
        /// [P-6.2] What is written is read; padding is not part of it, and anything else behind the tag is refused.
        #[test]
        fn round_trip(fields in fields(), cookie in proptest::collection::vec(any::<u8>(), 0..=COOKIE_MAX),
                      fragment in proptest::collection::vec(any::<u8>(), 0..300), padding in 0usize..50) {
            let mut bytes = build(&fields, &cookie, &fragment, padding);
            let header = Header::parse(&bytes).unwrap();
            let packet = HandshakePacket::parse(header, &bytes).unwrap();
            prop_assert_eq!(packet.fields, fields);
            prop_assert_eq!((packet.cookie, packet.fragment, packet.tag), (&cookie[..], &fragment[..], &[7; TAG_LEN]));
            prop_assert_eq!(packet.len() + padding, bytes.len());
            prop_assert!(packet.from_client() && packet.ping() && !packet.alert());
            for cut in 0..bytes.len() - padding {
                prop_assert!(HandshakePacket::parse(header, &bytes[..cut]).is_err());
            }
            if padding > 0 {
                *bytes.last_mut().unwrap() = 1;
                prop_assert_eq!(HandshakePacket::parse(header, &bytes).unwrap_err(), Refusal::Oversized);
            }
        }

        /// [P-6.4] A retry is read back, and is smaller than any packet that may cause it when the cookie is one of ours.
        #[test]
        fn retry_round_trip(fields in fields(), cookie in proptest::collection::vec(any::<u8>(), 1..=COOKIE_MAX)) {
            let first = build(&fields, b"", b"", 0);
            let first = HandshakePacket::parse(Header::parse(&first).unwrap(), &first).unwrap();
            let mut bytes = vec![0; RETRY_OVERHEAD + cookie.len()];
            let mut w = Writer::new(&mut bytes);
            RetryPacket::emit(&first, &cookie, &mut w);
            w.put(&[9; TAG_LEN]);
            let retry = RetryPacket::parse(Header::parse(&bytes).unwrap(), &bytes).unwrap();
            prop_assert_eq!(retry.header.session, fields.sender);
            prop_assert_eq!((retry.number, retry.cookie, retry.tag), (fields.number, &cookie[..], &[9; TAG_LEN]));
        }

        /// Random bytes have a meaning or a refusal.
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let header = HandshakePacket::header(0, SessionId::NONE, SessionId::NONE);
            let _ = HandshakePacket::parse(header, &bytes);
            let _ = RetryPacket::parse(header, &bytes);
        }
    }

    fn parsed(bytes: &[u8]) -> Result<HandshakePacket<'_>, Refusal> {
        HandshakePacket::parse(Header::parse(bytes)?, bytes)
    }

    /// [P-6.2] Values that no field may have.
    #[test]
    fn refused_values() {
        let fields = HandshakeFields::first(SessionId::new(1, 2), Method::Tls);
        let good = build(&fields, b"", b"ab", 0);
        assert!(parsed(&good).is_ok());
        let cases: [(usize, &[u8]); 6] = [
            (1, &[0x80]),                     // an unknown flag
            (1, &[FLAG_CLIENT | FLAG_ALERT]), // an alert of two bytes
            (HEADER_LEN, &[0; 8]),            // no sender
            (HEADER_LEN + 8, &[4]),           // an unknown method
            (HEADER_LEN + 9, &[3]),           // an unknown level
            (HEADER_LEN + 22, &[0xff; 4]),    // a fragment beyond the stream's end
        ];
        for (at, bytes) in cases {
            let mut bad = good.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            assert_eq!(parsed(&bad).unwrap_err(), Refusal::Malformed, "at {at}");
        }
    }
}
