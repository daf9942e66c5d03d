//! Encrypted messages between machines of a datacenter: a one-to-many socket over UDP.
//!
//! One [`Socket`] talks to any number of peers, as client and server at once. Every message is encrypted on its own and
//! arrives on its own: no message waits for another, and the receiver decides who may send how much (after Homa). Sessions
//! are made by TLS 1.3, or with secrets installed by the application.
//!
//! Begin with [`Socket::builder`]; `examples/echo` is a client and a server on one page.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(not(target_os = "linux"))]
compile_error!("Sealane runs on Linux only: it needs UDP segmentation offload, epoll and timer descriptors");

pub mod error;
pub mod attestation;
#[cfg(feature = "aws-lc")]
mod ticket;
#[cfg(feature = "dns")]
mod dns;
#[cfg(feature = "aws-lc")]
mod credentials;
mod config;
mod link;
mod message;
mod neighbours;
mod driver;
mod offloading;
mod bell;
mod waiting;
mod attesting;
mod stream;
mod delivery;
mod info;
#[cfg(feature = "metrics")]
mod meters;
mod handles;
mod socket;
mod shards;
#[cfg(feature = "aws-lc")]
mod publishing;
mod trying;
mod serving;
mod many;
mod sessions;
mod timetrace;
pub mod builder;
#[cfg(feature = "tokio")]
mod asynchronous;
#[cfg(test)]
mod discovery;

#[cfg(feature = "tokio")]
pub use asynchronous::AsyncSocket;
pub use builder::Builder;
#[cfg(feature = "aws-lc")]
pub use builder::{Clients, Identity, Trust};
pub use config::{CallOptions, Profile, Role, Wait};
pub use delivery::Delivery;
#[cfg(feature = "dns")]
pub use dns::TicketDns;
pub use endpoint::counters::Counters;
pub use endpoint::info::{CallInfo, SessionInfo};
pub use endpoint::pool::Payload;
pub use endpoint::rates::{Limits, Rate};
pub use endpoint::session::{Protection, Upgrade};
pub use endpoint::trail::{Cause, Mark, Step, TimeTrace};
pub use error::{Error, Fault};
pub use handles::{Batch, Readiness};
pub use handshake::error::Error as HandshakeError;
pub use handshake::exchange::KeyExchange;
pub use handshake::identity::{PeerCertificate, PeerIdentity, PeerKey};
pub use info::Info;
pub use link::LinkRate;
pub use message::{Body, Failed, OneWay, Peer, PeerInfo, ReplyToken, Request, Response, RpcId};
#[cfg(feature = "metrics")]
pub use meters::Meters;
pub use offloading::Offload;
pub use record::aead::Cipher;
pub use shards::Shard;
pub use socket::Socket;
pub use stream::{CallStream, MessageStream, StreamKind};
#[cfg(feature = "aws-lc")]
pub use ticket::{InvalidTicket, Ticket, TicketDamage, TicketFiles, TicketId, TicketSource};
pub use udp::backend::Backend;
pub use udp::batch::{Datagrams, Received, SendError, Transmit};
pub use udp::caps::{Caps, Used};
pub use udp::fault;
pub use wire::ids::Side;
