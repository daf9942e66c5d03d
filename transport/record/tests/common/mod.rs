//! What the tests of records share: real algorithms by AWS-LC, a provider that writes down every seal, and a sealer that is not
//! the one under test.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{constant_time, hkdf, hmac};
use proptest::prelude::*;
use record::aead::{Aead, Cipher, Crypto, Refused, TAG_LEN};
use record::budget::Limits;
use record::epochs::{Inbound, Outbound};
use record::keys::{Chain, DataKey, Secret, expand_label};
use wire::data::{record_aad, record_header};
use wire::geometry::Geometry;
use wire::ids::{RecordNumber, Side};
use wire::trailer::{Kind, Trailer};

pub const SECRET: [u8; 32] = *b"one secret of thirty-two bytes!!";

pub struct TestCrypto;
pub static CRYPTO: TestCrypto = TestCrypto;

struct Key(LessSafeKey);

impl Aead for Key {
    fn seal(&self, nonce: &[u8; 12], aad: &[u8], plaintext: &[u8], extra: &[u8], out: &mut [u8]) {
        let (ciphertext, tag) = out.split_at_mut(plaintext.len() + extra.len());
        ciphertext[..plaintext.len()].copy_from_slice(plaintext);
        ciphertext[plaintext.len()..].copy_from_slice(extra);
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let made = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), ciphertext).unwrap();
        tag.copy_from_slice(made.as_ref());
    }
    fn seal_in_place(&self, nonce: &[u8; 12], aad: &[u8], record: &mut [u8]) {
        let plaintext = record[..record.len() - TAG_LEN].to_vec();
        self.seal(nonce, aad, &plaintext, &[], record);
    }
    fn open(&self, nonce: &[u8; 12], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<(), Refused> {
        let mut copy = sealed.to_vec();
        out.fill(0xdd);
        self.open_in_place(nonce, aad, &mut copy)?;
        out.copy_from_slice(&copy[..out.len()]);
        Ok(())
    }
    fn open_in_place(&self, nonce: &[u8; 12], aad: &[u8], sealed: &mut [u8]) -> Result<(), Refused> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0.open_in_place(nonce, Aad::from(aad), sealed).map(drop).map_err(|_| Refused)
    }
}

impl Crypto for TestCrypto {
    fn name(&self) -> &'static str {
        "test"
    }
    fn aead(&self, cipher: Cipher, key: &[u8]) -> Box<dyn Aead> {
        let algorithm = match cipher {
            Cipher::Aes128Gcm => &AES_128_GCM,
            Cipher::Aes256Gcm => &AES_256_GCM,
            Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        Box::new(Key(LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap())))
    }
    fn hkdf_extract(&self, salt: &[u8], ikm: &[u8]) -> [u8; 32] {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salt), ikm).as_ref().try_into().unwrap()
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
        self.hkdf_extract(key, data)
    }
    fn equal(&self, a: &[u8], b: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(a, b).is_ok()
    }
}

/// Algorithm and key, nonce: what must never meet two plaintexts.
pub type Use = (Cipher, Vec<u8>, [u8; 12]);

