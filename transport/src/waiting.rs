//! Owns who runs the driver's loop, and when.
//!
//! There is no thread between the application and the network: the caller's thread seals and sends, and a thread that
//! waits for something polls the network itself. Of several that wait, one is the *leader*; it blocks in the kernel and
//! files what arrives, the others sleep until it has something for them. While nobody waits, a helper thread leads, so
//! that grants, acknowledgements and repeats do not stop because the application computes; it takes over when nobody
//! has polled for [`HELPER_NAP`] (callers that spin: [`HELPER_NAP_SPIN`]), while the socket is in use [`HELPER_AWAY`], or up to twice as long. Whoever polls takes the lead from it while it sleeps, see `bell`.
#![expect(clippy::disallowed_methods, reason = "the driver is where the clock is read")]

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::Waker;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant as Clock};

use endpoint::endpoint::Endpoint;
use proto::time::Instant;
use udp::batch::Datagrams;
use udp::fork::Mark;
use udp::poll::{Set, Timer, Wake, wait_readable};

use crate::bell::Bell;
use crate::config::Wait;
use crate::driver::outside::Outside;
use crate::driver::{Core, Leader};
use crate::error::Error;

/// Time without a poll after which the helper takes over. A handshake takes less: it is not disturbed.
const HELPER_NAP: Duration = Duration::from_millis(1);
/// The same where callers spin: they pay a core not to be disturbed.
const HELPER_NAP_SPIN: Duration = Duration::from_millis(20);
/// How soon a helper that was sent away, or found somebody polling, looks again at the soonest. A timer before the scheduler's own next
/// one has to be told to the processor, and where that is virtual to its host: 2 to 8 us instead of less than 1, while a peer on the same
/// processor waits.
const HELPER_AWAY: Duration = Duration::from_millis(4);
/// How long a thread sleeps at a time while the inbox is full.
const HELD_BACK_PAUSE: Duration = Duration::from_millis(1);
/// How long an adaptive wait spins before it blocks.
pub(crate) const SPIN: Duration = Duration::from_micros(20);
/// Empty polls between two looks at the clock while spinning.
const POLLS_PER_LOOK: u32 = 16;
/// Waits in a row that ended without a sleep, after which the descriptor need not ring.
const SPUN_MIN: u32 = 256;
/// How long a thread sleeps at most when the descriptor cannot be made to ring.
const DEAF_PAUSE: Duration = Duration::from_micros(100);
/// How long one who spins stays away from a lock that others want: a few microseconds, which waking a thread takes.
const YIELD_SPINS: u32 = 256;

