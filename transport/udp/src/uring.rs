//! The backend on io_uring: what arrives is received by one request that stays (multishot), into buffers that the kernel was given ahead.
//!
//! Owns when that request is made, by whom, and what its completions mean. Sends as the ordinary backend does: a send by the ring is the
//! same work of the kernel with more around it, and zero-copy sends lose wherever datagrams stay on the machine (decision 0021).
//!
//! A request belongs to the thread that made it: only that thread, on its way through the kernel, does its work. So whoever polls most
//! has the request, sees in shared memory whether there is something, and asks the kernel only then. Any other thread receives from
//! the socket directly, and takes the request over when it polls again and again.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::batch::{Datagrams, Received, SendError, Transmit};
use crate::caps::Caps;
use crate::fork::{self, Mark};
use crate::mmsg::{self, Mmsg, Options};
use crate::poll::{Set, wait_readable};
use crate::ring::{CONTROL_BYTES, Completion, HEADER_BYTES, NAME_BYTES, Ring};
use crate::sys::Errno;

/// Looks in a row by a thread that does not have the request, after which it takes it over.
const TAKE_OVER: u32 = 64;
/// Steps of one look: a request is made, the kernel does what is due, and once more each.
const STEPS: u32 = 3;
/// What completes a cancellation; receives have numbers from 1.
const CANCELLATION: u64 = 0;

/// A bound UDP socket, and the ring that receives from it.
#[derive(Debug)]
pub struct Uring {
    main: Mmsg,
    ring: Ring,
    /// Ring and socket, to wait on; empty while nobody does.
    set: Set,
    watched: bool,
    /// The number of the present request, counted up; and whether it is still there.
    request: u64,
    is_armed: bool,
    /// The thread that made it.
    owner: u64,
    /// Looks by others since the owner's last.
    foreign: u32,
    stride: Option<fn(&[u8]) -> usize>,
    mark: Mark,
}

/// Binds as [`mmsg::bind`] does.
///
/// # Errors
/// As there; and when the kernel refuses io_uring or does not know all that this takes (Linux 6.0 does), in words that say so.
pub fn bind(address: SocketAddr, options: &Options) -> io::Result<Uring> {
    check().map_err(|why| io::Error::new(io::ErrorKind::Unsupported, why))?;
    make(address, options)
}

/// Whether this kernel lets this process use io_uring as this backend does: found out by doing it over loopback, once per process.
///
/// # Errors
/// Why not, in words.
pub fn check() -> Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    ANSWER.get_or_init(|| try_loopback().map_err(|error| refusal(&error))).clone()
}

fn refusal(error: &io::Error) -> String {
    let why = match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has no io_uring, or a filter of system calls hides it",
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is forbidden here: by kernel.io_uring_disabled, or by a filter of system calls (containers often have one)"
        }
        Some(libc::ENOMEM) => "no memory may be locked for a ring: see `ulimit -l`",
        Some(libc::EINVAL) => "this kernel's io_uring is too old: Linux 6.0 has what it takes",
        _ => "io_uring does not work here",
    };
    format!("{why} ({error})")
}

fn try_loopback() -> io::Result<()> {
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let options = Options { receive_buffer_bytes: 64 << 10, send_buffer_bytes: 64 << 10, ..Options::default() };
    let mut socket = make(local, &options)?;
    let (to, mut into) = (socket.local_addr(), [0; 64]);
    // Armed before anything is there.
    socket.receive(&mut into)?;
    socket.transmit(&Transmit::single(to, b"?")).map_err(io::Error::other)?;
    for _ in 0..100 {
        if socket.receive_by_ring(&mut into)?.is_some() {
            return Ok(());
        }
        wait_readable(&[socket.fds()], Some(Duration::from_millis(10)))?;
    }
    Err(io::Error::other("a datagram over loopback did not arrive"))
}

fn make(address: SocketAddr, options: &Options) -> io::Result<Uring> {
    let main = mmsg::bind(address, options)?.part_of("io-uring (multishot receive)");
    let ring = Ring::new()?;
    let set = Set::new()?;
    set.add(main.fds())?;
    set.add(ring.fd())?;
    let stride = options.stride.filter(|_| main.caps().gro);
    let mark = Mark::new();
    Ok(Uring { main, ring, set, watched: true, request: 0, is_armed: false, owner: 0, foreign: 0, stride, mark })
}

/// A number of the calling thread, never given again.
#[inline]
fn this_thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

impl Uring {
    /// Looks at what the kernel has completed, and has it do what is due.
    #[inline]
    fn receive_by_ring(&mut self, into: &mut [u8]) -> io::Result<Option<Received>> {
        for _ in 0..STEPS {
            if let Some(received) = self.take_next(into)? {
                return Ok(Some(received));
            }
            if !self.is_armed {
                self.arm()?;
            } else if self.ring.is_due() {
                self.ring.run()?;
            } else {
                return Ok(None);
            }
        }
        // What is due may be due to a thread that had the request before, or has ended: then nothing that we do here makes it less.
        self.take_next(into)
    }

    /// What the kernel has completed already.
    #[inline]
    fn take_next(&mut self, into: &mut [u8]) -> io::Result<Option<Received>> {
        while let Some(completion) = self.ring.next() {
            if let Some(received) = self.take(completion, into)? {
                return Ok(Some(received));
            }
        }
        Ok(None)
    }

    #[cold]
    fn arm(&mut self) -> io::Result<()> {
        self.request += 1;
        self.ring.arm(self.main.fds(), self.request)?;
        (self.owner, self.is_armed) = (this_thread(), true);
        Ok(())
    }

