//! Owns what an algorithm must offer: [`Aead`] seals and opens, [`Crypto`] makes keys for it.
//!
//! Implementations live above, in `offload`; this layer never names a cryptographic library.

use alloc::boxed::Box;
use core::fmt;

/// Bytes of every nonce (RFC 5116 section 5).
pub const NONCE_LEN: usize = 12;
/// Bytes of every tag.
pub const TAG_LEN: usize = 16;

/// The AEAD algorithms a session may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// AES-128-GCM, the default: fastest, and what NICs offer.
    Aes128Gcm,
    /// AES-256-GCM.
    Aes256Gcm,
    /// ChaCha20-Poly1305, for machines without AES instructions.
    ChaCha20Poly1305,
}

impl Cipher {
    /// All of them, in the order of preference.
    pub const ALL: [Self; 3] = [Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];

    /// Bytes of a key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }

    /// The name as RFC 5116 and RFC 8439 write it, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes-128-gcm",
            Self::Aes256Gcm => "aes-256-gcm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tag did not verify. Says nothing more on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// One key of one algorithm.
pub trait Aead: Send + Sync {
    /// Seals `plaintext` followed by `extra` into `out`, whose length is that of both plus [`TAG_LEN`].
    ///
    /// # Panics
    /// When the lengths do not fit: that is a bug of the caller, never of a peer.
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], plaintext: &[u8], extra: &[u8], out: &mut [u8]);

    /// Seals all of `record` but the last [`TAG_LEN`] bytes in place; the tag goes there.
    ///
    /// # Panics
    /// When it is shorter than a tag.
    fn seal_in_place(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], record: &mut [u8]);

    /// Opens `sealed` (ciphertext, then tag) into `out`, which is [`TAG_LEN`] bytes shorter.
    ///
    /// # Errors
    /// [`Refused`] when the tag does not verify; `out` then holds no plaintext.
    fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<(), Refused>;

    /// Opens `sealed` in place; the plaintext is all of it but the last [`TAG_LEN`] bytes.
    ///
    /// # Errors
    /// [`Refused`] when the tag does not verify; `sealed` then holds no plaintext.
    fn open_in_place(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &mut [u8]) -> Result<(), Refused>;
}

/// A provider of algorithms: keys of [`Aead`], and the hash functions that keys are derived with.
pub trait Crypto: Send + Sync {
    /// What it is called in reports.
    fn name(&self) -> &'static str;
    /// A key. `key` has [`Cipher::key_len`] bytes.
    fn aead(&self, cipher: Cipher, key: &[u8]) -> Box<dyn Aead>;
    /// HKDF-Extract with SHA-256 (RFC 5869).
    fn hkdf_extract(&self, salt: &[u8], ikm: &[u8]) -> [u8; 32];
    /// HKDF-Expand with SHA-256 (RFC 5869); `out` holds at most 255 * 32 bytes.
    fn hkdf_expand(&self, prk: &[u8; 32], info: &[u8], out: &mut [u8]);

    /// [`Self::hkdf_expand`] of several pieces of one `prk`, which is taken in once where that saves something.
    fn hkdf_expand_each(&self, prk: &[u8; 32], pieces: &mut [(&[u8], &mut [u8])]) {
        for (info, out) in pieces {
            self.hkdf_expand(prk, info, out);
        }
    }
    /// HMAC-SHA256.
    fn hmac(&self, key: &[u8; 32], data: &[u8]) -> [u8; 32];
    /// Whether two byte strings are equal, in a time that depends on their lengths only.
    fn equal(&self, a: &[u8], b: &[u8]) -> bool;
}
