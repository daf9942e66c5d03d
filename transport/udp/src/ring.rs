//! One io_uring with buffers that the kernel fills: multishot receives and nothing else.
//!
//! Owns the memory that the kernel writes into, and the `unsafe` that this takes. Refuses policy: who arms a receive, and what a
//! completion means, is `uring`'s.
//!
//! A request's work runs on the thread that submitted it, at that thread's next way through the kernel (`COOP_TASKRUN`): no interrupt
//! tells it, a flag in shared memory does ([`Ring::is_due`]).

#![expect(unsafe_code, reason = "the kernel writes into memory of ours while other code runs")]

use std::fmt;
use std::io;
use std::mem::{ManuallyDrop, size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, CancelBuilder, Fd, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use libc::c_int;

use crate::fork::Mark;
use crate::pages::Pages;
use crate::sys::Errno;

/// Buffers, a power of two. The kernel takes them in turn, so all of them are touched: few stay in the cache.
const BUFFERS: u16 = 16;
/// Bytes of a buffer: the largest train and what stands in front of it, in whole cache lines.
const BUFFER_BYTES: usize = 65_536 + 192;
/// The only group of buffers.
const GROUP: u16 = 0;
/// Bytes that the kernel keeps for a name in front of the datagram.
pub(crate) const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();
/// Bytes that it keeps for control messages: at most `UDP_GRO`, `IP_TOS` and `IPV6_TCLASS`.
pub(crate) const CONTROL_BYTES: usize = 3 * 24;
/// Four numbers come first: lengths of name, control messages and datagram, and flags.
pub(crate) const HEADER_BYTES: usize = 16;
const _: () = assert!(HEADER_BYTES + NAME_BYTES + CONTROL_BYTES + 65_535 <= BUFFER_BYTES);
/// Submissions: a receive and a cancellation at most.
const SUBMISSIONS: u32 = 8;
/// How long the end waits for the kernel to let go of the buffers. Past that they are never given back.
const PATIENCE_SECONDS: u64 = 2;

/// What the kernel says of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Completion {
    /// Which request.
    pub(crate) tag: u64,
    pub(crate) result: Result<usize, Errno>,
    /// More will come of the same request.
    pub(crate) more: bool,
    /// Where the bytes are. It is ours until it is given back.
    pub(crate) buffer: Option<u16>,
}

/// The ring and its buffers.
pub(crate) struct Ring {
    io: ManuallyDrop<IoUring>,
    /// Which buffers the kernel may use: entries of a ring.
    free: Pages,
    buffers: Pages,
    /// What comes before each datagram. Boxed: the kernel is given its address.
    shape: Box<libc::msghdr>,
    /// Buffers ever given to the kernel, modulo 2^16.
    tail: u16,
    mark: Mark,
}

// SAFETY: its pointers are to memory that it alone owns, and which is tied to no thread.
unsafe impl Send for Ring {}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("fd", &self.io.as_raw_fd()).finish_non_exhaustive()
    }
}

impl Ring {
    pub(crate) fn new() -> io::Result<Self> {
        let io = IoUring::builder()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(4 * u32::from(BUFFERS))
            .dontfork()
            .build(SUBMISSIONS)?;
        let free = Pages::new(size_of::<BufRingEntry>() * usize::from(BUFFERS))?;
        let buffers = Pages::new(BUFFER_BYTES * usize::from(BUFFERS)).inspect_err(|_| free.free())?;
        // SAFETY: all fields are integers or pointers, for which zero is a value.
        let mut shape: Box<libc::msghdr> = Box::new(unsafe { zeroed() });
        shape.msg_namelen = NAME_BYTES as _;
        shape.msg_controllen = CONTROL_BYTES as _;
        let mut ring = Self { io: ManuallyDrop::new(io), free, buffers, shape, tail: 0, mark: Mark::new() };
        let at = ring.free.at as u64;
        // SAFETY: the entries are in pages of their own, as many as stated, and stay until the ring has ended (see `drop`).
        unsafe { ring.io.submitter().register_buf_ring_with_flags(at, BUFFERS, GROUP, 0) }?;
        (0..BUFFERS).for_each(|buffer| ring.give_back(buffer));
        Ok(ring)
    }

