//! Peers `quinn` and `s2n-quic`: one connection, one stream, TLS 1.3 by rustls with AES-128-GCM and both sides authenticated, as `tls`.
//!
//! Packets are as large as loopback allows each library (`--mtu` keeps them smaller), and windows are never the limit. One stream for all
//! messages was the faster form of two; a stream for each message is what its order costs.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use s2n_quic::provider::io::tokio::Provider as Io;
use s2n_quic::provider::limits::Limits;
use s2n_quic::provider::tls::rustls as s2n_tls;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::stream::{Caller, Echo};
use super::{WINDOW, runtime};
use crate::certs::{Credentials, SERVER_NAME};
use crate::client::Client;
use crate::pattern::Pattern;
use crate::served::Served;
use crate::spec::Spec;
use crate::tls;

const ALPN: &[u8] = b"sealane-bench";
/// What IPv4 and UDP take of the path's MTU.
const IP_AND_UDP: u32 = 28;
/// quinn's datagrams over loopback: it sends trains of up to ten, and ten of these are the longest that the kernel takes. Of longer ones
/// it would lose every full train.
const QUINN_BYTES: u16 = 6500;
/// Datagrams that may leave before the first acknowledgement (RFC 9002 section 7.2). quinn's own number is in bytes, for small ones.
const FIRST_DATAGRAMS: u64 = 10;
/// The most that s2n-quic takes as an MTU.
const S2N_MTU: u16 = 9000;
/// How long the end of a connection may take.
const END: Duration = Duration::from_millis(200);

fn local(port: u16) -> SocketAddr {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into()
}

fn transport(spec: &Spec) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    let bytes = spec.mtu.map_or(QUINN_BYTES, |mtu| (mtu - IP_AND_UDP).min(u32::from(QUINN_BYTES)) as u16);
    let mut cubic = CubicConfig::default();
    cubic.initial_window(FIRST_DATAGRAMS * u64::from(bytes));
    config
        .congestion_controller_factory(Arc::new(cubic))
        .initial_mtu(bytes)
        .mtu_discovery_config(None)
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(WINDOW.into());
    Arc::new(config)
}

fn endpoint(server: Option<ServerConfig>) -> Result<quinn::Endpoint> {
    let socket = std::net::UdpSocket::bind(local(0))?;
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(QUINN_BYTES)?;
    Ok(quinn::Endpoint::new(config, server, socket, Arc::new(TokioRuntime))?)
}

/// quinn's server.
pub(crate) struct Quinn {
    pub(super) port: u16,
    runtime: Runtime,
    endpoint: quinn::Endpoint,
}

impl Quinn {
    pub(super) fn bind(spec: &Spec, credentials: &Credentials) -> Result<Self> {
        let mut tls = tls::server_config(credentials)?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        config.transport_config(transport(spec));
        let runtime = runtime(spec.mode)?;
        let endpoint = {
            let _in = runtime.enter();
            endpoint(Some(config))?
        };
        Ok(Self { port: endpoint.local_addr()?.port(), runtime, endpoint })
    }

    pub(super) fn accept(self, spec: &Spec) -> Result<Box<dyn Served>> {
        let Self { runtime, endpoint, .. } = self;
        let (connection, stream) = runtime.block_on(async {
            let connection = endpoint.accept().await.context("the endpoint is closed")?.await?;
            let stream = connection.accept_bi().await?;
            anyhow::Ok((connection, stream))
        })?;
        Ok(Box::new(Echo::new(spec, runtime, stream, (connection, endpoint))))
    }
}

/// quinn's client.
pub(super) fn connect_quinn(
    spec: &Spec,
    port: u16,
    credentials: &Credentials,
    pattern: &Arc<Pattern>,
) -> Result<Box<dyn Client>> {
    let mut tls = tls::client_config(credentials)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(transport(spec));
    let runtime = runtime(spec.mode)?;
    let (endpoint, connection, stream) = runtime.block_on(async {
        let endpoint = endpoint(None)?;
        let connection = endpoint.connect_with(config, local(port), SERVER_NAME)?.await?;
        let stream = connection.open_bi().await?;
        anyhow::Ok((endpoint, connection, stream))
    })?;
    let end = move |runtime: &Runtime| {
        connection.close(VarInt::from_u32(0), b"");
        let _ = runtime.block_on(timeout_of(endpoint.wait_idle()));
    };
    Ok(Box::new(Caller::new(spec, runtime, stream, end, pattern)))
}

async fn timeout_of<T>(ended: impl Future<Output = T>) -> Option<T> {
    timeout(END, ended).await.ok()
}

fn limits() -> Result<Limits> {
    let window = u64::from(WINDOW);
    Ok(Limits::new()
        .with_data_window(window)?
        .with_bidirectional_local_data_window(window)?
        .with_bidirectional_remote_data_window(window)?
        .with_max_send_buffer_size(WINDOW)?)
}

fn io(spec: &Spec) -> Result<Io> {
    let mtu = spec.mtu.map_or(S2N_MTU, |mtu| mtu.min(u32::from(S2N_MTU)) as u16);
    let builder = Io::builder().with_receive_address(local(0))?.with_max_mtu(mtu)?.with_initial_mtu(mtu)?;
    Ok(builder.build()?)
}

/// s2n-quic's server.
pub(crate) struct S2n {
    pub(super) port: u16,
    runtime: Runtime,
    server: s2n_quic::Server,
}

impl S2n {
    pub(super) fn bind(spec: &Spec, credentials: &Credentials) -> Result<Self> {
        let mut tls = tls::server_config(credentials)?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let runtime = runtime(spec.mode)?;
        let server = {
            let _in = runtime.enter();
            s2n_quic::Server::builder()
                .with_tls(s2n_tls::Server::from(tls))?
                .with_limits(limits()?)?
                .with_io(io(spec)?)?
                .start()?
        };
        Ok(Self { port: server.local_addr()?.port(), runtime, server })
    }

    pub(super) fn accept(self, spec: &Spec) -> Result<Box<dyn Served>> {
        let Self { runtime, mut server, .. } = self;
        let (connection, stream) = runtime.block_on(async {
            let mut connection = server.accept().await.context("the server is closed")?;
            let stream = connection.accept_bidirectional_stream().await?.context("the connection is closed")?;
            anyhow::Ok((connection, stream))
        })?;
        let (reader, writer) = stream.split();
        Ok(Box::new(Echo::new(spec, runtime, (writer, reader), (connection, server))))
    }
}

/// s2n-quic's client.
pub(super) fn connect_s2n(
    spec: &Spec,
    port: u16,
    credentials: &Credentials,
    pattern: &Arc<Pattern>,
) -> Result<Box<dyn Client>> {
    let mut tls = tls::client_config(credentials)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let runtime = runtime(spec.mode)?;
    let (client, connection, stream) = runtime.block_on(async {
        let client = s2n_quic::Client::builder()
            .with_tls(s2n_tls::Client::from(tls))?
            .with_limits(limits()?)?
            .with_io(io(spec)?)?
            .start()?;
        let target = s2n_quic::client::Connect::new(local(port)).with_server_name(SERVER_NAME);
        let mut connection = client.connect(target).await?;
        let stream = connection.open_bidirectional_stream().await?;
        anyhow::Ok((client, connection, stream))
    })?;
    let mut client = client;
    let (reader, writer) = stream.split();
    let end = move |runtime: &Runtime| {
        connection.close(0_u32.into());
        let _ = runtime.block_on(timeout_of(client.wait_idle()));
    };
    Ok(Box::new(Caller::new(spec, runtime, (writer, reader), end, pattern)))
}
