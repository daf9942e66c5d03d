//! `sealane targets`: figures that must not get worse, as a file: what is measured, with how much scatter, and whether a run is as good as
//! an earlier one. `targets check` ends with 0 when every figure is within 5 % of the baseline, 1 within 10 %, 2 beyond that or when a
//! figure is missing.

mod spec;
mod judge;
mod memory;
mod measure;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};

use judge::{Run, Standing};
pub(crate) use memory::main_from_args;
use spec::Target;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure what a file asks for, and write it down
    Run(RunArgs),
    /// Hold a run against an earlier one: ends with 0 within 5 %, 1 within 10 %, 2 beyond
    Check(CheckArgs),
    /// Slow the code down by 12 % and look whether the check sees it; ends with 1 if it does not
    SelfTest(SelfTestArgs),
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// What to measure (TOML)
    targets: PathBuf,
    /// Where the figures go (JSON)
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Only targets whose names begin with this
    #[arg(long, value_name = "PREFIX", default_value = "")]
    only: String,
    /// Fewer samples, and memory of up to 10,000 sessions
    #[arg(long)]
    quick: bool,
    /// Print what is written
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// The run (JSON)
    run: PathBuf,
    /// What it must be as good as (JSON of an earlier run, on the same machine unless it has only instructions and sizes)
    #[arg(long, value_name = "FILE")]
    baseline: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct SelfTestArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let ended = match &args.command {
        Command::Run(args) => measured(args),
        // Nothing could be compared: that must not look like a small difference.
        Command::Check(args) => return check(args).unwrap_or_else(|error| worse(&error)),
        Command::SelfTest(args) => self_test(args),
    };
    ended.unwrap_or_else(|error| crate::explain(&error))
}

fn worse(error: &anyhow::Error) -> ExitCode {
    crate::explain(error);
    Standing::Beyond.code()
}

fn measured(args: &RunArgs) -> Result<ExitCode> {
    let about = || format!("the targets in {}", args.targets.display());
    let text =
        std::fs::read_to_string(&args.targets).with_context(|| format!("cannot read {}", args.targets.display()))?;
    let mut targets = spec::read(&text).with_context(about)?;
    targets.retain(|target| target.name.starts_with(&args.only));
    ensure!(!targets.is_empty(), "no target begins with `{}`", args.only);
    let bar = ProgressBar::new(targets.len() as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")?);
    let mut figures = Vec::new();
    for target in &targets {
        bar.set_message(target.name.clone());
        figures.push(measure::figure(target, args.quick).with_context(|| format!("target {}", target.name))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let run = Run::new(figures, targets.iter().any(Target::is_of_a_compiler))?;
    let json = serde_json::to_string_pretty(&run)? + "\n";
    std::fs::write(&args.output, &json).with_context(|| format!("cannot write {}", args.output.display()))?;
    crate::print(&if args.json { json } else { run.table() })?;
    Ok(ExitCode::SUCCESS)
}

fn check(args: &CheckArgs) -> Result<ExitCode> {
    let read = |path: &PathBuf| -> Result<Run> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a run of targets", path.display()))
    };
    let comparison = judge::compare(&read(&args.run)?, &read(&args.baseline)?)?;
    crate::print(&if args.json { serde_json::to_string(&comparison)? + "\n" } else { comparison.table() })?;
    Ok(comparison.standing.code())
}

/// Series of the self-test, each with endpoints of its own. All count: to stop at the first that looks right would find what it looks for.
const SERIES: usize = 5;

fn self_test(args: &SelfTestArgs) -> Result<ExitCode> {
    let [base, same, slow] = measure::slowed(SERIES)?;
    let (same, slow) = (judge::compare(&same, &base)?, judge::compare(&slow, &base)?);
    let seen = is_seen(same.standing, slow.standing);
    if args.json {
        crate::print(&format!("{}\n", serde_json::json!({ "seen": seen, "as_it_is": same, "slowed": slow })))?;
    } else {
        let verdict = if seen { "it was seen" } else { "it was NOT seen" };
        crate::print(&format!("as it is:\n{}slowed down by 12 %:\n{}{verdict}\n", same.table(), slow.table()))?;
    }
    Ok(if seen { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the check told apart what is as it was from what is 12 % slower, which is beyond 10 %.
fn is_seen(same: Standing, slow: Standing) -> bool {
    same == Standing::Within5 && slow == Standing::Beyond
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_percent_must_be_beyond_ten() {
        assert!(is_seen(Standing::Within5, Standing::Beyond));
        assert!(!is_seen(Standing::Within5, Standing::Within10) && !is_seen(Standing::Within5, Standing::Within5));
        assert!(!is_seen(Standing::Within10, Standing::Beyond));
    }
}
