//! From samples to figures, and from two runs to a standing.
//!
//! Medians are compared: one sample that something else disturbed does not decide. Mean, deviation and their quotient, the coefficient of
//! variation, are told beside them; where that is above a tenth, so is a warning.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use load::Environment;
use serde::{Deserialize, Serialize};

use super::spec::Target;

/// A coefficient of variation above this is told.
const COV_MAX: f64 = 0.1;

/// Shares that a figure may be worse by.
const FINE: f64 = 0.05;
const BEARABLE: f64 = 0.10;

/// What a target gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Figure {
    pub(super) name: String,
    /// What was measured. Figures of other things are not compared, whatever their names.
    pub(super) what: String,
    pub(super) unit: String,
    /// More is better; else less.
    pub(super) better_high: bool,
    /// It says nothing beside one of another compiler.
    pub(super) of_a_compiler: bool,
    pub(super) samples: Vec<f64>,
    pub(super) median: f64,
    pub(super) mean: f64,
    pub(super) deviation: f64,
    pub(super) cov: f64,
    /// Whether `cov` is above a tenth.
    pub(super) noisy: bool,
}

impl Figure {
    pub(super) fn of(target: &Target, what: String, samples: Vec<f64>) -> Self {
        Self {
            unit: target.measure.unit().to_owned(),
            better_high: target.measure.is_better_high(),
            of_a_compiler: target.is_of_a_compiler(),
            ..Self::new(&target.name, &what, samples)
        }
    }

    /// Less is better, in nanoseconds, with any compiler.
    pub(super) fn new(name: &str, what: &str, samples: Vec<f64>) -> Self {
        let count = samples.len().max(1) as f64;
        let mean = samples.iter().sum::<f64>() / count;
        // Of a sample: one is missing in the divisor.
        let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
        let deviation = (squares / (count - 1.0).max(1.0)).sqrt();
        let cov = if mean == 0.0 { 0.0 } else { deviation / mean.abs() };
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() {
            0 => 0.0,
            odd if odd % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };
        Self {
            name: name.to_owned(),
            what: what.to_owned(),
            unit: "ns".to_owned(),
            better_high: false,
            of_a_compiler: false,
            samples,
            median,
            mean,
            deviation,
            cov,
            noisy: cov > COV_MAX,
        }
    }
}

/// All figures of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) targets: Vec<Figure>,
    /// The medians by name, for `sealane slo`.
    pub(super) metrics: BTreeMap<String, f64>,
    /// Which compiler built the code, where a figure depends on it.
    pub(super) compiler: Option<String>,
    pub(super) environment: Environment,
}

impl Run {
    pub(super) fn new(targets: Vec<Figure>, of_a_compiler: bool) -> Result<Self> {
        let metrics = targets.iter().map(|figure| (figure.name.clone(), figure.median)).collect();
        let compiler = if of_a_compiler { Some(compiler()?) } else { None };
        Ok(Self { targets, metrics, compiler, environment: Environment::new(None, 1, 0) })
    }

    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "{:<24}{:>14}{:>14}{:>12}{:>7}{:>9}  unit\n",
            "target", "median", "mean", "deviation", "CoV %", "samples"
        );
        for figure in &self.targets {
            let Figure { name, unit, median, mean, deviation, samples, .. } = figure;
            // One sample does not scatter, and does not tell that it would not.
            let cov = if samples.len() > 1 { format!("{:.1}", figure.cov * 100.0) } else { "-".to_owned() };
            let noisy = if figure.noisy { "; WARNING: it scatters" } else { "" };
            // A string takes everything.
            let _ = writeln!(
                text,
                "{name:<24}{median:>14.2}{mean:>14.2}{deviation:>12.2}{cov:>7}{:>9}  {unit}{noisy}",
                samples.len()
            );
        }
        text
    }
}

fn compiler() -> Result<String> {
    let said = Command::new("rustc").arg("--version").output().context("asking rustc for its version")?;
    ensure!(said.status.success(), "rustc does not say its version");
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

/// How a figure stands to its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Standing {
    /// As good, better, or worse by no more than 5 %.
    Within5,
    /// Worse by no more than 10 %.
    Within10,
    /// Worse than that, or not there.
    Beyond,
}

