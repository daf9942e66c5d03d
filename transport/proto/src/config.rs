//! Owns the knobs of the state machine: unit, default, and the reason for the default.

use core::time::Duration;

/// How far ahead of what has arrived a message is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantWindow {
    /// [`Config::incoming_bytes_max`], shared by the messages that are granted and one more that may begin: what is left
    /// for the newcomer needs no waiting.
    Dynamic,
    /// So many bytes, whoever else wants some.
    Fixed(u32),
}

/// Which of several messages goes first, where they are sent and where they are granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The one with the fewest bytes left.
    Srpt,
    /// The oldest. For comparison: short messages then wait for long ones.
    Fifo,
}

/// Who computes the priorities of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priorities {
    /// Nobody: all data goes at the lowest.
    Off,
    /// The receiver, from the traffic that it sees: first after 100 messages, then after 1,000, then each time that so many
    /// more have begun. By then a computation of some microseconds costs nothing per message.
    Measured {
        /// Messages between two computations.
        messages: u32,
    },
    /// Whoever configured it: the largest length for each of the priorities 7 down to 0 that unscheduled bytes carry. The
    /// first that is `u32::MAX` is the lowest of these; all below are for what is granted.
    Fixed([u32; 8]),
}

/// How the machine schedules and recovers. Every value is checked where a user sets it; here they are taken as given.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Most bytes of each message that we send without being granted, and that we take without having granted them.
    /// Default 128 KiB: two segments, so that every message that fits them never waits for a grant on a path of some tens of
    /// microseconds. Cost: that much of a receiver's buffer per message that nobody scheduled. As much as
    /// `message_bytes_max` turns grants off.
    pub unscheduled_bytes: u32,
    /// Fewest bytes of each message that we send without being granted, unless the receiver allows less. Between the two, it
    /// is what the link carries in the shortest answer time of the peer. Default 10,000: that of the network for which Homa
    /// was published; with less, most messages would wait for a grant. As much as `unscheduled_bytes` fixes the limit.
    pub unscheduled_bytes_min: u32,
    /// What our link carries, in bits per second. Default: not known; then nothing is paced, and the unscheduled limit is its
    /// maximum.
    pub link_bits_per_second: Option<u64>,
    /// How much of that we use, in thousandths. Default 990: an estimate that is one percent too high fills a queue.
    pub link_usage_per_mille: u32,
    /// Bytes that a DATA packet occupies on the link beyond the message's bytes. Default 131: 65 of ours, 28 of UDP and IPv4,
    /// 38 of Ethernet with preamble and gap.
    pub link_packet_bytes: u32,
    /// How long the link may be busy with what we gave it before we hold more back. Default 5 us: as Homa has it; shorter than
    /// that, a thread that is late leaves the link idle.
    pub backlog_max: Duration,
    /// Messages with fewer bytes left are never held back. Default 1,000: they cost the link less than a microsecond, and
    /// holding them back would cost more.
    pub defer_bytes_min: u32,
    /// Part of the bytes held back that goes to the oldest message instead of the shortest, in thousandths. Default 50, as Homa
    /// has it: the longest message then waits at most twenty times its own time.
    pub pacer_fifo_per_mille: u32,
    /// Bytes of each message that are granted ahead of what has arrived. Default [`GrantWindow::Dynamic`]: a message alone gets
    /// half of the budget, and with many the sum still fits.
    pub grant_window: GrantWindow,
    /// Fewest bytes worth a grant, unless they are the last ones or nothing is on its way. Default: a quarter of the window, so
    /// that control packets stay rare. 1 grants record by record.
    pub grant_step_bytes: Option<u32>,
    /// Part of the bytes granted that goes to the oldest message, whatever it has left, in thousandths. Default 50, as Homa
    /// has it: so no message waits for ever. 0 turns it off.
    pub fifo_share_per_mille: u32,
    /// Bytes that the oldest message gets at once when it is its turn. Default 50,000, as Homa has it: some packets, so that
    /// the exception is rare.
    pub fifo_increment_bytes: u32,
    /// What comes to the end of its message carries the priority of an unscheduled message of that length. Default true: a
    /// message that is nearly done is worth as much as a short one.
    pub raise_tail: bool,
    /// Granted bytes that have not arrived, over all messages. Default 2 MiB; the driver lowers it to what the socket's
    /// receive buffer can hold, because what does not fit there is lost. Unscheduled bytes are not counted: nobody can
    /// hold those back. One peer gets at most three quarters, so that the next need not wait for it.
    pub incoming_bytes_max: u64,
    /// Messages that are granted at once, at most 32. Default: as many as there are priorities for them, at least two, because
    /// one sender that is busy elsewhere would leave the link idle. Peers share the places. 1 is no overcommitment.
    pub overcommit: Option<u32>,
    /// Who computes priorities. Default: the receiver, every 10,000 messages.
    pub priorities: Priorities,
    /// Unscheduled bytes carry the priority of the bytes left instead of that of the whole message. Default false: then a
    /// train of packets has one priority.
    pub priority_by_left: bool,
    /// What goes first. Default [`Order::Srpt`].
    pub order: Order,
    /// Calls that wait for their responses, from which on new requests ask for responses that hold back. Default 64: as many
    /// responses of 10 KB are what a shallow switch buffers for one port. `None` turns it off.
    pub incast_calls: Option<u32>,
    /// Bytes of such a response that its sender sends without being granted; always a record at least. Default 500: a short
    /// response costs nothing more, and 1,000 of them fit where 50 long ones do.
    pub incast_unscheduled_bytes: u32,
    /// Shortest silence before something is asked for again. Default 250 us: rarely is a thread without its core for
    /// longer, and then a question too many costs a packet. The patience itself follows the answer time.
    pub resend_min: Duration,
    /// Longest silence between two such questions. Default 100 ms.
    pub resend_max: Duration,
    /// Silence after which a peer counts as dead for an RPC. Default 3 s: longer than a process is ever paused by its host,
    /// far shorter than a person waits.
    pub peer_timeout: Duration,
    /// How long an acknowledgement waits for something to ride on. Default 4 ms; the sender holds its message until then.
    pub ack_delay: Duration,
    /// The same of a response of up to [`SHORT_RESPONSE_BYTES`], which costs little to hold: less than a packet for it alone, where the next
    /// request comes a while later. Default 100 ms.
    pub short_ack_delay: Duration,
    /// Longest message that is accepted. Default 64 MiB.
    pub message_bytes_max: u32,
    /// Bytes of incoming messages that are buffered at once, over all peers. Default 1 GiB. A host that holds some of it gets
    /// no more than it leaves to the others: about half, when it is alone.
    pub buffered_bytes_max: u64,
    /// Of these, bytes of all sessions with one host. Default 512 MiB: what the above leaves a single one.
    pub buffered_bytes_per_host_max: u64,
    /// Of these, bytes of one peer's messages, which is one session. Default 256 MiB: four of the longest.
    pub buffered_bytes_per_peer_max: u64,
    /// Messages that found no room and are remembered, to be asked for in the order of their length. Default 256: each frees
    /// room for the next, so a few are enough. 0 remembers none, and senders try again.
    pub waiting_max: usize,
    /// Of these, messages of one peer. Default 32, so that one peer cannot fill the list.
    pub waiting_per_peer_max: usize,
    /// A message of which nothing new comes for so long, although it may, is given up, whatever its sender says meanwhile: it
    /// holds memory. Default 60 s: longer than an honest sender has shorter ones to send.
    pub stall_timeout: Duration,
    /// RPCs that one peer may have open here. Default 65,536: bounds what a faulty peer can make us hold.
    pub rpcs_per_peer_max: u32,
    /// Gaps in the order in which a peer's RPCs finish that are remembered. Default 4,096.
    pub intervals_max: usize,
    /// Whether requests are taken. Default false: servers opt in.
    pub serving: bool,
}

