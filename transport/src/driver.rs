//! Owns the real world's loop: the UDP socket, the clock, who waits and who polls. Nothing of the protocol is decided here.
//!
//! There is no thread between the application and the network: the caller's thread seals and sends, and a thread that
//! waits for something polls the network itself. Of several that wait, one is the *leader*; it blocks in the kernel and
//! files what arrives, the others sleep until it has something for them. While nobody waits, a helper thread leads, so
//! that grants, acknowledgements and repeats do not stop because the application computes; it takes over when nobody
//! has polled for [`HELPER_NAP_MIN`] to [`HELPER_NAP_MAX`], and steps back at once when somebody does.
#![expect(clippy::disallowed_methods, reason = "the driver is where the clock is read")]

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::{self, Thread};
use std::time::{Duration, Instant as Clock};

use endpoint::egress::Transmit;
use endpoint::endpoint::Endpoint;
use endpoint::pool::{Buffer, Payload};
use endpoint::session::CallId;
use endpoint::state::{Event, Origin};
use proto::time::Instant;
use udp::batch::{Datagrams, SendError};
use udp::poll::{Set, Timer, Wake, wait_readable};
use wire::ids::SessionId;
use wire::trailer::Kind;

use crate::config::Wait;
use crate::error::Error;

/// Shortest time without a poll after which the helper takes over.
const HELPER_NAP_MIN: Duration = Duration::from_micros(50);
/// Longest such time: the nap doubles while the application keeps polling, so that looking costs nothing.
const HELPER_NAP_MAX: Duration = Duration::from_millis(1);
/// Trains that are taken from the kernel before what they caused is sent.
const TRAINS_PER_TURN: usize = 8;
/// How long an adaptive wait spins before it blocks.
const SPIN: Duration = Duration::from_micros(20);
/// What the core's clock says when a socket is made: after zero, which the core reads as "not yet".
pub(crate) const CLOCK_START_NANOS: u64 = 1_000_000_000;
/// How long an answer may wait for those that will follow it at once.
const FLUSH_PAUSE: Duration = Duration::from_micros(5);
/// Empty polls between two looks at the clock while spinning.
const POLLS_PER_LOOK: u32 = 16;

/// The calendar, for judging certificates. A clock before 1970 judges them all "not yet valid", which is safe.
pub(crate) fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What came for the application.
#[derive(Debug)]
pub(crate) enum Item {
    Request { id: CallId, from: Origin, payload: Payload },
    OneWay { id: CallId, from: Origin, payload: Payload },
    Response { id: CallId, from: Origin, cookie: u64, payload: Payload },
    Stream { id: CallId, from: Origin, kind: Kind, length: usize, cookie: u64 },
    Failed { id: CallId, cookie: u64, error: Error },
}

/// What somebody waited for by name.
#[derive(Debug)]
pub(crate) enum Outcome {
    Payload(Payload),
    Stream { from: Origin, length: usize },
    Arrived,
    Failed(Error),
}

/// Who is in the kernel for everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leader {
    Nobody,
    Caller,
    Helper,
    /// An event loop of the application's: it watches the descriptor.
    Outside,
}

/// Everything behind the lock.
pub(crate) struct Core {
    pub(crate) endpoint: Endpoint,
    pub(crate) udp: Box<dyn Datagrams>,
    pub(crate) inbox: VecDeque<Item>,
    pub(crate) outcomes: HashMap<CallId, Outcome>,
    /// Handshakes that somebody waits for: `None` while under way.
    pub(crate) connects: HashMap<SessionId, Option<Result<(), Error>>>,
    pub(crate) call_wakers: HashMap<CallId, Waker>,
    pub(crate) inbox_wakers: VecDeque<Waker>,
    pub(crate) space_wakers: VecDeque<Waker>,
    pub(crate) connect_wakers: HashMap<SessionId, Waker>,
    /// Addresses of calls that are under way, for what errors say.
    pub(crate) oversized: u64,
    /// Datagrams that the kernel refused to send.
    pub(crate) unsent: u64,
    clock: Clock,
    receiving: Option<Buffer>,
    sending: Box<[u8]>,
    /// A train that the kernel did not take: from which byte on.
    stuck: Option<(Transmit, usize)>,
    /// When the last flush was, and whether something was put off since.
    flushed: Instant,
    flush_waits: bool,
    leader: Leader,
    /// Until when the leader sleeps in the kernel, if nothing comes.
    asleep_until: Instant,
    followers: usize,
    helper_parked: bool,
    outside: Option<Outside>,
    pub(crate) closed: bool,
}

