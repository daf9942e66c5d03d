//! Owns HMAC-SHA256 of short texts, and HKDF-Expand by it, with RustCrypto's `hmac`: what keys are derived with.
//!
//! The hash of a short text takes a fifth of a microsecond, and what AWS-LC does around it four times that: it makes a context on the heap
//! for each, and HKDF takes in its key again for every piece (decision 0015).
//!
//! Wiping: keys and hash states are wiped when they are dropped, and so is what is copied out of them. What a caller passes in or gets
//! back, the caller wipes.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroize;

/// Texts up to this long are short.
pub(super) const SHORT_MAX: usize = 256;

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("any length is a key")
}

fn tag(mac: Hmac<Sha256>) -> [u8; 32] {
    let mut tag = mac.finalize().into_bytes();
    let copy = tag.into();
    tag.as_mut_slice().zeroize();
    copy
}

/// HMAC-SHA256.
pub(super) fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = keyed(key);
    mac.update(data);
    tag(mac)
}

/// HKDF-Expand (RFC 5869 section 2.3), of each of these.
pub(super) fn hkdf_expand(prk: &[u8; 32], pieces: &mut [(&[u8], &mut [u8])]) {
    let prk = keyed(prk);
    let mut block = [0; 32];
    for (info, out) in pieces {
        assert!(out.len() <= 255 * 32, "at most 255 * 32 bytes");
        for (n, part) in out.chunks_mut(block.len()).enumerate() {
            let mut mac = prk.clone();
            if n > 0 {
                mac.update(&block);
            }
            mac.update(info);
            mac.update(&[n as u8 + 1]);
            block = tag(mac);
            part.copy_from_slice(&block[..part.len()]);
        }
    }
    block.zeroize();
}
