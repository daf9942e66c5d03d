//! Owns finding our parameters in a ClientHello (RFC 8446 section 4.1.2), before rustls is given it: what a server says of a first
//! flight stands in its own parameters, and rustls wants those first.
//!
//! It decides nothing: what it finds is judged by the ring's key, and rustls reads the same bytes after it.

use wire::bytes::Reader;
use wire::error::Refusal;

const CLIENT_HELLO: u8 = 1;
/// `quic_transport_parameters` (RFC 9001 section 8.2).
const QUIC_PARAMS: u16 = 0x39;

/// Whether a stream can be one of a client.
pub(crate) fn begins(stream: &[u8]) -> bool {
    stream.first() == Some(&CLIENT_HELLO)
}

/// Bytes of the message at the start of a stream, once all of it is here.
pub(crate) fn message_len(stream: &[u8]) -> Option<usize> {
    let &[_, a, b, c] = stream.first_chunk::<4>()?;
    let len = 4 + usize::from(a) * 65_536 + usize::from(b) * 256 + usize::from(c);
    (stream.len() >= len).then_some(len)
}

/// The transport parameters in a whole ClientHello.
pub(crate) fn params(message: &[u8]) -> Option<&[u8]> {
    find(message).ok().flatten()
}

fn find(message: &[u8]) -> Result<Option<&[u8]>, Refusal> {
    let mut r = Reader::new(message);
    if r.u8()? != CLIENT_HELLO {
        return Ok(None);
    }
    // Length, version, random.
    r.take(3 + 2 + 32)?;
    let session = usize::from(r.u8()?);
    r.take(session)?;
    let suites = usize::from(r.u16()?);
    r.take(suites)?;
    let compressions = usize::from(r.u8()?);
    r.take(compressions)?;
    r.u16()?;
    while !r.is_empty() {
        let (kind, len) = (r.u16()?, usize::from(r.u16()?));
        let value = r.take(len)?;
        if kind == QUIC_PARAMS {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the bytes, reading them ends, and what is found lies within them.
        #[test]
        fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(first) = bytes.first_mut() {
                *first = CLIENT_HELLO;
            }
            let _ = params(&bytes);
            prop_assert!(message_len(&bytes).is_none_or(|len| len <= bytes.len()));
        }
    }

    /// The parameters stand where RFC 8446 puts them, whatever stands before; a hello that is cut has none.
    #[test]
    fn found() {
        let extensions = [&[0, 43, 0, 2, 9, 9][..], &[0, 0x39, 0, 3, 7, 8, 9]].concat();
        let body = [&[3, 3][..], &[5; 32], &[2, 1, 1], &[0, 2, 0x13, 1], &[1, 0], &[0, 13], &extensions].concat();
        let hello = [&[CLIENT_HELLO, 0, 0, body.len() as u8][..], &body].concat();
        assert_eq!(message_len(&hello), Some(hello.len()));
        assert_eq!(params(&hello), Some(&[7, 8, 9][..]));
        (0..hello.len()).for_each(|cut| {
            assert_eq!((message_len(&hello[..cut]), params(&hello[..cut])), (None, None));
        });
        assert!(begins(&hello) && !begins(&hello[1..]) && !begins(&[]));
    }
}
