//! `sealane slo check`: limits in a file, held against the figures of a run. A figure that is not there is a failure: what was not measured
//! was not met.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One line for each limit, PASS or FAIL; ends with 1 if one failed
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The limits are tables [[limit]] with `metric` and `below` or `above` (neither is met by the limit itself), and `why` if one likes. A run \
is JSON with an object `metrics` of names and numbers: `peers brief --json`, `sealane targets run`.")]
struct CheckArgs {
    /// Limits (TOML)
    limits: PathBuf,
    /// Figures (JSON)
    run: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    limit: Vec<Limit>,
}

/// What a figure must keep to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    metric: String,
    below: Option<f64>,
    above: Option<f64>,
    #[serde(default, rename = "why")]
    _why: String,
}

/// What came of a limit.
#[derive(Debug, PartialEq, Serialize)]
struct Verdict {
    metric: String,
    pass: bool,
    value: Option<f64>,
    below: Option<f64>,
    above: Option<f64>,
}

impl Verdict {
    fn line(&self) -> String {
        let limit = match (self.below, self.above) {
            (Some(below), _) => format!("< {below}"),
            (_, Some(above)) => format!("> {above}"),
            (None, None) => String::new(),
        };
        let word = if self.pass { "PASS" } else { "FAIL" };
        match self.value {
            Some(value) => format!("{word} {}: {value} {limit}\n", self.metric),
            None => format!("{word} {}: missing ({limit})\n", self.metric),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let Command::Check(args) = &args.command;
    let text =
        std::fs::read_to_string(&args.limits).with_context(|| format!("cannot read {}", args.limits.display()))?;
    let metrics = metrics(&args.run)?;
    let verdicts = check(&text, &metrics).with_context(|| format!("the limits in {}", args.limits.display()))?;
    let pass = verdicts.iter().all(|verdict| verdict.pass);
    crate::print(&if args.json {
        format!("{}\n", serde_json::json!({ "pass": pass, "limits": verdicts }))
    } else {
        verdicts.iter().map(Verdict::line).collect()
    })?;
    Ok(if pass { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The figures of a run, by name.
fn metrics(path: &PathBuf) -> Result<BTreeMap<String, f64>> {
    let about = || format!("the run in {}", path.display());
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let run: Value = serde_json::from_str(&text).context("it is not JSON").with_context(about)?;
    let metrics = run["metrics"].as_object().context("it has no object `metrics`").with_context(about)?;
    Ok(metrics.iter().filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect())
}

fn check(limits: &str, metrics: &BTreeMap<String, f64>) -> Result<Vec<Verdict>> {
    let Limits { limit: limits } = toml::from_str(limits)?;
    ensure!(!limits.is_empty(), "there is no limit");
    limits.into_iter().map(|limit| judge(limit, metrics)).collect()
}

fn judge(limit: Limit, metrics: &BTreeMap<String, f64>) -> Result<Verdict> {
    let Limit { metric, below, above, .. } = limit;
    let value = metrics.get(&metric).copied().filter(|value| value.is_finite());
    let met = match (below, above) {
        (Some(below), None) => value.map(|value| value < below),
        (None, Some(above)) => value.map(|value| value > above),
        _ => bail!("`{metric}` needs one of `below` and `above`"),
    };
    Ok(Verdict { pass: met.unwrap_or(false), metric, value, below, above })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(limits: &str) -> Vec<Verdict> {
        let metrics = [("a".to_owned(), 5.0), ("b".to_owned(), 7.0)].into();
        check(limits, &metrics).unwrap()
    }

    fn passes(limits: &str) -> Vec<bool> {
        checked(limits).iter().map(|verdict| verdict.pass).collect()
    }

    #[test]
    fn a_limit_is_met_or_not() {
        let both = |a: &str, b: &str| passes(&format!("[[limit]]\nmetric='a'\n{a}\n[[limit]]\nmetric='b'\n{b}\n"));
        assert_eq!(both("below=5.1", "above=6.9"), [true, true]);
        assert_eq!(both("below=5.0", "above=7.0"), [false, false]);
        assert_eq!(both("below=4.9", "above=7.1"), [false, false]);
    }

    #[test]
    fn what_is_missing_fails_and_says_so() {
        let verdicts = checked("[[limit]]\nmetric='c'\nbelow=1e9");
        assert_eq!((verdicts[0].pass, verdicts[0].value), (false, None));
        assert_eq!(verdicts[0].line(), "FAIL c: missing (< 1000000000)\n");
    }

    #[test]
    fn nonsense_is_refused() {
        for (limits, word) in [
            ("limit = []", "no limit"),
            ("[[limit]]\nmetric='a'", "`a` needs"),
            ("[[limit]]\nmetric='a'\nbelow=1\nabove=1", "`a` needs"),
            ("[[limit]]\nmetric='a'\nbellow=1", "bellow"),
        ] {
            let error = format!("{:#}", check(limits, &BTreeMap::new()).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }
}
