//! Owns TLS 1.3 by rustls: streams of handshake bytes in and out, keys for the sealed level, and at the end the exporter. [P-6.1]
//!
//! rustls runs as it does for QUIC: without its record layer, with our transport parameters in its extension, and refusing
//! a peer that has no ALPN name in common. Nothing of its 1-RTT keys is used. What it says after its Finished is a ticket,
//! and goes into the sealed stream like what came before.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use record::keys::{SECRET_LEN, Secret};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::quic::{ClientConnection, Connection, KeyChange, Version};
use rustls::time_provider::TimeProvider;
use rustls::{HandshakeKind, PeerIncompatible};
use wire::handshake::Level;
use wire::ids::Side;
use zeroize::Zeroizing;

use crate::config::{ClientConfig, ServerConfig, cipher_of, exchange_of};
use crate::error::{Alert, Error, Failure};
use crate::flight::Flight;
use crate::guard::Guard;
use crate::identity::{Identity, PeerCertificate, PeerIdentity, PeerKey};
use crate::judged::certificate;
use crate::keylog::Log;
use crate::names::not_after;
use crate::own::{Asked, asked_in, key_in};
use crate::params::{self, TransportParams};
use crate::published::{Root, TAG_VERDICT, Verdict};
use crate::schedule::without_packet_keys;
use crate::secrets::{Agreed, EXPORTER_LABEL};
use crate::sha256::sha256;
use crate::sides::{Shown, Sides};
use crate::tickets::{Issue, Purse};

mod beside;

use beside::{Beside, Waiting};

/// One side of a TLS handshake.
pub(crate) struct Tls {
    connection: Connection,
    side: Side,
    /// Which stream the next bytes of ours belong to.
    level: Level,
    /// Client: what the server asked for.
    asked: Option<Asked>,
    agreed: bool,
    /// Whether there is a key for requests of the first flight.
    early: bool,
    /// Whether the other side shows raw public keys.
    raw: bool,
    purse: Option<Arc<Purse>>,
    issue: Option<Arc<Issue>>,
    log: Option<Arc<Log>>,
    /// Our transport parameters, and who we are.
    params: Vec<u8>,
    own: Option<Identity>,
    /// A first flight by published ticket beside it.
    beside: Option<Beside>,
    /// Server: the start of a ClientHello that may bring one.
    waiting: Option<Waiting>,
}

impl Tls {
    /// A client that wants to talk to `server_name`, at `unix_seconds` by its clock.
    pub(crate) fn client(
        config: &ClientConfig,
        server_name: &str,
        address: Option<SocketAddr>,
        early: bool,
        params: Vec<u8>,
        unix_seconds: u64,
        beside: Option<Root>,
    ) -> Result<Self, Error> {
        let name =
            ServerName::try_from(server_name).map_err(|_| Error::ServerName { name: server_name.into() })?.to_owned();
        // A copy for this handshake alone: it carries the time, and its part in the memory of tickets.
        let mut tls = (*config.tls).clone();
        tls.time_provider = Arc::new(At::new(unix_seconds));
        let purse =
            config.tickets.as_ref().map(|tickets| Purse::new(tickets, (server_name.into(), address), unix_seconds));
        if let Some(purse) = &purse {
            tls.resumption = rustls::client::Resumption::store(purse.clone());
            tls.enable_early_data = early && beside.is_none();
        }
        let log = config.key_log.as_ref().map(Log::new);
        if let Some(log) = &log {
            tls.key_log = log.clone();
        }
        let raw = config.shown_raw;
        let connection = ClientConnection::new(Arc::new(tls), Version::V1, name, params.clone())
            .map_err(|error| Error::Internal { reason: error.to_string() })?;
        let (own, beside) = (config.identity.clone(), beside.map(Beside::offered));
        Ok(Self { purse, log, raw, params, own, beside, ..Self::new(connection.into(), Side::Client) })
    }

