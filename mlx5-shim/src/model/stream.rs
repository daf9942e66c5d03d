//! Owns the sealing engine of one TIS: a stream of bytes in which it finds records, and its own count of them.
//!
//! It believes nothing but its count and its place in the stream. What software feeds it out of order it seals all the same, with the
//! additional data of the record that it believes to be at: that is what the card does, and what everything above has to live with.

use super::gcm::{GcmKey, NONCE_LEN, TAG_LEN};
use super::report::Report;
use crate::wqe::StaticParams;

/// Type, version, length and explicit nonce of a record.
const HEADER_LEN: usize = 13;
/// Longest record that it takes for one.
const RECORD_MAX: usize = 5 + 8 + (1 << 14) + 256 + TAG_LEN;

/// Where it stands.
#[derive(Debug)]
pub(super) struct Stream {
    params: StaticParams,
    /// The number that goes into the additional data.
    number: u64,
    /// What was fed of the present record.
    fed: Vec<u8>,
    /// It met a header that is none, and makes nothing but noise until it is told where it is. What the card does then is not known.
    lost: bool,
}

impl Stream {
    /// At the first byte of the record that `params` name.
    pub(super) const fn new(params: StaticParams) -> Self {
        Self { params, number: params.number, fed: Vec::new(), lost: false }
    }

    /// Whether nothing was fed since it was told where it is.
    pub(super) const fn is_new(&self) -> bool {
        self.number == self.params.number && self.fed.is_empty()
    }

    /// Takes bytes, and replaces them by what goes onto the wire.
    pub(super) fn feed(&mut self, key: &dyn GcmKey, bytes: &mut [u8], report: &mut Report) {
        let mut at = 0;
        while at < bytes.len() {
            if self.lost {
                // Not the plaintext, whatever else it may be.
                bytes[at..].iter_mut().for_each(|byte| *byte = 0xee);
                return;
            }
            let wanted = self.record_len().unwrap_or(HEADER_LEN) - self.fed.len();
            let end = (at + wanted).min(bytes.len());
            let before = self.fed.len();
            self.fed.extend_from_slice(&bytes[at..end]);
            if self.fed.len() == HEADER_LEN {
                self.lost = self.record_len().is_none();
                report.malformed += u64::from(self.lost);
            }
            self.seal(key, before, &mut bytes[at..end], report);
            if self.record_len() == Some(self.fed.len()) {
                self.number = self.number.wrapping_add(1);
                self.fed.clear();
            }
            at = end;
        }
    }

    /// Bytes of the present record in all, once its header is there and makes sense.
    fn record_len(&self) -> Option<usize> {
        let header = self.fed.get(..HEADER_LEN)?;
        let len = 5 + usize::from(u16::from_be_bytes([header[3], header[4]]));
        let sane = header[0] == 0x17 && header[1..3] == [3, 3] && (HEADER_LEN + TAG_LEN..=RECORD_MAX).contains(&len);
        sane.then_some(len)
    }

    /// Replaces `out`, which was fed from byte `from` of the record on.
    fn seal(&self, key: &dyn GcmKey, from: usize, out: &mut [u8], report: &mut Report) {
        let Some(len) = self.record_len() else { return };
        let plaintext_end = len - TAG_LEN;
        if self.fed.len() <= HEADER_LEN {
            return;
        }
        let mut nonce = [0; NONCE_LEN];
        nonce[..4].copy_from_slice(&self.params.salt);
        nonce[4..].copy_from_slice(&self.fed[5..HEADER_LEN]);
        // Counter mode: what comes later does not change what came before.
        let mut text = self.fed[HEADER_LEN..self.fed.len().min(plaintext_end)].to_vec();
        let mut aad = [0; 13];
        aad[..8].copy_from_slice(&self.number.to_be_bytes());
        aad[8..11].copy_from_slice(&self.fed[..3]);
        aad[11..].copy_from_slice(&((plaintext_end - HEADER_LEN) as u16).to_be_bytes());
        let tag = key.seal(&nonce, &aad, &mut text);
        for (place, byte) in (from..).zip(out.iter_mut()) {
            if place >= plaintext_end {
                *byte = tag[place - plaintext_end];
            } else if place >= HEADER_LEN {
                *byte = text[place - HEADER_LEN];
            }
        }
        if self.fed.len() == len {
            report.sealed(self.params.dek, nonce, self.fed[5..HEADER_LEN] != self.number.to_be_bytes());
        }
    }
}
