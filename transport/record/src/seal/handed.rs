//! Owns what leaves a message towards a device that seals while it sends: records in plaintext, once. [P-3.5]

use core::ops::Range;

use wire::bytes::copy;
use wire::data::record_header;
use wire::ids::RecordNumber;
use wire::limits::{RECORD_HEADER_LEN, TAG_LEN};

use super::{Message, Sealer};

/// Records that a device was given. Whatever becomes of them, nobody seals their numbers again: what has to be repeated of them goes under
/// the message's next attempt.
#[derive(Debug)]
pub struct Handed<'a, B> {
    message: &'a Message<B>,
    records: Range<u32>,
}

impl<B: AsRef<[u8]>> Message<B> {
    /// Whether a device seals the present attempt.
    #[inline]
    pub fn is_with_device(&self) -> bool {
        matches!(self.sealer.get(), Sealer::Device(_))
    }

    /// How many of these records a device had in an earlier attempt.
    pub fn repairs(&self, records: &Range<u32>) -> u32 {
        records.end.min(self.handed_before).saturating_sub(records.start)
    }

    /// Whether these records could be handed to a device: it is the first attempt, bound, without spanning records, nothing of it was
    /// sealed in software, and none of them was handed over before. Repairs are software's, so no later attempt is ever a device's.
    #[inline]
    pub fn may_hand_over(&self, first: u32) -> bool {
        self.lease.is_some()
            && self.id.attempt() == 0
            && !self.geometry().spans()
            && match self.sealer.get() {
                Sealer::Nobody => true,
                Sealer::Software => false,
                Sealer::Device(handed) => first >= handed,
            }
    }

    /// Hands records over for good. `None` when they may not be: see [`Self::may_hand_over`].
    ///
    /// # Panics
    /// When there are no such records: a bug of the caller.
    pub fn hand_over(&mut self, records: Range<u32>) -> Option<Handed<'_, B>> {
        assert!(records.start < records.end && records.end <= self.geometry().records(), "records of this message");
        if !self.may_hand_over(records.start) {
            return None;
        }
        self.sealer.set(Sealer::Device(records.end));
        Some(Handed { message: self, records })
    }
}

impl<B: AsRef<[u8]>> Handed<'_, B> {
    /// The number of the first record; those of the others follow.
    pub fn first(&self) -> RecordNumber {
        RecordNumber::new(self.message.id, self.records.start as u16)
    }

    /// How many.
    pub fn count(&self) -> u32 {
        self.records.end - self.records.start
    }

    /// Bytes of the first record on the wire, and of the last. Those between are as long as the first.
    pub fn lengths(&self) -> (usize, usize) {
        let last = self.records.end - 1;
        (self.message.record_len(self.records.start as u16), self.message.record_len(last as u16))
    }

    /// Writes record `i` of these as the device wants it: the clear bytes, the plaintext, and room for the tag, which is left as it is.
    ///
    /// # Panics
    /// When `out` has not [`Message::record_len`] bytes: a bug of the caller.
    pub fn write(&self, i: u32, out: &mut [u8]) {
        let index = (self.records.start + i) as u16;
        let (tail, tail_len) = self.message.tail();
        let tail = &tail[..tail_len];
        let payload = &self.message.body.as_ref()[self.message.geometry().bytes(index)];
        let plaintext_len = payload.len() + tail.len();
        assert_eq!(out.len(), RECORD_HEADER_LEN + plaintext_len + TAG_LEN, "a record's length");
        out[..RECORD_HEADER_LEN]
            .copy_from_slice(&record_header(RecordNumber::new(self.message.id, index), plaintext_len));
        copy(&mut out[RECORD_HEADER_LEN..RECORD_HEADER_LEN + payload.len()], payload);
        out[RECORD_HEADER_LEN + payload.len()..RECORD_HEADER_LEN + plaintext_len].copy_from_slice(tail);
    }
}
