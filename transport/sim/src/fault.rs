//! Owns what a bad network does to frames: rules, each with a time, a pair of hosts and a probability; and what they did.
//!
//! It knows which frames it altered in a way that no endpoint may take for genuine. It neither cuts networks nor stops hosts: that is
//! for whoever drives the world.

use std::collections::VecDeque;

use wire::packet::Packet;

use crate::clock::Time;
use crate::hooks::Verdict;
use crate::link::Frame;
use crate::rng::{FastMap, Rng};

/// What a rule does to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is lost.
    Loss,
    /// It alone is late, by up to so much: others overtake it.
    Reorder(Time),
    /// It comes a second time, up to so much later.
    Duplicate(Time),
    /// One of its bytes is changed.
    Corrupt,
    /// Its end is missing.
    Truncate,
    /// Something is appended to it.
    Extend,
    /// It is late by so much, as everything is at that time.
    Burst(Time),
}

impl Fault {
    /// Names of all kinds, in the order of their counts.
    pub const NAMES: [&'static str; 7] =
        ["loss", "reorder", "duplicate", "corrupt", "truncate", "extend", "delay_burst"];

    const fn kind(self) -> usize {
        match self {
            Self::Loss => 0,
            Self::Reorder(_) => 1,
            Self::Duplicate(_) => 2,
            Self::Corrupt => 3,
            Self::Truncate => 4,
            Self::Extend => 5,
            Self::Burst(_) => 6,
        }
    }
}

/// When, to which frames, how often, what.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Frames of this host only.
    pub from: Option<u32>,
    /// Frames for this host only.
    pub to: Option<u32>,
    /// Since then.
    pub start: Time,
    /// Until then.
    pub end: Time,
    /// To how many of them.
    pub chance: f64,
    /// What.
    pub fault: Fault,
}

impl Rule {
    fn concerns(&self, now: Time, frame: &Frame) -> bool {
        let is = |only: Option<u32>, host: u32| only.is_none_or(|only| only == host);
        self.start <= now && now < self.end && is(self.from, frame.from) && is(self.to, frame.to)
    }
}

/// What kind of packet an altered frame was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Altered {
    /// Sealed with a session's keys, or proven by its token.
    Sealed,
    /// Of a handshake.
    Handshake,
    /// A slice, which is proven with others only. [P-4.6]
    Slice,
}

/// The rules of a world.
#[derive(Debug)]
pub struct Faults {
    rules: Vec<Rule>,
    rng: Rng,
    altered: FastMap<u64, Altered>,
    /// What the next frames suffer, whatever the rules say.
    next: VecDeque<Fault>,
    /// How many frames suffered what, in the order of [`Fault::NAMES`].
    pub counts: [u64; Fault::NAMES.len()],
}

impl Faults {
    /// These rules; of several that strike one frame the first does.
    #[must_use]
    pub fn new(rules: Vec<Rule>, rng: Rng) -> Self {
        Self { rules, rng, altered: FastMap::default(), next: VecDeque::new(), counts: [0; Fault::NAMES.len()] }
    }

    /// The next frame that nothing else is meant for suffers this.
    pub fn strike_next(&mut self, fault: Fault) {
        self.next.push_back(fault);
    }

    /// What becomes of a frame.
    pub fn judge(&mut self, now: Time, frame: &Frame) -> Verdict {
        if let Some(fault) = self.next.pop_front() {
            self.counts[fault.kind()] += 1;
            return self.strike(fault, frame);
        }
        for at in 0..self.rules.len() {
            let Rule { chance, fault, .. } = self.rules[at];
            if self.rules[at].concerns(now, frame) && self.rng.chance(chance) {
                self.counts[fault.kind()] += 1;
                return self.strike(fault, frame);
            }
        }
        Verdict::Pass
    }

    fn strike(&mut self, fault: Fault, frame: &Frame) -> Verdict {
        let len = frame.bytes.len() as u64;
        let verdict = match fault {
            Fault::Loss => return Verdict::Drop,
            Fault::Reorder(most) => return Verdict::Delay(1 + self.rng.below(most)),
            Fault::Duplicate(most) => return Verdict::Duplicate(1 + self.rng.below(most)),
            Fault::Burst(by) => return Verdict::Delay(by),
            Fault::Corrupt => Verdict::Corrupt { at: self.rng.below(len) as u32, xor: 1 + self.rng.below(255) as u8 },
            Fault::Truncate => Verdict::Truncate(self.rng.below(len) as u32),
            Fault::Extend => Verdict::Extend { by: 1 + self.rng.below(64) as u32, with: self.rng.next() as u8 },
        };
        if let Some(altered) = alteration(frame, verdict) {
            self.altered.insert(frame.id, altered);
        }
        verdict
    }

    /// Whether frame `id`, which arrives now, was altered so that it must change nothing.
    pub fn arrives(&mut self, id: u64) -> Option<Altered> {
        if self.altered.is_empty() { None } else { self.altered.remove(&id) }
    }

    /// Frame `id` will not arrive.
    pub fn is_lost(&mut self, id: u64) {
        if !self.altered.is_empty() {
            self.altered.remove(&id);
        }
    }
}

/// Fields of a DATA packet that are for the network alone, and that no tag covers: priority, segment, and the message's length;
/// the steering field names a lane, and each has keys of its own. [P-5.2] [P-9.3] A RESET has only such, besides its session and
/// token. [P-5.5]
#[must_use]
pub const fn for_the_network(kind: u8, at: usize) -> bool {
    kind == 1 && matches!(at, 3 | 6..8 | 16..20) || kind == 4 && matches!(at, 2..8)
}

