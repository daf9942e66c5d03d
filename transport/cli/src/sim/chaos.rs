//! `sealane sim chaos`: many seeds under the checker, or one of them again with its trace.

#![expect(clippy::disallowed_methods, reason = "how long it took is told")]

use anyhow::{Context, Result};
use serde::Serialize;
use sim::chaos::sabotage::Sabotage;
use sim::chaos::{Failure, Options, Outcome, run as run_seed, run_twice};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Only this seed
    #[arg(long, conflicts_with_all = ["seeds", "first", "twice"])]
    seed: Option<u64>,
    /// Write all that happens to this file, one JSON object a line
    #[arg(long, requires = "seed")]
    trace: Option<PathBuf>,
    /// So many of the seeds run twice, to see that the same comes out
    #[arg(long, default_value_t = 2)]
    twice: u64,
    /// Packets that each seed is to deliver while things go wrong, about; others than the default are other runs
    #[arg(long)]
    packets: Option<u64>,
    /// Seeds at once [default: one for each core]
    #[arg(long)]
    threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Each seed is a small network of hosts that call each other while it loses, reorders, repeats, alters and delays their
packets, is cut in two, while hosts crash and come back and clocks run wrong, strangers forge and replay, and one host
keeps no rule. Whether the protocol's invariants hold is judged all the time. The first violation ends it: seed, time and
what happened last are printed, and the exit code is 1. The same seed is the same run, bit for bit.";

#[derive(Debug, Serialize)]
struct Report<'a> {
    violations: usize,
    packets: u64,
    faults: &'a BTreeMap<&'static str, u64>,
    refused: &'a BTreeMap<&'static str, u64>,
    keys: &'a BTreeMap<&'static str, u64>,
    seeds: u64,
    /// Datagrams that no endpoint sent, not among the packets.
    forged: u64,
    calls: &'a BTreeMap<&'static str, u64>,
    checked: Checked,
    /// The most that was held anywhere, in thousandths of its cap.
    peaks_per_mille: BTreeMap<&'static str, u64>,
    virtual_seconds: f64,
    seconds: f64,
    trace_entries: u64,
    hash: String,
    failures: Vec<Failed<'a>>,
}

#[derive(Debug, Serialize)]
struct Checked {
    sealed_packets: u64,
    deliveries: u64,
    unauthentic_packets: u64,
    limits: u64,
    everything: u64,
    runs_twice: u64,
}

#[derive(Debug, Serialize)]
struct Failed<'a> {
    seed: u64,
    invariant: u8,
    at_ns: u64,
    what: &'a str,
    last: &'a [String],
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let started = Instant::now();
    let seeds = match args.seed {
        Some(seed) => seed..seed + 1,
        None => args.first..args.first.saturating_add(args.seeds),
    };
    let twice = if args.seed.is_some() { 0 } else { args.twice.min(seeds.end - seeds.start) };
    let (outcomes, failures) = match &args.trace {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
            let trace: Box<dyn std::io::Write + Send> = Box::new(BufWriter::with_capacity(1 << 20, file));
            let options = Options { packets: args.packets, trace: Some(trace), sabotage: Sabotage::None };
            sorted(vec![run_seed(seeds.start, options)])
        }
        None => sorted(all(args, seeds.clone(), twice)),
    };
    let mut sum = Outcome::default();
    outcomes.iter().for_each(|outcome| sum.add(outcome));
    // That of a single run is its own.
    if let ([outcome], true) = (&outcomes[..], args.seed.is_some()) {
        sum.hash = outcome.hash;
    }
    failures.iter().for_each(|failure| eprint!("{}", tell(failure)));
    let report = report(&sum, &failures, twice, started.elapsed().as_secs_f64());
    crate::print(&if args.json { format!("{}\n", serde_json::to_string(&report)?) } else { table(&report) })?;
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

type Ran = Result<Outcome, Box<Failure>>;

