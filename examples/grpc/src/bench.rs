//! Owns the comparison: unary calls of the same stubs to the same handler over Sealane and, with the feature `heavy`, over tonic's own
//! transport (HTTP/2 over TLS over TCP), in turns. One thread serves, one calls, for both.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use sealane::{AsyncSocket, Clients, Socket, Wait};
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio_stream::Empty;
use tonic::{Request, Response, Status, Streaming};

use crate::certs::{Certificates, SERVER_NAME};
use crate::channel::Channel;
use crate::limits::Limits;
use crate::proto::board_client::BoardClient;
use crate::proto::board_server::{Board, BoardServer};
use crate::proto::{ImportResponse, Note, PostRequest, PostResponse, WatchRequest};
use crate::server::Server;

/// The longest call that is told apart from longer ones, in nanoseconds.
const LONGEST_NANOS: u64 = 10_000_000_000;
/// Calls before any is timed.
const WARM: u32 = 500;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Bytes of text in a request, one cell each.
    pub sizes: Vec<usize>,
    /// Calls of each peer in a round, one after the other.
    pub calls: u32,
    /// Rounds. Who begins changes from one to the next.
    pub rounds: u32,
}

/// One peer in one cell.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What carried the calls: `sealane`, `sealane-block` (which never polls before it sleeps), or `tonic-tls`.
    pub peer: &'static str,
    /// Bytes of text in a request.
    pub size: usize,
    /// Calls that were timed.
    pub calls: u64,
    /// Half were faster.
    pub p50_us: f64,
    /// One in a hundred was slower.
    pub p99_us: f64,
    /// p50 to that of tonic over TLS.
    pub p50_to_tonic: Option<f64>,
    /// The same of the best and the worst round.
    pub p50_to_tonic_rounds: Option<(f64, f64)>,
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// All cells.
    pub rows: Vec<Row>,
    /// What was not measured, and why.
    pub missing: Option<String>,
}

/// Answers at once, and keeps nothing.
#[derive(Clone, Copy)]
struct Quick;

#[tonic::async_trait]
impl Board for Quick {
    type WatchStream = Empty<Result<Note, Status>>;
    type ChatStream = Empty<Result<Note, Status>>;

    async fn post(&self, request: Request<PostRequest>) -> Result<Response<PostResponse>, Status> {
        let PostRequest { board, text } = request.into_inner();
        Ok(Response::new(PostResponse { number: text.len() as u64, author: board }))
    }

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("only unary calls are measured"))
    }

    async fn import(&self, _: Request<Streaming<PostRequest>>) -> Result<Response<ImportResponse>, Status> {
        Err(Status::unimplemented("only unary calls are measured"))
    }

    async fn chat(&self, _: Request<Streaming<PostRequest>>) -> Result<Response<Self::ChatStream>, Status> {
        Err(Status::unimplemented("only unary calls are measured"))
    }
}

/// One thread's runtime: both peers have the same on each side.
fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("cannot make a runtime")
}

/// Where the servers are.
struct Ports {
    sealane: SocketAddr,
    sealane_block: SocketAddr,
    #[cfg(feature = "heavy")]
    tonic: SocketAddr,
}

