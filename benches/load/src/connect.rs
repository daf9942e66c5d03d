//! From a specification to a connected client: the one place that knows all peers' clients.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Result, anyhow};

use crate::certs::Credentials;
use crate::client::{Client, Deliver};
#[cfg(feature = "heavy")]
use crate::heavy;
use crate::pattern::Pattern;
use crate::sample::Session;
use crate::served::Served;
use crate::server::Bound;
use crate::spec::{PeerKind, Spec};
use crate::stream::Link;
use crate::{ktls, ktls_ideal, raw_udp, sealane_peer, tcp, tls, udp_bulk};

/// Connects to the server on this port of this machine, handshake included.
pub(crate) fn connect(
    spec: &Spec,
    port: u16,
    credentials: &Credentials,
    pattern: &Arc<Pattern>,
) -> Result<Box<dyn Client>> {
    Ok(match spec.peer {
        PeerKind::Udp | PeerKind::UdpPack if spec.one_way => Box::new(udp_bulk::Caller::connect(spec, port, pattern)?),
        PeerKind::Udp | PeerKind::UdpPack | PeerKind::UdpIdeal => {
            Box::new(raw_udp::Caller::connect(spec, port, pattern)?)
        }
        PeerKind::Tcp => Box::new(tcp::Caller::new(spec, Link::connect(spec, port)?, pattern)),
        PeerKind::Ktls => ktls::connect(spec, port, pattern)?,
        PeerKind::KtlsIdeal | PeerKind::KtlsIdealPm => ktls_ideal::connect(spec, port, pattern)?,
        PeerKind::Tls => tls::connect(spec, port, credentials, pattern)?,
        #[cfg(feature = "heavy")]
        PeerKind::Quinn | PeerKind::S2nQuic | PeerKind::Tonic => heavy::connect(spec, port, credentials, pattern)?,
        #[cfg(not(feature = "heavy"))]
        PeerKind::Quinn | PeerKind::S2nQuic | PeerKind::Tonic => anyhow::bail!("{}", crate::spec::NOT_HEAVY),
        PeerKind::Sealane | PeerKind::SealaneIoUring => {
            Box::new(sealane_peer::Caller::connect(spec, port, credentials, pattern)?)
        }
    })
}

/// Both sides in this thread: whenever the client looks, the server has its turn first.
struct Pair {
    // Dropped first: a server may wait for its client's farewell.
    client: Box<dyn Client>,
    server: Box<dyn Served>,
}

/// Starts a server and connects to it, for [`crate::spec::Mode::Turns`].
pub(crate) fn pair(spec: &Spec, credentials: &Credentials, pattern: &Arc<Pattern>) -> Result<Box<dyn Client>> {
    let bound = Bound::new(spec, credentials)?;
    let port = bound.port()?;
    // Handshakes need both sides at once.
    let (client, server) = std::thread::scope(|scope| {
        let accepting = scope.spawn(|| bound.accept(spec, credentials));
        (connect(spec, port, credentials, pattern), accepting.join())
    });
    let server = server.map_err(|_| anyhow!("the server panicked"))??;
    Ok(Box::new(Pair { client: client?, server }))
}

impl Client for Pair {
    fn send(&mut self, ids: Range<u64>) -> Result<()> {
        self.client.send(ids)
    }

    fn receive(&mut self, deliver: Deliver<'_>) -> Result<bool> {
        self.server.turn()?;
        self.client.receive(deliver)
    }

    fn session(&self) -> Option<Session> {
        self.client.session()
    }
}
