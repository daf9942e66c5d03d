//! Owns what a socket with several shards does beyond one with one: which shard a call goes to, and what concerns all of them.
//!
//! Each shard is a socket of its own inside, with a lock, a driver and a helper; they share the port. A message never takes the lock of
//! another shard. The first one opens sessions for all.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use endpoint::endpoint::To;
use endpoint::pool::Payload;
use endpoint::session::CallId;
use proto::time::Instant;
use udp::poll::Set;
use wire::trailer::Kind;

use crate::config::{CallOptions, Wait};
use crate::delivery::Delivery;
use crate::error::Error;
use crate::handles::Batch;
use crate::info::Info;
use crate::message::{Body, Peer, ReplyToken, RpcId};
use crate::socket::Socket;
use crate::waiting::WaitEnd;

/// How long a shard waits at a time for word of a session that the first one opened.
const WORD: Duration = Duration::from_millis(10);

/// A number for each thread that uses sockets: the shard that it works with.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

impl Socket {
    /// How many shards it has: see [`crate::Builder::shards`].
    pub fn shard_count(&self) -> usize {
        1 + self.others.len()
    }

    /// One shard, from 0, for the thread that owns it: what is called here never waits for another shard's lock, and `recv` gives what
    /// came to this one only. `None` when there are fewer.
    pub fn shard(&self, number: usize) -> Option<Shard<'_>> {
        let this = if number == 0 { Some(self) } else { self.others.get(number - 1) };
        this.map(|this| Shard { whole: self, this, number })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.others)
    }

    /// The shard of the calling thread.
    #[inline]
    pub(crate) fn here(&self) -> &Self {
        if self.others.is_empty() { self } else { self.here_of_several() }
    }

    fn here_of_several(&self) -> &Self {
        match thread_number() % self.shard_count() {
            0 => self,
            number => &self.others[number - 1],
        }
    }

    /// The shard that has a call.
    #[inline]
    pub(crate) fn of(&self, id: CallId) -> &Self {
        if self.others.is_empty() { self } else { self.owner(id.session.shard()) }
    }

    pub(crate) fn owner(&self, number: u8) -> &Self {
        usize::from(number).checked_sub(1).and_then(|at| self.others.get(at)).unwrap_or(self)
    }

    /// The shard that sends to `peer`: that of a session's lane, or the calling thread's. What may go in a first flight is the first
    /// shard's, which has the handshake.
    pub(crate) fn sender(&self, peer: &Peer, early: bool) -> &Self {
        match peer.to {
            To::Session(id) if id.is_lane() => self.owner(id.shard()),
            To::Session(_) => self,
            To::Target(_) if early => self,
            To::Target(_) => self.here(),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all that the public forms differ in")]
    pub(crate) fn submit(
        &self,
        peer: &Peer,
        mut body: Body<'_>,
        kind: Kind,
        cookie: u64,
        waited: bool,
        options: CallOptions,
        streamed: bool,
    ) -> Result<CallId, Error> {
        if self.others.is_empty() {
            return self.submit_here(peer, &mut body, kind, cookie, waited, options, streamed);
        }
        let this = self.sender(peer, options.is_early());
        self.submit_at(this, peer, &mut body, kind, cookie, waited, options, streamed)
    }

    #[expect(clippy::too_many_arguments, reason = "all that the public forms differ in")]
    pub(crate) fn submit_at(
        &self,
        this: &Self,
        peer: &Peer,
        body: &mut Body<'_>,
        kind: Kind,
        cookie: u64,
        waited: bool,
        options: CallOptions,
        streamed: bool,
    ) -> Result<CallId, Error> {
        let (mut left, mut deadline) = (options, None);
        loop {
            match this.submit_here(peer, body, kind, cookie, waited, left, streamed) {
                Err(Error::Connecting) => {}
                done => return done,
            }
            // The wait for a session is a part of the call. By the first shard's clock: each has its own.
            let now = || self.shared.lock().now();
            let until = *deadline.get_or_insert_with(|| options.until(now()));
            self.open_for(this, peer, until)?;
            if until != Instant::FAR {
                let rest = until.since(now());
                if rest.is_zero() {
                    return Err(Error::unsent_in_time(peer.address));
                }
                left = options.deadline(rest);
            }
        }
    }

    /// Completes the handshake with `peer` now instead of with the first message.
    ///
    /// # Errors
    /// [`Error::Handshake`], saying which check failed.
    pub fn connect(&self, peer: &Peer) -> Result<(), Error> {
        self.connect_until(peer, Instant::FAR)
    }

    fn connect_until(&self, peer: &Peer, deadline: Instant) -> Result<(), Error> {
        let To::Target(target) = peer.to else { return Ok(()) };
        let _span = tracing::debug_span!("connect", to = %peer.address).entered();
        let (session, now) = {
            let mut core = self.open_core()?;
            let Some(session) = core.begin_connect(target)? else { return Ok(()) };
            self.shared.stir(&mut core);
            (session, core.now())
        };
        let most = (deadline != Instant::FAR).then(|| deadline.since(now));
        let taken = self.shared.wait_for(most, |core| core.connect_result(session));
        self.shared.lock().leave_connect(session);
        taken.map_err(|end| match end {
            WaitEnd::TimedOut => Error::unsent_in_time(peer.address),
            WaitEnd::Closed => self.shared.ended(),
        })?
    }

    /// A shard has no session with `peer` yet: the first one opens it, if need be, and tells.
    fn open_for(&self, this: &Self, peer: &Peer, deadline: Instant) -> Result<(), Error> {
        let To::Target(target) = peer.to else { return Ok(()) };
        self.connect_until(peer, deadline)?;
        let known = this.shared.wait_for(Some(WORD), |core| core.endpoint.reaches(target).then_some(()));
        // Out of time only means to look again: the session may have ended meanwhile.
        if this.shared.lock().closed && known.is_err() { Err(this.shared.ended()) } else { Ok(()) }
    }

    // ---- What comes ----

    pub(crate) fn is_spread(&self) -> bool {
        !self.others.is_empty()
    }

    /// What comes next to any shard.
    pub(crate) fn recv_any(&self, span: Option<Duration>) -> Result<Option<Delivery>, Error> {
        let now = || self.shared.lock().now();
        let deadline = span.map(|span| now() + span);
        loop {
            if let Some(delivery) = self.try_recv_any()? {
                return Ok(Some(delivery));
            }
            let left = deadline.map(|deadline| deadline.since(now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            if self.shared.wait != Wait::Spin {
                let ready = self.union()?;
                // A failed wait is a short one.
                let _ = ready.wait(left);
            }
        }
    }

    pub(crate) fn try_recv_any(&self) -> Result<Option<Delivery>, Error> {
        let first = self.here();
        let own = first.try_recv_here()?;
        if own.is_some() {
            return Ok(own);
        }
        for this in self.all().filter(|this| !std::ptr::eq(*this, first)) {
            if let Some(delivery) = this.try_recv_here()? {
                return Ok(Some(delivery));
            }
        }
        Ok(None)
    }

    /// A descriptor that covers all shards.
    pub(crate) fn union(&self) -> Result<std::sync::Arc<Set>, Error> {
        if self.others.is_empty() {
            return self.shared.outside();
        }
        for this in self.all() {
            this.shared.outside()?;
        }
        if let Some(set) = self.union.get() {
            return Ok(std::sync::Arc::clone(set));
        }
        let set = Set::new().map_err(Error::system("cannot make an epoll descriptor"))?;
        for this in self.all() {
            set.add(this.shared.outside()?.fd()).map_err(Error::system("cannot watch the socket"))?;
        }
        Ok(std::sync::Arc::clone(self.union.get_or_init(|| std::sync::Arc::new(set))))
    }

    // ---- All shards ----

    /// The same for every other shard.
    pub(crate) fn others(&self, mut act: impl FnMut(&Self)) {
        self.others.iter().for_each(&mut act);
    }

    /// What other shards count and have.
    pub(crate) fn add_info(&self, info: &mut Info) {
        for this in &self.others {
            let other = this.info();
            info.held_bytes += other.held_bytes;
            info.buffered_bytes += other.buffered_bytes;
            info.incoming_bytes += other.incoming_bytes;
            info.waiting += other.waiting;
            info.rpcs.extend(other.rpcs);
            info.sessions.extend(other.sessions);
            info.sessions_resting += other.sessions_resting;
            info.counters = info.counters.plus(&other.counters);
            info.oversized += other.oversized;
            info.unsent += other.unsent;
            info.segments_sent += other.segments_sent;
            info.segments_received += other.segments_received;
            for (ours, theirs) in info.sent_bytes.iter_mut().zip(other.sent_bytes) {
                *ours += theirs;
            }
        }
    }
}

/// One shard of a socket: see [`Socket::shard`].
#[derive(Clone, Copy)]
pub struct Shard<'a> {
    whole: &'a Socket,
    this: &'a Socket,
    number: usize,
}

impl fmt::Debug for Shard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shard({} of {:?})", self.number, self.whole)
    }
}

