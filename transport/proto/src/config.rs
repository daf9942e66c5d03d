//! Owns the knobs of the state machine: unit, default, and the reason for the default.

use core::time::Duration;

/// How the machine schedules and recovers. Every value is checked where a user sets it; here they are taken as given.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Bytes of each message that we send without being granted. Default 128 KiB: two segments, so that every message that
    /// fits them never waits for a grant on a path of some tens of microseconds. Cost: that much of a receiver's buffer per
    /// message that nobody scheduled.
    pub unscheduled_bytes: u32,
    /// Bytes of each message that are granted ahead of what has arrived. Default 512 KiB: covers 100 Gbit/s times 40 us.
    pub grant_window_bytes: u32,
    /// Granted bytes that have not arrived, over all messages. Default 2 MiB; the driver lowers it to what the socket's
    /// receive buffer can hold, because what does not fit there is lost. Unscheduled bytes are not counted: nobody can
    /// hold those back. One peer gets at most three quarters, so that the next need not wait for it.
    pub incoming_bytes_max: u64,
    /// Messages that are granted at once, at most 32. Default 8, as Homa has it: fewer leave the link idle when a sender is
    /// busy. Peers share the places.
    pub overcommit: u32,
    /// Shortest silence before something is asked for again. Default 1 ms: a thread that lost its core is not a lost packet.
    pub resend_min: Duration,
    /// Longest silence between two such questions. Default 100 ms.
    pub resend_max: Duration,
    /// Silence after which a peer counts as dead for an RPC. Default 3 s: longer than a process is ever paused by its host,
    /// far shorter than a person waits.
    pub peer_timeout: Duration,
    /// How long an acknowledgement waits for something to ride on. Default 1 ms; the server holds the response until then.
    pub ack_delay: Duration,
    /// Longest message that is accepted. Default 64 MiB.
    pub message_bytes_max: u32,
    /// Bytes of incoming messages that are buffered at once, over all peers. Default 1 GiB. A peer that holds some of it gets
    /// no more than it leaves to the others: about half, when it is alone.
    pub buffered_bytes_max: u64,
    /// RPCs that one peer may have open here. Default 65,536: bounds what a faulty peer can make us hold.
    pub rpcs_per_peer_max: u32,
    /// Gaps in the order in which a peer's RPCs finish that are remembered. Default 4,096.
    pub intervals_max: usize,
    /// Whether requests are taken. Default false: servers opt in.
    pub serving: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            unscheduled_bytes: 128 << 10,
            grant_window_bytes: 512 << 10,
            incoming_bytes_max: 2 << 20,
            overcommit: 8,
            resend_min: Duration::from_millis(1),
            resend_max: Duration::from_millis(100),
            peer_timeout: Duration::from_secs(3),
            ack_delay: Duration::from_millis(1),
            message_bytes_max: 64 << 20,
            buffered_bytes_max: 1 << 30,
            rpcs_per_peer_max: 1 << 16,
            intervals_max: 4096,
            serving: false,
        }
    }
}
