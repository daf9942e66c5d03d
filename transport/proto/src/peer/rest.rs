//! Owns what is kept of a peer while its session rests: what was measured and said, and which sequences are finished, exactly as before.
//! All else is empty then, or the session does not rest.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;

use wire::ids::Side;
use wire::limits::SEQUENCE_WINDOW;

use super::Peer;
use crate::config::Config;
use crate::cutoffs::Cutoffs;
use crate::rtt::Rtt;
use crate::seen::Seen;
use crate::time::Instant;

/// A peer at rest.
#[derive(Debug)]
pub struct PeerAtRest {
    side: Side,
    host: u32,
    unscheduled_max: u32,
    first_max: Option<u32>,
    rtt: Rtt,
    cutoffs: Option<Arc<Cutoffs>>,
    told_cutoffs: Instant,
    finished: u64,
    seen_floor: u64,
    seen_mark: u64,
    seen_above: Box<[(u64, u64)]>,
}

impl Peer {
    /// Whether nothing is under way with it, nothing owed and nothing to be said, so that it can rest; `next` is the sequence that we
    /// begin next.
    pub fn may_rest(&self, next: u64) -> bool {
        self.begun_by_peer == 0
            && self.buffered == 0
            && self.acks.is_empty()
            && !self.owes_cutoffs
            && self.frames.is_empty()
            && !self.listed
            && self.finished.mark() == next
            && self.finished.intervals() == 0
    }

    /// What is kept of it.
    pub(crate) fn rest(self, said: &mut Said) -> PeerAtRest {
        let (seen_floor, seen_mark, above) = self.seen.into_parts();
        PeerAtRest {
            side: self.side,
            host: self.host,
            unscheduled_max: self.unscheduled_max,
            first_max: self.first_max,
            rtt: self.rtt,
            cutoffs: said.shared(self.cutoffs),
            told_cutoffs: self.told_cutoffs,
            finished: self.finished.mark(),
            seen_floor,
            seen_mark,
            seen_above: above.into_iter().collect(),
        }
    }
}

impl PeerAtRest {
    /// Which end of the session we are.
    pub const fn side(&self) -> Side {
        self.side
    }

    /// How long it takes to answer.
    pub const fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    /// Whether it did not finish what it calls so yet. What it did, it may only repeat.
    pub fn is_new(&self, sequence: u64) -> bool {
        sequence >= self.seen_mark && !self.seen_above.iter().any(|(start, end)| (*start..*end).contains(&sequence))
    }

    /// The peer again, as it was.
    pub(crate) fn wake(self, config: &Config) -> Peer {
        let above = self.seen_above.into_iter().collect();
        let mut peer = Peer {
            cutoffs: self.cutoffs.map_or(Cutoffs::UNKNOWN, |cutoffs| Cutoffs::clone(&cutoffs)),
            told_cutoffs: self.told_cutoffs,
            finished: Seen::from_parts((u64::MAX, usize::MAX), self.finished, VecDeque::new(), 0),
            seen: Seen::from_parts((SEQUENCE_WINDOW, config.intervals_max), self.seen_mark, above, self.seen_floor),
            first_max: self.first_max,
            ..Peer::new(self.side, self.rtt.smoothed(), self.unscheduled_max, self.host, config)
        };
        peer.set_rtt(self.rtt, config);
        peer
    }
}

/// How many cutoffs are remembered.
const SAID_MAX: usize = 8;

/// What peers said of their cutoffs of late: sessions with one host are told the same, and share it while they rest.
#[derive(Debug, Default)]
pub(crate) struct Said(VecDeque<Arc<Cutoffs>>);

impl Said {
    fn shared(&mut self, cutoffs: Cutoffs) -> Option<Arc<Cutoffs>> {
        if cutoffs.version == 0 {
            return None;
        }
        if let Some(known) = self.0.iter().find(|known| ***known == cutoffs) {
            return Some(Arc::clone(known));
        }
        if self.0.len() == SAID_MAX {
            self.0.pop_front();
        }
        let new = Arc::new(cutoffs);
        self.0.push_back(Arc::clone(&new));
        Some(new)
    }
}
