//! Owns the names of the key exchanges, and which are offered.

use core::fmt;

/// How two sides come to a secret that nobody else has (RFC 8446 section 4.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyExchange {
    /// ML-KEM-768 and X25519 together: safe as long as one of them is, so also from whoever records today and has a quantum
    /// computer later (draft-ietf-tls-ecdhe-mlkem, group 4588).
    X25519MlKem768,
    /// X25519 (RFC 7748).
    X25519,
    /// NIST P-256.
    Secp256r1,
    /// NIST P-384.
    Secp384r1,
}

impl KeyExchange {
    /// All, best first: what is offered and accepted by default.
    pub const ALL: [Self; 4] = [Self::X25519MlKem768, Self::X25519, Self::Secp256r1, Self::Secp384r1];

    /// Its registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X25519MlKem768 => "X25519MLKEM768",
            Self::X25519 => "X25519",
            Self::Secp256r1 => "secp256r1",
            Self::Secp384r1 => "secp384r1",
        }
    }

    /// Whether a quantum computer does not help against it, as far as is known.
    #[must_use]
    pub const fn is_post_quantum(self) -> bool {
        matches!(self, Self::X25519MlKem768)
    }
}

impl fmt::Display for KeyExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
