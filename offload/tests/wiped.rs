//! What is left of a key in this process's own memory, once it was dropped.
#![cfg(feature = "aws-lc")]

use std::fs::File;
use std::os::unix::fs::FileExt;

use offload::software::aws_lc;
use record::aead::{Aead, Cipher, Crypto};

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
        let holds = |memory: &[u8]| memory.windows(16).any(|window| window == &secret[..16]);
        let key = aws_lc::PROVIDER.aead(cipher, &secret);
        let (address, len) = (std::ptr::from_ref::<dyn Aead>(&*key).addr(), size_of_val(&*key));
        assert!(holds(&memory(address, len)), "else this test sees nothing");
        drop(key);
        assert!(!holds(&memory(address, len)), "{cipher}");
    }
}
