//! A key-value server of the Redis protocol: one engine and one event loop behind TCP, TLS over TCP and Sealane at once, and the clients
//! and benchmarks that compare the three. `docs/KV.md` is its guide.
//!
//! The engine knows no sockets and the loop no commands: between them stand bytes of the protocol.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a server of the real world: sockets, files and the clock are its subject"
)]

pub mod resp;
pub mod glob;
pub mod table;
pub mod value;
pub mod store;
pub mod commands;
pub mod log;
pub mod pubsub;
pub mod engine;
pub mod tls;
mod requests;
mod stream;
mod sessions;
mod floor;
pub mod server;
pub mod workload;
mod links;
mod datagrams;
pub mod worker;
pub mod child;
pub mod bench;
pub mod fleet;
