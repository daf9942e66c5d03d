//! Owns what rustls's judgement of a certificate is called here: the same in a handshake and for a published ticket.

use rustls::CertificateError;
use wire::ids::Side;

use crate::error::Error;

/// What is wrong with a certificate of `whose`.
pub(crate) fn certificate(error: CertificateError, whose: Side) -> Error {
    match error {
        CertificateError::Revoked => Error::Revoked { whose },
        CertificateError::UnknownRevocationStatus | CertificateError::ExpiredRevocationListContext { .. } => {
            Error::RevocationUnknown { whose }
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Error::Untrusted { whose },
        CertificateError::ExpiredContext { time, not_after } => {
            Error::Expired { whose, seconds: time.as_secs().saturating_sub(not_after.as_secs()) }
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            Error::NotYetValid { whose, seconds: not_before.as_secs().saturating_sub(time.as_secs()) }
        }
        CertificateError::NotValidForNameContext { expected, presented } => Error::WrongName {
            wanted: expected.to_str().into_owned(),
            presented: presented.iter().map(|name| plain(name)).collect(),
        },
        other => Error::Certificate { whose, reason: other.to_string() },
    }
}

/// `DnsName("a.example")` as `a.example`.
fn plain(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"').into()
}
