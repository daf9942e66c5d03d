//! Peer `udp-ideal`: what no transport that encrypts messages over UDP can beat.
//!
//! Owns the records: each message is one datagram that costs as many bytes as one of Sealane's, with exactly one AES-128-GCM seal and
//! one open, and nothing else: no names, no acknowledgement, no memory of what came. `raw_udp` carries them. Keys are fixed: there
//! is no secret to measure.

use anyhow::{Result, ensure};
use offload::software::crypto;
use record::aead::{Aead, Cipher, NONCE_LEN};
use wire::limits::{DATA_HEADER_LEN, PACKET_OVERHEAD, TAG_LEN};

/// What is sent in clear, as additional data; its last 8 bytes are the record's number.
const HEADER: usize = DATA_HEADER_LEN;

/// Bytes of a datagram beyond its message's: Sealane's.
pub(crate) const OVERHEAD: usize = PACKET_OVERHEAD;

/// What is sealed behind the message.
const TRAILER: usize = OVERHEAD - HEADER - TAG_LEN;

/// The largest datagram.
const DATAGRAM_MAX: usize = 1500;

/// Seals and opens datagrams of one session, for both directions.
pub(crate) struct Records {
    seal: Box<dyn Aead>,
    open: Box<dyn Aead>,
    sequence: u64,
    datagram: [u8; DATAGRAM_MAX],
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
    pub(crate) fn client() -> Self {
        Self { seal: key(1), open: key(2), sequence: 0, datagram: [0; DATAGRAM_MAX] }
    }

    pub(crate) fn server() -> Self {
        Self { seal: key(2), open: key(1), sequence: 0, datagram: [0; DATAGRAM_MAX] }
    }

    /// Seals one message of at most [`DATAGRAM_MAX`] - [`OVERHEAD`] bytes.
    pub(crate) fn seal(&mut self, plain: &[u8]) -> &[u8] {
        let datagram = &mut self.datagram[..plain.len() + OVERHEAD];
        let (head, rest) = datagram.split_at_mut(HEADER);
        let sequence = self.sequence.to_be_bytes();
        head[HEADER - 8..].copy_from_slice(&sequence);
        self.sequence += 1;
        self.seal.seal(&nonce(&sequence), head, plain, &[0; TRAILER], rest);
        datagram
    }

    /// Opens one datagram in its place, as Sealane does, and gives the message.
    pub(crate) fn open<'a>(&self, datagram: &'a mut [u8]) -> Result<&'a [u8]> {
        ensure!(datagram.len() >= OVERHEAD, "a datagram of {} bytes", datagram.len());
        let (head, rest) = datagram.split_at_mut(HEADER);
        let nonce = nonce(&head[HEADER - 8..]);
        ensure!(self.open.open_in_place(&nonce, head, rest).is_ok(), "a datagram does not verify");
        Ok(&rest[..rest.len() - TRAILER - TAG_LEN])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_opens_to_what_was_sealed_and_no_other_does() {
        let (mut client, server) = (Records::client(), Records::server());
        for byte in 0..3 {
            let wire = client.seal(&[byte; 100]).to_vec();
            assert_eq!(wire.len(), 100 + OVERHEAD);
            assert_eq!(server.open(&mut wire.clone()).unwrap(), [byte; 100]);
            assert!(client.open(&mut wire.clone()).is_err(), "its own");
            for at in 0..wire.len() {
                let mut wire = wire.clone();
                wire[at] ^= 1;
                assert!(server.open(&mut wire).is_err(), "byte {at}");
            }
        }
    }
}
