//! Owns TLS 1.3 over a byte stream, by rustls's unbuffered connections: records are opened where they came in and sealed straight into
//! what is written, which saves two copies of the buffered ones. Both ends authenticate themselves. It refuses to read or write sockets.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{UnbufferedServerConnection, WebPkiClientVerifier};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};

/// More than a record adds to its plaintext.
const OVERHEAD_BYTES: usize = 64;
/// Most plaintext of a record.
const RECORD_BYTES: usize = 16 << 10;
/// Most bytes of a record that came in part, and then some: a handshake's messages may span records.
const PARTIAL_BYTES_MAX: usize = 128 << 10;

/// Who one is and whom one trusts, in PEM.
#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials {
    /// The authorities whose certificates are believed.
    pub authority: String,
    /// Our own chain.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    fn provider() -> Arc<CryptoProvider> {
        Arc::new(CryptoProvider {
            // What Sealane prefers too, so that both seal alike; then what else there is.
            cipher_suites: vec![
                aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
                aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
                aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            ],
            ..aws_lc_rs::default_provider()
        })
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.authority.as_bytes()) {
            roots.add(certificate.context("the authorities are no certificates")?)?;
        }
        Ok(roots)
    }

    fn own(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).context("not a private key")?;
        Ok((chain.context("not a certificate")?, key))
    }

    /// A server's choices: its clients must have certificates of the authority.
    ///
    /// # Errors
    /// When the PEM is none.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>> {
        let (chain, key) = self.own()?;
        let roots = Arc::new(self.roots()?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Self::provider()).build()?;
        let mut config = ServerConfig::builder_with_provider(Self::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// A client's choices.
    ///
    /// # Errors
    /// When the PEM is none.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>> {
        let (chain, key) = self.own()?;
        let mut config = ClientConfig::builder_with_provider(Self::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(chain, key)?;
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// What client and server have in common; rustls has two types.
trait Side {
    type Data;
    fn process<'c, 'i>(&'c mut self, wire: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Side for UnbufferedClientConnection {
    type Data = rustls::client::ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, wire: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(wire)
    }
}

impl Side for UnbufferedServerConnection {
    type Data = rustls::server::ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, wire: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(wire)
    }
}

enum Ends {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// One end of a TLS connection.
pub struct Tls {
    ends: Ends,
    /// A record that came in part.
    partial: Vec<u8>,
    /// Whether the handshake is over.
    pub is_open: bool,
    /// Whether the other end said goodbye.
    pub is_closed: bool,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("is_open", &self.is_open).finish_non_exhaustive()
    }
}

impl Tls {
    /// A server's end.
    ///
    /// # Errors
    /// When rustls refuses the choices.
    pub fn server(config: &Arc<ServerConfig>) -> Result<Self> {
        let side = UnbufferedServerConnection::new(config.clone())?;
        Ok(Self { ends: Ends::Server(Box::new(side)), partial: Vec::new(), is_open: false, is_closed: false })
    }

    /// A client's end; the server's certificate must have this name.
    ///
    /// # Errors
    /// When it is no name.
    pub fn client(config: &Arc<ClientConfig>, name: &str) -> Result<Self> {
        let name = ServerName::try_from(name.to_owned())?;
        let side = UnbufferedClientConnection::new(config.clone(), name)?;
        Ok(Self { ends: Ends::Client(Box::new(side)), partial: Vec::new(), is_open: false, is_closed: false })
    }

    /// Takes what came: the plaintext is added to `plain`, what must be answered to `wire`. Also begins a handshake, with nothing.
    ///
    /// # Errors
    /// When the other end does wrong.
    pub fn take(&mut self, came: &mut [u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> Result<()> {
        if self.partial.is_empty() {
            let used = self.process(came, plain, wire)?;
            self.partial.extend_from_slice(&came[used..]);
        } else {
            let mut partial = std::mem::take(&mut self.partial);
            partial.extend_from_slice(came);
            let used = self.process(&mut partial, plain, wire)?;
            if used < partial.len() {
                partial.drain(..used);
                self.partial = partial;
            }
        }
        if self.partial.len() > PARTIAL_BYTES_MAX {
            bail!("a record without end");
        }
        Ok(())
    }

    fn process(&mut self, came: &mut [u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> Result<usize> {
        let done = match &mut self.ends {
            Ends::Server(side) => process(side.as_mut(), came, plain, wire),
            Ends::Client(side) => process(side.as_mut(), came, plain, wire),
        };
        let done = done?;
        self.is_open |= done.open;
        self.is_closed |= done.closed;
        Ok(done.used)
    }

    /// Seals `plain`, after the first `at` bytes of `wire`, which grows as needed and never shrinks; where the sealed bytes end.
    ///
    /// # Errors
    /// When the handshake is not over.
    pub fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>, at: usize) -> Result<usize> {
        let most = at + plain.len() + (plain.len() / RECORD_BYTES + 1) * OVERHEAD_BYTES;
        if wire.len() < most {
            wire.resize(most, 0);
        }
        let len = match &mut self.ends {
            Ends::Server(side) => seal(side.as_mut(), plain, &mut wire[at..]),
            Ends::Client(side) => seal(side.as_mut(), plain, &mut wire[at..]),
        };
        Ok(at + len?)
    }
}

struct Done {
    used: usize,
    open: bool,
    closed: bool,
}

fn process<S: Side>(side: &mut S, came: &mut [u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> Result<Done> {
    let mut done = Done { used: 0, open: false, closed: false };
    loop {
        let status = side.process(&mut came[done.used..]);
        done.used += status.discard;
        match status.state.context("TLS failed")? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record.context("TLS failed")?;
                    plain.extend_from_slice(record.payload);
                    done.used += record.discard;
                }
            }
            ConnectionState::EncodeTlsData(mut data) => {
                let from = wire.len();
                let mut space = 4 << 10;
                let len = loop {
                    wire.resize(from + space, 0);
                    match data.encode(&mut wire[from..]) {
                        Ok(len) => break len,
                        Err(EncodeError::InsufficientSize(error)) => space = error.required_size,
                        Err(error) => bail!("cannot encode a handshake message: {error}"),
                    }
                };
                wire.truncate(from + len);
            }
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::WriteTraffic(_) => {
                done.open = true;
                return Ok(done);
            }
            ConnectionState::BlockedHandshake => return Ok(done),
            ConnectionState::PeerClosed | ConnectionState::Closed => {
                done.closed = true;
                return Ok(done);
            }
            other => bail!("unexpected state of TLS: {other:?}"),
        }
    }
}

fn seal<S: Side>(side: &mut S, plain: &[u8], wire: &mut [u8]) -> Result<usize> {
    match side.process(&mut []).state? {
        ConnectionState::WriteTraffic(mut traffic) => {
            traffic.encrypt(plain, wire).map_err(|error| anyhow!("cannot seal a record: {error}"))
        }
        _ => bail!("TLS is not ready to write"),
    }
}
