//! Owns round trips without a network: what TLS takes for both sides in one thread, and what two copies take, which nothing in this
//! process can be faster than.

use std::io::{Read, Write};
use std::sync::Arc;

use anyhow::{Result, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConnection};

use super::Kind;
use super::tls::{client_config, server_config};
use crate::certs::{Credentials, SERVER_NAME};

/// Both sides of an open session of rustls, with the suite of Sealane.
#[derive(Debug)]
pub struct TlsSession {
    client: Connection,
    server: Connection,
    wire: Vec<u8>,
    /// What the server and the client read, and how much.
    read: [Plain; 2],
}

/// Memory that is written once when it grows, and used again.
#[derive(Debug, Default)]
struct Plain {
    bytes: Vec<u8>,
    len: usize,
}

impl Plain {
    fn take(&mut self, from: &mut Connection, len: usize) -> Result<()> {
        let end = self.len + len;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        from.reader().read_exact(&mut self.bytes[self.len..end])?;
        self.len = end;
        Ok(())
    }
}

impl TlsSession {
    /// A session.
    ///
    /// # Errors
    /// When rustls does not take the credentials.
    pub fn open(credentials: &Credentials) -> Result<Self> {
        let client = Arc::new(client_config(&credentials.authority, Kind::Full)?);
        let server = Arc::new(server_config(&credentials.server)?);
        let mut client = Connection::from(ClientConnection::new(client, ServerName::try_from(SERVER_NAME)?)?);
        let mut server = Connection::from(ServerConnection::new(server)?);
        client.set_buffer_limit(None);
        server.set_buffer_limit(None);
        let mut session = Self { client, server, wire: Vec::new(), read: Default::default() };
        session.round(b"hello")?;
        ensure!(session.reply() == b"hello", "the reply is not what was sent");
        Ok(session)
    }

    /// A message there and back.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn round(&mut self, message: &[u8]) -> Result<()> {
        let Self { client, server, wire, read: [request, reply] } = self;
        (request.len, reply.len) = (0, 0);
        client.writer().write_all(message)?;
        while request.len < message.len() {
            let moved = carry(client, server, wire, request)? | carry(server, client, wire, reply)?;
            ensure!(moved, "nothing moves");
        }
        server.writer().write_all(&request.bytes[..request.len])?;
        while reply.len < message.len() {
            ensure!(carry(server, client, wire, reply)?, "nothing moves");
        }
        Ok(())
    }

    /// What came back last.
    #[must_use]
    pub fn reply(&self) -> &[u8] {
        let reply = &self.read[1];
        &reply.bytes[..reply.len]
    }
}

/// What one side has to say arrives at the other. Whether there was anything.
fn carry(from: &mut Connection, to: &mut Connection, wire: &mut Vec<u8>, plain: &mut Plain) -> Result<bool> {
    wire.clear();
    while from.wants_write() {
        from.write_tls(wire)?;
    }
    let mut rest = &wire[..];
    while !rest.is_empty() {
        to.read_tls(&mut rest)?;
        let here = to.process_new_packets()?.plaintext_bytes_to_read();
        plain.take(to, here)?;
    }
    Ok(!wire.is_empty())
}

/// A message copied there and back.
#[derive(Debug, Default)]
pub struct Copied {
    there: Vec<u8>,
    back: Vec<u8>,
}

impl Copied {
    /// One.
    pub fn round(&mut self, message: &[u8]) {
        self.there.clear();
        self.there.extend_from_slice(message);
        self.back.clear();
        self.back.extend_from_slice(std::hint::black_box(&self.there));
        std::hint::black_box(&self.back);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_any_length_come_back() {
        let mut session = TlsSession::open(&Credentials::generate().unwrap()).unwrap();
        for len in [0, 1, 16_384, 16_385, 1 << 20] {
            let message: Vec<u8> = (0..len).map(|at| at as u8).collect();
            session.round(&message).unwrap();
            assert!(session.reply() == message, "{len} bytes come back as they were");
        }
    }
}
