//! One cell from the start of its server to its end: what is warmed up, what is measured, what is read off.
//!
//! Owns the phases; they are the same for all peers. Refuses: knowing transports, and the loop itself (`drive`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::certs::Credentials;
use crate::drive::Drive;
use crate::layout;
use crate::pattern::Pattern;
use crate::sample::Sample;
use crate::server::{Host, Running};
use crate::spec::{Mode, Spec};
use crate::{connect, cpu};

/// How long to run before measuring, and how long to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// A connected client with its loop, and its server where that is not in the same thread.
struct Cell {
    // Dropped first: a server ends when its client is gone.
    drive: Drive,
    server: Option<Running>,
    connect: Duration,
    session: Option<crate::sample::Session>,
}

impl Cell {
    fn start(spec: &Spec, host: &Host, credentials: &Credentials) -> Result<Self> {
        let pattern = Arc::new(Pattern::of(spec, layout::padding_bytes_max(spec.size)));
        let mut server = None;
        let since;
        let client = if spec.mode == Mode::Turns {
            since = Instant::now();
            connect::pair(spec, credentials, &pattern)
        } else {
            let running = host.start(spec, credentials)?;
            let port = running.port;
            server = Some(running);
            since = Instant::now();
            connect::connect(spec, port, credentials, &pattern)
        };
        let client = client.with_context(|| format!("cannot connect peer `{}`", spec.peer))?;
        let (connect, session) = (since.elapsed(), client.session());
        Ok(Self { drive: Drive::new(spec, client, pattern)?, server, connect, session })
    }

    /// CPU time that both sides have used.
    fn cpu_time(&mut self) -> Result<Duration> {
        let server = self.server.as_mut().map_or(Ok(Duration::ZERO), Running::cpu_time)?;
        Ok(server + cpu::process_time())
    }
}

/// Runs one cell.
pub(crate) fn run(spec: &Spec, host: &Host, credentials: &Credentials, timing: Timing) -> Result<Sample> {
    let mut cell = Cell::start(spec, host, credentials)?;
    match spec.open {
        None => cell.drive.run(timing.warm_up)?,
        Some(rate) => cell.drive.run_open(rate, timing.warm_up)?,
    };
    cell.drive.drain()?;
    cell.drive.latency.reset();
    cell.drive.beside.reset();
    let cpu_before = cell.cpu_time()?;
    let phase = match spec.open {
        None => cell.drive.run(timing.measured)?,
        Some(rate) => cell.drive.run_open(rate, timing.measured)?,
    };
    let cpu = cell.cpu_time()?.saturating_sub(cpu_before);
    cell.drive.drain()?;
    ensure!(phase.count > 0, "no reply came");
    let Cell { drive, connect, session, .. } = &cell;
    let at = |quantile| drive.latency.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Sample {
        p50_us: at(0.50),
        p99_us: at(0.99),
        p999_us: at(0.999),
        rps: phase.count as f64 / phase.elapsed.as_secs_f64(),
        cpu_us_per_rpc: cpu.as_secs_f64() * 1e6 / phase.count as f64,
        connect_us: connect.as_secs_f64() * 1e6,
        beside_us: (!drive.beside.is_empty()).then(|| drive.beside.value_at_quantile(0.50) as f64 / 1e3),
        verified: drive.verified,
        corrupt: drive.corrupt,
        lost: drive.lost,
        read_bytes: spec.read_bytes,
        session: session.clone(),
    })
}

/// What one message costs in a world whose clock counts instructions: the mean over `count`, in nanoseconds of that clock, without
/// the checks of replies. The warm-up is `count` as well.
pub(crate) fn cost(spec: &Spec, host: &Host, credentials: &Credentials, count: u64) -> Result<f64> {
    let mut cell = Cell::start(spec, host, credentials)?;
    cell.drive.run_count(count)?;
    let took = cell.drive.run_count(count)?;
    cell.drive.drain()?;
    let (corrupt, lost) = (cell.drive.corrupt, cell.drive.lost);
    ensure!(corrupt == 0 && lost == 0, "{corrupt} replies were corrupt, {lost} did not come");
    Ok(took.as_nanos() as f64 / count as f64)
}
