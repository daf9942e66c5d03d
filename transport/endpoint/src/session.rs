//! Owns one session: who the peer is, where it is, its keys, and what waits for them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use attest::claims::Report;
use handshake::exchange::KeyExchange;
use handshake::identity::PeerIdentity;
use proto::time::Instant;
use record::aead::Cipher;
use record::budget::OpenFailures;
use record::epochs::{Inbound, Outbound};
use record::seal::{Id, Ids};
use wire::geometry::Geometry;
use wire::ids::{SessionId, Side};
use wire::trailer::Kind;

use crate::evidence::Attesting;
use crate::pool::Body;

/// The name of an RPC of this endpoint, unique as long as the endpoint lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    /// Our name for the session.
    pub session: SessionId,
    /// The RPC in it.
    pub rpc: wire::ids::RpcId,
}

/// How a message was protected on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
// A word, as what it stands beside: see `Event`.
#[repr(u64)]
pub enum Protection {
    /// With the session's keys: forward secret, from a peer that has proven who it is, and never a copy.
    #[default]
    Full,
    /// With the key of a ticket, before the handshake was complete (TLS early data). Its sender is who was given that ticket,
    /// and has proven nothing since; who learns the server's memory of tickets later can read it. It came once.
    EarlyData,
    /// With the key of a published ticket, before any handshake: from anybody who has read that ticket, which is public. It stays
    /// secret as long as the ticket's private key does, which dies with the server's process or after an hour. It came once.
    PublishedTicket,
}

/// What stands behind a first flight by published ticket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Upgrade {
    /// A TLS handshake: what follows the first flight is forward secret, and so are the answers to it.
    #[default]
    ForwardSecret,
    /// Nothing: the ticket is all there is of the server, and its private key opens the session. The first answer is there sooner.
    TicketOnly,
}

/// A message that waits for its session's keys.
#[derive(Debug)]
pub struct Queued {
    /// The right to seal it.
    pub id: Id,
    /// Request or one-way.
    pub kind: Kind,
    /// The message.
    pub body: Body,
    /// The caller's own number for it.
    pub cookie: u64,
    /// Somebody waits for just this one.
    pub waited: bool,
    /// The response is read as a stream.
    pub streamed: bool,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// The caller gave up before it began. Its id is still to be skipped.
    pub aborted: bool,
    /// It went with the first flight, so it may run before the session is open.
    pub early: bool,
}

/// A question for the next epoch.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// When it was asked first.
    pub since: Instant,
    /// How long to wait before it is asked again.
    pub pause: Duration,
}

/// The keys of an open session.
#[derive(Debug)]
pub struct Keys {
    /// What we seal with.
    pub sealing: Outbound,
    /// What we open with.
    pub opening: Inbound,
    /// Packets that did not open, over all epochs.
    pub failures: OpenFailures,
    /// Since when the session has keys: it is renewed when they are old.
    pub since: Instant,
    /// The peer was asked for the next epoch and has not answered.
    pub asked: Option<Asked>,
}

/// Where a session stands.
#[derive(Debug)]
pub enum Phase {
    /// We began the handshake.
    Connecting(Box<handshake::client::Client>),
    /// The peer began it.
    Accepting(Box<handshake::server::Server>),
    /// Keys are there.
    Open,
}

/// From whom something came. All that comes in one session shares one.
#[derive(Clone, Debug)]
pub struct Origin {
    /// In which session.
    pub session: SessionId,
    /// Where the peer is.
    pub address: SocketAddr,
    /// Who it proved to be.
    pub identity: Arc<PeerIdentity>,
    /// What it proved to run, where that was demanded.
    pub report: Option<Arc<Report>>,
    /// How it was protected.
    pub protection: Protection,
}

impl Origin {
    pub(crate) fn of(
        session: SessionId,
        address: SocketAddr,
        identity: &Arc<PeerIdentity>,
        report: Option<&Arc<Report>>,
    ) -> Self {
        let (identity, report) = (Arc::clone(identity), report.cloned());
        Self { session, address, identity, report, protection: Protection::Full }
    }
}

