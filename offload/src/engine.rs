//! Owns what every engine offers: its capabilities, and the algorithms of its software half.
//!
//! An engine always has a software half: repeats, small messages and everything a NIC will not take are sealed there.

use core::fmt;

use record::aead::Crypto;

use crate::caps::Caps;

/// Something that seals and opens records.
pub trait Engine: fmt::Debug + Send + Sync {
    /// What it can do. Never changes: ask once.
    fn caps(&self) -> &Caps;
    /// The algorithms that seal and open in software, and derive keys.
    fn crypto(&self) -> &'static dyn Crypto;
}
