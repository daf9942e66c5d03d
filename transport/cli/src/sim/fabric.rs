//! `sealane sim fabric`: the fabric experiment, its table beside the published figures, its picture.
#![expect(clippy::disallowed_methods, reason = "how fast the simulator is, is told by the real clock")]

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use sim::experiment::{self, Mechanism, Outcome, Plan};
use sim::fabric::Network;
use sim::framing::Framing;
use sim::published::{Figure, TRANSPORTS};
use sim::rng::Rng;
use sim::slowdown::{JUDGED, Row};
use sim::workload::{NAMES, Workload};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use super::plot::{COLOURS, Line, svg};

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// w1 to w5, or mixed: small messages and such of 500 KB
    #[arg(long, default_value = "w4")]
    workload: String,
    /// All five workloads
    #[arg(long, conflicts_with = "workload")]
    all: bool,
    /// Share of each host's link that is used, headers included
    #[arg(long, default_value_t = 0.8, value_parser = load)]
    load: f64,
    /// Hosts, in racks of 16
    #[arg(long, default_value_t = 144, value_parser = clap::value_parser!(u32).range(2..=4096))]
    hosts: u32,
    /// 16 hosts and fewer messages: what CI runs
    #[arg(long)]
    reduced: bool,
    /// Messages that count, over all replicas [default: what takes one or two minutes on two cores]
    #[arg(long)]
    messages: Option<u64>,
    /// Part of that number that is sent after, at most, while the last that count have not arrived
    #[arg(long, default_value_t = 1.0)]
    drain: f64,
    /// Worlds that run side by side; their samples are put together
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    replicas: u32,
    /// All randomness comes from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Count on the wire what encryption adds: on, or off to charge frames as the paper's simulator does
    #[arg(long, default_value = "on", value_parser = ["on", "off"])]
    overhead: String,
    /// Turn off: grants, srpt, priorities, overcommitment, incast-control, fifo-share
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// A share of the grants for the oldest message: the default of endpoints, which the paper's simulator does not have
    #[arg(long)]
    fifo_share: bool,
    /// Priorities as the endpoints measure them, instead of computed before from the workload, as the paper does
    #[arg(long)]
    measured: bool,
    /// Keep the card's queue short by the endpoint's pacer, instead of by a card that asks when it is idle
    #[arg(long)]
    pacer: bool,
    /// Write the picture there; with --all, the workload's name is put before the extension
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Samples of each point of the curve in the picture and in --json
    #[arg(long, default_value_t = sim::slowdown::SAMPLES_MIN)]
    curve_samples: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Slowdown is the time from the send call to complete delivery, divided by the time that the paper's simulator gives
a message of that size alone in the network; own_p99 divides by the time that our own frames need instead. Each
row takes as many of the published bins around its position as hold 1,000 samples; published values are means over
these. ratio is the 99th percentile of each message's slowdown over Homa's 99th percentile in its own bin: 1 is as
published. ok: at most 1.1 for the smallest messages, 1.2 at 50, 90 and 99 % of messages. ideal99 is the 99th
percentile of the same messages under a schedule that knows everything and costs nothing (always the shortest
remaining message first, over one switch that never holds anything up), idealr its ratio to what was published:
where it is above 1, ok means at most 1.1 or 1.2 times that. Messages that did not arrive until the run ended count with the time that had passed; a row in which they are one in a hundred is not
judged, because its 99th percentile is only a lower bound: more messages and a longer drain settle it.";

fn load(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(load) if load > 0.0 && load < 1.0 => Ok(load),
        _ => Err("a share between 0 and 1".to_owned()),
    }
}

/// Messages that count by default, and the part of that number that is sent before: what it takes until the longest are as many as they
/// will be, or what there is time for.
fn messages(workload: &str, reduced: bool) -> (u64, f64) {
    match (workload, reduced) {
        ("w1" | "w2", false) => (1_200_000, 0.1),
        ("w3", false) => (800_000, 0.3),
        ("w4", false) => (60_000, 0.5),
        ("w5", false) => (4_000, 0.5),
        (_, false) => (400_000, 0.2),
        ("w1" | "w2", true) => (400_000, 0.1),
        ("w3", true) => (200_000, 0.3),
        ("w4", true) => (12_000, 0.5),
        ("w5", true) => (1_000, 0.5),
        (_, true) => (40_000, 0.2),
    }
}

