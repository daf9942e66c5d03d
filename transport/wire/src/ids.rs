//! Owns the names on the wire: sessions, RPCs, messages, records. [P-2], [P-3]

use core::fmt;

/// Which end of a session: the one that began the handshake, or the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Began the handshake.
    Client,
    /// Answered it.
    Server,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    const fn bit(self) -> u64 {
        match self {
            Self::Client => 0,
            Self::Server => 1,
        }
    }
}

/// The name that one end gave a session; the other end puts it into every packet. [P-2.1]
///
/// The low [`SessionId::SLOT_BITS`] bits are the slot in the table of the end that chose it, so a look-up is one index and
/// one comparison; the rest is random, so that who cannot see packets must guess it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionId(u64);

impl SessionId {
    /// Bits that hold the slot.
    pub const SLOT_BITS: u32 = 20;
    /// "Not known yet": what a client's first handshake packet is addressed to.
    pub const NONE: Self = Self(0);

    /// The id of `slot`, with the upper bits of `random`.
    pub const fn new(slot: u32, random: u64) -> Self {
        let mask = (1 << Self::SLOT_BITS) - 1;
        // Bit 63 is set so that no id is ever `NONE`.
        Self((random & !mask) | (slot as u64 & mask) | 1 << 63)
    }

    /// The local name of a lane of shard `shard`, in its table at `slot`: bit 63 is not set, so it never stands on the wire. [P-9.2]
    pub const fn of_lane(slot: u32, shard: u8, random: u64) -> Self {
        let rest = (1 << (63 - u8::BITS)) - 1;
        Self((Self::new(slot, random).0 & rest) | (shard as u64) << (63 - u8::BITS))
    }

    /// Whether it is the local name of a lane.
    pub const fn is_lane(self) -> bool {
        self.0 >> 63 == 0
    }

    /// The shard whose table has it.
    pub const fn shard(self) -> u8 {
        if self.is_lane() { (self.0 >> (63 - u8::BITS)) as u8 } else { 0 }
    }

    /// From the wire.
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// To the wire.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The slot in the table of the end that chose it.
    pub const fn slot(self) -> u32 {
        (self.0 & ((1 << Self::SLOT_BITS) - 1)) as u32
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One RPC (or one-way message) of a session: its 44-bit sequence and who began it. [P-3.1]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RpcId(u64);

impl RpcId {
    /// Bits of a sequence.
    pub const SEQUENCE_BITS: u32 = 44;
    /// The largest sequence.
    pub const SEQUENCE_MAX: u64 = (1 << Self::SEQUENCE_BITS) - 1;

    /// The RPC that `began` counted as `sequence`.
    ///
    /// # Panics
    /// When `sequence` is over [`Self::SEQUENCE_MAX`]: a session is renewed before.
    pub const fn new(began: Side, sequence: u64) -> Self {
        assert!(sequence <= Self::SEQUENCE_MAX, "sequence over 44 bits");
        Self(sequence << 1 | began.bit())
    }

    /// From the 48 bits that frames carry; the unused upper bits must be zero.
    ///
    /// # Errors
    /// [`crate::error::Refusal::Malformed`] otherwise.
    pub const fn from_u48(value: u64) -> Result<Self, crate::error::Refusal> {
        if value >> (Self::SEQUENCE_BITS + 1) == 0 { Ok(Self(value)) } else { Err(crate::error::Refusal::Malformed) }
    }

    /// As frames carry it.
    pub const fn as_u48(self) -> u64 {
        self.0
    }

    /// Its number among those that the same side began.
    pub const fn sequence(self) -> u64 {
        self.0 >> 1
    }

    /// Who began it.
    pub const fn began(self) -> Side {
        if self.0 & 1 == 0 { Side::Client } else { Side::Server }
    }
}

impl fmt::Debug for RpcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.began() {
            Side::Client => 'c',
            Side::Server => 's',
        };
        write!(f, "{side}{}", self.sequence())
    }
}

/// A message: an RPC and which attempt at cutting and sealing it this is. 48 bits. [P-3.1]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u64);

impl MessageId {
    /// Bits of an attempt.
    pub const ATTEMPT_BITS: u32 = 3;
    /// The last attempt.
    pub const ATTEMPT_MAX: u8 = (1 << Self::ATTEMPT_BITS) - 1;

