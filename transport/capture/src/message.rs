//! Owns what is known of one message while it is open: which of its records were seen, and what a record that comes is. Knows nothing of
//! keys: what they tell is told to it.

use wire::geometry::{CIPHER_BLOCK, Geometry};
use wire::limits::RECORDS_MAX;

use crate::counts::{MessageRow, Told, What, Which};

/// Records whose memory needs no allocation.
const INLINE: usize = 4;
/// Questions for parts of a message that are remembered.
const ASKED_MAX: usize = 64;
/// Most bytes of acknowledgements in a message of one record. [P-4.3]
const ACKS_MAX: u32 = wire::limits::AUX_MAX as u32;

/// Of each record: a bit for each attempt in which it was seen, and 24 bits of the tag of the last of these.
#[derive(Debug)]
struct Slots {
    inline: [u32; INLINE],
    more: Vec<u32>,
}

impl Slots {
    fn get(&self, index: u16) -> u32 {
        let index = usize::from(index);
        self.inline.get(index).or_else(|| self.more.get(index - INLINE)).copied().unwrap_or(0)
    }

    fn slot(&mut self, index: u16) -> &mut u32 {
        let index = usize::from(index);
        if index < INLINE {
            return &mut self.inline[index];
        }
        if self.more.len() <= index - INLINE {
            self.more.resize(index - INLINE + 1, 0);
        }
        &mut self.more[index - INLINE]
    }
}

/// A record that comes, as its clear bytes have it.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// When.
    pub time_ns: u64,
    /// Its index.
    pub index: u16,
    /// Its attempt.
    pub attempt: u8,
    /// Its plaintext without a trailer.
    pub payload: u32,
    /// Some bits of its tag.
    pub check: u32,
    /// The message's length, as the packet says.
    pub length: u32,
}

/// A message that is open.
#[derive(Debug)]
pub struct Message {
    slots: Slots,
    first_ns: u64,
    /// The last record that was new.
    pub last_ns: u64,
    /// When it was complete.
    pub complete_ns: Option<u64>,
    length: u32,
    /// The largest payload of a record so far: that of all but the last, once two were seen.
    payload: u32,
    /// As a trailer states it.
    geometry: Option<Geometry>,
    seen: u32,
    highest: u16,
    records: u32,
    duplicates: u32,
    retransmissions: u32,
    out_of_order: u32,
    conflicts: u32,
    attempt: u8,
    pause_ns: u64,
    /// Records of which a copy was asked for.
    asked: Vec<(u32, u32)>,
    /// What keys tell.
    pub told: Option<Box<Told>>,
}

impl Message {
    /// The message of which this is the first record.
    pub const fn new(first: &Arrival) -> Self {
        Self {
            slots: Slots { inline: [0; INLINE], more: Vec::new() },
            first_ns: first.time_ns,
            last_ns: first.time_ns,
            complete_ns: None,
            length: first.length,
            payload: 0,
            geometry: None,
            seen: 0,
            highest: 0,
            records: 0,
            duplicates: 0,
            retransmissions: 0,
            out_of_order: 0,
            conflicts: 0,
            attempt: 0,
            pause_ns: 0,
            asked: Vec::new(),
            told: None,
        }
    }

    /// How many records it takes memory for, beyond itself.
    pub fn slots(&self) -> usize {
        self.slots.more.len()
    }

    /// Takes a record in, and says what it is.
    pub fn take(&mut self, arrival: &Arrival) -> What {
        let Arrival { time_ns, index, attempt, payload, check, .. } = *arrival;
        self.records += 1;
        self.attempt = self.attempt.max(attempt);
        let asked = self.was_asked(u32::from(index));
        let slot = self.slots.slot(index);
        let (bit, check) = (1 << attempt, check & 0xff_ffff);
        let before = *slot;
        if before & bit != 0 {
            // Only the tag of the last attempt is remembered.
            let latest = (before & 0xff) >> attempt == 1;
            return if latest && before >> 8 != check {
                self.conflicts += 1;
                What::Conflict
            } else if asked {
                self.retransmissions += 1;
                What::Retransmission
            } else {
                self.duplicates += 1;
                What::Duplicate
            };
        }
        *slot = if before & 0xff < bit { check << 8 | (before | bit) & 0xff } else { before | bit };
        let late = before & 0xff != 0 || self.seen > 0 && index < self.highest;
        if before & 0xff == 0 {
            self.seen += 1;
            self.payload = self.payload.max(payload);
            self.highest = self.highest.max(index);
            self.pause_ns = self.pause_ns.max(time_ns.saturating_sub(self.last_ns));
            self.last_ns = self.last_ns.max(time_ns);
            if self.complete_ns.is_none() && self.total() == Some(self.seen) {
                self.complete_ns = Some(time_ns);
            }
        }
        if attempt > 0 || asked {
            self.retransmissions += 1;
            What::Retransmission
        } else if late {
            self.out_of_order += 1;
            What::OutOfOrder
        } else {
            What::Record
        }
    }

