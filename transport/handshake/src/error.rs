//! Owns what can go wrong in a handshake, said so that the caller knows whose fault it is and what to change.

use core::fmt;

use wire::ids::Side;

use crate::params::Malformed;

/// A TLS alert's code (RFC 8446 section 6, IANA "TLS Alerts").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Alert(pub u8);

impl Alert {
    /// Nothing in common to work with.
    pub const HANDSHAKE_FAILURE: Self = Self(40);
    /// A certificate is unusable.
    pub const BAD_CERTIFICATE: Self = Self(42);
    /// A field has a value that it cannot have.
    pub const ILLEGAL_PARAMETER: Self = Self(47);
    /// The receiver does not let the sender in.
    pub const ACCESS_DENIED: Self = Self(49);
    /// A message has no meaning.
    pub const DECODE_ERROR: Self = Self(50);
    /// A check of a finished message failed.
    pub const DECRYPT_ERROR: Self = Self(51);
    /// A stream is longer than the receiver takes.
    pub const RECORD_OVERFLOW: Self = Self(22);
    /// No common version.
    pub const PROTOCOL_VERSION: Self = Self(70);
    /// The sender is at fault itself.
    pub const INTERNAL_ERROR: Self = Self(80);
    /// The sender gave up.
    pub const USER_CANCELED: Self = Self(90);
    /// An installed secret that the sender does not know.
    pub const UNKNOWN_PSK_IDENTITY: Self = Self(115);
    /// A certificate was asked for and none came.
    pub const CERTIFICATE_REQUIRED: Self = Self(116);
    /// No common ALPN name.
    pub const NO_APPLICATION_PROTOCOL: Self = Self(120);

    /// The registered name, and what it says here where that is not plain.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow: our flight is too long for it",
            40 => "handshake_failure: no cipher or key exchange in common",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired: expired or not yet valid",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca: it does not trust the issuer of our certificate",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            109 => "missing_extension",
            110 => "unsupported_extension",
            112 => "unrecognized_name",
            113 => "bad_certificate_status_response",
            115 => "unknown_psk_identity: it was not given that secret",
            116 => "certificate_required: it wants a certificate from us",
            120 => "no_application_protocol: it speaks another version of Sealane, or none",
            _ => "unknown alert",
        }
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (alert {})", self.name(), self.0)
    }
}

/// How far a handshake came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Nothing came from the other side.
    Silence,
    /// Something came, yet not all of it.
    Underway,
    /// The client was done; the server never confirmed it.
    Confirmation,
    /// Keys were agreed on; evidence, or the judgement of ours, never came.
    Evidence,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silence => "nothing came from the other side",
            Self::Underway => "the other side fell silent in the middle",
            Self::Confirmation => "the server did not confirm",
            Self::Evidence => "no evidence came from the other side, or no answer to ours",
        })
    }
}

/// Who can do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The caller, or its machine: files, names, configuration.
    Caller,
    /// The other side, or what the two sides were configured to.
    Peer,
    /// The network, or a peer that is not there.
    Path,
}

