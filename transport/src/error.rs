//! Owns what a caller can get, whose fault it is, and whether the request may have run.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use endpoint::error::{Ended, Misuse};
use proto::io::Failure;
use thiserror::Error;
use wire::control::RefusalCode;

/// Whose fault an error is: who could do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The call itself: wrong arguments, wrong time, or a configuration that cannot work.
    Caller,
    /// The peer: it refused, or proved to be somebody else.
    Peer,
    /// The way there: silence.
    Path,
    /// This machine: no memory, no descriptor, no route.
    System,
}

/// Why a call did not do what was asked.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The socket cannot be bound.
    #[error("cannot bind {address}: {source}")]
    Bind {
        /// Where to.
        address: String,
        /// What the system says; `AddrInUse` for a port that is taken.
        source: Arc<io::Error>,
    },
    /// A name does not resolve, or a path to the peer cannot be found.
    #[error("cannot reach {address}: {source}")]
    Address {
        /// Which.
        address: String,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// The configuration cannot work.
    #[error("{0}")]
    Config(String),
    /// The handshake failed: certificates, names, protocols. Nothing of the application was sent.
    #[error("handshake with {address} failed: {source}")]
    Handshake {
        /// With whom.
        address: SocketAddr,
        /// Which check failed.
        source: handshake::error::Error,
    },
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Credentials(handshake::error::Error),
    /// The message is longer than is allowed here or at the peer.
    #[error("the message has {length} bytes; at most {limit} are allowed")]
    TooLong {
        /// Bytes of the message.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The peer accepts no message that long.
    #[error("the message is longer than its receiver accepts")]
    TooLongForPeer,
    /// As many bytes as configured wait to be sent; nothing was sent. Only calls that do not block say so.
    #[error("would block: {held} bytes are held for sending, the limit is {limit}")]
    WouldBlock {
        /// Bytes held.
        held: u64,
        /// The limit.
        limit: u64,
    },
    /// The session with the peer is being opened; nothing was sent. Only calls that do not block say so, in shards but the first.
    #[error("the session with the peer is not open yet: try again")]
    Connecting,
    /// No request of that name waits for a reply: it was answered, its caller gave up, or it never existed.
    #[error("no request {0} waits for a reply here")]
    UnknownRequest(String),
    /// No call of that name is open: it ended, was aborted, or never existed.
    #[error("no call {0} is open here")]
    UnknownCall(String),
    /// The peer no longer answers.
    #[error("{address} no longer answers")]
    PeerSilent {
        /// Who.
        address: SocketAddr,
        /// Whether the peer may have executed the request.
        may_have_run: bool,
    },
    /// The call's deadline passed.
    #[error("the deadline of the call to {address} passed")]
    Deadline {
        /// Who did not answer in time.
        address: SocketAddr,
        /// Whether the peer may have executed the request.
        may_have_run: bool,
    },
    /// The peer takes no requests.
    #[error("{address} takes no requests")]
    NotServing {
        /// Who.
        address: SocketAddr,
    },
    /// The peer's application refused the request, or finished it earlier and no longer has the result.
    #[error("{address} refused: {why}")]
    Refused {
        /// Who.
        address: SocketAddr,
        /// In words.
        why: &'static str,
    },
    /// The session ended while the call was under way.
    #[error("the session with {address} ended")]
    SessionEnded {
        /// With whom.
        address: SocketAddr,
        /// Whether the peer may have executed the request.
        may_have_run: bool,
    },
    /// The peer restarted, or forgot the session: it proved that it does not know it any more. Outcome unknown, unless
    /// [`Error::may_have_run`] says that it has not run. The next call begins a new session.
    #[error("{address} restarted: the outcome of the call is unknown")]
    PeerRestarted {
        /// Who.
        address: SocketAddr,
        /// Whether the peer may have executed the request.
        may_have_run: bool,
    },
    /// The path to the peer turned out to carry less than the message was cut for. A new call is cut smaller.
    #[error("the path to {address} carries less than was thought: try again")]
    PathShrank {
        /// To whom.
        address: SocketAddr,
        /// Whether the peer may have executed the request.
        may_have_run: bool,
    },
    /// The session's keys have protected as much as they may and the peer was not ready for others, or the message had to be sealed
    /// anew too often. The next call makes a new session.
    #[error("the session's keys have protected as much as they may")]
    KeysExhausted {
        /// Whether the peer may have executed the request.
        may_have_run: bool,
    },
    /// Too many sessions are open.
    #[error("{0} sessions are open; no more are allowed")]
    TooManySessions(usize),
    /// The socket was closed.
    #[error("the socket is closed")]
    Closed,
    /// The socket belongs to the process that this one was forked from, which goes on with its keys: sealing here as well would break
    /// them. A forked child binds sockets of its own.
    #[error("the socket belongs to the process that this one was forked from")]
    Forked,
    /// The system refused something that should always work.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: Arc<io::Error>,
    },
}

