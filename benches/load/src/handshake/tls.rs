//! Owns what Sealane's handshakes are compared with: TLS 1.3 over TCP by rustls, with the same certificate, suites, key exchanges and
//! kind of tickets, on blocking sockets. All that is ready leaves in one write.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ServerSessionMemoryCache;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection};

use super::{Kind, REQUEST, Span, Times};
use crate::certs::{Identity, SERVER_NAME};

/// What both sides offer, here and in Sealane: the hybrid first.
fn provider() -> Arc<CryptoProvider> {
    let kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519];
    let cipher_suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256];
    Arc::new(CryptoProvider { kx_groups, cipher_suites, ..default_provider() })
}

/// A server of one certificate, that gives one ticket per session.
pub(super) fn server_config(identity: &Identity) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.session_storage = ServerSessionMemoryCache::new(1024);
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 1 << 14;
    config.send_half_rtt_data = true;
    Ok(config)
}

/// An anonymous client that begins this way.
pub(super) fn client_config(authority: &str, kind: Kind) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = if kind == Kind::Full { Resumption::disabled() } else { Resumption::in_memory_sessions(8) };
    config.enable_early_data = kind == Kind::EarlyData;
    Ok(config)
}

/// Answers one connection after the other, until the process ends.
#[derive(Debug)]
pub struct Server {
    /// Where.
    pub at: SocketAddr,
}

impl Server {
    /// Starts its thread.
    ///
    /// # Errors
    /// When rustls does not take the credentials, or there is no port.
    pub fn start(identity: &Identity) -> Result<Self> {
        let config = Arc::new(server_config(identity)?);
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let at = listener.local_addr()?;
        // It ends with the process: nothing of it is worth an orderly end.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A connection that fails is its client's to tell.
                let _ = serve(&config, stream);
            }
        });
        Ok(Self { at })
    }
}

fn serve(config: &Arc<ServerConfig>, mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut connection = ServerConnection::new(Arc::clone(config))?;
    let mut request = Vec::new();
    let mut answered = false;
    loop {
        while connection.wants_write() {
            connection.write_tls(&mut stream)?;
        }
        if connection.read_tls(&mut stream)? == 0 {
            return Ok(());
        }
        let state = connection.process_new_packets()?;
        if let Some(mut early) = connection.early_data() {
            early.read_to_end(&mut request)?;
        }
        let mut rest = vec![0; state.plaintext_bytes_to_read()];
        connection.reader().read_exact(&mut rest)?;
        request.extend(rest);
        if request.len() == REQUEST.len() && !answered {
            connection.writer().write_all(&request)?;
            answered = true;
        }
    }
}

/// The other side of one kind.
#[derive(Debug)]
pub struct Client {
    kind: Kind,
    at: SocketAddr,
    config: Arc<ClientConfig>,
    /// From connect to the reply.
    pub times: Times,
    /// The key exchange of the last handshake.
    pub exchange: Option<String>,
    /// Bytes until the reply, of the last one: sent, received.
    pub bytes: (u64, u64),
}

impl Client {
    /// A client that has met the server as often as this kind asks for.
    ///
    /// # Errors
    /// When the server does not answer as it should.
    pub fn new(authority: &str, kind: Kind, at: SocketAddr) -> Result<Self> {
        let config = Arc::new(client_config(authority, kind)?);
        let mut client = Self { kind, at, config, times: Times::default(), exchange: None, bytes: (0, 0) };
        for as_asked in [false, true] {
            finish(&mut client.one(as_asked)?)?;
        }
        Ok(client)
    }

    /// So many handshakes, each after a pause.
    ///
    /// # Errors
    /// When one fails or is of another kind.
    pub fn round(&mut self, times: usize) -> Result<()> {
        self.spans(Span::FirstReply, times)
    }

    /// The same for another part of it.
    ///
    /// # Errors
    /// When one fails or is of another kind.
    pub fn spans(&mut self, span: Span, times: usize) -> Result<()> {
        let mut spent = std::mem::take(&mut self.times);
        let open = RefCell::new(None);
        if span == Span::Reconnect {
            let mut before = self.one(true)?;
            finish(&mut before)?;
            *open.borrow_mut() = Some(before);
        }
        let ended = spent.round(
            times,
            || {
                // What was open is closed by this: where that is timed, by `Reconnect` alone.
                drop(open.borrow_mut().take());
                let now = if span == Span::Handshake { self.handshake()? } else { self.one(true)? };
                *open.borrow_mut() = Some(now);
                Ok(())
            },
            || {
                let Some(mut now) = open.borrow_mut().take() else { return Ok(()) };
                finish(&mut now)?;
                if span == Span::Reconnect {
                    *open.borrow_mut() = Some(now);
                }
                Ok(())
            },
        );
        self.times = spent;
        ended
    }

    fn connect(&self) -> Result<(Counting, ClientConnection)> {
        let stream = Counting { stream: TcpStream::connect(self.at)?, sent: 0, received: 0 };
        stream.stream.set_nodelay(true)?;
        let connection = ClientConnection::new(Arc::clone(&self.config), ServerName::try_from(SERVER_NAME)?)?;
        Ok((stream, connection))
    }

    /// From connect until keys are in use, our last flight sent.
    fn handshake(&self) -> Result<(Counting, ClientConnection)> {
        let (mut stream, mut connection) = self.connect()?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok((stream, connection))
    }

    /// From connect to the reply; `as_asked`: it must be of the kind that is measured.
    fn one(&mut self, as_asked: bool) -> Result<(Counting, ClientConnection)> {
        let (mut stream, mut connection) = self.connect()?;
        let early = match connection.early_data() {
            Some(mut early) => early.write(&REQUEST)? == REQUEST.len(),
            None => false,
        };
        if !early {
            connection.writer().write_all(&REQUEST)?;
        }
        let mut reply = [0; REQUEST.len()];
        let mut at = 0;
        while at < reply.len() {
            while connection.wants_write() {
                connection.write_tls(&mut stream)?;
            }
            ensure!(connection.read_tls(&mut stream)? > 0, "the TCP server hung up");
            connection.process_new_packets()?;
            at += match connection.reader().read(&mut reply[at..]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                read => read?,
            };
        }
        ensure!(reply == REQUEST, "the reply over TCP is not what was asked for");
        if as_asked {
            let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
            ensure!(resumed == (self.kind != Kind::Full), "the handshake over TCP was of another kind");
            ensure!(self.kind != Kind::EarlyData || connection.is_early_data_accepted(), "no early data over TCP");
            let group = connection.negotiated_key_exchange_group().context("a key exchange")?;
            self.exchange = Some(format!("{:?}", group.name()));
            self.bytes = (stream.sent, stream.received);
        }
        Ok((stream, connection))
    }
}

/// Waits for the ticket, which comes behind the reply to early data.
fn finish((stream, connection): &mut (Counting, ClientConnection)) -> Result<()> {
    while connection.tls13_tickets_received() == 0 {
        while connection.wants_write() {
            connection.write_tls(stream)?;
        }
        ensure!(connection.read_tls(stream)? > 0, "the TCP server hung up");
        connection.process_new_packets()?;
    }
    Ok(())
}

/// A stream that counts.
struct Counting {
    stream: TcpStream,
    sent: u64,
    received: u64,
}

impl Read for Counting {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(into)?;
        self.received += read as u64;
        Ok(read)
    }
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stream.write(bytes)?;
        self.sent += written as u64;
        Ok(written)
    }

    fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self.stream.write_vectored(bytes)?;
        self.sent += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
