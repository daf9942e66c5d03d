//! Owns where peers may have moved to, and what is asked to find out. [P-2.3]
//!
//! A valid packet from another address may be a peer that moved, or a copy that somebody sent from where it likes to get the answers.
//! So both addresses are asked: only who can read and seal can answer, and a peer that is reached where it was has not moved. There is one
//! such question for a session at a time, and after a "no" a pause.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use proto::time::Instant;

/// How long a question stands, and how long its address is not asked about again after it was answered with no. Default 1 s.
const STANDS: Duration = Duration::from_secs(1);
/// How long the old address has to say that the peer is still there, after the new one answered: what a question takes, and no more than
/// this. A copy that is faster than the original moves nothing then.
const DOUBT_MAX: Duration = Duration::from_millis(100);
const DOUBT_MIN: Duration = Duration::from_millis(1);
/// A packet that opens has this many bytes at least: what counts for the three times that an address which is not proven gets. [P-5.3]
const PACKET_MIN: u32 = 40;
/// Bytes of a question.
const QUESTION_LEN: u32 = 49;
/// Questions that wait to be sent; what would go beyond is asked at the next packet.
const QUESTIONS_MAX: usize = 256;

/// A question: is the peer of the session in `slot` at `to`?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whose.
    pub slot: u32,
    /// Where.
    pub to: SocketAddr,
    /// What comes back if so.
    pub token: u64,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing that was asked, or from elsewhere.
    Nothing,
    /// The peer is reached where it was.
    Stayed,
    /// The peer is at the new address.
    There,
}

/// A peer that may have moved.
#[derive(Debug)]
struct Probe {
    /// Where to.
    address: SocketAddr,
    /// What an answer to the question there says, and one to the question where it was.
    there: u64,
    stayed: u64,
    begun: Instant,
    asked: Instant,
    /// Packets that came from there, and questions that went there.
    came: u32,
    sent: u32,
    /// When it answered from there.
    answered: Option<Instant>,
    /// It was reached where it was.
    refuted: bool,
}

/// All questions.
#[derive(Debug, Default)]
pub struct Paths {
    probes: HashMap<u32, Probe>,
    questions: VecDeque<Question>,
}

impl Paths {
    /// A valid packet of the session in `slot`, whose peer is at `home`, came from `from`; its answers take `rtt`. Whether the peer has
    /// moved there for certain.
    pub fn heard(
        &mut self,
        now: Instant,
        slot: u32,
        (home, from): (SocketAddr, SocketAddr),
        rtt: Duration,
        random: &mut dyn FnMut() -> u64,
    ) -> bool {
        let old = |probe: &Probe| probe.address != from && now.since(probe.begun) >= STANDS;
        let over = |probe: &Probe| old(probe) || probe.refuted && now.since(probe.begun) >= STANDS;
        if self.probes.get(&slot).is_some_and(over) {
            self.probes.remove(&slot);
        }
        let probe = self.probes.entry(slot).or_insert_with(|| Probe {
            address: from,
            there: random(),
            stayed: random(),
            begun: now,
            asked: Instant::ZERO,
            came: 0,
            sent: 0,
            answered: None,
            refuted: false,
        });
        if probe.address != from || probe.refuted {
            return false;
        }
        probe.came = probe.came.saturating_add(1);
        let patience = (2 * rtt).clamp(DOUBT_MIN, DOUBT_MAX);
        if let Some(answered) = probe.answered {
            let moved = now.since(answered) >= patience;
            if moved {
                self.forget(slot);
            }
            return moved;
        }
        let unasked = probe.asked == Instant::ZERO;
        let may = (probe.sent + 1) * QUESTION_LEN <= 3 * PACKET_MIN.saturating_mul(probe.came);
        if (unasked || now.since(probe.asked) >= patience) && may && self.questions.len() + 2 <= QUESTIONS_MAX {
            (probe.asked, probe.sent) = (now, probe.sent + 1);
            self.questions.push_back(Question { slot, to: from, token: probe.there });
            self.questions.push_back(Question { slot, to: home, token: probe.stayed });
        }
        false
    }

    /// An answer came in the session in `slot`, from `from`.
    pub fn answer(&mut self, now: Instant, slot: u32, from: SocketAddr, token: u64) -> Answer {
        let Some(probe) = self.probes.get_mut(&slot).filter(|probe| !probe.refuted) else { return Answer::Nothing };
        // What was sent to the old address reached the peer. Where the answer comes from says nothing: a faster copy of it may have
        // made the answer itself a repetition.
        if token == probe.stayed {
            (probe.refuted, probe.begun) = (true, now);
            return Answer::Stayed;
        }
        if token == probe.there && from == probe.address {
            probe.answered.get_or_insert(now);
            return Answer::There;
        }
        Answer::Nothing
    }

