//! Owns what `recv` gives.

use crate::message::{Failed, OneWay, Request, Response};
use crate::stream::MessageStream;

/// What `recv` gives.
#[derive(Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// A request, to be answered with [`crate::Socket::reply`].
    Request(Request),
    /// A response to a request that was sent with [`crate::Socket::send`].
    Response(Response),
    /// A message that wants no response.
    OneWay(OneWay),
    /// The beginning of a long message: see [`crate::Builder::stream_above`].
    Stream(MessageStream),
    /// Something that was sent with `send` or `send_one_way` failed.
    Failed(Failed),
}
