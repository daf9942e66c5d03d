//! Owns bundles at an endpoint: which messages travel together, and what becomes of those that came so. [P-4.7]
//!
//! What is ready when something may leave travels together, if it is new, small and for the same peer; nothing waits for company. A
//! bundle is not kept: whatever is lost with it is asked for as everything is, and goes again under its own number.

use proto::io::Work;
use proto::time::Instant;
use record::bundle::open;
use record::open::Acks;
use record::seal::Message;
use wire::bundle::{Brings, ENTRY_HEADER_LEN, Tail, entry_at, put, put_ack};
use wire::bytes::Writer;
use wire::control::Frame;
use wire::data::{RecordView, emit_header};
use wire::error::Refusal;
use wire::header::{Header, PacketType};
use wire::limits::{DATA_HEADER_LEN, RECORD_HEADER_LEN, TAG_LEN, TRAILER_LEN};
use wire::trailer::{Kind, Trailer};

use crate::pool::Body;
use crate::state::State;
use crate::trail::Step;

/// Bytes of a packet with a bundle before its first entry, and after its last.
const HEAD_LEN: usize = DATA_HEADER_LEN + RECORD_HEADER_LEN;
const END_LEN: usize = TRAILER_LEN + TAG_LEN;

/// A bundle is padded to the length of those before it in its train if it lacks no more than that: then others can follow it.
const PADDING_MAX: usize = 128;

/// What a message takes in a bundle.
#[inline]
fn ride_len(message: &Message<Body>) -> usize {
    ENTRY_HEADER_LEN * (1 + message.acks().len()) + message.body().len()
}

#[inline]
fn ride(message: &Message<Body>, w: &mut Writer<'_>) {
    put(w, message.id().rpc(), message.bits(), message.body());
    message.acks().for_each(|rpc| put_ack(w, rpc));
}

impl State {
    /// Whether the message of `slot`, which goes next, may travel with others; there may be none.
    #[inline]
    pub(crate) fn seeks_company(&mut self, slot: u32, peer: u32) -> bool {
        if !self.config.bundles || !self.machine.has_several_ready() || !self.machine.may_ride(slot) {
            return false;
        }
        let message = self.calls[slot as usize].as_ref().and_then(|call| call.out.as_ref());
        if !message.is_some_and(Message::may_lead) {
            return false;
        }
        let keys = self.sessions[peer as usize].as_mut().and_then(|session| session.keys.as_mut());
        keys.is_some_and(|keys| keys.sealing.current().has_plenty())
    }

    /// A packet for what was just taken, `first`, and for what else is ready and fits: at most `out.len()` bytes, and just so many if
    /// it lacks only few. Its length; `None` when there is no company.
    pub(crate) fn bundle(
        &mut self,
        now: Instant,
        first: &Work,
        segment: Option<usize>,
        out: &mut [u8],
    ) -> Option<usize> {
        let Self { machine, calls, trail, config, .. } = self;
        let priority = config.marks_priorities.then_some(first.priority);
        let mut w = Writer::new(&mut out[HEAD_LEN..]);
        let message = |slot: u32| calls[slot as usize].as_ref().and_then(|call| call.out.as_ref());
        let mut room = w.room().checked_sub(END_LEN + ride_len(message(first.slot)?))?;
        let mut count = 0;
        let mut rider = None;
        while let Some(slot) = machine.take_rider(now, first.peer, priority, |slot| {
            rider = message(slot).filter(|message| message.may_lead()).map(|message| (message, ride_len(message)));
            rider.is_some_and(|(_, len)| len <= room)
        }) {
            if count == 0 {
                ride(message(first.slot)?, &mut w);
                count = 1;
            }
            if trail.is_on()
                && let Some((rpc, ..)) = machine.rpc(slot)
            {
                trail.mark(Step::Bundled, first.peer, rpc, count as u32 + 1);
            }
            let (message, len) = rider?;
            room -= len;
            ride(message, &mut w);
            count += 1;
        }
        if count == 0 {
            return None;
        }
        if trail.is_on()
            && let Some((rpc, ..)) = machine.rpc(first.slot)
        {
            trail.mark(Step::Bundled, first.peer, rpc, count as u32);
        }
        let entries_len = w.len();
        let exact = HEAD_LEN + entries_len + END_LEN;
        let len = segment.filter(|segment| *segment <= exact + PADDING_MAX).unwrap_or(exact);
        let tail = Tail { len: entries_len as u16, floor: self.machine.floor(first.peer) };
        self.seal_bundle(now, first, segment, &tail, &mut out[..len]);
        self.counters.records_sealed += 1;
        self.counters.packets_sent += 1;
        self.counters.bundles_sealed += 1;
        self.counters.messages_bundled += count;
        Some(len)
    }

