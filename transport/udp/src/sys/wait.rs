//! Owns the calls that make descriptors to sleep on, and those that sleep.

use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{null, null_mut};
use std::time::Duration;

use libc::c_int;

use super::{Errno, check, owned};

/// A new event counter, non-blocking.
pub(crate) fn eventfd() -> Result<OwnedFd, Errno> {
    // SAFETY: takes integers only.
    owned(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })
}

/// A new monotonic timer, disarmed, non-blocking.
pub(crate) fn timerfd() -> Result<OwnedFd, Errno> {
    let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
    // SAFETY: takes integers only.
    owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })
}

/// Arms a timer once, from now; zero disarms it.
pub(crate) fn timerfd_arm(fd: BorrowedFd<'_>, after: Duration) -> Result<(), Errno> {
    // SAFETY: all fields are integers, for which zero is a value.
    let mut spec: libc::itimerspec = unsafe { zeroed() };
    spec.it_value = timespec(after);
    // SAFETY: `spec` is live and only read; a null old value is allowed.
    check(unsafe { libc::timerfd_settime(fd.as_raw_fd(), 0, &raw const spec, null_mut()) }).map(drop)
}

/// A new epoll set.
pub(crate) fn epoll() -> Result<OwnedFd, Errno> {
    // SAFETY: takes integers only.
    owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
}

/// Adds or removes interest in `fd` being readable.
pub(crate) fn epoll_interest(set: BorrowedFd<'_>, fd: BorrowedFd<'_>, wanted: bool) -> Result<(), Errno> {
    let operation = if wanted { libc::EPOLL_CTL_ADD } else { libc::EPOLL_CTL_DEL };
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    // SAFETY: `event` is live and only read.
    check(unsafe { libc::epoll_ctl(set.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event) }).map(drop)
}

/// Waits until one of `polls` has what it asks for; fills their `revents` and returns how many have.
pub(crate) fn ppoll(polls: &mut [libc::pollfd], timeout: Option<Duration>) -> Result<usize, Errno> {
    let limit = timeout.map(timespec);
    let limit = limit.as_ref().map_or(null(), std::ptr::from_ref);
    let count = polls.len() as libc::nfds_t;
    // SAFETY: the array is exclusively ours and given with its length; `limit` is null or to a live local.
    check(unsafe { libc::ppoll(polls.as_mut_ptr(), count, limit, null()) }).map(|ready| ready as usize)
}

/// Waits until any of a set is readable; how many were found, one at most.
pub(crate) fn epoll_wait(set: BorrowedFd<'_>, timeout: Option<Duration>) -> Result<usize, Errno> {
    // It takes 64 bits of each, whatever the C library has.
    if size_of::<libc::timespec>() != 16 {
        return Err(Errno(libc::ENOSYS));
    }
    let limit = timeout.map(timespec);
    let limit = limit.as_ref().map_or(null(), std::ptr::from_ref);
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    let (fd, no_mask) = (set.as_raw_fd(), null::<libc::sigset_t>());
    // SAFETY: there is room for the one event that is asked for; `limit` is null or to a live local; no mask is given.
    let found = unsafe { libc::syscall(libc::SYS_epoll_pwait2, fd, &raw mut event, 1, limit, no_mask, 0_usize) };
    check(found as c_int).map(|found| found as usize)
}

fn timespec(duration: Duration) -> libc::timespec {
    // SAFETY: all fields are integers, for which zero is a value (some targets have padding fields).
    let mut spec: libc::timespec = unsafe { zeroed() };
    spec.tv_sec = libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX);
    spec.tv_nsec = duration.subsec_nanos() as _;
    spec
}
