//! Owns what the bodies of messages say: a function of the seed, of the call's number, and of the direction. So whoever gets one can
//! tell whether it is the one that was sent, without a copy of it.

use crate::rng::mix;

const fn key(seed: u64, call: u64, response: bool) -> u64 {
    mix(mix(seed ^ 0xb0d1_e500).wrapping_add(call.wrapping_mul(2)).wrapping_add(response as u64))
}

const fn word(key: u64, at: u64) -> u64 {
    mix(key.wrapping_add(at.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// The body of a call's request (or one-way message), or of its response.
#[must_use]
pub fn body(seed: u64, call: u64, response: bool, len: usize) -> Vec<u8> {
    let key = key(seed, call, response);
    let mut bytes = Vec::with_capacity(len + 8);
    for at in 0..len.div_ceil(8) as u64 {
        bytes.extend_from_slice(&word(key, at).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Whether `bytes` are that body.
#[must_use]
pub fn is_body(seed: u64, call: u64, response: bool, bytes: &[u8]) -> bool {
    let key = key(seed, call, response);
    let (words, rest) = bytes.as_chunks::<8>();
    let last = word(key, words.len() as u64).to_le_bytes();
    words.iter().zip(0..).all(|(is, at)| u64::from_le_bytes(*is) == word(key, at)) && rest == &last[..rest.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_say_whose_they_are() {
        for len in [1, 7, 8, 9, 1000] {
            let mine = body(1, 2, false, len);
            assert!(mine.len() == len && is_body(1, 2, false, &mine));
            for at in [0, len / 2, len - 1] {
                let mut other = mine.clone();
                other[at] ^= 1;
                assert!(!is_body(1, 2, false, &other));
            }
        }
        let long = body(1, 2, false, 64);
        assert!(!is_body(2, 2, false, &long) && !is_body(1, 3, false, &long) && !is_body(1, 2, true, &long));
    }
}
