//! Owns the client of calls: a service of HTTP requests over one peer, which is what stubs of tonic take.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use sealane::{AsyncSocket, Peer};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tonic::Status;
use tonic::codegen::http::{Request, Response};
use tower_service::Service;

use crate::call::{Call, Line};
use crate::caller::Caller;
use crate::download::ResponseBody;
use crate::gather::{self, Gathered};
use crate::limits::{Limits, TOUCH_EVERY};
use crate::message::{self, Answer};
use crate::status;
use crate::upload::Upload;

/// Numbers of calls. Sessions belong to one process, so what is unique in it is unique in each of them.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A gRPC server, as stubs of tonic take it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Channel {
    caller: Caller,
    limits: Limits,
    timeout: Option<Duration>,
    touch_every: Duration,
    runtime: Handle,
}

impl Channel {
    /// The server that is this peer of a socket.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(socket: Arc<AsyncSocket>, peer: Peer) -> Self {
        let caller = Caller::new(socket, peer);
        Self { caller, limits: Limits::default(), timeout: None, touch_every: TOUCH_EVERY, runtime: Handle::current() }
    }

    /// Other limits; those of servers change nothing here.
    #[must_use]
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How long calls may take that say nothing of it themselves (`tonic::Request::set_timeout`). Default: no limit; a server that falls
    /// silent is found out all the same.
    #[must_use]
    pub const fn timeout(mut self, span: Duration) -> Self {
        self.timeout = Some(span);
        self
    }

    /// How often a call with a stream says that it is still wanted. Default 15 s, which fits a server's default of 60 s.
    #[must_use]
    pub const fn touch_every(mut self, span: Duration) -> Self {
        self.touch_every = span;
        self
    }

    /// Completes the handshake now instead of with the first call.
    ///
    /// # Errors
    /// As a call.
    pub async fn connect(&self) -> Result<(), Status> {
        self.caller.connect().await.map_err(status::of_error)
    }

    async fn run<B>(self, request: Request<B>) -> Result<Response<ResponseBody>, Status>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let (mut head, body) = request.into_parts();
        let timeout = status::timeout(&head.headers).or_else(|| {
            let span = self.timeout?;
            // Milliseconds of eight digits are more than a day.
            let text = format!("{}m", span.as_millis().clamp(1, 99_999_999));
            head.headers.insert("grpc-timeout", text.parse().expect("digits and a letter"));
            Some(span)
        });
        let deadline = timeout.and_then(|span| Instant::now().checked_add(span));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut open = message::open(number, &head.method, &head.uri, &head.headers)
            .map_err(|why| Status::resource_exhausted(format!("the request's metadata: {}", why.0)))?;
        let mut body = Box::pin(body);
        let piece_bytes = self.limits.piece_bytes;
        // What is not there yet is not waited for: perhaps it depends on the response.
        let gathered = poll_fn(|cx| {
            Poll::Ready(match gather::poll(body.as_mut(), cx, &mut open, piece_bytes) {
                Poll::Pending => Ok(Gathered::More),
                Poll::Ready(gathered) => gathered,
            })
        });
        let last = matches!(gathered.await?, Gathered::End(_));
        let mut call = Call::new(Line { caller: self.caller, number, deadline }, self.runtime);
        if last {
            message::set_last(&mut open);
            let part = call.part(open).await?;
            return ResponseBody::begin(call, part, None, self.touch_every);
        }
        let Answer::Done = call.ask(open).await? else {
            return Err(Status::internal("a call was answered before its request was complete"));
        };
        let mut upload = Upload::begin(&call, body, piece_bytes);
        let part = tokio::select! {
            biased;
            failed = upload.failed() => return Err(failed),
            part = call.part(message::pull(number, 0)) => part?,
        };
        ResponseBody::begin(call, part, Some(upload), self.touch_every)
    }
}

impl<B> Service<Request<B>> for Channel
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<ResponseBody>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Box::pin(self.clone().run(request))
    }
}
