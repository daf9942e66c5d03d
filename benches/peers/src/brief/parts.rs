//! What the parts of a message and of a handshake cost: headers, records, keys, the asymmetric operations.
#![expect(clippy::disallowed_methods, reason = "it measures")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use aws_lc_rs::kem::{DecapsulationKey, ML_KEM_768};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use aws_lc_rs::{agreement, error};
use record::aead::Cipher;
use record::budget::Limits;
use record::epochs::{Inbound, Outbound};
use record::keys::{Chain, Secret, expand_label};
use record::open::{TAIL_MAX, open_into};
use record::seal::{Ids, Message};
use serde::Serialize;
use wire::bytes::Writer;
use wire::data::{emit_header, record_at, record_header};
use wire::geometry::Geometry;
use wire::header::{Header, PacketType};
use wire::ids::{RecordNumber, SessionId, Side};
use wire::limits::{DATA_HEADER_LEN, PACKET_MAX, RECORD_HEADER_LEN};
use wire::packet::Packet;
use wire::trailer::{Kind, Trailer};

use super::{Effort, rounded};

/// Bytes of a record: a packet's worth on Ethernet, and on loopback.
const SIZES: [usize; 2] = [1387, 16_302];
/// How often each is timed; the median counts.
const SAMPLES: usize = 15;

/// What one operation costs.
#[derive(Debug, Serialize)]
pub(super) struct Part {
    pub(super) what: String,
    /// Bytes that it works on.
    pub(super) size: Option<usize>,
    pub(super) ns: f64,
    pub(super) mb_s: Option<f64>,
}

struct Parts {
    time: Duration,
    all: Vec<Part>,
}

impl Parts {
    /// Times `one`: so many in a row that the clock does not matter.
    fn time(&mut self, what: String, size: Option<usize>, mut one: impl FnMut()) {
        let sample = self.time / SAMPLES as u32;
        let (start, mut count) = (Instant::now(), 0_u32);
        while start.elapsed() < sample {
            one();
            count += 1;
        }
        let mut spans: Vec<f64> = (0..SAMPLES)
            .map(|_| {
                let start = Instant::now();
                (0..count).for_each(|_| one());
                start.elapsed().as_nanos() as f64 / f64::from(count)
            })
            .collect();
        spans.sort_by(f64::total_cmp);
        let ns = spans[SAMPLES / 2];
        let mb_s = size.map(|size| rounded(size as f64 / ns * 1e3));
        self.all.push(Part { what, size, ns: rounded(ns), mb_s });
    }

    /// The header of a packet and of its record.
    fn frames(&mut self) -> Result<()> {
        let mut packet = vec![0; PACKET_MAX];
        let session = SessionId::new(1, 2);
        let header = Header { kind: PacketType::Data, flags: 0, epoch: 0, priority: 0, steer: 0, segment: 0, session };
        let plaintext = PACKET_MAX - DATA_HEADER_LEN - RECORD_HEADER_LEN - 16;
        self.time("frame.emit".to_owned(), None, || {
            emit_header(&mut Writer::new(&mut packet), black_box(&header), 16_302);
            packet[DATA_HEADER_LEN..][..RECORD_HEADER_LEN]
                .copy_from_slice(&record_header(RecordNumber::from_u64(black_box(7)), plaintext));
        });
        ensure!(matches!(Packet::parse(&packet), Ok(Packet::Data(_))), "our own packet does not parse");
        self.time("frame.parse".to_owned(), None, || {
            let Ok(Packet::Data(header)) = Packet::parse(black_box(&packet)) else { return };
            black_box((header, record_at(&packet, DATA_HEADER_LEN).is_ok()));
        });
        Ok(())
    }

