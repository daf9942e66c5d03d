//! Owns who we are: certificates or raw public keys with their private keys, chosen by the name that a client asks for.

use core::cell::Cell;
use core::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::names::{Name, of_certificate};
use crate::pem::{certificates, read_file};

/// Our own certificate chain and private key, or several of them. Cheap to clone; never printed.
#[derive(Clone)]
pub struct Identity(Arc<Own>);

struct Own {
    /// The first is shown when a client asks for none of their names.
    shown: Vec<Shown>,
    raw: bool,
}

#[derive(Clone)]
struct Shown {
    names: Vec<Name>,
    certified: Arc<CertifiedKey>,
}

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
        let names = chain.first().map(|der| of_certificate(der)).unwrap_or_default();
        let key = private_key(key_origin, key)?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        match CertifiedKey::from_der(chain, key, &provider) {
            Ok(certified) => Ok(Self::of(names, certified, false)),
            Err(rustls::Error::InconsistentKeys(_)) => Err(Error::KeyMismatch { origin: key_origin.into() }),
            Err(rustls::Error::InvalidCertificate(error)) => {
                Err(Error::OwnCertificate { origin: chain_origin.into(), reason: error.to_string() })
            }
            Err(error) => Err(Error::OwnKey { origin: key_origin.into(), reason: error.to_string() }),
        }
    }

    /// A private key in PEM text and no certificate (RFC 7250): peers must know the public key beforehand.
    ///
    /// # Errors
    /// What is wrong, with `origin` as the name of the text.
    pub fn raw_key(origin: &str, key: &[u8]) -> Result<Self, Error> {
        let unusable = |reason: String| Error::OwnKey { origin: origin.into(), reason };
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = provider.key_provider.load_private_key(private_key(origin, key)?);
        let key = key.map_err(|error| unusable(error.to_string()))?;
        let public = key.public_key().ok_or_else(|| unusable(String::from("it tells no public key")))?;
        let shown = CertificateDer::from(public.as_ref().to_vec());
        Ok(Self::of(Vec::new(), CertifiedKey::new([shown].into(), key), true))
    }

    fn of(names: Vec<Name>, certified: CertifiedKey, raw: bool) -> Self {
        let certified = Arc::new(certified);
        Self(Arc::new(Own { shown: [Shown { names, certified }].into(), raw }))
    }

    /// A server that has this identity and `other`: a client is shown the one whose certificate has the name that it asks
    /// for (SNI, RFC 6066 section 3), and the first where none has. A client has only the first.
    ///
    /// # Errors
    /// When one is a raw key: those have no names.
    pub fn and(self, other: Self) -> Result<Self, Error> {
        if self.0.raw || other.0.raw {
            let reason = "a raw public key has no names to choose it by".into();
            return Err(Error::OwnKey { origin: "several identities".into(), reason });
        }
        let shown = self.0.shown.iter().chain(&other.0.shown).cloned().collect();
        Ok(Self(Arc::new(Own { shown, raw: false })))
    }

    /// The public key as SubjectPublicKeyInfo in DER: what peers of a raw key give to [`crate::trust::Trust::raw_keys`].
    #[must_use]
    pub fn public_key(&self) -> Vec<u8> {
        self.first().key.public_key().map(|key| key.as_ref().to_vec()).unwrap_or_default()
    }

    /// The public key that a client sees which asks for that name, as SubjectPublicKeyInfo.
    pub(crate) fn key_shown(&self, wanted: &str) -> Vec<u8> {
        let chain = self.0.shown_for(wanted).map(|certified| certified.cert.as_slice()).unwrap_or_default();
        chain.first().map_or(Vec::new(), |der| key_in(self.0.raw, der))
    }

    /// The chain that is shown first, in DER, the owner's certificate in front; or the one raw key.
    pub(crate) fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.first().cert.iter().map(|der| der.as_ref())
    }

    /// A signature by the first certificate's key, of the first of these kinds that it can make.
    pub(crate) fn sign(&self, kinds: &[SignatureScheme], message: &[u8]) -> Result<(SignatureScheme, Vec<u8>), Error> {
        let unable = |reason: String| Error::OwnKey { origin: "a published ticket".into(), reason };
        let signer = self.first().key.choose_scheme(kinds);
        let signer = signer.ok_or_else(|| unable(String::from("it cannot sign as TLS 1.3 does")))?;
        let signature = signer.sign(message).map_err(|error| unable(error.to_string()))?;
        Ok((signer.scheme(), signature))
    }

    fn first(&self) -> &Arc<CertifiedKey> {
        &self.0.shown[0].certified
    }
}

