//! Owns what goes into a socket and what comes out of it: bodies, peers, deliveries, names.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use attest::claims::Report;
use endpoint::endpoint::To;
use endpoint::pool::{self, Payload};
use endpoint::session::{CallId, Origin, Protection};
use handshake::identity::PeerIdentity;

use crate::error::Error;

/// The bytes of a message to be sent: borrowed ones are copied into a pooled buffer, owned ones are taken as they are.
#[derive(Debug)]
pub enum Body<'a> {
    /// To be copied.
    Borrowed(&'a [u8]),
    /// To be taken over; a [`Payload`] that came from a socket can be sent on without a copy.
    Owned(Payload),
    /// To be taken over.
    Bytes(Vec<u8>),
}

/// The empty message.
impl Default for Body<'_> {
    fn default() -> Self {
        Self::Borrowed(&[])
    }
}

impl Body<'_> {
    /// Bytes of the message.
    pub fn len(&self) -> usize {
        match self {
            Self::Borrowed(bytes) => bytes.len(),
            Self::Owned(payload) => payload.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Whether it is the empty message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> From<&'a [u8]> for Body<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Borrowed(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Body<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::Borrowed(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Body<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Borrowed(bytes)
    }
}

impl<'a> From<&'a str> for Body<'a> {
    fn from(text: &'a str) -> Self {
        Self::Borrowed(text.as_bytes())
    }
}

impl From<Vec<u8>> for Body<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Payload> for Body<'_> {
    fn from(payload: Payload) -> Self {
        Self::Owned(payload)
    }
}

impl From<pool::Body> for Body<'_> {
    fn from(body: pool::Body) -> Self {
        match body {
            pool::Body::Shared(payload) => Self::Owned(payload),
            pool::Body::Copied(bytes) => Self::Bytes(bytes),
        }
    }
}

/// A peer to send to. Cheap to clone; belongs to the socket that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    pub(crate) to: To,
    pub(crate) address: SocketAddr,
}

impl Peer {
    /// Where it is.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The name of a call, request or message, unique as long as its socket lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RpcId(pub(crate) CallId);

impl RpcId {
    /// The name as two numbers, for programs in other languages, which cannot keep a Rust value.
    pub const fn to_words(self) -> [u64; 2] {
        [self.0.session.as_u64(), self.0.rpc.as_u48()]
    }

    /// What [`Self::to_words`] gave. Other numbers give `None`, or the name of no call.
    pub fn from_words(words: [u64; 2]) -> Option<Self> {
        let rpc = wire::ids::RpcId::from_u48(words[1]).ok()?;
        Some(Self(CallId { session: wire::ids::SessionId::from_u64(words[0]), rpc }))
    }
}

impl fmt::Debug for RpcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{:?}", self.0.session, self.0.rpc)
    }
}

impl fmt::Display for RpcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// From whom something came. Cheap to clone: all that came in one session shares it.
#[derive(Clone, Debug)]
pub struct PeerInfo(pub(crate) Arc<Origin>);

impl PeerInfo {
    /// Where the peer is.
    pub fn addr(&self) -> SocketAddr {
        self.0.address
    }

    /// Who it proved to be in the handshake.
    pub fn identity(&self) -> &PeerIdentity {
        &self.0.identity
    }

    /// What it proved to run, where we demand evidence of that: its verified measurements.
    pub fn attested(&self) -> Option<&Report> {
        self.0.report.as_deref()
    }

    /// To send to it in the same session, whoever began that.
    pub fn peer(&self) -> Peer {
        Peer { to: To::Session(self.0.session), address: self.0.address }
    }
}

/// The right to answer one request, once.
#[derive(Debug)]
#[must_use = "a request that is never answered keeps its caller waiting"]
pub struct ReplyToken(pub(crate) CallId);

impl ReplyToken {
    /// Which request.
    pub const fn id(&self) -> RpcId {
        RpcId(self.0)
    }
}

/// A request.
#[derive(Debug)]
#[non_exhaustive]
pub struct Request {
    /// Who asks.
    pub peer: PeerInfo,
    /// Its name.
    pub id: RpcId,
    /// What it says.
    pub payload: Payload,
    /// How it was protected on its way.
    pub protection: Protection,
    /// To answer it with.
    pub token: ReplyToken,
}

/// The response to a request that was sent with `send`.
#[derive(Debug)]
#[non_exhaustive]
pub struct Response {
    /// Who answered.
    pub peer: PeerInfo,
    /// The request's name.
    pub id: RpcId,
    /// The caller's own number.
    pub cookie: u64,
    /// What it says.
    pub payload: Payload,
    /// How it was protected on its way.
    pub protection: Protection,
}

/// A message that wants no response.
#[derive(Debug)]
#[non_exhaustive]
pub struct OneWay {
    /// Who sent it.
    pub peer: PeerInfo,
    /// Its name.
    pub id: RpcId,
    /// What it says.
    pub payload: Payload,
    /// How it was protected on its way.
    pub protection: Protection,
}

/// A request or message sent with `send` or `send_one_way` that ended without success.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failed {
    /// Its name.
    pub id: RpcId,
    /// The caller's own number.
    pub cookie: u64,
    /// Why.
    pub error: Error,
}
