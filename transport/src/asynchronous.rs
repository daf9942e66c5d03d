//! Owns the tokio form of the socket: the same core, driven by one task instead of by whoever waits.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::ToSocketAddrs;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use endpoint::endpoint::To;
use endpoint::pool::Payload;
use endpoint::session::CallId;
use proto::time::Instant;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;
use tracing::Instrument;
use udp::poll::Set;
use wire::ids::SessionId;
use wire::trailer::Kind;

use crate::config::{CallOptions, Wait};
use crate::delivery::Delivery;
use crate::driver::{Core, Outcome};
use crate::error::Error;
use crate::info::Info;
use crate::message::{Body, Peer, ReplyToken, RpcId};
use crate::socket::{Socket, sending};
use crate::waiting::Shared;

/// A [`Socket`] for tokio. Its methods take `&self`; futures may be dropped at any time, which for an unfinished call tells
/// the peer.
pub struct AsyncSocket {
    socket: Socket,
    task: JoinHandle<()>,
}

impl fmt::Debug for AsyncSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsyncSocket({})", self.socket.local_addr())
    }
}

/// The descriptor that the task watches.
struct Watched(Arc<Set>);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.fd().as_raw_fd()
    }
}

/// Pumps the socket whenever its descriptor says so, until it is closed. After something moved it goes on looking, between other tasks, as
/// a thread that waits would: sleeping and waking cost more than what often follows at once.
async fn drive(shared: Arc<Shared>, fd: AsyncFd<Watched>) {
    let mut looking = Looking::default();
    let mut turn = |wakes| {
        let mut core = shared.lock();
        if core.closed {
            return None;
        }
        core.attend_outside();
        shared.attend(&mut core);
        // Everything, or the edge that tells of the rest would be lost; but others have their turn between.
        while core.pump(true) && !core.is_midway() {}
        core.arm_task();
        Some(core.is_midway() || looking.goes_on(shared.wait, core.segments, core.now(), wakes))
    };
    loop {
        let Ok(mut ready) = fd.readable().await else { return };
        let Some(mut looks) = turn(true) else { return };
        ready.clear_ready();
        drop(ready);
        while looks {
            tokio::task::yield_now().await;
            let Some(again) = turn(false) else { return };
            looks = again;
        }
    }
}

/// How long a task looks on: about what it takes to wake the peer's thread. With less, two ends that both sleep would never find out that
/// they need not.
const LOOKS_ON: Duration = Duration::from_micros(50);
/// So many more looks in vain than others, and an adaptive socket sleeps at once: what is waited for takes longer, or needs the processor
/// that we look with.
const VAIN_MAX: u32 = 4;
/// From then on it tries again once in so many times.
const TRY_EVERY: u32 = 64;

/// Whether to look on before sleeping.
#[derive(Default)]
struct Looking {
    /// Segments sent and received, when something last moved, and when that was.
    seen: (u64, u64),
    moved: Instant,
    /// Looks in vain, less those that were not.
    vain: u32,
    /// Times that it slept at once.
    skipped: u32,
}

impl Looking {
    /// Whether to go on, after a look that found these segments.
    fn goes_on(&mut self, wait: Wait, segments: (u64, u64), now: Instant, woke: bool) -> bool {
        if !woke && segments.1 != self.seen.1 {
            self.vain = self.vain.saturating_sub(1);
        }
        if segments != self.seen {
            (self.seen, self.moved) = (segments, now);
        }
        match wait {
            Wait::Block => false,
            Wait::Spin => true,
            Wait::Adaptive if woke && self.vain >= VAIN_MAX => {
                self.skipped = (self.skipped + 1) % TRY_EVERY;
                self.skipped == 0
            }
            Wait::Adaptive => {
                let looks = now.since(self.moved) < LOOKS_ON;
                self.vain = (self.vain + u32::from(!looks)).min(VAIN_MAX);
                looks
            }
        }
    }
}

