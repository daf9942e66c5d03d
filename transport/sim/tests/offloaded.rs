//! Engines left and right: processor with either library, modelled card; under losses, disorder and changes of keys, and with each fault of a
//! card. What arrives is what was sent, and no number that a card had is sealed again.

use mlx5_shim::fault::Fault;
use offload::nic::Config;
use record::aead::Cipher;
use sim::offloaded::{Engine, Outcome, Plan, run};

fn ran(plan: &Plan) -> Outcome {
    let outcome = run(plan, &mut |_| ());
    assert_eq!((outcome.messages, outcome.failed, outcome.altered), (plan.messages, 0, 0), "{plan:?}\n{outcome:?}");
    assert_eq!((outcome.seen.twice, outcome.seen.differing), (0, 0), "{plan:?}");
    assert_eq!(outcome.cards(|report| report.in_clear + report.twice), 0, "{plan:?}");
    outcome
}

/// Each engine with each: no fault, then losses and disorder, then keys that change all the time as well.
#[test]
fn engines_left_and_right() {
    for (_, left) in Engine::ALL {
        for (_, right) in Engine::ALL {
            let plan = Plan { messages: 240, engines: [left, right], sizes: vec![64, 3000, 70_000], ..Plan::default() };
            let calm = ran(&plan);
            assert_eq!(calm.tag_failures(), 0);
            let cards = u64::from(left == Engine::Card) + u64::from(right == Engine::Card);
            assert_eq!(calm.seen.by_card > 0, cards > 0);
            assert_eq!(calm.sum(|counters| counters.records_by_device), calm.nic.records);
            assert_eq!(calm.cards(|report| report.violations.values().sum()), 0);
            let lossy = ran(&Plan { loss: 0.02, late: 0.05, ..plan.clone() });
            assert!(lossy.lost > 0 && lossy.tag_failures() == 0);
            assert_eq!(lossy.sum(|counters| counters.device_repairs) > 0, cards > 0, "{lossy:?}");
            let rekeyed = ran(&Plan { messages: 480, loss: 0.02, late: 0.05, rekey_after: Some(500), ..plan });
            assert!(rekeyed.sum(|counters| counters.epochs_begun) > 4);
            assert_eq!(rekeyed.nic.keys > 4 * cards, cards > 0);
        }
    }
}

/// Long messages beside each other: a card is given what goes next, not all that there is, so nothing waits in it until somebody asks for it
/// again. Without losses nothing is repeated, and the card stays in use.
#[test]
fn long_messages_take_turns() {
    for interleave in [4, 16] {
        let plan = Plan { messages: 64, sizes: vec![1 << 20], interleave, ..Plan::default() };
        let outcome = ran(&plan);
        assert_eq!(outcome.sum(|counters| counters.device_repairs + counters.device_off), 0, "{outcome:?}");
        assert_eq!(outcome.sum(|counters| counters.records_by_device), outcome.sum(|counters| counters.records_sealed));
    }
}

/// [P-3.5] The other cipher, without LSO, with more sessions' worth of contexts than there are, and one message after the other.
#[test]
fn other_cards() {
    let plan = Plan { messages: 200, sizes: vec![20_000], ..Plan::default() };
    let alone = ran(&Plan { interleave: 1, ..plan.clone() });
    let many = ran(&plan);
    assert!(alone.nic.resyncs <= many.nic.resyncs, "{:?} {:?}", alone.nic, many.nic);
    let gcm256 = ran(&Plan { cipher: Cipher::Aes256Gcm, ..plan.clone() });
    assert_eq!(gcm256.nic.records, many.nic.records);
    let singly = ran(&Plan { lso: false, ..plan.clone() });
    assert!(singly.nic.descriptors > 2 * many.nic.descriptors);
    let chacha = ran(&Plan { cipher: Cipher::ChaCha20Poly1305, ..plan.clone() });
    assert_eq!((chacha.nic.records, chacha.seen.by_card), (0, 0), "no card seals that");
    let small = ran(&Plan { sizes: vec![64, 500], ..plan.clone() });
    assert_eq!(small.nic.records, 0, "small ones are cheaper here");
    let tight = ran(&Plan { nic: Config { blocks: 128, ..Config::default() }, interleave: 64, ..plan });
    assert!(tight.nic.records > 0);
}

