//! Owns the real world's loop: the UDP socket, the clock, and where what arrives is filed. Nothing of the protocol is
//! decided here; who runs the loop, and when, is `waiting`'s.
#![expect(clippy::disallowed_methods, reason = "the driver is where the clock is read")]

mod company;
mod leaving;
mod outcomes;
pub(crate) mod outside;
pub(crate) mod tap;

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::task::Waker;
use std::time::Duration;

use endpoint::block::Block;
use endpoint::egress::Transmit;
use endpoint::endpoint::Endpoint;
use endpoint::error::Misuse;
use endpoint::events::{Event, Inbox};
use endpoint::evidence::Work;
use endpoint::pool::{self, Buffer, Payload};
use endpoint::session::{CallId, Origin};
use proto::time::Instant;
use rustc_hash::FxHashMap;
use udp::batch::Datagrams;
use udp::clock::Clock;
use wire::ids::SessionId;

use crate::config::PRIORITIES;
use crate::error::Error;
use crate::message::Body;
use crate::neighbours::Neighbours;
use company::Company;
use outcomes::Outcomes;
use outside::Outside;

/// Trains that are taken from the kernel before the application sees what came with them.
const TRAINS_PER_TURN: usize = 32;
/// Bytes that are taken, or sent, before the other direction and the application have their turn: what is long then keeps what is short
/// waiting for one train, not for all that is there of it.
const TURN_BYTES: usize = 48 << 10;
/// What the core's clock says when a socket is made: after zero, which the core reads as "not yet".
pub(crate) const CLOCK_START_NANOS: u64 = 1_000_000_000;
/// The calendar, for judging certificates. A clock before 1970 judges them all "not yet valid", which is safe.
pub(crate) fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What somebody waited for by name.
#[derive(Debug)]
pub(crate) enum Outcome {
    Payload(Payload),
    Stream { from: Arc<Origin>, length: usize },
    Arrived,
    Failed(Error),
}

/// Who is in the kernel for everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leader {
    Nobody,
    Caller,
    Helper,
    /// An event loop of the application's: it watches the descriptor.
    Outside,
}

/// A handshake that somebody waits for.
#[derive(Default)]
pub(crate) struct Connecting {
    waiters: usize,
    result: Option<Result<(), Error>>,
    pub(crate) wakers: Vec<Waker>,
}

/// Everything behind the lock.
pub(crate) struct Core {
    pub(crate) endpoint: Endpoint,
    pub(crate) udp: Box<dyn Datagrams>,
    /// The application takes nothing out of a full inbox, so nothing more is taken from the network.
    pub(crate) held_back: bool,
    pub(crate) outcomes: Outcomes,
    /// Handshakes that somebody waits for.
    pub(crate) connects: HashMap<SessionId, Connecting>,
    pub(crate) call_wakers: FxHashMap<CallId, Waker>,
    pub(crate) inbox_wakers: Vec<Waker>,
    /// How many of what came to the inbox its waiters were told of.
    delivered: u64,
    pub(crate) space_wakers: Vec<Waker>,
    /// Something was refused for want of room when so many messages had been let go, and nobody was told since that there is some.
    short_since: Option<u64>,
    /// Addresses of calls that are under way, for what errors say.
    pub(crate) oversized: u64,
    /// Datagrams that the kernel refused to send.
    pub(crate) unsent: u64,
    /// Segments handed to the kernel, and taken from it.
    pub(crate) segments: (u64, u64),
    /// Bytes handed to the kernel, by priority.
    pub(crate) sent_bytes: [u64; PRIORITIES],
    /// Datagrams carry their priority in the IP header.
    pub(crate) marks: bool,
    /// What came of the wish for a card that seals.
    pub(crate) offload: String,
    /// The other shards of the socket, if it has more than one.
    pub(crate) neighbours: Option<Neighbours>,
    /// All shards of a socket have the same.
    pub(crate) clock: Clock,
    receiving: Option<Buffer>,
    sending: Block,
    /// A train that the kernel did not take: from which byte on.
    stuck: Option<(Transmit, usize)>,
    /// The last look at the network found nothing.
    was_idle: bool,
    /// The last turn ended before all that has come was read.
    unread: bool,
    /// The last turn ended before all that may go was sent.
    unflushed: bool,
    /// What may go and was put off.
    company: Company,
    /// Batches of the application's that are open: see [`crate::Socket::batch`].
    pub(crate) corks: u32,
    pub(crate) leader: Leader,
    /// Waits in a row that ended without a sleep.
    pub(crate) spun: u32,
    /// Until when the leader sleeps in the kernel, if nothing comes.
    pub(crate) asleep_until: Instant,
    /// The leader was told to wake up.
    pub(crate) woken: bool,
    /// It sleeps on one socket, which must stay the only one.
    pub(crate) asleep_alone: bool,
    pub(crate) followers: usize,
    pub(crate) helper_parked: bool,
    pub(crate) outside: Option<Outside>,
    /// Where evidence is made and judged.
    pub(crate) works: Option<mpsc::Sender<Work>>,
    pub(crate) closed: bool,
}

