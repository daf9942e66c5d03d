//! Bundles there and back, and what cannot be one. [P-4.7]

mod common;

use common::{body, outbound, trailer};
use proptest::prelude::*;
use record::aead::Cipher;
use record::bundle::open;
use record::epochs::Inbound;
use record::error::OpenError;
use record::keys::Secret;
use record::seal::{Ids, Message};
use wire::bundle::{INDEX, Tail};
use wire::data::record_at;
use wire::ids::Side;
use wire::limits::{RECORD_HEADER_LEN, TAG_LEN, TRAILER_LEN};
use wire::trailer::Kind;

fn message(length: usize) -> Message<Vec<u8>> {
    let id = Ids::new(Side::Client).take().unwrap();
    Message::freeze(id, body(length), trailer(Kind::Request, length, 2000), &[])
}

fn sealed(cipher: Cipher, entries: &[u8], tail: &Tail, padding: usize) -> Vec<u8> {
    let mut record = vec![0xee; RECORD_HEADER_LEN + entries.len() + padding + TRAILER_LEN + TAG_LEN];
    record[RECORD_HEADER_LEN..RECORD_HEADER_LEN + entries.len()].copy_from_slice(entries);
    let lead = message(64).lead().unwrap();
    assert_eq!(lead.seal(&mut outbound(cipher, Side::Client), tail, &mut record), Some(0));
    record
}

proptest! {
    /// [P-4.7] What is sealed comes back, padding or not; what was changed on its way does not open.
    #[test]
    fn there_and_back(
        cipher in common::cipher(),
        entries in prop::collection::vec(any::<u8>(), 0..300),
        (padding, floor, flip) in (0usize..40, 0u64..1 << 44, any::<(prop::sample::Index, u8)>()),
    ) {
        let tail = Tail { len: entries.len() as u16, floor };
        let record = sealed(cipher, &entries, &tail, padding);
        let inbound = Inbound::new(&common::CRYPTO, &Secret::new(common::SECRET), cipher, Side::Client);
        let key = &inbound.named(0).unwrap().data;
        let view = record_at(&record, 0).unwrap();
        prop_assert_eq!(view.number.index(), INDEX);
        let mut packet = record.clone();
        let opened = open(key, &mut packet, &view).unwrap();
        prop_assert_eq!(opened.tail, tail);
        prop_assert_eq!(&packet[opened.entries.clone()], &entries[..]);
        prop_assert!(packet[opened.entries.end..record.len() - TAG_LEN - TRAILER_LEN].iter().all(|byte| *byte == 0));
        let mut packet = record.clone();
        packet[flip.0.index(record.len() - 5) + 5] ^= flip.1.max(1);
        let view = record_at(&packet, 0).unwrap();
        prop_assert_eq!(open(key, &mut packet, &view).map(drop), Err(OpenError::Tag));
    }
}

/// [P-4.7] A tail that tells of more than there is, though its tag verifies, is nonsense.
#[test]
fn a_tail_that_lies() {
    let mut record = sealed(Cipher::Aes128Gcm, b"entries", &Tail { len: 7, floor: 0 }, 0);
    let inbound = Inbound::new(&common::CRYPTO, &Secret::new(common::SECRET), Cipher::Aes128Gcm, Side::Client);
    let key = &inbound.named(0).unwrap().data;
    let view = record_at(&record, 0).unwrap();
    assert!(open(key, &mut record, &view).is_ok());
    let plaintext = [&b"entries"[..], &Tail { len: 8, floor: 0 }.emit()].concat();
    let mut liar = common::forge(Cipher::Aes128Gcm, Side::Client, view.number, &plaintext);
    let view = record_at(&liar, 0).unwrap();
    assert_eq!(open(key, &mut liar, &view).map(drop), Err(OpenError::Trailer));
}

/// [P-3.3] A message whose own records may have been sealed leads no bundle any more, and each leads once.
#[test]
fn who_leads() {
    let mut keys = outbound(Cipher::Aes128Gcm, Side::Client);
    let mut bound = message(64);
    bound.bind(&mut keys).unwrap();
    assert!(!bound.may_lead() && bound.lead().is_none());
    bound.unbind(&mut keys);
    assert!(bound.lead().is_none());
    let mut once = message(64);
    assert!(once.may_lead() && once.lead().is_some() && !once.may_lead() && once.lead().is_none());
}
