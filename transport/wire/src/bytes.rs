//! Owns reading and writing of big-endian fields, and copying. Every read is checked; a write past the end is our own bug.

use crate::error::Refusal;

/// Bytes that [`copy`] copies at a time: less than any C library takes for long.
const PIECE: usize = 2048;

/// Copies as `copy_from_slice` does, long texts in pieces. The GNU C library copies from 2 to 8 KiB on (by the processor) with `rep movsb`. On
/// AMD's Zen 3 that moves 2 to 3 GB/s instead of 45 where the low twelve bits of both addresses lie close together; in pieces it is as
/// fast anywhere. (docs/PERFORMANCE.md)
///
/// # Panics
/// When the lengths differ.
#[inline]
pub fn copy(to: &mut [u8], from: &[u8]) {
    assert_eq!(to.len(), from.len(), "a copy is as long as what is copied");
    to.chunks_mut(PIECE).zip(from.chunks(PIECE)).for_each(|(to, from)| to.copy_from_slice(from));
}

/// Reads fields from the front of a byte string.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether all has been read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`Refusal::Truncated`] when there are fewer; likewise for all the others.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Refusal> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(Refusal::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    #[expect(clippy::missing_errors_doc, reason = "stated at `take`")]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(Refusal::Truncated)?;
        self.rest = tail;
        Ok(*head)
    }

    /// One byte.
    #[expect(clippy::missing_errors_doc, reason = "stated at `take`")]
    pub fn u8(&mut self) -> Result<u8, Refusal> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes.
    #[expect(clippy::missing_errors_doc, reason = "stated at `take`")]
    pub fn u16(&mut self) -> Result<u16, Refusal> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Four bytes.
    #[expect(clippy::missing_errors_doc, reason = "stated at `take`")]
    pub fn u32(&mut self) -> Result<u32, Refusal> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Six bytes.
    #[expect(clippy::missing_errors_doc, reason = "stated at `take`")]
    pub fn u48(&mut self) -> Result<u64, Refusal> {
        let b: [u8; 6] = self.array()?;
        Ok(u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]]))
    }

    /// Eight bytes.
    #[expect(clippy::missing_errors_doc, reason = "stated at `take`")]
    pub fn u64(&mut self) -> Result<u64, Refusal> {
        Ok(u64::from_be_bytes(self.array()?))
    }
}

/// Writes fields to the front of a buffer that its owner made large enough.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// Writes from the start of `buffer`.
    pub const fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, at: 0 }
    }

    /// Bytes written so far.
    pub const fn len(&self) -> usize {
        self.at
    }

    /// Whether nothing was written yet.
    pub const fn is_empty(&self) -> bool {
        self.at == 0
    }

    /// Bytes that still fit.
    pub const fn room(&self) -> usize {
        self.buffer.len() - self.at
    }

    /// Appends `bytes`.
    ///
    /// # Panics
    /// When they do not fit: sizes are known before anything is written.
    pub fn put(&mut self, bytes: &[u8]) {
        self.buffer[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    /// Appends two bytes.
    pub fn u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    /// Appends four bytes.
    pub fn u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    /// Appends the low six bytes.
    pub fn u48(&mut self, value: u64) {
        self.put(&value.to_be_bytes()[2..]);
    }

    /// Appends eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.put(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_all_of_it() {
        let from: [u8; 3 * PIECE + 7] = core::array::from_fn(|at| (at % 251) as u8);
        for len in [0, 1, PIECE - 1, PIECE, PIECE + 1, from.len()] {
            let mut to = [255; 3 * PIECE + 7];
            copy(&mut to[..len], &from[..len]);
            assert!(to[..len] == from[..len] && to[len..].iter().all(|byte| *byte == 255));
        }
    }

    #[test]
    #[should_panic(expected = "as long as what is copied")]
    fn a_copy_of_another_length() {
        copy(&mut [0; 3], &[0; 2]);
    }
}
