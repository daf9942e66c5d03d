//! Ethernet, IP and UDP headers around a datagram: written and read as bytes.
//!
//! Owns what stands in them. Refuses to know queues, routes and who the peer is. Checksums are written always; they are not checked,
//! because between machines of one host the sender leaves them unfinished, and because no datagram is believed before its seal is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The address of an interface on its link.
pub(crate) type Mac = [u8; 6];

/// Bytes of a frame in front of the IP packet.
pub(crate) const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;
const TYPE_V4: [u8; 2] = [0x08, 0x00];
const TYPE_V6: [u8; 2] = [0x86, 0xdd];
/// UDP's number in IP.
const PROTOCOL: u8 = 17;
/// Routers that a packet may pass: what Linux has.
const HOPS: u8 = 64;

/// Whence and whither on the link, and the addresses in IP and UDP; both of one family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) from: (Mac, SocketAddr),
    pub(crate) to: (Mac, SocketAddr),
}

/// What a frame held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parsed<'a> {
    pub(crate) from: SocketAddr,
    pub(crate) tos: u8,
    pub(crate) bytes: &'a [u8],
}

/// Bytes of IP and UDP in front of a datagram to this address.
pub(crate) fn overhead(to: IpAddr) -> usize {
    UDP + if to.is_ipv4() { IPV4 } else { IPV6 }
}

/// Writes a frame with this datagram; its length. `None` when it does not fit, or the families differ.
pub(crate) fn write(frame: &mut [u8], ends: &Ends, bytes: &[u8], tos: u8, dont_fragment: bool) -> Option<usize> {
    let (from, to) = (ends.from.1, ends.to.1);
    let ip = ETHERNET + overhead(to.ip()) - UDP;
    let len = ip + UDP + bytes.len();
    let frame = frame.get_mut(..len)?;
    let (headers, body) = frame.split_at_mut(ip + UDP);
    body.copy_from_slice(bytes);
    headers[..6].copy_from_slice(&ends.to.0);
    headers[6..12].copy_from_slice(&ends.from.0);
    let udp_len = u16::try_from(UDP + bytes.len()).ok()?;
    let udp = &mut headers[ip..];
    udp[..2].copy_from_slice(&from.port().to_be_bytes());
    udp[2..4].copy_from_slice(&to.port().to_be_bytes());
    udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
    udp[6..8].fill(0);
    // Of the part of IP's header that UDP's sum covers too.
    let pseudo = u64::from(u16::from_ne_bytes([0, PROTOCOL])) + u64::from(u16::from_ne_bytes(udp_len.to_be_bytes()));
    let sum = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            headers[12..14].copy_from_slice(&TYPE_V4);
            write_v4(&mut headers[ETHERNET..ip], from, to, udp_len, tos, dont_fragment)?;
            sum(&to.octets(), sum(&from.octets(), pseudo))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            headers[12..14].copy_from_slice(&TYPE_V6);
            write_v6(&mut headers[ETHERNET..ip], from, to, udp_len, tos);
            sum(&to.octets(), sum(&from.octets(), pseudo))
        }
        _ => return None,
    };
    let checksum = fold(sum_of(body, sum_of(&headers[ip..], sum)));
    // Zero would say that there is none.
    let checksum = if checksum == 0 { u16::MAX } else { checksum };
    headers[ip + 6..ip + 8].copy_from_slice(&checksum.to_ne_bytes());
    Some(len)
}

fn write_v4(ip: &mut [u8], from: Ipv4Addr, to: Ipv4Addr, udp_len: u16, tos: u8, dont_fragment: bool) -> Option<()> {
    let total = udp_len.checked_add(IPV4 as u16)?;
    ip.fill(0);
    (ip[0], ip[1]) = (0x45, tos);
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    // A packet that nobody may cut needs no identification (RFC 6864).
    ip[6] = if dont_fragment { 0x40 } else { 0 };
    (ip[8], ip[9]) = (HOPS, PROTOCOL);
    ip[12..16].copy_from_slice(&from.octets());
    ip[16..20].copy_from_slice(&to.octets());
    let checksum = fold(sum_of(ip, 0));
    ip[10..12].copy_from_slice(&checksum.to_ne_bytes());
    Some(())
}

fn write_v6(ip: &mut [u8], from: Ipv6Addr, to: Ipv6Addr, udp_len: u16, tos: u8) {
    ip[..4].copy_from_slice(&(6 << 28 | u32::from(tos) << 20).to_be_bytes());
    ip[4..6].copy_from_slice(&udp_len.to_be_bytes());
    (ip[6], ip[7]) = (PROTOCOL, HOPS);
    ip[8..24].copy_from_slice(&from.octets());
    ip[24..40].copy_from_slice(&to.octets());
}

