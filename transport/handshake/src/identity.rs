//! Owns who is who: our own certificate and key, and what is known of the other side after a handshake.

use core::fmt;
use std::sync::Arc;

pub use crate::names::Name;

/// Who the other side proved to be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerIdentity {
    /// A client that showed no certificate, and was not asked for one.
    Anonymous,
    /// The owner of a certificate that we trust.
    Certificate(PeerCertificate),
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

/// Reads a file, or says which one cannot be read.
#[cfg(feature = "tls")]
pub(crate) fn read_file(path: &std::path::Path) -> Result<(String, Vec<u8>), crate::error::Error> {
    let origin = path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => Ok((origin, bytes)),
        Err(error) => Err(crate::error::Error::File { origin, reason: error.to_string() }),
    }
}

#[cfg(feature = "tls")]
pub use own::Identity;
#[cfg(feature = "tls")]
pub(crate) use own::certificates;

#[cfg(feature = "tls")]
mod own {
    use core::fmt;
    use std::path::Path;
    use std::sync::Arc;

    use rustls::pki_types::pem::{self, PemObject};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::sign::CertifiedKey;
    use zeroize::Zeroizing;

    use super::read_file;
    use crate::error::Error;

    /// Our own certificate chain and private key. Cheap to clone; never printed.
    #[derive(Clone)]
    pub struct Identity(Arc<CertifiedKey>);

    impl Identity {
        /// From PEM text: a chain whose first certificate is ours, and its private key (PKCS#8, PKCS#1 or SEC1).
        ///
        /// # Errors
        /// What is wrong, with `origin` as the name of the text.
        pub fn pem(origin: &str, chain: &[u8], key: &[u8]) -> Result<Self, Error> {
            Self::named(origin, chain, origin, key)
        }

        /// From two PEM files.
        ///
        /// # Errors
        /// Which file, and what is wrong with it.
        pub fn pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, Error> {
            let (chain_origin, chain) = read_file(chain.as_ref())?;
            let (key_origin, key) = read_file(key.as_ref())?;
            Self::named(&chain_origin, &chain, &key_origin, &Zeroizing::new(key))
        }

        fn named(chain_origin: &str, chain: &[u8], key_origin: &str, key: &[u8]) -> Result<Self, Error> {
            let chain = certificates(chain_origin, chain)?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
                pem::Error::NoItemsFound => Error::NoKey { origin: key_origin.into() },
                other => Error::Pem { origin: key_origin.into(), reason: other.to_string() },
            })?;
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            match CertifiedKey::from_der(chain, key, &provider) {
                Ok(certified) => Ok(Self(Arc::new(certified))),
                Err(rustls::Error::InconsistentKeys(_)) => Err(Error::KeyMismatch { origin: key_origin.into() }),
                Err(rustls::Error::InvalidCertificate(error)) => {
                    Err(Error::OwnCertificate { origin: chain_origin.into(), reason: error.to_string() })
                }
                Err(error) => Err(Error::OwnKey { origin: key_origin.into(), reason: error.to_string() }),
            }
        }

        pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
            &self.0
        }
    }

    impl fmt::Debug for Identity {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "Identity(chain of {})", self.0.cert.len())
        }
    }

    /// All certificates in a PEM text; at least one.
    pub(crate) fn certificates(origin: &str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
        let found = CertificateDer::pem_slice_iter(text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::Pem { origin: String::from(origin), reason: error.to_string() })?;
        if found.is_empty() { Err(Error::NoCertificate { origin: origin.into() }) } else { Ok(found) }
    }
}