impl Error {
    /// Whether the peer may have executed the request that the error is about. `false` is certain; `true` is not.
    pub const fn may_have_run(&self) -> bool {
        match self {
            Self::PeerSilent { may_have_run, .. }
            | Self::Deadline { may_have_run, .. }
            | Self::PathShrank { may_have_run, .. }
            | Self::PeerRestarted { may_have_run, .. }
            | Self::KeysExhausted { may_have_run }
            | Self::SessionEnded { may_have_run, .. } => *may_have_run,
            Self::Refused { .. } => true,
            _ => false,
        }
    }

    /// Who could do something about it.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Config(_)
            | Self::Credentials(_)
            | Self::TooLong { .. }
            | Self::WouldBlock { .. }
            | Self::Connecting
            | Self::UnknownRequest(_)
            | Self::UnknownCall(_)
            | Self::Closed
            | Self::Forked
            | Self::Deadline { .. } => Fault::Caller,
            Self::TooLongForPeer
            | Self::NotServing { .. }
            | Self::Refused { .. }
            | Self::PeerRestarted { .. }
            | Self::SessionEnded { .. } => Fault::Peer,
            Self::PeerSilent { .. } | Self::PathShrank { .. } => Fault::Path,
            Self::Handshake { source, .. } => match source.fault() {
                handshake::error::Fault::Caller => Fault::Caller,
                handshake::error::Fault::Peer => Fault::Peer,
                handshake::error::Fault::Path => Fault::Path,
            },
            Self::Bind { .. }
            | Self::Address { .. }
            | Self::KeysExhausted { .. }
            | Self::TooManySessions(_)
            | Self::System { .. } => Fault::System,
        }
    }

    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source: Arc::new(source) }
    }

    /// A call whose deadline passed before there was room to send it in.
    pub(crate) fn unsent_in_time(address: SocketAddr) -> Self {
        Self::Deadline { address, may_have_run: false }
    }

    pub(crate) fn ended(address: SocketAddr, why: Ended, may_have_run: bool) -> Self {
        match why {
            Ended::Handshake(source) => Self::Handshake { address, source: *source },
            Ended::Failed(Failure::PeerSilent) => Self::PeerSilent { address, may_have_run },
            Ended::Failed(Failure::Deadline) => Self::Deadline { address, may_have_run },
            Ended::Failed(Failure::PeerRestarted) => Self::PeerRestarted { address, may_have_run },
            Ended::Failed(Failure::KeysExhausted) => Self::KeysExhausted { may_have_run },
            Ended::Failed(Failure::PathShrank) => Self::PathShrank { address, may_have_run },
            Ended::Failed(Failure::Refused(RefusalCode::NotServing)) => Self::NotServing { address },
            Ended::Failed(Failure::Refused(RefusalCode::TooLong)) => Self::TooLongForPeer,
            Ended::Failed(Failure::Refused(RefusalCode::Forgotten)) => {
                Self::Refused { address, why: "it finished the request earlier and no longer has the result" }
            }
            Ended::Failed(Failure::Refused(RefusalCode::Aborted)) => {
                Self::Refused { address, why: "its application said no" }
            }
            _ => Self::SessionEnded { address, may_have_run },
        }
    }
}

impl From<Misuse> for Error {
    fn from(misuse: Misuse) -> Self {
        match misuse {
            Misuse::TooLong { length, limit } => Self::TooLong { length, limit },
            Misuse::SendBufferFull { held, limit } => Self::WouldBlock { held, limit },
            Misuse::Elsewhere => Self::Connecting,
            Misuse::UnknownRequest(name) => Self::UnknownRequest(name),
            Misuse::NoTrust | Misuse::NoSession => Self::Config(misuse.to_string()),
            Misuse::Handshake(why) => Self::Credentials(why),
            Misuse::TooManySessions(n) => Self::TooManySessions(n),
            Misuse::KeysExhausted => Self::KeysExhausted { may_have_run: false },
            other => Self::Config(other.to_string()),
        }
    }
}
