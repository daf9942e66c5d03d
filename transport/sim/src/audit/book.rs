//! Owns the book of all seals: what each key sealed under each nonce, as a hash of 64 bits, dense where nonces are. It knows nothing
//! of sessions and epochs: a key is its bytes.

use crate::rng::{FastMap, mix};

/// Bits of a place in a page.
const PAGE_BITS: u32 = 12;
/// Where the sequence of a record number begins. [P-3.2]
const SEQUENCE_AT: u32 = 20;
/// Bits of a record number that are the place of a record in its message.
const INDEX_BITS: u32 = 16;

/// What is sealed: numbers of records count in their upper bits, those of control packets in the lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A record.
    Record,
    /// A control packet.
    Control,
}

/// What became of a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// The nonce is new.
    New,
    /// It sealed the same bytes before: a repeat.
    Again,
    /// It sealed other bytes before.
    Duplicate,
}

/// Hashes by nonce, of one key.
#[derive(Debug, Default)]
struct Sealed {
    /// The first nonce that was used: others are told by how they differ from it, which is small whatever the IV is.
    first: Option<[u8; 12]>,
    /// Of neighbouring numbers. 0 where nothing was sealed.
    pages: FastMap<u64, Box<[u64]>>,
    /// All others.
    others: FastMap<([u8; 4], u64), u64>,
}

impl Sealed {
    fn place(&mut self, what: What, nonce: &[u8; 12]) -> &mut u64 {
        let first = *self.first.get_or_insert(*nonce);
        let mut xor = [0; 12];
        xor.iter_mut().zip(nonce.iter().zip(first)).for_each(|(to, (a, b))| *to = a ^ b);
        let [a, b, c, d, number @ ..] = xor;
        let number = u64::from_be_bytes(number);
        let (page, at) = match what {
            What::Control => (number >> PAGE_BITS, number),
            What::Record => {
                let low = number & ((1 << SEQUENCE_AT) - 1);
                (number >> (SEQUENCE_AT + PAGE_BITS) << SEQUENCE_AT | low, number >> SEQUENCE_AT)
            }
        };
        let dense = what == What::Control || number & ((1 << INDEX_BITS) - 1) == 0;
        if [a, b, c, d] != [0; 4] || !dense {
            return self.others.entry(([a, b, c, d], number)).or_default();
        }
        let page = self.pages.entry(page).or_insert_with(|| vec![0; 1 << PAGE_BITS].into_boxed_slice());
        &mut page[at as usize & ((1 << PAGE_BITS) - 1)]
    }
}

/// All seals of some endpoints.
#[derive(Debug, Default)]
pub struct Book {
    names: FastMap<Vec<u8>, u32>,
    keys: Vec<Sealed>,
    /// Seals, repeats included.
    pub sealed: u64,
    /// Seals that repeated the same bytes.
    pub again: u64,
    /// Seals of other bytes under a nonce that was used.
    pub duplicates: u64,
}

/// A hash of all bytes, never 0.
#[must_use]
pub fn digest(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = bytes.len() as u64;
    for word in words {
        hash = (hash.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    let hash = rest.iter().fold(mix(hash), |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    hash.max(1)
}

impl Book {
    /// The number of a key: the same bytes are the same key, whoever made it.
    pub fn key(&mut self, bytes: &[u8]) -> u32 {
        let next = self.keys.len() as u32;
        let at = *self.names.entry(bytes.to_vec()).or_insert(next);
        if at == next {
            self.keys.push(Sealed::default());
        }
        at
    }

    /// A key sealed bytes of this hash under `nonce`.
    pub fn seal(&mut self, key: u32, what: What, nonce: &[u8; 12], digest: u64) -> Seal {
        self.sealed += 1;
        let place = self.keys[key as usize].place(what, nonce);
        let seal = match *place {
            0 => Seal::New,
            was if was == digest => Seal::Again,
            _ => Seal::Duplicate,
        };
        *place = digest;
        self.again += u64::from(seal == Seal::Again);
        self.duplicates += u64::from(seal == Seal::Duplicate);
        seal
    }

    /// Whether a key sealed anything under `nonce`.
    pub fn knows(&mut self, key: u32, what: What, nonce: &[u8; 12]) -> bool {
        *self.keys[key as usize].place(what, nonce) != 0
    }

    /// The keys that sealed anything.
    pub fn used(self) -> impl Iterator<Item = Vec<u8>> {
        let used: Vec<bool> = self.keys.iter().map(|key| key.first.is_some()).collect();
        self.names.into_iter().filter(move |(_, at)| used[*at as usize]).map(|(bytes, _)| bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce(iv: u8, number: u64) -> [u8; 12] {
        let mut nonce = [iv; 12];
        nonce[4..].iter_mut().zip(number.to_be_bytes()).for_each(|(at, byte)| *at ^= byte);
        nonce
    }

    /// Against a plain map: numbers of all kinds, whatever the IV and whichever comes first.
    #[test]
    fn as_a_plain_map_says() {
        for what in [What::Record, What::Control] {
            let mut rng = crate::rng::Rng::new(4, what as u64);
            let (mut book, mut plain) = (Book::default(), std::collections::HashMap::new());
            let key = book.key(b"a key");
            for _ in 0..200_000 {
                let index = rng.below(20) * rng.below(2);
                let number = rng.below(3000) << 20 | rng.below(3) << 16 | index | rng.below(2) << 60;
                let (iv, digest) = (rng.below(50) as u8 / 49, 1 + rng.below(2));
                let expected = match plain.insert((iv, number), digest) {
                    None => Seal::New,
                    Some(was) if was == digest => Seal::Again,
                    Some(_) => Seal::Duplicate,
                };
                assert_eq!(book.seal(key, what, &nonce(iv, number), digest), expected);
            }
        }
    }

    #[test]
    fn a_key_is_its_bytes() {
        let mut book = Book::default();
        let (a, b) = (book.key(b"one"), book.key(b"two"));
        assert_ne!(a, b);
        assert_eq!((book.key(b"one"), book.key(b"two")), (a, b));
        book.seal(a, What::Control, &[0; 12], 5);
        assert_eq!(book.seal(b, What::Control, &[0; 12], 6), Seal::New);
        assert_eq!(book.used().count(), 2);
    }
}
