//! A whole run: rounds, interleaved over peers, within a budget of time.
//!
//! Owns the order (round, then size, then peer, starting with another peer each round, so that drift of the machine hits
//! all alike) and the choice of read sizes. Refuses: printing.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::cell::{self, Timing};
use crate::certs::Credentials;
use crate::cpu::{self, Pinned};
use crate::environment::Environment;
use crate::report::{Failure, Report, Samples};
use crate::sample::Sample;
use crate::server::Host;
use crate::spec::{Mode, PeerKind, Spec};

/// Read sizes that stream peers may choose from under load: a small one keeps buffers in the cache, a large one saves calls.
const READ_SIZES: [usize; 3] = [32 << 10, 128 << 10, 1 << 20];

/// What starting, connecting and ending a server costs, roughly.
const CELL_OVERHEAD: Duration = Duration::from_millis(30);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The transports; ratios want `udp` and `ktls-ideal` among them.
    pub peers: Vec<PeerKind>,
    /// Message sizes in bytes.
    pub sizes: Vec<usize>,
    /// Numbers of outstanding messages; 1 measures round trips, more measure rates.
    pub outstanding: Vec<usize>,
    /// How both sides wait.
    pub mode: Mode,
    /// How often each cell is measured.
    pub rounds: u32,
    /// Path MTU to keep to.
    pub mtu: Option<u32>,
    /// Measured time per cell and round; less if the budget would not do.
    pub cell: Duration,
    /// Time for the whole run. Cells are made as long as fits; on a machine too busy for that, later rounds are left out.
    pub budget: Duration,
}

impl Plan {
    /// Round trips of these sizes, one message at a time, all peers.
    pub fn rtt(sizes: Vec<usize>, mode: Mode) -> Self {
        Self {
            peers: PeerKind::default_set(1),
            sizes,
            outstanding: vec![1],
            mode,
            rounds: 5,
            mtu: None,
            cell: Duration::from_millis(250),
            budget: Duration::from_secs(90),
        }
    }

    /// Rates with so many messages outstanding, all peers.
    pub fn load(sizes: Vec<usize>, outstanding: Vec<usize>, mode: Mode) -> Self {
        Self { peers: PeerKind::default_set(2), outstanding, ..Self::rtt(sizes, mode) }
    }

    fn check(&self) -> Result<()> {
        ensure!(!self.peers.is_empty(), "no peer to measure");
        ensure!(!self.sizes.is_empty(), "no size to measure");
        ensure!(!self.outstanding.is_empty(), "no number of outstanding messages to measure");
        ensure!(self.rounds > 0, "no round to measure");
        if let [peer] = self.peers[..] {
            // Beside others it is left out where it does not fit; alone it must be said why.
            self.sizes.iter().try_for_each(|&size| Spec::new(peer, self.mode, size).check())?;
        }
        self.cells().try_for_each(|spec| spec.check())
    }

    /// Every cell of one round.
    fn cells(&self) -> impl Iterator<Item = Spec> {
        let points = self.outstanding.iter().flat_map(|&k| self.sizes.iter().map(move |&s| (k, s)));
        points.flat_map(move |(outstanding, size)| {
            let peers = self.peers.iter().filter(move |peer| peer.takes(size));
            peers.map(move |&peer| Spec { outstanding, mtu: self.mtu, ..Spec::new(peer, self.mode, size) })
        })
    }

    /// How many short cells the choice of read sizes takes.
    fn trials(&self) -> usize {
        self.cells().filter(has_choice).count() * READ_SIZES.len()
    }

    fn timing(&self) -> Timing {
        let cells = self.cells().count() as u32 * self.rounds + self.trials() as u32 / 4;
        let share = (self.budget / cells.max(1)).saturating_sub(CELL_OVERHEAD) * 4 / 5;
        let measured = self.cell.min(share).max(Duration::from_millis(10));
        Timing { warm_up: (measured / 4).min(Duration::from_millis(60)), measured }
    }
}

/// Whether one more round, as long as those before, ends soon enough after the budget to be worth it.
fn has_time(elapsed: Duration, rounds: u32, budget: Duration) -> bool {
    elapsed + elapsed / rounds <= budget + budget / 4
}

fn has_choice(spec: &Spec) -> bool {
    spec.outstanding > 1 && spec.peer.reads_a_stream()
}

/// Indices of the cells of one round: points in order, and at each the peers, starting one further each round.
fn order(specs: &[Spec], round: usize) -> Vec<usize> {
    let (mut order, mut first) = (Vec::with_capacity(specs.len()), 0);
    for point in specs.chunk_by(|a, b| (a.size, a.outstanding) == (b.size, b.outstanding)) {
        order.extend((0..point.len()).map(|i| first + (i + round) % point.len()));
        first += point.len();
    }
    order
}

/// How far a run is; given before each cell.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Cells done.
    pub done: usize,
    /// Cells in all.
    pub total: usize,
    /// What comes now.
    pub label: String,
}

