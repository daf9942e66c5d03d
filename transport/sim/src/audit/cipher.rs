//! Owns the place where the audit looks: between the endpoints and the cipher. Endpoints are given [`CRYPTO`], and so every seal passes
//! here with the key and the nonce that are really used, whoever counted them. The book is that of the thread.
//!
//! It is also where faults are put in, to see that they are found: an endpoint with this provider cannot tell it from a fault of its
//! own, and the shipped code has no switch for it.

use std::cell::RefCell;

use offload::software::crypto;
use record::aead::{Aead, Cipher, Crypto, NONCE_LEN, Refused, TAG_LEN};
use wire::limits::{CONTROL_HEADER_LEN, RECORD_HEADER_LEN};
use wire::slice::SliceView;

use super::book::{Book, What, digest};
use crate::rng::FastMap;

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A record is sealed under the number of another.
    RecordNumberAgain,
    /// A control packet is sealed under the number of another.
    ControlNumberAgain,
    /// A repeat of a record has other bytes.
    RepeatDiffers,
    /// An epoch begins with the keys of the one before.
    EpochWithoutNewKeys,
    /// Both directions seal with the same keys.
    DirectionsShareKeys,
    /// Two endpoints start again with the randomness of before.
    RandomnessAgain,
}

impl Bug {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::RecordNumberAgain, "record_number_again"),
        (Self::ControlNumberAgain, "control_number_again"),
        (Self::RepeatDiffers, "repeat_differs"),
        (Self::EpochWithoutNewKeys, "epoch_without_new_keys"),
        (Self::DirectionsShareKeys, "directions_share_keys"),
        (Self::RandomnessAgain, "randomness_again"),
    ];
}

/// The seal at which a bug of a single seal strikes.
const STRIKES_AT: u64 = 500;

/// What is known in this thread.
#[derive(Debug, Default)]
struct Watch {
    book: Book,
    /// What was sealed and has not been seen on the wire, by its hash.
    pending: FastMap<u64, u32>,
    /// Spanning records that were sealed, by their numbers: their slices may leave any number of times.
    spans: FastMap<u64, Vec<Vec<u8>>>,
    bug: Option<Bug>,
    /// The last nonce of each kind, with its key.
    last: [Option<(u32, [u8; NONCE_LEN])>; 2],
}

thread_local! {
    static WATCH: RefCell<Watch> = RefCell::new(Watch::default());
}

/// Begins a book in this thread, with a rule broken or none.
pub(super) fn begin(bug: Option<Bug>) {
    WATCH.set(Watch { bug, ..Watch::default() });
}

/// Ends the book of this thread.
pub(super) fn end() -> Book {
    WATCH.take().book
}

/// Duplicates so far.
pub(super) fn duplicates() -> u64 {
    WATCH.with_borrow(|watch| watch.book.duplicates)
}

/// Sealed bytes are seen on the wire: whether the cipher sealed them, so often.
pub(super) fn seen(sealed: &[u8]) -> bool {
    let digest = digest(sealed);
    WATCH.with_borrow_mut(|watch| {
        let Some(count) = watch.pending.get_mut(&digest) else { return false };
        *count -= 1;
        if *count == 0 {
            watch.pending.remove(&digest);
        }
        true
    })
}

/// A slice is seen on the wire: whether it is one of a record that the cipher sealed under that number.
pub(super) fn seen_slice(view: &SliceView, packet: &[u8]) -> bool {
    let slice = &packet[view.bytes.clone()];
    let is_of = |sealed: &Vec<u8>| sealed.len() == view.sealed_len && sealed[view.slice.clone()] == *slice;
    WATCH.with_borrow(|watch| watch.spans.get(&view.number.as_u64()).is_some_and(|all| all.iter().any(is_of)))
}

struct Audited {
    inner: Box<dyn Aead>,
    key: u32,
}

