//! Owns what to offer: the settings of TLS, shared by all handshakes of an endpoint.
//!
//! TLS 1.3 only, one ALPN name. The suite that TLS agrees on decides the record cipher, so the suites stand in the order in
//! which the caller prefers the ciphers. No type of rustls is visible outside.

use core::fmt;
use std::sync::Arc;

use record::aead::Cipher;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{CipherSuite, NamedGroup, SupportedCipherSuite};
use wire::ids::Side;
use wire::limits::ALPN;

use crate::error::Error;
use crate::exchange::KeyExchange;
use crate::identity::Identity;
use crate::keylog::KeyLogSink;
use crate::own::{ByName, IfAsked};
use crate::published::Publisher;
use crate::ready::HYBRID;
use crate::suites::suite;
use crate::tickets::{ClientTickets, ServerTickets};
pub use crate::trust::Trust;

/// What may be agreed on, best first.
#[derive(Clone, Copy, Debug)]
pub struct Algorithms<'a> {
    /// What seals.
    pub ciphers: &'a [Cipher],
    /// How the two sides come to a secret. The client sends its part of the first one at once, and of X25519 with the
    /// hybrid; a server that takes neither costs another round trip.
    pub exchanges: &'a [KeyExchange],
}

impl Default for Algorithms<'static> {
    fn default() -> Self {
        Self { ciphers: &Cipher::ALL, exchanges: &KeyExchange::ALL }
    }
}

/// What a server wants to know of its clients.
#[derive(Clone, Copy, Debug)]
pub enum Clients<'a> {
    /// Nothing: anyone may come.
    Anonymous,
    /// A certificate issued below one of these roots, or one of these raw keys; without one there is no session.
    Authenticated(&'a Trust),
}

/// What a client brings to every TLS handshake. Cheap to clone; copies share the tickets that servers gave.
#[derive(Clone)]
pub struct ClientConfig {
    pub(crate) tls: Arc<rustls::ClientConfig>,
    /// `None`: every handshake is a full one.
    pub(crate) tickets: Option<Arc<ClientTickets>>,
    pub(crate) key_log: Option<KeyLogSink>,
    /// Whether servers show raw public keys.
    pub(crate) shown_raw: bool,
    pub(crate) identity: Option<Identity>,
}

impl ClientConfig {
    /// A client that believes servers whom `trust` does, shows `identity` when asked for one, and offers `ciphers` in that
    /// order ([`Cipher::ALL`] is the default order) and all key exchanges.
    ///
    /// # Errors
    /// When nobody is trusted, or no cipher is given.
    pub fn new(trust: &Trust, identity: Option<&Identity>, ciphers: &[Cipher]) -> Result<Self, Error> {
        Self::with(trust, identity, &Algorithms { ciphers, ..Algorithms::default() })
    }

    /// [`Self::new`] with a choice of key exchanges.
    ///
    /// # Errors
    /// When nobody is trusted, or nothing is offered.
    pub fn with(trust: &Trust, identity: Option<&Identity>, algorithms: &Algorithms<'_>) -> Result<Self, Error> {
        let provider = provider(algorithms)?;
        let mut tls = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|_| Error::NoCipher)?
            .dangerous()
            .with_custom_certificate_verifier(trust.for_servers(&provider)?)
            .with_client_cert_resolver(Arc::new(IfAsked(identity.cloned())));
        tls.alpn_protocols = [ALPN.to_vec()].into();
        tls.resumption = rustls::client::Resumption::disabled();
        let (shown_raw, identity) = (trust.is_raw(), identity.cloned());
        Ok(Self { tls: Arc::new(tls), tickets: Some(Arc::default()), key_log: None, shown_raw, identity })
    }

    /// Whether tickets of servers are kept and used. Default true.
    #[must_use]
    pub fn resumption(mut self, on: bool) -> Self {
        self.tickets = on.then(Arc::default);
        self
    }

    /// Danger: tells `sink` the secrets of every handshake.
    #[must_use]
    pub fn danger_key_log(mut self, sink: Option<KeyLogSink>) -> Self {
        self.key_log = sink;
        self
    }

    /// How many tickets there are of the server with this name at this place.
    #[must_use]
    pub fn tickets(&self, server_name: &str, address: Option<core::net::SocketAddr>) -> usize {
        self.tickets.as_ref().map_or(0, |tickets| tickets.count(&(server_name.into(), address)))
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
        f.debug_struct("ClientConfig").field("tickets", &self.tickets).finish_non_exhaustive()
    }
}

/// What a server brings to every TLS handshake. Cheap to clone; copies share the memory of tickets.
#[derive(Clone)]
pub struct ServerConfig {
    pub(crate) tls: Arc<rustls::ServerConfig>,
    pub(crate) tickets: Option<Arc<ServerTickets>>,
    pub(crate) key_log: Option<KeyLogSink>,
    /// Whether clients show raw public keys.
    pub(crate) shown_raw: bool,
    /// Whether clients must show who they are.
    authenticates: bool,
    /// What takes first flights by published ticket.
    pub(crate) published: Option<Arc<Publisher>>,
    pub(crate) identity: Identity,
}

