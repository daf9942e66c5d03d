//! Owns what the shards of one endpoint tell each other: values, which whoever runs the shards carries in order. [P-9.2]
//!
//! Shards share no memory. The first one has the handshakes and decides what begins and what ends; the others ask it, and are told. None
//! of this is on the way of a message.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use attest::claims::Report;
use handshake::exchange::KeyExchange;
use handshake::identity::PeerIdentity;
use proto::time::Instant;
use record::aead::Cipher;
use record::keys::Secret;
use wire::ids::{SessionId, Side};

use crate::error::Ended;

/// What one shard tells another.
pub enum Note {
    /// A datagram that came to another shard than it is for, unopened.
    Datagram {
        /// Where it came from.
        from: SocketAddr,
        /// What came.
        bytes: Vec<u8>,
    },
    /// To the first: a sealed packet came for a session that this shard does not know; its sender is to hear of it if none does. [P-5.5]
    Stray {
        /// Where it came from.
        from: SocketAddr,
        /// For which session.
        session: SessionId,
        /// Its length in bytes.
        len: usize,
    },
    /// From the first: a session is open, and these are the lanes that this shard has in it.
    Opened(Box<Opened>),
    /// The session takes no new calls.
    Retired {
        /// The session's name.
        session: SessionId,
    },
    /// To the first: the application wants the session to end, and its peer to be told.
    HangUp {
        /// The session's name.
        session: SessionId,
    },
    /// The session has ended.
    Closed {
        /// The session's name.
        session: SessionId,
        /// Why.
        why: Ended,
    },
    /// To the first: the peer was heard in a lane.
    Heard {
        /// The session's name.
        session: SessionId,
        /// When, last.
        at: Instant,
    },
    /// The peer proved to be at another address. [P-2.3]
    Moved {
        /// The session's name.
        session: SessionId,
        /// Where it is.
        address: SocketAddr,
    },
}

impl Note {
    /// Whether anybody could cause it by a packet that proves nothing: then it may be dropped, as the packet might have been.
    pub const fn is_of_stranger(&self) -> bool {
        matches!(self, Self::Datagram { .. } | Self::Stray { .. })
    }

    /// Bytes that it keeps beside itself, where there may be many.
    pub const fn kept_bytes(&self) -> usize {
        match self {
            Self::Datagram { bytes, .. } => bytes.capacity(),
            _ => 0,
        }
    }
}

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Datagram { from, bytes } => write!(f, "Datagram({from}, {} bytes)", bytes.len()),
            Self::Stray { session, .. } => write!(f, "Stray({session:?})"),
            Self::Opened(opened) => write!(f, "Opened({:?}, {} lanes)", opened.session, opened.secrets.len()),
            Self::Retired { session } => write!(f, "Retired({session:?})"),
            Self::HangUp { session } => write!(f, "HangUp({session:?})"),
            Self::Closed { session, why } => write!(f, "Closed({session:?}, {why})"),
            Self::Heard { session, at } => write!(f, "Heard({session:?}, {at:?})"),
            Self::Moved { session, address } => write!(f, "Moved({session:?}, {address})"),
        }
    }
}

/// What a shard must know of an open session to use its lanes in it.
#[derive(Debug)]
pub struct Opened {
    /// Our name for it, as the peer says it in every packet.
    pub(crate) session: SessionId,
    pub(crate) peer_id: SessionId,
    pub(crate) side: Side,
    pub(crate) target: Option<u32>,
    pub(crate) address: SocketAddr,
    pub(crate) cipher: Cipher,
    pub(crate) identity: Arc<PeerIdentity>,
    pub(crate) mutual: bool,
    pub(crate) exchange: Option<KeyExchange>,
    pub(crate) resumed: bool,
    pub(crate) report: Option<Arc<Report>>,
    pub(crate) datagram_max: usize,
    pub(crate) peer_datagram_max: usize,
    pub(crate) message_max: usize,
    pub(crate) sends_slices: bool,
    pub(crate) unscheduled: u32,
    pub(crate) rtt: Duration,
    /// Since when it has keys.
    pub(crate) since: Instant,
    /// How many shards the peer has.
    pub(crate) theirs: u16,
    /// Of each lane, by its place; taken when its keys are derived.
    pub(crate) secrets: Vec<Option<Secret>>,
}
