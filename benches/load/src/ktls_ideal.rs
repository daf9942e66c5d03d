//! Peers `ktls-ideal` and `ktls-ideal-pm`: what software kTLS cannot beat.
//!
//! Owns the records: TLS 1.3's shape (5 bytes of header, 1 of type, 16 of tag), AES-128-GCM, exactly one seal and one
//! open per record and nothing else. Keys are fixed: there is no handshake, and no secret, to measure.
//!
//! Both directions work from one buffer to another, as kTLS does. The cipher is the one that Sealane seals with, by the same library: only
//! what is around it differs.

use std::net::TcpListener;
use std::sync::Arc;

use anyhow::{Result, ensure};
use offload::software::crypto;
use record::aead::{Aead, Cipher, NONCE_LEN};

use crate::buffer::Buffer;
use crate::client::Client;
use crate::pattern::Pattern;
use crate::sealed::{self, RECORD_BYTES_MAX, Records};
use crate::served::Served;
use crate::spec::Spec;
use crate::stream::Link;

const HEADER: usize = 5;
const TAG: usize = 16;
const APPLICATION_DATA: u8 = 23;

struct Direction {
    key: Box<dyn Aead>,
    sequence: u64,
}

impl Direction {
    fn new(key: [u8; 16]) -> Self {
        Self { key: crypto().aead(Cipher::Aes128Gcm, &key), sequence: 0 }
    }

    fn next_nonce(&mut self) -> [u8; NONCE_LEN] {
        let mut nonce = [0; NONCE_LEN];
        nonce[4..].copy_from_slice(&self.sequence.to_be_bytes());
        self.sequence += 1;
        nonce
    }
}

pub(crate) struct KtlsRecords {
    seal: Direction,
    open: Direction,
}

impl KtlsRecords {
    pub(crate) fn client() -> Self {
        Self { seal: Direction::new([1; 16]), open: Direction::new([2; 16]) }
    }

    pub(crate) fn server() -> Self {
        Self { seal: Direction::new([2; 16]), open: Direction::new([1; 16]) }
    }
}

impl Records for KtlsRecords {
    fn seal(&mut self, plain: &[u8], out: &mut Buffer) -> Result<()> {
        debug_assert!(plain.len() <= RECORD_BYTES_MAX);
        let body = plain.len() + 1 + TAG;
        let header = header(body);
        let nonce = self.seal.next_nonce();
        let (head, rest) = out.space(HEADER + body).split_at_mut(HEADER);
        head.copy_from_slice(&header);
        self.seal.key.seal(&nonce, &header, plain, &[APPLICATION_DATA], rest);
        out.commit(HEADER + body);
        Ok(())
    }

    fn open(&mut self, wire: &mut Buffer, plain: &mut Buffer) -> Result<()> {
        while let Some((head, rest)) = wire.filled().split_first_chunk::<HEADER>() {
            let body = usize::from(u16::from_be_bytes([head[3], head[4]]));
            ensure!((TAG + 1..=RECORD_BYTES_MAX + 1 + TAG).contains(&body), "a record of {body} bytes");
            let Some(sealed) = rest.get(..body) else { break };
            let nonce = self.open.next_nonce();
            let out = plain.space(body - TAG);
            ensure!(self.open.key.open(&nonce, head, sealed, out).is_ok(), "a record does not verify");
            ensure!(out.last() == Some(&APPLICATION_DATA), "a record of another type");
            plain.commit(body - TAG - 1);
            wire.consume(HEADER + body);
        }
        Ok(())
    }
}

fn header(body: usize) -> [u8; HEADER] {
    let [high, low] = (body as u16).to_be_bytes();
    [APPLICATION_DATA, 3, 3, high, low]
}

/// Connects a client.
pub(crate) fn connect(spec: &Spec, port: u16, pattern: &Arc<Pattern>) -> Result<Box<dyn Client>> {
    let link = Link::connect(spec, port)?;
    Ok(Box::new(sealed::Caller::new(spec, link, KtlsRecords::client(), pattern)))
}

/// Waits for a client.
pub(crate) fn accept(spec: &Spec, listener: &TcpListener) -> Result<Box<dyn Served>> {
    let link = Link::accept(listener, spec.mode)?;
    Ok(Box::new(sealed::Server::new(spec, link, KtlsRecords::server(), None)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_costs_22_bytes_and_opens_to_what_was_sealed() {
        let (mut client, mut server) = (KtlsRecords::client(), KtlsRecords::server());
        let (mut wire, mut plain) = (Buffer::with_capacity(0), Buffer::with_capacity(0));
        let long = vec![7; RECORD_BYTES_MAX];
        client.seal(b"abc", &mut wire).unwrap();
        client.seal(&long, &mut wire).unwrap();
        assert_eq!(wire.len(), 3 + 22 + long.len() + 22);
        server.open(&mut wire, &mut plain).unwrap();
        assert!(wire.is_empty());
        assert_eq!(plain.filled(), [b"abc", &long[..]].concat());
    }

    #[test]
    fn a_flipped_bit_or_a_repeated_record_is_refused() {
        let mut client = KtlsRecords::client();
        let mut sealed = Buffer::with_capacity(0);
        client.seal(b"abc", &mut sealed).unwrap();
        for at in 5..sealed.len() {
            let mut wire = Buffer::with_capacity(0);
            wire.append(sealed.filled());
            wire.filled_mut()[at] ^= 1;
            let mut plain = Buffer::with_capacity(0);
            assert!(KtlsRecords::server().open(&mut wire, &mut plain).is_err());
        }
        let mut wire = Buffer::with_capacity(0);
        wire.append(sealed.filled());
        wire.append(sealed.filled());
        let mut plain = Buffer::with_capacity(0);
        assert!(KtlsRecords::server().open(&mut wire, &mut plain).is_err());
    }
}
