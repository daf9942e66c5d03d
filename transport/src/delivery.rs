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
    Failed(Box<Failed>),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each is moved some times on its way to the application: what is rare or shared stands elsewhere.
    #[test]
    fn small_enough_to_be_moved() {
        assert!(size_of::<Delivery>() <= 80, "{} bytes", size_of::<Delivery>());
        let event = size_of::<endpoint::events::Event>();
        assert!(event <= 72, "{event} bytes");
    }
}
