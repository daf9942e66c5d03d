//! Owns the socket: bind, call, send, recv, reply, close. Everything here is a few lines around one call of the endpoint.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use endpoint::endpoint::{Sending, To};
use endpoint::events::Event;
use endpoint::pool::Payload;
use endpoint::session::CallId;
use proto::time::Instant;
use record::keys::Secret;
use udp::caps::Caps;
use udp::poll::Set;
use wire::trailer::Kind;

use crate::config::{CallOptions, Credentials, Role, datagram_bytes};
use crate::driver::{Core, Leader, Outcome};
use crate::error::Error;
use crate::handles::{Batch, Readiness};
use crate::info::Info;
use crate::link::Link;
use crate::message::{Body, Peer, PeerInfo, RpcId};
use crate::stream::{CallStream, MessageStream};
use crate::waiting::Shared;

/// One socket talks to any number of peers, as client and server at once. All of its methods take `&self`: share it
/// between threads by reference or in an `Arc`.
///
#[cfg_attr(feature = "aws-lc", doc = "```no_run")]
#[cfg_attr(not(feature = "aws-lc"), doc = "```ignore")]
/// use sealane::{Clients, Delivery, Identity, Socket, Trust};
/// # fn main() -> Result<(), sealane::Error> {
/// let server = Socket::builder()
///     .trust(Trust::pem_file("ca.pem")?)
///     .identity(Identity::pem_files("server.pem", "server.key")?)
///     .serve(Clients::Authenticated)
///     .bind("127.0.0.1:7000")?;
/// while let Delivery::Request(request) = server.recv()? {
///     server.reply(request.token, request.payload)?;
/// }
/// # Ok(()) }
/// ```
pub struct Socket {
    pub(crate) shared: Arc<Shared>,
    mtu: Option<u32>,
    link: Mutex<Link>,
    caps: Caps,
    #[cfg_attr(not(feature = "aws-lc"), expect(dead_code, reason = "only TLS has credentials"))]
    pub(crate) credentials: Mutex<Credentials>,
    /// The shards but the first.
    pub(crate) others: Vec<Self>,
    /// Rings for all of them.
    pub(crate) union: OnceLock<Arc<Set>>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({})", self.shared.local)
    }
}

/// How long `close` waits for what is under way.
const LINGER: Duration = Duration::from_secs(1);

impl Socket {
    pub(crate) fn over(shared: Arc<Shared>, others: Vec<Self>, mtu: Option<u32>, link: Link, caps: Caps) -> Self {
        let (link, credentials) = (Mutex::new(link), Mutex::default());
        let socket = Self { shared, mtu, link, caps, credentials, others, union: OnceLock::new() };
        if !socket.shared.local.ip().is_unspecified() {
            socket.leaves_from(socket.shared.local);
        }
        socket
    }

