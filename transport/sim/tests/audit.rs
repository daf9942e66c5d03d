//! The audit of nonces, small: that it sees epochs, attempts, repeats and restarts and finds nothing wrong, and that it finds what is.

use record::aead::Cipher;
use sim::audit::cipher::Bug;
use sim::audit::{Plan, run};

fn plan(cipher: Cipher) -> Plan {
    Plan { seed: 4, cipher, messages: 20_000, rekeys: 3, bug: None }
}

/// [P-3.3] [P-6.5] [P-3.4] [P-6.6] Shipped endpoints, with each cipher: all that is sealed is seen, no key seals two things under one
/// nonce, and a restart has other keys.
#[test]
fn no_nonce_meets_two_plaintexts() {
    for (seed, cipher) in [4, 10, 16].into_iter().zip(Cipher::ALL) {
        let mut told = 0;
        let messages = 60_000;
        let outcome = run(&Plan { seed, messages, ..plan(cipher) }, |messages| told += messages);
        assert_eq!((outcome.duplicates, outcome.unaccounted, outcome.stuck), (0, 0, false), "{cipher}");
        assert!(outcome.epochs_min >= 3 && outcome.restarts == 4, "{outcome:?}");
        assert!(outcome.rests > 20, "{} woke", outcome.rests);
        assert!(outcome.attempts > 0 && outcome.retransmitted > 0 && outcome.lost > 0, "{cipher}");
        assert!(
            outcome.messages >= messages && told == outcome.messages && outcome.sealed > outcome.messages / 2,
            "{outcome:?}"
        );
        // Two directions of three lives, each with a data key in each epoch, and a control key.
        assert!(outcome.keys.len() as u64 > outcome.epochs + 6);
    }
}

/// [P-3.3] [P-9.3] The same with several shards at either end, each lane of which changes its keys by itself; one datagram in sixteen
/// comes to another shard than it is for. (A short life may be over before each shard had something to say.)
#[test]
fn no_nonce_of_any_lane_meets_two_plaintexts() {
    for (seed, cipher) in [1, 3, 5].into_iter().zip(Cipher::ALL) {
        let mut outcome = run(&Plan { seed, ..plan(cipher) }, |_| ());
        outcome.keys.clear();
        assert_eq!((outcome.duplicates, outcome.unaccounted, outcome.stuck), (0, 0, false), "{seed}");
        assert!(outcome.epochs_min >= 3 && outcome.restarts == 4 && outcome.messages >= 20_000, "{outcome:?}");
        assert!(outcome.shards >= 4 && outcome.idle_shards < outcome.shards && outcome.handed_over > 0, "{outcome:?}");
        assert!(outcome.retransmitted > 0 && outcome.lost > 0, "{outcome:?}");
    }
}

/// [P-3.3] Each way to break the rule is noticed.
#[test]
fn every_bug_is_found() {
    for cipher in Cipher::ALL {
        for (bug, name) in Bug::ALL {
            let outcome = run(&Plan { bug: Some(bug), ..plan(cipher) }, |_| ());
            assert!(outcome.duplicates > 0, "{name} with {cipher}");
        }
    }
}

/// The same seed is the same run; another has other keys.
#[test]
fn seeds() {
    let once = run(&plan(Cipher::Aes128Gcm), |_| ());
    let again = run(&plan(Cipher::Aes128Gcm), |_| ());
    let other = run(&Plan { seed: 2, ..plan(Cipher::Aes128Gcm) }, |_| ());
    let sorted = |mut keys: Vec<Vec<u8>>| {
        keys.sort();
        keys
    };
    assert_eq!((once.sealed, once.lost), (again.sealed, again.lost));
    assert!(!other.keys.iter().any(|key| once.keys.contains(key)));
    assert_eq!(sorted(once.keys), sorted(again.keys));
}