/// What all handles of one socket share.
pub(crate) struct Shared {
    core: Mutex<Core>,
    /// Threads that wait for the lock: who spins with it lets go.
    wanting: AtomicU32,
    news: Condvar,
    wake: Wake,
    /// The network's descriptor once more, to wait on without the lock. Readable when woken, too, if `joined`.
    network: Set,
    joined: bool,
    /// The one socket behind it, where there is only one at first.
    alone: Option<OwnedFd>,
    polls: AtomicU64,
    stop: AtomicBool,
    helper: Mutex<Option<JoinHandle<()>>>,
    /// What the helper sleeps on.
    bell: Bell,
    pub(crate) wait: Wait,
    pub(crate) local: SocketAddr,
    /// Of the process that has the keys.
    mark: Mark,
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
        let core = Core::new(endpoint, udp);
        let network = core.udp.fds().try_clone_to_owned().map_err(Error::system("cannot watch the socket"))?;
        let wake = Wake::new().map_err(Error::system("cannot make an event descriptor"))?;
        let joined = core.udp.set().is_some_and(|set| set.add(wake.fd()).is_ok());
        let alone = core.udp.alone().map(|fd| fd.try_clone_to_owned()).transpose();
        let alone = alone.map_err(Error::system("cannot watch the socket"))?;
        let shared = Arc::new(Self {
            alone,
            core: Mutex::new(core),
            wanting: AtomicU32::new(0),
            network: network.into(),
            joined,
            news: Condvar::new(),
            wake,
            polls: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            helper: Mutex::new(None),
            bell: Bell::new().map_err(Error::system("cannot make an event descriptor"))?,
            wait,
            local,
            mark: Mark::new(),
        });
        if helper {
            let theirs = Arc::clone(&shared);
            let thread = thread::Builder::new()
                .name("sealane-helper".to_owned())
                .spawn(move || theirs.help())
                .map_err(Error::system("cannot start the helper thread"))?;
            *shared.helper.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        }
        Ok(shared)
    }

    /// The lock. A panic of a thread that held it is that thread's affair: the state is consistent between calls.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Core> {
        match self.core.try_lock() {
            Ok(core) => core,
            Err(TryLockError::Poisoned(core)) => core.into_inner(),
            Err(TryLockError::WouldBlock) => {
                // Who holds it is a thread of the parent, which there is not here: it would be waited for without end.
                assert!(!self.is_forked(), "{}", Error::Forked);
                self.wanting.fetch_add(1, Ordering::Relaxed);
                let core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
                self.wanting.fetch_sub(1, Ordering::Relaxed);
                core
            }
        }
    }

    /// Whether this is a forked child of the process that bound the socket.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.mark.is_forked()
    }

    /// Why nothing can be done with the socket any more.
    pub(crate) fn ended(&self) -> Error {
        if self.is_forked() { Error::Forked } else { Error::Closed }
    }

    /// Lets somebody else have the lock, if anybody wants it: the mutex is not fair, and one who spins would take it again at
    /// once. While nobody does it is kept, because to let go and take it costs a good part of a look at the network.
    fn yield_lock<'a>(&'a self, core: MutexGuard<'a, Core>) -> MutexGuard<'a, Core> {
        if self.wanting.load(Ordering::Relaxed) == 0 {
            return core;
        }
        drop(core);
        for _ in 0..YIELD_SPINS {
            if self.wanting.load(Ordering::Relaxed) == 0 {
                break;
            }
            std::hint::spin_loop();
        }
        self.lock()
    }

    /// Somebody polls: the helper steps back.
    pub(crate) fn attend(&self, core: &mut Core) {
        self.polls.store(self.polls.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        if core.leader == Leader::Helper {
            core.leader = Leader::Nobody;
            // It sleeps on, unless the network cannot be taken from it: then it wakes with the next datagram, and steps back.
            let _ = self.bell.watch(self.network.fd(), false);
            self.bell.ring_in(self.nap().max(HELPER_AWAY));
        }
    }

    const fn nap(&self) -> Duration {
        match self.wait {
            Wait::Spin => HELPER_NAP_SPIN,
            Wait::Block | Wait::Adaptive => HELPER_NAP,
        }
    }

    /// A caller leaves: whoever else waits must be able to lead, and the helper must look after the rest.
    pub(crate) fn leave(&self, core: &mut Core) {
        if core.followers > 0 {
            self.news.notify_all();
        }
        if core.asleep_alone && core.leader == Leader::Caller && core.udp.alone().is_none() {
            // A second socket was made while the leader sleeps on the first.
            core.asleep_alone = false;
            self.wake_leader(core);
        }
        if core.helper_parked && core.leader == Leader::Nobody {
            core.helper_parked = false;
            self.bell.ring_in(self.nap());
        }
    }

    /// Waits until the helper thread, which was told to stop, has let go of everything.
    pub(crate) fn join_helper(&self) {
        let helper = self.helper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(helper) = helper.filter(|helper| helper.thread().id() != thread::current().id()) {
            let _ = helper.join();
        }
    }

    /// Waits until `take` gives something, at most for `most`, polling the network meanwhile.
    pub(crate) fn wait_for<T>(
        &self,
        most: Option<Duration>,
        mut take: impl FnMut(&mut Core) -> Option<T>,
    ) -> Result<T, WaitEnd> {
        if self.is_forked() {
            return Err(WaitEnd::Closed);
        }
        // Counted from the first look at the clock: what is there at once, or soon, needs none.
        let mut deadline = None;
        let mut core = self.lock();
        let mut polls = 0u32;
        let mut spin_until = None;
        loop {
            self.attend(&mut core);
            // Who waits answers nothing meanwhile.
            if core.endpoint.let_flight_go() {
                core.flush();
            }
            // What was filed already needs no system call, and what has just arrived no look at the clock.
            let looks = self.wait == Wait::Block || polls % POLLS_PER_LOOK == POLLS_PER_LOOK - 1;
            // On the same processor who is waited for only runs once this thread sleeps: no look at what cannot be there yet.
            if polls == 0 && self.wait == Wait::Block && core.is_rested() && core.leader != Leader::Caller {
                if let Some(found) = take(&mut core) {
                    self.leave(&mut core);
                    return Ok(found);
                }
                let end = *deadline.get_or_insert_with(|| most.map(|most| Clock::now() + most));
                core = self.block(core, end);
                polls = 1;
                continue;
            }
            if let Some(found) = take(&mut core).or_else(|| if core.pump(looks) { take(&mut core) } else { None }) {
                self.note_spun(&mut core);
                self.leave(&mut core);
                return Ok(found);
            }
            if core.closed {
                self.leave(&mut core);
                return Err(WaitEnd::Closed);
            }
            polls = polls.wrapping_add(1);
            let mut spins = self.wait != Wait::Block || core.is_midway();
            if looks {
                let now = Clock::now();
                let end = *deadline.get_or_insert_with(|| most.map(|most| now + most));
                if end.is_some_and(|end| now >= end) {
                    self.leave(&mut core);
                    return Err(WaitEnd::TimedOut);
                }
                if self.wait == Wait::Adaptive {
                    spins = core.is_midway() || now < *spin_until.get_or_insert(now + SPIN);
                }
            }
            if spins {
                core = self.yield_lock(core);
            } else {
                core = self.block(core, deadline.flatten());
                // What the wait was for is looked at with the clock: it may have been a timer.
                polls = POLLS_PER_LOOK - 1;
            }
        }
    }

    /// Waits until one more message was let go than `then`, or for at most `most`; whether one was. Looks at the network at least once:
    /// acknowledgements may be there.
    pub(crate) fn await_room(&self, then: u64, most: Option<Duration>) -> Result<bool, Error> {
        match self.wait_for(most, |core| (core.endpoint.let_go() != then).then_some(())) {
            Ok(()) => Ok(true),
            Err(WaitEnd::TimedOut) => Ok(false),
            Err(WaitEnd::Closed) => Err(self.ended()),
        }
    }

    /// A wait ended; perhaps without a sleep. Who never sleeps needs no bell.
    fn note_spun(&self, core: &mut Core) {
        core.spun = core.spun.saturating_add(1);
        if core.spun == SPUN_MIN && core.leader == Leader::Nobody && core.outside.is_none() {
            // Should it fail it rings on, which only costs.
            let _ = core.udp.watched(false);
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
        let mut core = self.in_kernel(core, left, false);
        core.leader = if outside { Leader::Outside } else { Leader::Nobody };
        core
    }

    /// Waits in the kernel, without the lock, until a datagram, a timer or a wake-up is there.
    fn in_kernel<'a>(
        &'a self,
        mut core: MutexGuard<'a, Core>,
        left: Option<Duration>,
        helper: bool,
    ) -> MutexGuard<'a, Core> {
        let now = core.now();
        // The network stays readable while nothing is taken from it: then only time and wake-ups count.
        let held_back = core.held_back;
        let pause = held_back.then_some(HELD_BACK_PAUSE);
        core.spun = 0;
        let alone = self.alone.as_ref().filter(|_| !helper && core.udp.alone().is_some());
        // One socket rings by itself.
        let deaf = (alone.is_none() && core.udp.watched(true).is_err()).then_some(DEAF_PAUSE);
        core.asleep_alone = alone.is_some();
        let timeout = [core.idle_for(now), left, pause, deaf].into_iter().flatten().min();
        core.asleep_until = timeout.map_or(Instant::FAR, |timeout| now + timeout);
        drop(core);
        if helper {
            self.bell.sleep(!held_back, timeout);
            return self.lock();
        }
        // A failed wait is a short one: the caller looks again in any case.
        let network = alone.map_or(self.network.fd(), |alone| alone.as_fd());
        let _ = match (held_back, self.joined && alone.is_none()) {
            (true, _) => wait_readable(&[self.wake.fd()], timeout).map(drop),
            (false, true) => self.network.wait(timeout).map(drop),
            (false, false) => wait_readable(&[network, self.wake.fd()], timeout).map(drop),
        };
        let mut core = self.lock();
        if std::mem::take(&mut core.woken) {
            self.wake.drain();
            // The end is for all who wait, and two may be here: a helper that was told to step back, and who told it.
            if self.stop.load(Ordering::SeqCst) {
                self.wake.wake();
            }
        }
        core
    }

    /// Ends the sleep of the caller who leads. It takes the word back, with the lock: nobody finds it later and sleeps no more.
    fn wake_leader(&self, core: &mut Core) {
        core.woken = true;
        self.wake.wake();
    }

    /// Tells whoever is in the kernel that there is something new to wait for: an earlier timer, or something filed.
    pub(crate) fn stir(&self, core: &mut Core) {
        if matches!(core.leader, Leader::Caller | Leader::Helper) {
            let now = core.now();
            match core.endpoint.alarm(now).filter(|at| *at < core.asleep_until) {
                Some(at) if core.leader == Leader::Helper => {
                    core.asleep_until = at;
                    self.bell.ring_in(at.since(now));
                }
                Some(_) => {
                    core.asleep_until = Instant::ZERO;
                    self.wake_leader(core);
                }
                None => {}
            }
        }
        core.arm_outside();
    }

    /// Something was filed by a thread that waits for nothing itself: whoever waits looks again.
    pub(crate) fn announce(&self, core: &mut Core) {
        self.news.notify_all();
        if core.leader == Leader::Caller {
            core.asleep_until = Instant::ZERO;
            self.wake_leader(core);
        }
        core.arm_outside();
    }

    /// The helper thread.
    fn help(&self) {
        // The first random bytes of a process take long: better here than in the first handshake.
        offload::software::warm_up();
        let mut polls = self.polls.load(Ordering::Relaxed);
        let mut quiet = 0;
        let mut nap = self.nap();
        while !self.stop.load(Ordering::Acquire) {
            self.bell.sleep(false, Some(nap));
            // Also where somebody polls: handshakes that follow each other closely would make all of theirs while somebody waits.
            #[cfg(feature = "aws-lc")]
            handshake::ready::make();
            let now = self.polls.load(Ordering::Relaxed);
            if now != polls {
                polls = now;
                quiet = 0;
                // Many processes may share a processor, and each look of each takes it from one that works.
                nap = self.nap().max(HELPER_AWAY);
                continue;
            }
            nap = self.nap();
            // Whoever holds the lock right now is polling; to wait for it would only slow that down.
            let Ok(mut core) = self.core.try_lock() else { continue };
            match core.leader {
                // Somebody is in the kernel already and does all there is to do.
                Leader::Caller | Leader::Outside => {
                    quiet += 1;
                    if core.leader == Leader::Outside {
                        core.pump(true);
                        core.arm_outside();
                    } else if quiet > 2 {
                        core.helper_parked = true;
                        drop(core);
                        self.bell.sleep(false, None);
                    }
                }
                Leader::Nobody | Leader::Helper => {
                    core.leader = Leader::Helper;
                    // Should it fail it looks often instead.
                    let watched = self.bell.watch(self.network.fd(), true).is_ok();
                    let most = (!watched).then_some(DEAF_PAUSE);
                    while core.leader == Leader::Helper && !self.stop.load(Ordering::Acquire) {
                        core.pump(true);
                        if core.followers > 0 {
                            self.news.notify_all();
                        }
                        core = self.in_kernel(core, most, true);
                    }
                }
            }
        }
    }

    /// An outside event loop takes over: the descriptor that it watches.
    pub(crate) fn outside(&self) -> Result<Arc<Set>, Error> {
        let mut core = self.lock();
        if core.outside.is_none() {
            core.udp.watched(true).map_err(Error::system("cannot watch the socket"))?;
            let set = Set::new().map_err(Error::system("cannot make an epoll descriptor"))?;
            let timer = Timer::new().map_err(Error::system("cannot make a timer descriptor"))?;
            let ready = Wake::new().map_err(Error::system("cannot make an event descriptor"))?;
            let added = set.add(core.udp.fds()).and_then(|()| set.add(timer.fd())).and_then(|()| set.add(ready.fd()));
            added.map_err(Error::system("cannot watch the socket"))?;
            let mut outside = Outside::new(set, timer, ready);
            if !core.inbox().is_empty() {
                outside.ring();
            }
            core.outside = Some(outside);
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
        if let Some(outside) = &mut core.outside {
            outside.ring();
        }
        core.inbox_wakers.drain(..).for_each(Waker::wake);
        core.space_wakers.drain(..).for_each(Waker::wake);
        core.call_wakers.drain().for_each(|(_, waker)| waker.wake());
        core.connects.values_mut().flat_map(|c| c.wakers.drain(..)).for_each(Waker::wake);
        drop(core);
        self.stop.store(true, Ordering::SeqCst);
        self.wake.wake();
        self.news.notify_all();
        self.bell.ring_in(Duration::ZERO);
    }
}