impl Own {
    fn shown_for(&self, wanted: &str) -> Option<&Arc<CertifiedKey>> {
        let named = self.shown.iter().find(|shown| shown.names.iter().any(|name| covers(name, wanted)));
        named.or(self.shown.first()).map(|shown| &shown.certified)
    }
}

/// The public key in what a side showed, as SubjectPublicKeyInfo in DER.
pub(crate) fn key_in(raw: bool, shown: &CertificateDer<'_>) -> Vec<u8> {
    if raw {
        return shown.to_vec();
    }
    ParsedCertificate::try_from(shown).map(|parsed| parsed.subject_public_key_info().to_vec()).unwrap_or_default()
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.raw {
            return f.write_str("Identity(raw key)");
        }
        let lengths: Vec<usize> = self.0.shown.iter().map(|shown| shown.certified.cert.len()).collect();
        write!(f, "Identity(chains of {lengths:?})")
    }
}

fn private_key(origin: &str, key: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
        pem::Error::NoItemsFound => Error::NoKey { origin: origin.into() },
        other => Error::Pem { origin: origin.into(), reason: other.to_string() },
    })
}

/// Chooses a server's certificate by the name that the client asks for.
#[derive(Debug)]
pub(crate) struct ByName(pub(crate) Identity);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.0.shown_for(hello.server_name().unwrap_or_default()).cloned()
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.0.raw
    }
}

/// Whether a certificate for `name` is one for `wanted`; a star stands for one label (RFC 6125 section 6.4.3).
fn covers(name: &Name, wanted: &str) -> bool {
    let Name::Dns(name) = name else { return false };
    match name.strip_prefix("*.") {
        Some(rest) => wanted.split_once('.').is_some_and(|(_, parent)| parent.eq_ignore_ascii_case(rest)),
        None => name.eq_ignore_ascii_case(wanted),
    }
}

/// What a server asked its client for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A certificate that the client has.
    Met,
    /// A certificate that the client has not.
    InVain,
}

std::thread_local! {
    /// What was asked while this thread gave a message to TLS. The chooser below belongs to all handshakes, or tickets of one
    /// could not be used by the next; which of them was asked, rustls does not tell it.
    static ASKED: Cell<Option<Asked>> = const { Cell::new(None) };
}

/// Runs `step` of one handshake and tells what was asked of the client meanwhile.
pub(crate) fn asked_in<T>(step: impl FnOnce() -> T) -> (T, Option<Asked>) {
    ASKED.set(None);
    let outcome = step();
    (outcome, ASKED.take())
}

/// Chooses a client's certificate, and notes whether the server asked.
#[derive(Debug)]
pub(crate) struct IfAsked(pub(crate) Option<Identity>);

impl ResolvesClientCert for IfAsked {
    fn resolve(&self, _roots: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let ours = self.0.as_ref().map(Identity::first);
        let usable = ours.filter(|certified| certified.key.choose_scheme(schemes).is_some());
        ASKED.set(Some(if usable.is_some() { Asked::Met } else { Asked::InVain }));
        usable.cloned()
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.as_ref().is_some_and(|identity| identity.0.raw)
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A star is one label, and case does not matter.
    #[test]
    fn names_that_cover() {
        let dns = |name: &str| Name::Dns(name.into());
        assert!(covers(&dns("a.example"), "A.Example"));
        assert!(covers(&dns("*.example"), "b.example"));
        assert!(!covers(&dns("*.example"), "c.b.example") && !covers(&dns("*.example"), "example"));
        assert!(!covers(&dns("a.example"), "b.example") && !covers(&Name::Ip([127, 0, 0, 1].into()), "127.0.0.1"));
    }
}
