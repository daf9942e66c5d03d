//! Halves of a session that rest: they wake as they were, no number is used twice, and a packet is tried without waking anything.

mod common;

use common::{Audit, CRYPTO, SECRET, body, inbound, outbound, trailer};
use proptest::prelude::*;
use record::aead::Cipher;
use record::budget::Limits;
use record::epochs::{Inbound, Outbound, Trial};
use record::keys::Secret;
use record::open::{open_control, open_in_place};
use record::seal::{Ids, Message, seal_control};
use wire::data::record_at;
use wire::header::{Header, PacketType};
use wire::ids::{SessionId, Side};
use wire::trailer::Kind;

const HEADER: Header = Header {
    kind: PacketType::Control,
    flags: 0,
    epoch: 0,
    priority: 7,
    steer: 0,
    segment: 0,
    session: SessionId::from_u64(1),
};

fn record(keys: &mut Outbound, ids: &mut Ids, fill: u8) -> Vec<u8> {
    let trailer = trailer(Kind::Request, 30, 100);
    let mut message = Message::freeze(ids.take().unwrap(), vec![fill; 30], trailer, &[]);
    message.bind(keys).unwrap();
    let mut record = vec![0; message.record_len(0)];
    message.seal(keys, 0, &mut record);
    message.unbind(keys);
    record
}

fn control(keys: &mut Outbound, frames: &[u8]) -> (u64, Vec<u8>) {
    let (key, number) = keys.current().next_control().unwrap();
    let mut out = vec![0; 200];
    let len = seal_control(key, number, &HEADER, frames, &mut out);
    out.truncate(len);
    (number, out)
}

fn opens(keys: &Inbound, byte: u8, record: &[u8]) -> bool {
    let view = record_at(record, 0).unwrap();
    keys.named(byte).is_some_and(|keys| open_in_place(&keys.data, &mut record.to_vec(), &view).is_ok())
}

proptest! {
    /// [P-3.3] [P-5.3] However often the sealing half rests, no nonce meets two plaintexts (the provider panics), its epochs go on, and what
    /// its key was promised to is remembered.
    #[test]
    fn no_number_comes_again(acts in prop::collection::vec(0..4_u8, 1..200)) {
        let crypto = Audit::default();
        let new = || Outbound::new(&crypto, &Secret::new(SECRET), Cipher::Aes128Gcm, Side::Client, Limits::PROTOCOL);
        let (mut keys, mut ids) = (new(), Ids::new(Side::Client));
        for (n, act) in acts.into_iter().enumerate() {
            match act {
                0 => drop(record(&mut keys, &mut ids, n as u8)),
                1 => drop(control(&mut keys, &n.to_be_bytes())),
                2 => {
                    let before = (keys.epoch(), keys.current().budget().blocks(), keys.current().budget().records());
                    let rest = keys.rest();
                    prop_assert_eq!(rest.epoch(), before.0);
                    keys = rest.wake(&crypto, Limits::PROTOCOL);
                    let after = (keys.epoch(), keys.current().budget().blocks(), keys.current().budget().records());
                    prop_assert_eq!(after, before);
                }
                _ => keys.advance(&crypto),
            }
        }
    }

    /// [P-6.5] A resting half takes what one that is awake takes, in every epoch that lives, and wakes as it was. What it tries stays as
    /// it is, and what is forged proves nothing.
    #[test]
    fn rest_changes_nothing(
        cipher in common::cipher(),
        acts in prop::collection::vec((0..5_u8, any::<prop::sample::Index>()), 1..60),
    ) {
        let (mut ours, mut theirs) = (outbound(cipher, Side::Client), inbound(cipher, Side::Client));
        let (mut ids, mut records, mut trial) = (Ids::new(Side::Client), Vec::new(), Trial::default());
        let named = |byte: u8| (SessionId::from_u64(1), byte);
        records.push((0, record(&mut ours, &mut ids, 9)));
        for (act, which) in acts {
            match act {
                0 => records.push((ours.epoch() as u8, record(&mut ours, &mut ids, 9))),
                1 => prop_assert!(theirs.prepare(&CRYPTO, (theirs.epoch() + 1) as u8)),
                2 if theirs.named((ours.epoch() + 1) as u8).is_some() => ours.advance(&CRYPTO),
                2 => {}
                3 => {
                    let (byte, packet) = which.get(&records);
                    if opens(&theirs, *byte, packet) {
                        theirs.opened(*byte);
                    }
                }
                _ => {
                    let (number, packet) = control(&mut ours, b"frames");
                    let byte = ours.epoch() as u8;
                    let window = |theirs: &mut Inbound| theirs.named_mut(byte).map(|opening| {
                        let new = opening.window.check(number);
                        opening.window.commit(number);
                        (new, open_control(&opening.control, number, &mut packet.clone()).is_ok())
                    });
                    let awake = window(&mut theirs);
                    let rest = theirs.rest();
                    prop_assert!(!rest.may_be_new(byte, number), "it was seen");
                    let before = packet.clone();
                    let proven = rest.proves_control(&CRYPTO, named(byte), &packet, number, &mut trial).is_ok();
                    prop_assert_eq!(proven, awake.is_some_and(|(_, opened)| opened));
                    prop_assert_eq!(&packet, &before);
                    let mut forged = packet;
                    let at = which.index(forged.len());
                    forged[at] ^= 1;
                    prop_assert!(rest.proves_control(&CRYPTO, named(byte), &forged, number, &mut trial).is_err());
                    let expected: Vec<bool> = records.iter().map(|(byte, _)| rest.names(*byte)).collect();
                    for ((byte, packet), there) in records.iter().zip(&expected) {
                        let view = record_at(packet, 0).unwrap();
                        let proven = rest.proves_record(&CRYPTO, named(*byte), packet, &view, &mut trial).is_ok();
                        prop_assert_eq!(proven, *there);
                        let mut forged = packet.clone();
                        *forged.last_mut().unwrap() ^= 1;
                        prop_assert!(rest.proves_record(&CRYPTO, named(*byte), &forged, &view, &mut trial).is_err());
                    }
                    theirs = rest.wake(&CRYPTO);
                    trial.forget(SessionId::from_u64(1));
                    let after: Vec<bool> = records.iter().map(|(byte, packet)| opens(&theirs, *byte, packet)).collect();
                    prop_assert_eq!(after, expected);
                }
            }
        }
    }
}

