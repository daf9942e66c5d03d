//! Owns the comparison by YCSB: one server process behind all three doors, clients in processes of their own, peers taking turns in rounds,
//! so that all have the same luck with the machine. Refuses to print.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::child::{Clients, Elsewhere, ServerChild, cpus};
use crate::resp::{command, reply_bytes};
use crate::tls::Credentials;
use crate::worker::{Job, Long, Outcome, Peer};
use crate::workload::{self, Op, Workload};

/// Who is who: the server's credentials, and the clients'.
#[derive(Clone, Debug)]
pub struct Both {
    /// The server's.
    pub server: Credentials,
    /// The clients'.
    pub client: Credentials,
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Workloads.
    pub workloads: Vec<Workload>,
    /// Bytes of a value.
    pub values: Vec<usize>,
    /// Peers.
    pub peers: Vec<Peer>,
    /// Client processes.
    pub clients: usize,
    /// Connections of each, as YCSB's clients have one for each of their threads; over datagrams they are callers of one socket, which is
    /// what one socket for many is for.
    pub connections: usize,
    /// Operations of each connection that are under way.
    pub outstanding: usize,
    /// Most commands of one message; zero chooses by the length of values.
    pub per_message: usize,
    /// Records that there are at first.
    pub records: u64,
    /// Operations a second of all clients together, instead of a closed loop.
    pub rate: Option<f64>,
    /// Rounds.
    pub rounds: u32,
    /// Milliseconds that a cell is measured, after a tenth of it as warm-up.
    pub cell_ms: u64,
    /// Another server than ours.
    pub elsewhere: Option<Elsewhere>,
}

/// Bytes of one message's values, where their length says how many commands it has.
const MESSAGE_BYTES: usize = 64 << 10;

impl Plan {
    fn per_message(&self, peer: Peer, value: usize) -> usize {
        // A datagram holds less than that, with what stands before each value.
        let bytes = if Peer::FLOORS.contains(&peer) { MESSAGE_BYTES / 2 } else { MESSAGE_BYTES };
        match self.per_message {
            0 => (bytes / value.max(1)).clamp(1, self.outstanding.max(1)),
            chosen => chosen,
        }
    }
}

/// One peer with one workload and one length.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The peer.
    pub peer: &'static str,
    /// The workload's letter.
    pub workload: &'static str,
    /// Bytes of a value.
    pub value: usize,
    /// Operations a second; the median over rounds, as all figures.
    pub ops: f64,
    /// Half of the operations took no longer.
    pub p50_us: f64,
    /// 99 of 100 took no longer.
    pub p99_us: f64,
    /// CPU time of the server.
    pub server_cpu_us_per_op: f64,
    /// Operations that were measured.
    pub measured: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Operations a second, to those of TLS over TCP.
    pub ratio_to_tls: Option<f64>,
}

/// Nanoseconds below which so much of all is.
pub(crate) fn quantile(outcomes: &[Outcome], of: impl Fn(&Outcome) -> &Vec<(u64, u64)>, share: f64) -> f64 {
    let mut all: Vec<(u64, u64)> = outcomes.iter().flat_map(|outcome| of(outcome).iter().copied()).collect();
    all.sort_unstable();
    let total: u64 = all.iter().map(|(_, count)| count).sum();
    let wanted = (total as f64 * share).ceil() as u64;
    let mut seen = 0;
    for (nanos, count) in all {
        seen += count;
        if seen >= wanted {
            return nanos as f64;
        }
    }
    0.0
}

pub(crate) fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => figures[odd / 2],
        even => (figures[even / 2 - 1] + figures[even / 2]) / 2.0,
    }
}

/// Sends commands over TCP and waits for all replies.
pub(crate) fn fill(server: SocketAddr, commands: impl Iterator<Item = Vec<u8>>) -> Result<()> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    let mut left = Vec::new();
    let mut read = vec![0; 64 << 10];
    let mut settle = |stream: &mut TcpStream, batch: &mut Vec<u8>, open: &mut usize| -> Result<()> {
        stream.write_all(batch)?;
        batch.clear();
        while *open > 0 {
            let count = stream.read(&mut read)?;
            ensure!(count > 0, "the server hung up");
            left.extend_from_slice(&read[..count]);
            let mut at = 0;
            while let Some(length) = reply_bytes(&left[at..]).ok().flatten() {
                ensure!(left[at] != b'-', "{}", String::from_utf8_lossy(&left[at..at + length]));
                at += length;
                *open -= 1;
            }
            left.drain(..at);
        }
        Ok(())
    };
    let (mut batch, mut open) = (Vec::new(), 0);
    for one in commands {
        batch.extend_from_slice(&one);
        open += 1;
        if batch.len() > 256 << 10 || open == 1000 {
            settle(&mut stream, &mut batch, &mut open)?;
        }
    }
    settle(&mut stream, &mut batch, &mut open)
}

/// Leaves so many records of this length, and nothing else.
pub(crate) fn records(server: SocketAddr, count: u64, value: usize) -> Result<()> {
    let value = vec![b'v'; value];
    let mut clear = Vec::new();
    command(&mut clear, &[b"FLUSHALL"]);
    let sets = (0..count).map(|record| {
        let mut bytes = Vec::new();
        workload::write(&mut bytes, Op::Insert(record), &value);
        bytes
    });
    fill(server, std::iter::once(clear).chain(sets))
}