/// One session.
#[derive(Debug)]
pub struct Session {
    /// Our name for it.
    pub id: SessionId,
    /// The peer's name for it, once known.
    pub peer_id: SessionId,
    /// What a RESET of it by the peer has to prove, once known. [P-5.5]
    pub promise: crate::tokens::Promise,
    /// Which end we are.
    pub side: Side,
    /// Where the peer is.
    pub address: SocketAddr,
    /// Where it stands. The handshake stays until the peer is known to have finished, too.
    pub phase: Phase,
    /// The keys, once there are some.
    pub keys: Option<Box<Keys>>,
    /// The AEAD in use.
    pub cipher: Cipher,
    /// Who the peer proved to be.
    pub identity: Arc<PeerIdentity>,
    /// Both sides proved who they are.
    pub mutual: bool,
    /// How its secret was agreed on; `None` for an installed one, or as long as there is none.
    pub exchange: Option<KeyExchange>,
    /// Whether it goes back to an earlier session by a ticket.
    pub resumed: bool,
    /// Largest datagram towards the peer.
    pub datagram_max: usize,
    /// Largest datagram that the peer takes, whatever the path carries.
    pub peer_datagram_max: usize,
    /// Longest message that the peer accepts.
    pub message_max: usize,
    /// We are to send records that span packets, and the peer takes them. [P-4.6]
    pub sends_slices: bool,
    /// Gives out the ids of what we begin.
    pub ids: Ids,
    /// Application data may be sent.
    pub may_send: bool,
    /// Messages that wait for that.
    pub queued: VecDeque<Queued>,
    /// Bytes of our messages that are under way in it.
    pub(crate) sending_bytes: u64,
    /// The last valid packet of the peer.
    pub heard: Instant,
    /// The handshake failed: only its farewell is awaited.
    pub dying: bool,
    /// CLOSE waits to be sent: then it is forgotten, and nothing is taken from the peer any more.
    pub closing: bool,
    /// The peer was told to begin a new session.
    pub renewing: bool,
    /// When DONE was said last.
    pub done_said: Instant,
    /// How often it may still be said to packets that prove nothing.
    pub dones_left: u8,
    /// The target that it was opened for.
    pub target: Option<u32>,
    /// The steering field of what we send in it: which lane it is. [P-9.1]
    pub(crate) steer: u16,
    /// Where the session stands among those with several lanes, if it has; a lane has the place of its session.
    pub(crate) root: Option<u32>,
    /// Requests that came with its first flight.
    pub early: Early,
    /// What must be shown, or judged, before the application has it.
    pub(crate) attesting: Option<Box<Attesting>>,
    /// The right to send evidence, where we may have to.
    pub(crate) evidence_id: Option<Id>,
    /// What the peer's evidence says, where we demanded any.
    pub report: Option<Arc<Report>>,
    /// From whom all is that comes in it, since something came; made anew when any of that changes.
    pub(crate) origin: Option<Arc<Origin>>,
}

impl Session {
    /// How a message of `length` bytes is cut for the peer. What a device may seal has records of its own in every packet.
    pub(crate) fn cut(&self, length: usize, beside_device: bool) -> Geometry {
        let cut = Geometry::cut(length, self.datagram_max);
        if self.sends_slices && !beside_device { cut.spanning().unwrap_or(cut) } else { cut }
    }

    /// Whether a message must not be looked at before the peer's evidence was. [P-6.16]
    #[inline]
    pub(crate) fn leaves_unread(&self, rpc: wire::ids::RpcId) -> bool {
        self.attesting.as_ref().is_some_and(|attesting| attesting.leaves_unread(rpc, self.side))
    }
}

/// What a session has to do with its first flight.
#[derive(Debug, Default)]
pub struct Early {
    /// Client: the server took it.
    pub taken: bool,
    /// Server: requests of it, until the session is open.
    pub requests: Vec<EarlyRequest>,
    /// Bytes of them.
    pub bytes: usize,
}

/// A request that came with a first flight.
#[derive(Debug)]
pub struct EarlyRequest {
    /// Its name.
    pub rpc: wire::ids::RpcId,
    /// Bytes of it.
    pub length: usize,
    /// What was said to it.
    pub state: Answer,
}

/// What the application said to an early request.
#[derive(Debug)]
pub enum Answer {
    /// Nothing yet.
    Awaited,
    /// A response, and whether it went with our flight.
    Given {
        /// The response.
        body: Body,
        /// Whether it went.
        sent: bool,
    },
    /// That there will be none.
    Refused,
}

/// A response that was given before its session was open, and whether it went out already.
#[derive(Debug)]
pub struct Answered {
    /// Its name.
    pub id: CallId,
    /// The response.
    pub body: Body,
    /// Whether it went.
    pub sent: bool,
}
