//! Owns the names of attestation that an application needs: who makes evidence, who judges it, and what is demanded. See
//! [`crate::Builder::attester`] and [`crate::Builder::attestation_policy`].

pub use attest::binding::Binding;
pub use attest::claims::{Claims, Measurement, Report};
pub use attest::evidence::{Attester, EVIDENCE_MAX, Error, Format, Verifier};
pub use attest::mock::Mock;
pub use attest::policy::{Asks, Policy};
#[cfg(feature = "tdx")]
pub use attest::tdx;
pub use attest::verdict::Verdict;
