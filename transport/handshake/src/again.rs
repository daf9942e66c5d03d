//! Owns what a client remembers of certificates that it judged: a server that shows the same chain again, byte for byte, within a minute is
//! not judged anew. That a chain is signed as it should be does not change; that it is in its time is looked at each time; that the
//! server has the key is proven in every handshake, by a signature that is never remembered.
//!
//! Nothing is remembered where there are revocation lists, which end by themselves, or of a chain that was refused. A ticket lets a server
//! pass for a day without showing a certificate at all: a minute adds nothing to that.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::names::not_after;

/// How long a judgement holds.
const HOLDS: Duration = Duration::from_secs(60);
/// Chains that are remembered; the oldest is forgotten first.
const CHAINS_MAX: usize = 64;
/// Longer ones are not.
const CHAIN_BYTES_MAX: usize = 16 << 10;

/// A chain that was found good.
#[derive(Debug)]
struct Judged {
    name: ServerName<'static>,
    /// The server's own first.
    chain: Vec<CertificateDer<'static>>,
    /// From when to when that counts, in seconds since 1970.
    from: u64,
    to: u64,
}

/// Judges servers as `judge` does, and remembers.
#[derive(Debug)]
pub(crate) struct Remembering {
    judge: Arc<WebPkiServerVerifier>,
    judged: Mutex<Vec<Judged>>,
}

impl Remembering {
    pub(crate) fn new(judge: Arc<WebPkiServerVerifier>) -> Self {
        Self { judge, judged: Mutex::default() }
    }

    fn is_known(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: u64,
    ) -> bool {
        let judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        judged.iter().any(|one| {
            (one.from..one.to).contains(&now)
                && one.name == *name
                && one.chain.first().is_some_and(|first| first == own)
                && one.chain[1..] == *others
        })
    }

    fn remember(&self, own: &CertificateDer<'_>, others: &[CertificateDer<'_>], name: &ServerName<'_>, now: u64) {
        let chain: Vec<CertificateDer<'static>> =
            [own].into_iter().chain(others).map(|certificate| certificate.clone().into_owned()).collect();
        // One whose end cannot be read has ended.
        let end = chain.iter().map(|certificate| not_after(certificate).unwrap_or(0)).min().unwrap_or(0);
        let judged = Judged { name: name.to_owned(), from: now, to: end.min(now + HOLDS.as_secs()), chain };
        if judged.to <= now || judged.chain.iter().map(|certificate| certificate.len()).sum::<usize>() > CHAIN_BYTES_MAX
        {
            return;
        }
        let mut all = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| one.to > now && !(one.name == judged.name && one.chain == judged.chain));
        if all.len() >= CHAINS_MAX {
            all.remove(0);
        }
        all.push(judged);
    }
}

impl ServerCertVerifier for Remembering {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.is_known(own, others, name, now.as_secs()) {
            return Ok(ServerCertVerified::assertion());
        }
        let good = self.judge.verify_server_cert(own, others, name, ocsp, now)?;
        self.remember(own, others, name, now.as_secs());
        Ok(good)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls12_signature(message, own, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls13_signature(message, own, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::RootCertStore;
    use rustls::crypto::aws_lc_rs::default_provider;

    /// Remembered is one chain for one name, byte for byte, for a minute and no longer than it is valid; and no more than there is room for.
    #[test]
    fn a_minute() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2026, 2, 1));
        let own = params.self_signed(&key).unwrap().der().clone();
        let end = not_after(&own).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(own.clone()).unwrap();
        let judge =
            WebPkiServerVerifier::builder_with_provider(roots.into(), default_provider().into()).build().unwrap();
        let seen = Remembering::new(judge);
        let name = |text: &'static str| ServerName::try_from(text).unwrap();
        let (a, now) = (name("a.example"), end - 1000);
        assert!(!seen.is_known(&own, &[], &a, now));
        seen.remember(&own, &[], &a, now);
        assert!(seen.is_known(&own, &[], &a, now) && seen.is_known(&own, &[], &a, now + 59));
        assert!(!seen.is_known(&own, &[], &a, now + 60) && !seen.is_known(&own, &[], &a, now - 1));
        assert!(!seen.is_known(&own, &[], &name("b.example"), now));
        assert!(!seen.is_known(&own, std::slice::from_ref(&own), &a, now));
        let mut other = own.to_vec();
        *other.last_mut().unwrap() ^= 1;
        assert!(!seen.is_known(&other.into(), &[], &a, now));
        seen.remember(&own, &[], &a, end - 10);
        assert!(seen.is_known(&own, &[], &a, end - 1) && !seen.is_known(&own, &[], &a, end));
        for n in 0..200_u8 {
            seen.remember(
                &own,
                &[CertificateDer::from(own.to_vec()), vec![n].into()][..1],
                &a,
                now + u64::from(n) * 100,
            );
        }
        assert!(seen.judged.lock().unwrap().len() <= CHAINS_MAX);
    }
}
