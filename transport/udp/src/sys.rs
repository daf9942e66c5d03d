//! The system calls that neither `std` nor `socket2` offers, each behind a safe function.
//!
//! Owns all `unsafe` of the crate, one promise per block. Refuses policy: nothing here retries, falls back or chooses;
//! an error is the kernel's own number.
//!
//! Control messages are typed arrays, not walked pointers: every message we send or ask for carries at most an `int`,
//! so each fills exactly one [`Slot`], and slot *n* is message *n*.

#![expect(unsafe_code, reason = "this module is the crate's edge to the kernel")]

use std::ffi::CStr;
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::null_mut;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use libc::{c_int, c_void};
use rustix::net::{RecvFlags, SendFlags};

mod wait;
pub(crate) use wait::{epoll, epoll_interest, epoll_wait, eventfd, ppoll, timerfd, timerfd_arm};

/// An error number of the kernel. Smaller than `io::Error` and free to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) c_int);

impl Errno {
    /// Of the last call on this thread.
    fn last() -> Self {
        // SAFETY: the pointer is to this thread's own errno and always valid.
        Self(unsafe { *libc::__errno_location() })
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(errno.raw_os_error())
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        io::Error::from_raw_os_error(errno.0)
    }
}

/// The one place where this crate reads a clock.
#[expect(
    clippy::disallowed_methods,
    reason = "sleeping with a timeout and delaying datagrams are this crate's work; all below it take time as an argument"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The processor's own count of time, where there is one that costs less to read than the kernel's clock.
#[inline]
pub(crate) fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every processor of this architecture has the instruction; it reads a register.
    return unsafe { core::arch::x86_64::_rdtsc() };
    #[cfg(not(target_arch = "x86_64"))]
    0
}

fn check(result: c_int) -> Result<c_int, Errno> {
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}

fn owned(fd: RawFd) -> Result<OwnedFd, Errno> {
    let fd = check(fd)?;
    // SAFETY: called only with what a creating call has just returned, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

// Addresses

/// A socket address as the kernel wants it, v4 or v6, built without a call.
///
/// Held as `sockaddr_in6` for both families. `sockaddr_in` is a prefix of it (family, port, 4 bytes of address where v6
/// has its flow label, then zeros), so no union is needed.
#[derive(Clone, Copy)]
pub(crate) struct Name {
    raw: libc::sockaddr_in6,
    len: libc::socklen_t,
}

const V4_LEN: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;
const V6_LEN: libc::socklen_t = size_of::<libc::sockaddr_in6>() as libc::socklen_t;

impl Name {
    /// What a socket of the family must be given to reach `to`; `None` if a v4 socket is to reach v6.
    #[inline]
    pub(crate) fn new(to: SocketAddr, socket_is_v6: bool) -> Option<Self> {
        match to {
            SocketAddr::V4(to) if socket_is_v6 => Some(Self::v6(to.ip().to_ipv6_mapped(), to.port(), 0, 0)),
            SocketAddr::V4(to) => Some(Self::v4(*to.ip(), to.port())),
            SocketAddr::V6(to) if socket_is_v6 => Some(Self::v6(*to.ip(), to.port(), to.flowinfo(), to.scope_id())),
            SocketAddr::V6(to) => to.ip().to_ipv4_mapped().map(|ip| Self::v4(ip, to.port())),
        }
    }

    #[inline]
    fn v4(ip: Ipv4Addr, port: u16) -> Self {
        let mut name = Self { raw: EMPTY_NAME, len: V4_LEN };
        name.raw.sin6_family = libc::AF_INET as libc::sa_family_t;
        name.raw.sin6_port = port.to_be();
        name.raw.sin6_flowinfo = u32::from_ne_bytes(ip.octets());
        name
    }

    #[inline]
    fn v6(ip: Ipv6Addr, port: u16, flowinfo: u32, scope: u32) -> Self {
        let mut name = Self { raw: EMPTY_NAME, len: V6_LEN };
        name.raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
        name.raw.sin6_port = port.to_be();
        name.raw.sin6_flowinfo = flowinfo.to_be();
        name.raw.sin6_addr.s6_addr = ip.octets();
        name.raw.sin6_scope_id = scope;
        name
    }

    /// The same for a message to whom the socket is connected: there, not to name the peer spares the kernel the route.
    #[inline]
    pub(crate) fn implied(self) -> Self {
        Self { len: 0, ..self }
    }

    /// The address in one spelling only: v4-mapped is v4, and a flow label is no part of who somebody is.
    #[inline]
    fn address(&self) -> SocketAddr {
        let port = u16::from_be(self.raw.sin6_port);
        if c_int::from(self.raw.sin6_family) == libc::AF_INET {
            return (Ipv4Addr::from(self.raw.sin6_flowinfo.to_ne_bytes()), port).into();
        }
        let ip = Ipv6Addr::from(self.raw.sin6_addr.s6_addr);
        match ip.to_ipv4_mapped() {
            Some(ip) => (ip, port).into(),
            None => SocketAddrV6::new(ip, port, 0, self.raw.sin6_scope_id).into(),
        }
    }

    /// Whether the packet leaves as IPv4, through whichever socket.
    #[inline]
    fn is_v4(&self) -> bool {
        c_int::from(self.raw.sin6_family) == libc::AF_INET
            || Ipv6Addr::from(self.raw.sin6_addr.s6_addr).to_ipv4_mapped().is_some()
    }
}

// SAFETY: all fields are integers, for which zero is a value.
const EMPTY_NAME: libc::sockaddr_in6 = unsafe { zeroed() };

// Control messages

/// One control message with a payload of up to an `int`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Slot {
    header: libc::cmsghdr,
    data: [u8; size_of::<usize>()],
}

