//! Owns the only randomness there is: a PCG generator (O'Neill 2014, XSL-RR 128/64), seeded. Not for secrets of real sessions.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Hashes small keys quickly, the same way in every run.
#[derive(Clone, Copy, Debug, Default)]
pub struct FastHash(u64);

impl Hasher for FastHash {
    fn finish(&self) -> u64 {
        mix(self.0)
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// A map that is fast and the same in every run.
pub type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FastHash>>;

/// Spreads every bit over all (the finish of MurmurHash3, Appleby).
#[must_use]
pub const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// A stream of random numbers. The same seed gives the same stream, on every machine.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u128,
    increment: u128,
}

const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;

impl Rng {
    /// The stream with the number `stream` of those that belong to `seed`.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = Self { state: 0, increment: (u128::from(stream) << 1) | 1 };
        rng.step();
        rng.state = rng.state.wrapping_add(u128::from(seed));
        rng.step();
        // Neighbouring seeds and streams begin alike: a few steps set them apart.
        rng.step();
        rng.step();
        rng
    }

    const fn step(&mut self) {
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
    }

    /// Any number.
    pub const fn next(&mut self) -> u64 {
        self.step();
        let folded = ((self.state >> 64) as u64) ^ (self.state as u64);
        folded.rotate_right((self.state >> 122) as u32)
    }

    /// A number below `n`; the bias is below 2^-32 for what is used here.
    pub const fn below(&mut self, n: u64) -> u64 {
        ((self.next() as u128 * n as u128) >> 64) as u64
    }

    /// A number from 0 up to, not including, 1.
    pub const fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with probability `p`.
    pub const fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// The time to the next event of a Poisson process with events `mean` apart on average.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_fair_and_differ() {
        let (mut a, mut b) = (Rng::new(1, 1), Rng::new(1, 2));
        assert!((0..100).filter(|_| a.next() == b.next()).count() == 0);
        let mut counts = [0u32; 10];
        let mut sum = 0.0;
        for _ in 0..100_000 {
            counts[a.below(10) as usize] += 1;
            sum += b.exponential(3.0);
        }
        assert!(counts.iter().all(|n| (9_500..10_500).contains(n)), "{counts:?}");
        assert!((sum / 100_000.0 - 3.0).abs() < 0.05, "{sum}");
    }
}
