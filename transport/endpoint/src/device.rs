//! Owns the device that may seal for an endpoint, and what each session's use of it came to. Which messages go there is `beside`'s to say.

use std::collections::HashMap;
use std::net::SocketAddr;

use offload::frame::datagram;
use offload::nic::Nic;
use wire::header::Header;

/// Records that had to go again, from which on a session looks whether they are too many.
const REPAIRS_MIN: u64 = 64;
/// One of so many is too many.
const REPAIRS_SHARE: u64 = 8;

/// Bytes that a device is given before it is told of them: what comes next is chosen when these are on their way, not long before. At 100
/// Gbit/s they take 10 us.
const UNTOLD_MAX: usize = 128 << 10;

/// What a device did for one session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Use {
    /// Records that it sealed.
    pub(crate) handed: u64,
    /// Records that went again in messages that it had sealed.
    pub(crate) repaired: u64,
    /// It does not seal for this session any more.
    pub(crate) off: bool,
}

impl Use {
    /// Whether so much had to be repaired that the session is better off without. A peer, or who is between, can bring that about by
    /// losing packets; all it gains is that we seal ourselves.
    pub(crate) const fn is_in_doubt(&self) -> bool {
        self.repaired >= REPAIRS_MIN && self.repaired * REPAIRS_SHARE > self.handed
    }
}

/// A device that seals as it sends, beside the sealing of our own.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) nic: Nic,
    pub(crate) uses: HashMap<u64, Use>,
    /// Bytes that it was given and not told of yet.
    pub(crate) untold: usize,
    frame: Vec<u8>,
}

impl Device {
    pub(crate) fn new(nic: Nic) -> Self {
        Self { nic, uses: HashMap::new(), untold: 0, frame: Vec::new() }
    }

    /// Whether it is to be told before it is given more.
    pub(crate) const fn has_much(&self) -> bool {
        self.untold >= UNTOLD_MAX
    }

    /// What a device without a wire made, as a datagram to be sent by hand: where to, how long it is, and its priority.
    pub(crate) fn next_frame(&mut self, out: &mut [u8]) -> Option<(SocketAddr, usize, u8)> {
        while self.nic.next_frame(&mut self.frame) {
            let Some(datagram) = datagram(&self.frame).filter(|datagram| datagram.payload.len() <= out.len()) else {
                continue;
            };
            let (to, len) = (datagram.to, datagram.payload.len());
            out[..len].copy_from_slice(datagram.payload);
            let priority = Header::parse(datagram.payload).map_or(0, |header| header.priority);
            return Some((to, len, priority));
        }
        None
    }
}
