//! Owns the side that answers.
//!
//! The first packet of a client is addressed to no session: look with [`offer`] what it wants, then make a [`Server`] and
//! give it that packet and all that follow from the same address and client session id; or [`refuse`] it; or, under load,
//! ask for a cookie ([`crate::cookie::Cookies`]) and keep nothing.

use core::fmt;

use proto::time::Instant;
use record::aead::Crypto;
use wire::bytes::Writer;
use wire::handshake::{FLAG_ALERT, HANDSHAKE_OVERHEAD, HandshakeFields, HandshakePacket, Level, Method};
use wire::ids::{SessionId, Side};

#[cfg(feature = "tls")]
use crate::config::ServerConfig;
use crate::contract::{Progress, Reason, Setup};
use crate::error::{Alert, Error};
use crate::flight::{Ends, Flight};
use crate::guard::{self, Guard};
#[cfg(feature = "tls")]
use crate::identity::PeerIdentity;
#[cfg(feature = "tls")]
use crate::installed::By;
use crate::installed::{self, Exchange, InstalledKey, KeyId, NONCE_LEN};
use crate::machine::{Engine, Machine};
#[cfg(feature = "tls")]
use crate::published::{Publisher, Root, Sought, TAG_VERDICT, TicketId};
use crate::secrets::Established;

/// What a client's first packet wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// A TLS handshake.
    Tls,
    /// A handshake with the installed secret of this name.
    Installed(KeyId),
    /// A handshake by the published ticket of this name.
    #[cfg(feature = "tls")]
    Published(TicketId),
}

/// What `packet` wants, if it can be a client's first: not yet addressed to a session, and no alert.
#[must_use]
pub fn offer(packet: &HandshakePacket<'_>) -> Option<Offer> {
    let first = packet.from_client()
        && packet.header.session == SessionId::NONE
        && packet.fields.level == Level::Initial
        && !packet.alert();
    match packet.fields.method {
        _ if !first => None,
        Method::Tls => Some(Offer::Tls),
        Method::Installed => installed::key_id(packet).map(Offer::Installed),
        #[cfg(feature = "tls")]
        Method::Published => installed::opening(packet).map(|(id, ..)| Offer::Published(id)),
        #[cfg(not(feature = "tls"))]
        Method::Published => None,
    }
}

/// A client's first packet that passed the check that anyone can make. What does not is noise, and not worth more than that.
#[derive(Clone, Copy, Debug)]
pub struct Sound {
    /// Where it stands in memory: it need not be checked again when it is taken from there at once.
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only TLS has that check"))]
    at: usize,
}

/// Makes that check of a first packet, where its method has one.
#[must_use]
pub fn sound(crypto: &dyn Crypto, packet: &HandshakePacket<'_>) -> Option<Sound> {
    let passes = packet.fields.method != Method::Tls || guard::public_check(crypto, packet.covered, packet.tag);
    passes.then(|| Sound { at: packet.covered.as_ptr().addr() })
}

/// Writes an alert in clear text in answer to a client's first packet, without keeping anything; says how long it is.
///
/// `None`: the packet is none that may be answered, or `out` is too short. Never larger than what it answers.
pub fn refuse(crypto: &dyn Crypto, packet: &HandshakePacket<'_>, alert: Alert, out: &mut [u8]) -> Option<usize> {
    offer(packet)?;
    let client = packet.fields.sender;
    // No session, so no name for one: the client's own stands in for it.
    let header = HandshakePacket::header(FLAG_ALERT, client, client);
    let fields = HandshakeFields::first(client, packet.fields.method);
    let len = HANDSHAKE_OVERHEAD + 1;
    let out = out.get_mut(..len).filter(|_| len <= packet.len())?;
    let mut w = Writer::new(out);
    HandshakePacket::emit(&header, &fields, &[], 1, &mut w);
    w.u8(alert.0);
    let covered = w.len();
    let (head, tag) = out.split_at_mut(covered);
    tag.copy_from_slice(&guard::public_tag(crypto, head));
    Some(len)
}