impl Standing {
    fn of(worse_by: f64) -> Self {
        match worse_by {
            _ if worse_by <= FINE => Self::Within5,
            _ if worse_by <= BEARABLE => Self::Within10,
            _ => Self::Beyond,
        }
    }

    pub(super) fn code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Within5 => 0,
            Self::Within10 => 1,
            Self::Beyond => 2,
        })
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Within5 => "OK",
            Self::Within10 => "WORSE",
            Self::Beyond => "FAIL",
        }
    }
}

/// One figure beside its baseline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Compared {
    name: String,
    /// Empty: not compared, since another compiler built the code.
    standing: Option<Standing>,
    baseline: f64,
    /// Empty: the run does not have it.
    found: Option<f64>,
    /// Which share it is worse by; below 0 it is better.
    worse_by: Option<f64>,
    noisy: bool,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Comparison {
    /// The worst.
    pub(super) standing: Standing,
    pub(super) targets: Vec<Compared>,
    /// What the run has and the baseline does not.
    pub(super) new: Vec<String>,
    /// Compilers, where they differ: the baseline's and the run's.
    pub(super) compilers: Option<[String; 2]>,
}

/// Holds a run against its baseline.
///
/// # Errors
/// When the baseline is empty, or has a figure that nothing can be compared with, or one of something else than the run's of that name.
pub(super) fn compare(run: &Run, baseline: &Run) -> Result<Comparison> {
    ensure!(!baseline.targets.is_empty(), "the baseline has no figures");
    let compilers = match (&baseline.compiler, &run.compiler) {
        (Some(then), Some(now)) if then != now => Some([then.clone(), now.clone()]),
        _ => None,
    };
    let mut targets = Vec::new();
    // Less than nothing would pass for very good.
    for (figures, which) in [(&baseline.targets, "baseline"), (&run.targets, "run")] {
        for Figure { name, median, .. } in figures {
            ensure!(median.is_finite() && *median > 0.0, "`{name}` is {median} in the {which}");
        }
    }
    for base in &baseline.targets {
        let found = run.targets.iter().find(|figure| figure.name == base.name);
        if let Some(Figure { name, what, unit, .. }) = found {
            let same = *what == base.what && *unit == base.unit;
            ensure!(same, "`{name}` is {what} ({unit}) in the run, and {} ({}) in the baseline", base.what, base.unit);
        }
        let worse_by = found.map(|figure| {
            let change = figure.median / base.median - 1.0;
            if base.better_high { -change } else { change }
        });
        let skipped = compilers.is_some() && base.of_a_compiler && found.is_some();
        let standing = worse_by.filter(|worse| worse.is_finite()).map_or(Standing::Beyond, Standing::of);
        targets.push(Compared {
            name: base.name.clone(),
            standing: (!skipped).then_some(standing),
            baseline: base.median,
            found: found.map(|figure| figure.median),
            worse_by,
            noisy: base.noisy || found.is_some_and(|figure| figure.noisy),
        });
    }
    // Where everything is skipped nothing was held against anything: another compiler must not switch a gate off in silence.
    let standing = targets.iter().filter_map(|target| target.standing).max().unwrap_or(Standing::Beyond);
    let is_new = |figure: &&Figure| baseline.targets.iter().all(|base| base.name != figure.name);
    let new = run.targets.iter().filter(is_new).map(|figure| figure.name.clone()).collect();
    Ok(Comparison { standing, targets, new, compilers })
}

