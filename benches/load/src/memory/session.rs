//! The two kinds of sessions, and sockets for them.
//!
//! Owns secrets that both processes know, and how sockets are bound. Refuses: counting.

use std::time::Duration;

use anyhow::Result;
use sealane::{Clients, Identity, Socket, Trust, Wait};
use serde::{Deserialize, Serialize};

use super::PATIENCE;
use crate::certs::Credentials;

/// How a session comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// From a secret that both ends were given.
    Installed,
    /// By TLS, both ends authenticated.
    Tls,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Tls => "tls",
        }
    }
}

/// The secret of a session, known to both processes and worth nothing.
pub(crate) fn secret(number: usize) -> [u8; 32] {
    let mut secret = [9; 32];
    secret[..8].copy_from_slice(&(number as u64).to_le_bytes());
    secret
}

/// Idle sessions rest after a minute; here sooner, because nobody would wait for that.
const RESTS_AFTER: Duration = Duration::from_secs(1);

/// A client's socket; each has an address of its own.
pub(crate) fn client_socket(kind: Kind, credentials: &Credentials, at: usize) -> Result<Socket> {
    let local = format!("127.0.1.{}:0", at + 1);
    Ok(match kind {
        Kind::Installed => Socket::builder()
            .installed_only()
            .peer_timeout(PATIENCE)
            .session_rests_after(RESTS_AFTER)
            .wait(Wait::Block)
            .bind(local)?,
        Kind::Tls => {
            let (certificate, key) = (&credentials.client.certificate, &credentials.client.key);
            let trust = Trust::pem(credentials.authority.as_bytes())?;
            let identity = Identity::pem(certificate.as_bytes(), key.as_bytes())?;
            Socket::builder()
                .trust(trust)
                .identity(identity)
                .peer_timeout(PATIENCE)
                .session_rests_after(RESTS_AFTER)
                .wait(Wait::Block)
                .bind(local)?
        }
    })
}

/// The server's socket. For TLS it has all addresses.
pub(crate) fn server_socket(kind: Kind, credentials: &Credentials) -> Result<Socket> {
    Ok(match kind {
        Kind::Installed => Socket::builder()
            .installed_only()
            .serve_installed()
            .peer_timeout(PATIENCE)
            .session_rests_after(RESTS_AFTER)
            .wait(Wait::Block)
            .bind("127.0.0.1:0")?,
        Kind::Tls => {
            let (certificate, key) = (&credentials.server.certificate, &credentials.server.key);
            let trust = Trust::pem(credentials.authority.as_bytes())?;
            let identity = Identity::pem(certificate.as_bytes(), key.as_bytes())?;
            let builder = Socket::builder().trust(trust).identity(identity).serve(Clients::Authenticated);
            builder.peer_timeout(PATIENCE).session_rests_after(RESTS_AFTER).wait(Wait::Block).bind("0.0.0.0:0")?
        }
    })
}
