//! Owns the shape of the network: which ports there are, where each leads, and which one a frame takes next. It knows no time.
//!
//! Ports: one of each host towards the network; then one of its switch towards each host; then, when there are spines, those
//! of each rack's switch towards each spine, and those of each spine towards each rack.

use crate::clock::{NS, Time, US};
use crate::link::PortSpec;
use crate::rng::Rng;

/// What the network is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Racks; each has one switch. 0: two hosts with one cable between them.
    pub racks: u32,
    /// Hosts in each rack.
    pub hosts_per_rack: u32,
    /// Switches that connect the racks. Frames between racks are sprayed over them at random.
    pub spines: u32,
    /// Bits per second of a host's link.
    pub host_rate: u64,
    /// Bits per second between switches.
    pub core_rate: u64,
    /// What a switch needs for each frame.
    pub switch_delay: Time,
    /// What a host's software and its network card need to send a frame.
    pub send_delay: Time,
    /// What a host's software needs to receive one.
    pub receive_delay: Time,
    /// Bytes that wait at each priority of a switch port, at most.
    pub queue_bytes: u64,
}

/// Where a port leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A host.
    Host(u32),
    /// A rack's switch.
    Rack(u32),
    /// A spine.
    Spine(u32),
}

impl Network {
    /// The set-up of the Homa paper's simulations, as large as wanted: racks of 16, 4 spines, 10 and 40 Gbit/s, 250 ns per
    /// switch, and per host 0.5 us to send, 0.5 us in the card, 0.5 us to receive. 144 hosts make the paper's own.
    #[must_use]
    pub const fn paper(hosts: u32) -> Self {
        let racks = hosts.div_ceil(16);
        Self {
            racks,
            hosts_per_rack: if hosts < 16 { hosts } else { 16 },
            spines: if racks > 1 { 4 } else { 0 },
            host_rate: 10_000_000_000,
            core_rate: 40_000_000_000,
            switch_delay: 250 * NS,
            send_delay: US,
            receive_delay: 500 * NS,
            queue_bytes: u64::MAX,
        }
    }

    /// Hosts at one switch.
    #[must_use]
    pub const fn one_switch(hosts: u32) -> Self {
        Self { racks: 1, hosts_per_rack: hosts, spines: 0, ..Self::paper(16) }
    }

    /// Two hosts and a cable.
    #[must_use]
    pub const fn pair() -> Self {
        Self { racks: 0, hosts_per_rack: 2, ..Self::one_switch(2) }
    }

    /// How many hosts there are.
    #[must_use]
    pub const fn hosts(&self) -> u32 {
        if self.racks == 0 { 2 } else { self.racks * self.hosts_per_rack }
    }

    /// The rack that a host stands in.
    #[must_use]
    pub const fn rack(&self, host: u32) -> u32 {
        host / self.hosts_per_rack
    }

    /// All ports and where each leads, in the order that [`Self::route`] numbers them.
    #[must_use]
    pub fn ports(&self) -> Vec<(PortSpec, Node)> {
        let switch = |rate| PortSpec { rate, delay: self.switch_delay, limit: self.queue_bytes, priorities: true };
        let to_host = PortSpec { delay: self.receive_delay, ..switch(self.host_rate) };
        let card = |delay| PortSpec { rate: self.host_rate, delay, limit: u64::MAX, priorities: false };
        if self.racks == 0 {
            let spec = card(self.send_delay + self.receive_delay);
            return vec![(spec, Node::Host(1)), (spec, Node::Host(0))];
        }
        let hosts = 0..self.hosts();
        let card = card(self.send_delay + self.switch_delay);
        let mut ports: Vec<_> = hosts.clone().map(|host| (card, Node::Rack(self.rack(host)))).collect();
        ports.extend(hosts.map(|host| (to_host, Node::Host(host))));
        for _ in 0..self.racks {
            ports.extend((0..self.spines).map(|spine| (switch(self.core_rate), Node::Spine(spine))));
        }
        for _ in 0..self.spines {
            ports.extend((0..self.racks).map(|rack| (switch(self.core_rate), Node::Rack(rack))));
        }
        ports
    }

    /// The port by which a frame for host `to` leaves the switch `at`.
    pub fn route(&self, at: Node, to: u32, rng: &mut Rng) -> u32 {
        let (hosts, rack) = (self.hosts(), self.rack(to));
        match at {
            Node::Rack(here) if here == rack => hosts + to,
            Node::Rack(here) => 2 * hosts + here * self.spines + rng.below(u64::from(self.spines)) as u32,
            Node::Spine(spine) => 2 * hosts + self.racks * self.spines + spine * self.racks + rack,
            Node::Host(_) => unreachable!("a host routes nothing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_leads_to_its_host() {
        let mut rng = Rng::new(3, 0);
        for network in [Network::paper(144), Network::paper(16), Network::paper(7), Network::one_switch(100)] {
            let ports = network.ports();
            for _ in 0..2000 {
                let (from, to) = (rng.below(network.hosts().into()) as u32, rng.below(network.hosts().into()) as u32);
                let mut at = ports[from as usize].1;
                let mut hops = 0;
                while at != Node::Host(to) {
                    at = ports[network.route(at, to, &mut rng) as usize].1;
                    hops += 1;
                }
                assert_eq!(hops, if network.rack(from) == network.rack(to) { 1 } else { 3 });
            }
        }
        assert_eq!(Network::paper(144).ports().len(), 2 * 144 + 2 * 9 * 4);
    }
}
