//! How each kind of target is measured. Processor time of one thread is the clock where that is possible: it does not count who else used
//! the machine.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use micro::{Pair, Trains};
use rustix::time::{ClockId, clock_gettime};

use super::judge::{Figure, Run};
use super::memory;
use super::spec::{Measure, Target};

/// Processor time of a sample.
const SAMPLE: Duration = Duration::from_millis(30);
/// Samples of processor time; quick, a third.
const SAMPLES: usize = 30;
/// Samples that take turns: so short and so many that what disturbs one lane disturbs all.
const SHORT: Duration = Duration::from_millis(8);
const SHORTS: usize = 100;
/// Samples of what takes long.
const FEW: usize = 3;
/// Most sessions or messages of a quick run.
const QUICK_COUNT_MAX: usize = 10_000;
/// What counts instructions; from the root of the repository.
const COUNT: &str = "benches/count.sh";
/// The shorter of the two runs whose difference is taken, in bytes of messages, and in messages.
const COUNTED_BYTES: usize = 4_000_000;
const COUNTED: std::ops::RangeInclusive<usize> = 60..=2000;
/// Of so many rounds, so many are repeated by the self-test: 12 %.
const SLOWED: (usize, usize) = (25, 3);

/// What a target gives.
pub(super) fn figure(target: &Target, quick: bool) -> Result<Figure> {
    let most = if quick { QUICK_COUNT_MAX } else { usize::MAX };
    let counts: Vec<usize> = target.counts.iter().copied().filter(|count| *count <= most).collect();
    ensure!(counts.len() == target.counts.len() || counts.len() > 1, "a quick run has fewer than two of its `counts`");
    Ok(Figure::of(target, target.what(&counts), samples(target, &counts, quick)?))
}

fn samples(target: &Target, counts: &[usize], quick: bool) -> Result<Vec<f64>> {
    let few = if quick { 1 } else { FEW };
    match target.measure {
        Measure::Rpc => {
            let mut rpc = Rpc::new(target.size, SAMPLE, false);
            Ok((0..if quick { SAMPLES / 3 } else { SAMPLES }).map(|_| rpc.sample()).collect())
        }
        Measure::Instructions => Ok(vec![instructions(target.size)?]),
        Measure::Sessions | Measure::Messages => (0..few).map(|_| memory::slope(target, counts)).collect(),
        Measure::FileSize => {
            let path = match &target.path {
                Some(path) => Path::new(path).to_owned(),
                None => std::env::current_exe()?,
            };
            let about = std::fs::metadata(&path).with_context(|| format!("cannot look at {}", path.display()))?;
            Ok(vec![about.len() as f64])
        }
        Measure::Scaling => {
            let span = Duration::from_millis(if quick { 300 } else { 1000 });
            (0..few).map(|_| scaling(span)).collect()
        }
    }
}

/// Two threads over one.
fn scaling(span: Duration) -> Result<f64> {
    let report = load::cores::measure(&[1, 2], 1, span, &mut |_| ())?;
    let row = report.rows.iter().find(|row| row.shards == 2 && row.handler_us > 0).context("a row of two shards")?;
    Ok(row.ratio_to_one)
}

/// Instructions of an RPC of so many bytes.
fn instructions(size: usize) -> Result<f64> {
    ensure!(Path::new(COUNT).exists(), "{COUNT} is not here: run this from the root of the repository");
    let rounds = (COUNTED_BYTES / size.max(1)).clamp(*COUNTED.start(), *COUNTED.end());
    let said =
        Command::new(COUNT).arg(format!("{size}:{rounds}")).output().with_context(|| format!("cannot run {COUNT}"))?;
    ensure!(said.status.success(), "{COUNT} failed: {}", String::from_utf8_lossy(&said.stderr).trim());
    let text = String::from_utf8_lossy(&said.stdout);
    counted(&text).with_context(|| format!("{COUNT} said `{}`, which is no number of instructions", text.trim()))
}

/// The number at the end of what the script said.
fn counted(text: &str) -> Option<f64> {
    let number: f64 = text.split_whitespace().last()?.parse().ok()?;
    (number.is_finite() && number > 0.0).then_some(number)
}

/// RPCs between two endpoints in memory.
struct Rpc {
    pair: Pair,
    trains: Trains,
    rounds: usize,
    slow: bool,
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

impl Rpc {
    /// As many rounds as take so long.
    fn new(size: usize, time: Duration, slow: bool) -> Self {
        let (pair, trains) = (Pair::new(size), Trains::default());
        let mut rpc = Self { pair, trains, rounds: SLOWED.0, slow: false };
        while rpc.run() < time {
            rpc.rounds *= 2;
        }
        Self { slow, ..rpc }
    }

    fn run(&mut self) -> Duration {
        let begun = processor_time();
        for round in 0..self.rounds {
            self.pair.round(1, &mut self.trains);
            if self.slow && round % SLOWED.0 < SLOWED.1 {
                self.pair.round(1, &mut self.trains);
            }
        }
        processor_time() - begun
    }

    /// Nanoseconds of an RPC.
    fn sample(&mut self) -> f64 {
        self.run().as_nanos() as f64 / self.rounds as f64
    }
}

/// The same figure three times, in turns: twice as it is, once with some of the work done twice. Each turn is held against its own first
/// lane: what else the machine does changes between turns more than within one.
pub(super) fn slowed(series: usize) -> Result<[Run; 3]> {
    let mut ratios = [const { Vec::new() }; 3];
    for _ in 0..series {
        let mut lanes = [false, false, true].map(|slow| Rpc::new(64, SHORT, slow));
        for _ in 0..SHORTS {
            let turn = lanes.each_mut().map(Rpc::sample);
            for (ratios, sample) in ratios.iter_mut().zip(turn) {
                ratios.push(sample / turn[0]);
            }
        }
    }
    let run = |ratios| {
        Run::new(vec![Figure { unit: "times".to_owned(), ..Figure::new("rpc.64", "RPC of 64 B", ratios) }], false)
    };
    let [base, same, slow] = ratios.map(run);
    Ok([base?, same?, slow?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_above_zero_is_a_count() {
        assert_eq!(counted("micro 64: 9840\n"), Some(9840.0));
        for text in ["", "micro 64:", "micro 64: 0", "micro 64: -250", "micro 64: nan"] {
            assert_eq!(counted(text), None, "{text}");
        }
    }
}
