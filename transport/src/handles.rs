//! Owns what a socket gives out that does something by living: a batch, and a descriptor.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use udp::poll::Set;

use crate::waiting::Shared;

/// As long as it lives, messages wait for company: see [`crate::Socket::batch`].
#[must_use = "dropped at once, it does nothing"]
pub struct Batch<'a>(pub(crate) &'a Shared);

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({})", self.0.local)
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if self.0.is_forked() {
            return;
        }
        let mut core = self.0.lock();
        core.corks -= 1;
        core.flush_waiting();
        core.file();
        core.arm_outside();
    }
}

/// A descriptor to poll: readable when [`crate::Socket::try_recv`] should be called.
#[derive(Debug)]
pub struct Readiness(pub(crate) Arc<Set>);

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }
}
