//! Owns messages that may not be sealed before their session's next epoch has begun. [P-6.5]
//!
//! The endpoint finds out when it is a message's turn, and puts it aside here; the machine then sends others. Their timers go
//! on: as long as something of ours waits to go, silence is our own.

use alloc::vec::Vec;

use crate::io::Failure;
use crate::machine::Machine;

impl Machine {
    /// The message of `slot` waits.
    #[cold]
    pub fn hold(&mut self, slot: u32) {
        self.rpcs.taken(slot).held = true;
        self.unready(slot);
    }

    fn held_by(&self, peer: u32) -> Vec<u32> {
        self.rpcs.iter().filter(|(_, rpc)| rpc.held && rpc.peer == peer && !rpc.ended).map(|(slot, _)| slot).collect()
    }

    /// Messages to `peer` wait no longer.
    pub fn resume(&mut self, peer: u32) {
        for slot in self.held_by(peer) {
            self.rpcs.taken(slot).held = false;
            self.refresh_ready(slot);
        }
    }

    /// Messages to `peer` have waited in vain: whoever waits for them is told.
    pub fn fail_held(&mut self, peer: u32) {
        for slot in self.held_by(peer) {
            self.undeliverable(slot, Failure::KeysExhausted);
        }
    }
}
