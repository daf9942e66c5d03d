//! Owns what is known of one peer: answer time, finished sequences in both directions, acks owed, frames to say.

use alloc::collections::{BinaryHeap, VecDeque};
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use wire::control::Frame;
use wire::ids::{RpcId, Side};
use wire::limits::SEQUENCE_WINDOW;

use crate::config::Config;
use crate::cutoffs::Cutoffs;
use crate::rtt::Rtt;
use crate::seen::Seen;
use crate::time::Instant;

mod rest;

pub use rest::PeerAtRest;
pub(crate) use rest::Said;

/// Acks that are owed before they are sent without waiting for a ride.
pub const ACKS_OWED_MAX: usize = 256;

/// Acks that are owed before they wait no longer than [`ACKS_PAUSE`] for one.
pub const ACKS_MANY: usize = 32;

/// Who takes many messages at once is about to send as many, and a packet with nothing but acks would cost both sides as much as theirs.
pub const ACKS_PAUSE: Duration = Duration::from_micros(50);

/// Frames that wait to be said to one peer; beyond it they are dropped, as the network might: each is repeated or asked
/// for again. Bounds what a peer that only listens, or provokes answers, can make us hold.
pub const FRAMES_MAX: usize = 4096;

/// Frames among which an equal one is looked for before one more is added.
const FRAMES_COMPARED: usize = 64;

/// Stale entries of `responses` that are not worth a look.
const RESPONSES_MIN: usize = 64;

