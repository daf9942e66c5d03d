//! A quote of a real trust domain, as Intel's platform made it in June 2025, judged offline. Quote and collateral are those that come with
//! the sources of the crate `dcap-qvl` (MIT).
#![cfg(feature = "tdx")]

use attest::binding::{BINDING_LEN, Binding};
use attest::claims::{Claims, Measurement};
use attest::evidence::{Error, Verifier};
use attest::policy::Asks;
use attest::tdx::{Dcap, FORMAT, evidence};

const QUOTE: &[u8] = include_bytes!("../evidence/tdx_quote");
const COLLATERAL: &[u8] = include_bytes!("../evidence/tdx_quote_collateral.json");
/// A day on which the collateral held: 2025-06-21.
const THEN: u64 = 1_750_500_000;
/// Where what the domain's owner chose stands in the quote: the last 64 bytes of a body of 584 behind a header of 48.
const REPORT_DATA: usize = 48 + 584 - BINDING_LEN;

fn claims() -> Claims {
    Dcap.verify(&evidence(QUOTE, COLLATERAL).unwrap(), THEN).unwrap()
}

fn statement(quote: &[u8], collateral: &[u8]) -> Vec<u8> {
    [&FORMAT.code.to_be_bytes(), &evidence(quote, collateral).unwrap()[..]].concat()
}

#[test]
fn a_recorded_quote_is_genuine() {
    let claims = claims();
    assert_eq!(claims.binding[..], QUOTE[REPORT_DATA..REPORT_DATA + BINDING_LEN]);
    assert_eq!(claims.measurements.len(), 5);
    assert!(claims.measurements.iter().all(|measured| measured.value.len() == 48) && !claims.debug);
}

#[test]
fn a_production_policy_takes_it_for_what_it_was_made_for() {
    let claims = claims();
    let asks = || {
        let asks = Asks::new().verifier(Dcap).pin(claims.measurements[0].clone());
        claims.shortcomings.iter().fold(asks, |asks, known| asks.tolerate(known))
    };
    let bound = Binding::new(claims.binding);
    let report = asks().production().unwrap().judge(&statement(QUOTE, COLLATERAL), &bound, THEN).unwrap();
    assert_eq!((report.format, report.measurements), ("intel-dcap", claims.measurements.clone()));
    let other = Binding::new([0; BINDING_LEN]);
    let replayed = asks().production().unwrap().judge(&statement(QUOTE, COLLATERAL), &other, THEN);
    assert_eq!(replayed.unwrap_err(), Error::NotBound);
    let another = Asks::new().verifier(Dcap).pin(Measurement { register: 0, value: vec![7; 48] });
    let another = claims.shortcomings.iter().fold(another, |asks, known| asks.tolerate(known)).production().unwrap();
    let refused = another.judge(&statement(QUOTE, COLLATERAL), &bound, THEN).unwrap_err();
    assert!(matches!(refused, Error::Measurement { register: 0, .. }), "{refused}");
}

#[test]
fn after_its_time_it_proves_nothing() {
    for then in [THEN - 365 * 86_400, THEN + 365 * 86_400] {
        let judged = Dcap.verify(&evidence(QUOTE, COLLATERAL).unwrap(), then);
        assert!(matches!(judged, Err(Error::Expired(_))), "{judged:?}");
    }
}

/// A change anywhere in what is signed: in the report, in what binds it, in the signatures.
#[test]
fn one_bit_is_enough() {
    for at in (48..QUOTE.len()).step_by(97).chain([REPORT_DATA, REPORT_DATA + 63]) {
        let mut quote = QUOTE.to_vec();
        quote[at] ^= 1;
        let same = claims();
        if let Ok(judged) = Dcap.verify(&evidence(&quote, COLLATERAL).unwrap(), THEN) {
            // Bytes that nothing hangs on: then nothing else may be said either.
            assert_eq!(judged, same, "{at}");
            assert!(at > 48 + 584, "{at} is signed");
        }
    }
    let changed = String::from_utf8(COLLATERAL.to_vec()).unwrap().replacen("UpToDate", "UpToDatE", 1);
    assert!(Dcap.verify(&evidence(QUOTE, changed.as_bytes()).unwrap(), THEN).is_err());
    assert!(Dcap.verify(&evidence(QUOTE, b"{}").unwrap(), THEN).is_err());
    assert!(Dcap.verify(&[0, 0, 1], THEN).is_err());
}
