//! Owns what strangers on the network do: they see every datagram, keep some, and send whatever they can make of them without a key.

use super::Forgery;
use crate::fault::{Altered, for_the_network, meaningful};
use crate::link::Frame;
use crate::rng::Rng;

/// What a stranger does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A packet of random bytes, of a session that exists or not.
    Forge,
    /// A packet that was seen, with some bytes changed.
    Mutate,
    /// A packet that was seen, once more.
    Replay,
    /// The same for a host that was started again since.
    ReplayToRestarted,
    /// A packet that was seen, from where nobody or somebody else is.
    ReplayElsewhere,
    /// A packet goes back to who sent it.
    Reflect,
    /// A packet of one session is sent into another.
    Move,
    /// A RESET that proves nothing, or what makes a host say one that proves something elsewhere.
    ForgeReset,
}

impl Act {
    /// All acts with their names.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Forge, "forge"),
        (Self::Mutate, "mutate"),
        (Self::Replay, "replay"),
        (Self::ReplayToRestarted, "replay_to_restarted"),
        (Self::ReplayElsewhere, "replay_elsewhere"),
        (Self::Reflect, "reflect"),
        (Self::Move, "move"),
        (Self::ForgeReset, "forge_reset"),
    ];
}

/// A datagram that was seen.
#[derive(Clone, Debug)]
struct Seen {
    from: u32,
    to: u32,
    /// How often its receiver had been started.
    life: u32,
    bytes: Vec<u8>,
}

impl Seen {
    fn kind(&self) -> u8 {
        self.bytes[0] & 0xf
    }
}

/// Datagrams that are kept: the latest, and as many of all there ever were.
const KEPT: usize = 192;
/// Of how many datagrams one is kept. Those of handshakes, and RESETs, all are.
const KEEP_EVERY: u64 = 5;
/// Longest forged datagram.
const FORGED_MAX: u64 = 1400;
/// Where nobody is.
const NOWHERE: u32 = 0x00ee_0000;

/// A stranger.
#[derive(Debug)]
pub struct Stranger {
    rng: Rng,
    recent: Vec<Seen>,
    ever: Vec<Seen>,
    seen: u64,
}

impl Stranger {
    /// One that has seen nothing.
    #[must_use]
    pub const fn new(rng: Rng) -> Self {
        Self { rng, recent: Vec::new(), ever: Vec::new(), seen: 0 }
    }

    /// A datagram passes. `life` says how often its receiver was started.
    pub fn see(&mut self, frame: &Frame, life: u32) {
        if !matches!(frame.kind(), 3 | 4) && self.rng.below(KEEP_EVERY) != 0 || frame.bytes.is_empty() {
            return;
        }
        self.seen += 1;
        let place = self.rng.below(self.seen) as usize;
        let seen = Seen { from: frame.from, to: frame.to, life, bytes: frame.bytes.clone() };
        if self.ever.len() < KEPT {
            self.ever.push(seen.clone());
        } else if place < KEPT {
            self.ever[place] = seen.clone();
        }
        if self.recent.len() < KEPT {
            self.recent.push(seen);
        } else {
            self.recent[(self.seen % KEPT as u64) as usize] = seen;
        }
    }

    fn any(&mut self) -> Option<Seen> {
        let from = if self.rng.below(2) == 0 { &self.recent } else { &self.ever };
        if from.is_empty() { None } else { from.get(self.rng.below(from.len() as u64) as usize).cloned() }
    }

    /// Does something, if it has what it takes. `lives` says how often each host was started.
    pub fn act(&mut self, act: Act, lives: &[u32]) -> Option<Forgery> {
        let seen = self.any()?;
        let elsewhere = match self.rng.below(2) {
            0 => NOWHERE + self.rng.below(1000) as u32,
            _ => self.rng.below(lives.len() as u64) as u32,
        };
        let sealed = matches!(seen.kind(), 1 | 2);
        let unauthentic = Some(if sealed { Altered::Sealed } else { Altered::Handshake });
        let life = lives[seen.to as usize];
        let Seen { from, to, .. } = seen;
        let (from, to, bytes, unauthentic) = match act {
            Act::Forge => return Some(self.forge(&seen)),
            Act::Mutate => return self.mutate(seen),
            Act::Replay if seen.life == life => (from, to, seen.bytes, None),
            Act::ReplayToRestarted if seen.life != life && sealed => (from, to, seen.bytes, unauthentic),
            Act::ReplayToRestarted if seen.life != life => (from, to, seen.bytes, None),
            Act::ReplayElsewhere => (elsewhere, to, seen.bytes, None),
            // Its names of sessions are its own: there is none of those of its peers.
            Act::Reflect if sealed => (to, from, seen.bytes, unauthentic),
            Act::Reflect => (to, from, seen.bytes, None),
            Act::Move => return self.shift(seen, lives),
            Act::ForgeReset => return self.reset(seen, lives),
            Act::Replay | Act::ReplayToRestarted => return None,
        };
        Some(Forgery { from, to, bytes, unauthentic })
    }

