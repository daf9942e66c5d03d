//! Owns the contract again, for the whole stack: calls and datagrams in; datagrams, events and the next timeout out.
//!
//! After every input the driver drains [`Endpoint::poll_transmit`] and [`Endpoint::poll_event`]; then
//! [`Endpoint::timeout`] says when to call [`Endpoint::handle_timeout`].

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use handshake::cookie::Cookies;
use handshake::installed::InstalledKey;
use proto::heap::IndexHeap;
use proto::io::Failure;
use proto::machine::Machine;
use proto::time::Instant;
use record::keys::Secret;
use wire::control::Frame;
use wire::ids::{SessionId, Side};
use wire::limits::MESSAGE_MAX;
use wire::trailer::Kind;

use crate::chunks::Chunks;
use crate::config::Config;
use crate::counters::Counters;
use crate::egress::Transmit;
use crate::error::Misuse;
use crate::events::{Event, Events, Inbox};
use crate::evidence::Evidence;
use crate::installed::Installed;
use crate::lanes::LaneTable;
use crate::parting::Parting;
use crate::paths::Paths;
use crate::pool::{Body, Buffer, Pool};
use crate::rates::Strangers;
use crate::resting::Rests;
use crate::room::{Room, may_hold};
use crate::session::{CallId, Queued};
use crate::state::{Entropy, State, Target};
use crate::tokens::Tokens;
use crate::trail::{Step, Trail};

/// RPCs that have ended, from which on a send does not put tidying off any longer.
const TIDY_AT: usize = 4;

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum To {
    /// A peer that sessions are opened to when there is none.
    Target(u32),
    /// The other end of an open session, whoever began it.
    Session(SessionId),
}

/// How a message is sent.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    /// Request or one-way.
    pub kind: Kind,
    /// The caller's own number for it.
    pub cookie: u64,
    /// Somebody waits for just this one: its events say so.
    pub waited: bool,
    /// When the caller stops waiting; [`Instant::FAR`] for never.
    pub deadline: Instant,
    /// The response is read as a stream, while it arrives.
    pub streamed: bool,
}

/// An endpoint: all of Sealane but sockets, clock and threads.
#[derive(Debug)]
pub struct Endpoint {
    pub(crate) state: State,
}

impl Endpoint {
    /// An endpoint without sessions. `entropy` is cryptographically secure, except in simulations.
    pub fn new(mut config: Config, mut entropy: Entropy) -> Self {
        config.bar_first_flights();
        let mut key = [0; 16];
        entropy(&mut key);
        let (a, b) = key.split_at(8);
        let half = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let machine = Machine::new(config.proto, (half(a), half(b)));
        let mut secret = [0; 32];
        entropy(&mut secret);
        let cookies = Cookies::new(config.crypto, &Secret::new(secret));
        entropy(&mut secret);
        let tokens = Tokens::new(config.reset_key.clone(), Secret::new(secret));
        entropy(&mut key[..8]);
        let rates = Strangers::new(config.limits, half(&key[..8]));
        // Room for a whole train, however large the kernel makes it.
        let pool = Pool::new(1 << 16, config.kept_buffers_min, config.kept_bytes_max);
        Self {
            state: State {
                trail: Trail::new(config.trail),
                silence_max: config.session_idle / 4 * 3,
                config,
                entropy,
                sessions: Vec::new(),
                rests: Rests::default(),
                sessions_free: Vec::new(),
                sessions_open: 0,
                targets: Chunks::default(),
                accepting: HashMap::new(),
                installed: Installed::default(),
                cookies,
                rates,
                tokens,
                #[cfg(feature = "tls")]
                tickets: crate::tickets::Tickets::default(),
                paths: Paths::default(),
                lanes: LaneTable::default(),
                evidence: Evidence::default(),
                from: SocketAddr::from(([0; 4], 0)),
                strangers: VecDeque::new(),
                parting: Parting::default(),
                machine,
                calls: Vec::new(),
                pool,
                events: Events::default(),
                counters: Counters::default(),
                flights: VecDeque::new(),
                handshake_timers: IndexHeap::default(),
                epoch_timers: IndexHeap::default(),
                epochs_due: Instant::FAR,
                queue_deadline: Instant::FAR,
                idle_look: Instant::FAR,
                notices: VecDeque::new(),
                room: Room::default(),
                early_next: false,
                early_answered: Vec::new(),
                ended: Vec::new(),
                landed: Vec::new(),
                spanned: crate::spanned::Spanned::default(),
                device: None,
            },
        }
    }

