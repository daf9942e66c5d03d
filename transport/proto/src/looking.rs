//! Owns what may be asked of a machine, which changes nothing.

use core::time::Duration;

use wire::ids::RpcId;

use crate::incoming::Incoming;
use crate::io::{Holdings, PeerHoldings, RpcInfo, State};
use crate::machine::Machine;
use crate::outgoing::Outgoing;

impl Machine {
    /// The open RPC with that name.
    #[inline]
    pub fn find(&self, peer: u32, rpc: RpcId) -> Option<u32> {
        self.rpcs.find(peer, rpc)
    }

    /// The message that comes in for `slot`.
    pub fn incoming(&self, slot: u32) -> Option<&Incoming> {
        self.rpcs.get(slot)?.inc.as_ref()
    }

    /// The message that comes in for `slot`, if slices of it are kept. [P-4.6]
    pub fn awaits_slices(&self, slot: u32) -> Option<&Incoming> {
        let rpc = self.rpcs.get(slot).filter(|rpc| !rpc.ended)?;
        let comes = matches!(rpc.state, State::Answering | State::Receiving);
        rpc.inc.as_ref().filter(|inc| comes && inc.keeps_slices())
    }

    /// The message that goes out for `slot`.
    pub fn outgoing(&self, slot: u32) -> Option<&Outgoing> {
        self.rpcs.get(slot)?.out.as_ref()
    }

    /// The name and state of the RPC in `slot`.
    pub fn rpc(&self, slot: u32) -> Option<(RpcId, u32, State)> {
        self.rpcs.get(slot).map(|rpc| (rpc.id, rpc.peer, rpc.state))
    }

    /// Snapshots of all open RPCs.
    pub fn rpcs(&self) -> impl Iterator<Item = RpcInfo> + '_ {
        self.rpcs.iter().map(|(_, rpc)| rpc.info())
    }

    /// How many RPCs are open.
    pub fn rpcs_open(&self) -> usize {
        self.rpcs.len()
    }

    /// How many that we began with `peer` are open.
    #[inline]
    pub fn begun_with(&self, peer: u32) -> u32 {
        self.peers.get(peer as usize).and_then(Option::as_ref).map_or(0, |peer| peer.begun_by_us)
    }

    /// Bytes of incoming messages that are buffered.
    pub const fn buffered_bytes(&self) -> u64 {
        self.buffered
    }

    /// Granted bytes that have not arrived, over all messages.
    pub const fn incoming_bytes(&self) -> u64 {
        self.granter.outstanding()
    }

    /// What it holds.
    pub fn holdings(&self) -> Holdings {
        Holdings {
            rpcs: self.rpcs.len(),
            buffered_bytes: self.buffered,
            incoming_bytes: self.granter.outstanding(),
            waiting: self.room.waiting(),
            kept_bytes: self.room.kept_bytes(),
        }
    }

    /// The most that it holds for any one peer.
    pub fn peer_holdings(&self) -> PeerHoldings {
        let mut most = PeerHoldings { host_buffered_bytes: self.hosts.most(), ..PeerHoldings::default() };
        for peer in self.peers.iter().flatten() {
            most.rpcs = most.rpcs.max(peer.begun_by_peer);
            most.buffered_bytes = most.buffered_bytes.max(peer.buffered);
            most.frames = most.frames.max(peer.frames.len());
            most.acks = most.acks.max(peer.acks.len());
            most.gaps = most.gaps.max(peer.seen.intervals());
        }
        most
    }

    /// How long `peer` takes to answer, smoothed.
    pub fn rtt(&self, peer: u32) -> Option<Duration> {
        Some(self.peers.get(peer as usize)?.as_ref()?.rtt().smoothed())
    }
}