/// Every seal that was ever made: additional data and plaintext, by key and nonce.
pub type Book = Arc<Mutex<BTreeMap<(&'static str, Vec<u8>, [u8; 12]), (Vec<u8>, Vec<u8>)>>>;

/// A provider whose keys write down what they seal, and panic when a nonce meets another plaintext.
#[derive(Default)]
pub struct Audit(pub Book);

struct Audited {
    cipher: Cipher,
    key: Vec<u8>,
    book: Book,
}

impl Aead for Audited {
    fn seal(&self, nonce: &[u8; 12], aad: &[u8], plaintext: &[u8], extra: &[u8], out: &mut [u8]) {
        let sealed = (aad.to_vec(), [plaintext, extra].concat());
        let mut book = self.book.lock().unwrap();
        let before = book.entry((self.cipher.name(), self.key.clone(), *nonce)).or_insert_with(|| sealed.clone());
        assert_eq!(*before, sealed, "a nonce met two plaintexts");
        out.fill(0xcc);
    }
    fn seal_in_place(&self, nonce: &[u8; 12], aad: &[u8], record: &mut [u8]) {
        let plaintext = record[..record.len() - TAG_LEN].to_vec();
        self.seal(nonce, aad, &plaintext, &[], record);
    }
    fn open(&self, _: &[u8; 12], _: &[u8], _: &[u8], _: &mut [u8]) -> Result<(), Refused> {
        Err(Refused)
    }
    fn open_in_place(&self, _: &[u8; 12], _: &[u8], _: &mut [u8]) -> Result<(), Refused> {
        Err(Refused)
    }
}

impl Crypto for Audit {
    fn name(&self) -> &'static str {
        "audit"
    }
    fn aead(&self, cipher: Cipher, key: &[u8]) -> Box<dyn Aead> {
        Box::new(Audited { cipher, key: key.to_vec(), book: Arc::clone(&self.0) })
    }
    fn hkdf_extract(&self, salt: &[u8], ikm: &[u8]) -> [u8; 32] {
        CRYPTO.hkdf_extract(salt, ikm)
    }
    fn hkdf_expand(&self, prk: &[u8; 32], info: &[u8], out: &mut [u8]) {
        CRYPTO.hkdf_expand(prk, info, out);
    }
    fn hmac(&self, key: &[u8; 32], data: &[u8]) -> [u8; 32] {
        CRYPTO.hmac(key, data)
    }
    fn equal(&self, a: &[u8], b: &[u8]) -> bool {
        CRYPTO.equal(a, b)
    }
}

pub fn cipher() -> impl Strategy<Value = Cipher> {
    prop::sample::select(&Cipher::ALL[..])
}

/// The data key of what `sender` seals in epoch 0.
pub fn data_key(cipher: Cipher, sender: Side) -> DataKey {
    Chain::new(&CRYPTO, &Secret::new(SECRET), cipher, sender).data_key(&CRYPTO)
}

/// What `sender` seals with, in epoch 0.
pub fn outbound(cipher: Cipher, sender: Side) -> Outbound {
    Outbound::new(&CRYPTO, &Secret::new(SECRET), cipher, sender, Limits::PROTOCOL)
}

/// What opens that.
pub fn inbound(cipher: Cipher, sender: Side) -> Inbound {
    Inbound::new(&CRYPTO, &Secret::new(SECRET), cipher, sender)
}

/// `length` bytes in records of `payload`.
pub fn trailer(kind: Kind, length: usize, payload: u16) -> Trailer {
    let geometry = Geometry::stated(length as u32, payload).unwrap();
    Trailer::new(geometry, kind)
}

/// Bytes that tell where they belong.
pub fn body(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 251) as u8 | 1).collect()
}

/// Seals any plaintext under any number, as the specification says it and without the code under test: what a faulty peer
/// can do, who has the keys. [P-4.1]
pub fn forge(cipher: Cipher, sender: Side, number: RecordNumber, plaintext: &[u8]) -> Vec<u8> {
    let expand = |secret: &Secret, label: &[u8], len: usize| {
        let mut out = vec![0; len];
        expand_label(&CRYPTO, secret, label, b"", &mut out);
        out
    };
    let label: &[u8] = if sender == Side::Client { b"c traffic" } else { b"s traffic" };
    let traffic = Secret::new(expand(&Secret::new(SECRET), label, 32).try_into().unwrap());
    let key = CRYPTO.aead(cipher, &expand(&traffic, b"data key", cipher.key_len()));
    let mut nonce: [u8; 12] = expand(&traffic, b"data iv", 12).try_into().unwrap();
    for (place, byte) in nonce[4..].iter_mut().zip(number.as_u64().to_be_bytes()) {
        *place = if cipher == Cipher::ChaCha20Poly1305 { *place ^ byte } else { byte };
    }
    let mut out = record_header(number, plaintext.len()).to_vec();
    let at = out.len();
    out.resize(at + plaintext.len() + 16, 0);
    key.seal(&nonce, &record_aad(number, plaintext.len()), plaintext, &[], &mut out[at..]);
    out
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