impl Comparison {
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        for Compared { name, standing, baseline, found, worse_by, noisy } in &self.targets {
            let word = standing.map_or("SKIP", Standing::word);
            // A string takes everything.
            let _ = match (found, worse_by) {
                (Some(found), Some(worse)) => {
                    let how = if *worse > 0.0 { "worse" } else { "better" };
                    write!(text, "{word} {name}: {found:.2}, {:.1} % {how} than {baseline:.2}", worse.abs() * 100.0)
                }
                _ => write!(text, "{word} {name}: missing (was {baseline:.2})"),
            };
            text += if *noisy { "; WARNING: it scatters by more than a tenth\n" } else { "\n" };
        }
        for name in &self.new {
            let _ = writeln!(text, "NEW {name}: the baseline does not have it");
        }
        if let Some([then, now]) = &self.compilers {
            let _ = writeln!(text, "instructions are not compared: the baseline is of {then}, this is {now}");
        }
        if self.targets.iter().all(|target| target.standing.is_none()) {
            text += "FAIL nothing was compared: the baseline must be written anew with this compiler\n";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(medians: &[(&str, f64)], better_high: bool) -> Run {
        let figure =
            |(name, median): &(&str, f64)| Figure { better_high, ..Figure::new(name, "a test", vec![*median; 3]) };
        Run::new(medians.iter().map(figure).collect(), false).unwrap()
    }

    fn standing(base: f64, found: f64, better_high: bool) -> Standing {
        compare(&run(&[("a", found)], better_high), &run(&[("a", base)], better_high)).unwrap().standing
    }

    #[test]
    fn five_and_ten_percent_are_the_borders() {
        for (found, wanted) in [
            (80.0, Standing::Within5),
            (104.9, Standing::Within5),
            (105.1, Standing::Within10),
            (109.9, Standing::Within10),
            (112.0, Standing::Beyond),
        ] {
            assert_eq!(standing(100.0, found, false), wanted, "{found}");
            assert_eq!(standing(100.0, 200.0 - found, true), wanted, "{found}");
        }
    }

    #[test]
    fn a_missing_figure_is_beyond_and_a_new_one_is_told() {
        let compared = compare(&run(&[("b", 1.0)], false), &run(&[("a", 1.0)], false)).unwrap();
        assert_eq!((compared.standing, &compared.new[..]), (Standing::Beyond, &["b".to_owned()][..]));
        assert!(compared.table().contains("FAIL a: missing"), "{}", compared.table());
        assert!(compare(&run(&[("a", 1.0)], false), &run(&[], false)).is_err());
        for nonsense in [0.0, -250.0, f64::NAN] {
            for better_high in [false, true] {
                let (good, bad) = (run(&[("a", 1.0)], better_high), run(&[("a", nonsense)], better_high));
                assert!(compare(&good, &bad).is_err() && compare(&bad, &good).is_err(), "{nonsense}");
            }
        }
    }

    #[test]
    fn figures_of_other_things_are_not_compared() {
        let base = run(&[("a", 1.0)], false);
        for change in [|figure: &mut Figure| figure.what.push('s'), |figure: &mut Figure| figure.unit.push('s')] {
            let mut other = base.clone();
            change(&mut other.targets[0]);
            let said = compare(&other, &base).unwrap_err().to_string();
            assert!(said.contains("`a` is a test"), "{said}");
        }
    }

    #[test]
    fn instructions_of_another_compiler_are_not_compared() {
        let of = |median: f64, compiler: &str| {
            let mut run = run(&[("a", median), ("b", 1.0)], false);
            run.targets[0].of_a_compiler = true;
            run.compiler = Some(compiler.to_owned());
            run
        };
        assert_eq!(compare(&of(2.0, "one"), &of(1.0, "one")).unwrap().standing, Standing::Beyond);
        let compared = compare(&of(2.0, "two"), &of(1.0, "one")).unwrap();
        assert_eq!((compared.standing, compared.targets[0].standing), (Standing::Within5, None));
        assert!(compared.table().contains("SKIP a"), "{}", compared.table());
        let alone = |compiler: &str| {
            let mut run = of(1.0, compiler);
            run.targets.truncate(1);
            run
        };
        assert_eq!(compare(&alone("one"), &alone("one")).unwrap().standing, Standing::Within5);
        let compared = compare(&alone("two"), &alone("one")).unwrap();
        assert_eq!(compared.standing, Standing::Beyond);
        assert!(compared.table().contains("nothing was compared"), "{}", compared.table());
    }

    #[test]
    fn samples_become_figures() {
        let figure = |samples: &[f64]| Figure::new("a", "a test", samples.to_vec());
        let four = figure(&[1.0, 2.0, 3.0, 6.0]);
        assert_eq!((four.median, four.mean), (2.5, 3.0));
        assert!((four.deviation - (14.0_f64 / 3.0).sqrt()).abs() < 1e-12 && four.noisy, "{four:?}");
        assert!(!figure(&[100.0, 101.0, 99.0]).noisy && figure(&[5.0]).deviation == 0.0);
    }
}