const INT: u32 = size_of::<c_int>() as u32;
// SAFETY: CMSG_SPACE and CMSG_LEN are sums over their argument.
const SPACE_OF_INT: usize = unsafe { libc::CMSG_SPACE(INT) } as usize;
const _: () = assert!(size_of::<Slot>() == SPACE_OF_INT);

// SAFETY: all fields are integers, for which zero is a value.
const EMPTY_SLOT: Slot = unsafe { zeroed() };

impl Slot {
    #[inline]
    fn new<const N: usize>(level: c_int, kind: c_int, value: [u8; N]) -> Self {
        const { assert!(N <= size_of::<usize>()) };
        let mut slot = EMPTY_SLOT;
        // SAFETY: CMSG_LEN is a sum over its argument.
        slot.header.cmsg_len = unsafe { libc::CMSG_LEN(N as u32) } as _;
        slot.header.cmsg_level = level;
        slot.header.cmsg_type = kind;
        slot.data[..N].copy_from_slice(&value);
        slot
    }

    #[inline]
    fn int(&self) -> c_int {
        c_int::from_ne_bytes([self.data[0], self.data[1], self.data[2], self.data[3]])
    }
}

// Datagrams

/// Sends one datagram without any control message; without a name, to whom the socket is connected.
#[inline]
pub(crate) fn send(fd: BorrowedFd<'_>, bytes: &[u8], to: Option<&Name>) -> Result<(), Errno> {
    let Some(to) = to else {
        return Ok(rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map(drop)?);
    };
    let (flags, name) = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL, (&raw const to.raw).cast());
    // SAFETY: the pointers come from live references, given with their lengths; the kernel only reads.
    let sent = unsafe { libc::sendto(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags, name, to.len) };
    if sent < 0 { Err(Errno::last()) } else { Ok(()) }
}

/// Sends a datagram or a train, with the datagrams' size (`UDP_SEGMENT`) and type of service where given.
#[inline]
pub(crate) fn send_message(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    to: &Name,
    segment: Option<u16>,
    tos: Option<u8>,
) -> Result<(), Errno> {
    let mut slots = [EMPTY_SLOT; 2];
    let mut used = 0;
    if let Some(tos) = tos {
        // A dual-stack socket silently ignores IPV6_TCLASS for v4-mapped peers, so the packet's family decides.
        let (level, kind) =
            if to.is_v4() { (libc::IPPROTO_IP, libc::IP_TOS) } else { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) };
        slots[used] = Slot::new(level, kind, c_int::from(tos).to_ne_bytes());
        used += 1;
    }
    if let Some(segment) = segment {
        slots[used] = Slot::new(libc::SOL_UDP, libc::UDP_SEGMENT, segment.to_ne_bytes());
        used += 1;
    }
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all fields are integers or pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = (&raw const to.raw).cast_mut().cast();
    message.msg_namelen = to.len;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if used > 0 {
        message.msg_control = slots.as_mut_ptr().cast();
        message.msg_controllen = (used * size_of::<Slot>()) as _;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: every pointer in `message` is to a live local or argument, given with its length; sendmsg only reads.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) };
    if sent < 0 { Err(Errno::last()) } else { Ok(()) }
}

/// What was received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived {
    pub(crate) from: SocketAddr,
    pub(crate) len: usize,
    /// From one datagram of a train to the next.
    pub(crate) segment: usize,
    pub(crate) tos: u8,
    pub(crate) truncated: bool,
}

