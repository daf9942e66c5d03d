//! Owns what the helper thread sleeps on: the network while it leads, and a bell that others set.
//!
//! Who takes the lead from a sleeping helper takes the network out of what it sleeps on, and sets the bell. So nobody wakes a thread only
//! to tell it that it is not needed: that cost every call after a pause about 100 us of processor time, at the worst moment.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use udp::poll::{Set, Timer, wait_readable};

/// One thread sleeps here, any may set the bell.
#[derive(Debug)]
pub(crate) struct Bell {
    /// The network's descriptor while the helper leads, else nothing.
    network: Set,
    timer: Timer,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { network: Set::new()?, timer: Timer::new()? })
    }

    /// Whether what arrives at `network` ends the sleep.
    pub(crate) fn watch(&self, network: BorrowedFd<'_>, on: bool) -> io::Result<()> {
        if on { self.network.add(network) } else { self.network.remove(network) }
    }

    /// The sleep ends after so long at the latest, whatever was set before.
    pub(crate) fn ring_in(&self, after: Duration) {
        // Fails for descriptors that are none, and this is one.
        let _ = self.timer.arm(Some(after));
    }

    /// Sleeps until the bell rings, time is over or, with `network`, something is there.
    pub(crate) fn sleep(&self, network: bool, most: Option<Duration>) {
        let both = [self.timer.fd(), self.network.fd()];
        let watched = if network { &both[..] } else { &both[..1] };
        // A failed wait is a short one: the helper looks again in any case.
        if wait_readable(watched, most).is_ok_and(|ready| ready.has(0)) {
            self.timer.drain();
        }
    }
}