/// How many bytes of a datagram mean something: what follows the tag of a HANDSHAKE packet is padding. [P-6.4]
#[must_use]
pub fn meaningful(bytes: &[u8]) -> usize {
    match Packet::parse(bytes) {
        Ok(Packet::Handshake(packet)) => packet.covered.len() + packet.tag.len(),
        _ => bytes.len(),
    }
}

/// What no endpoint may take a frame for any more, once it was altered so; `None` when what is sealed in it is as it was.
fn alteration(frame: &Frame, verdict: Verdict) -> Option<Altered> {
    let kind = frame.kind();
    match verdict {
        Verdict::Corrupt { at, .. } if for_the_network(kind, at as usize) => return None,
        Verdict::Corrupt { at, .. } if at as usize >= meaningful(&frame.bytes) => return None,
        Verdict::Truncate(len) if len as usize >= meaningful(&frame.bytes) => return None,
        Verdict::Extend { .. } if !matches!(kind, 1 | 2) => return None,
        // A DATA packet may hold several records, and what follows the first is judged by itself; unless the datagram is longer
        // than its header says. [P-5.2]
        Verdict::Extend { by, .. } if kind == 1 => {
            let stated = frame.bytes.get(6..8).map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]])));
            if stated == 0 || frame.bytes.len() + by as usize <= stated {
                return None;
            }
        }
        _ => {}
    }
    Some(if matches!(kind, 1 | 2 | 4) { Altered::Sealed } else { Altered::Handshake })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::US;

    fn frame(id: u64) -> Frame {
        let mut frame = Frame { bytes: vec![7; 100], from: 1, to: 2, id, ..Frame::default() };
        frame.bytes[0] = 0x11;
        frame.bytes[6..8].copy_from_slice(&100u16.to_be_bytes());
        frame
    }

    fn rule(fault: Fault) -> Rule {
        Rule { from: None, to: None, start: 0, end: 100, chance: 1.0, fault }
    }

    #[test]
    fn each_kind_strikes_as_it_should() {
        let kinds = [
            Fault::Loss,
            Fault::Reorder(US),
            Fault::Duplicate(US),
            Fault::Corrupt,
            Fault::Truncate,
            Fault::Extend,
            Fault::Burst(US),
        ];
        for (at, fault) in kinds.into_iter().enumerate() {
            let mut faults = Faults::new(vec![rule(fault)], Rng::new(1, 1));
            for id in 0..1000 {
                let struck = match faults.judge(5, &frame(id)) {
                    Verdict::Pass => false,
                    Verdict::Drop => fault == Fault::Loss,
                    Verdict::Delay(by) => matches!(fault, Fault::Reorder(_)) && by <= US || fault == Fault::Burst(by),
                    Verdict::Duplicate(by) => matches!(fault, Fault::Duplicate(_)) && by <= US,
                    Verdict::Corrupt { at, xor } => fault == Fault::Corrupt && at < 100 && xor != 0,
                    Verdict::Truncate(len) => fault == Fault::Truncate && len < 100,
                    Verdict::Extend { by, .. } => fault == Fault::Extend && by > 0,
                };
                assert!(struck, "{fault:?}");
                let altered = faults.arrives(id);
                assert!(altered.is_none() || matches!(fault, Fault::Corrupt | Fault::Truncate | Fault::Extend));
                assert!(altered.is_some() || !matches!(fault, Fault::Truncate | Fault::Extend));
            }
            assert_eq!((Fault::NAMES[at], faults.counts[at]), (Fault::NAMES[fault.kind()], 1000));
        }
    }

    #[test]
    fn rules_have_a_time_a_pair_and_a_probability() {
        let only = Rule { from: Some(1), to: Some(2), start: 10, end: 20, ..rule(Fault::Loss) };
        let mut faults = Faults::new(vec![only], Rng::new(1, 1));
        let struck: Vec<_> = (0..30).filter(|at| faults.judge(*at, &frame(0)) == Verdict::Drop).collect();
        assert_eq!(struck, (10..20).collect::<Vec<_>>());
        assert_eq!(faults.judge(15, &Frame { from: 2, ..frame(0) }), Verdict::Pass);
        assert_eq!(faults.judge(15, &Frame { to: 1, ..frame(0) }), Verdict::Pass);
        let mut faults = Faults::new(vec![Rule { chance: 0.3, ..rule(Fault::Loss) }], Rng::new(1, 1));
        for id in 0..10_000 {
            faults.judge(5, &frame(id));
        }
        assert!((2800..3200).contains(&faults.counts[0]), "{:?}", faults.counts);
    }

    /// What no tag covers may be changed by anybody: such a packet is as good as before.
    #[test]
    fn only_what_is_sealed_counts_as_altered() {
        for (at, altered) in
            [(0, true), (2, true), (3, false), (7, false), (8, true), (16, false), (20, true), (99, true)]
        {
            assert_eq!(alteration(&frame(1), Verdict::Corrupt { at, xor: 1 }).is_some(), altered, "{at}");
        }
        let short = Frame { bytes: frame(1).bytes[..80].to_vec(), ..frame(1) };
        assert_eq!(alteration(&short, Verdict::Extend { by: 20, with: 0 }), None);
        assert_eq!(alteration(&short, Verdict::Extend { by: 21, with: 0 }), Some(Altered::Sealed));
    }
}
