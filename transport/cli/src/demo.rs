//! `sealane demo`: what Sealane does and what it costs, on this machine, in half a minute. It chooses what to measure and says what
//! came of it; the measuring itself, servers and certificates included, is `load`'s. No figure is computed here but what a row shows.

use anyhow::{Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use load::{Environment, Failure, Host, Mode, PeerKind, Plan, Progress, Report, Row, Runner};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use crate::hostile;

/// Bytes of each request and reply.
const SIZES: [usize; 5] = [64, 1024, 8192, 65_536, 1 << 20];

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    act: Option<Show>,
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

#[derive(Debug, clap::Subcommand)]
enum Show {
    /// Put a relay between client and server that reads, alters, drops, repeats and makes up: in clear, and with Sealane
    HostileRelay(hostile::Args),
}

const AFTER_HELP: &str = "\
Figures are medians over rounds; within a round the peers take turns, so that all have the same luck with
the machine. verified counts replies that were right in every byte, corrupt those that were not; a corrupt
reply, or a peer that fails, makes the command fail. mb_s is payload per second in one direction, in 10^6
bytes. ratio_to_udp and ratio_to_ktls_ideal divide p50_us by that of raw UDP and of ideal kTLS: below 1 is
faster. Ideal kTLS is TCP with one seal and one open per record of at most 16 KB and nothing else: kernel
TLS in software cannot be faster.";

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

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if let Some(Show::HostileRelay(args)) = &args.act {
        return hostile::run(args);
    }
    let plan = plan(args);
    let mode = plan.mode;
    if !args.json {
        crate::print(INTRODUCTION)?;
    }
    let report = measure(plan)?;
    let summary = Summary::new(&report, mode);
    crate::print(&if args.json { format!("{}\n", serde_json::to_string(&summary)?) } else { shown(&summary) })?;
    judge(&summary).map(|()| ExitCode::SUCCESS)
}

/// Whether all of it worked. That a peer is slow is no failure.
fn judge(summary: &Summary<'_>) -> Result<()> {
    ensure!(summary.corrupt == 0, "{} replies were corrupt", summary.corrupt);
    if let Some(Failure { peer, size, error, .. }) = summary.failed.first() {
        bail!("{} measurements failed, the first of {peer} at {size} B: {error}", summary.failed.len());
    }
    ensure!(summary.mutual, "a session was not authenticated by both sides");
    Ok(())
}

fn plan(args: &Args) -> Plan {
    // With one core, a side that spins keeps the other from answering.
    let spins = std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2);
    let mut plan = Plan::rtt(SIZES.to_vec(), if spins { Mode::Spin } else { Mode::Block });
    // A floor that takes one packet a message says little beside sizes of up to 1 MiB, and few kernels have TLS.
    plan.peers.retain(|peer| !matches!(peer, PeerKind::UdpIdeal | PeerKind::Ktls));
    let (rounds, seconds) = if args.quick { (2, 7) } else { (4, 18) };
    plan.rounds = args.rounds.unwrap_or(rounds);
    plan.budget = Duration::from_secs(seconds);
    plan.cell = args.cell_ms.map_or(plan.cell, Duration::from_millis);
    plan
}

const INTRODUCTION: &str = "\
A server and a client, two processes, exchange messages of 64 B to 1 MiB and check every byte.
Sealane (TLS 1.3, certificates on both sides) takes turns with UDP, TCP, ideal kTLS and TLS over TCP.
";

const MEANING: &str = "\
x UDP and x kTLS: how often the round trip of raw UDP (nothing sealed, nothing repeated) and of ideal kTLS
(the least that encrypted TCP can cost) fits into a peer's; below 1 is faster. Compare within one run only.
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
            let _ = writeln!(io::stderr(), "demo: {} of {} measured", progress.done, progress.total);
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
            Mode::Adaptive => "poll for a while, then sleep until something comes",
            Mode::Turns => "take turns in one thread",
        },
    );
    let _ = writeln!(text, "{}", summary.environment);
    if cfg!(debug_assertions) {
        text.push_str("This is a debug build: its figures say nothing. Use `cargo run --release -- demo`.\n");
    }
    text.push_str(MEANING);
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
    use serde_json::json;

    fn args(quick: bool) -> Args {
        Args { act: None, quick, json: false, rounds: None, cell_ms: None }
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

    /// What a run gave that measured Sealane alone, at one size.
    fn report() -> Report {
        let row = json!({
            "peer": "sealane", "size": 64, "mode": "spin", "outstanding": 1, "p50_us": 9.5, "p99_us": 20.0, "p999_us": 30.0,
            "rps": 1e5, "cpu_us_per_mb": 3e5,
            "cpu_us_per_rpc": 20.0, "ratio_to_udp": 1.25, "ratio_to_ktls_ideal": null, "cov": 0.1, "mb_s": 6.4,
            "connect_us": 1500.0, "read_bytes": null, "verified": 1000, "corrupt": 0, "lost": 0,
            "session": { "cipher": "aes-128-gcm", "mutual": true, "handshake_us": 1000.0 },
        });
        let environment = json!({
            "kernel": "6", "processor": "x", "cpus": 2, "pinned": true, "tcp_congestion": "cubic", "udp_gso": "yes",
            "udp_gro": true, "mtu": null, "build": "release", "load_average": "0.00", "rounds": 1, "cell_ms": 1,
        });
        let report = json!({
            "rows": [row], "failed": [], "verified": 1000, "corrupt": 0, "lost": 0, "environment": environment, "cpu": "",
        });
        serde_json::from_value(report).expect("a report")
    }

    fn judged(change: impl FnOnce(&mut Report)) -> Result<(), String> {
        let mut report = report();
        change(&mut report);
        judge(&Summary::new(&report, Mode::Spin)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_did_not_work_fails_the_command() {
        assert_eq!(judged(|_| {}), Ok(()));
        assert!(judged(|report| report.corrupt = 1).is_err_and(|why| why.contains("1 replies were corrupt")));
        let failure = Failure { peer: PeerKind::Tls, size: 64, outstanding: 1, error: "no port".to_owned() };
        assert!(judged(|report| report.failed.push(failure)).is_err_and(|why| why.contains("tls at 64 B: no port")));
        let anonymous = |report: &mut Report| report.rows[0].session.as_mut().expect("a session").mutual = false;
        assert!(judged(anonymous).is_err_and(|why| why.contains("not authenticated")));
    }

    #[test]
    fn people_see_the_row_the_session_and_what_the_ratios_mean() {
        let report = report();
        let text = shown(&Summary::new(&report, Mode::Spin));
        for words in [
            "64 B  sealane           9.5      20.0      6.4       1000    1.25       -",
            "aes-128-gcm, both",
            "1.00 ms",
        ] {
            assert!(text.contains(words), "{words:?} is not in {text}");
        }
        assert!(text.ends_with(MEANING));
    }

    #[test]
    fn sizes_are_shown_in_the_unit_they_were_chosen_in() {
        let shown: Vec<String> = SIZES.map(bytes).to_vec();
        assert_eq!(shown, ["64 B", "1 KiB", "8 KiB", "64 KiB", "1 MiB"]);
    }
}
