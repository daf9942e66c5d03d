//! Owns how much one key may protect, and how many forgeries a session bears.
//!
//! Counts in AES blocks, because the proofs do: the advantage of an attacker grows with the square of the blocks under one
//! key, whether they stand in many small records or in a few large ones. ChaCha20-Poly1305 would bear far more; it gets
//! the same budget, so that one rule is tested. Refuses to end an epoch or a session itself: it says when.

use core::fmt;

use crate::aead::Cipher;

/// Bytes of an AES block.
const BLOCK: u64 = 16;

/// Blocks of a record beside its plaintext: the one that masks the tag, and one for the associated data, which the
/// analyses count as part of the message although it is hashed only.
const RECORD_BLOCKS_EXTRA: u64 = 2;

/// From here on the next epoch is wanted: a quarter of the most, so that whatever is under way ends well before that.
pub const BLOCKS_SOFT: u64 = 1 << 32;

/// The most blocks under one key.
///
/// RFC 8446 section 5.5 allows AES-GCM 2^24.5 records of 2^14 bytes, which is 2^34.5 blocks, for an advantage of 2^-57 at
/// most. By the bound (s + q + 1)^2 / 2^129 of draft-irtf-cfrg-aead-limits, 2^34 blocks in 2^28 records stay under 2^-60.
pub const BLOCKS_MAX: u64 = 1 << 34;

/// As [`BLOCKS_SOFT`], in records: a key that seals small ones only would meet [`RECORDS_MAX`] first.
pub const RECORDS_SOFT: u64 = 1 << 26;

/// The most records under one key: what RFC 9001 (section 6.6, appendix B.1) allows packets of up to 2^11 bytes; larger
/// ones are held by [`BLOCKS_MAX`].
pub const RECORDS_MAX: u64 = 1 << 28;

/// Failed opens that a session bears with AES-GCM (RFC 9001 section 6.6).
pub const OPEN_FAILURES_MAX_GCM: u64 = 1 << 52;

/// Failed opens that a session bears with ChaCha20-Poly1305 (RFC 9001 section 6.6).
pub const OPEN_FAILURES_MAX_CHACHA: u64 = 1 << 36;

// A message may begin at any time before the soft limit, and then must end: the largest there can be (2^16 records of
// 2^14 bytes) still fits, many times over.
const LARGEST_MESSAGE_BLOCKS: u64 = (1 << 16) * record_blocks(1 << 14);
const _: () = assert!(BLOCKS_SOFT + 16 * LARGEST_MESSAGE_BLOCKS <= BLOCKS_MAX);
const _: () = assert!(RECORDS_SOFT + 16 * (1 << 16) <= RECORDS_MAX);

/// Blocks that one record of `plaintext_bytes` (all that is sealed) takes.
pub const fn record_blocks(plaintext_bytes: u32) -> u64 {
    (plaintext_bytes as u64).div_ceil(BLOCK) + RECORD_BLOCKS_EXTRA
}

/// The limits of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    blocks_soft: u64,
    blocks_max: u64,
    records_soft: u64,
    records_max: u64,
}

impl Limits {
    /// Those of the protocol.
    pub const PROTOCOL: Self =
        Self { blocks_soft: BLOCKS_SOFT, blocks_max: BLOCKS_MAX, records_soft: RECORDS_SOFT, records_max: RECORDS_MAX };

    /// Those of the protocol divided by 2^`shift`, for tests that must see a key wear out. There is no way up.
    ///
    /// # Panics
    /// When nothing would be left (`shift` over 26).
    pub const fn lowered(shift: u32) -> Self {
        assert!(shift <= 26, "a key must protect something");
        Self {
            blocks_soft: BLOCKS_SOFT >> shift,
            blocks_max: BLOCKS_MAX >> shift,
            records_soft: RECORDS_SOFT >> shift,
            records_max: RECORDS_MAX >> shift,
        }
    }

    /// The same, but the next epoch is wanted from `records` on, if that is earlier. What a key may protect at most stays: so
    /// messages go on under the old key for as long as the peer takes to be ready, however low this is.
    #[must_use]
    pub const fn rekey_after(self, records: u64) -> Self {
        let records = if records == 0 { 1 } else { records };
        Self { records_soft: if records < self.records_soft { records } else { self.records_soft }, ..self }
    }

