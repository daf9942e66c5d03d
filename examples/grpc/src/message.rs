//! Owns the messages of a call as bytes: what a client asks, what a server answers. Knows no sockets.
//!
//! A client only asks and a server only answers, so a server needs no right to begin calls. `Open` has the head of a request and what is
//! there of its body. Of a longer body each further part is an `Item`, and of a longer response each further part is the answer to a
//! `Pull`; both are numbered, because messages overtake each other. What comes last says so, with the trailers behind it.

use bytes::Bytes;
use tonic::codegen::http::{HeaderMap, Method, Response, StatusCode, Uri};
use tonic::{Code, Status};

use crate::head::{self, Malformed, Reader, put_number};

const OPEN: u8 = 1;
const ITEM: u8 = 2;
const PULL: u8 = 3;
const TOUCH: u8 = 4;
const CANCEL: u8 = 5;
const PART: u8 = 6;
const DONE: u8 = 7;
const FAILED: u8 = 8;
const KIND: u8 = 0x0f;
/// It begins a response: its head comes first.
const HEAD: u8 = 0x40;
/// Nothing follows it.
const LAST: u8 = 0x80;
/// Bytes at the end of a last part: how long the trailers before them are.
const FOOT: usize = 4;
/// Bytes of the words of a failure.
const WORDS_MAX: usize = 1024;

/// Which call of a session. The client counts.
pub type CallNumber = u64;

/// What a client asks.
#[derive(Debug)]
pub enum Ask {
    /// Begins a call.
    Open {
        /// Its number.
        call: CallNumber,
        /// The body is all of it.
        last: bool,
        /// The method of HTTP.
        method: Method,
        /// The path.
        uri: Uri,
        /// The metadata.
        headers: HeaderMap,
        /// The beginning of the body.
        data: Bytes,
    },
    /// A further part of a request's body. It is answered when it was taken.
    Item {
        /// Of which call.
        call: CallNumber,
        /// From 1 on.
        number: u64,
        /// Nothing follows it.
        last: bool,
        /// The part.
        data: Bytes,
    },
    /// Asks for a further part of the response.
    Pull {
        /// Of which call.
        call: CallNumber,
        /// From 0 on, or from 1 where the answer to `Open` was the first.
        number: u64,
    },
    /// The client is still there.
    Touch {
        /// Of which call.
        call: CallNumber,
    },
    /// Nobody wants the call any more.
    Cancel {
        /// Which.
        call: CallNumber,
    },
}

/// Begins an [`Ask::Open`]; its data is to be appended.
///
/// # Errors
/// When the head is too long.
pub fn open(call: CallNumber, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::with_capacity(512);
    begin(&mut out, OPEN, call);
    head::put_request(&mut out, method, uri, headers)?;
    Ok(out)
}

/// Begins an [`Ask::Item`]; its data is to be appended.
pub fn item(call: CallNumber, number: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    begin(&mut out, ITEM, call);
    put_number(&mut out, number);
    out
}

/// Says that nothing follows a message that [`open`] or [`item`] began.
pub fn set_last(message: &mut [u8]) {
    message[0] |= LAST;
}

/// An [`Ask::Pull`].
pub fn pull(call: CallNumber, number: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    begin(&mut out, PULL, call);
    put_number(&mut out, number);
    out
}

/// An [`Ask::Touch`].
pub fn touch(call: CallNumber) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    begin(&mut out, TOUCH, call);
    out
}

/// An [`Ask::Cancel`].
pub fn cancel(call: CallNumber) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    begin(&mut out, CANCEL, call);
    out
}

fn begin(out: &mut Vec<u8>, kind: u8, call: CallNumber) {
    out.push(kind);
    put_number(out, call);
}

