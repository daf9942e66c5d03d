//! Owns the response to a call at the server, from the handler's future to the last part: makes the next part when it is asked for one,
//! and does nothing else, so who does not ask holds the handler's stream back.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Response};

use crate::gather::{self, Gathered};
use crate::head::Malformed;
use crate::message;

/// What a handler gives: tonic's services never fail but by a status, which is a response.
pub(crate) type Handling = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

enum Step {
    /// The handler works.
    Handling(Handling),
    /// It gave a response: its head, until that has left, and its body.
    Responding(Option<Response<()>>, Body),
}

/// The response to one call.
pub(crate) struct Producer {
    step: Step,
    piece_bytes: usize,
}

impl Producer {
    pub(crate) fn new(handling: Handling, piece_bytes: usize) -> Self {
        Self { step: Step::Handling(handling), piece_bytes }
    }

    /// The next part as a message, and whether it is the last.
    pub(crate) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<(Vec<u8>, bool)> {
        if let Step::Handling(handling) = &mut self.step {
            let (head, body) = ready!(handling.as_mut().poll(cx)).into_parts();
            self.step = Step::Responding(Some(Response::from_parts(head, ())), body);
        }
        let Step::Responding(head, body) = &mut self.step else { unreachable!("it was just made one") };
        let begins = head.is_some();
        let mut part = match message::part(head.take().as_ref()) {
            Ok(part) => part,
            Err(why) => return Poll::Ready((message::failed(&too_long(why)), true)),
        };
        let trailers = match gather::poll(Pin::new(body), cx, &mut part, self.piece_bytes) {
            // The head does not wait for the body.
            Poll::Pending if begins => return Poll::Ready((part, false)),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(Gathered::More)) => return Poll::Ready((part, false)),
            Poll::Ready(Ok(Gathered::End(trailers))) => trailers.unwrap_or_default(),
            Poll::Ready(Err(status)) => {
                let mut trailers = HeaderMap::new();
                match status.add_header(&mut trailers) {
                    Ok(()) => trailers,
                    Err(status) => return Poll::Ready((message::failed(&status), true)),
                }
            }
        };
        match message::end(&mut part, &trailers) {
            Ok(()) => Poll::Ready((part, true)),
            Err(why) => Poll::Ready((message::failed(&too_long(why)), true)),
        }
    }
}

/// Our own metadata are what is malformed: they are too long.
fn too_long(why: Malformed) -> Status {
    Status::resource_exhausted(format!("the response's metadata: {}", why.0))
}
