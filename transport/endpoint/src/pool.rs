//! Owns the memory of messages: buffers that are used again, and [`Payload`], a view into one that may be shared.
//!
//! A buffer is filled while nobody else has it, then frozen: from then on only read. The pool keeps a handle on what it
//! gave out and uses the buffer again once it is the only one that has it; so a payload needs no word back when it is
//! dropped, and nothing is allocated per message in the steady state.

use std::collections::VecDeque;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use wire::bytes::copy;

use crate::block::Block;

/// Bytes of a message: read-only, cheap to clone, `Send`. It keeps its buffer from being used again while it lives.
#[derive(Clone)]
pub struct Payload {
    bytes: Arc<Block>,
    start: usize,
    end: usize,
}

impl Payload {
    /// The empty payload.
    pub fn empty() -> Self {
        Self::from(Vec::new())
    }

    /// How many bytes. Known without a look at them.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether it is the empty payload.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A part of it, without a copy.
    ///
    /// # Panics
    /// When `range` is not within it.
    #[must_use]
    #[inline]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len(), "slice {range:?} of {} bytes", self.len());
        Self { bytes: Arc::clone(&self.bytes), start: self.start + range.start, end: self.start + range.end }
    }

    /// Its memory, empty, for something new. Who keeps a clone of what is sent has it back so once that was delivered.
    ///
    /// # Errors
    /// Gives the payload back while anybody else has it.
    pub fn reclaim(self) -> Result<Vec<u8>, Self> {
        let Self { bytes, start, end } = self;
        let block = Arc::try_unwrap(bytes).map_err(|bytes| Self { bytes, start, end })?;
        Ok(block.into_memory())
    }
}

impl Deref for Payload {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Block> for Payload {
    fn from(bytes: Block) -> Self {
        let end = bytes.len();
        Self { bytes: Arc::new(bytes), start: 0, end }
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Block::from(bytes).into()
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    /// Lengths only: what applications say to each other does not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

/// The bytes of a message that goes out.
#[derive(Debug)]
pub enum Body {
    /// A copy that the endpoint made and uses again, or a vector that it was given: nobody else has it, so who does is not counted.
    Copied(Vec<u8>),
    /// What the application has, or may have.
    Shared(Payload),
}

impl Default for Body {
    fn default() -> Self {
        Self::Copied(Vec::new())
    }
}

impl From<Payload> for Body {
    fn from(payload: Payload) -> Self {
        Self::Shared(payload)
    }
}

impl Deref for Body {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Shared(payload) => payload,
        }
    }
}

impl AsRef<[u8]> for Body {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// A buffer that nobody else has.
#[derive(Debug)]
pub struct Buffer(Arc<Block>);

impl Buffer {
    /// Its bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        Arc::get_mut(&mut self.0).expect("a buffer has one owner until it is frozen")
    }
}

/// Buffers of one size.
#[derive(Debug)]
struct Class {
    size: usize,
    make: fn(usize) -> Block,
    /// Handles on buffers given out, oldest first.
    given: VecDeque<Arc<Block>>,
    given_max: usize,
}

/// How many of the oldest buffers are looked at for one that is free.
const TRIES: usize = 16;

/// Classes from this size on have buffers of several lengths, so that one under way is hardly longer than its message. Half of a class's
/// size is divided into so many steps.
const EXACT_MIN: usize = 1 << 14;
const STEPS: usize = 32;

impl Class {
    /// A buffer of `len` bytes or more.
    fn take(&mut self, len: usize) -> Buffer {
        for _ in 0..TRIES.min(self.given.len()) {
            let Some(mut bytes) = self.given.pop_front() else { break };
            // Most that are in use are told from others without a word to other processors.
            if Arc::strong_count(&bytes) > 1 || Arc::get_mut(&mut bytes).is_none() {
                self.given.push_back(bytes);
            } else if bytes.len() >= len {
                return Buffer(bytes);
            }
            // One that is free and too short makes room for one that is not.
        }
        let exact = self.size >= EXACT_MIN && len > self.size / 2;
        let size = if exact { len.next_multiple_of(self.size / 2 / STEPS) } else { self.size };
        Buffer(Arc::new((self.make)(size)))
    }

    /// Gives back what nobody uses.
    fn trim(&mut self) {
        self.given.retain_mut(|bytes| Arc::get_mut(bytes).is_none());
        self.given.shrink_to_fit();
    }

