//! `sealane proxy`: TCP connections of existing programs over Sealane. One process stands beside the client and listens for TCP, one beside
//! the server and listens for Sealane; crate `proxy` carries, here are its arguments.
#![expect(clippy::disallowed_types, reason = "existing programs come by TCP")]

use anyhow::{Context, Result, bail, ensure};
use proxy::{Counts, Entrance, Exit, Limits};
use sealane::builder::Ready;
use sealane::{AsyncSocket, Builder, Clients, Identity, Info, Socket, Trust};
use serde_json::json;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use crate::call::host;
use crate::{observe, packets, profile};

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Where to listen: tcp:ADDR beside the client, sealane:ADDR beside the server; port 0 lets the kernel choose
    #[arg(long, value_name = "KIND:ADDR")]
    listen: Place,
    /// Where to carry connections: sealane:HOST:PORT of the other proxy, or tcp:HOST:PORT of the server
    #[arg(long, value_name = "KIND:ADDR")]
    to: Place,
    /// Authorities that the other proxy's certificate is judged by (PEM)
    #[arg(long, value_name = "FILE", required_unless_present = "allow_anonymous")]
    ca: Option<PathBuf>,
    /// Our own certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// The name that the other proxy's certificate must have [default: the host of --to]
    #[arg(long)]
    name: Option<String>,
    /// Carry for anyone who can reach the address, unauthenticated
    #[arg(long, conflicts_with = "ca")]
    allow_anonymous: bool,
    /// Connections at once; one more is closed as soon as it comes
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections, value_parser = connections)]
    connections: usize,
    #[command(flatten)]
    door: observe::Door,
    #[command(flatten)]
    profile: profile::Choice,
    #[command(flatten)]
    packets: packets::Cut,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
A web server on 8080 and a browser, with an encrypted way between them:
  server$ sealane proxy --listen sealane:0.0.0.0:4433 --to tcp:127.0.0.1:8080 --cert server.pem --key server.key --ca ca.pem
  client$ sealane proxy --listen tcp:127.0.0.1:8080 --to sealane:server:4433 --cert client.pem --key client.key --ca ca.pem
  client$ curl http://127.0.0.1:8080/";

/// One end of a proxy.
#[derive(Debug, Clone)]
enum Place {
    Tcp(String),
    Sealane(String),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((_, address)) if !address.contains(':') => Err(format!("{text:?} has no port")),
            Some(("tcp", address)) => Ok(Self::Tcp(address.to_owned())),
            Some(("sealane", address)) => Ok(Self::Sealane(address.to_owned())),
            _ => Err("tcp:HOST:PORT or sealane:HOST:PORT".to_owned()),
        }
    }
}

fn connections(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=Limits::CONNECTIONS_MAX).contains(count));
    count.ok_or_else(|| format!("a number from 1 to {}", Limits::CONNECTIONS_MAX))
}

fn address(text: &str) -> Result<SocketAddr> {
    let found = text.to_socket_addrs().with_context(|| format!("looking up {text}"))?.next();
    found.with_context(|| format!("{text} has no address"))
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut limits = Limits::default();
    limits.connections = args.connections;
    // A file for each connection, and some for the rest.
    let wanted = args.connections as u64 + 64;
    let files = ::kv::child::raise_open_files(wanted);
    ensure!(files >= wanted, "only {files} open files are allowed, too few for {} connections", args.connections);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime")?;
    match (&args.listen, &args.to) {
        (Place::Tcp(listen), Place::Sealane(exit)) => runtime.block_on(enter(args, address(listen)?, exit, limits)),
        (Place::Sealane(listen), Place::Tcp(target)) => runtime.block_on(leave(args, address(listen)?, target, limits)),
        (Place::Tcp(_), Place::Tcp(_)) => bail!("neither end is Sealane's: --listen or --to must be sealane:ADDR"),
        (Place::Sealane(_), Place::Sealane(_)) => bail!("neither end is TCP: --listen or --to must be tcp:ADDR"),
    }
}

fn identity(args: &Args) -> Result<Option<Identity>> {
    let (Some(cert), Some(key)) = (&args.cert, &args.key) else { return Ok(None) };
    let read = Identity::pem_files(cert, key);
    read.map(Some).with_context(|| format!("the identity in {} and {}", cert.display(), key.display()))
}

fn trust(args: &Args) -> Result<Option<Trust>> {
    let read =
        args.ca.as_ref().map(|ca| Trust::pem_file(ca).with_context(|| format!("the authorities in {}", ca.display())));
    read.transpose()
}

/// What the arguments say of packets and waits, and what the limits need.
fn fitted(args: &Args, limits: Limits, builder: Builder<Ready>) -> Builder<Ready> {
    limits.apply(args.packets.apply(args.profile.apply(builder)))
}

