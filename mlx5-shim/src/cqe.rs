//! Owns completions: what the card says of descriptors that it is done with, and who may read an entry of their ring.

use crate::bytes::{put_u16, put_u32, u16_at, u32_at};

/// Bytes of an entry.
pub const ENTRY: usize = 64;
/// What an entry is that was never written.
pub const NEVER: u8 = 0xf1;

/// Kinds of entries that concern a sender.
const DONE: u8 = 0x0;
const FAILED: u8 = 0xd;
const INVALID: u8 = 0xf;

/// The card is done with a descriptor, and with all before it in its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The queue's number.
    pub queue: u32,
    /// The descriptor's index.
    pub index: u16,
    /// How it went.
    pub outcome: Outcome,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Done,
    /// It failed; the queue has stopped.
    Failed {
        /// Why, as the maker numbers it: 1 length, 2 operation, 4 protection, 5 flushed behind another.
        syndrome: u8,
        /// The maker's own detail.
        vendor: u8,
    },
}

impl Completion {
    /// Reads an entry if it is there for who has read `consumed` entries of a ring of `count`.
    pub fn read(entry: &[u8; ENTRY], consumed: u32, count: u32) -> Option<Self> {
        let kind = entry[63] >> 4;
        let turn = ((consumed / count) & 1) as u8;
        if kind == INVALID || entry[63] & 1 != turn {
            return None;
        }
        let outcome =
            if kind == DONE { Outcome::Done } else { Outcome::Failed { syndrome: entry[55], vendor: entry[54] } };
        Some(Self { queue: u32_at(entry, 56) & 0x00ff_ffff, index: u16_at(entry, 60), outcome })
    }

    /// The entry that says so, as the card writes it when it has written `produced` entries.
    pub fn emit(&self, produced: u32, count: u32) -> [u8; ENTRY] {
        let mut entry = [0; ENTRY];
        put_u32(&mut entry, 56, self.queue);
        put_u16(&mut entry, 60, self.index);
        let kind = match self.outcome {
            Outcome::Done => DONE,
            Outcome::Failed { syndrome, vendor } => {
                (entry[54], entry[55]) = (vendor, syndrome);
                FAILED
            }
        };
        entry[63] = kind << 4 | ((produced / count) & 1) as u8;
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry is read once, by whose turn it is, also when the ring goes round.
    #[test]
    fn entries_belong_to_their_turn() {
        let mut entry = [0; ENTRY];
        entry[63] = NEVER;
        assert_eq!(Completion::read(&entry, 0, 4), None);
        let done = Completion { queue: 0x010203, index: 0xfffe, outcome: Outcome::Done };
        let failed = Completion { outcome: Outcome::Failed { syndrome: 5, vendor: 9 }, ..done };
        for (turn, completion) in [(0, done), (1, failed), (2, done)] {
            let entry = completion.emit(4 * turn + 1, 4);
            assert_eq!(Completion::read(&entry, 4 * turn + 1, 4), Some(completion));
            assert_eq!(Completion::read(&entry, 4 * (turn + 1) + 1, 4), None, "it was read in the turn before");
        }
        assert_eq!(failed.emit(0, 4)[54..64], [9, 5, 0, 1, 2, 3, 0xff, 0xfe, 0, 0xd0]);
    }
}
