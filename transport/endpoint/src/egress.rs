//! Owns the way out: message -> segment -> record -> packet -> datagram, a function each.
//!
//! What leaves first: handshake flights, because nothing works without them; then control packets, because others wait
//! for what they say; then data, shortest remaining message first.

use std::net::SocketAddr;

use proto::io::{Failure, Work};
use proto::time::Instant;
use record::seal::{Bound, Message, seal_control};
use wire::bytes::Writer;
use wire::control::Frame;
use wire::header::{Header, PacketType};
use wire::limits::{CONTROL_HEADER_LEN, DATA_HEADER_LEN, DATAGRAM_MIN, TAG_LEN};

use crate::error::Ended;
use crate::parting::Quiet;
use crate::pool::Body;
use crate::session::Phase;
use crate::state::State;
use crate::trail::Step;

/// Datagrams for one peer: equal in length, but the last may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// Bytes in all.
    pub len: usize,
    /// Bytes of each datagram but the last.
    pub segment: usize,
    /// At which priority, 0 to 7.
    pub priority: u8,
}

/// From this length on a datagram of a handshake takes the next one along.
const TRAIN_MIN: usize = DATAGRAM_MIN / 2;
/// Datagrams of a handshake that leave in one train.
const TRAIN_DATAGRAMS_MAX: usize = 4;
/// Priority of what is not data: above all of it.
pub(crate) const CONTROL_PRIORITY: u8 = 7;

impl State {
    /// Whether there may be something to send. Asked more often than there is.
    #[inline]
    pub(crate) fn may_transmit(&self) -> bool {
        self.machine.has_ready() || self.has_more_than_data() || self.device.is_some()
    }

