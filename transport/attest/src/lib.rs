//! Evidence of what software runs at the other end, and the judgement of it: before any byte of the application moves.
//!
//! A side that attests asks its platform for evidence that contains a [`binding::Binding`]: 64 bytes that only the two ends of one
//! session can know, different for each side. So evidence cannot be shown a second time, by somebody else, or in another session.
//! The other side gives it to a [`policy::Policy`], which says what may run. This crate sees no network and no keys.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod binding;
pub mod claims;
pub mod evidence;
pub mod verdict;
pub mod policy;
pub mod mock;
#[cfg(feature = "tdx")]
pub mod tdx;