/// A handshake that the other side began.
pub struct Server {
    machine: Machine,
    local: SessionId,
    client: SessionId,
}

impl Server {
    /// Answers a TLS client's first packet, which then must be given to [`Self::handle`] like all others. `validated`: the
    /// packet carried a good cookie.
    ///
    /// # Errors
    /// Why the packet is none to be answered.
    ///
    /// # Panics
    /// When `setup.datagram_max` is below [`wire::limits::DATAGRAM_MIN`].
    #[cfg(feature = "tls")]
    pub fn tls(
        config: &ServerConfig,
        first: &HandshakePacket<'_>,
        validated: bool,
        setup: &Setup,
    ) -> Result<Self, Reason> {
        let sound = sound(setup.crypto, first).ok_or(Reason::Tag)?;
        Self::tls_sound(config, first, sound, validated, setup)
    }

    /// [`Self::tls`] for a packet that is known to be sound. It is not checked once more when it is given to [`Self::handle`] next.
    ///
    /// # Errors
    /// Why the packet is none to be answered.
    ///
    /// # Panics
    /// When `setup.datagram_max` is below [`wire::limits::DATAGRAM_MIN`].
    #[cfg(feature = "tls")]
    pub fn tls_sound(
        config: &ServerConfig,
        first: &HandshakePacket<'_>,
        sound: Sound,
        validated: bool,
        setup: &Setup,
    ) -> Result<Self, Reason> {
        let ends = unchecked_ends(first, Method::Tls, validated, setup)?;
        let tls = crate::tls::Tls::server(config, setup.local.encode(), setup.unix_seconds);
        let flight = Flight::new(setup.crypto, ends, Guard::Public).vouch_for(sound.at);
        Ok(Self::new(flight, Engine::Tls(tls.into()), setup))
    }

    /// Answers the first packet of a client with an installed secret, which then must be given to [`Self::handle`] like all
    /// others. `nonce` must be fresh random bytes. Nothing is kept unless the packet was made with that secret.
    ///
    /// # Errors
    /// Why the packet is none to be answered.
    ///
    /// # Panics
    /// When `setup.datagram_max` is below [`wire::limits::DATAGRAM_MIN`].
    pub fn installed(
        key: &InstalledKey,
        nonce: [u8; NONCE_LEN],
        first: &HandshakePacket<'_>,
        validated: bool,
        setup: &Setup,
    ) -> Result<Self, Reason> {
        let guard = key.guard(setup.crypto, Side::Server);
        let ends = ends(first, Method::Installed, &guard, validated, setup)?;
        let exchange = Exchange::new(setup.crypto, key.clone(), Side::Server, nonce, setup.local.encode());
        Ok(Self::new(Flight::new(setup.crypto, ends, guard), Engine::Installed(exchange.into()), setup))
    }

    /// Answers the first packet of a client by a published ticket of `publisher`, which then must be given to [`Self::handle`] like all
    /// others. `nonce` must be fresh random bytes. What the first flight brings is taken once, in this handshake or in none: the
    /// publisher remembers it. [P-6.12]
    ///
    /// # Errors
    /// Why the packet is none to be answered. Nothing was remembered then.
    ///
    /// # Panics
    /// When `setup.datagram_max` is below [`wire::limits::DATAGRAM_MIN`].
    #[cfg(feature = "tls")]
    pub fn by_ticket(
        publisher: &Publisher,
        nonce: [u8; NONCE_LEN],
        first: &HandshakePacket<'_>,
        validated: bool,
        setup: &Setup,
    ) -> Result<Self, Reason> {
        let (_, opening, cipher) = installed::opening(first).ok_or(Reason::Session)?;
        if !publisher.takes(cipher) {
            return Err(Reason::Method);
        }
        let session = first.fields.sender;
        let sought = Sought { opening, session, method: Method::Published, unix_seconds: setup.unix_seconds };
        let mut sound = Err(Reason::Tag);
        // What is remembered of it must not be what somebody else put together: its packet proves to be of who has the secret.
        let opened = publisher.open_if(&sought, |secret| {
            let key = InstalledKey::published(&Root::new(setup.crypto, secret), cipher);
            let guard = key.guard(setup.crypto, Side::Server);
            sound = ends(first, Method::Published, &guard, validated, setup).map(|ends| (ends, guard, key));
            sound.is_ok()
        });
        let (opened, (ends, guard, key)) = (opened.ok_or(Reason::Tag)?, sound?);
        let mut params = setup.local.encode();
        crate::params::append(&mut params, TAG_VERDICT, &[opened.verdict.code()]);
        let root = Root::new(setup.crypto, &opened.secret);
        let by = By::Published { root, identity: PeerIdentity::Anonymous, verdict: Some(opened.verdict) };
        let exchange = Exchange::with(setup.crypto, key, Side::Server, nonce, params, by).named(opening);
        Ok(Self::new(Flight::new(setup.crypto, ends, guard), Engine::Installed(exchange.into()), setup))
    }

