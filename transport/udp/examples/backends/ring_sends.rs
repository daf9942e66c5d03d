//! A backend for measuring only: each send goes through an io_uring, with or without copying, and is waited for.

#![allow(unsafe_code, reason = "submissions point to what they send")]

use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{IoUring, cqueue, opcode, types::Fd};
use udp::{Caps, Datagrams, Mmsg, Options, Received, SendError, Transmit, bind};

/// Room for one control message with a number of 16 bits.
#[repr(C, align(8))]
struct Segment([u8; 24]);

/// A socket that sends by a ring.
pub(crate) struct RingSends {
    socket: Mmsg,
    ring: IoUring,
    zero_copy: bool,
}

impl RingSends {
    /// None where there is no io_uring.
    pub(crate) fn bind(ip: IpAddr, zero_copy: bool) -> Option<Self> {
        let socket = bind((ip, 0).into(), &Options::default()).ok()?;
        Some(Self { socket, ring: IoUring::new(8).ok()?, zero_copy })
    }
}

fn name(to: SocketAddr) -> libc::sockaddr_in {
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut name: libc::sockaddr_in = unsafe { zeroed() };
    if let SocketAddr::V4(to) = to {
        name.sin_family = libc::AF_INET as u16;
        name.sin_port = to.port().to_be();
        name.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
    }
    name
}

impl Datagrams for RingSends {
    fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    fn caps(&self) -> &Caps {
        self.socket.caps()
    }

    fn transmit(&mut self, train: &Transmit<'_>) -> Result<(), SendError> {
        let mut name = name(train.to);
        let mut part = libc::iovec { iov_base: train.bytes.as_ptr().cast_mut().cast(), iov_len: train.bytes.len() };
        let mut control = Segment([0; 24]);
        control.0[..8].copy_from_slice(&18_usize.to_ne_bytes());
        control.0[8..12].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
        control.0[12..16].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
        control.0[16..18].copy_from_slice(&(train.segment as u16).to_ne_bytes());
        // SAFETY: all fields are numbers or pointers, for which zero is a value.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_name = (&raw mut name).cast();
        message.msg_namelen = size_of_val(&name) as u32;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if train.segment < train.bytes.len() {
            message.msg_control = (&raw mut control).cast();
            message.msg_controllen = 24;
        }
        let fd = Fd(self.socket.fds().as_raw_fd());
        let entry = if self.zero_copy {
            opcode::SendMsgZc::new(fd, &raw const message).build()
        } else {
            opcode::SendMsg::new(fd, &raw const message).build()
        };
        // SAFETY: everything it points to outlives the completions, for which the loop below waits.
        unsafe { self.ring.submission().push(&entry) }.expect("there is room");
        loop {
            self.ring.submit_and_wait(1).map_err(SendError::Other)?;
            while let Some(done) = self.ring.completion().next() {
                if done.result() < 0 {
                    return Err(SendError::Other(io::Error::from_raw_os_error(-done.result())));
                }
                // Without copying a second one says that the bytes are ours again.
                if !cqueue::more(done.flags()) {
                    return Ok(());
                }
            }
        }
    }

    fn receive(&mut self, into: &mut [u8]) -> io::Result<Option<Received>> {
        self.socket.receive(into)
    }

    fn fds(&self) -> BorrowedFd<'_> {
        self.socket.fds()
    }
}
