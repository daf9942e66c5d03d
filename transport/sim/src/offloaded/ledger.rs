//! Owns the ledger of seals: every key, nonce and who sealed with it, processor or card. What a card sealed nobody seals again, not even to
//! the same bytes: a card that lost count makes another tag of them. [P-3.5]
//!
//! It stands between endpoints or cards and the cipher, so that it sees what is really used. It is of the thread.

use std::cell::RefCell;

use offload::software::{crypto, rustcrypto};
use record::aead::{Aead, Cipher, Crypto, NONCE_LEN, Refused};
use wire::limits::CONTROL_HEADER_LEN;

use crate::rng::{FastMap, mix};

/// Who seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sealer {
    Processor,
    Card,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Records that processors sealed, repeats included.
    pub by_processor: u64,
    /// Records that cards sealed, those that never left included.
    pub by_card: u64,
    /// Numbers that a card sealed and that were sealed before or after, by anybody, under the same key. None, or something is wrong.
    pub twice: u64,
    /// Numbers that processors sealed to different bytes. None, or something is wrong.
    pub differing: u64,
}

#[derive(Debug, Default)]
struct Ledger {
    seen: Seen,
    /// By key and nonce: who, and what came out.
    seals: FastMap<u64, (u8, u64)>,
}

thread_local! {
    static LEDGER: RefCell<Ledger> = RefCell::new(Ledger::default());
}

/// Begins a ledger in this thread.
pub fn begin() {
    LEDGER.set(Ledger::default());
}

/// What it has seen.
pub fn seen() -> Seen {
    LEDGER.with_borrow(|ledger| ledger.seen)
}

fn digest(start: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(start, |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(sum.rotate_left(7) ^ u64::from_le_bytes(word)).wrapping_add(chunk.len() as u64)
    })
}

impl Ledger {
    fn seal(&mut self, sealer: Sealer, place: u64, sealed: u64) {
        let card = sealer == Sealer::Card;
        *(if card { &mut self.seen.by_card } else { &mut self.seen.by_processor }) += 1;
        let Some((by, before)) = self.seals.get_mut(&place) else {
            self.seals.insert(place, (1 << card as u8, sealed));
            return;
        };
        self.seen.twice += u64::from(card || *by & 1 << 1 != 0);
        self.seen.differing += u64::from(!card && *by == 1 && *before != sealed);
        *by |= 1 << card as u8;
    }
}

struct Watched {
    inner: Box<dyn Aead>,
    key: u64,
    sealer: Sealer,
}

impl Aead for Watched {
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], plaintext: &[u8], extra: &[u8], out: &mut [u8]) {
        self.inner.seal(nonce, aad, plaintext, extra, out);
        // CONTROL has keys of its own, which no card has.
        if aad.len() != CONTROL_HEADER_LEN {
            let (place, sealed) = (digest(self.key, nonce), digest(1, out));
            LEDGER.with_borrow_mut(|ledger| ledger.seal(self.sealer, place, sealed));
        }
    }

    fn seal_in_place(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], record: &mut [u8]) {
        self.inner.seal_in_place(nonce, aad, record);
    }

    fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<(), Refused> {
        self.inner.open(nonce, aad, sealed, out)
    }

    fn open_in_place(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &mut [u8]) -> Result<(), Refused> {
        self.inner.open_in_place(nonce, aad, sealed)
    }
}

/// A provider whose seals are in the ledger.
pub struct Ledgered {
    inner: fn() -> &'static dyn Crypto,
    sealer: Sealer,
}

fn pure() -> &'static dyn Crypto {
    &rustcrypto::PROVIDER
}

/// The processor, with the library of the default build.
pub static SOFTWARE: Ledgered = Ledgered { inner: crypto, sealer: Sealer::Processor };
/// The processor, with the library in pure Rust.
pub static PURE: Ledgered = Ledgered { inner: pure, sealer: Sealer::Processor };
/// A card.
pub static CARD: Ledgered = Ledgered { inner: crypto, sealer: Sealer::Card };

impl std::fmt::Debug for Ledgered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ledgered({:?})", self.sealer)
    }
}

impl Crypto for Ledgered {
    fn name(&self) -> &'static str {
        "ledger"
    }

    fn aead(&self, cipher: Cipher, key: &[u8]) -> Box<dyn Aead> {
        let name = digest(cipher as u64, key);
        Box::new(Watched { inner: (self.inner)().aead(cipher, key), key: name, sealer: self.sealer })
    }

    fn hkdf_extract(&self, salt: &[u8], ikm: &[u8]) -> [u8; 32] {
        (self.inner)().hkdf_extract(salt, ikm)
    }

    fn hkdf_expand(&self, prk: &[u8; 32], info: &[u8], out: &mut [u8]) {
        (self.inner)().hkdf_expand(prk, info, out);
    }

    fn hmac(&self, key: &[u8; 32], data: &[u8]) -> [u8; 32] {
        (self.inner)().hmac(key, data)
    }

    fn equal(&self, a: &[u8], b: &[u8]) -> bool {
        (self.inner)().equal(a, b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ledger is worth something only if it can find something.
    #[test]
    fn what_must_not_be_is_found() {
        let seal = |by: &Ledgered, number: u8, text: u8| {
            by.aead(Cipher::Aes128Gcm, &[1; 16]).seal(&[number; 12], &[0; 13], &[text; 40], &[], &mut [0; 56]);
            seen()
        };
        begin();
        seal(&SOFTWARE, 1, 1);
        assert_eq!((seal(&SOFTWARE, 1, 1).differing, seal(&SOFTWARE, 1, 2).differing), (0, 1));
        assert_eq!((seal(&CARD, 2, 1).twice, seal(&CARD, 2, 1).twice), (0, 1));
        assert_eq!((seal(&CARD, 1, 1).twice, seal(&SOFTWARE, 2, 1).twice), (2, 3));
        assert_eq!((seen().by_processor, seen().by_card), (4, 3));
    }
}
