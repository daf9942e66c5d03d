//! Epochs of a direction: which keys live, who may seal with them, and when they are gone.

mod common;

use common::{CRYPTO, SECRET, body, inbound, outbound, trailer};
use proptest::prelude::*;
use record::aead::Cipher;
use record::budget::{Limits, RECORDS_SOFT};
use record::epochs::{Inbound, LIVE_MAX, Outbound};
use record::keys::Secret;
use record::open::open_in_place;
use record::seal::{Bound, Ids, Message, Unbound};
use wire::data::record_at;
use wire::ids::{MessageId, Side};
use wire::trailer::Kind;

const CIPHER: Cipher = Cipher::Aes128Gcm;

fn limited(limits: Limits) -> Outbound {
    Outbound::new(&CRYPTO, &Secret::new(SECRET), CIPHER, Side::Client, limits)
}

fn message(ids: &mut Ids, length: usize) -> Message<Vec<u8>> {
    Message::freeze(ids.take().unwrap(), body(length), trailer(Kind::Request, length, 100), &[])
}

fn sealed(message: &Message<Vec<u8>>, keys: &Outbound) -> Vec<u8> {
    let mut record = vec![0; message.record_len(0)];
    message.seal(keys, 0, &mut record);
    record
}

fn opens(keys: &Inbound, epoch: u64, record: &[u8]) -> bool {
    let view = record_at(record, 0).unwrap();
    keys.named(epoch as u8).is_some_and(|keys| open_in_place(&keys.data, &mut record.to_vec(), &view).is_ok())
}

/// [P-6.5] Both ends go on for long enough that the byte in packets comes round: each packet opens under the epoch that it names
/// as long as that lives, and never after that.
#[test]
fn four_live() {
    let (mut ours, mut theirs) = (outbound(CIPHER, Side::Client), inbound(CIPHER, Side::Client));
    let (mut ids, mut packets) = (Ids::new(Side::Client), Vec::new());
    for epoch in 0..600_u64 {
        assert_eq!((ours.epoch(), theirs.epoch()), (epoch, epoch));
        let mut message = message(&mut ids, 10);
        assert_eq!(message.bind(&mut ours), Ok(Bound::Quietly));
        packets.push(sealed(&message, &ours));
        message.unbind(&mut ours);
        for (old, packet) in packets.iter().enumerate() {
            assert_eq!(opens(&theirs, old as u64, packet), old as u64 + LIVE_MAX as u64 > epoch, "{old} in {epoch}");
        }
        // It is not there before it was asked for, and all four are as long as nothing came in it.
        assert!(theirs.named((epoch + 1) as u8).is_none() || epoch >= 256);
        assert!(theirs.prepare(&CRYPTO, (epoch + 1) as u8) && theirs.prepare(&CRYPTO, (epoch + 1) as u8));
        let oldest = epoch.saturating_sub(3);
        assert!(opens(&theirs, oldest, &packets[oldest as usize]));
        theirs.opened(epoch as u8);
        assert!(opens(&theirs, oldest, &packets[oldest as usize]), "only a new epoch ends an old one");
        ours.advance(&CRYPTO);
        theirs.opened((epoch + 1) as u8);
    }
}

/// [P-6.5] Only the next epoch can be prepared; what is there already is confirmed again.
#[test]
fn only_the_next_is_prepared() {
    let mut theirs = inbound(CIPHER, Side::Client);
    for epoch in 0..300_u64 {
        for byte in 0..=255 {
            let ahead = byte as u64 == (epoch + 1) % 256;
            let there = (0..4).any(|back| back <= epoch && (epoch - back) % 256 == byte as u64);
            if !ahead {
                assert_eq!(theirs.prepare(&CRYPTO, byte), there, "{byte} in {epoch}");
            }
        }
        assert!(theirs.prepare(&CRYPTO, (epoch + 1) as u8));
        theirs.opened((epoch + 1) as u8);
    }
}

/// [P-6.7] [P-3.4] A message takes its records from one key. Out of its epoch it takes them again, from the present one and under
/// its next attempt, as long as there is one; what is not sealed again takes nothing.
#[test]
fn attempts() {
    let (mut keys, mut ids) = (outbound(CIPHER, Side::Client), Ids::new(Side::Client));
    let mut moved = message(&mut ids, 250);
    let mut idle = message(&mut ids, 250);
    for attempt in 0..=MessageId::ATTEMPT_MAX {
        let expected = if attempt == 0 { Bound::Quietly } else { Bound::Notably };
        assert_eq!(moved.bind(&mut keys), Ok(expected));
        assert_eq!((moved.id().attempt(), moved.epoch()), (attempt, Some(keys.epoch())));
        assert_eq!(moved.bind(&mut keys), Ok(Bound::Quietly), "it is bound");
        assert_eq!(keys.current().budget().records(), 3);
        if attempt == 0 {
            idle.bind(&mut keys).unwrap();
        }
        for _ in 0..3 {
            assert_eq!(keys.undrained(), None);
            keys.advance(&CRYPTO);
        }
        assert_eq!(keys.undrained(), moved.epoch());
        moved.unbind(&mut keys);
        idle.unbind(&mut keys);
        assert_eq!(keys.undrained(), None);
        keys.advance(&CRYPTO);
    }
    assert_eq!(moved.bind(&mut keys), Err(Unbound::Never));
    assert_eq!((idle.bind(&mut keys), idle.id().attempt()), (Ok(Bound::Notably), 1));
}

