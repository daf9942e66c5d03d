//! The engine of a NIC beside the model, under any sequence of plans: what leaves opens, at its place, once; and what the card was told is no
//! more than it had to be told.

mod nic_common;

use std::collections::HashSet;
use std::net::SocketAddr;

use mlx5_shim::cmd::Caps;
use mlx5_shim::device::Device;
use mlx5_shim::fault::{Fault, Faulty, Trigger};
use mlx5_shim::guard::Guarded;
use mlx5_shim::model::{Config as Card, Model, Witness};
use nic_common::{cable, to};
use offload::frame::datagram;
use offload::gcm::Provided;
use offload::nic::{Config, Nic};
use offload::plan::{KeyName, Material, Not, Plan};
use offload::software::crypto;
use proptest::prelude::*;
use record::aead::Cipher;

const OWN: [u8; 20] = [3; 20];

fn key(session: u64) -> KeyName {
    KeyName { session, epoch: 0 }
}

fn material(session: u64) -> Material {
    Material { cipher: Cipher::Aes128Gcm, key: vec![session as u8; 16].into(), salt: [session as u8; 4] }
}

fn config() -> Config {
    Config { queues: 2, contexts: 2, bytes_min: 0, ..Config::default() }
}

fn card(lso: bool) -> (Model, Witness) {
    let caps = Caps { log_max_lso: if lso { 14 } else { 0 }, ..Card::default().caps };
    let model = Model::new(Card { caps, ..Card::default() }, Box::new(Provided(crypto())));
    let witness = model.witness();
    (model, witness)
}

fn engine(device: impl Device + 'static, v6: bool, config: Config) -> Nic {
    Nic::new(Box::new(device), Box::new(cable(v6)), config).expect("the model gives all")
}

fn faulty(fault: Fault) -> (Faulty<Model>, Trigger, Witness) {
    let (model, witness) = card(true);
    let (device, trigger) = Faulty::new(model, fault);
    (device, trigger, witness)
}

/// Record `i` of a plan, before it is sealed.
fn write(number: u64, out: &mut [u8]) {
    let len = out.len();
    out[..3].copy_from_slice(&[0x17, 3, 3]);
    out[3..5].copy_from_slice(&((len - 5) as u16).to_be_bytes());
    out[5..13].copy_from_slice(&number.to_be_bytes());
    out[13..len - 16].iter_mut().zip(0u64..).for_each(|(byte, i)| *byte = (i ^ number) as u8);
}

fn take(
    nic: &mut Nic,
    session: u64,
    message: u64,
    first: u64,
    count: u32,
    lens: (usize, usize),
    to: SocketAddr,
) -> Result<(), Not> {
    let mut plan = Plan {
        key: key(session),
        to,
        header: &OWN,
        message,
        first,
        count,
        record_len: lens.0,
        last_len: lens.1,
        write: &mut |i, out| write(first + u64::from(i), out),
    };
    nic.take(&mut plan)
}

