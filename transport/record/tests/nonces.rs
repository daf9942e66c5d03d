//! No nonce meets two plaintexts, whatever is sealed, repeated, answered, in however many sessions: by a provider that writes
//! down every seal.

mod common;

use std::collections::BTreeSet;

use common::{Audit, body, outbound, trailer};
use proptest::prelude::*;
use record::aead::Cipher;
use record::budget::Limits;
use record::epochs::Outbound;
use record::keys::Secret;
use record::seal::{Id, Ids, Message, seal_control};
use wire::bundle::{INDEX, Tail};
use wire::geometry::Geometry;
use wire::header::{Header, PacketType};
use wire::ids::{RecordNumber, RpcId, SessionId, Side};
use wire::trailer::{Kind, Trailer};

/// One thing that an end does.
#[derive(Clone, Debug)]
enum Act {
    /// Begins a message of so many bytes.
    Begin(usize),
    /// Answers the request of this sequence, unless it has.
    Answer(u64, usize),
    /// Begins a message of so many bytes, which leads a bundle and has sealed nothing else yet.
    Lead(usize),
    /// Begins a message of so many bytes, whose records span packets in its first attempt.
    Span(usize),
    /// Seals record `.1` of message `.0` again, as far as there are that many.
    Repeat(prop::sample::Index, prop::sample::Index),
    /// Sends a control packet of so many bytes.
    Control(usize),
    /// Goes to the next epoch, with new keys. What is under way stays in the old one, or moves when that ends.
    Advance,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0usize..500).prop_map(Act::Begin),
        4 => (0u64..12, 0usize..500).prop_map(|(sequence, length)| Act::Answer(sequence, length)),
        2 => (0usize..500).prop_map(Act::Lead),
        2 => (1100usize..24_000).prop_map(Act::Span),
        4 => any::<(prop::sample::Index, prop::sample::Index)>().prop_map(|(a, b)| Act::Repeat(a, b)),
        3 => (0usize..40).prop_map(Act::Control),
        1 => Just(Act::Advance),
    ];
    prop::collection::vec(act, 1..40)
}

fn side() -> impl Strategy<Value = Side> {
    prop::sample::select(&[Side::Client, Side::Server][..])
}

/// Seals record `index`, or the one that it is a slice of. Its number.
fn seal(message: &Message<Vec<u8>>, keys: &Outbound, index: u16) -> RecordNumber {
    if !message.is_sliced(index) {
        message.seal(keys, index, &mut vec![0; message.record_len(index)]);
        return RecordNumber::new(message.id(), index);
    }
    let geometry = message.geometry();
    let number = message.seal_span(keys, index, &mut vec![0; geometry.span_sealed_len(&geometry.sealed_with(index))]);
    assert_eq!(number.message(), message.id());
    number
}

/// What `side` does in a session; how many different things it sealed.
fn live(audit: &Audit, secret: [u8; 32], cipher: Cipher, side: Side, acts: &[Act]) -> usize {
    let mut keys = Outbound::new(audit, &Secret::new(secret), cipher, side, Limits::PROTOCOL);
    let mut ids = Ids::new(side);
    let mut answered = BTreeSet::new();
    let mut messages: Vec<Message<Vec<u8>>> = Vec::new();
    let mut numbers = BTreeSet::new();
    let mut sealed = 0;
    for (step, act) in acts.iter().enumerate() {
        let begun = match act {
            Act::Begin(length) | Act::Span(length) => {
                Some((ids.take().expect("there are many"), Kind::Request, *length))
            }
            Act::Answer(sequence, length) => answered.insert(*sequence).then(|| {
                let rpc = RpcId::new(side.peer(), *sequence);
                (Id::response(rpc), Kind::Response, *length)
            }),
            Act::Lead(length) => {
                let id = ids.take().expect("there are many");
                let mut message = Message::freeze(id, body(*length), trailer(Kind::Request, *length, 60), &[]);
                let tail = Tail { len: 1, floor: step as u64 };
                message.lead().expect("it never did").seal(&mut keys, &tail, &mut [step as u8; 100]).expect("plenty");
                assert!(message.lead().is_none(), "it led before");
                numbers.insert(RecordNumber::new(message.id(), INDEX));
                messages.push(message);
                None
            }
            Act::Repeat(message, index) => {
                if !messages.is_empty() {
                    let at = message.index(messages.len());
                    let message = &mut messages[at];
                    let index = index.index(message.geometry().records() as usize) as u16;
                    // Its attempts may be used up: then it goes no more.
                    if message.bind(&mut keys).is_ok() {
                        numbers.insert(seal(message, &keys, index));
                    }
                }
                None
            }
            Act::Control(length) => {
                let session = SessionId::new(1, 2);
                let header = Header {
                    kind: PacketType::Control,
                    flags: 0,
                    epoch: 0,
                    priority: 7,
                    steer: 0,
                    segment: 0,
                    session,
                };
                let (key, number) = keys.current().next_control().expect("there are many");
                seal_control(key, number, &header, &vec![step as u8; *length], &mut [0; 100]);
                sealed += 1;
                None
            }
            Act::Advance => {
                if let Some(oldest) = keys.undrained() {
                    messages.iter_mut().filter(|m| m.epoch() == Some(oldest)).for_each(|m| m.unbind(&mut keys));
                }
                assert_eq!(keys.undrained(), None);
                keys.advance(audit);
                None
            }
        };
        if let Some((id, kind, length)) = begun {
            // Other bytes each time, so that a repeated number would show.
            let mut bytes = body(length);
            bytes.iter_mut().for_each(|byte| *byte ^= step as u8);
            let spanning = || Geometry::stated(length as u32, 512).and_then(Geometry::spanning).expect("it is long");
            let trailer = match act {
                Act::Span(_) => Trailer::new(spanning(), kind),
                _ => trailer(kind, length, 60),
            };
            let mut message = Message::freeze(id, bytes, trailer, &[]);
            message.bind(&mut keys).expect("there is enough");
            for index in 0..message.geometry().records() as u16 {
                numbers.insert(seal(&message, &keys, index));
            }
            messages.push(message);
        }
    }
    // Not one record number was sealed in two epochs: attempts tell them apart.
    sealed + numbers.len()
}

