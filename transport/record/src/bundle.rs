//! Owns the sealing and opening of bundles: several small messages in one record. [P-4.7]
//!
//! A bundle goes under a record number of the message that leads it, of an index that no message has. A message leads at most once
//! and only before its own records, so the number is used once, for one plaintext that is nowhere kept: a bundle cannot be repeated.
//! [P-3.3]

use core::ops::Range;

use wire::bundle::{INDEX, Tail};
use wire::data::{RecordView, record_aad, record_header};
use wire::ids::{MessageId, RecordNumber};
use wire::limits::{RECORD_HEADER_LEN, TAG_LEN, TRAILER_LEN};

use crate::epochs::Outbound;
use crate::error::OpenError;
use crate::keys::DataKey;

/// The right to seal one bundle: of the message that leads it. Neither `Clone` nor `Copy`, and only
/// [`crate::seal::Message::lead`] makes one. [P-3.3]
///
/// ```compile_fail,E0451
/// let made_up = record::bundle::Lead { id: todo!() };
/// ```
#[derive(Debug)]
pub struct Lead {
    id: MessageId,
}

impl Lead {
    pub(crate) const fn new(id: MessageId) -> Self {
        Self { id }
    }

    /// Which message leads.
    pub const fn message(&self) -> MessageId {
        self.id
    }

    /// Seals what stands in `record` between room for a record's header and for a tail and a tag, in the present epoch: its first
    /// `tail.len` bytes are entries, what follows is padding. The epoch that it was sealed in; `None` when the key may not protect it,
    /// and then nothing has happened, but that the right is used up.
    ///
    /// # Panics
    /// When `record` has no room for all that.
    pub fn seal(self, keys: &mut Outbound, tail: &Tail, record: &mut [u8]) -> Option<u64> {
        let plaintext_len = record.len() - RECORD_HEADER_LEN - TAG_LEN;
        let lease = keys.current().lease(1, plaintext_len as u32).ok()?;
        let number = RecordNumber::new(self.id, INDEX);
        let (header, sealed) = record.split_at_mut(RECORD_HEADER_LEN);
        header.copy_from_slice(&record_header(number, plaintext_len));
        let padding_from = usize::from(tail.len);
        sealed[padding_from..plaintext_len - TRAILER_LEN].fill(0);
        sealed[plaintext_len - TRAILER_LEN..plaintext_len].copy_from_slice(&tail.emit());
        let key = keys.current().data();
        key.aead().seal_in_place(&key.nonce(number), &record_aad(number, plaintext_len), sealed);
        let epoch = lease.epoch();
        keys.end(lease);
        Some(epoch)
    }
}

/// A bundle that was opened in place. Holding one is the proof that its tag verified.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Where its entries stand in the packet.
    pub entries: Range<usize>,
    /// What its sender says.
    pub tail: Tail,
}

/// Opens `record` of `packet`, which is a bundle, in place.
///
/// # Errors
/// Why it did not open; the packet then holds no plaintext.
pub fn open(key: &DataKey, packet: &mut [u8], record: &RecordView) -> Result<Opened, OpenError> {
    let plaintext_len = record.plaintext_len();
    let aad = record_aad(record.number, plaintext_len);
    let sealed = &mut packet[record.sealed.clone()];
    key.aead().open_in_place(&key.nonce(record.number), &aad, sealed)?;
    let (rest, tail) = sealed[..plaintext_len].split_last_chunk::<TRAILER_LEN>().ok_or(OpenError::Trailer)?;
    let tail = Tail::parse(tail).map_err(|_| OpenError::Trailer)?;
    let len = usize::from(tail.len);
    if len > rest.len() {
        return Err(OpenError::Trailer);
    }
    let start = record.sealed.start;
    Ok(Opened { entries: start..start + len, tail })
}
