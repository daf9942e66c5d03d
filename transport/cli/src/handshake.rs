//! `sealane handshake`: how long it takes from nothing to the first reply, for full handshakes, resumed ones, early data and published
//! tickets, beside TLS 1.3 over TCP by the same library in the same run. Server and clients are in this process, over loopback, unless told otherwise.
#![expect(clippy::disallowed_methods, reason = "handshakes are measured by the real clock")]

mod attest;
mod count;

use std::cell::Cell;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use load::certs::Identity as TlsIdentity;
use load::handshake::{InMemory, Kind, REQUEST, ROUND, RoundTrip, Times, TlsClient, TlsServer, pause};
use sealane::{
    CallOptions, Clients, Delivery, Identity, KeyExchange, Peer, Protection, Socket, TicketFiles, Trust, Upgrade, Wait,
};
use serde::Serialize;

use crate::certs::{self, Development};
use count::{Tally, Traffic};

/// How long a published ticket is valid.
const HOUR: Duration = Duration::from_secs(3600);
/// Handshakes whose packets are counted.
const COUNTED: usize = 5;

/// How a session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// Nothing is known of the server but whom to trust
    Full,
    /// By a ticket of an earlier session
    Resumed,
    /// By a ticket, with the request in the first flight
    EarlyData,
    /// By a published ticket alone, with the request in the first flight of the first session
    Ticket,
    /// The same with a full handshake beside it, so that what follows is forward secret
    TicketFs,
}

impl Mode {
    /// What stands behind a published ticket, where one is used.
    const fn upgrade(self) -> Option<Upgrade> {
        match self {
            Self::Full | Self::Resumed | Self::EarlyData => None,
            Self::Ticket => Some(Upgrade::TicketOnly),
            Self::TicketFs => Some(Upgrade::ForwardSecret),
        }
    }

    /// What the others call it; `None` when they have nothing like it.
    const fn kind(self) -> Option<Kind> {
        match self {
            Self::Full => Some(Kind::Full),
            Self::Resumed => Some(Kind::Resumed),
            Self::EarlyData => Some(Kind::EarlyData),
            Self::Ticket | Self::TicketFs => None,
        }
    }

    /// Whether it goes back to an earlier session.
    const fn resumes(self) -> bool {
        matches!(self, Self::Resumed | Self::EarlyData)
    }

