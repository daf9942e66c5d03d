//! Owns the side that begins.
//!
//! Drive it: [`Client::poll_transmit`] until it has nothing, then wait for a packet ([`Client::handle`], [`Client::retry`])
//! or for [`Client::timeout`], and again. When [`Client::established`] has something, the session's keys are there; it goes
//! on repeating itself until [`Client::confirmed`] says that the server has them too.

use core::fmt;
#[cfg(feature = "tls")]
use core::net::SocketAddr;

use proto::time::Instant;
#[cfg(feature = "tls")]
use record::aead::Cipher;
use record::aead::Crypto;
use wire::handshake::{HandshakePacket, Method, RetryPacket};
use wire::ids::{SessionId, Side};

#[cfg(feature = "tls")]
use crate::config::ClientConfig;
use crate::contract::{Progress, Reason, Setup};
use crate::error::Error;
use crate::flight::{Ends, Flight};
use crate::guard;
#[cfg(feature = "tls")]
use crate::installed::By;
use crate::installed::{Exchange, InstalledKey, NONCE_LEN};
use crate::limits::RETRIES_MAX;
use crate::machine::{Engine, Machine};
#[cfg(feature = "tls")]
use crate::published::{Root, TAG_OPENING, VerifiedTicket};
use crate::secrets::Established;

/// A handshake that this side began.
pub struct Client {
    machine: Machine,
    crypto: &'static dyn Crypto,
    local: SessionId,
    retries: u32,
}

impl Client {
    /// Begins a TLS handshake with `server_name`: a DNS name or an IP address, which the server's certificate must be for.
    ///
    /// # Errors
    /// [`Error::ServerName`] when it is neither.
    ///
    /// # Panics
    /// When `setup.datagram_max` is below [`wire::limits::DATAGRAM_MIN`].
    #[cfg(feature = "tls")]
    pub fn tls(config: &ClientConfig, server_name: &str, setup: &Setup) -> Result<Self, Error> {
        Self::tls_at(config, server_name, None, false, setup)
    }

    /// [`Self::tls`] to a server at an address of its own: tickets of servers elsewhere with the same name are left alone.
    /// With `early` requests may be [sent behind](Self::send_early) the first words, if there is a ticket that allows it.
    ///
    /// # Errors
    /// [`Error::ServerName`] when it is neither.
    ///
    /// # Panics
    /// When `setup.datagram_max` is below [`wire::limits::DATAGRAM_MIN`].
    #[cfg(feature = "tls")]
    pub fn tls_at(
        config: &ClientConfig,
        server_name: &str,
        address: Option<SocketAddr>,
        early: bool,
        setup: &Setup,
    ) -> Result<Self, Error> {
        let (params, now) = (setup.local.encode(), setup.unix_seconds);
        let tls = crate::tls::Tls::client(config, server_name, address, early, params, now, None)?;
        let flight = Flight::new(setup.crypto, ends(setup, Method::Tls), guard::Guard::Public);
        Ok(Self::new(flight, Engine::Tls(tls.into()), setup))
    }

    /// Begins a TLS handshake with requests [in front](Self::send_early) that are sealed to a published ticket of the server; what
    /// follows is as forward secret as any. `secret` must be fresh random bytes. [P-6.11]
    ///
    /// # Errors
    /// [`Error::ServerName`] as of [`Self::tls`].
    ///
    /// # Panics
    /// When `setup.datagram_max` is below [`wire::limits::DATAGRAM_MIN`].
    #[cfg(feature = "tls")]
    pub fn tls_by_ticket(
        config: &ClientConfig,
        server_name: &str,
        address: Option<SocketAddr>,
        ticket: &VerifiedTicket,
        secret: &[u8; 32],
        setup: &Setup,
    ) -> Result<Self, Error> {
        let mut params = setup.local.encode();
        let opening = ticket.opening(secret, setup.local.session, Method::Tls)?;
        crate::params::append(&mut params, TAG_OPENING, &opening);
        let beside = Some(Root::new(setup.crypto, secret));
        let tls = crate::tls::Tls::client(config, server_name, address, false, params, setup.unix_seconds, beside)?;
        let flight = Flight::new(setup.crypto, ends(setup, Method::Tls), guard::Guard::Public);
        Ok(Self::new(flight, Engine::Tls(tls.into()), setup))
    }

    /// Begins a handshake by a published ticket alone: the server's certificate is what the ticket showed, and the session's keys are
    /// as secret as the ticket's private key, which dies with the server's process or after an hour. `secret` and `nonce` must be
    /// fresh random bytes. [P-6.11]
    ///
    /// # Errors
    /// [`Error::Internal`] when the secret cannot be sealed, [`Error::NothingInCommon`] when the ticket's server does not seal with
    /// `cipher`.
    ///
    /// # Panics
    /// When `setup.datagram_max` is below [`wire::limits::DATAGRAM_MIN`].
    #[cfg(feature = "tls")]
    pub fn by_ticket(
        ticket: &VerifiedTicket,
        cipher: Cipher,
        secret: &[u8; 32],
        nonce: [u8; NONCE_LEN],
        setup: &Setup,
    ) -> Result<Self, Error> {
        if !ticket.takes(cipher) {
            return Err(Error::NothingInCommon);
        }
        let opening = ticket.opening(secret, setup.local.session, Method::Published)?;
        let root = Root::new(setup.crypto, secret);
        let key = InstalledKey::published(&root, cipher);
        let guard = key.guard(setup.crypto, Side::Client);
        let by = By::Published { root, identity: ticket.identity().clone(), verdict: None };
        let exchange = Exchange::with(setup.crypto, key, Side::Client, nonce, setup.local.encode(), by);
        let flight = Flight::new(setup.crypto, ends(setup, Method::Published), guard);
        Ok(Self::new(flight, Engine::Installed(exchange.named(&opening).into()), setup))
    }