fn sorted(ran: Vec<Ran>) -> (Vec<Outcome>, Vec<Failure>) {
    let (mut outcomes, mut failures) = (Vec::new(), Vec::new());
    for one in ran {
        match one {
            Ok(outcome) => outcomes.push(outcome),
            Err(failure) => failures.push(*failure),
        }
    }
    (outcomes, failures)
}

/// Runs all seeds, a few at once, in the order of their numbers; none begins after one failed.
fn all(args: &Args, seeds: std::ops::Range<u64>, twice: u64) -> Vec<Ran> {
    let bar = super::bar(seeds.end - seeds.start).with_message("chaos");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, failed) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let done = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..args.threads.unwrap_or(cores).max(1) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let ran = if seed < seeds.start + twice {
                        run_twice(seed, args.packets, Sabotage::None)
                    } else {
                        run_seed(seed, Options { packets: args.packets, ..Options::default() })
                    };
                    failed.fetch_or(ran.is_err(), Ordering::Relaxed);
                    done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(seed, ran);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).into_values().collect()
}

fn tell(failure: &Failure) -> String {
    let mut text = String::new();
    for line in &failure.last {
        let _ = writeln!(text, "{line}");
    }
    let (at, invariant) = (failure.violation.at / 1000, failure.violation.invariant);
    let _ = writeln!(text, "seed {} breaks invariant {invariant} at {at} ns: {}", failure.seed, failure.violation.what);
    let _ = writeln!(text, "again, with all that happens: sealane sim chaos --seed {} --trace FILE", failure.seed);
    text
}

fn report<'a>(sum: &'a Outcome, failures: &'a [Failure], twice: u64, seconds: f64) -> Report<'a> {
    let peaks = &sum.peaks;
    let peaks_per_mille = BTreeMap::from([
        ("granted_bytes", peaks.granted),
        ("buffered_bytes", peaks.buffered),
        ("held_bytes", peaks.held),
        ("rpcs_of_a_peer", peaks.rpcs_of_peer),
        ("half_open_handshakes", peaks.accepting),
    ]);
    let failed = |failure: &'a Failure| Failed {
        seed: failure.seed,
        invariant: failure.violation.invariant,
        at_ns: failure.violation.at / 1000,
        what: &failure.violation.what,
        last: &failure.last,
    };
    Report {
        violations: failures.len(),
        packets: sum.packets,
        faults: &sum.faults,
        refused: &sum.refused,
        keys: &sum.keys,
        seeds: sum.seeds,
        forged: sum.forged,
        calls: &sum.calls,
        checked: Checked {
            sealed_packets: sum.looks.sealed,
            deliveries: sum.looks.bodies,
            unauthentic_packets: sum.looks.unauthentic,
            limits: sum.looks.limits,
            everything: sum.looks.everything,
            runs_twice: twice,
        },
        peaks_per_mille,
        virtual_seconds: (sum.virtual_time / 1_000_000_000) as f64 / 1000.0,
        seconds: (seconds * 1000.0).round() / 1000.0,
        trace_entries: sum.entries,
        hash: format!("{:016x}", sum.hash),
        failures: failures.iter().map(failed).collect(),
    }
}

fn table(report: &Report<'_>) -> String {
    let mut text = format!(
        "{} seeds, {} packets delivered in {} s of virtual time, {} violations ({} s, hash {})\n",
        report.seeds, report.packets, report.virtual_seconds, report.violations, report.seconds, report.hash
    );
    for (title, counts) in [
        ("what went wrong", report.faults),
        ("what was refused", report.refused),
        ("keys", report.keys),
        ("calls", report.calls),
    ] {
        let _ = writeln!(text, "\n{title}");
        for (name, count) in counts {
            let _ = writeln!(text, "  {name:28} {count:>12}");
        }
    }
    let _ = writeln!(text, "\nthe most that was held, of what may be");
    for (name, part) in &report.peaks_per_mille {
        let _ = writeln!(text, "  {name:28} {:>10.1} %", *part as f64 / 10.0);
    }
    text
}
