//! The ordinary backend: a UDP socket, trains out by `UDP_SEGMENT`, trains in by `UDP_GRO`.
//!
//! Owns the socket, its options, and what to do when the kernel refuses. Refuses to queue: what the kernel does not take
//! goes back to the caller.
//!
//! Tried and left: several trains per call by `sendmmsg`, which saves nothing measurable beside segmentation; a connected
//! socket for every peer, which saves 0.4 us per small datagram but costs a descriptor each (`connect` is there for few).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use libc::{IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET, c_int};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::batch::{Datagrams, Received, SendError, Transmit};
use crate::caps::{self, Caps, Gso, TRAIN_BYTES_MAX, Used};
use crate::fork::{self, Mark};
use crate::sys::{self, Errno, Name};
use crate::thrift::{Thrift, Turn};

/// Single datagrams above this many bytes are sent with `UDP_SEGMENT` too.
///
/// The kernel then keeps them in page fragments instead of one contiguous block, which is never dearer to allocate, up to
/// 7 % cheaper (8 KiB), and does not fail when memory is fragmented. Below, it only costs (`examples/measure`).
pub const PAGED_BYTES_MIN: usize = 4096;

/// How to bind a socket.
#[derive(Debug, Clone)]
pub struct Options {
    /// Receive buffer to ask for, in bytes of datagrams. Default 4 MiB. The system's limit caps it (see
    /// [`Caps::receive_buffer_bytes`]); too small loses datagrams when the receiver pauses.
    pub receive_buffer_bytes: usize,
    /// Send buffer to ask for, in bytes of datagrams. Default 4 MiB. Too small, and datagrams of low priority that wait in
    /// the interface's queue keep those of high priority out.
    pub send_buffer_bytes: usize,
    /// Whether trains leave in one call. Default true; off costs 3 to 5 microseconds per datagram.
    pub gso: bool,
    /// Whether trains arrive in one call. Default true; off costs about a microsecond per datagram.
    pub gro: bool,
    /// Tells from a train's first bytes how long its first datagram is, so that the kernel need not be asked: receiving a
    /// small datagram, or nothing, is a fifth to a third cheaper. Default none: the kernel is asked. Danger: an answer
    /// that a stranger can write into a datagram misleads us about those that arrive joined to it.
    pub stride: Option<fn(&[u8]) -> usize>,
    /// Whether to learn the type of service of what arrives. Default false, which leaves [`Received::tos`] 0; costs about
    /// 0.1 microseconds per call, and what `stride` saves.
    pub report_tos: bool,
    /// Whether several sockets may bind the same address and share its traffic. Default false.
    pub reuse_port: bool,
    /// Whether a v6 socket stays away from v4 peers. Default false.
    pub only_v6: bool,
    /// Whether a datagram beyond the interface's MTU is refused (`TooBig`) instead of cut into fragments, and is not cut on
    /// the way either. Default true. Danger when off: one lost fragment loses the datagram, and firewalls drop fragments.
    pub dont_fragment: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            receive_buffer_bytes: 4 << 20,
            send_buffer_bytes: 4 << 20,
            gso: true,
            gro: true,
            stride: None,
            report_tos: false,
            reuse_port: false,
            only_v6: false,
            dont_fragment: true,
        }
    }
}

/// A bound UDP socket.
#[derive(Debug)]
pub struct Mmsg {
    socket: Socket,
    local: SocketAddr,
    is_v6: bool,
    /// To whom it is connected.
    peer: Option<SocketAddr>,
    /// Who alone can have sent what it holds: the same, once all is taken that had come before it was connected.
    only: Option<SocketAddr>,
    dont_fragment: bool,
    receives: Receives,
    thrift: Option<Thrift>,
    caps: Caps,
    mark: Mark,
}

/// How little must be asked of the kernel.
#[derive(Debug, Clone, Copy)]
enum Receives {
    /// A datagram at a time, or a train that delimits itself.
    Plain(Option<fn(&[u8]) -> usize>),
    /// With control messages.
    Message,
}

