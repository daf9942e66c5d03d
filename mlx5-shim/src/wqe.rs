//! Owns descriptors: what the card is told, as bytes, made by a function and read as a checked view. Completions are in `cqe`.
//!
//! Places and values are those of the Linux driver 6.12, XLIO and FreeBSD, which agree; where these differ (fences) we do what satisfies
//! all three. The tests of `tests/layout.rs` compare with the installed `mlx5dv.h` what that has.

use crate::bytes::{put_field, put_u16, put_u32, put_u64, u16_at, u24_at, u32_at, u64_at};

/// Bytes of a building block of a ring: descriptors begin at its multiples.
pub const BLOCK: usize = 64;
/// Bytes of a segment of a descriptor.
const SEGMENT: usize = 16;
/// Bytes of the longest descriptor that we make.
pub const DESCRIPTOR_MAX: usize = 4 * BLOCK;
/// Where the inline header begins in SEND and LSO.
const INLINE_AT: usize = 30;
/// Longest inline header: Ethernet with VLAN, IPv6, UDP and the packet's own header, with room.
pub const INLINE_MAX: usize = 160;
/// Pieces of payload in a descriptor.
pub const PIECES_MAX: usize = 2;

/// The second byte of the static parameters: constants, AES-GCM, and the record format of TLS 1.2.
const TLS12: u32 = 0x8900_0001;
/// "The payload of this segment stands here, not in memory."
const UMR_INLINE: u8 = 0x80;
/// Where the TLS parameters stand in their descriptor.
const PARAMS_AT: usize = 128;

/// fm_ce_se: wait for what this queue was told before.
pub(crate) const FENCE: u8 = 0x20;
/// fm_ce_se: write a completion.
const SIGNAL: u8 = 0x08;
/// Write IPv4's checksum, and UDP's.
const CHECKSUMS: u8 = 0xc0;

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// Nothing.
    Nop = 0x00,
    /// A packet.
    Send = 0x0a,
    /// Packets with one header.
    Lso = 0x0e,
    /// Where in its records a TIS stands.
    Progress = 0x20,
    /// Bytes that are sealed and not sent.
    Dump = 0x23,
    /// With which key and number a TIS seals.
    Static = 0x25,
}

/// What every descriptor says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Building blocks that were given to the queue before it, modulo 65,536.
    pub index: u16,
    /// The queue's number, 24 bits.
    pub queue: u32,
    /// The TIS; 0: the queue's own, which does not seal.
    pub tis: u32,
    /// It waits for all that this queue was told before.
    pub fence: bool,
    /// A completion is wanted.
    pub signal: bool,
}

/// Bytes in registered memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// How many.
    pub len: u32,
    /// The key of the registration.
    pub lkey: u32,
    /// Where they begin.
    pub address: u64,
}

/// A descriptor, ready to be posted.
#[derive(Clone, Debug)]
pub struct Descriptor {
    bytes: [u8; DESCRIPTOR_MAX],
    len: usize,
}

impl Descriptor {
    fn new(opcode: Opcode, opmod: u8, control: Control, len: usize) -> Self {
        let mut bytes = [0; DESCRIPTOR_MAX];
        debug_assert!(len <= DESCRIPTOR_MAX && len.is_multiple_of(SEGMENT), "a whole number of segments");
        bytes[0] = opmod;
        put_u16(&mut bytes, 1, control.index);
        bytes[3] = opcode as u8;
        put_u32(&mut bytes, 4, control.queue << 8 | (len / SEGMENT) as u32);
        bytes[11] = if control.fence { FENCE } else { 0 } | if control.signal { SIGNAL } else { 0 };
        put_u32(&mut bytes, 12, control.tis << 8);
        Self { bytes, len }
    }

