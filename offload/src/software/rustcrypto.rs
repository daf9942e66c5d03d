//! Owns the algorithms by the RustCrypto crates: no C, no assembly, for places where AWS-LC does not build.
//!
//! Slower than AWS-LC, ChaCha20-Poly1305 on small records by far. These ciphers take one buffer, so sealing copies first
//! and then encrypts in place; opening goes from buffer to buffer.
//!
//! Wiping: AEAD keys, key schedules and hash states are wiped on drop (their `zeroize` features). What the compiler
//! moved or spilled on the way is not, nor is the one-time Poly1305 state of a record. What a caller passes in or gets
//! back, the caller wipes.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit, Tag, consts};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use chacha20poly1305::ChaCha20Poly1305;
use ctutils::CtEq;
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use record::aead::{Aead, Cipher, Crypto, NONCE_LEN, Refused, TAG_LEN};
use sha2::Sha256;
use zeroize::Zeroize;

/// The provider.
pub static PROVIDER: RustCrypto = RustCrypto;

/// The algorithms of the RustCrypto crates.
#[derive(Clone, Copy, Debug)]
pub struct RustCrypto;

impl Crypto for RustCrypto {
    fn name(&self) -> &'static str {
        "rustcrypto"
    }

    fn aead(&self, cipher: Cipher, key: &[u8]) -> Box<dyn Aead> {
        match cipher {
            Cipher::Aes128Gcm => Box::new(Key::<Aes128Gcm>::new(cipher, key)),
            Cipher::Aes256Gcm => Box::new(Key::<Aes256Gcm>::new(cipher, key)),
            Cipher::ChaCha20Poly1305 => Box::new(Key::<ChaCha20Poly1305>::new(cipher, key)),
        }
    }

    fn hkdf_extract(&self, salt: &[u8], ikm: &[u8]) -> [u8; 32] {
        // RFC 5869 2.2 defines Extract as just this; HMAC pads an absent salt with the zeros that it asks for.
        sign(salt, ikm)
    }

    fn hkdf_expand(&self, prk: &[u8; 32], info: &[u8], out: &mut [u8]) {
        let hkdf = Hkdf::<Sha256>::from_prk(prk).expect("32 bytes are a SHA-256");
        hkdf.expand(info, out).expect("at most 255 * 32 bytes");
    }

    fn hmac(&self, key: &[u8; 32], data: &[u8]) -> [u8; 32] {
        sign(key, data)
    }

    fn equal(&self, a: &[u8], b: &[u8]) -> bool {
        a.ct_eq(b).into()
    }
}

/// HMAC-SHA256.
fn sign(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut hmac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).expect("any length is a key");
    hmac.update(data);
    hmac.finalize().into_bytes().into()
}

/// One key. Never `Debug`.
struct Key<C>(C);

impl<C: KeyInit> Key<C> {
    fn new(cipher: Cipher, key: &[u8]) -> Self {
        assert_eq!(key.len(), cipher.key_len(), "a key of {cipher}");
        Self(C::new_from_slice(key).expect("the length was checked"))
    }
}

impl<C> Aead for Key<C>
where
    C: AeadInOut<NonceSize = consts::U12, TagSize = consts::U16> + Send + Sync,
{
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], plaintext: &[u8], extra: &[u8], out: &mut [u8]) {
        assert_eq!(out.len(), plaintext.len() + extra.len() + TAG_LEN, "room for ciphertext and tag");
        out[..plaintext.len()].copy_from_slice(plaintext);
        out[plaintext.len()..plaintext.len() + extra.len()].copy_from_slice(extra);
        self.seal_in_place(nonce, aad, out);
    }

    fn seal_in_place(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], record: &mut [u8]) {
        let (body, tag) = record.split_last_chunk_mut::<TAG_LEN>().expect("room for a tag");
        let sealed = self.0.encrypt_inout_detached(nonce.into(), aad, body.into());
        *tag = sealed.expect("no record is 2^36 bytes long").into();
    }

    fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<(), Refused> {
        let (body, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(Refused)?;
        let buffers = InOutBuf::new(body, out).expect("room for the plaintext, exactly");
        let tag: &Tag<C> = tag.into();
        self.0.decrypt_inout_detached(nonce.into(), aad, buffers, tag).map_err(|_| {
            // Nothing was written. Zeroes all the same: what an engine leaves behind must not tell engines apart.
            out.zeroize();
            Refused
        })
    }

    fn open_in_place(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &mut [u8]) -> Result<(), Refused> {
        let (body, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(Refused)?;
        let tag: &Tag<C> = (&*tag).into();
        self.0.decrypt_inout_detached(nonce.into(), aad, (&mut *body).into(), tag).map_err(|_| {
            body.zeroize();
            Refused
        })
    }
}