struct Cell {
    ops: f64,
    p50: f64,
    p99: f64,
    cpu: f64,
    measured: u64,
    errors: u64,
}

/// Measures all of it.
///
/// # Errors
/// When a server or a client fails.
pub fn run(plan: &Plan, both: &Both, progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    ensure!(
        plan.clients > 0 && plan.connections > 0 && plan.outstanding > 0 && plan.rounds > 0,
        "nothing to be measured"
    );
    let (client_cpu, server_cpu) = cpus();
    let mut server = match &plan.elsewhere {
        Some(other) => ServerChild::elsewhere(other),
        None => ServerChild::start(&both.server, server_cpu)?,
    };
    let mut rows = Vec::new();
    for value in &plan.values {
        for workload in &plan.workloads {
            let mut cells: Vec<Vec<Cell>> = plan.peers.iter().map(|_| Vec::new()).collect();
            for round in 0..plan.rounds {
                for (at, peer) in plan.peers.iter().enumerate() {
                    let what = format!("{value} B, workload {}, {}", workload.name(), peer.name());
                    progress(&what);
                    // Workloads that insert leave what they inserted: each begins with the same.
                    let inserts = matches!(workload, Workload::D | Workload::E);
                    if inserts || at == 0 && round == 0 {
                        records(server.address(Peer::Tcp)?, plan.records, *value)?;
                    }
                    let seed = u64::from(round) + 1;
                    let address = server.address(*peer)?;
                    let jobs = jobs(plan, both, (*peer, *workload, *value), address, client_cpu, seed);
                    cells[at].push(cell(&jobs, &mut server).context(what)?);
                }
            }
            let first = rows.len();
            for (peer, cells) in plan.peers.iter().zip(cells) {
                rows.push(row(*peer, *workload, *value, &cells));
            }
            relate(&mut rows[first..]);
        }
    }
    Ok(rows)
}

fn jobs(
    plan: &Plan,
    both: &Both,
    (peer, workload, value): (Peer, Workload, usize),
    address: SocketAddr,
    cpu: Option<usize>,
    seed: u64,
) -> Vec<Job> {
    let job = |at: usize| Job {
        peer,
        server: address,
        credentials: both.client.clone(),
        of: (at as u64, plan.clients as u64),
        endpoints: plan.connections,
        installed: false,
        workload,
        records: plan.records,
        value,
        outstanding: plan.outstanding,
        per_message: plan.per_message(peer, value),
        rate: plan.rate.map(|rate| rate / plan.clients as f64),
        long: None::<Long>,
        warm_ms: plan.cell_ms / 10,
        measure_ms: plan.cell_ms,
        seed: seed * 1000 + at as u64,
        cpu,
    };
    (0..plan.clients).map(job).collect()
}

fn cell(jobs: &[Job], server: &mut ServerChild) -> Result<Cell> {
    let clients = Clients::start(jobs, server)?;
    let before = server.cpu_nanos()?;
    let outcomes = clients.run()?;
    let cpu = server.cpu_nanos()? - before;
    let measured: u64 = outcomes.iter().map(|outcome| outcome.ops).sum();
    let all: u64 = outcomes.iter().map(|outcome| outcome.all).sum();
    let seconds = outcomes.first().map_or(1.0, |outcome| outcome.seconds);
    if measured == 0 {
        bail!("nothing was answered");
    }
    Ok(Cell {
        ops: measured as f64 / seconds,
        p50: quantile(&outcomes, |outcome| &outcome.short, 0.5) / 1e3,
        p99: quantile(&outcomes, |outcome| &outcome.short, 0.99) / 1e3,
        cpu: cpu as f64 / all.max(1) as f64 / 1e3,
        measured,
        errors: outcomes.iter().map(|outcome| outcome.errors).sum(),
    })
}

fn row(peer: Peer, workload: Workload, value: usize, cells: &[Cell]) -> Row {
    let of = |figure: fn(&Cell) -> f64| median(&mut cells.iter().map(figure).collect::<Vec<_>>());
    let tenth = |figure: f64| (figure * 10.0).round() / 10.0;
    Row {
        peer: peer.name(),
        workload: workload.name(),
        value,
        ops: of(|cell| cell.ops).round(),
        p50_us: tenth(of(|cell| cell.p50)),
        p99_us: tenth(of(|cell| cell.p99)),
        server_cpu_us_per_op: (of(|cell| cell.cpu) * 1000.0).round() / 1000.0,
        measured: cells.iter().map(|cell| cell.measured).sum(),
        errors: cells.iter().map(|cell| cell.errors).sum(),
        ratio_to_tls: None,
    }
}

fn relate(rows: &mut [Row]) {
    let tls = rows.iter().find(|row| row.peer == "tls").map(|row| row.ops);
    for row in rows {
        row.ratio_to_tls = tls.map(|tls| (row.ops / tls * 1000.0).round() / 1000.0);
    }
}
