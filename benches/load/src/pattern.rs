//! The content of messages: a function of the message's number, known to both ends of the check.
//!
//! Owns: what bytes message N has, and whether bytes are those of message N. Refuses: keeping any message: all are
//! windows onto one random block, so making one costs nothing and sending one needs no copy.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use sealane::Payload;

use crate::buffer::{Block, PAGE};
use crate::served::{ANSWER, answer};
use crate::spec::Spec;

/// Bytes between the windows of two consecutive messages; a cache line, so that all start aligned alike.
const STEP: usize = 64;

/// Windows per page: they stay in its second half (see `buffer` for why).
const PER_PAGE: usize = 29;

/// Number of different windows. Prime, so that it never beats with the number outstanding.
const WINDOWS: usize = 127;

const _: () = assert!(PAGE / 2 + PER_PAGE * STEP < PAGE);

/// So many windows are enough for one-way messages: what each sums to is found out before.
const ONE_WAY_WINDOWS: usize = 3;

/// A block of random bytes that all messages of one size are windows of.
#[derive(Debug)]
pub(crate) struct Pattern {
    block: Payload,
    size: usize,
    windows: u64,
    /// The answer to each window, where messages go one way.
    answers: Vec<[u8; ANSWER]>,
    /// One message of another size may run beside: its content and its number.
    beside: Option<Box<Pattern>>,
    beside_id: AtomicU64,
}

impl Pattern {
    /// `slack` is how many bytes past its end a window may be asked for (padding).
    pub(crate) fn new(size: usize, slack: usize) -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let words = (size + slack + PAGE * WINDOWS.div_ceil(PER_PAGE)).div_ceil(8);
        let mut block = Block::amid_page(words * 8);
        for word in block.chunks_exact_mut(8) {
            // xorshift64*: any generator does, as long as windows differ from each other everywhere.
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            word.copy_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
        }
        Self {
            block: block.into(),
            size,
            windows: WINDOWS as u64,
            answers: Vec::new(),
            beside: None,
            beside_id: AtomicU64::new(u64::MAX),
        }
    }

    /// What a cell needs.
    pub(crate) fn of(spec: &Spec, slack: usize) -> Self {
        let mut pattern = Self::new(spec.size, slack);
        if spec.one_way {
            pattern.windows = ONE_WAY_WINDOWS as u64;
            pattern.answers = (0..pattern.windows).map(|id| answer(pattern.message(id))).collect();
        }
        pattern.beside = spec.beside.map(|size| Box::new(Self::new(size, 0)));
        pattern
    }

    /// From now on message `id` is the one of another size.
    pub(crate) fn set_beside(&self, id: u64) {
        self.beside_id.store(id, Ordering::Relaxed);
    }

    /// Whether there is one message of another size.
    pub(crate) fn has_beside(&self) -> bool {
        self.beside.is_some()
    }

    /// Whether message `id` is the one of another size.
    pub(crate) fn is_beside(&self, id: u64) -> bool {
        self.beside.is_some() && self.beside_id.load(Ordering::Relaxed) == id
    }

    /// The content of message `id`.
    pub(crate) fn message(&self, id: u64) -> &[u8] {
        match &self.beside {
            Some(beside) if self.is_beside(id) => beside.message(id),
            _ => self.padded(id, self.size),
        }
    }

    /// The same, to be handed over: a part of the block, which no peer copies either.
    pub(crate) fn owned(&self, id: u64) -> Payload {
        match &self.beside {
            Some(beside) if self.is_beside(id) => beside.owned(id),
            _ => self.block.slice(self.window(id, self.size)),
        }
    }

    /// The content of message `id`, and what follows it in the block.
    pub(crate) fn padded(&self, id: u64, len: usize) -> &[u8] {
        &self.block[self.window(id, len)]
    }

    fn window(&self, id: u64, len: usize) -> Range<usize> {
        let window = (id % self.windows) as usize;
        let at = window / PER_PAGE * PAGE + window % PER_PAGE * STEP;
        at..at + len
    }

    /// Whether `reply` is message `id`, every byte; or, one way, whether the other side found it to be.
    pub(crate) fn verify(&self, id: u64, reply: &[u8]) -> bool {
        match self.answers.get((id % self.windows) as usize) {
            Some(answer) => reply == answer,
            None => reply == self.message(id),
        }
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
