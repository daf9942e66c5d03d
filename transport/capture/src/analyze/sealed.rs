//! Opens what is sealed, where the key log has its keys, and hands on what it says.

use record::bundle;
use record::error::OpenError;
use record::open::{open_control, open_in_place};
use wire::bundle::{Brings, INDEX, entry_at};
use wire::bytes::Reader;
use wire::control::Frame;
use wire::data::RecordView;
use wire::geometry::Geometry;
use wire::header::Header;
use wire::ids::RpcId;
use wire::lanes::Lane;
use wire::trailer::{Kind, Trailer};

use super::Analyzer;
use crate::counts::{Event, What};
use crate::flow::Keys;
use crate::keys::{KeyRing, Unsealer};
use crate::message::Message;
use crate::open::Key;

/// Packets of a direction on which all secrets are tried. Its handshake may still come, and is asked each time.
const TRIED_PACKETS: u32 = 2;

/// What an opened record says of its message; `None` when it was not opened.
pub(super) type Told = Option<(Geometry, &'static str, u32)>;

/// Tells a message what one of its records says.
pub(super) fn tell(message: &mut Message, told: Told, time_ns: u64) {
    let Some((geometry, kind, unscheduled)) = told else { return };
    let known = message.told.get_or_insert_default();
    (known.kind, known.unscheduled) = (Some(kind), unscheduled);
    message.state(geometry, time_ns);
}

/// What a trailer says of its message.
pub(super) const fn told(trailer: &Trailer) -> Told {
    Some((trailer.geometry, name(trailer.kind), trailer.unscheduled))
}

/// The keys of a direction, if they were found.
pub(super) fn known(keys: &mut Keys) -> Option<&mut Unsealer> {
    match keys {
        Keys::Known(known) => Some(&mut known.1),
        Keys::Unknown(_) => None,
    }
}

const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Request => "request",
        Kind::Response => "response",
        Kind::OneWay => "one_way",
    }
}

/// The keys of a direction, looked for in its handshake or by trial of `opens`.
fn keys<'a>(
    ring: &mut KeyRing,
    keys: &'a mut Keys,
    session: u64,
    steer: u16,
    opens: impl Fn(&mut Unsealer) -> bool,
) -> Option<&'a mut Unsealer> {
    if let Keys::Unknown(tried) = keys {
        let lane = Lane::from_steer(steer);
        let owner = match ring.owner(session) {
            Some(owner) => owner,
            None if *tried < TRIED_PACKETS => {
                *tried += 1;
                ring.trial(lane, opens)?
            }
            None => return None,
        };
        ring.own(&owner, session);
        *keys = Keys::Known(Box::new((owner, ring.unsealer(&owner, lane))));
    }
    known(keys)
}

impl Analyzer {
    /// Opens a record, if there is a key log. `None` when it proves nothing, and is to change nothing; a record without keys is believed.
    pub(super) fn unseal(
        &mut self,
        time_ns: u64,
        key: Key,
        header: &Header,
        packet: &[u8],
        record: &RecordView,
        stated: u32,
    ) -> Option<Told> {
        let Some(ring) = &mut self.ring else { return Some(None) };
        let flow = &mut self.flows[key.0 as usize];
        let is_bundle = record.number.index() == INDEX;
        let opens = |unsealer: &mut Unsealer| {
            let mut copy = packet.to_vec();
            let opened = unsealer.with(header.epoch, |data, _| {
                if is_bundle {
                    bundle::open(data, &mut copy, record).map(drop)
                } else {
                    open_in_place(data, &mut copy, record).map(drop)
                }
            });
            opened != Err(OpenError::Tag)
        };
        let Some(unsealer) = keys(ring, &mut flow.keys, flow.session, flow.steer, opens) else {
            self.sealed.without_key += 1;
            return Some(None);
        };
        let mut copy = std::mem::take(&mut self.scratch);
        copy.clear();
        copy.extend_from_slice(packet);
        let told = if is_bundle {
            let opened = unsealer.with(header.epoch, |data, _| bundle::open(data, &mut copy, record));
            opened.map(|opened| {
                self.sealed.opened_records += 1;
                self.entries(time_ns, key.0, &copy[opened.entries]);
                None
            })
        } else {
            let opened = unsealer.with(header.epoch, |data, _| open_in_place(data, &mut copy, record));
            opened.map(|opened| {
                let geometry = opened.trailer.geometry;
                self.sealed.opened_records += 1;
                self.sealed.opened_bytes += opened.payload.len() as u64;
                self.sealed.false_lengths += u64::from(stated != 0 && stated != geometry.length());
                opened.acks.iter().for_each(|rpc| self.acked(time_ns, key.0, rpc));
                told(&opened.trailer)
            })
        };
        self.scratch = copy;
        told.map_err(|error| self.failed(error)).ok()
    }

    pub(super) fn failed(&mut self, error: OpenError) {
        match error {
            OpenError::Tag => self.sealed.bad_tags += 1,
            OpenError::Trailer => self.sealed.nonsense += 1,
        }
    }

