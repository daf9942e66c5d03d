//! What this kernel and one socket of it can do, as a plain value; and what a route can carry.
//!
//! Owns the questions to the kernel. Refuses to answer from version numbers: everything is tried once. The release is
//! kept for people to read only.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::sys::{self, Name};

/// The most bytes of a train that passes the network stack whole.
///
/// One more and the kernel still takes it, but cuts it before the device, which costs half as much again: it counts the
/// link's header too, up to 65,535 bytes (18 for Ethernet with a VLAN tag, 40 for IPv6, 8 for UDP).
pub const TRAIN_BYTES_MAX: usize = 65_535 - 18 - 40 - 8;

/// What a socket got from its kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caps {
    /// Whether trains leave in one call.
    pub gso: Gso,
    /// Whether trains arrive in one call.
    pub gro: bool,
    /// Receive buffer as the kernel counts it: its bookkeeping included, about twice the payload.
    pub receive_buffer_bytes: usize,
    /// Send buffer, counted likewise. It also holds what waits in the interface's queue.
    pub send_buffer_bytes: usize,
    /// Reaches v4 peers.
    pub v4: bool,
    /// Reaches v6 peers.
    pub v6: bool,
    /// The kernel's release, for people to read.
    pub kernel: String,
    /// What moves the datagrams.
    pub backend: Used,
}

/// What moves the datagrams between us and the network, for people to read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Used {
    /// Its name and what it does.
    pub name: &'static str,
    /// What was asked for instead, and why it is not used.
    pub instead_of: Option<String>,
}

impl Default for Used {
    fn default() -> Self {
        Self { name: "mmsg (sockets)", instead_of: None }
    }
}

impl fmt::Display for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        self.instead_of.as_ref().map_or(Ok(()), |why| write!(f, ", instead of {why}"))
    }
}

impl Caps {
    /// How many datagrams may leave in one call; 1 without GSO.
    pub fn segments_max(&self) -> usize {
        match self.gso {
            Gso::Segments(max) => max,
            Gso::NotWanted | Gso::Unsupported | Gso::Refused(_) => 1,
        }
    }
}

/// Segmentation by the kernel (`UDP_SEGMENT`), or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gso {
    /// Works, with up to so many datagrams in a train.
    Segments(usize),
    /// Switched off by the options.
    NotWanted,
    /// The kernel does not know it.
    Unsupported,
    /// The kernel knows it but refused a train with this error number that it took as single datagrams.
    Refused(i32),
}

impl fmt::Display for Gso {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segments(max) => write!(f, "up to {max} datagrams"),
            Self::NotWanted => f.write_str("off by option"),
            Self::Unsupported => f.write_str("not known to this kernel"),
            Self::Refused(errno) => {
                write!(f, "off: refused with {}", io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

impl fmt::Display for Caps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let families = match (self.v4, self.v6) {
            (true, true) => "IPv4 and IPv6",
            (false, true) => "IPv6 only",
            (_, false) => "IPv4 only",
        };
        writeln!(f, "kernel          Linux {}", self.kernel)?;
        writeln!(f, "backend         {}", self.backend)?;
        writeln!(f, "addresses       {families}")?;
        writeln!(f, "trains out      {}", self.gso)?;
        writeln!(f, "trains in       {}", if self.gro { "yes" } else { "no" })?;
        writeln!(f, "receive buffer  {} KiB", self.receive_buffer_bytes / 1024)?;
        write!(f, "send buffer     {} KiB", self.send_buffer_bytes / 1024)
    }
}

/// How many datagrams this kernel takes in one train, found by trying over loopback; asked once per process.
pub(crate) fn probe_gso() -> Gso {
    static ANSWER: OnceLock<Gso> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), (Ipv6Addr::LOCALHOST, 0).into()];
        let socket = addresses.into_iter().find_map(|address| bound(address).ok());
        socket.map_or(Gso::Unsupported, |(socket, address)| try_trains(&socket, address))
    })
}

/// The most that any kernel so far takes, then what older ones take; one byte per datagram.
const TRAINS_TO_TRY: [usize; 2] = [128, 64];

fn try_trains(socket: &Socket, to: SocketAddr) -> Gso {
    let Some(name) = Name::new(to, to.is_ipv6()) else { return Gso::Unsupported };
    if sys::option(socket.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT).is_err() {
        return Gso::Unsupported;
    }
    let bytes = [0; TRAINS_TO_TRY[0]];
    let mut refused = 0;
    for count in TRAINS_TO_TRY {
        match sys::send_message(socket.as_fd(), &bytes[..count], &name, Some(1), None) {
            Ok(()) => return Gso::Segments(count),
            Err(errno) => refused = errno.0,
        }
    }
    Gso::Refused(refused)
}

fn bound(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind(&SockAddr::from(address))?;
    let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((socket, local))
}

/// The MTU of the route to `to` in bytes, IP header included, as far as the kernel knows it now.
///
/// Nothing is sent: a temporary socket is connected and asked.
pub fn path_mtu(to: SocketAddr) -> io::Result<u32> {
    route(to).map(|route| route.mtu)
}

/// What the kernel says of the way to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// The largest IP packet in bytes, header included, as far as the kernel knows it now.
    pub mtu: u32,
    /// The address of ours that packets come from: of the interface that they leave by, as a rule.
    pub local: SocketAddr,
    /// Whether they go to that very address. Then they stay on this machine and never leave by its interface.
    pub to_self: bool,
}

/// The route to `to` as the kernel would choose it now. Nothing is sent: a temporary socket is connected and asked.
///
/// # Errors
/// When there is none.
pub fn route(to: SocketAddr) -> io::Result<Route> {
    let to = canonical(to);
    ask_route(to)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot learn the MTU of the route to {to}: {error}")))
}

fn ask_route(mut to: SocketAddr) -> io::Result<Route> {
    if to.port() == 0 {
        to.set_port(9); // Any port will do, but Linux does not count a socket connected to port 0 as connected.
    }
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
    socket.connect(&SockAddr::from(to))?;
    let (level, kind) =
        if to.is_ipv4() { (libc::IPPROTO_IP, libc::IP_MTU) } else { (libc::IPPROTO_IPV6, libc::IPV6_MTU) };
    let mtu = sys::option(socket.as_fd(), level, kind)?;
    let mtu = u32::try_from(mtu).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    // To reach an address of its own, a machine comes from that address.
    Ok(Route { mtu, local, to_self: local.ip() == to.ip() })
}

/// One spelling for v4; the scope of a link-local address stays.
fn canonical(to: SocketAddr) -> SocketAddr {
    match to.ip().to_canonical() {
        ip if ip == to.ip() => to,
        ip => SocketAddr::new(ip, to.port()),
    }
}
