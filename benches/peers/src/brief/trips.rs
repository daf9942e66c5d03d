//! Messages there and back: over real sockets, by the cells that all commands of `peers` use; and in this process, without a kernel.
#![expect(clippy::disallowed_methods, reason = "it measures")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use load::certs::Credentials;
use load::handshake::{Copied, TlsSession};
use load::{Failure, Host, Missing, Mode, PeerKind, Plan, Report, Runner};
use micro::{Pair, Trains};
use serde::Serialize;

use super::{Effort, IN_PROCESS, SOCKETS, name, rounded};

/// Bytes of a request and of its reply.
const SIZES: [usize; 4] = [1536, 4 << 10, 384 << 10, 1 << 20];
/// Those of `steady`.
const STEADY: usize = 64;
/// Messages under way where a rate is measured.
const OUTSTANDING: usize = 16;
/// Round trips without a kernel, at the least.
const TRIPS_MIN: usize = 20;

/// A message there and back.
#[derive(Debug, Serialize)]
pub(super) struct Trip {
    /// `sockets` (blocking calls) or `in-process`.
    pub(super) place: &'static str,
    pub(super) peer: String,
    pub(super) size: usize,
    pub(super) p50_us: f64,
    /// Payload per second one way, in 10^6 bytes. Over sockets with sixteen messages under way, each echoed; in process of one message at
    /// a time, there and back.
    pub(super) mb_s: Option<f64>,
    /// Sealane's p50 over this one.
    pub(super) sealane_ratio: Option<f64>,
}

/// What else came of the cells over sockets.
pub(super) struct Over {
    /// Round trips of 64 bytes, in microseconds, by peer.
    pub(super) steady: BTreeMap<String, f64>,
    pub(super) failed: Vec<Failure>,
    pub(super) missing: Vec<Missing>,
    pub(super) corrupt: u64,
}

fn cells(mut plan: Plan, peers: &[PeerKind], effort: Effort, say: &mut dyn FnMut(&str)) -> Result<Report> {
    plan.peers = peers.to_vec();
    plan.rounds = effort.rounds;
    plan.cell = effort.cell();
    plan.budget = Duration::from_secs(40);
    Ok(Runner::new(plan, Host::this_binary()?)?.run(&mut |progress| say(&progress.label)))
}

/// Over real sockets.
pub(super) fn over_sockets(peers: &[PeerKind], effort: Effort, say: &mut dyn FnMut(&str)) -> Result<(Vec<Trip>, Over)> {
    let sizes: Vec<usize> = [STEADY].into_iter().chain(SIZES).collect();
    let single = cells(Plan::rtt(sizes, Mode::Block), peers, effort, say)?;
    let many = cells(Plan::load(SIZES.to_vec(), vec![OUTSTANDING], Mode::Block), peers, effort, say)?;
    let (mut trips, mut steady) = (Vec::new(), BTreeMap::new());
    for row in &single.rows {
        if row.size == STEADY {
            steady.insert(name(row.peer), rounded(row.p50_us));
            continue;
        }
        trips.push(Trip {
            place: SOCKETS,
            peer: name(row.peer),
            size: row.size,
            p50_us: rounded(row.p50_us),
            mb_s: many.row(row.peer, row.size, OUTSTANDING).map(|row| rounded(row.mb_s)),
            sealane_ratio: single.row(PeerKind::Sealane, row.size, 1).map(|ours| rounded(ours.p50_us / row.p50_us)),
        });
    }
    let failed = single.failed.into_iter().chain(many.failed).collect();
    let over = Over { steady, failed, missing: single.missing, corrupt: single.corrupt + many.corrupt };
    Ok((trips, over))
}

/// In this process: what two copies take, TLS by rustls, and two endpoints of Sealane.
pub(super) fn in_process(credentials: &Credentials, effort: Effort, say: &mut dyn FnMut(&str)) -> Result<Vec<Trip>> {
    let mut trips = Vec::new();
    for size in SIZES {
        say(&format!("in process {size} B"));
        let message = vec![7; size];
        let (mut pair, mut trains) = (Pair::new(size), Trains::default());
        let (mut tls, mut copied) = (TlsSession::open(credentials)?, Copied::default());
        let ours = median(effort.cell(), || {
            pair.round(1, &mut trains);
            Ok(())
        })?;
        let theirs = median(effort.cell(), || tls.round(&message))?;
        let floor = median(effort.cell(), || {
            copied.round(&message);
            Ok(())
        })?;
        for (peer, p50_us) in [("sealane", ours), ("tls", theirs), ("copy", floor)] {
            trips.push(Trip {
                place: IN_PROCESS,
                peer: peer.to_owned(),
                size,
                p50_us: rounded(p50_us),
                mb_s: Some(rounded(2.0 * size as f64 / p50_us)),
                sealane_ratio: Some(rounded(ours / p50_us)),
            });
        }
    }
    Ok(trips)
}

/// Of as many as fit into the time, in microseconds; a tenth is for warming up.
fn median(time: Duration, mut one: impl FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    while start.elapsed() < time / 10 {
        one()?;
    }
    let (start, mut spans) = (Instant::now(), Vec::new());
    while spans.len() < TRIPS_MIN || start.elapsed() < time {
        let begun = Instant::now();
        one()?;
        spans.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    spans.sort_by(f64::total_cmp);
    Ok(spans[spans.len() / 2])
}