    /// The configuration.
    pub const fn config(&self) -> &Config {
        &self.state.config
    }

    /// From now on what is for the application comes to [`Self::inbox`], and not out of [`Self::poll_event`].
    pub const fn keep_inbox(&mut self) {
        self.state.events.is_apart = true;
    }

    /// What came for the application.
    #[inline]
    pub const fn inbox(&mut self) -> &mut Inbox {
        &mut self.state.events.inbox
    }

    // ---- Peers ----

    /// A peer to open sessions to: `name` is what its certificate must say. The same address and name give the same target.
    pub fn target(&mut self, address: SocketAddr, name: &str, datagram_max: usize) -> u32 {
        let same = |t: &Target| t.address == address && *t.name == *name && t.key.is_none();
        let known = self.state.targets.iter().position(same);
        match known {
            Some(at) => at as u32,
            None => {
                let name = self.state.installed.label(name);
                self.add_target(Target { address, name, key: None, datagram_max, session: None })
            }
        }
    }

    fn add_target(&mut self, target: Target) -> u32 {
        self.state.targets.push(target);
        (self.state.targets.len() - 1) as u32
    }

    /// Installs a secret that was agreed on elsewhere. The client's end opens a session with it to `address` at its next
    /// call to the returned target; the server's end answers whoever proves to have it. A secret has one role at each end: the
    /// one that it was installed with last. [P-6.6]
    pub fn install(
        &mut self,
        address: SocketAddr,
        side: Side,
        secret: &Secret,
        label: &str,
        datagram_max: usize,
    ) -> Option<u32> {
        let state = &mut self.state;
        let label = state.installed.label(label);
        let key = InstalledKey::new(state.config.crypto, secret, state.config.cipher, label.clone());
        let id = key.id();
        let at = state.installed.insert(key, side);
        state.tokens.install(address, at);
        // Two secrets for one address are two targets.
        (side == Side::Client)
            .then(|| self.add_target(Target { address, name: label, key: Some(id), datagram_max, session: None }))
    }

    /// The session in use with `target`, opened if there is none.
    ///
    /// # Errors
    /// When no handshake can begin.
    pub fn connect(&mut self, now: Instant, target: u32) -> Result<SessionId, Misuse> {
        let slot = self.session_to(now, target)?;
        Ok(self.state.at(slot).id)
    }

    #[inline]
    fn session_to(&mut self, now: Instant, target: u32) -> Result<u32, Misuse> {
        let state = &mut self.state;
        if state.config.shard.number > 0 {
            return state.lane_to(now, target);
        }
        let to = &state.targets[target as usize];
        if let Some(slot) = to.session {
            let session = state.at(slot);
            // When its keys are old, a session takes no new calls. [P-6.7] Nor when it was silent for so long that the peer may
            // forget it before they arrive: that would only be known after some seconds.
            let (since, heard) = (session.keys.as_ref().map(|keys| keys.since), session.heard);
            let old = since.is_some_and(|since| now.is_past(since, state.config.session_age_max));
            let near_end = since.is_some() && now.is_past(heard, state.silence_max);
            if !old && !near_end {
                return Ok(slot);
            }
            state.retire(slot);
        }
        state.begin_handshake(now, target)
    }

    /// What our link carries, in bits per second; `None` when that is not known any more. Then nothing is held back.
    pub fn set_link_rate(&mut self, bits_per_second: Option<u64>) {
        self.state.config.proto.link_bits_per_second = bits_per_second;
        self.state.machine.set_link_rate(bits_per_second);
    }

    // ---- Messages ----

    /// A copy of `bytes`, to be sent.
    #[inline]
    pub fn copy(&mut self, bytes: &[u8]) -> Body {
        let mut body = Body::default();
        self.copy_into(bytes, &mut body);
        body
    }

    /// The same, made where it is to be.
    #[inline]
    pub fn copy_into(&mut self, bytes: &[u8], body: &mut Body) {
        self.state.pool.body_into(bytes, body);
    }

    /// Sends a request or a one-way message. Its fate comes as an event.
    ///
    /// # Errors
    /// When it is not taken; nothing was sent then.
    pub fn send(&mut self, now: Instant, to: To, body: impl Into<Body>, sending: Sending) -> Result<CallId, Misuse> {
        self.send_of(now, to, &mut body.into(), sending)
    }

