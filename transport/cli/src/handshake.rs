//! `sealane handshake`: how long it takes from nothing to the first reply, for full handshakes, resumed ones, early data and published
//! tickets, beside TLS 1.3 over TCP by the same library in the same run. Server and clients are in this process, over loopback, unless told otherwise.

mod attest;
mod count;
mod tcp;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use sealane::{
    CallOptions, Clients, Delivery, Identity, KeyExchange, Peer, Protection, Socket, TicketFiles, Trust, Upgrade,
};
use serde::Serialize;

use crate::certs::{self, Development};
use count::{Tally, Traffic};

/// What each first request says.
const REQUEST: [u8; 64] = *b"a first request of sixty-four bytes, which the server says again";
/// How long a published ticket is valid.
const HOUR: Duration = Duration::from_secs(3600);
/// Between two handshakes both sides come to rest.
const PAUSE: Duration = Duration::from_millis(2);
/// Handshakes of one kind in a row, before the next kind has its turn: all have the same luck with the machine.
const ROUND: usize = 20;
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
both sides together, per handshake, waiting by polling, a second request (over TCP: the ticket's arrival) and the session's end included. forward_secrecy: whether that
request stays unreadable for who learns the server's memory later (of a published ticket: within its hour, while its process lives);
session_forward_secrecy: the same of what follows it. ratio_to_tcp divides by TLS 1.3 over TCP in the same mode;
TLS over TCP knows no published tickets.";

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    count: u32,
    request_bytes: usize,
    rows: Vec<Row>,
}

/// One way to begin.
#[derive(Debug, Serialize)]
struct Row {
    mode: Mode,
    p50_us: f64,
    p95_us: f64,
    cpu_us: f64,
    key_exchange: Option<&'static str>,
    /// How the first request was protected: `full`, `early-data` or `published-ticket`.
    protection: &'static str,
    forward_secrecy: bool,
    session_forward_secrecy: bool,
    /// Until the first reply.
    to_server: Traffic,
    to_client: Traffic,
    tcp: Option<TcpRow>,
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
    let tcp = if args.to.is_none() { Some(tcp::Server::start(&development)?) } else { None };
    let mut lanes = Vec::new();
    for mode in modes {
        let at = args.to.or(server.as_ref().map(|server| server.at)).context("a server")?;
        let ours = Ours::new(args, &development, mode, at, server.as_ref())?;
        let theirs = match &tcp {
            Some(tcp) if mode.upgrade().is_none() => Some(tcp::Client::new(&development, mode, tcp.at)?),
            _ => None,
        };
        lanes.push((ours, theirs));
    }
    let mut done = 0;
    while done < args.count as usize {
        let round = ROUND.min(args.count as usize - done);
        for (ours, theirs) in &mut lanes {
            ours.round(round)?;
            if let Some(theirs) = theirs {
                theirs.round(round)?;
            }
        }
        done += round;
    }
    let mut rows = Vec::new();
    for (ours, theirs) in lanes {
        rows.push(ours.row(theirs.as_ref())?);
    }
    let full = rows.iter().find(|row| row.mode == Mode::Full).map(|row| row.p50_us);
    for row in &mut rows {
        row.ratio_to_full = full.map(|full| row.p50_us / full);
    }
    let report = Report { count: args.count, request_bytes: REQUEST.len(), rows };
    if args.json {
        return crate::print(&format!("{}\n", serde_json::to_string(&report)?));
    }
    crate::print(&table(&report))
}

/// Times of one kind of handshake, and what the process computed meanwhile.
#[derive(Debug, Default)]
struct Times {
    spans_us: Vec<f64>,
    cpu: Duration,
}

impl Times {
    /// Runs `one` so often, each after a pause.
    fn round(
        &mut self,
        times: usize,
        mut one: impl FnMut() -> Result<()>,
        mut end: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        for _ in 0..times {
            pause();
            let (cpu, start) = (cpu_time(), now());
            one()?;
            self.spans_us.push(now().duration_since(start).as_secs_f64() * 1e6);
            end()?;
            self.cpu += cpu_time().saturating_sub(cpu);
        }
        Ok(())
    }

    fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.spans_us.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get((sorted.len().saturating_sub(1) * percent).div_ceil(100)).copied().unwrap_or_default()
    }

    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.spans_us.len().max(1) as f64
    }
}

#[expect(clippy::disallowed_methods, reason = "this command measures the real world")]
fn now() -> Instant {
    Instant::now()
}

/// CPU time of this process, user and kernel.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[expect(clippy::disallowed_methods, reason = "this command lets both sides come to rest")]
fn pause() {
    std::thread::sleep(PAUSE);
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
        let socket = Arc::new(builder.accept_early_data(1 << 14).publish_tickets(HOUR).bind("127.0.0.1:0")?);
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
            let builder = builder.resumption(mode.resumes());
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
        Ok(Self { mode, socket, peer, options, times: Times::default(), traffic, protection, exchange })
    }

    fn round(&mut self, times: usize) -> Result<()> {
        let (socket, peer, options) = (&self.socket, &self.peer, self.options);
        self.times.round(times, || call(socket, peer, options), || end(socket, peer))
    }

    fn row(self, tcp: Option<&tcp::Client>) -> Result<Row> {
        let p50_us = self.times.percentile(50);
        let tcp = tcp.map(tcp::Client::row);
        Ok(Row {
            mode: self.mode,
            p50_us,
            p95_us: self.times.percentile(95),
            cpu_us: self.times.cpu_us(),
            key_exchange: self.exchange.map(KeyExchange::name),
            protection: self.protection,
            forward_secrecy: self.protection == "full",
            session_forward_secrecy: self.exchange.is_some(),
            to_server: self.traffic.0,
            to_client: self.traffic.1,
            ratio_to_tcp: tcp.as_ref().map(|tcp| p50_us / tcp.p50_us),
            tcp,
            ratio_to_full: None,
        })
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
        "mode        p50 us  p95 us  cpu us  TCP p50  ratio  of full  sent            received        first request\n",
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
            "{mode:<11} {:>6.0}  {:>6.0}  {:>6.0}  {:>7}  {:>5}  {:>7}  {sent:<14}  {received:<14}  {}, {secret}, {}",
            row.p50_us,
            row.p95_us,
            row.cpu_us,
            or_none(row.tcp.as_ref().map(|tcp| tcp.p50_us), 0),
            or_none(row.ratio_to_tcp, 2),
            or_none(row.ratio_to_full, 2),
            row.protection,
            row.key_exchange.unwrap_or("-"),
        );
    }
    text
}
