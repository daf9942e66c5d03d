//! Owns one message on its way out: what may go, what went, what must go again.

use alloc::vec::Vec;
use core::ops::Range;

use wire::geometry::Geometry;

/// The sender's view of one message. Counts records, as those are what travels.
#[derive(Debug)]
pub struct Outgoing {
    geometry: Geometry,
    /// Records that were sent at least once since the beginning, or since it began again: always the first ones.
    sent: u32,
    /// Something was sent.
    touched: bool,
    /// Records that may be sent.
    allowed: u32,
    /// Records that nobody has to grant.
    unscheduled: u32,
    /// At which priority these go.
    unscheduled_priority: u8,
    /// Records to repeat; ranges of `0..sent`.
    again: Vec<Range<u32>>,
    /// At which priority to send what was granted.
    pub priority: u8,
}

/// Ranges of records that wait to be repeated; beyond it they become one, which is what such loss calls for.
const AGAIN_MAX: usize = 32;

/// Priority of what goes again.
const REPEAT_PRIORITY: u8 = 7;

impl Outgoing {
    /// A message of which `unscheduled` bytes may go at once, at `unscheduled_priority`; at least its first record may.
    pub fn new(geometry: Geometry, unscheduled: u32, unscheduled_priority: u8) -> Self {
        let allowed = geometry.records_below(unscheduled).max(1);
        let (priority, again) = (unscheduled_priority, Vec::new());
        Self { geometry, sent: 0, touched: false, allowed, unscheduled: allowed, unscheduled_priority, again, priority }
    }

    /// Bytes of a message that may go when `limit` bytes may: whole records, at least one.
    pub fn unscheduled_of(geometry: Geometry, limit: u32) -> u32 {
        // The common case, without a division.
        if limit >= geometry.length() {
            return geometry.length();
        }
        geometry.offset_of(geometry.records_below(limit).max(1))
    }

    /// How it is cut.
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Bytes that may be sent without a grant, as the trailer states them: whole records.
    pub const fn unscheduled(&self) -> u32 {
        self.geometry.offset_of(self.unscheduled)
    }

    /// Bytes that were never sent yet.
    pub const fn bytes_left(&self) -> u32 {
        self.geometry.length() - self.geometry.offset_of(self.sent)
    }

    /// Bytes sent at least once.
    pub const fn bytes_sent(&self) -> u32 {
        self.geometry.offset_of(self.sent)
    }

    /// Bytes that may be sent.
    pub const fn bytes_granted(&self) -> u32 {
        self.geometry.offset_of(self.allowed)
    }

    /// Whether anything may go now.
    pub fn is_ready(&self) -> bool {
        self.sent < self.allowed || !self.again.is_empty()
    }

    /// Whether every record went out at least once.
    pub const fn is_all_sent(&self) -> bool {
        self.sent == self.geometry.records()
    }

    /// Whether nothing went out yet.
    pub const fn is_untouched(&self) -> bool {
        !self.touched
    }

    /// Whether it may travel with others: one record, which never went.
    pub const fn may_ride(&self) -> bool {
        !self.touched && self.geometry.records() == 1
    }

    /// The receiver has no trace of it: all begins again, also what the receiver granted, because it forgot that as well.
    pub fn restart(&mut self) {
        (self.sent, self.allowed) = (0, self.unscheduled);
        self.again.clear();
    }

    /// The receiver allows bytes up to `offset`. Returns whether that is more than before.
    pub fn grant(&mut self, offset: u32) -> bool {
        let allowed = self.geometry.records_below(offset);
        let more = allowed > self.allowed;
        self.allowed = self.allowed.max(allowed);
        more
    }

    /// The receiver misses `bytes`. What lies beyond what was granted tells of a lost grant. [P-8.5]
    pub fn miss(&mut self, bytes: Range<u32>) {
        let end = bytes.end.min(self.geometry.length());
        if bytes.end != u32::MAX {
            self.grant(end);
        }
        let missing = self.geometry.records_of(bytes.start.min(end)..end);
        let again = missing.start..missing.end.min(self.sent);
        if again.start >= again.end || self.again.iter().any(|r| r.start <= again.start && again.end <= r.end) {
            return;
        }
        if self.again.len() == AGAIN_MAX {
            let all = self.again.drain(..).fold(again, |a, b| a.start.min(b.start)..a.end.max(b.end));
            self.again.push(all);
        } else {
            self.again.push(again);
        }
    }

