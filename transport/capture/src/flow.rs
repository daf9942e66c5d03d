//! Owns what is known of one direction of a lane: addresses, which of its messages are over, which CONTROL packets were seen, its keys.

use std::net::SocketAddr;

use record::replay::Window;

use crate::counts::{Counts, FlowRow};
use crate::keys::{Owner, Unsealer};

/// Runs of sequences that one set remembers as over; beyond that, the lowest grow together.
const RUNS_MAX: usize = 1 << 12;
/// How many of them grow together at a time, so that moving the others is paid for once for so many.
const RUNS_JOINED: usize = RUNS_MAX / 4;
/// Runs beyond the first that all sets together remember; beyond that, a set that gets another has all of its runs grow together.
pub const SPARE_RUNS_MAX: usize = 1 << 24;
/// Epochs whose CONTROL packets are told apart: as many as live at once, and one that is prepared. [P-6.5]
const EPOCHS_MAX: usize = 5;

/// A set of numbers that mostly come in order.
#[derive(Debug, Default)]
struct Runs(Vec<(u64, u64)>);

impl Runs {
    fn has(&self, number: u64) -> bool {
        let after = self.0.partition_point(|(from, _)| *from <= number);
        after > 0 && number < self.0[after - 1].1
    }

    /// Adds a number; `spare` is how many runs beyond the first all sets have.
    fn add(&mut self, number: u64, spare: &mut usize) {
        let had = self.spare();
        let at = self.0.partition_point(|(from, _)| *from <= number);
        let joins_below = at > 0 && self.0[at - 1].1 >= number;
        let joins_above = self.0.get(at).is_some_and(|(from, _)| *from == number + 1);
        match (joins_below, joins_above) {
            (true, true) => {
                self.0[at - 1].1 = self.0[at].1;
                self.0.remove(at);
            }
            (true, false) => self.0[at - 1].1 = self.0[at - 1].1.max(number + 1),
            (false, true) => self.0[at].0 = number,
            (false, false) => self.0.insert(at, (number, number + 1)),
        }
        if self.0.len() > RUNS_MAX {
            self.join_lowest(RUNS_JOINED);
        }
        if self.spare() > had && *spare >= SPARE_RUNS_MAX {
            self.join_lowest(self.spare());
        }
        // Memory follows down too: else sets that had many runs once would keep theirs.
        if self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to(2 * self.0.len());
        }
        *spare = *spare + self.spare() - had;
    }

    /// Runs beyond the first.
    fn spare(&self) -> usize {
        self.0.len().saturating_sub(1)
    }

    /// Makes one run of the lowest and so many above it.
    fn join_lowest(&mut self, above: usize) {
        self.0[0].1 = self.0[above].1;
        self.0.drain(1..=above);
    }
}

/// The CONTROL packets of one epoch that were seen.
#[derive(Debug)]
struct Controls {
    epoch: u8,
    window: Window,
    lowest: u64,
    highest: u64,
    seen: u64,
}

impl Controls {
    const fn missing(&self) -> u64 {
        // Numbers are the wire's: 0 and the highest that there is may both be seen.
        (self.highest - self.lowest).saturating_add(1).saturating_sub(self.seen)
    }
}

/// What is known of a direction's keys.
#[derive(Debug)]
pub enum Keys {
    /// Not found yet; secrets were tried on as many packets as this.
    Unknown(u32),
    /// Found.
    Known(Box<(Owner, Unsealer)>),
}

/// One direction of a lane of a session.
#[derive(Debug)]
pub struct Flow {
    /// The receiver's id of the session.
    pub session: u64,
    /// The lane.
    pub steer: u16,
    from: SocketAddr,
    to: SocketAddr,
    /// Packets.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Messages.
    pub messages: u64,
    /// By who began them, and whether they are bundles.
    over: [Runs; 4],
    #[expect(clippy::vec_box, reason = "moved when an epoch ends, and most directions have one or none")]
    controls: Vec<Box<Controls>>,
    /// Its keys.
    pub keys: Keys,
}

/// What becomes of a CONTROL packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is new.
    New,
    /// It was seen, or is too old to tell.
    Again,
}

