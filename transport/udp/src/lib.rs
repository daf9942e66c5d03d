//! Datagrams to and from the Linux kernel: trains out (GSO), trains in (GRO), and the few descriptors a driver sleeps on.
//!
//! Owns every system call that the core makes, and with them the only `unsafe` of the core (in `sys`, and beside it in what optional backends share with the kernel: `pages`, `ring`,
//! `xdp::queue`, `xdp::program`).
//! Refuses to know what a datagram means, to decide what is due, and to run anywhere but on Linux.
//!
//! The modules stand bottom-up: each one may use those listed before it.

#![deny(missing_docs, unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "the crate `udp` speaks to the Linux kernel (UDP_SEGMENT, UDP_GRO, eventfd, epoll); there is no backend for other systems"
);

#[cfg(target_os = "linux")]
mod sys;
#[cfg(target_os = "linux")]
pub mod clock;
#[cfg(target_os = "linux")]
pub mod poll;
#[cfg(target_os = "linux")]
pub mod fork;
#[cfg(target_os = "linux")]
pub mod links;
#[cfg(target_os = "linux")]
pub mod caps;
#[cfg(target_os = "linux")]
pub mod batch;
#[cfg(target_os = "linux")]
mod thrift;
#[cfg(target_os = "linux")]
pub mod mmsg;
#[cfg(target_os = "linux")]
pub mod steering;
#[cfg(target_os = "linux")]
pub mod fault;
#[cfg(target_os = "linux")]
pub mod hot;
#[cfg(target_os = "linux")]
pub mod sniff;

#[cfg(all(target_os = "linux", any(feature = "io-uring", feature = "xdp")))]
mod pages;
#[cfg(all(target_os = "linux", feature = "io-uring"))]
mod ring;
#[cfg(all(target_os = "linux", feature = "io-uring"))]
pub mod uring;
#[cfg(all(target_os = "linux", feature = "xdp"))]
pub mod xdp;
#[cfg(target_os = "linux")]
pub mod backend;

#[cfg(target_os = "linux")]
pub use {
    backend::Backend,
    batch::{Datagrams, Received, SendError, Transmit},
    caps::{Caps, Gso, Used, path_mtu},
    fault::{Faults, Faulty},
    links::{Links, Speed},
    mmsg::{Mmsg, Options, bind, connect},
    steering::Rule,
};