    /// Attempt `attempt` of `rpc`.
    ///
    /// # Panics
    /// When `attempt` is over [`Self::ATTEMPT_MAX`].
    pub const fn new(rpc: RpcId, attempt: u8) -> Self {
        assert!(attempt <= Self::ATTEMPT_MAX, "attempts used up");
        Self(rpc.as_u48() << Self::ATTEMPT_BITS | attempt as u64)
    }

    /// The RPC that it belongs to.
    pub const fn rpc(self) -> RpcId {
        RpcId(self.0 >> Self::ATTEMPT_BITS)
    }

    /// Which attempt.
    pub const fn attempt(self) -> u8 {
        self.0 as u8 & Self::ATTEMPT_MAX
    }

    /// The next attempt of the same RPC; `None` after the last. [P-3.4]
    pub const fn next_attempt(self) -> Option<Self> {
        if self.attempt() < Self::ATTEMPT_MAX { Some(Self(self.0 + 1)) } else { None }
    }

    /// The 48 bits.
    pub const fn as_u48(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}.{}", self.rpc(), self.attempt())
    }
}

/// The composite record number: message id and index inside the message, the variable part of the nonce. [P-3.2]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordNumber(u64);

impl RecordNumber {
    /// Record `index` of `message`.
    pub const fn new(message: MessageId, index: u16) -> Self {
        Self(message.as_u48() << 16 | index as u64)
    }

    /// From the wire; every value has a meaning.
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// To the wire.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The message that it belongs to.
    pub const fn message(self) -> MessageId {
        MessageId(self.0 >> 16)
    }

    /// Its place in the message.
    pub const fn index(self) -> u16 {
        self.0 as u16
    }
}

impl fmt::Debug for RecordNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}[{}]", self.message(), self.index())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// [P-3.1] [P-3.2] The three parts of a record number come back, and different parts never share a number.
        #[test]
        fn record_number_round_trip(seq in 0..=RpcId::SEQUENCE_MAX, server in any::<bool>(), attempt in 0..=MessageId::ATTEMPT_MAX, index in any::<u16>()) {
            let began = if server { Side::Server } else { Side::Client };
            let number = RecordNumber::new(MessageId::new(RpcId::new(began, seq), attempt), index);
            let back = RecordNumber::from_u64(number.as_u64());
            prop_assert_eq!(back.index(), index);
            prop_assert_eq!(back.message().attempt(), attempt);
            prop_assert_eq!(back.message().rpc().sequence(), seq);
            prop_assert_eq!(back.message().rpc().began(), began);
        }

        /// [P-3.4] Matching knows neither direction nor attempt: request and response, and all attempts, are of one RPC.
        #[test]
        fn attempts_share_their_rpc(seq in 0..=RpcId::SEQUENCE_MAX, server in any::<bool>(), attempt in 0..=MessageId::ATTEMPT_MAX) {
            let rpc = RpcId::new(if server { Side::Server } else { Side::Client }, seq);
            let message = MessageId::new(rpc, attempt);
            prop_assert_eq!(message.rpc(), rpc);
            prop_assert_eq!(RpcId::from_u48(rpc.as_u48()), Ok(rpc));
            prop_assert!(RpcId::from_u48(rpc.as_u48() | 1 << (RpcId::SEQUENCE_BITS + 1 + u32::from(attempt % 3))).is_err());
        }

        /// [P-2.1] A session id gives its slot back and is never the id that means "none".
        #[test]
        fn session_id_slot(slot in 0u32..1 << SessionId::SLOT_BITS, random in any::<u64>()) {
            let id = SessionId::new(slot, random);
            prop_assert_eq!(id.slot(), slot);
            prop_assert_ne!(id, SessionId::NONE);
            prop_assert_eq!((id.is_lane(), id.shard()), (false, 0));
        }

        /// [P-9.2] The local name of a lane gives slot and shard back, and is never a name that stands on the wire.
        #[test]
        fn lane_names(slot in 0u32..1 << SessionId::SLOT_BITS, shard in any::<u8>(), random in any::<u64>()) {
            let id = SessionId::of_lane(slot, shard, random);
            prop_assert_eq!((id.slot(), id.is_lane(), id.shard()), (slot, true, shard));
        }
    }
}
