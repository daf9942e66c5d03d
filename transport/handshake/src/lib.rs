//! TLS 1.3 by rustls, or installed secrets: bytes in, bytes out, secrets at the end. [P-6]
//!
//! Sans-IO: datagrams and the time go in, datagrams and the next deadline come out, and at the end there is one secret, the
//! other side's transport parameters and who it is. No socket, no clock; what randomness is ours is an argument (TLS has
//! its own). Everything here is bounded: a half-open handshake holds at most [`limits::BUFFERED_MAX`] bytes of its peer's.
//!
//! [`client::Client`] and [`server::Server`] are driven alike: give each packet to `handle`, drain `poll_transmit` until it
//! has nothing, come back at `timeout`.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(test)]
#[path = "../tests/common/crypto.rs"]
mod test_crypto;
pub mod limits;
pub mod params;
pub mod exchange;
pub mod error;
mod names;
#[cfg(feature = "tls")]
mod sha256;
#[cfg(feature = "tls")]
mod judged;
#[cfg(feature = "tls")]
mod pem;
#[cfg(feature = "tls")]
mod own;
pub mod identity;
#[cfg(feature = "tls")]
mod again;
#[cfg(feature = "tls")]
pub mod trust;
#[cfg(feature = "tls")]
pub mod keylog;
#[cfg(feature = "tls")]
mod kept;
#[cfg(feature = "tls")]
mod tickets;
#[cfg(feature = "tls")]
pub mod published;
#[cfg(feature = "tls")]
pub mod ready;
#[cfg(feature = "tls")]
mod schedule;
#[cfg(feature = "tls")]
mod suites;
#[cfg(feature = "tls")]
pub mod config;
pub mod contract;
pub mod sides;
pub mod secrets;
mod guard;
mod assembly;
mod pace;
mod flight;
pub mod cookie;
pub mod installed;
#[cfg(feature = "tls")]
mod tls;
mod machine;
pub mod client;
pub mod server;
