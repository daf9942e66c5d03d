//! Owns what a proxy counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a proxy has done, while it works.
#[derive(Debug, Default)]
pub struct Tally {
    opened: AtomicU64,
    ended: AtomicU64,
    refused: AtomicU64,
    reset: AtomicU64,
    bytes_out: AtomicU64,
    bytes_back: AtomicU64,
}

/// [`Tally`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Connections that were carried, those of now included.
    pub opened: u64,
    /// Of these, those that are over.
    pub ended: u64,
    /// Connections that were not carried: too many, or the target could not be reached.
    pub refused: u64,
    /// Connections that ended by a reset, of either side or because the way between the proxies failed.
    pub reset: u64,
    /// Bytes carried from the entrance to the exit.
    pub bytes_out: u64,
    /// Bytes carried back.
    pub bytes_back: u64,
}

fn add(to: &AtomicU64, count: u64) {
    to.fetch_add(count, Ordering::Relaxed);
}

impl Tally {
    pub(crate) fn open(&self) {
        add(&self.opened, 1);
    }

    pub(crate) fn end(&self, reset: bool) {
        add(&self.reset, u64::from(reset));
        add(&self.ended, 1);
    }

    pub(crate) fn refuse(&self) {
        add(&self.refused, 1);
    }

    pub(crate) fn out(&self, bytes: usize) {
        add(&self.bytes_out, bytes as u64);
    }

    pub(crate) fn back(&self, bytes: usize) {
        add(&self.bytes_back, bytes as u64);
    }

    /// What was counted up to now.
    pub fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            opened: read(&self.opened),
            ended: read(&self.ended),
            refused: read(&self.refused),
            reset: read(&self.reset),
            bytes_out: read(&self.bytes_out),
            bytes_back: read(&self.bytes_back),
        }
    }
}
