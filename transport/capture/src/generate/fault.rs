//! Owns what befalls the records of one message on their way: which are sent when, and what each is by the definitions of
//! docs/CAPTURES.md. Two faults never touch the same record, so that each is just what was meant.
//!
//! A slice proves nothing without the others of its record, so a gap is all of a spanning record, slices change places within theirs, and
//! none is replayed: whether a capture's reader can still open what it is of depends on how much the reader remembers. [P-4.6]

use core::ops::Range;

use wire::geometry::Geometry;

use super::Plan;
use super::rng::Rng;
use crate::counts::What;

/// Most records of a gap.
const GAP_MAX: u64 = 3;

/// One record on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Which.
    pub(super) index: u16,
    /// 0, or 1: sent again by the next attempt.
    pub(super) attempt: u8,
    /// What it is.
    pub(super) what: What,
}

/// What befalls a message.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// In this order.
    pub(super) steps: Vec<Step>,
    /// Runs that never come, with their lengths.
    pub(super) gaps: Vec<(u16, u32)>,
    /// Records that come again once the message is over.
    pub(super) replays: Vec<u16>,
    /// What the next attempt sends again, before it stands in `steps`.
    again: Vec<Step>,
}

impl Fate {
    /// Of a message of one record that nothing befalls.
    pub(super) fn plain() -> Self {
        let mut fate = Self::default();
        fate.sent(0, What::Record);
        fate
    }

    /// Of a message of so many records, none of which span packets.
    pub(super) fn draw(plan: &Plan, rng: &mut Rng, records: u16) -> Self {
        let mut fate = Self::default();
        let mut index = 0;
        while index < records {
            let left = records - index;
            // Something of each message is there: one of which there is nothing cannot be told from one that never was.
            let may_lose = left > 1 || !fate.steps.is_empty();
            if records > 1 && may_lose && rng.chance(plan.gap_rate) {
                let most = u64::from(if fate.steps.is_empty() { left - 1 } else { left });
                let len = 1 + rng.below(GAP_MAX.min(most)) as u16;
                fate.gaps.push((index, u32::from(len)));
                index += len;
                // After a gap comes a record, or it would be a longer one.
                if index < records {
                    fate.sent(index, What::Record);
                    index += 1;
                }
                continue;
            }
            index += fate.arrives(plan, rng, index..records, records);
        }
        fate.end(plan, rng, |_| true)
    }

    /// Of a message in records that span packets, cut like `geometry`.
    pub(super) fn draw_spanning(plan: &Plan, rng: &mut Rng, geometry: Geometry) -> Self {
        let mut fate = Self::default();
        let records = geometry.records() as u16;
        // The first record says what its slices are, so it is always there; and after a gap comes a record, or it would be a longer one.
        let (mut may_lose, mut index) = (false, 0);
        while index < records {
            let end = geometry.sealed_with(index).end as u16;
            if may_lose && rng.chance(plan.gap_rate) {
                fate.gaps.push((index, u32::from(end - index)));
                (may_lose, index) = (false, end);
                continue;
            }
            may_lose = true;
            while index < end {
                index += fate.arrives(plan, rng, index..end, records);
            }
        }
        fate.end(plan, rng, |index| !geometry.is_sliced(index))
    }

    fn sent(&mut self, index: u16, what: What) {
        self.steps.push(Step { index, attempt: 0, what });
    }

    /// The first of these records arrives, of a message of so many; perhaps after the second. How many did.
    fn arrives(&mut self, plan: &Plan, rng: &mut Rng, these: Range<u16>, records: u16) -> u16 {
        let index = these.start;
        if these.len() > 1 && rng.chance(plan.reorder) {
            self.sent(index + 1, What::Record);
            self.sent(index, What::OutOfOrder);
            return 2;
        }
        self.sent(index, What::Record);
        if rng.chance(plan.dup) {
            self.sent(index, What::Duplicate);
        } else if records > 1 && rng.chance(plan.retransmit) {
            self.again.push(Step { index, attempt: 1, what: What::Retransmission });
        }
        1
    }

    /// What comes after the first attempt, and which of the records that may be are replayed.
    fn end(mut self, plan: &Plan, rng: &mut Rng, may_replay: impl Fn(u16) -> bool) -> Self {
        // A gap that is sent again is none; all of it is, or it would be two.
        if plan.retransmit > 0.0 {
            self.gaps.retain(|(from, len)| {
                let mended = rng.chance(plan.retransmit);
                if mended {
                    let missing = *from..*from + *len as u16;
                    self.again.extend(missing.map(|index| Step { index, attempt: 1, what: What::Retransmission }));
                }
                !mended
            });
        }
        if self.gaps.is_empty() {
            let firsts = self.steps.iter().filter(|step| step.what == What::Record).map(|step| step.index);
            self.replays = firsts.filter(|index| may_replay(*index) && rng.chance(plan.replay)).collect();
        }
        self.steps.append(&mut self.again);
        self
    }

    /// Packets that it takes.
    pub(super) fn packets(&self) -> u64 {
        (self.steps.len() + self.replays.len()) as u64
    }
}
