//! Owns whether the kernel is to merge what arrives. Refuses: sockets.
//!
//! Datagrams that come one at a time need no merging, and asking about it costs a fifth of receiving one. So while that is all there is,
//! merging is off. It is turned off in two steps: what the kernel merged before must be read with its size, so control messages are asked
//! for until the queue was once seen empty.

/// Datagrams that came one at a time after which merging is turned off.
pub(crate) const LONE_MIN: u32 = 64;
/// Datagrams that follow each other at once after which it is turned on. One or two may just have been quick.
const CROWD_MIN: u32 = 3;
/// Of datagrams that are longer, what follows at once is a part of the same message: there one is a crowd.
const SMALL_MAX: usize = 1200;

/// What has come lately.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Thrift {
    /// Datagrams since the last crowd.
    lone: u32,
    /// Datagrams in a row that were there already when the one before was taken.
    crowd: u32,
    /// The last look found nothing: what comes next comes alone.
    was_empty: bool,
    /// Merging is off, yet the queue may still hold what was merged.
    draining: bool,
}

/// What is to be done when nothing is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Merging is to be turned off: [`Thrift::turned_off`] comes next.
    Off,
    /// It was, and nothing that was merged is left.
    Drained,
}

impl Thrift {
    /// Bytes came, as datagrams of `segment` each; `drained` says that nothing is asked about merging. Whether it is to be turned on again.
    #[inline]
    pub(crate) const fn came(&mut self, len: usize, segment: usize, drained: bool) -> bool {
        self.crowd = if self.was_empty { 0 } else { self.crowd + 1 };
        self.was_empty = false;
        let crowd_min = if len <= SMALL_MAX { CROWD_MIN } else { 1 };
        if len == segment && self.crowd < crowd_min {
            self.lone = self.lone.saturating_add(1);
            return false;
        }
        let is_off = self.draining || drained;
        (self.lone, self.crowd, self.draining) = (0, 0, false);
        is_off
    }

    /// Nothing is there.
    #[inline]
    pub(crate) const fn saw_nothing(&mut self, drained: bool) -> Option<Turn> {
        self.was_empty = true;
        if self.draining {
            self.draining = false;
            return Some(Turn::Drained);
        }
        if self.lone >= LONE_MIN && !drained { Some(Turn::Off) } else { None }
    }

    /// Merging is off, if that was `done`.
    pub(crate) const fn turned_off(&mut self, done: bool) {
        self.draining = done;
    }
}
