//! Owns one host: its endpoint, its clock, its timer, and how it reaches others. It knows no network.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use endpoint::endpoint::{Endpoint, To};
use proto::time::Instant;
use record::keys::Secret;
use wire::ids::SessionId;

use crate::clock::{NEVER, Skew, Time};
use crate::rng::Rng;

/// The port of a host's own address. Those of its translator follow.
const PORT: u16 = 7000;

/// Where host `host` is.
#[must_use]
pub fn address(host: u32) -> SocketAddr {
    address_of(host, 0)
}

/// Where host `host` is seen to be since its translator changed addresses so often.
#[must_use]
pub fn address_of(host: u32, binding: u16) -> SocketAddr {
    let [_, b, c, d] = host.to_be_bytes();
    SocketAddr::from(([10, b, c, d], PORT + binding))
}

/// How often the translator had changed addresses when this one came up.
#[must_use]
pub fn binding_of(address: SocketAddr) -> u16 {
    address.port().saturating_sub(PORT)
}

/// Which host is at `address`.
#[must_use]
pub fn host_at(address: SocketAddr) -> Option<u32> {
    match address.ip() {
        IpAddr::V4(ip) if ip.octets()[0] == 10 && address.port() >= PORT => {
            let [_, b, c, d] = ip.octets();
            Some(u32::from_be_bytes([0, b, c, d]))
        }
        _ => None,
    }
}

/// The secret that `client` and `server` have in the world of `seed`.
#[must_use]
pub fn secret(seed: u64, client: u32, server: u32) -> Secret {
    let mut bytes = [0; 32];
    Rng::new(seed ^ 0x5ec2_e700, u64::from(client) << 32 | u64::from(server)).fill(&mut bytes);
    Secret::new(bytes)
}

/// A host.
#[derive(Debug)]
pub struct Host {
    /// Its endpoint, or the first shard of it; none while it is down.
    pub endpoint: Option<Endpoint>,
    /// Its shards but that one, which is the first.
    pub more: Vec<Endpoint>,
    /// Its clock.
    pub skew: Skew,
    /// How often it was started.
    pub lives: u32,
    /// Frames that it may have in its card besides the one that is being sent: 0 asks the endpoint for another only when the
    /// card is idle.
    pub card_frames: usize,
    /// How often its translator changed addresses.
    pub binding: u16,
    /// When its timer is in the event queue.
    pub(crate) wake: Time,
    /// How it reaches others.
    pub(crate) ways: HashMap<u32, To>,
}

impl Host {
    pub(crate) fn new(card_frames: usize) -> Self {
        let ways = HashMap::new();
        Self {
            endpoint: None,
            more: Vec::new(),
            skew: Skew::default(),
            lives: 0,
            card_frames,
            binding: 0,
            wake: NEVER,
            ways,
        }
    }

    /// What its clock shows.
    #[must_use]
    pub fn local(&self, now: Time) -> Instant {
        self.skew.local(now)
    }

    /// How it reaches `to`, if the two have a secret.
    #[must_use]
    pub fn way(&self, to: u32) -> Option<To> {
        self.ways.get(&to).copied()
    }

    /// From now on it reaches others in the sessions that are open, whoever began them.
    pub(crate) fn learn_sessions(&mut self) {
        let Some(endpoint) = &self.endpoint else { return };
        for session in endpoint.sessions().iter().filter(|session| session.open) {
            self.learn(session.origin.address, session.id);
        }
    }

    fn learn(&mut self, address: SocketAddr, id: SessionId) {
        if let Some(host) = host_at(address) {
            self.ways.entry(host).or_insert(To::Session(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_hosts() {
        for host in [0, 1, 255, 256, 5000, 1 << 20] {
            assert_eq!(host_at(address(host)), Some(host));
            assert_eq!((host_at(address_of(host, 3)), binding_of(address_of(host, 3))), (Some(host), 3));
        }
        assert_eq!(host_at(SocketAddr::from(([192, 0, 2, 1], 7000))), None);
        assert_ne!(secret(1, 0, 1).expose(), secret(1, 1, 0).expose());
        assert_ne!(secret(1, 0, 1).expose(), secret(2, 0, 1).expose());
    }
}
