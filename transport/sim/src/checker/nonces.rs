//! Owns invariant 1: no key seals two things under one nonce. It sees what is sealed, and which key it was; who sealed it and why it
//! does not know.

use crate::rng::{FastMap, mix};

/// All nonces that were ever used.
#[derive(Debug, Default)]
pub struct Nonces {
    /// What each record number of each direction sealed, and in which epoch.
    records: FastMap<(u64, u64), (u64, u64)>,
    /// What the slices of spanning records were, by where each begins.
    slices: FastMap<(u64, u64, usize), u64>,
    /// The last packet number of each control key. They leave in the order in which they are taken.
    controls: FastMap<u64, u64>,
}

/// A hash of all bytes.
fn digest(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = bytes.len() as u64;
    for word in words {
        hash = (hash.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    rest.iter().fold(mix(hash), |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl Nonces {
    /// A record leaves: ciphertext and tag, under `number`, in an epoch of the direction whose first data key is `direction`.
    ///
    /// # Errors
    /// When something else was sealed under that number, in that epoch or in another: there is another attempt for that. [P-3.4]
    pub fn record(&mut self, direction: u64, epoch: u64, number: u64, sealed: &[u8]) -> Result<(), String> {
        let is = (epoch, digest(sealed));
        match *self.records.entry((direction, number)).or_insert(is) {
            (was, _) if was != epoch => {
                Err(format!("direction {direction:016x}: number {number:016x} in the epochs {was} and {epoch}"))
            }
            was if was != is => {
                Err(format!("direction {direction:016x}: two records under number {number:016x} of epoch {epoch}"))
            }
            _ => Ok(()),
        }
    }

    /// A slice leaves: `slice`, from byte `offset` on, of a record of `sealed_len` bytes that is sealed under `number`. [P-4.6]
    ///
    /// # Errors
    /// As [`Self::record`]; also when what was sealed under that number was no spanning record of that length.
    pub fn slice(
        &mut self,
        (direction, epoch, number): (u64, u64, u64),
        offset: usize,
        sealed_len: usize,
        slice: &[u8],
    ) -> Result<(), String> {
        // What no ordinary record is, and no spanning one of another length.
        self.record(direction, epoch, number, &[&b"spans "[..], &sealed_len.to_be_bytes()].concat())?;
        let is = digest(slice);
        match *self.slices.entry((direction, number, offset)).or_insert(is) {
            was if was != is => {
                Err(format!("direction {direction:016x}: slice {offset} of number {number:016x} is two"))
            }
            _ => Ok(()),
        }
    }

    /// A control packet leaves, under `number` of the control key that belongs to the data key `key`.
    ///
    /// # Errors
    /// When that number, or a later one, was used before.
    pub fn control(&mut self, key: u64, number: u64) -> Result<(), String> {
        match self.controls.insert(key, number) {
            Some(last) if last >= number => {
                Err(format!("key {key:016x}: control packet number {number} after number {last}"))
            }
            _ => Ok(()),
        }
    }

    /// How many records were sealed, repeats not counted.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_again() {
        let mut nonces = Nonces::default();
        let record = [7; 100];
        let mut other = record;
        other[50] ^= 1;
        for key in [1, 2] {
            assert!(nonces.record(key, 4, 9, &record).is_ok() && nonces.record(key, 4, 9, &record).is_ok());
            assert!(nonces.record(key, 4, 10, &other).is_ok());
            assert!(nonces.record(key, 5, 9, &record).is_err(), "the same number in another epoch");
            assert!(nonces.control(key, 5).is_ok() && nonces.control(key, 7).is_ok());
        }
        assert!(nonces.record(1, 4, 9, &other).is_err() && nonces.record(1, 4, 10, &other[..99]).is_err());
        let slice =
            |nonces: &mut Nonces, number, at, len, bytes: &[u8]| nonces.slice((1, 4, number), at, len, bytes).is_ok();
        assert!(slice(&mut nonces, 11, 0, 200, &record) && slice(&mut nonces, 11, 100, 200, &other));
        assert!(slice(&mut nonces, 11, 0, 200, &record) && !slice(&mut nonces, 11, 0, 200, &other));
        assert!(!slice(&mut nonces, 11, 0, 300, &record) && !slice(&mut nonces, 10, 0, 100, &other), "another layout");
        assert!(nonces.record(1, 4, 11, &record).is_err(), "another layout");
        assert!(nonces.control(1, 7).is_err(), "the same packet number, whatever was sealed");
        assert!(nonces.control(2, 6).is_err());
    }
}
