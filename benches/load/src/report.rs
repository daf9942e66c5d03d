//! From samples to figures: medians over rounds, ratios between peers, their spread.
//!
//! Owns the arithmetic and the two ways to show it (JSON by serde, a table of text). Refuses: measuring.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::sample::{Sample, Session};
use crate::spec::{Mode, PeerKind};

/// All rounds of a cell.
#[derive(Clone, Debug)]
pub(crate) struct Samples {
    pub(crate) peer: PeerKind,
    pub(crate) size: usize,
    pub(crate) outstanding: usize,
    pub(crate) open: Option<f64>,
    pub(crate) rounds: Vec<Sample>,
}

impl Samples {
    /// Round trips per second, the median over rounds.
    pub(crate) fn rps(&self) -> f64 {
        median(self.rounds.iter().map(|s| s.rps).collect())
    }
}

/// One peer at one size and one number of outstanding messages; medians over rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The transport.
    pub peer: PeerKind,
    /// Bytes of each request and of each reply.
    pub size: usize,
    /// How both sides waited.
    pub mode: Mode,
    /// Messages outstanding.
    pub outstanding: usize,
    /// Median of the round trip.
    pub p50_us: f64,
    /// 99th percentile of the round trip.
    pub p99_us: f64,
    /// 99.9th percentile of the round trip.
    pub p999_us: f64,
    /// Round trips per second.
    pub rps: f64,
    /// CPU time per round trip, client and server together, kernel included. Spinning counts.
    pub cpu_us_per_rpc: f64,
    /// CPU time of both sides per 10^6 bytes that went one way.
    pub cpu_us_per_mb: f64,
    /// Messages per second that arrived, whatever became of those before; empty in a closed loop.
    pub open_rate: Option<f64>,
    /// Against raw UDP in this run: of `p50_us` with one outstanding (below 1 is faster), of `rps` with several (above 1
    /// is faster), of `p99_us` at a rate (below 1 is faster). Empty when raw UDP did not run.
    pub ratio_to_udp: Option<f64>,
    /// The same against ideal kTLS.
    pub ratio_to_ktls_ideal: Option<f64>,
    /// The same against TLS over TCP.
    pub ratio_to_tls: Option<f64>,
    /// CPU time per round trip against that of TLS over TCP: below 1 is less.
    pub cpu_ratio_to_tls: Option<f64>,
    /// Median round trip of the one message of another size that ran beside.
    pub beside_us: Option<f64>,
    /// Standard deviation over mean, over rounds, of what the ratios compare.
    pub cov: f64,
    /// Payload per second and direction, in 10^6 bytes.
    pub mb_s: f64,
    /// From nothing to a connection that carries messages, handshake included.
    pub connect_us: f64,
    /// Most bytes per read that did best, for peers on a stream.
    pub read_bytes: Option<usize>,
    /// Replies that were right, every byte. All rounds, warm-up included.
    pub verified: u64,
    /// Replies that were not.
    pub corrupt: u64,
    /// Messages without a reply.
    pub lost: u64,
    /// The session, where the peer is Sealane.
    pub session: Option<Session>,
}

/// A cell that did not work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The transport.
    pub peer: PeerKind,
    /// Bytes of a message.
    pub size: usize,
    /// Messages outstanding.
    pub outstanding: usize,
    /// Why.
    pub error: String,
}

/// A transport that this machine does not have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Missing {
    /// The transport.
    pub peer: PeerKind,
    /// What it would need.
    pub why: String,
}

/// All that a run gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The figures.
    pub rows: Vec<Row>,
    /// What is missing from them, and why: it went wrong.
    pub failed: Vec<Failure>,
    /// What is missing from them, and why: this machine does not have it.
    #[serde(default)]
    pub missing: Vec<Missing>,
    /// Replies that were right, in all rows.
    pub verified: u64,
    /// Replies that were not.
    pub corrupt: u64,
    /// Messages without a reply.
    pub lost: u64,
    /// Where it ran.
    pub environment: Environment,
    /// How CPU time was counted.
    pub cpu: String,
}

impl Report {
    pub(crate) fn new(
        cells: &[Samples],
        failed: Vec<Failure>,
        missing: Vec<Missing>,
        mode: Mode,
        environment: Environment,
    ) -> Self {
        let rows = rows(cells, mode);
        let sum = |of: fn(&Row) -> u64| rows.iter().map(of).sum();
        Self {
            verified: sum(|row| row.verified),
            corrupt: sum(|row| row.corrupt),
            lost: sum(|row| row.lost),
            rows,
            failed,
            missing,
            environment,
            cpu: "process CPU time, user and kernel, of client and server together per round trip; \
                  when spinning both sides use all of their CPU, so it is about twice the time per round trip"
                .to_owned(),
        }
    }

