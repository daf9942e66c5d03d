//! Owns the way back: datagram -> packet -> record -> segment -> message, a function each.
//!
//! Nothing that has not been opened changes anything but a counter. [P-5.4]

use std::net::SocketAddr;
use std::ops::Range;

use proto::io::{Arrival, State as RpcState};
use proto::time::Instant;
use record::epochs::Opening;
use record::error::OpenError;
use record::open::{Acks, TAIL_MAX, open_control, open_in_place, open_into};
use wire::bytes::{Reader, copy};
use wire::control::{Frame, packet_number};
use wire::data::RecordView;
use wire::header::Header;
use wire::limits::DATA_HEADER_LEN;
use wire::packet::Packet;
use wire::slice::{Part, part_at};
use wire::trailer::Trailer;

use crate::error::Ended;
use crate::events::Event;
use crate::pool::{Buffer, Payload};
use crate::session::{CallId, Phase, Session};
use crate::spanned::buffer_len;
use crate::state::{NOTICES_MAX, State};
use crate::trail::Step;

/// RPCs that may wait to be forgotten while messages keep coming.
const ENDED_MAX: usize = 64;

impl State {
    /// A train of datagrams of `segment` bytes each came from one address. Gives the buffer back unless payloads keep it.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        from: SocketAddr,
        mut buffer: Buffer,
        len: usize,
        segment: usize,
    ) -> Option<Buffer> {
        if len == 0 {
            self.counters.datagrams_received += 1;
            self.counters.dropped_truncated += 1;
        }
        self.from = from;
        self.trail.look(now);
        let bytes = &mut buffer.bytes()[..len];
        let mut at = 0;
        while at < len {
            let end = len.min(at + segment.max(1));
            at = self.datagram(now, from, bytes, at..end);
        }
        self.machine.schedule_grants();
        let buffer = self.land(buffer);
        if !self.config.tidies_when_idle || self.ended.len() >= ENDED_MAX {
            self.tidy();
        }
        buffer
    }

    /// One datagram of a train, `bytes[place]`, and those behind it that go on where it ends; where the next one begins.
    fn datagram(&mut self, now: Instant, from: SocketAddr, bytes: &mut [u8], place: Range<usize>) -> usize {
        self.counters.datagrams_received += 1;
        let datagram = &mut bytes[place.clone()];
        if self.config.shard.count > 1 && self.hand_over(from, datagram) {
            return place.end;
        }
        match Packet::parse(datagram) {
            Err(why) => self.counters.refuse(why),
            Ok(Packet::Data(header)) => return self.data(now, &header, bytes, place),
            Ok(Packet::Control(header)) => self.control_packet(now, &header, datagram),
            Ok(Packet::Handshake(packet)) => {
                self.handshake(now, from, &packet, place.len());
            }
            Ok(Packet::Retry(packet)) => self.retry(&packet),
            Ok(Packet::Reset(packet)) => self.reset(&packet),
        }
        place.end
    }

    /// The slot of the session that a packet is for, if that has keys for it.
    #[inline]
    fn addressed(&mut self, now: Instant, header: &Header, packet: &[u8]) -> Option<u32> {
        // A session names the lane by its own shard first, its peer by its own. [P-9.1]
        let is_it = |session: &Session| session.steer == header.steer.swap_bytes();
        let slot = match self.session(header.session) {
            Some((slot, session)) if is_it(session) => slot,
            // A session with several lanes does not rest.
            None if header.steer == 0 && self.rests.get(header.session).is_some() => {
                return self.knocked(now, header, packet);
            }
            _ => self.lane_addressed(now, header, packet.len())?,
        };
        let session = self.sessions[slot as usize].as_ref()?;
        let keys = session.keys.as_ref().filter(|_| !session.closing);
        match keys.map(|keys| keys.opening.named(header.epoch).is_some()) {
            Some(true) => Some(slot),
            Some(false) => {
                self.counters.dropped_wrong_epoch += 1;
                None
            }
            None => {
                self.counters.dropped_too_early += 1;
                None
            }
        }
    }

    pub(crate) fn refused(&mut self, slot: u32, why: OpenError) {
        match why {
            OpenError::Trailer => self.counters.dropped_nonsense += 1,
            OpenError::Tag => {
                self.counters.dropped_bad_tag += 1;
                let keys = self.at(slot).keys.as_mut().expect("it tried to open something");
                if keys.failures.add(1) {
                    self.close(slot, &Ended::Failed(proto::io::Failure::SessionClosed));
                }
            }
        }
    }

    /// The keys of an epoch of `peer`'s that a packet named, which [`Self::addressed`] found. It may have ended with a record
    /// before in the same packet: that opened under a newer epoch then, so this cannot be of it.
    pub(crate) fn opening(&self, peer: u32, epoch: u8) -> &Opening {
        let keys = self.sessions[peer as usize].as_ref().and_then(|session| session.keys.as_ref());
        keys.and_then(|keys| keys.opening.named(epoch)).expect("addressed")
    }

    /// A valid packet of the peer came, sealed in that epoch.
    #[inline]
    pub(crate) fn alive(&mut self, slot: u32, epoch: u8, now: Instant) {
        let session = self.at(slot);
        session.heard = now;
        if let Some(keys) = &mut session.keys {
            keys.opening.opened(epoch);
        }
        match &session.phase {
            Phase::Open => {}
            // What opened was sealed with keys that only a finished handshake gives.
            Phase::Connecting(_) | Phase::Accepting(_) => self.confirm(slot, now),
        }
    }

    /// A DATA packet: whole records, or slices, one after the other. Where the next one begins, see [`Self::datagram`].
    fn data(&mut self, now: Instant, header: &Header, bytes: &mut [u8], place: Range<usize>) -> usize {
        let (base, end) = (place.start, place.end);
        let packet = &mut bytes[place];
        let Some(slot) = self.addressed(now, header, packet) else { return end };
        let mut at = DATA_HEADER_LEN;
        while at < packet.len() {
            let view = match part_at(packet, at) {
                Ok(Part::Record(view)) => view,
                Ok(Part::Slice(view)) => {
                    let whole = at == DATA_HEADER_LEN && view.bytes.end == packet.len();
                    at = view.bytes.end;
                    match &self.sessions[slot as usize] {
                        None => {}
                        Some(_) if whole => {
                            return base + self.slices(now, slot, header.epoch, &bytes[base..], end - base, &view);
                        }
                        Some(_) => _ = self.slices(now, slot, header.epoch, packet, packet.len(), &view),
                    }
                    continue;
                }
                Err(why) => {
                    self.counters.refuse(why);
                    return end;
                }
            };
            at = view.sealed.end;
            match &self.sessions[slot as usize] {
                None => {}
                Some(_) if view.number.index() == wire::bundle::INDEX => {
                    self.bundled(now, slot, header.epoch, packet, &view, base);
                }
                Some(session) if session.leaves_unread(view.number.message().rpc()) => {
                    self.counters.dropped_before_evidence += 1;
                }
                Some(_) => self.record(now, slot, header.epoch, packet, &view, base),
            }
        }
        end
    }

    /// One record: straight to its place when its message is known, else in place.
    fn record(&mut self, now: Instant, peer: u32, epoch: u8, packet: &mut [u8], view: &RecordView, base: usize) {
        // Whatever attempt it is of: all of them bring the same bytes of one message. [P-3.4]
        let rpc = view.number.message().rpc();
        let found = self.machine.find(peer, rpc);
        let growing = found.and_then(|slot| {
            let ours = matches!(self.machine.rpc(slot)?.2, RpcState::Answering | RpcState::Receiving);
            self.machine.incoming(slot).filter(|_| ours).map(|incoming| (slot, incoming))
        });
        let index = view.number.index();
        if let Some((slot, incoming)) = growing {
            let geometry = incoming.geometry();
            if u32::from(index) >= geometry.records() {
                self.counters.dropped_nonsense += 1;
                return;
            }
            if incoming.has(index) {
                self.counters.dropped_duplicate += 1;
                return;
            }
            let place = geometry.bytes(index);
            let next = u32::from(index) + 1;
            // Of short records, the tail may cover several.
            let keep = place.len() < TAIL_MAX || (next < geometry.records() && incoming.has(next as u16));
            // Nor is anything opened onto slices that wait.
            if view.plaintext_len() > place.len() + TAIL_MAX || incoming.keeps_slices() {
                return self.padded_record(now, peer, epoch, packet, view, slot);
            }
            let keys = self.sessions[peer as usize].as_ref().and_then(|s| s.keys.as_ref());
            let key = keys.and_then(|keys| keys.opening.named(epoch)).expect("addressed");
            let buffer = self.calls[slot as usize].as_mut().and_then(|call| call.buffer.as_mut());
            let out = &mut buffer.expect("a message of several records has a buffer").bytes()[place.start..];
            match open_into(&key.data, packet, view, place.len(), out, keep) {
                Err(why) => self.refused(peer, why),
                Ok((trailer, acks)) => {
                    self.alive(peer, epoch, now);
                    self.counters.records_opened += 1;
                    let arrival = self.machine.arrived(now, peer, rpc, found, index, &trailer);
                    self.arrived(now, peer, arrival, &acks, &[], index, &trailer, 0..0);
                    // There was no room to remember that it ran: the machine has dropped it, and its half here goes, too.
                    if self.machine.rpc(slot).is_none() {
                        self.drop_call(slot);
                    }
                }
            }
            return;
        }
        match open_in_place(&self.opening(peer, epoch).data, packet, view) {
            Err(why) => self.refused(peer, why),
            Ok(opened) => {
                self.alive(peer, epoch, now);
                self.counters.records_opened += 1;
                let arrival = self.machine.arrived(now, peer, rpc, found, index, &opened.trailer);
                let place = base + opened.payload.start..base + opened.payload.end;
                let payload = &packet[opened.payload];
                self.arrived(now, peer, arrival, &opened.acks, payload, index, &opened.trailer, place);
            }
        }
    }

    /// A record of a growing message with more padding than fits behind its place: opened in place, then copied. [P-4.5]
    fn padded_record(&mut self, now: Instant, peer: u32, epoch: u8, packet: &mut [u8], view: &RecordView, slot: u32) {
        let (rpc, index) = (view.number.message().rpc(), view.number.index());
        match open_in_place(&self.opening(peer, epoch).data, packet, view) {
            Err(why) => self.refused(peer, why),
            Ok(opened) => {
                self.alive(peer, epoch, now);
                self.counters.records_opened += 1;
                let arrival = self.machine.arrived(now, peer, rpc, Some(slot), index, &opened.trailer);
                let buffer = self.call(slot).and_then(|call| call.buffer.as_mut());
                if let (Arrival::New { .. }, Some(buffer)) = (arrival, buffer) {
                    copy(&mut buffer.bytes()[opened.trailer.geometry.bytes(index)], &packet[opened.payload]);
                }
                self.arrived(now, peer, arrival, &opened.acks, &[], index, &opened.trailer, 0..0);
            }
        }
    }

    /// A record was opened and the machine has judged it.
    #[expect(clippy::too_many_arguments, reason = "one step of a pipeline, called from two places above")]
    pub(crate) fn arrived(
        &mut self,
        now: Instant,
        peer: u32,
        arrival: Arrival,
        acks: &Acks,
        payload: &[u8],
        index: u16,
        trailer: &Trailer,
        place: Range<usize>,
    ) {
        match arrival {
            Arrival::New { slot, first, complete } => {
                self.fresh(peer, now);
                if self.trail.is_on()
                    && let Some((rpc, ..)) = self.machine.rpc(slot)
                {
                    self.trail.mark(Step::Opened, peer, rpc, index.into());
                }
                if first {
                    self.first_record(peer, slot, complete, payload, index, trailer, place);
                }
                if complete && !first {
                    self.landed.push((slot, 0..0));
                }
                if !complete || !first {
                    self.stream_grew(peer, slot);
                }
            }
            Arrival::Duplicate => self.counters.dropped_duplicate += 1,
            Arrival::Unexpected => self.counters.dropped_unexpected += 1,
            Arrival::Contradiction | Arrival::OutsideWindow => self.counters.dropped_nonsense += 1,
            Arrival::NoRoom => self.counters.dropped_no_room += 1,
            Arrival::NotGranted => self.counters.dropped_not_granted += 1,
            Arrival::Refused => self.counters.dropped_refused += 1,
        }
        for rpc in acks.iter() {
            self.machine.frame(now, peer, Frame::Ack { rpc });
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one step of a pipeline")]
    #[inline]
    fn first_record(
        &mut self,
        peer: u32,
        slot: u32,
        complete: bool,
        payload: &[u8],
        index: u16,
        trailer: &Trailer,
        place: Range<usize>,
    ) {
        if self.call(slot).is_none() {
            self.put_call(slot);
        }
        if complete {
            self.landed.push((slot, place));
            return;
        }
        let length = trailer.geometry.length() as usize;
        let mut buffer = self.pool.message(buffer_len(trailer.geometry));
        copy(&mut buffer.bytes()[trailer.geometry.bytes(index)], payload);
        let evidence = self.machine.rpc(slot).is_some_and(|(rpc, ..)| self.is_evidence(peer, rpc));
        let streamed = !evidence && self.config.stream_above.is_some_and(|limit| length > limit);
        let call = self.calls[slot as usize].as_mut().expect("it was just put there");
        call.buffer = Some(buffer);
        call.streamed |= streamed;
        if call.streamed {
            let (cookie, waited) = (call.cookie, call.waited);
            let (rpc, ..) = self.machine.rpc(slot).expect("it is open");
            let (id, from) = (self.call_id(peer, rpc), self.origin(peer));
            self.events.push_back(Event::Stream { id, from, kind: trailer.kind, length, cookie, waited });
        }
    }

    fn stream_grew(&mut self, peer: u32, slot: u32) {
        if self.call(slot).is_some_and(|call| call.streamed)
            && let Some((rpc, ..)) = self.machine.rpc(slot)
        {
            let id = self.call_id(peer, rpc);
            self.events.push_back(Event::Readable { id });
        }
    }

    /// A complete message goes to the application.
    #[inline]
    pub(crate) fn deliver(&mut self, slot: u32, payload: Payload) {
        let Some((rpc, peer, state)) = self.machine.rpc(slot) else { return };
        if !self.evidence.timers.is_empty() && self.is_evidence(peer, rpc) {
            return self.evidence_came(slot, peer, rpc, state, &payload);
        }
        self.counters.messages_delivered += 1;
        let session = self.sessions[peer as usize].as_ref().expect("a session in use");
        let (id, ours) = (CallId { session: session.id, rpc }, rpc.began() == session.side);
        if self.trail.is_on() {
            let step = match (ours, state) {
                (true, _) => Step::Response,
                (false, RpcState::InService) => Step::Request,
                (false, _) => Step::OneWay,
            };
            self.trail.mark(step, peer, rpc, payload.len() as u32);
        }
        let call = self.calls[slot as usize].as_mut().expect("a complete RPC has both halves");
        let (cookie, waited) = (call.cookie, call.waited);
        if call.streamed {
            call.whole = Some(Box::new(payload));
            self.events.push_back(Event::Readable { id });
            return;
        }
        if ours || state != RpcState::InService {
            self.ended.push(slot);
        }
        // Who waits for it knows from whom.
        if ours && waited {
            return self.events.push_back(Event::Answer { id, payload });
        }
        let from = self.origin(peer);
        // Each is made where it goes.
        match (ours, state) {
            (true, _) => self.events.push_back(Event::Response { id, payload, from, cookie }),
            (false, RpcState::InService) => self.events.push_back(Event::Request { id, payload, from }),
            (false, _) => self.events.push_back(Event::OneWay { id, payload, from }),
        }
    }

    /// Hands a frame of an RPC to the machine. Whether it made sense.
    #[inline]
    fn taken(&mut self, now: Instant, peer: u32, frame: Frame) -> bool {
        match frame {
            Frame::Grant { rpc, offset, .. } => self.trail.mark(Step::Granted, peer, rpc, offset),
            Frame::Resend { rpc, start, .. } => self.trail.mark(Step::Missed, peer, rpc, start),
            _ => {}
        }
        self.machine.frame(now, peer, frame)
    }

    /// A CONTROL packet: frames, sealed as one piece.
    fn control_packet(&mut self, now: Instant, header: &Header, packet: &mut [u8]) {
        let Some(slot) = self.addressed(now, header, packet) else { return };
        let Ok(number) = packet_number(packet) else { return self.counters.dropped_truncated += 1 };
        let keys = self.at(slot).keys.as_mut().expect("addressed");
        let opening = keys.opening.named_mut(header.epoch).expect("addressed");
        if !opening.window.check(number) {
            self.counters.dropped_replayed_control += 1;
            return;
        }
        let frames = match open_control(&opening.control, number, packet) {
            Ok(frames) => frames,
            Err(why) => return self.refused(slot, why),
        };
        // Only now, as the tag has verified. [P-5.4]
        opening.window.commit(number);
        self.counters.controls_opened += 1;
        self.alive(slot, header.epoch, now);
        self.fresh(slot, now);
        let mut r = Reader::new(&packet[frames]);
        while !r.is_empty() {
            let Ok(frame) = Frame::parse(&mut r) else {
                self.counters.dropped_nonsense += 1;
                break;
            };
            match frame {
                Frame::Done => self.start_sending(slot, now),
                Frame::Renew => self.retire(slot),
                Frame::Close => return self.close(slot, &Ended::Failed(proto::io::Failure::SessionClosed)),
                Frame::EpochWanted { epoch } => self.epoch_wanted(slot, epoch),
                Frame::EpochReady { epoch } => self.epoch_ready(slot, epoch),
                Frame::NextAttempt { rpc } => {
                    self.leave_attempt(slot, rpc);
                    self.taken(now, slot, frame);
                }
                Frame::PathChallenge { token } if self.notices.len() < NOTICES_MAX => {
                    self.notices.push_back((slot, Frame::PathResponse { token }));
                }
                Frame::PathResponse { token } => self.path_response(slot, now, token),
                frame if !self.taken(now, slot, frame) => match frame {
                    Frame::Grant { .. } => self.counters.dropped_grant += 1,
                    _ => self.counters.dropped_nonsense += 1,
                },
                _ => {}
            }
        }
    }
}
