//! What a handshake needs of `record::aead::Crypto`, by AWS-LC.

#![allow(unreachable_pub, reason = "part of the tests and of the unit tests")]

use aws_lc_rs::{constant_time, hkdf, hmac};
use record::aead::{Aead, Cipher, Crypto};

pub struct TestCrypto;
pub static CRYPTO: TestCrypto = TestCrypto;

impl Crypto for TestCrypto {
    fn name(&self) -> &'static str {
        "test"
    }
    fn aead(&self, _: Cipher, _: &[u8]) -> Box<dyn Aead> {
        unreachable!("a handshake seals no records")
    }
    fn hkdf_extract(&self, salt: &[u8], ikm: &[u8]) -> [u8; 32] {
        sign(salt, ikm)
    }
    fn hkdf_expand(&self, prk: &[u8; 32], info: &[u8], out: &mut [u8]) {
        struct Len(usize);
        impl hkdf::KeyType for Len {
            fn len(&self) -> usize {
                self.0
            }
        }
        let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, prk);
        prk.expand(&[info], Len(out.len())).unwrap().fill(out).unwrap();
    }
    fn hmac(&self, key: &[u8; 32], data: &[u8]) -> [u8; 32] {
        sign(key, data)
    }
    fn equal(&self, a: &[u8], b: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(a, b).is_ok()
    }
}

pub fn sign(key: &[u8], data: &[u8]) -> [u8; 32] {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().try_into().unwrap()
}