    /// The same; what is not taken stays where it is.
    ///
    /// # Errors
    /// As [`Self::send`].
    #[inline(always)]
    pub fn send_of(&mut self, now: Instant, to: To, body: &mut Body, sending: Sending) -> Result<CallId, Misuse> {
        let limit = (self.state.config.proto.message_bytes_max as usize).min(MESSAGE_MAX);
        if body.len() > limit {
            return Err(Misuse::TooLong { length: body.len(), limit });
        }
        if self.state.ended.len() >= TIDY_AT {
            // The floor that this message states should imply the acks for what has ended.
            self.state.tidy();
        }
        self.may_hold(body.len())?;
        let slot = match to {
            To::Target(target) => {
                let slot = self.session_to(now, target)?;
                self.state.lane_from(slot)
            }
            To::Session(id) => {
                self.state.rouse(id);
                match self.state.session(id).filter(|(_, s)| !s.closing && !s.dying) {
                    Some((slot, _)) => slot,
                    None => self.state.lane_in(id).ok_or(Misuse::NoSession)?,
                }
            }
        };
        let state = &mut self.state;
        let length = body.len();
        let session = state.sessions[slot as usize].as_mut().ok_or(Misuse::NoSession)?;
        if session.keys.is_some() && !state.machine.may_begin(slot, session.ids.next_sequence()) {
            // Too far ahead of the oldest call that is still open: the peer would not take it. [P-7.2]
            let (held, limit) = (state.room.held, state.config.send_bytes_max);
            return Err(Misuse::SendBufferFull { held, limit });
        }
        may_hold(session.sending_bytes, length, state.config.peer_send_bytes_max)?;
        let Some(id) = session.ids.take() else {
            state.retire(slot);
            return Err(Misuse::KeysExhausted);
        };
        let name = CallId { session: session.id, rpc: id.message().rpc() };
        let Sending { kind, cookie, waited, deadline, streamed } = sending;
        let body = core::mem::take(body);
        let message = Queued { id, kind, body, cookie, waited, streamed, deadline, aborted: false, early: false };
        let may_send = session.may_send;
        state.room.hold(length);
        state.trail.submitted(now, slot, name.rpc, length as u32, kind == Kind::Request);
        if may_send {
            state.begin(slot, message, now)?;
        } else {
            state.queue_deadline = state.queue_deadline.min(deadline);
            state.sessions[slot as usize].as_mut().ok_or(Misuse::NoSession)?.queued.push_back(message);
            if state.early_next {
                state.offer_early(slot);
            }
        }
        Ok(name)
    }

    pub(crate) fn may_hold(&mut self, bytes: usize) -> Result<(), Misuse> {
        let limit = self.state.config.send_bytes_max;
        if self.state.room.held + bytes as u64 > limit {
            self.state.tidy();
        }
        may_hold(self.state.room.held, bytes, limit)
    }

    /// The caller no longer wants `id`: the peer is told, and no event comes any more. `false` when it has ended already.
    pub fn abort(&mut self, id: CallId) -> bool {
        self.state.tidy();
        let Some((peer, session)) = self.state.session(id.session) else { return false };
        if id.rpc.began() != session.side {
            return false;
        }
        if let Some(slot) = self.state.machine.find(peer, id.rpc) {
            self.state.trail.mark(Step::Failed, peer, id.rpc, 1);
            self.state.machine.cancel(slot);
            self.state.drop_call(slot);
            return true;
        }
        let queued = &mut self.state.at(peer).queued;
        let mut open = queued.iter_mut().filter(|m| !m.aborted);
        let Some(message) = open.find(|m| m.id.message().rpc() == id.rpc) else { return false };
        message.aborted = true;
        let body = core::mem::take(&mut message.body);
        self.state.room.let_go(body.len());
        true
    }

    /// Whether `id` is open: queued, under way, or waiting for a reply.
    pub fn is_open(&self, id: CallId) -> bool {
        let Some((peer, session)) = self.state.session(id.session) else { return false };
        self.state.machine.find(peer, id.rpc).is_some()
            || session.queued.iter().any(|m| m.id.message().rpc() == id.rpc && !m.aborted)
    }

