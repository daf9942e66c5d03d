//! Owns why a call on an endpoint cannot be carried out, and why an RPC ended without a reply.

use proto::io::Failure;
use thiserror::Error;

/// Why the endpoint does not take a call. Nothing has changed.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Misuse {
    /// The message is longer than configured.
    #[error("the message has {length} bytes; at most {limit} are allowed")]
    TooLong {
        /// Bytes of the message.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// As many bytes as configured are held for sending already.
    #[error("{held} bytes are held for sending; the limit is {limit}")]
    SendBufferFull {
        /// Bytes held.
        held: u64,
        /// The limit.
        limit: u64,
    },
    /// No such request waits for a reply: it was answered, cancelled by its caller, or never existed.
    #[error("no request {0} waits for a reply")]
    UnknownRequest(String),
    /// The session is gone.
    #[error("the session with the peer has ended")]
    NoSession,
    /// This shard has no session with that peer yet: the first shard opens them. [P-9.2]
    #[error("the first shard has not opened a session with that peer")]
    Elsewhere,
    /// Nothing to authenticate with: the endpoint was not configured to begin handshakes.
    #[error("this endpoint has nobody to trust: it cannot begin a handshake")]
    NoTrust,
    /// No handshake can begin.
    #[error(transparent)]
    Handshake(handshake::error::Error),
    /// All session slots are in use.
    #[error("{0} sessions are open; no more are allowed")]
    TooManySessions(usize),
    /// The session's keys protected as much as they may; the next call makes a new session.
    #[error("the session's keys have protected as much as they may")]
    KeysExhausted,
}

/// Why an RPC ended without a reply.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Ended {
    /// The handshake failed; nothing of the application was sent.
    #[error("the handshake failed: {0}")]
    Handshake(Box<handshake::error::Error>),
    /// As the state machine says.
    #[error("{}", failure(.0))]
    Failed(Failure),
}

fn failure(failure: &Failure) -> &'static str {
    use wire::control::RefusalCode;
    match failure {
        Failure::PeerSilent => "the peer no longer answers",
        Failure::Deadline => "the deadline passed",
        Failure::SessionClosed => "the session was closed",
        Failure::PeerRestarted => "the peer restarted, or forgot the session: the outcome is unknown",
        Failure::KeysExhausted => "no key could protect the message any more",
        Failure::PathShrank => "the path to the peer carries less than was thought",
        Failure::Refused(RefusalCode::NotServing) => "the peer takes no requests",
        Failure::Refused(RefusalCode::TooLong) => "the message is longer than its receiver accepts",
        Failure::Refused(RefusalCode::Forgotten) => "the peer finished it earlier and no longer has the result",
        Failure::Refused(RefusalCode::Aborted) => "the peer refused it",
    }
}
