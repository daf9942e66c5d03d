//! Plaintext records to sealed records and back; knows keys, knows no packets.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod aead;
pub mod error;
pub mod budget;
pub mod keys;
pub mod lanes;
pub mod replay;
pub mod epochs;
pub mod bundle;
pub mod seal;
pub mod open;
