//! Owns one call of several messages at the server: whose turn a pull is, who is told when the call ends. The handler runs inside the pull
//! whose turn it is, so a call has no task of its own, and one whose client asks for nothing stands still.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::time::Instant;
use tonic::Status;

use crate::limits::WINDOW;
use crate::message;
use crate::producer::Producer;
use crate::uplink::Uplink;

enum Down {
    /// The call goes on. The producer is away while a pull has it.
    Open(Option<Producer>),
    /// The last part has left.
    Ended,
    /// It was ended before.
    Failed(Status),
}

struct State {
    down: Down,
    /// The part that is made next.
    next: u64,
    /// Parts that were asked for and not made yet.
    asked: BTreeSet<u64>,
    /// Pulls that wait for their turn.
    waiting: BTreeMap<u64, Waker>,
    /// When the client last said something.
    heard: Instant,
}

/// A call.
pub(crate) struct Stream {
    state: Mutex<State>,
    /// The body of its request, if that comes in parts.
    uplink: Option<Arc<Uplink>>,
    /// When it must have ended.
    pub(crate) deadline: Option<Instant>,
}

impl Stream {
    /// A call of which `next` is the first part that will be pulled.
    pub(crate) fn new(producer: Producer, next: u64, uplink: Option<Arc<Uplink>>, deadline: Option<Instant>) -> Self {
        let down = Down::Open(Some(producer));
        let state = State { down, next, asked: BTreeSet::new(), waiting: BTreeMap::new(), heard: Instant::now() };
        Self { state: Mutex::new(state), uplink, deadline }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client said something.
    pub(crate) fn hear(&self) {
        self.state().heard = Instant::now();
    }

    /// When it last did.
    pub(crate) fn heard(&self) -> Instant {
        self.state().heard
    }

    /// Takes a part of the request.
    ///
    /// # Errors
    /// When there cannot be such a part.
    pub(crate) async fn put(&self, number: u64, data: Bytes, last: bool) -> Result<(), Status> {
        match &self.uplink {
            Some(uplink) => uplink.put(number, data, last).await,
            None => Err(Status::internal("a part of a request that was complete")),
        }
    }

    /// A part of the response as a message, and whether it is the last.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn pull(&self, number: u64) -> Result<(Vec<u8>, bool), Status> {
        {
            // Each part once: of two pulls only one would be woken, and who asks again and again must not keep ever more of them open.
            let mut state = self.state();
            let next = state.next;
            if matches!(state.down, Down::Open(_))
                && (!(next..next + WINDOW).contains(&number) || !state.asked.insert(number))
            {
                return Err(Status::internal(format!(
                    "part {number} of a response was asked for when {next} was next"
                )));
            }
        }
        poll_fn(|cx| self.poll_pull(number, cx)).await
    }

    fn poll_pull(&self, number: u64, cx: &mut Context<'_>) -> Poll<Result<(Vec<u8>, bool), Status>> {
        let mut state = self.state();
        let next = state.next;
        let producer = match &mut state.down {
            Down::Ended => return Poll::Ready(Err(Status::internal("a part behind the last was asked for"))),
            Down::Failed(why) => return Poll::Ready(Err(why.clone())),
            Down::Open(_) if number > next => {
                state.waiting.insert(number, cx.waker().clone());
                return Poll::Pending;
            }
            Down::Open(producer) => producer.take(),
        };
        let Some(mut producer) = producer else { unreachable!("one pull has each number, and one number is next") };
        // Not under the lock: a handler may take its time, and others must be able to end the call meanwhile.
        drop(state);
        let polled = producer.poll_part(cx);
        let mut state = self.state();
        if let Down::Failed(why) = &state.down {
            let why = why.clone();
            drop(state);
            return Poll::Ready(Err(why));
        }
        let Poll::Ready((part, last)) = polled else {
            state.down = Down::Open(Some(producer));
            // The handler wakes it, but not when the call fails.
            state.waiting.insert(number, cx.waker().clone());
            return Poll::Pending;
        };
        state.waiting.remove(&number);
        let waiting = if last {
            state.down = Down::Ended;
            mem::take(&mut state.waiting)
        } else {
            state.down = Down::Open(Some(producer));
            state.asked.remove(&number);
            state.next += 1;
            let turn = state.next;
            let later = state.waiting.split_off(&(turn + 1));
            mem::replace(&mut state.waiting, later)
        };
        drop(state);
        waiting.into_values().for_each(Waker::wake);
        Poll::Ready(Ok((part, last)))
    }

    /// Whether it ended by [`Self::fail`]: nothing else will come.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.state().down, Down::Failed(_))
    }

    /// Ends the call: what the handler left is dropped, and everybody who waits is told why.
    pub(crate) fn fail(&self, why: Status) {
        let mut state = self.state();
        if !matches!(state.down, Down::Open(_)) {
            return;
        }
        let down = mem::replace(&mut state.down, Down::Failed(why.clone()));
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        drop(down);
        waiting.into_values().for_each(Waker::wake);
        if let Some(uplink) = &self.uplink {
            uplink.fail(&why);
        }
    }
}

/// What an answer is that has no part in it.
pub(crate) fn answer(done: Result<(), Status>) -> Vec<u8> {
    match done {
        Ok(()) => message::done(),
        Err(why) => message::failed(&why),
    }
}