    fn entries(&mut self, time_ns: u64, flow: u32, entries: &[u8]) {
        let mut at = 0;
        while at < entries.len() {
            let Ok(entry) = entry_at(entries, at) else {
                self.sealed.nonsense += 1;
                return;
            };
            at = entry.bytes.end;
            match entry.brings {
                Brings::Message(_) => {
                    self.sealed.bundled += 1;
                    self.sealed.opened_bytes += entry.bytes.len() as u64;
                }
                Brings::Ack => self.acked(time_ns, flow, entry.rpc),
            }
        }
    }

    /// Opens a control packet: where its frames stand in `self.scratch`. `None` when it proves nothing; nothing stands there without keys.
    pub(super) fn unseal_control(
        &mut self,
        flow: u32,
        header: &Header,
        number: u64,
        packet: &[u8],
    ) -> Option<core::ops::Range<usize>> {
        let Some(ring) = &mut self.ring else { return Some(0..0) };
        let flow = &mut self.flows[flow as usize];
        let opens = |unsealer: &mut Unsealer| {
            unsealer.with(header.epoch, |_, control| open_control(control, number, &mut packet.to_vec())).is_ok()
        };
        let Some(unsealer) = keys(ring, &mut flow.keys, flow.session, flow.steer, opens) else {
            self.sealed.without_key += 1;
            return Some(0..0);
        };
        self.scratch.clear();
        self.scratch.extend_from_slice(packet);
        let scratch = &mut self.scratch;
        match unsealer.with(header.epoch, |_, control| open_control(control, number, scratch)) {
            Ok(frames) => {
                self.sealed.opened_control += 1;
                Some(frames)
            }
            Err(error) => {
                self.failed(error);
                None
            }
        }
    }

    /// Reads the frames that stand in `self.scratch`.
    pub(super) fn frames(&mut self, time_ns: u64, flow: u32, frames: core::ops::Range<usize>) {
        let scratch = std::mem::take(&mut self.scratch);
        let mut reader = Reader::new(&scratch[frames]);
        while !reader.is_empty() {
            let Ok(frame) = Frame::parse(&mut reader) else {
                self.sealed.nonsense += 1;
                break;
            };
            self.frame(time_ns, flow, frame);
        }
        self.scratch = scratch;
    }

    fn frame(&mut self, time_ns: u64, flow: u32, frame: Frame) {
        match frame {
            Frame::Grant { rpc, offset, .. } => {
                self.sealed.grants += 1;
                self.about(time_ns, flow, rpc, What::Grant, offset, |message| {
                    let told = message.told.get_or_insert_default();
                    (told.granted, told.grants) = (told.granted.max(offset), told.grants + 1);
                });
            }
            Frame::Resend { rpc, start, end } => {
                self.sealed.resends += 1;
                self.about(time_ns, flow, rpc, What::Resend, start, |message| {
                    message.told.get_or_insert_default().resends += 1;
                    message.ask(start, end);
                });
            }
            Frame::Ack { rpc } => self.acked(time_ns, flow, rpc),
            Frame::Refused { rpc, .. } => {
                self.sealed.refused += 1;
                self.about(time_ns, flow, rpc, What::Refused, 0, |_| ());
            }
            Frame::Busy { .. } => self.sealed.busy += 1,
            Frame::Unknown { .. } => self.sealed.unknown += 1,
            Frame::NeedAck { .. } => self.sealed.need_acks += 1,
            Frame::Cancel { .. } => self.sealed.cancels += 1,
            Frame::Cutoffs { .. }
            | Frame::PathChallenge { .. }
            | Frame::PathResponse { .. }
            | Frame::EpochReady { .. }
            | Frame::EpochWanted { .. }
            | Frame::Done
            | Frame::Renew
            | Frame::Floor { .. }
            | Frame::NextAttempt { .. }
            | Frame::Close => self.sealed.other_frames += 1,
        }
    }

    fn acked(&mut self, time_ns: u64, flow: u32, rpc: RpcId) {
        self.sealed.acks += 1;
        self.about(time_ns, flow, rpc, What::Ack, 0, |message| {
            message.told.get_or_insert_default().acked_ns.get_or_insert(time_ns);
        });
    }

    /// Tells the message that the other side sends in `rpc`, if it is open, what was said of it in `flow`.
    fn about(&mut self, time_ns: u64, flow: u32, rpc: RpcId, what: What, value: u32, tell: impl FnOnce(&mut Message)) {
        let said_in = &self.flows[flow as usize];
        let (Keys::Known(known), Some(ring)) = (&said_in.keys, &self.ring) else { return };
        let Some(session) = ring.peer(&known.0) else { return };
        let Some(peer) = self.by_session.get(&(session, said_in.steer.rotate_left(8))) else { return };
        let key = (*peer, rpc.as_u48(), false);
        let Some(place) = self.open.get(key, self.now_ns) else { return };
        tell(&mut place.message);
        if place.followed {
            self.events.push(Event { time_ns, which: self.which(key), index: 0, attempt: 0, what, value });
        }
    }
}
