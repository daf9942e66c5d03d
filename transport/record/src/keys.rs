//! Owns the key schedule: one secret of a session becomes, per direction and epoch, a data key and a control key. [P-6.3]
//! Which epochs live, and what each may still protect, is in `epochs`.
//!
//! The secret comes from the TLS exporter or from an installed session. Every step is HKDF-Expand-Label (RFC 8446 section
//! 7.1) with the prefix `sealane1 `, so no key of ours equals a key of TLS. Secrets are wiped when dropped; nothing here
//! prints them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use wire::ids::{RecordNumber, Side};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::aead::{Aead, Cipher, Crypto, NONCE_LEN};

/// Bytes of every secret.
pub const SECRET_LEN: usize = 32;

/// A secret of the schedule.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; SECRET_LEN]);

impl Secret {
    /// Takes over secret bytes.
    pub const fn new(bytes: [u8; SECRET_LEN]) -> Self {
        Self(bytes)
    }

    /// For the next derivation only.
    pub const fn expose(&self) -> &[u8; SECRET_LEN] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// HKDF-Expand-Label with our prefix (RFC 8446 section 7.1). [P-6.3]
///
/// # Panics
/// When label or context are longer than the encoding allows: both are constants of ours.
pub fn expand_label(crypto: &dyn Crypto, secret: &Secret, label: &[u8], context: &[u8], out: &mut [u8]) {
    let (info, n) = label_info(label, context, out.len());
    crypto.hkdf_expand(secret.expose(), &info[..n], out);
}

/// What HKDF-Expand-Label gives to HKDF-Expand, and how long it is.
fn label_info(label: &[u8], context: &[u8], len: usize) -> ([u8; 2 + 1 + 64 + 1 + 64], usize) {
    const PREFIX: &[u8] = b"sealane1 ";
    let mut info = [0; 2 + 1 + 64 + 1 + 64];
    let mut w = wire::bytes::Writer::new(&mut info);
    assert!(PREFIX.len() + label.len() <= 64 && context.len() <= 64, "label or context too long");
    w.u16(len as u16);
    w.u8((PREFIX.len() + label.len()) as u8);
    w.put(PREFIX);
    w.put(label);
    w.u8(context.len() as u8);
    w.put(context);
    let n = w.len();
    (info, n)
}

fn derive(crypto: &dyn Crypto, secret: &Secret, label: &[u8]) -> Secret {
    let mut bytes = [0; SECRET_LEN];
    expand_label(crypto, secret, label, b"", &mut bytes);
    Secret::new(bytes)
}

/// The chain of secrets of one direction: one per epoch, each from the one before. [P-6.5]
#[derive(Clone, Debug)]
pub struct Chain {
    cipher: Cipher,
    secret: Secret,
    epoch: u64,
}

impl Chain {
    /// The chain of what `sender` seals, at epoch 0.
    pub fn new(crypto: &dyn Crypto, session: &Secret, cipher: Cipher, sender: Side) -> Self {
        let label: &[u8] = match sender {
            Side::Client => b"c traffic",
            Side::Server => b"s traffic",
        };
        Self { cipher, secret: derive(crypto, session, label), epoch: 0 }
    }

    /// The epoch that the keys are of.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Goes to the next epoch; the secret of this one is gone for good.
    pub fn advance(&mut self, crypto: &dyn Crypto) {
        self.secret = derive(crypto, &self.secret, b"epoch");
        self.epoch += 1;
    }

