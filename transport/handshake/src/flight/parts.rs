//! Owns what a flight is made of.

use crate::assembly::Assembly;
use crate::error::Alert;

/// One stream on its way out, and its counterpart on its way in.
pub(super) struct Stream {
    pub(super) out: Vec<u8>,
    pub(super) acked: usize,
    pub(super) next: usize,
    pub(super) sent: usize,
    pub(super) inward: Assembly,
}

impl Stream {
    pub(super) const fn new(inward_max: usize) -> Self {
        Self { out: Vec::new(), acked: 0, next: 0, sent: 0, inward: Assembly::new(inward_max) }
    }
}

/// An alert on its way out: once, and once more for each packet that shows that the other side has not heard it.
pub(super) struct AlertOut {
    pub(super) alert: Alert,
    pub(super) due: bool,
}

/// Bytes of an address that is not proven.
#[derive(Default)]
pub(super) struct Credit {
    pub(super) received: usize,
    pub(super) sent: usize,
}

impl super::Flight {
    /// Bytes of the other side's streams that it holds.
    pub(crate) fn buffered(&self) -> usize {
        self.streams.iter().map(|stream| stream.inward.buffered()).sum()
    }
}
