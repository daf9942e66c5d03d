//! What every backend can do: a batch of datagrams out, a batch in.
//!
//! Owns the trait and its words. Refuses to say how: a kernel socket, a fault layer or a NIC queue look the same here.
//!
//! A *train* is several datagrams to one peer that travel as one call: all of the same size, the last maybe shorter.

use std::fmt;
use std::io;
use std::iter;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::caps::Caps;
use crate::poll::Set;

/// One datagram or one train to send.
#[derive(Debug, Clone, Copy)]
pub struct Transmit<'a> {
    /// To whom. A v4 address is fine on a dual-stack v6 socket.
    pub to: SocketAddr,
    /// All datagrams of the train, end to end.
    pub bytes: &'a [u8],
    /// Bytes of each datagram but the last, which may be shorter. At least `bytes.len()` for a single datagram.
    pub segment: usize,
    /// Type of service (DSCP and ECN bits) of all of them; `None` leaves the socket's own and is cheaper.
    pub tos: Option<u8>,
}

impl<'a> Transmit<'a> {
    /// One datagram with the socket's own type of service.
    pub fn single(to: SocketAddr, bytes: &'a [u8]) -> Self {
        Self { to, bytes, segment: bytes.len(), tos: None }
    }

    /// The datagrams one by one; an empty `bytes` is one empty datagram.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        split(self.bytes, self.segment)
    }
}

/// One datagram or one train that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// From whom; always plain v4 for a v4 peer, whatever the socket.
    pub from: SocketAddr,
    /// Bytes in the buffer.
    pub len: usize,
    /// Bytes from one datagram of a train to the next; equal to `len` if there is just one.
    pub segment: usize,
    /// Type of service as it arrived (DSCP and ECN bits); 0 unless the backend was asked to report it.
    pub tos: u8,
    /// The buffer was too short and the rest is lost.
    pub truncated: bool,
}

impl Received {
    /// The datagrams one by one, out of the buffer that was given to `receive`.
    pub fn datagrams<'b>(&self, buffer: &'b [u8]) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        split(&buffer[..self.len], self.segment)
    }
}

fn split(bytes: &[u8], segment: usize) -> impl Iterator<Item = &[u8]> {
    assert!(segment > 0 || bytes.is_empty(), "a train of empty datagrams");
    let (first, rest) = bytes.split_at(segment.min(bytes.len()));
    iter::once(first).chain(rest.chunks(segment.max(1)))
}

/// Why a train was not sent.
#[derive(Debug)]
pub enum SendError {
    /// The kernel's buffer is full. Wait until the descriptor is writable, then give the bytes from `sent` on again.
    WouldBlock {
        /// Leading bytes of the train that the kernel has taken, always whole datagrams; 0 unless a train had to be cut.
        sent: usize,
    },
    /// A datagram is larger than the interface on the way (or UDP itself) takes.
    TooBig,
    /// Anything else: no route, a firewall, no memory. Sending again may or may not help; treat it as a lost datagram.
    Other(io::Error),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock { sent: 0 } => f.write_str("the socket's send buffer is full"),
            Self::WouldBlock { sent } => {
                write!(f, "the socket's send buffer is full after {sent} bytes")
            }
            Self::TooBig => f.write_str("the datagram is larger than the interface's MTU"),
            Self::Other(error) => write!(f, "cannot send: {error}"),
        }
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Other(error) => Some(error),
            Self::WouldBlock { .. } | Self::TooBig => None,
        }
    }
}

/// Datagrams to and from somewhere. No call blocks.
pub trait Datagrams: Send {
    /// Where we are bound, with the port that the kernel chose.
    fn local_addr(&self) -> SocketAddr;

    /// What this backend can do; may shrink while it runs, if the kernel refuses what it once promised.
    fn caps(&self) -> &Caps;

    /// Sends a datagram or a train.
    ///
    /// # Panics
    /// If `segment` is 0 and `bytes` is not empty.
    fn transmit(&mut self, train: &Transmit<'_>) -> Result<(), SendError>;

    /// Receives a datagram or a train into the start of the buffer; `None` if there is nothing now.
    ///
    /// The buffer should hold 65,535 bytes: what does not fit is lost (`truncated`).
    fn receive(&mut self, into: &mut [u8]) -> io::Result<Option<Received>>;

    /// The descriptor to wait on: readable when `receive` has something. Where it is a single socket it is also writable when
    /// `transmit` has room; a set of several tells nothing of that.
    fn fds(&self) -> BorrowedFd<'_>;

    /// What [`Self::fds`] is, where it is a set that others may join: who also waits for something else adds that, and waits for all of it
    /// by one descriptor. Default: none.
    fn set(&self) -> Option<&Set> {
        None
    }

    /// The socket that everything arrives at, when it is only one: always the same one, as long as there is any. Who waits on it itself is
    /// woken sooner than through a set, on the CPU of a sender on the same machine. Default: none.
    fn alone(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether anybody waits on the descriptor from now on. Who calls `receive` without pause says `false`; the descriptor may
    /// then stay silent, which spares senders on the same machine the work of ringing it. At first somebody does.
    ///
    /// # Errors
    /// When the descriptor cannot be made to ring: do not wait on it alone.
    fn watched(&mut self, on: bool) -> io::Result<()> {
        let _ = on;
        Ok(())
    }

    /// In how long from now `receive` must be called even though the descriptor stays silent; only the fault layer delays.
    fn next_due(&self) -> Option<Duration> {
        None
    }
}

impl<D: Datagrams + ?Sized> Datagrams for Box<D> {
    fn local_addr(&self) -> SocketAddr {
        (**self).local_addr()
    }

    fn caps(&self) -> &Caps {
        (**self).caps()
    }

    fn transmit(&mut self, train: &Transmit<'_>) -> Result<(), SendError> {
        (**self).transmit(train)
    }

    fn receive(&mut self, into: &mut [u8]) -> io::Result<Option<Received>> {
        (**self).receive(into)
    }

    fn fds(&self) -> BorrowedFd<'_> {
        (**self).fds()
    }

    fn set(&self) -> Option<&Set> {
        (**self).set()
    }

    fn alone(&self) -> Option<BorrowedFd<'_>> {
        (**self).alone()
    }

    fn watched(&mut self, on: bool) -> io::Result<()> {
        (**self).watched(on)
    }

    fn next_due(&self) -> Option<Duration> {
        (**self).next_due()
    }
}
