//! Sealed records, opened both ways: what comes out, what is refused, and what is left as it was.

mod common;

use std::panic::AssertUnwindSafe;

use common::{body, data_key, forge, outbound, trailer};
use proptest::prelude::*;
use record::aead::Cipher;
use record::error::OpenError;
use record::open::{TAIL_MAX, open_in_place, open_into};
use record::seal::{Id, Ids, Message};
use wire::data::record_at;
use wire::ids::{MessageId, RecordNumber, RpcId, Side};
use wire::trailer::{Kind, Trailer};

const RPC: RpcId = RpcId::new(Side::Client, 0);

fn message(length: usize, payload: u16, acks: &[RpcId]) -> Message<Vec<u8>> {
    let id = Ids::new(Side::Client).take().unwrap();
    let mut message = Message::freeze(id, body(length), trailer(Kind::Request, length, payload), acks);
    message.bind(&mut outbound(Cipher::Aes128Gcm, Side::Client)).unwrap();
    message
}

fn sealed(cipher: Cipher, message: &Message<Vec<u8>>, index: u16) -> Vec<u8> {
    let mut record = vec![0; message.record_len(index)];
    message.seal(&outbound(cipher, Side::Client), index, &mut record);
    record
}

fn rpcs() -> impl Strategy<Value = Vec<RpcId>> {
    let rpc = (0..=RpcId::SEQUENCE_MAX, any::<bool>())
        .prop_map(|(sequence, server)| RpcId::new(if server { Side::Server } else { Side::Client }, sequence));
    prop::collection::vec(rpc, 0..=5)
}

/// Whether any eight bytes in a row of `secret` stand anywhere in `place`.
fn shows(place: &[u8], secret: &[u8]) -> bool {
    secret.windows(8).any(|part| place.windows(8).any(|window| window == part))
}

