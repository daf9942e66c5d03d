//! Owns whom to believe: certificate authorities with their revocation lists, or public keys that are known beforehand.

use core::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use wire::ids::Side;

use crate::again::Remembering;
use crate::error::Error;
use crate::pem::{certificates, read_file};

/// Whom we believe: whose certificate is issued below one of these roots and not on a revocation list, or who has one of
/// these raw public keys. Cheap to clone.
#[derive(Clone)]
pub struct Trust(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    roots: Arc<RootCertStore>,
    revoked: Vec<CertificateRevocationListDer<'static>>,
    allow_unknown_revocation: bool,
    /// Raw public keys (RFC 7250); with them there are no roots.
    keys: Vec<SubjectPublicKeyInfoDer<'static>>,
}

impl Trust {
    fn of(roots: RootCertStore, keys: Vec<SubjectPublicKeyInfoDer<'static>>) -> Self {
        Self(Arc::new(Inner { roots: Arc::new(roots), revoked: Vec::new(), allow_unknown_revocation: false, keys }))
    }

    /// Nobody: for a server whose clients are anonymous.
    #[must_use]
    pub fn nobody() -> Self {
        Self::of(RootCertStore::empty(), Vec::new())
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
        Ok(Self::of(roots, Vec::new()))
    }

    /// The roots in a PEM file.
    ///
    /// # Errors
    /// Which file, and what is wrong with it.
    pub fn pem_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let (origin, text) = read_file(path.as_ref())?;
        Self::pem(&origin, &text)
    }

    /// The holders of these public keys and nobody else, without any certificate (RFC 7250): PEM text ("BEGIN PUBLIC KEY",
    /// one or several) or one SubjectPublicKeyInfo in DER. A name says nothing then: whoever has one of the keys is it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn raw_keys(origin: &str, text: &[u8]) -> Result<Self, Error> {
        let mut keys = SubjectPublicKeyInfoDer::pem_slice_iter(text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::Pem { origin: String::from(origin), reason: error.to_string() })?;
        if keys.is_empty() && text.first() == Some(&0x30) {
            keys.push(SubjectPublicKeyInfoDer::from(text.to_vec()));
        }
        if keys.is_empty() {
            return Err(Error::NoPublicKey { origin: origin.into() });
        }
        Ok(Self::of(RootCertStore::empty(), keys))
    }

    /// Refuses whoever is on these revocation lists (RFC 5280 section 5): PEM text ("BEGIN X509 CRL", one or several) or one
    /// list in DER. Every certificate of a chain but the root is looked up; without [`Self::allow_unknown_revocation`] one
    /// whose issuer has no list here is refused, and a list past its `nextUpdate` counts as none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn revoked(self, origin: &str, text: &[u8]) -> Result<Self, Error> {
        let mut lists = CertificateRevocationListDer::pem_slice_iter(text)
            .collect::<Result<Vec<_>, pem::Error>>()
            .map_err(|error| Error::Pem { origin: String::from(origin), reason: error.to_string() })?;
        if lists.is_empty() && text.first() == Some(&0x30) {
            lists.push(CertificateRevocationListDer::from(text.to_vec()));
        }
        let unusable = |reason: String| Error::RevocationList { origin: origin.into(), reason };
        if lists.is_empty() {
            return Err(unusable(String::from("holds no revocation list (no \"BEGIN X509 CRL\" section)")));
        }
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.revoked.extend(lists);
        let trust = Self(Arc::new(inner));
        if !trust.0.roots.is_empty() {
            // Whether they can be read shows only here.
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            trust.server_verifier(&provider).map_err(|error| unusable(error.to_string()))?;
        }
        Ok(trust)
    }

    /// With revocation lists: lets a certificate pass whose issuer has none here. Default: it is refused.
    #[must_use]
    pub fn allow_unknown_revocation(self) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.allow_unknown_revocation = true;
        Self(Arc::new(inner))
    }

    /// Whether it trusts nobody.
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        self.0.roots.is_empty() && self.0.keys.is_empty()
    }

    /// Whether it knows raw public keys and no authorities.
    pub(crate) fn is_raw(&self) -> bool {
        !self.0.keys.is_empty()
    }

    fn pins(&self, provider: &CryptoProvider) -> Option<Arc<Pins>> {
        let algorithms = provider.signature_verification_algorithms;
        (!self.0.keys.is_empty()).then(|| Arc::new(Pins { keys: self.0.keys.clone(), algorithms }))
    }

    /// What a client judges servers with.
    pub(crate) fn for_servers(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        match self.pins(provider) {
            Some(pins) => Ok(pins),
            None if self.is_nobody() => Err(Error::NothingTrusted { whose: Side::Server }),
            None => {
                let judge = self.server_verifier(provider);
                let judge = judge.map_err(|_| Error::NothingTrusted { whose: Side::Server })?;
                // Lists end by themselves, whatever was judged by them before.
                Ok(if self.0.revoked.is_empty() { Arc::new(Remembering::new(judge)) } else { judge })
            }
        }
    }

    fn server_verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<WebPkiServerVerifier>, VerifierBuilderError> {
        let builder = WebPkiServerVerifier::builder_with_provider(self.0.roots.clone(), provider.clone())
            .with_crls(self.0.revoked.iter().cloned())
            .enforce_revocation_expiration();
        let allow = self.0.allow_unknown_revocation;
        if allow { builder.allow_unknown_revocation_status() } else { builder }.build()
    }

    /// What a server judges clients with.
    pub(crate) fn for_clients(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        if let Some(pins) = self.pins(provider) {
            return Ok(pins);
        }
        let builder = WebPkiClientVerifier::builder_with_provider(self.0.roots.clone(), provider.clone())
            .with_crls(self.0.revoked.iter().cloned())
            .enforce_revocation_expiration();
        let allow = self.0.allow_unknown_revocation;
        let builder = if allow { builder.allow_unknown_revocation_status() } else { builder };
        builder.build().map_err(|_| Error::NothingTrusted { whose: Side::Client })
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        let (roots, keys, lists) = (inner.roots.len(), inner.keys.len(), inner.revoked.len());
        write!(f, "Trust({roots} roots, {keys} raw keys, {lists} revocation lists)")
    }
}

/// Believes who has one of a few keys.
#[derive(Debug)]
struct Pins {
    keys: Vec<SubjectPublicKeyInfoDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pins {
    fn judge(&self, shown: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let known = self.keys.iter().any(|key| key.as_ref() == shown.as_ref());
        if known { Ok(()) } else { Err(CertificateError::UnknownIssuer.into()) }
    }

    fn signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(shown.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }
}

/// There is no TLS 1.2 here: it is switched off in every configuration.
fn never() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(rustls::PeerIncompatible::Tls12NotOfferedOrEnabled.into())
}

impl ServerCertVerifier for Pins {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(shown).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        never()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Pins {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge(shown).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        never()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
