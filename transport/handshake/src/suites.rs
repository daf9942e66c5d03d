//! Owns the suites of TLS as our handshakes use them: AWS-LC's hashes and packet keys, the key schedule of `schedule`, and nothing that
//! protects what we do not have.
//!
//! rustls runs as it does for QUIC, and then makes keys for its record layer all the same, for QUIC's headers, and for QUIC's packets after
//! the handshake. There are no such records, headers and packets here. What would protect them refuses to, so its keys need not be
//! derived, and cannot be used by mistake either.

use std::sync::LazyLock;

use record::aead::Cipher;
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundOpaqueMessage,
    OutboundPlainMessage, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::crypto::tls13::Hkdf;
use rustls::quic::{Algorithm, HeaderProtectionKey, PacketKey, Tag};
use rustls::{CipherSuiteCommon, ConnectionTrafficSecrets, Error, SupportedCipherSuite, Tls13CipherSuite};

use crate::schedule::{HKDF_SHA256, HKDF_SHA384, packet_keys_are_void};

/// The suite whose records are sealed with `cipher`.
pub(crate) fn suite(cipher: Cipher) -> SupportedCipherSuite {
    SupportedCipherSuite::Tls13(match cipher {
        Cipher::Aes128Gcm => &AES_128,
        Cipher::Aes256Gcm => &AES_256,
        Cipher::ChaCha20Poly1305 => &CHACHA20,
    })
}

static AES_128: LazyLock<Tls13CipherSuite> =
    LazyLock::new(|| made(cipher_suite::TLS13_AES_128_GCM_SHA256, &HKDF_SHA256, &PACKETS[0]));
static AES_256: LazyLock<Tls13CipherSuite> =
    LazyLock::new(|| made(cipher_suite::TLS13_AES_256_GCM_SHA384, &HKDF_SHA384, &PACKETS[1]));
static CHACHA20: LazyLock<Tls13CipherSuite> =
    LazyLock::new(|| made(cipher_suite::TLS13_CHACHA20_POLY1305_SHA256, &HKDF_SHA256, &PACKETS[2]));

/// What makes the packet keys of each.
static PACKETS: [Packets; 3] = [
    Packets(cipher_suite::TLS13_AES_128_GCM_SHA256),
    Packets(cipher_suite::TLS13_AES_256_GCM_SHA384),
    Packets(cipher_suite::TLS13_CHACHA20_POLY1305_SHA256),
];

fn made(theirs: SupportedCipherSuite, hkdf_provider: &'static dyn Hkdf, packets: &'static Packets) -> Tls13CipherSuite {
    let common = &theirs.tls13().expect("a suite of TLS 1.3").common;
    let common = CipherSuiteCommon {
        suite: common.suite,
        hash_provider: common.hash_provider,
        confidentiality_limit: common.confidentiality_limit,
    };
    Tls13CipherSuite { common, hkdf_provider, aead_alg: &NoRecords, quic: Some(packets) }
}

/// Packet keys as that suite has them.
struct Packets(SupportedCipherSuite);

impl Packets {
    fn theirs(&self) -> &'static dyn Algorithm {
        self.0.tls13().and_then(|suite| suite.quic).expect("AWS-LC's suites have packet keys")
    }
}

impl Algorithm for Packets {
    fn packet_key(&self, key: AeadKey, iv: Iv) -> Box<dyn PacketKey> {
        if packet_keys_are_void() { Box::new(Void) } else { self.theirs().packet_key(key, iv) }
    }

    fn header_protection_key(&self, _: AeadKey) -> Box<dyn HeaderProtectionKey> {
        Box::new(Void)
    }

    fn aead_key_len(&self) -> usize {
        self.theirs().aead_key_len()
    }
}

/// The record layer that we do not have.
struct NoRecords;

impl Tls13AeadAlgorithm for NoRecords {
    fn encrypter(&self, _: AeadKey, _: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(Void)
    }

    fn decrypter(&self, _: AeadKey, _: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(Void)
    }

    fn key_len(&self) -> usize {
        0
    }

    fn extract_keys(&self, _: AeadKey, _: Iv) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Err(UnsupportedOperationError)
    }
}

/// A key that was never derived: it refuses all.
struct Void;

impl MessageEncrypter for Void {
    fn encrypt(&mut self, _: OutboundPlainMessage<'_>, _: u64) -> Result<OutboundOpaqueMessage, Error> {
        Err(Error::EncryptError)
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        payload_len
    }
}

impl MessageDecrypter for Void {
    fn decrypt<'a>(&mut self, _: InboundOpaqueMessage<'a>, _: u64) -> Result<InboundPlainMessage<'a>, Error> {
        Err(Error::DecryptError)
    }
}

impl HeaderProtectionKey for Void {
    fn encrypt_in_place(&self, _: &[u8], _: &mut u8, _: &mut [u8]) -> Result<(), Error> {
        Err(Error::EncryptError)
    }

    fn decrypt_in_place(&self, _: &[u8], _: &mut u8, _: &mut [u8]) -> Result<(), Error> {
        Err(Error::DecryptError)
    }

    fn sample_len(&self) -> usize {
        16
    }
}

impl PacketKey for Void {
    fn encrypt_in_place(&self, _: u64, _: &[u8], _: &mut [u8]) -> Result<Tag, Error> {
        Err(Error::EncryptError)
    }

    fn decrypt_in_place<'a>(&self, _: u64, _: &[u8], _: &'a mut [u8]) -> Result<&'a [u8], Error> {
        Err(Error::DecryptError)
    }

    fn tag_len(&self) -> usize {
        16
    }

    fn confidentiality_limit(&self) -> u64 {
        0
    }

    fn integrity_limit(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::without_packet_keys;

    fn key() -> AeadKey {
        AeadKey::from([3; 32])
    }

    /// What nobody needs cannot be used: a key whose bytes were never derived seals nothing and opens nothing.
    #[test]
    fn void_keys_refuse() {
        for cipher in Cipher::ALL {
            let suite = suite(cipher).tls13().unwrap();
            let (quic, iv) = (suite.quic.unwrap(), || Iv::from([5; 12]));
            let sealed = |key: &dyn PacketKey| key.encrypt_in_place(0, b"head", &mut [1, 2, 3]).is_ok();
            if quic.aead_key_len() == 32 {
                assert!(sealed(&*quic.packet_key(key(), iv())), "{cipher}");
            }
            let void = without_packet_keys(|| quic.packet_key(key(), iv()));
            assert!(!sealed(&*void) && void.decrypt_in_place(0, b"head", &mut [0; 20]).is_err());
            let header = quic.header_protection_key(key());
            assert!(header.encrypt_in_place(&[0; 16], &mut 0, &mut [0; 4]).is_err());
            assert!(header.decrypt_in_place(&[0; 16], &mut 0, &mut [0; 4]).is_err());
            assert!(suite.aead_alg.extract_keys(key(), iv()).is_err() && suite.aead_alg.key_len() == 0);
        }
    }
}
