//! Owns the kernel's knowledge of ways, asked over rtnetlink (RFC 3549): by which interface somebody is reached, from which address, by which
//! neighbour. It sends nothing into the network: a neighbour that the kernel does not know is asked for by sending there in software, which
//! the engine does when there is no way.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use rustix::fd::OwnedFd;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, bind, recv, send, socket};

use crate::frame::{Way, Ways};

/// A way is asked for again after it was used so often: neighbours change, seldom.
const USES: u32 = 4096;
/// Ways that are remembered.
const WAYS_MAX: usize = 4096;

const GET_LINK: u16 = 18;
const GET_ROUTE: u16 = 26;
const GET_NEIGHBOUR: u16 = 30;
const REQUEST: u16 = 1;
const ERROR: u16 = 2;
const LINK_ADDRESS: u16 = 1;
const LINK_INFO: u16 = 18;
const INFO_DATA: u16 = 2;
const VLAN_ID: u16 = 1;
const ROUTE_TO: u16 = 1;
const ROUTE_BY: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
const ROUTE_FROM: u16 = 7;
const NEIGHBOUR_IP: u16 = 1;
const NEIGHBOUR_MAC: u16 = 2;

/// Ways as this machine's kernel knows them.
#[derive(Debug)]
pub struct Kernel {
    from: SocketAddr,
    known: HashMap<IpAddr, (Option<Way>, u32)>,
}

impl Kernel {
    /// Ways from the socket that is bound there; an unspecified address is replaced by the route's.
    pub fn new(from: SocketAddr) -> Self {
        Self { from, known: HashMap::new() }
    }
}

impl Ways for Kernel {
    fn way(&mut self, to: SocketAddr) -> Option<Way> {
        if let Some((way, uses)) = self.known.get_mut(&to.ip()).filter(|(_, uses)| *uses > 0) {
            *uses -= 1;
            return *way;
        }
        let way = ask(self.from, to.ip());
        if self.known.len() >= WAYS_MAX {
            self.known.clear();
        }
        // One that is not known now may be known soon.
        self.known.insert(to.ip(), (way, if way.is_some() { USES } else { USES / 64 }));
        way
    }
}

fn ask(from: SocketAddr, to: IpAddr) -> Option<Way> {
    let mut kernel = Asking::new()?;
    let route = kernel.route(to)?;
    let link = kernel.link(route.by)?;
    let next_mac = kernel.neighbour(route.by, route.gateway.unwrap_or(to))?;
    let ip = if from.ip().is_unspecified() { route.from? } else { from.ip() };
    (ip.is_ipv4() == to.is_ipv4()).then_some(Way {
        from: SocketAddr::new(ip, from.port()),
        own_mac: link.mac,
        next_mac,
        vlan: link.vlan,
    })
}

struct Route {
    by: u32,
    gateway: Option<IpAddr>,
    from: Option<IpAddr>,
}

struct Link {
    mac: [u8; 6],
    vlan: Option<u16>,
}

struct Asking {
    socket: OwnedFd,
    sequence: u32,
}