/// One peer, which is one session.
#[derive(Debug)]
pub struct Peer {
    /// Which end of the session we are.
    pub side: Side,
    /// The number of its host among those with open sessions.
    pub host: u32,
    /// How long it takes to answer.
    rtt: Rtt,
    /// Nanoseconds that a new message waits for a sign of life. It follows from the above, and each asks.
    patience_ns: u64,
    /// The least and the most that may be.
    patience_within: (u64, u64),
    /// Bytes of each message that we send it unscheduled.
    pub unscheduled: u32,
    /// The most that may be: what it allows, and what we do.
    unscheduled_max: u32,
    /// Which priorities our unscheduled bytes to it carry.
    pub cutoffs: Cutoffs,
    /// When it was told ours; [`Instant::FAR`] before that.
    pub told_cutoffs: Instant,
    /// Our sequences that are finished; their mark is our floor. [P-7.2]
    pub finished: Seen,
    /// Its sequences that are finished: at-most-once. [P-7.1]
    pub seen: Seen,
    /// Open RPCs that we began with it.
    pub begun_by_us: u32,
    /// Open RPCs that it began.
    pub begun_by_peer: u32,
    /// Bytes of the first message that it begins, where that is taken whatever else is. [P-6.16]
    pub first_max: Option<u32>,
    /// Bytes of its messages that are buffered.
    pub buffered: u64,
    /// RPCs whose message to us is complete and not acknowledged yet.
    pub acks: Vec<RpcId>,
    /// It is to be told our cutoffs, which can wait for a ride as well.
    pub owes_cutoffs: bool,
    /// Until when these may wait for one.
    pub acks_due: Instant,
    /// What to say in the next control packet.
    pub frames: Vec<Frame>,
    /// Whether it stands in the machine's list of peers with something to say.
    pub listed: bool,
    /// Our responses that wait for an ack, lowest sequence first: (sequence, slot). Entries may be stale.
    pub responses: VecDeque<(u64, u32)>,
    /// Those that were given when one to a later request had been.
    pub late_responses: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Peer {
    /// A peer of which nothing is known but what the handshake told.
    /// `unscheduled` is what it takes of each message without having granted it.
    pub fn new(side: Side, rtt: Duration, unscheduled: u32, host: u32, config: &Config) -> Self {
        let unscheduled_max = unscheduled.min(config.unscheduled_bytes);
        let mut peer = Self {
            side,
            host,
            rtt: Rtt::new(rtt),
            patience_ns: 0,
            patience_within: config.patience_ns(),
            unscheduled: unscheduled_max,
            unscheduled_max,
            cutoffs: Cutoffs::UNKNOWN,
            told_cutoffs: Instant::FAR,
            finished: Seen::new(u64::MAX, usize::MAX),
            seen: Seen::new(SEQUENCE_WINDOW, config.intervals_max),
            begun_by_us: 0,
            begun_by_peer: 0,
            first_max: None,
            buffered: 0,
            acks: Vec::new(),
            owes_cutoffs: false,
            acks_due: Instant::FAR,
            frames: Vec::new(),
            listed: false,
            responses: VecDeque::new(),
            late_responses: BinaryHeap::new(),
        };
        peer.set_rtt(Rtt::new(rtt), config);
        peer
    }

    /// How long it takes to answer.
    pub const fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    /// What was measured of another path, or before a rest.
    pub fn set_rtt(&mut self, rtt: Rtt, config: &Config) {
        self.rtt = rtt;
        self.set_patience();
        self.limit_unscheduled(config);
    }

    #[inline]
    fn set_patience(&mut self) {
        self.patience_ns = self.rtt.patience_ns(self.patience_within);
    }

    /// When a message that begins to wait for a sign of life now asks for one.
    #[inline]
    pub const fn asks_at(&self, now: Instant) -> Instant {
        now.plus_nanos(self.patience_ns)
    }

    /// Sets how much of a message goes to it unscheduled: what our link carries in its shortest answer time, because after
    /// that its grants are here. [P-8.1]
    pub fn limit_unscheduled(&mut self, config: &Config) {
        self.unscheduled = match config.link_bits_per_second {
            None => self.unscheduled_max,
            Some(bits) => {
                let bytes = u128::from(bits) * self.rtt.shortest().as_nanos() / 8_000_000_000;
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                bytes.max(config.unscheduled_bytes_min).min(self.unscheduled_max)
            }
        };
    }

    /// It answered at `now` what was sent at `sent`.
    #[inline]
    pub fn answered(&mut self, config: &Config, sent: Instant, now: Instant) {
        let shortest_changed = self.rtt.sample(now.nanos_since(sent), now);
        self.set_patience();
        if shortest_changed {
            self.limit_unscheduled(config);
        }
    }

    /// Queues a frame, unless it stands there already or there are too many.
    pub fn say(&mut self, frame: Frame) {
        if self.frames.len() < FRAMES_MAX && !self.frames.iter().rev().take(FRAMES_COMPARED).any(|f| *f == frame) {
            self.frames.push(frame);
        }
    }

    /// Moves what is owed to the frames: the acks, and where they are, these cutoffs of ours.
    pub fn flush_acks(&mut self, cutoffs: &Cutoffs) {
        self.acks_due = Instant::FAR;
        if core::mem::take(&mut self.owes_cutoffs) {
            self.say(cutoffs.frame());
        }
        let room = FRAMES_MAX.saturating_sub(self.frames.len());
        self.frames.extend(self.acks.drain(..).take(room).map(|rpc| Frame::Ack { rpc }));
    }

    /// Something that was owed has left. Nothing is due when that was all.
    pub fn rode(&mut self) {
        if self.acks.is_empty() && !self.owes_cutoffs {
            self.acks_due = Instant::FAR;
        }
    }

    /// Notes a response that a floor may release. Entries whose RPC ended otherwise are swept when they are most: `live`
    /// tells which are not.
    pub fn await_floor(&mut self, sequence: u64, slot: u32, live: impl Fn(u64, u32) -> bool) {
        if self.responses.len() + self.late_responses.len() >= RESPONSES_MIN + 2 * self.begun_by_peer as usize {
            self.responses.retain(|(sequence, slot)| live(*sequence, *slot));
            self.late_responses.retain(|Reverse((sequence, slot))| live(*sequence, *slot));
        }
        if self.responses.back().is_none_or(|(last, _)| *last <= sequence) {
            self.responses.push_back((sequence, slot));
        } else {
            self.late_responses.push(Reverse((sequence, slot)));
        }
    }

    /// The next response below `floor`; perhaps a stale one.
    pub fn below_floor(&mut self, floor: u64) -> Option<(u64, u32)> {
        if self.responses.front().is_some_and(|(sequence, _)| *sequence < floor) {
            return self.responses.pop_front();
        }
        let Reverse((sequence, _)) = self.late_responses.peek()?;
        if *sequence < floor { self.late_responses.pop().map(|Reverse(entry)| entry) } else { None }
    }

    /// Acks that a message with `floor` does not already imply; up to `out.len()` of them, which are then no longer owed.
    ///
    /// A message of ours that states a floor acknowledges every response below it. [P-7.2]
    pub fn take_acks(&mut self, floor: u64, out: &mut [RpcId]) -> usize {
        let side = self.side;
        self.acks.retain(|rpc| rpc.began() != side || rpc.sequence() >= floor);
        let n = self.acks.len().min(out.len());
        for (to, rpc) in out.iter_mut().zip(self.acks.drain(..n)) {
            *to = rpc;
        }
        self.rode();
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer::new(Side::Server, Duration::ZERO, 0, 0, &Config::default())
    }

    /// [P-8.1] What goes unscheduled is what the link carries in the shortest answer time, within its bounds.
    #[test]
    fn unscheduled_bytes_follow_the_answer_time() {
        let gigabits = |n: u64| Config { link_bits_per_second: Some(n * 1_000_000_000), ..Config::default() };
        let us = Duration::from_micros;
        let limit = |config: &Config, samples: &[u64]| {
            let mut peer = Peer::new(Side::Client, us(900), 100_000, 0, config);
            samples.iter().for_each(|n| peer.answered(config, Instant::ZERO, Instant::ZERO + us(*n)));
            peer.unscheduled
        };
        assert_eq!(limit(&gigabits(10), &[]), 100_000, "no more than it takes");
        assert_eq!(limit(&gigabits(10), &[700, 40, 5_000]), 50_000, "time in service does not count");
        assert_eq!(limit(&gigabits(10), &[1]), 10_000, "the least");
        assert_eq!(limit(&Config { link_bits_per_second: None, ..gigabits(1) }, &[40]), 100_000);
        assert_eq!(
            limit(&Config { unscheduled_bytes_min: 60_000, unscheduled_bytes: 60_000, ..gigabits(99) }, &[1]),
            60_000
        );
    }

    /// A client that keeps one response unacknowledged for ever costs no memory for all the others that it takes.
    #[test]
    fn responses_that_ended_are_swept() {
        let mut peer = peer();
        peer.begun_by_peer = 2;
        for sequence in 0..100_000 {
            peer.await_floor(sequence, 0, |s, _| s == 0 || s + 1 == sequence);
            assert!(peer.responses.len() + peer.late_responses.len() <= RESPONSES_MIN + 5);
        }
        assert_eq!(peer.below_floor(1), Some((0, 0)));
        assert_eq!(peer.below_floor(1), None);
    }

    /// In whatever order they were given: a floor releases those below it, each once.
    #[test]
    fn responses_are_released_in_any_order() {
        let mut peer = peer();
        peer.begun_by_peer = 100;
        for sequence in [3, 7, 5, 1, 8, 2, 9] {
            peer.await_floor(sequence, sequence as u32, |_, _| true);
        }
        let mut released: Vec<(u64, u32)> = core::iter::from_fn(|| peer.below_floor(8)).collect();
        released.sort_unstable();
        assert_eq!(released, [1, 2, 3, 5, 7].map(|sequence| (sequence, sequence as u32)));
        assert_eq!(core::iter::from_fn(|| peer.below_floor(u64::MAX)).count(), 2);
    }

    #[test]
    fn frames_are_said_once_and_not_without_end() {
        let mut peer = peer();
        for _ in 0..3 {
            peer.say(Frame::Busy { rpc: RpcId::new(Side::Client, 7) });
        }
        assert_eq!(peer.frames.len(), 1);
        for sequence in 0..2 * FRAMES_MAX as u64 {
            peer.say(Frame::Busy { rpc: RpcId::new(Side::Client, sequence) });
        }
        peer.acks.push(RpcId::new(Side::Client, 1));
        peer.flush_acks(&Cutoffs::UNKNOWN);
        assert_eq!((peer.frames.len(), peer.acks.len()), (FRAMES_MAX, 0));
    }
}
