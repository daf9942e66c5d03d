//! Owns what a NIC is asked to seal: keys by name, and plans. It holds plaintext of nobody.
//!
//! A plan is records of one message that follow each other, each alone in its packet, all but the last of one length. It is made from
//! records that were handed over for good (`record::seal::Message::hand_over`): whatever becomes of it, nobody seals their numbers again.

use std::fmt;
use std::net::SocketAddr;

use zeroize::Zeroizing;

use record::aead::Cipher;

/// A key: of what we seal in one session and epoch. Only the name of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyName {
    /// Our name for the session.
    pub session: u64,
    /// The epoch of what we seal.
    pub epoch: u64,
}

/// What a card has to know to seal with a key. Wiped when dropped.
pub struct Material {
    /// The cipher.
    pub cipher: Cipher,
    /// The key.
    pub key: Zeroizing<Vec<u8>>,
    /// The first four bytes of each nonce.
    pub salt: [u8; 4],
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Material({})", self.cipher)
    }
}

/// Records to be sealed and sent, each in a packet of its own.
pub struct Plan<'a> {
    /// With which key.
    pub key: KeyName,
    /// Where to.
    pub to: SocketAddr,
    /// What stands in clear in front of each record, the same in all packets. [P-5.1]
    pub header: &'a [u8],
    /// Picks the queue: all of a message go by one.
    pub message: u64,
    /// The number of the first record; the others follow.
    pub first: u64,
    /// How many records; one at least.
    pub count: u32,
    /// Bytes of each record on the wire but the last.
    pub record_len: usize,
    /// Bytes of the last one.
    pub last_len: usize,
    /// Writes record `i` of these into a place of its length: its 13 clear bytes and its plaintext. The last 16 bytes are the tag's.
    pub write: &'a mut dyn FnMut(u32, &mut [u8]),
}

impl Plan<'_> {
    /// Bytes of record `i` on the wire.
    pub const fn len_of(&self, i: u32) -> usize {
        if i + 1 == self.count { self.last_len } else { self.record_len }
    }

    /// Bytes of all of them.
    pub const fn bytes(&self) -> usize {
        self.record_len * (self.count as usize - 1) + self.last_len
    }
}

impl fmt::Debug for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plan({} records from {:#x} to {})", self.count, self.first, self.to)
    }
}

/// Why a NIC does not take a plan. Nothing of it was told to the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Not {
    /// It is below the threshold.
    Small,
    /// The card does not know the key.
    UnknownKey,
    /// The queue, or the memory behind it, is full.
    Full,
    /// Nobody knows the way there.
    NoWay,
    /// The card failed before, or is failing.
    Broken,
    /// It is more than a card is told at once.
    TooLong,
}
