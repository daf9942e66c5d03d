//! Owns the client's end of plain messages: a tower service from the bytes of a request to the bytes of its response.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use sealane::{AsyncSocket, Body, CallOptions, Error, Payload, Peer};
use tower_service::Service;

/// Bodies up to this are copied into the socket's own buffers, which it uses again; longer ones are handed over.
const COPIED_MAX: usize = 8 << 10;

/// What is to be sent, in the cheaper of both ways.
pub(crate) fn body(bytes: &mut Vec<u8>) -> Body<'_> {
    if bytes.len() > COPIED_MAX { std::mem::take(bytes).into() } else { Body::Borrowed(bytes) }
}

/// One peer, as a [`Service`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller {
    socket: Arc<AsyncSocket>,
    peer: Peer,
}

impl Caller {
    /// The peer of a socket.
    pub const fn new(socket: Arc<AsyncSocket>, peer: Peer) -> Self {
        Self { socket, peer }
    }

    /// Sends a request and waits for its response. The call ends when the future is dropped, and the peer is told.
    ///
    /// # Errors
    /// As [`AsyncSocket::call_with`].
    pub async fn call_with(&self, mut request: Vec<u8>, options: CallOptions) -> Result<Payload, Error> {
        self.socket.call_with(&self.peer, body(&mut request), options).await
    }

    /// Completes the handshake now instead of with the first call.
    ///
    /// # Errors
    /// As [`AsyncSocket::connect`].
    pub async fn connect(&self) -> Result<(), Error> {
        self.socket.connect(&self.peer).await
    }
}

impl Service<Bytes> for Caller {
    type Response = Bytes;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Bytes, Error>> + Send>>;

    /// Always: the socket itself holds back who sends too much.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Bytes) -> Self::Future {
        let Self { socket, peer } = self.clone();
        Box::pin(async move { Ok(Bytes::from_owner(socket.call(&peer, Body::Borrowed(&request)).await?)) })
    }
}
