//! Owns whom to trust and who we are, by certificates or raw public keys, and makes the layers' configuration of it.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use endpoint::session::Upgrade;
use handshake::config::{Algorithms, ClientConfig, Clients as ServerClients, ServerConfig};
use handshake::exchange::KeyExchange;
use handshake::keylog::KeyLogSink;
use handshake::published::{Publisher, VerifiedTicket};
use record::aead::Cipher;

use crate::error::Error;
use crate::ticket::TicketSource;

/// Whom we believe: certificate authorities, with their revocation lists, or raw public keys.
#[derive(Clone, Debug)]
pub struct Trust(pub(crate) handshake::config::Trust);

impl Trust {
    /// The authorities in a PEM file.
    ///
    /// # Errors
    /// [`Error::Credentials`], naming the file and what is wrong with it.
    pub fn pem_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        handshake::config::Trust::pem_file(path).map(Self).map_err(Error::Credentials)
    }

    /// The authorities in PEM text.
    ///
    /// # Errors
    /// [`Error::Credentials`].
    pub fn pem(text: &[u8]) -> Result<Self, Error> {
        handshake::config::Trust::pem("the given text", text).map(Self).map_err(Error::Credentials)
    }

    /// The holders of these public keys and nobody else, without any certificate (RFC 7250): PEM text ("BEGIN PUBLIC KEY", one
    /// or several), or one SubjectPublicKeyInfo in DER. Names of peers say nothing then: whoever has one of the keys is it.
    ///
    /// # Errors
    /// [`Error::Credentials`].
    pub fn raw_keys(text: &[u8]) -> Result<Self, Error> {
        handshake::config::Trust::raw_keys("the given keys", text).map(Self).map_err(Error::Credentials)
    }

    /// Refuses whoever is on these revocation lists (RFC 5280): PEM text ("BEGIN X509 CRL", one or several), or one list in
    /// DER. Every certificate of a chain but the root is looked up. One whose issuer has no list here, or only one past its
    /// `nextUpdate`, is refused; see [`Self::allow_unknown_revocation`]. [`crate::Socket::reload`] takes newer lists.
    ///
    /// # Errors
    /// [`Error::Credentials`].
    pub fn revoked(self, lists: &[u8]) -> Result<Self, Error> {
        self.0.revoked("the given lists", lists).map(Self).map_err(Error::Credentials)
    }

    /// With revocation lists: lets a certificate pass whose issuer has none here. Default: it is refused.
    #[must_use]
    pub fn allow_unknown_revocation(self) -> Self {
        Self(self.0.allow_unknown_revocation())
    }

    /// Nobody. Such a socket can begin no session; it can serve anonymous clients.
    pub fn nobody() -> Self {
        Self(handshake::config::Trust::nobody())
    }
}

/// Who we are: a certificate chain and its private key.
#[derive(Clone, Debug)]
pub struct Identity(pub(crate) handshake::identity::Identity);

impl Identity {
    /// A chain and a key in PEM files.
    ///
    /// # Errors
    /// [`Error::Credentials`], naming the file and what is wrong with it.
    pub fn pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, Error> {
        handshake::identity::Identity::pem_files(chain, key).map(Self).map_err(Error::Credentials)
    }

    /// A chain and a key in PEM text.
    ///
    /// # Errors
    /// [`Error::Credentials`].
    pub fn pem(chain: &[u8], key: &[u8]) -> Result<Self, Error> {
        handshake::identity::Identity::pem("the given text", chain, key).map(Self).map_err(Error::Credentials)
    }

    /// A private key in PEM text, without any certificate (RFC 7250): peers must know its public key beforehand.
    ///
    /// # Errors
    /// [`Error::Credentials`].
    pub fn raw_key(key: &[u8]) -> Result<Self, Error> {
        handshake::identity::Identity::raw_key("the given key", key).map(Self).map_err(Error::Credentials)
    }

    /// A server that has both identities: a client is shown the one whose certificate has the name that it asks for, and the
    /// first where none has (SNI, RFC 6066). As a client a socket has only the first.
    ///
    /// # Errors
    /// [`Error::Credentials`] when one of them is a raw key, which has no names.
    pub fn and(self, other: Self) -> Result<Self, Error> {
        self.0.and(other.0).map(Self).map_err(Error::Credentials)
    }

