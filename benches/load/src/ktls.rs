//! Peers `ktls-ideal` and `ktls-ideal-pm`: what software kTLS cannot beat.
//!
//! Owns the records: TLS 1.3's shape (5 bytes of header, 1 of type, 16 of tag), AES-128-GCM, exactly one seal and one
//! open per record and nothing else. Keys are fixed: there is no handshake, and no secret, to measure.
//!
//! Both directions work out of place (`seal_out_of_place_scatter`, `open_separate_gather`): the copy into or out of the
//! application's buffer, which kTLS makes too, is then part of the cipher's pass.

use std::net::TcpListener;
use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::buffer::Buffer;
use crate::client::Client;
use crate::pattern::Pattern;
use crate::sealed::{self, RECORD_BYTES_MAX, Records};
use crate::spec::Spec;
use crate::stream::Link;

const HEADER: usize = 5;
const TAG: usize = 16;
const APPLICATION_DATA: u8 = 23;

#[derive(Debug)]
struct Direction {
    key: LessSafeKey,
    sequence: u64,
}

impl Direction {
    fn new(key: [u8; 16]) -> Result<Self> {
        let key = UnboundKey::new(&AES_128_GCM, &key).map_err(|_| anyhow!("no AES-128-GCM"))?;
        Ok(Self { key: LessSafeKey::new(key), sequence: 0 })
    }

    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.sequence.to_be_bytes());
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

#[derive(Debug)]
pub(crate) struct KtlsRecords {
    seal: Direction,
    open: Direction,
}

impl KtlsRecords {
    pub(crate) fn client() -> Result<Self> {
        Ok(Self { seal: Direction::new([1; 16])?, open: Direction::new([2; 16])? })
    }

    pub(crate) fn server() -> Result<Self> {
        Ok(Self { seal: Direction::new([2; 16])?, open: Direction::new([1; 16])? })
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
        let (ciphertext, tail) = rest.split_at_mut(plain.len());
        self.seal
            .key
            .seal_out_of_place_scatter(nonce, Aad::from(header), plain, ciphertext, &[APPLICATION_DATA], tail)
            .map_err(|_| anyhow!("cannot seal a record"))?;
        out.commit(HEADER + body);
        Ok(())
    }

    fn open(&mut self, wire: &mut Buffer, plain: &mut Buffer) -> Result<()> {
        while let Some((head, rest)) = wire.filled().split_first_chunk::<HEADER>() {
            let body = usize::from(u16::from_be_bytes([head[3], head[4]]));
            ensure!((TAG + 1..=RECORD_BYTES_MAX + 1 + TAG).contains(&body), "a record of {body} bytes");
            let Some(sealed) = rest.get(..body) else { break };
            let (ciphertext, tag) = sealed.split_at(body - TAG);
            let nonce = self.open.next_nonce();
            let out = plain.space(ciphertext.len());
            self.open
                .key
                .open_separate_gather(nonce, Aad::from(*head), ciphertext, tag, out)
                .map_err(|_| anyhow!("a record does not verify"))?;
            ensure!(out.last() == Some(&APPLICATION_DATA), "a record of another type");
            plain.commit(ciphertext.len() - 1);
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
    let link = Link::connect(port, spec.mode)?;
    Ok(Box::new(sealed::Caller::new(spec, link, KtlsRecords::client()?, pattern)))
}

/// Echoes for one client until it closes.
pub(crate) fn serve(spec: &Spec, listener: &TcpListener) -> Result<()> {
    let link = Link::accept(listener, spec.mode)?;
    sealed::serve(spec, &link, KtlsRecords::server()?, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_costs_22_bytes_and_opens_to_what_was_sealed() {
        let (mut client, mut server) = (KtlsRecords::client().unwrap(), KtlsRecords::server().unwrap());
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
        let mut client = KtlsRecords::client().unwrap();
        let mut sealed = Buffer::with_capacity(0);
        client.seal(b"abc", &mut sealed).unwrap();
        for at in 5..sealed.len() {
            let mut wire = Buffer::with_capacity(0);
            wire.append(sealed.filled());
            wire.filled_mut()[at] ^= 1;
            let mut plain = Buffer::with_capacity(0);
            assert!(KtlsRecords::server().unwrap().open(&mut wire, &mut plain).is_err());
        }
        let mut wire = Buffer::with_capacity(0);
        wire.append(sealed.filled());
        wire.append(sealed.filled());
        let mut plain = Buffer::with_capacity(0);
        assert!(KtlsRecords::server().unwrap().open(&mut wire, &mut plain).is_err());
    }
}