/// Binds a socket that never blocks. Port 0 lets the kernel choose; a v6 wildcard also reaches v4 peers.
///
/// The error names the address and keeps its kind (`AddrInUse` and so on).
pub fn bind(address: SocketAddr, options: &Options) -> io::Result<Mmsg> {
    try_bind(address, options)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot bind a UDP socket to {address}: {error}")))
}

/// Binds a socket and connects it: it hears this peer only, in preference to others bound to the same address with
/// `reuse_port`, and what it sends there skips the lookup of the route, about 0.4 microseconds.
///
/// With `reuse_port`, datagrams of others may slip in between binding and connecting; they are reported as theirs.
pub fn connect(address: SocketAddr, peer: SocketAddr, options: &Options) -> io::Result<Mmsg> {
    let mut bound = bind(address, options)?;
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    // A socket of one family reaches the other by mapped addresses or not at all.
    let mapped = match peer {
        SocketAddr::V4(v4) if bound.is_v6 => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        _ => peer,
    };
    bound
        .socket
        .connect(&SockAddr::from(mapped))
        .and_then(|()| {
            bound.local = local_address(&bound.socket)?;
            bound.peer = Some(peer);
            Ok(bound)
        })
        .map_err(|error| {
            let text = format!("cannot connect a UDP socket on {address} to {peer}: {error}");
            io::Error::new(error.kind(), text)
        })
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable.into())
}

fn try_bind(address: SocketAddr, options: &Options) -> io::Result<Mmsg> {
    let is_v6 = address.is_ipv6();
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if is_v6 {
        socket.set_only_v6(options.only_v6)?;
    }
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    set_discovery(&socket, is_v6, options.dont_fragment)?;
    if options.report_tos {
        report_tos(&socket, is_v6)?;
    }
    let gro = options.gro && sys::set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
    let receive = [libc::SO_RCVBUF, libc::SO_RCVBUFFORCE];
    let send = [libc::SO_SNDBUF, libc::SO_SNDBUFFORCE];
    let receive_buffer_bytes = grow(&socket, receive, options.receive_buffer_bytes)?;
    let send_buffer_bytes = grow(&socket, send, options.send_buffer_bytes)?;
    socket.bind(&SockAddr::from(address))?;
    let local = local_address(&socket)?;
    let receives = match options.stride {
        _ if options.report_tos => Receives::Message,
        None if gro => Receives::Message,
        stride => Receives::Plain(stride.filter(|_| gro)),
    };
    let caps = Caps {
        gso: if options.gso { caps::probe_gso() } else { Gso::NotWanted },
        gro,
        receive_buffer_bytes,
        send_buffer_bytes,
        v4: !is_v6 || (!options.only_v6 && may_reach_v4(local)),
        v6: is_v6,
        kernel: sys::kernel_release(),
        backend: Used::default(),
    };
    let dont_fragment = options.dont_fragment;
    let thrift = (gro && matches!(receives, Receives::Message) && !options.report_tos).then(Thrift::default);
    let mark = Mark::new();
    Ok(Mmsg { socket, local, is_v6, peer: None, only: None, dont_fragment, receives, thrift, caps, mark })
}

/// Only a wildcard (or a v4-mapped address) on a v6 socket has a v4 address to send from.
fn may_reach_v4(local: SocketAddr) -> bool {
    local.ip().is_unspecified() || local.ip().to_canonical().is_ipv4()
}

/// Says who minds the MTU. `PROBE` sets "don't fragment" and goes by the interface's MTU, not by what ICMP claims about the
/// path: that may be forged, and our own probing finds out. `OMIT` lets everybody cut.
fn set_discovery(socket: &Socket, is_v6: bool, dont_fragment: bool) -> io::Result<()> {
    let v4 = if dont_fragment { libc::IP_PMTUDISC_PROBE } else { libc::IP_PMTUDISC_OMIT };
    if is_v6 {
        let v6 = if dont_fragment { libc::IPV6_PMTUDISC_PROBE } else { libc::IPV6_PMTUDISC_OMIT };
        sys::set_option(socket.as_fd(), IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, v6)?;
    }
    // On a v6 socket too: it is what v4-mapped peers get.
    Ok(sys::set_option(socket.as_fd(), IPPROTO_IP, libc::IP_MTU_DISCOVER, v4)?)
}

