//! The example's command: a server of notice boards, a client that shows each kind of call, and the comparison with tonic over TLS.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a command of the real world: the clock is its subject")]

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use grpc::bench::{self, Plan};
use grpc::board::Boards;
use grpc::certs::{Certificates, SERVER_NAME};
use grpc::channel::Channel;
use grpc::limits::Limits;
use grpc::proto::DESCRIPTORS;
use grpc::proto::board_server::BoardServer;
use grpc::routes::Routes;
use grpc::server::Server;
use grpc::show;
use sealane::{AsyncSocket, Clients, Socket};
use serde::Serialize;
use tonic::Code;

#[derive(Debug, Parser)]
#[command(about = "gRPC over Sealane: stubs of tonic, unchanged")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve notice boards, health and reflection until interrupted
    Server(ServerArgs),
    /// Call each kind of method once, and say what came of it
    Client(ClientArgs),
    /// Time unary calls beside tonic over TLS, in turns (that needs `--features heavy`)
    Bench(BenchArgs),
}

#[derive(Debug, clap::Args)]
struct ServerArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7443")]
    listen: SocketAddr,
    /// The folder of the certificates; they are made there if it has none
    #[arg(long, value_name = "DIR", default_value = "target/grpc-certs")]
    certs: PathBuf,
}

#[derive(Debug, clap::Args)]
struct ClientArgs {
    /// Where the server is
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7443")]
    connect: SocketAddr,
    /// The folder of the certificates, which the server made
    #[arg(long, value_name = "DIR", default_value = "target/grpc-certs")]
    certs: PathBuf,
    /// Wait so long for the server
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    wait_s: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct BenchArgs {
    /// Bytes of text in a request
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_values_t = [64, 1024, 8192])]
    sizes: Vec<usize>,
    /// Calls of each peer in a round
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    calls: u32,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Server(args) => runtime().and_then(|runtime| runtime.block_on(server(&args))),
        Command::Client(args) => runtime().and_then(|runtime| runtime.block_on(client(&args))),
        Command::Bench(args) => compare(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot make a runtime")
}

/// Prints; a reader that closes early is no error.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

async fn server(args: &ServerArgs) -> Result<()> {
    let certificates = Certificates::read_or_make(&args.certs)?;
    let socket = Socket::builder()
        .trust(certificates.trust()?)
        .identity(certificates.server.identity()?)
        .serve(Clients::Authenticated)
        .bind(args.listen)?;
    print(&format!("listening on {}, certificates in {}\n", socket.local_addr(), args.certs.display()));
    let socket = Arc::new(AsyncSocket::new(socket)?);
    let (health, health_server) = tonic_health::server::health_reporter();
    health.set_serving::<BoardServer<Boards>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let routes = Routes::new().with(BoardServer::new(Boards::default())).with(health_server).with(reflection);
    tokio::select! {
        () = Server::new(routes, Limits::default()).serve(Arc::clone(&socket)) => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    let _ = tokio::task::spawn_blocking(move || socket.socket().close()).await?;
    Ok(())
}

/// A channel to the server, as soon as there is one.
async fn connect(args: &ClientArgs) -> Result<Channel> {
    let until = Instant::now() + Duration::from_secs(args.wait_s);
    loop {
        let why = match try_connect(args.connect, &args.certs).await {
            Ok(channel) => return Ok(channel),
            Err(why) => why,
        };
        let status = why.downcast_ref::<tonic::Status>();
        let is_stranger = status.is_some_and(|status| status.code() == Code::Unauthenticated);
        if is_stranger || Instant::now() >= until {
            let why = status.map_or_else(|| format!("{why:#}"), |status| status.message().to_owned());
            bail!(
                "{why}; `cargo run --release -p grpc -- server` starts a server, and its certificates are to be named"
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn try_connect(at: SocketAddr, certs: &Path) -> Result<Channel> {
    let certificates = Certificates::read(certs)?;
    let any = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = Socket::builder()
        .trust(certificates.trust()?)
        .identity(certificates.client.identity()?)
        .handshake_timeout(Duration::from_secs(1))
        .bind(any)?;
    let socket = Arc::new(AsyncSocket::new(socket)?);
    let peer = socket.peer(at, SERVER_NAME)?;
    let channel = Channel::new(socket, peer).timeout(Duration::from_secs(20));
    channel.connect().await?;
    Ok(channel)
}

#[derive(Serialize)]
struct Shown {
    server: SocketAddr,
    rows: Vec<show::Row>,
}

async fn client(args: &ClientArgs) -> Result<()> {
    let channel = connect(args).await?;
    let rows = show::all(&channel).await?;
    if args.json {
        print(&format!("{}\n", serde_json::to_string(&Shown { server: args.connect, rows })?));
        return Ok(());
    }
    for row in rows {
        print(&format!("{:<14} {:<34} {:>9.0} us  {}\n", row.kind, row.method, row.us, row.outcome));
    }
    Ok(())
}

fn compare(args: BenchArgs) -> Result<()> {
    if args.sizes.iter().any(|size| *size > 4_000_000) {
        bail!("a request has at most 4,000,000 bytes of text: tonic decodes no longer one by default");
    }
    let report = bench::run(&Plan { sizes: args.sizes, calls: args.calls, rounds: args.rounds })?;
    if args.json {
        print(&format!("{}\n", serde_json::to_string(&report)?));
        return Ok(());
    }
    for row in &report.rows {
        let beside = match (row.p50_to_tonic, row.p50_to_tonic_rounds) {
            (Some(ratio), Some((least, most))) => {
                format!("  p50 to tonic over TLS {ratio:.2} ({least:.2} to {most:.2} by round)")
            }
            _ => String::new(),
        };
        print(&format!(
            "{:<13} {:>8} B {:>8} calls  p50 {:>8.1} us  p99 {:>8.1} us{beside}\n",
            row.peer, row.size, row.calls, row.p50_us, row.p99_us
        ));
    }
    if let Some(missing) = report.missing {
        print(&format!("{missing}\n"));
    }
    Ok(())
}
