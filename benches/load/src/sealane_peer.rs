//! Peer `sealane`: our own socket, through its public API alone, mutually authenticated like `tls`.
//!
//! One outstanding message is a `call`; several are `send` and `recv` on one socket. The server answers with the very
//! payload it was given.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use sealane::{CallOptions, Clients, Delivery, Identity, Peer, Socket, Trust, Wait};

use crate::certs::{self, Credentials, SERVER_NAME};
use crate::client::{Client, Deliver, REPLY_TIMEOUT};
use crate::pattern::Pattern;
use crate::sample::Session;
use crate::spec::{MESSAGE_BYTES_MAX, Mode, Spec};

/// A one-way message that ends the server.
const STOP: &[u8] = b"stop";

fn socket(spec: &Spec, credentials: &Credentials, identity: &certs::Identity, serves: bool) -> Result<Socket> {
    let identity = Identity::pem(identity.certificate.as_bytes(), identity.key.as_bytes())?;
    let mut builder = Socket::builder()
        .trust(Trust::pem(credentials.authority.as_bytes())?)
        .identity(identity)
        .message_bytes_max(MESSAGE_BYTES_MAX)
        .wait(match spec.mode {
            Mode::Spin => Wait::Spin,
            Mode::Block => Wait::Block,
        });
    if serves {
        builder = builder.serve(Clients::Authenticated);
    }
    if let Some(mtu) = spec.mtu {
        builder = builder.mtu(mtu);
    }
    Ok(builder.bind("127.0.0.1:0")?)
}

/// The client.
pub(crate) struct Caller {
    socket: Socket,
    peer: Peer,
    pattern: Arc<Pattern>,
    only_one: bool,
    handshake: Duration,
    /// The message that `receive` will call with, where there is one at a time.
    to_call: Range<u64>,
}

impl Caller {
    pub(crate) fn connect(spec: &Spec, port: u16, credentials: &Credentials, pattern: &Arc<Pattern>) -> Result<Self> {
        let socket = socket(spec, credentials, &credentials.client, false)?;
        let peer = socket.peer(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SERVER_NAME)?;
        let begun = Instant::now();
        socket.connect(&peer)?;
        let (handshake, pattern) = (begun.elapsed(), pattern.clone());
        Ok(Self { socket, peer, pattern, only_one: spec.outstanding == 1, handshake, to_call: 0..0 })
    }
}

impl Client for Caller {
    fn send(&mut self, ids: Range<u64>) -> Result<()> {
        if self.only_one {
            self.to_call = ids;
            return Ok(());
        }
        // All that is ready at once, as the TCP peers write it.
        let _batch = self.socket.batch();
        for id in ids {
            self.socket.send(&self.peer, self.pattern.message(id), id)?;
        }
        Ok(())
    }

    fn receive(&mut self, deliver: Deliver<'_>) -> Result<bool> {
        if self.only_one {
            for id in std::mem::replace(&mut self.to_call, 0..0) {
                let options = CallOptions::new().deadline(REPLY_TIMEOUT);
                let reply = self.socket.call_with(&self.peer, self.pattern.message(id), options)?;
                deliver(id, &reply);
            }
            return Ok(true);
        }
        let mut next = self.socket.recv_timeout(REPLY_TIMEOUT)?;
        let progress = next.is_some();
        while let Some(delivery) = next {
            match delivery {
                Delivery::Response(response) => deliver(response.cookie, &response.payload),
                Delivery::Failed(failed) => {
                    bail!("message {} failed: {}", failed.cookie, failed.error)
                }
                other => bail!("the server sent {other:?}"),
            }
            next = self.socket.try_recv()?;
        }
        Ok(progress)
    }

    fn session(&self) -> Option<Session> {
        let info = self.socket.info();
        let session = info.sessions.iter().find(|session| session.open)?;
        Some(Session {
            cipher: session.cipher.to_string(),
            mutual: session.mutual,
            handshake_us: self.handshake.as_secs_f64() * 1e6,
        })
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.socket.send_one_way(&self.peer, STOP);
    }
}

/// The server.
pub(crate) struct Echo(Socket);

impl Echo {
    pub(crate) fn bind(spec: &Spec, credentials: &Credentials) -> Result<Self> {
        Ok(Self(socket(spec, credentials, &credentials.server, true)?))
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().port()
    }

    /// Echoes until told to stop.
    pub(crate) fn serve(self) -> Result<()> {
        loop {
            match self.0.recv()? {
                Delivery::Request(request) => self.0.reply(request.token, request.payload)?,
                Delivery::OneWay(message) if message.payload[..] == *STOP => return Ok(()),
                _ => {}
            }
        }
    }
}
