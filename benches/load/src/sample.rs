//! What one round of a cell gave, before anything is compared.
//!
//! Owns the record that `cell` fills in and `report` sums up. Refuses: arithmetic.

use serde::{Deserialize, Serialize};

/// What one round of a cell gave.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) rps: f64,
    pub(crate) cpu_us_per_rpc: f64,
    pub(crate) connect_us: f64,
    pub(crate) beside_us: Option<f64>,
    pub(crate) verified: u64,
    pub(crate) corrupt: u64,
    pub(crate) lost: u64,
    pub(crate) read_bytes: usize,
    pub(crate) session: Option<Session>,
}

/// What Sealane's client says about the session that it measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The AEAD of its records.
    pub cipher: String,
    /// Whether both sides proved who they are; in a row, whether they did in every round.
    pub mutual: bool,
    /// The handshake alone: from the first packet sent to keys in use; in a row, the median over rounds.
    pub handshake_us: f64,
}
