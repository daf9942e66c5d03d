//! Everything but the world: protocol, records, handshake and engine behind one sans-IO contract.
//!
//! [`endpoint::Endpoint`] takes datagrams, calls and the time, and gives datagrams, events and the next time it wants to
//! be called. The real driver and the simulator drive the same type.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod error;
pub mod rates;
pub mod tokens;
pub mod paths;
pub mod evidence;
pub mod config;
pub mod counters;
pub mod pool;
pub mod session;
#[cfg(feature = "tls")]
mod tickets;
mod parting;
pub mod device;
pub mod state;
mod queued;
pub mod resets;
pub mod handshakes;
pub mod epochs;
pub mod egress;
pub mod bundles;
mod beside;
mod late;
mod held;
pub mod moves;
pub mod ingress;
pub mod endpoint;
pub mod offloading;
pub mod streams;
pub mod early;
pub mod attestation;
pub mod published;
pub mod info;
#[cfg(feature = "tls")]
pub mod credentials;
