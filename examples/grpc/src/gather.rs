//! Owns taking out of a body what it has ready, so that what is ready together travels together.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body;
use tonic::Status;
use tonic::codegen::http::HeaderMap;

use crate::status;

/// Bytes of small pieces that are put together; a longer piece stays whole.
pub(crate) const TOGETHER_MAX: usize = 64 << 10;

/// How a body goes on.
#[derive(Debug)]
pub(crate) enum Gathered {
    /// There may be more.
    More,
    /// It has ended, with these trailers.
    End(Option<HeaderMap>),
}

/// Appends what is ready. Pending when that is nothing.
///
/// # Errors
/// The body's own, and that a piece of it has more than `piece_max` bytes.
pub(crate) fn poll<B: Body<Data = Bytes>>(
    mut body: Pin<&mut B>,
    cx: &mut Context<'_>,
    out: &mut Vec<u8>,
    piece_max: usize,
) -> Poll<Result<Gathered, Status>>
where
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let before = out.len();
    loop {
        match body.as_mut().poll_frame(cx) {
            Poll::Pending if out.len() == before => return Poll::Pending,
            Poll::Pending => return Poll::Ready(Ok(Gathered::More)),
            Poll::Ready(None) => return Poll::Ready(Ok(Gathered::End(None))),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Status::from_error(error.into()))),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if data.len() > piece_max => {
                    return Poll::Ready(Err(status::too_long(data.len(), piece_max)));
                }
                Ok(data) => out.extend_from_slice(&data),
                Err(frame) => return Poll::Ready(Ok(Gathered::End(frame.into_trailers().ok()))),
            },
        }
        if out.len() - before >= TOGETHER_MAX {
            return Poll::Ready(Ok(Gathered::More));
        }
    }
}