    /// The record that goes next.
    pub fn next_record(&self) -> Option<u32> {
        match self.again.first() {
            Some(first) => Some(first.start),
            None => (self.sent < self.allowed).then_some(self.sent),
        }
    }

    /// Whether nobody has to grant `record`.
    const fn is_unscheduled(&self, record: u32) -> bool {
        record < self.unscheduled
    }

    /// How many records may go for the first time, one after the other, before somebody has to grant more.
    pub fn may_follow(&self) -> u32 {
        if self.again.is_empty() { self.allowed.saturating_sub(self.sent) } else { 0 }
    }

    /// At which priority `record` goes, by who let it. What goes again goes first: its message is late already, and where the
    /// network is full of higher priorities it would be lost, or wait, again and again.
    pub const fn priority_of(&self, record: u32) -> u8 {
        if record < self.sent {
            REPEAT_PRIORITY
        } else if self.is_unscheduled(record) {
            self.unscheduled_priority
        } else {
            self.priority
        }
    }

    /// Whether `record` goes for the first time, and nobody has to grant it.
    pub const fn is_first_unscheduled(&self, record: u32) -> bool {
        record >= self.sent && self.is_unscheduled(record)
    }

    /// The next records to send, at most `most` of them, and whether they go again.
    pub fn take(&mut self, most: u32) -> Option<(Range<u32>, bool)> {
        // What was granted has a priority of its own.
        let unscheduled = self.unscheduled;
        let bound = |start: u32| if start < unscheduled { unscheduled } else { u32::MAX };
        if let Some(first) = self.again.first_mut() {
            let end = first.end.min(first.start.saturating_add(most)).min(bound(first.start));
            let taken = first.start..end;
            first.start = end;
            if first.start == first.end {
                self.again.remove(0);
            }
            return Some((taken, true));
        }
        let end = self.allowed.min(self.sent.saturating_add(most)).min(bound(self.sent));
        if self.sent == end {
            return None;
        }
        let taken = self.sent..end;
        self.sent = end;
        self.touched = true;
        Some((taken, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    proptest! {
        /// [P-8.1] [P-8.5] Under any grants and misses: nothing goes before it is allowed, first-time records go once and
        /// in order, and repeats repeat only what went.
        #[test]
        fn sends_only_what_is_allowed(length in 0usize..200_000, unscheduled in 0u32..100_000,
            acts in proptest::collection::vec((0u8..3, any::<u32>(), any::<u32>(), 1u32..9), 0..60)) {
            let geometry = Geometry::cut(length, 1500);
            let mut out = Outgoing::new(geometry, unscheduled, 6);
            let mut first = 0;
            for (act, a, b, most) in acts {
                let (a, b) = (a % (length as u32 + 2), b % (length as u32 + 2));
                match act {
                    0 => { out.grant(a); }
                    1 => out.miss(a.min(b)..a.max(b)),
                    _ => if let Some((records, again)) = out.take(most) {
                        prop_assert!(!records.is_empty() && records.len() as u32 <= most);
                        let blind = |record| geometry.offset_of(record) < out.unscheduled();
                        prop_assert_eq!(blind(records.start), blind(records.end - 1), "one priority");
                        if again {
                            prop_assert!(records.end <= first);
                        } else {
                            prop_assert_eq!(records.start, first);
                            first = records.end;
                        }
                        prop_assert!(records.end <= geometry.records());
                        prop_assert!(geometry.offset_of(records.end) <= out.bytes_granted());
                    }
                }
            }
        }
    }

    #[test]
    fn a_lost_grant_is_inferred() {
        let mut out = Outgoing::new(Geometry::cut(100_000, 1500), 10_000, 6);
        while out.take(64).is_some() {}
        assert!(!out.is_ready());
        out.miss(10_000..50_000);
        let mut sent = vec![];
        while let Some((records, again)) = out.take(1000) {
            sent.push((records, again));
        }
        assert!(sent.iter().any(|(_, again)| !again), "bytes beyond the grant go for the first time");
        assert!(out.bytes_sent() > 48_000);
    }
}