/// Longest response whose acknowledgement waits for [`Config::short_ack_delay`]. All that are held so long share the sender's limit of bytes
/// under way, which longer ones would use up.
pub const SHORT_RESPONSE_BYTES: u32 = 1024;

impl Config {
    /// How long the acknowledgement of a response of so many bytes waits. [P-8.9]
    pub(crate) const fn response_ack_delay(&self, length: u32) -> Duration {
        if length <= SHORT_RESPONSE_BYTES { self.short_ack_delay } else { self.ack_delay }
    }

    /// The shortest and the longest patience, in nanoseconds.
    pub(crate) const fn patience_ns(&self) -> (u64, u64) {
        (self.resend_min.as_nanos() as u64, self.resend_max.as_nanos() as u64)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            unscheduled_bytes: 128 << 10,
            unscheduled_bytes_min: 10_000,
            link_bits_per_second: None,
            link_usage_per_mille: 990,
            link_packet_bytes: wire::limits::PACKET_OVERHEAD as u32 + 28 + 38,
            backlog_max: Duration::from_micros(5),
            defer_bytes_min: 1000,
            pacer_fifo_per_mille: 50,
            grant_window: GrantWindow::Dynamic,
            grant_step_bytes: None,
            fifo_share_per_mille: 50,
            fifo_increment_bytes: 50_000,
            raise_tail: true,
            incoming_bytes_max: 2 << 20,
            overcommit: None,
            priorities: Priorities::Measured { messages: 10_000 },
            priority_by_left: false,
            order: Order::Srpt,
            incast_calls: Some(64),
            incast_unscheduled_bytes: 500,
            resend_min: Duration::from_micros(250),
            resend_max: Duration::from_millis(100),
            peer_timeout: Duration::from_secs(3),
            ack_delay: Duration::from_millis(4),
            short_ack_delay: Duration::from_millis(100),
            message_bytes_max: 64 << 20,
            buffered_bytes_max: 1 << 30,
            buffered_bytes_per_host_max: 512 << 20,
            buffered_bytes_per_peer_max: 256 << 20,
            waiting_max: 256,
            waiting_per_peer_max: 32,
            stall_timeout: Duration::from_secs(60),
            rpcs_per_peer_max: 1 << 16,
            intervals_max: 4096,
            serving: false,
        }
    }
}
