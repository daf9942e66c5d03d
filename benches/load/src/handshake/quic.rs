//! Owns QUIC by quinn as it is compared with: the same library, certificate, suite, key exchanges and kind of tickets, a connection, one stream
//! for the request and its reply. Its asynchronous runtime has one thread on each side, as ours are two threads.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, ServerConfig};
use tokio::runtime::{Builder, Runtime};

use super::tls::{client_config, server_config};
use super::{Kind, REQUEST, Span, Times};
use crate::certs::{Identity, SERVER_NAME};

const ALPN: &[u8] = b"sealane-bench";

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// Answers in a thread of its own, until the process ends.
#[derive(Debug)]
pub struct Server {
    /// Where.
    pub at: SocketAddr,
}

impl Server {
    /// Starts its thread.
    ///
    /// # Errors
    /// When the credentials are not taken, or there is no port.
    pub fn start(identity: &Identity) -> Result<Self> {
        let mut tls = server_config(identity)?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        // QUIC knows only this value, or none (RFC 9001 section 4.6.1).
        tls.max_early_data_size = u32::MAX;
        let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        let runtime = runtime()?;
        let endpoint = {
            let _in = runtime.enter();
            Endpoint::server(config, "127.0.0.1:0".parse()?)?
        };
        let at = endpoint.local_addr()?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                while let Some(incoming) = endpoint.accept().await {
                    tokio::spawn(async {
                        // A connection that fails is its client's to tell.
                        let _ = serve(incoming).await;
                    });
                }
            });
        });
        Ok(Self { at })
    }
}

async fn serve(incoming: quinn::Incoming) -> Result<()> {
    // Before the client has shown that it is done: that is where requests of a first flight are.
    let (connection, _) = incoming.accept()?.into_0rtt().map_err(|_| anyhow::anyhow!("a server always can"))?;
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        let request = receive.read_to_end(REQUEST.len()).await?;
        send.write_all(&request).await?;
        send.finish()?;
    }
    Ok(())
}

/// The other side of one kind.
#[derive(Debug)]
pub struct Client {
    kind: Kind,
    at: SocketAddr,
    runtime: Runtime,
    endpoint: Endpoint,
    config: ClientConfig,
    /// From connect to the reply.
    pub times: Times,
}

impl Client {
    /// A client that has met the server as often as this kind asks for.
    ///
    /// # Errors
    /// When the server does not answer as it should.
    pub fn new(authority: &str, kind: Kind, at: SocketAddr) -> Result<Self> {
        let mut tls = client_config(authority, kind)?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        let runtime = runtime()?;
        let endpoint = {
            let _in = runtime.enter();
            Endpoint::client("127.0.0.1:0".parse()?)?
        };
        let mut client = Self { kind, at, runtime, endpoint, config, times: Times::default() };
        client.some(Span::FirstReply, 2, true)?;
        client.times = Times::default();
        Ok(client)
    }

    /// So many handshakes, each after a pause.
    ///
    /// # Errors
    /// When one fails.
    pub fn round(&mut self, times: usize) -> Result<()> {
        self.spans(Span::FirstReply, times)
    }

    /// The same for another part of it.
    ///
    /// # Errors
    /// When one fails.
    pub fn spans(&mut self, span: Span, times: usize) -> Result<()> {
        self.some(span, times, false)
    }

    fn some(&mut self, span: Span, times: usize, first: bool) -> Result<()> {
        let mut spent = std::mem::take(&mut self.times);
        let open = std::cell::RefCell::new(None);
        if span == Span::Reconnect {
            *open.borrow_mut() = Some(self.runtime.block_on(self.one(first))?);
        }
        let ended = spent.round(
            times,
            || {
                if let Some(before) = open.borrow_mut().take() {
                    close(&before);
                }
                let now = match span {
                    Span::Handshake => self.runtime.block_on(self.connect(first))?,
                    Span::FirstReply | Span::Reconnect => self.runtime.block_on(self.one(first))?,
                };
                *open.borrow_mut() = Some(now);
                Ok(())
            },
            || {
                let mut open = open.borrow_mut();
                let Some(connection) = &*open else { return Ok(()) };
                // Another request: the ticket is there with its reply at the latest.
                self.runtime.block_on(ask(connection))?;
                if span != Span::Reconnect {
                    close(connection);
                    *open = None;
                }
                Ok(())
            },
        );
        self.times = spent;
        ended
    }

    async fn one(&self, first: bool) -> Result<quinn::Connection> {
        let connection = self.connect(first).await?;
        ask(&connection).await?;
        Ok(connection)
    }

    async fn connect(&self, first: bool) -> Result<quinn::Connection> {
        let connecting = self.endpoint.connect_with(self.config.clone(), self.at, SERVER_NAME)?;
        let connection = if self.kind == Kind::EarlyData {
            match connecting.into_0rtt() {
                Ok((connection, _)) => connection,
                Err(connecting) => {
                    ensure!(first, "no early data over QUIC");
                    connecting.await?
                }
            }
        } else {
            connecting.await?
        };
        Ok(connection)
    }
}

async fn ask(connection: &quinn::Connection) -> Result<()> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(&REQUEST).await?;
    send.finish()?;
    let reply = receive.read_to_end(REQUEST.len()).await.context("the reply over QUIC")?;
    ensure!(reply == REQUEST, "the reply over QUIC is not what was asked for");
    Ok(())
}

fn close(connection: &quinn::Connection) {
    connection.close(0_u32.into(), b"");
}