    /// Another thread polls than the one that has the request.
    #[cold]
    fn receive_as_other(&mut self, into: &mut [u8]) -> io::Result<Option<Received>> {
        self.foreign += 1;
        if self.foreign >= TAKE_OVER {
            self.foreign = 0;
            self.ring.cancel(self.request, CANCELLATION)?;
            self.is_armed = false;
            return self.receive_by_ring(into);
        }
        match self.take_next(into)? {
            None => self.main.receive(into),
            received => Ok(received),
        }
    }

    #[inline]
    fn take(&mut self, completion: Completion, into: &mut [u8]) -> io::Result<Option<Received>> {
        if completion.tag == self.request && !completion.more {
            self.is_armed = false;
        }
        let received = match (completion.result, completion.buffer) {
            (Ok(len), Some(buffer)) => read(self.ring.bytes(buffer, len), into),
            (Ok(_), None) => None,
            // The buffers were all in use, or the request ended with its thread or by us: the next one goes on.
            (Err(Errno(libc::ENOBUFS | libc::ECANCELED | libc::ENOENT | libc::EALREADY)), _) => None,
            (Err(errno), _) if mmsg::is_other_news(errno) || errno.0 == libc::EAGAIN => None,
            (Err(errno), _) => return Err(errno.into()),
        };
        if let Some(buffer) = completion.buffer {
            self.ring.give_back(buffer);
        }
        Ok(received.map(|received| self.delimited(received, into)))
    }

    /// A train may say itself how long its datagrams are.
    #[inline]
    fn delimited(&self, received: Received, into: &[u8]) -> Received {
        match self.stride {
            Some(stride) if received.len > 0 => {
                let segment = stride(&into[..received.len]).clamp(1, received.len);
                Received { segment, ..received }
            }
            _ => received,
        }
    }
}

impl Datagrams for Uring {
    fn local_addr(&self) -> SocketAddr {
        self.main.local_addr()
    }

    fn caps(&self) -> &Caps {
        self.main.caps()
    }

    #[inline]
    fn transmit(&mut self, train: &Transmit<'_>) -> Result<(), SendError> {
        self.main.transmit(train)
    }

    #[inline]
    fn receive(&mut self, into: &mut [u8]) -> io::Result<Option<Received>> {
        if self.mark.is_forked() {
            return Err(fork::refusal());
        }
        if self.is_armed && self.owner != this_thread() {
            return self.receive_as_other(into);
        }
        self.foreign = 0;
        self.receive_by_ring(into)
    }

    fn fds(&self) -> BorrowedFd<'_> {
        self.set.fd()
    }

    fn set(&self) -> Option<&Set> {
        Some(&self.set)
    }

    fn watched(&mut self, on: bool) -> io::Result<()> {
        if self.watched != on {
            let change = if on { Set::add } else { Set::remove };
            change(&self.set, self.main.fds())?;
            change(&self.set, self.ring.fd())?;
            self.watched = on;
        }
        Ok(())
    }
}

/// Copies a datagram or train out of a buffer, in which lengths and flags come first, then the name, control messages, and the bytes.
#[inline]
fn read(buffer: &[u8], into: &mut [u8]) -> Option<Received> {
    let number = |at: usize| Some(u32::from_ne_bytes(buffer.get(at..at + 4)?.try_into().ok()?) as usize);
    let (controls, flags) = (number(4)?, number(12)?);
    let from = name(buffer.get(HEADER_BYTES..HEADER_BYTES + NAME_BYTES)?)?;
    let control = buffer.get(HEADER_BYTES + NAME_BYTES..HEADER_BYTES + NAME_BYTES + CONTROL_BYTES)?;
    let bytes = buffer.get(HEADER_BYTES + NAME_BYTES + CONTROL_BYTES..)?;
    let len = bytes.len().min(into.len());
    into[..len].copy_from_slice(&bytes[..len]);
    let truncated = len < bytes.len() || flags & libc::MSG_TRUNC as usize != 0;
    let mut received = Received { from, len, segment: len, tos: 0, truncated };
    for slot in control[..controls.min(CONTROL_BYTES)].as_chunks::<SLOT>().0 {
        let int = |at: usize| i32::from_ne_bytes([slot[at], slot[at + 1], slot[at + 2], slot[at + 3]]);
        match (int(8), int(12)) {
            (libc::SOL_UDP, libc::UDP_GRO) => received.segment = len.min(int(16) as usize),
            (libc::IPPROTO_IP, libc::IP_TOS) => received.tos = slot[16],
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => received.tos = int(16) as u8,
            _ => {}
        }
    }
    Some(received)
}

/// A control message of up to an `int`: its length (a word), level and type, and the value, padded to a word.
const SLOT: usize = 24;
const _: () = assert!(size_of::<libc::cmsghdr>() == 16 && CONTROL_BYTES.is_multiple_of(SLOT));

/// An address as the kernel writes it, in one spelling: v4-mapped is v4.
#[inline]
fn name(raw: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes([raw[0], raw[1]]));
    let port = u16::from_be_bytes([raw[2], raw[3]]);
    match family {
        libc::AF_INET => Some((Ipv4Addr::new(raw[4], raw[5], raw[6], raw[7]), port).into()),
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(&raw[8..24]).ok()?);
            let scope = u32::from_ne_bytes(raw[24..28].try_into().ok()?);
            Some(
                ip.to_ipv4_mapped()
                    .map_or_else(|| SocketAddrV6::new(ip, port, 0, scope).into(), |v4| (v4, port).into()),
            )
        }
        _ => None,
    }
}
