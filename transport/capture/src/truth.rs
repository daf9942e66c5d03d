//! Owns truth files: what is in a capture, as its maker knew beforehand, and the comparison with what was found.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

use crate::analyze::rpc_name;
use crate::counts::{Counts, Event, SealedCounts, What, Which};
use crate::error::Error;

/// Differences that are told one by one.
const TOLD_MAX: usize = 20;

/// Something that happened to a message, without its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What.
    pub what: What,
    /// To which message.
    #[serde(flatten)]
    pub which: Which,
    /// Which record; the first of a gap.
    pub index: u16,
    /// How many records a gap has; else 0.
    pub len: u32,
}

impl Fault {
    /// What an event is, if it is a fault.
    pub fn of(event: &Event) -> Option<Self> {
        let Event { which, index, what, value, .. } = *event;
        what.is_fault().then_some(Self { what, which, index, len: if what == What::Gap { value } else { 0 } })
    }
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { what, which: Which { session, steer, rpc, bundle }, index, len } = self;
        write!(f, "{} at record {index} of ", what.name())?;
        write!(f, "{} {}", if *bundle { "the bundle led by" } else { "message" }, rpc_name(*rpc))?;
        write!(f, " to session {session:016x}, lane {steer:04x}")?;
        if *what == What::Gap { write!(f, ", {len} records") } else { Ok(()) }
    }
}

/// A truth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    /// Digest of the first packet, so that no capture is measured by the truth of another.
    pub first: String,
    /// What is counted.
    pub counts: Counts,
    /// What only a key log tells.
    pub sealed: SealedCounts,
    /// Each thing that is not as it should be.
    pub faults: Vec<Fault>,
}

/// As it stands in a truth.
pub fn digest_name(digest: u64) -> String {
    format!("{digest:016x}")
}

impl Truth {
    /// Reads a truth file.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(input: impl Read) -> Result<Self, Error> {
        let mut truth: Self = serde_json::from_reader(input).map_err(Error::Truth)?;
        truth.faults.sort_unstable();
        Ok(truth)
    }

    /// Writes one.
    ///
    /// # Errors
    /// The output's.
    pub fn write(&self, output: impl Write) -> std::io::Result<()> {
        Ok(serde_json::to_writer(output, self)?)
    }

    /// Each difference between this and what was found, in a sentence; none when all is as it was made. The faults that were found are in
    /// any order.
    ///
    /// # Errors
    /// When this is the truth of another capture.
    pub fn differences(
        &self,
        first: u64,
        counts: &Counts,
        sealed: Option<&SealedCounts>,
        mut found: Vec<Fault>,
    ) -> Result<Vec<String>, Error> {
        let ours = digest_name(first);
        if ours != self.first {
            return Err(Error::OtherCapture { theirs: self.first.clone(), ours });
        }
        let mut told = Vec::new();
        let mut compare = |truth: &mut dyn Iterator<Item = (&'static str, u64)>,
                           found: &mut dyn Iterator<Item = (&'static str, u64)>| {
            for ((name, truth), (_, found)) in truth.zip(found).filter(|(a, b)| a.1 != b.1) {
                told.push(format!("{name}: {found} were found, {truth} is the truth"));
            }
        };
        compare(&mut self.counts.each(), &mut counts.each());
        if let Some(sealed) = sealed {
            compare(&mut self.sealed.each(), &mut sealed.each());
        }
        found.sort_unstable();
        let mut balance: BTreeMap<&Fault, i64> = BTreeMap::new();
        found.iter().for_each(|fault| *balance.entry(fault).or_default() += 1);
        self.faults.iter().for_each(|fault| *balance.entry(fault).or_default() -= 1);
        let wrong: Vec<_> = balance.into_iter().filter(|(_, n)| *n != 0).collect();
        for (fault, n) in wrong.iter().take(TOLD_MAX) {
            told.push(format!("{}: {fault}", if *n > 0 { "found, and not true" } else { "true, and not found" }));
        }
        if wrong.len() > TOLD_MAX {
            told.push(format!("and {} more", wrong.len() - TOLD_MAX));
        }
        Ok(told)
    }
}