    /// Seals the packet `out`, whose entries stand in their place. Nothing here can fail: [`Self::seeks_company`] has looked.
    fn seal_bundle(&mut self, now: Instant, first: &Work, segment: Option<usize>, tail: &Tail, out: &mut [u8]) {
        let message = self.calls[first.slot as usize].as_mut().and_then(|call| call.out.as_mut());
        let lead = message.and_then(Message::lead).expect("the first has led nothing yet");
        let session = self.sessions[first.peer as usize].as_mut().expect("what is sent has a session");
        let keys = session.keys.as_mut().expect("what is sent has keys");
        let packet_len = out.len();
        let (clear, record) = out.split_at_mut(DATA_HEADER_LEN);
        let epoch = lead.seal(&mut keys.sealing, tail, record).expect("the budget has plenty");
        let header = Header {
            kind: PacketType::Data,
            flags: 0,
            epoch: epoch as u8,
            priority: first.priority,
            steer: session.steer,
            segment: segment.unwrap_or(packet_len) as u16,
            session: session.peer_id,
        };
        emit_header(&mut Writer::new(clear), &header, tail.len.into());
        if keys.sealing.current().wants_next_epoch() {
            self.want_epoch(first.peer, now);
        }
    }

    /// A record that is a bundle came.
    pub(crate) fn bundled(
        &mut self,
        now: Instant,
        peer: u32,
        epoch: u8,
        packet: &mut [u8],
        view: &RecordView,
        base: usize,
    ) {
        let opened = match open(&self.opening(peer, epoch).data, packet, view) {
            Ok(opened) => opened,
            Err(why) => return self.refused(peer, why),
        };
        self.alive(peer, epoch, now);
        self.counters.records_opened += 1;
        let start = base + opened.entries.start;
        let entries = &packet[opened.entries];
        let mut at = 0;
        while at < entries.len() {
            let Ok(entry) = entry_at(entries, at) else { return self.counters.dropped_nonsense += 1 };
            at = entry.bytes.end;
            let rpc = entry.rpc;
            let bits = match entry.brings {
                Brings::Message(bits) => bits,
                Brings::Ack => {
                    self.machine.frame(now, peer, Frame::Ack { rpc });
                    continue;
                }
            };
            match &self.sessions[peer as usize] {
                None => return,
                Some(session) if session.leaves_unread(rpc) => {
                    self.counters.dropped_before_evidence += 1;
                    continue;
                }
                Some(_) => {}
            }
            let below = if bits.kind == Kind::Response { 0 } else { rpc.sequence().saturating_sub(opened.tail.floor) };
            // A distance that no trailer could state is beyond every window.
            let below = u32::try_from(below).map_err(|_| Refusal::Malformed);
            let Ok(trailer) = below.and_then(|below| Trailer::of_bundled(bits, entry.bytes.len(), below)) else {
                self.counters.dropped_nonsense += 1;
                continue;
            };
            let found = self.machine.find(peer, rpc);
            let arrival = self.machine.arrived(now, peer, rpc, found, 0, &trailer);
            let place = start + entry.bytes.start..start + entry.bytes.end;
            self.arrived(now, peer, arrival, &Acks::default(), &entries[entry.bytes], 0, &trailer, place);
        }
    }
}
