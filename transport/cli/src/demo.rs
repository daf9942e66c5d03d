//! `sealane demo`: what Sealane does and what it costs, on this machine, in half a minute. It chooses what to measure and says what
//! came of it; the measuring itself, servers and certificates included, is `load`'s. No figure is computed here but what a row shows.

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use load::{Environment, Failure, Host, Mode, PeerKind, Plan, Progress, Report, Row, Runner};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::time::Duration;

/// Bytes of each request and reply.
const SIZES: [usize; 5] = [64, 1024, 8192, 65_536, 1 << 20];

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Fewer and shorter rounds: some 8 seconds instead of 20
    #[arg(long)]
    quick: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Rounds
    #[arg(long, hide = true)]
    rounds: Option<u32>,
    /// Measured milliseconds per cell and round, at most
    #[arg(long, hide = true)]
    cell_ms: Option<u64>,
}

const AFTER_HELP: &str = "\
Each figure is the median over rounds; the peers take turns within a round, so that all have the same luck with the machine.
verified counts the replies that were right in every byte, corrupt those that were not; a corrupt reply or a peer that fails
makes the command fail. mb_s is payload per second in one direction, in 10^6 bytes. ratio_to_udp and ratio_to_ktls_ideal divide
p50_us by that of raw UDP and of ideal kTLS: below 1 is faster. Ideal kTLS is TCP with one seal and one open per record of at
most 16 KB and nothing else: kernel TLS in software cannot be faster.";

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    rows: Vec<Line>,
    /// Of Sealane: from the first packet to keys in use, the median over all of its sessions.
    handshake_ms: Option<f64>,
    cipher: Option<&'a str>,
    /// Whether both sides proved who they are in every session.
    mutual: bool,
    mode: Mode,
    /// Sums over all rows.
    verified: u64,
    corrupt: u64,
    lost: u64,
    failed: &'a [Failure],
    environment: &'a Environment,
}

/// One peer at one size.
#[derive(Debug, Serialize)]
struct Line {
    peer: PeerKind,
    size: usize,
    p50_us: f64,
    p99_us: f64,
    mb_s: f64,
    rps: f64,
    /// Replies that were right, every byte.
    verified: u64,
    /// Replies that were not.
    corrupt: u64,
    ratio_to_udp: Option<f64>,
    ratio_to_ktls_ideal: Option<f64>,
}

impl Line {
    fn new(row: &Row) -> Self {
        Self {
            peer: row.peer,
            size: row.size,
            p50_us: row.p50_us,
            p99_us: row.p99_us,
            mb_s: row.mb_s,
            rps: row.rps,
            verified: row.verified,
            corrupt: row.corrupt,
            ratio_to_udp: row.ratio_to_udp,
            ratio_to_ktls_ideal: row.ratio_to_ktls_ideal,
        }
    }
}

impl<'a> Summary<'a> {
    fn new(report: &'a Report, mode: Mode) -> Self {
        let sessions = || report.rows.iter().filter_map(|row| row.session.as_ref());
        let mut handshakes: Vec<f64> = sessions().map(|session| session.handshake_us).collect();
        handshakes.sort_by(f64::total_cmp);
        let middle = handshakes.get(handshakes.len() / 2);
        Self {
            rows: report.rows.iter().map(Line::new).collect(),
            handshake_ms: middle.map(|micros| micros.round() / 1e3),
            cipher: sessions().next().map(|session| session.cipher.as_str()),
            mutual: !handshakes.is_empty() && sessions().all(|session| session.mutual),
            mode,
            verified: report.verified,
            corrupt: report.corrupt,
            lost: report.lost,
            failed: &report.failed,
            environment: &report.environment,
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let plan = plan(args);
    let mode = plan.mode;
    if !args.json {
        crate::print(INTRODUCTION)?;
    }
    let report = measure(plan)?;
    let summary = Summary::new(&report, mode);
    crate::print(&if args.json {
        format!("{}\n", serde_json::to_string(&summary)?)
    } else {
        shown(&summary)
    })?;
    let first = report.failed.first().map(|failure| &failure.error);
    ensure!(report.corrupt == 0, "{} replies were corrupt", report.corrupt);
    if let Some(why) = first {
        let count = report.failed.len();
        return Err(anyhow::anyhow!("{why}"))
            .with_context(|| format!("{count} measurements failed"));
    }
    ensure!(summary.mutual, "a session was not authenticated by both sides");
    Ok(())
}

fn plan(args: &Args) -> Plan {
    // With one core, a side that spins keeps the other from answering.
    let spins = std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2);
    let mut plan = Plan::rtt(SIZES.to_vec(), if spins { Mode::Spin } else { Mode::Block });
    let (rounds, seconds) = if args.quick { (2, 7) } else { (4, 18) };
    plan.rounds = args.rounds.unwrap_or(rounds);
    plan.budget = Duration::from_secs(seconds);
    plan.cell = args.cell_ms.map_or(plan.cell, Duration::from_millis);
    plan
}

const INTRODUCTION: &str = "\
A server and a client, two processes on this machine, exchange requests and replies of 64 B to 1 MiB and check every byte.
Sealane (TLS 1.3, both sides with certificates made just now) takes turns with raw UDP, raw TCP, ideal kTLS and TLS over TCP.
";

fn measure(plan: Plan) -> Result<Report> {
    let runner = Runner::new(plan, Host::this_binary()?)?;
    if !io::stderr().is_terminal() {
        return Ok(runner.run(&mut plainly()));
    }
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({eta} left)")?);
    let report = runner.run(&mut |progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        bar.set_message(progress.label);
    });
    bar.finish_and_clear();
    Ok(report)
}

