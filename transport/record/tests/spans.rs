//! Records that span packets: what comes out of their slices, in any order; what is refused, and what is left as it was.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{body, data_key, outbound};
use proptest::prelude::*;
use record::aead::Cipher;
use record::epochs::Outbound;
use record::error::OpenError;
use record::open::{assembly_len, open_in_place, open_span, put_slice};
use record::seal::{Ids, Message};
use wire::data::{record_at, record_header};
use wire::geometry::Geometry;
use wire::ids::{RecordNumber, Side};
use wire::limits::RECORD_HEADER_LEN;
use wire::trailer::{Kind, Trailer};

fn message(cipher: Cipher, length: usize, datagram: usize) -> Option<Message<Vec<u8>>> {
    bound(&mut outbound(cipher, Side::Client), length, datagram)
}

fn bound(keys: &mut Outbound, length: usize, datagram: usize) -> Option<Message<Vec<u8>>> {
    let geometry = Geometry::cut(length, datagram).spanning()?;
    let id = Ids::new(Side::Client).take().unwrap();
    let mut message = Message::freeze(id, body(length), Trailer::new(geometry, Kind::Request), &[]);
    message.bind(keys).unwrap();
    Some(message)
}

/// The record that slice `index` is of.
fn sealed(cipher: Cipher, message: &Message<Vec<u8>>, index: u16) -> (RecordNumber, Vec<u8>) {
    let geometry = message.geometry();
    let mut out = vec![0; geometry.span_sealed_len(&geometry.sealed_with(index))];
    let number = message.seal_span(&outbound(cipher, Side::Client), index, &mut out);
    (number, out)
}

proptest! {
    /// [P-4.6] Slices in any order, of several records at once, come out as the message's bytes; nothing stands in the clear before, and
    /// what is beside a record's place stays as it was.
    #[test]
    fn slices_in_any_order(cipher in common::cipher(), length in 1600usize..60_000, datagram in 1232usize..4200, seed in any::<u64>()) {
        let Some(message) = message(cipher, length, datagram) else { return Ok(()) };
        let geometry = message.geometry();
        let mut order: Vec<u16> = (0..geometry.records() as u16).filter(|index| geometry.is_sliced(*index)).collect();
        order.sort_by_key(|index| (u64::from(*index) + 1).wrapping_mul(seed | 1).rotate_left(17));
        let mut buffer = vec![0; assembly_len(geometry)];
        let mut left: Vec<usize> = (0..geometry.records()).map(|index| geometry.sealed_with(index as u16).len()).collect();
        for index in order {
            let span = geometry.sealed_with(index);
            let (number, record) = sealed(cipher, &message, index);
            prop_assert_eq!(u32::from(number.index()), span.start);
            put_slice(geometry, &span, index, &record[geometry.slice(&span, index)], &mut buffer);
            left[span.start as usize] -= 1;
            if left[span.start as usize] == 0 {
                let place = geometry.span_bytes(&span);
                prop_assert!(buffer[place.clone()] != body(length)[place.clone()]);
                let beside = (buffer[..place.start].to_vec(), buffer[place.end..].to_vec());
                let key = data_key(cipher, Side::Client);
                let trailer = open_span(&key, number, geometry, &span, &mut buffer);
                prop_assert_eq!(trailer, Ok(Trailer::new(geometry, Kind::Request)));
                prop_assert_eq!((&buffer[..place.start], &buffer[place.end..]), (&beside.0[..], &beside.1[..]));
            }
        }
        let first = geometry.bytes(0).end;
        let alone = (0..geometry.records()).rev().find(|index| geometry.is_sliced(*index as u16)).unwrap() + 1;
        let end = geometry.offset_of(alone) as usize;
        prop_assert_eq!(&buffer[first..end], &body(length)[first..end]);
    }

    /// [P-4.6] A bit that changed anywhere in a record, or another number, epoch's key or length: it does not open, and no plaintext stands
    /// in its place. What is beside it stays.
    #[test]
    fn nothing_else_opens(cipher in common::cipher(), length in 3000usize..30_000, bit in any::<prop::sample::Index>(), what in 0u8..3) {
        let message = message(cipher, length, 1472).unwrap();
        let geometry = message.geometry();
        let span = geometry.sealed_with(1);
        let (mut number, mut record) = sealed(cipher, &message, 1);
        let mut key = data_key(cipher, Side::Client);
        match what {
            0 => {
                let bit = bit.index(record.len() * 8);
                record[bit / 8] ^= 1 << (bit % 8);
            }
            1 => number = RecordNumber::new(number.message(), number.index() ^ 1 << bit.index(16)),
            _ => key = data_key(cipher, Side::Server),
        }
        let mut buffer = vec![0x55; assembly_len(geometry)];
        for index in span.clone() {
            put_slice(geometry, &span, index as u16, &record[geometry.slice(&span, index as u16)], &mut buffer);
        }
        prop_assert_eq!(open_span(&key, number, geometry, &span, &mut buffer), Err(OpenError::Tag));
        let place = geometry.span_bytes(&span);
        prop_assert!(!buffer[place.clone()].windows(8).any(|part| body(length)[place.clone()].windows(8).any(|window| window == part)));
        prop_assert!(buffer[..place.start].iter().all(|byte| *byte == 0x55));
        let end = length + 46;
        prop_assert!(buffer[place.end..end].iter().all(|byte| *byte == 0x55));
    }
}

