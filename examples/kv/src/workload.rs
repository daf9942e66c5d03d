//! Owns what YCSB asks for: which record, and what is done with it. Distributions and mixes are those of its core workloads A to F; a record
//! is one string. A scan is an MGET of consecutive records: this server has no ordered index.

use serde::{Deserialize, Serialize};

use crate::resp::{Out, command};

/// The constant of YCSB's zipfian distribution.
const SKEW: f64 = 0.99;
/// Inserts that may still be under way: they are not read yet.
const UNDER_WAY: u64 = 64;
/// Longest scan, in records.
const SCAN_MAX: u64 = 100;

/// A workload of YCSB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Half reads, half updates.
    A,
    /// 95 % reads, 5 % updates.
    B,
    /// Reads only.
    C,
    /// 95 % reads of the latest records, 5 % inserts.
    D,
    /// 95 % scans, 5 % inserts.
    E,
    /// Half reads, half reads that are written back changed.
    F,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::A, Self::B, Self::C, Self::D, Self::E, Self::F];

    /// Its letter.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::C => "c",
            Self::D => "d",
            Self::E => "e",
            Self::F => "f",
        }
    }

    /// By its letter.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name().eq_ignore_ascii_case(name))
    }
}

/// Random numbers that the same seed repeats: splitmix.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From zero to below one.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn below(&mut self, count: u64) -> u64 {
        self.next() % count.max(1)
    }

    /// A span until the next arrival, in seconds, of so many a second.
    pub(crate) fn until_next(&mut self, rate: f64) -> f64 {
        -(1.0 - self.unit()).ln() / rate
    }
}

/// The zipfian distribution as YCSB makes it (Gray and others, "Quickly generating billion-record synthetic databases").
#[derive(Debug)]
struct Zipfian {
    count: u64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl Zipfian {
    fn new(count: u64) -> Self {
        let zeta = |count: u64| (1..=count).map(|rank| (rank as f64).powf(-SKEW)).sum::<f64>();
        let all = zeta(count);
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - SKEW)) / (1.0 - zeta(2) / all);
        Self { count, zeta: all, alpha: 1.0 / (1.0 - SKEW), eta }
    }

    fn rank(&self, unit: f64) -> u64 {
        let scaled = unit * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(SKEW) {
            return 1;
        }
        let rank = self.count as f64 * (self.eta * unit - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.count - 1)
    }
}

/// What one operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Read(u64),
    Update(u64),
    Insert(u64),
    Scan(u64, u64),
    /// The read of a record that is written back.
    ReadToChange(u64),
}

/// Chooses operations.
#[derive(Debug)]
pub(crate) struct Chooser {
    workload: Workload,
    random: Random,
    zipfian: Zipfian,
    records: u64,
    inserted: u64,
    /// Numbers of new records, apart from those of other clients.
    own: (u64, u64),
}

impl Chooser {
    /// For the client `of.0` of `of.1`.
    pub(crate) fn new(workload: Workload, records: u64, seed: u64, of: (u64, u64)) -> Self {
        let (random, zipfian) = (Random::new(seed), Zipfian::new(records));
        Self { workload, random, zipfian, records, inserted: 0, own: of }
    }

    fn popular(&mut self) -> u64 {
        let unit = self.random.unit();
        // Scrambled, so that popular records are no neighbours.
        fnv(self.zipfian.rank(unit)) % self.records
    }

    fn insert(&mut self) -> Op {
        self.inserted += 1;
        Op::Insert(self.records + (self.inserted - 1) * self.own.1 + self.own.0)
    }

    /// The record that was inserted so many records before the latest that is surely there.
    fn newest(&self, back: u64) -> u64 {
        let inserted = self.inserted.saturating_sub(UNDER_WAY);
        if back < inserted {
            self.records + (inserted - 1 - back) * self.own.1 + self.own.0
        } else {
            self.records - 1 - (back - inserted).min(self.records - 1)
        }
    }

    pub(crate) fn next(&mut self) -> Op {
        let share = self.random.unit();
        match self.workload {
            Workload::A if share < 0.5 => Op::Update(self.popular()),
            Workload::B if share < 0.05 => Op::Update(self.popular()),
            Workload::D | Workload::E if share < 0.05 => self.insert(),
            Workload::F if share < 0.5 => Op::ReadToChange(self.popular()),
            Workload::D => {
                let unit = self.random.unit();
                Op::Read(self.newest(self.zipfian.rank(unit)))
            }
            Workload::E => {
                let from = self.popular();
                Op::Scan(from, (1 + self.random.below(SCAN_MAX)).min(self.records - from))
            }
            _ => Op::Read(self.popular()),
        }
    }
}

/// YCSB's hash of record numbers.
fn fnv(number: u64) -> u64 {
    number
        .to_le_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The key of a record: its length is YCSB's.
pub(crate) fn key(number: u64) -> [u8; 23] {
    let mut key = *b"user0000000000000000000";
    let mut left = number;
    for digit in key.iter_mut().rev() {
        if left == 0 {
            break;
        }
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    key
}

/// Appends an operation's command.
pub(crate) fn write(out: &mut Vec<u8>, op: Op, value: &[u8]) {
    match op {
        Op::Read(record) | Op::ReadToChange(record) => command(out, &[b"GET", &key(record)]),
        Op::Update(record) | Op::Insert(record) => command(out, &[b"SET", &key(record), value]),
        Op::Scan(from, count) => {
            let mut writer = Out { bytes: std::mem::take(out), is_v3: false };
            writer.array(1 + count as usize);
            writer.bulk(b"MGET");
            (from..from + count).for_each(|record| writer.bulk(&key(record)));
            *out = writer.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn popular_records_are_popular() {
        let zipfian = Zipfian::new(10_000);
        let mut random = Random::new(1);
        let ranks: Vec<u64> = (0..100_000).map(|_| zipfian.rank(random.unit())).collect();
        let first = ranks.iter().filter(|rank| **rank == 0).count() as f64 / 1e5;
        assert!((0.09..0.12).contains(&first), "{first}: 1 / zeta(10000) is 0.103");
        assert!(ranks.iter().all(|rank| *rank < 10_000));
    }

    #[test]
    fn mixes_are_those_of_the_workloads() {
        for (workload, share) in [(Workload::A, 0.5), (Workload::B, 0.05), (Workload::C, 0.0), (Workload::D, 0.05)] {
            let mut chooser = Chooser::new(workload, 1000, 7, (0, 1));
            let writes = (0..20_000).filter(|_| matches!(chooser.next(), Op::Update(_) | Op::Insert(_))).count();
            assert!((writes as f64 / 2e4 - share).abs() < 0.02, "{workload:?}: {writes}");
        }
    }

    #[test]
    fn the_latest_are_there() {
        let mut chooser = Chooser::new(Workload::D, 100, 3, (1, 4));
        let mut there: std::collections::BTreeSet<u64> = (0..100).collect();
        for _ in 0..5000 {
            match chooser.next() {
                Op::Insert(record) => assert!(there.insert(record) && record % 4 == 1, "{record}"),
                Op::Read(record) => assert!(there.contains(&record), "{record}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn keys_have_one_length() {
        assert_eq!(&key(0), b"user0000000000000000000");
        assert_eq!(&key(1_234_567), b"user0000000000001234567");
    }
}
