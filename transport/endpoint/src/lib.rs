//! Everything but the world: protocol, records, handshake and engine behind one sans-IO contract.
//!
//! [`endpoint::Endpoint`] takes datagrams, calls and the time, and gives datagrams, events and the next time it wants to
//! be called. The real driver and the simulator drive the same type.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod error;
pub mod trail;
mod chunks;
mod installed;
pub mod rates;
pub mod tokens;
pub mod paths;
pub mod evidence;
pub mod config;
pub mod counters;
pub mod block;
pub mod pool;
pub mod session;
pub mod notes;
mod lanes;
mod resting;
#[cfg(feature = "tls")]
mod tickets;
mod parting;
pub mod device;
mod room;
pub mod events;
mod spanned;
pub mod state;
mod spread;
mod queued;
mod rest;
pub mod resets;
pub mod handshakes;
pub mod epochs;
pub mod egress;
pub mod bundles;
mod beside;
mod spans;
mod late;
mod held;
pub mod moves;
mod landing;
pub mod ingress;
pub mod endpoint;
mod answering;
mod alarm;
mod together;
pub mod offloading;
pub mod streams;
pub mod early;
pub mod attestation;
pub mod published;
pub mod info;
#[cfg(feature = "tls")]
pub mod credentials;
