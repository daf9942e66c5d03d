//! Owns peers whose sessions rest: they are taken out of the machine as a few numbers, and come back as they were.

use alloc::boxed::Box;

use crate::machine::Machine;
use crate::peer::PeerAtRest;

impl Machine {
    /// Whether nothing is under way with the peer in `slot`, so that it can rest; `next` is the sequence that we begin next with it.
    pub fn may_rest(&self, slot: u32, next: u64) -> bool {
        let peer = self.peers.get(slot as usize).and_then(|peer| peer.as_deref());
        peer.is_some_and(|peer| peer.may_rest(next)) && !self.room.concerns(slot)
    }

    /// Takes the peer in `slot` out, if it may rest. Its host counts its session on.
    pub fn rest(&mut self, slot: u32, next: u64) -> Option<PeerAtRest> {
        if !self.may_rest(slot, next) {
            return None;
        }
        self.ack_timers.remove(slot);
        let peer = self.peers[slot as usize].take()?;
        Some(peer.rest(&mut self.said))
    }

    /// Puts a peer that rested back into its `slot`.
    pub fn wake(&mut self, slot: u32, peer: PeerAtRest) {
        self.peers[slot as usize] = Some(Box::new(peer.wake(&self.config)));
    }
}
