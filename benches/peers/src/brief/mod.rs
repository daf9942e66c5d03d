//! `peers brief`: one page on how Sealane stands beside others on this machine: sessions, round trips, rates, and what its parts cost.
//!
//! Owns what is on the page and the flat list of its figures by name, which limits are checked against (`sealane slo`). What is timed is
//! what `load` and `micro` have. Refuses: judging.

mod sessions;
mod trips;
mod parts;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use load::certs::Credentials;
use load::{Environment, Failure, Missing, PeerKind};
use serde::Serialize;

use crate::{Output, page};
use parts::Part;
use sessions::Beginning;
use trips::Trip;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Beside which: tcp, tls, quic (feature `heavy`), ktls (where the kernel has it).
    #[arg(long, value_delimiter = ',', default_value = if cfg!(feature = "heavy") { "tcp,tls,quic" } else { "tcp,tls" })]
    against: Vec<String>,
    /// A tenth of the time: figures scatter more.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    output: Output,
}

/// Where something was measured: over loopback, between two processes, or both sides in one thread, bytes handed over in memory.
const SOCKETS: &str = "sockets";
const IN_PROCESS: &str = "in-process";

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Beginnings of sessions of each kind and peer.
    count: usize,
    /// Rounds of each cell over sockets.
    rounds: u32,
    /// Measured milliseconds of a cell.
    cell_ms: u64,
}

impl Effort {
    const fn of(quick: bool) -> Self {
        if quick { Self { count: 40, rounds: 1, cell_ms: 50 } } else { Self { count: 200, rounds: 3, cell_ms: 250 } }
    }

    const fn cell(self) -> Duration {
        Duration::from_millis(self.cell_ms)
    }
}

/// All that a run gave.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// How sessions begin.
    sessions: Vec<Beginning>,
    /// Messages there and back, over sockets and without.
    rows: Vec<Trip>,
    /// What the parts of it cost.
    parts: Vec<Part>,
    /// The same figures by name.
    metrics: BTreeMap<String, f64>,
    failed: Vec<Failure>,
    missing: Vec<Missing>,
    corrupt: u64,
    environment: Environment,
}

/// The name of a peer on the page and in metrics.
pub(crate) fn name(peer: PeerKind) -> String {
    if peer == PeerKind::Quinn { "quic".to_owned() } else { peer.to_string() }
}

fn peers(against: &[String]) -> Result<Vec<PeerKind>> {
    let mut peers = vec![PeerKind::Sealane];
    for word in against {
        let peer = match word.trim() {
            "tcp" => PeerKind::Tcp,
            "tls" => PeerKind::Tls,
            "ktls" => PeerKind::Ktls,
            "quic" if cfg!(feature = "heavy") => PeerKind::Quinn,
            "quic" => bail!("`quic` needs a build with --features heavy"),
            other => bail!("unknown peer `{other}`; brief knows tcp, tls, quic and ktls"),
        };
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    Ok(peers)
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let (peers, effort) = (peers(&args.against)?, Effort::of(args.quick));
    let credentials = Credentials::generate()?;
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}")?);
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut say = |what: &str| bar.set_message(what.to_owned());
    let mut sessions = sessions::measure(&peers, &credentials, effort, &mut say)?;
    let (mut rows, over) = trips::over_sockets(&peers, effort, &mut say)?;
    sessions::add_steady(&mut sessions, &over.steady);
    sessions.extend(sessions::in_process(&credentials, effort, &mut say)?);
    rows.extend(trips::in_process(&credentials, effort, &mut say)?);
    let parts = parts::measure(effort, &mut say)?;
    bar.finish_and_clear();
    let mut report = Report {
        metrics: BTreeMap::new(),
        sessions,
        rows,
        parts,
        failed: over.failed,
        missing: over.missing,
        corrupt: over.corrupt,
        environment: Environment::new(None, effort.rounds, effort.cell_ms),
    };
    report.metrics = metrics(&report);
    let value = serde_json::to_value(&report)?;
    let shown = format!("{}{}\n{}", page::tables(&value), page::missing(&value), report.environment);
    args.output.give("brief", &report, || shown)?;
    ensure!(report.corrupt == 0, "{} replies were corrupt", report.corrupt);
    if let Some(Failure { peer, size, error, .. }) = report.failed.first() {
        bail!("peer `{peer}` failed at {size} B: {error}");
    }
    Ok(())
}

fn metrics(report: &Report) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    let mut put = |name: String, value: Option<f64>| metrics.extend(value.map(|value| (name, value)));
    for Beginning { place, what, peer, p50_us, p95_us, .. } in &report.sessions {
        put(format!("{peer}.{place}.{what}.p50_us"), Some(*p50_us));
        put(format!("{peer}.{place}.{what}.p95_us"), *p95_us);
    }
    for Trip { place, peer, size, p50_us, mb_s, .. } in &report.rows {
        put(format!("{peer}.{place}.{size}.p50_us"), Some(*p50_us));
        put(format!("{peer}.{place}.{size}.mb_s"), *mb_s);
    }
    for Part { what, size, ns, .. } in &report.parts {
        let size = size.map(|size| format!(".{size}")).unwrap_or_default();
        put(format!("{what}{size}.ns"), Some(*ns));
    }
    metrics
}

/// Two digits behind the point, so that JSON can be read.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_peer_is_named() {
        let why = |word: &str| peers(&[word.to_owned()]).unwrap_err().to_string();
        assert!(why("dtls").contains("`dtls`"));
        let both = peers(&["tcp".to_owned(), "tcp".to_owned()]).unwrap();
        assert_eq!(both, [PeerKind::Sealane, PeerKind::Tcp]);
        assert_eq!(peers(&["quic".to_owned()]).is_ok(), cfg!(feature = "heavy"));
    }
}