    /// A trailer of it opened: how it is cut is known for certain.
    pub fn state(&mut self, geometry: Geometry, time_ns: u64) {
        if self.geometry.is_none() {
            self.geometry = Some(geometry);
            if self.complete_ns.is_none() && self.total() == Some(self.seen) {
                self.complete_ns = Some(time_ns);
            }
        }
    }

    /// Its receiver asks for bytes `start..end` again: the next copy of each of their records answers that. [P-8.5]
    pub fn ask(&mut self, start: u32, end: u32) {
        let payload = self.geometry.map_or(self.payload, |cut| u32::from(cut.payload())).max(1);
        let records = (start / payload, if end == u32::MAX { u32::MAX } else { end.div_ceil(payload) });
        if self.asked.len() < ASKED_MAX && records.0 < records.1 {
            self.asked.push(records);
        }
    }

    /// Whether a copy of this record was asked for; answered is answered.
    fn was_asked(&mut self, index: u32) -> bool {
        let Some(at) = self.asked.iter().position(|(from, to)| (*from..*to).contains(&index)) else { return false };
        let (from, to) = self.asked.swap_remove(at);
        let rest = [(from, index), (index + 1, to)];
        self.asked.extend(rest.into_iter().filter(|(from, to)| from < to));
        true
    }

    /// How many records there are, if that can be told.
    pub fn total(&self) -> Option<u32> {
        if let Some(geometry) = self.geometry {
            return Some(geometry.records());
        }
        let (length, payload, highest) = (self.length, self.payload, u32::from(self.highest));
        if highest == 0 && (payload >= length && payload <= length + ACKS_MAX) {
            return Some(1);
        }
        if length == 0 || payload == 0 {
            return None;
        }
        // The last record alone tells how long the others are: messages are cut evenly, or at the next whole block.
        if self.seen == 1 && highest > 0 {
            let even = length.div_ceil(highest + 1);
            let fits = |each: u32| u64::from(each) * u64::from(highest) + u64::from(payload) == u64::from(length);
            if fits(even) || fits(even.next_multiple_of(CIPHER_BLOCK as u32)) {
                return Some(highest + 1);
            }
        }
        Some(length.div_ceil(payload).max(highest + 1)).filter(|total| *total as usize <= RECORDS_MAX)
    }

    /// What became of it, and each run of missing records with its length.
    pub fn close(self, which: Which, mut gap: impl FnMut(u16, u32)) -> MessageRow {
        let total = self.total();
        let (mut gaps, mut lost) = (0, 0);
        if self.complete_ns.is_none() {
            let end = total.unwrap_or_else(|| u32::from(self.highest) + 1);
            let mut run = None;
            for index in 0..=end {
                let missing = index < end && self.slots.get(index as u16) & 0xff == 0;
                match (run, missing) {
                    (None, true) => run = Some(index),
                    (Some(from), false) => {
                        gap(from as u16, index - from);
                        (gaps, lost, run) = (gaps + 1, lost + index - from, None);
                    }
                    _ => {}
                }
            }
        }
        MessageRow {
            which,
            first_ns: self.first_ns,
            last_ns: self.last_ns,
            complete_ns: self.complete_ns,
            length: self.geometry.map_or(self.length, Geometry::length),
            total,
            seen: self.seen,
            records: self.records,
            gaps,
            lost,
            duplicates: self.duplicates,
            retransmissions: self.retransmissions,
            out_of_order: self.out_of_order,
            conflicts: self.conflicts,
            attempt: self.attempt,
            pause_ns: self.pause_ns,
            told: self.told,
        }
    }
}
