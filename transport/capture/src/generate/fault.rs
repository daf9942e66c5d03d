//! Owns what befalls the records of one message on their way: which are sent when, and what each is by the definitions of
//! docs/CAPTURES.md. Two faults never touch the same record, so that each is just what was meant.

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
}

impl Fate {
    /// Of a message of so many records.
    pub(super) fn draw(plan: &Plan, rng: &mut Rng, records: u16) -> Self {
        let mut fate = Self::default();
        let step = |index, what| Step { index, attempt: 0, what };
        let mut again = Vec::new();
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
                    fate.steps.push(step(index, What::Record));
                    index += 1;
                }
                continue;
            }
            if left > 1 && rng.chance(plan.reorder) {
                fate.steps.push(step(index + 1, What::Record));
                fate.steps.push(step(index, What::OutOfOrder));
                index += 2;
                continue;
            }
            fate.steps.push(step(index, What::Record));
            if rng.chance(plan.dup) {
                fate.steps.push(step(index, What::Duplicate));
            } else if records > 1 && rng.chance(plan.retransmit) {
                again.push(Step { index, attempt: 1, what: What::Retransmission });
            }
            index += 1;
        }
        // A gap that is sent again is none; all of it is, or it would be two.
        if plan.retransmit > 0.0 {
            fate.gaps.retain(|(from, len)| {
                let mended = rng.chance(plan.retransmit);
                if mended {
                    let missing = *from..*from + *len as u16;
                    again.extend(missing.map(|index| Step { index, attempt: 1, what: What::Retransmission }));
                }
                !mended
            });
        }
        if fate.gaps.is_empty() {
            let firsts = fate.steps.iter().filter(|step| step.what == What::Record).map(|step| step.index);
            fate.replays = firsts.filter(|_| rng.chance(plan.replay)).collect();
        }
        fate.steps.extend(again);
        fate
    }

    /// Packets that it takes.
    pub(super) fn packets(&self) -> u64 {
        (self.steps.len() + self.replays.len()) as u64
    }
}
