//! Owns what comes out of a handshake: one secret from which all keys are derived, and what it was agreed with. [P-6.3]

use core::time::Duration;

use record::aead::Cipher;
use record::keys::Secret;

use crate::exchange::KeyExchange;
use crate::identity::PeerIdentity;
use crate::params::TransportParams;
#[cfg(feature = "tls")]
use crate::published::Verdict;
use crate::sides::Sides;

/// The label of the TLS exporter (RFC 8446 section 7.5), used without context. [P-6.3]
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-sealane1 session";

/// A session that both sides agreed on.
#[derive(Debug)]
#[non_exhaustive]
pub struct Established {
    /// What the other side says of itself. Authenticated.
    pub peer: TransportParams,
    /// What all keys of the session are derived from.
    pub secret: Secret,
    /// What seals its records.
    pub cipher: Cipher,
    /// Who the other side is.
    pub identity: PeerIdentity,
    /// Whether both sides proved who they are.
    pub mutual: bool,
    /// How the secret was agreed on; `None` for an installed one.
    pub exchange: Option<KeyExchange>,
    /// Whether it goes back to an earlier session by a ticket: who the other side is was proven there. [P-6.8]
    pub resumed: bool,
    /// Whether the server took what the first flight brought of the application. [P-6.9]
    pub early: bool,
    /// What evidence of the two sides is tied to, where one of them demands any. [P-6.16]
    pub sides: Option<Sides>,
    /// What the server says of a first flight by published ticket; `None`: nothing, because there was none, or because it does
    /// not know the ticket. [P-6.12]
    #[cfg(feature = "tls")]
    pub verdict: Option<Verdict>,
    /// The shortest round trip seen, with the other side's computing in it; zero when there was no sample.
    pub rtt: Duration,
}

/// What a method agreed on.
pub(crate) struct Agreed {
    pub(crate) peer: TransportParams,
    pub(crate) secret: Secret,
    pub(crate) cipher: Cipher,
    pub(crate) identity: PeerIdentity,
    pub(crate) mutual: bool,
    pub(crate) must_wait: bool,
    pub(crate) exchange: Option<KeyExchange>,
    pub(crate) resumed: bool,
    pub(crate) early: bool,
    pub(crate) sides: Option<Sides>,
    #[cfg(feature = "tls")]
    pub(crate) verdict: Option<Verdict>,
}
