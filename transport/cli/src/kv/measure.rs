//! `sealane kv bench` and `sealane kv fleet`: what is asked for, and tables of what came of it. Measuring is `kv`'s.

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use kv::bench::{self, Both};
use kv::child::Elsewhere;
use kv::fleet;
use kv::tls::Credentials;
use kv::worker::Peer;
use kv::workload::Workload;
use serde_json::json;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use super::Certificates;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
All three peers reach one server process, whose event loop and data set they share, on a core of its own where there \
are two; clients are processes on another core. Peers take turns in rounds; figures are medians. ops are operations a \
second, ratio_to_tls compares them with TLS over TCP. A scan of workload E is an MGET of 1 to 100 consecutive records.")]
pub(crate) struct BenchArgs {
    /// Workloads of YCSB
    #[arg(long, value_name = "LETTERS", value_delimiter = ',', default_value = "a,b,c,d,e,f", value_parser = workload)]
    workloads: Vec<Workload>,
    /// Bytes of a value
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "64,1024,4096")]
    values: Vec<usize>,
    /// Peers: tcp, tls, sealane, and the floors: udp, bare datagrams in clear text, and udp-ideal, each sealed once
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "tcp,tls,sealane", value_parser = peer)]
    peers: Vec<Peer>,
    /// Client processes
    #[arg(long, value_name = "N", default_value_t = 4)]
    clients: usize,
    /// Connections of each client, as YCSB has one for each of its threads; with Sealane they are callers of one socket
    #[arg(long, value_name = "N", default_value_t = 16)]
    connections: usize,
    /// Operations of each connection that are under way; more than one are pipelined
    #[arg(long, value_name = "N", default_value_t = 1)]
    outstanding: usize,
    /// Most commands of one message (for TCP: that are written at once); 0 is as many as make 64 KiB of values
    #[arg(long, value_name = "N", default_value_t = 0)]
    per_message: usize,
    /// Records
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    records: u64,
    /// Operations a second, of all clients together, whether or not they are answered; default is a closed loop
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 2)]
    rounds: u32,
    /// Milliseconds that each peer is measured in a round
    #[arg(long, value_name = "MS", default_value_t = 500)]
    cell_ms: u64,
    /// Measure another server of the protocol, which runs already: where its TCP, TLS and Sealane are
    #[arg(long, value_name = "TCP,TLS,SEALANE", value_delimiter = ',', requires = "pid", requires = "cert")]
    at: Vec<SocketAddr>,
    /// Its process, for its CPU time
    #[arg(long, requires = "at")]
    pid: Option<u32>,
    #[command(flatten)]
    certificates: Certificates,
    /// Short: one round, two workloads, two lengths
    #[arg(long)]
    quick: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each cell has a server of its own. Clients are connections of TCP or TLS, or sessions of Sealane (of installed secrets: \
`peers memory` prints beside them what those of TLS hold). cpu_growth is the server's CPU time of an operation, to that \
with the fewest clients.")]
pub(crate) struct FleetArgs {
    /// Numbers of clients
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "16,256,4096,20000")]
    clients: Vec<usize>,
    /// Peers: tcp, tls, sealane, and the floors: udp, bare datagrams in clear text, and udp-ideal, each sealed once
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "tcp,tls,sealane", value_parser = peer)]
    peers: Vec<Peer>,
    /// Operations a second, of all clients together
    #[arg(long, value_name = "N", default_value_t = 10_000.0)]
    rate: f64,
    /// Which share of them are GETs of 512 KB; of several, each is measured by itself
    #[arg(long, value_name = "SHARES", default_value = "0.005", value_delimiter = ',')]
    long_share: Vec<f64>,
    /// Rounds in which all peers take turns
    #[arg(long, value_name = "N", default_value_t = 1)]
    rounds: u32,
    /// Milliseconds that each is measured
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    cell_ms: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn workload(name: &str) -> Result<Workload, String> {
    Workload::parse(name).ok_or_else(|| "a letter from a to f".to_owned())
}

fn peer(name: &str) -> Result<Peer, String> {
    let mut all = Peer::ALL.into_iter().chain(Peer::FLOORS);
    all.find(|peer| peer.name() == name).ok_or_else(|| "one of tcp, tls, sealane, udp, udp-ideal".to_owned())
}

