//! What is left of a key in this process's own memory, once it was dropped.
#![cfg(feature = "aws-lc")]

use std::fs::File;
use std::os::unix::fs::FileExt;

use offload::software::aws_lc;
use record::aead::{Aead, Cipher, Crypto, NONCE_LEN};

/// What stands at `address` now, whoever it belongs to.
fn memory(address: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, address as u64).unwrap();
    bytes
}

#[test]
fn keys_of_aes_gcm_are_written_over() {
    for cipher in [Cipher::Aes128Gcm, Cipher::Aes256Gcm] {
        let secret: Vec<u8> = (0..cipher.key_len() as u8).map(|n| n ^ 0xa5).collect();
        // The first round keys are the key itself.
        let places = |memory: &[u8]| memory.windows(16).filter(|window| *window == &secret[..16]).count();
        let key = aws_lc::PROVIDER.aead(cipher, &secret);
        let (address, len) = (std::ptr::from_ref::<dyn Aead>(&*key).addr(), size_of_val(&*key));
        assert_eq!(places(&memory(address, len)), 1, "what it is made of, for the first record");
        key.seal_in_place(&[0; NONCE_LEN], b"", &mut [0; 100]);
        assert_eq!(places(&memory(address, len)), 2, "else this test sees nothing");
        drop(key);
        assert_eq!(places(&memory(address, len)), 0, "{cipher}");
    }
}
