//! What a file of targets says: tables `[[target]]` with a name and what to measure.

use anyhow::{Result, bail, ensure};
use serde::Deserialize;

/// A figure to be measured.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    /// Its name in runs.
    pub(super) name: String,
    pub(super) measure: Measure,
    /// Bytes of a message.
    #[serde(default)]
    pub(super) size: usize,
    /// Numbers of sessions or messages whose slope is taken.
    #[serde(default)]
    pub(super) counts: Vec<usize>,
    /// Which file; default is this program.
    pub(super) path: Option<String>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Measure {
    /// Processor time of an RPC of `size` bytes, both endpoints, without a kernel.
    Rpc,
    /// Instructions of the same, counted by callgrind.
    Instructions,
    /// Bytes of the resident set for each session at rest, both ends: the slope over `counts` sessions.
    Sessions,
    /// The same for each request of `size` bytes that is sent and not answered: the slope over `counts` requests.
    Messages,
    /// Bytes of a file.
    FileSize,
    /// What a server with two threads answers per second, over one with one; each request costs 100 us of processor time.
    Scaling,
}

impl Measure {
    /// The unit of the figure.
    pub(super) const fn unit(self) -> &'static str {
        match self {
            Self::Rpc => "ns of processor time",
            Self::Instructions => "instructions",
            Self::Sessions | Self::Messages | Self::FileSize => "bytes",
            Self::Scaling => "times",
        }
    }

    /// Whether more is better.
    pub(super) const fn is_better_high(self) -> bool {
        matches!(self, Self::Scaling)
    }
}

impl Target {
    /// What exactly is measured: two figures can be compared where this is the same. `counts` are those that a run takes.
    pub(super) fn what(&self, counts: &[usize]) -> String {
        let build = if cfg!(debug_assertions) { "development build" } else { "release build" };
        let Self { size, path, .. } = self;
        match self.measure {
            Measure::Rpc => format!("RPC of {size} B, {build}"),
            Measure::Instructions => format!("RPC of {size} B"),
            Measure::Sessions => format!("sessions, {counts:?}, {build}"),
            Measure::Messages => format!("requests of {size} B, {counts:?}, {build}"),
            Measure::FileSize => path.clone().unwrap_or_else(|| format!("this program, {build}")),
            Measure::Scaling => format!("requests of 100 us, {build}"),
        }
    }

    /// Whether the figure says nothing when another compiler built the code.
    pub(super) fn is_of_a_compiler(&self) -> bool {
        self.measure == Measure::Instructions
    }

    fn check(&self) -> Result<()> {
        let Self { name, measure, size, counts, path } = self;
        ensure!(!name.is_empty(), "a target without a name");
        let wants_counts = matches!(measure, Measure::Sessions | Measure::Messages);
        ensure!(wants_counts != counts.is_empty(), "`{name}`: `counts` are for sessions and messages, which need them");
        ensure!(
            !wants_counts || counts.len() > 1 && counts.is_sorted_by(|a, b| a < b) && counts[0] > 0,
            "`{name}`: `counts` must be two or more, rising"
        );
        ensure!(path.is_none() || *measure == Measure::FileSize, "`{name}`: `path` is for file-size");
        if !matches!(measure, Measure::Rpc | Measure::Instructions | Measure::Messages) && *size != 0 {
            bail!("`{name}`: `size` is for messages");
        }
        Ok(())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Targets {
    target: Vec<Target>,
}

/// Reads a file of targets.
pub(super) fn read(text: &str) -> Result<Vec<Target>> {
    let Targets { target: targets } = toml::from_str(text)?;
    for (at, target) in targets.iter().enumerate() {
        target.check()?;
        ensure!(targets[..at].iter().all(|other| other.name != target.name), "`{}` stands there twice", target.name);
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_this_repository_can_be_read() {
        let targets = read(include_str!("../../../../benches/targets.toml")).unwrap();
        assert!(targets.iter().any(Target::is_of_a_compiler));
    }

    #[test]
    fn nonsense_is_named() {
        for (text, word) in [
            ("[[target]]\nname='a'\nmeasure='luck'", "luck"),
            ("[[target]]\nname='a'\nmeasure='rpc'\n[[target]]\nname='a'\nmeasure='rpc'", "`a` stands"),
            ("[[target]]\nname='a'\nmeasure='sessions'", "`a`: `counts`"),
            ("[[target]]\nname='a'\nmeasure='sessions'\ncounts=[5,5]", "`a`: `counts`"),
            ("[[target]]\nname='a'\nmeasure='rpc'\ncounts=[1,2]", "`a`: `counts`"),
            ("[[target]]\nname='a'\nmeasure='scaling'\nsize=4", "`a`: `size`"),
            ("[[target]]\nname='a'\nmeasure='rpc'\npath='x'", "`a`: `path`"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }
}