    /// Its bytes, in whole building blocks.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len.next_multiple_of(BLOCK)]
    }

    /// Building blocks.
    pub const fn blocks(&self) -> u16 {
        self.len.div_ceil(BLOCK) as u16
    }

    /// Nothing, for fences and filling.
    pub fn nop(control: Control) -> Self {
        Self::new(Opcode::Nop, 0, Control { tis: 0, ..control }, SEGMENT)
    }

    /// A TIS seals with that key, from that record number on.
    pub fn static_params(control: Control, params: &StaticParams) -> Self {
        let mut this = Self::new(Opcode::Static, 1, control, 192);
        let bytes = &mut this.bytes;
        bytes[16] = UMR_INLINE;
        put_u16(bytes, 22, 4);
        put_u32(bytes, PARAMS_AT, TLS12);
        put_u64(bytes, PARAMS_AT + 8, params.number);
        bytes[PARAMS_AT + 20..PARAMS_AT + 24].copy_from_slice(&params.salt);
        put_field(bytes, PARAMS_AT + 32, 0, 24, params.dek);
        this
    }

    /// The next byte of a TIS is the first of a record, of the number that it was told.
    pub fn progress(control: Control, tis: u32) -> Self {
        // Here the TIS stands behind the control segment, whose own field stays 0.
        let mut this = Self::new(Opcode::Progress, 1, Control { tis: 0, ..control }, 32);
        put_u32(&mut this.bytes, 16, tis);
        this
    }

    /// Bytes that a TIS seals and does not send.
    pub fn dump(control: Control, piece: Piece) -> Self {
        let mut this = Self::new(Opcode::Dump, 0, control, 32);
        this.put_piece(16, piece);
        this
    }

    /// A packet: `header` in clear, the pieces behind it.
    ///
    /// # Panics
    /// With a header over [`INLINE_MAX`] or more than [`PIECES_MAX`] pieces: the caller's bugs.
    pub fn send(control: Control, header: &[u8], pieces: &[Piece]) -> Self {
        Self::packets(Opcode::Send, control, 0, header, pieces)
    }

    /// Packets of `each` bytes behind `header`, which stands in front of each.
    ///
    /// # Panics
    /// As [`Self::send`].
    pub fn lso(control: Control, each: u16, header: &[u8], pieces: &[Piece]) -> Self {
        Self::packets(Opcode::Lso, control, each, header, pieces)
    }

    fn packets(opcode: Opcode, control: Control, each: u16, header: &[u8], pieces: &[Piece]) -> Self {
        assert!(header.len() <= INLINE_MAX && pieces.len() <= PIECES_MAX, "more than a descriptor holds");
        let pieces_at = pieces_at(header.len());
        let mut this = Self::new(opcode, 0, control, pieces_at + SEGMENT * pieces.len());
        this.bytes[20] = CHECKSUMS;
        put_u16(&mut this.bytes, 22, each);
        put_u16(&mut this.bytes, 28, header.len() as u16);
        this.bytes[INLINE_AT..INLINE_AT + header.len()].copy_from_slice(header);
        for (i, piece) in pieces.iter().enumerate() {
            this.put_piece(pieces_at + SEGMENT * i, *piece);
        }
        this
    }

    fn put_piece(&mut self, at: usize, piece: Piece) {
        put_u32(&mut self.bytes, at, piece.len);
        put_u32(&mut self.bytes, at + 4, piece.lkey);
        put_u64(&mut self.bytes, at + 8, piece.address);
    }
}

/// Where pieces begin behind an inline header: at the next whole segment.
const fn pieces_at(header_len: usize) -> usize {
    (INLINE_AT + header_len).next_multiple_of(SEGMENT)
}

/// Building blocks that a SEND or LSO of one piece takes.
pub const fn send_blocks(header_len: usize) -> u16 {
    (pieces_at(header_len) + SEGMENT).div_ceil(BLOCK) as u16
}

/// Building blocks of [`Descriptor::static_params`].
pub const STATIC_BLOCKS: u16 = 3;

/// With what a TIS seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticParams {
    /// The number of its next record.
    pub number: u64,
    /// The first four bytes of each nonce.
    pub salt: [u8; 4],
    /// The key's object.
    pub dek: u32,
}

/// What a descriptor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// What every descriptor says.
    pub control: Control,
    /// Building blocks.
    pub blocks: u16,
    /// What it is for.
    pub body: Body<'a>,
}

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// Nothing.
    Nop,
    /// With what a TIS seals.
    Static(StaticParams),
    /// A TIS is at the beginning of a record.
    Progress {
        /// The TIS.
        tis: u32,
    },
    /// Bytes that are sealed and not sent.
    Dump(Piece),
    /// A packet, or several.
    Send {
        /// Payload of each packet, if it is to be cut.
        each: Option<u16>,
        /// What stands in front of each in clear.
        header: &'a [u8],
        /// IPv4's and UDP's checksums are to be written.
        checksums: bool,
        /// The payload.
        pieces: [Piece; PIECES_MAX],
        /// How many of these there are.
        count: usize,
    },
}

/// Why bytes are no descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadDescriptor {
    /// It says that it is longer than its queue, or shorter than its kind.
    Length,
    /// A kind that we do not use.
    Opcode(u8),
    /// A field has a value that makes no sense.
    Field(&'static str),
}