/// Reads a frame of Ethernet with an IP packet without options that holds UDP. `scope` is the interface's number, for addresses that
/// mean something on its link only. `None` when it is anything else, or shorter than it says.
pub(crate) fn parse(frame: &[u8], scope: u32) -> Option<Parsed<'_>> {
    let kind = frame.get(12..14)?;
    let (ip, rest) = match kind {
        _ if kind == TYPE_V4 => frame.get(ETHERNET..)?.split_at_checked(IPV4)?,
        _ if kind == TYPE_V6 => frame.get(ETHERNET..)?.split_at_checked(IPV6)?,
        _ => return None,
    };
    let (udp, rest) = rest.split_at_checked(UDP)?;
    let number = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    // What follows it is padding of a short frame.
    let bytes = rest.get(..usize::from(number(udp, 4)).checked_sub(UDP)?)?;
    let port = number(udp, 0);
    if kind == TYPE_V4 {
        let plain = ip[0] == 0x45 && number(ip, 6) & 0x3fff == 0 && ip[9] == PROTOCOL;
        let from = Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]);
        return plain.then_some(Parsed { from: (from, port).into(), tos: ip[1], bytes });
    }
    let plain = ip[0] >> 4 == 6 && ip[6] == PROTOCOL;
    let from = Ipv6Addr::from(<[u8; 16]>::try_from(&ip[8..24]).ok()?);
    let scope = if from.is_unicast_link_local() { scope } else { 0 };
    let tos = ip[0] << 4 | ip[1] >> 4;
    plain.then_some(Parsed { from: SocketAddrV6::new(from, port, 0, scope).into(), tos, bytes })
}

/// Adds up 16-bit words in the machine's own order, which the sum of complements does not mind; a last odd byte counts as if zero followed.
fn sum_of(bytes: &[u8], start: u64) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let sum = words.iter().fold(start, |sum, word| sum + u64::from(u32::from_ne_bytes(*word)));
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_ne_bytes(last))
}

fn sum<const N: usize>(bytes: &[u8; N], start: u64) -> u64 {
    sum_of(bytes, start)
}

/// The checksum of that sum, in the machine's own order.
fn fold(mut sum: u64) -> u16 {
    while sum > u64::from(u16::MAX) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by the standard: a sum over all 16-bit words in network order.
    fn reference(bytes: &[u8]) -> u16 {
        let words = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)));
        let mut sum: u32 = words.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    fn ends(v6: bool) -> Ends {
        let ip = |n: u8| -> IpAddr {
            if v6 { Ipv6Addr::new(0xfd00, 0, 0, 0xffff, 0, 0, 0, n.into()).into() } else { [10, 255, 254, n].into() }
        };
        Ends { from: ([2, 0, 0, 0, 0, 1], (ip(1), 4000).into()), to: ([2, 0, 0, 0, 0, 2], (ip(2), 65_000).into()) }
    }

    #[test]
    fn what_is_written_is_read_and_its_sums_are_right() {
        for v6 in [false, true] {
            for len in [0, 1, 2, 3, 64, 1001, 1472, 1452] {
                let bytes: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
                let mut frame = [0xaa; 2048];
                let ends = ends(v6);
                let written = write(&mut frame, &ends, &bytes, 0xb9, true).unwrap();
                assert_eq!(written, ETHERNET + overhead(ends.to.1.ip()) + len);
                // A short frame is padded on its way.
                let parsed = parse(&frame[..written.max(60)], 3).unwrap();
                assert_eq!(parsed, Parsed { from: ends.from.1, tos: 0xb9, bytes: &bytes });
                let ip = &frame[ETHERNET..written];
                let (header, udp) = ip.split_at(if v6 { IPV6 } else { IPV4 });
                assert!(v6 || reference(header) == 0);
                let addresses = if v6 { &header[8..40] } else { &header[12..20] };
                let pseudo = [addresses, &[0, PROTOCOL], &(udp.len() as u16).to_be_bytes(), udp].concat();
                assert_eq!(reference(&pseudo), 0);
            }
        }
    }

    #[test]
    fn what_is_something_else_or_cut_short_is_not_read() {
        for v6 in [false, true] {
            let mut frame = [0; 200];
            let len = write(&mut frame, &ends(v6), &[7; 100], 0, true).unwrap();
            assert!((0..len).all(|cut| parse(&frame[..cut], 0).is_none()));
            for (at, value) in [(12, 9), (ETHERNET, 0x46), (ETHERNET + if v6 { 6 } else { 9 }, 6)] {
                let was = std::mem::replace(&mut frame[at], value);
                assert_eq!(parse(&frame[..len], 0), None, "byte {at}");
                frame[at] = was;
            }
            assert!(parse(&frame[..len], 0).is_some());
        }
        let mixed = Ends { to: ends(true).to, ..ends(false) };
        assert_eq!(write(&mut [0; 200], &mixed, b"x", 0, true), None);
        assert_eq!(write(&mut [0; 60], &ends(false), &[7; 100], 0, true), None);
    }
}
