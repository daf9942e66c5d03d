//! Owns the client's judgement of a ticket: the same checks as of a server in a TLS handshake, and the ticket's own time. [P-6.10]

use core::fmt;
use std::sync::Arc;

use record::aead::Cipher;
use rustls::SignatureScheme;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use wire::handshake::Method;
use wire::ids::{SessionId, Side};

use super::ticket::{Damage, Ticket, TicketId, id_of};
use super::{HPKE, OPENING_LEN, associated, info};
use crate::error::Error;
use crate::identity::{PeerCertificate, PeerIdentity, PeerKey};
use crate::judged::certificate;
use crate::limits::PUBLISHED_LIFETIME;
use crate::names::not_after;
use crate::sha256::sha256;
use crate::trust::Trust;

/// Why a ticket is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// It cannot be read.
    #[error("damaged: {0}")]
    Damaged(#[from] Damage),
    /// Its time is over.
    #[error("expired {seconds} seconds ago")]
    Expired {
        /// Since when, by our clock.
        seconds: u64,
    },
    /// Its time has not come.
    #[error("not yet valid: in {seconds} seconds only, or a clock is wrong")]
    NotYetValid {
        /// In how long, by our clock.
        seconds: u64,
    },
    /// It says to be valid for longer than any ticket may be.
    #[error("it is made for {seconds} seconds; no ticket is valid for more than {}", PUBLISHED_LIFETIME.as_secs())]
    TooLong {
        /// For how long.
        seconds: u64,
    },
    /// Its certificate is not believed: who issued it, its time, its name, its revocation.
    #[error("{0}")]
    Certificate(Error),
    /// The certificate's owner did not sign it.
    #[error("bad signature: the owner of its certificate did not sign it")]
    Signature,
}

/// A ticket that a server whom we trust signed under the name that was asked for. Cheap to clone.
#[derive(Clone)]
pub struct VerifiedTicket(Arc<Inner>);

struct Inner {
    ticket: Ticket,
    digest: [u8; 32],
    until: u64,
    identity: PeerIdentity,
}

impl Ticket {
    /// Checks it as a client checks a server: the chain against `trust`, the certificate for `name`, at `unix_seconds`; and the
    /// ticket's own time and signature.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn verify(self, trust: &Trust, name: &str, unix_seconds: u64) -> Result<VerifiedTicket, Invalid> {
        let span = self.not_after.saturating_sub(self.not_before);
        if span > PUBLISHED_LIFETIME.as_secs() {
            return Err(Invalid::TooLong { seconds: span });
        }
        if unix_seconds >= self.not_after {
            return Err(Invalid::Expired { seconds: unix_seconds - self.not_after });
        }
        if unix_seconds < self.not_before {
            return Err(Invalid::NotYetValid { seconds: self.not_before - unix_seconds });
        }
        self.check_certificate(trust, name, unix_seconds)?;
        self.check_signature(trust.is_raw())?;
        let digest = self.digest();
        let hash = sha256(&self.chain[0]);
        let (identity, until) = if trust.is_raw() {
            (PeerIdentity::RawKey(PeerKey::new(&self.chain[0], hash)), u64::MAX)
        } else {
            let ends = self.chain.iter().map(|der| not_after(der).unwrap_or(0)).min().unwrap_or(0);
            (PeerIdentity::Certificate(PeerCertificate::new(self.chain.clone(), hash)), ends)
        };
        let until = until.min(self.not_after);
        Ok(VerifiedTicket(Arc::new(Inner { ticket: self, digest, until, identity })))
    }

    fn check_certificate(&self, trust: &Trust, name: &str, unix_seconds: u64) -> Result<(), Invalid> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = trust.for_servers(&provider).map_err(Invalid::Certificate)?;
        let name = ServerName::try_from(name)
            .map_err(|_| Invalid::Certificate(Error::ServerName { name: String::from(name) }))?;
        let chain: Vec<CertificateDer<'_>> = self.chain.iter().map(|der| CertificateDer::from(&der[..])).collect();
        let now = UnixTime::since_unix_epoch(core::time::Duration::from_secs(unix_seconds));
        let judged = verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], now);
        judged.map(drop).map_err(|error| match error {
            rustls::Error::InvalidCertificate(error) => Invalid::Certificate(certificate(error, Side::Server)),
            other => Invalid::Certificate(Error::Certificate { whose: Side::Server, reason: other.to_string() }),
        })
    }

    fn check_signature(&self, raw: bool) -> Result<(), Invalid> {
        if !SCHEMES.contains(&self.scheme) {
            return Err(Invalid::Signature);
        }
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.mapping;
        let found = algorithms.iter().find(|(scheme, _)| *scheme == self.scheme).and_then(|(_, all)| all.first());
        let algorithm = found.ok_or(Invalid::Signature)?;
        let message = self.to_be_signed();
        let verified = if raw {
            let key = SubjectPublicKeyInfoDer::from(&self.chain[0][..]);
            webpki::RawPublicKeyEntity::try_from(&key)
                .and_then(|key| key.verify_signature(*algorithm, &message, &self.signature))
        } else {
            let der = CertificateDer::from(&self.chain[0][..]);
            webpki::EndEntityCert::try_from(&der)
                .and_then(|certificate| certificate.verify_signature(*algorithm, &message, &self.signature))
        };
        verified.map_err(|_| Invalid::Signature)
    }
}

/// Signatures that a ticket may have: those of TLS 1.3.
pub(super) const SCHEMES: &[SignatureScheme] = &[
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
];

impl VerifiedTicket {
    /// Its public name.
    #[must_use]
    pub fn id(&self) -> TicketId {
        id_of(&self.0.digest)
    }

    /// Who signed it.
    #[must_use]
    pub fn identity(&self) -> &PeerIdentity {
        &self.0.identity
    }

    /// Whether it is good at `unix_seconds`: it, and the certificates that were checked.
    #[must_use]
    pub fn holds(&self, unix_seconds: u64) -> bool {
        self.0.ticket.not_before <= unix_seconds && unix_seconds < self.0.until
    }

    /// Whether its server seals records with `cipher`.
    #[must_use]
    pub fn takes(&self, cipher: Cipher) -> bool {
        self.0.ticket.takes(cipher)
    }

    /// The ticket.
    #[must_use]
    pub fn ticket(&self) -> &Ticket {
        &self.0.ticket
    }

    /// An opening: `secret` sealed to the server's key, for the client's `session` in a handshake by `method`. [P-6.11]
    pub(crate) fn opening(
        &self,
        secret: &[u8; 32],
        session: SessionId,
        method: Method,
    ) -> Result<[u8; OPENING_LEN], Error> {
        let failed = |reason: String| Error::Internal { reason };
        let key = rustls::crypto::hpke::HpkePublicKey(self.0.ticket.key.to_vec());
        let (enc, sealed) = HPKE
            .seal(&info(&self.0.digest), &associated(session, method), secret, &key)
            .map_err(|error| failed(error.to_string()))?;
        let opening = [&self.id().0[..], &enc.0, &sealed].concat();
        opening.try_into().map_err(|_| failed(String::from("HPKE sealed another length than it does")))
    }
}

impl fmt::Debug for VerifiedTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifiedTicket({:?}, {})", self.0.ticket, self.0.identity)
    }
}