    /// Readable when there are completions.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the ring is, which the borrow outlives not.
        unsafe { BorrowedFd::borrow_raw(self.io.as_raw_fd()) }
    }

    /// Receives from this socket from now on, until a completion says that no more will come.
    pub(crate) fn arm(&mut self, socket: BorrowedFd<'_>, tag: u64) -> io::Result<()> {
        let entry = opcode::RecvMsgMulti::new(Fd(socket.as_raw_fd()), &raw const *self.shape, GROUP);
        // SAFETY: the kernel holds the socket from the submission on; the header is boxed, and the buffers of the group live as long as the ring.
        unsafe { self.submit(&entry.build().user_data(tag)) }
    }

    /// Ends a request. It completes, and so does this one, with the tag `own`.
    pub(crate) fn cancel(&mut self, tag: u64, own: u64) -> io::Result<()> {
        // SAFETY: the entry holds numbers only.
        unsafe { self.submit(&opcode::AsyncCancel::new(tag).build().user_data(own)) }
    }

    /// # Safety
    /// What the entry points to lives until it completes.
    unsafe fn submit(&mut self, entry: &io_uring::squeue::Entry) -> io::Result<()> {
        // SAFETY: as promised by the caller. The queue has room: each entry is submitted at once.
        unsafe { self.io.submission().push(entry) }.map_err(io::Error::other)?;
        loop {
            match self.io.submit() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done.map(drop),
            }
        }
    }

    /// Whether a request of this thread waits for a way through the kernel.
    #[inline]
    pub(crate) fn is_due(&mut self) -> bool {
        let queue = self.io.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Goes through the kernel.
    pub(crate) fn run(&self) -> io::Result<()> {
        // With nothing to submit this only runs what is due.
        match self.io.submit() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            done => done.map(drop),
        }
    }

    /// The oldest completion that nobody took.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Completion> {
        let entry = self.io.completion().next()?;
        let (flags, result) = (entry.flags(), entry.result());
        let result = usize::try_from(result).map_err(|_| Errno(-result));
        let buffer = cqueue::buffer_select(flags).filter(|buffer| *buffer < BUFFERS);
        Some(Completion { tag: entry.user_data(), result, more: cqueue::more(flags), buffer })
    }

    /// The first bytes of a buffer that a completion named and that was not given back.
    #[inline]
    pub(crate) fn bytes(&self, buffer: u16, len: usize) -> &[u8] {
        assert!(buffer < BUFFERS && len <= BUFFER_BYTES, "a buffer that there is not");
        // SAFETY: inside of the mapping, as just checked, which is never unmapped while `self` lives; the kernel writes into none that it
        // named in a completion, until it is given back, for which `self` must be borrowed again.
        unsafe { std::slice::from_raw_parts(self.buffers.at.add(usize::from(buffer) * BUFFER_BYTES), len) }
    }

    /// Lets the kernel use a buffer again.
    #[inline]
    pub(crate) fn give_back(&mut self, buffer: u16) {
        assert!(buffer < BUFFERS, "a buffer that there is not");
        let entries = self.free.at.cast::<BufRingEntry>();
        // SAFETY: the index is below the number of entries; the kernel reads this one only after the tail below has passed it. What is
        // written leaves out the first entry's last field, which holds the tail.
        unsafe {
            let entry = entries.add(usize::from(self.tail % BUFFERS));
            (*entry).set_addr(self.buffers.at.add(usize::from(buffer) * BUFFER_BYTES) as u64);
            (*entry).set_len(BUFFER_BYTES as u32);
            (*entry).set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the pointer is to the aligned last field of the first entry, which this side changes by this store only.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(entries).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.mark.is_forked() {
            // The mappings are the parent's alone, and here something else may stand where they were.
            return;
        }
        // The kernel must have let go before the memory is anybody else's. A receive may belong to another thread, which runs its end.
        let patience = Timespec::new().sec(PATIENCE_SECONDS);
        let ended = self.io.submitter().register_sync_cancel(Some(patience), CancelBuilder::any().all());
        let has_let_go = match ended {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(c_int::from(libc::ENOENT)),
        };
        // SAFETY: it is dropped once, here, and not used below.
        unsafe { ManuallyDrop::drop(&mut self.io) };
        if has_let_go {
            self.buffers.free();
            self.free.free();
        }
    }
}
