//! Owns what others say to a world: what it is made of, who watches it, and what becomes of its frames.

use std::fmt;

use endpoint::config::Config;
use endpoint::endpoint::Endpoint;
use endpoint::events::Event;
use proto::time::Instant;

use crate::clock::Time;
use crate::fabric::Network;
use crate::link::{Frame, on_wire};

/// What the network does with a frame that leaves its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes its way.
    Pass,
    /// It is lost.
    Drop,
    /// It goes its way, so much later.
    Delay(Time),
    /// It goes its way, and a copy of it so much later.
    Duplicate(Time),
    /// A byte of it is changed.
    Corrupt {
        /// Which one, from the start of the datagram.
        at: u32,
        /// What it is changed with; not 0.
        xor: u8,
    },
    /// It ends after so many bytes.
    Truncate(u32),
    /// So many bytes more come at its end.
    Extend {
        /// How many.
        by: u32,
        /// All of them.
        with: u8,
    },
}

/// Why a frame did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// A verdict.
    Judged,
    /// A queue was full.
    QueueFull,
    /// The network is cut between the two hosts.
    Partition,
    /// The host is down.
    HostDown,
    /// The address is not the host's any more.
    Rebound,
    /// There is no such host.
    Nowhere,
}

/// Who watches a world, and decides on its network's faults.
pub trait Hooks {
    /// A frame leaves its host, as the endpoint made it.
    fn left(&mut self, now: Time, frame: &Frame) {
        let _ = (now, frame);
    }
    /// What becomes of it on its way.
    fn verdict(&mut self, now: Time, frame: &Frame) -> Verdict {
        let _ = (now, frame);
        Verdict::Pass
    }
    /// Whether a frame is from the client of its session, who may be behind a translator of addresses.
    fn sent_by_client(&self, frame: &Frame) -> bool {
        let _ = frame;
        false
    }
    /// Whether it is from the server, and so for such a client.
    fn sent_by_server(&self, frame: &Frame) -> bool {
        let _ = frame;
        false
    }
    /// A frame is about to be handed to an endpoint.
    fn arriving(&mut self, now: Time, frame: &Frame, endpoint: &Endpoint) {
        let _ = (now, frame, endpoint);
    }
    /// A frame was handed to an endpoint, which has not been asked yet what it makes of it.
    fn arrived(&mut self, now: Time, frame: &Frame, endpoint: &Endpoint) {
        let _ = (now, frame, endpoint);
    }
    /// An endpoint was told something, and has told and sent what follows from it.
    fn settled(&mut self, now: Time, host: u32, endpoint: &Endpoint) {
        let _ = (now, host, endpoint);
    }
    /// Whether the world is to stop here: whoever watches has seen what must not be.
    fn halted(&self) -> bool {
        false
    }
    /// A frame will not arrive.
    fn lost(&mut self, now: Time, frame: &Frame, why: Lost) {
        let _ = (now, frame, why);
    }
    /// An endpoint has something to tell. It may be called from here, at the time that its own clock shows.
    fn event(&mut self, now: Time, host: u32, endpoint: &mut Endpoint, local: Instant, event: Event) {
        let _ = (now, host, endpoint, local, event);
    }
}

/// Nobody watches.
impl Hooks for () {}

/// How many bytes of a datagram count on the wire.
pub type Charge = fn(&Frame) -> u32;

/// Every byte counts.
#[must_use]
pub const fn charge_all(frame: &Frame) -> u32 {
    on_wire(frame.bytes.len() as u32)
}

/// What a world is made of.
pub struct Spec {
    /// All randomness comes from it.
    pub seed: u64,
    /// The network.
    pub network: Network,
    /// The configuration of each host's endpoint.
    pub config: Box<dyn Fn(u32) -> Config + Send>,
    /// Largest datagram that the network carries.
    pub datagram_max: usize,
    /// Frames that a host's card takes while it is busy with others.
    pub card_frames: usize,
    /// What of a frame counts on the wire.
    pub charge: Charge,
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec").field("seed", &self.seed).field("network", &self.network).finish_non_exhaustive()
    }
}

impl Spec {
    /// Hosts with the default configuration that take requests, at a network of Ethernets.
    #[must_use]
    pub fn new(seed: u64, network: Network) -> Self {
        let config = |_| {
            let mut config = Config::new(offload::software::crypto());
            config.proto.serving = true;
            config
        };
        Self { seed, network, config: Box::new(config), datagram_max: 1472, card_frames: 0, charge: charge_all }
    }
}