    /// The same, but messages do not want the next epoch before a sixteenth of the key is left: so some have to wait for it, which they
    /// hardly ever do otherwise. For tests.
    #[must_use]
    pub const fn late(self) -> Self {
        let (blocks_soft, records_soft) =
            (self.blocks_max - self.blocks_max / 16, self.records_max - self.records_max / 16);
        Self { blocks_soft, records_soft, ..self }
    }

    /// Packets of a control key from which on the next epoch is wanted: each is no longer than a record may be. [P-6.7]
    pub const fn controls_soft(&self) -> u64 {
        let quarter = self.records_max / 4;
        if self.records_soft < quarter { self.records_soft } else { quarter }
    }

    /// The most packets of a control key. [P-6.7]
    pub const fn controls_max(&self) -> u64 {
        self.records_max
    }

    /// Whether a new key could protect `records` records of `plaintext_bytes_each`.
    pub const fn allow(&self, records: u32, plaintext_bytes_each: u32) -> bool {
        Budget::new(*self).reserve(records, plaintext_bytes_each).is_ok()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::PROTOCOL
    }
}

/// The key cannot protect this message too: it has to go under the next epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the key has protected as much as it may")
    }
}

/// What one key has been promised to.
#[derive(Clone, Debug)]
pub struct Budget {
    limits: Limits,
    blocks: u64,
    records: u64,
}

impl Budget {
    /// The budget of a new key.
    pub const fn new(limits: Limits) -> Self {
        Self { limits, blocks: 0, records: 0 }
    }

    /// The budget of a key of which so much is spent.
    pub(crate) const fn spent(limits: Limits, blocks: u64, records: u64) -> Self {
        Self { limits, blocks, records }
    }

    /// Reserves `records` records of at most `plaintext_bytes_each`, for a message that begins.
    ///
    /// A message reserves all of its records at once: it never runs out in the middle. Nothing is ever given back, since
    /// nobody can prove that a record was not sealed.
    ///
    /// # Errors
    /// [`Exhausted`] when they would exceed a limit; nothing is then reserved, and a smaller message may still fit.
    pub const fn reserve(&mut self, records: u32, plaintext_bytes_each: u32) -> Result<(), Exhausted> {
        // No sum overflows: the factors are below 2^32 and 2^29, and what is reserved is at most 2^34.
        let blocks = self.blocks + records as u64 * record_blocks(plaintext_bytes_each);
        let records = self.records + records as u64;
        if blocks > self.limits.blocks_max || records > self.limits.records_max {
            return Err(Exhausted);
        }
        self.blocks = blocks;
        self.records = records;
        Ok(())
    }

    /// Whether it is time for the next epoch.
    pub const fn wants_next_epoch(&self) -> bool {
        self.blocks >= self.limits.blocks_soft || self.records >= self.limits.records_soft
    }

    /// Blocks reserved so far.
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Records reserved so far.
    pub const fn records(&self) -> u64 {
        self.records
    }
}

/// Failed opens of a session, over all of its epochs: every one is a guess at the authentication key.
#[derive(Clone, Debug)]
pub struct OpenFailures {
    total: u64,
    max: u64,
}

impl OpenFailures {
    /// None yet.
    pub const fn new(cipher: Cipher) -> Self {
        let max = match cipher {
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => OPEN_FAILURES_MAX_GCM,
            Cipher::ChaCha20Poly1305 => OPEN_FAILURES_MAX_CHACHA,
        };
        Self { total: 0, max }
    }

    /// As [`OpenFailures::new`], with the limit divided by 2^`shift`: for one of as many lanes [P-9.3], and for tests.
    pub const fn lowered(cipher: Cipher, shift: u32) -> Self {
        let Self { total, max } = Self::new(cipher);
        assert!(max >> shift > 0, "a session must bear something");
        Self { total, max: max >> shift }
    }

    /// Counts `failures` more; whether the session must close now.
    #[must_use]
    pub const fn add(&mut self, failures: u64) -> bool {
        self.total = self.total.saturating_add(failures);
        self.must_close()
    }

    /// Whether there were too many.
    pub const fn must_close(&self) -> bool {
        self.total >= self.max
    }

