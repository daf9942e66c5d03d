//! One AF_XDP socket: frames in memory that is shared with the kernel, and four rings of descriptors that say whose they are.
//!
//! Owns that memory, and the `unsafe` that it takes: a frame is ours or the kernel's, and passes from one to the other by a ring. Refuses to
//! know what a frame holds.

#![expect(unsafe_code, reason = "rings and frames are shared with the kernel")]

use std::io;
use std::mem::{ManuallyDrop, size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::null;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::c_int;

use crate::fork::Mark;
use crate::pages::Pages;

/// Frames that the kernel may have for what arrives, a power of two.
const FRAMES_IN: u32 = 2048;
/// Frames for what we send, a power of two.
const FRAMES_OUT: u32 = 1024;
/// What the kernel keeps free in front of each frame that arrives.
const HEADROOM: usize = 256;
/// Looks at the ring after which sending goes on later: each has the kernel send some.
const KICKS_MAX: u32 = 64;

/// One ring of descriptors. One side counts what it put in, the other what it took out.
struct Ring {
    map: Pages,
    producer: *const AtomicU32,
    consumer: *const AtomicU32,
    flags: *const AtomicU32,
    /// Of `u64` (addresses) or [`libc::xdp_desc`].
    entries: *mut u8,
    mask: u32,
}

impl Ring {
    /// How many are in it.
    fn len(&self) -> u32 {
        // SAFETY: both are aligned numbers in the mapping, which lives as long as the ring; all use is atomic.
        let (producer, consumer) = unsafe { (&*self.producer, &*self.consumer) };
        producer.load(Ordering::Acquire).wrapping_sub(consumer.load(Ordering::Acquire))
    }

    /// Where the next one is taken.
    ///
    /// # Safety
    /// `T` is what the ring holds, and it is not empty.
    unsafe fn front<T: Copy>(&self) -> T {
        // SAFETY: masked, so inside of the ring; not empty, so the kernel has written it and does not write again before it is taken.
        unsafe {
            let at = (*self.consumer).load(Ordering::Relaxed) & self.mask;
            self.entries.cast::<T>().add(at as usize).read()
        }
    }

    fn pop(&mut self) {
        // SAFETY: as in `len`. Only we count this one up.
        unsafe { &*self.consumer }.fetch_add(1, Ordering::Release);
    }

    /// # Safety
    /// `T` is what the ring holds, it is not full, and what the entry names is the kernel's from now on.
    unsafe fn push<T>(&mut self, entry: T) {
        // SAFETY: masked, so inside of the ring; not full, so the kernel has taken what stood there.
        unsafe {
            let producer = &*self.producer;
            let at = producer.load(Ordering::Relaxed);
            self.entries.cast::<T>().add((at & self.mask) as usize).write(entry);
            producer.store(at.wrapping_add(1), Ordering::Release);
        }
    }

    fn wants_wakeup(&self) -> bool {
        // SAFETY: as in `len`.
        unsafe { &*self.flags }.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// The socket of one queue of an interface.
pub(crate) struct Queue {
    fd: ManuallyDrop<OwnedFd>,
    frames: Pages,
    frame_bytes: usize,
    arrived: Ring,
    sending: Ring,
    /// Frames that may be filled with what arrives.
    empty: Ring,
    /// Frames that were sent.
    sent: Ring,
    /// Frames for sending that are ours now.
    ours: Vec<u32>,
    mark: Mark,
}

// SAFETY: its pointers are into mappings that it alone owns and that are tied to no thread; it is used by one at a time.
unsafe impl Send for Queue {}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("fd", &self.fd.as_raw_fd()).finish_non_exhaustive()
    }
}

/// An AF_XDP socket that is bound to nothing. Fails where nothing of this is allowed.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made it, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set<T>(fd: BorrowedFd<'_>, option: c_int, value: &T) -> io::Result<()> {
    let (at, len) = (std::ptr::from_ref(value).cast(), size_of::<T>() as u32);
    // SAFETY: the value is live and given with its length; the kernel reads it only.
    let done = unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_XDP, option, at, len) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn offsets(fd: BorrowedFd<'_>) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut offsets: libc::xdp_mmap_offsets = unsafe { zeroed() };
    let mut len = size_of_val(&offsets) as u32;
    let at = (&raw mut offsets).cast();
    // SAFETY: both are live, ours alone, and given with their length.
    let done = unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, at, &raw mut len) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(offsets) }
}

