//! Owns what is sent: the five distributions of message sizes of the Homa paper, and when messages begin.
//!
//! The tables in `data/` were condensed from the published distributions: neighbouring sizes are one point, at their mean, as long as
//! they are within 6 % and a quarter of a percent of all messages. W1 Facebook memcached, W2 Google search, W3 Google data
//! centre, W4 Facebook Hadoop, W5 DCTCP web search.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::clock::{SEC, Time};
use crate::rng::Rng;

/// A distribution of message sizes.
#[derive(Clone, Debug)]
pub struct Workload {
    /// `w1` to `w5`.
    pub name: &'static str,
    /// Share of the link that was message bytes in the paper's runs, for a load of 1: the rest was headers and grants.
    pub paper_goodput: f64,
    /// Priorities that the paper gave to scheduled packets.
    pub scheduled_levels: u32,
    points: Vec<(u32, f64)>,
}

/// Name, table, goodput of the paper, scheduled levels of the paper.
const TABLES: [(&str, &str, f64, u32); 5] = [
    ("w1", include_str!("../data/w1.csv"), 0.657, 1),
    ("w2", include_str!("../data/w2.csv"), 0.796, 3),
    ("w3", include_str!("../data/w3.csv"), 0.887, 4),
    ("w4", include_str!("../data/w4.csv"), 0.898, 7),
    ("w5", include_str!("../data/w5.csv"), 0.898, 7),
];

/// The names of all workloads.
pub const NAMES: [&str; 5] = ["w1", "w2", "w3", "w4", "w5"];

impl Workload {
    /// The workload of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (name, table, paper_goodput, scheduled_levels) = *TABLES.iter().find(|(known, ..)| *known == name)?;
        let point = |line: &str| {
            let (bytes, cumulative) = line.split_once(',').expect("two columns");
            (bytes.parse().expect("bytes"), cumulative.parse().expect("a fraction"))
        };
        Some(Self { name, paper_goodput, scheduled_levels, points: table.lines().skip(1).map(point).collect() })
    }

    /// Messages of two sizes, of which the larger ones carry the given part of the bytes.
    #[must_use]
    pub fn mixed(small: u32, large: u32, bytes_in_large: f64) -> Self {
        let (of_small, of_large) = ((1.0 - bytes_in_large) / f64::from(small), bytes_in_large / f64::from(large));
        let points = vec![(small, of_small / (of_small + of_large)), (large, 1.0)];
        Self { name: "mixed", paper_goodput: 0.85, scheduled_levels: 4, points }
    }

    /// Sizes, and the share of messages up to each.
    #[must_use]
    pub fn points(&self) -> &[(u32, f64)] {
        &self.points
    }

    /// A size: the first point that is not below a random number. Nothing is interpolated.
    pub fn sample(&self, rng: &mut Rng) -> u32 {
        let unit = rng.unit();
        let at = self.points.partition_point(|(_, cumulative)| *cumulative <= unit);
        self.points[at.min(self.points.len() - 1)].0
    }

    /// The mean of `of` over all messages.
    #[must_use]
    pub fn mean_of(&self, of: impl Fn(u32) -> f64) -> f64 {
        let mut before = 0.0;
        let mut sum = 0.0;
        for (bytes, cumulative) in &self.points {
            sum += of(*bytes) * (cumulative - before);
            before = *cumulative;
        }
        sum
    }

    /// Mean bytes of a message.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.mean_of(f64::from)
    }

    /// The size at a position of the distribution, from 0 to 1.
    #[must_use]
    pub fn at(&self, position: f64) -> u32 {
        let at = self.points.partition_point(|(_, cumulative)| *cumulative < position - 1e-9);
        self.points[at.min(self.points.len() - 1)].0
    }
}

/// Messages in the order in which they begin.
#[derive(Clone, Debug)]
pub struct Arrivals<'a> {
    workload: &'a Workload,
    hosts: u32,
    mean_gap: f64,
    rng: Rng,
    /// When each host begins its next.
    next: BinaryHeap<Reverse<(Time, u32)>>,
}

/// A message that is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// When it begins.
    pub at: Time,
    /// The host that sends it.
    pub from: u32,
    /// The host that it is for.
    pub to: u32,
    /// How long it is.
    pub bytes: u32,
}

impl<'a> Arrivals<'a> {
    /// Each of `hosts` begins `rate` messages per second, on average, at times of a Poisson process, for others at random.
    #[must_use]
    pub fn new(workload: &'a Workload, hosts: u32, rate: f64, mut rng: Rng) -> Self {
        let mean_gap = SEC as f64 / rate;
        let next = (0..hosts).map(|host| Reverse((rng.exponential(mean_gap) as Time, host))).collect();
        Self { workload, hosts, mean_gap, rng, next }
    }
}

impl Iterator for Arrivals<'_> {
    type Item = Arrival;
    fn next(&mut self) -> Option<Arrival> {
        let Reverse((at, from)) = self.next.pop()?;
        self.next.push(Reverse((at + self.rng.exponential(self.mean_gap) as Time, from)));
        let to = (from + 1 + self.rng.below(u64::from(self.hosts) - 1) as u32) % self.hosts;
        Some(Arrival { at, from, to, bytes: self.workload.sample(&mut self.rng) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_positions_are_the_published_ones() {
        // Mean, and the sizes at 10 %, 50 %, 90 %, 99 % as the paper's own tables have them.
        let expected = [
            ("w1", 189.2, [8, 28, 506, 1900]),
            ("w2", 441.6, [8, 269, 512, 3151]),
            ("w3", 2_927.7, [36, 268, 1755, 31_000]),
            ("w4", 127_797.0, [315, 662, 120_373, 3_430_822]),
            ("w5", 2_515_863.0, [5768, 70_658, 4_806_186, 26_917_814]),
        ];
        for (name, mean, positions) in expected {
            let workload = Workload::named(name).expect("it is there");
            assert!((workload.mean() / mean - 1.0).abs() < 0.001, "{name}: {}", workload.mean());
            for (at, expected) in [0.1, 0.5, 0.9, 0.99].into_iter().zip(positions) {
                let found = f64::from(workload.at(at));
                assert!((found / f64::from(expected) - 1.0).abs() < 0.06, "{name} at {at}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn samples_follow_the_table() {
        let mut rng = Rng::new(1, 9);
        for name in NAMES {
            let workload = Workload::named(name).expect("it is there");
            let median = workload.at(0.5);
            let below = (0..100_000).filter(|_| workload.sample(&mut rng) <= median).count() as f64 / 100_000.0;
            let share = workload.points().iter().find(|(bytes, _)| *bytes == median).expect("a point").1;
            assert!((below - share).abs() < 0.01, "{name}: {below} of {share}");
        }
    }
}