/// Runs a plan.
#[derive(Debug)]
pub struct Runner {
    plan: Plan,
    host: Host,
    credentials: Credentials,
    done: usize,
}

impl Runner {
    /// Checks the plan; the error names what is wrong with it.
    pub fn new(plan: Plan, host: Host) -> Result<Self> {
        plan.check()?;
        Ok(Self { plan, host, credentials: Credentials::generate()?, done: 0 })
    }

    /// The credentials that both sides of every peer with certificates use.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Measures everything. A peer that fails is reported and left out from then on; the others go on.
    pub fn run(mut self, progress: &mut dyn FnMut(Progress)) -> Report {
        let begun = Instant::now();
        let timing = self.plan.timing();
        let cell_ms = timing.measured.as_millis() as u64;
        let mut environment = Environment::new(self.plan.mtu, self.plan.rounds, cell_ms);
        let cpus = cpu::pair();
        let _pinned = Pinned::to(cpus.map(|(client, _)| client));
        let mut specs: Vec<Spec> = self.plan.cells().collect();
        specs.iter_mut().for_each(|spec| spec.cpu = cpus.map(|(_, server)| server));
        let mut cells: Vec<Samples> = specs.iter().map(empty).collect();
        let mut failed = Vec::new();
        self.choose_read_sizes(&mut specs, timing, progress);
        for round in 0..self.plan.rounds as usize {
            if round > 0 && !has_time(begun.elapsed(), round as u32, self.plan.budget) {
                environment.rounds = round as u32;
                break;
            }
            for index in order(&specs, round) {
                let spec = &specs[index];
                let has_failed = |f: &Failure| f.peer == spec.peer && f.size == spec.size;
                if failed.iter().any(has_failed) {
                    self.done += 1;
                    continue;
                }
                match self.measure(spec, timing, progress) {
                    Ok(sample) => cells[index].rounds.push(sample),
                    Err(error) => failed.push(Failure {
                        peer: spec.peer,
                        size: spec.size,
                        outstanding: spec.outstanding,
                        error: format!("{error:#}"),
                    }),
                }
            }
        }
        Report::new(&cells, failed, self.plan.mode, environment)
    }

    fn measure(&mut self, spec: &Spec, timing: Timing, progress: &mut dyn FnMut(Progress)) -> Result<Sample> {
        let total = self.plan.cells().count() * self.plan.rounds as usize + self.plan.trials();
        let label = format!("{} {} B x{}", spec.peer, spec.size, spec.outstanding);
        progress(Progress { done: self.done, total, label });
        self.done += 1;
        cell::run(spec, &self.host, &self.credentials, timing)
    }

    /// Gives every stream peer the read size that serves it best at this point, by a short trial of each.
    fn choose_read_sizes(&mut self, specs: &mut [Spec], timing: Timing, progress: &mut dyn FnMut(Progress)) {
        let timing = Timing { warm_up: timing.warm_up / 4, measured: timing.measured / 4 };
        for spec in specs.iter_mut().filter(|spec| has_choice(spec)) {
            let mut best = 0.0;
            for read_bytes in READ_SIZES {
                let trial = Spec { read_bytes, ..spec.clone() };
                // A peer that fails here fails again in its first round, where it is reported.
                if let Ok(sample) = self.measure(&trial, timing, progress)
                    && sample.rps > best
                {
                    best = sample.rps;
                    spec.read_bytes = read_bytes;
                }
            }
        }
    }
}

fn empty(spec: &Spec) -> Samples {
    let (peer, size, outstanding) = (spec.peer, spec.size, spec.outstanding);
    Samples { peer, size, outstanding, rounds: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_keeps_to_its_budget() {
        let mut plan = Plan::load(vec![64, 1024, 8192, 65_536], vec![16, 64], Mode::Spin);
        for rounds in [1, 5, 20] {
            plan.rounds = rounds;
            let timing = plan.timing();
            let cells = plan.cells().count() as u32 * rounds;
            let each = timing.measured + timing.warm_up + CELL_OVERHEAD;
            assert!(cells * each <= plan.budget, "{timing:?} x {cells}");
        }
    }

    #[test]
    fn a_slow_machine_measures_fewer_rounds_not_longer() {
        let seconds = Duration::from_secs;
        assert!(has_time(seconds(18), 3, seconds(20)));
        assert!(!has_time(seconds(21), 3, seconds(20)));
        assert!(!has_time(seconds(15), 1, seconds(20)));
    }

    #[test]
    fn every_round_measures_every_cell_and_starts_with_another_peer() {
        let plan = Plan::rtt(vec![64, 1024], Mode::Spin);
        let peers = plan.peers.len();
        let specs: Vec<Spec> = plan.cells().collect();
        let mut firsts = Vec::new();
        for round in 0..peers {
            let mut sorted = order(&specs, round);
            firsts.push(sorted[0]);
            sorted.sort();
            assert_eq!(sorted, (0..2 * peers).collect::<Vec<_>>());
        }
        firsts.sort();
        assert_eq!(firsts, (0..peers).collect::<Vec<_>>());
    }
}