proptest! {
    /// [P-4.1] [P-4.4] What was sealed comes out in place: the record's bytes, the trailer, and nothing in the clear on the way.
    #[test]
    fn in_place(cipher in common::cipher(), length in 0usize..4000, payload in 1u16..1500, at in 0usize..30) {
        let message = message(length, payload.max(length as u16 / 60 + 1), &[]);
        for index in 0..message.geometry().records() as u16 {
            let mut packet = vec![0xee; at];
            packet.extend(sealed(cipher, &message, index));
            let bytes = &body(length)[message.geometry().bytes(index)];
            prop_assert!(!shows(&packet, bytes));
            let view = record_at(&packet, at).unwrap();
            prop_assert_eq!(view.number, RecordNumber::new(MessageId::new(RPC, 0), index));
            let opened = open_in_place(&data_key(cipher, Side::Client), &mut packet, &view).unwrap();
            prop_assert_eq!(&packet[opened.payload.clone()], bytes);
            prop_assert_eq!(opened.trailer, trailer(Kind::Request, length, message.geometry().payload()));
            prop_assert_eq!(opened.acks.iter().count(), 0);
        }
    }

    /// [P-4.3] Up to five acknowledgements ride in a message of one record, and come out by both ways.
    #[test]
    fn acknowledgements_ride(cipher in common::cipher(), length in 0usize..1000, acks in rpcs()) {
        let message = message(length, 1000, &acks);
        let mut packet = sealed(cipher, &message, 0);
        prop_assert_eq!(packet.len(), 13 + length + 6 * acks.len() + 16 + 16);
        let (key, view) = (data_key(cipher, Side::Client), record_at(&packet, 0).unwrap());
        let mut out = vec![0; length + TAIL_MAX];
        let (stated, riding) = open_into(&key, &packet, &view, length, &mut out, false).unwrap();
        prop_assert_eq!((&out[..length], riding.iter().collect::<Vec<_>>()), (&body(length)[..], acks.clone()));
        prop_assert_eq!(usize::from(stated.aux_len), 6 * acks.len());
        let opened = open_in_place(&key, &mut packet, &view).unwrap();
        prop_assert_eq!((&packet[opened.payload], opened.acks.iter().collect::<Vec<_>>()), (&body(length)[..], acks));
    }

    /// [P-4.4] Records open straight into a message's buffer in any order, each into its own place and no other.
    #[test]
    fn into_its_place(
        cipher in common::cipher(),
        length in 1usize..4000,
        payload in 1u16..1500,
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
    ) {
        let message = message(length, payload.max(length as u16 / 60 + 1), &[]);
        let geometry = message.geometry();
        let mut buffer = vec![0x5a; length + TAIL_MAX];
        for index in order {
            let index = index.index(geometry.records() as usize) as u16;
            let (place, record) = (geometry.bytes(index), sealed(cipher, &message, index));
            let mut expected = buffer.clone();
            expected[place.clone()].copy_from_slice(&body(length)[place.clone()]);
            let view = record_at(&record, 0).unwrap();
            let out = &mut buffer[place.start..];
            open_into(&data_key(cipher, Side::Client), &record, &view, place.len(), out, true).unwrap();
            prop_assert_eq!(&buffer, &expected);
            // One bit is enough: refused, and only the record's own place may have changed.
            let mut forged = record.clone();
            *forged.last_mut().unwrap() ^= 1;
            let out = &mut buffer[place.start..];
            let refused = open_into(&data_key(cipher, Side::Client), &forged, &view, place.len(), out, true).unwrap_err();
            prop_assert_eq!(refused, OpenError::Tag);
            prop_assert!(!shows(&buffer[place.clone()], &body(length)[place.clone()]), "no plaintext of what did not verify");
            prop_assert_eq!(&buffer[..place.start], &expected[..place.start]);
            prop_assert_eq!(&buffer[place.end..], &expected[place.end..]);
            buffer = expected;
        }
    }

    /// [P-4.5] Padding of any length disappears, wherever it leaves room for the rest: in place always, straight into place
    /// as long as the tail stays within what a buffer has behind it.
    #[test]
    fn padding_disappears(cipher in common::cipher(), length in 0usize..900, padding in 0usize..200, acks in rpcs(), noise in any::<u8>()) {
        let trailer = Trailer { aux_len: 6 * acks.len() as u8, ..trailer(Kind::Request, length, 900) };
        let mut plaintext = body(length);
        plaintext.resize(length + padding, noise);
        acks.iter().for_each(|rpc| plaintext.extend(&rpc.as_u48().to_be_bytes()[2..]));
        plaintext.extend(trailer.emit());
        let number = RecordNumber::new(MessageId::new(RPC, 0), 0);
        let mut packet = forge(cipher, Side::Client, number, &plaintext);
        let (key, view) = (data_key(cipher, Side::Client), record_at(&packet, 0).unwrap());
        let mut out = vec![0x5a; length + 500];
        let straight = open_into(&key, &packet, &view, length, &mut out, true);
        prop_assert_eq!(straight.is_ok(), padding + 6 * acks.len() + 16 <= TAIL_MAX);
        if straight.is_ok() {
            prop_assert_eq!(&out[..length], &body(length)[..]);
        }
        prop_assert!(out[length..].iter().all(|byte| *byte == 0x5a));
        let opened = open_in_place(&key, &mut packet, &view).unwrap();
        prop_assert_eq!((&packet[opened.payload], opened.trailer), (&body(length)[..], trailer));
        prop_assert_eq!(opened.acks.iter().collect::<Vec<_>>(), acks);
    }

    /// [P-4.1] Not one bit of a record can be changed: neither of its clear bytes nor of its sealed ones.
    #[test]
    fn every_bit_counts(cipher in common::cipher(), length in 0usize..120, index in 0u16..3) {
        let message = message(3 * length, length.max(1) as u16, &[]);
        let index = index.min(message.geometry().records() as u16 - 1);
        let (record, key) = (sealed(cipher, &message, index), data_key(cipher, Side::Client));
        let place = message.geometry().bytes(index);
        for bit in 0..8 * record.len() {
            let mut forged = record.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            // What no longer has the shape of a record never comes to its key.
            let Ok(view) = record_at(&forged, 0) else { continue };
            let mut out = vec![0; 500];
            let into = open_into(&key, &forged, &view, place.len(), &mut out, index % 2 == 0).map(drop);
            prop_assert!(into.is_err(), "bit {}", bit);
            let view = record_at(&forged, 0).unwrap();
            prop_assert_eq!(open_in_place(&key, &mut forged, &view).map(drop), Err(OpenError::Tag), "bit {}", bit);
            prop_assert!(!shows(&forged, &body(3 * length)[place.clone()]));
        }
    }
}

/// [P-3.3] A record opens under its own key only: not that of the other direction, of another cipher's session, or of the
/// control packets.
#[test]
fn other_keys_refuse() {
    let message = message(100, 100, &[]);
    for cipher in Cipher::ALL {
        for (other, sender) in Cipher::ALL.into_iter().flat_map(|c| [(c, Side::Client), (c, Side::Server)]) {
            let mut record = sealed(cipher, &message, 0);
            let view = record_at(&record, 0).unwrap();
            let opened = open_in_place(&data_key(other, sender), &mut record, &view).is_ok();
            assert_eq!(opened, (other, sender) == (cipher, Side::Client));
        }
    }
}