    /// A server, at `unix_seconds` by its clock.
    pub(crate) fn server(config: &ServerConfig, params: Vec<u8>, unix_seconds: u64) -> Self {
        let waits = config.published.clone();
        let mut tls = (*config.tls).clone();
        tls.time_provider = Arc::new(At::new(unix_seconds));
        let issue = config.tickets.as_ref().map(|tickets| Issue::new(tickets, unix_seconds));
        match &issue {
            Some(issue) => tls.session_storage = issue.clone(),
            None => tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {}),
        }
        let log = config.key_log.as_ref().map(Log::new);
        if let Some(log) = &log {
            tls.key_log = log.clone();
        }
        let raw = config.shown_raw;
        let (tls, own) = (Arc::new(tls), Some(config.identity.clone()));
        let waiting = waits.map(|publisher| Waiting::new(publisher, Arc::clone(&tls), params.clone(), unix_seconds));
        let connection = beside::connection(tls, params.clone());
        Self { issue, log, raw, params, own, waiting, ..Self::new(connection, Side::Server) }
    }

    fn new(connection: Connection, side: Side) -> Self {
        let (level, asked) = (Level::Initial, None);
        let (purse, issue, log, params, own) = (None, None, None, Vec::new(), None);
        Self {
            connection,
            side,
            level,
            asked,
            agreed: false,
            early: false,
            raw: false,
            purse,
            issue,
            log,
            params,
            own,
            beside: None,
            waiting: None,
        }
    }

    /// The client speaks first.
    pub(crate) fn start(&mut self, flight: &mut Flight) {
        let hello = self.write(flight);
        match &self.beside {
            Some(beside) => flight.set_early(beside.guard(flight.crypto(), &hello)),
            None => self.set_early(flight),
        }
    }

    /// The ticket of a client's first words allows requests behind them, and a server took it.
    fn set_early(&mut self, flight: &mut Flight) {
        if let Some(keys) = self.connection.zero_rtt_keys() {
            self.early = true;
            flight.set_early(Guard::Early(keys.packet));
        }
    }

    /// Takes bytes of one of the other side's streams.
    pub(crate) fn read(&mut self, bytes: &[u8], flight: &mut Flight) -> Result<(), Failure> {
        let Some(waiting) = &mut self.waiting else { return self.take(bytes, flight) };
        // Our own parameters say what becomes of a first flight, and TLS wants them before it reads.
        let Some(hello) = waiting.whole(bytes) else { return Ok(()) };
        let mut guard = None;
        if let Some((beside, connection)) = waiting.judge(flight, &hello) {
            if beside.verdict() == Some(Verdict::Taken) {
                guard = beside::message(&hello).map(|message| beside.guard(flight.crypto(), message));
            }
            (self.connection, self.beside) = (connection, Some(beside));
        }
        self.waiting = None;
        self.take(&hello, flight)?;
        // Behind a HelloRetryRequest somebody else could go on: the flight's key holds for the first words only.
        if self.level == Level::Sealed
            && let Some(guard) = guard
        {
            self.early = true;
            flight.set_early(guard);
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], flight: &mut Flight) -> Result<(), Failure> {
        let (read, asked) = asked_in(|| self.connection.read_hs(bytes));
        self.asked = asked.or(self.asked);
        if let Err(error) = read {
            let alert = self.connection.alert().map_or(Alert::INTERNAL_ERROR, |alert| Alert(u8::from(alert)));
            return Err(Failure { error: meaning(error, self.side.peer()), alert: Some(alert) });
        }
        // rustls answers a request that it cannot meet with an empty list, and leaves the refusal to the server. We know
        // better: our servers ask only for what they require. The server has proven itself by now; nothing more goes out.
        if !self.connection.is_handshaking() && self.asked == Some(Asked::InVain) {
            let alert = Some(Alert::CERTIFICATE_REQUIRED);
            return Err(Failure { error: Error::ClientCertificateRequired, alert });
        }
        if self.side == Side::Server && self.level == Level::Initial {
            // rustls tells keys here only once it has taken the ticket out of memory and will say so to the client.
            self.set_early(flight);
        }
        self.write(flight);
        Ok(())
    }

    /// Moves what TLS has to say into the streams; gives the first piece of it.
    fn write(&mut self, flight: &mut Flight) -> Vec<u8> {
        let mut first = Vec::new();
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            // Behind the keys of the handshake TLS makes those of QUIC's packets, which are not ours.
            let change = match self.level {
                Level::Sealed => without_packet_keys(|| self.connection.write_hs(&mut bytes)),
                Level::Initial | Level::Early => self.connection.write_hs(&mut bytes),
            };
            flight.write(self.level, &bytes);
            if first.is_empty() {
                first.clone_from(&bytes);
            }
            match change {
                Some(KeyChange::Handshake { keys }) => {
                    flight.set_sealed(Guard::Keys(keys.into()));
                    self.level = Level::Sealed;
                }
                Some(KeyChange::OneRtt { .. }) => {}
                None if bytes.is_empty() => return first,
                None => {}
            }
        }
    }

    /// Whether a first flight by published ticket came, or went, beside it.
    pub(crate) const fn by_ticket(&self) -> bool {
        self.beside.is_some()
    }

    /// What was agreed, once.
    pub(crate) fn agreed(&mut self) -> Result<Option<Agreed>, Failure> {
        let connection = &self.connection;
        if self.agreed || connection.is_handshaking() {
            return Ok(None);
        }
        self.agreed = true;
        let params = connection.quic_transport_parameters().unwrap_or_default();
        let peer = TransportParams::decode(params).map_err(Failure::params)?;
        let verdict = match (&self.beside, self.side) {
            (None, _) => None,
            (Some(_), Side::Client) => params::find(params, TAG_VERDICT).and_then(Verdict::read),
            (Some(beside), Side::Server) => beside.verdict(),
        };
        let cipher = connection.negotiated_cipher_suite().and_then(|suite| cipher_of(suite.suite()));
        let cipher = cipher.ok_or_else(|| Failure::internal("a suite that was not offered"))?;
        let mut secret = Zeroizing::new([0; SECRET_LEN]);
        connection
            .export_keying_material(&mut *secret, EXPORTER_LABEL, None)
            .map_err(|error| Failure::internal(&error.to_string()))?;
        if let Some(log) = &self.log {
            log.session(&*secret);
        }
        let identity = self.identity();
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let mutual = match self.side {
            Side::Client if resumed => self.purse.as_ref().is_some_and(|purse| purse.was_mutual()),
            Side::Client => self.asked.is_some(),
            Side::Server => identity != PeerIdentity::Anonymous,
        };
        let not_after = self.not_after();
        if let Some(purse) = &self.purse {
            purse.complete(resumed, mutual, not_after);
        }
        let identity = match &self.issue {
            Some(issue) => issue.complete(not_after, identity),
            None => identity,
        };
        let theirs = connection.quic_transport_parameters().unwrap_or_default();
        let sides = self.sides(&peer, theirs, mutual);
        Ok(Some(Agreed {
            peer,
            sides,
            secret: Secret::new(*secret),
            cipher,
            mutual,
            identity,
            must_wait: self.asked.is_some(),
            exchange: connection.negotiated_key_exchange_group().and_then(|group| exchange_of(group.name())),
            resumed,
            verdict,
            early: match connection {
                Connection::Client(_) if verdict.is_some() => verdict == Some(Verdict::Taken),
                Connection::Client(client) => client.is_early_data_accepted(),
                Connection::Server(_) => self.early,
            },
        }))
    }

    /// What evidence is tied to, if any is demanded. In a resumed session keys are those that were shown in the full handshake that it
    /// goes back to: a ticket is only good as long as both sides have the same.
    fn sides(&self, peer: &TransportParams, theirs: &[u8], mutual: bool) -> Option<Sides> {
        let local = TransportParams::decode(&self.params).ok()?;
        if local.demands.is_none() && peer.demands.is_none() {
            return None;
        }
        let key = match &self.connection {
            Connection::Client(_) if mutual => self.own.as_ref().map(|own| own.key_shown("")),
            Connection::Client(_) => None,
            Connection::Server(server) => {
                self.own.as_ref().map(|own| own.key_shown(server.server_name().unwrap_or_default()))
            }
        };
        let their_key = self.connection.peer_certificates().and_then(|chain| chain.first());
        let ours = Shown { key: key.unwrap_or_default(), params: self.params.clone() };
        let theirs =
            Shown { key: their_key.map(|shown| key_in(self.raw, shown)).unwrap_or_default(), params: theirs.to_vec() };
        Some(Sides::new(self.side, ours, theirs))
    }

    /// When the first of the other side's certificates ends.
    fn not_after(&self) -> u64 {
        let chain = self.connection.peer_certificates().unwrap_or_default();
        let end = |der: &rustls::pki_types::CertificateDer<'_>| not_after(der).unwrap_or(0);
        if self.raw { u64::MAX } else { chain.iter().map(end).min().unwrap_or(u64::MAX) }
    }

    fn identity(&self) -> PeerIdentity {
        match self.connection.peer_certificates() {
            None | Some([]) => PeerIdentity::Anonymous,
            Some([key, ..]) if self.raw => PeerIdentity::RawKey(PeerKey::new(key, sha256(key))),
            Some(chain) => {
                let chain: Vec<Vec<u8>> = chain.iter().map(|der| der.to_vec()).collect();
                let sha256 = sha256(&chain[0]);
                PeerIdentity::Certificate(PeerCertificate::new(chain, sha256))
            }
        }
    }
}

