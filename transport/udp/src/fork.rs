//! Owns the knowledge of which process we are in: a forked child has the parent's sockets, keys and counters, and must use none of them.
//!
//! Both would seal different messages under one key and number, which reveals both and the authentication key. So a page that the kernel
//! wipes in a child (`MADV_WIPEONFORK`, Linux 4.14) holds a number; to compare it is one load. Where there is no such page, the
//! process id is asked for at each look.
//!
//! It does not see copies of the whole machine (snapshots of virtual machines), nor a process that is restored from a checkpoint.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys;

static PAGE: OnceLock<Option<&'static AtomicU64>> = OnceLock::new();
/// How many processes in this line had sockets. A child has its parent's number, so its own is greater.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// What tells whether this is still the process that it was made in.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    page: Option<&'static AtomicU64>,
    /// What stands in the page, or the process id.
    born: u64,
}

impl Mark {
    /// Of this process.
    #[must_use]
    pub fn new() -> Self {
        let page = *PAGE.get_or_init(|| sys::wiped_on_fork().ok());
        let born = match page {
            None => u64::from(std::process::id()),
            Some(page) => match page.load(Ordering::Acquire) {
                0 => {
                    let next = GENERATION.fetch_add(1, Ordering::AcqRel) + 1;
                    page.compare_exchange(0, next, Ordering::AcqRel, Ordering::Acquire).map_or_else(|is| is, |_| next)
                }
                known => known,
            },
        };
        Self { page, born }
    }

    /// Whether this is a child of the process that it was made in, or a later one.
    #[inline]
    #[must_use]
    pub fn is_forked(&self) -> bool {
        match self.page {
            Some(page) => page.load(Ordering::Relaxed) != self.born,
            None => u64::from(std::process::id()) != self.born,
        }
    }
}

impl Default for Mark {
    fn default() -> Self {
        Self::new()
    }
}

/// What a socket says in a forked child.
pub(crate) fn refusal() -> io::Error {
    io::Error::other("the socket belongs to the process that this one was forked from")
}

/// Forks, runs `child` in the child, which ends with what that returns, and gives that number here. For tests: whatever other threads
/// of this process held stays held in the child.
///
/// # Errors
/// When there can be no child, or it was killed.
#[doc(hidden)]
pub fn danger_in_a_child(child: impl FnOnce() -> u8) -> io::Result<u8> {
    sys::fork_and_wait(child).map_err(io::Error::from)
}
