//! Owns what no handshake can be faster than: what rustls itself computes for both sides, without a network, and one datagram there
//! and one back.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection};

use super::tls::{client_config, server_config};
use super::{Kind, REQUEST, Times};
use crate::certs::{Identity, SERVER_NAME};

/// Both sides of rustls in one thread.
#[derive(Debug)]
pub struct InMemory {
    kind: Kind,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    /// From the first byte to the first reply.
    pub times: Times,
}

impl InMemory {
    /// Two sides that have met as often as this kind asks for.
    ///
    /// # Errors
    /// When rustls does not take the credentials.
    pub fn new(authority: &str, identity: &Identity, kind: Kind) -> Result<Self> {
        let (client, server) = (Arc::new(client_config(authority, kind)?), Arc::new(server_config(identity)?));
        let memory = Self { kind, client, server, times: Times::default() };
        memory.one(false)?;
        Ok(memory)
    }

    /// So many handshakes, each after a pause.
    ///
    /// # Errors
    /// When one fails or is of another kind.
    pub fn round(&mut self, times: usize) -> Result<()> {
        let mut spent = std::mem::take(&mut self.times);
        let ended = spent.round(times, || self.one(true), || Ok(()));
        self.times = spent;
        ended
    }

    /// One handshake without a pause, or a clock.
    ///
    /// # Errors
    /// When it fails.
    pub fn one(&self, as_asked: bool) -> Result<()> {
        let mut client = ClientConnection::new(Arc::clone(&self.client), ServerName::try_from(SERVER_NAME)?)?;
        let mut server = ServerConnection::new(Arc::clone(&self.server))?;
        let early = match client.early_data() {
            Some(mut early) => early.write(&REQUEST)? == REQUEST.len(),
            None => false,
        };
        if !early {
            client.writer().write_all(&REQUEST)?;
        }
        let (mut wire, mut request, mut reply) = (Vec::new(), Vec::new(), Vec::new());
        while reply.len() < REQUEST.len() {
            while client.wants_write() {
                client.write_tls(&mut wire)?;
            }
            ensure!(!wire.is_empty(), "nothing moves");
            let mut rest = &wire[..];
            while !rest.is_empty() {
                server.read_tls(&mut rest)?;
                let state = server.process_new_packets()?;
                if let Some(mut early) = server.early_data() {
                    early.read_to_end(&mut request)?;
                }
                let mut plain = vec![0; state.plaintext_bytes_to_read()];
                server.reader().read_exact(&mut plain)?;
                request.extend(plain);
                if request.len() == REQUEST.len() {
                    server.writer().write_all(&std::mem::take(&mut request))?;
                }
            }
            wire.clear();
            while server.wants_write() {
                server.write_tls(&mut wire)?;
            }
            let mut rest = &wire[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest)?;
                let state = client.process_new_packets()?;
                let mut plain = vec![0; state.plaintext_bytes_to_read()];
                client.reader().read_exact(&mut plain)?;
                reply.extend(plain);
            }
            wire.clear();
        }
        ensure!(reply == REQUEST, "the reply is not what was asked for");
        let resumed = client.handshake_kind() == Some(HandshakeKind::Resumed);
        ensure!(!as_asked || resumed == (self.kind != Kind::Full), "the handshake in memory was of another kind");
        self.ticket(client, server)
    }

    /// The client takes the ticket, which comes behind the reply to early data.
    fn ticket(&self, mut client: ClientConnection, mut server: ServerConnection) -> Result<()> {
        while client.tls13_tickets_received() == 0 {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire)?;
            }
            let mut rest = &wire[..];
            while !rest.is_empty() {
                server.read_tls(&mut rest)?;
                server.process_new_packets()?;
            }
            wire.clear();
            while server.wants_write() {
                server.write_tls(&mut wire)?;
            }
            ensure!(!wire.is_empty(), "no ticket comes");
            let mut rest = &wire[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest)?;
                client.process_new_packets()?;
            }
        }
        Ok(())
    }
}

/// One datagram there and one back, of [`REQUEST`]'s length, between two threads that sleep in the kernel meanwhile.
#[derive(Debug)]
pub struct RoundTrip {
    socket: UdpSocket,
    /// Of one.
    pub times: Times,
}

impl RoundTrip {
    /// Two sockets, and the thread behind one.
    ///
    /// # Errors
    /// When there are no sockets left.
    pub fn start() -> Result<Self> {
        let echo = UdpSocket::bind("127.0.0.1:0").context("a socket")?;
        let socket = UdpSocket::bind("127.0.0.1:0").context("a socket")?;
        socket.connect(echo.local_addr()?)?;
        echo.connect(socket.local_addr()?)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        // It ends when the other socket is closed, or with the process.
        thread::spawn(move || {
            let mut bytes = [0; 2048];
            while let Ok(len) = echo.recv(&mut bytes) {
                if len == 0 || echo.send(&bytes[..len]).is_err() {
                    return;
                }
            }
        });
        Ok(Self { socket, times: Times::default() })
    }

    /// So many, each after a pause.
    ///
    /// # Errors
    /// When nothing comes back.
    pub fn round(&mut self, times: usize) -> Result<()> {
        let (socket, mut back) = (&self.socket, [0; 2048]);
        let one = || {
            socket.send(&REQUEST)?;
            ensure!(socket.recv(&mut back).context("a datagram on loopback")? == REQUEST.len(), "not what was sent");
            Ok(())
        };
        self.times.round(times, one, || Ok(()))
    }
}

impl Drop for RoundTrip {
    fn drop(&mut self) {
        // The echo's thread ends. Should this fail it ends with the process.
        let _ = self.socket.send(&[]);
    }
}
