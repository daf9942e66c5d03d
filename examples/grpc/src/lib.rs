//! RPC frameworks over Sealane: [tower] services of plain messages at both ends ([`caller`], [`serve`]), and on top of them gRPC, for stubs
//! that tonic generates, unchanged ([`channel`], [`server`]). `docs/GRPC.md` is the guide.
//!
//! [tower]: https://docs.rs/tower-service
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a server of the real world: sockets, files and the clock are its subject"
)]

pub mod limits;
pub mod head;
pub mod message;
pub mod status;
mod gather;
pub mod caller;
pub mod serve;
mod call;
mod upload;
pub mod download;
pub mod channel;
mod uplink;
mod producer;
mod stream;
pub mod server;
pub mod routes;
pub mod proto;
pub mod board;
pub mod certs;
pub mod show;
pub mod bench;