/// The servers, in a thread of their own.
struct Servers {
    ports: Ports,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Servers {
    fn start(certificates: &Certificates) -> Result<Self> {
        let runtime = runtime()?;
        let (stop, stopped) = oneshot::channel();
        let entered = runtime.enter();
        let serve = |wait| -> Result<SocketAddr> {
            let socket = Socket::builder()
                .trust(certificates.trust()?)
                .identity(certificates.server.identity()?)
                .serve(Clients::Authenticated)
                .wait(wait)
                .bind("127.0.0.1:0")?;
            let at = socket.local_addr();
            let server = Server::new(BoardServer::new(Quick), Limits::default());
            runtime.spawn(server.serve(Arc::new(AsyncSocket::new(socket)?)));
            Ok(at)
        };
        let (sealane, sealane_block) = (serve(Wait::Adaptive)?, serve(Wait::Block)?);
        #[cfg(feature = "heavy")]
        let tonic = heavy::serve(&runtime, certificates)?;
        drop(entered);
        let thread = thread::spawn(move || {
            let _ = runtime.block_on(stopped);
        });
        let ports = Ports {
            sealane,
            sealane_block,
            #[cfg(feature = "heavy")]
            tonic,
        };
        Ok(Self { ports, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Times of one peer in one cell.
struct Times {
    all: Histogram<u64>,
    rounds: Vec<f64>,
}

impl Times {
    fn new() -> Result<Self> {
        Ok(Self { all: Histogram::new_with_bounds(1, LONGEST_NANOS, 3)?, rounds: Vec::new() })
    }

    fn us(&self, quantile: f64) -> f64 {
        self.all.value_at_quantile(quantile) as f64 / 1_000.0
    }

    fn row(&self, peer: &'static str, size: usize, beside: Option<&Self>) -> Row {
        let (p50_us, p99_us) = (self.us(0.5), self.us(0.99));
        let ratios: Option<Vec<f64>> =
            beside.map(|other| self.rounds.iter().zip(&other.rounds).map(|(own, other)| own / other).collect());
        Row {
            peer,
            size,
            calls: self.all.len(),
            p50_us,
            p99_us,
            p50_to_tonic: beside.map(|other| p50_us / other.us(0.5)),
            p50_to_tonic_rounds: ratios.map(|ratios| {
                ratios.iter().fold((f64::MAX, 0.0), |(least, most), ratio| (ratio.min(least), ratio.max(most)))
            }),
        }
    }
}

/// Times one round of calls, of any transport.
macro_rules! round {
    ($client:expr, $times:expr, $plan:expr, $size:expr) => {{
        let request = PostRequest { board: "bench".to_owned(), text: "x".repeat($size) };
        let mut times = Histogram::<u64>::new_with_bounds(1, LONGEST_NANOS, 3)?;
        for n in 0..WARM.min($plan.calls) + $plan.calls {
            let message = request.clone();
            let began = Instant::now();
            let response = $client.post(message).await?.into_inner();
            let taken: Duration = began.elapsed();
            anyhow::ensure!(response.number == $size as u64, "the response is of another request");
            if n >= WARM.min($plan.calls) {
                times.saturating_record(taken.as_nanos() as u64);
            }
        }
        $times.rounds.push(times.value_at_quantile(0.5) as f64);
        $times.all.add(&times)?;
    }};
}

/// Measures.
///
/// # Errors
/// When a call fails.
pub fn run(plan: &Plan) -> Result<Report> {
    let certificates = Certificates::generate()?;
    let servers = Servers::start(&certificates)?;
    runtime()?.block_on(measure(plan, &certificates, &servers.ports))
}

#[cfg(not(feature = "heavy"))]
async fn measure(plan: &Plan, certificates: &Certificates, ports: &Ports) -> Result<Report> {
    let mut adaptive = connect(certificates, ports.sealane, Wait::Adaptive).await?;
    let mut block = connect(certificates, ports.sealane_block, Wait::Block).await?;
    let mut rows = Vec::new();
    for &size in &plan.sizes {
        let (mut adaptives, mut blocks) = (Times::new()?, Times::new()?);
        for _ in 0..plan.rounds {
            round!(adaptive, adaptives, plan, size);
            round!(block, blocks, plan, size);
        }
        rows.push(adaptives.row("sealane", size, None));
        rows.push(blocks.row("sealane-block", size, None));
    }
    Ok(Report { rows, missing: Some("tonic over TLS is measured with `--features heavy`".to_owned()) })
}

#[cfg(feature = "heavy")]
async fn measure(plan: &Plan, certificates: &Certificates, ports: &Ports) -> Result<Report> {
    let mut adaptive = connect(certificates, ports.sealane, Wait::Adaptive).await?;
    let mut block = connect(certificates, ports.sealane_block, Wait::Block).await?;
    let mut tonic = heavy::connect(certificates, ports.tonic).await?;
    let mut rows = Vec::new();
    for &size in &plan.sizes {
        let (mut adaptives, mut blocks, mut tonics) = (Times::new()?, Times::new()?, Times::new()?);
        for round in 0..plan.rounds {
            for turn in 0..3 {
                match (round + turn) % 3 {
                    0 => round!(adaptive, adaptives, plan, size),
                    1 => round!(block, blocks, plan, size),
                    _ => round!(tonic, tonics, plan, size),
                }
            }
        }
        rows.push(adaptives.row("sealane", size, Some(&tonics)));
        rows.push(blocks.row("sealane-block", size, Some(&tonics)));
        rows.push(tonics.row("tonic-tls", size, None));
    }
    Ok(Report { rows, missing: None })
}

async fn connect(certificates: &Certificates, at: SocketAddr, wait: Wait) -> Result<BoardClient<Channel>> {
    let socket = Socket::builder()
        .trust(certificates.trust()?)
        .identity(certificates.client.identity()?)
        .wait(wait)
        .bind("127.0.0.1:0")?;
    let socket = Arc::new(AsyncSocket::new(socket)?);
    let peer = socket.peer(at, SERVER_NAME)?;
    let channel = Channel::new(socket, peer);
    channel.connect().await?;
    Ok(BoardClient::new(channel))
}

#[cfg(feature = "heavy")]
mod heavy {
    //! tonic's own transport.

    use std::net::SocketAddr;

    use anyhow::Result;
    use tokio::runtime::Runtime;
    use tonic::transport::server::TcpIncoming;
    use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity, Server, ServerTlsConfig};

    use super::Quick;
    use crate::certs::{Certificates, Pair, SERVER_NAME};
    use crate::proto::board_client::BoardClient;
    use crate::proto::board_server::BoardServer;

    /// tonic takes the process's provider: with the cipher that Sealane uses, and no other.
    fn provide() {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| suite.suite() == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        // Somebody else's would be taken too, which only changes the cipher.
        let _ = provider.install_default();
    }

    fn identity(of: &Pair) -> Identity {
        Identity::from_pem(&of.certificate, &of.key)
    }

    pub(super) fn serve(runtime: &Runtime, certificates: &Certificates) -> Result<SocketAddr> {
        provide();
        let tls = ServerTlsConfig::new()
            .identity(identity(&certificates.server))
            .client_ca_root(Certificate::from_pem(&certificates.authority));
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?.with_nodelay(Some(true));
        let at = incoming.local_addr()?;
        let server = Server::builder().tls_config(tls)?;
        // Its client tells of an error.
        runtime.spawn(async move { server.serve_with_incoming(BoardServer::new(Quick), incoming).await.is_ok() });
        Ok(at)
    }

    pub(super) async fn connect(certificates: &Certificates, at: SocketAddr) -> Result<BoardClient<Channel>> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&certificates.authority))
            .identity(identity(&certificates.client))
            .domain_name(SERVER_NAME);
        let channel =
            Channel::from_shared(format!("https://{at}"))?.tls_config(tls)?.tcp_nodelay(true).connect().await?;
        Ok(BoardClient::new(channel))
    }
}
