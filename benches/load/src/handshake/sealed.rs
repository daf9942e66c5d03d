//! Owns Sealane's own lane, through its public interface: one thread on each side, in blocking calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use sealane::{CallOptions, Clients, Delivery, Identity as OurIdentity, Peer, Socket, Trust, Wait};

use super::{Kind, REQUEST, Span, Times};
use crate::certs::{Identity, SERVER_NAME};

/// A server that says everything again.
#[derive(Debug)]
pub struct Server {
    /// Where.
    pub at: SocketAddr,
    socket: Arc<Socket>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts its thread.
    ///
    /// # Errors
    /// When the credentials are not taken, or there is no port.
    pub fn start(identity: &Identity) -> Result<Self> {
        let identity = OurIdentity::pem(identity.certificate.as_bytes(), identity.key.as_bytes())?;
        let builder = Socket::builder().trust(Trust::nobody()).identity(identity).serve(Clients::Anonymous);
        let socket = Arc::new(builder.wait(Wait::Block).accept_early_data(1 << 14).bind("127.0.0.1:0")?);
        let serving = Arc::clone(&socket);
        let thread = std::thread::spawn(move || {
            while let Ok(delivery) = serving.recv() {
                if let Delivery::Request(request) = delivery {
                    // A client that has gone meanwhile needs no answer.
                    let _ = serving.reply(request.token, request.payload);
                }
            }
        });
        Ok(Self { at: socket.local_addr(), socket, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.socket.close();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The other side of one kind.
#[derive(Debug)]
pub struct Client {
    kind: Kind,
    socket: Socket,
    peer: Peer,
    /// From the call to its reply.
    pub times: Times,
}

impl Client {
    /// A client that has met the server as often as this kind asks for.
    ///
    /// # Errors
    /// When the server does not answer as it should.
    pub fn new(authority: &str, kind: Kind, at: SocketAddr) -> Result<Self> {
        let builder = Socket::builder().trust(Trust::pem(authority.as_bytes())?).anonymous();
        let socket = builder.wait(Wait::Block).resumption(kind != Kind::Full).bind("127.0.0.1:0")?;
        let peer = socket.peer(at, SERVER_NAME)?;
        let client = Self { kind, socket, peer, times: Times::default() };
        client.call(CallOptions::new())?;
        client.end()?;
        client.call(CallOptions::new().early(kind == Kind::EarlyData))?;
        let info = client.socket.info();
        let session = info.sessions.into_iter().find(|session| session.open).context("an open session")?;
        ensure!(session.resumed == (kind != Kind::Full), "the handshake was not of the kind that was asked for");
        ensure!((info.counters.early_sent > 0) == (kind == Kind::EarlyData), "early data was not sent");
        client.end()?;
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
        let mut spent = std::mem::take(&mut self.times);
        let options = CallOptions::new().early(self.kind == Kind::EarlyData);
        let ended = match span {
            Span::Handshake => spent.round(times, || Ok(self.socket.connect(&self.peer)?), || self.end()),
            Span::FirstReply => spent.round(times, || self.call(options), || self.end()),
            Span::Reconnect => {
                self.call(CallOptions::new())?;
                let again = || {
                    self.socket.disconnect(&self.peer)?;
                    self.call(options)
                };
                spent.round(times, again, || self.call(CallOptions::new())).and_then(|()| self.end())
            }
        };
        self.times = spent;
        ended
    }

    fn call(&self, options: CallOptions) -> Result<()> {
        ensure!(*self.socket.call_with(&self.peer, &REQUEST, options)? == REQUEST, "not what was asked for");
        Ok(())
    }

    /// Another call, and the session's end: the reply to early data is there before the ticket for the next session is.
    fn end(&self) -> Result<()> {
        self.call(CallOptions::new())?;
        Ok(self.socket.disconnect(&self.peer)?)
    }
}
