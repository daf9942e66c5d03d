//! Owns faults between the engine and a card: it wraps any card, and alters what crosses the seam, as bytes.
//!
//! Each fault is a mistake that software above the seam could make, or a thing that a card can do, at the worst moment.

mod queues;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bytes::put_u32;
use crate::cmd::Caps;
use crate::cqe::{Completion, Outcome};
use crate::device::{Device, Object, Queue, Region};
use crate::error::Failed;
use crate::wqe::{BLOCK, Body, Control, Descriptor, View};
use queues::Queues;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Of the times that a context is told where it is, each seventh but the first is forgotten: then the card goes on with its own count.
    SkipResync,
    /// The card works queues in another order than they were rung for; and some plans take a context that another queue feeds, with what tells
    /// it where it is or with their data alone.
    ReorderQueues,
    /// What is fed to the card without being sent lacks its last byte.
    ShortDump,
    /// A queue stops with an error in the middle of its work, once: what of it left is not known.
    Reset,
}

impl Fault {
    /// All of them, with their names.
    pub const ALL: [(&str, Self); 4] = [
        ("skip-resync", Self::SkipResync),
        ("reorder-queues", Self::ReorderQueues),
        ("short-dump", Self::ShortDump),
        ("reset", Self::Reset),
    ];
}

/// Of so many resyncs one is forgotten.
const SKIP_EVERY: u64 = 7;
/// Doorbells of data before a queue stops.
const RESET_AFTER: u64 = 40;

/// A card with a fault.
#[derive(Debug)]
pub struct Faulty<D> {
    inner: D,
    fault: Fault,
    /// How often it struck.
    strikes: Arc<AtomicU64>,
    /// It strikes from now on.
    armed: Arc<AtomicU64>,
    /// How often each TIS was told where it is.
    told: HashMap<u32, u64>,
    /// The present one is left out.
    skipping: bool,
    /// What becomes of queues.
    queues: Queues,
    /// Plans that took another queue's context and of which something was refused; doorbells that were overtaken.
    refused: Arc<AtomicU64>,
    overtaken: Arc<AtomicU64>,
    /// Where the descriptors of each queue begin that were posted since its last doorbell.
    posted: HashMap<usize, Vec<u16>>,
    rung: u64,
    stopped: Option<usize>,
    told_stop: bool,
}

/// How often a fault struck, and the switch that lets it.
#[derive(Clone, Debug)]
pub struct Trigger {
    strikes: Arc<AtomicU64>,
    armed: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    overtaken: Arc<AtomicU64>,
}

impl Trigger {
    /// From now on it strikes.
    pub fn arm(&self) {
        self.armed.store(1, Ordering::Relaxed);
    }

    /// How often it did.
    pub fn strikes(&self) -> u64 {
        self.strikes.load(Ordering::Relaxed)
    }

    /// How many descriptors were refused below the fault.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How often a card that works its queues in another order did so.
    pub fn overtaken(&self) -> u64 {
        self.overtaken.load(Ordering::Relaxed)
    }
}

impl<D: Device> Faulty<D> {
    /// `inner` with that fault, which strikes once its trigger is armed.
    pub fn new(inner: D, fault: Fault) -> (Self, Trigger) {
        let trigger = Trigger {
            strikes: Arc::default(),
            armed: Arc::default(),
            refused: Arc::default(),
            overtaken: Arc::default(),
        };
        let this = Self {
            inner,
            fault,
            strikes: Arc::clone(&trigger.strikes),
            armed: Arc::clone(&trigger.armed),
            told: HashMap::new(),
            skipping: false,
            queues: Queues::default(),
            refused: Arc::clone(&trigger.refused),
            overtaken: Arc::clone(&trigger.overtaken),
            posted: HashMap::new(),
            rung: 0,
            stopped: None,
            told_stop: false,
        };
        (this, trigger)
    }

    fn strike(&self) {
        self.strikes.fetch_add(1, Ordering::Relaxed);
    }

    fn is_armed(&self, fault: Fault) -> bool {
        self.fault == fault && self.armed.load(Ordering::Relaxed) != 0
    }

