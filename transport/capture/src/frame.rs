//! Owns the way from the bytes of a link to a UDP datagram, and back for captures that we write.
//!
//! Checksums are not checked: on a machine's own captures they are not there yet (checksum offload). Fragments are told apart and not
//! put together: no Sealane datagram is ever fragmented [P-5.6].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a packet of a capture begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet header, perhaps with VLAN tags.
    Ethernet,
    /// An IP header of either version.
    Raw,
    /// An address family in the byte order of some machine, then an IP header.
    Null,
    /// Linux's cooked header, version 1.
    Cooked1,
    /// Linux's cooked header, version 2.
    Cooked2,
}

impl Link {
    /// From the number of a file (LINKTYPE, and the DLT values that are written by mistake).
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Ethernet),
            12 | 14 | 101 | 228 | 229 => Some(Self::Raw),
            0 | 108 => Some(Self::Null),
            113 => Some(Self::Cooked1),
            276 => Some(Self::Cooked2),
            _ => None,
        }
    }

    /// The number in a file.
    pub const fn code(self) -> u32 {
        match self {
            Self::Ethernet => 1,
            Self::Raw => 101,
            Self::Null => 0,
            Self::Cooked1 => 113,
            Self::Cooked2 => 276,
        }
    }
}

/// A UDP datagram in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Whence.
    pub from: SocketAddr,
    /// Whither.
    pub to: SocketAddr,
    /// What it carries.
    pub payload: &'a [u8],
}

/// What a packet of a capture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// A UDP datagram, whole.
    Udp(Datagram<'a>),
    /// One whose end was not captured.
    Cut,
    /// A fragment.
    Fragment,
    /// Anything else.
    Other,
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const UDP: u8 = 17;
const UDP_HEADER_LEN: usize = 8;

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]))
}

/// What `bytes`, captured from a link of that kind, are.
#[inline]
pub fn read(link: Link, bytes: &[u8]) -> Framed<'_> {
    framed(link, bytes).unwrap_or(Framed::Other)
}

fn framed(link: Link, bytes: &[u8]) -> Option<Framed<'_>> {
    let ip = match link {
        Link::Ethernet => {
            let (mut at, mut kind) = (14, be16(bytes, 12)?);
            // VLAN tags, one in the other.
            while matches!(kind, 0x8100 | 0x88a8) {
                kind = be16(bytes, at + 2)?;
                at += 4;
            }
            if !matches!(kind, ETHERTYPE_IPV4 | ETHERTYPE_IPV6) {
                return None;
            }
            &bytes[at..]
        }
        Link::Raw => bytes,
        Link::Null => bytes.get(4..)?,
        Link::Cooked1 => {
            if !matches!(be16(bytes, 14)?, ETHERTYPE_IPV4 | ETHERTYPE_IPV6) {
                return None;
            }
            bytes.get(16..)?
        }
        Link::Cooked2 => {
            if !matches!(be16(bytes, 0)?, ETHERTYPE_IPV4 | ETHERTYPE_IPV6) {
                return None;
            }
            bytes.get(20..)?
        }
    };
    match ip.first()? >> 4 {
        4 => ipv4(ip),
        6 => ipv6(ip),
        _ => None,
    }
}

fn ipv4(ip: &[u8]) -> Option<Framed<'_>> {
    let header_len = usize::from(ip[0] & 0xf) * 4;
    if header_len < 20 || *ip.get(9)? != UDP {
        return None;
    }
    let fragment = be16(ip, 6)?;
    if fragment & 0x3fff != 0 {
        return Some(Framed::Fragment);
    }
    let address = |at: usize| ip.get(at..at + 4).map(|b| IpAddr::V4(Ipv4Addr::new(b[0], b[1], b[2], b[3])));
    udp(address(12)?, address(16)?, ip.get(header_len..)?)
}

fn ipv6(ip: &[u8]) -> Option<Framed<'_>> {
    let address =
        |at: usize| ip.get(at..at + 16).and_then(|b| b.first_chunk::<16>()).map(|b| IpAddr::V6(Ipv6Addr::from(*b)));
    let (from, to) = (address(8)?, address(24)?);
    let (mut next, mut at) = (ip[6], 40);
    // Hop-by-hop, routing and destination options may stand before UDP.
    while matches!(next, 0 | 43 | 60) {
        next = *ip.get(at)?;
        at += 8 + usize::from(*ip.get(at + 1)?) * 8;
    }
    match next {
        UDP => udp(from, to, ip.get(at..)?),
        44 => Some(Framed::Fragment),
        _ => None,
    }
}

fn udp(from: IpAddr, to: IpAddr, bytes: &[u8]) -> Option<Framed<'_>> {
    let (from, to) = (SocketAddr::new(from, be16(bytes, 0)?), SocketAddr::new(to, be16(bytes, 2)?));
    let stated = usize::from(be16(bytes, 4)?);
    if bytes.len() < UDP_HEADER_LEN {
        return Some(Framed::Cut);
    }
    // 0: a train that is longer than the field can say (RFC 2675); it ends with the packet.
    let end = if stated == 0 { bytes.len() } else { stated };
    if end < UDP_HEADER_LEN {
        return None;
    }
    let payload = bytes.get(UDP_HEADER_LEN..end);
    Some(payload.map_or(Framed::Cut, |payload| Framed::Udp(Datagram { from, to, payload })))
}

fn sum(mut sum: u32, bytes: &[u8]) -> u32 {
    let mut pairs = bytes.chunks_exact(2);
    for pair in &mut pairs {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    sum + pairs.remainder().first().map_or(0, |last| u32::from(*last) << 8)
}

/// The Internet checksum (RFC 1071).
const fn folded(mut sum: u32) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Replaces `out` by an Ethernet frame with that datagram, checksums and all.
///
/// # Panics
/// When the addresses are of two versions, or the payload fits no datagram: bugs of the caller.
pub fn write_ethernet(from: SocketAddr, to: SocketAddr, payload: &[u8], out: &mut Vec<u8>) {
    let udp_len = u16::try_from(UDP_HEADER_LEN + payload.len()).expect("a payload that fits a datagram");
    out.clear();
    // Locally administered addresses; nobody looks.
    out.extend([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    let pseudo = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend(ETHERTYPE_IPV4.to_be_bytes());
            let at = out.len();
            let total = 20 + udp_len;
            out.extend([0x45, 0]);
            out.extend(total.to_be_bytes());
            // Not to be fragmented; 64 hops.
            out.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
            out.extend(from.octets());
            out.extend(to.octets());
            let check = folded(sum(0, &out[at..]));
            out[at + 10..at + 12].copy_from_slice(&check.to_be_bytes());
            sum(0, &out[at + 12..])
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            out.extend(ETHERTYPE_IPV6.to_be_bytes());
            let at = out.len();
            out.extend([0x60, 0, 0, 0]);
            out.extend(udp_len.to_be_bytes());
            out.extend([UDP, 64]);
            out.extend(from.octets());
            out.extend(to.octets());
            sum(0, &out[at + 8..])
        }
        _ => panic!("two versions of IP in one datagram"),
    };
    let at = out.len();
    out.extend(from.port().to_be_bytes());
    out.extend(to.port().to_be_bytes());
    out.extend(udp_len.to_be_bytes());
    out.extend([0, 0]);
    out.extend(payload);
    let check = match folded(sum(pseudo + u32::from(UDP) + u32::from(udp_len), &out[at..])) {
        0 => u16::MAX,
        check => check,
    };
    out[at + 6..at + 8].copy_from_slice(&check.to_be_bytes());
}
