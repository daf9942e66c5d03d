//! Owns the body of a response at the client: keeps a window of pulls open as long as it is read, and gives their answers in order.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::task::AbortHandle;
use tonic::Status;
use tonic::codegen::http::{HeaderMap, Response};

use crate::call::Call;
use crate::limits::WINDOW;
use crate::message::{self, Part};
use crate::upload::Upload;

/// The body of a response. Dropped before its end, it cancels the call.
#[derive(Debug)]
pub struct ResponseBody {
    data: Bytes,
    trailers: HeaderMap,
    rest: Option<Box<Download>>,
}

impl ResponseBody {
    /// The response that begins with this part.
    pub(crate) fn begin(
        mut call: Call,
        part: Part,
        upload: Option<Upload>,
        touch_every: Duration,
    ) -> Result<Response<Self>, Status> {
        let Part { head, data, end } = part;
        let (status, headers) = head.ok_or_else(|| Status::internal("a response without a head"))?;
        let (trailers, rest) = match end {
            Some(trailers) => {
                call.end();
                (trailers, None)
            }
            None => {
                let touch = call.runtime.spawn(call.line.clone().touch(touch_every)).abort_handle();
                let pulls = VecDeque::new();
                (HeaderMap::new(), Some(Box::new(Download { pulls, next: 1, touch, upload, call })))
            }
        };
        let mut response = Response::new(Self { data, trailers, rest });
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        Ok(response)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if !self.data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.data)))));
            }
            if !self.trailers.is_empty() {
                return Poll::Ready(Some(Ok(Frame::trailers(std::mem::take(&mut self.trailers)))));
            }
            let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
            match ready!(rest.poll_part(cx)) {
                Ok(Part { data, end, .. }) => {
                    self.data = data;
                    if let Some(trailers) = end {
                        self.trailers = trailers;
                        self.rest = None;
                    }
                }
                Err(why) => {
                    self.rest = None;
                    return Poll::Ready(Some(Err(why)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.trailers.is_empty() && self.rest.is_none()
    }
}

#[expect(clippy::large_enum_variant, reason = "a call has four at most")]
enum Pull {
    Asked(Pin<Box<dyn Future<Output = Result<Part, Status>> + Send>>),
    Answered(Result<Part, Status>),
}

/// The parts that have not come yet.
struct Download {
    /// In order: the first is the part that is next.
    pulls: VecDeque<Pull>,
    /// The part that is pulled next.
    next: u64,
    touch: AbortHandle,
    upload: Option<Upload>,
    call: Call,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("call", &self.call).field("next", &self.next).finish_non_exhaustive()
    }
}

impl Download {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Status>> {
        if let Some(upload) = &mut self.upload
            && let Poll::Ready(why) = upload.poll_failed(cx)
        {
            return Poll::Ready(Err(why));
        }
        while (self.pulls.len() as u64) < WINDOW {
            let (line, number) = (self.call.line.clone(), self.next);
            let pull = async move { line.part(message::pull(line.number, number)).await };
            self.pulls.push_back(Pull::Asked(Box::pin(pull)));
            self.next += 1;
        }
        // All of them: one that was never polled was never sent.
        for pull in &mut self.pulls {
            if let Pull::Asked(asked) = pull
                && let Poll::Ready(answer) = asked.as_mut().poll(cx)
            {
                *pull = Pull::Answered(answer);
            }
        }
        match self.pulls.pop_front() {
            Some(Pull::Answered(answer)) => {
                // Its end, in any way, is nothing to tell the server of.
                if !matches!(answer, Ok(Part { end: None, .. })) {
                    self.call.end();
                }
                Poll::Ready(answer)
            }
            Some(asked) => {
                self.pulls.push_front(asked);
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.touch.abort();
    }
}