/// Receives one datagram, or a GRO train without learning its stride; never blocks (`EAGAIN` instead).
///
/// A fifth to a third cheaper than `receive`: the kernel reads no message header and writes no control messages. Where it is known that
/// only `known` can have sent it, no name either.
#[inline]
pub(crate) fn receive_plain(fd: BorrowedFd<'_>, into: &mut [u8], known: Option<SocketAddr>) -> Result<Arrived, Errno> {
    let room = into.len();
    // With MSG_TRUNC the answer is the datagram's own length, even if the buffer is shorter.
    let (got, from) = if let Some(known) = known {
        (rustix::net::recv(fd, into, RecvFlags::DONTWAIT | RecvFlags::TRUNC)?.1, known)
    } else {
        let mut name = Name { raw: EMPTY_NAME, len: V6_LEN };
        let (flags, name_at) = (libc::MSG_DONTWAIT | libc::MSG_TRUNC, (&raw mut name.raw).cast());
        // SAFETY: `into` and `name` are exclusively ours, live, and given with their lengths.
        let got = unsafe {
            libc::recvfrom(fd.as_raw_fd(), into.as_mut_ptr().cast(), room, flags, name_at, &raw mut name.len)
        };
        if got < 0 {
            return Err(Errno::last());
        }
        (got as usize, name.address())
    };
    let (len, truncated) = (room.min(got), got > room);
    Ok(Arrived { from, len, segment: len, tos: 0, truncated })
}

/// Receives one datagram or GRO train; never blocks (`EAGAIN` instead).
#[inline]
pub(crate) fn receive(fd: BorrowedFd<'_>, into: &mut [u8]) -> Result<Arrived, Errno> {
    let mut name = Name { raw: EMPTY_NAME, len: V6_LEN };
    // At most: UDP_GRO, IP_TOS, IPV6_TCLASS.
    let mut slots = [EMPTY_SLOT; 3];
    let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: all fields are integers or pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = (&raw mut name.raw).cast();
    message.msg_namelen = name.len;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = slots.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&slots) as _;
    // SAFETY: every pointer in `message` is to a live local or to `into`, exclusively ours, given with its length.
    let got = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    if got < 0 {
        return Err(Errno::last());
    }
    let (len, truncated) = (got as usize, message.msg_flags & libc::MSG_TRUNC != 0);
    let mut received = Arrived { from: name.address(), len, segment: len, tos: 0, truncated };
    // Slots are filled from the first on, and counted whole.
    let filled = message.msg_controllen as usize / size_of::<Slot>();
    for slot in &slots[..filled.min(slots.len())] {
        match (slot.header.cmsg_level, slot.header.cmsg_type) {
            // A train cut short may have lost all but a part of its first datagram.
            (libc::SOL_UDP, libc::UDP_GRO) => received.segment = len.min(slot.int() as usize),
            (libc::IPPROTO_IP, libc::IP_TOS) => received.tos = slot.data[0],
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => received.tos = slot.int() as u8,
            _ => {}
        }
    }
    Ok(received)
}

// Options

/// Sets an option whose value is an `int`.
pub(crate) fn set_option(fd: BorrowedFd<'_>, level: c_int, kind: c_int, value: c_int) -> Result<(), Errno> {
    let value_at = (&raw const value).cast::<c_void>();
    // SAFETY: `value_at` is to a live `int` and the length given is an `int`'s.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, kind, value_at, INT) }).map(drop)
}

/// Has a program of classic BPF pick who of those that share `fd`'s port gets a datagram: by the place in the order of binding.
pub(crate) fn pick_receiver(fd: BorrowedFd<'_>, program: &mut [libc::sock_filter]) -> Result<(), Errno> {
    let len = libc::c_ushort::try_from(program.len()).map_err(|_| Errno(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    let at = (&raw const program).cast::<c_void>();
    let bytes = size_of_val(&program) as libc::socklen_t;
    // SAFETY: `at` is to a live `sock_fprog` of the length given, whose filter is a live slice of its length; the kernel copies both.
    let done = unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, at, bytes) };
    check(done).map(drop)
}

/// Reads an option whose value is an `int`.
pub(crate) fn option(fd: BorrowedFd<'_>, level: c_int, kind: c_int) -> Result<c_int, Errno> {
    let (mut value, mut len): (c_int, libc::socklen_t) = (0, INT);
    let value_at = (&raw mut value).cast::<c_void>();
    // SAFETY: `value_at` is to a live `int`, `len` holds its size and both are ours alone.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, kind, value_at, &raw mut len) })?;
    Ok(value)
}