/// [P-4.4] A record is refused, though its tag verified, when it holds fewer bytes than its index says, lies past the end of
/// its message, or its tail does not hold together.
#[test]
fn trailers_that_contradict_their_record() {
    let open = |index: u16, body_len: usize, trailer: [u8; 16]| {
        let number = RecordNumber::new(MessageId::new(RPC, 0), index);
        let plaintext = [&vec![0xff; body_len][..], &trailer].concat();
        let mut packet = forge(Cipher::Aes128Gcm, Side::Client, number, &plaintext);
        let (key, view) = (data_key(Cipher::Aes128Gcm, Side::Client), record_at(&packet, 0).unwrap());
        let mut out = vec![0; 2000];
        let into = open_into(&key, &packet, &view, body_len.min(100), &mut out, true).map(drop);
        let in_place = open_in_place(&key, &mut packet, &view).map(drop);
        if into.is_ok() {
            assert_eq!(in_place, Ok(()));
        }
        in_place
    };
    let of = |length, payload| trailer(Kind::Request, length, payload);
    let nonsense = Err(OpenError::Trailer);
    assert_eq!(open(0, 100, of(100, 100).emit()), Ok(()));
    assert_eq!(open(0, 99, of(100, 100).emit()), nonsense, "a byte too few");
    assert_eq!(open(1, 50, of(150, 100).emit()), Ok(()));
    assert_eq!(open(1, 49, of(150, 100).emit()), nonsense, "a byte too few in the last");
    assert_eq!(open(1, 0, of(100, 100).emit()), nonsense, "past the end");
    assert_eq!(open(1, 0, of(0, 1).emit()), nonsense, "past the end of an empty message");
    assert_eq!(open(u16::MAX, 100, of(150, 100).emit()), nonsense, "far past the end");
    let acks = |length, aux_len| Trailer { aux_len, ..of(length, 100) }.emit();
    assert_eq!(open(0, 5, acks(0, 6)), nonsense, "less than an acknowledgement");
    assert_eq!(open(0, 6, acks(0, 6)), nonsense, "the acknowledgement of no RPC");
    assert_eq!(open(0, 6, acks(1, 6)), nonsense, "the message's bytes are not acknowledgements");
    for kind in [3, 7, 255] {
        let mut bundle = of(100, 100).emit();
        bundle[14] = kind;
        assert_eq!(open(0, 100, bundle), nonsense);
    }
}

/// `open_into` is told how many bytes the record holds; a record that says otherwise is refused, and nothing behind the stated
/// bytes is touched.
#[test]
fn a_place_of_another_size() {
    let message = message(100, 100, &[]);
    let record = sealed(Cipher::Aes128Gcm, &message, 0);
    let (key, view) = (data_key(Cipher::Aes128Gcm, Side::Client), record_at(&record, 0).unwrap());
    for stated in (0..200).filter(|stated| *stated != 100) {
        let mut out = vec![0x5a; 300];
        let refused = open_into(&key, &record, &view, stated, &mut out, true).map(drop);
        assert_eq!(refused, Err(OpenError::Trailer), "{stated}");
        assert!(out[stated..].iter().all(|byte| *byte == 0x5a), "{stated}");
    }
    // A buffer without room for the tail is a bug of the caller, not a short write.
    let mut short = vec![0; 100];
    let stopped =
        std::panic::catch_unwind(AssertUnwindSafe(|| open_into(&key, &record, &view, 100, &mut short, true).is_ok()));
    assert!(stopped.is_err());
}

/// A response has the same numbers as its request, and is sealed by the other side's key.
#[test]
fn a_response_answers_under_its_own_key() {
    let request = message(64, 64, &[]);
    let mut keys = outbound(Cipher::Aes128Gcm, Side::Server);
    let mut response = Message::freeze(Id::response(RPC), body(64), trailer(Kind::Response, 64, 64), &[]);
    assert_eq!(request.id(), response.id());
    let mut record = vec![0; response.record_len(0)];
    response.bind(&mut keys).unwrap();
    response.seal(&keys, 0, &mut record);
    assert_ne!(record, sealed(Cipher::Aes128Gcm, &request, 0));
    let view = record_at(&record, 0).unwrap();
    let opened = open_in_place(&data_key(Cipher::Aes128Gcm, Side::Server), &mut record, &view).unwrap();
    assert_eq!(opened.trailer.kind, Kind::Response);
}
