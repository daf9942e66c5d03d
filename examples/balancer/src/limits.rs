//! Owns what the balancer remembers, how much and for how long.

use std::time::Duration;

/// What the balancer remembers. Of sessions and addresses, those that have proven nothing have half: who invents them leaves the others half.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Sessions; the first packets of one more are dropped. A session costs about 300 bytes. Default 65,536.
    pub sessions: usize,
    /// Addresses of clients, each with a socket of its own; packets from one more are dropped. Default 512, as many processes may have 1,024
    /// files open.
    pub addresses: usize,
    /// Messages that are counted as under way; more are carried without being counted. Default 262,144.
    pub messages: usize,
    /// How long a session is remembered that the client has not said the server's name of. Default 15 s: a handshake takes 10 at most.
    pub unproven: Duration,
    /// How long a session is remembered that is silent. Default 3,660 s: servers end it after an hour. [P-2.4]
    pub session_idle: Duration,
    /// How long the socket of a silent address is kept. A session outlives it: it comes to its server from another one then. Default 120 s.
    pub address_idle: Duration,
    /// After which a message that nothing is heard of counts as under way no more: its answer was in a bundle, where no id but the first
    /// can be seen, or it wants none. Default 5 s.
    pub message_idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 1 << 16,
            addresses: 512,
            messages: 1 << 18,
            unproven: Duration::from_secs(15),
            session_idle: Duration::from_secs(3_660),
            address_idle: Duration::from_secs(120),
            message_idle: Duration::from_secs(5),
        }
    }
}

/// Names of one session by servers: a first flight that is repeated makes another, which ends by itself.
pub(crate) const NAMES: usize = 8;
/// Messages of one session that are counted as under way.
pub(crate) const SESSION_MESSAGES: usize = 1_024;
/// How often is looked for what may be forgotten.
pub(crate) const SWEEP: Duration = Duration::from_millis(500);
/// What sockets are asked to hold: bursts come as they were sent.
pub(crate) const RECEIVE_BYTES: usize = 4 << 20;
/// No UDP datagram is longer.
pub(crate) const DATAGRAM_MAX: usize = 65_535;
