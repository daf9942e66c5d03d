//! Messages with a length in front on one stream of an asynchronous transport.
//!
//! Owns: what is written when. All that is ready goes out in steps of `STEP_BYTES`, and reading goes on meanwhile. Refuses: knowing
//! which transport it is.

use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::{Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::buffer::Buffer;
use crate::client::{Client, Deliver, REPLY_TIMEOUT};
use crate::pattern::Pattern;
use crate::served::Served;
use crate::spec::Spec;
use crate::stream::{PREFIX, frame_len, prefix, whole_frames};

/// Bytes that are copied together before they are written.
const STEP_BYTES: usize = 64 << 10;
/// Turns of the runtime in one look at the network.
const TURNS: u32 = 16;

/// The client.
pub(super) struct Caller<R, W, E: FnMut(&Runtime)> {
    runtime: Arc<Runtime>,
    reader: R,
    writer: W,
    /// Closes the connection, and sees to it that the other side is told.
    end: E,
    pattern: Arc<Pattern>,
    spins: bool,
    read_bytes: usize,
    /// Messages not wholly copied, and how many bytes of the first (with prefix) are.
    unsent: Range<u64>,
    offset: usize,
    out: Buffer,
    inbox: Buffer,
    expected: u64,
}

impl<R, W, E> Caller<R, W, E>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    E: FnMut(&Runtime),
{
    pub(super) fn new(spec: &Spec, runtime: Runtime, (writer, reader): (W, R), end: E, pattern: &Arc<Pattern>) -> Self {
        Self {
            runtime: Arc::new(runtime),
            reader,
            writer,
            end,
            pattern: pattern.clone(),
            spins: spec.mode.polls(),
            read_bytes: spec.read_bytes,
            unsent: 0..0,
            offset: 0,
            out: Buffer::with_capacity(2 * STEP_BYTES),
            inbox: Buffer::with_capacity(2 * spec.read_bytes.max(spec.size + PREFIX)),
            expected: 0,
        }
    }

    fn fill(&mut self) {
        while self.out.len() < STEP_BYTES && !self.unsent.is_empty() {
            let message = self.pattern.message(self.unsent.start);
            let prefix = prefix(message.len());
            let rest = match self.offset.checked_sub(PREFIX) {
                Some(at) => &message[at..],
                None => &prefix[self.offset..],
            };
            let taken = rest.len().min(STEP_BYTES);
            self.out.append(&rest[..taken]);
            self.offset += taken;
            if self.offset == PREFIX + message.len() {
                self.offset = 0;
                self.unsent.start += 1;
            }
        }
    }

    /// Writes what is taken, then reads once.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            if self.out.is_empty() {
                self.fill();
            }
            if self.out.is_empty() {
                break;
            }
            match Pin::new(&mut self.writer).poll_write(cx, self.out.filled()) {
                Poll::Ready(len) => self.out.consume(len?),
                Poll::Pending => break,
            }
        }
        let _ = Pin::new(&mut self.writer).poll_flush(cx)?;
        let mut into = ReadBuf::new(self.inbox.space(self.read_bytes));
        match Pin::new(&mut self.reader).poll_read(cx, &mut into) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Ready(Ok(())) if into.filled().is_empty() => {
                Poll::Ready(Err(anyhow::anyhow!("the server closed the connection")))
            }
            Poll::Ready(Ok(())) => {
                let len = into.filled().len();
                self.inbox.commit(len);
                Poll::Ready(Ok(()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<R, W, E> Client for Caller<R, W, E>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    E: FnMut(&Runtime),
{
    fn send(&mut self, ids: Range<u64>) -> Result<()> {
        if self.unsent.is_empty() {
            self.unsent = ids;
        } else {
            self.unsent.end = ids.end;
        }
        Ok(())
    }

    fn receive(&mut self, deliver: Deliver<'_>) -> Result<bool> {
        let (spins, runtime) = (self.spins, Arc::clone(&self.runtime));
        let came = runtime.block_on(async {
            if !spins {
                return match timeout(REPLY_TIMEOUT, poll_fn(|cx| self.turn(cx))).await {
                    Ok(done) => done.map(|()| true),
                    Err(_) => Ok(false),
                };
            }
            for _ in 0..TURNS {
                match poll_fn(|cx| Poll::Ready(self.turn(cx))).await {
                    Poll::Ready(done) => return done.map(|()| true),
                    Poll::Pending => tokio::task::yield_now().await,
                }
            }
            Ok(false)
        });
        if !came? {
            return Ok(false);
        }
        while let Some(len) = frame_len(self.inbox.filled()) {
            deliver(self.expected, &self.inbox.filled()[PREFIX..len]);
            self.expected += 1;
            self.inbox.consume(len);
        }
        Ok(true)
    }
}

impl<R, W, E: FnMut(&Runtime)> Drop for Caller<R, W, E> {
    fn drop(&mut self) {
        (self.end)(&self.runtime);
    }
}

/// The server.
pub(super) struct Echo<R, W, K> {
    runtime: Runtime,
    reader: R,
    writer: W,
    /// What must live as long as the stream.
    _kept: K,
    read_bytes: usize,
    inbox: Buffer,
}

impl<R, W, K> Echo<R, W, K> {
    pub(super) fn new(spec: &Spec, runtime: Runtime, (writer, reader): (W, R), kept: K) -> Self {
        let inbox = Buffer::with_capacity(2 * spec.read_bytes.max(spec.size + PREFIX));
        Self { runtime, reader, writer, _kept: kept, read_bytes: spec.read_bytes, inbox }
    }
}

impl<R, W, K> Served for Echo<R, W, K>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    K: Send,
{
    fn turn(&mut self) -> Result<bool> {
        let Self { runtime, reader, writer, inbox, read_bytes, .. } = self;
        runtime.block_on(async {
            let len = match reader.read(inbox.space(*read_bytes)).await {
                // The client is gone, by whatever words its transport says so.
                Ok(0) | Err(_) => return Ok(false),
                Ok(len) => len,
            };
            inbox.commit(len);
            let ready = whole_frames(inbox.filled());
            if ready > 0 {
                if writer.write_all(&inbox.filled()[..ready]).await.is_err() || writer.flush().await.is_err() {
                    bail!("the client is gone before its replies");
                }
                inbox.consume(ready);
            }
            Ok(true)
        })
    }
}
