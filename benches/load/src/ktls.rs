//! Peer `ktls`: TLS records sealed and opened by the kernel, where it can.
//!
//! Owns the two calls that hand keys to the kernel, and the question whether there is somebody to hand them to. From then on it is
//! peer `tcp`: plain writes and reads. Keys are fixed: there is no handshake, and no secret, to measure.
//!
//! The records have TLS 1.2's shape: of that the kernel opens a record straight into the reader's buffer, of TLS 1.3's only when it
//! is told to expect no padding, which not every kernel that has TLS can be told.

use std::net::TcpListener;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::libc::{TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_128, tls_crypto_info, tls12_crypto_info_aes_gcm_128};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{TcpTlsRx, TcpTlsTx, TcpUlp, TlsCryptoInfo};

use crate::client::Client;
use crate::pattern::Pattern;
use crate::served::Served;
use crate::spec::{Mode, PeerKind, Spec};
use crate::stream::{self, Link};
use crate::tcp;

/// Why this kernel cannot, if it cannot.
pub(crate) fn missing() -> Option<String> {
    let tried = || -> Result<()> {
        let listener = stream::listen(None)?;
        let spec = Spec::new(PeerKind::Ktls, Mode::Block, 1);
        let link = Link::connect(&spec, listener.local_addr()?.port())?;
        protect(&link, CLIENT, SERVER)
    };
    tried().err().map(|error| format!("{error:#}"))
}

const CLIENT: u8 = 1;
const SERVER: u8 = 2;

fn key(side: u8) -> TlsCryptoInfo {
    TlsCryptoInfo::Aes128Gcm(tls12_crypto_info_aes_gcm_128 {
        info: tls_crypto_info { version: TLS_1_2_VERSION, cipher_type: TLS_CIPHER_AES_GCM_128 },
        iv: [side; 8],
        key: [side; 16],
        salt: [side; 4],
        rec_seq: [0; 8],
    })
}

/// From here on the kernel seals what is written and opens what is read.
fn protect(link: &Link, ours: u8, theirs: u8) -> Result<()> {
    let socket = link.socket();
    setsockopt(socket, TcpUlp::default(), b"tls").map_err(|error| match error {
        Errno::ENOENT | Errno::ENOPROTOOPT => {
            anyhow!("this kernel has no TLS (CONFIG_TLS, or module `tls` not loaded)")
        }
        other => anyhow!("the kernel does not put TLS on a socket: {other}"),
    })?;
    setsockopt(socket, TcpTlsTx, &key(ours)).context("the kernel takes no key to seal with")?;
    setsockopt(socket, TcpTlsRx, &key(theirs)).context("the kernel takes no key to open with")
}

/// Connects a client.
pub(crate) fn connect(spec: &Spec, port: u16, pattern: &Arc<Pattern>) -> Result<Box<dyn Client>> {
    let link = Link::connect(spec, port)?;
    protect(&link, CLIENT, SERVER)?;
    Ok(Box::new(tcp::Caller::new(spec, link, pattern)))
}

/// Waits for a client.
pub(crate) fn accept(spec: &Spec, listener: &TcpListener) -> Result<Box<dyn Served>> {
    let link = Link::accept(listener, spec.mode)?;
    protect(&link, SERVER, CLIENT)?;
    Ok(Box::new(tcp::Server::new(spec, link)))
}
