//! Owns the fault of queues: a card that works them in another order than they were rung for, and words and data for a context that come by a
//! queue which is not its own. Between queues there is no order, so at a card such words and data tear.

use crate::bytes::put_u32;
use crate::device::Queue;
use crate::wqe::{Body, Opcode, View};

/// Of so many times that a context is told where it is, once another queue's is told instead.
const CROSS_EVERY: u64 = 61;
/// Of so many doorbells one comes late.
const LATE_EVERY: u64 = 3;
/// How often is looked for completions before it comes.
const LOOKS: u32 = 2;

/// A plan that takes another queue's context.
#[derive(Clone, Copy, Debug)]
struct Crossing {
    queue: usize,
    from: u32,
    to: u32,
    /// What tells the context where it is crosses as well, not the data alone.
    whole: bool,
}

/// A doorbell that the card has not heard yet.
#[derive(Clone, Copy, Debug)]
struct Late {
    queue: Queue,
    produced: u16,
    last: u16,
    looks: u32,
    overtaken: bool,
}

/// What becomes of queues.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// The queue by which each context was told where it is.
    homes: Vec<(u32, usize)>,
    resyncs: u64,
    crossings: u64,
    crossing: Option<Crossing>,
    rung: u64,
    late: Option<Late>,
}

impl Queues {
    /// Changes a descriptor that is posted. Whether that is the first one of a plan which takes another queue's context.
    pub(super) fn cross(&mut self, queue: Queue, view: &View<'_>, bytes: &mut [u8]) -> bool {
        let mut strikes = false;
        if matches!(view.body, Body::Static(_)) {
            strikes = self.is_told(view.control.tis, queue.handle);
        }
        let Some(Crossing { from, to, whole, .. }) = self.crossing.filter(|crossing| crossing.queue == queue.handle)
        else {
            return false;
        };
        let named = match view.body {
            Body::Progress { tis } => tis,
            _ => view.control.tis,
        };
        let is_data = matches!(view.body, Body::Send { .. } | Body::Dump(_));
        if named == from && (whole || is_data) {
            let at_progress = bytes[3] == Opcode::Progress as u8;
            put_u32(bytes, if at_progress { 16 } else { 12 }, if at_progress { to } else { to << 8 });
        }
        if view.control.signal {
            self.crossing = None;
        }
        strikes
    }

    /// A context is told where it is. Whether the plan that does so takes another one.
    fn is_told(&mut self, tis: u32, queue: usize) -> bool {
        match self.homes.iter_mut().find(|(known, _)| *known == tis) {
            Some(home) => home.1 = queue,
            None => self.homes.push((tis, queue)),
        }
        self.resyncs += 1;
        let to =
            self.homes.iter().find(|(_, home)| *home != queue).filter(|_| self.resyncs.is_multiple_of(CROSS_EVERY));
        let Some((to, _)) = to.copied() else { return false };
        self.crossings += 1;
        self.crossing = Some(Crossing { queue, from: tis, to, whole: !self.crossings.is_multiple_of(2) });
        true
    }

    /// What was posted was refused: the plan ends.
    pub(super) fn refused(&mut self) {
        self.crossing = None;
    }

    /// Whether a doorbell is to be heard now.
    pub(super) fn is_heard(&mut self, queue: Queue, produced: u16, last: u16) -> bool {
        if let Some(late) = &mut self.late {
            let same = late.queue.handle == queue.handle;
            if same {
                (late.produced, late.last) = (produced, last);
            }
            late.overtaken |= !same;
            return !same;
        }
        self.rung += 1;
        let is_late = self.rung.is_multiple_of(LATE_EVERY);
        self.late = is_late.then_some(Late { queue, produced, last, looks: 0, overtaken: false });
        !is_late
    }

    /// After a look for completions: the doorbell that is heard at last, and whether a later one of another queue was heard before.
    pub(super) fn comes(&mut self) -> Option<((Queue, u16, u16), bool)> {
        let late = self.late.as_mut()?;
        late.looks += 1;
        let Late { queue, produced, last, overtaken, .. } = self.late.take_if(|late| late.looks == LOOKS)?;
        Some(((queue, produced, last), overtaken))
    }

    /// A queue was emptied.
    pub(super) fn emptied(&mut self, queue: Queue) {
        self.homes.retain(|(_, home)| *home != queue.handle);
        self.late.take_if(|late| late.queue.handle == queue.handle);
        self.crossing = None;
    }
}
