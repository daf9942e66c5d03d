//! Owns what a model saw of itself: what it sealed, and what was done to it that must not be done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::gcm::NONCE_LEN;

/// Something that software must never do to a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Violation {
    /// A TIS was told anew where it is while bytes for it were on their way, without a fence.
    NotFenced,
    /// One TIS was fed by two queues, between which there is no order.
    TwoQueues,
    /// A TIS was told where it is before it was told its key, or fed in between.
    NotPrepared,
    /// A mailbox, descriptor or object that is none.
    Malformed,
    /// An object was destroyed that something still names.
    InUse,
}

/// What a model saw.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Records that it sealed to their end, those that it did not send included.
    pub records: u64,
    /// Of these, with another number in the additional data than in the nonce: their tags are wrong.
    pub garbled: u64,
    /// Of these, under a key and nonce that it had sealed with before.
    pub twice: u64,
    /// Headers of records that were none.
    pub malformed: u64,
    /// Packets that it sent unsealed although a TIS was named.
    pub in_clear: u64,
    /// Frames that it sent.
    pub frames: u64,
    /// Descriptors that it read.
    pub descriptors: u64,
    /// Building blocks of these.
    pub blocks: u64,
    /// Times that a TIS was told where it is.
    pub positioned: u64,
    /// What was done to it, and how often.
    pub violations: HashMap<Violation, u64>,
    /// Which key each key object has.
    pub(super) keys: HashMap<u32, u32>,
    used: HashMap<(u32, [u8; NONCE_LEN]), u32>,
}

impl Report {
    pub(super) fn sealed(&mut self, dek: u32, nonce: [u8; NONCE_LEN], garbled: bool) {
        self.records += 1;
        self.garbled += u64::from(garbled);
        let key = self.keys.get(&dek).copied().unwrap_or(u32::MAX);
        let used = self.used.entry((key, nonce)).or_default();
        *used += 1;
        self.twice += u64::from(*used == 2);
    }

    pub(super) fn violation(&mut self, what: Violation) {
        *self.violations.entry(what).or_default() += 1;
    }
}

/// A model's report, for who has given the model away.
#[derive(Clone, Debug, Default)]
pub struct Witness(Arc<Mutex<Report>>);

impl Witness {
    /// What it saw so far.
    pub fn report(&self) -> Report {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Report) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