    fn forge(&mut self, like: &Seen) -> Forgery {
        let len = 1 + self.rng.below(FORGED_MAX) as usize;
        let mut bytes = vec![0; len];
        self.rng.fill(&mut bytes);
        // Half of them look like something.
        if self.rng.below(2) == 0 {
            bytes[0] = 0x10 | bytes[0] & 7;
            let head = len.min(16);
            bytes[1..head].fill(0);
            if len >= 16 {
                bytes[8..16].copy_from_slice(&like.bytes.get(8..16).map_or([0; 8], |b| b.try_into().expect("eight")));
            }
        }
        let sealed = !matches!(bytes[0], 0x13 | 0x15);
        let unauthentic = Some(if sealed { Altered::Sealed } else { Altered::Handshake });
        Forgery { from: like.from, to: like.to, bytes, unauthentic }
    }

    fn mutate(&mut self, seen: Seen) -> Option<Forgery> {
        let Seen { from, to, mut bytes, .. } = seen;
        let kind = bytes[0] & 0xf;
        let mut changed = false;
        // What stands behind means nothing, so changing it would change nothing.
        bytes.truncate(meaningful(&bytes));
        for _ in 0..=self.rng.below(4) {
            let at = self.rng.below(bytes.len() as u64) as usize;
            if !for_the_network(kind, at) && !changed {
                bytes[at] ^= 1 + self.rng.below(255) as u8;
                changed = true;
            } else if at >= 20 {
                // Two changes in one place might undo each other.
                bytes.truncate(at.max(21));
                break;
            }
        }
        let unauthentic = Some(if matches!(kind, 1 | 2 | 4) { Altered::Sealed } else { Altered::Handshake });
        changed.then_some(Forgery { from, to, bytes, unauthentic })
    }

    /// Somebody is to believe that its peer forgot their session. The name of one stands in every packet to the peer.
    fn reset(&mut self, seen: Seen, lives: &[u32]) -> Option<Forgery> {
        let name = *seen.bytes.get(8..)?.first_chunk::<8>()?;
        let (peer, host) = (seen.to, seen.from);
        let mut others =
            self.recent.iter().filter(|other| other.kind() == 4 && other.bytes.get(8..16) != Some(&name[..]));
        let other = others.next_back().and_then(|other| other.bytes.get(16..32)?.first_chunk::<16>().copied());
        if seen.kind() != 4 && self.rng.below(3) == 0 {
            // Another host, perhaps the one that is to believe it, is asked for the token: it does not know that name either.
            let asked = if self.rng.below(2) == 0 { host } else { self.rng.below(lives.len() as u64) as u32 };
            let (from, unauthentic) = (if asked == host { peer } else { host }, Some(Altered::Sealed));
            let bytes = [&[0x11, 0, 0, 0, 0, 0, 0, 0], &name[..], &[7; 120]].concat();
            return (asked != peer).then_some(Forgery { from, to: asked, bytes, unauthentic });
        }
        let token = match (self.rng.below(3), other) {
            (0, Some(token)) => token,
            (1, _) => [0; 16],
            _ => core::array::from_fn(|_| self.rng.next() as u8),
        };
        let bytes = [&[0x14, 0, 0, 7, 0, 0, 0, 32], &name[..], &token].concat();
        Some(Forgery { from: peer, to: host, bytes, unauthentic: Some(Altered::Sealed) })
    }

    /// A sealed packet goes into another session, of the same host or of another.
    fn shift(&mut self, seen: Seen, lives: &[u32]) -> Option<Forgery> {
        let other = self.any()?;
        let (mine, theirs) = (seen.bytes.get(8..16)?, other.bytes.get(8..16)?);
        let foreign = mine != theirs && other.life == lives[other.to as usize];
        if !foreign || !matches!(seen.kind(), 1 | 2) {
            return None;
        }
        let mut bytes = seen.bytes.clone();
        bytes[8..16].copy_from_slice(theirs);
        Some(Forgery { from: seen.from, to: other.to, bytes, unauthentic: Some(Altered::Sealed) })
    }
}
