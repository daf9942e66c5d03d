//! Owns AES-GCM by ring: the records' algorithm. On processors with AVX2 and VAES, but without AVX-512, it takes a third less time than
//! AWS-LC for small records and half for long ones (decision 0014).
//!
//! Wiping: ring does not wipe keys, so they are written over here when they are dropped. Copies that were moved over the stack while
//! a key was made are not.

use record::aead::{Aead, NONCE_LEN, Refused, TAG_LEN};
use ring::aead;
use wire::bytes::copy;

/// One key. Never `Debug`.
pub(super) struct Gcm(aead::LessSafeKey);

impl Gcm {
    /// AES-128-GCM or AES-256-GCM, by the length of `key`.
    pub(super) fn new(key: &[u8]) -> Self {
        Self(made(if key.len() == 16 { &aead::AES_128_GCM } else { &aead::AES_256_GCM }, key))
    }
}

fn made(algorithm: &'static aead::Algorithm, key: &[u8]) -> aead::LessSafeKey {
    aead::LessSafeKey::new(aead::UnboundKey::new(algorithm, key).expect("the length was checked"))
}

impl Drop for Gcm {
    fn drop(&mut self) {
        let zeros = [0; 32];
        self.0 = made(self.0.algorithm(), &zeros[..self.0.algorithm().key_len()]);
        // Else nobody would look at it again, and it need not be written.
        core::hint::black_box(&mut self.0);
    }
}

impl Aead for Gcm {
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], plaintext: &[u8], extra: &[u8], out: &mut [u8]) {
        let len = plaintext.len() + extra.len();
        assert_eq!(out.len(), len + TAG_LEN, "room for ciphertext and tag");
        copy(&mut out[..plaintext.len()], plaintext);
        out[plaintext.len()..len].copy_from_slice(extra);
        self.seal_in_place(nonce, aad, out);
    }

    fn seal_in_place(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], record: &mut [u8]) {
        let (nonce, aad) = (aead::Nonce::assume_unique_for_key(*nonce), aead::Aad::from(aad));
        let (body, end) = record.split_last_chunk_mut::<TAG_LEN>().expect("room for a tag");
        let tag = self.0.seal_in_place_separate_tag(nonce, aad, body).expect("no record is that long");
        end.copy_from_slice(tag.as_ref());
    }

    fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<(), Refused> {
        let (body, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(Refused)?;
        copy(out, body);
        let opened = self.opened(nonce, aad, *tag, out);
        if opened.is_err() {
            out.fill(0);
        }
        opened
    }

    fn open_in_place(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &mut [u8]) -> Result<(), Refused> {
        let (body, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(Refused)?;
        self.opened(nonce, aad, *tag, body)
    }
}

impl Gcm {
    fn opened(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        tag: [u8; TAG_LEN],
        in_out: &mut [u8],
    ) -> Result<(), Refused> {
        let (nonce, aad) = (aead::Nonce::assume_unique_for_key(*nonce), aead::Aad::from(aad));
        self.0.open_in_place_separate_tag(nonce, aad, tag.into(), in_out, 0..).map(drop).map_err(|_| Refused)
    }
}
