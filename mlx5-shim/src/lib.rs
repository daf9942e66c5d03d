//! A ConnectX card's own words, as bytes, and the one crate that speaks to such a card: mailboxes, descriptors, completions, the seam between
//! the engine and a card, a card in software, and the real one through libraries that are opened at run time if they are there.
//!
//! All `unsafe` is in `sys`, `load` and `hw`, each block with its promise. The default build needs no package of RDMA.
#![deny(missing_docs)]

#[forbid(unsafe_code)]
pub mod bytes;
#[forbid(unsafe_code)]
pub mod error;
#[forbid(unsafe_code)]
pub mod cmd;
#[forbid(unsafe_code)]
pub mod wqe;
#[forbid(unsafe_code)]
pub mod cqe;
#[forbid(unsafe_code)]
pub mod device;
#[forbid(unsafe_code)]
pub mod spread;
#[forbid(unsafe_code)]
pub mod model;
#[forbid(unsafe_code)]
pub mod guard;
#[forbid(unsafe_code)]
pub mod fault;
mod sys;
pub mod load;
pub mod hw;
