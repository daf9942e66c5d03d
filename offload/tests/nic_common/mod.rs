//! What the tests of the NIC's engine have in common: addresses, a cable, and bytes.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::net::SocketAddr;

use offload::frame::Cable;

pub fn from(v6: bool) -> SocketAddr {
    if v6 { SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, 1], 7000)) } else { SocketAddr::from(([192, 0, 2, 1], 7000)) }
}

pub fn to(v6: bool) -> SocketAddr {
    if v6 { SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, 2], 7001)) } else { SocketAddr::from(([192, 0, 2, 2], 7001)) }
}

pub fn cable(v6: bool) -> Cable {
    Cable { from: from(v6), vlan: v6.then_some(7) }
}

/// Not random: a test's key.
pub fn fill(bytes: &mut [u8]) {
    bytes.iter_mut().zip(1..).for_each(|(byte, i)| *byte = i);
}