/// [P-6.7] The first message with which the next epoch is due is told apart; one that does not fit waits for the next epoch; one
/// that fits no key never goes. A limit can be lowered and not raised.
#[test]
fn budgets() {
    let mut ids = Ids::new(Side::Client);
    let mut keys = limited(Limits::PROTOCOL.rekey_after(10));
    for n in 1..1000 {
        let due = if n >= 10 { Bound::Notably } else { Bound::Quietly };
        assert_eq!(message(&mut ids, 10).bind(&mut keys), Ok(due), "{n}");
    }
    // Four records and 1,024 blocks of each.
    let mut keys = limited(Limits::lowered(26));
    assert_eq!(message(&mut ids, 401).bind(&mut keys), Err(Unbound::Never));
    let mut third = message(&mut ids, 200);
    assert_eq!(message(&mut ids, 250).bind(&mut keys), Ok(Bound::Notably));
    assert_eq!(third.bind(&mut keys), Err(Unbound::Exhausted));
    assert_eq!((third.epoch(), keys.current().budget().records()), (None, 3));
    keys.advance(&CRYPTO);
    assert_eq!((third.bind(&mut keys), third.id().attempt()), (Ok(Bound::Notably), 0));
    let mut high = limited(Limits::PROTOCOL.rekey_after(u64::MAX)).limits().controls_soft();
    assert_eq!(high, RECORDS_SOFT);
    high = limited(Limits::PROTOCOL.rekey_after(0)).limits().controls_soft();
    assert_eq!(high, 1);
}

/// [P-6.7] The key of control packets wears out like that of records, and then gives no number.
#[test]
fn control_keys_wear_out() {
    let mut keys = limited(Limits::lowered(24));
    for epoch in 0..3 {
        for number in 0..16 {
            assert_eq!(keys.current().wants_next_epoch(), number >= 4, "{number} in {epoch}");
            assert_eq!(keys.current().next_control().expect("it is not worn out").1, number);
        }
        assert!(!keys.current().may_control() && keys.current().next_control().is_none());
        keys.advance(&CRYPTO);
    }
}

/// [P-6.5] A message whose epoch has gone cannot be sealed any more, whoever forgot to move it.
#[test]
#[should_panic(expected = "the epoch lives")]
fn what_has_ended_seals_nothing() {
    let mut keys = outbound(CIPHER, Side::Client);
    let mut stuck = message(&mut Ids::new(Side::Client), 10);
    stuck.bind(&mut keys).unwrap();
    (0..4).for_each(|_| keys.advance(&CRYPTO));
    sealed(&stuck, &keys);
}

proptest! {
    /// [P-6.5] However packets are late: what opens is sealed in the epoch that it names, the opener is never ahead of the sealer,
    /// and forged bytes neither begin nor end an epoch.
    #[test]
    fn late_and_altered(steps in prop::collection::vec((0u8..4, any::<prop::sample::Index>(), any::<u8>()), 1..120)) {
        let (mut ours, mut theirs) = (outbound(CIPHER, Side::Client), inbound(CIPHER, Side::Client));
        let (mut ids, mut packets) = (Ids::new(Side::Client), Vec::new());
        let mut ready = false;
        for (act, index, byte) in steps {
            match act {
                0 => {
                    let mut message = message(&mut ids, 10);
                    message.bind(&mut ours).unwrap();
                    packets.push((ours.epoch(), sealed(&message, &ours)));
                    message.unbind(&mut ours);
                }
                // EPOCH_WANTED is sealed in the present epoch.
                1 if !ready => {
                    theirs.opened(ours.epoch() as u8);
                    ready = theirs.prepare(&CRYPTO, (ours.epoch() + 1) as u8);
                    prop_assert!(ready);
                }
                2 if ready => {
                    ours.advance(&CRYPTO);
                    ready = false;
                }
                _ if !packets.is_empty() => {
                    let (epoch, packet) = index.get(&packets);
                    let lives = *epoch + 4 > theirs.epoch();
                    let claimed = u64::from(byte % 2 * byte) ^ *epoch;
                    let before = theirs.epoch();
                    let opened = opens(&theirs, claimed, packet);
                    prop_assert_eq!(opened, lives && claimed == *epoch);
                    if opened {
                        theirs.opened(claimed as u8);
                        prop_assert_eq!(theirs.epoch(), before.max(*epoch));
                    }
                }
                _ => {}
            }
            prop_assert!(theirs.epoch() <= ours.epoch());
        }
    }
}
