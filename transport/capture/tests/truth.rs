//! What is found in a capture is what its maker put there, whatever was asked for; and what is changed afterwards shows.

use capture::analyze::{Analyzer, Options};
use capture::counts::{Event, What};
use capture::file::Reader;
use capture::generate::{Plan, generate};
use capture::keys::KeyLog;
use capture::truth::{Fault, Truth};
use proptest::prelude::*;
use record::aead::Cipher;

fn plan(packets: u64, flows: u64, seed: u64) -> Plan {
    Plan {
        packets,
        flows,
        gap_rate: 0.05,
        reorder: 0.02,
        dup: 0.01,
        replay: 0.01,
        retransmit: 0.02,
        seed,
        cipher: Cipher::Aes128Gcm,
        mtu: 1500,
        spanning_records: false,
    }
}

fn analyze(file: &[u8], key_log: Option<&str>) -> (Analyzer, Vec<Fault>) {
    let key_log = key_log.map(|text| KeyLog::parse(text).unwrap());
    let mut analyzer = Analyzer::new(Options { key_log, ..Options::default() });
    let mut reader = Reader::new(file).unwrap();
    let mut faults = Vec::new();
    let mut keep = |events: Vec<Event>| faults.extend(events.iter().filter_map(Fault::of));
    while let Some(packet) = reader.next().unwrap() {
        analyzer.packet(&packet);
        keep(analyzer.take().1);
    }
    assert_eq!(reader.bytes_read(), file.len() as u64);
    analyzer.finish();
    keep(analyzer.take().1);
    (analyzer, faults)
}

fn differences(truth: &Truth, file: &[u8], key_log: Option<&str>) -> Vec<String> {
    let (analyzer, faults) = analyze(file, key_log);
    truth.differences(analyzer.first(), analyzer.counts(), analyzer.sealed_counts(), faults).unwrap()
}

#[test]
fn as_it_was_made() {
    let (truth, keys, file) = generate(&plan(20_000, 500, 42), Vec::new()).unwrap();
    assert_eq!(truth.counts.packets, 20_000);
    for (name, count) in truth.counts.each() {
        let none = [
            "reset",
            "retry",
            "not_sealane",
            "not_udp",
            "cut_short",
            "clock_jumps",
            "conflicts",
            "control_out_of_order",
            "slices",
        ];
        assert_eq!(count == 0, none.contains(&name), "{name}: {count}");
    }
    assert_eq!(differences(&truth, &file, None), [""; 0]);
    assert_eq!(differences(&truth, &file, Some(&keys)), [""; 0]);
    let again = generate(&plan(20_000, 500, 42), Vec::new()).unwrap();
    assert!(again == (truth, keys, file), "the same seed gives the same capture");
}

/// [P-4.6] Records that span packets are in the capture where they are asked for, with all that befalls them, and only where packets are
/// small.
#[test]
fn records_that_span_packets() {
    let spanning = |mtu| Plan { spanning_records: true, mtu, ..plan(20_000, 200, 42) };
    let (truth, keys, file) = generate(&spanning(1500), Vec::new()).unwrap();
    let (counts, sealed) = (&truth.counts, &truth.sealed);
    assert!(counts.slices > counts.records / 2 && counts.slices < counts.records, "{counts:?}");
    // Several slices to each record that opened, copies and all.
    assert!(sealed.opened_records < counts.records - counts.slices / 2, "{counts:?} {sealed:?}");
    let sliced = |what| truth.faults.iter().any(|fault| fault.what == what && fault.index > 0);
    assert!([What::Gap, What::OutOfOrder, What::Duplicate, What::Retransmission].into_iter().all(sliced));
    assert!(counts.replays > 0, "{counts:?}");
    assert_eq!(differences(&truth, &file, None), [""; 0]);
    assert_eq!(differences(&truth, &file, Some(&keys)), [""; 0]);
    let (truth, ..) = generate(&spanning(9000), Vec::new()).unwrap();
    assert_eq!(truth.counts.slices, 0);
}

/// One packet with a time far ahead, before all others: it is told, and changes nothing else.
#[test]
fn one_wrong_time() {
    let (truth, _, file) = generate(&plan(5000, 50, 7), Vec::new()).unwrap();
    let len = u32::from_le_bytes(file[24 + 8..24 + 12].try_into().unwrap()) as usize;
    let mut wrong = file[24..24 + 16 + len].to_vec();
    wrong[..4].fill(0xff);
    // Of no message: not a packet of Sealane.
    wrong[16 + 42..].fill(0);
    let (analyzer, _) = analyze(&[&file[..24], &wrong, &file[24..]].concat(), None);
    let (found, made) = (analyzer.counts(), &truth.counts);
    assert_eq!((found.clock_jumps, found.not_sealane), (1, 1));
    assert_eq!((found.messages, found.complete, found.replays), (made.messages, made.complete, made.replays));
    assert_eq!((found.duplicates, found.lost), (made.duplicates, made.lost));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn as_it_was_made_whatever_was_asked_for(
        seed in any::<u64>(),
        flows in 1u64..40,
        each in 4u64..120,
        rates in prop::array::uniform5(prop_oneof![Just(0.0), 0.0..0.3, Just(1.0)]),
        cipher in prop::sample::select(Cipher::ALL.to_vec()),
        mtu in prop::sample::select(vec![1280usize, 1500, 9000]),
        spanning_records in any::<bool>(),
    ) {
        let [gap_rate, reorder, dup, replay, retransmit] = rates;
        let plan = Plan { gap_rate, reorder, dup, replay, retransmit, cipher, mtu, spanning_records, ..plan(flows * each + seed % flows, flows, seed) };
        let (truth, keys, file) = generate(&plan, Vec::new()).unwrap();
        prop_assert_eq!(truth.counts.packets, plan.packets);
        prop_assert_eq!(differences(&truth, &file, None), [""; 0]);
        prop_assert_eq!(differences(&truth, &file, Some(&keys)), [""; 0]);
    }
}
