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
use crate::ktls;
use crate::report::{Failure, Missing, Report, Samples};
use crate::sample::Sample;
use crate::server::Host;
use crate::spec::{Mode, NOT_HEAVY, PeerKind, Spec};

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
    /// Whether messages go one way; then how many are outstanding follows from their size.
    pub one_way: bool,
    /// Arrivals at a rate, after the closed loop.
    pub open: Option<Open>,
    /// Bytes of one more message that is always under way beside those that arrive at a rate.
    pub beside: Option<usize>,
    /// How both sides wait.
    pub mode: Mode,
    /// How often each cell is measured.
    pub rounds: u32,
    /// Path MTU to keep to.
    pub mtu: Option<u32>,
    /// What moves Sealane's datagrams, instead of its default.
    pub backend: Option<String>,
    /// Measured time per cell and round; less if the budget would not do.
    pub cell: Duration,
    /// Time for the whole run. Cells are made as long as fits; on a machine too busy for that, later rounds are left out.
    pub budget: Duration,
}

/// At which rate messages arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Open {
    /// So many per second, for every peer.
    Rate(f64),
    /// This share of what the closed loop of the same run gave: of what the peer itself gave, and, to compare peers at one rate, of
    /// what Sealane gave.
    Share(f64),
}

/// Bytes of one-way messages outstanding, roughly.
const ONE_WAY_BYTES: usize = 32 << 20;

/// How many one-way messages of a size are outstanding: several, whatever the size.
fn one_way_outstanding(size: usize) -> usize {
    (ONE_WAY_BYTES / size).clamp(2, 16)
}

impl Plan {
    /// Round trips of these sizes, one message at a time, all peers.
    pub fn rtt(sizes: Vec<usize>, mode: Mode) -> Self {
        Self {
            peers: PeerKind::default_set(1),
            sizes,
            outstanding: vec![1],
            one_way: false,
            open: None,
            beside: None,
            mode,
            rounds: 5,
            mtu: None,
            backend: None,
            cell: Duration::from_millis(250),
            budget: Duration::from_secs(90),
        }
    }

    /// Rates with so many messages outstanding, all peers.
    pub fn load(sizes: Vec<usize>, outstanding: Vec<usize>, mode: Mode) -> Self {
        Self { peers: PeerKind::default_set(2), outstanding, ..Self::rtt(sizes, mode) }
    }

    /// Messages of these sizes one way, several outstanding, the peers that differ there.
    pub fn bulk(sizes: Vec<usize>, mode: Mode) -> Self {
        use PeerKind::{Ktls, KtlsIdeal, Sealane, Tcp, Tls, Udp};
        let peers = vec![Udp, Tcp, Ktls, KtlsIdeal, Tls, Sealane];
        Self { peers, outstanding: vec![2], one_way: true, ..Self::rtt(sizes, mode) }
    }

    fn check(&self) -> Result<()> {
        match self.open {
            Some(Open::Share(share)) => {
                ensure!(share > 0.0 && share <= 1.0, "a share of {share} is not within 0 and 1")
            }
            Some(Open::Rate(rate)) => ensure!(rate > 0.0, "a rate of {rate} is not above 0"),
            None => ensure!(self.beside.is_none(), "a message beside goes with arrivals at a rate"),
        }
        ensure!(self.open.is_none() || self.mode == Mode::Spin, "arrivals at a rate need mode spin");
        ensure!(!self.peers.is_empty(), "no peer to measure");
        ensure!(!self.sizes.is_empty(), "no size to measure");
        ensure!(!self.outstanding.is_empty(), "no number of outstanding messages to measure");
        ensure!(self.rounds > 0, "no round to measure");
        if let [peer] = self.peers[..] {
            // Beside others it is left out where it does not fit; alone it must be said why.
            for (outstanding, size) in self.points() {
                Spec { outstanding, one_way: self.one_way, ..Spec::new(peer, self.mode, size) }.check()?;
            }
        }
        self.cells().try_for_each(|spec| spec.check())
    }

    /// Every number of outstanding messages with every size.
    fn points(&self) -> impl Iterator<Item = (usize, usize)> {
        self.outstanding.iter().flat_map(|&outstanding| self.sizes.iter().map(move |&size| (outstanding, size)))
    }

    /// Every cell of one round.
    fn cells(&self) -> impl Iterator<Item = Spec> {
        self.points().flat_map(move |(outstanding, size)| {
            let outstanding = if self.one_way { one_way_outstanding(size) } else { outstanding };
            let peers = self.peers.iter().filter(move |peer| peer.takes(size, outstanding) && peer.waits(self.mode));
            peers.map(move |&peer| Spec {
                outstanding,
                mtu: self.mtu,
                backend: self.backend.clone(),
                one_way: self.one_way,
                ..Spec::new(peer, self.mode, size)
            })
        })
    }

