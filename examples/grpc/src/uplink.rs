//! Owns the body of a request that comes in parts, at the server: puts them in order, and answers each when it was taken, which is all the
//! flow control there is.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame};
use tonic::Status;

use crate::limits::WINDOW;

#[derive(Default)]
struct Parts {
    /// The part that is taken next.
    next: u64,
    waiting: BTreeMap<u64, (Bytes, bool)>,
    reader: Option<Waker>,
    /// Who wants to know that a part was taken.
    writers: BTreeMap<u64, Waker>,
    /// Nothing more is read: all of it was, or nobody wants it.
    closed: bool,
    /// What the reader is told instead of the rest.
    failed: Option<Status>,
}

/// Both ends of the body.
pub(crate) struct Uplink(Mutex<Parts>);

impl Uplink {
    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A body of which `data` is the beginning.
    pub(crate) fn begun(data: Bytes) -> Self {
        Self(Mutex::new(Parts { waiting: BTreeMap::from([(0, (data, false))]), ..Parts::default() }))
    }

    /// Keeps a part, and waits until it was taken or nobody wants it.
    ///
    /// # Errors
    /// When there cannot be such a part.
    pub(crate) async fn put(&self, number: u64, data: Bytes, last: bool) -> Result<(), Status> {
        {
            let mut parts = self.parts();
            if parts.closed {
                return Ok(());
            }
            let next = parts.next;
            // The first part came with the call, outside of the window.
            if !(next..=next + WINDOW).contains(&number) || parts.waiting.contains_key(&number) {
                return Err(Status::internal(format!("part {number} of a request came when {next} was next")));
            }
            parts.waiting.insert(number, (data, last));
            let reader = if number == next { parts.reader.take() } else { None };
            drop(parts);
            reader.into_iter().for_each(Waker::wake);
        }
        poll_fn(|cx| {
            let mut parts = self.parts();
            if parts.closed || parts.next > number {
                return Poll::Ready(Ok(()));
            }
            parts.writers.insert(number, cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The call has ended: who still reads is told why.
    pub(crate) fn fail(&self, why: &Status) {
        self.close(Some(why.clone()));
    }

    fn close(&self, why: Option<Status>) {
        let mut parts = self.parts();
        if parts.closed {
            return;
        }
        parts.closed = true;
        parts.failed = why;
        let (writers, reader) = (mem::take(&mut parts.writers), parts.reader.take());
        let waiting = mem::take(&mut parts.waiting);
        drop(parts);
        drop(waiting);
        writers.into_values().chain(reader).for_each(Waker::wake);
    }

    fn poll_take(&self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        let mut parts = self.parts();
        loop {
            if let Some(why) = parts.failed.take() {
                return Poll::Ready(Some(Err(why)));
            }
            if parts.closed {
                return Poll::Ready(None);
            }
            let next = parts.next;
            let Some((data, last)) = parts.waiting.remove(&next) else {
                parts.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            parts.next += 1;
            parts.closed = last;
            if let Some(writer) = parts.writers.remove(&next) {
                // Only marks its task: nothing runs here and now.
                writer.wake();
            }
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }
}

/// The reader's end.
pub(crate) struct UplinkBody(pub(crate) Arc<Uplink>);

impl Body for UplinkBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.poll_take(cx).map(|taken| taken.map(|data| data.map(Frame::data)))
    }
}

impl Drop for UplinkBody {
    fn drop(&mut self) {
        self.0.close(None);
    }
}

/// A body that is there as a whole.
pub(crate) struct Whole(pub(crate) Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