    /// Writes what goes next into `out` and says where to; `None` when there is nothing.
    #[inline(never)]
    pub(crate) fn transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        self.trail.look(now);
        if self.device.is_some() {
            return self.transmit_beside_device(now, out);
        }
        self.transmit_in_software(now, out)
    }

    /// The same, of what leaves by our own hands.
    #[inline(always)]
    pub(crate) fn transmit_in_software(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        if self.has_more_than_data() {
            let first = self.flight(now, out).ok()?.or_else(|| self.question(now, out));
            let next = first.or_else(|| self.control(now, out));
            next.or_else(|| self.segment(now, out))
        } else if self.machine.has_ready() {
            self.segment(now, out)
        } else {
            None
        }
    }

    /// Whether anything may have to leave that is not data. Asked for every datagram.
    #[inline]
    fn has_more_than_data(&self) -> bool {
        !self.strangers.is_empty()
            || !self.flights.is_empty()
            || self.paths.asks()
            || !self.notices.is_empty()
            || self.machine.peek_talkative().is_some()
    }

    /// The next datagrams of a handshake.
    fn flight(&mut self, now: Instant, out: &mut [u8]) -> Result<Option<Transmit>, Quiet> {
        let whole = |to, len| Ok(Some(Transmit { to, len, segment: len, priority: CONTROL_PRIORITY }));
        if let Some((to, bytes)) = self.strangers.pop_front() {
            out[..bytes.len()].copy_from_slice(&bytes);
            self.counters.packets_sent += 1;
            self.machine.count_sent(now, bytes.len());
            return whole(to, bytes.len());
        }
        while let Some(&slot) = self.flights.front() {
            if let Some(train) = self.held(slot, now, out)? {
                return Ok(Some(train));
            }
            if let Some(segment) = self.flight_of(slot, now, out) {
                let to = self.at(slot).address;
                let len = self.rest_of_flight(slot, segment, now, out);
                // A client's last packet takes its first request along.
                let talks = self.at(slot).may_send && matches!(self.at(slot).phase, Phase::Connecting(_));
                if talks && len == segment {
                    return Ok(self.behind(slot, len, now, out));
                }
                self.counters.packets_sent += len.div_ceil(segment) as u64;
                self.machine.count_sent(now, len);
                return Ok(Some(Transmit { to, len, segment, priority: CONTROL_PRIORITY }));
            }
            self.flights.pop_front();
            if self.sessions[slot as usize].is_some() {
                self.rearm(slot, now);
            }
        }
        Ok(None)
    }

    /// What follows the first datagram of a flight, of `segment` bytes, leaves with it if it is no longer: the kernel takes datagrams of
    /// one length, so shorter ones are filled up, but the last. How long all of them are.
    fn rest_of_flight(&mut self, slot: u32, segment: usize, now: Instant, out: &mut [u8]) -> usize {
        let mut len = segment;
        // What is cut to the length of a short one would be cut small.
        if segment < TRAIN_MIN {
            return len;
        }
        loop {
            let start = len.next_multiple_of(segment);
            let fits = start + segment <= out.len().min(TRAIN_DATAGRAMS_MAX * segment);
            if !fits || (start > len && !self.pad_flight(slot, start - len)) {
                break;
            }
            out[len..start].fill(0);
            let Some(next) = self.flight_of(slot, now, &mut out[start..start + segment]) else { break };
            len = start + next;
        }
        len
    }

    fn pad_flight(&mut self, slot: u32, bytes: usize) -> bool {
        match self.sessions[slot as usize].as_mut().map(|session| &mut session.phase) {
            Some(Phase::Connecting(client)) => client.pad(bytes),
            Some(Phase::Accepting(server)) => server.pad(bytes),
            Some(Phase::Open) | None => false,
        }
    }

    /// The next datagram of the handshake of `slot`: how long it is.
    pub(crate) fn flight_of(&mut self, slot: u32, now: Instant, out: &mut [u8]) -> Option<usize> {
        match &mut self.sessions[slot as usize].as_mut()?.phase {
            Phase::Connecting(client) => client.poll_transmit(now, out),
            Phase::Accepting(server) => server.poll_transmit(now, out),
            Phase::Open => None,
        }
    }

    /// The next control packet: all that is to be said to one peer, as far as it fits.
    fn control(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        let slot = loop {
            let slot = match self.notices.front() {
                Some(&(slot, _)) => slot,
                None => self.machine.peek_talkative()?,
            };
            if self.at(slot).keys.as_mut().is_none_or(|keys| keys.sealing.current().may_control()) {
                break slot;
            }
            // Nothing more is said rather than anything beyond what the key may protect. [P-6.7]
            self.close(slot, &Ended::Failed(Failure::SessionClosed));
        };
        let mut frames = [0; DATAGRAM_MIN - CONTROL_HEADER_LEN - TAG_LEN];
        let mut w = Writer::new(&mut frames);
        let mut put = |frame: &Frame| {
            let fits = frame.encoded_len() <= w.room();
            if fits {
                frame.emit(&mut w);
                match *frame {
                    Frame::Grant { rpc, offset, .. } => self.trail.mark(Step::Grants, slot, rpc, offset),
                    Frame::Resend { rpc, start, .. } => self.trail.mark(Step::Misses, slot, rpc, start),
                    _ => {}
                }
            }
            fits
        };
        while let Some((_, frame)) = self.notices.front().filter(|(to, _)| *to == slot) {
            if !put(frame) {
                break;
            }
            self.notices.pop_front();
        }
        if self.machine.peek_talkative() == Some(slot) {
            self.machine.next_frames(&mut put);
        }
        let len = w.len();
        let to = self.sessions[slot as usize].as_ref()?.address;
        self.seal_frames(now, slot, to, &frames[..len], out)
    }

    /// A control packet of these frames.
    pub(crate) fn seal_frames(
        &mut self,
        now: Instant,
        slot: u32,
        to: SocketAddr,
        frames: &[u8],
        out: &mut [u8],
    ) -> Option<Transmit> {
        let session = self.sessions[slot as usize].as_mut()?;
        let keys = session.keys.as_mut()?;
        let header = Header {
            kind: PacketType::Control,
            flags: 0,
            epoch: keys.sealing.epoch() as u8,
            priority: CONTROL_PRIORITY,
            steer: session.steer,
            segment: (CONTROL_HEADER_LEN + frames.len() + TAG_LEN) as u16,
            session: session.peer_id,
        };
        let sealing = keys.sealing.current();
        let (key, number) = sealing.next_control()?;
        let len = seal_control(key, number, &header, frames, out);
        let (wants, closing) = (sealing.wants_next_epoch(), session.closing);
        self.machine.count_sent(now, len);
        self.counters.controls_sealed += 1;
        self.counters.packets_sent += 1;
        if wants && !closing {
            self.want_epoch(slot, now);
        }
        if closing && !self.notices.iter().any(|(s, _)| *s == slot) {
            self.close(slot, &Ended::Failed(Failure::SessionClosed));
        }
        Some(Transmit { to, len, segment: len, priority: CONTROL_PRIORITY })
    }

    /// [`Self::segment`] for the rare: the way of every message has its own, inlined.
    #[cold]
    #[inline(never)]
    pub(crate) fn segment_aside(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        self.segment(now, out)
    }

    /// The next segment: packets of one size and priority for one peer, of one message or of several.
    #[inline(always)]
    fn segment(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        let room = self.config.segment_bytes_max.min(out.len());
        let mut transmit: Option<Transmit> = None;
        let mut segment_peer = 0;
        let mut packets = 0;
        while let Some((slot, peer, record, priority)) = self.machine.peek_work(now) {
            let company = self.seeks_company(slot, peer);
            if !company && !self.is_bound(slot, peer, now) {
                continue;
            }
            let beside_device = self.device.is_some();
            if beside_device && !self.is_sealable(slot, peer, record, now) {
                continue;
            }
            let message = self.message(slot);
            let packet_len = DATA_HEADER_LEN + message.record_len(record as u16);
            let filled = transmit.map_or(0, |t| t.len);
            if let Some(t) = transmit {
                // The kernel marks all datagrams of a segment alike.
                let fits = peer == segment_peer
                    && (priority == t.priority || !self.config.marks_priorities)
                    && packet_len <= t.segment
                    && filled + packet_len <= room
                    && packets < self.config.segment_packets_max;
                if !fits {
                    break;
                }
            }
            let before = transmit.map(|t| t.segment);
            let segment = before.unwrap_or(packet_len);
            // A packet that is shorter than the others can only be the last.
            let most = if packet_len < segment { 1 } else { (room - filled) / segment };
            let most = most.min(self.config.segment_packets_max - packets);
            let most = whole_records(self.message(slot), record, most);
            let left = if packets == 0 { self.machine.may_follow_alone(slot) as usize } else { 0 };
            let ends = left > most;
            let most = if ends { even_share(self.message(slot), record, left, most) } else { most };
            let Some(work) = self.machine.next_work(now, most as u32) else { break };
            let session = self.sessions[peer as usize].as_ref()?;
            segment_peer = peer;
            let to = session.address;
            if company {
                let most = before.unwrap_or(session.datagram_max).min(room - filled);
                if let Some(len) = self.bundle(now, &work, before, &mut out[filled..filled + most]) {
                    let segment = before.unwrap_or(len);
                    transmit = Some(Transmit { to, len: filled + len, segment, priority });
                    packets += 1;
                    if len < segment {
                        break;
                    }
                    continue;
                }
                if !self.is_bound(slot, peer, now) {
                    continue;
                }
            }
            if beside_device && self.leaves_by_device(&work, segment, now) {
                if self.device_has_much() {
                    break;
                }
                continue;
            }
            let at = self.packets(&work, segment, filled, out)?;
            let count = (work.end - work.start) as usize;
            if self.trail.is_on() {
                self.mark_sent(&work);
            }
            packets += count;
            transmit = Some(Transmit { to, len: at, segment, priority: work.priority });
            if ends || at < filled + count * segment {
                break;
            }
        }
        transmit
    }

    #[cold]
    fn mark_sent(&mut self, work: &Work) {
        if let Some((rpc, ..)) = self.machine.rpc(work.slot) {
            let step = if work.again { Step::Repeated } else { Step::Sent };
            self.trail.mark(step, work.peer, rpc, work.end - work.start);
        }
    }

    /// Seals what was taken as packets of `segment` bytes, from byte `at` of `out` on. Where they end.
    #[inline(always)]
    fn packets(&mut self, work: &Work, segment: usize, mut at: usize, out: &mut [u8]) -> Option<usize> {
        let Self { calls, sessions, spanned, counters, .. } = self;
        let message = calls[work.slot as usize].as_ref()?.out.as_ref()?;
        let session = sessions[work.peer as usize].as_ref()?;
        let keys = session.keys.as_ref()?;
        let header = Header {
            kind: PacketType::Data,
            flags: 0,
            epoch: message.epoch()? as u8,
            priority: work.priority,
            steer: session.steer,
            segment: segment as u16,
            session: session.peer_id,
        };
        let count = u64::from(work.end - work.start);
        let (mut sealed, spans, mut span) = (count, message.spans(), 0..0);
        for index in work.records() {
            if spans && !span.contains(&index) {
                span = message.geometry().sealed_with(index as u16);
            }
            let (index, out) = (index as u16, &mut out[at..]);
            if span.len() > 1 {
                let (len, new) = spanned.packet((session.id, &keys.sealing), message, &header, (&span, index), out);
                counters.slices_sent += 1;
                sealed -= u64::from(!new);
                at += len;
            } else {
                at += packet(message, &keys.sealing, &header, index, out);
            }
        }
        counters.records_sealed += sealed;
        counters.records_repeated += if work.again { count } else { 0 };
        counters.packets_sent += count;
        Some(at)
    }

    #[inline]
    fn message(&self, slot: u32) -> &Message<Body> {
        let call = self.calls[slot as usize].as_ref().expect("an RPC with work has a message");
        call.out.as_ref().expect("an RPC with work has a message")
    }

    /// Binds the message of `slot` to the present epoch, unless it is bound. `false` when it cannot go now.
    #[inline]
    pub(crate) fn is_bound(&mut self, slot: u32, peer: u32, now: Instant) -> bool {
        let call = self.calls[slot as usize].as_mut().expect("an RPC with work has a message");
        let message = call.out.as_mut().expect("an RPC with work has a message");
        if message.epoch().is_some() {
            return true;
        }
        let keys = self.sessions[peer as usize].as_mut().and_then(|session| session.keys.as_mut());
        let bound = message.bind(&mut keys.expect("what is sent has keys").sealing);
        if bound != Ok(Bound::Quietly) {
            self.bound(slot, peer, bound, now);
        }
        bound.is_ok()
    }
}

