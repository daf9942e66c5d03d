//! What a session and a message under way hold: the slope of the resident set over how many there are, in a process made for each sample,
//! since what an earlier one had freed would be taken again.
//!
//! The resident set is what the machine must have: it counts what the allocator keeps beside what was asked for. `peers memory` counts the
//! heap alone, by side, and names who asked for it.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use micro::Crowd;

use super::spec::{Measure, Target};

/// The hidden first argument that makes this program such a process: then `sessions` or `messages`, bytes of a message, and counts.
const SUBCOMMAND: &str = "targets-memory";

/// One sample: bytes for each.
pub(super) fn slope(target: &Target, counts: &[usize]) -> Result<f64> {
    let program = std::env::current_exe().context("where this program is")?;
    let what = if target.measure == Measure::Sessions { "sessions" } else { "messages" };
    let numbers = [target.size].into_iter().chain(counts.iter().copied()).map(|number| number.to_string());
    let said = Command::new(program).args([SUBCOMMAND, what]).args(numbers).output().context("a process to look at")?;
    ensure!(said.status.success(), "it failed: {}", String::from_utf8_lossy(&said.stderr).trim());
    let resident: Vec<f64> = serde_json::from_slice(&said.stdout).context("what it said")?;
    ensure!(resident.len() == counts.len(), "it looked {} times, not {}", resident.len(), counts.len());
    let counts: Vec<f64> = counts.iter().map(|count| *count as f64).collect();
    Ok(least_squares(&counts, &resident))
}

/// The slope of the straight line that is closest to the points.
fn least_squares(x: &[f64], y: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let both: f64 = x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    both / x.iter().map(|x| (x - mean_x).powi(2)).sum::<f64>()
}

/// Is the process, if that is what this one was started for.
pub(crate) fn main_from_args(mut args: impl Iterator<Item = String>) -> Option<Result<()>> {
    (args.next().as_deref() == Some(SUBCOMMAND)).then(|| look(args))
}

fn look(mut args: impl Iterator<Item = String>) -> Result<()> {
    let what = args.next().context("sessions or messages")?;
    let mut numbers = args.map(|number| number.parse::<usize>().with_context(|| format!("`{number}`")));
    let size = numbers.next().context("bytes of a message")??;
    let mut crowd = Crowd::default();
    let mut resident = Vec::new();
    for count in numbers {
        match what.as_str() {
            "sessions" => crowd.grow(count?),
            _ => {
                crowd.grow(1);
                crowd.hold(size, count?);
            }
        }
        let pages = std::fs::read_to_string("/proc/self/statm")?;
        let pages: u64 = pages.split(' ').nth(1).context("pages")?.parse()?;
        resident.push((pages * rustix::param::page_size() as u64) as f64);
    }
    crate::print(&format!("{}\n", serde_json::to_string(&resident)?))?;
    // Taking all of it apart is not what is looked at.
    std::process::exit(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope() {
        assert!((least_squares(&[1.0, 10.0, 100.0], &[1005.0, 1050.0, 1500.0]) - 5.0).abs() < 1e-9);
    }
}
