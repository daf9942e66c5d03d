//! Peers of many crates, behind the feature `heavy`: QUIC by quinn and by s2n-quic, gRPC by tonic over TLS.
//!
//! Owns their runtimes: one thread each, as all peers have one on each side. Spinning, a task that is always ready keeps the runtime from
//! sleeping, and it looks at the network every few tasks. Refuses: what a transport is; `quic` and `grpc` say that.

mod stream;
mod quic;
mod grpc;

use std::sync::Arc;

use anyhow::{Result, bail};
use tokio::runtime::{Builder, Runtime};

use crate::certs::Credentials;
use crate::client::Client;
use crate::pattern::Pattern;
use crate::served::Served;
use crate::spec::{Mode, PeerKind, Spec};

/// Bytes that may be under way on one connection: more than any cell has, so that windows are nobody's limit.
const WINDOW: u32 = 64 << 20;

/// Tasks between two looks at the network while spinning: a look is a system call, a task that has nothing to do is not.
const EVENT_INTERVAL: u32 = 8;

fn runtime(mode: Mode) -> Result<Runtime> {
    let mut builder = Builder::new_current_thread();
    builder.enable_all();
    if mode.polls() {
        builder.event_interval(EVENT_INTERVAL);
    }
    let runtime = builder.build()?;
    if mode.polls() {
        runtime.spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
    }
    Ok(runtime)
}

/// A server that has its port and no client yet.
pub(crate) enum Bound {
    Quinn(quic::Quinn),
    S2n(quic::S2n),
    Grpc(grpc::Server),
}

impl Bound {
    pub(crate) fn new(spec: &Spec, credentials: &Credentials) -> Result<Self> {
        Ok(match spec.peer {
            PeerKind::Quinn => Self::Quinn(quic::Quinn::bind(spec, credentials)?),
            PeerKind::S2nQuic => Self::S2n(quic::S2n::bind(spec, credentials)?),
            PeerKind::Tonic => Self::Grpc(grpc::Server::bind(spec, credentials)?),
            peer => bail!("peer `{peer}` is not one of those"),
        })
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Quinn(server) => server.port,
            Self::S2n(server) => server.port,
            Self::Grpc(server) => server.port,
        }
    }

    pub(crate) fn accept(self, spec: &Spec) -> Result<Box<dyn Served>> {
        match self {
            Self::Quinn(server) => server.accept(spec),
            Self::S2n(server) => server.accept(spec),
            Self::Grpc(server) => Ok(Box::new(server)),
        }
    }
}

/// Connects a client, handshake included.
pub(crate) fn connect(
    spec: &Spec,
    port: u16,
    credentials: &Credentials,
    pattern: &Arc<Pattern>,
) -> Result<Box<dyn Client>> {
    match spec.peer {
        PeerKind::Quinn => quic::connect_quinn(spec, port, credentials, pattern),
        PeerKind::S2nQuic => quic::connect_s2n(spec, port, credentials, pattern),
        PeerKind::Tonic => grpc::connect(spec, port, credentials, pattern),
        peer => bail!("peer `{peer}` is not one of those"),
    }
}