impl Asking {
    fn new() -> Option<Self> {
        // Protocol 0 of netlink is routes, links and neighbours.
        let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None).ok()?;
        bind(&socket, &SocketAddrNetlink::new(0, 0)).ok()?;
        Some(Self { socket, sequence: 0 })
    }

    /// Asks one thing: the answer without its header.
    fn ask(&mut self, kind: u16, body: &[u8]) -> Option<Vec<u8>> {
        self.sequence += 1;
        let mut message = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend(REQUEST.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend(body);
        send(&self.socket, &message, SendFlags::empty()).ok()?;
        let mut answer = vec![0; 1 << 15];
        let (len, _) = recv(&self.socket, &mut answer[..], RecvFlags::empty()).ok()?;
        answer.truncate(len);
        let stated = u32::from_ne_bytes(answer.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
        let sequence = u32::from_ne_bytes(answer.get(8..12)?.try_into().ok()?);
        (kind != ERROR && sequence == self.sequence).then(|| answer.get(16..stated).map(<[u8]>::to_vec))?
    }

    fn route(&mut self, to: IpAddr) -> Option<Route> {
        let bits = if to.is_ipv4() { 32 } else { 128 };
        let mut body = vec![family(to), bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        attribute(&mut body, ROUTE_TO, &octets(to));
        let answer = self.ask(GET_ROUTE, &body)?;
        let found = attributes(answer.get(12..)?);
        let by = u32::from_ne_bytes(found.get(&ROUTE_BY)?.as_slice().try_into().ok()?);
        let ip = |kind| found.get(&kind).and_then(|octets| ip_of(octets));
        Some(Route { by, gateway: ip(ROUTE_GATEWAY), from: ip(ROUTE_FROM) })
    }

    fn link(&mut self, index: u32) -> Option<Link> {
        let mut body = vec![0; 16];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        let answer = self.ask(GET_LINK, &body)?;
        let found = attributes(answer.get(16..)?);
        let mac = found.get(&LINK_ADDRESS)?.as_slice().try_into().ok()?;
        let info = found.get(&LINK_INFO).map(|info| attributes(info)).unwrap_or_default();
        let vlan = info.get(&INFO_DATA).map(|data| attributes(data)).and_then(|data| {
            let id = data
                .get(&VLAN_ID)
                .filter(|id| id.len() == 2 && info.get(&1).is_some_and(|kind| kind.starts_with(b"vlan")))?;
            Some(u16::from_ne_bytes([id[0], id[1]]))
        });
        Some(Link { mac, vlan })
    }

    fn neighbour(&mut self, index: u32, ip: IpAddr) -> Option<[u8; 6]> {
        let mut body = vec![family(ip), 0, 0, 0];
        body.extend(index.to_ne_bytes());
        body.extend([0; 4]);
        attribute(&mut body, NEIGHBOUR_IP, &octets(ip));
        let answer = self.ask(GET_NEIGHBOUR, &body)?;
        attributes(answer.get(12..)?).get(&NEIGHBOUR_MAC)?.as_slice().try_into().ok()
    }
}

const fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 2 } else { 10 }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn ip_of(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(octets).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(octets).ok()?)),
        _ => None,
    }
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(((4 + value.len()) as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Attributes that follow each other, by kind.
fn attributes(mut bytes: &[u8]) -> HashMap<u16, Vec<u8>> {
    let mut found = HashMap::new();
    while bytes.len() >= 4 {
        let len = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        // The upper two bits say how the value is to be read.
        let kind = u16::from_ne_bytes([bytes[2], bytes[3]]) & 0x3fff;
        let Some(value) = bytes.get(4..len) else { break };
        found.insert(kind, value.to_vec());
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The way to oneself goes by the loopback interface, which has no neighbours; the kernel is asked, and answers.
    #[test]
    fn the_kernel_answers() {
        for to in [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])] {
            let mut kernel = Asking::new().expect("rtnetlink is there");
            let Some(route) = kernel.route(to) else {
                eprintln!("SKIPPED: there is no route to {to}");
                continue;
            };
            let link = kernel.link(route.by).expect("the interface has an address");
            assert_eq!((link.mac, link.vlan, route.gateway), ([0; 6], None, None));
            assert!(route.from.is_none_or(|from| from == to));
        }
        assert_eq!(Asking::new().unwrap().link(u32::MAX - 1).map(|link| link.mac), None);
        let any = SocketAddr::from(([0; 4], 9));
        assert_eq!(Kernel::new(any).way(SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, 9], 9))), None);
    }

    #[test]
    fn attributes_are_read_within_their_bytes() {
        let mut bytes = Vec::new();
        attribute(&mut bytes, 7, &[1, 2, 3]);
        attribute(&mut bytes, 9, &[]);
        let found = attributes(&bytes);
        assert_eq!((found[&7].as_slice(), found[&9].as_slice(), found.len()), (&[1, 2, 3][..], &[][..], 2));
        for cut in 0..bytes.len() {
            attributes(&bytes[..cut]);
        }
        assert_eq!(attributes(&[3, 0, 1, 0, 9, 9]).len(), 0, "shorter than its own head");
    }
}
