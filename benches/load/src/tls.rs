//! Peer `tls`: TLS 1.3 by rustls, AES-128-GCM, both sides authenticated.
//!
//! Owns the configuration and the driving of rustls's unbuffered connection, which seals into and opens from our own
//! buffers; the buffered one reads 4 KB at a time and copies once more.
//! Tickets and resumption are off: they are no part of what is measured.

use std::net::TcpListener;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{UnbufferedServerConnection, WebPkiClientVerifier};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::buffer::Buffer;
use crate::certs::{Credentials, Identity, SERVER_NAME};
use crate::client::Client;
use crate::pattern::Pattern;
use crate::sealed::{self, LeftOver, RECORD_BYTES_MAX, Records};
use crate::served::Served;
use crate::spec::Spec;
use crate::stream::{Got, Link};

/// More than a record adds to its plaintext.
const OVERHEAD_BYTES_MAX: usize = 64;

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

struct TlsRecords<S>(S);

impl<S: Side> Records for TlsRecords<S> {
    fn seal(&mut self, plain: &[u8], out: &mut Buffer) -> Result<()> {
        let ConnectionState::WriteTraffic(mut traffic) = self.0.process(&mut []).state? else {
            bail!("rustls is not ready to write");
        };
        let len = traffic
            .encrypt(plain, out.space(plain.len() + OVERHEAD_BYTES_MAX))
            .map_err(|e| anyhow!("cannot seal a record: {e}"))?;
        out.commit(len);
        Ok(())
    }

    fn open(&mut self, wire: &mut Buffer, plain: &mut Buffer) -> Result<()> {
        let mut used = 0;
        loop {
            let status = self.0.process(&mut wire.filled_mut()[used..]);
            used += status.discard;
            match status.state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        plain.append(record.payload);
                        used += record.discard;
                    }
                }
                ConnectionState::WriteTraffic(_) => break,
                ConnectionState::PeerClosed | ConnectionState::Closed => bail!("TLS was closed"),
                other => bail!("unexpected state of TLS: {other:?}"),
            }
        }
        wire.consume(used);
        Ok(())
    }
}

fn handshake<S: Side>(side: &mut S, link: &Link) -> Result<LeftOver> {
    let (mut wire, mut plain) = (Buffer::with_capacity(16 << 10), Buffer::with_capacity(0));
    let mut out = Buffer::with_capacity(16 << 10);
    loop {
        let status = side.process(wire.filled_mut());
        let mut discard = status.discard;
        let mut must_read = false;
        match status.state.context("the TLS handshake failed")? {
            ConnectionState::EncodeTlsData(mut data) => {
                let mut space = 4 << 10;
                let len = loop {
                    match data.encode(out.space(space)) {
                        Ok(len) => break len,
                        Err(EncodeError::InsufficientSize(e)) => space = e.required_size,
                        Err(e) => bail!("cannot encode a handshake message: {e}"),
                    }
                };
                out.commit(len);
            }
            ConnectionState::TransmitTlsData(data) => {
                link.send_all(out.filled())?;
                out.clear();
                data.done();
            }
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    plain.append(record.payload);
                    discard += record.discard;
                }
            }
            ConnectionState::BlockedHandshake => must_read = true,
            ConnectionState::WriteTraffic(_) => {
                wire.consume(discard);
                return Ok(LeftOver { wire, plain });
            }
            other => bail!("the TLS handshake ended in {other:?}"),
        }
        wire.consume(discard);
        if must_read {
            match link.recv_some(wire.space(RECORD_BYTES_MAX))? {
                Got::Bytes(len) => wire.commit(len),
                _ => bail!("the connection closed during the TLS handshake"),
            }
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
    let link = Link::connect(spec, port)?;
    let name = ServerName::try_from(SERVER_NAME)?;
    let config = Arc::new(client_config(credentials)?);
    let mut side = UnbufferedClientConnection::new(config, name)?;
    // Nobody speaks before the client does, so nothing can be left over here.
    handshake(&mut side, &link)?;
    Ok(Box::new(sealed::Caller::new(spec, link, TlsRecords(side), pattern)))
}

/// Waits for a client and shakes hands with it.
pub(crate) fn accept(spec: &Spec, listener: &TcpListener, credentials: &Credentials) -> Result<Box<dyn Served>> {
    let config = Arc::new(server_config(credentials)?);
    let link = Link::accept(listener, spec.mode)?;
    let mut side = UnbufferedServerConnection::new(config)?;
    let left = handshake(&mut side, &link)?;
    Ok(Box::new(sealed::Server::new(spec, link, TlsRecords(side), Some(left))?))
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..aws_lc_rs::default_provider()
    })
}

pub(crate) fn client_config(credentials: &Credentials) -> Result<ClientConfig> {
    let (chain, key) = identity(&credentials.client)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(credentials)?)
        .with_client_auth_cert(chain, key)?;
    config.resumption = Resumption::disabled();
    Ok(config)
}

pub(crate) fn server_config(credentials: &Credentials) -> Result<ServerConfig> {
    let (chain, key) = identity(&credentials.server)?;
    let roots = Arc::new(roots(credentials)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn roots(credentials: &Credentials) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(credentials.authority.as_bytes())?)?;
    Ok(roots)
}

fn identity(of: &Identity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let certificate = CertificateDer::from_pem_slice(of.certificate.as_bytes())?;
    Ok((vec![certificate], PrivateKeyDer::from_pem_slice(of.key.as_bytes())?))
}