    /// Whether every peer ran and every reply was right.
    pub fn is_good(&self) -> bool {
        self.failed.is_empty() && self.corrupt == 0
    }

    /// The row of a peer.
    pub fn row(&self, peer: PeerKind, size: usize, outstanding: usize) -> Option<&Row> {
        let is_it = |r: &&Row| (r.peer, r.size, r.outstanding) == (peer, size, outstanding);
        self.rows.iter().find(is_it)
    }

    /// The figures for people to read.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut group = None;
        for row in &self.rows {
            let place = (row.size, row.outstanding, row.open_rate);
            if group.replace(place) != Some(place) {
                let load = match row.open_rate {
                    Some(rate) => format!("{rate:.0} per second"),
                    None => format!("{} outstanding", row.outstanding),
                };
                let _ = writeln!(
                    text,
                    "\n{} B, {load}, {}\n{:<17}{:>10}{:>10}{:>11}{:>10}{:>9}{:>9}{:>8}{:>11}{:>8}{:>6}",
                    row.size,
                    row.mode,
                    "peer",
                    "p50 us",
                    "p99 us",
                    "rps",
                    "cpu us",
                    "to udp",
                    "to ktls",
                    "cov %",
                    "verified",
                    "corrupt",
                    "lost"
                );
            }
            let _ = writeln!(
                text,
                "{:<17}{:>10.2}{:>10.2}{:>11.0}{:>10.2}{:>9}{:>9}{:>8.1}{:>11}{:>8}{:>6}",
                row.peer,
                row.p50_us,
                row.p99_us,
                row.rps,
                row.cpu_us_per_rpc,
                shown(row.ratio_to_udp),
                shown(row.ratio_to_ktls_ideal),
                row.cov * 100.0,
                row.verified,
                row.corrupt,
                row.lost,
            );
        }
        for missing in &self.missing {
            let _ = writeln!(text, "\n{:<17} not measured: {}", missing.peer, missing.why);
        }
        for f in &self.failed {
            let _ = writeln!(text, "\nFAILED: {} at {} B: {}", f.peer, f.size, f.error);
        }
        let _ = write!(text, "\ncpu us: {}\n{}", self.cpu, self.environment);
        text
    }
}

fn shown(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
}

fn rows(cells: &[Samples], mode: Mode) -> Vec<Row> {
    let mut rows: Vec<Row> = cells.iter().filter(|c| !c.rounds.is_empty()).map(|c| row(c, mode)).collect();
    let base = rows.clone();
    for row in &mut rows {
        let place = |r: &Row| (r.size, r.outstanding, r.open_rate);
        let find = |peer| base.iter().find(|r| r.peer == peer && place(r) == place(row));
        let against = |peer| Some(rounded(compared(row) / compared(find(peer)?)));
        let ratios = [PeerKind::Udp, PeerKind::KtlsIdeal, PeerKind::Tls].map(against);
        let cpu = find(PeerKind::Tls).map(|tls| rounded(row.cpu_us_per_rpc / tls.cpu_us_per_rpc));
        [row.ratio_to_udp, row.ratio_to_ktls_ideal, row.ratio_to_tls] = ratios;
        row.cpu_ratio_to_tls = cpu;
    }
    rows
}

/// What ratios are made of: the round trip while there is one, the rate when there are several, the late ones where the rate is given.
fn compared(row: &Row) -> f64 {
    match row.open_rate {
        Some(_) => row.p99_us,
        None if row.outstanding == 1 => row.p50_us,
        None => row.rps,
    }
}

fn row(cell: &Samples, mode: Mode) -> Row {
    let all = |of: fn(&Sample) -> f64| cell.rounds.iter().map(of).collect::<Vec<f64>>();
    let middle = |of| rounded(median(all(of)));
    let sum = |of: fn(&Sample) -> u64| cell.rounds.iter().map(of).sum();
    let rps = middle(|s| s.rps);
    Row {
        peer: cell.peer,
        size: cell.size,
        mode,
        outstanding: cell.outstanding,
        p50_us: middle(|s| s.p50_us),
        p99_us: middle(|s| s.p99_us),
        p999_us: middle(|s| s.p999_us),
        rps,
        cpu_us_per_rpc: middle(|s| s.cpu_us_per_rpc),
        cpu_us_per_mb: rounded(median(all(|s| s.cpu_us_per_rpc)) / cell.size as f64 * 1e6),
        open_rate: cell.open,
        ratio_to_udp: None,
        ratio_to_ktls_ideal: None,
        ratio_to_tls: None,
        cpu_ratio_to_tls: None,
        beside_us: cell.rounds.iter().all(|s| s.beside_us.is_some()).then(|| middle(|s| s.beside_us.unwrap_or(0.0))),
        cov: rounded(variation(&all(match cell.open {
            Some(_) => |s| s.p99_us,
            None if cell.outstanding == 1 => |s| s.p50_us,
            None => |s| s.rps,
        }))),
        mb_s: rounded(rps * cell.size as f64 / 1e6),
        connect_us: middle(|s| s.connect_us),
        read_bytes: cell.peer.reads_a_stream().then(|| cell.rounds[0].read_bytes),
        verified: sum(|s| s.verified),
        corrupt: sum(|s| s.corrupt),
        lost: sum(|s| s.lost),
        session: session(&cell.rounds),
    }
}