/// The kernel's release as `uname -r` prints it.
pub(crate) fn kernel_release() -> String {
    // SAFETY: all fields are arrays of integers, for which zero is a value.
    let mut names: libc::utsname = unsafe { zeroed() };
    // SAFETY: the pointer is to a live value of the type that the call fills.
    if unsafe { libc::uname(&raw mut names) } != 0 {
        return "unknown".to_owned();
    }
    let release = names.release.iter().take_while(|&&c| c != 0).map(|&c| c as u8).collect();
    String::from_utf8(release).unwrap_or_else(|_| "unknown".to_owned())
}

// Interfaces

/// The name of the interface that has this address.
pub(crate) fn interface_with(address: SocketAddr) -> Result<Option<String>, Errno> {
    let address = SocketAddr::new(address.ip().to_canonical(), 0);
    let mut first = null_mut();
    // SAFETY: the pointer is to a live local, where the call puts the head of a list.
    check(unsafe { libc::getifaddrs(&raw mut first) })?;
    let (mut at, mut found) = (first, None);
    // SAFETY: `at` is null or points into the list, which lives until it is given back below.
    while let (None, Some(entry)) = (&found, unsafe { at.as_ref() }) {
        // SAFETY: the entry's address is the kernel's own, as long as its family says; null is allowed for.
        if unsafe { address_at(entry.ifa_addr) }.is_some_and(|own| is_same(own, address)) {
            // SAFETY: an entry's name is a string that ends with zero and lives as long as the list.
            found = unsafe { CStr::from_ptr(entry.ifa_name) }.to_str().ok().map(str::to_owned);
        }
        at = entry.ifa_next;
    }
    // SAFETY: the list came from `getifaddrs`, is given back once, and nothing points into it any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// Flow labels are no part of an address, and scopes only where both state one.
fn is_same(own: SocketAddr, wanted: SocketAddr) -> bool {
    let scope = |address: SocketAddr| match address {
        SocketAddr::V6(v6) => v6.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    own.ip() == wanted.ip() && (scope(own) == scope(wanted) || scope(own) == 0 || scope(wanted) == 0)
}

/// The IP address there, if it is one.
///
/// # Safety
/// `at` is null or points to an address that is as long as its family says.
unsafe fn address_at(at: *const libc::sockaddr) -> Option<SocketAddr> {
    // SAFETY: as promised by the caller; the family is the first field of each kind of address.
    let family = c_int::from(unsafe { at.as_ref() }?.sa_family);
    match family {
        libc::AF_INET => {
            // SAFETY: as promised by the caller. Read unaligned, because nobody promises more.
            let raw = unsafe { at.cast::<libc::sockaddr_in>().read_unaligned() };
            Some((Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr)), 0).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as promised by the caller. Read unaligned, because nobody promises more.
            let raw = unsafe { at.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(SocketAddrV6::new(raw.sin6_addr.s6_addr.into(), 0, 0, raw.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Binds the calling thread to one CPU.
pub(crate) fn pin_to_cpu(cpu: usize) -> Result<(), Errno> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(Errno(libc::EINVAL));
    }
    // SAFETY: all fields are integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { zeroed() };
    // SAFETY: `cpu` is below the set's size, as checked above.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: `set` is live, only read, and given with its size; 0 is the calling thread.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) }).map(drop)
}

// Processes

/// A zeroed number in a page of its own, which a forked child finds zeroed again. It is never given back.
pub(crate) fn wiped_on_fork() -> Result<&'static AtomicU64, Errno> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let len = size_of::<AtomicU64>();
    // SAFETY: a new anonymous mapping touches no memory that there is.
    let page = unsafe { libc::mmap(null_mut(), len, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    // SAFETY: the mapping was just made and is ours alone; the advice is about later forks only.
    if let Err(errno) = check(unsafe { libc::madvise(page, len, libc::MADV_WIPEONFORK) }) {
        // SAFETY: nobody was given the address yet.
        unsafe { libc::munmap(page, len) };
        return Err(errno);
    }
    // SAFETY: the mapping is page-aligned, zeroed (a valid value), large enough, writable, and stays for ever; all use is atomic.
    Ok(unsafe { &*page.cast::<AtomicU64>() })
}

/// Forks; the child ends with what `child` returns, and the parent waits for that.
pub(crate) fn fork_and_wait(child: impl FnOnce() -> u8) -> Result<u8, Errno> {
    // SAFETY: no memory is shared with the child. It may find locks held for ever, which its caller was told.
    match check(unsafe { libc::fork() })? {
        0 => {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(u8::MAX);
            // SAFETY: it does not return, and runs nothing of ours.
            unsafe { libc::_exit(ended.into()) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: `status` is live and written by the kernel only.
            check(unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
            if libc::WIFEXITED(status) { Ok(libc::WEXITSTATUS(status) as u8) } else { Err(Errno(libc::EINTR)) }
        }
    }
}
