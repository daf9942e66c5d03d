//! Owns heads as bytes: the method, path and headers of a request, the status and headers of a response, trailers. What nearly every
//! gRPC call has takes one byte. Refuses bytes that are no head, and heads that are too long; knows nothing of messages.

use bytes::Bytes;
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

/// Bytes of one head: what HTTP servers commonly allow.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of one head.
pub const HEADERS_MAX: usize = 256;

/// Headers of which both name and value are known. An index here is part of the protocol: append only.
const PAIRS: &[(&str, &str)] = &[
    ("content-type", "application/grpc"),
    ("te", "trailers"),
    ("grpc-status", "0"),
    ("grpc-accept-encoding", "gzip,zstd,deflate"),
    ("content-type", "application/grpc+proto"),
];

/// Names that are known. Append only.
const NAMES: &[&str] = &[
    "grpc-timeout",
    "grpc-status",
    "grpc-message",
    "grpc-status-details-bin",
    "user-agent",
    "authorization",
    "grpc-encoding",
    "grpc-accept-encoding",
    "content-type",
    "date",
    "traceparent",
    "tracestate",
];

/// The first byte of a header is one of: a name follows, a known name, a known pair.
const LITERAL: u8 = 0;
const NAME: u8 = 1;
const PAIR: u8 = 128;
const _: () = assert!(NAMES.len() < (PAIR - NAME) as usize && PAIRS.len() < PAIR as usize);

/// Bytes that are no message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed message: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Reads from the front of a message, which it shares.
#[derive(Debug)]
pub struct Reader(pub Bytes);

impl Reader {
    /// One byte.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    /// Eight bytes, little-endian.
    pub fn word(&mut self) -> Result<u64, Malformed> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes[..].try_into().expect("eight bytes were taken")))
    }

    /// A number in groups of seven bits, lowest first, in the shortest form.
    pub fn number(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return if byte == 0 && shift > 0 { Err(Malformed("a number with idle bytes")) } else { Ok(value) };
            }
        }
        Err(Malformed("a number of more than 63 bits"))
    }

    /// So many bytes, shared.
    pub fn take(&mut self, count: usize) -> Result<Bytes, Malformed> {
        if count > self.0.len() { Err(Malformed("it ends too early")) } else { Ok(self.0.split_to(count)) }
    }

    /// A length and so many bytes.
    pub fn string(&mut self) -> Result<Bytes, Malformed> {
        let length = self.number()?;
        self.take(usize::try_from(length).map_err(|_| Malformed("it ends too early"))?)
    }
}

/// Writes what [`Reader::number`] reads.
pub fn put_number(out: &mut Vec<u8>, mut value: u64) {
    debug_assert!(value >> 63 == 0, "numbers have 63 bits");
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes headers and their number.
///
/// # Errors
/// When there are too many, or they are too long; `out` is then of no use.
pub fn put_headers(out: &mut Vec<u8>, headers: &HeaderMap) -> Result<(), Malformed> {
    if headers.len() > HEADERS_MAX {
        return Err(Malformed("too many headers"));
    }
    let begin = out.len();
    put_number(out, headers.len() as u64);
    for (name, value) in headers {
        let (name, value) = (name.as_str(), value.as_bytes());
        if let Some(pair) = PAIRS.iter().position(|(n, v)| *n == name && v.as_bytes() == value) {
            out.push(PAIR + pair as u8);
            continue;
        }
        match NAMES.iter().position(|known| *known == name) {
            Some(known) => out.push(NAME + known as u8),
            None => {
                out.push(LITERAL);
                put_string(out, name.as_bytes());
            }
        }
        put_string(out, value);
    }
    if out.len() - begin > HEAD_BYTES_MAX { Err(Malformed("the headers are too long")) } else { Ok(()) }
}

/// Reads what [`put_headers`] wrote.
///
/// # Errors
/// When it is something else.
pub fn headers(from: &mut Reader) -> Result<HeaderMap, Malformed> {
    let before = from.0.len();
    let count = from.number()?;
    if count > HEADERS_MAX as u64 {
        return Err(Malformed("too many headers"));
    }
    let mut headers = HeaderMap::with_capacity(count as usize);
    for _ in 0..count {
        let (name, value) = match from.byte()? {
            LITERAL => {
                let name = HeaderName::from_bytes(&from.string()?).map_err(|_| Malformed("no name of a header"))?;
                (name, value(from.string()?)?)
            }
            tag if tag < PAIR => {
                let name = NAMES.get((tag - NAME) as usize).ok_or(Malformed("an unknown name"))?;
                (HeaderName::from_static(name), value(from.string()?)?)
            }
            tag => {
                let (name, value) = PAIRS.get((tag - PAIR) as usize).ok_or(Malformed("an unknown pair"))?;
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            }
        };
        headers.append(name, value);
    }
    if before - from.0.len() > HEAD_BYTES_MAX { Err(Malformed("the headers are too long")) } else { Ok(headers) }
}

fn value(bytes: Bytes) -> Result<HeaderValue, Malformed> {
    HeaderValue::from_maybe_shared(bytes).map_err(|_| Malformed("no value of a header"))
}

/// Writes the head of a request.
///
/// # Errors
/// As [`put_headers`].
pub fn put_request(out: &mut Vec<u8>, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Malformed> {
    // All of gRPC is POST.
    put_string(out, if *method == Method::POST { b"" } else { method.as_str().as_bytes() });
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    if path.len() > HEAD_BYTES_MAX || method.as_str().len() > HEAD_BYTES_MAX {
        return Err(Malformed("the path is too long"));
    }
    put_string(out, path.as_bytes());
    put_headers(out, headers)
}

/// Reads the head of a request.
///
/// # Errors
/// When it is none.
pub fn request(from: &mut Reader) -> Result<(Method, Uri, HeaderMap), Malformed> {
    let method = match from.string()? {
        name if name.is_empty() => Method::POST,
        name => Method::from_bytes(&name).map_err(|_| Malformed("no method"))?,
    };
    let path = from.string()?;
    if path.len() > HEAD_BYTES_MAX {
        return Err(Malformed("the path is too long"));
    }
    let uri = Uri::from_maybe_shared(path).map_err(|_| Malformed("no path"))?;
    Ok((method, uri, headers(from)?))
}

/// Writes the head of a response.
///
/// # Errors
/// As [`put_headers`].
pub fn put_response(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) -> Result<(), Malformed> {
    put_number(out, if status == StatusCode::OK { 0 } else { status.as_u16().into() });
    put_headers(out, headers)
}

/// Reads the head of a response.
///
/// # Errors
/// When it is none.
pub fn response(from: &mut Reader) -> Result<(StatusCode, HeaderMap), Malformed> {
    let status = match from.number()? {
        0 => StatusCode::OK,
        code => {
            u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Malformed("no status"))?
        }
    };
    Ok((status, headers(from)?))
}
