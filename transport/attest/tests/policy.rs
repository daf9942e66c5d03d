//! What a policy takes and what it does not.

use attest::binding::{BINDING_LEN, Binding};
use attest::claims::{Claims, Measurement};
use attest::evidence::{Error, Format, Verifier, statement};
use attest::mock::Mock;
use attest::policy::{Asks, Policy};
use proptest::prelude::*;

fn measured(register: u8, value: &str) -> Measurement {
    Measurement { register, value: value.as_bytes().to_vec() }
}

fn binding(byte: u8) -> Binding {
    Binding::new([byte; BINDING_LEN])
}

fn pinned(value: &str) -> Policy {
    Asks::new().verifier(Mock::default()).pin(measured(0, value)).development()
}

fn shown(value: &str) -> Vec<u8> {
    statement(&Mock::measured(vec![measured(0, value), measured(7, "x")]), &binding(1)).unwrap()
}

#[test]
fn what_is_pinned_passes_and_nothing_else() {
    let report = pinned("GOOD").judge(&shown("GOOD"), &binding(1), 0).unwrap();
    assert_eq!((report.format, report.measurements.len()), ("mock", 2));
    assert_eq!(report.measurements[0].to_string(), "0=GOOD");
    let bad = pinned("BAD").judge(&shown("GOOD"), &binding(1), 0).unwrap_err();
    assert_eq!(bad.to_string(), "register 0: expected BAD, found GOOD");
    let absent = Asks::new().verifier(Mock::default()).pin(measured(3, "x")).development();
    let absent = absent.judge(&shown("GOOD"), &binding(1), 0).unwrap_err();
    assert_eq!(absent.to_string(), "register 3: expected x, found nothing");
    let either = Asks::new().verifier(Mock::default()).pin(measured(0, "A")).pin(measured(0, "B")).development();
    assert!(["A", "B"].iter().all(|value| either.judge(&shown(value), &binding(1), 0).is_ok()));
    assert!(either.judge(&shown("C"), &binding(1), 0).is_err());
}

/// Evidence of another session or of the other side is genuine, and worth nothing here.
#[test]
fn evidence_of_something_else() {
    assert_eq!(pinned("GOOD").judge(&shown("GOOD"), &binding(2), 0), Err(Error::NotBound));
    for bit in 0..8 * BINDING_LEN {
        let mut bytes = [1; BINDING_LEN];
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(pinned("GOOD").judge(&shown("GOOD"), &Binding::new(bytes), 0), Err(Error::NotBound), "{bit}");
    }
}

/// Says whatever it is told to say.
#[derive(Debug)]
struct Says(bool, Vec<String>);

impl Verifier for Says {
    fn format(&self) -> Format {
        Format { code: 9, name: "says", is_mock: false }
    }
    fn verify(&self, _: &[u8], _: u64) -> Result<Claims, Error> {
        let binding = [1; BINDING_LEN];
        Ok(Claims { binding, measurements: vec![measured(0, "v")], debug: self.0, shortcomings: self.1.clone() })
    }
}

#[test]
fn production_is_closed() {
    let judge = |policy: Policy| policy.judge(&[0, 9], &binding(1), 0);
    assert_eq!(Asks::new().verifier(Says(false, vec![])).production().unwrap_err(), Error::NoPins);
    let mock = Asks::new().verifier(Mock::default()).pin(measured(0, "v")).production();
    assert_eq!(mock.unwrap_err(), Error::MockInProduction);
    let asks = |debug, shortcomings: &[&str]| {
        let shortcomings = shortcomings.iter().map(|&text| text.to_owned()).collect();
        Asks::new().verifier(Says(debug, shortcomings)).pin(measured(0, "v"))
    };
    assert!(judge(asks(false, &[]).production().unwrap()).is_ok());
    assert_eq!(judge(asks(true, &[]).production().unwrap()), Err(Error::Debug));
    assert!(judge(asks(true, &[]).development()).is_ok());
    let late = Error::Shortcoming("OutOfDate".to_owned());
    assert_eq!(judge(asks(false, &["OutOfDate"]).production().unwrap()), Err(late.clone()));
    assert_eq!(judge(asks(false, &["OutOfDate"]).development()), Err(late));
    let borne = judge(asks(false, &["OutOfDate"]).tolerate("OutOfDate").production().unwrap()).unwrap();
    assert_eq!(borne.shortcomings, ["OutOfDate"], "it is said all the same");
}

#[test]
fn what_nobody_can_judge() {
    let policy = pinned("GOOD");
    assert_eq!(policy.judge(&[0, 99, 1], &binding(1), 0), Err(Error::UnknownFormat(99)));
    assert!(matches!(policy.judge(&[0], &binding(1), 0), Err(Error::Malformed(_))));
    assert!(matches!(policy.judge(&vec![0; 70_000], &binding(1), 0), Err(Error::Malformed(_))));
    let whole = shown("GOOD");
    for len in 0..whole.len() {
        assert!(policy.judge(&whole[..len], &binding(1), 0).is_err() || len == whole.len() - 3, "{len}");
    }
}

proptest! {
    /// Bytes that nobody made are never taken where something is pinned.
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(pinned("GOOD").judge(&[&[0, 1], &bytes[..]].concat(), &binding(1), 0).is_err());
    }
}
