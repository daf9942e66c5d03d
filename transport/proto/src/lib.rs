//! The receiver-driven state machine: (input, now) -> outputs, on opaque bytes.
//!
//! Messages are lengths here, peers are slot numbers, and nothing is ever sealed or opened: what comes in was verified by
//! the layer above. The scheduling follows Homa (SIGCOMM'18; docs/PROTOCOL.md section 8).
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod time;
pub mod config;
pub mod heap;
pub mod timers;
pub mod ranges;
pub mod seen;
pub mod rtt;
pub mod cutoffs;
pub mod pacer;
pub mod io;
pub mod outgoing;
pub mod incoming;
pub mod rpc;
pub mod table;
pub mod peer;
pub mod hosts;
pub mod grant;
pub mod room;
pub mod resend;
pub mod machine;
mod looking;
pub mod outputs;
pub mod held;
pub mod arrivals;
pub mod answers;
pub mod clock;
mod elsewhere;
mod first;
mod atrest;
