//! Owns rules that are broken on purpose, so that the checker can be seen to notice: a checker that never fails proves nothing. For
//! tests; a run has none of it.

use std::sync::atomic::{AtomicU64, Ordering};

use endpoint::events::Event;
use endpoint::pool::Payload;

use crate::checker::Checker;
use crate::fault::Altered;
use crate::hooks::Verdict;
use crate::link::Frame;

/// Which rule is broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// None.
    #[default]
    None,
    /// 1: a record is sealed once more under its number, with other bytes.
    SealAgain,
    /// 1: a control packet's number is used twice.
    RepeatControl,
    /// 2: an application gets a message twice.
    DeliverTwice,
    /// 3: a byte of each longer message is another when it is delivered.
    AlterBody,
    /// 4: a packet that has an effect is called a forged one.
    Slander,
    /// 5: the budget of grants is said to be smaller than it is configured.
    SmallBudget,
    /// 6: answers never reach their callers.
    LoseAnswer,
    /// 7: the cap of what is buffered is said to be smaller than it is configured.
    SmallBuffers,
    /// 8: the network does what depends on more than the seed.
    Whim,
}

/// What differs from run to run.
static WHIM: AtomicU64 = AtomicU64::new(0);

/// Longer than what tells it apart by chance.
const LONG: usize = 100;

impl Sabotage {
    /// A frame as if it had been sealed another time.
    pub(super) fn sealed_again(&mut self, frame: &Frame, checker: &Checker) -> Option<Frame> {
        let kind = match self {
            Self::SealAgain => 1,
            Self::RepeatControl => 2,
            _ => return None,
        };
        if frame.kind() != kind || !checker.is_honest(frame.from) {
            return None;
        }
        *self = Self::None;
        let mut again = frame.clone();
        *again.bytes.last_mut()? ^= 1;
        Some(again)
    }

    pub(super) fn verdict(self) -> Option<Verdict> {
        let whim = self == Self::Whim && WHIM.fetch_add(1, Ordering::Relaxed) == 500;
        whim.then_some(Verdict::Drop)
    }

    pub(super) fn slander(&mut self, frame: &Frame) -> Option<Altered> {
        if *self != Self::Slander || frame.kind() != 1 || frame.bytes.len() < LONG {
            return None;
        }
        *self = Self::None;
        Some(Altered::Sealed)
    }

    pub(super) fn event(self, event: Event) -> Option<Event> {
        match (self, event) {
            (Self::LoseAnswer, Event::Response { .. }) => None,
            (Self::AlterBody, Event::OneWay { id, from, payload }) if payload.len() > LONG => {
                let mut bytes = payload.to_vec();
                bytes[LONG / 2] ^= 1;
                Some(Event::OneWay { id, from, payload: Payload::from(bytes) })
            }
            (_, event) => Some(event),
        }
    }

    pub(super) fn tells_twice(&mut self, event: &Event) -> bool {
        let twice = *self == Self::DeliverTwice && matches!(event, Event::OneWay { .. });
        if twice {
            *self = Self::None;
        }
        twice
    }
}
