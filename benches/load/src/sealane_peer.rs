//! Peer `sealane`: our own socket, through its public API alone, mutually authenticated like `tls`.
//!
//! One outstanding message is a `call`; several are `send` and `recv_many` on one socket. The server answers with the very
//! payload it was given.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use sealane::{Body, CallOptions, Clients, Delivery, Identity, Peer, Socket, Trust, Wait};

use crate::certs::{self, Credentials, SERVER_NAME};
use crate::client::{Client, Deliver, REPLY_TIMEOUT};
use crate::pattern::Pattern;
use crate::sample::Session;
use crate::served::{Served, answer};
use crate::spec::{MESSAGE_BYTES_MAX, Mode, Spec};

/// Deliveries that are taken at once: more than are ever outstanding.
const TAKEN_MAX: usize = 1 << 16;

/// From this length on messages are handed over instead of copied.
const OWNED_BYTES_MIN: usize = 4096;

/// A one-way message that ends the server.
const STOP: &[u8] = b"stop";

fn socket(spec: &Spec, credentials: &Credentials, identity: &certs::Identity, serves: bool) -> Result<Socket> {
    let identity = Identity::pem(identity.certificate.as_bytes(), identity.key.as_bytes())?;
    let mut builder = Socket::builder()
        .trust(Trust::pem(credentials.authority.as_bytes())?)
        .identity(identity)
        .message_bytes_max(MESSAGE_BYTES_MAX)
        .wait(match spec.mode {
            Mode::Spin | Mode::Turns => Wait::Spin,
            Mode::Block => Wait::Block,
            Mode::Adaptive => Wait::Adaptive,
        });
    if serves {
        builder = builder.serve(Clients::Authenticated);
    }
    if let Some(mtu) = spec.mtu {
        // Loopback keeps order.
        builder = builder.mtu(mtu).spanning_records(true);
    }
    let socket = builder.backend(spec.backend()?).bind("127.0.0.1:0")?;
    match socket.info().caps.backend.instead_of {
        // A row must not be of another backend than it says.
        Some(why) => bail!("{why}"),
        None => Ok(socket),
    }
}

/// The client.
pub(crate) struct Caller {
    socket: Socket,
    peer: Peer,
    pattern: Arc<Pattern>,
    mode: Mode,
    only_one: bool,
    handshake: Duration,
    arrived: VecDeque<Delivery>,
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
        let (mode, only_one, arrived) = (spec.mode, spec.only_one(), VecDeque::new());
        Ok(Self { socket, peer, pattern, mode, only_one, handshake, arrived, to_call: 0..0 })
    }

    /// Message `id` as who has it would send it: short ones are copied, which costs less than to count who else has them.
    fn body(&self, id: u64) -> Body<'_> {
        let message = self.pattern.message(id);
        if message.len() < OWNED_BYTES_MIN { message.into() } else { self.pattern.owned(id).into() }
    }

    /// Whether anything had arrived.
    fn deliver(&mut self, deliver: Deliver<'_>) -> Result<bool> {
        let progress = !self.arrived.is_empty();
        for delivery in self.arrived.drain(..) {
            match delivery {
                Delivery::Response(response) => deliver(response.cookie, &response.payload),
                Delivery::Failed(failed) => bail!("message {} failed: {}", failed.cookie, failed.error),
                other => bail!("the server sent {other:?}"),
            }
        }
        Ok(progress)
    }
}

impl Client for Caller {
    fn send(&mut self, ids: Range<u64>) -> Result<()> {
        if self.only_one {
            self.to_call = ids;
            return Ok(());
        }
        // All that is ready at once, as the TCP peers write it.
        let mut requests = ids.map(|id| (self.body(id), id)).collect();
        Ok(self.socket.send_many(&self.peer, &mut requests)?)
    }

    fn receive(&mut self, deliver: Deliver<'_>) -> Result<bool> {
        if self.only_one {
            for id in std::mem::replace(&mut self.to_call, 0..0) {
                let options = CallOptions::new().deadline(REPLY_TIMEOUT);
                let reply = self.socket.call_with(&self.peer, self.body(id), options)?;
                deliver(id, &reply);
            }
            return Ok(true);
        }
        if self.mode == Mode::Turns {
            return self.look(deliver);
        }
        self.socket.recv_many(&mut self.arrived, TAKEN_MAX, REPLY_TIMEOUT)?;
        self.deliver(deliver)
    }

    fn look(&mut self, deliver: Deliver<'_>) -> Result<bool> {
        self.socket.try_recv_many(&mut self.arrived, TAKEN_MAX)?;
        self.deliver(deliver)
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
pub(crate) struct Echo {
    socket: Socket,
    mode: Mode,
    one_way: bool,
    arrived: VecDeque<Delivery>,
}

impl Echo {
    pub(crate) fn bind(spec: &Spec, credentials: &Credentials) -> Result<Self> {
        let socket = socket(spec, credentials, &credentials.server, true)?;
        Ok(Self { socket, mode: spec.mode, one_way: spec.one_way, arrived: VecDeque::new() })
    }

    pub(crate) fn port(&self) -> u16 {
        self.socket.local_addr().port()
    }
}

impl Served for Echo {
    fn turn(&mut self) -> Result<bool> {
        let count = match self.mode {
            Mode::Turns => self.socket.try_recv_many(&mut self.arrived, TAKEN_MAX)?,
            _ => self.socket.recv_many(&mut self.arrived, TAKEN_MAX, REPLY_TIMEOUT)?,
        };
        let (mut goes_on, mut replies) = (true, VecDeque::with_capacity(count));
        for delivery in self.arrived.drain(..) {
            match delivery {
                Delivery::Request(request) if self.one_way => {
                    replies.push_back((request.token, answer(&request.payload).to_vec().into()));
                }
                Delivery::Request(request) => replies.push_back((request.token, request.payload.into())),
                Delivery::OneWay(message) if message.payload[..] == *STOP => goes_on = false,
                _ => {}
            }
        }
        self.socket.reply_many(&mut replies)?;
        Ok(goes_on)
    }
}
