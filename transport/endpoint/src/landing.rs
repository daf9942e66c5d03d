//! Owns where the bytes of a complete message are when the application gets them: where they arrived, or in a copy.

use std::ops::Range;

use crate::pool::{Buffer, Payload};
use crate::state::State;

/// Payloads up to this many bytes are copied out of a receive buffer that holds several messages, so that one of them does
/// not keep the memory of all.
const COPIED_MAX: usize = 2048;

/// Where the messages end that are copied together with the first of these: they stand one after the other.
fn neighbours(landed: &[(u32, Range<usize>)]) -> usize {
    let start = landed[0].1.start;
    let mut end = landed[0].1.end;
    for (_, place) in &landed[1..] {
        if place.start < end || place.end - start > COPIED_MAX {
            break;
        }
        end = place.end;
    }
    end
}

impl State {
    /// Messages that are complete leave: as views of the receive buffer, or of the buffer they were put together in. Short ones that
    /// came together are copied together: whoever keeps one keeps those that stood beside it, but not all that came. So are long ones that
    /// would keep much more than themselves.
    pub(crate) fn land(&mut self, buffer: Buffer) -> Option<Buffer> {
        let used = self.landed.iter().map(|(_, place)| place.len()).sum();
        let mut wasteful = self.pool.is_wasteful(used);
        if wasteful {
            // Perhaps it is only that nobody has found the time to forget what has ended.
            self.tidy();
            wasteful = self.pool.is_wasteful(used);
        }
        let mut landed = core::mem::take(&mut self.landed);
        let single = |place: &Range<usize>| !place.is_empty();
        let views = landed.iter().filter(|(_, place)| single(place)).count();
        let copied = |place: &Range<usize>| wasteful || place.len() <= COPIED_MAX && views > 1;
        let mut buffer = Some(buffer);
        let mut frozen = None;
        if landed.iter().any(|(_, place)| single(place) && !copied(place)) {
            frozen = buffer.take().map(|buffer| self.pool.freeze_datagrams(buffer));
        }
        // What was copied last, and from where.
        let (mut copy, mut from) = (None, 0..0);
        for at in 0..landed.len() {
            let (slot, place) = landed[at].clone();
            let payload = if place.is_empty() {
                self.put_together(slot)
            } else if copied(&place) {
                if place.start < from.start || from.end < place.end {
                    from = place.start..neighbours(&landed[at..]);
                    let bytes = match (&frozen, &mut buffer) {
                        (Some(frozen), _) => frozen.bytes(from.clone()),
                        (None, Some(buffer)) => &buffer.bytes()[from.clone()],
                        (None, None) => unreachable!("the buffer is frozen or not"),
                    };
                    copy = Some(self.pool.copy(bytes));
                }
                let copy: &Payload = copy.as_ref().expect("it was just made, or for a neighbour");
                copy.slice(place.start - from.start..place.end - from.start)
            } else if at + 1 < landed.len() {
                frozen.as_ref().map_or_else(Payload::empty, |frozen| frozen.payload(place))
            } else {
                frozen.take().map_or_else(Payload::empty, |frozen| frozen.into_payload(place))
            };
            self.deliver(slot, payload);
        }
        landed.clear();
        self.landed = landed;
        buffer
    }

    /// The payload of a message of several records, or of an empty one.
    fn put_together(&mut self, slot: u32) -> Payload {
        let length = self.machine.incoming(slot).map_or(0, |incoming| incoming.geometry().length() as usize);
        match self.calls[slot as usize].as_mut().and_then(|call| call.buffer.take()) {
            Some(buffer) => self.pool.freeze(buffer, length),
            None => Payload::empty(),
        }
    }
}
