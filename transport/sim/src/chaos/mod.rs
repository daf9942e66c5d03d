//! Owns chaos runs: what a seed means, a run of it under the checker, and what many of them add up to.
//!
//! A run is one world in one thread. The same seed gives the same run, so who has the number of one that broke a rule has all of it.

pub mod agenda;
pub mod sabotage;
pub mod plan;
pub mod app;
pub mod run;
mod trouble;
pub mod script;

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::checker::calls::End;
use crate::checker::limits::Peaks;
use crate::checker::{Looks, Violation};
use crate::clock::Time;
use crate::fault::Fault;
use plan::Plan;
use run::Run;
use sabotage::Sabotage;

/// Counts by name.
pub type Counts = BTreeMap<&'static str, u64>;

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Runs that are added up here.
    pub seeds: u64,
    /// Frames of endpoints that were handed to endpoints.
    pub packets: u64,
    /// Datagrams that no endpoint sent, handed to endpoints.
    pub forged: u64,
    /// What went wrong, by kind.
    pub faults: Counts,
    /// What endpoints dropped, by reason.
    pub refused: Counts,
    /// How often keys changed, and what that took.
    pub keys: Counts,
    /// Calls, by how they ended.
    pub calls: Counts,
    /// What the checker looked at.
    pub looks: Looks,
    /// The most that was held, in thousandths of what may be.
    pub peaks: Peaks,
    /// Picoseconds that passed.
    pub virtual_time: Time,
    /// The trace's hash; of several runs, of all in order.
    pub hash: u64,
    /// Entries of the trace.
    pub entries: u64,
}

/// A run that broke a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// Which rule, when and how.
    pub violation: Violation,
    /// What happened last before that, as lines of the trace.
    pub last: Vec<String>,
}

fn add(to: &mut Counts, from: &Counts) {
    from.iter().for_each(|(name, count)| *to.entry(name).or_default() += count);
}

impl Outcome {
    /// This and then the other.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.packets += other.packets;
        self.forged += other.forged;
        add(&mut self.faults, &other.faults);
        add(&mut self.refused, &other.refused);
        add(&mut self.keys, &other.keys);
        add(&mut self.calls, &other.calls);
        let (a, b) = (&mut self.looks, &other.looks);
        a.sealed += b.sealed;
        a.bodies += b.bodies;
        a.unauthentic += b.unauthentic;
        a.limits += b.limits;
        a.everything += b.everything;
        self.peaks = self.peaks.max(other.peaks);
        self.virtual_time += other.virtual_time;
        self.hash = crate::rng::mix(self.hash ^ other.hash);
        self.entries += other.entries;
    }

    fn of(run: &mut Run) -> Self {
        let mut faults = core::mem::take(&mut run.happened);
        let refused = run.refused();
        let keys = core::mem::take(&mut run.keys);
        let (world, app) = (&run.world, &run.world.hooks);
        faults.extend(Fault::NAMES.into_iter().zip(app.faults.counts));
        faults.insert("cut_off", app.counts.cut_off);
        faults.insert("queue_full", app.counts.queue_full);
        faults.insert("host_down", app.counts.for_the_dead);
        faults.insert("rebound", app.counts.for_old_addresses);
        let ends = End::ALL.iter().zip(app.checker.calls.ends).map(|((_, name), count)| (*name, count));
        let calls = ends.chain([("answered_late", app.counts.late)]).collect();
        Self {
            seeds: 1,
            packets: world.counts.arrived - app.counts.forged,
            forged: app.counts.forged,
            faults,
            refused,
            keys,
            calls,
            looks: app.checker.looks,
            peaks: app.checker.peaks,
            virtual_time: world.now(),
            hash: world.trace.hash(),
            entries: world.trace.entries(),
        }
    }
}

/// How a run is made.
#[derive(Default)]
pub struct Options {
    /// Packets that are to be delivered while things go wrong; as many as a seed means when there is no number.
    pub packets: Option<u64>,
    /// Where the trace is written.
    pub trace: Option<Box<dyn Write + Send>>,
    /// A rule that is broken on purpose.
    pub sabotage: Sabotage,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("packets", &self.packets)
            .field("sabotage", &self.sabotage)
            .finish_non_exhaustive()
    }
}

/// Runs a seed.
///
/// # Errors
/// Which rule was broken first, or that something panicked.
pub fn run(seed: u64, options: Options) -> Result<Outcome, Box<Failure>> {
    let Options { packets, trace, sabotage } = options;
    let mut plan = Plan::new(seed);
    plan.packets = packets.unwrap_or(plan.packets);
    let mut run = Run::new(plan);
    if let Some(lines) = trace {
        run.world.trace.write_to(lines);
    }
    run.sabotage(sabotage);
    let panicked = catch_unwind(AssertUnwindSafe(|| run.run())).err().map(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it did not say why");
        Violation { invariant: 0, at: run.world.now(), what: format!("panicked: {said}") }
    });
    // A trace that cannot be written any more ends; the run does not depend on it.
    let _ = run.world.trace.flush();
    match panicked.or_else(|| run.world.hooks.checker.broken().cloned()) {
        Some(violation) => Err(Box::new(Failure { seed, violation, last: run.world.trace.last() })),
        None => Ok(Outcome::of(&mut run)),
    }
}

/// Runs a seed twice: the same seed must give the same run.
///
/// # Errors
/// As [`run()`] does, or that the two differ.
pub fn run_twice(seed: u64, packets: Option<u64>, sabotage: Sabotage) -> Result<Outcome, Box<Failure>> {
    let once = || run(seed, Options { packets, trace: None, sabotage });
    let (first, second) = (once()?, once()?);
    if first == second {
        return Ok(first);
    }
    let what = format!("the same seed gave two runs: {:016x} and {:016x}", first.hash, second.hash);
    Err(Box::new(Failure { seed, violation: Violation { invariant: 8, at: 0, what }, last: Vec::new() }))
}
