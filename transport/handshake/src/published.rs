//! Owns published tickets: a public key of one server process, signed by the server's certificate, that a client can have before it
//! ever talked to that server; and what both sides make of it. [P-6.10] [P-6.11]
//!
//! Nothing here sends or receives. `ticket` is the layout, `text` how it stands in files and DNS, `verify` the client's judgement,
//! `ring` the server's keys and its memory of what came, `keys` what both derive, `hello` finds the parameters in a ClientHello.
//!
//! HPKE is RFC 9180 with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-128-GCM, by rustls. It seals a fresh secret of the client:
//! that library has no exporter, and a sealed secret brings a tag, so that a server tells rubbish from a flight at once.

mod text;
mod ticket;
mod verify;
mod keys;
mod ring;
pub(crate) mod hello;

use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
use rustls::crypto::hpke::Hpke;
use wire::handshake::Method;
use wire::ids::SessionId;

pub(crate) use keys::{Root, early_key, reply_key};
pub use ring::Publisher;
pub(crate) use ring::Sought;
pub use text::{TEXT_MAX, TXT_STRING_MAX};
pub use ticket::{Damage, Ticket, TicketId};
pub use verify::{Invalid, VerifiedTicket};

/// The suite of all tickets.
pub(crate) const HPKE: &dyn Hpke = DH_KEM_X25519_HKDF_SHA256_AES_128;
/// Its public names: KEM, KDF, AEAD (RFC 9180 section 7).
const SUITE: [u16; 3] = [0x0020, 0x0001, 0x0001];
/// Bytes of a public key and of an encapsulated one.
const KEY_LEN: usize = 32;
/// Bytes of a fresh secret, sealed.
const SEALED_LEN: usize = 32 + 16;

/// Bytes of an opening: ticket id, encapsulated key, sealed secret. [P-6.11]
pub(crate) const OPENING_LEN: usize = 8 + KEY_LEN + SEALED_LEN;
/// The transport parameter that an opening stands in, beside a TLS handshake.
pub(crate) const TAG_OPENING: u8 = 11;
/// The transport parameter with the server's verdict.
pub(crate) const TAG_VERDICT: u8 = 12;

/// What a server says of a first flight by published ticket. Authenticated, or it is not said. [P-6.12]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is taken in this handshake, and in no other.
    Taken,
    /// The same was here before, in another handshake: its requests may have run there.
    Seen,
    /// It was not here, and never will be taken: there is no room to remember it.
    Refused,
}

impl Verdict {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Taken => 1,
            Self::Seen => 2,
            Self::Refused => 3,
        }
    }

    /// From the value of a parameter; `None` for what this version does not know, which then is no verdict.
    pub(crate) const fn read(value: &[u8]) -> Option<Self> {
        match value {
            [1] => Some(Self::Taken),
            [2] => Some(Self::Seen),
            [3] => Some(Self::Refused),
            _ => None,
        }
    }
}

/// What an opening is sealed for: nobody can bring it into another kind of handshake, or under another session's name.
fn associated(session: SessionId, method: Method) -> [u8; 9] {
    let mut out = [0; 9];
    out[..8].copy_from_slice(&session.as_u64().to_be_bytes());
    out[8] = match method {
        Method::Published => 1,
        Method::Tls | Method::Installed => 2,
    };
    out
}

/// HPKE's `info`: what it is for, and which ticket.
fn info(digest: &[u8; 32]) -> Vec<u8> {
    [b"sealane/1 published ticket", &digest[..]].concat()
}
