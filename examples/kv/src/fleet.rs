//! Owns the experiment with many clients: so many endpoints make one fixed load between them, of short GETs with some long replies among
//! them. It asks what a further client costs the server: in CPU time of an operation, in the tail of short ones, in memory. Each cell has a
//! server of its own, so that memory is that of its clients alone.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::bench::{Both, fill, median, quantile, records};
use crate::child::{Clients, ServerChild, cpus};
use crate::resp::command;
use crate::worker::{Job, Long, Outcome, Peer};
use crate::workload::Workload;

/// Bytes of short values.
const SHORT_BYTES: usize = 64;
/// Bytes of long ones.
const LONG_BYTES: usize = 512 << 10;
/// Long values that there are.
const LONG_COUNT: u64 = 16;
/// Records of short values.
const RECORDS: u64 = 10_000;
/// After so long what was needed only to connect is gone.
const SETTLED: Duration = Duration::from_millis(1500);

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Numbers of clients.
    pub clients: Vec<usize>,
    /// Peers.
    pub peers: Vec<Peer>,
    /// Operations a second, of all clients together.
    pub rate: f64,
    /// How many of them are GETs of long values: each of these is measured by itself.
    pub long_shares: Vec<f64>,
    /// How often each cell is measured, the others between.
    pub rounds: u32,
    /// Milliseconds that a cell is measured.
    pub cell_ms: u64,
}

/// One peer with one number of clients: medians of the rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The peer.
    pub peer: &'static str,
    /// Clients.
    pub clients: usize,
    /// How many of the operations are GETs of long values.
    pub long_share: f64,
    /// Operations a second that were answered.
    pub ops: f64,
    /// Of short GETs.
    pub p50_us: f64,
    /// Of short GETs.
    pub p99_us: f64,
    /// The same of each tenth of a second, and of those the median: without what the machine itself stands still.
    pub p99_span_us: f64,
    /// Of GETs of long values.
    pub long_p50_us: f64,
    /// CPU time of the server.
    pub server_cpu_us_per_op: f64,
    /// Resident bytes of the server that a client costs, before the load.
    pub server_bytes_per_client: f64,
    /// CPU time of an operation, to that with the fewest clients.
    pub cpu_growth: Option<f64>,
    /// Operations that failed.
    pub errors: u64,
}

/// What came of one cell once.
struct Measured {
    row: Row,
    /// The 99th percentile of each span, in nanoseconds.
    spans: Vec<f64>,
}

/// Measures all of it.
///
/// # Errors
/// When a server or the clients fail.
pub fn run(plan: &Plan, both: &Both, progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    ensure!(plan.clients.iter().all(|clients| (1..=100_000).contains(clients)), "1 to 100000 clients");
    ensure!(plan.rounds > 0, "at least one round");
    let floors = plan.peers.iter().any(|peer| Peer::FLOORS.contains(peer));
    ensure!(
        !floors || plan.long_shares.iter().all(|share| *share == 0.0),
        "a datagram does not hold a long reply: udp and udp-ideal take --long-share 0"
    );
    let mut rows: Vec<Row> = Vec::new();
    for clients in &plan.clients {
        let cells: Vec<(f64, Peer)> =
            plan.long_shares.iter().flat_map(|share| plan.peers.iter().map(|peer| (*share, *peer))).collect();
        let mut measured: Vec<Vec<Measured>> = cells.iter().map(|_| Vec::new()).collect();
        for round in 1..=plan.rounds {
            for ((share, peer), measured) in cells.iter().zip(&mut measured) {
                progress(&format!("{clients} clients, {}, round {round} of {}", peer.name(), plan.rounds));
                measured.push(cell(plan, both, *peer, *clients, *share)?);
            }
        }
        rows.extend(measured.iter().filter_map(|rounds| middle(rounds)));
    }
    let few = plan.clients.iter().min().copied().unwrap_or(0);
    let base: Vec<Row> = rows.iter().filter(|row| row.clients == few).cloned().collect();
    for row in &mut rows {
        let least = base.iter().find(|base| base.peer == row.peer && base.long_share == row.long_share);
        let least = least.map(|base| base.server_cpu_us_per_op);
        row.cpu_growth = least.map(|least| (row.server_cpu_us_per_op / least * 1000.0).round() / 1000.0);
    }
    Ok(rows)
}

