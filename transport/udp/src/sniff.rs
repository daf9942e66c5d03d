//! Packets of an interface as they pass, from their IP header on (packet(7)): for who watches and sends nothing.

#![expect(unsafe_code, reason = "packet sockets have an address of their own")]

use std::ffi::CString;
use std::io::{self, ErrorKind};
use std::mem::{size_of, zeroed};
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Bytes that wait in the kernel while nobody reads.
const BUFFER_BYTES: usize = 64 << 20;

/// An interface that is watched.
#[derive(Debug)]
pub struct Sniffer(Socket);

/// A packet that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Its bytes in the buffer.
    pub len: usize,
    /// Its bytes on the interface.
    pub original_len: usize,
}

const fn all_protocols() -> u16 {
    (libc::ETH_P_ALL as u16).to_be()
}

impl Sniffer {
    /// Watches the interface of that name. A reader waits for at most `patience`.
    ///
    /// # Errors
    /// When there is none, or the process may not: it takes CAP_NET_RAW.
    pub fn open(interface: &str, patience: Duration) -> io::Result<Self> {
        let name = CString::new(interface)?;
        // SAFETY: the name ends with a zero byte and lives during the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // Protocol 0: nothing comes from other interfaces before it is bound to one.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
        socket.set_read_timeout(Some(patience))?;
        // The kernel may give less; what does not fit is counted.
        socket.set_recv_buffer_size(BUFFER_BYTES)?;
        // SAFETY: all zero is a value of this structure of plain fields.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        (address.sll_family, address.sll_ifindex) = (libc::AF_PACKET as u16, index as i32);
        address.sll_protocol = all_protocols();
        let len = size_of::<libc::sockaddr_ll>() as u32;
        // SAFETY: the address has the length that is stated, and is only read.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(socket)) }
    }

    /// The next packet; `None` when none came in time, or only one that will be seen again: the loopback interface shows each twice.
    ///
    /// # Errors
    /// The kernel's.
    pub fn next(&self, into: &mut [u8]) -> io::Result<Option<Passed>> {
        // SAFETY: all zero is a value of this structure of plain fields.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        let mut len = size_of::<libc::sockaddr_ll>() as u32;
        let fd = self.0.as_raw_fd();
        // SAFETY: buffer and address have the lengths that are stated, and are this function's alone during the call.
        let got = unsafe {
            let address = (&raw mut address).cast();
            libc::recvfrom(fd, into.as_mut_ptr().cast(), into.len(), libc::MSG_TRUNC, address, &raw mut len)
        };
        if got < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        }
        let twice = address.sll_hatype == libc::ARPHRD_LOOPBACK && address.sll_pkttype == libc::PACKET_OUTGOING;
        let original_len = got as usize;
        Ok((!twice).then_some(Passed { len: original_len.min(into.len()), original_len }))
    }

    /// Packets that the kernel had no room for since it was last asked.
    ///
    /// # Errors
    /// The kernel's.
    pub fn dropped(&self) -> io::Result<u64> {
        // SAFETY: all zero is a value of this structure of plain fields.
        let mut stats: libc::tpacket_stats = unsafe { zeroed() };
        let mut len = size_of::<libc::tpacket_stats>() as u32;
        let (fd, stats_at) = (self.0.as_raw_fd(), (&raw mut stats).cast());
        // SAFETY: the structure has the length that is stated, and is this function's alone during the call.
        let got = unsafe { libc::getsockopt(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, stats_at, &raw mut len) };
        if got < 0 { Err(io::Error::last_os_error()) } else { Ok(u64::from(stats.tp_drops)) }
    }
}
