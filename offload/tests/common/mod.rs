//! What the tests of the engines share.

use record::aead::Crypto;

/// Every library that is built in.
pub(crate) fn providers() -> Vec<&'static dyn Crypto> {
    vec![
        #[cfg(feature = "aws-lc")]
        &offload::software::aws_lc::PROVIDER,
        #[cfg(feature = "rustcrypto")]
        &offload::software::rustcrypto::PROVIDER,
    ]
}