/// Maps one ring.
fn ring<T>(fd: BorrowedFd<'_>, at: libc::xdp_ring_offset, page: i64, count: u32) -> io::Result<Ring> {
    let map = Pages::of(fd, at.desc as usize + count as usize * size_of::<T>(), page)?;
    // SAFETY: the kernel says where these stand in the mapping, whose length was made to hold them.
    let (producer, consumer, flags, entries) = unsafe {
        let base = map.at;
        (
            base.add(at.producer as usize),
            base.add(at.consumer as usize),
            base.add(at.flags as usize),
            base.add(at.desc as usize),
        )
    };
    Ok(Ring {
        map,
        producer: producer.cast(),
        consumer: consumer.cast(),
        flags: flags.cast(),
        entries,
        mask: count - 1,
    })
}

fn map_rings(fd: BorrowedFd<'_>, at: &libc::xdp_mmap_offsets, rings: &mut Vec<Ring>) -> io::Result<()> {
    rings.push(ring::<libc::xdp_desc>(fd, at.rx, libc::XDP_PGOFF_RX_RING, FRAMES_IN)?);
    rings.push(ring::<libc::xdp_desc>(fd, at.tx, libc::XDP_PGOFF_TX_RING, FRAMES_OUT)?);
    rings.push(ring::<u64>(fd, at.fr, libc::XDP_UMEM_PGOFF_FILL_RING as i64, FRAMES_IN)?);
    rings.push(ring::<u64>(fd, at.cr, libc::XDP_UMEM_PGOFF_COMPLETION_RING as i64, FRAMES_OUT)?);
    Ok(())
}