impl Core {
    pub(crate) fn new(mut endpoint: Endpoint, udp: Box<dyn Datagrams>) -> Self {
        endpoint.keep_inbox();
        Self {
            endpoint,
            udp,
            delivered: 0,
            held_back: false,
            outcomes: Outcomes::default(),
            connects: HashMap::new(),
            call_wakers: FxHashMap::default(),
            inbox_wakers: Vec::new(),
            space_wakers: Vec::new(),
            short_since: None,
            oversized: 0,
            unsent: 0,
            segments: (0, 0),
            sent_bytes: [0; PRIORITIES],
            marks: false,
            neighbours: None,
            offload: String::new(),
            clock: Clock::start(),
            receiving: None,
            sending: Block::amid_page(1 << 16),
            stuck: None,
            was_idle: true,
            unread: false,
            unflushed: false,
            company: Company::default(),
            corks: 0,
            leader: Leader::Nobody,
            spun: 0,
            asleep_until: Instant::ZERO,
            woken: false,
            asleep_alone: false,
            followers: 0,
            helper_parked: false,
            outside: None,
            works: None,
            closed: false,
        }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_nanos(CLOCK_START_NANOS + self.clock.nanos())
    }

    /// Takes in what has arrived, fires what is due, sends what may go, files what happened. Whether anything did.
    ///
    /// One train is handed to the application at once, because on an idle path nothing follows it. Where trains follow each
    /// other, as many as are there are taken first: what the application answers then travels together.
    ///
    /// While the inbox is full nothing is taken from the network: what was acknowledged cannot be dropped any more, and an
    /// application that takes nothing must not make us hold ever more. The kernel then drops, and senders try again.
    pub(crate) fn pump(&mut self, look_at_clock: bool) -> bool {
        let mut filed = self.neighbours.is_some() && self.take_news();
        let bytes_max = self.endpoint.config().proto.buffered_bytes_max;
        let mut in_parts = 0;
        self.unread = false;
        for _ in 0..TRAINS_PER_TURN {
            self.held_back = self.inbox().is_full(bytes_max);
            if self.held_back {
                break;
            }
            let mut buffer = self.receiving.take().unwrap_or_else(|| self.endpoint.buffer());
            let received = self.udp.receive(buffer.bytes());
            let Ok(Some(train)) = received else {
                // An error here is about an earlier datagram of ours (ICMP): it proves nothing, so it changes nothing.
                self.receiving = Some(buffer);
                if received.is_err() {
                    continue;
                }
                self.was_idle = true;
                filed |= self.endpoint.tidy();
                filed |= self.file();
                break;
            };
            self.segments.1 += 1;
            self.oversized += u64::from(train.truncated);
            let now = self.now();
            self.receiving = self.endpoint.handle_datagrams(now, train.from, buffer, train.len, train.segment);
            let alone = std::mem::take(&mut self.was_idle);
            let came = self.settle_at(now);
            filed |= came;
            if filed && alone {
                return true;
            }
            // What brings whole messages is answered together. What is a part of one keeps others waiting.
            in_parts += if came { 0 } else { train.len };
            if in_parts >= TURN_BYTES {
                self.unread = true;
                return filed;
            }
        }
        if look_at_clock || self.company.waits() || self.unflushed {
            let now = self.now();
            filed |= self.settle_at(now);
        }
        filed
    }

