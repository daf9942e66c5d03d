//! Owns the client's end of one call: what is asked in it, by when, and that the server is told when nobody wants it any more.

use std::time::Duration;

use bytes::Bytes;
use sealane::CallOptions;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tonic::Status;

use crate::caller::Caller;
use crate::message::{self, Answer, CallNumber, Part};
use crate::status;

/// How long the word that a call is not wanted any more may take.
const CANCEL_MAX: Duration = Duration::from_secs(5);

/// Where to ask, in which call, and till when.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) caller: Caller,
    pub(crate) number: CallNumber,
    pub(crate) deadline: Option<Instant>,
}

impl Line {
    pub(crate) async fn ask(&self, message: Vec<u8>) -> Result<Answer, Status> {
        let mut options = CallOptions::new();
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Status::deadline_exceeded("the deadline of the call passed"));
            }
            options = options.deadline(left);
        }
        let answer = self.caller.call_with(message, options).await.map_err(status::of_error)?;
        match Answer::parse(Bytes::from_owner(answer)) {
            Ok(Answer::Failed(status)) => Err(status),
            Ok(answer) => Ok(answer),
            Err(why) => Err(status::of_malformed(why)),
        }
    }

    pub(crate) async fn part(&self, message: Vec<u8>) -> Result<Part, Status> {
        match self.ask(message).await? {
            Answer::Part(part) => Ok(part),
            _ => Err(Status::internal("the server answered something else than a part of its response")),
        }
    }

    /// Says that the call is still wanted, as long as the server knows it.
    pub(crate) async fn touch(self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            if self.ask(message::touch(self.number)).await.is_err() {
                return;
            }
        }
    }
}

/// A call that somebody wants. Dropped before it has ended, it tells the server.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) line: Line,
    pub(crate) runtime: Handle,
    wanted: bool,
}

impl Call {
    pub(crate) const fn new(line: Line, runtime: Handle) -> Self {
        Self { line, runtime, wanted: true }
    }

    /// The server has nothing of it any more.
    pub(crate) const fn end(&mut self) {
        self.wanted = false;
    }

    /// An error ends the call: the server said it, or has its deadline too, or is not there.
    pub(crate) async fn ask(&mut self, message: Vec<u8>) -> Result<Answer, Status> {
        self.line.ask(message).await.inspect_err(|_| self.wanted = false)
    }

    /// As [`Self::ask`].
    pub(crate) async fn part(&mut self, message: Vec<u8>) -> Result<Part, Status> {
        self.line.part(message).await.inspect_err(|_| self.wanted = false)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.wanted {
            let line = self.line.clone();
            // Perhaps we are dropped outside of the runtime, or after its end; then nobody is told.
            self.runtime.spawn(async move {
                let options = CallOptions::new().deadline(CANCEL_MAX);
                let _ = line.caller.call_with(message::cancel(line.number), options).await;
            });
        }
    }
}
