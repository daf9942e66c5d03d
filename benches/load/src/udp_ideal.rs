//! Peer `udp-ideal`: what no transport that encrypts messages over UDP can beat.
//!
//! Owns the records: a message is as many as kernel TLS would make of it, each as many bytes longer as one of Sealane's, with exactly one
//! AES-128-GCM seal and one open, and nothing else: no names, no acknowledgement, no memory of what came. `raw_udp` cuts them into
//! datagrams and carries these. Keys are fixed: there is no secret to measure.

use anyhow::{Result, ensure};
use endpoint::block::Block;
use offload::software::crypto;
use record::aead::{Aead, Cipher, NONCE_LEN};
use wire::limits::{DATA_HEADER_LEN, PACKET_OVERHEAD, RECORD_PAYLOAD_MAX, TAG_LEN};

/// What is sent in clear, as additional data; its last 8 bytes are the record's number.
const HEADER: usize = DATA_HEADER_LEN;

/// Bytes of a record beyond its message's: Sealane's.
const OVERHEAD: usize = PACKET_OVERHEAD;

/// What is sealed behind the message.
const TRAILER: usize = OVERHEAD - HEADER - TAG_LEN;

/// Bytes of a message's records.
pub(crate) const fn sealed_len(size: usize) -> usize {
    size + size.div_ceil(RECORD_PAYLOAD_MAX) * OVERHEAD
}

/// One session, of messages of one length.
pub(crate) struct Records {
    pub(crate) out: Sealer,
    pub(crate) back: Opener,
}

/// Seals what goes out.
pub(crate) struct Sealer {
    key: Box<dyn Aead>,
    sequence: u64,
    /// What is sent for a message: its records, and zeros up to the end of a datagram.
    wire: Block,
}

/// Opens what comes back.
pub(crate) struct Opener {
    key: Box<dyn Aead>,
    size: usize,
    /// A message of several records, with the last one's trailer.
    plain: Block,
}

fn key(byte: u8) -> Box<dyn Aead> {
    crypto().aead(Cipher::Aes128Gcm, &[byte; 16])
}

fn nonce(sequence: &[u8]) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    nonce[4..].copy_from_slice(sequence);
    nonce
}

impl Records {
    /// Of messages of `size` bytes, which travel as `stride`.
    pub(crate) fn client(size: usize, stride: usize) -> Self {
        Self::new([1, 2], size, stride)
    }

    pub(crate) fn server(size: usize, stride: usize) -> Self {
        Self::new([2, 1], size, stride)
    }

    fn new([out, back]: [u8; 2], size: usize, stride: usize) -> Self {
        let (wire, plain) = (Block::amid_page(stride), Block::amid_page(size + TRAILER));
        Self { out: Sealer { key: key(out), sequence: 0, wire }, back: Opener { key: key(back), size, plain } }
    }
}

impl Sealer {
    /// Seals one message; what is to be sent.
    pub(crate) fn seal(&mut self, plain: &[u8]) -> &[u8] {
        let mut rest = &mut self.wire[..];
        for plain in plain.chunks(RECORD_PAYLOAD_MAX) {
            let (record, behind) = rest.split_at_mut(plain.len() + OVERHEAD);
            let (head, sealed) = record.split_at_mut(HEADER);
            let sequence = self.sequence.to_be_bytes();
            head[HEADER - 8..].copy_from_slice(&sequence);
            self.sequence += 1;
            self.key.seal(&nonce(&sequence), head, plain, &[0; TRAILER], sealed);
            rest = behind;
        }
        &self.wire
    }
}

impl Opener {
    /// Opens what was sent for a message: one record in its place, several to where the message is whole, as Sealane does.
    pub(crate) fn open<'a>(&'a mut self, wire: &'a mut [u8]) -> Result<&'a [u8]> {
        ensure!(wire.len() >= sealed_len(self.size), "a message of {} bytes", wire.len());
        let is_one = self.size <= RECORD_PAYLOAD_MAX;
        let mut rest = &mut *wire;
        for start in (0..self.size).step_by(RECORD_PAYLOAD_MAX) {
            let len = (self.size - start).min(RECORD_PAYLOAD_MAX);
            let (record, behind) = rest.split_at_mut(len + OVERHEAD);
            let (head, sealed) = record.split_at_mut(HEADER);
            let nonce = nonce(&head[HEADER - 8..]);
            let opened = if is_one {
                self.key.open_in_place(&nonce, head, sealed)
            } else {
                self.key.open(&nonce, head, sealed, &mut self.plain[start..start + len + TRAILER])
            };
            ensure!(opened.is_ok(), "a record does not verify");
            rest = behind;
        }
        Ok(if is_one { &wire[HEADER..HEADER + self.size] } else { &self.plain[..self.size] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_opens_to_what_was_sealed_and_no_other_does() {
        for size in [100, RECORD_PAYLOAD_MAX, RECORD_PAYLOAD_MAX + 1, 40_000] {
            let stride = sealed_len(size) + 7;
            let (mut client, mut server) = (Records::client(size, stride), Records::server(size, stride));
            for byte in 0..3 {
                let wire = client.out.seal(&vec![byte; size]).to_vec();
                assert_eq!(wire.len(), stride);
                assert_eq!(server.back.open(&mut wire.clone()).unwrap(), vec![byte; size]);
                assert!(client.back.open(&mut wire.clone()).is_err(), "its own");
                for at in (0..stride - 7).step_by(size / 100) {
                    let mut wire = wire.clone();
                    wire[at] ^= 1;
                    assert!(server.back.open(&mut wire).is_err(), "byte {at}");
                }
            }
        }
    }
}