impl ServerConfig {
    /// A server that shows `identity`, and takes `clients`, `ciphers` and all key exchanges; of several common ciphers the
    /// client's order decides.
    ///
    /// # Errors
    /// When clients shall be authenticated and nobody is trusted, or no cipher is given.
    pub fn new(identity: &Identity, clients: Clients<'_>, ciphers: &[Cipher]) -> Result<Self, Error> {
        Self::with(identity, clients, &Algorithms { ciphers, ..Algorithms::default() })
    }

    /// [`Self::new`] with a choice of key exchanges.
    ///
    /// # Errors
    /// When clients shall be authenticated and nobody is trusted, or nothing is accepted.
    pub fn with(identity: &Identity, clients: Clients<'_>, algorithms: &Algorithms<'_>) -> Result<Self, Error> {
        let provider = provider(algorithms)?;
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|_| Error::NoCipher)?;
        let builder = match clients {
            Clients::Anonymous => builder.with_no_client_auth(),
            Clients::Authenticated(trust) if trust.is_nobody() => {
                return Err(Error::NothingTrusted { whose: Side::Client });
            }
            Clients::Authenticated(trust) => builder.with_client_cert_verifier(trust.for_clients(&provider)?),
        };
        let mut tls = builder.with_cert_resolver(Arc::new(ByName(identity.clone())));
        tls.alpn_protocols = [ALPN.to_vec()].into();
        // One ticket for one session: who resumes is given another one.
        tls.send_tls13_tickets = 1;
        let shown_raw = matches!(clients, Clients::Authenticated(trust) if trust.is_raw());
        let authenticates = matches!(clients, Clients::Authenticated(_));
        let (tls, tickets, identity) = (Arc::new(tls), Some(Arc::default()), identity.clone());
        Ok(Self { tls, tickets, key_log: None, shown_raw, authenticates, published: None, identity })
    }

    /// Takes first flights by the tickets of `publisher`. No effect where clients must show who they are: such a flight is
    /// anonymous. Default: none are taken. [P-6.12]
    #[must_use]
    pub fn publish(mut self, publisher: Option<Arc<Publisher>>) -> Self {
        self.published = publisher.filter(|_| !self.authenticates);
        self
    }

    /// What takes first flights by published ticket, if anything does.
    #[must_use]
    pub const fn publisher(&self) -> Option<&Arc<Publisher>> {
        self.published.as_ref()
    }

    /// Whether clients are given tickets to resume with. Default true.
    #[must_use]
    pub fn resumption(mut self, on: bool) -> Self {
        self.tickets = on.then(Arc::default);
        Arc::make_mut(&mut self.tls).send_tls13_tickets = usize::from(on);
        self
    }

    /// Whether tickets allow requests in the first flight. Default false. No effect where clients must show who they are: a
    /// first flight does not prove it. [P-6.9]
    #[must_use]
    pub fn early_data(mut self, on: bool) -> Self {
        // QUIC knows only this value, or none (RFC 9001 section 4.6.1); what we take of it is bounded elsewhere.
        let most = if on && !self.authenticates { u32::MAX } else { 0 };
        Arc::make_mut(&mut self.tls).max_early_data_size = most;
        self
    }

    /// Danger: tells `sink` the secrets of every handshake.
    #[must_use]
    pub fn danger_key_log(mut self, sink: Option<KeyLogSink>) -> Self {
        self.key_log = sink;
        self
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig").field("tickets", &self.tickets).finish_non_exhaustive()
    }
}

/// AWS-LC with these suites and groups, in their order.
fn provider(algorithms: &Algorithms<'_>) -> Result<Arc<CryptoProvider>, Error> {
    let cipher_suites: Vec<SupportedCipherSuite> = algorithms.ciphers.iter().map(|&cipher| suite(cipher)).collect();
    let kx_groups: Vec<_> = algorithms.exchanges.iter().map(|&exchange| group(exchange)).collect();
    if cipher_suites.is_empty() || kx_groups.is_empty() {
        return Err(Error::NoCipher);
    }
    Ok(Arc::new(CryptoProvider { cipher_suites, kx_groups, ..default_provider() }))
}

fn group(exchange: KeyExchange) -> &'static dyn SupportedKxGroup {
    match exchange {
        KeyExchange::X25519MlKem768 => &HYBRID,
        KeyExchange::X25519 => kx_group::X25519,
        KeyExchange::Secp256r1 => kx_group::SECP256R1,
        KeyExchange::Secp384r1 => kx_group::SECP384R1,
    }
}

/// The key exchange of a group.
pub(crate) const fn exchange_of(group: NamedGroup) -> Option<KeyExchange> {
    match group {
        NamedGroup::X25519MLKEM768 => Some(KeyExchange::X25519MlKem768),
        NamedGroup::X25519 => Some(KeyExchange::X25519),
        NamedGroup::secp256r1 => Some(KeyExchange::Secp256r1),
        NamedGroup::secp384r1 => Some(KeyExchange::Secp384r1),
        _ => None,
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
