//! Bytes to meaning and back: the vocabulary that all other crates share.
//!
//! Bytes become a checked view, then a meaning; past that point nobody checks again and nobody sees raw bytes. This crate
//! depends on nothing, allocates nothing and decides nothing. The layouts are specified in `docs/PROTOCOL.md`.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(test)]
extern crate std;

pub mod error;
pub mod bytes;
pub mod ids;
pub mod limits;
pub mod geometry;
pub mod header;
pub mod lanes;
pub mod trailer;
pub mod data;
pub mod bundle;
pub mod slice;
pub mod control;
pub mod handshake;
pub mod reset;
pub mod packet;