/// What an outside event loop watches.
struct Outside {
    set: Arc<Set>,
    timer: Timer,
    ready: Wake,
    armed: Instant,
}

/// What all handles of one socket share.
pub(crate) struct Shared {
    core: Mutex<Core>,
    news: Condvar,
    wake: Wake,
    /// The network's descriptor once more, to wait on without the lock.
    network: OwnedFd,
    polls: AtomicU64,
    stop: AtomicBool,
    helper: Mutex<Option<Thread>>,
    pub(crate) wait: Wait,
    pub(crate) local: SocketAddr,
}

impl Core {
    pub(crate) fn now(&self) -> Instant {
        let nanos = u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX / 2);
        Instant::from_nanos(CLOCK_START_NANOS + nanos)
    }

    /// Takes in what has arrived, fires what is due, sends what may go, files what happened. Whether anything did.
    ///
    /// Stops early once there is something for the application: what else waits in the kernel comes after that.
    pub(crate) fn pump(&mut self, look_at_clock: bool) -> bool {
        let mut arrived = false;
        for _ in 0..TRAINS_PER_TURN {
            let mut buffer = self.receiving.take().unwrap_or_else(|| self.endpoint.buffer());
            let received = self.udp.receive(buffer.bytes());
            let Ok(Some(train)) = received else {
                // An error here is about an earlier datagram of ours (ICMP): it proves nothing, so it changes nothing.
                self.receiving = Some(buffer);
                if received.is_err() {
                    continue;
                }
                break;
            };
            arrived = true;
            self.oversized += u64::from(train.truncated);
            let now = self.now();
            self.receiving = self.endpoint.handle_datagrams(now, train.from, buffer, train.len, train.segment);
            if self.settle_at(now) {
                return true;
            }
        }
        if look_at_clock || self.flush_waits {
            let now = self.now();
            arrived |= self.settle_at(now);
        }
        arrived
    }

    /// What follows every input: timers, then datagrams, then events. Whether there was something for the application.
    fn settle_at(&mut self, now: Instant) -> bool {
        if self.endpoint.timeout().is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now);
        }
        self.flush_at(now);
        self.file()
    }

    /// Sends what may go, unless more of the same will follow at once: the application has not yet seen all that came
    /// with the last train, and what it answers travels together. Nothing waits longer than [`FLUSH_PAUSE`] for company.
    pub(crate) fn flush_soon(&mut self, now: Instant) {
        if self.inbox.is_empty() || now.since(self.flushed) >= FLUSH_PAUSE {
            self.flush_at(now);
        } else {
            self.flush_waits = true;
        }
    }

    /// Sends what may go.
    pub(crate) fn flush(&mut self) {
        let now = self.now();
        self.flush_at(now);
    }

    pub(crate) fn flush_at(&mut self, now: Instant) {
        self.flushed = now;
        self.flush_waits = false;
        if let Some((train, from)) = self.stuck.take()
            && !self.hand_over(train, from)
        {
            return;
        }
        while let Some(train) = self.endpoint.poll_transmit(now, &mut self.sending) {
            if !self.hand_over(train, 0) {
                return;
            }
        }
    }

    /// Gives a train to the kernel. `false` when that has no room: the rest is kept.
    fn hand_over(&mut self, train: Transmit, from: usize) -> bool {
        let bytes = &self.sending[from..train.len];
        let transmit = udp::batch::Transmit { to: train.to, bytes, segment: train.segment, tos: None };
        match self.udp.transmit(&transmit) {
            Ok(()) => true,
            Err(SendError::WouldBlock { sent }) => {
                self.stuck = Some((train, from + sent));
                false
            }
            // Lost, like any datagram; the protocol repeats it, smaller ones if it was too big.
            Err(SendError::TooBig) => {
                self.oversized += 1;
                let route = udp::caps::path_mtu(train.to).unwrap_or(1280);
                self.endpoint
                    .path_shrank(train.to, crate::config::datagram_bytes(route, train.to).min(train.segment - 1));
                true
            }
            Err(SendError::Other(_)) => {
                self.unsent += 1;
                true
            }
        }
    }

    /// Files what happened where its waiters look for it, and wakes those that are not blocked in a call.
    pub(crate) fn file(&mut self) -> bool {
        let mut filed = false;
        while let Some(event) = self.endpoint.poll_event() {
            filed = true;
            match event {
                Event::Request { id, from, payload } => self.deliver(Item::Request { id, from, payload }),
                Event::OneWay { id, from, payload } => self.deliver(Item::OneWay { id, from, payload }),
                Event::Response { id, waited: true, payload, .. } => self.settle(id, Outcome::Payload(payload)),
                Event::Response { id, from, cookie, payload, .. } => {
                    self.deliver(Item::Response { id, from, cookie, payload })
                }
                Event::Stream { id, waited: true, from, length, .. } => {
                    self.settle(id, Outcome::Stream { from, length })
                }
                Event::Stream { id, from, kind, length, cookie, .. } => {
                    self.deliver(Item::Stream { id, from, kind, length, cookie });
                }
                Event::Readable { id } | Event::Cancelled { id } => {
                    if let Some(waker) = self.call_wakers.remove(&id) {
                        waker.wake();
                    }
                }
                Event::Failed { id, cookie, waited, why, may_have_run, address } => {
                    let error = Error::ended(address, why, may_have_run);
                    if waited {
                        self.settle(id, Outcome::Failed(error))
                    } else {
                        self.deliver(Item::Failed { id, cookie, error })
                    }
                }
                Event::Arrived { id, waited, .. } => {
                    if waited {
                        self.settle(id, Outcome::Arrived);
                    }
                }
                Event::Connected { session } => self.connected(session, Ok(())),
                Event::ConnectFailed { session, why, address } => {
                    self.connected(session, Err(Error::Handshake { address, source: why }));
                }
            }
        }
        if !self.space_wakers.is_empty() && self.endpoint.has_space() {
            self.space_wakers.drain(..).for_each(Waker::wake);
        }
        filed
    }

    fn deliver(&mut self, item: Item) {
        self.inbox.push_back(item);
        if let Some(waker) = self.inbox_wakers.pop_front() {
            waker.wake();
        }
        if let Some(outside) = &self.outside {
            outside.ready.wake();
        }
    }

    fn settle(&mut self, id: CallId, outcome: Outcome) {
        self.outcomes.insert(id, outcome);
        if let Some(waker) = self.call_wakers.remove(&id) {
            waker.wake();
        }
    }

    fn connected(&mut self, session: SessionId, result: Result<(), Error>) {
        if let Some(waiting) = self.connects.get_mut(&session) {
            *waiting = Some(result);
            if let Some(waker) = self.connect_wakers.remove(&session) {
                waker.wake();
            }
        }
    }

    /// How long nobody needs to look, at most.
    fn idle_for(&self, now: Instant) -> Option<Duration> {
        let timer = self.endpoint.timeout().map(|at| at.since(now));
        let faults = self.udp.next_due();
        // The kernel had no room: look again soon, whether or not it tells.
        let stuck = self.stuck.as_ref().map(|_| Duration::from_micros(100));
        [timer, faults, stuck].into_iter().flatten().min()
    }

    /// Tells an outside event loop when to come back.
    pub(crate) fn arm_outside(&mut self) {
        let now = self.now();
        let idle = self.idle_for(now);
        let pending = !self.inbox.is_empty();
        if self.flush_waits {
            self.flush_at(now);
        }
        if let Some(outside) = &mut self.outside {
            let at = idle.map_or(Instant::FAR, |idle| now + idle);
            // Only when it must ring earlier, or rang: one timer call per wait would cost more than the wait.
            if at < outside.armed || outside.armed <= now {
                outside.armed = at;
                let _ = outside.timer.arm(idle.map(|idle| idle.max(Duration::from_nanos(1))));
            }
            if !pending {
                outside.ready.drain();
            }
        }
    }

    /// What the descriptor told of was taken note of, whether or not the inbox is empty: a task drives, and tasks are woken.
    #[cfg(feature = "tokio")]
    pub(crate) fn hush_outside(&self) {
        if let Some(outside) = &self.outside {
            outside.ready.drain();
        }
    }

    /// The outside event loop's timer rang, or it was told that something is ready.
    pub(crate) fn attend_outside(&mut self) {
        if let Some(outside) = &mut self.outside
            && outside.timer.drain()
        {
            outside.armed = Instant::FAR;
        }
    }
}

