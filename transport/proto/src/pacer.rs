//! Owns the estimate of how long our link is busy with what we gave it, and so whether more may go. [P-8.10]
//!
//! What waits in the queue of a NIC goes in the order in which it came; what waits here goes shortest first. So little is
//! given away at once, and only as fast as the link drains. Without a known rate nothing is paced and nothing is counted.

use core::time::Duration;

use wire::limits::PACKET_OVERHEAD;

use crate::config::Config;
use crate::time::Instant;

const FEMTOS_PER_NANO: u64 = 1_000_000;

/// Bytes that the oldest message must be owed before it goes first: about a packet.
const OWED_MIN: i64 = 1500 * 1000;

/// What we know of our link.
#[derive(Clone, Debug, Default)]
pub struct Pacer {
    /// How long a byte occupies the link; 0 when that is not known.
    femtos_per_byte: u64,
    /// When the link will have sent all that it was given.
    idle_at: Instant,
    /// What the above lacks.
    femtos: u64,
    /// Thousandths of bytes that the oldest message is owed.
    owed: i64,
}

impl Pacer {
    /// A link that was given nothing yet.
    pub fn new(config: &Config) -> Self {
        let mut pacer = Self::default();
        pacer.set_rate(config);
        pacer
    }

    /// The rate is known, or another one, or not known any more.
    pub fn set_rate(&mut self, config: &Config) {
        let usable = |bits: u64| u128::from(bits) * u128::from(config.link_usage_per_mille.clamp(1, 1000)) / 1000;
        self.femtos_per_byte = match config.link_bits_per_second.map(usable) {
            Some(bits) if bits > 0 => u64::try_from(8_000_000_000_000_000 / bits).unwrap_or(u64::MAX).clamp(1, 1 << 43),
            _ => 0,
        };
    }

    /// Whether a rate is known.
    pub const fn is_on(&self) -> bool {
        self.femtos_per_byte > 0
    }

    /// So many bytes were given to the link.
    pub fn count(&mut self, now: Instant, bytes: u64) {
        if self.idle_at < now {
            (self.idle_at, self.femtos) = (now, 0);
        }
        let femtos = self.femtos.saturating_add(bytes.saturating_mul(self.femtos_per_byte));
        self.idle_at += Duration::from_nanos(femtos / FEMTOS_PER_NANO);
        self.femtos = femtos % FEMTOS_PER_NANO;
    }

    /// A datagram that is not data was given to the link: it is counted, never held back.
    pub fn count_control(&mut self, config: &Config, now: Instant, bytes: usize) {
        let below = u64::from(config.link_packet_bytes).saturating_sub(PACKET_OVERHEAD as u64);
        self.count(now, bytes as u64 + below);
    }

    /// When the link will be busy for no longer than it may.
    pub fn opens_at(&self, config: &Config) -> Instant {
        let backlog = u64::try_from(config.backlog_max.as_nanos()).unwrap_or(u64::MAX);
        // Part of a nanosecond counts as a whole one: never early.
        let idle = self.idle_at.as_nanos() + u64::from(self.femtos > 0);
        Instant::from_nanos(idle.saturating_sub(backlog))
    }

    /// How many packets with `payload` bytes of message each may go now, one after the other.
    pub fn packets(&self, config: &Config, now: Instant, payload: u16) -> u32 {
        let opens = self.opens_at(config);
        if opens > now {
            return 0;
        }
        let bytes = u64::from(payload) + u64::from(config.link_packet_bytes);
        let each = bytes.saturating_mul(self.femtos_per_byte) / FEMTOS_PER_NANO;
        let room = u64::try_from(config.backlog_max.min(now.since(opens)).as_nanos()).unwrap_or(u64::MAX);
        u32::try_from(room / each.max(1)).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Whether the oldest message goes first now.
    pub const fn owes_the_oldest(&self) -> bool {
        self.owed >= OWED_MIN
    }

    /// Records with so many bytes were taken, of the oldest message because it was owed to it, or of the shortest.
    pub fn took(&mut self, config: &Config, records: u32, bytes: u32, owed: bool, now: Instant) {
        self.count(now, u64::from(bytes) + u64::from(records) * u64::from(config.link_packet_bytes));
        let bytes = i64::from(bytes);
        self.owed += if owed { -1000 * bytes } else { i64::from(config.pacer_fifo_per_mille.min(1000)) * bytes };
        // Bounded, so that a single old message does not have the link for long after a time without one.
        self.owed = self.owed.min(8 * OWED_MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ns: u64) -> Instant {
        Instant::from_nanos(ns)
    }

    /// 10 Gbit/s, used whole: a byte in 0.8 ns.
    fn ten_gigabit() -> Config {
        Config { link_bits_per_second: Some(10_000_000_000), link_usage_per_mille: 1000, ..Config::default() }
    }

    /// [P-8.10] The estimate is exact over many packets, and time that passes idle is not saved up.
    #[test]
    fn counts_what_the_link_needs() {
        let config = ten_gigabit();
        let mut pacer = Pacer::new(&config);
        for _ in 0..1_000 {
            pacer.count(at(0), 1_501);
        }
        assert_eq!(pacer.idle_at, at(1_200_800));
        pacer.count(at(2_000_000), 1_000);
        assert_eq!(pacer.idle_at, at(2_000_800));
        assert!(!Pacer::new(&Config::default()).is_on());
    }

    /// [P-8.10] With no backlog allowed packets go one by one; else as many as keep it, and one more.
    #[test]
    fn as_many_as_the_backlog_allows() {
        let config = Config { backlog_max: Duration::ZERO, link_packet_bytes: 100, ..ten_gigabit() };
        let mut pacer = Pacer::new(&config);
        assert_eq!(pacer.packets(&config, at(0), 1_400), 1);
        pacer.took(&config, 1, 1_400, false, at(0));
        assert_eq!((pacer.packets(&config, at(1_199), 1_400), pacer.opens_at(&config)), (0, at(1_200)));
        assert_eq!(pacer.packets(&config, at(1_200), 1_400), 1);
        let config = Config { backlog_max: Duration::from_nanos(5_000), ..config };
        let mut pacer = Pacer::new(&config);
        pacer.count(at(10_000), 0);
        assert_eq!(pacer.packets(&config, at(10_000), 1_400), 5);
        pacer.count(at(10_000), 6_250);
        assert_eq!(pacer.packets(&config, at(10_000), 1_400), 1);
    }

    /// [P-8.10] The oldest gets its part of the bytes, no more.
    #[test]
    fn the_oldest_gets_its_part() {
        let config = ten_gigabit();
        let mut pacer = Pacer::new(&config);
        let mut bytes = [0_u64; 2];
        for _ in 0..10_000 {
            let owed = pacer.owes_the_oldest();
            pacer.took(&config, 1, 1_400, owed, at(0));
            bytes[usize::from(owed)] += 1_400;
        }
        let share = bytes[1] as f64 / bytes[0] as f64;
        assert!((0.049..0.051).contains(&share), "{share}");
    }
}
