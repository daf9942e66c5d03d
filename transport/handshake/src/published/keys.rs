//! Owns what both sides derive from the secret of a first flight by published ticket. [P-6.11]
//!
//! The key of the flight's requests mixes in the client's first message, whole: its key share, or its nonce. Who puts somebody else's
//! opening into a message of its own has another key than the requests that were recorded with it.

use record::aead::Crypto;
use record::keys::{SECRET_LEN, Secret, expand_label};
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384;
use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::quic::PacketKey;
use zeroize::Zeroizing;

/// What all keys of one flight come from.
#[derive(Clone)]
pub(crate) struct Root(Secret);

impl Root {
    /// From the client's fresh secret.
    pub(crate) fn new(crypto: &dyn Crypto, secret: &[u8; 32]) -> Self {
        Self(Secret::new(crypto.hkdf_extract(b"sealane/1 published", secret)))
    }

    pub(crate) const fn secret(&self) -> &Secret {
        &self.0
    }
}

/// The key of the flight's requests. `first` is the client's first message.
pub(crate) fn early_key(crypto: &dyn Crypto, root: &Root, first: &[u8]) -> Box<dyn PacketKey> {
    let mixed = Secret::new(crypto.hkdf_extract(root.0.expose(), first));
    packet_key(crypto, &mixed, b"pub c early key", b"pub c early iv")
}

/// The key of the server's early responses where there is no TLS: `mixed` has the server's fresh nonce in it.
pub(crate) fn reply_key(crypto: &dyn Crypto, mixed: &Secret) -> Box<dyn PacketKey> {
    packet_key(crypto, mixed, b"pub s early key", b"pub s early iv")
}

fn packet_key(crypto: &dyn Crypto, secret: &Secret, key_label: &[u8], iv_label: &[u8]) -> Box<dyn PacketKey> {
    let (mut key, mut iv) = (Zeroizing::new([0; SECRET_LEN]), Zeroizing::new([0; 12]));
    expand_label(crypto, secret, key_label, b"", &mut *key);
    expand_label(crypto, secret, iv_label, b"", &mut *iv);
    let quic = TLS13_AES_256_GCM_SHA384.tls13().and_then(|suite| suite.quic).expect("that suite seals QUIC's packets");
    quic.packet_key(AeadKey::from(*key), Iv::from(*iv))
}