/// Asks for the type of service of what arrives; on a v6 socket the v4 option serves the v4 peers.
fn report_tos(socket: &Socket, is_v6: bool) -> io::Result<()> {
    if is_v6 {
        sys::set_option(socket.as_fd(), IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
    }
    Ok(sys::set_option(socket.as_fd(), IPPROTO_IP, libc::IP_RECVTOS, 1)?)
}

/// Asks for a buffer, beyond the system's limit if we are privileged, and reports what there is. Falling short is no error.
fn grow(socket: &Socket, [kind, by_force]: [c_int; 2], bytes: usize) -> io::Result<usize> {
    // The kernel doubles what it is given, to hold its bookkeeping as well.
    let ask = c_int::try_from(bytes).unwrap_or(c_int::MAX).min(c_int::MAX / 2);
    let obtained = || {
        let bytes = sys::option(socket.as_fd(), SOL_SOCKET, kind)?;
        io::Result::Ok(usize::try_from(bytes).unwrap_or(0))
    };
    sys::set_option(socket.as_fd(), SOL_SOCKET, kind, ask)?;
    if obtained()? / 2 < ask as usize {
        // Refused to the unprivileged, who then stay with what they have.
        let _ = sys::set_option(socket.as_fd(), SOL_SOCKET, by_force, ask);
    }
    obtained()
}

impl Datagrams for Mmsg {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    #[inline]
    fn transmit(&mut self, train: &Transmit<'_>) -> Result<(), SendError> {
        if self.mark.is_forked() {
            return Err(SendError::Other(fork::refusal()));
        }
        let is_plain = train.tos.is_none() && train.bytes.len() <= train.segment.min(PAGED_BYTES_MIN);
        let is_connected = self.peer == Some(train.to);
        if is_plain && is_connected {
            return send(self.socket.as_fd(), train.bytes, None);
        }
        let Some(to) = Name::new(train.to, self.is_v6) else {
            return Err(send_error(Errno(libc::EAFNOSUPPORT), 0));
        };
        if is_plain {
            return send(self.socket.as_fd(), train.bytes, Some(&to));
        }
        self.transmit_train(train, &if is_connected { to.implied() } else { to })
    }

    #[inline]
    fn receive(&mut self, into: &mut [u8]) -> io::Result<Option<Received>> {
        if self.mark.is_forked() {
            // What comes is the parent's.
            return Err(fork::refusal());
        }
        loop {
            match self.receive_once(into) {
                Ok(received) => {
                    self.note(received.len, received.segment);
                    return Ok(Some(received));
                }
                Err(Errno(libc::EAGAIN)) => {
                    self.note_empty();
                    return Ok(None);
                }
                Err(errno) if is_other_news(errno) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn fds(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Mmsg {
    /// Something came: whether merging would have been of use.
    #[inline]
    fn note(&mut self, len: usize, segment: usize) {
        let drained = matches!(self.receives, Receives::Plain(_));
        if self.thrift.as_mut().is_some_and(|thrift| thrift.came(len, segment, drained)) {
            // From now on trains come whole again. Should it fail they come in parts, which is only slower.
            let _ = sys::set_option(self.socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1);
            self.receives = Receives::Message;
        }
    }

    /// Nothing is there.
    #[inline]
    fn note_empty(&mut self) {
        self.only = self.peer;
        let Some(thrift) = &mut self.thrift else { return };
        match thrift.saw_nothing(matches!(self.receives, Receives::Plain(_))) {
            Some(Turn::Off) => {
                let done = sys::set_option(self.socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 0);
                thrift.turned_off(done.is_ok());
            }
            Some(Turn::Drained) => self.receives = Receives::Plain(None),
            None => {}
        }
    }

    /// Lets another socket bind the same address, or no longer.
    pub(crate) fn share_port(&self, on: bool) -> io::Result<()> {
        self.socket.set_reuse_port(on)
    }

    /// A part of a backend of this name that receives by other means beside: merging stays as it is.
    #[cfg(any(feature = "io-uring", feature = "xdp"))]
    pub(crate) fn part_of(mut self, name: &'static str) -> Self {
        (self.thrift, self.caps.backend.name) = (None, name);
        self
    }

    /// It is used because what was asked for cannot be had.
    pub(crate) fn instead_of(&mut self, why: String) {
        self.caps.backend.instead_of = Some(why);
    }

    /// To whom it is connected.
    pub(crate) const fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    #[inline]
    fn receive_once(&self, into: &mut [u8]) -> Result<Received, Errno> {
        let mut got = match self.receives {
            Receives::Message => sys::receive(self.socket.as_fd(), into)?,
            Receives::Plain(_) => sys::receive_plain(self.socket.as_fd(), into, self.only)?,
        };
        if let (Receives::Plain(Some(stride)), 1..) = (self.receives, got.len) {
            got.segment = stride(&into[..got.len]).clamp(1, got.len);
        }
        let sys::Arrived { from, len, segment, tos, truncated } = got;
        Ok(Received { from, len, segment, tos, truncated })
    }

    /// Cuts the train into what one call may take.
    fn transmit_train(&mut self, train: &Transmit<'_>, to: &Name) -> Result<(), SendError> {
        let (segment, mut sent) = (train.segment, 0);
        if train.bytes.len() <= segment {
            return self.send_cut(train.bytes, segment, to, train.tos, 0);
        }
        assert!(segment > 0, "a train of empty datagrams");
        let count_max = self.caps.segments_max();
        let fitting = (TRAIN_BYTES_MAX / segment).clamp(1, count_max) * segment;
        while sent < train.bytes.len() {
            let rest = &train.bytes[sent..];
            // What is left may fit as a whole only because its last datagram is short.
            let fits = rest.len() <= TRAIN_BYTES_MAX && rest.len().div_ceil(segment) <= count_max;
            let cut = if fits { rest } else { &rest[..fitting.min(rest.len())] };
            self.send_cut(cut, segment, to, train.tos, sent)?;
            sent += cut.len();
        }
        Ok(())
    }

    /// Sends what one call may take, or its datagrams one by one if the kernel refuses it as a train.
    fn send_cut(
        &mut self,
        cut: &[u8],
        segment: usize,
        to: &Name,
        tos: Option<u8>,
        sent: usize,
    ) -> Result<(), SendError> {
        let segment = segment.min(cut.len());
        let is_wanted = segment < cut.len() || segment > PAGED_BYTES_MIN;
        let Some(size) = u16::try_from(segment).ok().filter(|_| is_wanted) else {
            return send_message(self.socket.as_fd(), cut, to, None, tos).map_err(|e| send_error(e, sent));
        };
        if !matches!(self.caps.gso, Gso::Segments(_)) {
            return self.send_singly(cut, segment, to, tos, sent);
        }
        match send_message(self.socket.as_fd(), cut, to, Some(size), tos) {
            Ok(()) => Ok(()),
            // EINVAL or EMSGSIZE: a datagram beyond the MTU. EINVAL or EIO: no segmentation here or on this route.
            // Single datagrams tell which: beyond the MTU they fail again, unless they may be cut into fragments.
            Err(Errno(refusal @ (libc::EINVAL | libc::EIO | libc::EMSGSIZE))) => {
                self.send_singly(cut, segment, to, tos, sent)?;
                if refusal == libc::EIO || (refusal == libc::EINVAL && self.dont_fragment) {
                    self.caps.gso = Gso::Refused(refusal);
                }
                Ok(())
            }
            Err(errno) => Err(send_error(errno, sent)),
        }
    }

    #[cold]
    fn send_singly(
        &self,
        cut: &[u8],
        segment: usize,
        to: &Name,
        tos: Option<u8>,
        mut sent: usize,
    ) -> Result<(), SendError> {
        for datagram in cut.chunks(segment) {
            send_message(self.socket.as_fd(), datagram, to, None, tos).map_err(|e| send_error(e, sent))?;
            sent += datagram.len();
        }
        Ok(())
    }
}

/// Errors that say nothing about the call they meet: a signal, or news by ICMP of an earlier datagram.
pub(crate) fn is_other_news(errno: Errno) -> bool {
    const NEWS: [c_int; 6] =
        [libc::EINTR, libc::ECONNREFUSED, libc::EHOSTUNREACH, libc::ENETUNREACH, libc::EHOSTDOWN, libc::ENOPROTOOPT];
    NEWS.contains(&errno.0)
}

/// Sends; once more if it met other news. If that was no news but the truth, it fails again.
#[inline]
fn send(fd: BorrowedFd<'_>, bytes: &[u8], to: Option<&Name>) -> Result<(), SendError> {
    match sys::send(fd, bytes, to) {
        Ok(()) => Ok(()),
        Err(errno) if is_other_news(errno) => sys::send(fd, bytes, to).map_err(|errno| send_error(errno, 0)),
        Err(errno) => Err(send_error(errno, 0)),
    }
}

#[inline]
fn send_message(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    to: &Name,
    segment: Option<u16>,
    tos: Option<u8>,
) -> Result<(), Errno> {
    match sys::send_message(fd, bytes, to, segment, tos) {
        Err(errno) if is_other_news(errno) => sys::send_message(fd, bytes, to, segment, tos),
        result => result,
    }
}

#[cold]
fn send_error(errno: Errno, sent: usize) -> SendError {
    match errno.0 {
        libc::EAGAIN => SendError::WouldBlock { sent },
        libc::EMSGSIZE => SendError::TooBig,
        _ => SendError::Other(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel or route that refuses `UDP_SEGMENT` is made by claiming more segments than any kernel takes.
    #[test]
    fn refused_train_leaves_as_single_datagrams() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut sender = bind(local, &Options::default()).unwrap();
        let mut receiver = bind(local, &Options::default()).unwrap();
        sender.caps.gso = Gso::Segments(10_000);
        let bytes: Vec<u8> = (0..2000_u32).map(|i| i as u8).collect();
        let train = Transmit { to: receiver.local_addr(), bytes: &bytes, segment: 10, tos: None };
        sender.transmit(&train).unwrap();
        assert_eq!(sender.caps().gso, Gso::Refused(libc::EINVAL));
        assert_eq!(sender.caps().segments_max(), 1);
        let (mut into, mut all) = ([0; 65_535], Vec::new());
        while let Some(got) = receiver.receive(&mut into).unwrap() {
            assert_eq!((got.len, got.segment), (10, 10));
            all.extend_from_slice(&into[..got.len]);
        }
        assert_eq!(all, bytes);
    }

    /// Whatever their length, datagrams that come one at a time are received without asking how they were merged; from the first train on,
    /// trains come whole again. Of long ones two in a row are a train, of short ones they may just have been quick.
    #[test]
    fn what_comes_alone_is_not_asked_about() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        for (len, together, merges) in [(64, 2, false), (64, 5, true), (8000, 2, true)] {
            let mut sender = bind(local, &Options::default()).unwrap();
            let mut receiver = bind(local, &Options::default()).unwrap();
            if !receiver.caps.gro {
                return;
            }
            let bytes = vec![7; together * len];
            let mut pass = |receiver: &mut Mmsg, count: usize| {
                let train = Transmit { to: receiver.local, bytes: &bytes[..count * len], segment: len, tos: None };
                sender.transmit(&train).unwrap();
                let (mut into, mut got) = (vec![0; 65_535], 0);
                while let Some(train) = receiver.receive(&mut into).unwrap() {
                    got += train.len;
                }
                assert_eq!(got, count * len);
            };
            (0..=crate::thrift::LONE_MIN + 1).for_each(|_| pass(&mut receiver, 1));
            assert!(matches!(receiver.receives, Receives::Plain(_)), "{len}");
            pass(&mut receiver, together);
            assert_eq!(matches!(receiver.receives, Receives::Message), merges, "{together} of {len}");
        }
    }
}
