//! Owns whom to trust and what to offer: the settings of TLS, shared by all handshakes of an endpoint.
//!
//! TLS 1.3 only, one ALPN name, no session tickets yet. The suite that TLS agrees on decides the record cipher, so the
//! suites stand in the order in which the caller prefers the ciphers. No type of rustls is visible outside.

use core::fmt;
use std::path::Path;
use std::sync::Arc;

use record::aead::Cipher;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{CipherSuite, RootCertStore, SupportedCipherSuite};
use wire::ids::Side;
use wire::limits::ALPN;

use crate::error::Error;
use crate::identity::{Identity, certificates, read_file};

/// Whose certificates are believed: those issued below one of these roots.
#[derive(Clone)]
pub struct Trust(Arc<RootCertStore>);

impl Trust {
    /// Nobody's: for a server whose clients are anonymous.
    #[must_use]
    pub fn nobody() -> Self {
        Self(Arc::new(RootCertStore::empty()))
    }

    /// The roots in a PEM text that errors call `origin`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn pem(origin: &str, text: &[u8]) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(origin, text)? {
            roots
                .add(certificate)
                .map_err(|error| Error::OwnCertificate { origin: origin.into(), reason: error.to_string() })?;
        }
        Ok(Self(Arc::new(roots)))
    }

    /// The roots in a PEM file.
    ///
    /// # Errors
    /// Which file, and what is wrong with it.
    pub fn pem_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let (origin, text) = read_file(path.as_ref())?;
        Self::pem(&origin, &text)
    }

    /// Whether it trusts nobody.
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        self.0.is_empty()
    }

    fn roots(&self, whose: Side) -> Result<Arc<RootCertStore>, Error> {
        if self.is_nobody() { Err(Error::NothingTrusted { whose }) } else { Ok(self.0.clone()) }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({} roots)", self.0.len())
    }
}

/// What a server wants to know of its clients.
#[derive(Clone, Copy, Debug)]
pub enum Clients<'a> {
    /// Nothing: anyone may come.
    Anonymous,
    /// A certificate issued below one of these roots; without one there is no session.
    Authenticated(&'a Trust),
}

/// What a client brings to every TLS handshake. Cheap to clone.
#[derive(Clone)]
pub struct ClientConfig {
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) identity: Option<Identity>,
}

impl ClientConfig {
    /// A client that believes servers below the roots of `trust`, shows `identity` when asked for one, and offers
    /// `ciphers` in that order ([`Cipher::ALL`] is the default order).
    ///
    /// # Errors
    /// When nobody is trusted, or no cipher is given.
    pub fn new(trust: &Trust, identity: Option<&Identity>, ciphers: &[Cipher]) -> Result<Self, Error> {
        let mut tls = rustls::ClientConfig::builder_with_provider(provider(ciphers)?)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|_| Error::NoCipher)?
            .with_root_certificates(trust.roots(Side::Server)?)
            .with_no_client_auth();
        tls.alpn_protocols = [ALPN.to_vec()].into();
        tls.resumption = rustls::client::Resumption::disabled();
        Ok(Self { tls: Arc::new(tls), identity: identity.cloned() })
    }

    /// Offers another ALPN name. For tests of the refusal only: nothing else has a use for it.
    #[doc(hidden)]
    #[must_use]
    pub fn danger_alpn(mut self, name: &[u8]) -> Self {
        Arc::make_mut(&mut self.tls).alpn_protocols = [name.to_vec()].into();
        self
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// What a server brings to every TLS handshake. Cheap to clone.
#[derive(Clone)]
pub struct ServerConfig {
    pub(crate) tls: Arc<rustls::ServerConfig>,
}

impl ServerConfig {
    /// A server that shows `identity`, and takes `clients` and `ciphers`; of several common ones the client's order decides.
    ///
    /// # Errors
    /// When clients shall be authenticated and nobody is trusted, or no cipher is given.
    pub fn new(identity: &Identity, clients: Clients<'_>, ciphers: &[Cipher]) -> Result<Self, Error> {
        let provider = provider(ciphers)?;
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|_| Error::NoCipher)?;
        let builder = match clients {
            Clients::Anonymous => builder.with_no_client_auth(),
            Clients::Authenticated(trust) => {
                let roots = trust.roots(Side::Client)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|_| Error::NothingTrusted { whose: Side::Client })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let certified = (**identity.certified()).clone();
        let mut tls = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        tls.alpn_protocols = [ALPN.to_vec()].into();
        tls.send_tls13_tickets = 0;
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { tls: Arc::new(tls) })
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig").finish_non_exhaustive()
    }
}

/// AWS-LC with the suites of `ciphers`, in that order.
fn provider(ciphers: &[Cipher]) -> Result<Arc<CryptoProvider>, Error> {
    if ciphers.is_empty() {
        return Err(Error::NoCipher);
    }
    let cipher_suites: Vec<SupportedCipherSuite> = ciphers.iter().map(|&cipher| suite(cipher)).collect();
    Ok(Arc::new(CryptoProvider { cipher_suites, ..default_provider() }))
}

const fn suite(cipher: Cipher) -> SupportedCipherSuite {
    match cipher {
        Cipher::Aes128Gcm => cipher_suite::TLS13_AES_128_GCM_SHA256,
        Cipher::Aes256Gcm => cipher_suite::TLS13_AES_256_GCM_SHA384,
        Cipher::ChaCha20Poly1305 => cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    }
}

/// The record cipher that goes with a suite.
pub(crate) const fn cipher_of(suite: CipherSuite) -> Option<Cipher> {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => Some(Cipher::Aes128Gcm),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(Cipher::Aes256Gcm),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some(Cipher::ChaCha20Poly1305),
        _ => None,
    }
}
