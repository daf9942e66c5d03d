//! Owns the one message of a peer that is taken whatever else is: the first that it begins, where both sides agreed that it is none of
//! the application's. [P-6.16]

use crate::machine::Machine;

impl Machine {
    /// The message of sequence 0 that `peer` begins is taken up to that length, also where nothing is served and where messages are
    /// shorter.
    pub fn admit_first(&mut self, peer: u32, length_max: u32) {
        self.peer(peer).first_max = Some(length_max);
    }
}