impl Aead for Audited {
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], plaintext: &[u8], extra: &[u8], out: &mut [u8]) {
        // The additional data of records have another length than those of control packets. [P-4.1] [P-5.3]
        let what = if aad.len() == CONTROL_HEADER_LEN { What::Control } else { What::Record };
        debug_assert!(aad.len() == RECORD_HEADER_LEN || what == What::Control, "nothing else is sealed");
        let (nonce, altered) = WATCH.with_borrow_mut(|watch| watch.strike(self.key, what, nonce));
        match altered {
            true => self.inner.seal(&nonce, aad, &[&[plaintext[0] ^ 1], &plaintext[1..]].concat(), extra, out),
            false => self.inner.seal(&nonce, aad, plaintext, extra, out),
        }
        let len = plaintext.len() + extra.len() + TAG_LEN;
        // Content type 0x18. [P-4.6]
        let spanning =
            (what == What::Record && aad[8] == 0x18).then(|| u64::from_be_bytes(*aad.first_chunk().expect("a number")));
        WATCH.with_borrow_mut(|watch| watch.sealed(self.key, what, &nonce, &out[..len], spanning));
    }

    fn seal_in_place(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], record: &mut [u8]) {
        let plaintext = record[..record.len() - TAG_LEN].to_vec();
        self.seal(nonce, aad, &plaintext, &[], record);
    }

    fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<(), Refused> {
        self.inner.open(nonce, aad, sealed, out)
    }

    fn open_in_place(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &mut [u8]) -> Result<(), Refused> {
        self.inner.open_in_place(nonce, aad, sealed)
    }
}

impl Watch {
    fn sealed(&mut self, key: u32, what: What, nonce: &[u8; NONCE_LEN], sealed: &[u8], spanning: Option<u64>) {
        let digest = digest(sealed);
        self.book.seal(key, what, nonce, digest);
        self.last[what as usize] = Some((key, *nonce));
        match spanning.map(|number| self.spans.entry(number).or_default()) {
            Some(all) if all.iter().any(|known| known == sealed) => {}
            Some(all) => all.push(sealed.to_vec()),
            None => *self.pending.entry(digest).or_default() += 1,
        }
    }

    /// The nonce to seal with, and whether the plaintext is to be another: as they should be, unless a bug strikes.
    fn strike(&mut self, key: u32, what: What, nonce: &[u8; NONCE_LEN]) -> ([u8; NONCE_LEN], bool) {
        let as_it_is = (*nonce, false);
        if self.bug.is_none() || self.book.sealed < STRIKES_AT {
            return as_it_is;
        }
        let last = self.last[what as usize].filter(|(of, last)| *of == key && last != nonce);
        match (self.bug, what, last) {
            (Some(Bug::RecordNumberAgain), What::Record, Some((_, last)))
            | (Some(Bug::ControlNumberAgain), What::Control, Some((_, last))) => {
                self.bug = None;
                (last, false)
            }
            (Some(Bug::RepeatDiffers), What::Record, _) if self.book.knows(key, what, nonce) => {
                self.bug = None;
                (*nonce, true)
            }
            _ => as_it_is,
        }
    }
}

/// The provider.
#[derive(Debug)]
pub struct Audit;

/// What endpoints are given.
pub static CRYPTO: Audit = Audit;

/// Whether `info` of an HKDF-Expand-Label ends with that label and an empty context. [P-6.3]
fn is_label(info: &[u8], label: &[u8]) -> bool {
    info.strip_suffix(&[0]).is_some_and(|info| info.ends_with(&[b" ", label].concat()))
}

impl Crypto for Audit {
    fn name(&self) -> &'static str {
        "audit"
    }

    fn aead(&self, cipher: Cipher, key: &[u8]) -> Box<dyn Aead> {
        let name = [&[cipher as u8], key].concat();
        let at = WATCH.with_borrow_mut(|watch| watch.book.key(&name));
        Box::new(Audited { inner: crypto().aead(cipher, key), key: at })
    }

    fn hkdf_extract(&self, salt: &[u8], ikm: &[u8]) -> [u8; 32] {
        crypto().hkdf_extract(salt, ikm)
    }

    fn hkdf_expand(&self, prk: &[u8; 32], info: &[u8], out: &mut [u8]) {
        match WATCH.with_borrow(|watch| watch.bug) {
            Some(Bug::EpochWithoutNewKeys) if is_label(info, b"epoch") => out.copy_from_slice(prk),
            Some(Bug::DirectionsShareKeys) if is_label(info, b"s traffic") => {
                let mut info = info.to_vec();
                let at = info.len() - b"s traffic".len() - 1;
                info[at] = b'c';
                crypto().hkdf_expand(prk, &info, out);
            }
            _ => crypto().hkdf_expand(prk, info, out),
        }
    }

    fn hmac(&self, key: &[u8; 32], data: &[u8]) -> [u8; 32] {
        crypto().hmac(key, data)
    }

    fn equal(&self, a: &[u8], b: &[u8]) -> bool {
        crypto().equal(a, b)
    }
}