    /// Where it is bound, with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local
    }

    // ---- Peers ----

    /// A peer at `address` whose certificate must say `name` (a DNS name or an IP address). Nothing is sent yet: the first
    /// message makes the session.
    ///
    /// # Errors
    /// [`Error::Address`] when `address` does not resolve.
    pub fn peer(&self, address: impl ToSocketAddrs + fmt::Debug, name: &str) -> Result<Peer, Error> {
        let failed = |source| Error::Address { address: format!("{address:?}"), source: Arc::new(source) };
        let nowhere = || failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, "the name has no address"));
        let address = address.to_socket_addrs().map_err(failed)?.next().ok_or_else(nowhere)?;
        let datagram = self.datagram_max(address);
        // Its number is the same in all shards: they are told in one order.
        let mut core = self.shared.lock();
        let target = core.endpoint.target(address, name, datagram);
        self.others(|shard| _ = shard.shared.lock().endpoint.target(address, name, datagram));
        Ok(Peer { to: To::Target(target), address })
    }

    fn datagram_max(&self, address: SocketAddr) -> usize {
        let asks = self.mtu.is_none() || self.link().is_sought();
        let route = if asks { udp::caps::route(address).ok() } else { None };
        if let Some(route) = route.filter(|route| !route.to_self) {
            self.leaves_from(route.local);
        }
        // A route that cannot be asked for is assumed to carry what every IPv6 path must.
        let mtu = self.mtu.or(route.map(|route| route.mtu)).unwrap_or(1280);
        datagram_bytes(mtu, address)
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Datagrams leave from this address of ours: its interface may state a rate.
    fn leaves_from(&self, local: SocketAddr) {
        let mut link = self.link();
        if let Some(rate) = link.note(local) {
            // With the link still locked: of two rates that are found at once, the higher one stays.
            self.shared.lock().endpoint.set_link_rate(Some(rate));
            self.others(|shard| shard.shared.lock().endpoint.set_link_rate(Some(rate)));
        }
    }

    /// Installs a secret that both ends agreed on elsewhere, as kTLS takes keys after a handshake elsewhere. Both ends mix
    /// fresh randomness into every key, so installing the same secret again never repeats one. `label` is what the peer is
    /// called in identities.
    ///
    /// The client's end gets a peer to send to; the server's answers whoever proves to have the secret.
    pub fn install_session(&self, address: SocketAddr, role: Role, secret: [u8; 32], label: &str) -> Option<Peer> {
        let side = role.side();
        let datagram = self.datagram_max(address);
        let secret = Secret::new(secret);
        let mut core = self.shared.lock();
        let target = core.endpoint.install(address, side, &secret, label, datagram);
        self.others(|shard| _ = shard.shared.lock().endpoint.install(address, side, &secret, label, datagram));
        let target = target?;
        Some(Peer { to: To::Target(target), address })
    }

    // ---- Calls ----

    /// Sends a request and waits for its response.
    ///
    /// # Errors
    /// Why there is none; [`Error::may_have_run`] says whether the peer may have executed the request.
    pub fn call<'a>(&self, peer: &Peer, body: impl Into<Body<'a>>) -> Result<Payload, Error> {
        self.call_with(peer, body, CallOptions::new())
    }

    /// [`Self::call`] with options.
    ///
    /// # Errors
    /// As [`Self::call`]; [`Error::Deadline`] when the deadline passed.
    pub fn call_with<'a>(
        &self,
        peer: &Peer,
        body: impl Into<Body<'a>>,
        options: CallOptions,
    ) -> Result<Payload, Error> {
        let body = body.into();
        let _span = tracing::debug_span!("call", to = %peer.address, bytes = body.len()).entered();
        let id = self.submit(peer, body, Kind::Request, 0, true, options, false)?;
        self.outcome(id)
    }

    /// Sends a request and gives its response as a stream, from its first bytes on.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn call_stream<'a>(&self, peer: &Peer, body: impl Into<Body<'a>>) -> Result<CallStream, Error> {
        let id = self.submit(peer, body.into(), Kind::Request, 0, true, CallOptions::new(), true)?;
        match self.settled(id)? {
            Outcome::Payload(payload) => Ok(CallStream::Whole(payload)),
            Outcome::Stream { from, length } => {
                let peer = PeerInfo(from);
                Ok(CallStream::Stream(MessageStream::new(
                    Arc::clone(&self.of(id).shared),
                    id,
                    peer,
                    Kind::Response,
                    0,
                    length,
                )))
            }
            Outcome::Arrived => Err(Error::UnknownCall(RpcId(id).to_string())),
            Outcome::Failed(error) => Err(error),
        }
    }

    /// Sends a request. Its response comes out of [`Self::recv`], with `cookie`, or of [`Self::wait`].
    ///
    /// Blocks while more than the configured bytes are held for sending; see [`Self::try_send`].
    ///
    /// # Errors
    /// When it is not taken: nothing was sent.
    pub fn send<'a>(&self, peer: &Peer, body: impl Into<Body<'a>>, cookie: u64) -> Result<RpcId, Error> {
        self.submit(peer, body.into(), Kind::Request, cookie, false, CallOptions::new(), false).map(RpcId)
    }

    /// Several messages that are sent at once travel together, which costs far less than one at a time: what is sent or
    /// replied while the returned value lives waits for it to be dropped, but never longer than 25 us.
    pub fn batch(&self) -> Batch<'_> {
        self.here().batch_here()
    }

    pub(crate) fn batch_here(&self) -> Batch<'_> {
        self.shared.lock().corks += 1;
        Batch(&self.shared)
    }

    /// Sends a message that wants no response. It is repeated until its receiver has it; should that fail,
    /// [`Self::recv`] says so. Blocks as [`Self::send`]; see [`Self::try_send_one_way`].
    ///
    /// # Errors
    /// When it is not taken: nothing was sent.
    pub fn send_one_way<'a>(&self, peer: &Peer, body: impl Into<Body<'a>>) -> Result<RpcId, Error> {
        self.submit(peer, body.into(), Kind::OneWay, 0, false, CallOptions::new(), false).map(RpcId)
    }

    /// Sends a message that wants no response, and waits until its receiver has all of it.
    ///
    /// # Errors
    /// Why it did not arrive.
    pub fn tell<'a>(&self, peer: &Peer, body: impl Into<Body<'a>>) -> Result<(), Error> {
        let id = self.submit(peer, body.into(), Kind::OneWay, 0, true, CallOptions::new(), false)?;
        match self.settled(id)? {
            Outcome::Failed(error) => Err(error),
            _ => Ok(()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all that the public forms differ in")]
    pub(crate) fn submit_here(
        &self,
        peer: &Peer,
        body: &mut Body<'_>,
        kind: Kind,
        cookie: u64,
        waited: bool,
        options: CallOptions,
        streamed: bool,
    ) -> Result<CallId, Error> {
        #[cfg(feature = "aws-lc")]
        if options.early {
            self.find_ticket(peer);
        }
        let mut core = self.open_core()?;
        let mut now = core.now();
        let deadline = options.until(now);
        loop {
            core.endpoint.early_next(options.early);
            let sending = sending(kind, cookie, waited, deadline, streamed);
            let taken = self.submit_now(&mut core, now, peer, body, sending);
            core.endpoint.early_next(false);
            match taken {
                Err(Error::WouldBlock { .. }) => {
                    let then = core.endpoint.let_go();
                    drop(core);
                    let left = (deadline != Instant::FAR).then(|| deadline.since(now));
                    if !self.shared.await_room(then, left)? {
                        return Err(Error::unsent_in_time(peer.address));
                    }
                    core = self.open_core()?;
                    now = core.now();
                }
                done => {
                    // Who waits next takes the lead from the helper, and looks at the time itself.
                    if !waited || core.leader != Leader::Helper {
                        self.shared.stir(&mut core);
                    }
                    return done;
                }
            }
        }
    }

    /// What is not taken stays where it is.
    #[inline]
    pub(crate) fn submit_now(
        &self,
        core: &mut Core,
        now: Instant,
        peer: &Peer,
        body: &mut Body<'_>,
        sending: Sending,
    ) -> Result<CallId, Error> {
        let mut out = endpoint::pool::Body::default();
        core.take_in(body, &mut out)?;
        let waited = sending.waited;
        let id = core.endpoint.send_of(now, peer.to, &mut out, sending).map_err(|why| {
            *body = out.into();
            core.refused(why)
        })?;
        if waited {
            core.flush_at(now)
        } else {
            core.flush_soon(now, false)
        }
        Ok(id)
    }

    pub(crate) fn outcome(&self, id: CallId) -> Result<Payload, Error> {
        self.whole(id, self.settled(id)?)
    }

    fn whole(&self, id: CallId, outcome: Outcome) -> Result<Payload, Error> {
        match outcome {
            Outcome::Payload(payload) => Ok(payload),
            Outcome::Arrived => Ok(Payload::empty()),
            Outcome::Failed(error) => Err(error),
            // Only who asked for a stream is given one; a response that became one is read to its end.
            Outcome::Stream { from, length } => {
                let peer = PeerInfo(from);
                let mut stream =
                    MessageStream::new(Arc::clone(&self.of(id).shared), id, peer, Kind::Response, 0, length);
                let mut whole = vec![0; length];
                let mut at = 0;
                while at < length {
                    at += stream.read_some(&mut whole[at..])?;
                }
                Ok(whole.into())
            }
        }
    }

    fn settled(&self, id: CallId) -> Result<Outcome, Error> {
        /// Tells the peer when the caller is gone before the response is there: unwound by a panic, for instance.
        struct Unfinished<'a>(&'a Socket, CallId, bool);
        impl Drop for Unfinished<'_> {
            fn drop(&mut self) {
                if self.2 {
                    self.0.abort(RpcId(self.1));
                }
            }
        }
        let mut guard = Unfinished(self, id, true);
        let outcome = self.of(id).shared.wait_for(None, |core| core.outcomes.take(id)).map_err(|_| self.shared.ended());
        guard.2 = false;
        outcome
    }

    /// Waits for the response to one request that was sent with [`Self::send`], and takes it out of what `recv` gives.
    ///
    /// # Errors
    /// Why there is none; [`Error::UnknownCall`] when no such call is open.
    pub fn wait(&self, id: RpcId) -> Result<Payload, Error> {
        let found = self.of(id.0).shared.wait_for(None, |core| {
            let is_it = |event: &Event| match event {
                Event::Response { id: i, .. } | Event::Failed { id: i, .. } | Event::Stream { id: i, .. } => *i == id.0,
                _ => false,
            };
            match core.inbox().take(is_it) {
                Some(Event::Response { payload, .. }) => Some(Ok(Outcome::Payload(payload))),
                Some(Event::Stream { from, length, .. }) => Some(Ok(Outcome::Stream { from, length })),
                Some(Event::Failed { why, may_have_run, address, .. }) => {
                    Some(Err(Error::ended(*address, why, may_have_run)))
                }
                Some(_) => None,
                None if core.endpoint.is_open(id.0) => None,
                None => Some(Err(Error::UnknownCall(id.to_string()))),
            }
        });
        self.whole(id.0, found.map_err(|_| self.shared.ended())??)
    }

    /// The caller no longer wants the call: the peer is told, and nothing more comes of it. `false` when it had ended.
    pub fn abort(&self, id: RpcId) -> bool {
        let mut core = self.of(id.0).shared.lock();
        let aborted = core.endpoint.abort(id.0);
        core.outcomes.take(id.0);
        core.call_wakers.remove(&id.0);
        core.flush();
        aborted
    }

    // ---- The socket itself ----

    /// A descriptor for an event loop of the application's own: readable when [`Self::try_recv_many`] or [`Self::try_recv`] should be. It covers
    /// the network, timers and what other threads filed; and room to send, once something was refused for want of it: what did not
    /// fit is to be tried again whenever `try_recv` has given all there is.
    ///
    /// # Errors
    /// [`Error::System`] when the system has no descriptors left.
    pub fn readiness(&self) -> Result<Readiness, Error> {
        Ok(Readiness(self.union()?))
    }

    /// What the socket does now, and what it has counted.
    pub fn info(&self) -> Info {
        let mut info = self.info_here();
        self.add_info(&mut info);
        info
    }

    pub(crate) fn info_here(&self) -> Info {
        let link_rate = self.link().rate.clone();
        let mut core = self.shared.lock();
        core.endpoint.tidy();
        core.file();
        let holdings = core.endpoint.holdings();
        Info {
            local_addr: self.shared.local,
            link_rate,
            caps: self.caps.clone(),
            engine: core.endpoint.config().crypto.name(),
            offload: core.offload.clone(),
            held_bytes: holdings.held_bytes,
            buffered_bytes: holdings.machine.buffered_bytes,
            incoming_bytes: holdings.machine.incoming_bytes,
            waiting: holdings.machine.waiting,
            rpcs: core.endpoint.calls(),
            sessions: core.endpoint.sessions(),
            sessions_resting: holdings.resting,
            counters: *core.endpoint.counters(),
            oversized: core.oversized,
            unsent: core.unsent,
            segments_sent: core.segments.0,
            segments_received: core.segments.1,
            sent_bytes: core.sent_bytes,
        }
    }

    /// Waits up to a second for what is under way, asking for the acknowledgements that are missing, tells all peers, and ends every call of
    /// the socket.
    ///
    /// # Errors
    /// [`Error::Closed`] when it was closed before.
    pub fn close(&self) -> Result<(), Error> {
        drop(self.open_core()?);
        // Whatever is still under way then is ended by the peers being told.
        let end = self.shared.lock().now() + LINGER;
        self.all().for_each(Self::ask_for_acks);
        for shard in self.all() {
            let left = end.since(shard.shared.lock().now());
            let _ = shard.shared.wait_for(Some(left), |core| (!core.endpoint.is_busy()).then_some(()));
        }
        self.hang_up();
        Ok(())
    }

    /// Nobody else is to be waited for than who has not answered yet.
    pub(crate) fn ask_for_acks(&self) {
        let mut core = self.shared.lock();
        core.endpoint.ask_for_acks();
        core.flush();
    }

    pub(crate) fn hang_up(&self) {
        let mut core = self.shared.lock();
        for session in core.endpoint.open_sessions() {
            core.endpoint.close_session(session);
        }
        core.flush();
        core.file();
        drop(core);
        self.shared.shut();
        self.others(Self::hang_up);
    }

    pub(crate) fn open_core(&self) -> Result<MutexGuard<'_, Core>, Error> {
        // Before the lock: whoever holds it may be a thread that a forked child does not have.
        if self.shared.is_forked() {
            return Err(Error::Forked);
        }
        let core = self.shared.lock();
        if core.closed { Err(Error::Closed) } else { Ok(core) }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The parent's peers are to hear nothing of its child, which has no helper either.
        if self.shared.is_forked() {
            return;
        }
        if !self.shared.lock().closed {
            self.hang_up();
        }
        // The port is free when this returns.
        self.shared.join_helper();
    }
}

pub(crate) const fn sending(kind: Kind, cookie: u64, waited: bool, deadline: Instant, streamed: bool) -> Sending {
    Sending { kind, cookie, waited, deadline, streamed }
}