const fn place(key: u64, bundle: bool) -> usize {
    (key & 1) as usize | (bundle as usize) << 1
}

impl Flow {
    /// One whose first packet goes between these addresses.
    pub fn new(session: u64, steer: u16, from: SocketAddr, to: SocketAddr) -> Self {
        Self {
            session,
            steer,
            from,
            to,
            packets: 0,
            bytes: 0,
            messages: 0,
            over: Default::default(),
            controls: Vec::new(),
            keys: Keys::Unknown(0),
        }
    }

    /// Whether that message is over.
    pub fn is_over(&self, rpc: u64, bundle: bool) -> bool {
        self.over[place(rpc, bundle)].has(rpc >> 1)
    }

    /// That message is over; `spare_runs` is kept for all flows together.
    pub fn end(&mut self, rpc: u64, bundle: bool, spare_runs: &mut usize) {
        self.over[place(rpc, bundle)].add(rpc >> 1, spare_runs);
    }

    /// Takes a CONTROL packet in.
    pub fn hear(&mut self, epoch: u8, number: u64, counts: &mut Counts) -> Heard {
        let Some(at) = self.controls.iter().rposition(|controls| controls.epoch == epoch) else {
            if self.controls.len() == EPOCHS_MAX {
                let missing = self.controls.remove(0).missing();
                counts.control_missing = counts.control_missing.saturating_add(missing);
            }
            let mut window = Window::new();
            window.commit(number);
            self.controls.push(Box::new(Controls { epoch, window, lowest: number, highest: number, seen: 1 }));
            return Heard::New;
        };
        let controls = &mut self.controls[at];
        if !controls.window.check(number) {
            counts.control_duplicates += 1;
            return Heard::Again;
        }
        controls.window.commit(number);
        controls.seen += 1;
        if number < controls.highest {
            counts.control_out_of_order += 1;
        }
        (controls.lowest, controls.highest) = (controls.lowest.min(number), controls.highest.max(number));
        Heard::New
    }

    /// Counts what never came.
    pub fn finish(&mut self, counts: &mut Counts) {
        for controls in self.controls.drain(..) {
            counts.control_missing = counts.control_missing.saturating_add(controls.missing());
        }
    }

    /// For the database.
    pub fn row(&self) -> FlowRow {
        FlowRow {
            session: self.session,
            steer: self.steer,
            from: self.from.to_string(),
            to: self.to.to_string(),
            keys: matches!(self.keys, Keys::Known(_)),
            packets: self.packets,
            bytes: self.bytes,
            messages: self.messages,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_remembered_in_whatever_order() {
        let (mut runs, mut spare) = (Runs::default(), 0);
        for number in [5, 3, 9, 4, 5, 8, 0] {
            runs.add(number, &mut spare);
        }
        let found: Vec<u64> = (0..12).filter(|number| runs.has(*number)).collect();
        assert_eq!((found, spare), (vec![0, 3, 4, 5, 8, 9], 2));
    }

    #[test]
    fn runs_are_bounded_and_the_highest_stay_apart() {
        let (mut runs, mut spare) = (Runs::default(), 0);
        for number in 0..3 * RUNS_MAX as u64 {
            runs.add(2 * number, &mut spare);
            assert!(runs.0.len() <= RUNS_MAX && spare == runs.spare());
        }
        let last = 6 * RUNS_MAX as u64 - 2;
        assert!(runs.has(last) && !runs.has(last - 1) && runs.has(0) && runs.has(1));
        // Filled up, it is one run, and gives its memory back.
        for number in 0..=last {
            runs.add(number, &mut spare);
        }
        assert!(runs.0.len() == 1 && spare == 0 && runs.0.capacity() < 16, "{}", runs.0.capacity());
    }

    #[test]
    fn all_sets_share_a_budget() {
        let (mut runs, mut spare) = (Runs::default(), SPARE_RUNS_MAX - 2);
        for number in 0..100 {
            runs.add(2 * number, &mut spare);
            assert!(spare <= SPARE_RUNS_MAX && runs.has(2 * number));
        }
        assert!(runs.0.len() <= 3);
    }
}
