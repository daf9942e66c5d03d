//! Owns invariant 4: how an endpoint looks from outside, but for what counts drops. The same before and after a packet that is not
//! authentic, or that packet had an effect.

use endpoint::endpoint::Endpoint;
use endpoint::info::Holdings;
use proto::time::Instant;

use crate::fault::Altered;
use crate::host::host_at;
use crate::rng::mix;

/// Of how many such packets one is followed by a look at all RPCs and sessions.
const DEEP_EVERY: u64 = 8;

/// How an endpoint looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// All that counts what is not a drop.
    counters: u64,
    holdings: Holdings,
    /// What it would say, and when it wants to be called; not looked at for handshakes, whose packets may be answered.
    timeout: Option<Instant>,
    peers: proto::io::PeerHoldings,
    /// All RPCs and sessions.
    deep: u64,
    /// The packet was dropped for a reason.
    dropped: u64,
}

fn fold(hash: u64, values: impl IntoIterator<Item = u64>) -> u64 {
    values.into_iter().fold(hash, |hash, value| mix(hash ^ value).wrapping_add(value))
}

fn deep(endpoint: &Endpoint) -> u64 {
    let mut hash = 0;
    for call in endpoint.calls() {
        let rpc = call.rpc;
        let numbers = [rpc.out_length, rpc.out_sent, rpc.out_granted, rpc.in_length, rpc.in_received, rpc.in_granted];
        hash = fold(hash, [call.id.session.as_u64(), call.id.rpc.as_u48(), rpc.state as u64]);
        hash = fold(hash, numbers.map(u64::from));
    }
    for session in endpoint.sessions().iter().filter(|session| session.open) {
        let rtt = session.rtt.map_or(0, |rtt| rtt.as_nanos() as u64);
        let address = session.origin.address;
        let host = host_at(address).map_or(u64::MAX, u64::from);
        let (ours, theirs) = session.epochs.unwrap_or_default();
        hash = fold(hash, [session.id.as_u64(), session.datagram_max as u64, rtt, host, ours, theirs]);
    }
    hash
}

impl View {
    /// How it looks, where a packet numbered `id` arrives that was altered so.
    #[must_use]
    pub fn of(endpoint: &Endpoint, altered: Altered, id: u64) -> Self {
        let counters = endpoint.counters();
        let of_handshakes = altered == Altered::Handshake;
        // Slices are not proven one by one: one may wait where bytes of its message will stand, and is then not counted. If it is the last
        // of its record, that does not open, and its peer is told. Nothing else may follow from it. [P-4.6] [P-5.4]
        let of_slices = altered == Altered::Slice;
        // Handshakes keep something of what nobody proved yet, bounded, and it ends by itself. [P-5.4] And a server that keeps
        // nothing of its half any more says DONE to whatever seems to be a repeat, once in a millisecond. [P-6.2]
        let mut holdings = endpoint.holdings();
        // Whoever sends packets of a session that is not known may be told so. That is bounded, and nothing is kept of it. [P-5.5]
        holdings.strangers = 0;
        if of_handshakes {
            (holdings.sessions, holdings.accepting, holdings.notices) = (0, 0, 0);
        }
        let mut peers = endpoint.peer_holdings();
        if of_slices {
            peers.frames = 0;
        }
        let counted = counters.iter().filter(|(name, _)| {
            !name.starts_with("dropped_")
                && *name != "datagrams_received"
                && *name != "resets_sent"
                && !(of_handshakes && *name == "handshakes_failed")
        });
        Self {
            counters: fold(0, counted.map(|(_, count)| count)),
            holdings,
            timeout: endpoint.timeout().filter(|_| !of_handshakes && !of_slices),
            peers,
            deep: if id.is_multiple_of(DEEP_EVERY) { deep(endpoint) } else { 0 },
            dropped: if of_handshakes || of_slices { u64::MAX } else { counters.dropped() },
        }
    }

    /// Whether nothing is different `after` the packet but that it was counted as dropped.
    ///
    /// # Errors
    /// What is.
    pub fn unchanged(&self, after: &Self) -> Result<(), String> {
        let counted = self.dropped == u64::MAX || after.dropped > self.dropped;
        match () {
            () if self.counters != after.counters => Err("counters".into()),
            () if self.holdings != after.holdings => Err(format!("{:?} to {:?}", self.holdings, after.holdings)),
            () if self.timeout != after.timeout => Err(format!("{:?} to {:?}", self.timeout, after.timeout)),
            () if self.peers != after.peers => Err(format!("{:?} to {:?}", self.peers, after.peers)),
            () if self.deep != after.deep => Err("RPCs or sessions".into()),
            () if !counted => Err("nothing, and was not counted".into()),
            () => Ok(()),
        }
    }
}
