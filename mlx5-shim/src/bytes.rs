//! Owns numbers in mailboxes and descriptors: all of them are big-endian, at places that the manuals count in bytes.
//!
//! Places are constants of ours, inside of arrays of known length; one that is outside is a bug and panics.

/// The 16-bit number at byte `at`.
pub const fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The 24-bit number in the low three bytes of the 32 bits at byte `at`.
pub const fn u24_at(bytes: &[u8], at: usize) -> u32 {
    u32_at(bytes, at) & 0x00ff_ffff
}

/// The 32-bit number at byte `at`.
pub const fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The 64-bit number at byte `at`.
pub const fn u64_at(bytes: &[u8], at: usize) -> u64 {
    (u32_at(bytes, at) as u64) << 32 | u32_at(bytes, at + 4) as u64
}

/// `width` bits of the 32-bit word at byte `at`, `shift` above its lowest.
pub const fn field(bytes: &[u8], at: usize, shift: u32, width: u32) -> u32 {
    (u32_at(bytes, at) >> shift) & ((1u64 << width) - 1) as u32
}

/// Writes a 16-bit number.
pub fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Writes a 32-bit number.
pub fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Writes a 64-bit number.
pub fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

/// Writes `width` bits of the word at byte `at`, and leaves the others.
pub fn put_field(bytes: &mut [u8], at: usize, shift: u32, width: u32, value: u32) {
    let mask = ((1u64 << width) - 1) as u32;
    debug_assert!(value <= mask, "the value fits its field");
    let word = u32_at(bytes, at) & !(mask << shift) | (value & mask) << shift;
    put_u32(bytes, at, word);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_there() {
        let mut bytes = [0xff; 16];
        put_field(&mut bytes, 4, 8, 5, 9);
        assert_eq!(field(&bytes, 4, 8, 5), 9);
        assert_eq!(u32_at(&bytes, 4), 0xffff_e9ff, "its neighbours stay");
        put_u64(&mut bytes, 8, 0x0102_0304_0506_0708);
        assert_eq!(
            (u64_at(&bytes, 8), u24_at(&bytes, 8), u16_at(&bytes, 14)),
            (0x0102_0304_0506_0708, 0x020304, 0x0708)
        );
        put_field(&mut bytes, 0, 0, 32, 7);
        assert_eq!(field(&bytes, 0, 0, 32), 7);
    }
}
