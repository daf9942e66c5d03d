//! Owns the cipher that a modelled card is given: the software engine's own, so that whoever watches that engine sees what the card seals.

use mlx5_shim::model::{Gcm, GcmKey, NONCE_LEN, TAG_LEN};
use record::aead::{Aead, Cipher, Crypto};

/// AES-GCM of a provider.
pub struct Provided(pub &'static dyn Crypto);

struct Key(Box<dyn Aead>);

impl Gcm for Provided {
    fn key(&self, key: &[u8]) -> Box<dyn GcmKey> {
        let cipher = if key.len() == 16 { Cipher::Aes128Gcm } else { Cipher::Aes256Gcm };
        Box::new(Key(self.0.aead(cipher, key)))
    }
}

impl GcmKey for Key {
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
        let mut sealed = vec![0; text.len() + TAG_LEN];
        self.0.seal(nonce, aad, text, &[], &mut sealed);
        text.copy_from_slice(&sealed[..text.len()]);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&sealed[text.len()..]);
        tag
    }
}

impl std::fmt::Debug for Provided {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Provided({})", self.0.name())
    }
}
