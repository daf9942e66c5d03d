//! Load generators, and the transports that Sealane is compared with, done as well as they can be.
//!
//! Owns: one echo server and one client per peer (see [`PeerKind`]), the
//! closed loop that drives them and verifies every byte, and the interleaved rounds that make the figures comparable.
//! Refuses: printing and argument parsing (that is `benches/peers` and `sealane demo`), and any tuning that one peer
//! gets and another could use but does not.
//!
//! A *cell* is one peer, one message size, one number of outstanding messages, one round. Each cell starts its own
//! server, in a child process of the running binary, so nothing of one peer (a spinning thread, a warm socket) is
//! left over while another is measured.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the real world is the subject here: other transports' sockets, and the clock that measures them"
)]

mod spec;
mod checksum;
mod served;
mod buffer;
mod pattern;
mod cpu;
pub mod certs;
mod sample;
mod client;
mod stream;
mod tcp;
mod sealed;
mod ktls;
mod ktls_ideal;
mod tls;
mod udp_ideal;
mod layout;
mod raw_udp;
mod udp_bulk;
mod sealane_peer;
#[cfg(feature = "heavy")]
mod heavy;
pub mod server;
mod connect;
mod drive;
mod cell;
mod environment;
mod report;
mod runner;
pub mod guest;
pub mod memory;
pub mod cores;
pub mod handshake;
pub mod stress;

pub use environment::Environment;
pub use report::{Failure, Missing, Report, Row};
pub use runner::{Open, Plan, Progress, Runner};
pub use sample::Session;
pub use server::Host;
pub use spec::{MESSAGE_BYTES_MAX, Mode, PeerKind, Spec, parse_peers, parse_sizes};
