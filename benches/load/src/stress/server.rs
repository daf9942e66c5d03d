//! The echo server of a stress run: a child process, or a thread for tests.
//!
//! Owns its socket and its one loop. It can be told to spoil replies or to swallow requests, which shows that the clients notice.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use sealane::{Clients, Delivery, Identity, Socket, Trust, Wait};
use serde::{Deserialize, Serialize};

use crate::certs::Credentials;
use crate::server::{Host, Running, answer_parent, read_credentials, say, start_child};
use crate::spec::MESSAGE_BYTES_MAX;

/// The hidden first argument that makes a binary this server.
const SUBCOMMAND: &str = "stress-server";

/// Requests that are taken at once; their replies travel together.
const AT_ONCE: usize = 64;

/// How long the loop sleeps when nothing comes.
const NAP: Duration = Duration::from_secs(1);

/// What the server does wrong, to show that it is seen.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Spoil {
    pub(super) flip_every: Option<u64>,
    pub(super) swallow_every: Option<u64>,
}

/// A server that runs.
#[derive(Debug)]
pub(super) enum Server {
    Child(Running),
    Thread(Echo),
}

/// The server itself.
#[derive(Debug)]
pub(super) struct Echo {
    socket: Arc<Socket>,
    thread: Option<JoinHandle<()>>,
}

/// Runs the server if the arguments (without the program's name) ask for one; who runs a stress test calls this before it reads its
/// own command line.
pub fn main_from_args(args: impl IntoIterator<Item = String>) -> Option<Result<()>> {
    let mut args = args.into_iter();
    (args.next()? == SUBCOMMAND).then(|| {
        let spoil = args.next().ok_or_else(|| anyhow!("`{SUBCOMMAND}` wants a specification as JSON"))?;
        let spoil = serde_json::from_str(&spoil).context("not a specification of a server")?;
        let mut echo = Echo::start(spoil, &read_credentials()?)?;
        say(&format!("port {}", echo.socket.local_addr().port()))?;
        std::thread::spawn(answer_parent);
        let served = echo.thread.take().map_or(Ok(()), JoinHandle::join);
        served.map_err(|_| anyhow!("the server panicked"))
    })
}

impl Server {
    pub(super) fn start(host: &Host, spoil: Spoil, credentials: &Credentials) -> Result<Self> {
        Ok(match host {
            Host::Child { program, .. } => {
                let args = [SUBCOMMAND.to_owned()];
                Self::Child(start_child(program, &args, "stress", &serde_json::to_string(&spoil)?, credentials)?)
            }
            Host::Thread => Self::Thread(Echo::start(spoil, credentials)?),
        })
    }

    pub(super) fn port(&self) -> u16 {
        match self {
            Self::Child(running) => running.port,
            Self::Thread(echo) => echo.socket.local_addr().port(),
        }
    }
}

impl Echo {
    fn start(spoil: Spoil, credentials: &Credentials) -> Result<Self> {
        let identity = &credentials.server;
        let socket = Socket::builder()
            .trust(Trust::pem(credentials.authority.as_bytes())?)
            .identity(Identity::pem(identity.certificate.as_bytes(), identity.key.as_bytes())?)
            .serve(Clients::Authenticated)
            .message_bytes_max(MESSAGE_BYTES_MAX)
            .wait(Wait::Block)
            .bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let socket = Arc::new(socket);
        let serving = Arc::clone(&socket);
        let thread = std::thread::spawn(move || serve(&serving, spoil));
        Ok(Self { socket, thread: Some(thread) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.socket.close();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(socket: &Socket, spoil: Spoil) {
    let (mut taken, mut count, mut kept) = (VecDeque::new(), 0_u64, Vec::new());
    let due = |every: Option<u64>, count: u64| every.is_some_and(|every| count.is_multiple_of(every));
    while socket.recv_many(&mut taken, AT_ONCE, NAP).is_ok() {
        let batch = (taken.len() > 1).then(|| socket.batch());
        for delivery in taken.drain(..) {
            let Delivery::Request(request) = delivery else { continue };
            count += 1;
            if due(spoil.swallow_every, count) {
                // Dropped, it would be refused.
                kept.push(request.token);
                continue;
            }
            // A client that is gone wants no answer.
            let _ = if due(spoil.flip_every, count) {
                let mut bytes = request.payload.to_vec();
                let at = count as usize % bytes.len();
                bytes[at] ^= 1;
                socket.reply(request.token, &bytes)
            } else {
                socket.reply(request.token, request.payload)
            };
        }
        drop(batch);
    }
}
