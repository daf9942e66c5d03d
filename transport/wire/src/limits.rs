//! Owns every bound of the protocol, and how they relate.

use crate::ids::SessionId;

/// The version that this crate speaks. Any change of a layout that an older reader would misread raises it. [P-1.1]
pub const VERSION: u8 = 1;

/// The ALPN name of this version (RFC 7301). [P-6.1]
pub const ALPN: &[u8] = b"sealane/1";

/// Bytes of the header that all packets share. [P-5.1]
pub const HEADER_LEN: usize = 16;

/// Bytes that a DATA packet puts before its first record. [P-5.2]
pub const DATA_HEADER_LEN: usize = HEADER_LEN + 4;

/// Clear bytes before the sealed frames of a CONTROL packet: header and packet number. [P-5.3]
pub const CONTROL_HEADER_LEN: usize = HEADER_LEN + 8;

/// Clear bytes of a record: content type, version, length, explicit nonce. [P-4.1]
pub const RECORD_HEADER_LEN: usize = 13;

/// Bytes of an AEAD tag.
pub const TAG_LEN: usize = 16;

/// Bytes of the sealed trailer that ends every record's plaintext. [P-4.2]
pub const TRAILER_LEN: usize = 16;

/// Most plaintext bytes in a record (RFC 5246 section 6.2.1: 2^14). [P-4.1]
pub const RECORD_PLAINTEXT_MAX: usize = 1 << 14;

/// Most message bytes in a record that we accept.
pub const RECORD_PAYLOAD_MAX: usize = RECORD_PLAINTEXT_MAX - TRAILER_LEN;

/// Bytes that a packet with one record has beyond the message's bytes.
pub const PACKET_OVERHEAD: usize = DATA_HEADER_LEN + RECORD_HEADER_LEN + TRAILER_LEN + TAG_LEN;

/// Clear bytes of a slice of a spanning record: those of a record, its offset, and the length of the sealed record. [P-4.6]
pub const SLICE_HEADER_LEN: usize = RECORD_HEADER_LEN + 4;

/// By so much a packet with a slice has more room for sealed bytes than one with a record has for the message's: trailer and tag are
/// the spanning record's, once. Slices fill it, so that packets of both have one length. [P-4.6]
pub const SLICE_SPARE: usize = PACKET_OVERHEAD - DATA_HEADER_LEN - SLICE_HEADER_LEN;

/// Where fewer packets than these fill a record, it is worth little to have one for several of them, and there are none that span.
/// [P-4.6]
pub const SPAN_PACKETS_MIN: usize = 4;

/// Most packets that a spanning record is cut to. [P-4.6]
pub const SPAN_PACKETS_MAX: usize = 16;

/// Messages of shorter records have no spanning ones: what their slices need beside the message's bytes stays a small part. [P-4.6]
pub const SPAN_PAYLOAD_MIN: usize = 512;

/// The largest packet that we send: almost a full record. Four of them are a train of 65,468 bytes, the most that Linux
/// merges with room for IPv6 and a VLAN tag; four full records would be cut in software (`udp::caps`). [P-5.2]
pub const PACKET_MAX: usize = 16_367;

/// The smallest UDP payload that a path must carry: IPv6's 1,280 bytes less IPv6 and UDP headers (RFC 8200 section 5). [P-5.6]
pub const DATAGRAM_MIN: usize = 1280 - 40 - 8;

/// The largest UDP payload over IPv4: 65,535 less IP and UDP headers.
pub const DATAGRAM_MAX: usize = 65_535 - 20 - 8;

/// Most records in a message: the index has 16 bits, and the last of its values is that of bundles. [P-4.7]
pub const RECORDS_MAX: usize = u16::MAX as usize;

/// The largest message that the protocol can carry on the smallest path; what an endpoint accepts is configured below it.
pub const MESSAGE_MAX: usize = 64 << 20;

/// Most acknowledgements that ride in a record. [P-4.3]
pub const PIGGYBACK_ACKS_MAX: usize = 5;

/// Bytes of one acknowledgement.
pub const ACK_LEN: usize = 6;

/// Most bytes of piggybacked acknowledgements.
pub const AUX_MAX: usize = PIGGYBACK_ACKS_MAX * ACK_LEN;

/// How far a sequence may be ahead of its sender's floor. [P-7.2]
pub const SEQUENCE_WINDOW: u64 = 1 << 22;

/// Most shards of an endpoint: a lane's two fit the steering field. [P-9.1]
pub const SHARDS_MAX: u16 = 256;

/// Most sessions of an endpoint: the slot must fit the id.
pub const SESSIONS_MAX: usize = 1 << SessionId::SLOT_BITS;

const _: () = assert!(RECORD_PAYLOAD_MAX + TRAILER_LEN == RECORD_PLAINTEXT_MAX);
const _: () = assert!(PACKET_MAX <= DATAGRAM_MAX);
const _: () = assert!(PACKET_MAX - PACKET_OVERHEAD <= RECORD_PAYLOAD_MAX, "what we send is accepted");
const _: () =
    assert!(MESSAGE_MAX.div_ceil(DATAGRAM_MIN - PACKET_OVERHEAD) <= RECORDS_MAX, "the index does not run out");
const _: () = assert!(MESSAGE_MAX <= u32::MAX as usize);
const _: () = assert!(2 * SLICE_SPARE >= TRAILER_LEN + TAG_LEN, "two slices have room for what ends their record");
const _: () = assert!(AUX_MAX <= u8::MAX as usize);
const _: () = assert!(SEQUENCE_WINDOW <= u32::MAX as u64, "the floor's distance fits its field");
