//! Peer `udp-ideal`: what no transport that encrypts messages over UDP can beat.
//!
//! Owns the records: a message is as many as kernel TLS would make of it, of equal length, each as many bytes longer as one of Sealane's, with
//! exactly one AES-128-GCM seal and one open, and nothing else: no names, no acknowledgement, no memory of what came. `raw_udp` cuts them into
//! datagrams and carries these; a train leaves as soon as its records are sealed, and a record is opened as soon as it is there, so that of a
//! long message one end seals while the other opens. Keys are fixed: there is no secret to measure.

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

/// How a message is cut into records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    size: usize,
    /// Bytes of the message in each but the last, which has a few less.
    payload: usize,
    pub(crate) count: usize,
}

impl Cut {
    pub(crate) const fn new(size: usize) -> Self {
        let count = size.div_ceil(RECORD_PAYLOAD_MAX);
        Self { size, payload: size.div_ceil(count), count }
    }

    /// Bytes of a record, but the last.
    pub(crate) const fn record(self) -> usize {
        self.payload + OVERHEAD
    }
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
    cut: Cut,
    /// What leaves at once.
    train: usize,
    /// What is sent for a message: its records, each filled up with zeros to whole datagrams.
    wire: Block,
}

/// Opens what comes back.
pub(crate) struct Opener {
    key: Box<dyn Aead>,
    cut: Cut,
    /// Bytes of a record and what it is filled up with.
    stride: usize,
    /// Records of the message that comes in that were opened before all of it was there.
    opened: usize,
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
    /// Of messages cut like that, which travel as `stride` bytes, of which `train` leave at once.
    pub(crate) fn client(cut: Cut, stride: usize, train: usize) -> Self {
        Self::new([1, 2], cut, stride, train)
    }

    pub(crate) fn server(cut: Cut, stride: usize, train: usize) -> Self {
        Self::new([2, 1], cut, stride, train)
    }

    fn new([out, back]: [u8; 2], cut: Cut, stride: usize, train: usize) -> Self {
        let (wire, plain) = (Block::amid_page(stride), Block::amid_page(cut.size + TRAILER));
        let stride = stride / cut.count;
        Self {
            out: Sealer { key: key(out), sequence: 0, cut, train, wire },
            back: Opener { key: key(back), cut, stride, opened: 0, plain },
        }
    }
}

impl Sealer {
    /// Seals one message. Gives `send` what is to be sent, as soon as a train of it is sealed.
    pub(crate) fn seal(&mut self, plain: &[u8], mut send: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let (mut sent, stride) = (0, self.wire.len() / self.cut.count);
        for (at, plain) in plain.chunks(self.cut.payload).enumerate() {
            let end = (at + 1) * stride;
            let (head, sealed) = self.wire[end - stride..][..plain.len() + OVERHEAD].split_at_mut(HEADER);
            let sequence = self.sequence.to_be_bytes();
            head[HEADER - 8..].copy_from_slice(&sequence);
            self.sequence += 1;
            self.key.seal(&nonce(&sequence), head, plain, &[0; TRAILER], sealed);
            if end - sent >= self.train || end == self.wire.len() {
                send(&self.wire[sent..end])?;
                sent = end;
            }
        }
        Ok(())
    }
}

impl Opener {
    /// Opens the records that are there of a message of which no more has come than `wire`, if it has several: each to where the message is
    /// whole, as Sealane does.
    pub(crate) fn open_some(&mut self, wire: &[u8]) -> Result<()> {
        let payload = self.cut.payload;
        while self.cut.count > 1 && self.opened < self.cut.count && wire.len() >= (self.opened + 1) * self.stride {
            let start = self.opened * payload;
            let len = (self.cut.size - start).min(payload);
            let (head, sealed) = wire[self.opened * self.stride..][..len + OVERHEAD].split_at(HEADER);
            let opened =
                self.key.open(&nonce(&head[HEADER - 8..]), head, sealed, &mut self.plain[start..start + len + TRAILER]);
            ensure!(opened.is_ok(), "a record does not verify");
            self.opened += 1;
        }
        Ok(())
    }

    /// Opens what is left of a message that is here: its only record in its place.
    pub(crate) fn open<'a>(&'a mut self, wire: &'a mut [u8]) -> Result<&'a [u8]> {
        let size = self.cut.size;
        ensure!(wire.len() >= self.stride * self.cut.count, "a message of {} bytes", wire.len());
        if self.cut.count == 1 {
            let (head, sealed) = wire[..size + OVERHEAD].split_at_mut(HEADER);
            let opened = self.key.open_in_place(&nonce(&head[HEADER - 8..]), head, sealed);
            ensure!(opened.is_ok(), "a record does not verify");
            return Ok(&wire[HEADER..HEADER + size]);
        }
        self.open_some(wire)?;
        self.opened = 0;
        Ok(&self.plain[..size])
    }

    /// What has come of a message is forgotten.
    pub(crate) const fn forget(&mut self) {
        self.opened = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_opens_to_what_was_sealed_and_no_other_does() {
        for size in [100, RECORD_PAYLOAD_MAX, RECORD_PAYLOAD_MAX + 1, 40_000] {
            let cut = Cut::new(size);
            let stride = cut.count * (cut.record() + 7);
            let (mut client, mut server) = (Records::client(cut, stride, 1), Records::server(cut, stride, stride));
            let seal = |sealer: &mut Sealer, plain: &[u8]| {
                let (mut wire, mut pieces) = (Vec::new(), 0);
                let send = |bytes: &[u8]| {
                    wire.extend_from_slice(bytes);
                    pieces += 1;
                    Ok(())
                };
                sealer.seal(plain, send).unwrap();
                (wire, pieces)
            };
            for byte in 0..3 {
                let (mut wire, pieces) = seal(&mut client.out, &vec![byte; size]);
                assert_eq!((wire.len(), pieces), (stride, cut.count), "a train for each record");
                // What is there of it is opened before the rest.
                server.back.open_some(&wire[..stride - 1]).unwrap();
                assert_eq!(server.back.opened, cut.count - 1);
                assert_eq!(server.back.open(&mut wire.clone()).unwrap(), vec![byte; size]);
                assert!(client.back.open(&mut wire.clone()).is_err(), "its own");
                client.back.forget();
                assert_eq!(seal(&mut server.out, &vec![byte; size]).1, 1, "one for all");
                for at in
                    (0..stride).step_by(size / 100).filter(|at| at % (stride / cut.count) < cut.record() - cut.count)
                {
                    wire[at] ^= 1;
                    assert!(server.back.open(&mut wire.clone()).is_err(), "byte {at}");
                    server.back.forget();
                    wire[at] ^= 1;
                }
            }
        }
    }
}