    /// Whether this descriptor, of those that tell a TIS where it is, is to be left out.
    fn leaves_out(&mut self, view: &View<'_>) -> bool {
        let (tis, fixed) = match view.body {
            Body::Static(_) => (view.control.tis, true),
            Body::Progress { tis } => (tis, false),
            _ => return false,
        };
        if !self.is_armed(Fault::SkipResync) {
            return false;
        }
        // The two parts of one resync go together.
        if !fixed && self.skipping {
            self.skipping = false;
            return true;
        }
        let told = self.told.entry(tis).or_default();
        *told += 1;
        let skips = told.is_multiple_of(SKIP_EVERY);
        self.skipping = skips && fixed;
        if skips {
            self.strike();
        }
        skips
    }
}

/// As many blocks of nothing.
fn nothing(control: Control, blocks: u16) -> Vec<u8> {
    let nop = |i| Descriptor::nop(Control { index: control.index.wrapping_add(i), ..control });
    (0..blocks).flat_map(|i| nop(i).bytes().to_vec()).collect()
}

impl<D: Device> Device for Faulty<D> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn pd(&self) -> u32 {
        self.inner.pd()
    }

    fn create(&mut self, mailbox: &[u8]) -> Result<Object, Failed> {
        self.inner.create(mailbox)
    }

    fn destroy(&mut self, object: Object) {
        self.inner.destroy(object);
    }

    fn open_queue(&mut self, blocks: u32) -> Result<Queue, Failed> {
        self.inner.open_queue(blocks)
    }

    fn region(&self) -> Region {
        self.inner.region()
    }

    fn memory(&mut self) -> &mut [u8] {
        self.inner.memory()
    }

    fn post(&mut self, queue: Queue, index: u16, blocks: &[u8]) -> Result<(), Failed> {
        let mut bytes = blocks.to_vec();
        self.posted.entry(queue.handle).or_default().push(index);
        if let Ok(view) = View::parse(blocks) {
            if self.leaves_out(&view) {
                bytes = nothing(view.control, view.blocks);
            }
            if self.is_armed(Fault::ShortDump)
                && let Body::Dump(piece) = view.body
            {
                put_u32(&mut bytes, 16, piece.len - 1);
                self.strike();
            }
            if self.is_armed(Fault::ReorderQueues) && self.queues.cross(queue, &view, &mut bytes) {
                self.strike();
            }
        }
        debug_assert!(bytes.len().is_multiple_of(BLOCK), "whole blocks");
        let posted = self.inner.post(queue, index, &bytes);
        if posted.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            self.queues.refused();
        }
        posted
    }

    fn doorbell(&mut self, queue: Queue, produced: u16, last: u16) -> Result<(), Failed> {
        if self.stopped == Some(queue.handle) {
            return Err(Failed::Broken);
        }
        let posted = self.posted.remove(&queue.handle).unwrap_or_default();
        if self.is_armed(Fault::Reset) && self.strikes.load(Ordering::Relaxed) == 0 {
            self.rung += 1;
            if self.rung >= RESET_AFTER && posted.len() > 1 {
                self.strike();
                self.stopped = Some(queue.handle);
                // All but the last descriptor goes out, and nobody learns of it.
                return self.inner.doorbell(queue, posted[posted.len() - 1], posted[posted.len() - 2]);
            }
        }
        if self.is_armed(Fault::ReorderQueues) && !self.queues.is_heard(queue, produced, last) {
            return Ok(());
        }
        self.inner.doorbell(queue, produced, last)
    }

    fn complete(&mut self, queue: Queue) -> Option<Completion> {
        if self.stopped != Some(queue.handle) {
            let done = self.inner.complete(queue);
            if let Some(((queue, produced, last), overtaken)) = self.queues.comes() {
                self.overtaken.fetch_add(overtaken.into(), Ordering::Relaxed);
                // A queue that has stopped meanwhile says so itself.
                let _ = self.inner.doorbell(queue, produced, last);
            }
            return done;
        }
        while self.inner.complete(queue).is_some() {}
        let first = !std::mem::replace(&mut self.told_stop, true);
        let outcome = Outcome::Failed { syndrome: 5, vendor: 0xf9 };
        first.then_some(Completion { queue: queue.number, index: 0, outcome })
    }

    fn reset_queue(&mut self, queue: Queue) -> Result<Queue, Failed> {
        if self.stopped == Some(queue.handle) {
            self.stopped = None;
        }
        self.posted.remove(&queue.handle);
        self.queues.emptied(queue);
        self.inner.reset_queue(queue)
    }

    fn next_frame(&mut self, frame: &mut Vec<u8>) -> bool {
        self.inner.next_frame(frame)
    }
}
