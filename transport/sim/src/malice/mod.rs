//! Owns what is sent by those who mean harm: strangers on the network, who have what they saw; and an authenticated peer, who has the
//! keys of its own sessions and keeps no rule.

pub mod forge;
pub mod outside;
pub mod inside;

use crate::fault::Altered;

/// A datagram that no endpoint sent.
#[derive(Clone, Debug)]
pub struct Forgery {
    /// Where it seems to come from; perhaps where no host is.
    pub from: u32,
    /// The victim.
    pub to: u32,
    /// The datagram.
    pub bytes: Vec<u8>,
    /// That it must change nothing, when that is certain.
    pub unauthentic: Option<Altered>,
}