/// All frames: the number of each, and whether it opens with a session's key.
fn frames(nic: &mut Nic, sessions: u64) -> Vec<(u64, Option<u64>)> {
    let (mut frame, mut all) = (Vec::new(), Vec::new());
    while nic.next_frame(&mut frame) {
        let datagram = datagram(&frame).expect("headers, lengths and checksums are right");
        let record = datagram.payload.strip_prefix(&OWN).expect("what is in clear is not touched");
        let number: [u8; 8] = record[5..13].try_into().unwrap();
        let len = record.len();
        let opened = (0..sessions).find(|session| {
            let nonce: [u8; 12] = [&[*session as u8; 4][..], &number].concat().try_into().unwrap();
            let aad = [&number[..], &[0x17, 3, 3], &((len - 29) as u16).to_be_bytes()].concat();
            let mut out = vec![0; len - 29];
            let opens =
                crypto().aead(Cipher::Aes128Gcm, &[*session as u8; 16]).open(&nonce, &aad, &record[13..], &mut out);
            let mut right = vec![0; len];
            write(u64::from_be_bytes(number), &mut right);
            opens.is_ok() && out == right[13..len - 16]
        });
        all.push((u64::from_be_bytes(number), opened));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Messages of several sessions, in any order, cut anyhow, over both families, with LSO and without.
    #[test]
    fn what_leaves_opens(parts in proptest::collection::vec((0u64..3, 0u64..5, 1u32..6, 30usize..400, any::<bool>(), any::<bool>()), 1..60),
        v6: bool, lso: bool) {
        let (model, witness) = card(lso);
        let mut nic = engine(model, v6, config());
        for session in 0..3 {
            prop_assert!(nic.install(key(session), &material(session)));
        }
        let mut next = [[0u64; 5]; 3];
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        for (session, message, count, len, short_last, flush) in parts {
            let at = &mut next[session as usize][message as usize];
            let first = (message << 16) | *at;
            *at += u64::from(count);
            let last = if short_last { (len / 2).max(30) } else { len };
            take(&mut nic, session, message, first, count, (if count == 1 { last } else { len }, last), to(v6)).unwrap();
            sent.extend((0..u64::from(count)).map(|i| (first + i, Some(session))));
            if flush {
                nic.flush();
                got.extend(frames(&mut nic, 3));
                nic.poll();
            }
        }
        nic.flush();
        got.extend(frames(&mut nic, 3));
        sent.sort_unstable();
        got.sort_unstable();
        prop_assert_eq!(sent, got);
        let report = witness.report();
        prop_assert!(report.violations.is_empty(), "{:?}", report.violations);
        prop_assert_eq!((report.in_clear, report.twice, report.garbled, report.malformed), (0, 0, 0, 0));
        prop_assert_eq!((report.descriptors, report.blocks, report.positioned), (nic.counters.descriptors, nic.counters.blocks, nic.counters.resyncs));
    }
}

/// A message alone is told where it begins once, and one descriptor sends each of its segments.
#[test]
fn a_message_in_order_is_positioned_once() {
    let (model, _) = card(true);
    let mut nic = engine(model, false, config());
    assert!(nic.install(key(1), &material(1)));
    for part in 0..20 {
        take(&mut nic, 1, 9, (9 << 16) | (part * 10), 10, (1432, 1432), to(false)).unwrap();
        nic.flush();
        nic.poll();
    }
    assert_eq!((nic.counters.resyncs, nic.counters.records, nic.counters.descriptors), (1, 200, 22));
    // Once more from where it was told to begin: the key is known.
    take(&mut nic, 1, 9, 9 << 16, 10, (1432, 1432), to(false)).unwrap();
    assert_eq!((nic.counters.resyncs, nic.counters.progress_only), (2, 1));
}

/// A full queue is told of what it holds, and goes on when the card is done; what never fits is refused.
#[test]
fn a_full_queue_goes_on() {
    let (model, witness) = card(false);
    let mut nic = engine(model, false, Config { queues: 1, blocks: 64, ..config() });
    assert!(nic.install(key(1), &material(1)));
    for at in 0..100 {
        take(&mut nic, 1, 1, at * 4, 4, (400, 400), to(false)).unwrap();
    }
    nic.flush();
    assert_eq!(frames(&mut nic, 2), (0..400).map(|number| (number, Some(1))).collect::<Vec<_>>());
    assert!(witness.report().violations.is_empty());
    assert_eq!(take(&mut nic, 1, 1, 999, 40, (400, 400), to(false)), Err(Not::TooLong));
    assert_eq!(take(&mut nic, 2, 1, 999, 1, (400, 400), to(false)), Err(Not::UnknownKey));
}

/// Without a word on where it is, the card seals with its own count: the tag is wrong, the nonce is not used twice, and nothing leaves in
/// clear. With the next word all is well again.
#[test]
fn a_forgotten_resync_makes_wrong_tags_only() {
    let (device, trigger, witness) = faulty(Fault::SkipResync);
    let mut nic = engine(device, false, config());
    assert!(nic.install(key(1), &material(1)));
    trigger.arm();
    let mut wrong = 0;
    for message in 0..100 {
        take(&mut nic, 1, message, message << 16, 3, (300, 300), to(false)).unwrap();
        nic.flush();
        wrong += frames(&mut nic, 2).iter().filter(|(_, opened)| opened.is_none()).count() as u64;
        nic.poll();
    }
    let report = witness.report();
    assert_eq!((wrong, report.garbled), (3 * trigger.strikes(), 3 * trigger.strikes()));
    assert!(trigger.strikes() > 5);
    assert_eq!((report.twice, report.in_clear, report.violations.len()), (0, 0, 0));
}

/// Plans that take a context which another queue feeds, to a card without a guard: between queues there is no order, so words and data come
/// apart, records are torn, and text leaves in clear. With the guard nothing of that reaches the card, and the keys are given up.
#[test]
fn queues_that_share_a_context_are_kept_apart() {
    for guarded in [false, true] {
        let (model, witness) = card(true);
        let device: Box<dyn Device> = if guarded { Box::new(Guarded::new(model)) } else { Box::new(model) };
        let (device, trigger) = Faulty::new(device, Fault::ReorderQueues);
        trigger.arm();
        let mut nic = engine(device, false, Config { failures_max: u32::MAX, ..config() });
        let (mut wrong, mut retired) = (0, 0);
        for message in 0..400 {
            if !nic.knows(key(1)) {
                assert!(nic.install(key(1), &material(1)));
            }
            // Some plans have one descriptor more, so that queues are not in step.
            let last = if message % 3 == 0 { 200 } else { 300 };
            let taken = take(&mut nic, 1, message, message << 16, 3, (300, last), to(false));
            assert!(taken.is_ok() || guarded, "{taken:?}");
            while nic.next_retired().is_some() {
                retired += 1;
            }
            if message % 8 == 7 {
                nic.flush();
                nic.poll();
                wrong += frames(&mut nic, 2).iter().filter(|(_, opened)| opened.is_none()).count();
                nic.poll();
            }
        }
        let report = witness.report();
        assert!(trigger.strikes() > 0 && trigger.overtaken() > 0 && report.frames > 0, "{trigger:?}");
        assert_eq!(report.twice, 0);
        if guarded {
            assert_eq!((trigger.refused(), retired), (trigger.strikes(), trigger.strikes()));
            assert_eq!((wrong, report.garbled, report.in_clear), (0, 0, 0));
            assert!(report.violations.is_empty(), "{:?}", report.violations);
        } else {
            assert!(wrong > 0 && report.garbled > 0 && report.in_clear > 0, "what the guard is for");
            assert!(report.violations.contains_key(&mlx5_shim::model::Violation::TwoQueues));
        }
    }
}

/// A queue that stops gives up the keys that it had, each once; others go on; and the same number is not sealed again by the card.
#[test]
fn a_queue_that_stops_gives_up_its_keys() {
    let (device, trigger, witness) = faulty(Fault::Reset);
    trigger.arm();
    let mut nic = engine(device, false, Config { queues: 1, ..config() });
    assert!(nic.install(key(1), &material(1)) && nic.install(key(2), &material(2)));
    let mut at = 0;
    let retired = loop {
        match take(&mut nic, 1, 1, at, 3, (300, 250), to(false)) {
            Ok(()) => at += 3,
            Err(why) => panic!("{why:?}"),
        }
        nic.flush();
        nic.poll();
        if let Some(key) = nic.next_retired() {
            break key;
        }
        assert!(at < 1000, "it never stopped");
    };
    assert_eq!((retired, nic.next_retired(), nic.counters.keys_retired), (key(1), None, 1));
    assert_eq!(take(&mut nic, 1, 1, at, 1, (300, 300), to(false)), Err(Not::UnknownKey));
    frames(&mut nic, 3);
    take(&mut nic, 2, 1, 7, 3, (300, 300), to(false)).unwrap();
    nic.flush();
    let after = frames(&mut nic, 3);
    assert_eq!(after, [(7, Some(2)), (8, Some(2)), (9, Some(2))]);
    let report = witness.report();
    assert_eq!((report.twice, report.in_clear, trigger.strikes()), (0, 0, 1));
}

/// More sessions than contexts: each goes on where it was, told anew.
#[test]
fn contexts_are_taken_over() {
    let (model, witness) = card(true);
    let mut nic = engine(model, false, Config { queues: 1, ..config() });
    let mut sent = HashSet::new();
    for round in 0..5u64 {
        for session in 0..6 {
            if round == 0 {
                assert!(nic.install(key(session), &material(session)));
            }
            take(&mut nic, session, 1, round * 2, 2, (300, 300), to(false)).unwrap();
            sent.extend([(round * 2, Some(session)), (round * 2 + 1, Some(session))]);
            nic.flush();
            nic.poll();
        }
    }
    assert_eq!(frames(&mut nic, 6).into_iter().collect::<HashSet<_>>(), sent);
    assert_eq!((nic.counters.resyncs, nic.counters.evictions), (30, 28));
    // Keys that live no more are taken from the card.
    nic.forget(|key| key.session == 0);
    assert_eq!((nic.keys(), nic.knows(key(0)), nic.knows(key(1))), (1, true, false));
    assert!(witness.report().violations.is_empty());
}