    fn remember(&mut self, bytes: &Arc<Block>) {
        if self.given.len() < self.given_max {
            self.given.push_back(Arc::clone(bytes));
        }
    }
}

/// Smallest class: 2^6 bytes.
const SMALLEST: u32 = 6;
/// Largest class: 2^27 bytes, twice the largest message.
const LARGEST: u32 = 27;
/// Buffers that a class may keep for later, at most.
const KEPT_MAX: usize = 4096;

/// What a buffer has beyond the message, so that the last record's sealed tail can be opened into it.
pub const SLACK: usize = 64;

/// Copies of messages that go out are kept up to this size; longer ones are buffers like any other.
const COPY_MAX: usize = 1024;
/// Sizes of such copies: powers of two from the smallest class to [`COPY_MAX`].
const COPY_SIZES: usize = (COPY_MAX.trailing_zeros() - SMALLEST) as usize + 1;

/// The buffers of one endpoint.
#[derive(Debug)]
pub struct Pool {
    classes: Vec<Class>,
    datagrams: Class,
    /// Copies that no message uses, by size.
    copies: [Vec<Vec<u8>>; COPY_SIZES],
}

/// Which class has room for so many bytes.
const fn class_of(len: usize) -> usize {
    let bits = usize::BITS - len.saturating_sub(1).leading_zeros();
    (if bits < SMALLEST { SMALLEST } else { bits } - SMALLEST) as usize
}

/// Receive buffers that are kept for later.
const DATAGRAMS_KEPT_MAX: usize = 64;

impl Pool {
    /// An empty pool, whose receive buffers have `datagram_bytes` bytes, and that keeps `kept_min` buffers of each size, however
    /// large they are, or as many as have `kept_bytes`.
    pub fn new(datagram_bytes: usize, kept_min: usize, kept_bytes: usize) -> Self {
        let kept_min = kept_min.min(KEPT_MAX);
        let class = |bits: u32| {
            let size = 1usize << bits;
            Class {
                size,
                make: Block::anywhere,
                given: VecDeque::new(),
                given_max: (kept_bytes / size).clamp(kept_min, KEPT_MAX),
            }
        };
        Self {
            classes: (SMALLEST..=LARGEST).map(class).collect(),
            datagrams: Class {
                size: datagram_bytes,
                // The kernel writes there.
                make: Block::amid_page,
                given: VecDeque::new(),
                given_max: DATAGRAMS_KEPT_MAX,
            },
            copies: Default::default(),
        }
    }

    fn class(&mut self, len: usize) -> &mut Class {
        let last = self.classes.len() - 1;
        &mut self.classes[class_of(len).min(last)]
    }

    /// A copy of `bytes`, to be sent, in the place of `body`.
    #[inline]
    pub fn body_into(&mut self, bytes: &[u8], body: &mut Body) {
        if bytes.len() > COPY_MAX {
            *body = Body::Shared(self.copy(bytes));
            return;
        }
        let class = class_of(bytes.len());
        let kept = self.copies[class].pop();
        *body = Body::Copied(kept.unwrap_or_else(|| Vec::with_capacity(1 << (class as u32 + SMALLEST))));
        if let Body::Copied(copied) = body {
            copied.extend_from_slice(bytes);
        }
    }

    /// A message that went out needs its bytes no more.
    #[inline]
    pub fn sent(&mut self, body: Body) {
        if let Body::Copied(mut bytes) = body {
            let class = class_of(bytes.capacity());
            if let Some(kept) = self.copies.get_mut(class)
                && bytes.capacity() == 1 << (class as u32 + SMALLEST)
                && kept.len() < self.classes[class].given_max
            {
                bytes.clear();
                kept.push(bytes);
            }
        }
    }

    /// A buffer for a message of `len` bytes and the [`SLACK`].
    pub fn message(&mut self, len: usize) -> Buffer {
        let class = self.class(len + SLACK);
        // What is not kept need not fit others.
        if class.given_max == 0 { Buffer(Arc::new(Block::anywhere(len + SLACK))) } else { class.take(len + SLACK) }
    }

    /// A buffer to receive into.
    pub fn datagrams(&mut self) -> Buffer {
        let size = self.datagrams.size;
        self.datagrams.take(size)
    }

    /// Whether messages of `used` bytes in all should be copied out of their receive buffer, however long they are: for less than half of
    /// it, all of it would be kept, as two others are. Where there is one message at a time there are no two.
    #[inline]
    pub fn is_wasteful(&self, used: usize) -> bool {
        let given = &self.datagrams.given;
        let held = |bytes: &&Arc<Block>| Arc::strong_count(bytes) > 1;
        2 * used < self.datagrams.size && given.iter().rev().take(2).filter(held).count() == 2
    }

    /// Freezes a message buffer: its first `len` bytes are the message.
    pub fn freeze(&mut self, buffer: Buffer, len: usize) -> Payload {
        self.class(buffer.0.len()).remember(&buffer.0);
        Payload { bytes: buffer.0, start: 0, end: len }
    }

    /// Freezes a receive buffer, to be cut into payloads by [`Frozen::payload`].
    pub fn freeze_datagrams(&mut self, buffer: Buffer) -> Frozen {
        self.datagrams.remember(&buffer.0);
        Frozen(buffer.0)
    }

    /// A copy of `bytes` in a buffer of the pool.
    pub fn copy(&mut self, bytes: &[u8]) -> Payload {
        let class = self.class(bytes.len());
        let mut buffer = class.take(bytes.len());
        copy(&mut buffer.bytes()[..bytes.len()], bytes);
        class.remember(&buffer.0);
        Payload { bytes: buffer.0, start: 0, end: bytes.len() }
    }