impl AsyncSocket {
    /// Hands `socket` to tokio.
    ///
    /// # Errors
    /// [`Error::System`] when there is no descriptor left, or no tokio runtime here; [`Error::Config`] for a socket with several
    /// shards.
    pub fn new(socket: Socket) -> Result<Self, Error> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|e| Error::system("no tokio runtime here")(io::Error::other(e)))?;
        if socket.is_spread() {
            return Err(Error::Config("an asynchronous socket has one shard".to_owned()));
        }
        let set = socket.shared.outside()?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe to call; `Watched` keeps its descriptor open, as that asks for"
        )]
        let fd = AsyncFd::with_interest(Watched(set), Interest::READABLE)
            .map_err(Error::system("cannot watch the socket"))?;
        let task = runtime.spawn(drive(Arc::clone(&socket.shared), fd));
        Ok(Self { socket, task })
    }

    /// The blocking form of the same socket, for what needs no waiting: `local_addr`, `abort`, `info`, `install_session`.
    pub const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// As [`Socket::peer`]. Resolving a host name blocks; give an address where that matters.
    ///
    /// # Errors
    /// As [`Socket::peer`].
    pub fn peer(&self, address: impl ToSocketAddrs + fmt::Debug, name: &str) -> Result<Peer, Error> {
        self.socket.peer(address, name)
    }

    /// Completes the handshake with `peer`.
    ///
    /// # Errors
    /// As [`Socket::connect`].
    pub async fn connect(&self, peer: &Peer) -> Result<(), Error> {
        let To::Target(target) = peer.to else { return Ok(()) };
        let session = {
            let mut core = self.socket.open_core()?;
            let Some(session) = core.begin_connect(target)? else { return Ok(()) };
            core.arm_outside();
            session
        };
        /// Whoever waits must say so when it no longer does, however it ends.
        struct Waiting<'a>(&'a AsyncSocket, SessionId);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.socket.shared.lock().leave_connect(self.1);
            }
        }
        let _waiting = Waiting(self, session);
        let done = poll_fn(|cx| {
            self.poll(cx, |core, cx| {
                let found = core.connect_result(session);
                if let (None, Some(waiting)) = (&found, core.connects.get_mut(&session)) {
                    remember(&mut waiting.wakers, cx);
                }
                found
            })
        });
        done.instrument(tracing::debug_span!("connect", to = %peer.address)).await?
    }

    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        f: impl FnOnce(&mut Core, &mut Context<'_>) -> Option<T>,
    ) -> Poll<Result<T, Error>> {
        match self.socket.open_core() {
            Err(closed) => Poll::Ready(Err(closed)),
            Ok(mut core) => f(&mut core, cx).map_or(Poll::Pending, |found| Poll::Ready(Ok(found))),
        }
    }

    /// As [`Socket::call`].
    ///
    /// # Errors
    /// As [`Socket::call`].
    pub async fn call<'a>(&self, peer: &Peer, body: impl Into<Body<'a>>) -> Result<Payload, Error> {
        self.call_with(peer, body, CallOptions::new()).await
    }

    /// As [`Socket::call_with`]. Dropping the future before it is done tells the peer.
    ///
    /// # Errors
    /// As [`Socket::call_with`].
    pub async fn call_with<'a>(
        &self,
        peer: &Peer,
        body: impl Into<Body<'a>>,
        options: CallOptions,
    ) -> Result<Payload, Error> {
        let body = body.into();
        let span = tracing::debug_span!("call", to = %peer.address, bytes = body.len());
        let answered = async {
            let id = self.submit(peer, body, Kind::Request, 0, true, options).await?;
            match self.settled(id).await? {
                Outcome::Payload(payload) => Ok(payload),
                Outcome::Failed(error) => Err(error),
                Outcome::Arrived | Outcome::Stream { .. } => Err(Error::UnknownCall(RpcId(id).to_string())),
            }
        };
        answered.instrument(span).await
    }

    /// As [`Socket::send`]; waits where that blocks.
    ///
    /// # Errors
    /// As [`Socket::send`].
    pub async fn send<'a>(&self, peer: &Peer, body: impl Into<Body<'a>>, cookie: u64) -> Result<RpcId, Error> {
        self.submit(peer, body.into(), Kind::Request, cookie, false, CallOptions::new()).await.map(RpcId)
    }

    /// As [`Socket::send_one_way`].
    ///
    /// # Errors
    /// As [`Socket::send_one_way`].
    pub async fn send_one_way<'a>(&self, peer: &Peer, body: impl Into<Body<'a>>) -> Result<RpcId, Error> {
        self.submit(peer, body.into(), Kind::OneWay, 0, false, CallOptions::new()).await.map(RpcId)
    }

    /// As [`Socket::tell`].
    ///
    /// # Errors
    /// As [`Socket::tell`].
    pub async fn tell<'a>(&self, peer: &Peer, body: impl Into<Body<'a>>) -> Result<(), Error> {
        let id = self.submit(peer, body.into(), Kind::OneWay, 0, true, CallOptions::new()).await?;
        match self.settled(id).await? {
            Outcome::Failed(error) => Err(error),
            _ => Ok(()),
        }
    }

    async fn submit(
        &self,
        peer: &Peer,
        mut body: Body<'_>,
        kind: Kind,
        cookie: u64,
        waited: bool,
        options: CallOptions,
    ) -> Result<CallId, Error> {
        #[cfg(feature = "aws-lc")]
        if options.early
            && let Some(sought) = self.socket.seek_ticket(peer)
        {
            let asking = sought.clone();
            let found = tokio::task::spawn_blocking(move || asking.ask()).await;
            self.socket.use_ticket(&sought, found.ok().flatten());
        }
        let mut until = None;
        let mut submitted = pin!(poll_fn(|cx| {
            self.poll(cx, |core, cx| {
                let now = core.now();
                let deadline = *until.get_or_insert_with(|| options.until(now));
                let sending = sending(kind, cookie, waited, deadline, false);
                core.endpoint.early_next(options.early);
                let done = self.socket.submit_now(core, now, peer, &mut body, sending);
                self.socket.shared.stir(core);
                core.endpoint.early_next(false);
                space_or(core, cx, done)
            })
        }));
        // The runtime's timers only where there is something to wait for.
        match (poll_fn(|cx| Poll::Ready(submitted.as_mut().poll(cx))).await, options.deadline) {
            (Poll::Ready(done), _) => done?,
            (Poll::Pending, None) => submitted.await?,
            (Poll::Pending, Some(span)) => match tokio::time::timeout(span, submitted).await {
                Ok(done) => done?,
                Err(_) => Err(Error::unsent_in_time(peer.address)),
            },
        }
    }

    async fn settled(&self, id: CallId) -> Result<Outcome, Error> {
        struct Unfinished<'a>(&'a AsyncSocket, CallId, bool);
        impl Drop for Unfinished<'_> {
            fn drop(&mut self) {
                if self.2 {
                    self.0.socket.abort(RpcId(self.1));
                }
            }
        }
        let mut guard = Unfinished(self, id, true);
        let outcome = poll_fn(|cx| {
            self.poll(cx, |core, cx| {
                let found = core.outcomes.take(id);
                if found.is_none() {
                    core.call_wakers.insert(id, cx.waker().clone());
                }
                found
            })
        });
        let outcome = outcome.await;
        guard.2 = false;
        outcome
    }

    /// As [`Socket::recv`].
    ///
    /// # Errors
    /// As [`Socket::recv`].
    pub async fn recv(&self) -> Result<Delivery, Error> {
        let item = poll_fn(|cx| {
            self.poll(cx, |core, cx| {
                let item = core.inbox().pop();
                if core.held_back {
                    // The descriptor told of it before, and will not again.
                    core.pump(true);
                }
                if item.is_none() {
                    remember(&mut core.inbox_wakers, cx);
                }
                item
            })
        });
        Ok(self.socket.delivery(item.await?))
    }

    /// As [`Socket::reply`]; waits where that blocks.
    ///
    /// # Errors
    /// As [`Socket::reply`].
    pub async fn reply<'a>(&self, token: ReplyToken, body: impl Into<Body<'a>>) -> Result<(), Error> {
        let mut body = body.into();
        let replied = poll_fn(|cx| {
            self.poll(cx, |core, cx| {
                let done = self.socket.reply_now(core, token.0, &mut body);
                if matches!(&done, Err(why) if !matches!(why, Error::WouldBlock { .. })) {
                    // As in the blocking form: the caller must not wait for what cannot come.
                    let _ = core.endpoint.refuse(token.0);
                    core.flush();
                }
                space_or(core, cx, done)
            })
        });
        replied.await?
    }

    /// Ends when nobody waits for the reply to this request any more: its caller gave up, its deadline passed there, or its session ended.
    /// Who works on a long answer races this against the work. A caller that only falls silent is not noticed. [P-8.6]
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn cancelled(&self, token: &ReplyToken) -> Result<(), Error> {
        /// Whose waker is remembered only as long as somebody waits.
        struct Watched<'a>(&'a AsyncSocket, CallId);
        impl Drop for Watched<'_> {
            fn drop(&mut self) {
                self.0.socket.shared.lock().call_wakers.remove(&self.1);
            }
        }
        let id = token.0;
        let _watched = Watched(self, id);
        let ended = poll_fn(|cx| {
            self.poll(cx, |core, cx| {
                let asked = core.endpoint.is_asked(id);
                if asked {
                    core.call_wakers.insert(id, cx.waker().clone());
                }
                (!asked).then_some(())
            })
        });
        ended.await
    }

    /// As [`Socket::info`].
    pub fn info(&self) -> Info {
        self.socket.info()
    }

    /// As [`Socket::close`]; does not block the runtime.
    ///
    /// # Errors
    /// As [`Socket::close`].
    pub async fn close(self) -> Result<(), Error> {
        let busy = || self.socket.all().any(|shard| shard.shared.lock().endpoint.is_busy());
        self.socket.all().for_each(Socket::ask_for_acks);
        for _ in 0..1000 {
            if !busy() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        self.socket.hang_up();
        Ok(())
    }
}