fn listening(args: &Args, at: SocketAddr, kind: &str, to: &str) -> Result<()> {
    crate::print(&if args.json {
        format!("{}\n", json!({ "event": "listening", "kind": kind, "addr": at.to_string(), "to": to }))
    } else {
        format!("listening on {kind}:{at}, carries to {to}\n")
    })
}

/// Registers what a proxy counts; what this gives publishes it.
pub(crate) fn meters(counts: impl Fn() -> Counts + Send + 'static) -> impl FnMut() + Send + 'static {
    let counter = |name: &'static str, meaning: &'static str| {
        metrics::describe_counter!(name, meaning);
        metrics::counter!(name)
    };
    let opened = counter("sealane_proxy_opened_total", "Connections that were carried");
    let ended = counter("sealane_proxy_ended_total", "Of these, those that are over");
    let refused = counter("sealane_proxy_refused_total", "Connections that were not carried");
    let reset = counter("sealane_proxy_reset_total", "Connections that ended by a reset");
    let bytes_out = counter("sealane_proxy_out_bytes_total", "Bytes carried from the entrance to the exit");
    let bytes_back = counter("sealane_proxy_back_bytes_total", "Bytes carried back");
    move || {
        let counts = counts();
        opened.absolute(counts.opened);
        ended.absolute(counts.ended);
        refused.absolute(counts.refused);
        reset.absolute(counts.reset);
        bytes_out.absolute(counts.bytes_out);
        bytes_back.absolute(counts.bytes_back);
    }
}

/// Opens the door for those who watch, if it was asked for.
fn tell(
    args: &Args,
    info: impl Fn() -> Info + Send + 'static,
    counts: impl Fn() -> Counts + Send + 'static,
) -> Result<()> {
    args.door.start_with("proxy", args.json, info, || meters(counts))
}

/// Beside the client.
async fn enter(args: &Args, listen: SocketAddr, exit: &str, limits: Limits) -> Result<()> {
    let Some(trust) = trust(args)? else { bail!("--ca says by whom the other proxy's certificate is judged") };
    let builder = Socket::builder().trust(trust);
    let builder = match identity(args)? {
        Some(identity) => builder.identity(identity),
        None => builder.anonymous(),
    };
    let name = args.name.as_deref().map_or_else(|| host(exit), Ok)?;
    let exit_at = address(exit)?;
    let any = if exit_at.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = AsyncSocket::new(fitted(args, limits, builder).bind(SocketAddr::new(any, 0))?)?;
    let peer = socket.peer(exit_at, name)?;
    let listener = TcpListener::bind(listen).with_context(|| format!("listening on tcp:{listen}"))?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let at = listener.local_addr()?;
    if !at.ip().is_loopback() {
        eprintln!("sealane: whoever reaches {at} speaks in clear text to us, and to the other proxy in our name");
    }
    listening(args, at, "tcp", &format!("sealane:{exit}"))?;
    let entrance = Entrance::new(socket, peer, limits);
    let (told, counted) = (entrance.clone(), entrance.clone());
    tell(args, move || told.socket().info(), move || counted.tally().counts())?;
    entrance.run(listener).await;
    Ok(())
}

/// Beside the server.
async fn leave(args: &Args, listen: SocketAddr, target: &str, limits: Limits) -> Result<()> {
    let Some(identity) = identity(args)? else { bail!("--cert and --key are what the other proxy knows us by") };
    let (trust, clients) = match trust(args)? {
        Some(trust) => (trust, Clients::Authenticated),
        None => (Trust::nobody(), Clients::Anonymous),
    };
    let builder = Socket::builder().trust(trust).identity(identity).serve(clients);
    let socket = fitted(args, limits, builder).bind(listen)?;
    listening(args, socket.local_addr(), "sealane", &format!("tcp:{target}"))?;
    let exit = Exit::new(AsyncSocket::new(socket)?, target, limits);
    let (told, counted) = (exit.clone(), exit.clone());
    tell(args, move || told.socket().info(), move || counted.tally().counts())?;
    exit.run().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::registry::Registry;

    #[test]
    fn what_is_counted_is_told_and_listed() {
        let registry = Registry::default();
        let mut publish = metrics::with_local_recorder(&registry, || {
            meters(|| {
                let mut counts = Counts::default();
                counts.bytes_back = 7;
                counts
            })
        });
        publish();
        let text = registry.text();
        assert!(text.contains("\nsealane_proxy_back_bytes_total 7\n"), "{text}");
        let page = include_str!("../../../docs/EVERYDAY.md");
        for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
            assert!(page.contains(&format!("`{name}`")), "docs/EVERYDAY.md does not have {name}");
        }
    }
}