/// [P-3.5] A forgotten word: wrong tags at the peer, repaired under other attempts, and the card is left alone in the end.
#[test]
fn skipped_resyncs_are_repaired() {
    let plan = Plan { messages: 2000, sizes: vec![3000], fault: Some(Fault::SkipResync), ..Plan::default() };
    let outcome = ran(&plan);
    assert!(outcome.strikes > 0 && outcome.tag_failures() > 0);
    assert!(outcome.sum(|counters| counters.device_repairs) > 0);
    assert_eq!(outcome.sum(|counters| counters.device_off), 1, "{:?}", outcome.counters);
    assert_eq!(outcome.sum(|counters| counters.device_keys_given_up), 0, "whoever loses packets must not burn keys");
}

/// [P-3.5] A card that works its queues in another order, and plans that take another queue's context: these are kept from the card, their
/// keys are given up, and the messages go on under other attempts. Nothing is torn, and nothing leaves in clear.
#[test]
fn crossed_queues_are_kept_apart() {
    let plan = Plan { messages: 2000, sizes: vec![3000], fault: Some(Fault::ReorderQueues), ..Plan::default() };
    for seed in 1..4 {
        let outcome = ran(&Plan { seed, ..plan.clone() });
        assert!(outcome.strikes > 1 && outcome.overtaken > 0, "{outcome:?}");
        assert_eq!((outcome.refused_descriptors, outcome.nic.failures), (outcome.strikes, outcome.strikes));
        assert_eq!(outcome.sum(|counters| counters.device_keys_given_up), outcome.nic.keys_retired);
        assert!(outcome.nic.keys_retired > 0 && outcome.sum(|counters| counters.device_repairs) > 0);
        assert_eq!((outcome.tag_failures(), outcome.cards(|report| report.garbled)), (0, 0));
        assert_eq!(outcome.cards(|report| report.violations.values().sum()), 0, "{:?}", outcome.reports);
    }
}

/// [P-3.5] Who loses packets, or says so in packets that are believed, ends the use of the card: once for a session, and no more than that. No
/// key is given up and no epoch begun for it, and the messages arrive all the same.
#[test]
fn whoever_loses_packets_burns_no_key() {
    let plan = Plan { messages: 2000, sizes: vec![3000], loss: 0.25, ..Plan::default() };
    let outcome = ran(&plan);
    for counters in &outcome.counters {
        assert_eq!(
            (counters.device_off, counters.device_keys_given_up, counters.epochs_begun),
            (1, 0, 0),
            "{counters:?}"
        );
        assert!(counters.records_by_device < counters.records_sealed / 2, "{counters:?}");
    }
    assert_eq!((outcome.nic.keys, outcome.nic.keys_retired, outcome.tag_failures()), (2, 0, 0));
    // A loss that is usual leaves it on.
    let usual = ran(&Plan { loss: 0.01, ..plan });
    assert_eq!(usual.sum(|counters| counters.device_off), 0);
}

/// A card that loses a byte of what it is fed fails its test: all is sealed in software.
#[test]
fn a_short_dump_is_found_before_use() {
    let outcome =
        ran(&Plan { fault: Some(Fault::ShortDump), engines: [Engine::Card, Engine::Software], ..Plan::default() });
    assert!(outcome.strikes > 0 && outcome.refused.as_ref().is_some_and(|why| why.contains("resumes")));
    assert_eq!((outcome.seen.by_card, outcome.tag_failures()), (0, 0));
}

/// [P-3.5] A card that stops: its keys are given up, messages go on in the next epoch, under other attempts, and the card is used again.
#[test]
fn a_reset_gives_up_the_key() {
    let outcome = ran(&Plan { messages: 2000, sizes: vec![3000], fault: Some(Fault::Reset), ..Plan::default() });
    assert_eq!((outcome.strikes, outcome.nic.failures, outcome.tag_failures()), (1, 1, 0));
    assert_eq!(outcome.sum(|counters| counters.device_keys_given_up), 1);
    let client = &outcome.counters[0];
    assert!(client.epochs_begun >= 1 && client.attempts > 0, "{client:?}");
    assert!(outcome.nic.keys >= 3, "the next epoch's key was given to it: {outcome:?}");
}
