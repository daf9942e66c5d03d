//! Owns who is who: our own certificate and key, and what is known of the other side after a handshake.

use core::fmt;
use std::sync::Arc;

pub use crate::names::Name;
#[cfg(feature = "tls")]
pub use crate::own::Identity;

/// Who the other side proved to be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerIdentity {
    /// A client that showed no certificate, and was not asked for one.
    Anonymous,
    /// The owner of a certificate that we trust.
    Certificate(PeerCertificate),
    /// The owner of a raw public key that we know.
    RawKey(PeerKey),
    /// Another holder of a secret that was installed here.
    Installed {
        /// What the caller called that secret.
        label: Arc<str>,
    },
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Certificate(certificate) => certificate.fmt(f),
            Self::RawKey(key) => key.fmt(f),
            Self::Installed { label } => write!(f, "installed secret {label:?}"),
        }
    }
}

/// A verified certificate. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerCertificate(Arc<Inner>);

#[derive(PartialEq, Eq)]
struct Inner {
    chain: Vec<Vec<u8>>,
    names: Vec<Name>,
    sha256: [u8; 32],
}

impl PeerCertificate {
    /// From a verified chain, the owner's certificate first.
    #[cfg(feature = "tls")]
    pub(crate) fn new(chain: Vec<Vec<u8>>, sha256: [u8; 32]) -> Self {
        let names = chain.first().map(|der| crate::names::of_certificate(der)).unwrap_or_default();
        Self(Arc::new(Inner { chain, names, sha256 }))
    }

    /// The chain as it came, in DER; the owner's certificate is the first.
    #[must_use]
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.0.chain
    }

    /// The owner's certificate in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        self.0.chain.first().map_or(&[], |der| der)
    }

    /// Its subject alternative names: DNS names, addresses, URIs.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        &self.0.names
    }

    /// SHA-256 of [`Self::der`].
    #[must_use]
    pub fn sha256(&self) -> &[u8; 32] {
        &self.0.sha256
    }
}

/// A raw public key (RFC 7250) whose owner is at the other side. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerKey {
    spki: Arc<[u8]>,
    sha256: [u8; 32],
}

impl PeerKey {
    #[cfg(feature = "tls")]
    pub(crate) fn new(spki: &[u8], sha256: [u8; 32]) -> Self {
        Self { spki: spki.into(), sha256 }
    }

    /// The key as SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of [`Self::der`].
    #[must_use]
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("raw key sha256:")?;
        self.sha256[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerKey({self})")
    }
}

impl fmt::Display for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in self.names() {
            write!(f, "{name} ")?;
        }
        f.write_str("sha256:")?;
        self.0.sha256[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerCertificate({self})")
    }
}
