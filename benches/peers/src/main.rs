//! `peers`: Sealane beside raw UDP, TCP, ideal kTLS and TLS, in one run.
//!
//! Owns the command line and what is printed. Refuses: measuring; `load` does.
#![forbid(unsafe_code)]

mod svg;
mod page;
mod render;
mod brief;
mod guest;
mod handshake;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use load::{Host, Mode, Open, Plan, Report, Runner};

/// Sealane beside its peers: every echo verified, rounds interleaved, medians over rounds.
///
/// Ratios compare within one run; figures of two runs, or two machines, do not compare.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Round trips with one message outstanding. Ratios are of p50: below 1 is faster.
    Rtt {
        #[command(flatten)]
        common: Common,
        /// Bytes of each request and reply.
        #[arg(long, default_value = "64,1024,8192,65536")]
        sizes: String,
    },
    /// From nothing to the first reply: Sealane, TLS over TCP and, with the feature `heavy`, QUIC by quinn. Ratios are of p50.
    Handshake(handshake::Args),
    /// Rates with many messages outstanding. Ratios are of rps: above 1 is faster.
    Load {
        #[command(flatten)]
        common: Common,
        /// Bytes of each request and reply.
        #[arg(long, default_value = "64,1024")]
        sizes: String,
        /// Messages without a reply at any time.
        #[arg(long, default_value = "16,64", value_delimiter = ',')]
        outstanding: Vec<usize>,
        /// Then messages arrive at a rate (Poisson, each latency from when it was due): this share of what the peer itself did with
        /// messages outstanding, and of what Sealane did, so that all are compared at one rate. From above 0 to 1.
        #[arg(long, value_name = "SHARE", conflicts_with = "open_rate")]
        open: Option<f64>,
        /// The same at so many messages per second, and nothing else.
        #[arg(long, value_name = "PER_SECOND")]
        open_rate: Option<f64>,
        /// One message of so many bytes is always under way beside those that arrive at a rate, on the same connection or session.
        #[arg(long, value_name = "BYTES")]
        beside: Option<usize>,
    },
    /// Long messages one way, several outstanding: MB/s, and CPU time of both sides per MB. Ratios are of MB/s: above 1 is faster.
    Bulk {
        #[command(flatten)]
        common: Common,
        /// Bytes of each message.
        #[arg(long, default_value = "1048576,67108864")]
        sizes: String,
    },
    /// What an idle session, an idle endpoint and a message under way cost in memory, on both sides, and who asked for it.
    Memory {
        /// Sessions from installed secrets.
        #[arg(long, default_value_t = 100_000)]
        sessions: usize,
        #[command(flatten)]
        output: Output,
    },
    /// How rates grow with cores: a socket with several shards, a thread each, beside one with one, the clients' work and the servers' apart.
    Cores {
        /// Numbers of shards of the server; one is what the others are compared with.
        #[arg(long, default_value = "1,2", value_delimiter = ',')]
        shards: Vec<usize>,
        /// How often each is measured.
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// Measured milliseconds of each.
        #[arg(long, default_value_t = 1000)]
        cell_ms: u64,
        #[command(flatten)]
        output: Output,
    },
    /// One page: how sessions begin, round trips and rates over sockets and without, what records, headers and handshakes cost.
    Brief(brief::Args),
    /// Pages, figures and the README's table, from the JSON of runs; with --check: are they what it gives?
    Render(render::Args),
    /// Instructions per RPC, in a machine whose clock counts them: what benches/vm/run.sh runs inside of the machine it makes.
    #[command(hide = true)]
    Guest(guest::Args),
}

#[derive(Debug, Args)]
struct Common {
    /// How both sides wait: spin, block, adaptive (poll for 20 us, then sleep), or turns (one thread serves both sides in turn)
    /// [default: spin; for bulk, block].
    #[arg(long)]
    mode: Option<Mode>,
    /// How often each cell is measured.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Path MTU to keep to, in bytes, IP header included [default: as found].
    #[arg(long)]
    mtu: Option<u32>,
    /// What moves Sealane's datagrams: mmsg, io-uring (feature `io-uring`) or xdp (feature `xdp`) [default: mmsg]. The peer
    /// `sealane-io-uring` is the second one beside the first in one run.
    #[arg(long)]
    backend: Option<String>,
    /// Which of udp, udp-pack (load only), udp-ideal (up to 1 MiB; with several outstanding from 32 KiB on), tcp, ktls, ktls-ideal, ktls-ideal-pm (load
    /// only), tls, quinn, s2n-quic, tonic (these three with the feature `heavy`), sealane, sealane-io-uring [default: all that make
    /// sense, without the last].
    #[arg(long)]
    peers: Option<String>,
    /// Measured milliseconds per cell and round, at most.
    #[arg(long, default_value_t = 250)]
    cell_ms: u64,
    /// Seconds for the whole run, roughly; cells get shorter to keep to it.
    #[arg(long, default_value_t = 90)]
    budget_s: u64,
    #[command(flatten)]
    output: Output,
}

