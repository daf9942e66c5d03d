//! A checksum that reads a message once and about as fast as memory gives it: what one-way messages are verified by.
//!
//! Owns the sum. It finds changed bytes, and bytes in a wrong place (Fletcher's idea: a sum, and the sum of all sums on the way,
//! in lanes of 64 bits); against somebody who wants it to match it is worthless. Refuses: knowing what is right.

/// Sums kept side by side, so that they do not wait for each other.
const LANES: usize = 8;

/// Bytes that all lanes take together.
const STEP: usize = 8 * LANES;

/// The sum of a message, its length included.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let (mut first, mut second) = ([0_u64; LANES], [0_u64; LANES]);
    let mut add = |step: &[u8; STEP]| {
        for lane in 0..LANES {
            let word: [u8; 8] = step[8 * lane..][..8].try_into().expect("eight bytes");
            first[lane] = first[lane].wrapping_add(u64::from_le_bytes(word));
            second[lane] = second[lane].wrapping_add(first[lane]);
        }
    };
    let (steps, rest) = bytes.as_chunks::<STEP>();
    steps.iter().for_each(&mut add);
    let mut last = [0; STEP];
    last[..rest.len()].copy_from_slice(rest);
    add(&last);
    let lanes = first.into_iter().chain(second);
    lanes.fold(bytes.len() as u64, |all, lane| (all ^ lane).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_a_moved_block_and_another_length_are_seen() {
        let bytes: Vec<u8> = (0..3000_u32).map(|i| (i * i / 7) as u8).collect();
        let right = sum(&bytes);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_ne!(sum(&changed), right, "byte {at}");
        }
        for block in [64, 128, 512] {
            let mut moved = bytes.clone();
            let (a, b) = moved.split_at_mut(1024);
            a[..block].swap_with_slice(&mut b[..block]);
            assert_ne!(sum(&moved), right, "blocks of {block}");
        }
        assert_ne!(sum(&bytes[..2999]), right);
        assert_ne!(sum(&[0; 64]), sum(&[0; 65]));
    }
}