    /// What other shards told. Whether there was something for the application in it.
    #[cold]
    fn take_news(&mut self) -> bool {
        // What waits there is bounded, as what waits in the kernel is.
        let bytes_max = self.endpoint.config().proto.buffered_bytes_max;
        if self.inbox().is_full(bytes_max) {
            return false;
        }
        let Some(news) = self.neighbours.as_ref().and_then(Neighbours::news) else { return false };
        let now = self.now();
        for note in news {
            self.endpoint.take_note(now, note);
        }
        self.endpoint.tidy();
        self.settle_at(now)
    }

    #[cold]
    fn tell_neighbours(&mut self) {
        while let Some((to, note)) = self.endpoint.poll_note() {
            if let Some(neighbours) = &self.neighbours {
                neighbours.tell(to, note);
            }
        }
    }

    /// What follows every input: timers, then datagrams, then events. Whether there was something for the application.
    fn settle_at(&mut self, now: Instant) -> bool {
        if self.endpoint.timeout().is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now);
        }
        self.send_some(now, TURN_BYTES);
        self.file()
    }

    /// Whether there was more to take or to send when the last turn ended.
    pub(crate) const fn is_midway(&self) -> bool {
        self.unread || self.unflushed
    }

    /// Whether the last look at the network found nothing and nothing is put off: then the next may as well be the sleep itself.
    pub(crate) const fn is_rested(&self) -> bool {
        self.was_idle && !self.company.waits() && !self.is_midway() && !self.held_back && !self.closed
    }

    /// Files what happened where its waiters look for it, and wakes those that are not blocked in a call. Whether there was anything.
    #[inline]
    pub(crate) fn file(&mut self) -> bool {
        let told = self.endpoint.has_told() || self.neighbours.is_some() || self.short_since.is_some();
        let filed = told && self.file_told();
        let came = self.inbox().came();
        if came == self.delivered {
            return filed;
        }
        self.company.came((came - self.delivered) as usize);
        self.delivered = came;
        if !self.inbox_wakers.is_empty() || self.outside.is_some() {
            self.tell_of_inbox();
        }
        true
    }

    /// What is not for the application's inbox.
    #[inline(never)]
    fn file_told(&mut self) -> bool {
        self.hand_out_work();
        if self.neighbours.is_some() {
            self.tell_neighbours();
        }
        let mut filed = false;
        while let Some(event) = self.endpoint.poll_event() {
            filed = true;
            self.take_up(event);
        }
        if self.short_since.is_some_and(|then| then != self.endpoint.let_go()) {
            self.tell_of_room();
        }
        filed
    }

    fn tell_of_inbox(&mut self) {
        // All of them: the first may be of a future that was dropped, and would take the wake-up with it.
        self.inbox_wakers.drain(..).for_each(Waker::wake);
        if let Some(outside) = &mut self.outside {
            outside.ring();
        }
    }

    /// Puts the bytes of a message that is to go out now into `out`, copied if they are borrowed.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    #[inline(always)]
    pub(crate) fn take_in(&mut self, body: &mut Body<'_>, out: &mut pool::Body) -> Result<(), Error> {
        let limit = self.endpoint.config().proto.message_bytes_max as usize;
        if body.len() > limit {
            return Err(Error::TooLong { length: body.len(), limit });
        }
        if let Body::Borrowed(bytes) = body {
            self.endpoint.copy_into(std::mem::take(bytes), out);
            return Ok(());
        }
        *out = match std::mem::take(body) {
            Body::Borrowed(_) => unreachable!("it was not"),
            Body::Owned(payload) => pool::Body::Shared(payload),
            Body::Bytes(bytes) => pool::Body::Copied(bytes),
        };
        Ok(())
    }

    /// The endpoint did not take a message. If it was for want of room, whoever sent it is told when there is some.
    pub(crate) fn refused(&mut self, why: Misuse) -> Error {
        if matches!(why, Misuse::SendBufferFull { .. }) {
            self.short_since.get_or_insert(self.endpoint.let_go());
        }
        why.into()
    }

    #[cold]
    fn tell_of_room(&mut self) {
        self.short_since = None;
        self.space_wakers.drain(..).for_each(Waker::wake);
        if let Some(outside) = &mut self.outside {
            outside.tell_of_room();
        }
    }

    /// What came for the application.
    #[inline]
    pub(crate) const fn inbox(&mut self) -> &mut Inbox {
        self.endpoint.inbox()
    }

    /// What somebody waits for by name, and what the driver does itself.
    fn take_up(&mut self, event: Event) {
        match event {
            Event::Answer { id, payload } => self.settle(id, Outcome::Payload(payload)),
            Event::Stream { id, from, length, .. } => self.settle(id, Outcome::Stream { from, length }),
            Event::Readable { id } | Event::Cancelled { id } => {
                if let Some(waker) = self.call_wakers.remove(&id) {
                    waker.wake();
                }
            }
            Event::Failed { id, why, may_have_run, address, .. } => {
                self.settle(id, Outcome::Failed(Error::ended(*address, why, may_have_run)));
            }
            Event::Arrived { id, waited: true, .. } => self.settle(id, Outcome::Arrived),
            // Nobody waits for it.
            Event::Arrived { .. } => {}
            Event::Connected { session } => {
                tracing::debug!(?session, "open");
                self.connected(session, Ok(()));
            }
            Event::Moved { session, address } => {
                let mtu = udp::caps::path_mtu(address).unwrap_or(1280);
                self.endpoint.path_carries(session, crate::config::datagram_bytes(mtu, address));
            }
            Event::ConnectFailed { session, why, address } => {
                tracing::debug!(?session, %address, %why, "handshake failed");
                self.connected(session, Err(Error::Handshake { address, source: *why }));
            }
            Event::Request { .. } | Event::OneWay { .. } | Event::Response { .. } => {
                unreachable!("that is for the application")
            }
        }
    }

    fn settle(&mut self, id: CallId, outcome: Outcome) {
        self.outcomes.insert(id, outcome);
        // Where threads wait there is none, which is not worth a hash.
        if !self.call_wakers.is_empty()
            && let Some(waker) = self.call_wakers.remove(&id)
        {
            waker.wake();
        }
    }

    fn connected(&mut self, session: SessionId, result: Result<(), Error>) {
        if let Some(waiting) = self.connects.get_mut(&session) {
            waiting.result = Some(result);
            waiting.wakers.drain(..).for_each(Waker::wake);
        }
    }

    /// Begins a handshake with `target`, or joins one: somebody waits for it, and says when it no longer does. `None` when
    /// there is nothing to wait for.
    pub(crate) fn begin_connect(&mut self, target: u32) -> Result<Option<SessionId>, Error> {
        let now = self.now();
        let session = self.endpoint.connect(now, target)?;
        if self.endpoint.is_session_open(session) {
            return Ok(None);
        }
        self.connects.entry(session).or_default().waiters += 1;
        self.flush_at(now);
        Ok(Some(session))
    }

    /// One less waits for that handshake.
    pub(crate) fn leave_connect(&mut self, session: SessionId) {
        if let Some(waiting) = self.connects.get_mut(&session) {
            waiting.waiters -= 1;
            if waiting.waiters == 0 {
                self.connects.remove(&session);
            }
        }
    }

    /// What became of that handshake.
    pub(crate) fn connect_result(&self, session: SessionId) -> Option<Result<(), Error>> {
        self.connects.get(&session)?.result.clone()
    }

    /// How long nobody needs to look, at most.
    pub(crate) fn idle_for(&mut self, now: Instant) -> Option<Duration> {
        if self.is_midway() {
            return Some(Duration::ZERO);
        }
        let timer = self.endpoint.alarm(now).map(|at| at.since(now));
        let faults = self.udp.next_due();
        // The kernel had no room: look again soon, whether or not it tells.
        let stuck = self.stuck.as_ref().map(|_| Duration::from_micros(100));
        [timer, faults, stuck].into_iter().flatten().min()
    }
}
