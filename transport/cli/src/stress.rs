//! `sealane stress`: many clients, each with a session of its own, against one echo server in another process, every reply verified. The
//! run is crate `load`'s; here are its arguments and its progress. It ends with 1 if anything was corrupt, failed, late or lost.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use load::Host;
use load::stress::{self, Network, Options, Shape, StressReport};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Rows of fixed shapes, one after the other: 256 B x 50 clients, 4 KB x 20, 16 KB x 10, 64 KB x 5, churn, 16 MiB
    Matrix(MatrixArgs),
    /// One row of any shape
    Run(RunArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
struct MatrixArgs {
    /// Only these rows: 256B, 4KB, 16KB, 64KB, churn, 16MB
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    rows: Vec<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
struct RunArgs {
    /// Bytes of each request and reply
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    size: usize,
    /// Clients at once, a socket and a session each
    #[arg(long, value_name = "N", default_value_t = 50)]
    clients: usize,
    /// Requests of each client that are under way
    #[arg(long, value_name = "N", default_value_t = 1)]
    outstanding: usize,
    /// Messages of a session, then a new one by a full handshake; without it a client keeps its first
    #[arg(long, value_name = "N")]
    churn: Option<u64>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Seconds of each row
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duration: u64,
    /// Seconds that a reply may take
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// Share of the clients' datagrams, both ways, that are lost: 0.01 or 1%
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    loss: f64,
    /// Share that later ones overtake
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    reorder: f64,
    /// Share that arrive twice
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    duplicate: f64,
    /// What the network's dice begin with
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// For a test of this test: the server flips a bit in every so many replies, which must be reported as corrupt
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    flip_every: Option<u64>,
    /// For a test of this test: the server leaves every so many requests unanswered, which must be reported as dropped
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    swallow_every: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
RPS and MB/s (10^6 bytes of payload) are of the time in which requests were begun; the percentiles are of all answers. Each reply must be \
the request, byte for byte, and no two requests are the same. errors: the transport said that a request failed; timeouts: no answer in \
time; drops: neither an answer nor an error by the end. to STCP divides by what that system published for the same size and number of \
clients, on another machine. The server and the clients are two processes on this machine.";

/// A share from 0 to below 1, or percent.
fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = text.strip_suffix('%').map_or((text, 1.0), |percent| (percent, 100.0));
    match number.parse::<f64>().map(|number| number / unit) {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        _ => Err("a share from 0 to below 1, or percent as in 1%".to_owned()),
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let (shapes, common) = match &args.command {
        Command::Matrix(args) => (chosen(&args.rows)?, &args.common),
        Command::Run(args) => {
            let shape = Shape {
                name: "run".to_owned(),
                size: args.size,
                clients: args.clients,
                outstanding: args.outstanding,
                messages_per_session: args.churn,
                published_rps: None,
            };
            (vec![shape], &args.common)
        }
    };
    let Common { loss, reorder, duplicate, seed, flip_every, swallow_every, .. } = *common;
    let options = Options {
        duration: Duration::from_secs(common.duration),
        timeout: Duration::from_secs(common.timeout),
        network: Network { loss, reorder, duplicate, seed },
        flip_every,
        swallow_every,
    };
    let host = Host::this_binary()?;
    let bar = ProgressBar::new(shapes.len() as u64 * options.duration.as_secs());
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} s {msg} ({eta} left)")?);
    let mut rows = Vec::new();
    for (number, shape) in (0..).zip(&shapes) {
        bar.set_message(shape.name.clone());
        let mut progress = |passed: Duration| {
            bar.set_position(number * options.duration.as_secs() + passed.as_secs().min(options.duration.as_secs()));
        };
        let row = stress::run(shape, &options, &host, &mut progress);
        rows.push(row.with_context(|| format!("row {}", shape.name))?);
    }
    bar.finish_and_clear();
    let report = StressReport::new(rows, &options);
    let text = if common.json { serde_json::to_string_pretty(&report)? + "\n" } else { report.table() };
    crate::print(&text)?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The rows of the matrix with these names; all of them for none.
fn chosen(names: &[String]) -> Result<Vec<Shape>> {
    let all = Shape::matrix();
    let known: Vec<&str> = all.iter().map(|shape| shape.name.as_str()).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("there is no row `{name}`; the rows are {}", known.join(", "));
    }
    Ok(all.into_iter().filter(|shape| names.is_empty() || names.contains(&shape.name)).collect())
}