    /// The cells of arrivals at a rate, after the closed loop.
    fn open_cells(&self, specs: &[Spec], cells: &[Samples]) -> Vec<Spec> {
        let Some(open) = self.open else { return Vec::new() };
        let maximum = |index: usize| cells.get(index).filter(|cell| !cell.rounds.is_empty()).map(Samples::rps);
        let mut found: Vec<Spec> = Vec::new();
        for (index, spec) in specs.iter().enumerate() {
            let is_ours =
                |s: &Spec| (s.peer, s.size, s.outstanding) == (PeerKind::Sealane, spec.size, spec.outstanding);
            let rates = match open {
                Open::Rate(rate) => [Some(rate), None],
                Open::Share(share) => [maximum(index), specs.iter().position(is_ours).and_then(maximum)]
                    .map(|most| most.map(|most| (most * share).round())),
            };
            if self.beside.is_some() && !spec.peer.takes_beside() {
                continue;
            }
            for rate in rates.into_iter().flatten() {
                let spec = Spec { open: Some(rate), beside: self.beside, ..spec.clone() };
                if !found.contains(&spec) {
                    found.push(spec);
                }
            }
        }
        // Peers at one rate stand together.
        let place = |s: &Spec| specs.iter().position(|spec| (spec.size, spec.outstanding) == (s.size, s.outstanding));
        found.sort_by(|a, b| {
            place(a).cmp(&place(b)).then(f64::total_cmp(&a.open.unwrap_or(0.0), &b.open.unwrap_or(0.0)))
        });
        found
    }

    /// How many cells of arrivals at a rate a round has at most.
    fn open_count(&self) -> usize {
        self.cells().count()
            * match self.open {
                None => 0,
                Some(Open::Rate(_)) => 1,
                Some(Open::Share(_)) => 2,
            }
    }

    /// How many short cells the choice of read sizes takes.
    fn trials(&self) -> usize {
        self.cells().filter(has_choice).count() * READ_SIZES.len()
    }

    fn timing(&self) -> Timing {
        let round = self.cells().count() + self.open_count();
        let cells = round as u32 * self.rounds + self.trials() as u32 / 4;
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
    for point in specs.chunk_by(|a, b| (a.size, a.outstanding, a.open) == (b.size, b.outstanding, b.open)) {
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
        let missing = self.leave_out_missing();
        let timing = self.plan.timing();
        let cell_ms = timing.measured.as_millis() as u64;
        let mut environment = Environment::new(self.plan.mtu, self.plan.rounds, cell_ms);
        let cpus = cpu::pair();
        let _pinned = Pinned::to(cpus.map(|(client, _)| client));
        let mut specs: Vec<Spec> = self.plan.cells().collect();
        specs.iter_mut().for_each(|spec| spec.cpu = cpus.map(|(_, server)| server));
        let mut failed = Vec::new();
        self.choose_read_sizes(&mut specs, timing, progress);
        let mut cells = Vec::new();
        if !matches!(self.plan.open, Some(Open::Rate(_))) {
            let budget = self.plan.budget / if self.plan.open.is_some() { 3 } else { 1 };
            cells = self.rounds(&specs, timing, begun, budget, &mut environment, &mut failed, progress);
        }
        let open = self.plan.open_cells(&specs, &cells);
        if !open.is_empty() {
            cells.extend(self.rounds(&open, timing, begun, self.plan.budget, &mut environment, &mut failed, progress));
        }
        Report::new(&cells, failed, missing, self.plan.mode, environment)
    }

    /// Peers that this machine does not have, and why; the plan goes on without them.
    fn leave_out_missing(&mut self) -> Vec<Missing> {
        let mut missing = Vec::new();
        if self.plan.peers.contains(&PeerKind::Ktls)
            && let Some(why) = ktls::missing()
        {
            missing.push(Missing { peer: PeerKind::Ktls, why });
        }
        if !cfg!(feature = "heavy") {
            let heavy = self.plan.peers.iter().filter(|peer| peer.is_heavy());
            missing.extend(heavy.map(|&peer| Missing { peer, why: NOT_HEAVY.to_owned() }));
        }
        self.plan.peers.retain(|peer| !missing.iter().any(|missing| missing.peer == *peer));
        missing
    }

    #[expect(clippy::too_many_arguments, reason = "all that two sets of rounds differ in or share")]
    fn rounds(
        &mut self,
        specs: &[Spec],
        timing: Timing,
        begun: Instant,
        budget: Duration,
        environment: &mut Environment,
        failed: &mut Vec<Failure>,
        progress: &mut dyn FnMut(Progress),
    ) -> Vec<Samples> {
        let mut cells: Vec<Samples> = specs.iter().map(empty).collect();
        for round in 0..self.plan.rounds as usize {
            if round > 0 && !has_time(begun.elapsed(), round as u32, budget) {
                environment.rounds = environment.rounds.min(round as u32);
                break;
            }
            for index in order(specs, round) {
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
        cells
    }

    fn measure(&mut self, spec: &Spec, timing: Timing, progress: &mut dyn FnMut(Progress)) -> Result<Sample> {
        let round = self.plan.cells().count() + self.plan.open_count();
        let total = round * self.plan.rounds as usize + self.plan.trials();
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
    Samples { peer, size, outstanding, open: spec.open, rounds: Vec::new() }
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
