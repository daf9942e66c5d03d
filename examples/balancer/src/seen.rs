//! Owns what the balancer tells of what passed: all of it from clear bytes, none of it proven.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

/// What passed to and from one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Backend {
    /// Where it is.
    pub at: SocketAddr,
    /// Sessions that were steered there.
    pub sessions: u64,
    /// Of these, remembered now.
    pub sessions_now: u64,
    /// Of these, those that it has not answered yet.
    pub unanswered: u64,
    /// Messages that were begun in either direction, as their ids tell; of a bundle, the first.
    pub messages: u64,
    /// Of these, those whose answer was seen to begin.
    pub answered: u64,
    /// Of these, those under way now: what new sessions are steered by.
    pub under_way: u64,
    /// Messages by the server's shard that their senders chose for them.
    pub shards: BTreeMap<u8, u64>,
    /// Bytes of messages, as their senders state in clear for the network; they may state 0.
    pub stated_bytes: u64,
    /// Datagrams to it, and their bytes.
    pub packets_to: u64,
    /// Bytes of these.
    pub bytes_to: u64,
    /// Datagrams from it.
    pub packets_from: u64,
    /// Bytes of these.
    pub bytes_from: u64,
}

impl Backend {
    pub(crate) const fn new(at: SocketAddr) -> Self {
        Self {
            at,
            sessions: 0,
            sessions_now: 0,
            unanswered: 0,
            messages: 0,
            answered: 0,
            under_way: 0,
            shards: BTreeMap::new(),
            stated_bytes: 0,
            packets_to: 0,
            bytes_to: 0,
            packets_from: 0,
            bytes_from: 0,
        }
    }
}

/// What the balancer saw up to now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Seen {
    /// Each server.
    pub backends: Vec<Backend>,
    /// How often a session was heard from another address than before.
    pub address_changes: u64,
    /// Addresses of clients that have a socket now.
    pub addresses: u64,
    /// Packets that were not passed on, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// What it could not see, whatever it does.
    pub sealed: &'static [&'static str],
}

/// What is sealed.
pub(crate) const SEALED: &[&str] = &[
    "contents of messages",
    "who the client is (an address is no identity)",
    "kinds: request, response or one-way",
    "lengths that endpoints act on (what is stated in clear is a hint, and may be 0)",
    "messages of a bundle but the first",
    "grants, acknowledgements, ends of sessions",
];

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head =
            ["server", "sessions", "messages", "answered", "under way", "stated bytes", "bytes to", "bytes from"];
        let [a, b, c, d, e, g, h, i] = head;
        writeln!(f, "{a:<22}{b:>9}{c:>10}{d:>10}{e:>11}{g:>14}{h:>12}{i:>12}  messages by shard")?;
        for seen in &self.backends {
            let at = seen.at.to_string();
            write!(f, "{at:<22}{:>9}{:>10}{:>10}{:>11}", seen.sessions, seen.messages, seen.answered, seen.under_way)?;
            writeln!(f, "{:>14}{:>12}{:>12}  {:?}", seen.stated_bytes, seen.bytes_to, seen.bytes_from, seen.shards)?;
        }
        writeln!(f, "changes of address followed: {}; dropped: {:?}", self.address_changes, self.dropped)?;
        write!(f, "not seen: {}", self.sealed.join("; "))
    }
}
