//! The self-test beside the model: a card as it should be climbs to the top; each mistake ends the climb at the step that is there for it.

mod nic_common;

use mlx5_shim::cmd::Caps;
use mlx5_shim::device::Device;
use mlx5_shim::fault::{Fault, Faulty};
use mlx5_shim::model::{Config, Gcm, GcmKey, Model};
use nic_common::{cable, fill, to};
use offload::gcm::Provided;
use offload::ladder::{Climb, find, given, test};
use offload::proof::NoWire;
use offload::software::crypto;

fn climb(device: Box<dyn Device>, v6: bool) -> Climb {
    test(given(device), crypto(), &mut NoWire, &mut cable(v6), to(v6), &mut fill)
}

fn said(climb: &Climb) -> &str {
    let fault = climb.fault().expect("a rung that does not hold");
    assert!(climb.device.is_none());
    assert_eq!(fault.name, "self-test");
    &fault.why
}

#[test]
fn a_right_card_climbs_to_the_top() {
    for (v6, log_max_lso, gcm128) in [(false, 18, true), (true, 18, true), (false, 0, true), (true, 0, false)] {
        let caps = Caps { log_max_lso, tls12_gcm128: gcm128, ..Config::default().caps };
        let model = Model::new(Config { caps, ..Config::default() }, Box::new(Provided(crypto())));
        let witness = model.witness();
        let climb = climb(Box::new(model), v6);
        assert!(climb.fault().is_none() && climb.device.is_some(), "{:?}", climb.rungs);
        assert_eq!(climb.rungs[3].why.contains("cuts"), log_max_lso > 0);
        let report = witness.report();
        assert_eq!((report.violations.len(), report.in_clear, report.garbled), (0, 0, 1), "{report:?}");
    }
}

#[test]
fn a_card_that_cannot_seal_is_left_at_its_capabilities() {
    let caps = Caps { tls12_gcm128: false, tls12_gcm256: false, ..Config::default().caps };
    let climb = climb(Box::new(Model::new(Config { caps, ..Config::default() }, Box::new(Provided(crypto())))), false);
    let fault = climb.fault().expect("a rung that does not hold");
    assert_eq!(fault.name, "capabilities");
}

#[test]
fn a_card_that_loses_bytes_is_found() {
    let model = Model::new(Config::default(), Box::new(Provided(crypto())));
    let (device, trigger) = Faulty::new(model, Fault::ShortDump);
    trigger.arm();
    assert!(said(&climb(Box::new(device), false)).contains("resumes"));
}

/// A card that takes the nonce from its count, as in TLS 1.3: then a wrong count is a nonce that something else may have had.
#[test]
fn a_card_that_takes_the_nonce_from_its_count_is_found() {
    struct FromCount;
    struct Key(Box<dyn GcmKey>);
    impl Gcm for FromCount {
        fn key(&self, key: &[u8]) -> Box<dyn GcmKey> {
            Box::new(Key(Provided(crypto()).key(key)))
        }
    }
    impl GcmKey for Key {
        fn seal(&self, nonce: &[u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; 16] {
            let mut nonce = *nonce;
            nonce[4..].copy_from_slice(&aad[..8]);
            self.0.seal(&nonce, aad, text)
        }
    }
    let why = climb(Box::new(Model::new(Config::default(), Box::new(FromCount))), false);
    assert!(said(&why).contains("takes the nonce from its count"));
}

/// Whatever is in this machine, there is an answer with a reason.
#[test]
fn here_there_is_an_answer() {
    let climb = find(None);
    eprintln!("here: {:?}", climb.rungs);
    assert!(climb.device.is_some() || climb.fault().is_some_and(|rung| !rung.why.is_empty()));
    assert!(find(Some("no_such_card_0")).device.is_none());
}