/// Where the figures go.
#[derive(Debug, Args)]
struct Output {
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Also write NAME.json, a page NAME.md and a figure NAME.svg into this folder.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// NAME for --out [default: the command's].
    #[arg(long, requires = "out")]
    name: Option<String>,
}

impl Output {
    /// Prints a report, and writes it where that is asked for. `command` is what this was started as, without what says where it goes.
    fn give(&self, command: &str, report: &impl serde::Serialize, table: impl FnOnce() -> String) -> Result<()> {
        let mut value = serde_json::to_value(report)?;
        value["command"] = started_as(command).into();
        if self.json {
            println!("{}", serde_json::to_string_pretty(&value)?);
        } else {
            println!("{}", table().trim_start());
        }
        match &self.out {
            Some(folder) => render::store(folder, self.name.as_deref().unwrap_or(command), &value),
            None => Ok(()),
        }
    }
}

/// The command line, without what says where its figures go.
fn started_as(command: &str) -> String {
    let mut words = vec!["peers".to_owned(), command.to_owned()];
    let mut args = std::env::args().skip(2);
    while let Some(word) = args.next() {
        match word.as_str() {
            "--json" => {}
            "--out" | "--name" => drop(args.next()),
            _ if word.starts_with("--out=") || word.starts_with("--name=") => {}
            _ => words.push(word),
        }
    }
    words.join(" ")
}

/// `memory` counts with it; for the others it adds one branch to each call.
#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    if let Some(served) = load::server::main_from_args(std::env::args().skip(1)) {
        return served;
    }
    if let Some(served) = load::memory::main_from_args(std::env::args().skip(1)) {
        return served;
    }
    let (command, common, plan) = match Cli::parse().command {
        Command::Handshake(args) => return handshake::run(&args),
        Command::Rtt { common, sizes } => {
            let plan = Plan::rtt(load::parse_sizes(&sizes)?, common.mode.unwrap_or(Mode::Spin));
            ("rtt", common, plan)
        }
        Command::Load { common, sizes, outstanding, open, open_rate, beside } => {
            let mut plan = Plan::load(load::parse_sizes(&sizes)?, outstanding, common.mode.unwrap_or(Mode::Spin));
            plan.open = open.map(Open::Share).or(open_rate.map(Open::Rate));
            plan.beside = beside;
            ("load", common, plan)
        }
        Command::Bulk { common, sizes } => {
            let plan = Plan::bulk(load::parse_sizes(&sizes)?, common.mode.unwrap_or(Mode::Block));
            ("bulk", common, plan)
        }
        Command::Memory { sessions, output } => return memory(sessions, &output),
        Command::Cores { shards, rounds, cell_ms, output } => {
            let span = Duration::from_millis(cell_ms);
            let report = load::cores::measure(&shards, rounds, span, &mut |what| eprintln!("cores: {what}"))?;
            return output.give("cores", &report, || report.table());
        }
        Command::Brief(args) => return brief::run(&args),
        Command::Render(args) => return render::run(&args),
        Command::Guest(args) => return guest::run(&args),
    };
    let report = measure(&common, plan)?;
    common.output.give(command, &report, || report.table())?;
    for failure in &report.failed {
        eprintln!("peer `{}` failed at {} B: {}", failure.peer, failure.size, failure.error);
    }
    ensure!(report.corrupt == 0, "{} replies were corrupt", report.corrupt);
    ensure!(report.is_good(), "{} cells failed", report.failed.len());
    Ok(())
}

fn memory(sessions: usize, output: &Output) -> Result<()> {
    let report = load::memory::measure(sessions, &mut |what| eprintln!("memory: {what}"))?;
    output.give("memory", &report, || report.table())
}

fn measure(common: &Common, mut plan: Plan) -> Result<Report> {
    if let Some(peers) = &common.peers {
        plan.peers = load::parse_peers(peers)?;
        if let Some(peer) = plan.peers.iter().find(|peer| peer.only_loaded())
            && plan.outstanding.contains(&1)
        {
            bail!("peer `{peer}` differs from others under load only");
        }
    }
    plan.rounds = common.rounds;
    plan.mtu = common.mtu;
    plan.backend.clone_from(&common.backend);
    plan.cell = Duration::from_millis(common.cell_ms);
    plan.budget = Duration::from_secs(common.budget_s);
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({eta} left)")?);
    let report = Runner::new(plan, Host::this_binary()?)?.run(&mut |progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        bar.set_message(progress.label);
    });
    bar.finish_and_clear();
    Ok(report)
}
