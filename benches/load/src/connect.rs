//! From a specification to a connected client: the one place that knows all peers' clients.

use std::sync::Arc;

use anyhow::Result;

use crate::certs::Credentials;
use crate::client::Client;
use crate::pattern::Pattern;
use crate::spec::{PeerKind, Spec};
use crate::{ktls, raw_udp, sealane_peer, tcp, tls};

/// Connects to the server on this port of this machine, handshake included.
pub(crate) fn connect(
    spec: &Spec,
    port: u16,
    credentials: &Credentials,
    pattern: &Arc<Pattern>,
) -> Result<Box<dyn Client>> {
    Ok(match spec.peer {
        PeerKind::Udp | PeerKind::UdpIdeal => Box::new(raw_udp::Caller::connect(spec, port, pattern)?),
        PeerKind::Tcp => Box::new(tcp::Caller::connect(spec, port, pattern)?),
        PeerKind::KtlsIdeal | PeerKind::KtlsIdealPm => ktls::connect(spec, port, pattern)?,
        PeerKind::Tls => tls::connect(spec, port, credentials, pattern)?,
        PeerKind::Sealane => Box::new(sealane_peer::Caller::connect(spec, port, credentials, pattern)?),
    })
}