/// The time of one handshake, as its caller gave it.
#[derive(Debug)]
struct At(UnixTime);

impl At {
    const fn new(unix_seconds: u64) -> Self {
        Self(UnixTime::since_unix_epoch(Duration::from_secs(unix_seconds)))
    }
}

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

/// What an error of rustls means to our caller; certificates are `whose`.
fn meaning(error: rustls::Error, whose: Side) -> Error {
    match error {
        rustls::Error::InvalidCertificate(error) => certificate(error, whose),
        rustls::Error::NoCertificatesPresented => Error::ClientCertificateMissing,
        rustls::Error::NoApplicationProtocol => Error::AlpnMismatch,
        rustls::Error::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon,
        ) => Error::NothingInCommon,
        rustls::Error::PeerIncompatible(
            PeerIncompatible::IncorrectCertificateTypeExtension | PeerIncompatible::UnsolicitedCertificateTypeExtension,
        ) => Error::CertificateKind,
        other => Error::Protocol { reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::CertificateError;
    use rustls::pki_types::DnsName;

    /// What each refusal of rustls is called here; the ones that a test cannot bring about included.
    #[test]
    fn meanings() {
        let (whose, at) = (Side::Client, |s| UnixTime::since_unix_epoch(Duration::from_secs(s)));
        let expected = ServerName::DnsName(DnsName::try_from("a.example").unwrap());
        let presented = ["DnsName(\"b.example\")".into(), "IpAddress(10.0.0.1)".into()].to_vec();
        let cases: [(rustls::Error, Error); 10] = [
            (rustls::Error::NoCertificatesPresented, Error::ClientCertificateMissing),
            (rustls::Error::NoApplicationProtocol, Error::AlpnMismatch),
            (PeerIncompatible::NoKxGroupsInCommon.into(), Error::NothingInCommon),
            (CertificateError::BadSignature.into(), Error::Untrusted { whose }),
            (
                CertificateError::ExpiredContext { time: at(100), not_after: at(40) }.into(),
                Error::Expired { whose, seconds: 60 },
            ),
            (
                CertificateError::NotValidYetContext { time: at(40), not_before: at(100) }.into(),
                Error::NotYetValid { whose, seconds: 60 },
            ),
            (
                CertificateError::NotValidForNameContext { expected, presented }.into(),
                Error::WrongName {
                    wanted: "a.example".into(),
                    presented: ["b.example".into(), "10.0.0.1".into()].to_vec(),
                },
            ),
            (CertificateError::Revoked.into(), Error::Revoked { whose }),
            (CertificateError::UnknownRevocationStatus.into(), Error::RevocationUnknown { whose }),
            (PeerIncompatible::IncorrectCertificateTypeExtension.into(), Error::CertificateKind),
        ];
        for (theirs, ours) in cases {
            assert_eq!(meaning(theirs, whose), ours);
        }
    }
}