impl Ask {
    /// Reads what a client asks.
    ///
    /// # Errors
    /// When it is nothing that a client asks.
    pub fn parse(bytes: Bytes) -> Result<Self, Malformed> {
        let mut from = Reader(bytes);
        let first = from.byte()?;
        let call = from.number()?;
        let last = first & LAST != 0;
        let ask = match first & !LAST {
            OPEN => {
                let (method, uri, headers) = head::request(&mut from)?;
                return Ok(Self::Open { call, last, method, uri, headers, data: from.0 });
            }
            ITEM => return Ok(Self::Item { call, number: from.number()?, last, data: from.0 }),
            _ if last => return Err(Malformed("no message that can be the last")),
            PULL => Self::Pull { call, number: from.number()? },
            TOUCH => Self::Touch { call },
            CANCEL => Self::Cancel { call },
            _ => return Err(Malformed("no message of a client")),
        };
        if from.0.is_empty() { Ok(ask) } else { Err(Malformed("bytes behind the message")) }
    }
}

/// What a server answers.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it lives for a moment, and is nearly always the large one")]
pub enum Answer {
    /// A part of the response.
    Part(Part),
    /// It is done, or taken.
    Done,
    /// The call has failed, or there is none.
    Failed(Status),
}

/// A part of a response.
#[derive(Debug)]
pub struct Part {
    /// Of the first: status and headers.
    pub head: Option<(StatusCode, HeaderMap)>,
    /// The part of the body.
    pub data: Bytes,
    /// Of the last: the trailers.
    pub end: Option<HeaderMap>,
}

/// Begins a part; its data is to be appended.
///
/// # Errors
/// When the head is too long.
pub fn part(head: Option<&Response<()>>) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::with_capacity(512);
    out.push(PART);
    if let Some(head) = head {
        out[0] |= HEAD;
        head::put_response(&mut out, head.status(), head.headers())?;
    }
    Ok(out)
}

/// Ends a part that is the last.
///
/// # Errors
/// When the trailers are too long.
pub fn end(part: &mut Vec<u8>, trailers: &HeaderMap) -> Result<(), Malformed> {
    part[0] |= LAST;
    let begin = part.len();
    head::put_headers(part, trailers)?;
    let length = (part.len() - begin) as u32;
    part.extend_from_slice(&length.to_le_bytes());
    Ok(())
}

/// An [`Answer::Done`].
pub fn done() -> Vec<u8> {
    vec![DONE]
}

/// An [`Answer::Failed`]: code and words. Details stand in trailers, which what fails here never had.
pub fn failed(status: &Status) -> Vec<u8> {
    let words = status.message().as_bytes();
    let words = &words[..words.len().min(WORDS_MAX)];
    let mut out = Vec::with_capacity(2 + words.len());
    out.extend_from_slice(&[FAILED, status.code() as u8]);
    out.extend_from_slice(words);
    out
}

impl Answer {
    /// Reads what a server answered.
    ///
    /// # Errors
    /// When it is nothing that a server answers.
    pub fn parse(bytes: Bytes) -> Result<Self, Malformed> {
        let mut from = Reader(bytes);
        let first = from.byte()?;
        match first & KIND {
            PART if first & !(KIND | HEAD | LAST) == 0 => {
                let head = if first & HEAD != 0 { Some(head::response(&mut from)?) } else { None };
                let end = if first & LAST != 0 { Some(foot(&mut from)?) } else { None };
                Ok(Self::Part(Part { head, data: from.0, end }))
            }
            DONE if first == DONE && from.0.is_empty() => Ok(Self::Done),
            FAILED if first == FAILED => {
                let code = Code::from_i32(from.byte()?.into());
                let words = String::from_utf8_lossy(&from.0).into_owned();
                Ok(Self::Failed(Status::new(code, words)))
            }
            _ => Err(Malformed("no message of a server")),
        }
    }
}

/// Takes the trailers off the end.
fn foot(from: &mut Reader) -> Result<HeaderMap, Malformed> {
    let ends_early = Malformed("it ends too early");
    let at = from.0.len().checked_sub(FOOT).ok_or(ends_early)?;
    let length = from.0.split_off(at);
    let length = u32::from_le_bytes(length[..].try_into().expect("four bytes were split off")) as usize;
    let at = from.0.len().checked_sub(length).ok_or(ends_early)?;
    let mut trailers = Reader(from.0.split_off(at));
    let map = head::headers(&mut trailers)?;
    if trailers.0.is_empty() { Ok(map) } else { Err(Malformed("bytes behind the trailers")) }
}