    /// Gives the memory back that no message uses. What comes next asks for it anew.
    pub fn trim(&mut self) {
        self.classes.iter_mut().for_each(Class::trim);
        self.copies = Default::default();
        self.datagrams.trim();
    }

    /// Takes back a message buffer that was never frozen.
    pub fn give_back(&mut self, buffer: Buffer) {
        self.class(buffer.0.len()).remember(&buffer.0);
    }
}

/// A receive buffer that is only read from now on.
#[derive(Debug)]
pub struct Frozen(Arc<Block>);

impl Frozen {
    /// A part of it.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.0[range]
    }

    /// A payload that is part of it.
    pub fn payload(&self, range: Range<usize>) -> Payload {
        Self(Arc::clone(&self.0)).into_payload(range)
    }

    /// The same, the last one. Who has the buffer is not counted once more, which costs as much as all else here.
    pub fn into_payload(self, range: Range<usize>) -> Payload {
        Payload { bytes: self.0, start: range.start, end: range.end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bodies of any length are what they were copied from, and what was sent is used again for what fits it.
    #[test]
    fn copies_are_used_again() {
        let mut pool = Pool::new(1000, 4, 4 << 20);
        let body = |pool: &mut Pool, bytes: &[u8]| {
            let mut body = Body::default();
            pool.body_into(bytes, &mut body);
            body
        };
        for len in [0, 1, 64, 65, 128, 700, COPY_MAX, COPY_MAX + 1, 5000] {
            let bytes: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let first = body(&mut pool, &bytes);
            assert_eq!(*first, bytes[..]);
            let (at, is_copied) = (first.as_ptr(), matches!(first, Body::Copied(_)));
            pool.sent(first);
            let next = body(&mut pool, &bytes);
            assert_eq!((&*next, is_copied), (&bytes[..], len <= COPY_MAX));
            assert!(next.as_ptr() == at || !is_copied, "{len}");
        }
        // What somebody else made fits no class.
        pool.sent(Body::Copied(Vec::with_capacity(100)));
        assert!(pool.copies.iter().flatten().all(|kept| kept.capacity() != 100));
    }

    /// As many buffers are kept as have the bytes that may be, or as the least is, and no more.
    #[test]
    fn what_was_in_use_at_once_is_kept() {
        for (kept_min, kept_bytes, expected) in
            [(1, 0, 1), (0, 0, 0), (1, 8 << 20, 4), (2, 8 << 20, 4), (6, 8 << 20, 6)]
        {
            let mut pool = Pool::new(1000, kept_min, kept_bytes);
            // With the slack they are of the class of 2 MiB.
            let mut eight = || -> Vec<Payload> {
                let made: Vec<Buffer> = (0..8).map(|_| pool.message(1 << 20)).collect();
                made.into_iter().map(|buffer| pool.freeze(buffer, 1 << 20)).collect()
            };
            drop(eight());
            let class = pool.class((1 << 20) + SLACK);
            assert_eq!(class.given.len(), expected, "{kept_min} {kept_bytes}");
        }
    }

    #[test]
    fn memory_comes_back_when_nobody_else_has_it() {
        let payload = Payload::from(b"some text".to_vec());
        let (at, other) = (payload.as_ptr(), payload.slice(5..9));
        let payload = payload.reclaim().expect_err("another has it");
        assert_eq!((&*payload, &*other), (&b"some text"[..], &b"text"[..]));
        drop(payload);
        let memory = other.reclaim().expect("nobody else has it");
        assert_eq!((memory.as_ptr(), memory.len(), memory.capacity()), (at, 0, 9));
    }

    #[test]
    fn a_buffer_is_used_again_only_when_nobody_reads_it() {
        let mut pool = Pool::new(1000, 4, 4 << 20);
        let first = pool.copy(b"first");
        let second = pool.copy(b"second");
        assert_eq!((&*first, &*second), (&b"first"[..], &b"second"[..]));
        let at = first.as_ptr();
        drop(first);
        let third = pool.copy(b"third");
        assert_eq!(third.as_ptr(), at, "the freed buffer comes back");
        assert_eq!(&*second, b"second");
        let part = second.slice(1..3);
        drop(second);
        let fourth = pool.copy(b"fourth");
        assert_eq!((&*part, &*fourth), (&b"ec"[..], &b"fourth"[..]), "a part keeps its buffer");
    }

    /// A receive buffer is kept for a message that fills half of it, or as long as hardly any are kept; else the message is copied.
    #[test]
    fn few_receive_buffers_are_kept_for_little() {
        let mut pool = Pool::new(1000, 4, 4 << 20);
        let kept: Vec<Payload> = (0..2)
            .map(|_| {
                assert!(!pool.is_wasteful(100));
                let buffer = pool.datagrams();
                pool.freeze_datagrams(buffer).payload(0..100)
            })
            .collect();
        assert!(pool.is_wasteful(499) && !pool.is_wasteful(500));
        drop(kept);
        assert!(!pool.is_wasteful(100));
    }
}
