//! Owns what a scheduler that knows everything would make of the same messages, as a floor under what any protocol can.
//!
//! The network is one switch that never holds anything up. At every moment the message with the fewest bytes left is sent at the
//! full rate of its two hosts' links; then the one with the fewest whose hosts are both still idle, and so on: shortest remaining
//! processing time first (SRPT), the ideal that pFabric (SIGCOMM 2013) is compared with. Nothing is lost, asked for or granted, and
//! nobody waits for news. Times are those of the links alone; what else a message needs when it is alone is for who asks to add.

use crate::clock::{NEVER, Time};

/// A message that is, or was, under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// When it began.
    pub at: Time,
    /// Who sends it.
    pub from: u32,
    /// To whom.
    pub to: u32,
    /// How long it is.
    pub bytes: u32,
    /// Whether it counts.
    pub counts: bool,
    /// What its frames still take on a host's link.
    left: Time,
    sends: bool,
}

/// A network that is scheduled ideally.
#[derive(Clone, Debug)]
pub struct Ideal {
    now: Time,
    /// Fewest bytes left first.
    flows: Vec<Flow>,
    /// Whether a host's link carries something, up and down.
    busy: Vec<(bool, bool)>,
}

impl Flow {
    /// A message that begins, and whose frames take `link` on a host's link.
    #[must_use]
    pub const fn new(at: Time, (from, to): (u32, u32), bytes: u32, link: Time, counts: bool) -> Self {
        Self { at, from, to, bytes, counts, left: link, sends: false }
    }
}

impl Ideal {
    /// So many hosts, with nothing under way.
    #[must_use]
    pub fn new(hosts: u32) -> Self {
        Self { now: 0, flows: Vec::new(), busy: vec![(false, false); hosts as usize] }
    }

    /// Time passes until `flow` begins. `done` is told of all that arrive meanwhile, and when.
    pub fn begin(&mut self, flow: Flow, done: impl FnMut(Time, Flow)) {
        self.run(flow.at, done);
        self.flows.push(flow);
    }

    /// Time passes until all have arrived.
    pub fn finish(&mut self, done: impl FnMut(Time, Flow)) {
        self.run(NEVER, done);
    }

    fn run(&mut self, until: Time, mut done: impl FnMut(Time, Flow)) {
        while self.now < until && !self.flows.is_empty() {
            let next = self.schedule().min(until);
            let passed = next - self.now;
            self.now = next;
            self.flows.iter_mut().filter(|flow| flow.sends).for_each(|flow| flow.left -= passed);
            self.flows.retain(|flow| {
                if flow.left == 0 {
                    done(next, *flow);
                }
                flow.left > 0
            });
        }
        self.now = until;
    }

    /// Who sends now, and when the first of them is done.
    fn schedule(&mut self) -> Time {
        self.flows.sort_by_key(|flow| (flow.left, flow.at));
        self.busy.fill((false, false));
        let mut first = NEVER;
        for flow in &mut self.flows {
            let (up, down) = (self.busy[flow.from as usize].0, self.busy[flow.to as usize].1);
            flow.sends = !up && !down;
            if flow.sends {
                self.busy[flow.from as usize].0 = true;
                self.busy[flow.to as usize].1 = true;
                first = first.min(self.now + flow.left);
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(hosts: u32, flows: &[Flow]) -> Vec<(Time, u32)> {
        let (mut ideal, mut arrived) = (Ideal::new(hosts), Vec::new());
        for flow in flows {
            ideal.begin(*flow, |now, flow| arrived.push((now, flow.bytes)));
        }
        ideal.finish(|now, flow| arrived.push((now, flow.bytes)));
        arrived
    }

    /// A short message passes a long one at either end, and the long one goes on behind it; others do not matter.
    #[test]
    fn the_shortest_goes_first_at_both_ends() {
        let long = Flow::new(0, (0, 1), 1000, 1000, true);
        for pair in [(0, 2), (2, 1)] {
            let short = Flow::new(100, pair, 50, 50, true);
            let beside = Flow::new(100, (3, 0), 2000, 2000, true);
            assert_eq!(arrivals(4, &[long, short, beside]), [(150, 50), (1050, 1000), (2100, 2000)]);
        }
        let late = Flow::new(960, (0, 2), 50, 50, true);
        assert_eq!(arrivals(4, &[long, late]), [(1000, 1000), (1050, 50)], "it had 40 left");
    }

    /// Whoever is blocked at one end leaves the other end to the next.
    #[test]
    fn no_link_is_idle_that_could_send() {
        let a = Flow::new(0, (0, 1), 10, 10, true);
        let b = Flow::new(0, (0, 2), 20, 20, true);
        let c = Flow::new(0, (3, 2), 30, 30, true);
        // c sends for as long as b waits for a; then b has fewer left, or as many and came first.
        assert_eq!(arrivals(4, &[a, b, c]), [(10, 10), (30, 20), (50, 30)]);
    }
}
