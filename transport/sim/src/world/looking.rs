//! Owns what a world shows of itself.

use endpoint::endpoint::Endpoint;

use super::World;
use crate::clock::Time;
use crate::fabric::Node;
use crate::hooks::Spec;
use crate::host::Host;
use crate::link::Port;

impl<H> World<H> {
    /// What time it is.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    /// What it is made of.
    #[must_use]
    pub const fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The hosts.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The endpoint of a host that is up.
    #[must_use]
    pub fn endpoint(&self, host: u32) -> Option<&Endpoint> {
        self.hosts[host as usize].endpoint.as_ref()
    }

    /// The ports, and where each leads, in the order of [`crate::fabric::Network::ports`].
    #[must_use]
    pub fn ports(&self) -> &[(Port, Node)] {
        &self.ports
    }

    /// Frames under way, and frames that there ever were.
    #[must_use]
    pub fn frames(&self) -> (usize, u64) {
        (self.frames.in_use(), self.frames.made())
    }
}