/// Medians of the rounds, and of the spans of all of them.
fn middle(rounds: &[Measured]) -> Option<Row> {
    let of = |get: fn(&Row) -> f64| median(&mut rounds.iter().map(|round| get(&round.row)).collect::<Vec<f64>>());
    let mut spans: Vec<f64> = rounds.iter().flat_map(|round| round.spans.iter().copied()).collect();
    let first = rounds.first()?;
    Some(Row {
        ops: of(|row| row.ops),
        p50_us: of(|row| row.p50_us),
        p99_us: of(|row| row.p99_us),
        p99_span_us: (median(&mut spans) / 100.0).round() / 10.0,
        long_p50_us: of(|row| row.long_p50_us),
        server_cpu_us_per_op: of(|row| row.server_cpu_us_per_op),
        server_bytes_per_client: of(|row| row.server_bytes_per_client),
        errors: rounds.iter().map(|round| round.row.errors).sum(),
        ..first.row.clone()
    })
}

fn cell(plan: &Plan, both: &Both, peer: Peer, clients: usize, long_share: f64) -> Result<Measured> {
    let (client_cpu, server_cpu) = cpus();
    let mut server = ServerChild::start(&both.server, server_cpu)?;
    records(server.address(Peer::Tcp)?, RECORDS, SHORT_BYTES)?;
    let long = vec![b'l'; LONG_BYTES];
    let sets = (0..LONG_COUNT).map(|at| {
        let mut bytes = Vec::new();
        command(&mut bytes, &[b"SET", format!("long:{at}").as_bytes(), &long]);
        bytes
    });
    fill(server.address(Peer::Tcp)?, sets)?;
    let job = Job {
        peer,
        server: server.address(peer)?,
        credentials: both.client.clone(),
        of: (0, 1),
        endpoints: clients,
        installed: true,
        workload: Workload::C,
        records: RECORDS,
        value: SHORT_BYTES,
        outstanding: 1,
        per_message: 1,
        rate: Some(plan.rate),
        long: Some(Long { share: long_share, count: LONG_COUNT }),
        warm_ms: plan.cell_ms / 4,
        measure_ms: plan.cell_ms,
        seed: 7,
        cpu: client_cpu,
    };
    let bare = server.memory()?;
    let children = Clients::start(&[job], &mut server)?;
    std::thread::sleep(SETTLED);
    let held = server.memory()?.saturating_sub(bare);
    let before = server.cpu_nanos()?;
    let outcomes = children.run()?;
    let cpu = server.cpu_nanos()? - before;
    let all: u64 = outcomes.iter().map(|outcome| outcome.all).sum();
    let ops: u64 = outcomes.iter().map(|outcome| outcome.ops).sum();
    let short = |share| (quantile(&outcomes, |outcome: &Outcome| &outcome.short, share) / 100.0).round() / 10.0;
    let spans = outcomes.iter().flat_map(|outcome| &outcome.spans).map(|nanos| *nanos as f64).collect();
    let row = Row {
        peer: peer.name(),
        clients,
        long_share,
        ops: (ops as f64 / outcomes[0].seconds).round(),
        p50_us: short(0.5),
        p99_us: short(0.99),
        p99_span_us: 0.0,
        long_p50_us: (quantile(&outcomes, |outcome| &outcome.long, 0.5) / 100.0).round() / 10.0,
        server_cpu_us_per_op: (cpu as f64 / all.max(1) as f64).round() / 1000.0,
        server_bytes_per_client: (held as f64 / clients as f64).round(),
        cpu_growth: None,
        errors: outcomes.iter().map(|outcome| outcome.errors).sum(),
    };
    Ok(Measured { row, spans })
}
