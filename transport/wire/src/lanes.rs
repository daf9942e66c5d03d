//! Owns which shards of two endpoints talk to each other, and how a packet says so. [P-9.1] [P-9.2]
//!
//! A *lane* is a pair of shards, one of each end. Nothing that two lanes have is shared between them: so a shard asks nobody before it
//! sends or takes a packet.

use crate::limits::{HEADER_LEN, SHARDS_MAX};

/// A lane, as one end sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lane {
    /// The shard that sends.
    pub from: u8,
    /// The shard that receives.
    pub to: u8,
}

impl Lane {
    /// Of the first shard at either end. It is the session itself: handshake, DONE, CLOSE and evidence stay in it.
    pub const MAIN: Self = Self { from: 0, to: 0 };

    /// As the header carries it.
    pub const fn steer(self) -> u16 {
        (self.from as u16) << 8 | self.to as u16
    }

    /// From the header; every value is a lane, though perhaps not one that there is.
    pub const fn from_steer(steer: u16) -> Self {
        Self { from: (steer >> 8) as u8, to: steer as u8 }
    }
}

/// Where the type of a packet stands: the lower four bits of this byte. [P-5.1]
pub const TYPE_AT: usize = 0;
/// The last type whose packets belong to a lane, CONTROL: what follows is the first shard's. [P-9.1]
pub const LANE_TYPE_MAX: u8 = 2;
/// Where the receiving shard stands in packets of a lane. [P-9.1]
pub const RECEIVER_AT: usize = 5;

/// The shard that a datagram is for, as a program in the kernel or a NIC reads it: not trusted, a wrong one costs a detour.
#[inline]
pub fn receiver(datagram: &[u8]) -> u8 {
    match datagram.first_chunk::<HEADER_LEN>() {
        Some(header) if header[TYPE_AT] & 0xf <= LANE_TYPE_MAX => header[RECEIVER_AT],
        _ => 0,
    }
}

/// The lanes of one shard to one peer: those to shards of the same number modulo the smaller count of both. So each shard has one at
/// least, and the two ends together as many lanes as the larger count. [P-9.2]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lanes {
    shard: u8,
    ours: u16,
    theirs: u16,
}

impl Lanes {
    /// Of shard `shard` of an endpoint with `ours`, to a peer with `theirs`.
    ///
    /// # Panics
    /// When there is no such shard, or a count is none: bugs of the caller.
    pub const fn new(shard: u8, ours: u16, theirs: u16) -> Self {
        assert!((shard as u16) < ours && ours <= SHARDS_MAX && theirs >= 1 && theirs <= SHARDS_MAX, "no such shard");
        Self { shard, ours, theirs }
    }

    const fn smaller(self) -> u16 {
        if self.ours < self.theirs { self.ours } else { self.theirs }
    }

    /// How many there are.
    pub const fn count(self) -> usize {
        let first = self.shard as u16 % self.smaller();
        (self.theirs - first).div_ceil(self.smaller()) as usize
    }

    /// The peer's shard of lane `place`, counted from 0.
    pub const fn partner(self, place: usize) -> u8 {
        (self.shard as u16 % self.smaller() + place as u16 * self.smaller()) as u8
    }

    /// The place of the lane to that shard of the peer; `None` when there is none.
    pub const fn place(self, partner: u8) -> Option<usize> {
        let (partner, smaller) = (partner as u16, self.smaller());
        let is = partner < self.theirs && partner % smaller == self.shard as u16 % smaller;
        if is { Some((partner / smaller) as usize) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// [P-9.1] The sender stands before the receiver, which is what steers.
    #[test]
    fn what_the_header_carries() {
        assert_eq!(Lane { from: 0x12, to: 0x34 }.steer(), 0x1234);
        assert_eq!(Lane::MAIN.steer(), 0);
        for steer in 0..=u16::MAX {
            assert_eq!(Lane::from_steer(steer).steer(), steer);
        }
    }

    /// [P-9.1] [P-5.1] What steers is found without reading a packet: in DATA and CONTROL; everything else is the first shard's.
    #[test]
    fn what_steers() {
        use crate::bytes::Writer;
        use crate::header::{Header, PacketType};
        let steer = Lane { from: 3, to: 7 }.steer();
        let session = crate::ids::SessionId::from_u64(1 << 63);
        for (kind, shard) in [
            (PacketType::Data, 7),
            (PacketType::Control, 7),
            (PacketType::Handshake, 0),
            (PacketType::Reset, 0),
            (PacketType::Retry, 0),
        ] {
            let mut bytes = [0; HEADER_LEN];
            Header { kind, flags: 0, epoch: 0, priority: 0, steer, segment: 0, session }
                .emit(&mut Writer::new(&mut bytes));
            assert_eq!(receiver(&bytes), shard, "{kind:?}");
            assert_eq!(receiver(&bytes[..HEADER_LEN - 1]), 0, "too short for a header");
        }
    }

    proptest! {
        /// [P-9.2] Both ends see the same lanes; each shard has one at least, and they are as many as the larger count.
        #[test]
        fn both_ends_agree(ours in 1..=SHARDS_MAX, theirs in 1..=SHARDS_MAX) {
            let mut all = 0;
            for shard in 0..ours {
                let lanes = Lanes::new(shard as u8, ours, theirs);
                prop_assert!(lanes.count() >= 1);
                for place in 0..lanes.count() {
                    let partner = lanes.partner(place);
                    prop_assert_eq!(lanes.place(partner), Some(place));
                    let back = Lanes::new(partner, theirs, ours);
                    let back = back.place(shard as u8).map(|place| back.partner(place));
                    prop_assert_eq!(back, Some(shard as u8));
                    all += 1;
                }
                let there = (0..=u8::MAX).filter(|partner| lanes.place(*partner).is_some()).count();
                prop_assert_eq!(there, lanes.count());
            }
            prop_assert_eq!(all, ours.max(theirs));
        }
    }
}
