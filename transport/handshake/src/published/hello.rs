//! Owns finding our parameters in a ClientHello (RFC 8446 section 4.1.2), before rustls is given it: what a server says of a first
//! flight stands in its own parameters, and rustls wants those first.
//!
//! It decides nothing: what it finds is judged by the ring's key, and rustls reads the same bytes after it.

use wire::bytes::Reader;
use wire::error::Refusal;

const CLIENT_HELLO: u8 = 1;
/// `quic_transport_parameters` (RFC 9001 section 8.2).
const QUIC_PARAMS: u16 = 0x39;

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