    /// Whether a first flight by published ticket is part of it: then [`Established::verdict`] says what became of that.
    #[must_use]
    pub const fn is_by_ticket(&self) -> bool {
        self.machine.by_ticket()
    }

    /// Begins a handshake with a secret that the server was given too. `nonce` must be fresh random bytes.
    ///
    /// # Panics
    /// When `setup.datagram_max` is below [`wire::limits::DATAGRAM_MIN`].
    #[must_use]
    pub fn installed(key: &InstalledKey, nonce: [u8; NONCE_LEN], setup: &Setup) -> Self {
        let exchange = Exchange::new(setup.crypto, key.clone(), Side::Client, nonce, setup.local.encode());
        let guard = key.guard(setup.crypto, Side::Client);
        let flight = Flight::new(setup.crypto, ends(setup, Method::Installed), guard);
        Self::new(flight, Engine::Installed(exchange.into()), setup)
    }

    fn new(flight: Flight, engine: Engine, setup: &Setup) -> Self {
        let machine = Machine::new(flight, engine, setup.now + setup.lifetime);
        Self { machine, crypto: setup.crypto, local: setup.local.session, retries: 0 }
    }

    /// Takes a HANDSHAKE packet that came in a datagram of `datagram_len` bytes.
    ///
    /// # Errors
    /// Why there is no session, once; then it only repeats its alert until it [is over](Self::is_over). After `Established`
    /// too: a server may refuse the client's certificate.
    pub fn handle(
        &mut self,
        now: Instant,
        packet: &HandshakePacket<'_>,
        datagram_len: usize,
    ) -> Result<Progress, Error> {
        self.machine.handle(now, packet, datagram_len)
    }

    /// Whether a request can go with the first flight: before the server answered, and at most
    /// [`crate::limits::EARLY_MESSAGES_MAX`]. Anyone who records the flight may bring it to a server, which then must not take
    /// it a second time; and whether it was taken, [`Established::early`] says. [P-6.9]
    #[must_use]
    pub fn takes_early(&self) -> bool {
        self.machine.takes_message()
    }

    /// Sends a request with the first flight: at most [`wire::handshake::EARLY_BODY_MAX`] bytes and its name. Only after
    /// [`Self::takes_early`].
    pub fn send_early(&mut self, message: Vec<u8>) {
        self.machine.send_message(message);
    }

    /// The next response to a request of the first flight, once the server has proven itself.
    pub fn early(&mut self) -> Option<Vec<u8>> {
        self.machine.message()
    }

    /// Takes a RETRY packet: the first flight goes out again, with the server's cookie.
    pub fn retry(&mut self, packet: &RetryPacket<'_>) -> Progress {
        if packet.header.session != self.local {
            return Progress::Dropped(Reason::Session);
        }
        if !guard::public_check(self.crypto, packet.clear, packet.tag) {
            return Progress::Dropped(Reason::Tag);
        }
        let asked = self.machine.is_running() && self.machine.flight().remote() == SessionId::NONE;
        if !asked || self.retries == RETRIES_MAX {
            return Progress::Dropped(Reason::Cookie);
        }
        self.retries += 1;
        self.machine.flight().retry(packet.cookie);
        Progress::Taken
    }

    /// Writes the next datagram into `out`; says how long it is.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        self.machine.poll_transmit(now, out)
    }

    /// Whether so many zeros may follow the datagram that was just written, so that the next one, which is due, can leave in the same
    /// call of the kernel. [P-6.2.4]
    pub fn pad(&mut self, bytes: usize) -> bool {
        self.machine.flight().pad(bytes)
    }

    /// When to call [`Self::handle_timeout`] at the latest; `None` when it is over.
    #[must_use]
    pub fn timeout(&self) -> Option<Instant> {
        self.machine.timeout()
    }

    /// Does what is due; then there may be something to transmit.
    ///
    /// # Errors
    /// Why there is no session.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.machine.handle_timeout(now)
    }

    /// What was agreed, once.
    pub fn established(&mut self) -> Option<Established> {
        self.machine.established()
    }

    /// Whether nothing of the application may be sent before the server confirmed: it asked for a certificate, and may yet
    /// refuse it. Holds a meaning once the handshake is established.
    #[must_use]
    pub const fn must_wait_for_done(&self) -> bool {
        self.machine.must_wait()
    }

    /// A valid sealed packet of the server came: it has the keys, and nothing is repeated any more.
    pub fn confirmed(&mut self) {
        self.machine.confirmed();
    }

    /// Gives up, and tells the server.
    pub fn cancel(&mut self, now: Instant) {
        self.machine.cancel(now);
    }

    /// Bytes of the other side's that it holds: at most [`crate::limits::BUFFERED_MAX`].
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.machine.buffered()
    }

    /// Whether it can be dropped: nothing more will be sent.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.machine.is_over()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("session", &self.local).finish_non_exhaustive()
    }
}

fn ends(setup: &Setup, method: Method) -> Ends {
    Ends {
        side: Side::Client,
        method,
        local: setup.local.session,
        remote: SessionId::NONE,
        datagram_max: setup.datagram_max,
        // The one who begins chose the address.
        validated: true,
    }
}