impl<'a> Shard<'a> {
    /// Its number, from 0.
    pub const fn number(&self) -> usize {
        self.number
    }

    fn submit<'b>(
        &self,
        peer: &Peer,
        body: impl Into<Body<'b>>,
        kind: Kind,
        cookie: u64,
        waited: bool,
        options: CallOptions,
    ) -> Result<CallId, Error> {
        // A message in a lane that another shard has goes there.
        let this = match peer.to {
            To::Session(id) if id.is_lane() => self.whole.owner(id.shard()),
            To::Session(_) | To::Target(_) => self.this,
        };
        self.whole.submit_at(this, peer, &mut body.into(), kind, cookie, waited, options, false)
    }

    /// [`Socket::call`] in this shard. The first call to a peer waits for the handshake in the first shard.
    ///
    /// # Errors
    /// As [`Socket::call`].
    pub fn call<'b>(&self, peer: &Peer, body: impl Into<Body<'b>>) -> Result<Payload, Error> {
        self.call_with(peer, body, CallOptions::new())
    }

    /// [`Socket::call_with`] in this shard; nothing goes in a first flight but from the first.
    ///
    /// # Errors
    /// As [`Socket::call_with`].
    pub fn call_with<'b>(
        &self,
        peer: &Peer,
        body: impl Into<Body<'b>>,
        options: CallOptions,
    ) -> Result<Payload, Error> {
        let id = self.submit(peer, body, Kind::Request, 0, true, options)?;
        self.whole.of(id).outcome(id)
    }

    /// [`Socket::send`] in this shard: the response comes out of its [`Self::recv`]. Blocks while there is no session with `peer`.
    ///
    /// # Errors
    /// As [`Socket::send`].
    pub fn send<'b>(&self, peer: &Peer, body: impl Into<Body<'b>>, cookie: u64) -> Result<RpcId, Error> {
        self.submit(peer, body, Kind::Request, cookie, false, CallOptions::new()).map(RpcId)
    }

    /// [`Socket::try_send`] in this shard.
    ///
    /// # Errors
    /// [`Error::WouldBlock`], or [`Error::Connecting`] while there is no session with `peer`.
    pub fn try_send<'b>(&self, peer: &Peer, body: impl Into<Body<'b>>, cookie: u64) -> Result<RpcId, Error> {
        self.whole.try_send_at(self.this, peer, &mut body.into(), Kind::Request, cookie)
    }

    /// [`Socket::send_one_way`] in this shard.
    ///
    /// # Errors
    /// As [`Socket::send_one_way`].
    pub fn send_one_way<'b>(&self, peer: &Peer, body: impl Into<Body<'b>>) -> Result<RpcId, Error> {
        self.submit(peer, body, Kind::OneWay, 0, false, CallOptions::new()).map(RpcId)
    }

    /// [`Socket::try_send_one_way`] in this shard.
    ///
    /// # Errors
    /// As [`Self::try_send`].
    pub fn try_send_one_way<'b>(&self, peer: &Peer, body: impl Into<Body<'b>>) -> Result<RpcId, Error> {
        self.whole.try_send_at(self.this, peer, &mut body.into(), Kind::OneWay, 0)
    }

    /// [`Socket::batch`] in this shard.
    pub fn batch(&self) -> Batch<'a> {
        self.this.batch_here()
    }

    /// What comes next to this shard, as [`Socket::recv`].
    ///
    /// # Errors
    /// [`Error::Closed`] when the socket was closed.
    pub fn recv(&self) -> Result<Delivery, Error> {
        self.this.recv_here()
    }

    /// [`Self::recv`] that waits at most for `span`; `None` when nothing came.
    ///
    /// # Errors
    /// [`Error::Closed`] when the socket was closed.
    pub fn recv_timeout(&self, span: Duration) -> Result<Option<Delivery>, Error> {
        self.this.recv_timeout_here(span)
    }

    /// [`Self::recv`] that does not wait.
    ///
    /// # Errors
    /// [`Error::Closed`] when the socket was closed.
    pub fn try_recv(&self) -> Result<Option<Delivery>, Error> {
        self.this.try_recv_here()
    }

    /// [`Socket::recv_many`] of what came to this shard.
    ///
    /// # Errors
    /// [`Error::Closed`] when the socket was closed.
    pub fn recv_many(&self, into: &mut VecDeque<Delivery>, most: usize, span: Duration) -> Result<usize, Error> {
        self.this.recv_many_here(into, most, span)
    }

    /// [`Socket::try_recv_many`] of what came to this shard.
    ///
    /// # Errors
    /// [`Error::Closed`] when the socket was closed.
    pub fn try_recv_many(&self, into: &mut VecDeque<Delivery>, most: usize) -> Result<usize, Error> {
        self.this.try_recv_many_here(into, most)
    }

    /// [`Socket::reply`], cheapest where the request came in: here.
    ///
    /// # Errors
    /// As [`Socket::reply`].
    pub fn reply<'b>(&self, token: ReplyToken, body: impl Into<Body<'b>>) -> Result<(), Error> {
        self.whole.reply(token, body)
    }

    /// [`Socket::refuse`].
    ///
    /// # Errors
    /// As [`Socket::refuse`].
    pub fn refuse(&self, token: ReplyToken) -> Result<(), Error> {
        self.whole.refuse(token)
    }

    /// What this shard does and has counted: see [`Socket::info`], which has that of all.
    pub fn info(&self) -> Info {
        self.this.info_here()
    }
}
