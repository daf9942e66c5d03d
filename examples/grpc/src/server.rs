//! Owns the server of calls: a service of plain messages around a service of HTTP requests, which is what tonic makes of a `.proto`. Each
//! call belongs to the session that opened it: the table is by session and number, so nobody can name the call of another.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use sealane::AsyncSocket;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower_service::Service;

use crate::gather::TOGETHER_MAX;
use crate::limits::{Limits, WINDOW};
use crate::message::{self, Ask, CallNumber};
use crate::producer::{Handling, Producer};
use crate::serve::{self, Incoming, Session};
use crate::status;
use crate::stream::{Stream, answer};
use crate::uplink::{Uplink, UplinkBody, Whole};

type Key = (Session, CallNumber);

#[derive(Default)]
struct Table {
    streams: HashMap<Key, Kept>,
    calls: usize,
    /// Calls of each session that has any.
    of_session: HashMap<Session, usize>,
}

struct Kept {
    stream: Arc<Stream>,
    watch: AbortHandle,
    _place: Place,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

struct Shared {
    limits: Limits,
    table: Mutex<Table>,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: Key) -> Result<Arc<Stream>, Status> {
        let stream = self.table().streams.get(&key).map(|kept| Arc::clone(&kept.stream));
        // It may have been: the server was started again, or the session.
        let stream = stream.ok_or_else(|| Status::unavailable("the call is not known here any more"))?;
        stream.hear();
        Ok(stream)
    }

    fn forget(&self, key: Key) -> Option<Arc<Stream>> {
        // What it drops takes the lock, too.
        let kept = self.table().streams.remove(&key)?;
        Some(Arc::clone(&kept.stream))
    }

    fn end(&self, key: Key, why: Status) {
        if let Some(stream) = self.forget(key) {
            stream.fail(why);
        }
    }
}

/// A socket that is served. When it is not any more, nobody can ask for what its calls still have.
struct Served {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Served {
    fn drop(&mut self) {
        let mut table = self.shared.table();
        let ended: Vec<Kept> =
            table.streams.extract_if(|(session, _), _| session.socket == self.number).map(|(_, kept)| kept).collect();
        drop(table);
        for kept in ended {
            kept.stream.fail(Status::unavailable("the server was closed"));
        }
    }
}

/// The place of a call among those that are worked on.
struct Place {
    shared: Arc<Shared>,
    session: Session,
}

impl Place {
    fn take(shared: &Arc<Shared>, session: Session) -> Result<Self, Status> {
        let limits = &shared.limits;
        let mut table = shared.table();
        if table.calls >= limits.calls {
            return Err(Status::resource_exhausted(format!(
                "{} calls are under way; no more are allowed",
                limits.calls
            )));
        }
        let of_session = table.of_session.entry(session).or_insert(0);
        if *of_session >= limits.calls_per_session {
            let most = limits.calls_per_session;
            return Err(Status::resource_exhausted(format!(
                "{most} calls of this session are under way; no more are allowed"
            )));
        }
        *of_session += 1;
        table.calls += 1;
        drop(table);
        Ok(Self { shared: Arc::clone(shared), session })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.shared.table();
        table.calls -= 1;
        if let Entry::Occupied(mut count) = table.of_session.entry(self.session) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// A gRPC server: a [`Service`] of [`Incoming`] messages, for [`serve::serve`]. Cheap to clone; clones share their calls.
pub struct Server<S> {
    service: S,
    shared: Arc<Shared>,
}

impl<S: Clone> Clone for Server<S> {
    fn clone(&self) -> Self {
        Self { service: self.service.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({} calls)", self.shared.table().calls)
    }
}

impl<S> Server<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    /// A server of one service, or of several: [`crate::routes::Routes`].
    pub fn new(service: S, limits: Limits) -> Self {
        Self { service, shared: Arc::new(Shared { limits, table: Mutex::default() }) }
    }

    /// Calls that are worked on.
    pub fn calls(&self) -> usize {
        self.shared.table().calls
    }

    /// Answers what comes until the socket is closed. Handlers run as tasks of tokio.
    pub async fn serve(self, socket: Arc<AsyncSocket>) {
        // A call has at most a window of parts and one of pulls open, and a word that it is there or that it ends.
        let at_once = self.shared.limits.calls.saturating_mul(2 * WINDOW as usize + 2);
        let number = serve::next_socket();
        let _served = Served { shared: Arc::clone(&self.shared), number };
        let Ok(()) = serve::serve_as(number, socket, self, at_once).await;
    }

    /// What is done about a message, as a future without a reference to us.
    fn take(&mut self, incoming: Incoming) -> Result<Doing, Status> {
        let Incoming { payload, peer, protection, session, .. } = incoming;
        let shared = Arc::clone(&self.shared);
        // A piece, behind short ones. What a call begins with is answered before it is read, so nothing else bounds it.
        let most = shared.limits.piece_bytes.saturating_add(TOGETHER_MAX);
        match Ask::parse(payload).map_err(status::of_malformed)? {
            Ask::Open { data, .. } if data.len() > most => Err(status::too_long(data.len(), most)),
            Ask::Item { call, data, .. } if data.len() > most => {
                let why = status::too_long(data.len(), most);
                // It stays until its client asks for the response, and learns why there is none.
                shared.find((session, call))?.fail(why.clone());
                Err(why)
            }
            Ask::Open { call, last, method, uri, headers, data } => {
                let place = Place::take(&shared, session)?;
                let deadline = status::timeout(&headers).and_then(|span| Instant::now().checked_add(span));
                let uplink = (!last).then(|| Arc::new(Uplink::begun(data.clone())));
                let body = match &uplink {
                    Some(uplink) => Body::new(UplinkBody(Arc::clone(uplink))),
                    None => Body::new(Whole(Some(data).filter(|data| !data.is_empty()))),
                };
                let mut request = Request::new(body);
                (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
                request.extensions_mut().insert(peer);
                request.extensions_mut().insert(protection);
                let producer = Producer::new(self.handle(request), shared.limits.piece_bytes);
                let open = Open { key: (session, call), place, producer, deadline, uplink };
                Ok(Box::pin(open.run(shared)))
            }
            Ask::Item { call, number, last, data } => {
                let stream = shared.find((session, call))?;
                Ok(Box::pin(async move { answer(stream.put(number, data, last).await) }))
            }
            Ask::Pull { call, number } => {
                let pull = Pull { stream: shared.find((session, call))?, shared, key: (session, call) };
                Ok(Box::pin(pull.run(number)))
            }
            Ask::Touch { call } => {
                shared.find((session, call))?;
                Ok(Box::pin(async { message::done() }))
            }
            Ask::Cancel { call } => {
                shared.end((session, call), Status::cancelled("the client cancelled the call"));
                Ok(Box::pin(async { message::done() }))
            }
        }
    }

    fn handle(&mut self, request: Request<Body>) -> Handling {
        let next = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, next);
        Box::pin(async move {
            let Ok(()) = poll_fn(|cx| service.poll_ready(cx)).await;
            let Ok(response) = service.call(request).await;
            response
        })
    }
}

type Doing = Pin<Box<dyn Future<Output = Vec<u8>> + Send>>;

impl<S> Service<Incoming> for Server<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Vec<u8>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Vec<u8>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, incoming: Incoming) -> Self::Future {
        let doing = self.take(incoming);
        Box::pin(async {
            Ok(match doing {
                Ok(doing) => doing.await,
                Err(why) => message::failed(&why),
            })
        })
    }
}

/// A call that begins.
struct Open {
    key: Key,
    place: Place,
    producer: Producer,
    deadline: Option<Instant>,
    uplink: Option<Arc<Uplink>>,
}

impl Open {
    /// Of a request that is complete the first part of the response is the answer, when it is there; of any other the word that parts are
    /// welcome now, at once.
    async fn run(mut self, shared: Arc<Shared>) -> Vec<u8> {
        if self.uplink.is_some() {
            return answer(self.keep(&shared, 0));
        }
        let first = poll_fn(|cx| self.producer.poll_part(cx));
        let (part, last) = match self.deadline {
            None => first.await,
            Some(deadline) => match timeout_at(deadline, first).await {
                Ok(first) => first,
                Err(_) => return message::failed(&too_late()),
            },
        };
        if last {
            return part;
        }
        match self.keep(&shared, 1) {
            Ok(()) => part,
            Err(why) => message::failed(&why),
        }
    }