    /// The session is over, or has moved.
    pub fn forget(&mut self, slot: u32) {
        if self.probes.remove(&slot).is_some() {
            self.questions.retain(|question| question.slot != slot);
        }
    }

    /// Whether it is not asked where the peer of the session in `slot` is, and the last question was long ago: then it is forgotten.
    pub fn is_settled(&mut self, now: Instant, slot: u32) -> bool {
        if self.probes.get(&slot).is_some_and(|probe| now.since(probe.begun) >= STANDS) {
            self.forget(slot);
        }
        !self.probes.contains_key(&slot)
    }

    /// Whether anything is to be asked.
    pub fn asks(&self) -> bool {
        !self.questions.is_empty()
    }

    /// What is to be asked next.
    pub fn next_question(&mut self) -> Option<Question> {
        self.questions.pop_front()
    }

    /// Peers that may have moved, and questions that wait.
    pub fn holdings(&self) -> (usize, usize) {
        (self.probes.len(), self.questions.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(2);

    fn at(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 7))
    }

    struct Scene {
        paths: Paths,
        now: Instant,
        random: u64,
    }

    impl Scene {
        fn new() -> Self {
            Self { paths: Paths::default(), now: Instant::from_nanos(1_000_000_000), random: 0 }
        }

        fn heard(&mut self, from: u8) -> bool {
            let random = &mut self.random;
            let mut next = || {
                *random += 1;
                *random
            };
            self.paths.heard(self.now, 3, (at(1), at(from)), RTT, &mut next)
        }

        fn asked(&mut self) -> Vec<(SocketAddr, u64)> {
            core::iter::from_fn(|| self.paths.next_question()).map(|question| (question.to, question.token)).collect()
        }

        fn answer(&mut self, from: u8, token: u64) -> Answer {
            self.paths.answer(self.now, 3, at(from), token)
        }
    }

    /// [P-2.3] Both addresses are asked; who answers from the new one, and not from the old one, has moved, as its next packet shows.
    #[test]
    fn a_move() {
        let mut s = Scene::new();
        assert!(!s.heard(2));
        assert_eq!(s.asked(), [(at(2), 1), (at(1), 2)]);
        for (from, token) in [(1, 1), (9, 1), (2, 7)] {
            assert_eq!(s.answer(from, token), Answer::Nothing, "the right token from the right place");
        }
        assert!(!s.heard(2));
        assert_eq!(s.answer(2, 1), Answer::There);
        assert!(!s.heard(2), "the old address has its time to object");
        s.now += 2 * RTT;
        assert!(s.heard(2));
        assert_eq!(s.paths.holdings(), (0, 0));
    }

    /// [P-2.3] A peer that is reached where it was has not moved, although the new address answers too, and wherever its answer comes
    /// from; and it is not asked again at once.
    #[test]
    fn a_copy() {
        for from in [1, 2] {
            let mut s = Scene::new();
            s.heard(2);
            assert_eq!(s.answer(2, 1), Answer::There);
            assert_eq!(s.answer(from, 2), Answer::Stayed);
            assert_eq!(s.answer(2, 1), Answer::Nothing);
        }
        let mut s = Scene::new();
        s.heard(2);
        s.asked();
        s.answer(2, 2);
        for _ in 0..900 {
            s.now += Duration::from_millis(1);
            assert!(!s.heard(2) && s.asked().is_empty());
        }
        s.now += STANDS;
        assert!(!s.heard(2));
        assert_eq!(s.asked(), [(at(2), 3), (at(1), 4)], "with other tokens");
    }

    /// [P-2.3] An address gets no more than three times what came from it, and no more than a question in two answer times; others wait
    /// until this one was asked long enough.
    #[test]
    fn few_questions() {
        let mut s = Scene::new();
        let mut to_new = 0;
        for n in 1..10_000 {
            s.heard(2 + (n % 2) as u8);
            to_new += s.asked().iter().filter(|(to, _)| *to == at(3)).count() as u32;
            assert!(to_new * QUESTION_LEN <= 3 * PACKET_MIN * n);
            s.now += Duration::from_micros(10);
        }
        assert!((20..=26).contains(&to_new), "{to_new} questions in 100 ms");
        assert_eq!(s.paths.holdings(), (1, 0));
        s.now += STANDS;
        s.heard(2);
        assert_eq!(s.asked()[0].0, at(2), "now the other");
        s.paths.forget(3);
        assert_eq!(s.paths.holdings(), (0, 0));
    }
}
