//! Memory that is shared with the kernel: mappings that stay where they are, which no forked child inherits.
//!
//! Owns making them and giving them back. Refuses to say who may touch which byte when: that is for whom they are made.

#![expect(unsafe_code, reason = "mappings are made by system calls, and given back when nothing points into them")]

use std::io;
#[cfg(feature = "xdp")]
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;

/// A mapping, readable and writable. It is given back by [`Pages::free`] only, so that forgetting it is safe.
#[derive(Debug)]
pub(crate) struct Pages {
    pub(crate) at: *mut u8,
    pub(crate) len: usize,
}

// SAFETY: it is a range of addresses, tied to no thread; who reads and writes there keeps the order.
unsafe impl Send for Pages {}

impl Pages {
    /// Zeroed memory of nobody else.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        Self::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    /// What a descriptor shares with us from `offset` on.
    #[cfg(feature = "xdp")]
    pub(crate) fn of(fd: BorrowedFd<'_>, len: usize, offset: i64) -> io::Result<Self> {
        Self::map(len, libc::MAP_SHARED | libc::MAP_POPULATE, fd.as_raw_fd(), offset)
    }

    fn map(len: usize, flags: i32, fd: i32, offset: i64) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that there is.
        let at = unsafe { libc::mmap(null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, fd, offset) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // Should it fail a child gets them too, and copies what is written, which only costs.
        // SAFETY: the mapping was just made, and the advice is about later forks only.
        unsafe { libc::madvise(at, len, libc::MADV_DONTFORK) };
        Ok(Self { at: at.cast(), len })
    }

    /// Gives them back. Nothing may point into them any more, of ours or of the kernel's.
    pub(crate) fn free(&self) {
        // SAFETY: the mapping is ours, of this length, and its owner calls this once, at its own end, as demanded above.
        unsafe { libc::munmap(self.at.cast(), self.len) };
    }
}