impl<'a> View<'a> {
    /// Reads the descriptor at the beginning of `bytes`.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadDescriptor> {
        if bytes.len() < BLOCK {
            return Err(BadDescriptor::Length);
        }
        let len = usize::from(bytes[7] & 0x3f) * SEGMENT;
        if len > bytes.len() || len == 0 {
            return Err(BadDescriptor::Length);
        }
        let control = Control {
            index: u16_at(bytes, 1),
            queue: u32_at(bytes, 4) >> 8,
            tis: u32_at(bytes, 12) >> 8,
            fence: bytes[11] & 0xe0 == FENCE,
            signal: bytes[11] & 0x0c == SIGNAL,
        };
        let exact = |wanted: usize| if len == wanted { Ok(()) } else { Err(BadDescriptor::Length) };
        let opmod = |wanted: u8| if bytes[0] == wanted { Ok(()) } else { Err(BadDescriptor::Field("modifier")) };
        let body = match bytes[3] {
            x if x == Opcode::Nop as u8 => Body::Nop,
            x if x == Opcode::Static as u8 => {
                exact(192)?;
                opmod(1)?;
                static_body(bytes)?
            }
            x if x == Opcode::Progress as u8 => {
                exact(32)?;
                opmod(1)?;
                if bytes[20..32].iter().any(|byte| *byte != 0) {
                    return Err(BadDescriptor::Field("progress"));
                }
                Body::Progress { tis: u24_at(bytes, 16) }
            }
            x if x == Opcode::Dump as u8 => {
                exact(32)?;
                Body::Dump(piece_at(bytes, 16))
            }
            x if x == Opcode::Send as u8 || x == Opcode::Lso as u8 => send_body(bytes, len, x == Opcode::Lso as u8)?,
            other => return Err(BadDescriptor::Opcode(other)),
        };
        Ok(Self { control, blocks: len.div_ceil(BLOCK) as u16, body })
    }
}

fn static_body(bytes: &[u8]) -> Result<Body<'_>, BadDescriptor> {
    if bytes[16] != UMR_INLINE || u16_at(bytes, 22) != 4 {
        return Err(BadDescriptor::Field("inline parameters"));
    }
    if u32_at(bytes, PARAMS_AT) != TLS12 {
        return Err(BadDescriptor::Field("record format"));
    }
    let salt = [0, 1, 2, 3].map(|i| bytes[PARAMS_AT + 20 + i]);
    let (number, dek) = (u64_at(bytes, PARAMS_AT + 8), u24_at(bytes, PARAMS_AT + 32));
    Ok(Body::Static(StaticParams { number, salt, dek }))
}

fn send_body(bytes: &[u8], len: usize, lso: bool) -> Result<Body<'_>, BadDescriptor> {
    if len < 2 * SEGMENT {
        return Err(BadDescriptor::Length);
    }
    let header_len = usize::from(u16_at(bytes, 28) & 0x7fff);
    let at = pieces_at(header_len);
    let count = len.checked_sub(at).ok_or(BadDescriptor::Length)? / SEGMENT;
    if count > PIECES_MAX {
        return Err(BadDescriptor::Field("pieces"));
    }
    let each = u16_at(bytes, 22);
    if lso == (each == 0) {
        return Err(BadDescriptor::Field("bytes of each packet"));
    }
    let mut pieces = [Piece::default(); PIECES_MAX];
    for (i, piece) in pieces[..count].iter_mut().enumerate() {
        *piece = piece_at(bytes, at + SEGMENT * i);
    }
    Ok(Body::Send {
        each: lso.then_some(each),
        header: &bytes[INLINE_AT..INLINE_AT + header_len],
        checksums: bytes[20] == CHECKSUMS,
        pieces,
        count,
    })
}