    /// The public key, as SubjectPublicKeyInfo in DER: what [`Trust::raw_keys`] of a peer takes.
    pub fn public_key(&self) -> Vec<u8> {
        self.0.public_key()
    }
}

/// Whose requests a server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clients {
    /// Only of clients with a certificate of a trusted authority.
    Authenticated,
    /// Of anybody. They are told who the server is; it does not learn who they are.
    Anonymous,
}

/// What was chosen.
#[derive(Default)]
pub(crate) struct Choices {
    pub(crate) trust: Option<Trust>,
    pub(crate) identity: Option<Identity>,
    pub(crate) clients: Option<Clients>,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) ciphers: Vec<Cipher>,
    pub(crate) exchanges: Option<Vec<KeyExchange>>,
    pub(crate) no_resumption: bool,
    pub(crate) early_data_bytes_max: usize,
    /// How long published tickets are valid, and how many first flights are remembered of each.
    pub(crate) publish: Option<(Duration, usize)>,
    /// Where tickets of servers come from, and those that were judged already.
    pub(crate) tickets_from: Option<(Arc<dyn TicketSource>, Upgrade)>,
    pub(crate) judged: HashMap<u32, VerifiedTicket>,
    pub(crate) key_log: Option<PathBuf>,
    pub(crate) sink: Option<KeyLogSink>,
}

impl Choices {
    /// Before the socket is there: what else was chosen, and the file that secrets go to.
    pub(crate) fn settle(&mut self, ciphers: &[Cipher]) -> Result<(), Error> {
        self.ciphers = ciphers.to_vec();
        let Some(path) = &self.key_log else { return Ok(()) };
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let file =
            file.map_err(|why| Error::Config(format!("{}: the key log cannot be written: {why}", path.display())))?;
        tracing::warn!(path = %path.display(), "KEY LOG IS ON: whoever reads this file can read all traffic of this socket");
        let file = Mutex::new(file);
        self.sink = Some(KeyLogSink::new(move |line| {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            // A disk that is full must not end sessions.
            let _ = writeln!(file, "{line}");
        }));
        Ok(())
    }

    /// What handshakes are begun with, and what they are answered with.
    pub(crate) fn configs(&self) -> Result<(Option<ClientConfig>, Option<ServerConfig>), Error> {
        let Some(trust) = &self.trust else { return Ok((None, None)) };
        let identity = self.identity.as_ref().map(|identity| &identity.0);
        let exchanges = self.exchanges.as_deref().unwrap_or(&KeyExchange::ALL);
        let algorithms = Algorithms { ciphers: &self.ciphers, exchanges };
        let mut client = None;
        if !trust.0.is_nobody() {
            let config = ClientConfig::with(&trust.0, identity, &algorithms).map_err(Error::Credentials)?;
            let config = config.resumption(!self.no_resumption).danger_key_log(self.sink.clone());
            client = Some(match &self.alpn {
                Some(name) => config.danger_alpn(name),
                None => config,
            });
        }
        let Some(clients) = self.clients else { return Ok((client, None)) };
        let Some(identity) = identity else {
            return Err(Error::Config(
                "a server needs an identity: its clients must be able to tell who it is".to_owned(),
            ));
        };
        let clients = match clients {
            Clients::Authenticated if trust.0.is_nobody() => {
                let what = "a server that trusts nobody has no authenticated clients: name an authority, or serve anonymous ones";
                return Err(Error::Config(what.to_owned()));
            }
            Clients::Authenticated if self.early_data_bytes_max > 0 => {
                let what =
                    "early data does not prove who its client is: a server of authenticated clients cannot take it";
                return Err(Error::Config(what.to_owned()));
            }
            Clients::Authenticated if self.publish.is_some() => {
                let what =
                    "a first flight by published ticket is anonymous: a server of authenticated clients cannot take it";
                return Err(Error::Config(what.to_owned()));
            }
            Clients::Authenticated => ServerClients::Authenticated(&trust.0),
            Clients::Anonymous => ServerClients::Anonymous,
        };
        let server = ServerConfig::with(identity, clients, &algorithms).map_err(Error::Credentials)?;
        let server = server.resumption(!self.no_resumption).early_data(self.early_data_bytes_max > 0);
        let server = server.danger_key_log(self.sink.clone());
        let publisher = |(lifetime, most)| Arc::new(Publisher::new(identity, &self.ciphers, lifetime, most));
        let server = server.publish(self.publish.map(publisher));
        Ok((client, Some(server)))
    }
}
