//! Owns the layout of a ticket, and nothing of what it is worth: who read one knows what it says, not whether it is true. [P-6.10]

use core::fmt;

use record::aead::Cipher;
use rustls::SignatureScheme;
use wire::bytes::Reader;
use wire::error::Refusal;

use super::{KEY_LEN, SUITE, text};
use crate::sha256::sha256;

/// The layout. A reader refuses another one.
const VERSION: u8 = 1;
/// Most certificates of a chain.
const CHAIN_MAX: usize = 8;
/// Bytes before the chain: version, suite, ciphers, validity, key.
const FIXED_LEN: usize = 1 + 6 + 1 + 16 + KEY_LEN;

/// What a signature covers before the ticket's own bytes: no signature made for TLS (RFC 8446 section 4.4.3), or for anything else,
/// is one of a ticket.
const CONTEXT: &[u8] = b"sealane/1 published ticket signature\0";
const CONTEXT_PAD: [u8; 64] = [0x20; 64];

/// The public name of a ticket: the beginning of its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId(pub [u8; 8]);

impl fmt::Debug for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Why a text or bytes are no ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Damage {
    /// There is no block in the text.
    #[error("the text holds no \"BEGIN SEALANE TICKET\" block, or not its end")]
    NoBlock,
    /// There is more than one block.
    #[error("the text holds several tickets")]
    Several,
    /// The text is longer than any ticket.
    #[error("the text is longer than any ticket")]
    TooLong,
    /// What is in the block is no base64.
    #[error("the block is not base64")]
    Base64,
    /// Another version of the layout.
    #[error("the ticket has version {0}; this program reads version {VERSION}")]
    Version(u8),
    /// Other algorithms than this version knows.
    #[error("the ticket is of algorithms that this program does not have")]
    Suite,
    /// It ends within a field, goes on behind the last, or a field has an impossible value.
    #[error("the ticket's bytes have no meaning: cut, or altered")]
    Layout,
}

impl From<Refusal> for Damage {
    fn from(_: Refusal) -> Self {
        Self::Layout
    }
}

/// A ticket as it was read: believed in nothing yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    bytes: Vec<u8>,
    /// How many of the bytes are signed.
    signed: usize,
    pub(super) ciphers: u8,
    pub(super) not_before: u64,
    pub(super) not_after: u64,
    pub(super) key: [u8; KEY_LEN],
    pub(super) chain: Vec<Vec<u8>>,
    pub(super) scheme: SignatureScheme,
    pub(super) signature: Vec<u8>,
}

/// What a ticket says, before it is signed.
pub(super) struct Draft<'a> {
    pub(super) ciphers: &'a [Cipher],
    pub(super) not_before: u64,
    pub(super) not_after: u64,
    pub(super) key: [u8; KEY_LEN],
    pub(super) chain: &'a [&'a [u8]],
}

impl Draft<'_> {
    /// The bytes that are signed, without the context.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_LEN + 2048);
        out.push(VERSION);
        SUITE.iter().for_each(|id| out.extend(id.to_be_bytes()));
        out.push(self.ciphers.iter().fold(0, |bits, &cipher| bits | bit(cipher)));
        out.extend(self.not_before.to_be_bytes());
        out.extend(self.not_after.to_be_bytes());
        out.extend(self.key);
        out.push(self.chain.len() as u8);
        for der in self.chain {
            out.extend((der.len() as u16).to_be_bytes());
            out.extend_from_slice(der);
        }
        out
    }
}

/// What a signature of `signed` is made over.
pub(super) fn to_be_signed(signed: &[u8]) -> Vec<u8> {
    [&CONTEXT_PAD[..], CONTEXT, signed].concat()
}

const fn bit(cipher: Cipher) -> u8 {
    match cipher {
        Cipher::Aes128Gcm => 1,
        Cipher::Aes256Gcm => 2,
        Cipher::ChaCha20Poly1305 => 4,
    }
}

impl Ticket {
    /// Reads the bytes of a ticket.
    ///
    /// # Errors
    /// Why they are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let mut r = Reader::new(bytes);
        match r.u8()? {
            VERSION => {}
            other => return Err(Damage::Version(other)),
        }
        for id in SUITE {
            if r.u16()? != id {
                return Err(Damage::Suite);
            }
        }
        let ciphers = r.u8()?;
        let (not_before, not_after) = (r.u64()?, r.u64()?);
        let key = r.array()?;
        let count = usize::from(r.u8()?);
        if count == 0 || count > CHAIN_MAX {
            return Err(Damage::Layout);
        }
        let mut chain = Vec::with_capacity(count);
        for _ in 0..count {
            let len = usize::from(r.u16()?);
            chain.push(r.take(len)?.to_vec());
        }
        let signed = bytes.len() - r.rest().len();
        let scheme = SignatureScheme::from(r.u16()?);
        let len = usize::from(r.u16()?);
        let signature = r.take(len)?.to_vec();
        if !r.is_empty() {
            return Err(Damage::Layout);
        }
        Ok(Self { bytes: bytes.to_vec(), signed, ciphers, not_before, not_after, key, chain, scheme, signature })
    }

    /// Puts a signature behind what it was made over.
    pub(super) fn signed(mut bytes: Vec<u8>, scheme: SignatureScheme, signature: &[u8]) -> Result<Self, Damage> {
        bytes.extend(u16::from(scheme).to_be_bytes());
        bytes.extend((signature.len() as u16).to_be_bytes());
        bytes.extend_from_slice(signature);
        Self::decode(&bytes)
    }

    /// Reads the one ticket in a text; what stands around its block is not read.
    ///
    /// # Errors
    /// Why there is none.
    pub fn from_text(text: &str) -> Result<Self, Damage> {
        Self::decode(&text::dearmor(text)?)
    }

    /// As a block of text, for files.
    #[must_use]
    pub fn to_text(&self) -> String {
        text::armor(&self.bytes)
    }

    /// Reads a ticket out of the strings of one DNS TXT record; `None` when the record is of something else.
    pub fn from_txt<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Option<Result<Self, Damage>> {
        text::joined(strings).map(|bytes| Self::decode(&bytes?))
    }

    /// As the strings of one DNS TXT record, each of at most [`super::TXT_STRING_MAX`] bytes.
    #[must_use]
    pub fn to_txt(&self) -> Vec<String> {
        text::strings(&self.bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What its signature is made over.
    pub(super) fn to_be_signed(&self) -> Vec<u8> {
        to_be_signed(&self.bytes[..self.signed])
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        sha256(&self.bytes)
    }

    /// Its public name.
    #[must_use]
    pub fn id(&self) -> TicketId {
        id_of(&self.digest())
    }

    /// From when it says to be valid, in seconds since 1970.
    #[must_use]
    pub const fn not_before(&self) -> u64 {
        self.not_before
    }

    /// Until when, in seconds since 1970.
    #[must_use]
    pub const fn not_after(&self) -> u64 {
        self.not_after
    }

    /// Whether its server seals records with `cipher`.
    #[must_use]
    pub const fn takes(&self, cipher: Cipher) -> bool {
        self.ciphers & bit(cipher) != 0
    }
}

pub(super) fn id_of(digest: &[u8; 32]) -> TicketId {
    TicketId(*digest.first_chunk().expect("a part of a hash"))
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({}, {}..{})", self.id(), self.not_before, self.not_after)
    }
}