fn piece_at(bytes: &[u8], at: usize) -> Piece {
    Piece { len: u32_at(bytes, at), lkey: u32_at(bytes, at + 4), address: u64_at(bytes, at + 8) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONTROL: Control = Control { index: 0x0102, queue: 0x030405, tis: 0x060708, fence: true, signal: true };

    /// The parameters, byte for byte, as the three drivers write them.
    #[test]
    fn parameters_byte_for_byte() {
        let params = StaticParams { number: 0x1122_3344_5566_7788, salt: [9, 8, 7, 6], dek: 0xaabbcc };
        let this = Descriptor::static_params(CONTROL, &params);
        let bytes = this.bytes();
        assert_eq!((bytes.len(), this.blocks()), (192, STATIC_BLOCKS));
        assert_eq!(bytes[..16], [1, 1, 2, 0x25, 3, 4, 5, 12, 0, 0, 0, 0x28, 6, 7, 8, 0]);
        assert_eq!(bytes[16..24], [0x80, 0, 0, 0, 0, 0, 0, 4]);
        assert!(bytes[24..128].iter().all(|byte| *byte == 0));
        let mut expected = [0; 64];
        expected[..4].copy_from_slice(&[0x89, 0, 0, 1]);
        expected[8..16].copy_from_slice(&[0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
        expected[20..24].copy_from_slice(&[9, 8, 7, 6]);
        expected[33..36].copy_from_slice(&[0xaa, 0xbb, 0xcc]);
        assert_eq!(bytes[128..], expected);
        let this = Descriptor::progress(CONTROL, 0x060708);
        assert_eq!(this.bytes()[..20], [1, 1, 2, 0x20, 3, 4, 5, 2, 0, 0, 0, 0x28, 0, 0, 0, 0, 0, 6, 7, 8]);
        assert!(this.bytes()[20..].iter().all(|byte| *byte == 0));
        let this = Descriptor::nop(Control { fence: true, signal: false, ..CONTROL });
        assert_eq!(this.bytes()[..16], [0, 1, 2, 0, 3, 4, 5, 1, 0, 0, 0, 0x20, 0, 0, 0, 0]);
        let this = Descriptor::dump(CONTROL, Piece { len: 0x102, lkey: 3, address: 4 });
        assert_eq!(this.bytes()[..8], [0, 1, 2, 0x23, 3, 4, 5, 2]);
        assert_eq!(this.bytes()[16..32], [0, 0, 1, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4]);
    }

    #[test]
    fn packets_byte_for_byte() {
        let header: Vec<u8> = (0..62).collect();
        let piece = Piece { len: 2800, lkey: 7, address: 8 };
        let this = Descriptor::lso(CONTROL, 1400, &header, &[piece]);
        let bytes = this.bytes();
        assert_eq!(bytes[..8], [0, 1, 2, 0x0e, 3, 4, 5, 7], "seven segments");
        assert_eq!(bytes[16..30], [0, 0, 0, 0, 0xc0, 0, 0x05, 0x78, 0, 0, 0, 0, 0, 62]);
        assert_eq!(bytes[30..92], header);
        assert_eq!(bytes[96..112], [0, 0, 0x0a, 0xf0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 8]);
        assert_eq!((this.blocks(), send_blocks(62), send_blocks(86)), (2, 2, 3));
        let this = Descriptor::send(CONTROL, &header, &[piece]);
        assert_eq!((this.bytes()[3], &this.bytes()[22..24]), (0x0a, &[0, 0][..]));
    }

    proptest! {
        /// What was made is read; whatever is read, is read within its bytes.
        #[test]
        fn views_are_safe(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), opcode in 0usize..8, units in 0u8..64,
            header in proptest::collection::vec(any::<u8>(), 0..INLINE_MAX), index: u16, fence: bool, signal: bool, each in 1u16..9000) {
            let control = Control { index, fence, signal, ..CONTROL };
            let piece = Piece { len: 5, lkey: 6, address: 7 };
            let this = Descriptor::lso(control, each, &header, &[piece, piece]);
            let view = View::parse(this.bytes()).unwrap();
            prop_assert_eq!((view.control, view.blocks), (control, this.blocks()));
            let Body::Send { each: Some(read), header: read_header, checksums: true, pieces, count: 2 } = view.body else {
                return Err(TestCaseError::fail("another body"));
            };
            prop_assert_eq!((read, read_header, pieces), (each, &header[..], [piece; 2]));
            if bytes.len() >= 8 {
                bytes[3] = [0, 0x0a, 0x0e, 0x20, 0x23, 0x25, 0x29, 0x21][opcode];
                bytes[7] = units;
            }
            let _ = View::parse(&bytes);
        }
    }

    #[test]
    fn what_the_card_refuses_is_refused() {
        let control = CONTROL;
        let change = |descriptor: Descriptor, at: usize, to: u8| {
            let mut bytes = descriptor.bytes().to_vec();
            bytes[at] = to;
            View::parse(&bytes).map(|_| ())
        };
        let params = StaticParams { number: 1, salt: [0; 4], dek: 1 };
        let fixed = || Descriptor::static_params(control, &params);
        assert_eq!(change(fixed(), 7, 11), Err(BadDescriptor::Length));
        assert_eq!(change(fixed(), 0, 2), Err(BadDescriptor::Field("modifier")));
        assert_eq!(change(fixed(), 23, 3), Err(BadDescriptor::Field("inline parameters")));
        assert_eq!(change(fixed(), 128, 0x8d), Err(BadDescriptor::Field("record format")));
        assert_eq!(change(Descriptor::progress(control, 1), 31, 1), Err(BadDescriptor::Field("progress")));
        assert_eq!(change(Descriptor::nop(control), 3, 0x29), Err(BadDescriptor::Opcode(0x29)));
        assert_eq!(change(Descriptor::nop(control), 7, 0), Err(BadDescriptor::Length));
        let send = || Descriptor::send(control, &[1; 42], &[Piece::default()]);
        assert_eq!(change(send(), 3, 0x0e), Err(BadDescriptor::Field("bytes of each packet")));
        assert_eq!(change(send(), 7, 63), Err(BadDescriptor::Length));
        assert_eq!(change(send(), 28, 0x10), Err(BadDescriptor::Length), "a header longer than its descriptor");
    }
}
