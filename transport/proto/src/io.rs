//! Owns the contract's types: what goes in, what comes out.

use core::ops::Range;

use wire::control::RefusalCode;
use wire::ids::RpcId;

/// Why an RPC of ours ended without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The peer was silent for too long.
    PeerSilent,
    /// The caller's deadline passed.
    Deadline,
    /// The peer refused it.
    Refused(RefusalCode),
    /// The session ended.
    SessionClosed,
    /// The peer proved that it does not know the session any more: it restarted.
    PeerRestarted,
    /// The message was cut for a path that turned out to carry less.
    PathShrank,
    /// No key could protect it any more, or it had to be sealed anew too often. [P-6.7] [P-3.4]
    KeysExhausted,
}

/// What became of a record that verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is new. The endpoint keeps its bytes.
    New {
        /// The RPC.
        slot: u32,
        /// It is the first of its message.
        first: bool,
        /// All of its message is here now.
        complete: bool,
    },
    /// It was here before, or its message was finished earlier.
    Duplicate,
    /// A response to nothing that we wait for.
    Unexpected,
    /// It contradicts an earlier record of its message: a faulty peer.
    Contradiction,
    /// A sequence outside of the window. [P-7.2]
    OutsideWindow,
    /// There is no room for it; its sender will try again.
    NoRoom,
    /// Nobody allowed its sender to send it yet: a faulty peer, or one that we forgot. [P-8.2]
    NotGranted,
    /// We refuse it and say so.
    Refused,
}

/// What the machine tells the endpoint, besides what calls return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The RPC failed. The endpoint tells the caller, then frees the slot.
    Failed {
        /// The RPC.
        slot: u32,
        /// Why.
        why: Failure,
        /// Whether the peer may have executed it.
        may_have_run: bool,
    },
    /// Nothing more will happen to the RPC: our message was acknowledged, or its peer is gone, or it was cancelled by its
    /// beginner. When the session ends, also what is complete and was not freed yet. The endpoint frees the slot.
    Released {
        /// The RPC.
        slot: u32,
        /// It was cancelled while the application had it.
        cancelled: bool,
        /// Our message arrived in full.
        acknowledged: bool,
    },
}

impl Event {
    /// The RPC.
    pub const fn slot(self) -> u32 {
        match self {
            Self::Failed { slot, .. } | Self::Released { slot, .. } => slot,
        }
    }
}

/// Records to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// The RPC.
    pub slot: u32,
    /// Its peer.
    pub peer: u32,
    /// First record.
    pub start: u32,
    /// End of the records.
    pub end: u32,
    /// At which priority.
    pub priority: u8,
    /// They were sent before.
    pub again: bool,
}

impl Work {
    /// The records.
    pub const fn records(&self) -> Range<u32> {
        self.start..self.end
    }
}

/// Where an RPC stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Ours: the request goes out, no response came yet.
    Requesting,
    /// Ours: the response comes in.
    Answering,
    /// Ours: a one-way message goes out.
    Telling,
    /// The peer's: its message comes in.
    Receiving,
    /// The peer's: the application has the request.
    InService,
    /// The peer's: the response goes out, or waits for its ack.
    Responding,
    /// The incoming message is complete; the endpoint takes it.
    Complete,
}

/// A snapshot of one RPC.
#[derive(Clone, Copy, Debug)]
pub struct RpcInfo {
    /// Its name.
    pub rpc: RpcId,
    /// Its peer.
    pub peer: u32,
    /// Where it stands.
    pub state: State,
    /// Bytes of the message that we send; 0 when there is none.
    pub out_length: u32,
    /// Of these, sent at least once.
    pub out_sent: u32,
    /// Of these, allowed.
    pub out_granted: u32,
    /// Bytes of the message that we receive; 0 when nothing of it came.
    pub in_length: u32,
    /// Of these, arrived.
    pub in_received: u32,
    /// Of these, granted.
    pub in_granted: u32,
}

/// What the machine holds, against what it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Open RPCs.
    pub rpcs: usize,
    /// Bytes of incoming messages that are buffered.
    pub buffered_bytes: u64,
    /// Bytes that were granted and have not arrived.
    pub incoming_bytes: u64,
    /// Messages that wait for room.
    pub waiting: usize,
    /// Bytes that are kept free for messages that waited.
    pub kept_bytes: u64,
}

/// The most that the machine holds for any one peer, of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerHoldings {
    /// Open RPCs that it began.
    pub rpcs: u32,
    /// Bytes of its messages that are buffered.
    pub buffered_bytes: u64,
    /// The same of all sessions of one host.
    pub host_buffered_bytes: u64,
    /// Frames to be said to it.
    pub frames: usize,
    /// Acknowledgements that wait for a ride.
    pub acks: usize,
    /// Gaps in the order in which its RPCs finished.
    pub gaps: usize,
}