fn both() -> Result<Both> {
    let made = load::certs::Credentials::generate()?;
    let credentials = |own: &load::certs::Identity| Credentials {
        authority: made.authority.clone(),
        certificate: own.certificate.clone(),
        key: own.key.clone(),
    };
    Ok(Both { server: credentials(&made.server), client: credentials(&made.client) })
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner()
        .with_style(ProgressStyle::with_template("{spinner} {msg}").expect("it is a template"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

pub(crate) fn bench(args: &BenchArgs) -> Result<()> {
    let mut plan = bench::Plan {
        workloads: args.workloads.clone(),
        values: args.values.clone(),
        peers: args.peers.clone(),
        clients: args.clients,
        connections: args.connections,
        outstanding: args.outstanding,
        per_message: args.per_message,
        records: args.records,
        rate: args.rate,
        rounds: args.rounds,
        cell_ms: args.cell_ms,
        elsewhere: None,
    };
    let mut both = both()?;
    if let (Some(pid), Some(own)) = (args.pid, args.certificates.read()?) {
        let addresses = args.at[..].try_into().context("--at takes three addresses: of TCP, TLS and Sealane")?;
        plan.elsewhere = Some(Elsewhere { addresses, pid });
        both.client = own;
    }
    if args.quick {
        plan.workloads.truncate(2);
        plan.values.truncate(2);
        (plan.rounds, plan.cell_ms) = (1, plan.cell_ms.min(300));
    }
    let bar = spinner();
    let rows = bench::run(&plan, &both, &mut |what| bar.set_message(what.to_owned()))?;
    bar.finish_and_clear();
    if args.json {
        let host = load::Environment::new(None, plan.rounds, plan.cell_ms);
        crate::print(&format!("{}\n", json!({ "rows": rows, "environment": host })))?;
    } else {
        let mut text = format!(
            "{:<8} {:<8} {:>7} {:>10} {:>9} {:>9} {:>13} {:>7}\n",
            "peer", "workload", "value", "ops/s", "p50 us", "p99 us", "server us/op", "to tls"
        );
        for row in &rows {
            let ratio = row.ratio_to_tls.map_or(String::new(), |ratio| format!("{ratio:.2}"));
            writeln!(
                text,
                "{:<8} {:<8} {:>7} {:>10.0} {:>9.1} {:>9.1} {:>13.2} {ratio:>7}",
                row.peer, row.workload, row.value, row.ops, row.p50_us, row.p99_us, row.server_cpu_us_per_op
            )?;
        }
        crate::print(&text)?;
    }
    let errors: u64 = rows.iter().map(|row| row.errors).sum();
    ensure!(errors == 0, "{errors} operations failed");
    Ok(())
}

pub(crate) fn fleet(args: &FleetArgs) -> Result<()> {
    let most = args.clients.iter().max().copied().unwrap_or(0) as u64 + 256;
    let files = kv::child::raise_open_files(most);
    let mut clients = args.clients.clone();
    if files < most {
        let fit = files.saturating_sub(256) as usize;
        eprintln!("sealane kv: only {files} open files are allowed, so the largest fleet has {fit} clients");
        clients.iter_mut().for_each(|count| *count = (*count).min(fit));
    }
    let plan = fleet::Plan {
        clients,
        peers: args.peers.clone(),
        rate: args.rate,
        long_shares: args.long_share.clone(),
        rounds: args.rounds,
        cell_ms: args.cell_ms,
    };
    let bar = spinner();
    let rows = fleet::run(&plan, &both()?, &mut |what| bar.set_message(what.to_owned()))?;
    bar.finish_and_clear();
    if args.json {
        let host = load::Environment::new(None, plan.rounds, plan.cell_ms);
        return crate::print(&format!("{}\n", json!({ "rows": rows, "environment": host })));
    }
    let mut text = format!(
        "{:<9} {:>8} {:>7} {:>8} {:>9} {:>9} {:>11} {:>12} {:>13} {:>8} {:>9}\n",
        "peer",
        "clients",
        "long",
        "ops/s",
        "p50 us",
        "p99 us",
        "p99 span us",
        "long p50 us",
        "server us/op",
        "growth",
        "B/client"
    );
    for row in &rows {
        writeln!(
            text,
            "{:<9} {:>8} {:>7} {:>8.0} {:>9.1} {:>9.1} {:>11.1} {:>12.1} {:>13.2} {:>8.2} {:>9.0}",
            row.peer,
            row.clients,
            row.long_share,
            row.ops,
            row.p50_us,
            row.p99_us,
            row.p99_span_us,
            row.long_p50_us,
            row.server_cpu_us_per_op,
            row.cpu_growth.unwrap_or(0.0),
            row.server_bytes_per_client
        )?;
    }
    crate::print(&text)
}
