//! Owns sending the rest of a request's body, in a task beside the response.

use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};
use tonic::Status;

use crate::call::{Call, Line};
use crate::gather::{self, Gathered};
use crate::limits::WINDOW;
use crate::message;

/// The task. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Upload {
    task: AbortHandle,
    failed: oneshot::Receiver<Status>,
}

impl Upload {
    /// Begins to send what follows the first part.
    pub(crate) fn begin<B>(call: &Call, body: Pin<Box<B>>, piece_bytes: usize) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let line = call.line.clone();
        let (tell, failed) = oneshot::channel();
        let task = call.runtime.spawn(async move {
            if let Err(why) = run(line, body, piece_bytes).await {
                let _ = tell.send(why);
            }
        });
        Self { task: task.abort_handle(), failed }
    }

    /// Ends when the body itself failed. What the server refuses is told by its response.
    pub(crate) async fn failed(&mut self) -> Status {
        poll_fn(|cx| self.poll_failed(cx)).await
    }

    pub(crate) fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if self.failed.is_terminated() {
            return Poll::Pending;
        }
        match Pin::new(&mut self.failed).poll(cx) {
            Poll::Ready(Ok(why)) => Poll::Ready(why),
            _ => Poll::Pending,
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run<B>(line: Line, mut body: Pin<Box<B>>, piece_bytes: usize) -> Result<(), Status>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut under_way = JoinSet::new();
    let mut number = 0;
    let mut last = false;
    while !last {
        while under_way.len() as u64 >= WINDOW {
            let Some(Ok(Ok(_))) = under_way.join_next().await else { return Ok(()) };
        }
        number += 1;
        let mut item = message::item(line.number, number);
        let gathered = poll_fn(|cx| gather::poll(body.as_mut(), cx, &mut item, piece_bytes)).await?;
        last = matches!(gathered, Gathered::End(_));
        if last {
            message::set_last(&mut item);
        }
        let line = line.clone();
        under_way.spawn(async move { line.ask(item).await });
    }
    while let Some(Ok(Ok(_))) = under_way.join_next().await {}
    Ok(())
}