/// What `--json` prints for one workload.
#[derive(Debug, Serialize)]
struct Report {
    workload: &'static str,
    load: f64,
    hosts: u32,
    overhead: bool,
    without: Vec<String>,
    seed: u64,
    replicas: u32,
    rows: Vec<TableRow>,
    /// All sizes, in as many rows as there are samples for.
    curve: Vec<TableRow>,
    /// Whether all that is judged is as published or better; none when nothing was missed and not everything can be told.
    ok: Option<bool>,
    mean_slowdown: f64,
    samples: u64,
    unfinished: u64,
    refused: u64,
    failed: u64,
    packets: u64,
    seconds: f64,
    packets_per_second: f64,
    events_per_second: f64,
    /// Virtual time in which messages counted, over all replicas.
    simulated_ms: f64,
    link_used: f64,
    goodput: f64,
    edge_queue_peak_bytes: u64,
    core_queue_peak_bytes: u64,
    sessions_per_host: f64,
    rpcs_per_host: f64,
    rpcs_per_host_max: usize,
    held_bytes_per_host: f64,
    hash: String,
}

#[derive(Debug, Serialize)]
struct TableRow {
    position: f64,
    bytes_over: u32,
    bytes_upto: u32,
    samples: u64,
    unfinished: u64,
    p50: f64,
    p99: f64,
    mean: f64,
    own_p99: f64,
    /// Of the same messages under an ideal schedule (SRPT with all knowledge).
    ideal_p99: f64,
    homa_p50: Option<f64>,
    homa_p99: Option<f64>,
    pfabric_p99: Option<f64>,
    phost_p99: Option<f64>,
    pias_p99: Option<f64>,
    ndp_p99: Option<f64>,
    /// To Homa's 99th percentile, each message to that of its own size.
    ratio_to_homa: Option<f64>,
    /// The same of the ideal schedule.
    ideal_ratio: Option<f64>,
    /// What the ratio may be at most.
    limit: Option<f64>,
    ok: Option<bool>,
}

