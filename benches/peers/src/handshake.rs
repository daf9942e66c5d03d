//! `peers handshake`: how long a session takes from nothing to the first reply, all transports in one run.

use anyhow::Result;
use load::certs::Credentials;
use load::handshake::{InMemory, Kind, ROUND, RoundTrip, SealaneClient, SealaneServer, Times, TlsClient, TlsServer};
#[cfg(feature = "heavy")]
use load::handshake::{QuicClient, QuicServer};
use serde::Serialize;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Handshakes of each kind and transport.
    #[arg(long, default_value_t = 200)]
    count: usize,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Only this way to begin: full, resumed or early-data. For profiles.
    #[arg(long)]
    kind: Option<String>,
    /// Only this peer: sealane, tls, quinn or rustls-in-memory. For profiles: it has nothing to take turns with.
    #[arg(long)]
    only: Option<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    mode: &'static str,
    peer: &'static str,
    p50_us: f64,
    p95_us: f64,
    /// Of both sides, per handshake; a second request and the end included.
    cpu_us: f64,
    /// Sealane's p50 over this one.
    sealane_ratio: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    count: usize,
    rows: Vec<Row>,
}

/// One kind, over everything.
struct Lanes {
    kind: Kind,
    sealane: SealaneClient,
    tls: TlsClient,
    #[cfg(feature = "heavy")]
    quinn: QuicClient,
    memory: InMemory,
}

impl Lanes {
    fn round(&mut self, times: usize, only: Option<&str>) -> Result<()> {
        let wanted = |peer| only.is_none_or(|only| only == peer);
        if wanted("sealane") {
            self.sealane.round(times)?;
        }
        if wanted("tls") {
            self.tls.round(times)?;
        }
        #[cfg(feature = "heavy")]
        if wanted("quinn") {
            self.quinn.round(times)?;
        }
        if wanted("rustls-in-memory") {
            self.memory.round(times)?;
        }
        Ok(())
    }

    fn rows(&self) -> Vec<Row> {
        let ours = self.sealane.times.percentile(50);
        let row = |peer, times: &Times| Row { mode: self.kind.name(), ..row(peer, times, ours) };
        vec![
            row("sealane", &self.sealane.times),
            row("tls", &self.tls.times),
            #[cfg(feature = "heavy")]
            row("quinn", &self.quinn.times),
            row("rustls-in-memory", &self.memory.times),
        ]
    }
}

fn row(peer: &'static str, times: &Times, ours: f64) -> Row {
    let (p50_us, p95_us) = (times.percentile(50), times.percentile(95));
    Row { mode: "", peer, p50_us, p95_us, cpu_us: times.cpu_us(), sealane_ratio: ours / p50_us }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let credentials = Credentials::generate()?;
    let (authority, identity) = (&credentials.authority, &credentials.server);
    let (sealane, tls) = (SealaneServer::start(identity)?, TlsServer::start(identity)?);
    #[cfg(feature = "heavy")]
    let quinn = QuicServer::start(identity)?;
    let mut trip = RoundTrip::start()?;
    let mut lanes = Vec::new();
    let asked = |kind: &Kind| args.kind.as_ref().is_none_or(|name| name == kind.name());
    for kind in Kind::ALL.into_iter().filter(asked) {
        lanes.push(Lanes {
            kind,
            sealane: SealaneClient::new(authority, kind, sealane.at)?,
            tls: TlsClient::new(authority, kind, tls.at)?,
            #[cfg(feature = "heavy")]
            quinn: QuicClient::new(authority, kind, quinn.at)?,
            memory: InMemory::new(authority, identity, kind)?,
        });
    }
    let mut done = 0;
    while done < args.count {
        let round = ROUND.min(args.count - done);
        for lane in &mut lanes {
            lane.round(round, args.only.as_deref())?;
        }
        trip.round(round)?;
        done += round;
    }
    let mut rows: Vec<Row> = lanes.iter().flat_map(Lanes::rows).collect();
    let full = rows.first().map_or(0.0, |row| row.p50_us);
    rows.push(Row { mode: "one datagram", ..row("udp", &trip.times, full) });
    if args.json {
        println!("{}", serde_json::to_string_pretty(&Report { count: args.count, rows })?);
        return Ok(());
    }
    println!("{:<14} {:<18} {:>8} {:>8} {:>8} {:>12}", "mode", "peer", "p50 us", "p95 us", "cpu us", "sealane to it");
    for Row { mode, peer, p50_us, p95_us, cpu_us, sealane_ratio } in rows {
        println!("{mode:<14} {peer:<18} {p50_us:>8.0} {p95_us:>8.0} {cpu_us:>8.0} {sealane_ratio:>12.2}");
    }
    Ok(())
}
