//! What the modelled card sends, opened by the record layer of rustls: an implementation of TLS 1.2's records that is not ours and knows
//! nothing of Sealane. It checks the nonce's place, the additional data and the lengths.

mod nic_common;

use mlx5_shim::model::{Config as Card, Model};
use nic_common::{cable, to};
use offload::frame::datagram;
use offload::gcm::Provided;
use offload::nic::{Config, Nic};
use offload::plan::{KeyName, Material, Plan};
use offload::software::crypto;
use record::aead::Cipher;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384;
use rustls::crypto::cipher::{AeadKey, InboundOpaqueMessage};
use rustls::{ContentType, ProtocolVersion, SupportedCipherSuite};

const KEY: [u8; 32] = [0x42; 32];
const SALT: [u8; 4] = [9, 8, 7, 6];
const OWN: [u8; 20] = [3; 20];
const LEN: usize = 1000;

#[test]
fn rustls_opens_what_the_card_sealed() {
    for v6 in [false, true] {
        let model = Model::new(Card::default(), Box::new(Provided(crypto())));
        let mut nic = Nic::new(Box::new(model), Box::new(cable(v6)), Config::default()).unwrap();
        let key = KeyName { session: 1, epoch: 0 };
        assert!(nic.install(key, &Material { cipher: Cipher::Aes256Gcm, key: KEY.to_vec().into(), salt: SALT }));
        // A composite number, as messages have them.
        let first = 0x0123_4567_0008_0000;
        let mut write = |i: u32, out: &mut [u8]| {
            let len = out.len();
            out[..3].copy_from_slice(&[0x17, 3, 3]);
            out[3..5].copy_from_slice(&((len - 5) as u16).to_be_bytes());
            out[5..13].copy_from_slice(&(first + u64::from(i)).to_be_bytes());
            out[13..len - 16].fill(i as u8);
        };
        let mut plan = Plan {
            key,
            to: to(v6),
            header: &OWN,
            message: 8,
            first,
            count: 5,
            record_len: LEN,
            last_len: 77,
            write: &mut write,
        };
        nic.take(&mut plan).unwrap();
        nic.flush();
        let SupportedCipherSuite::Tls12(suite) = TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 else {
            panic!("a suite of TLS 1.2")
        };
        let mut decrypter = suite.aead_alg.decrypter(AeadKey::from(KEY), &SALT);
        let mut frame = Vec::new();
        for i in 0..5u8 {
            assert!(nic.next_frame(&mut frame));
            let record = datagram(&frame).unwrap().payload.strip_prefix(&OWN).unwrap();
            assert_eq!(usize::from(u16::from_be_bytes([record[3], record[4]])) + 5, record.len());
            let mut sealed = record[5..].to_vec();
            let message =
                InboundOpaqueMessage::new(ContentType::ApplicationData, ProtocolVersion::TLSv1_2, &mut sealed);
            let opened = decrypter.decrypt(message, first + u64::from(i)).expect("rustls opens it");
            let len = if i == 4 { 77 } else { LEN };
            assert_eq!((opened.typ, opened.payload), (ContentType::ApplicationData, &vec![i; len - 29][..]));
        }
        assert!(!nic.next_frame(&mut frame));
    }
}