/// [P-4.6] A spanning record is none in the other layout, although its number and its bytes are right: the additional data tell.
#[test]
fn layouts_do_not_mix() {
    let cipher = Cipher::Aes128Gcm;
    let message = message(cipher, 9000, 1472).unwrap();
    let (number, record) = sealed(cipher, &message, 1);
    let mut packet = record_header(number, record.len() - 16).to_vec();
    packet.extend(&record);
    let view = record_at(&packet, 0).unwrap();
    assert_eq!(view.sealed.start, RECORD_HEADER_LEN);
    let opened = open_in_place(&data_key(cipher, Side::Client), &mut packet, &view);
    assert_eq!(opened.map(drop), Err(OpenError::Tag));
}

/// [P-3.3] [P-4.6] Under one number there is one layout: in the first attempt a slice's record is never sealed as an ordinary one, and in
/// later ones nothing spans.
#[test]
fn one_number_one_layout() {
    let cipher = Cipher::Aes128Gcm;
    let mut keys = outbound(cipher, Side::Client);
    let mut message = bound(&mut keys, 9000, 1472).unwrap();
    let seals = |message: &Message<Vec<u8>>, keys: &Outbound, index: u16| {
        let mut out = vec![0; message.record_len(index)];
        catch_unwind(AssertUnwindSafe(|| message.seal(keys, index, &mut out))).is_ok()
    };
    let spans = |message: &Message<Vec<u8>>, keys: &Outbound, index: u16| {
        let geometry = message.geometry();
        let mut out = vec![0; geometry.span_sealed_len(&geometry.sealed_with(index))];
        catch_unwind(AssertUnwindSafe(|| message.seal_span(keys, index, &mut out))).is_ok()
    };
    assert!(seals(&message, &keys, 0) && !spans(&message, &keys, 0), "the first is ordinary");
    assert!(!seals(&message, &keys, 1) && spans(&message, &keys, 1));
    assert!(!message.may_hand_over(message.geometry().records()), "no device seals such a message");
    message.unbind(&mut keys);
    message.bind(&mut keys).unwrap();
    assert_eq!(message.id().attempt(), 1);
    assert!(seals(&message, &keys, 1) && !spans(&message, &keys, 1));
    // Nor is a message that does not span.
    let plain = Message::freeze(
        Ids::new(Side::Client).take().unwrap(),
        body(9000),
        Trailer::new(Geometry::cut(9000, 1472), Kind::Request),
        &[],
    );
    assert!(!plain.is_sliced(1));
}
