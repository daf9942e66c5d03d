//! Owns the headers in front of what a raw queue sends: Ethernet, VLAN, IPv4 or IPv6, UDP; and the way back, from a frame to its datagram.
//!
//! The card replicates the header in front of each packet of a segment. It changes IPv4's length, id and checksum and IPv6's length, and
//! writes UDP's checksum, but not UDP's length: that has to be right for every packet, so all packets of a descriptor are of one length.

use std::net::{IpAddr, SocketAddr};

/// Bytes of the longest header that we write, without the packet's own: Ethernet with VLAN, IPv6, UDP.
pub const HEADERS_MAX: usize = 18 + 40 + 8;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const UDP: u8 = 17;
const HOPS: u8 = 64;

/// How datagrams get to somebody: from which address, by which neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Where they come from.
    pub from: SocketAddr,
    /// The card's address.
    pub own_mac: [u8; 6],
    /// The next hop's.
    pub next_mac: [u8; 6],
    /// The VLAN, if there is one.
    pub vlan: Option<u16>,
}

/// Who knows ways.
pub trait Ways: std::fmt::Debug + Send {
    /// The way to `to`; `None` when it is not known, or not by this card.
    fn way(&mut self, to: SocketAddr) -> Option<Way>;
}

/// All ways are one, as between two cards with a cable.
#[derive(Clone, Copy, Debug)]
pub struct Cable {
    /// Where datagrams come from.
    pub from: SocketAddr,
    /// The VLAN, if there is one.
    pub vlan: Option<u16>,
}

impl Ways for Cable {
    fn way(&mut self, to: SocketAddr) -> Option<Way> {
        let local = |last| [2, 0, 0, 0, 0, last];
        let same_family = self.from.is_ipv4() == to.is_ipv4();
        same_family.then_some(Way { from: self.from, own_mac: local(1), next_mac: local(2), vlan: self.vlan })
    }
}

/// Headers in front of a packet, on the stack.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    bytes: [u8; HEADERS_MAX + OWN_MAX],
    len: usize,
}

/// Bytes of the longest header of our own that may follow them.
const OWN_MAX: usize = 32;

impl Headers {
    /// Of packets to `to`, whose UDP payload is `own` and `rest` more bytes. `id` is IPv4's.
    ///
    /// # Panics
    /// When `own` is longer than any header of ours, or the addresses are of different families: the caller's bugs.
    pub fn new(way: &Way, to: SocketAddr, id: u16, own: &[u8], rest: usize) -> Self {
        let mut this = Self { bytes: [0; HEADERS_MAX + OWN_MAX], len: 0 };
        this.put(&way.next_mac);
        this.put(&way.own_mac);
        if let Some(vlan) = way.vlan {
            this.put(&VLAN.to_be_bytes());
            this.put(&vlan.to_be_bytes());
        }
        let udp_len = (8 + own.len() + rest) as u16;
        match (way.from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                this.put(&IPV4.to_be_bytes());
                let start = this.len;
                this.put(&[0x45, 0]);
                this.put(&(20 + udp_len).to_be_bytes());
                this.put(&id.to_be_bytes());
                // Not to be fragmented: a packet that is too long is to be noticed.
                this.put(&[0x40, 0, HOPS, UDP, 0, 0]);
                this.put(&from.octets());
                this.put(&to.octets());
                let checksum = !sum(&this.bytes[start..start + 20], 0);
                this.bytes[start + 10..start + 12].copy_from_slice(&checksum.to_be_bytes());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                this.put(&IPV6.to_be_bytes());
                this.put(&[0x60, 0, 0, 0]);
                this.put(&udp_len.to_be_bytes());
                this.put(&[UDP, HOPS]);
                this.put(&from.octets());
                this.put(&to.octets());
            }
            _ => panic!("a way between addresses of different families"),
        }
        this.put(&way.from.port().to_be_bytes());
        this.put(&to.port().to_be_bytes());
        this.put(&udp_len.to_be_bytes());
        // The card writes the checksum.
        this.put(&[0, 0]);
        this.put(own);
        this
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The sum that IP and UDP use (RFC 1071), not complemented.
fn sum(bytes: &[u8], mut start: u32) -> u16 {
    for pair in bytes.chunks(2) {
        start += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        start = (start & 0xffff) + (start >> 16);
    }
    start as u16
}

/// A datagram that a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Where it comes from.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// What it says.
    pub payload: &'a [u8],
}

/// The datagram of a frame, as a kernel would take it: every length and checksum must be right.
pub fn datagram(frame: &[u8]) -> Option<Datagram<'_>> {
    let u16_at = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
    let mut at = 14;
    if u16_at(12)? == VLAN {
        at = 18;
    }
    let (packet, kind) = (frame.get(at..)?, u16_at(at - 2)?);
    let (from, to, udp) = match kind {
        IPV4 => {
            let header = packet.get(..20)?;
            let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
            if header[0] != 0x45 || sum(header, 0) != 0xffff || header[9] != UDP || len != packet.len() {
                return None;
            }
            let v4 = |at: usize| IpAddr::from([header[at], header[at + 1], header[at + 2], header[at + 3]]);
            (v4(12), v4(16), &packet[20..])
        }
        IPV6 => {
            let header = packet.get(..40)?;
            let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
            if header[0] >> 4 != 6 || header[6] != UDP || len + 40 != packet.len() {
                return None;
            }
            let v6 = |at: usize| <[u8; 16]>::try_from(&header[at..at + 16]).map(IpAddr::from).ok();
            (v6(8)?, v6(24)?, &packet[40..])
        }
        _ => return None,
    };
    let head = udp.get(..8)?;
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let pseudo = sum(&[octets(from), octets(to)].concat(), u32::from(UDP) + u32::from(word(4)));
    let right = usize::from(word(4)) == udp.len() && word(6) != 0 && sum(udp, pseudo.into()) == 0xffff;
    right.then(|| Datagram {
        from: SocketAddr::new(from, word(0)),
        to: SocketAddr::new(to, word(2)),
        payload: &udp[8..],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both families, with and without VLAN: lengths of headers, and what stands in them.
    #[test]
    fn headers_have_their_lengths() {
        let v4 = (SocketAddr::from(([192, 0, 2, 1], 7)), SocketAddr::from(([192, 0, 2, 2], 9)));
        let v6 =
            (SocketAddr::from(([0x20, 1, 0, 0, 0, 0, 0, 1], 7)), SocketAddr::from(([0x20, 1, 0, 0, 0, 0, 0, 2], 9)));
        for ((from, to), vlan, len) in [(v4, None, 42), (v4, Some(5), 46), (v6, None, 62), (v6, Some(5), 66)] {
            let way = Cable { from, vlan }.way(to).unwrap();
            let headers = Headers::new(&way, to, 77, &[1; 20], 100);
            let bytes = headers.bytes();
            assert_eq!(bytes.len(), len + 20);
            assert_eq!(bytes[len - 4..len - 2], (8 + 120u16).to_be_bytes(), "UDP's length");
            assert_eq!(bytes[len..], [1; 20]);
            assert!(vlan.is_none_or(|vlan| bytes[14..16] == vlan.to_be_bytes()));
        }
        assert_eq!(Cable { from: v4.0, vlan: None }.way(v6.1), None);
    }

    /// An example that others computed: the header of RFC 1071's kind as it stands in many books.
    #[test]
    fn the_checksum_is_the_right_one() {
        let header = [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        assert_eq!(!sum(&header, 0), 0xb861);
    }
}
