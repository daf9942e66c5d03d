//! The content of messages: a function of the message's number, known to both ends of the check.
//!
//! Owns: what bytes message N has, and whether bytes are those of message N. Refuses: keeping any message: all are
//! windows onto one random block, so making one costs nothing and sending one needs no copy.

use crate::buffer::{Block, PAGE};

/// Bytes between the windows of two consecutive messages; a cache line, so that all start aligned alike.
const STEP: usize = 64;

/// Windows per page: they stay in its second half (see `buffer` for why).
const PER_PAGE: usize = 29;

/// Number of different windows. Prime, so that it never beats with the number outstanding.
const WINDOWS: usize = 127;

const _: () = assert!(PAGE / 2 + PER_PAGE * STEP < PAGE);

/// A block of random bytes that all messages of one size are windows of.
#[derive(Debug)]
pub(crate) struct Pattern {
    block: Block,
    size: usize,
}

impl Pattern {
    /// `slack` is how many bytes past its end a window may be asked for (padding).
    pub(crate) fn new(size: usize, slack: usize) -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let words = (size + slack + PAGE * WINDOWS.div_ceil(PER_PAGE)).div_ceil(8);
        let mut block = Block::new(words * 8);
        for word in block.chunks_exact_mut(8) {
            // xorshift64*: any generator does, as long as windows differ from each other everywhere.
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            word.copy_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
        }
        Self { block, size }
    }

    /// The content of message `id`.
    pub(crate) fn message(&self, id: u64) -> &[u8] {
        self.padded(id, self.size)
    }

    /// The content of message `id`, and what follows it in the block.
    pub(crate) fn padded(&self, id: u64, len: usize) -> &[u8] {
        let window = (id % WINDOWS as u64) as usize;
        let at = window / PER_PAGE * PAGE + window % PER_PAGE * STEP;
        &self.block[at..at + len]
    }

    /// Whether `reply` is message `id`, every byte.
    pub(crate) fn verify(&self, id: u64, reply: &[u8]) -> bool {
        reply == self.message(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_differ_and_one_changed_byte_is_seen() {
        let pattern = Pattern::new(1000, 0);
        for id in 0..1000 {
            assert_ne!(pattern.message(id), pattern.message(id + 1));
            assert!(pattern.verify(id, pattern.message(id)));
        }
        for at in 0..1000 {
            let mut reply = pattern.message(7).to_vec();
            reply[at] ^= 1;
            assert!(!pattern.verify(7, &reply));
        }
        assert!(!pattern.verify(7, &pattern.message(7)[..999]));
    }
}