fn session(rounds: &[Sample]) -> Option<Session> {
    let all: Vec<&Session> = rounds.iter().filter_map(|round| round.session.as_ref()).collect();
    Some(Session {
        cipher: all.first()?.cipher.clone(),
        mutual: all.iter().all(|session| session.mutual),
        handshake_us: rounded(median(all.iter().map(|session| session.handshake_us).collect())),
    })
}

/// The middle one; between the two middle ones if their number is even.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len().is_multiple_of(2) { (values[half - 1] + values[half]) / 2.0 } else { values[half] }
}

/// Standard deviation (of a sample) over mean; 0 for a single value.
fn variation(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 || mean == 0.0 {
        return 0.0;
    }
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (squares / (n - 1.0)).sqrt() / mean
}

/// Four digits after the point are more than any figure here is worth.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(peer: PeerKind, outstanding: usize, rounds: &[(f64, f64)]) -> Samples {
        let sample = |&(p50_us, rps): &(f64, f64)| Sample {
            p50_us,
            p99_us: 2.0 * p50_us,
            p999_us: 3.0 * p50_us,
            beside_us: None,
            rps,
            cpu_us_per_rpc: 1.0,
            connect_us: 5.0,
            verified: 10,
            corrupt: 0,
            lost: 1,
            read_bytes: 4096,
            session: None,
        };
        Samples { peer, size: 1000, outstanding, open: None, rounds: rounds.iter().map(sample).collect() }
    }

    #[test]
    fn ratios_compare_round_trips_unloaded_and_rates_loaded() {
        let rounds = [(4.0, 100.0), (5.0, 200.0), (60.0, 300.0)];
        let slower = [(10.0, 50.0), (8.0, 100.0), (12.0, 150.0)];
        for outstanding in [1, 16] {
            let cells = [cell(PeerKind::Udp, outstanding, &rounds), cell(PeerKind::KtlsIdeal, outstanding, &slower)];
            let rows = rows(&cells, Mode::Spin);
            assert_eq!((rows[0].p50_us, rows[0].p99_us, rows[0].rps), (5.0, 10.0, 200.0));
            assert_eq!((rows[0].ratio_to_udp, rows[1].ratio_to_ktls_ideal), (Some(1.0), Some(1.0)));
            let ratio = if outstanding == 1 { 2.0 } else { 0.5 };
            assert_eq!(rows[1].ratio_to_udp, Some(ratio));
            assert_eq!(rows[0].ratio_to_ktls_ideal, Some(1.0 / ratio));
            assert_eq!((rows[1].verified, rows[1].lost), (30, 3));
            assert_eq!(rows[1].mb_s, 0.1);
            assert_eq!((rows[0].read_bytes, rows[1].read_bytes), (None, Some(4096)));
        }
    }

    #[test]
    fn no_base_no_ratio() {
        let rows = rows(&[cell(PeerKind::Tcp, 1, &[(4.0, 1.0)])], Mode::Block);
        assert_eq!((rows[0].ratio_to_udp, rows[0].ratio_to_ktls_ideal), (None, None));
        assert_eq!(rows[0].cov, 0.0);
    }

    #[test]
    fn a_row_is_mutual_only_if_every_round_was() {
        let mut cell = cell(PeerKind::Sealane, 1, &[(4.0, 1.0), (4.0, 1.0)]);
        let session = |mutual, handshake_us| Session { cipher: "x".to_owned(), mutual, handshake_us };
        (cell.rounds[0].session, cell.rounds[1].session) = (Some(session(true, 10.0)), Some(session(false, 30.0)));
        let rows = rows(&[cell], Mode::Spin);
        assert_eq!(rows[0].session, Some(session(false, 20.0)));
    }

    #[test]
    fn median_and_variation() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(variation(&[2.0, 2.0, 2.0]), 0.0);
        assert!((variation(&[1.0, 3.0]) - std::f64::consts::FRAC_1_SQRT_2).abs() < 1e-12);
    }
}
