//! Owns what is counted in a capture, what happens to a message in it, and the rows that tell of both. Definitions: docs/CAPTURES.md.

use serde::{Deserialize, Serialize};

/// How long after a message was complete a copy of one of its records may still be an honest one: a sender that hears nothing ends an RPC
/// after that time. [P-8.5]
pub const LINGER_NS: u64 = 3_000_000_000;
/// After that time without anything new, a message is given up. [P-8.7]
pub const IDLE_NS: u64 = 60_000_000_000;

/// A packet whose time lies further than this before the latest begins time anew: no queue of a card or a kernel holds one back so long.
pub const BACK_MAX_NS: u64 = 1_000_000_000;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a capture holds, counted.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Each count with its name, in order.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

counts! {
    /// Packets of the capture.
    packets,
    /// Their bytes, as captured.
    bytes,
    /// Sealane packets: a datagram may hold a whole segment of them.
    sealane,
    /// DATA packets.
    data,
    /// CONTROL packets.
    control,
    /// HANDSHAKE packets.
    handshake,
    /// RESET packets.
    reset,
    /// RETRY packets.
    retry,
    /// UDP datagrams or parts of them that are no Sealane packet.
    not_sealane,
    /// Packets that carry no UDP, and fragments.
    not_udp,
    /// Packets that were captured short (snap length), and not read.
    cut_short,
    /// Packets more than a second before an earlier one: the clock of the capture was set back, or the earlier one's time was wrong.
    clock_jumps,
    /// Directions of lanes of sessions in which anything sealed was seen.
    flows,
    /// Messages of which a record was seen; a bundle is one.
    messages,
    /// Those all of whose records were seen.
    complete,
    /// Records that were seen, copies included.
    records,
    /// Those of them that were slices of a record that spans packets; with keys, once that record has opened. Truth files before these were
    /// made have none. [P-4.6]
    #[serde(default)]
    slices,
    /// Runs of missing records in messages that were not complete when they were closed.
    gaps,
    /// Records in them.
    lost,
    /// Copies of a record of a message that was not over.
    duplicates,
    /// Records of messages that were over.
    replays,
    /// Records that came by a later attempt, or (with keys) that were asked for again.
    retransmissions,
    /// Records that came for the first time after one with a higher index.
    out_of_order,
    /// Records with the number of an earlier one and another tag: two things sealed under one nonce, or a forgery.
    conflicts,
    /// CONTROL packets with a number that was seen, or too old to tell.
    control_duplicates,
    /// CONTROL packets with a number below the highest that was seen.
    control_out_of_order,
    /// Numbers of CONTROL packets below the highest of their epoch that were never seen.
    control_missing,
}

macro_rules! sealed_counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What only a key log tells.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct SealedCounts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl SealedCounts {
            /// Each count with its name, in order.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

sealed_counts! {
    /// Records that opened.
    opened_records,
    /// CONTROL packets that opened.
    opened_control,
    /// Records and CONTROL packets whose tag did not verify.
    bad_tags,
    /// Those that opened and have no meaning.
    nonsense,
    /// Those of sessions that the key log does not know.
    without_key,
    /// Records whose clear length field is neither 0 nor that of the sealed trailer.
    false_lengths,
    /// Bytes of messages that were opened, copies included.
    opened_bytes,
    /// Messages inside of bundles.
    bundled,
    /// GRANT frames.
    grants,
    /// RESEND frames.
    resends,
    /// BUSY frames.
    busy,
    /// UNKNOWN frames.
    unknown,
    /// ACK frames and acknowledgements that ride in records.
    acks,
    /// NEED_ACK frames.
    need_acks,
    /// CANCEL frames.
    cancels,
    /// REFUSED frames.
    refused,
    /// All other frames.
    other_frames,
}

/// What happened to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A record came, as it should.
    Record,
    /// See [`Counts::out_of_order`].
    OutOfOrder,
    /// See [`Counts::duplicates`].
    Duplicate,
    /// See [`Counts::retransmissions`].
    Retransmission,
    /// See [`Counts::replays`].
    Replay,
    /// See [`Counts::conflicts`].
    Conflict,
    /// See [`Counts::gaps`]: `index` is the first missing record, `value` how many there are.
    Gap,
    /// Its receiver allowed bytes up to `value`.
    Grant,
    /// Its receiver asked for bytes from `value` on again.
    Resend,
    /// Its receiver has it.
    Ack,
    /// Its receiver will not take it.
    Refused,
}

impl What {
    /// As JSON and the database have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::OutOfOrder => "out_of_order",
            Self::Duplicate => "duplicate",
            Self::Retransmission => "retransmission",
            Self::Replay => "replay",
            Self::Conflict => "conflict",
            Self::Gap => "gap",
            Self::Grant => "grant",
            Self::Resend => "resend",
            Self::Ack => "ack",
            Self::Refused => "refused",
        }
    }

    /// Whether a truth file lists it: everything that is not as it should be.
    pub const fn is_fault(self) -> bool {
        matches!(
            self,
            Self::OutOfOrder | Self::Duplicate | Self::Retransmission | Self::Replay | Self::Conflict | Self::Gap
        )
    }
}

/// Which message: of which direction and lane of which session, of which RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Which {
    /// The receiver's id of the session.
    pub session: u64,
    /// The lane.
    pub steer: u16,
    /// The RPC, as frames carry it.
    pub rpc: u64,
    /// It is the bundle that this RPC's message leads.
    pub bundle: bool,
}

/// Something that happened to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// To which.
    pub which: Which,
    /// Record.
    pub index: u16,
    /// Attempt.
    pub attempt: u8,
    /// What.
    pub what: What,
    /// See [`What`].
    pub value: u32,
}

/// What a key log tells of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Request, response or one-way; `None` until a record opened.
    pub kind: Option<&'static str>,
    /// Bytes that it was sent without grants.
    pub unscheduled: u32,
    /// End of the last grant.
    pub granted: u32,
    /// Grants.
    pub grants: u32,
    /// Questions for parts of it.
    pub resends: u32,
    /// When it was acknowledged first.
    pub acked_ns: Option<u64>,
}

/// A message, once it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    /// Which.
    pub which: Which,
    /// Its first record.
    pub first_ns: u64,
    /// Its last record that was new.
    pub last_ns: u64,
    /// When all of it was there.
    pub complete_ns: Option<u64>,
    /// Bytes, as its packets say; 0 when that is hidden.
    pub length: u32,
    /// How many records it has, if that is known.
    pub total: Option<u32>,
    /// How many of them were seen.
    pub seen: u32,
    /// Records of it that were seen, copies included.
    pub records: u32,
    /// Runs of missing ones.
    pub gaps: u32,
    /// Missing ones.
    pub lost: u32,
    /// See [`Counts::duplicates`].
    pub duplicates: u32,
    /// See [`Counts::retransmissions`].
    pub retransmissions: u32,
    /// See [`Counts::out_of_order`].
    pub out_of_order: u32,
    /// See [`Counts::conflicts`].
    pub conflicts: u32,
    /// The last attempt that was seen.
    pub attempt: u8,
    /// The longest time between two of its records.
    pub pause_ns: u64,
    /// What a key log tells.
    pub told: Option<Box<Told>>,
}

/// A direction of a lane of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRow {
    /// The receiver's id of the session.
    pub session: u64,
    /// The lane.
    pub steer: u16,
    /// Whence its first packet came.
    pub from: String,
    /// Whither.
    pub to: String,
    /// Whether its keys are known.
    pub keys: bool,
    /// Packets.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Messages.
    pub messages: u64,
}
