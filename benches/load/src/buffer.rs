//! Memory for messages: a buffer that is filled at the end and emptied at the front, in a block that starts in the middle of a page.
//!
//! Owns the bytes, and when they are moved to the front. Refuses: knowing what they mean. Where they start matters, see
//! [`endpoint::block`]; all peers get such memory.
//!
//! `Vec<u8>` was tried in place of the buffer: `drain` moves bytes at every message, and growing means writing zeros that
//! the kernel or the AEAD is about to overwrite.

pub(crate) use endpoint::block::Block;
use wire::bytes::copy;

pub(crate) const PAGE: usize = 4096;

/// Filled bytes stand at `start..end`.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Block,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Block::amid_page(capacity), start: 0, end: 0 }
    }

    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Exactly `len` writable bytes after the filled ones; `commit` says how many became filled.
    pub(crate) fn space(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() - self.end < len {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.bytes.len() - self.end < len {
                let mut larger = Block::amid_page((self.end + len).next_power_of_two());
                larger[..self.end].copy_from_slice(&self.bytes[..self.end]);
                self.bytes = larger;
            }
        }
        &mut self.bytes[self.end..self.end + len]
    }

    pub(crate) fn commit(&mut self, len: usize) {
        debug_assert!(self.end + len <= self.bytes.len());
        self.end += len;
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) {
        copy(self.space(bytes.len()), bytes);
        self.commit(bytes.len());
    }

    /// Forgets `len` bytes at the front. An empty buffer starts over, which keeps its first lines in the cache.
    pub(crate) fn consume(&mut self, len: usize) {
        debug_assert!(len <= self.len());
        self.start += len;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.consume(self.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_across_moves_and_growth() {
        let mut buffer = Buffer::with_capacity(16);
        let (mut put, mut got) = (0u8, 0u8);
        for round in 0..500usize {
            let len = round * 7 % 41;
            let bytes: Vec<u8> = (0..len).map(|i| put.wrapping_add(i as u8)).collect();
            put = put.wrapping_add(len as u8);
            buffer.append(&bytes);
            let take = buffer.len().min(round * 5 % 43);
            for &byte in &buffer.filled()[..take] {
                assert_eq!(byte, got);
                got = got.wrapping_add(1);
            }
            buffer.consume(take);
        }
    }
}