    /// The algorithm of its keys.
    pub(crate) const fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// What the keys of this epoch are made of.
    pub(crate) fn key_bytes(&self, crypto: &dyn Crypto) -> KeyBytes {
        let mut bytes =
            KeyBytes { data: [0; 32], data_iv: [0; NONCE_LEN], control: [0; 32], control_iv: [0; NONCE_LEN] };
        let used = self.cipher.key_len();
        let infos = [(&b"data key"[..], used), (b"data iv", NONCE_LEN), (b"ctl key", used), (b"ctl iv", NONCE_LEN)]
            .map(|(label, len)| label_info(label, b"", len));
        let [data, data_iv, control, control_iv] = infos.each_ref().map(|(info, n)| &info[..*n]);
        crypto.hkdf_expand_each(
            self.secret.expose(),
            &mut [
                (data, &mut bytes.data[..used]),
                (data_iv, &mut bytes.data_iv),
                (control, &mut bytes.control[..used]),
                (control_iv, &mut bytes.control_iv),
            ],
        );
        bytes
    }

    /// What seals data in this epoch.
    pub fn data_key(&self, crypto: &dyn Crypto) -> DataKey {
        self.key_bytes(crypto).data_key(crypto, self.cipher)
    }

    /// What seals control packets in this epoch.
    pub fn control_key(&self, crypto: &dyn Crypto) -> ControlKey {
        self.key_bytes(crypto).control_key(crypto, self.cipher)
    }

    /// The data key of this epoch as a device has to know it, with the first four bytes of each nonce.
    pub fn device_key(&self, crypto: &dyn Crypto) -> (Cipher, Zeroizing<Vec<u8>>, [u8; 4]) {
        let bytes = self.key_bytes(crypto);
        let [a, b, c, d, ..] = bytes.data_iv;
        (self.cipher, Zeroizing::new(bytes.data[..self.cipher.key_len()].to_vec()), [a, b, c, d])
    }
}

/// What the two keys of one direction and epoch are made of: contexts are made from it without a derivation. [P-6.3]
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct KeyBytes {
    data: [u8; 32],
    data_iv: [u8; NONCE_LEN],
    control: [u8; 32],
    control_iv: [u8; NONCE_LEN],
}

impl KeyBytes {
    pub(crate) fn data_key(&self, crypto: &dyn Crypto, cipher: Cipher) -> DataKey {
        DataKey { aead: crypto.aead(cipher, &self.data[..cipher.key_len()]), iv: self.data_iv, cipher }
    }

    pub(crate) fn control_key(&self, crypto: &dyn Crypto, cipher: Cipher) -> ControlKey {
        ControlKey { aead: crypto.aead(cipher, &self.control[..cipher.key_len()]), iv: self.control_iv }
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBytes(..)")
    }
}

/// The key of the data records of one direction and epoch.
pub struct DataKey {
    aead: Box<dyn Aead>,
    iv: [u8; NONCE_LEN],
    cipher: Cipher,
}

impl DataKey {
    /// The nonce of `number`: salt and explicit nonce for GCM (RFC 5288), as RFC 7905 has it for ChaCha20-Poly1305. [P-4.1]
    ///
    /// Either way it is a bijection of the record number, so a number used once is a nonce used once.
    pub(crate) fn nonce(&self, number: RecordNumber) -> [u8; NONCE_LEN] {
        let number = number.as_u64().to_be_bytes();
        let mut nonce = self.iv;
        match self.cipher {
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => nonce[4..].copy_from_slice(&number),
            Cipher::ChaCha20Poly1305 => nonce[4..].iter_mut().zip(number).for_each(|(a, b)| *a ^= b),
        }
        nonce
    }

    pub(crate) fn aead(&self) -> &dyn Aead {
        &*self.aead
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({})", self.cipher)
    }
}

/// The key of the control packets of one direction and epoch.
pub struct ControlKey {
    aead: Box<dyn Aead>,
    iv: [u8; NONCE_LEN],
}

impl ControlKey {
    /// IV xor packet number (RFC 9001 section 5.3). [P-5.3]
    pub(crate) fn nonce(&self, number: u64) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        nonce[4..].iter_mut().zip(number.to_be_bytes()).for_each(|(a, b)| *a ^= b);
        nonce
    }

    pub(crate) fn aead(&self) -> &dyn Aead {
        &*self.aead
    }
}

impl fmt::Debug for ControlKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ControlKey(..)")
    }
}
