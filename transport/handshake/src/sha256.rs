//! Owns one hash function, for names of things: certificates, keys, tickets.

/// SHA-256, by the provider of TLS.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let hash = suite.tls13().map(|suite| suite.common.hash_provider.hash(bytes));
    hash.and_then(|hash| hash.as_ref().try_into().ok()).expect("that suite's hash is SHA-256")
}
