//! Owns what a builder is told of certificates, key exchanges and tickets, and how that changes while a socket is open.

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use endpoint::config::Config;
use endpoint::session::Upgrade;
use handshake::exchange::KeyExchange;
use handshake::limits::{PUBLISHED_FLIGHTS, PUBLISHED_LIFETIME};

use super::{Builder, NeedsIdentity, NeedsTrust, Ready};
use crate::credentials::{Choices, Clients, Identity, Trust};
use crate::error::Error;
use crate::socket::Socket;
use crate::ticket::TicketSource;

impl Builder<NeedsTrust> {
    /// Whom to believe: every peer's certificate must come from one of these authorities, or be one of these raw keys.
    pub fn trust(mut self, trust: Trust) -> Builder<NeedsIdentity> {
        self.knobs.tls.trust = Some(trust);
        self.to(NeedsIdentity(()))
    }
}

impl Builder<NeedsIdentity> {
    /// Who we are. Servers always have an identity; clients where servers ask for it.
    pub fn identity(mut self, identity: Identity) -> Builder<Ready> {
        self.knobs.tls.identity = Some(identity);
        self.to(Ready(()))
    }

    /// Nobody: a client that servers know nothing of.
    pub fn anonymous(self) -> Builder<Ready> {
        self.to(Ready(()))
    }
}

impl Builder<Ready> {
    /// Takes requests and one-way messages. Without this they are refused.
    #[must_use]
    pub fn serve(mut self, clients: Clients) -> Self {
        self.knobs.serving = true;
        self.knobs.tls.clients = Some(clients);
        self
    }

    /// Key exchanges to offer and accept, best first. Default: X25519 with ML-KEM-768, X25519, P-256, P-384. A hybrid costs
    /// about 2 KB and 100 us more than X25519 in a full handshake.
    #[must_use]
    pub fn key_exchanges(mut self, exchanges: &[KeyExchange]) -> Self {
        self.knobs.tls.exchanges = Some(exchanges.to_vec());
        self
    }

    /// Whether sessions are resumed: as a client tickets of servers are kept, at most 8 of each, and as a server they are given
    /// out, one in each handshake, at most 65,536 and 32 MiB at once. A ticket is good once, at the process that gave it, and
    /// for a day at most. Default true; without it every session costs a full handshake.
    #[must_use]
    pub fn resumption(mut self, on: bool) -> Self {
        self.knobs.tls.no_resumption = !on;
        self
    }

    /// Takes requests in the first flight of clients that resume a session, up to so many bytes of each (at most 8 requests of
    /// 1,093 bytes): they are there, and answered, a round trip earlier. Default: none. They are marked
    /// [`crate::Protection::EarlyData`]: their sender is who was given the ticket and has proven nothing since, and they lack
    /// forward secrecy. No copy of a flight runs twice here, because its ticket is forgotten when it is used; a copy that
    /// arrives where its original did not, runs once, however late within the ticket's day. Cannot be combined with
    /// [`Clients::Authenticated`].
    #[must_use]
    pub fn accept_early_data(mut self, bytes_max: usize) -> Self {
        self.knobs.tls.early_data_bytes_max = bytes_max;
        self
    }

    /// Takes first flights by published ticket, of clients that never talked to this server: [`Socket::publish_ticket`] gives what to
    /// publish, in a file or in DNS. `lifetime` says how long each ticket is valid, from 2 s to an hour. Its private key is made in
    /// this process, lives in memory and dies with it or with its ticket. Requests that come so are marked
    /// [`crate::Protection::PublishedTicket`]: they may be from anybody, and are not forward secret while that key lives. None runs
    /// twice: 65,536 first flights are remembered of each ticket (4 MiB), and others are not taken. Cannot be combined with
    /// [`Clients::Authenticated`]. Default: none are taken.
    #[must_use]
    pub fn publish_tickets(mut self, lifetime: Duration) -> Self {
        let most = self.knobs.tls.publish.map_or(PUBLISHED_FLIGHTS, |(_, most)| most);
        self.knobs.tls.publish = Some((lifetime, most));
        self
    }

    /// How many first flights are remembered of each published ticket; more are not taken. About 64 bytes each. Default 65,536.
    #[must_use]
    pub fn published_flights_max(mut self, most: usize) -> Self {
        let lifetime = self.knobs.tls.publish.map_or(PUBLISHED_LIFETIME, |(lifetime, _)| lifetime);
        self.knobs.tls.publish = Some((lifetime, most));
        self
    }

    /// Where published tickets of servers are found, for calls that may go early ([`crate::CallOptions::early`]) and begin a session; and
    /// what follows such a first flight. Each ticket is judged like a server in a handshake, once. Default: nowhere.
    #[must_use]
    pub fn tickets_from(mut self, source: impl TicketSource + 'static, upgrade: Upgrade) -> Self {
        self.knobs.tls.tickets_from = Some((Arc::new(source), upgrade));
        self
    }

    /// Danger: appends the secrets of every session to this file, in the format of `SSLKEYLOGFILE`, for who takes apart
    /// captures: TLS's own lines, and one `SEALANE_SESSION_SECRET` with the secret that all keys of records come from. Who
    /// reads the file reads the traffic. Off unless called: no variable of the environment turns it on.
    #[must_use]
    pub fn key_log(mut self, path: impl AsRef<Path>) -> Self {
        self.knobs.tls.key_log = Some(path.as_ref().to_owned());
        self
    }

    /// Danger: offers another protocol name than Sealane's, so that no handshake succeeds. For tests.
    #[must_use]
    pub fn danger_alpn(mut self, name: &[u8]) -> Self {
        self.knobs.tls.alpn = Some(name.to_vec());
        self
    }
}

impl Choices {
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), Error> {
        let (client, server) = self.configs()?;
        (config.client, config.server) = (client.map(Arc::new), server.map(Arc::new));
        config.early_data_bytes_max = self.early_data_bytes_max;
        Ok(())
    }
}

impl Socket {
    /// Another trust, another identity, or both, from now on and at once: for certificates and revocation lists that are
    /// renewed while the socket works. `None` leaves what there is. New handshakes use the new ones; those under way and
    /// open sessions stay as they are. Tickets of before are not good any more, so that nobody comes in by what is no
    /// longer trusted; and published tickets of this socket are to be published anew.
    ///
    /// # Errors
    /// [`Error::Credentials`] and [`Error::Config`] as of [`Builder::bind`]; then all stays as it was.
    pub fn reload(&self, trust: Option<Trust>, identity: Option<Identity>) -> Result<(), Error> {
        let mut choices = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        let before = (choices.trust.clone(), choices.identity.clone());
        choices.trust = trust.or(before.0.clone());
        choices.identity = identity.or(before.1.clone());
        match choices.configs() {
            Ok((client, server)) => {
                choices.judged.clear();
                let mut core = self.open_core()?;
                core.endpoint.reload(client.map(Arc::new), server.map(Arc::new));
                Ok(())
            }
            Err(why) => {
                (choices.trust, choices.identity) = before;
                Err(why)
            }
        }
    }
}