impl Drop for AsyncSocket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Puts the task among those to be woken, once.
fn remember(wakers: &mut Vec<Waker>, cx: &Context<'_>) {
    if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
        wakers.push(cx.waker().clone());
    }
}

/// "Would block" becomes pending, to be tried again when there is space.
fn space_or<T>(core: &mut Core, cx: &Context<'_>, done: Result<T, Error>) -> Option<Result<T, Error>> {
    if matches!(done, Err(Error::WouldBlock { .. })) {
        remember(&mut core.space_wakers, cx);
        return None;
    }
    Some(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// [`Looking`] through a run of wake-ups a millisecond apart, each of which found a segment; what it says at each.
    fn wake_ups(looking: &mut Looking, wait: Wait, count: u32, found_meanwhile: u64) -> Vec<bool> {
        let (mut received, mut now) = (looking.seen.1, looking.moved);
        let mut said = Vec::new();
        for _ in 0..count {
            (received, now) = (received + 1, now + MS);
            let looks = looking.goes_on(wait, (0, received), now, true);
            said.push(looks);
            if looks {
                for _ in 0..found_meanwhile {
                    received += 1;
                    assert!(looking.goes_on(wait, (0, received), now + LOOKS_ON / 2, false));
                }
                assert!(wait == Wait::Spin || !looking.goes_on(wait, (0, received), now + MS / 2, false));
            }
        }
        said
    }

    #[test]
    fn looking_on_stops_where_it_is_in_vain() {
        let mut looking = Looking::default();
        let said = wake_ups(&mut looking, Wait::Adaptive, 4 * TRY_EVERY, 0);
        assert!(said[..VAIN_MAX as usize].iter().all(|looks| *looks), "{said:?}");
        let later = said[VAIN_MAX as usize..].iter().filter(|looks| **looks).count();
        assert!((2..=5).contains(&later), "it tries again now and then: {said:?}");
        // Once it pays it stays.
        while !wake_ups(&mut looking, Wait::Adaptive, 1, 3)[0] {}
        assert!(wake_ups(&mut looking, Wait::Adaptive, 100, 3).iter().all(|looks| *looks));
        assert!(wake_ups(&mut looking, Wait::Block, 100, 3).iter().all(|looks| !looks));
        assert!(wake_ups(&mut looking, Wait::Spin, 100, 0).iter().all(|looks| *looks));
    }
}
