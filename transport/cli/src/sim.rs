//! `sealane sim`: the simulator from a shell. What is simulated, and how it is measured, is the crate `sim`'s; here are command
//! lines, progress, tables and plots.

mod chaos;
mod fabric;
mod incast;
mod plot;

use anyhow::{Result, bail};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sim::experiment::Mechanism;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    experiment: Experiment,
}

#[derive(Debug, Subcommand)]
enum Experiment {
    /// Many hosts, messages of all sizes: slowdown by size, beside the figures that the Homa paper published
    Fabric(fabric::Args),
    /// Many responses, or many messages, for one host at once
    Incast(incast::Args),
    /// Small networks in which everything goes wrong, under a checker of the protocol's invariants
    Chaos(chaos::Args),
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match &args.experiment {
        Experiment::Fabric(args) => fabric::run(args),
        Experiment::Incast(args) => incast::run(args),
        Experiment::Chaos(args) => chaos::run(args),
    }
}

/// A mechanism by its name on the command line.
fn mechanism(name: &str) -> Result<Mechanism> {
    match Mechanism::ALL.iter().find(|(known, _)| *known == name) {
        Some((_, mechanism)) => Ok(*mechanism),
        None => bail!("no mechanism is called {name}; there are {}", Mechanism::ALL.map(|(name, _)| name).join(", ")),
    }
}

/// A bar on standard error, if somebody looks at it.
pub(crate) fn bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if !io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{msg:24} [{bar:40}] {percent:>3} % {elapsed_precise}");
    bar.with_style(style.expect("a template that is well-formed"))
}

/// Runs as many replicas as there are `plans`, each in a thread of its own: each is one world, so what comes out does not depend on
/// how they are scheduled. `work` is told how to say which part is done.
fn replicas<P: Sync, T: Send>(
    plans: &[P],
    name: &str,
    work: impl Fn(&P, &mut dyn FnMut(f64)) -> T + Sync,
) -> Result<Vec<T>> {
    let bar = bar(1000 * plans.len() as u64).with_message(name.to_owned());
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = plans
            .iter()
            .map(|plan| {
                let (bar, work) = (&bar, &work);
                scope.spawn(move || {
                    let mut done = 0;
                    work(plan, &mut |part: f64| {
                        let now = (part * 1000.0) as u64;
                        bar.inc(now.saturating_sub(done));
                        done = done.max(now);
                    })
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    bar.finish_and_clear();
    results.into_iter().map(|result| result.map_err(|_| anyhow::anyhow!("a replica panicked"))).collect()
}