    /// Records, sealed and opened.
    fn records(&mut self) -> Result<()> {
        let crypto = offload::software::crypto();
        for cipher in Cipher::ALL {
            let secret = Secret::new([7; 32]);
            let mut sealing = Outbound::new(crypto, &secret, cipher, Side::Client, Limits::PROTOCOL);
            let inbound = Inbound::new(crypto, &secret, cipher, Side::Client);
            let opening = inbound.named(0).ok_or_else(|| anyhow!("no first epoch"))?;
            for size in SIZES {
                let geometry = Geometry::cut(size, PACKET_MAX);
                let trailer = Trailer { unscheduled: size as u32, ..Trailer::new(geometry, Kind::Request) };
                let id = Ids::new(Side::Client).take().ok_or_else(|| anyhow!("no first message"))?;
                let mut message = Message::freeze(id, vec![5; size], trailer, &[]);
                message.bind(&mut sealing).map_err(|why| anyhow!("{why:?}"))?;
                let mut record = vec![0; message.record_len(0)];
                self.time(format!("seal.{}", cipher.name()), Some(size), || {
                    message.seal(&sealing, 0, black_box(&mut record));
                });
                let view = record_at(&record, 0).map_err(|why| anyhow!("{why:?}"))?;
                let mut out = vec![0; size + TAIL_MAX];
                let opened = open_into(&opening.data, &record, &view, size, &mut out, false);
                ensure!(opened.is_ok() && out[..size].iter().all(|byte| *byte == 5), "our own record does not open");
                self.time(format!("open.{}", cipher.name()), Some(size), || {
                    let opened = open_into(&opening.data, black_box(&record), &view, size, &mut out, false);
                    let _ = black_box(opened.is_ok());
                });
            }
        }
        let (secret, mut out) = (Secret::new([7; 32]), [0; 32]);
        self.time("hkdf.expand-label".to_owned(), None, || {
            expand_label(crypto, black_box(&secret), b"key", &[], &mut out);
        });
        let mut chain = Chain::new(crypto, &secret, Cipher::Aes128Gcm, Side::Client);
        self.time("keys.next-epoch".to_owned(), None, || {
            chain.advance(crypto);
            black_box(chain.data_key(crypto));
        });
        Ok(())
    }

    /// What a handshake computes.
    fn asymmetric(&mut self) -> Result<()> {
        let random = SystemRandom::new();
        let theirs = agreement::PrivateKey::generate(&agreement::X25519)?;
        let theirs =
            agreement::UnparsedPublicKey::new(&agreement::X25519, theirs.compute_public_key()?.as_ref().to_vec());
        let ours = agreement::PrivateKey::generate(&agreement::X25519)?;
        self.time("x25519.agree".to_owned(), None, || {
            let shared = agreement::agree(&ours, black_box(&theirs), error::Unspecified, |secret| Ok(secret[0]));
            let _ = black_box(shared);
        });
        let decapsulation = DecapsulationKey::generate(&ML_KEM_768)?;
        let encapsulation = decapsulation.encapsulation_key()?;
        self.time("ml-kem-768.generate".to_owned(), None, || {
            let _ = black_box(DecapsulationKey::generate(&ML_KEM_768).is_ok());
        });
        self.time("ml-kem-768.encapsulate".to_owned(), None, || {
            let _ = black_box(encapsulation.encapsulate().is_ok());
        });
        let (ciphertext, _) = encapsulation.encapsulate()?;
        let ciphertext = ciphertext.as_ref().to_vec();
        ensure!(decapsulation.decapsulate(ciphertext.as_slice().into()).is_ok(), "our own secret does not come out");
        self.time("ml-kem-768.decapsulate".to_owned(), None, || {
            let _ = black_box(decapsulation.decapsulate(black_box(ciphertext.as_slice()).into()).is_ok());
        });
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
        let text = [7; 130];
        let signature = key.sign(&random, &text)?;
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref().to_vec());
        ensure!(public.verify(&text, signature.as_ref()).is_ok(), "our own signature does not verify");
        self.time("ecdsa-p256.sign".to_owned(), None, || {
            let _ = black_box(key.sign(&random, black_box(&text)).is_ok());
        });
        self.time("ecdsa-p256.verify".to_owned(), None, || {
            let _ = black_box(public.verify(black_box(&text), signature.as_ref()).is_ok());
        });
        Ok(())
    }
}

/// All of them.
pub(super) fn measure(effort: Effort, say: &mut dyn FnMut(&str)) -> Result<Vec<Part>> {
    let mut parts = Parts { time: effort.cell(), all: Vec::new() };
    say("headers");
    parts.frames()?;
    say("records");
    parts.records()?;
    say("handshake operations");
    parts.asymmetric()?;
    Ok(parts.all)
}
