//! Owns the hash of numbers that we or a card gave out. Nobody else chooses them, so it need not resist anybody; it is a multiplication.

use std::hash::{BuildHasherDefault, Hasher};

/// A map by such numbers.
pub type Map<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Spread>>;

/// The hash.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    #[inline]
    fn finish(&self) -> u64 {
        // Maps take the place from the lower bits, which a product has the least of.
        self.0.rotate_left(26)
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that follow each other, or differ in their upper bits alone, do not meet in the lower bits.
    #[test]
    fn neighbours_are_apart() {
        for shift in [0, 16, 40] {
            let place = |number: u64| {
                let mut spread = Spread::default();
                spread.write_u64(number << shift);
                spread.finish() & 0xfff
            };
            let mut places: Vec<u64> = (0..512).map(place).collect();
            places.sort_unstable();
            places.dedup();
            assert!(places.len() > 400, "{shift}: {}", places.len());
        }
    }
}
