//! Owns the algorithms by AWS-LC, the default: all but AES-GCM of short records, which is in `gcm`, and HMAC of short texts, which is in
//! `mac`.
//!
//! Sealing and opening go from one buffer to another, so the copy into or out of a packet costs nothing extra.
//!
//! Wiping: AWS-LC wipes AEAD keys and HMAC states when they are freed; what it computed in registers it cannot. What a caller passes in
//! or gets back, the caller wipes.

use std::sync::OnceLock;

use aws_lc_rs::{aead, constant_time, hmac};
use record::aead::{Aead, Cipher, Crypto, NONCE_LEN, Refused, TAG_LEN};
use zeroize::Zeroizing;

use super::gcm::Gcm;
use super::mac;

/// The provider.
pub static PROVIDER: AwsLc = AwsLc;

/// The algorithms of AWS-LC.
#[derive(Clone, Copy, Debug)]
pub struct AwsLc;

impl Crypto for AwsLc {
    fn name(&self) -> &'static str {
        "aws-lc"
    }

    fn aead(&self, cipher: Cipher, key: &[u8]) -> Box<dyn Aead> {
        assert_eq!(key.len(), cipher.key_len(), "a key of {cipher}");
        match cipher {
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => Box::new(AesGcm::new(key)),
            Cipher::ChaCha20Poly1305 => Box::new(Key::new(&aead::CHACHA20_POLY1305, key)),
        }
    }

    fn hkdf_extract(&self, salt: &[u8], ikm: &[u8]) -> [u8; 32] {
        // RFC 5869 2.2 defines Extract as just this; HMAC pads an absent salt with the zeros that it asks for.
        sign(salt, ikm)
    }

    fn hkdf_expand(&self, prk: &[u8; 32], info: &[u8], out: &mut [u8]) {
        mac::hkdf_expand(prk, &mut [(info, out)]);
    }

    fn hkdf_expand_each(&self, prk: &[u8; 32], pieces: &mut [(&[u8], &mut [u8])]) {
        mac::hkdf_expand(prk, pieces);
    }

    fn hmac(&self, key: &[u8; 32], data: &[u8]) -> [u8; 32] {
        sign(key, data)
    }

    fn equal(&self, a: &[u8], b: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(a, b).is_ok()
    }
}

/// HMAC-SHA256. Long texts by AWS-LC, whose assembly is as fast on processors without instructions for SHA-256; short ones
/// without the context that it makes for each.
fn sign(key: &[u8], data: &[u8]) -> [u8; 32] {
    if data.len() <= mac::SHORT_MAX {
        return mac::hmac(key, data);
    }
    // Straight into the array that is returned: a `Tag` would stay on the stack unwiped.
    let mut out = [0; 32];
    hmac::sign_to_buffer(&hmac::Key::new(hmac::HMAC_SHA256, key), data, &mut out).expect("32 bytes hold a SHA-256");
    out
}

/// Up to here a plaintext with something extra is copied together before it is sealed.
///
/// AWS-LC's fused code takes one buffer; the extra bytes are done apart, for 110 ns at 64 B and 230 ns at 1,400 B (measured), which a
/// copy of a few cache lines beats.
const COPIED_BYTES_MAX: usize = 2048;

/// See [`super::warm_up`].
pub(super) fn warm_up() {
    // A failure shows where randomness is needed; here it only means that nothing was won.
    let _ = aws_lc_rs::rand::fill(&mut [0; 16]);
}

/// Whether the processor does AES on registers of 512 bits, for which only AWS-LC has code.
#[cfg(target_arch = "x86_64")]
fn has_wide_aes() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("vaes") && has!("vpclmulqdq")
}

/// Whether the processor does AES on registers of 512 bits, for which only AWS-LC has code.
#[cfg(not(target_arch = "x86_64"))]
fn has_wide_aes() -> bool {
    false
}

/// From so many bytes on AWS-LC's code for wide registers is the faster one (decision 0014).
const WIDE_BYTES_MIN: usize = 1280;

