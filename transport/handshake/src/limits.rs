//! Owns every bound of a handshake, and how they relate. [P-6.2]

use core::time::Duration;

use wire::handshake::{COOKIE_MAX, EARLY_BODY_MAX, EARLY_ID_LEN, HANDSHAKE_OVERHEAD};
use wire::limits::DATAGRAM_MIN;

/// Most bytes of one direction's initial stream: a ClientHello or a ServerHello, with room to spare.
pub const INITIAL_MAX: usize = 16 << 10;

/// Most bytes of one direction's sealed stream: certificate chains.
pub const SEALED_MAX: usize = 40 << 10;

/// Most bytes of sealed packets that are kept because they overtook what their keys come from: the ServerHello at a client,
/// a ClientHello with requests behind it at a server.
pub const EARLY_MAX: usize = 8 << 10;

/// Most bytes of its peer's that one half-open handshake holds: streams, what overtook its keys, and a first flight's messages.
pub const BUFFERED_MAX: usize =
    INITIAL_MAX + SEALED_MAX + EARLY_MAX + EARLY_MESSAGES_MAX * (EARLY_BODY_MAX + EARLY_ID_LEN);

/// Most requests of a first flight, and most early responses: each is a datagram. [P-6.9]
pub const EARLY_MESSAGES_MAX: usize = 8;

/// Most gaps in a stream; a fragment that would make another is dropped and comes again.
pub const GAPS_MAX: usize = 32;

/// Bytes of a stream that may be under way at once.
pub const WINDOW: usize = 20 << 10;

/// What may be sent to an address that is not proven, as a multiple of what came from it (RFC 9000 section 8.1). [P-6.4]
pub const AMPLIFICATION: usize = 3;

/// How long a handshake may take. Default: 10 s.
pub const LIFETIME: Duration = Duration::from_secs(10);

/// When to send again before a round trip was measured: for a network of one site; a longer one costs a few repeats.
pub const INTERVAL_FIRST: Duration = Duration::from_millis(20);

/// The shortest interval after which anything is sent again: below it, the other side's computing looks like loss.
pub const INTERVAL_MIN: Duration = Duration::from_millis(5);

/// Intervals double up to this: at 30 % loss some forty attempts in a lifetime leave no handshake undone.
pub const INTERVAL_MAX: Duration = Duration::from_millis(250);

/// How long an acknowledgement waits for something to ride on.
pub const ACK_DELAY: Duration = Duration::from_millis(1);

/// How long an alert that anyone could have forged waits for a genuine packet to prove it wrong. [P-6.2.3]
pub const HINT_WAIT: Duration = Duration::from_secs(1);

/// How long a failed handshake stays to repeat its alert.
pub const LINGER: Duration = Duration::from_secs(1);

/// Most cookies that a client takes in one handshake: each costs it a flight. [P-6.4]
pub const RETRIES_MAX: u32 = 3;

/// Repeats without progress after which acknowledgements that could be forged are no longer believed.
pub const DOUBT_AFTER: u32 = 3;

/// A ticket resumes for so long after the full handshake that all resumptions before it go back to. [P-6.8]
pub const TICKET_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Most tickets that a server remembers.
pub const TICKETS_SERVER_MAX: usize = 1 << 16;

/// Most bytes of them: with client certificates a ticket may have kilobytes.
pub const TICKET_BYTES_MAX: usize = 32 << 20;

/// Most servers of which a client remembers tickets.
pub const TICKET_SERVERS_MAX: usize = 4096;

/// Most tickets that a client remembers of one server: each resumes one session.
pub const TICKETS_PER_SERVER: usize = 8;

/// Longest time that a published ticket may say to be valid. [P-6.10]
pub const PUBLISHED_LIFETIME: Duration = Duration::from_secs(3600);

/// Shortest time that a published ticket is made for.
pub const PUBLISHED_LIFETIME_MIN: Duration = Duration::from_secs(2);

/// A published ticket is valid from so long before it was made on: clocks differ.
pub const PUBLISHED_BACKDATED: Duration = Duration::from_secs(60);

/// First flights that a server remembers of each published ticket, by default: 4 MiB.
pub const PUBLISHED_FLIGHTS: usize = 1 << 16;

/// How long a server's word in clear that it does not know a published ticket waits for a genuine packet to prove it wrong. Shorter than
/// [`HINT_WAIT`]: what follows is another handshake, and no end.
pub const STALE_WAIT: Duration = Duration::from_millis(50);

const _: () = assert!(BUFFERED_MAX <= 73 << 10);
const _: () = assert!(DATAGRAM_MIN > HANDSHAKE_OVERHEAD + COOKIE_MAX, "the smallest path carries a fragment");
const _: () = assert!(HINT_WAIT.as_millis() < LIFETIME.as_millis());