    /// How its first request is protected.
    const fn protection(self) -> &'static str {
        match self {
            Self::Full | Self::Resumed => "full",
            Self::EarlyData => "early-data",
            Self::Ticket | Self::TicketFs => "published-ticket",
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Only this way; all of them if not given
    #[arg(long)]
    mode: Option<Mode>,
    /// Handshakes of each way
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// A server elsewhere that echoes (`sealane serve --echo`) instead of one in this process; then there is no TCP beside it
    #[arg(long, value_name = "ADDR", requires = "ca")]
    to: Option<SocketAddr>,
    /// The published ticket of --to, for the modes ticket and ticket-fs
    #[arg(long, value_name = "FILE", requires = "to")]
    ticket: Option<PathBuf>,
    /// Whom to trust at --to
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Our certificate at --to, if it wants one
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// The name in the server's certificate
    #[arg(long, default_value = "localhost")]
    name: String,
    #[command(flatten)]
    evidence: attest::Args,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
p50_us and p95_us: from the first packet (TCP: from connect) until the reply to a first request of 64 bytes is there. cpu_us: of
both sides together, per handshake, a second request (over TCP: the ticket's arrival) and the session's end included. forward_secrecy: whether that
request stays unreadable for who learns the server's memory later (of a published ticket: within its hour, while its process lives);
session_forward_secrecy: the same of what follows it. ratio_to_tcp divides by TLS 1.3 over TCP in the same mode, which knows no published
tickets. Both wait in blocking calls, one thread on each side. rustls_us: what rustls alone takes for both sides in memory, until the
reply; round_trip_us: one UDP datagram there and back between two threads; ratio_to_floor divides by their sum. Of ticket-fs alone:
first_reply_us is p50_us again, and upgraded_us lasts until a second reply, under the session's own keys, is there.";

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    count: u32,
    request_bytes: usize,
    /// A raw UDP datagram there and back, in this run.
    round_trip_us: Option<f64>,
    rows: Vec<Row>,
}

/// One way to begin.
#[derive(Debug, Serialize)]
struct Row {
    mode: Mode,
    p50_us: f64,
    p95_us: f64,
    cpu_us: f64,
    /// Beside a published ticket: the same as p50_us.
    first_reply_us: Option<f64>,
    /// Beside a published ticket: until a second reply, which has the session's own keys, is there.
    upgraded_us: Option<f64>,
    key_exchange: Option<&'static str>,
    /// How the first request was protected: `full`, `early-data` or `published-ticket`.
    protection: &'static str,
    forward_secrecy: bool,
    session_forward_secrecy: bool,
    /// Until the first reply.
    to_server: Traffic,
    to_client: Traffic,
    tcp: Option<TcpRow>,
    /// What rustls takes for both sides in memory.
    rustls_us: Option<f64>,
    /// p50_us over rustls_us and one round trip.
    ratio_to_floor: Option<f64>,
    /// p50_us over that of TCP.
    ratio_to_tcp: Option<f64>,
    /// p50_us over that of a full handshake of ours.
    ratio_to_full: Option<f64>,
}

/// The same by TLS 1.3 over TCP.
#[derive(Debug, Serialize)]
struct TcpRow {
    p50_us: f64,
    p95_us: f64,
    cpu_us: f64,
    key_exchange: Option<String>,
    bytes_to_server: u64,
    bytes_to_client: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.evidence.attest.is_some() {
        return attest::run(&args.evidence, args.json);
    }
    let modes = match args.mode {
        Some(mode) => vec![mode],
        None if args.to.is_some() && args.ticket.is_none() => vec![Mode::Full, Mode::Resumed, Mode::EarlyData],
        None => Mode::value_variants().to_vec(),
    };
    let development = certs::make(&["localhost".to_owned(), "127.0.0.1".to_owned()], 1)?;
    let server = match args.to {
        Some(_) => None,
        None => Some(Server::start(&development)?),
    };
    let mut others = if args.to.is_none() { Some(Others::start(&development)?) } else { None };
    let mut lanes = Vec::new();
    for mode in modes {
        let at = args.to.or(server.as_ref().map(|server| server.at)).context("a server")?;
        let ours = Ours::new(args, &development, mode, at, server.as_ref())?;
        let theirs = match &others {
            Some(others) => others.beside(mode)?,
            None => None,
        };
        lanes.push((ours, theirs));
    }
    let mut done = 0;
    while done < args.count as usize {
        let round = ROUND.min(args.count as usize - done);
        for (ours, theirs) in &mut lanes {
            ours.round(round)?;
            if let Some(theirs) = theirs {
                theirs.tcp.round(round)?;
                theirs.memory.round(round)?;
            }
        }
        if let Some(others) = &mut others {
            others.round_trip.round(round)?;
        }
        done += round;
    }
    let round_trip_us = others.map(|others| others.round_trip.times.percentile(50));
    let mut rows = Vec::new();
    for (ours, theirs) in lanes {
        rows.push(ours.row(theirs.as_ref(), round_trip_us));
    }
    let full = rows.iter().find(|row| row.mode == Mode::Full).map(|row| row.p50_us);
    for row in &mut rows {
        row.ratio_to_full = full.map(|full| row.p50_us / full);
    }
    let report = Report { count: args.count, request_bytes: REQUEST.len(), round_trip_us, rows };
    if args.json {
        return crate::print(&format!("{}\n", serde_json::to_string(&report)?));
    }
    crate::print(&table(&report))
}

/// What is measured beside us.
struct Others {
    authority: String,
    identity: TlsIdentity,
    server: TlsServer,
    round_trip: RoundTrip,
}

/// For one way to begin.
struct Beside {
    tcp: TlsClient,
    memory: InMemory,
}

impl Others {
    fn start(development: &Development) -> Result<Self> {
        let (authority, pair) = (development.ca.clone(), &development.server);
        let identity = TlsIdentity { certificate: pair.cert.clone(), key: pair.key.clone() };
        let server = TlsServer::start(&identity)?;
        Ok(Self { authority, identity, server, round_trip: RoundTrip::start()? })
    }

    fn beside(&self, mode: Mode) -> Result<Option<Beside>> {
        let Some(kind) = mode.kind() else { return Ok(None) };
        let tcp = TlsClient::new(&self.authority, kind, self.server.at)?;
        Ok(Some(Beside { tcp, memory: InMemory::new(&self.authority, &self.identity, kind)? }))
    }
}

/// A server that says everything again, and counts how requests were protected.
struct Server {
    at: SocketAddr,
    early: Arc<AtomicU64>,
    socket: Arc<Socket>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(development: &Development) -> Result<Self> {
        let identity = Identity::pem(development.server.cert.as_bytes(), development.server.key.as_bytes())?;
        let builder = Socket::builder().trust(Trust::nobody()).identity(identity).serve(Clients::Anonymous);
        let builder = builder.wait(Wait::Block).accept_early_data(1 << 14).publish_tickets(HOUR);
        let socket = Arc::new(builder.bind("127.0.0.1:0")?);
        let (serving, early) = (Arc::clone(&socket), Arc::new(AtomicU64::new(0)));
        let counting = Arc::clone(&early);
        let thread = std::thread::spawn(move || {
            while let Ok(delivery) = serving.recv() {
                if let Delivery::Request(request) = delivery {
                    counting.fetch_add(u64::from(request.protection != Protection::Full), Ordering::Relaxed);
                    // A client that has gone meanwhile needs no answer.
                    let _ = serving.reply(request.token, request.payload);
                }
            }
        });
        Ok(Self { at: socket.local_addr(), early, socket, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.socket.close();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Our side of one kind.
struct Ours {
    mode: Mode,
    socket: Socket,
    peer: Peer,
    options: CallOptions,
    times: Times,
    /// From the first packet to the second reply, in microseconds.
    upgraded_us: Vec<f64>,
    traffic: (Traffic, Traffic),
    protection: &'static str,
    exchange: Option<KeyExchange>,
}

impl Ours {
    fn new(
        args: &Args,
        development: &Development,
        mode: Mode,
        at: SocketAddr,
        server: Option<&Server>,
    ) -> Result<Self> {
        let tally = Tally::default();
        let bind = |tally: Option<&Tally>| -> Result<(Socket, Peer)> {
            let trust = match &args.ca {
                Some(file) => Trust::pem_file(file)?,
                None => Trust::pem(development.ca.as_bytes())?,
            };
            let builder = Socket::builder().trust(trust);
            let builder = match (&args.cert, &args.key) {
                (Some(cert), Some(key)) => builder.identity(Identity::pem_files(cert, key)?),
                _ => builder.anonymous(),
            };
            let builder = builder.wait(Wait::Block).resumption(mode.resumes());
            let builder = match (mode.upgrade(), &args.ticket, server) {
                (None, ..) => builder,
                (Some(upgrade), Some(file), _) => builder.tickets_from(TicketFiles::new(file), upgrade),
                (Some(upgrade), None, Some(server)) => {
                    let publisher = Arc::clone(&server.socket);
                    builder.tickets_from(move |_: &str| publisher.publish_ticket().ok(), upgrade)
                }
                (Some(_), None, None) => bail!("a published ticket of --to is needed: --ticket FILE"),
            };
            let builder = match tally {
                Some(tally) => builder.danger_wrap(tally.wrap()),
                None => builder,
            };
            let any: SocketAddr = if at.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
            let socket = builder.bind(any)?;
            let peer = socket.peer(at, &args.name)?;
            Ok((socket, peer))
        };
        let options = CallOptions::new().early(mode.protection() != "full");
        // Packets are counted apart from what is timed: the layer that counts costs something.
        let (socket, peer) = bind(Some(&tally))?;
        first(&socket, &peer)?;
        let early = || server.map_or(0, |server| server.early.load(Ordering::Relaxed));
        let before = early();
        let mut traffic = (Traffic::default(), Traffic::default());
        let mut exchange = None;
        for _ in 0..COUNTED {
            pause();
            tally.take();
            call(&socket, &peer, options)?;
            traffic = tally.take();
            let session = socket.info().sessions.into_iter().find(|session| session.open).context("an open session")?;
            ensure!(session.resumed == mode.resumes(), "the handshake was not of the kind that was asked for");
            exchange = session.exchange;
            end(&socket, &peer)?;
        }
        // A server elsewhere does not tell what it took: what was sent early counts as less protected.
        let was_early = match server {
            Some(_) => early() - before == COUNTED as u64,
            None => socket.info().counters.early_sent > 0,
        };
        let protection = if was_early { mode.protection() } else { "full" };
        ensure!(server.is_none() || protection == mode.protection(), "the first flight was not taken");
        let (socket, peer) = bind(None)?;
        first(&socket, &peer)?;
        let upgraded_us = Vec::new();
        Ok(Self { mode, socket, peer, options, times: Times::default(), upgraded_us, traffic, protection, exchange })
    }

    fn round(&mut self, times: usize) -> Result<()> {
        let (socket, peer, options) = (&self.socket, &self.peer, self.options);
        let (begun, upgraded) = (Cell::new(Instant::now()), &mut self.upgraded_us);
        let one = || {
            begun.set(Instant::now());
            call(socket, peer, options)
        };
        let finish = || {
            call(socket, peer, CallOptions::new())?;
            upgraded.push(begun.get().elapsed().as_secs_f64() * 1e6);
            Ok(socket.disconnect(peer)?)
        };
        self.times.round(times, one, finish)
    }

    fn row(mut self, beside: Option<&Beside>, round_trip_us: Option<f64>) -> Row {
        let p50_us = self.times.percentile(50);
        self.upgraded_us.sort_by(f64::total_cmp);
        let upgraded_us = self.upgraded_us.get(self.upgraded_us.len() / 2).copied();
        let upgrades = self.mode == Mode::TicketFs;
        let rustls_us = beside.map(|beside| beside.memory.times.percentile(50));
        let tcp = beside.map(|Beside { tcp, .. }| TcpRow {
            p50_us: tcp.times.percentile(50),
            p95_us: tcp.times.percentile(95),
            cpu_us: tcp.times.cpu_us(),
            key_exchange: tcp.exchange.clone(),
            bytes_to_server: tcp.bytes.0,
            bytes_to_client: tcp.bytes.1,
        });
        Row {
            mode: self.mode,
            p50_us,
            p95_us: self.times.percentile(95),
            cpu_us: self.times.cpu_us(),
            first_reply_us: upgrades.then_some(p50_us),
            upgraded_us: upgraded_us.filter(|_| upgrades),
            key_exchange: self.exchange.map(KeyExchange::name),
            protection: self.protection,
            forward_secrecy: self.protection == "full",
            session_forward_secrecy: self.exchange.is_some(),
            to_server: self.traffic.0,
            to_client: self.traffic.1,
            ratio_to_tcp: tcp.as_ref().map(|tcp| p50_us / tcp.p50_us),
            tcp,
            rustls_us,
            ratio_to_floor: rustls_us.zip(round_trip_us).map(|(rustls, trip)| p50_us / (rustls + trip)),
            ratio_to_full: None,
        }
    }
}

/// The session that a ticket comes from.
fn first(socket: &Socket, peer: &Peer) -> Result<()> {
    call(socket, peer, CallOptions::new())?;
    end(socket, peer)
}

/// Another call, and the session's end: the reply to early data is there before the ticket for the next session is.
fn end(socket: &Socket, peer: &Peer) -> Result<()> {
    call(socket, peer, CallOptions::new())?;
    Ok(socket.disconnect(peer)?)
}

fn call(socket: &Socket, peer: &Peer, options: CallOptions) -> Result<()> {
    let reply = socket.call_with(peer, &REQUEST, options)?;
    ensure!(*reply == REQUEST, "the reply is not what was asked for");
    Ok(())
}

fn table(report: &Report) -> String {
    let mut text = String::from(
        "mode        p50 us  p95 us  cpu us  TCP p50  ratio  of full  floor us  ratio  sent            received        first request\n",
    );
    for row in &report.rows {
        let mode = row.mode.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let or_none = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
        let sent = format!("{} B in {}", row.to_server.bytes, row.to_server.datagrams);
        let received = format!("{} B in {}", row.to_client.bytes, row.to_client.datagrams);
        let secret = match (row.forward_secrecy, row.session_forward_secrecy) {
            (true, _) => "forward secret",
            (false, true) => "not forward secret (its session is)",
            (false, false) => "not forward secret",
        };
        // A string takes everything.
        let _ = writeln!(
            text,
            "{mode:<11} {:>6.0}  {:>6.0}  {:>6.0}  {:>7}  {:>5}  {:>7}  {:>8}  {:>5}  {sent:<14}  {received:<14}  {}, {secret}, {}",
            row.p50_us,
            row.p95_us,
            row.cpu_us,
            or_none(row.tcp.as_ref().map(|tcp| tcp.p50_us), 0),
            or_none(row.ratio_to_tcp, 2),
            or_none(row.ratio_to_full, 2),
            or_none(row.ratio_to_floor.map(|ratio| row.p50_us / ratio), 0),
            or_none(row.ratio_to_floor, 2),
            row.protection,
            row.key_exchange.unwrap_or("-"),
        );
    }
    text
}
