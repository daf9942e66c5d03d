//! A deterministic world: many endpoints, one thread, one seed, virtual time.
//!
//! The endpoints are the shipped ones, with the software engine; nothing of the protocol is made again here. What is made here is
//! what is around them: links with a rate and strict priorities, switches, hosts with software delays, messages that want to be sent.
//! The same seed gives the same run, bit for bit: [`trace::Trace::hash`] says whether it did. There is no clock and no socket in here.
//!
//! Modules stand bottom-up: each knows only those above it.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod clock;
pub mod rng;
pub mod queue;
pub mod trace;
pub mod link;
pub mod fabric;
pub mod host;
pub mod hooks;
pub mod world;
pub mod workload;
pub mod framing;
pub mod published;
pub mod slowdown;
pub mod ideal;
pub mod experiment;
pub mod incast;
pub mod wiretap;
pub mod fault;
pub mod malice;
pub mod checker;
pub mod chaos;
pub mod audit;
pub mod offloaded;
