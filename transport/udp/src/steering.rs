//! Several sockets on one port, and which of them a datagram goes to.
//!
//! Owns the program that the kernel runs for it (classic BPF, `SO_ATTACH_REUSEPORT_CBPF`, Linux 4.6). Refuses to know what the bytes mean
//! that it reads: a [`Rule`] says where they are. A datagram that the rule says nothing of goes to the first socket; where the kernel
//! takes no program it picks by addresses, and whoever gets a datagram that is another's hands it over.
//!
//! The port stays shared: another process of the same user that asks for it with `SO_REUSEPORT` would get a part of what comes. Nobody
//! else does. A port that is taken is refused as ever.
//!
//! A train is steered by its first datagram: what is sent as one must be for one receiver.

use std::io;
use std::net::SocketAddr;

use libc::sock_filter;

use crate::batch::Datagrams;
use crate::mmsg::{self, Mmsg, Options};
use crate::sys;

/// Which socket gets a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The offset of a byte of which the low four bits are a type.
    pub type_at: u32,
    /// The largest type that is steered; all others are the first socket's.
    pub type_max: u8,
    /// The offset of the byte that is the number of the socket; one that there is not is the first's.
    pub receiver_at: u32,
}

impl Rule {
    /// The rule as a program for `count` sockets. A load beyond the end of a datagram ends it with 0, the first socket.
    fn program(&self, count: u32) -> [sock_filter; 7] {
        let step = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
        let load = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
        let jump = libc::BPF_JMP | libc::BPF_K;
        [
            step(load, 0, 0, self.type_at),
            step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, 0xf),
            step(jump | libc::BPF_JGT, 3, 0, self.type_max.into()),
            step(load, 0, 0, self.receiver_at),
            step(jump | libc::BPF_JGE, 1, 0, count),
            step(libc::BPF_RET | BPF_A, 0, 0, 0),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        ]
    }
}

/// The accumulator is what a program returns (`linux/filter.h`; `libc` lacks it).
const BPF_A: u32 = 0x10;

/// Sockets that share a port.
#[derive(Debug)]
pub struct Group {
    /// By number.
    pub sockets: Vec<Mmsg>,
    /// Whether the kernel goes by the rule.
    pub steered: bool,
}

/// Binds so many sockets, one at least, to one address. Port 0 lets the kernel choose it for all.
///
/// # Errors
/// As [`mmsg::bind`]; also for a port that another process of ours shares.
pub fn bind(address: SocketAddr, options: &Options, count: u16, rule: &Rule) -> io::Result<Group> {
    // Alone first: with the port shared from the start, two programs would both have it and each get a part.
    let first = mmsg::bind(address, &Options { reuse_port: false, ..options.clone() })?;
    let address = first.local_addr();
    let mut sockets = vec![first];
    if count > 1 {
        sockets[0].share_port(true)?;
    }
    let options = Options { reuse_port: true, ..options.clone() };
    for _ in 1..count {
        sockets.push(mmsg::bind(address, &options)?);
    }
    let steered = count > 1 && sys::pick_receiver(sockets[0].fds(), &mut rule.program(count.into())).is_ok();
    Ok(Group { sockets, steered })
}
