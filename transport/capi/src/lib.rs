//! Owns the C ABI: the socket of `sealane` behind opaque handles, for C and for whatever can call C. It decides nothing: each function
//! checks its pointers, makes one call, and turns what comes back into a status. No panic crosses it.
//!
//! `include/sealane.h` is written by cbindgen out of these files, in this order (`header.sh`); the rules of threads and of memory stand at
//! the top of it, and hold for every function here.
#![deny(missing_docs)]
#![expect(
    clippy::missing_safety_doc,
    reason = "the promises of a C program are the same for all functions; the header states them once, at its top"
)]

pub mod status;
mod boundary;
pub mod config;
pub mod socket;
pub mod delivery;
pub mod messages;
pub mod about;