fn bind_to(fd: BorrowedFd<'_>, interface: u32, queue: u32) -> io::Result<()> {
    let name = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: libc::XDP_USE_NEED_WAKEUP,
        sxdp_ifindex: interface,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    // SAFETY: the name is live and given with its length.
    let done = unsafe { libc::bind(fd.as_raw_fd(), (&raw const name).cast(), size_of_val(&name) as u32) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl Queue {
    /// Binds to one queue of an interface, with frames of `frame_bytes`, 2,048 or 4,096.
    pub(crate) fn open(interface: u32, queue: u32, frame_bytes: usize) -> io::Result<Self> {
        let socket = socket()?;
        let fd = socket.as_fd();
        let frames = Pages::new((FRAMES_IN + FRAMES_OUT) as usize * frame_bytes)?;
        let bound = Self::bind(fd, &frames, interface, queue, frame_bytes);
        let [arrived, sending, empty, sent] = bound.inspect_err(|_| frames.free())?;
        let ours = (FRAMES_IN..FRAMES_IN + FRAMES_OUT).collect();
        let fd = ManuallyDrop::new(socket);
        let mut queue = Self { fd, frames, frame_bytes, arrived, sending, empty, sent, ours, mark: Mark::new() };
        // SAFETY: the ring of addresses has room for all of them, and nobody uses these frames.
        (0..FRAMES_IN).for_each(|frame| unsafe { queue.empty.push(u64::from(frame) * frame_bytes as u64) });
        Ok(queue)
    }

    /// Rings of what arrived, what is to be sent, what is empty, what was sent.
    fn bind(
        fd: BorrowedFd<'_>,
        frames: &Pages,
        interface: u32,
        queue: u32,
        frame_bytes: usize,
    ) -> io::Result<[Ring; 4]> {
        // SAFETY: all fields are numbers, for which zero is a value.
        let mut memory: libc::xdp_umem_reg = unsafe { zeroed() };
        (memory.addr, memory.len, memory.chunk_size) = (frames.at as u64, frames.len as u64, frame_bytes as u32);
        set(fd, libc::XDP_UMEM_REG, &memory)?;
        set(fd, libc::XDP_UMEM_FILL_RING, &FRAMES_IN)?;
        set(fd, libc::XDP_UMEM_COMPLETION_RING, &FRAMES_OUT)?;
        set(fd, libc::XDP_RX_RING, &FRAMES_IN)?;
        set(fd, libc::XDP_TX_RING, &FRAMES_OUT)?;
        let at = offsets(fd)?;
        let mut rings = Vec::new();
        let made = map_rings(fd, &at, &mut rings).and_then(|()| bind_to(fd, interface, queue));
        let freed = |rings: Vec<Ring>| rings.iter().for_each(|ring| ring.map.free());
        match made {
            Ok(()) => rings.try_into().map_err(|rings| {
                freed(rings);
                io::Error::other("four rings were asked for")
            }),
            Err(error) => {
                freed(rings);
                Err(error)
            }
        }
    }

    /// Readable when something arrived.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The most bytes of a frame that arrives.
    pub(crate) const fn frame_max(frame_bytes: usize) -> usize {
        frame_bytes - HEADROOM
    }

    /// The oldest frame that arrived, until it is dropped by [`Queue::skip`].
    #[inline]
    pub(crate) fn front(&self) -> Option<&[u8]> {
        if self.arrived.len() == 0 {
            return None;
        }
        // SAFETY: it holds descriptors and is not empty.
        let entry: libc::xdp_desc = unsafe { self.arrived.front() };
        let (at, len) = (entry.addr as usize, entry.len as usize);
        assert!(at.checked_add(len).is_some_and(|end| end <= self.frames.len), "a frame that there is not");
        // SAFETY: inside of the mapping, as just checked; a frame in this ring is ours until `skip`, for which `self` is borrowed again.
        Some(unsafe { std::slice::from_raw_parts(self.frames.at.add(at), len) })
    }

    /// Gives the oldest frame that arrived back to the kernel. There is one.
    #[inline]
    pub(crate) fn skip(&mut self) {
        assert!(self.arrived.len() > 0, "nothing arrived");
        // SAFETY: it holds descriptors and is not empty.
        let entry: libc::xdp_desc = unsafe { self.arrived.front() };
        self.arrived.pop();
        let start = entry.addr - entry.addr % self.frame_bytes as u64;
        // SAFETY: the ring of empty frames has room for all frames that arrive in, and nobody uses this one any more.
        unsafe { self.empty.push(start) };
        if self.empty.wants_wakeup() {
            // The driver stopped for want of frames.
            let _ = self.wake();
        }
    }

    /// Has `write` fill a frame, whose length it gives, to be sent with the next `kick`. Whether there was a frame.
    #[inline]
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        while self.sent.len() > 0 {
            // SAFETY: it holds addresses and is not empty.
            let address: u64 = unsafe { self.sent.front() };
            self.sent.pop();
            self.ours.push((address / self.frame_bytes as u64) as u32);
        }
        let Some(frame) = self.ours.pop() else { return false };
        let at = frame as usize * self.frame_bytes;
        assert!(at + self.frame_bytes <= self.frames.len, "a frame that there is not");
        // SAFETY: inside of the mapping, as just checked; a frame among `ours` is in no ring.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.frames.at.add(at), self.frame_bytes) };
        let len = write(bytes).min(self.frame_bytes) as u32;
        // SAFETY: it holds descriptors; it has room for all frames that are sent. The frame is the kernel's until it is among those sent.
        unsafe { self.sending.push(libc::xdp_desc { addr: at as u64, len, options: 0 }) };
        true
    }

    /// Has the kernel send what was pushed. Whether it took all of it; the rest stays for the next `kick`.
    pub(crate) fn kick(&mut self) -> io::Result<bool> {
        for _ in 0..KICKS_MAX {
            if self.sending.len() == 0 {
                return Ok(true);
            }
            match self.wake() {
                Ok(()) => {}
                Err(error) => match error.raw_os_error() {
                    // It sends so many at a time, or the interface is busy.
                    Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR) => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(self.sending.len() == 0)
    }

    fn wake(&self) -> io::Result<()> {
        // SAFETY: nothing is pointed to.
        let done = unsafe { libc::sendto(self.fd.as_raw_fd(), null(), 0, libc::MSG_DONTWAIT, null(), 0) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if self.mark.is_forked() {
            // The mappings are the parent's alone, and here something else may stand where they were.
            return;
        }
        // SAFETY: it is dropped once, here, and not used below. The kernel has pinned the frames as long as it needs them.
        unsafe { ManuallyDrop::drop(&mut self.fd) };
        self.frames.free();
        for ring in [&self.arrived, &self.sending, &self.empty, &self.sent] {
            ring.map.free();
        }
    }
}
