//! Owns evidence of Intel's trust domains (TDX) and enclaves (SGX): a quote, and the collateral that judges it, so that nothing has to
//! be fetched. Both are signed by Intel; the crate `dcap-qvl` verifies them. Who attests sends the collateral along, as it changes
//! once a month and is the same for all verifiers; a verifier trusts it by its signatures and its dates only.
//!
//! | register | TDX | SGX |
//! |---|---|---|
//! | 0 | MRTD: the domain as it was built | MRENCLAVE |
//! | 1 to 4 | RTMR 0 to 3: what was measured since | 1: MRSIGNER |

use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::configs::RustCryptoConfig;
use dcap_qvl::quote::Report;
use dcap_qvl::verify::{QuoteVerifier, VerifiedReport};

use crate::claims::{Claims, Measurement};
use crate::evidence::{Error, Format, Verifier};

/// The format: the length of the quote in four bytes, the quote, the collateral as JSON.
pub const FORMAT: Format = Format { code: 2, name: "intel-dcap", is_mock: false };

/// What Intel says of a platform that is well.
const WELL: &str = "UpToDate";

/// Verifies quotes, by Intel's root certificate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dcap;

/// Evidence of a quote and its collateral.
///
/// # Errors
/// When the quote is too long.
pub fn evidence(quote: &[u8], collateral: &[u8]) -> Result<Vec<u8>, Error> {
    let len = u32::try_from(quote.len()).map_err(|_| Error::Malformed("a quote of over 4 GB"))?;
    Ok([&len.to_be_bytes(), quote, collateral].concat())
}

impl Verifier for Dcap {
    fn format(&self) -> Format {
        FORMAT
    }

    fn verify(&self, evidence: &[u8], unix_seconds: u64) -> Result<Claims, Error> {
        let (len, rest) = evidence.split_first_chunk().ok_or(Error::Malformed("no quote"))?;
        let (quote, collateral) =
            rest.split_at_checked(u32::from_be_bytes(*len) as usize).ok_or(Error::Malformed("half a quote"))?;
        let collateral: QuoteCollateralV3 =
            serde_json::from_slice(collateral).map_err(|_| Error::Malformed("collateral is not what it should be"))?;
        // A debug mode is for the policy to judge.
        let verifier = QuoteVerifier::<RustCryptoConfig>::new_prod().allow_debug(true);
        let verified = verifier.verify(quote, &collateral, unix_seconds);
        claims(verified.map_err(|why| refusal(format!("{why:#}")))?)
    }
}

/// How the crate says that a date is not now, of what Intel states, of certificates and of revocation lists.
const DATES: [&str; 4] = ["expired", "in the future", "Expired", "NotValidYet"];

/// The crate tells what it refuses in words only; a recorded quote tests that these are understood.
fn refusal(why: String) -> Error {
    if DATES.iter().any(|words| why.contains(words)) { Error::Expired(why) } else { Error::NotGenuine(why) }
}

fn claims(verified: VerifiedReport) -> Result<Claims, Error> {
    let register = |(register, value): (u8, &[u8])| Measurement { register, value: value.to_vec() };
    let (binding, measured, debug): (_, Vec<(u8, &[u8])>, _) = match (&verified.report, verified.report.as_td10()) {
        (_, Some(td)) => {
            let registers = [&td.mr_td, &td.rt_mr0, &td.rt_mr1, &td.rt_mr2, &td.rt_mr3];
            let measured = (0..).zip(registers).map(|(at, value)| (at, &value[..])).collect();
            (td.report_data, measured, td.td_attributes[0] & 1 != 0)
        }
        (Report::SgxEnclave(enclave), _) => {
            let measured = vec![(0, &enclave.mr_enclave[..]), (1, &enclave.mr_signer[..])];
            (enclave.report_data, measured, enclave.attributes[0] & 2 != 0)
        }
        _ => return Err(Error::Malformed("a report of an unknown kind")),
    };
    let measurements = measured.into_iter().map(register).collect();
    let mut shortcomings = verified.advisory_ids.clone();
    if verified.status != WELL {
        shortcomings.insert(0, verified.status.clone());
    }
    Ok(Claims { binding, measurements, debug, shortcomings })
}
