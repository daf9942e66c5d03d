//! Captures of Sealane packets: made from a seed with what is in them known beforehand, analysed in one pass, stored, shown.
//!
//! Meaning comes from the crates that endpoints use (`wire`, `record`), so an analyser cannot understand a packet otherwise than they do.
//! What is counted, and how it is defined, stands in docs/CAPTURES.md. This crate knows no clock and no socket.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod error;
pub mod frame;
pub mod file;
pub mod keys;
pub mod counts;
pub mod message;
pub mod flow;
pub mod open;
pub mod analyze;
pub mod truth;
pub mod generate;
pub mod store;
pub mod report;
