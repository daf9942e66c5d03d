//! Owns what is kept of a session that rests, and of those that are awake which was heard when. When a session rests, and what wakes it,
//! is in `rest`. (decision 0020)
//!
//! A session that rests is a secret for each direction, the bytes of the peer's keys, and numbers: all of it in one block. Contexts of keys,
//! windows, queues and estimates are made again when it wakes.

use std::collections::VecDeque;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;

use attest::claims::Report;
use handshake::exchange::KeyExchange;
use handshake::identity::PeerIdentity;
use proto::peer::PeerAtRest;
use proto::time::Instant;
use record::aead::{Cipher, Crypto};
use record::budget::{Limits, OpenFailures};
use record::epochs::{InboundAtRest, OutboundAtRest, Trial};
use record::seal::Ids;
use wire::ids::{SessionId, Side};

use crate::session::{Early, Keys, Phase, Session};
use crate::tokens::Promise;

/// An address in 16 bytes, where it is one of IPv4.
#[derive(Debug)]
enum Place {
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
}

impl Place {
    fn of(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::V4(address),
            SocketAddr::V6(address) => Self::V6(Box::new(address)),
        }
    }
}

/// A session at rest. Neither `Clone` nor `Copy`: its numbers are used by who wakes it, once.
#[derive(Debug)]
pub(crate) struct Resting {
    pub(crate) id: SessionId,
    pub(crate) peer_id: SessionId,
    pub(crate) promise: Promise,
    address: Place,
    pub(crate) identity: Arc<PeerIdentity>,
    pub(crate) report: Option<Arc<Report>>,
    pub(crate) heard: Instant,
    pub(crate) datagram_max: u32,
    pub(crate) dones_left: u8,
    pub(crate) side: Side,
    pub(crate) cipher: Cipher,
    pub(crate) mutual: bool,
    pub(crate) resumed: bool,
    pub(crate) exchange: Option<KeyExchange>,
    renewing: bool,
    early_taken: bool,
    peer_datagram_max: u32,
    message_max: u32,
    sends_slices: bool,
    target: Option<u32>,
    since: Instant,
    /// Packets that did not open.
    failures: u64,
    ids: Ids,
    pub(crate) sealing: OutboundAtRest,
    pub(crate) opening: InboundAtRest,
    pub(crate) peer: PeerAtRest,
}

impl Resting {
    /// What is kept of a session, which nothing is under way in.
    pub(crate) fn new(session: Session, keys: Keys, peer: PeerAtRest) -> Self {
        Self {
            id: session.id,
            peer_id: session.peer_id,
            promise: session.promise,
            address: Place::of(session.address),
            identity: session.identity,
            report: session.report,
            heard: session.heard,
            datagram_max: session.datagram_max as u32,
            dones_left: session.dones_left,
            side: session.side,
            cipher: session.cipher,
            mutual: session.mutual,
            resumed: session.resumed,
            exchange: session.exchange,
            renewing: session.renewing,
            early_taken: session.early.taken,
            peer_datagram_max: session.peer_datagram_max as u32,
            message_max: session.message_max as u32,
            sends_slices: session.sends_slices,
            target: session.target,
            since: keys.since,
            failures: keys.failures.total(),
            ids: session.ids,
            sealing: keys.sealing.rest(),
            opening: keys.opening.rest(),
            peer,
        }
    }

    /// Where the peer is.
    pub(crate) fn address(&self) -> SocketAddr {
        match &self.address {
            Place::V4(address) => SocketAddr::V4(*address),
            Place::V6(address) => SocketAddr::V6(**address),
        }
    }

    fn failures(&self, more: u64) -> OpenFailures {
        let mut failures = OpenFailures::new(self.cipher);
        let _ = failures.add(self.failures + more);
        failures
    }

    /// One more packet did not open; whether the session must close now.
    pub(crate) fn refused(&mut self) -> bool {
        let failures = self.failures(1);
        self.failures = failures.total();
        failures.must_close()
    }