/// One key of AES-GCM: ring's for short records, AWS-LC's for long ones where the registers are wide. Each is made for the first record
/// that wants it: of the four keys of a session two seal and open control packets, which short conversations have none of.
/// Never `Debug`.
struct AesGcm {
    secret: Zeroizing<[u8; 32]>,
    len: usize,
    wide_from: usize,
    short: OnceLock<Gcm>,
    long: OnceLock<Key>,
}

impl AesGcm {
    fn new(key: &[u8]) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        secret[..key.len()].copy_from_slice(key);
        let wide_from = if has_wide_aes() { WIDE_BYTES_MIN } else { usize::MAX };
        Self { secret, len: key.len(), wide_from, short: OnceLock::new(), long: OnceLock::new() }
    }

    #[inline]
    fn by(&self, bytes: usize) -> &dyn Aead {
        let key = || &self.secret[..self.len];
        if bytes < self.wide_from {
            return self.short.get_or_init(|| Gcm::new(key()));
        }
        let algorithm = if self.len == 16 { &aead::AES_128_GCM } else { &aead::AES_256_GCM };
        self.long.get_or_init(|| Key::new(algorithm, key()))
    }
}

impl Aead for AesGcm {
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], plaintext: &[u8], extra: &[u8], out: &mut [u8]) {
        self.by(plaintext.len()).seal(nonce, aad, plaintext, extra, out);
    }

    fn seal_in_place(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], record: &mut [u8]) {
        self.by(record.len()).seal_in_place(nonce, aad, record);
    }

    fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<(), Refused> {
        self.by(sealed.len()).open(nonce, aad, sealed, out)
    }

    fn open_in_place(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &mut [u8]) -> Result<(), Refused> {
        self.by(sealed.len()).open_in_place(nonce, aad, sealed)
    }
}

/// One key of AWS-LC. Never `Debug`.
struct Key(aead::LessSafeKey);

impl Key {
    fn new(algorithm: &'static aead::Algorithm, key: &[u8]) -> Self {
        Self(aead::LessSafeKey::new(aead::UnboundKey::new(algorithm, key).expect("the length was checked")))
    }
}

impl Aead for Key {
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], plaintext: &[u8], extra: &[u8], out: &mut [u8]) {
        assert_eq!(out.len(), plaintext.len() + extra.len() + TAG_LEN, "room for ciphertext and tag");
        let (nonce, aad) = (aead::Nonce::assume_unique_for_key(*nonce), aead::Aad::from(aad));
        let (body, rest) = out.split_at_mut(plaintext.len());
        let sealed = if extra.is_empty() || plaintext.len() > COPIED_BYTES_MAX {
            self.0.seal_out_of_place_scatter(nonce, aad, plaintext, body, extra, rest)
        } else {
            body.copy_from_slice(plaintext);
            rest[..extra.len()].copy_from_slice(extra);
            let (body, tag) = out.split_at_mut(plaintext.len() + extra.len());
            self.0.seal_in_place_scatter(nonce, aad, body, &[], tag)
        };
        sealed.expect("the lengths were checked");
    }

    fn seal_in_place(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], record: &mut [u8]) {
        let (nonce, aad) = (aead::Nonce::assume_unique_for_key(*nonce), aead::Aad::from(aad));
        let (body, tag) = record.split_last_chunk_mut::<TAG_LEN>().expect("room for a tag");
        self.0.seal_in_place_scatter(nonce, aad, body, &[], tag).expect("no record is that long");
    }

    fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<(), Refused> {
        let (body, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(Refused)?;
        assert_eq!(out.len(), body.len(), "room for the plaintext, exactly");
        let (nonce, aad) = (aead::Nonce::assume_unique_for_key(*nonce), aead::Aad::from(aad));
        // On a bad tag AWS-LC zeroes `out`.
        self.0.open_separate_gather(nonce, aad, body, tag, out).map_err(|_| Refused)
    }

    fn open_in_place(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &mut [u8]) -> Result<(), Refused> {
        let (body, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(Refused)?;
        let (nonce, aad) = (aead::Nonce::assume_unique_for_key(*nonce), aead::Aad::from(aad));
        self.0.open_in_place_separate_tag(nonce, aad, tag, body).map(drop).map_err(|_| Refused)
    }
}
