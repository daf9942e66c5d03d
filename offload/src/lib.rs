//! Who seals: the engine layer. Says what an engine can do, offers the one in software and the one of a NIC, and picks.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod caps;
pub mod engine;
pub mod software;
pub mod plan;
pub mod frame;
pub mod ways;
pub mod context;
pub mod gcm;
pub mod nic;
pub mod proof;
pub mod ladder;
pub mod select;
