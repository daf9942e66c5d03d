//! Owns a first flight by published ticket beside a TLS handshake. [P-6.11] [P-6.12]
//!
//! The client's parameters carry the opening, so the handshake's transcript covers it; the key of the flight's requests mixes in the
//! whole ClientHello, so that they open only beside the handshake that they were sent with.

use std::sync::Arc;

use record::aead::Crypto;
use rustls::quic::{Connection, ServerConnection, Version};
use wire::handshake::Method;

use crate::flight::Flight;
use crate::guard::Guard;
use crate::limits::INITIAL_MAX;
use crate::params;
use crate::published::hello;
use crate::published::{Publisher, Root, Sought, TAG_OPENING, TAG_VERDICT, Verdict, early_key};

/// What there is beside a handshake.
pub(super) struct Beside {
    root: Root,
    /// Server: what it says of the flight.
    verdict: Option<Verdict>,
}

impl Beside {
    pub(super) const fn offered(root: Root) -> Self {
        Self { root, verdict: None }
    }

    pub(super) const fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// The key of the flight's requests, which a client of this ClientHello sent.
    pub(super) fn guard(&self, crypto: &dyn Crypto, hello: &[u8]) -> Guard {
        Guard::Early(early_key(crypto, &self.root, hello))
    }
}

/// A server that has not read all of the ClientHello.
pub(super) struct Waiting {
    publisher: Arc<Publisher>,
    tls: Arc<rustls::ServerConfig>,
    params: Vec<u8>,
    unix_seconds: u64,
    stream: Vec<u8>,
}

impl Waiting {
    pub(super) const fn new(
        publisher: Arc<Publisher>,
        tls: Arc<rustls::ServerConfig>,
        params: Vec<u8>,
        unix_seconds: u64,
    ) -> Self {
        Self { publisher, tls, params, unix_seconds, stream: Vec::new() }
    }

    /// Takes bytes; gives all there are once a message is whole, or can never be.
    pub(super) fn whole(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.stream.extend_from_slice(bytes);
        // What is no ClientHello is refused by TLS, and not waited for.
        let hopeless = !hello::begins(&self.stream) || self.stream.len() >= INITIAL_MAX;
        let whole = hopeless || hello::message_len(&self.stream).is_some();
        whole.then(|| core::mem::take(&mut self.stream))
    }

    /// What becomes of a flight that the ClientHello brings, and the connection that says so; `None` where it brings none that we know.
    pub(super) fn judge(&self, flight: &Flight, stream: &[u8]) -> Option<(Beside, Connection)> {
        let theirs = hello::params(message(stream)?)?;
        let opening = params::find(theirs, TAG_OPENING)?;
        let session = flight.remote();
        let sought = Sought { opening, session, method: Method::Tls, unix_seconds: self.unix_seconds };
        let opened = self.publisher.open(&sought)?;
        let mut ours = self.params.clone();
        params::append(&mut ours, TAG_VERDICT, &[opened.verdict.code()]);
        let root = Root::new(flight.crypto(), &opened.secret);
        Some((Beside { root, verdict: Some(opened.verdict) }, connection(Arc::clone(&self.tls), ours)))
    }
}

/// The first message of a stream.
pub(super) fn message(stream: &[u8]) -> Option<&[u8]> {
    stream.get(..hello::message_len(stream)?)
}

/// A connection that has read nothing.
pub(super) fn connection(tls: Arc<rustls::ServerConfig>, params: Vec<u8>) -> Connection {
    let connection = ServerConnection::new(tls, Version::V1, params);
    connection.expect("the configuration is ours").into()
}
