//! Where a datagram goes next: the kernel's own routes, neighbours and interfaces, asked over netlink.
//!
//! Owns the questions and the reading of answers. Refuses to find neighbours itself: who needs one that the kernel does not know sends by
//! the kernel, which then asks the link.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use socket2::{Domain, Protocol, Socket, Type};

use super::frame::Mac;

const GET_LINK: u16 = 18;
const GET_ROUTE: u16 = 26;
const GET_NEIGHBOUR: u16 = 30;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
/// The answer's kind is the question's, two less.
const ANSWER: u16 = 2;
/// Of interfaces: address, name, MTU, queues that receive.
const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const LINK_QUEUES: u16 = 32;
/// Of routes: destination, interface, next hop.
const ROUTE_TO: u16 = 1;
const ROUTE_INTERFACE: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
/// To one other machine.
const UNICAST: u8 = 1;
/// Of neighbours: address, address on the link.
const NEIGHBOUR_IP: u16 = 1;
const NEIGHBOUR_MAC: u16 = 2;
/// States in which the kernel sends to a neighbour: reachable, stale, delayed, probed, stated by hand.
const USABLE: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x80;

/// An interface of Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) index: u32,
    pub(crate) mac: Mac,
    /// The longest IP packet in bytes.
    pub(crate) mtu: usize,
    /// Queues that it receives by.
    pub(crate) queues: u32,
}

/// A conversation with the kernel.
#[derive(Debug)]
pub(crate) struct Routes {
    socket: Socket,
    answer: Vec<u8>,
}

impl Routes {
    pub(crate) fn new() -> io::Result<Self> {
        let kind = Protocol::from(libc::NETLINK_ROUTE);
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(kind))?;
        Ok(Self { socket, answer: vec![0; 1 << 16] })
    }

    /// The interface of this name, if it is Ethernet.
    pub(crate) fn interface(&mut self, name: &str) -> io::Result<Option<Interface>> {
        let mut named = name.as_bytes().to_vec();
        named.push(0);
        let Some(answer) = self.ask(GET_LINK, &[0; 16], &[(LINK_NAME, &named)])? else { return Ok(None) };
        let Some((header, attributes)) = answer.split_at_checked(16) else { return Ok(None) };
        let index = number(&header[4..8]).unwrap_or(0);
        let value = |kind| attribute(attributes, kind);
        let mac = value(LINK_ADDRESS).and_then(|mac| Mac::try_from(mac).ok()).filter(|mac| *mac != [0; 6]);
        Ok(mac.map(|mac| Interface {
            index,
            mac,
            mtu: value(LINK_MTU).and_then(number).unwrap_or(1500) as usize,
            queues: value(LINK_QUEUES).and_then(number).unwrap_or(1).max(1),
        }))
    }

    /// The neighbour to whom the kernel would give packets for `to` that leave by this interface. `None` when they leave by another one
    /// or stay here, or the neighbour's address is not known now.
    pub(crate) fn next_hop(&mut self, to: IpAddr, interface: u32) -> io::Result<Option<Mac>> {
        let bytes = octets(to);
        let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
        let mut header = [0; 12];
        (header[0], header[1]) = (family, 8 * bytes.len() as u8);
        let Some(answer) = self.ask(GET_ROUTE, &header, &[(ROUTE_TO, &bytes)])? else { return Ok(None) };
        let Some((header, attributes)) = answer.split_at_checked(12) else { return Ok(None) };
        let by = attribute(attributes, ROUTE_INTERFACE).and_then(number);
        if header[7] != UNICAST || by != Some(interface) {
            return Ok(None);
        }
        let next = attribute(attributes, ROUTE_GATEWAY).map_or(bytes, <[u8]>::to_vec);
        let mut header = [0; 12];
        header[0] = family;
        header[4..8].copy_from_slice(&interface.to_ne_bytes());
        let Some(answer) = self.ask(GET_NEIGHBOUR, &header, &[(NEIGHBOUR_IP, &next)])? else { return Ok(None) };
        let Some((header, attributes)) = answer.split_at_checked(12) else { return Ok(None) };
        let state = u16::from_ne_bytes([header[8], header[9]]);
        let mac = attribute(attributes, NEIGHBOUR_MAC).and_then(|mac| Mac::try_from(mac).ok());
        Ok(mac.filter(|_| state & USABLE != 0))
    }

    /// Asks; what stands behind the answer's header, or `None` when the kernel knows no such thing.
    fn ask(&mut self, kind: u16, header: &[u8], attributes: &[(u16, &[u8])]) -> io::Result<Option<&[u8]>> {
        let mut question = vec![0; 16];
        question.extend_from_slice(header);
        for (kind, value) in attributes {
            question.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
            question.extend_from_slice(&kind.to_ne_bytes());
            question.extend_from_slice(value);
            question.resize(question.len().next_multiple_of(4), 0);
        }
        let len = question.len() as u32;
        question[..4].copy_from_slice(&len.to_ne_bytes());
        question[4..6].copy_from_slice(&kind.to_ne_bytes());
        question[6..8].copy_from_slice(&REQUEST.to_ne_bytes());
        self.socket.write_all(&question)?;
        let got = self.socket.read(&mut self.answer)?;
        let Some(len) = self.answer.get(..4).and_then(number) else { return Ok(None) };
        let answer = self.answer.get(..got.min(len as usize)).filter(|answer| answer.len() >= 16);
        let Some((head, rest)) = answer.map(|answer| answer.split_at(16)) else { return Ok(None) };
        match u16::from_ne_bytes([head[4], head[5]]) {
            // No route, no neighbour, no interface: all the same to us.
            ERROR => Ok(None),
            answered if answered + ANSWER == kind => Ok(Some(rest)),
            _ => Ok(None),
        }
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::octets(&ip).to_vec(),
        IpAddr::V6(ip) => Ipv6Addr::octets(&ip).to_vec(),
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// The value of the first attribute of this kind.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let len = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..len)?;
        // The two highest bits say something of the value's form.
        if kind & 0x3fff == wanted {
            return Some(value);
        }
        bytes = bytes.get(len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_and_nonsense_is_not_followed() {
        let bytes =
            [[5_u16.to_ne_bytes(), 7_u16.to_ne_bytes()].concat(), vec![9, 0, 0, 0], vec![8, 0, 3, 0, 1, 2, 3, 4]];
        let bytes = bytes.concat();
        assert_eq!(attribute(&bytes, 7), Some(&[9][..]));
        assert_eq!(attribute(&bytes, 3), Some(&[1, 2, 3, 4][..]));
        assert_eq!(attribute(&bytes, 4), None);
        assert_eq!(attribute(&[0; 64], 4), None, "lengths of zero end the search");
        assert_eq!(attribute(&[255; 64], 4), None);
    }

    #[test]
    fn the_kernel_answers() {
        let mut routes = Routes::new().unwrap();
        assert_eq!(routes.interface("lo").unwrap(), None, "loopback has no address on a link");
        assert_eq!(routes.interface("no-such-interface").unwrap(), None);
        assert_eq!(routes.next_hop([127, 0, 0, 1].into(), 1).unwrap(), None, "it stays here");
    }
}
