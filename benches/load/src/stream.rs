//! A TCP connection, and messages with a length in front on it.
//!
//! Owns: socket options, the two ways to wait, framing. Refuses: sealing, and queues: what is not sent yet stays with
//! the caller.
//!
//! Sockets are never put into non-blocking mode: `MSG_DONTWAIT` says it per call, so that a client that waits for
//! replies only can sleep in `recv` itself, which is cheaper than `poll` and then `recv`.

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use anyhow::{Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use rustix::time::Timespec;
use socket2::{Domain, Protocol, Socket, Type};

use crate::client::REPLY_TIMEOUT;
use crate::spec::{Mode, SPIN, Spec};

/// Bytes of the length in front of each message.
pub(crate) const PREFIX: usize = 4;

/// Bytes of the two headers, without options.
const IP_AND_TCP: u32 = 40;

/// The length in front of a message of `size` bytes.
pub(crate) fn prefix(size: usize) -> [u8; PREFIX] {
    (size as u32).to_le_bytes()
}

/// The length of the message at the front with its prefix, if all of it is there.
pub(crate) fn frame_len(bytes: &[u8]) -> Option<usize> {
    let (prefix, rest) = bytes.split_first_chunk::<PREFIX>()?;
    let len = u32::from_le_bytes(*prefix) as usize;
    (rest.len() >= len).then_some(PREFIX + len)
}

/// How many bytes at the front are whole messages.
pub(crate) fn whole_frames(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Some(len) = frame_len(&bytes[end..]) {
        end += len;
    }
    end
}

/// What a read found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// So many bytes.
    Bytes(usize),
    /// None for now.
    Nothing,
    /// The other side closed.
    End,
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    mode: Mode,
}

/// A listener on a free port of the loopback address.
pub(crate) fn listen(mtu: Option<u32>) -> Result<TcpListener> {
    let socket = new_socket(mtu)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(4)?;
    Ok(socket.into())
}

/// Cubic: where the host's default is bbr, its pacing slows every message on loopback and would flatter the others.
fn new_socket(mtu: Option<u32>) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    // A kernel without it keeps its default; `Environment` says which.
    let _ = socket.set_tcp_congestion(b"cubic");
    socket.set_tcp_nodelay(true)?;
    if let Some(mtu) = mtu {
        // What leaves is what fits such a path; time stamps take 12 bytes more of it.
        socket.set_tcp_mss(mtu - IP_AND_TCP)?;
    }
    Ok(socket)
}

/// The congestion control that our TCP sockets get.
pub(crate) fn congestion() -> String {
    let name = new_socket(None).and_then(|socket| Ok(rustix::net::sockopt::tcp_congestion(&socket)?));
    name.unwrap_or_else(|_| "unknown".to_owned())
}

impl Link {
    pub(crate) fn connect(spec: &Spec, port: u16) -> Result<Self> {
        let socket = new_socket(spec.mtu)?;
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
        socket.set_read_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Self { stream: socket.into(), mode: spec.mode })
    }

    pub(crate) fn accept(listener: &TcpListener, mode: Mode) -> Result<Self> {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, mode })
    }

    /// The socket, for options that only one peer sets.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads once, waiting as the mode says. With `unsent` bytes a blocked reader also wakes up for room to write.
    pub(crate) fn recv(&self, into: &mut [u8], unsent: bool) -> Result<Got> {
        if self.mode == Mode::Adaptive
            && let found @ (Got::Bytes(_) | Got::End) = self.spin(into, unsent)?
        {
            return Ok(found);
        }
        let flags = match (self.mode, unsent) {
            (Mode::Block | Mode::Adaptive, false) => RecvFlags::empty(),
            (Mode::Block | Mode::Adaptive, true) => {
                self.wait_either()?;
                RecvFlags::DONTWAIT
            }
            (Mode::Spin | Mode::Turns, _) => RecvFlags::DONTWAIT,
        };
        self.recv_now(into, flags)
    }

    /// Polls for a while; less when there is something to write as soon as there is room.
    fn spin(&self, into: &mut [u8], unsent: bool) -> Result<Got> {
        let since = Instant::now();
        loop {
            match self.recv_now(into, RecvFlags::DONTWAIT)? {
                Got::Nothing if !unsent && since.elapsed() < SPIN => std::hint::spin_loop(),
                got => return Ok(got),
            }
        }
    }

    fn recv_now(&self, into: &mut [u8], flags: RecvFlags) -> Result<Got> {
        match recv(&self.stream, into, flags) {
            Ok((0, _)) | Err(Errno::CONNRESET) => Ok(Got::End),
            Ok((len, _)) => Ok(Got::Bytes(len)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Got::Nothing),
            Err(e) => bail!("cannot read from the connection: {e}"),
        }
    }

    /// Reads until there is something, whatever the mode.
    pub(crate) fn recv_some(&self, into: &mut [u8]) -> Result<Got> {
        loop {
            match self.recv(into, false)? {
                Got::Nothing => std::hint::spin_loop(),
                got => return Ok(got),
            }
        }
    }

    /// Writes what the kernel takes: now, or, blocking, in its own time if the other side `always_reads`.
    pub(crate) fn send_some(&self, bytes: &[u8], always_reads: bool) -> Result<usize> {
        taken(send(&self.stream, bytes, self.send_flags(always_reads)))
    }

    /// The same for several slices.
    pub(crate) fn send_some_of(&self, parts: &[IoSlice<'_>], always_reads: bool) -> Result<usize> {
        let flags = self.send_flags(always_reads);
        taken(sendmsg(&self.stream, parts, &mut SendAncillaryBuffer::default(), flags))
    }

    /// Writes all, waiting as the mode says. Only for a side whose other side always reads.
    pub(crate) fn send_all(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let len = self.send_some(bytes, true)?;
            bytes = &bytes[len..];
        }
        Ok(())
    }

    fn send_flags(&self, always_reads: bool) -> SendFlags {
        match self.mode {
            Mode::Block | Mode::Adaptive if always_reads => SendFlags::NOSIGNAL,
            _ => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        }
    }

    fn wait_either(&self) -> Result<()> {
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN | PollFlags::OUT)];
        let timeout = Timespec { tv_sec: REPLY_TIMEOUT.as_secs() as i64, tv_nsec: 0 };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => bail!("cannot wait for the connection: {e}"),
        }
    }
}

fn taken(sent: rustix::io::Result<usize>) -> Result<usize> {
    match sent {
        Ok(len) => Ok(len),
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(e) => bail!("cannot write to the connection: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_where_they_end() {
        let mut bytes = Vec::new();
        for size in [3usize, 0, 5] {
            bytes.extend_from_slice(&prefix(size));
            bytes.extend(std::iter::repeat_n(9, size));
        }
        assert_eq!(frame_len(&bytes), Some(7));
        assert_eq!(whole_frames(&bytes), bytes.len());
        assert_eq!(whole_frames(&bytes[..bytes.len() - 1]), 7 + 4);
        assert_eq!(frame_len(&bytes[..3]), None);
        assert_eq!(frame_len(&bytes[..6]), None);
    }
}
