//! Owns where in memory bytes start that the kernel copies.
//!
//! On AMD's Zen 3 the kernel's copy, and the C library's of long texts, runs at a twentieth of its speed where the destination lies 1 to 31
//! bytes behind the source, modulo 4,096. The kernel's own data start on a page or a few bytes after one, and so do large allocations: close
//! enough that luck decides. In the middle of a page it does not. Elsewhere that costs nothing but a page.

use std::fmt;
use std::ops::{Deref, DerefMut};

const PAGE: usize = 4096;

/// Zeroed bytes; or bytes that were there.
pub struct Block {
    bytes: Vec<u8>,
    start: usize,
}

impl Block {
    /// So many zeros, anywhere.
    pub fn anywhere(len: usize) -> Self {
        Self::from(vec![0; len])
    }

    /// So many zeros that start in the middle of a page.
    pub fn amid_page(len: usize) -> Self {
        let mut bytes = vec![0; len + PAGE];
        let start = (bytes.as_ptr().addr().wrapping_neg() + PAGE / 2) % PAGE;
        bytes.truncate(start + len);
        Self { bytes, start }
    }

    /// Its memory, empty.
    pub fn into_memory(mut self) -> Vec<u8> {
        self.bytes.clear();
        self.bytes
    }
}

impl From<Vec<u8>> for Block {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, start: 0 }
    }
}

impl Deref for Block {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

impl fmt::Debug for Block {
    /// Its length only: what stands there does not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_starts_in_the_middle_of_a_page() {
        for len in [0, 1, 1500, 4096, 65_535, 1 << 17] {
            let mut block = Block::amid_page(len);
            assert_eq!((block.as_ptr().addr() % PAGE, block.len()), (PAGE / 2, len));
            block.fill(7);
            assert!(block.iter().all(|byte| *byte == 7));
        }
    }
}