    /// Ends a session; the peer is told. What was under way in it fails.
    pub fn close_session(&mut self, id: SessionId) {
        let Some(id) = self.state.session_to_close(id) else { return };
        self.state.rouse(id);
        if let Some((slot, session)) = self.state.session(id)
            && session.keys.is_some()
            && !session.closing
        {
            self.state.tidy();
            self.state.at(slot).closing = true;
            self.state.machine.close_peer(slot, Failure::SessionClosed);
            self.state.drain_machine();
            self.state.retire(slot);
            self.state.notices.push_back((slot, Frame::Close));
        }
    }

    /// Whether anything of the application is under way: messages queued, going out, coming in, or waiting for an ack.
    pub fn is_busy(&self) -> bool {
        self.state.machine.rpcs_open() > 0 || self.state.room.held > 0
    }

    /// Asks peers to acknowledge at once what they have: [`Self::is_busy`] then ends as soon as they say so.
    pub fn ask_for_acks(&mut self) {
        self.state.machine.ask_for_acks();
    }

    // ---- The contract ----

    /// Does what could wait until there was nothing to receive. Only needed with [`Config::tidies_when_idle`]; there may
    /// be events afterwards. Whether there was anything to do.
    pub fn tidy(&mut self) -> bool {
        self.state.tidy()
    }

    /// A buffer to receive a train of datagrams into.
    pub fn buffer(&mut self) -> Buffer {
        self.state.pool.datagrams()
    }

    /// A train of datagrams came: `len` bytes of `buffer`, every `segment` bytes one datagram. Gives the buffer back unless
    /// delivered messages keep it.
    pub fn handle_datagrams(
        &mut self,
        now: Instant,
        from: SocketAddr,
        buffer: Buffer,
        len: usize,
        segment: usize,
    ) -> Option<Buffer> {
        let left = self.state.receive(now, from, buffer, len, segment);
        self.answer_early(now);
        left
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.state.trail.look(now);
        self.state.machine.handle_timeout(now);
        self.state.tidy();
        self.state.handshake_timeouts(now);
        self.state.attestation_timeouts(now);
        self.state.epoch_timeouts(now);
        self.state.fail_queued(now);
        self.state.forget_idle(now);
        self.state.rest_idle(now);
    }

    /// Writes what goes next into `out`, and says where to; `None` when there is nothing to send now.
    #[inline]
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        if self.state.may_transmit() { self.state.transmit(now, out) } else { None }
    }

    /// Whether there is anything to take from [`Self::poll_event`] or [`Self::poll_work`].
    #[inline]
    pub fn has_told(&self) -> bool {
        !self.state.events.is_empty() || !self.state.evidence.works.is_empty()
    }

    /// What happened next.
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.state.events.pop_front()
    }

    /// The way to `address` takes datagrams of at most `datagram_max` bytes, less than was thought: new messages are cut
    /// accordingly, and those that were cut larger end here, because they can never arrive. (To cut them anew is what
    /// attempts are for, which this version does not send. [P-3.4])
    pub fn path_shrank(&mut self, address: SocketAddr, datagram_max: usize) {
        let datagram_max = datagram_max.max(wire::limits::DATAGRAM_MIN);
        let mut narrowed = Vec::new();
        for (slot, session) in self.state.sessions.iter_mut().enumerate() {
            if let Some(session) = session.as_mut().filter(|s| s.address == address && s.datagram_max > datagram_max) {
                session.datagram_max = datagram_max;
                narrowed.push(slot as u32);
            }
        }
        self.state.narrow_resting(address, datagram_max);
        for slot in 0..self.state.calls.len() as u32 {
            let too_large = self.state.call(slot).and_then(|call| call.out.as_ref()).is_some_and(|message| {
                usize::from(message.geometry().payload()) + wire::limits::PACKET_OVERHEAD > datagram_max
            });
            if too_large && self.state.machine.rpc(slot).is_some_and(|(_, peer, _)| narrowed.contains(&peer)) {
                self.state.machine.undeliverable(slot, Failure::PathShrank);
            }
        }
        self.state.drain_machine();
        for target in self.state.targets.iter_mut().filter(|t| t.address == address) {
            target.datagram_max = target.datagram_max.min(datagram_max);
        }
    }

    /// What the way to the peer of a session carries that moved.
    pub fn path_carries(&mut self, session: SessionId, datagram_max: usize) {
        self.state.path_carries(session, datagram_max);
    }
}