/// Where no bar can be drawn: a line at each quarter.
fn plainly() -> impl FnMut(Progress) {
    let mut said = None;
    move |progress| {
        let quarter = progress.done * 4 / progress.total.max(1);
        if said.replace(quarter) != Some(quarter) {
            // Progress that nobody can read is no reason to stop.
            let _ =
                writeln!(io::stderr(), "demo: {} of {} measured", progress.done, progress.total);
        }
    }
}

fn shown(summary: &Summary<'_>) -> String {
    let mut text = String::new();
    let mut size = None;
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "\n{:>9}  {:<11}{:>10}{:>10}{:>9}{:>11}{:>8}{:>8}",
        "message", "peer", "p50 us", "p99 us", "MB/s", "verified", "x UDP", "x kTLS"
    );
    for line in &summary.rows {
        let is_new = size.replace(line.size) != Some(line.size);
        let _ = writeln!(
            text,
            "{:>9}  {:<11}{:>10.1}{:>10.1}{:>9.1}{:>11}{:>8}{:>8}",
            if is_new { bytes(line.size) } else { String::new() },
            line.peer,
            line.p50_us,
            line.p99_us,
            line.mb_s,
            line.verified,
            ratio(line.ratio_to_udp),
            ratio(line.ratio_to_ktls_ideal),
        );
    }
    for failure in summary.failed {
        let (peer, size) = (failure.peer, bytes(failure.size));
        let _ = writeln!(text, "FAILED: {peer} at {size}: {}", failure.error);
    }
    text.push('\n');
    text.push_str(&about(summary));
    text
}

/// What stands below the table.
fn about(summary: &Summary<'_>) -> String {
    let mut text = String::new();
    if let (Some(cipher), Some(handshake)) = (summary.cipher, summary.handshake_ms) {
        let who = if summary.mutual { "both sides authenticated" } else { "NOT MUTUAL" };
        let _ = writeln!(text, "Sealane's session: {cipher}, {who}, handshake {handshake:.2} ms.");
    }
    let _ = writeln!(
        text,
        "Replies: {} right in every byte, {} corrupt, {} lost. Both sides {}.",
        summary.verified,
        summary.corrupt,
        summary.lost,
        match summary.mode {
            Mode::Spin => "poll without sleeping",
            Mode::Block => "sleep until something comes",
        },
    );
    let _ = writeln!(text, "{}", summary.environment);
    if cfg!(debug_assertions) {
        text.push_str(
            "This is a debug build: its figures say nothing. Use `cargo run --release -- demo`.\n",
        );
    }
    text.push_str(
        "x UDP and x kTLS are how many times the round trip of raw UDP (nothing sealed, nothing repeated) and of ideal kTLS (the least \
         that\nencrypted TCP can cost) a peer takes: below 1 is faster, and only ratios within one run compare.\n",
    );
    text
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
}

fn bytes(count: usize) -> String {
    match count {
        count if count >= 1 << 20 => format!("{} MiB", count >> 20),
        count if count >= 1 << 10 => format!("{} KiB", count >> 10),
        count => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(quick: bool) -> Args {
        Args { quick, json: false, rounds: None, cell_ms: None }
    }

    #[test]
    fn all_sizes_and_peers_are_planned_and_fit_their_time() {
        for (quick, seconds) in [(false, 18), (true, 7)] {
            let plan = plan(&args(quick));
            assert_eq!(plan.sizes, SIZES);
            assert_eq!(plan.budget, Duration::from_secs(seconds));
            use PeerKind::{KtlsIdeal, Sealane, Tcp, Tls, Udp};
            assert_eq!(plan.peers, [Udp, Tcp, KtlsIdeal, Tls, Sealane]);
        }
    }

    #[test]
    fn sizes_are_shown_in_the_unit_they_were_chosen_in() {
        let shown: Vec<String> = SIZES.map(bytes).to_vec();
        assert_eq!(shown, ["64 B", "1 KiB", "8 KiB", "64 KiB", "1 MiB"]);
    }
}
