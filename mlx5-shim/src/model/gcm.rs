//! Owns what the model needs of a cipher. It has none of its own: whoever makes a model brings one, and can watch what is sealed.

use std::fmt;

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 12;
/// Bytes of a tag.
pub const TAG_LEN: usize = 16;

/// AES-GCM.
pub trait Gcm: Send {
    /// A key, of 16 or 32 bytes.
    fn key(&self, key: &[u8]) -> Box<dyn GcmKey>;
}

/// One key of it.
pub trait GcmKey: Send {
    /// Seals `text` in place, and gives the tag.
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN];
}

impl fmt::Debug for dyn Gcm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gcm")
    }
}

impl fmt::Debug for dyn GcmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GcmKey(..)")
    }
}
