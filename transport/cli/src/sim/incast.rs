//! `sealane sim incast`: what fan-in does, with and without incast control.

use anyhow::{Result, ensure};
use serde::Serialize;
use sim::experiment::Mechanism;
use sim::incast::{self, Outcome, Pattern, Plan};
use std::fmt::Write as _;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Requests that the client sends at once; and hosts that send one message each to one receiver
    #[arg(long, value_delimiter = ',', default_value = "16,128,1024,5000", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    senders: Vec<u32>,
    /// Servers that the requests are spread over
    #[arg(long, default_value_t = 144, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    servers: u32,
    /// Bytes of each response or message
    #[arg(long, default_value_t = 10_000)]
    bytes: u32,
    /// Bytes that a port of the switch holds at each priority
    #[arg(long, default_value_t = 1 << 20)]
    buffer: u64,
    /// Responses or messages of each run [default: 20,000, and at least four for each sender]
    #[arg(long)]
    messages: Option<u64>,
    /// All randomness comes from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
requests: one client with 10 Gbit/s sends that many requests of 100 B at once, each response has --bytes; when all
have come it does so again. With incast control the requests of a client that awaits many ask for responses that
hold back. one-way: that many hosts send one message each at the same moment; nobody can ask them to hold back,
so there is no switch. one_by_one is when the last would arrive if the receiver's link carried nothing else.";

#[derive(Debug, Serialize)]
struct Row {
    pattern: &'static str,
    senders: u32,
    incast_control: bool,
    gbps: f64,
    p50_us: f64,
    p99_us: f64,
    one_by_one_us: f64,
    samples: u64,
    dropped: u64,
    failed: u64,
    packets: u64,
    queue_peak_bytes: u64,
    sessions: usize,
    rpcs: usize,
    hash: String,
}

#[derive(Debug, Serialize)]
struct Report {
    bytes: u32,
    buffer: u64,
    seed: u64,
    rows: Vec<Row>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut plans = Vec::new();
    for &senders in &args.senders {
        for (pattern, without) in [
            (Pattern::Requests, vec![]),
            (Pattern::Requests, vec![Mechanism::IncastControl]),
            (Pattern::OneWay, vec![]),
        ] {
            let messages = args.messages.unwrap_or_else(|| 20_000.max(4 * u64::from(senders)));
            let Args { servers, bytes, buffer, seed, .. } = *args;
            plans.push(Plan { pattern, senders, servers, bytes, messages, buffer, seed, without });
        }
    }
    // Two at a time: as many as the smallest machine has cores.
    let mut rows = Vec::new();
    for pair in plans.chunks(2) {
        let outcomes = super::replicas(pair, "incast", |plan, progress| incast::run(plan, progress))?;
        rows.extend(pair.iter().zip(&outcomes).map(|(plan, outcome)| row(plan, outcome)));
    }
    rows.sort_by_key(|row| (row.pattern != "requests", row.senders, !row.incast_control));
    let failed: u64 = rows.iter().map(|row| row.failed).sum();
    let report = Report { bytes: args.bytes, buffer: args.buffer, seed: args.seed, rows };
    crate::print(&if args.json { format!("{}\n", serde_json::to_string(&report)?) } else { shown(&report) })?;
    ensure!(failed == 0, "{failed} RPCs failed");
    Ok(ExitCode::SUCCESS)
}

fn row(plan: &Plan, outcome: &Outcome) -> Row {
    let us = |quantile| outcome.latency.value_at_quantile(quantile) as f64 / 1000.0;
    let frames = sim::framing::Framing::Sealane.data(plan.bytes);
    Row {
        pattern: if plan.pattern == Pattern::Requests { "requests" } else { "one-way" },
        senders: plan.senders,
        incast_control: plan.pattern == Pattern::Requests && plan.without.is_empty(),
        gbps: (outcome.throughput / 1e7).round() / 100.0,
        p50_us: us(0.5),
        p99_us: us(0.99),
        one_by_one_us: (frames * u64::from(plan.senders) * 8) as f64 / 1e4,
        samples: outcome.latency.len(),
        dropped: outcome.dropped,
        failed: outcome.failed,
        packets: outcome.packets,
        queue_peak_bytes: outcome.queue_peak,
        sessions: outcome.sessions,
        rpcs: outcome.rpcs,
        hash: format!("{:016x}", outcome.hash),
    }
}

fn shown(report: &Report) -> String {
    let mut text = format!("{} B each, {} B of buffer per port and priority\n", report.bytes, report.buffer);
    let _ = writeln!(
        text,
        "{:>9} {:>8} {:>8} {:>7} {:>11} {:>11} {:>11} {:>8} {:>9} {:>11} {:>9} {:>7}",
        "pattern",
        "senders",
        "control",
        "Gbit/s",
        "p50_us",
        "p99_us",
        "one_by_one",
        "samples",
        "dropped",
        "queue_peak",
        "sessions",
        "RPCs"
    );
    for row in &report.rows {
        let _ = writeln!(
            text,
            "{:>9} {:>8} {:>8} {:>7.2} {:>11.1} {:>11.1} {:>11.1} {:>8} {:>9} {:>11} {:>9} {:>7}",
            row.pattern,
            row.senders,
            match (row.pattern, row.incast_control) {
                ("one-way", _) => "-",
                (_, true) => "on",
                (_, false) => "off",
            },
            row.gbps,
            row.p50_us,
            row.p99_us,
            row.one_by_one_us,
            row.samples,
            row.dropped,
            row.queue_peak_bytes,
            row.sessions,
            row.rpcs
        );
    }
    text
}