proptest! {
    /// [P-3.3] [P-3.2] [P-4.6] [P-4.7] Of sessions, directions, epochs, ciphers, kinds of packets, layouts, RPCs and indexes, no two share key and
    /// nonce; and one that is sealed again is sealed with the same bytes.
    #[test]
    fn no_nonce_meets_two_plaintexts(ends in prop::collection::vec((any::<u8>(), common::cipher(), side(), acts()), 1..5)) {
        let audit = Audit::default();
        let mut alive = BTreeSet::new();
        let mut sealed = 0;
        for (secret, cipher, side, acts) in &ends {
            // A session has one cipher, and each of its ends lives once.
            if alive.insert((*secret, *cipher as u8, *side)) {
                sealed += live(&audit, [*secret; 32], *cipher, *side, acts);
            }
        }
        prop_assert_eq!(audit.0.lock().unwrap().len(), sealed);
    }

    /// [P-3.3] A retransmission repeats the sealed bytes, whatever was sealed in between, and with a key derived again.
    #[test]
    fn a_repeat_is_the_same_bytes(
        cipher in common::cipher(),
        length in 0usize..3000,
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
    ) {
        let id = Ids::new(Side::Client).take().unwrap();
        let mut message = Message::freeze(id, body(length), trailer(Kind::Request, length, 500), &[]);
        message.bind(&mut outbound(cipher, Side::Client)).unwrap();
        let seal = |index: u16| {
            let mut out = vec![0; message.record_len(index)];
            message.seal(&outbound(cipher, Side::Client), index, &mut out);
            out
        };
        let records = message.geometry().records() as usize;
        let first: Vec<Vec<u8>> = (0..records).map(|index| seal(index as u16)).collect();
        for index in order {
            let index = index.index(records);
            prop_assert_eq!(&seal(index as u16), &first[index]);
        }
    }
}

/// [P-3.1] [P-3.3] A side takes each sequence once and in order; its ids and those of answers to the other side differ.
#[test]
fn ids_are_given_out_once() {
    let mut ids = Ids::new(Side::Server);
    for sequence in 0..100 {
        assert_eq!(ids.next_sequence(), sequence);
        let message = ids.take().unwrap().message();
        assert_eq!((message.rpc(), message.attempt()), (RpcId::new(Side::Server, sequence), 0));
        let answer = Id::response(RpcId::new(Side::Client, sequence)).message();
        assert_ne!(answer, message);
    }
}

/// [P-5.3] Packet numbers of CONTROL count from 0, and each is spent whether or not it is used.
#[test]
fn control_numbers_count() {
    let mut keys = outbound(Cipher::Aes128Gcm, Side::Client);
    for number in 0..1000 {
        assert_eq!(keys.current().next_control().unwrap().1, number);
    }
}

/// Frozen means frozen: what is not the trailer of these bytes, and acks in several records, are bugs of the caller.
#[test]
fn bugs_of_the_caller_are_stopped() {
    let freeze = |length: usize, stated: usize, acks: &[RpcId]| {
        let id = Ids::new(Side::Client).take().unwrap();
        let (bytes, trailer, acks) = (body(length), trailer(Kind::Request, stated, 100), acks.to_vec());
        std::panic::catch_unwind(move || Message::freeze(id, bytes, trailer, &acks)).is_ok()
    };
    let rpc = RpcId::new(Side::Server, 5);
    assert!(freeze(100, 100, &[rpc; 5]) && freeze(200, 200, &[]));
    assert!(!freeze(99, 100, &[]) && !freeze(200, 200, &[rpc]) && !freeze(100, 100, &[rpc; 6]));
}
