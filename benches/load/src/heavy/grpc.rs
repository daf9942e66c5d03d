//! Peer `tonic`: unary gRPC calls over one HTTP/2 connection, TLS 1.3 by rustls with AES-128-GCM and both sides authenticated.
//!
//! The messages are bytes as they are: no Protobuf is encoded or decoded, which flatters it.

use std::ops::Range;
use std::sync::{Arc, Once};
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::{Buf, BufMut};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::http::{Request as HttpRequest, Response as HttpResponse};
use tonic::codegen::{BoxFuture, Bytes, Service};
use tonic::server::UnaryService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity, ServerTlsConfig};
use tonic::{Request, Response, Status};

use super::{WINDOW, runtime};
use crate::certs::{self, Credentials, SERVER_NAME};
use crate::client::{Client, Deliver, REPLY_TIMEOUT};
use crate::pattern::Pattern;
use crate::served::Served;
use crate::spec::{MESSAGE_BYTES_MAX, Spec};
use crate::tls;

const PATH: &str = "/bench.Echo/Echo";
const END: &str = "/bench.Echo/End";
/// Turns of the runtime in one look at the network.
const TURNS: u32 = 16;
/// The largest frames that HTTP/2 has: fewer of them.
const FRAME: u32 = (1 << 24) - 1;

/// Bytes as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// tonic takes the process's provider; ours has AES-128-GCM only, as for all peers.
fn provide() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Somebody else's would be taken too, which only changes the cipher.
        let _ = tls::provider().as_ref().clone().install_default();
    });
}

fn identity(of: &certs::Identity) -> Identity {
    Identity::from_pem(&of.certificate, &of.key)
}

/// Answers with what it was sent; a call to `END` says that the client is gone.
#[derive(Clone)]
struct EchoService {
    ended: Arc<Notify>,
}

impl UnaryService<Bytes> for EchoService {
    type Response = Bytes;
    type Future = std::future::Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}

impl Service<HttpRequest<Body>> for EchoService {
    type Response = HttpResponse<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        if request.uri().path() == END {
            self.ended.notify_one();
        }
        let service = self.clone();
        Box::pin(async {
            let mut grpc = tonic::server::Grpc::new(Raw).max_decoding_message_size(MESSAGE_BYTES_MAX);
            Ok(grpc.unary(service, request).await)
        })
    }
}

/// The server.
pub(crate) struct Server {
    pub(super) port: u16,
    runtime: Runtime,
    ended: Arc<Notify>,
}

impl Server {
    pub(super) fn bind(spec: &Spec, credentials: &Credentials) -> Result<Self> {
        provide();
        let tls = ServerTlsConfig::new()
            .identity(identity(&credentials.server))
            .client_ca_root(Certificate::from_pem(&credentials.authority));
        let runtime = runtime(spec.mode)?;
        let ended = Arc::new(Notify::new());
        let service = EchoService { ended: Arc::clone(&ended) };
        let entered = runtime.enter();
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?.with_nodelay(Some(true));
        let port = incoming.local_addr()?.port();
        let server = tonic::transport::Server::builder()
            .tls_config(tls)?
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_frame_size(FRAME);
        // Its client tells of an error.
        runtime.spawn(async move { server.serve_with_incoming(service, incoming).await.is_ok() });
        drop(entered);
        Ok(Self { port, runtime, ended })
    }
}

impl Served for Server {
    fn turn(&mut self) -> Result<bool> {
        self.runtime.block_on(self.ended.notified());
        Ok(false)
    }
}

/// The client.
struct Caller {
    runtime: Runtime,
    grpc: tonic::client::Grpc<Channel>,
    pattern: Arc<Pattern>,
    spins: bool,
    calls: JoinSet<Result<(u64, Bytes), Status>>,
}

/// Connects a client, handshake included.
pub(super) fn connect(
    spec: &Spec,
    port: u16,
    credentials: &Credentials,
    pattern: &Arc<Pattern>,
) -> Result<Box<dyn Client>> {
    provide();
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&credentials.authority))
        .identity(identity(&credentials.client))
        .domain_name(SERVER_NAME);
    let runtime = runtime(spec.mode)?;
    let channel = runtime.block_on(async {
        let to = Channel::from_shared(format!("https://127.0.0.1:{port}"))?
            .tls_config(tls)?
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .buffer_size(spec.outstanding.max(1024));
        anyhow::Ok(to.connect().await?)
    })?;
    let grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let calls = JoinSet::new();
    Ok(Box::new(Caller { runtime, grpc, pattern: pattern.clone(), spins: spec.mode.polls(), calls }))
}

impl Client for Caller {
    fn send(&mut self, ids: Range<u64>) -> Result<()> {
        let _in = self.runtime.enter();
        for id in ids {
            let mut grpc = self.grpc.clone();
            let body = Bytes::from_owner(self.pattern.owned(id));
            self.calls.spawn(async move {
                grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
                let reply = grpc.unary(Request::new(body), PathAndQuery::from_static(PATH), Raw).await?;
                Ok((id, reply.into_inner()))
            });
        }
        Ok(())
    }

    fn receive(&mut self, deliver: Deliver<'_>) -> Result<bool> {
        let Self { runtime, calls, spins, .. } = self;
        let first = runtime.block_on(async {
            if !*spins {
                return timeout(REPLY_TIMEOUT, calls.join_next()).await.ok().flatten();
            }
            for _ in 0..TURNS {
                match calls.try_join_next() {
                    None => tokio::task::yield_now().await,
                    found => return found,
                }
            }
            None
        });
        let mut next = first;
        let came = next.is_some();
        while let Some(done) = next {
            let (id, reply) = done??;
            deliver(id, &reply);
            next = calls.try_join_next();
        }
        Ok(came)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let mut grpc = self.grpc.clone();
        let told = async {
            grpc.ready().await.ok()?;
            grpc.unary(Request::new(Bytes::new()), PathAndQuery::from_static(END), Raw).await.ok()
        };
        let _ = self.runtime.block_on(async { timeout(REPLY_TIMEOUT, told).await });
    }
}