/// What something is bound to does not rest: it would be sealed by keys that are gone.
#[test]
fn a_lease_keeps_awake() {
    let mut keys = outbound(Cipher::Aes128Gcm, Side::Client);
    let mut ids = Ids::new(Side::Client);
    let mut message = Message::freeze(ids.take().unwrap(), body(10), trailer(Kind::Request, 10, 100), &[]);
    message.bind(&mut keys).unwrap();
    assert!(!keys.may_rest());
    keys.advance(&CRYPTO);
    assert!(!keys.may_rest(), "nor in an older epoch");
    message.unbind(&mut keys);
    assert!(keys.may_rest());
    keys.give_up(keys.epoch());
    assert!(!keys.may_rest(), "that a key was given up would be forgotten [P-3.5]");
}

/// A flood at one session makes contexts once, and they go when another is tried or the session wakes.
#[test]
fn a_trial_keeps_its_contexts() {
    let crypto = Audit::default();
    // Each context holds the book.
    let contexts = || std::sync::Arc::strong_count(&crypto.0) - 1;
    let mut keys = outbound(Cipher::Aes128Gcm, Side::Client);
    let sealed = record(&mut keys, &mut Ids::new(Side::Client), 9);
    let (view, (number, packet)) = (record_at(&sealed, 0).unwrap(), control(&mut keys, b"frames"));
    let inbound = Inbound::new(&crypto, &Secret::new(SECRET), Cipher::Aes128Gcm, Side::Client);
    let (rest, mut trial) = (inbound.rest(), Trial::default());
    assert_eq!(contexts(), 0);
    let [one, other] = [1, 2].map(SessionId::from_u64);
    for _ in 0..3 {
        assert!(rest.proves_record(&crypto, (one, 0), &sealed, &view, &mut trial).is_err(), "it opens nothing");
        assert_eq!(contexts(), 1);
    }
    assert!(rest.proves_control(&crypto, (one, 0), &packet, number, &mut trial).is_err());
    assert_eq!(contexts(), 2);
    assert!(rest.proves_record(&crypto, (other, 0), &sealed, &view, &mut trial).is_err());
    assert_eq!(contexts(), 1);
    trial.forget(one);
    assert_eq!(contexts(), 1, "of another session");
    trial.forget(other);
    assert_eq!(contexts(), 0);
}

/// Secrets are not printed.
#[test]
fn nothing_is_said_of_secrets() {
    let (ours, theirs) = (outbound(Cipher::Aes128Gcm, Side::Client), inbound(Cipher::Aes128Gcm, Side::Client));
    let text = format!("{:?} {:?}", ours.rest(), theirs.rest());
    assert!(text.contains("KeyBytes(..)") && text.contains("Secret(..)") && !text.contains("data_iv"), "{text}");
}