    fn keep(self, shared: &Arc<Shared>, next: u64) -> Result<(), Status> {
        let Self { key, place, producer, deadline, uplink } = self;
        let mut table = shared.table();
        let Entry::Vacant(entry) = table.streams.entry(key) else {
            drop(table);
            return Err(Status::internal("two calls have one number"));
        };
        let stream = Arc::new(Stream::new(producer, next, uplink, deadline));
        let watch = tokio::spawn(watch(Arc::downgrade(shared), key, Arc::downgrade(&stream))).abort_handle();
        entry.insert(Kept { stream, watch, _place: place });
        Ok(())
    }
}

/// Ends a call when its time is over, or nothing was heard of its client for long.
async fn watch(shared: Weak<Shared>, key: Key, stream: Weak<Stream>) {
    loop {
        let (Some(shared_now), Some(stream_now)) = (shared.upgrade(), stream.upgrade()) else { return };
        let now = Instant::now();
        let quiet = stream_now.heard().checked_add(shared_now.limits.idle);
        if stream_now.deadline.is_some_and(|deadline| deadline <= now) {
            return shared_now.end(key, too_late());
        }
        if quiet.is_some_and(|quiet| quiet <= now) {
            return shared_now.end(key, Status::cancelled("nothing was heard of the client"));
        }
        let Some(at) = [stream_now.deadline, quiet].into_iter().flatten().min() else { return };
        drop((shared_now, stream_now));
        sleep_until(at).await;
    }
}

/// A part of a response that is asked for. Who no longer waits for it wants nothing of the call any more.
struct Pull {
    stream: Arc<Stream>,
    shared: Arc<Shared>,
    key: Key,
}

impl Pull {
    async fn run(self, number: u64) -> Vec<u8> {
        /// Ends the call when the pull is dropped.
        struct Unanswered(Option<Pull>);
        impl Drop for Unanswered {
            fn drop(&mut self) {
                if let Some(pull) = self.0.take() {
                    pull.shared.end(pull.key, Status::cancelled("the client cancelled the call"));
                }
            }
        }
        let stream = Arc::clone(&self.stream);
        let mut unanswered = Unanswered(Some(self));
        let pulled = stream.pull(number).await;
        let Some(pull) = unanswered.0.take() else { unreachable!("only we take it") };
        match pulled {
            Ok((part, last)) => {
                if last {
                    pull.shared.forget(pull.key);
                }
                part
            }
            Err(why) => {
                if pull.stream.has_failed() {
                    pull.shared.forget(pull.key);
                }
                message::failed(&why)
            }
        }
    }
}

fn too_late() -> Status {
    Status::deadline_exceeded("the deadline of the call passed")
}