/// How many packets of at most `most`, from `record` on, leave in one train: where records span packets, as many as are whole records, if
/// any are. Of a part nothing can be opened before the next train.
#[inline]
fn whole_records<B: AsRef<[u8]>>(message: &Message<B>, record: u32, most: usize) -> usize {
    let end = record as usize + most;
    if !message.geometry().spans() || end >= message.geometry().records() as usize {
        return most;
    }
    let whole = message.geometry().sealed_with(end as u16).start.saturating_sub(record) as usize;
    if message.is_sliced(end as u16) && whole > 0 { whole } else { most }
}

/// How many of the `left` packets of a message, from `record` on, leave in the next train, where `most` go in one: all its trains are as
/// long as each other, but that where records span packets each is nearest to whole ones. So its receiver opens one while the next is
/// sealed; behind a train as long as can be and a short one he would have nothing to do first, and all that is left then.
#[inline(never)]
fn even_share<B: AsRef<[u8]>>(message: &Message<B>, record: u32, left: usize, most: usize) -> usize {
    let trains = left.div_ceil(most);
    let share = left.div_ceil(trains);
    let geometry = message.geometry();
    if !geometry.spans() {
        return share;
    }
    let next = geometry.sealed_with((record as usize + share) as u16);
    let (down, up) = (next.start.saturating_sub(record) as usize, (next.end - record) as usize);
    let near = if up <= most && up - share < share - down { up } else { down };
    if near == 0 || left - near > (trains - 1) * most { share } else { near }
}

/// One packet: the header, and one record behind it.
#[inline]
fn packet<B: AsRef<[u8]>>(
    message: &Message<B>,
    keys: &record::epochs::Outbound,
    header: &Header,
    index: u16,
    out: &mut [u8],
) -> usize {
    let len = DATA_HEADER_LEN + message.record_len(index);
    let (clear, sealed) = out[..len].split_at_mut(DATA_HEADER_LEN);
    wire::data::emit_header(&mut Writer::new(clear), header, message.geometry().length());
    message.seal(keys, index, sealed);
    len
}