    /// The session again, as it was, and its peer.
    pub(crate) fn wake(self, crypto: &dyn Crypto, limits: Limits) -> (Session, PeerAtRest) {
        let (address, failures) = (self.address(), self.failures(0));
        let keys = Keys {
            sealing: self.sealing.wake(crypto, limits),
            opening: self.opening.wake(crypto),
            failures,
            since: self.since,
            asked: None,
        };
        let session = Session {
            id: self.id,
            peer_id: self.peer_id,
            promise: self.promise,
            side: self.side,
            address,
            phase: Phase::Open,
            keys: Some(Box::new(keys)),
            cipher: self.cipher,
            identity: self.identity,
            mutual: self.mutual,
            exchange: self.exchange,
            resumed: self.resumed,
            datagram_max: self.datagram_max as usize,
            peer_datagram_max: self.peer_datagram_max as usize,
            message_max: self.message_max as usize,
            sends_slices: self.sends_slices,
            ids: self.ids,
            may_send: true,
            queued: VecDeque::new(),
            sending_bytes: 0,
            heard: self.heard,
            dying: false,
            closing: false,
            renewing: self.renewing,
            // It may be said again at once: how often is counted.
            done_said: Instant::ZERO,
            dones_left: self.dones_left,
            target: self.target,
            steer: 0,
            root: None,
            early: Early { taken: self.early_taken, ..Early::default() },
            attesting: None,
            evidence_id: None,
            report: self.report,
            origin: None,
        };
        (session, self.peer)
    }
}

/// How many identities are remembered.
const IDENTITIES_MAX: usize = 16;

/// Sessions at rest, and the order in which the others were looked at.
#[derive(Debug)]
pub(crate) struct Rests {
    places: Vec<Option<Box<Resting>>>,
    /// How many rest.
    pub(crate) count: usize,
    /// Sessions that are awake and open, those first that were looked at longest ago: which, and when it had been heard then. Those that have
    /// ended are found out when it is their turn.
    pub(crate) awake: VecDeque<(SessionId, Instant)>,
    /// When to look for sessions that may rest.
    pub(crate) look: Instant,
    /// How many are left to be looked at before a pause.
    pub(crate) left: usize,
    /// Where packets are tried that may be anybody's.
    pub(crate) trial: Trial,
    /// Of the last peers: sessions of one peer share who it is.
    identities: VecDeque<Arc<PeerIdentity>>,
}

impl Default for Rests {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            count: 0,
            awake: VecDeque::new(),
            look: Instant::FAR,
            left: 0,
            trial: Trial::default(),
            identities: VecDeque::new(),
        }
    }
}

impl Rests {
    /// The session in `slot`, if it rests.
    pub(crate) fn at(&self, slot: u32) -> Option<&Resting> {
        self.places.get(slot as usize)?.as_deref()
    }

    /// The session that is called that, if it rests.
    pub(crate) fn get(&self, id: SessionId) -> Option<&Resting> {
        self.at(id.slot()).filter(|resting| resting.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Resting> {
        self.places.get_mut(id.slot() as usize)?.as_deref_mut().filter(|resting| resting.id == id)
    }

    /// All that rest.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Resting> {
        self.places.iter().flatten().map(|resting| &**resting)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Resting> {
        self.places.iter_mut().flatten().map(|resting| &mut **resting)
    }

    pub(crate) fn put(&mut self, resting: Resting) {
        let slot = resting.id.slot() as usize;
        if self.places.len() <= slot {
            self.places.resize_with(slot + 1, || None);
        }
        self.places[slot] = Some(Box::new(resting));
        self.count += 1;
    }

    pub(crate) fn take(&mut self, slot: u32) -> Option<Box<Resting>> {
        let resting = self.places.get_mut(slot as usize)?.take()?;
        self.trial.forget(resting.id);
        self.count -= 1;
        Some(resting)
    }

    /// One handle for all sessions whose peer is `identity`.
    pub(crate) fn shared(&mut self, identity: PeerIdentity) -> Arc<PeerIdentity> {
        if let Some(known) = self.identities.iter().find(|known| ***known == identity) {
            return Arc::clone(known);
        }
        if self.identities.len() == IDENTITIES_MAX {
            self.identities.pop_front();
        }
        let new = Arc::new(identity);
        self.identities.push_back(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of it in `docs/BENCHMARKS.md`: it is the most of what an idle session costs.
    #[test]
    fn how_much_is_kept() {
        assert!(size_of::<Resting>() <= 512, "{} bytes", size_of::<Resting>());
    }
}
