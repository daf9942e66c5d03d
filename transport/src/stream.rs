//! Owns reading a long message while it arrives: verified, contiguous bytes, in order.

use std::io::{self, Read};
use std::sync::Arc;

use endpoint::pool::Payload;
use endpoint::session::CallId;
use wire::trailer::Kind;

use crate::driver::Core;
use crate::error::Error;
use crate::message::{PeerInfo, ReplyToken, RpcId};
use crate::waiting::Shared;

/// What a streamed message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamKind {
    /// A request: it can be answered once it was read to its end.
    Request,
    /// The response to a request of ours.
    Response,
    /// A message that wants no response.
    OneWay,
}

/// A long message that is read while it arrives. Every byte that `read` gives has been verified.
///
/// Dropping it before its end gives up the rest; for the response to a call the peer is told.
pub struct MessageStream {
    shared: Arc<Shared>,
    id: CallId,
    /// From whom it comes.
    pub peer: PeerInfo,
    /// What it is.
    pub kind: StreamKind,
    /// The caller's own number, when it is a response.
    pub cookie: u64,
    length: usize,
    offset: usize,
}

impl std::fmt::Debug for MessageStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MessageStream({:?}, {} of {} bytes read)", self.id.rpc, self.offset, self.length)
    }
}

impl MessageStream {
    pub(crate) fn new(shared: Arc<Shared>, id: CallId, peer: PeerInfo, kind: Kind, cookie: u64, length: usize) -> Self {
        let kind = match kind {
            Kind::Request => StreamKind::Request,
            Kind::Response => StreamKind::Response,
            Kind::OneWay => StreamKind::OneWay,
        };
        Self { shared, id, peer, kind, cookie, length, offset: 0 }
    }

    /// Its name.
    pub const fn id(&self) -> RpcId {
        RpcId(self.id)
    }

    /// Bytes in all.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether it is the empty message.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes not read yet.
    pub const fn remaining(&self) -> usize {
        self.length - self.offset
    }

    /// Reads what is there, waiting for at least one byte; 0 at the end.
    ///
    /// # Errors
    /// When the message will never be complete: its sender gave up or is gone.
    pub fn read_some(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        if self.remaining() == 0 || into.is_empty() {
            return Ok(0);
        }
        let (id, offset) = (self.id, self.offset);
        let read = |core: &mut Core| match core.endpoint.read(id, offset, into) {
            Some((0, false)) => None,
            Some((n, _)) => Some(Some(n)),
            None => Some(None),
        };
        let n = self.shared.wait_for(None, read).map_err(|_| self.shared.ended())?;
        let broken = Error::SessionEnded { address: self.peer.addr(), may_have_run: true };
        self.offset += n.ok_or(broken)?;
        Ok(self.offset - offset)
    }

    /// The right to answer, once a request was read to its end; the stream itself before that.
    ///
    /// # Errors
    /// The stream, when it is no request or is not at its end.
    pub fn into_token(self) -> Result<ReplyToken, Self> {
        if self.kind == StreamKind::Request && self.remaining() == 0 { Ok(ReplyToken(self.id)) } else { Err(self) }
    }
}

impl Read for MessageStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.read_some(into).map_err(io::Error::other)
    }
}

impl Drop for MessageStream {
    fn drop(&mut self) {
        if self.shared.is_forked() {
            return;
        }
        let mut core = self.shared.lock();
        core.endpoint.end_stream(self.id);
        core.flush();
    }
}

/// The response of [`crate::Socket::call_stream`].
#[derive(Debug)]
pub enum CallStream {
    /// It came whole.
    Whole(Payload),
    /// It is read while it arrives.
    Stream(MessageStream),
}
