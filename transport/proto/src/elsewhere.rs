//! Owns messages that went another way: in a handshake's first flight, before there was a session for them. [P-6.9]

use crate::machine::Machine;
use crate::time::Instant;

impl Machine {
    /// What may go of the message of `slot` has gone, by a way that this machine does not know: it is not sent now, and what
    /// got lost of it is asked for and repeated like everything else. Nothing is learned from how soon it is answered.
    pub fn sent_elsewhere(&mut self, now: Instant, slot: u32) {
        let Some(rpc) = self.rpcs.get_mut(slot) else { return };
        if let Some(out) = rpc.out.as_mut() {
            while out.take(u32::MAX).is_some() {}
        }
        rpc.repeated = true;
        self.refresh_ready(slot);
        self.arm(slot, now);
    }
}