/// Why there is no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("{origin}: {reason}")]
    File {
        /// The file.
        origin: String,
        /// What the system said.
        reason: String,
    },
    /// The text is not PEM.
    #[error("{origin}: not valid PEM: {reason}")]
    Pem {
        /// The file, or what the caller called it.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no certificate in it.
    #[error("{origin}: holds no certificate (no \"BEGIN CERTIFICATE\" section)")]
    NoCertificate {
        /// The file, or what the caller called it.
        origin: String,
    },
    /// There is no private key in it.
    #[error("{origin}: holds no private key (no \"BEGIN PRIVATE KEY\" section or the like)")]
    NoKey {
        /// The file, or what the caller called it.
        origin: String,
    },
    /// There is no public key in it.
    #[error("{origin}: holds no public key (no \"BEGIN PUBLIC KEY\" section)")]
    NoPublicKey {
        /// The file, or what the caller called it.
        origin: String,
    },
    /// A revocation list cannot be used.
    #[error("{origin}: unusable revocation list: {reason}")]
    RevocationList {
        /// The file, or what the caller called it.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// A certificate of ours cannot be used.
    #[error("{origin}: unusable certificate: {reason}")]
    OwnCertificate {
        /// The file, or what the caller called it.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// A private key of ours cannot be used.
    #[error("{origin}: unusable private key: {reason}")]
    OwnKey {
        /// The file, or what the caller called it.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// Certificate and key are not a pair.
    #[error("{origin}: this private key does not belong to the certificate")]
    KeyMismatch {
        /// The key's file, or what the caller called it.
        origin: String,
    },
    /// No root was given, so no certificate could ever be trusted.
    #[error("no trusted root was given, so no {} certificate can be accepted", whose_name(*.whose))]
    NothingTrusted {
        /// Whose certificates were to be checked.
        whose: Side,
    },
    /// No cipher was given.
    #[error("no cipher is left to choose from")]
    NoCipher,
    /// What should name the server is neither a DNS name nor an address.
    #[error("{name:?} is neither a DNS name nor an IP address")]
    ServerName {
        /// What was given.
        name: String,
    },

    /// Nobody whom we trust issued the other side's certificate; or it claims so and the signature is false, as with a root
    /// of the same name.
    #[error("the {}'s certificate is not issued by anyone trusted here", whose_name(*.whose))]
    Untrusted {
        /// Whose certificate.
        whose: Side,
    },
    /// The other side's certificate, or one that it hangs on, is no longer valid.
    #[error("the {}'s certificate expired {} ago", whose_name(*.whose), Span(*.seconds))]
    Expired {
        /// Whose certificate.
        whose: Side,
        /// Since when, by our clock.
        seconds: u64,
    },
    /// The other side's certificate, or one that it hangs on, is not valid yet.
    #[error("the {}'s certificate becomes valid in {} only (or a clock is wrong)", whose_name(*.whose), Span(*.seconds))]
    NotYetValid {
        /// Whose certificate.
        whose: Side,
        /// In how long, by our clock.
        seconds: u64,
    },
    /// The server's certificate is for other names.
    #[error("the server's certificate is not for {wanted:?} but for {}", List(.presented))]
    WrongName {
        /// Whom the caller wants to talk to.
        wanted: String,
        /// The names in the certificate.
        presented: Vec<String>,
    },
    /// The other side's certificate, or one that it hangs on, was revoked.
    #[error("the {}'s certificate was revoked", whose_name(*.whose))]
    Revoked {
        /// Whose certificate.
        whose: Side,
    },
    /// Whether the other side's certificate was revoked cannot be told: its issuer has no current list here.
    #[error("whether the {}'s certificate was revoked is not known: its issuer has no current revocation list here", whose_name(*.whose))]
    RevocationUnknown {
        /// Whose certificate.
        whose: Side,
    },
    /// One side shows certificates, the other wants raw public keys, or the other way round.
    #[error("one side shows certificates where the other one wants raw public keys, or the other way round")]
    CertificateKind,
    /// The other side's certificate is unusable for another reason.
    #[error("the {}'s certificate is refused: {reason}", whose_name(*.whose))]
    Certificate {
        /// Whose certificate.
        whose: Side,
        /// Why.
        reason: String,
    },
    /// The server asks for a certificate; none that it could use is configured here. Nothing more was sent.
    #[error("the server requires a client certificate and none is configured that it could accept")]
    ClientCertificateRequired,
    /// The client showed no certificate.
    #[error("the client presented no certificate")]
    ClientCertificateMissing,
    /// The two sides speak different versions of Sealane.
    #[error("no common application protocol (ALPN): the other side speaks another version, or is no Sealane endpoint")]
    AlpnMismatch,
    /// The two sides' configurations share no cipher or no key exchange.
    #[error("no cipher or key exchange in common")]
    NothingInCommon,
    /// The other side's evidence of what runs there is refused. [P-6.16]
    #[error("the {}'s evidence is refused: {why}", whose_name(*.whose))]
    Evidence {
        /// Whose evidence.
        whose: Side,
        /// Why.
        why: attest::evidence::Error,
    },
    /// Evidence is demanded here, and the other side has none that could be judged.
    #[error("evidence of what runs there is demanded of the {}, which has none that could be judged here", whose_name(*.whose))]
    EvidenceMissing {
        /// Whose evidence.
        whose: Side,
    },
    /// The other side demands evidence of what runs here, and there is none that it could judge.
    #[error("the {} demands evidence of what runs here, and none that it could judge is configured", whose_name(*.whose))]
    EvidenceDemanded {
        /// Who demands it.
        whose: Side,
    },
    /// Our platform made no evidence when it was demanded.
    #[error("no evidence could be made here: {why}")]
    NoEvidence {
        /// Why.
        why: attest::evidence::Error,
    },
    /// The other side refuses our evidence.
    #[error("the {} refuses our evidence: {verdict}", whose_name(*.whose))]
    EvidenceRefused {
        /// Who refuses it.
        whose: Side,
        /// As far as it says why.
        verdict: attest::verdict::Verdict,
    },
    /// The other side refused.
    #[error("refused by the other side{}: {alert}", if *.proven { "" } else { " (in clear text, so anyone could have said it)" })]
    Refused {
        /// What it said.
        alert: Alert,
        /// Whether it is certain that the other side said it.
        proven: bool,
    },
    /// It took too long.
    #[error("timed out: {stage}")]
    TimedOut {
        /// How far it came.
        stage: Stage,
    },
    /// The other side's flight is longer than a handshake may be.
    #[error("the other side's handshake is longer than {} bytes", crate::limits::SEALED_MAX)]
    FlightTooLarge,
    /// The other side's transport parameters have no meaning.
    #[error("bad transport parameters: {0}")]
    Params(#[from] Malformed),
    /// The other side broke the rules of the handshake.
    #[error("protocol violation: {reason}")]
    Protocol {
        /// How.
        reason: String,
    },
    /// Something failed here that should not.
    #[error("internal failure: {reason}")]
    Internal {
        /// What.
        reason: String,
    },
    /// The caller gave up.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// Who can do something about it.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::File { .. }
            | Self::Pem { .. }
            | Self::NoCertificate { .. }
            | Self::NoKey { .. }
            | Self::NoPublicKey { .. }
            | Self::RevocationList { .. }
            | Self::OwnCertificate { .. }
            | Self::OwnKey { .. }
            | Self::KeyMismatch { .. }
            | Self::NothingTrusted { .. }
            | Self::NoCipher
            | Self::ServerName { .. }
            | Self::ClientCertificateRequired
            | Self::EvidenceDemanded { .. }
            | Self::NoEvidence { .. }
            | Self::Internal { .. }
            | Self::Cancelled => Fault::Caller,
            Self::TimedOut { .. } => Fault::Path,
            _ => Fault::Peer,
        }
    }
}

/// Why a handshake fails on this side, and what the other side is told.
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) alert: Option<Alert>,
}

impl Failure {
    pub(crate) const fn params(malformed: Malformed) -> Self {
        Self { error: Error::Params(malformed), alert: Some(Alert::ILLEGAL_PARAMETER) }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn internal(reason: &str) -> Self {
        Self { error: Error::Internal { reason: reason.into() }, alert: Some(Alert::INTERNAL_ERROR) }
    }
}

const fn whose_name(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Server => "server",
    }
}

/// A length of time for people.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, unit) = match self.0 {
            s if s >= 2 * 86_400 => (s / 86_400, "days"),
            s if s >= 2 * 3600 => (s / 3600, "hours"),
            s if s >= 2 * 60 => (s / 60, "minutes"),
            s => (s, "seconds"),
        };
        write!(f, "{n} {unit}")
    }
}

struct List<'a>(&'a [String]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no name at all");
        }
        for (i, name) in self.0.iter().enumerate() {
            write!(f, "{}{name:?}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