    /// How many there were.
    pub const fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// [P-6.7]
    #[test]
    fn a_record_costs_its_blocks_and_two() {
        assert_eq!(record_blocks(0), 2);
        assert_eq!(record_blocks(1), 3);
        assert_eq!(record_blocks(16), 3);
        assert_eq!(record_blocks(17), 4);
        assert_eq!(record_blocks(1 << 14), 1026);
    }

    /// [P-6.7] A message takes all of its records at once, and a refusal takes nothing.
    #[test]
    fn blocks_are_what_wears_out_a_key_of_large_records() {
        let mut budget = Budget::new(Limits::PROTOCOL);
        let message = LARGEST_MESSAGE_BLOCKS;
        let soft = BLOCKS_SOFT.div_ceil(message);
        for i in 0..BLOCKS_MAX / message {
            assert_eq!(budget.wants_next_epoch(), i >= soft, "{i}");
            assert_eq!(budget.reserve(1 << 16, 1 << 14), Ok(()), "{i}");
        }
        let before = (budget.blocks(), budget.records());
        assert_eq!(budget.reserve(1 << 16, 1 << 14), Err(Exhausted));
        assert_eq!((budget.blocks(), budget.records()), before, "a refusal reserves nothing");
        assert_eq!(budget.reserve(1, 0), Ok(()), "what fits is still taken");
    }

    /// [P-6.7]
    #[test]
    fn records_are_what_wears_out_a_key_of_small_records() {
        let mut budget = Budget::new(Limits::PROTOCOL);
        assert_eq!(budget.reserve(RECORDS_SOFT as u32 - 1, 0), Ok(()));
        assert!(!budget.wants_next_epoch());
        assert_eq!(budget.reserve(1, 0), Ok(()));
        assert!(budget.wants_next_epoch() && budget.blocks() < BLOCKS_SOFT);
        assert_eq!(budget.reserve((RECORDS_MAX - RECORDS_SOFT) as u32, 0), Ok(()));
        assert_eq!(budget.reserve(1, 0), Err(Exhausted));
    }

    #[test]
    fn absurd_demands_are_refused_not_wrapped() {
        let mut budget = Budget::new(Limits::PROTOCOL);
        assert_eq!(budget.reserve(u32::MAX, u32::MAX), Err(Exhausted));
        assert_eq!(budget.reserve(u32::MAX, 0), Err(Exhausted));
        assert_eq!((budget.blocks(), budget.records()), (0, 0));
    }

    /// [P-6.7] Fewer forgeries than the limit change nothing; with the last that is borne, the session must close.
    #[test]
    fn a_session_bears_so_many_forgeries() {
        for (cipher, max) in
            [(Cipher::Aes128Gcm, 1 << 52), (Cipher::Aes256Gcm, 1 << 52), (Cipher::ChaCha20Poly1305, 1 << 36)]
        {
            let mut failures = OpenFailures::new(cipher);
            assert!(!failures.add(max - 1));
            assert!(failures.add(1) && failures.must_close());
            assert!(failures.add(u64::MAX) && failures.total() == u64::MAX);
        }
        let mut few = OpenFailures::lowered(Cipher::ChaCha20Poly1305, 34);
        assert!(!few.add(3) && few.add(1));
    }

    proptest! {
        #[test]
        fn no_limit_is_ever_exceeded(
            shift in 10_u32..=26,
            demands in prop::collection::vec((0_u32..3000, 0_u32..20_000), 0..300),
        ) {
            let limits = Limits::lowered(shift);
            let mut budget = Budget::new(limits);
            let (mut blocks, mut records) = (0, 0);
            for (count, bytes) in demands {
                let cost = u64::from(count) * (u64::from(bytes).div_ceil(16) + 2);
                let fits = blocks + cost <= limits.blocks_max && records + u64::from(count) <= limits.records_max;
                prop_assert_eq!(budget.reserve(count, bytes).is_ok(), fits);
                if fits {
                    blocks += cost;
                    records += u64::from(count);
                }
                prop_assert_eq!((budget.blocks(), budget.records()), (blocks, records));
                prop_assert_eq!(
                    budget.wants_next_epoch(),
                    blocks >= limits.blocks_soft || records >= limits.records_soft
                );
            }
        }
    }
}
