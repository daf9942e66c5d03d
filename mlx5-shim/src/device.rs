//! Owns the seam: all that the engine asks of a card, real or modelled. Create, post, ring the doorbell, see what is complete.
//!
//! Bytes cross it: mailboxes, descriptors, completions. So whatever the engine gets wrong is wrong at the card too.

use std::fmt;

use crate::cmd::Caps;
use crate::cqe::Completion;
use crate::error::Failed;

/// An object that the firmware made. Not `Clone`: it is destroyed once.
#[derive(Debug, PartialEq, Eq)]
pub struct Object {
    /// Its number, as descriptors and mailboxes name it.
    pub number: u32,
    /// The device's own name for it.
    pub handle: u64,
}

/// A queue that frames leave by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The device's own name for it.
    pub handle: usize,
    /// Its number, as descriptors name it.
    pub number: u32,
    /// Building blocks in its ring, a power of two.
    pub blocks: u32,
}

/// Memory that the card can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where it begins, as descriptors name it.
    pub address: u64,
    /// The key of its registration.
    pub lkey: u32,
    /// Bytes.
    pub len: usize,
}

/// A card.
pub trait Device: fmt::Debug + Send {
    /// What it is called.
    fn name(&self) -> &str;

    /// What its firmware can do.
    fn caps(&self) -> Caps;

    /// The protection domain that keys and TIS are to be made in.
    fn pd(&self) -> u32;

    /// Has the firmware make an object.
    ///
    /// # Errors
    /// When it does not.
    fn create(&mut self, mailbox: &[u8]) -> Result<Object, Failed>;

    /// Has the firmware destroy an object that nothing which is under way names.
    fn destroy(&mut self, object: Object);

    /// Makes a queue of at least so many building blocks.
    ///
    /// # Errors
    /// When that fails.
    fn open_queue(&mut self, blocks: u32) -> Result<Queue, Failed>;

    /// The memory that it can read.
    fn region(&self) -> Region;

    /// The bytes of that memory. The card reads what descriptors point to between their doorbell and their completion: until then
    /// these must not be written.
    fn memory(&mut self) -> &mut [u8];

    /// Writes a descriptor's building blocks into a ring, from block `index` on. Nothing happens before the doorbell.
    ///
    /// # Errors
    /// When there is no such queue.
    fn post(&mut self, queue: Queue, index: u16, blocks: &[u8]) -> Result<(), Failed>;

    /// Tells the card that all up to block `produced` is posted; `last` is where the last descriptor begins.
    ///
    /// # Errors
    /// When there is no such queue, or it has stopped.
    fn doorbell(&mut self, queue: Queue, produced: u16, last: u16) -> Result<(), Failed>;

    /// What the card has completed, if anything: the oldest that was not asked for yet.
    fn complete(&mut self, queue: Queue) -> Option<Completion>;

    /// Empties a queue, stopped or not, and starts it again at index 0, maybe under another number. No TIS that it fed knows anything then.
    ///
    /// # Errors
    /// When it cannot be started.
    fn reset_queue(&mut self, queue: Queue) -> Result<Queue, Failed>;

    /// A frame that it has no wire for, oldest first, written over `frame`. `false` when there is none: a real card's go out by themselves.
    fn next_frame(&mut self, frame: &mut Vec<u8>) -> bool {
        let _ = frame;
        false
    }
}

impl<D: Device + ?Sized> Device for Box<D> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn caps(&self) -> Caps {
        (**self).caps()
    }

    fn pd(&self) -> u32 {
        (**self).pd()
    }

    fn create(&mut self, mailbox: &[u8]) -> Result<Object, Failed> {
        (**self).create(mailbox)
    }

    fn destroy(&mut self, object: Object) {
        (**self).destroy(object);
    }

    fn open_queue(&mut self, blocks: u32) -> Result<Queue, Failed> {
        (**self).open_queue(blocks)
    }

    fn region(&self) -> Region {
        (**self).region()
    }

    fn memory(&mut self) -> &mut [u8] {
        (**self).memory()
    }

    fn post(&mut self, queue: Queue, index: u16, blocks: &[u8]) -> Result<(), Failed> {
        (**self).post(queue, index, blocks)
    }

    fn doorbell(&mut self, queue: Queue, produced: u16, last: u16) -> Result<(), Failed> {
        (**self).doorbell(queue, produced, last)
    }

    fn complete(&mut self, queue: Queue) -> Option<Completion> {
        (**self).complete(queue)
    }

    fn reset_queue(&mut self, queue: Queue) -> Result<Queue, Failed> {
        (**self).reset_queue(queue)
    }

    fn next_frame(&mut self, frame: &mut Vec<u8>) -> bool {
        (**self).next_frame(frame)
    }
}
