//! Who seals: the engine layer. Says what an engine can do, offers the one in software, and picks.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod caps;
pub mod engine;
pub mod software;
pub mod select;
