//! Owns the server's end of plain messages: takes requests out of a socket, has a tower service answer each in a task of its own, and
//! drops the work when its caller gave up.

use std::future::{Future, poll_fn};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use sealane::{AsyncSocket, Delivery, Error, PeerInfo, Protection, ReplyToken, Request};
use tokio::sync::Semaphore;
use tower_service::Service;

use crate::caller::body;

/// Sockets that were served.
static SERVED: AtomicU64 = AtomicU64::new(0);

/// A session of a socket that is served, unlike all others in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    pub(crate) socket: u64,
    number: u64,
}

/// A number for a socket that is served from now on.
pub(crate) fn next_socket() -> u64 {
    SERVED.fetch_add(1, Ordering::Relaxed)
}

/// A request, for a service.
#[derive(Debug)]
#[non_exhaustive]
pub struct Incoming {
    /// What it says.
    pub payload: Bytes,
    /// Who asks: the identity is the authenticated one.
    pub peer: PeerInfo,
    /// How it was protected on its way.
    pub protection: Protection,
    /// The session that it came in.
    pub session: Session,
}

/// Answers what comes until the socket is closed. At most `at_once` requests are worked on; while there are so many, no more are taken,
/// and the socket's own limits hold back who sends more. One-way messages are dropped.
///
/// A request whose work fails or panics is refused: its caller gets [`Error::Refused`]. Work whose caller gave up is dropped.
///
/// # Errors
/// What the service says when it is not ready.
pub async fn serve<S>(socket: Arc<AsyncSocket>, service: S, at_once: usize) -> Result<(), S::Error>
where
    S: Service<Incoming, Response = Vec<u8>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send,
{
    serve_as(next_socket(), socket, service, at_once).await
}

pub(crate) async fn serve_as<S>(
    number: u64,
    socket: Arc<AsyncSocket>,
    mut service: S,
    at_once: usize,
) -> Result<(), S::Error>
where
    S: Service<Incoming, Response = Vec<u8>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send,
{
    let room = Arc::new(Semaphore::new(at_once.min(Semaphore::MAX_PERMITS)));
    loop {
        poll_fn(|cx| service.poll_ready(cx)).await?;
        let permit = Arc::clone(&room).acquire_owned().await.expect("nobody closes it");
        let request = loop {
            match socket.recv().await {
                Ok(Delivery::Request(request)) => break request,
                Ok(_) => {}
                Err(_) => return Ok(()),
            }
        };
        let session = Session { socket: number, number: request.id.to_words()[0] };
        let Request { payload, peer, protection, token, .. } = request;
        // Ready is the one that was asked, so that one takes the request.
        let next = service.clone();
        let mut ready = mem::replace(&mut service, next);
        let socket = Arc::clone(&socket);
        tokio::spawn(async move {
            // First of all: what follows may panic.
            let token = Unanswered { socket: &socket, token: Some(token) };
            let payload = Bytes::from_owner(payload);
            answer(token, ready.call(Incoming { payload, peer, protection, session })).await;
            drop(permit);
        });
    }
}

/// The right to answer; refuses when it is dropped.
struct Unanswered<'a> {
    socket: &'a AsyncSocket,
    token: Option<ReplyToken>,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            // Whoever gave up meanwhile needs no word.
            let _ = self.socket.socket().refuse(token);
        }
    }
}

async fn answer<E>(mut asked: Unanswered<'_>, work: impl Future<Output = Result<Vec<u8>, E>>) {
    let token = asked.token.as_ref().expect("nobody took it yet");
    let done = tokio::select! {
        biased; // What is ready at once needs no look at the caller.
        done = work => done,
        _ = asked.socket.cancelled(token) => return,
    };
    if let Ok(mut response) = done
        && let Some(token) = asked.token.take()
    {
        // Errors: the caller gave up, or cannot take so much, which it is told.
        let _: Result<(), Error> = asked.socket.reply(token, body(&mut response)).await;
    }
}
