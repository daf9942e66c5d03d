//! `sealane audit`: what can be proven by looking at everything. What is looked at, and how, is the simulator crate's.

#![expect(clippy::disallowed_methods, reason = "how long it took is told")]

use anyhow::{Result, bail};
use clap::Subcommand;
use serde::Serialize;
use sim::audit::cipher::Bug;
use sim::audit::{Outcome, Plan, run as run_pair};
use std::collections::HashSet;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use sealane::Cipher;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    audit: Audit,
}

#[derive(Debug, Subcommand)]
enum Audit {
    /// Compare every key and nonce that anything is sealed with
    Nonce(Nonce),
}

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
struct Nonce {
    /// How many messages, about: of all pairs and both directions
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    messages: u64,
    /// Epochs that each direction of each session begins, at least
    #[arg(long, default_value_t = 3)]
    rekeys: u64,
    /// All randomness comes from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Pairs at once [default: one for each core]
    #[arg(long)]
    threads: Option<usize>,
    /// Break the rule on purpose, in each of several ways, and see that it is noticed
    #[arg(long)]
    self_test: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Pairs of shipped endpoints exchange messages in memory, in both directions, while packets are lost, doubled and overtake each
other, keys change, messages that are stuck move to later keys, and endpoints crash and come back with the same installed
secret. Each seal is seen at the cipher, with the key and nonce that are really used, and each packet on the wire must be one
of these. The same bytes again are a repeat; other bytes under a nonce that was used are a duplicate, and the exit code is 1.";

/// The ciphers of the pairs.
const PAIRS: [Cipher; 4] = [Cipher::Aes128Gcm, Cipher::ChaCha20Poly1305, Cipher::Aes128Gcm, Cipher::Aes256Gcm];
/// Messages of a pair in which a bug must show: enough for epochs, repeats and restarts.
const SELF_TEST_MESSAGES: u64 = 20_000;

#[derive(Debug, Serialize)]
struct Report {
    sealed: u64,
    duplicates: u64,
    epochs: u64,
    attempts: u64,
    retransmitted: u64,
    messages: u64,
    keys: usize,
    restarts: u64,
    lost: u64,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct SelfTest {
    bug: &'static str,
    found: bool,
    duplicates: u64,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match &args.audit {
        Audit::Nonce(args) if args.self_test => self_test(args),
        Audit::Nonce(args) => nonce(args),
    }
}

fn nonce(args: &Nonce) -> Result<ExitCode> {
    let started = Instant::now();
    let outcomes = all(args);
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let keys: Vec<&Vec<u8>> = outcomes.iter().flat_map(|outcome| &outcome.keys).collect();
    let different: HashSet<&Vec<u8>> = keys.iter().copied().collect();
    // A key that two pairs have in common is as bad: their numbers are the same.
    let shared = (keys.len() - different.len()) as u64;
    let report = Report {
        sealed: sum(|o| o.sealed),
        duplicates: sum(|o| o.duplicates) + shared,
        epochs: sum(|o| o.epochs),
        attempts: sum(|o| o.attempts),
        retransmitted: sum(|o| o.retransmitted),
        messages: sum(|o| o.messages),
        keys: keys.len(),
        restarts: sum(|o| o.restarts),
        lost: sum(|o| o.lost),
        seconds: (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
    };
    crate::print(&if args.json { format!("{}\n", serde_json::to_string(&report)?) } else { table(&report) })?;
    if report.duplicates > 0 {
        return Ok(ExitCode::FAILURE);
    }
    let unaccounted = sum(|o| o.unaccounted);
    if unaccounted > 0 {
        bail!("{unaccounted} packets were sealed by something that was not watched");
    }
    if outcomes.iter().any(|outcome| outcome.stuck) {
        bail!("a pair did not come to its end");
    }
    if let Some(few) = outcomes.iter().map(|outcome| outcome.epochs_min).min().filter(|few| *few < args.rekeys) {
        bail!("a direction began {few} epochs only: too few messages for {} of them", args.rekeys);
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs all pairs, a few at once.
fn all(args: &Nonce) -> Vec<Outcome> {
    let bar = crate::sim::bar(args.messages).with_message("nonces");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..args.threads.unwrap_or(cores).clamp(1, PAIRS.len()) {
            scope.spawn(|| {
                while let Some(plan) = plan(args, next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = run_pair(&plan, |messages| bar.inc(messages));
                    done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(outcome);
                }
            });
        }
    });
    bar.finish_and_clear();
    done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn plan(args: &Nonce, pair: usize) -> Option<Plan> {
    let cipher = *PAIRS.get(pair)?;
    let messages = args.messages / PAIRS.len() as u64;
    Some(Plan { seed: args.seed + pair as u64, cipher, messages, rekeys: args.rekeys, bug: None })
}

fn self_test(args: &Nonce) -> Result<ExitCode> {
    let bar = crate::sim::bar(Bug::ALL.len() as u64 + 1).with_message("self-test");
    let mut found = Vec::new();
    let plan =
        Plan { seed: args.seed, cipher: PAIRS[0], messages: SELF_TEST_MESSAGES, rekeys: args.rekeys.min(3), bug: None };
    for (bug, name) in Bug::ALL {
        let outcome = run_pair(&Plan { bug: Some(bug), ..plan }, |_| ());
        found.push(SelfTest { bug: name, found: outcome.duplicates > 0, duplicates: outcome.duplicates });
        bar.inc(1);
    }
    // Whoever cries always finds everything.
    let clean = run_pair(&plan, |_| ()).duplicates == 0;
    bar.finish_and_clear();
    let well = clean && found.iter().all(|test| test.found);
    let text = if args.json {
        format!("{}\n", serde_json::json!({ "self_test": found, "clean": clean, "well": well }))
    } else {
        let line = |test: &SelfTest| format!("{:28} {}\n", test.bug, if test.found { "found" } else { "NOT FOUND" });
        let lines: String = found.iter().map(line).collect();
        format!("{lines}{:28} {}\n", "no bug", if clean { "nothing found" } else { "SOMETHING FOUND" })
    };
    crate::print(&text)?;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn table(report: &Report) -> String {
    format!(
        "{} seals of {} messages under {} keys in {} s: {} duplicates\n\
         {} repeats of the same bytes, {} epochs begun, {} messages moved by attempt, {} restarts, {} frames lost\n",
        report.sealed,
        report.messages,
        report.keys,
        report.seconds,
        report.duplicates,
        report.retransmitted,
        report.epochs,
        report.attempts,
        report.restarts,
        report.lost
    )
}
