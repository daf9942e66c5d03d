//! Owns hosts behind a translator of addresses (NAT): sessions that they began leave from an address of the translator's, which it may
//! change at any time. Then the old one is dead, and their peers hear them from a new one. [P-2.3]
//!
//! Where a host is a server it has its own address, as servers do. So a host has two kinds of addresses at once, and who watches the
//! world says which end of a session a frame is from.

use super::World;
use crate::hooks::{Hooks, Lost};
use crate::link::Frame;

impl<H: Hooks> World<H> {
    /// What this host began comes from a new address from now on.
    pub fn rebind(&mut self, host: u32) {
        let at = &mut self.hosts[host as usize];
        at.binding += 1;
        let binding = u64::from(at.binding);
        self.trace.note(self.now, "rebind", &[("host", host.into()), ("binding", binding)]);
    }

    /// From which of its host's addresses a frame leaves.
    pub(super) fn bind_frame(&mut self, frame: u32) {
        let f = self.frames.get(frame);
        let binding = self.hosts[f.from as usize].binding;
        if binding != 0 && self.hooks.sent_by_client(f) {
            self.frames.get_mut(frame).from_binding = binding;
        }
    }

    /// Whether the address that a frame is for is dead.
    pub(super) fn is_dead(&self, f: &Frame) -> bool {
        let binding = self.hosts[f.to as usize].binding;
        f.to_binding != binding && (f.to_binding != 0 || self.hooks.sent_by_server(f))
    }

    pub(super) fn lose_dead(&mut self, frame: u32) -> bool {
        let dead = self.is_dead(self.frames.get(frame));
        if dead {
            self.lose(frame, Lost::Rebound);
        }
        dead
    }
}