impl TableRow {
    fn new(row: &Row) -> Self {
        let of = |at: usize, figure: fn(&Figure) -> f64| row.published[at].as_ref().map(figure).map(round);
        Self {
            position: row.position,
            bytes_over: row.bytes_over,
            bytes_upto: row.bytes_upto,
            samples: row.samples,
            unfinished: row.unfinished,
            p50: round(row.measured.p50),
            p99: round(row.measured.p99),
            mean: round(row.measured.mean),
            own_p99: round(row.own.p99),
            ideal_p99: round(row.scheduled.p99),
            homa_p50: of(0, |f| f.p50),
            homa_p99: of(0, |f| f.p99),
            pfabric_p99: of(1, |f| f.p99),
            phost_p99: of(2, |f| f.p99),
            pias_p99: of(3, |f| f.p99),
            ndp_p99: of(4, |f| f.p99),
            ratio_to_homa: row.ratio.map(round),
            ideal_ratio: row.ideal_ratio.map(round),
            limit: row.limit.map(round),
            ok: row.verdict,
        }
    }
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let names: Vec<&str> = if args.all { NAMES.to_vec() } else { vec![&args.workload] };
    let mut reports = Vec::new();
    for name in names {
        let (report, picture) = experiment(args, name)?;
        if let Some(path) = &args.svg {
            let path = if args.all {
                path.with_extension(format!("{name}.{}", path.extension().and_then(|e| e.to_str()).unwrap_or("svg")))
            } else {
                path.clone()
            };
            std::fs::write(&path, picture).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if !args.json {
            crate::print(&shown(&report))?;
        }
        reports.push(report);
    }
    if args.json {
        let text = match &reports[..] {
            [report] => serde_json::to_string(report)?,
            workloads => serde_json::to_string(&serde_json::json!({ "workloads": workloads }))?,
        };
        crate::print(&format!("{text}\n"))?;
    }
    for report in &reports {
        ensure!(
            report.refused == 0 && report.failed == 0,
            "{} messages were refused or failed",
            report.refused + report.failed
        );
    }
    // With fewer hosts than the paper, or without a mechanism, nothing is promised.
    let promised = args.without.is_empty() && !args.fifo_share && !args.reduced && args.hosts == 144;
    let missed = promised && reports.iter().any(|report| report.ok == Some(false));
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn experiment(args: &Args, name: &str) -> Result<(Report, String)> {
    let workload = match name {
        "mixed" => Workload::mixed(100, 500_000, 0.8),
        _ => Workload::named(name)
            .with_context(|| format!("no workload is called {name}; there are w1 to w5, and mixed"))?,
    };
    let mut without: Vec<Mechanism> = args.without.iter().map(|name| super::mechanism(name)).collect::<Result<_>>()?;
    if !args.fifo_share {
        without.push(Mechanism::FifoShare);
    }
    let hosts = if args.reduced { args.hosts.min(16) } else { args.hosts };
    if hosts > 16 && !hosts.is_multiple_of(16) {
        bail!("hosts come in racks of 16: {hosts} is no multiple of that");
    }
    let (total, warmup) = messages(name, args.reduced);
    let total = args.messages.unwrap_or(total);
    let replicas = u64::from(args.replicas);
    let mut seeds = Rng::new(args.seed, 0);
    let plans: Vec<Plan> = (0..replicas)
        .map(|_| Plan {
            network: Network::paper(hosts),
            workload: workload.clone(),
            load: args.load,
            framing: if args.overhead == "on" { Framing::Sealane } else { Framing::Paper },
            seed: seeds.next(),
            messages: total.div_ceil(replicas).max(2),
            warmup,
            drain: args.drain,
            measured: args.measured,
            pacer: args.pacer,
            without: without.clone(),
        })
        .collect();
    let start = Instant::now();
    let outcomes = super::replicas(&plans, name, |plan, progress| experiment::run(plan, progress))?;
    let seconds = start.elapsed().as_secs_f64();
    let mut outcome = outcomes[0].clone();
    outcomes[1..].iter().for_each(|other| outcome.add(other));
    let title = format!("{name}, {hosts} hosts, load {}, p99 slowdown", args.load);
    Ok((report(args, &plans[0], &outcome, seconds), picture(&title, &workload, &outcome, args.curve_samples)))
}

fn report(args: &Args, plan: &Plan, outcome: &Outcome, seconds: f64) -> Report {
    let rows: Vec<TableRow> = outcome.slowdowns.table().iter().map(TableRow::new).collect();
    let judged: Vec<Option<bool>> = JUDGED
        .iter()
        .filter_map(|(position, _)| rows.iter().find(|row| row.position == *position))
        .map(|row| row.ok)
        .collect();
    let ok = if judged.contains(&Some(false)) { Some(false) } else { (!judged.contains(&None)).then_some(true) };
    Report {
        workload: plan.workload.name,
        load: plan.load,
        hosts: plan.network.hosts(),
        overhead: plan.framing == Framing::Sealane,
        without: args.without.clone(),
        seed: args.seed,
        replicas: args.replicas,
        ok,
        rows,
        curve: outcome.slowdowns.curve(args.curve_samples).iter().map(TableRow::new).collect(),
        mean_slowdown: round(outcome.slowdowns.mean()),
        samples: outcome.slowdowns.samples(),
        unfinished: outcome.slowdowns.unfinished.iter().sum(),
        refused: outcome.refused,
        failed: outcome.failed,
        packets: outcome.packets,
        seconds: round(seconds),
        packets_per_second: (outcome.packets as f64 / seconds).round(),
        events_per_second: (outcome.happenings as f64 / seconds).round(),
        simulated_ms: round(outcome.measured as f64 / sim::clock::MS as f64),
        link_used: round(outcome.used),
        goodput: round(outcome.goodput),
        edge_queue_peak_bytes: outcome.edge_queue_peak,
        core_queue_peak_bytes: outcome.core_queue_peak,
        sessions_per_host: round(outcome.hosts.sessions),
        rpcs_per_host: round(outcome.hosts.rpcs),
        rpcs_per_host_max: outcome.hosts.rpcs_max,
        held_bytes_per_host: outcome.hosts.held_bytes.round(),
        hash: format!("{:016x}", outcome.hash),
    }
}

fn shown(report: &Report) -> String {
    let mut text = format!(
        "{}: {} hosts, load {}, encryption {} the wire{}\n",
        report.workload,
        report.hosts,
        report.load,
        if report.overhead { "counted on" } else { "not counted on" },
        if report.without.is_empty() { String::new() } else { format!(", without {}", report.without.join(", ")) },
    );
    let _ = writeln!(
        text,
        "{:>9} {:>19} {:>8} {:>7} {:>7} {:>8} {:>7} | {:>7} {:>7} | {:>7} {:>7} {:>8} {:>7} {:>7} {:>7}",
        "position",
        "bytes",
        "samples",
        "p50",
        "p99",
        "own_p99",
        "ratio",
        "ideal99",
        "idealr",
        "Homa50",
        "Homa99",
        "pFabric",
        "pHost",
        "PIAS",
        "NDP"
    );
    let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    for row in &report.rows {
        let position =
            if row.position == 0.0 { "smallest".to_owned() } else { format!("{:.0} %", row.position * 100.0) };
        let _ = writeln!(
            text,
            "{:>9} {:>19} {:>8} {:>7.2} {:>7.2} {:>8.2} {:>7} | {:>7.2} {:>7} | {:>7} {:>7} {:>8} {:>7} {:>7} {:>7} {}",
            position,
            format!("{}..{}", row.bytes_over + 1, row.bytes_upto),
            row.samples,
            row.p50,
            row.p99,
            row.own_p99,
            cell(row.ratio_to_homa),
            row.ideal_p99,
            cell(row.ideal_ratio),
            cell(row.homa_p50),
            cell(row.homa_p99),
            cell(row.pfabric_p99),
            cell(row.phost_p99),
            cell(row.pias_p99),
            cell(row.ndp_p99),
            match row.ok {
                Some(true) => "ok".to_owned(),
                Some(false) => "MISSED".to_owned(),
                None if row.unfinished * 100 >= row.samples => format!("{} unfinished", row.unfinished),
                None => String::new(),
            },
        );
    }
    let _ = writeln!(
        text,
        "{} messages ({} unfinished), mean slowdown {:.2}; {} packets in {:.1} s: {:.0} packets/s, {:.0} events/s",
        report.samples,
        report.unfinished,
        report.mean_slowdown,
        report.packets,
        report.seconds,
        report.packets_per_second,
        report.events_per_second
    );
    let _ = writeln!(
        text,
        "{:.1} ms simulated; links used {:.1} %, message bytes {:.1} %; queues at most {} B at the edge, {} B inside",
        report.simulated_ms,
        report.link_used * 100.0,
        report.goodput * 100.0,
        report.edge_queue_peak_bytes,
        report.core_queue_peak_bytes
    );
    let _ = writeln!(
        text,
        "per host: {:.0} sessions, {:.1} RPCs open (at most {}), {:.0} bytes of messages held; run {}\n",
        report.sessions_per_host,
        report.rpcs_per_host,
        report.rpcs_per_host_max,
        report.held_bytes_per_host,
        report.hash
    );
    text
}

fn picture(title: &str, workload: &Workload, outcome: &Outcome, samples: u64) -> String {
    let sizes: Vec<(f64, u32)> =
        (0..=10).map(|tenth| f64::from(tenth) / 10.0).map(|at| (at, workload.at(at))).collect();
    let curve = outcome.slowdowns.curve(samples);
    let of = |figure: &dyn Fn(&Row) -> Option<f64>| -> Vec<(f64, f64)> {
        curve.iter().filter_map(|row| Some((row.position, figure(row)?))).collect()
    };
    let mut lines = vec![
        Line {
            name: "Sealane".to_owned(),
            colour: "#000000",
            dashed: false,
            points: of(&|row| Some(row.measured.p99)),
        },
        Line {
            name: "Sealane p50".to_owned(),
            colour: "#000000",
            dashed: true,
            points: of(&|row| Some(row.measured.p50)),
        },
        Line {
            name: "ideal schedule".to_owned(),
            colour: "#888888",
            dashed: true,
            points: of(&|row| Some(row.scheduled.p99)),
        },
    ];
    for (at, name) in TRANSPORTS.iter().enumerate() {
        let points = of(&|row| row.published[at].map(|figure| figure.p99));
        if !points.is_empty() {
            lines.push(Line { name: format!("{name}, published"), colour: COLOURS[at], dashed: false, points });
        }
    }
    svg(title, &sizes, &lines)
}