    /// Whether its early requests come by a published ticket: from anybody.
    #[must_use]
    pub const fn is_by_ticket(&self) -> bool {
        self.machine.by_ticket()
    }

    fn new(flight: Flight, engine: Engine, setup: &Setup) -> Self {
        let (local, client) = (setup.local.session, flight.remote());
        Self { machine: Machine::new(flight, engine, setup.now + setup.lifetime), local, client }
    }

    /// The client's name for the session: with its address, what its packets are found by until they carry ours.
    #[must_use]
    pub const fn client(&self) -> SessionId {
        self.client
    }

    /// Takes a HANDSHAKE packet that came from the address of the first, in a datagram of `datagram_len` bytes.
    ///
    /// # Errors
    /// Why there is no session, once; then it only repeats its alert until it [is over](Self::is_over).
    pub fn handle(
        &mut self,
        now: Instant,
        packet: &HandshakePacket<'_>,
        datagram_len: usize,
    ) -> Result<Progress, Error> {
        self.machine.handle(now, packet, datagram_len)
    }

    /// The next request that came with the client's first flight. Its ticket has been taken out of memory by then, so no
    /// copy of the flight brings it again; who sent it is proven only later. [P-6.9]
    pub fn early(&mut self) -> Option<Vec<u8>> {
        self.machine.message()
    }

    /// Whether an early response can go.
    #[must_use]
    pub fn takes_early(&self) -> bool {
        self.machine.takes_message()
    }

    /// Sends an early response, behind our flight and under keys that fresh randomness of ours is in. Only after
    /// [`Self::takes_early`].
    pub fn send_early(&mut self, message: Vec<u8>) {
        self.machine.send_message(message);
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

    /// A valid sealed packet of the client came after ours: it knows that this side is done.
    pub fn confirmed(&mut self) {
        self.machine.confirmed();
    }

    /// Gives up, and tells the client.
    pub fn cancel(&mut self, now: Instant) {
        self.machine.cancel(now);
    }

    /// Bytes of the other side's that it holds: at most [`crate::limits::BUFFERED_MAX`].
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.machine.buffered()
    }

    /// Whether it can be dropped: nothing more will be sent. (A server that is done may be dropped too, as long as something
    /// sealed is sent in answer to further handshake packets of that session.)
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.machine.is_over()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("session", &self.local).field("client", &self.client).finish_non_exhaustive()
    }
}

/// Checks a first packet before anything is made of it.
fn ends(
    first: &HandshakePacket<'_>,
    method: Method,
    guard: &Guard,
    validated: bool,
    setup: &Setup,
) -> Result<Ends, Reason> {
    let ends = unchecked_ends(first, method, validated, setup)?;
    guard.open(setup.crypto, first).ok_or(Reason::Tag)?;
    Ok(ends)
}

fn unchecked_ends(first: &HandshakePacket<'_>, method: Method, validated: bool, setup: &Setup) -> Result<Ends, Reason> {
    if first.fields.method != method {
        return Err(Reason::Method);
    }
    offer(first).ok_or(Reason::Session)?;
    Ok(Ends {
        side: Side::Server,
        method,
        local: setup.local.session,
        remote: first.fields.sender,
        datagram_max: setup.datagram_max,
        validated,
    })
}