/// Why a wait ended without what it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    TimedOut,
    Closed,
}

impl Shared {
    pub(crate) fn new(
        endpoint: Endpoint,
        udp: Box<dyn Datagrams>,
        wait: Wait,
        helper: bool,
    ) -> Result<Arc<Self>, Error> {
        let local = udp.local_addr();
        let clock = Clock::now();
        let core = Core {
            endpoint,
            udp,
            inbox: VecDeque::new(),
            outcomes: HashMap::new(),
            connects: HashMap::new(),
            call_wakers: HashMap::new(),
            inbox_wakers: VecDeque::new(),
            space_wakers: VecDeque::new(),
            connect_wakers: HashMap::new(),
            oversized: 0,
            unsent: 0,
            clock,
            receiving: None,
            sending: vec![0; 1 << 16].into_boxed_slice(),
            stuck: None,
            flushed: Instant::ZERO,
            flush_waits: false,
            leader: Leader::Nobody,
            asleep_until: Instant::ZERO,
            followers: 0,
            helper_parked: false,
            outside: None,
            closed: false,
        };
        let network = core.udp.fds().try_clone_to_owned().map_err(Error::system("cannot watch the socket"))?;
        let shared = Arc::new(Self {
            core: Mutex::new(core),
            network,
            news: Condvar::new(),
            wake: Wake::new().map_err(Error::system("cannot make an event descriptor"))?,
            polls: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            helper: Mutex::new(None),
            wait,
            local,
        });
        if helper {
            let theirs = Arc::clone(&shared);
            let thread = thread::Builder::new()
                .name("sealane-helper".to_owned())
                .spawn(move || theirs.help())
                .map_err(Error::system("cannot start the helper thread"))?;
            *shared.helper.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread.thread().clone());
        }
        Ok(shared)
    }

    /// The lock. A panic of a thread that held it is that thread's affair: the state is consistent between calls.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody polls: the helper steps back.
    pub(crate) fn attend(&self, core: &mut Core) {
        self.polls.store(self.polls.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        if core.leader == Leader::Helper {
            core.leader = Leader::Nobody;
            self.wake.wake();
        }
    }

    /// A caller leaves: whoever else waits must be able to lead, and the helper must look after the rest.
    pub(crate) fn leave(&self, core: &mut Core) {
        if core.followers > 0 {
            self.news.notify_all();
        }
        if core.helper_parked && core.leader == Leader::Nobody {
            core.helper_parked = false;
            self.unpark_helper();
        }
    }

    fn unpark_helper(&self) {
        if let Some(helper) = &*self.helper.lock().unwrap_or_else(PoisonError::into_inner) {
            helper.unpark();
        }
    }

    /// Waits until `take` gives something, at most for `most`, polling the network meanwhile.
    pub(crate) fn wait_for<T>(
        &self,
        most: Option<Duration>,
        mut take: impl FnMut(&mut Core) -> Option<T>,
    ) -> Result<T, WaitEnd> {
        let deadline = most.map(|most| Clock::now() + most);
        let mut core = self.lock();
        let mut polls = 0u32;
        let mut spin_until = None;
        loop {
            self.attend(&mut core);
            // What was filed already needs no system call, and what has just arrived no look at the clock.
            let looks = self.wait == Wait::Block || polls % POLLS_PER_LOOK == POLLS_PER_LOOK - 1;
            if let Some(found) = take(&mut core).or_else(|| if core.pump(looks) { take(&mut core) } else { None }) {
                self.leave(&mut core);
                return Ok(found);
            }
            if core.closed {
                self.leave(&mut core);
                return Err(WaitEnd::Closed);
            }
            polls = polls.wrapping_add(1);
            let mut spins = self.wait != Wait::Block;
            if looks {
                let now = Clock::now();
                if deadline.is_some_and(|deadline| now >= deadline) {
                    self.leave(&mut core);
                    return Err(WaitEnd::TimedOut);
                }
                if self.wait == Wait::Adaptive {
                    spins = now < *spin_until.get_or_insert(now + SPIN);
                }
            }
            if spins {
                drop(core);
                std::hint::spin_loop();
                core = self.lock();
            } else {
                core = self.block(core, deadline);
                // What the wait was for is looked at with the clock: it may have been a timer.
                polls = POLLS_PER_LOOK - 1;
            }
        }
    }

    /// Blocks until there may be something: as the leader in the kernel, or behind the one who is there.
    fn block<'a>(&'a self, mut core: MutexGuard<'a, Core>, deadline: Option<Clock>) -> MutexGuard<'a, Core> {
        let now = Clock::now();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(now));
        if core.leader == Leader::Caller {
            core.followers += 1;
            let left = left.unwrap_or(Duration::from_secs(3600));
            let (mut core, _) = self.news.wait_timeout(core, left).unwrap_or_else(PoisonError::into_inner);
            core.followers -= 1;
            return core;
        }
        if core.followers > 0 {
            // Something was filed just now that others may be waiting for.
            self.news.notify_all();
        }
        let outside = core.leader == Leader::Outside;
        core.leader = Leader::Caller;
        let mut core = self.in_kernel(core, left);
        core.leader = if outside { Leader::Outside } else { Leader::Nobody };
        core
    }

    /// Waits in the kernel, without the lock, until a datagram, a timer or a wake-up is there.
    fn in_kernel<'a>(&'a self, mut core: MutexGuard<'a, Core>, left: Option<Duration>) -> MutexGuard<'a, Core> {
        let now = core.now();
        let timeout = [core.idle_for(now), left].into_iter().flatten().min();
        core.asleep_until = timeout.map_or(Instant::FAR, |timeout| now + timeout);
        drop(core);
        // A failed wait is a short one: the caller looks again in any case.
        if wait_readable(&[self.network.as_fd(), self.wake.fd()], timeout).is_ok_and(|ready| ready.has(1)) {
            self.wake.drain();
        }
        self.lock()
    }

    /// Tells whoever is in the kernel that there is something new to wait for: an earlier timer, or something filed.
    pub(crate) fn stir(&self, core: &mut Core) {
        if matches!(core.leader, Leader::Caller | Leader::Helper)
            && core.endpoint.timeout().is_some_and(|at| at < core.asleep_until)
        {
            core.asleep_until = Instant::ZERO;
            self.wake.wake();
        }
        core.arm_outside();
    }

    /// The helper thread.
    fn help(&self) {
        let mut nap = HELPER_NAP_MIN;
        let mut polls = self.polls.load(Ordering::Relaxed);
        let mut quiet = 0;
        while !self.stop.load(Ordering::Acquire) {
            thread::park_timeout(nap);
            let now = self.polls.load(Ordering::Relaxed);
            if now != polls {
                polls = now;
                quiet = 0;
                nap = (nap * 2).min(HELPER_NAP_MAX);
                continue;
            }
            let mut core = self.lock();
            match core.leader {
                // Somebody is in the kernel already and does all there is to do.
                Leader::Caller | Leader::Outside => {
                    quiet += 1;
                    nap = HELPER_NAP_MAX;
                    if core.leader == Leader::Outside {
                        core.pump(true);
                        core.arm_outside();
                    } else if quiet > 2 {
                        core.helper_parked = true;
                        drop(core);
                        thread::park();
                        nap = HELPER_NAP_MIN;
                    }
                }
                Leader::Nobody | Leader::Helper => {
                    core.leader = Leader::Helper;
                    while core.leader == Leader::Helper && !self.stop.load(Ordering::Acquire) {
                        core.pump(true);
                        if core.followers > 0 {
                            self.news.notify_all();
                        }
                        core = self.in_kernel(core, None);
                    }
                    nap = HELPER_NAP_MIN;
                }
            }
        }
    }

    /// An outside event loop takes over: the descriptor that it watches.
    pub(crate) fn outside(&self) -> Result<Arc<Set>, Error> {
        let mut core = self.lock();
        if core.outside.is_none() {
            let set = Set::new().map_err(Error::system("cannot make an epoll descriptor"))?;
            let timer = Timer::new().map_err(Error::system("cannot make a timer descriptor"))?;
            let ready = Wake::new().map_err(Error::system("cannot make an event descriptor"))?;
            let added = set.add(core.udp.fds()).and_then(|()| set.add(timer.fd())).and_then(|()| set.add(ready.fd()));
            added.map_err(Error::system("cannot watch the socket"))?;
            if !core.inbox.is_empty() {
                ready.wake();
            }
            core.outside = Some(Outside { set: Arc::new(set), timer, ready, armed: Instant::FAR });
        }
        self.attend(&mut core);
        core.leader = Leader::Outside;
        core.arm_outside();
        Ok(Arc::clone(&core.outside.as_ref().expect("it was just made").set))
    }

    /// Ends everything that runs on behalf of the socket.
    pub(crate) fn shut(&self) {
        let mut core = self.lock();
        core.closed = true;
        core.inbox_wakers.drain(..).for_each(Waker::wake);
        core.space_wakers.drain(..).for_each(Waker::wake);
        core.call_wakers.drain().for_each(|(_, waker)| waker.wake());
        core.connect_wakers.drain().for_each(|(_, waker)| waker.wake());
        drop(core);
        self.stop.store(true, Ordering::Release);
        self.wake.wake();
        self.news.notify_all();
        self.unpark_helper();
    }
}
