//! What a driver sleeps on: a counter to be woken by, a timer, a set of descriptors, and the wait itself.
//!
//! Owns waiting, with nanosecond timeouts. Refuses to decide what to wait for or for how long, and never reads a datagram.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::sys;

/// Most descriptors that one wait can watch; more belong into a [`Set`].
pub const FDS_MAX: usize = 16;

/// Lets another thread end a wait: readable from `wake` until `drain`.
#[derive(Debug)]
pub struct Wake(File);

impl Wake {
    /// A new one, not woken.
    pub fn new() -> io::Result<Self> {
        Ok(Self(File::from(sys::eventfd()?)))
    }

    /// Wakes whoever waits now or waits next; waking twice is waking once.
    pub fn wake(&self) {
        // Cannot fail but by a full counter (2^64 - 2 wakes unread), and then it is readable already.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Takes the wake back; whether there was one.
    pub fn drain(&self) -> bool {
        (&self.0).read(&mut [0; 8]).is_ok()
    }

    /// Readable when woken.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A one-shot timer that can be waited for among other descriptors.
#[derive(Debug)]
pub struct Timer(File);

impl Timer {
    /// A new one, not armed.
    pub fn new() -> io::Result<Self> {
        Ok(Self(File::from(sys::timerfd()?)))
    }

    /// Goes off once so long from now, instead of whenever it was to go off; `None` disarms. Takes an unread shot back.
    pub fn arm(&self, after: Option<Duration>) -> io::Result<()> {
        // A zero would disarm, where the caller means "at once".
        let after = after.map_or(Duration::ZERO, |after| after.max(Duration::from_nanos(1)));
        Ok(sys::timerfd_arm(self.fd(), after)?)
    }

    /// Takes the shot back; whether it had gone off.
    pub fn drain(&self) -> bool {
        (&self.0).read(&mut [0; 8]).is_ok()
    }

    /// Readable when gone off.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Several descriptors as one: readable when any of them is. For handing to somebody else's loop.
#[derive(Debug)]
pub struct Set(OwnedFd);

impl Set {
    /// A new one with nothing in it.
    pub fn new() -> io::Result<Self> {
        Ok(Self(sys::epoll()?))
    }

    /// Watches `fd` too. It leaves the set by itself once closed.
    pub fn add(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(sys::epoll_interest(self.fd(), fd, true)?)
    }

    /// Watches `fd` no more.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(sys::epoll_interest(self.fd(), fd, false)?)
    }

    /// Readable when any of the set is.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Waits until any of the set is readable; whether one is.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        match uninterrupted(timeout, |left| sys::epoll_wait(self.fd(), left)) {
            // Before Linux 5.11 its timeouts were of whole milliseconds; and filters of system calls refuse what they do not know.
            Err(errno) if matches!(errno.0, libc::ENOSYS | libc::EPERM) => {
                Ok(wait_readable(&[self.fd()], timeout)?.any())
            }
            found => Ok(found? > 0),
        }
    }
}

impl From<OwnedFd> for Set {
    /// One that was made elsewhere, and is shared with its maker.
    fn from(set: OwnedFd) -> Self {
        Self(set)
    }
}

/// Which descriptors of a wait are ready, by their position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ready(u32);

impl Ready {
    /// Whether the wait ended for a descriptor and not for its timeout.
    pub fn any(self) -> bool {
        self.0 != 0
    }

    /// Whether the descriptor at this position is ready.
    pub fn has(self, position: usize) -> bool {
        position < FDS_MAX && self.0 >> position & 1 == 1
    }

    /// How many are ready.
    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }
}

/// Waits until a descriptor is readable or has failed, or the time is over; `None` waits for ever, zero only looks.
///
/// A signal does not end the wait.
///
/// # Panics
/// With more than [`FDS_MAX`] descriptors.
pub fn wait_readable(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Ready> {
    wait(fds, libc::POLLIN, timeout)
}

/// Waits until a descriptor takes data again or has failed; whether it did before the time was over.
pub fn wait_writable(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
    Ok(wait(&[fd], libc::POLLOUT, timeout)?.any())
}

fn wait(fds: &[BorrowedFd<'_>], events: i16, timeout: Option<Duration>) -> io::Result<Ready> {
    assert!(fds.len() <= FDS_MAX, "a wait on {} descriptors; the most is {FDS_MAX}", fds.len());
    let mut polls = [libc::pollfd { fd: -1, events, revents: 0 }; FDS_MAX];
    for (poll, fd) in polls.iter_mut().zip(fds) {
        poll.fd = fd.as_raw_fd();
    }
    let polls = &mut polls[..fds.len()];
    uninterrupted(timeout, |left| sys::ppoll(polls, left))?;
    let mask = polls.iter().enumerate().map(|(i, poll)| u32::from(poll.revents != 0) << i);
    Ok(Ready(mask.fold(0, |all, one| all | one)))
}

/// Waits until the time is over even if signals come meanwhile.
fn uninterrupted<T>(
    timeout: Option<Duration>,
    mut wait: impl FnMut(Option<Duration>) -> Result<T, sys::Errno>,
) -> Result<T, sys::Errno> {
    // A mere look needs no deadline, nor does a wait for ever.
    let deadline = timeout.filter(|t| !t.is_zero()).and_then(|t| sys::now().checked_add(t));
    let mut left = timeout;
    loop {
        match wait(left) {
            Err(errno) if errno.0 == libc::EINTR => {
                left = deadline.map_or(timeout, |d| Some(d.saturating_duration_since(sys::now())));
            }
            done => return done,
        }
    }
}

/// Keeps the calling thread on one CPU from now on.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    sys::pin_to_cpu(cpu).map_err(|errno| {
        let error = io::Error::from(errno);
        io::Error::new(error.kind(), format!("cannot run on CPU {cpu}: {error}"))
    })
}
