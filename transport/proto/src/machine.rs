//! Owns the state of the machine: begins, answers, ends and frees RPCs. What it has to say and to send is in `outputs`,
//! records that come in are in `arrivals`, frames in `answers`, timers in `clock`, what may be asked of it in `looking`; the policies are in
//! the parts below.
//!
//! The contract: one input, then drain [`Machine::next_event`], [`Machine::next_work`] and [`Machine::next_frames`] until
//! they are dry; then [`Machine::timeout`] says when to call [`Machine::handle_timeout`]. Time only comes in as an argument.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use wire::control::{Frame, RefusalCode};
use wire::geometry::Geometry;
use wire::ids::{RpcId, Side};
use wire::limits::SEQUENCE_WINDOW;
use wire::trailer::{Kind, Trailer};

use crate::config::Config;
use crate::cutoffs::Traffic;
use crate::grant::Granter;
use crate::heap::IndexHeap;
use crate::hosts::Hosts;
use crate::io::{Event, Failure, State};
use crate::outgoing::Outgoing;
use crate::pacer::Pacer;
use crate::peer::{Peer, Said};
use crate::room::Room;
use crate::rpc::Rpc;
use crate::rtt::Rtt;
use crate::table::Table;
use crate::time::Instant;
use crate::timers::Timers;

/// The state machine of one endpoint.
#[derive(Debug)]
pub struct Machine {
    pub(crate) config: Config,
    pub(crate) peers: Vec<Option<Box<Peer>>>,
    /// What peers said, for those that rest.
    pub(crate) said: Said,
    pub(crate) rpcs: Table,
    /// RPCs with something to send, by bytes never sent yet, then by age: SRPT. [P-8.4]
    pub(crate) ready: IndexHeap<(u32, u64)>,
    /// The same by age, while the link's rate is known.
    pub(crate) ready_by_age: IndexHeap<u64>,
    pub(crate) pacer: Pacer,
    /// One timer per RPC that waits for its peer.
    pub(crate) timers: Timers,
    /// One timer per peer: acks that waited long enough for a ride.
    pub(crate) ack_timers: IndexHeap<Instant>,
    pub(crate) granter: Granter,
    pub(crate) traffic: Traffic,
    /// Our requests whose responses are not complete.
    pub(crate) awaited: u32,
    /// Something happened that may allow a grant.
    pub(crate) grants_due: bool,
    /// Peers with frames to say.
    pub(crate) talkative: Vec<u32>,
    pub(crate) events: VecDeque<Event>,
    /// Bytes of incoming messages that the endpoint buffers.
    pub(crate) buffered: u64,
    pub(crate) hosts: Hosts,
    /// Who waits for some of it.
    pub(crate) room: Room,
    births: u64,
    /// No caller's deadline is before this, but for those that were found to be near when [`Self::alarm_at`] looked.
    pub(crate) first_deadline: Instant,
    /// The latest time that any input stated.
    pub(crate) now: Instant,
}

impl Machine {
    /// A machine without peers. `key` is random.
    pub fn new(config: Config, key: (u64, u64)) -> Self {
        Self {
            pacer: Pacer::new(&config),
            granter: Granter::new(&config),
            traffic: Traffic::new(&config),
            room: Room::new(&config),
            config,
            peers: Vec::new(),
            said: Said::default(),
            rpcs: Table::new(key),
            ready: IndexHeap::default(),
            ready_by_age: IndexHeap::default(),
            awaited: 0,
            timers: Timers::default(),
            ack_timers: IndexHeap::default(),
            grants_due: false,
            talkative: Vec::new(),
            events: VecDeque::new(),
            buffered: 0,
            hosts: Hosts::default(),
            births: 0,
            first_deadline: Instant::FAR,
            now: Instant::ZERO,
        }
    }

    /// The configuration.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn note_time(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    // ---- Peers ----

    /// A session was established in `slot`; `side` is ours, `rtt` what its handshake took, `unscheduled` what the peer
    /// takes of each message without having granted it, `host` the number by which its host is known, however many sessions come
    /// from there.
    pub fn open_peer(&mut self, slot: u32, side: Side, rtt: Duration, unscheduled: u32, host: u64) {
        let index = slot as usize;
        if self.peers.len() <= index {
            self.peers.resize_with(index + 1, || None);
        }
        let peer = Peer::new(side, rtt, unscheduled, self.hosts.join(host), &self.config);
        self.peers[index] = Some(Box::new(peer));
    }

    /// What our link carries, in bits per second; `None` when that is not known any more. [P-8.10]
    pub fn set_link_rate(&mut self, bits_per_second: Option<u64>) {
        self.config.link_bits_per_second = bits_per_second;
        self.pacer.set_rate(&self.config);
        self.peers.iter_mut().flatten().for_each(|peer| peer.limit_unscheduled(&self.config));
        self.ready_by_age = IndexHeap::default();
        let ready: Vec<u32> = self.ready.iter().map(|(_, slot)| slot).collect();
        ready.into_iter().for_each(|slot| self.refresh_ready(slot));
    }

    /// The session in `slot` ended: all its RPCs fail or are released, also those that are complete and were not freed
    /// yet, because nobody could name them afterwards. The endpoint drains events before it uses the slot again.
    pub fn close_peer(&mut self, slot: u32, why: Failure) {
        let of_peer = |(at, rpc): (u32, &Rpc)| (rpc.peer == slot && !rpc.ended).then_some(at);
        let rpcs: Vec<u32> = self.rpcs.iter().filter_map(of_peer).collect();
        for rpc in rpcs {
            self.end(rpc, why);
        }
        self.ack_timers.remove(slot);
        self.room.forget_peer(slot);
        if let Some(peer) = self.peers.get_mut(slot as usize).and_then(Option::take) {
            // What is complete and was not freed yet is still buffered, but no host's any more.
            self.hosts.remove(peer.host, peer.buffered);
            self.hosts.leave(peer.host);
        }
        self.offer_room();
        self.talkative.retain(|p| *p != slot);
    }

    pub(crate) fn peer(&mut self, slot: u32) -> &mut Peer {
        self.peers[slot as usize].as_mut().expect("an open peer")
    }

    /// The sequence below which all RPCs that we began with `peer` are finished. [P-7.2]
    pub fn floor(&self, peer: u32) -> u64 {
        self.peers[peer as usize].as_ref().map_or(0, |p| p.finished.mark())
    }

    /// Whether `peer` takes an RPC of ours with this sequence: not too far above our floor. Beyond that a message must
    /// not even be frozen, because it states the floor of that moment. [P-7.2]
    pub fn may_begin(&self, peer: u32, sequence: u64) -> bool {
        sequence.saturating_sub(self.floor(peer)) < SEQUENCE_WINDOW
    }

    /// `peer` is reached by another path: what was measured of the one before says little of it.
    pub fn path_changed(&mut self, peer: u32) {
        let config = self.config;
        let peer = self.peer(peer);
        peer.set_rtt(Rtt::new(peer.rtt().smoothed()), &config);
    }

    /// An id that was taken for an RPC with `peer` will never be used: the caller gave up before it began. Without this
    /// our floor stays below it for ever. [P-7.2]
    pub fn skip(&mut self, peer: u32, rpc: RpcId) {
        self.peer(peer).finished.insert(rpc.sequence());
    }

    /// Bytes that may be sent to `peer` unscheduled, of a message cut like `geometry`: whole records, at least one.
    pub fn unscheduled(&self, peer: u32, geometry: Geometry) -> u32 {
        let limit = self.peers[peer as usize].as_ref().map_or(0, |p| p.unscheduled);
        Outgoing::unscheduled_of(geometry, limit)
    }

    fn trailer(&self, peer: u32, kind: Kind, geometry: Geometry) -> Trailer {
        let cutoffs = self.peers[peer as usize].as_ref().map_or(0, |p| p.cutoffs.stated());
        Trailer { unscheduled: self.unscheduled(peer, geometry), cutoffs, ..Trailer::new(geometry, kind) }
    }

    /// What the records of an RPC that begins now say: [`Self::begin`] comes next. [P-4.2]
    #[inline]
    pub fn trailer_to_begin(&self, peer: u32, id: RpcId, kind: Kind, geometry: Geometry) -> Trailer {
        let distance = (id.sequence() - self.floor(peer)).min(u64::from(u32::MAX));
        let incast = kind == Kind::Request && self.config.incast_calls.is_some_and(|most| self.awaited >= most);
        Trailer { floor_distance: distance as u32, incast, ..self.trailer(peer, kind, geometry) }
    }

    /// What the records of the response say that is given now for the request in `slot`: [`Self::respond`] comes next.
    #[inline]
    pub fn trailer_to_respond(&self, slot: u32, geometry: Geometry) -> Option<Trailer> {
        let rpc = self.rpcs.get(slot)?;
        let mut trailer = self.trailer(rpc.peer, Kind::Response, geometry);
        if rpc.incast {
            let limit = trailer.unscheduled.min(self.config.incast_unscheduled_bytes);
            trailer.unscheduled = Outgoing::unscheduled_of(geometry, limit);
        }
        Some(trailer)
    }

    /// Acks that may ride in a message with `floor` that is frozen now.
    #[inline]
    pub fn take_acks(&mut self, peer: u32, floor: u64, out: &mut [RpcId]) -> usize {
        let p = self.peer(peer);
        if p.acks.is_empty() {
            return 0;
        }
        let n = p.take_acks(floor, out);
        if p.acks_due == Instant::FAR {
            self.ack_timers.remove(peer);
        }
        n
    }

    // ---- The life of an RPC ----

    /// Begins an RPC: a request, or a one-way message. Returns its slot.
    #[inline]
    pub fn begin(
        &mut self,
        now: Instant,
        peer: u32,
        id: RpcId,
        kind: Kind,
        geometry: Geometry,
        deadline: Instant,
    ) -> u32 {
        self.note_time(now);
        let state = if kind == Kind::OneWay { State::Telling } else { State::Requesting };
        self.awaited += u32::from(kind == Kind::Request);
        let slot = self.insert(peer, id, true, state, now);
        let to = self.peers[peer as usize].as_mut().expect("an open peer");
        to.begun_by_us += 1;
        let out = Outgoing::new(geometry, to.unscheduled, to.cutoffs.level(geometry.length()));
        let rpc = self.rpcs.taken(slot);
        rpc.out = Some(out);
        rpc.deadline = deadline;
        self.first_deadline = self.first_deadline.min(deadline);
        self.make_ready(slot);
        self.arm(slot, now);
        slot
    }

    #[inline(always)]
    pub(crate) fn insert(&mut self, peer: u32, id: RpcId, ours: bool, state: State, now: Instant) -> u32 {
        self.births += 1;
        let slot = self.rpcs.insert(peer, id, ours, state, now);
        self.rpcs.taken(slot).age = self.births;
        slot
    }

    /// The application answers a request. `false` when it is no longer in service.
    #[inline]
    pub fn respond(&mut self, now: Instant, slot: u32, geometry: Geometry) -> bool {
        self.note_time(now);
        let Some(rpc) = self.rpcs.get_mut(slot) else { return false };
        if rpc.state != State::InService || rpc.ended {
            return false;
        }
        let peer = self.peers[rpc.peer as usize].as_mut().expect("an open peer");
        rpc.state = State::Responding;
        // Its client waits for so many that they would fill its switch: most of this one comes when it says so. [P-8.11]
        let limit = if rpc.incast { self.config.incast_unscheduled_bytes } else { u32::MAX };
        let priority = peer.cutoffs.level(geometry.length());
        rpc.out = Some(Outgoing::new(geometry, peer.unscheduled.min(limit), priority));
        rpc.heard = now;
        rpc.asked = 0;
        // The application has done with the request: all of it came, so no grants are out. Kept any longer, two endpoints full
        // of answered requests would have no room for each other's responses. [P-8.7]
        let length = rpc.buffered();
        (rpc.inc, rpc.whole) = (None, 0);
        self.buffered -= u64::from(length);
        peer.buffered -= u64::from(length);
        self.hosts.remove(peer.host, length.into());
        let (of, sequence) = (rpc.peer, rpc.id.sequence());
        let rpcs = &self.rpcs;
        let live = |sequence: u64, slot: u32| rpcs.get(slot).is_some_and(|r| r.is_response(of, sequence));
        peer.await_floor(sequence, slot, live);
        if !self.room.is_idle() {
            self.offer_room();
        }
        self.make_ready(slot);
        self.arm(slot, now);
        true
    }

    /// A message that came in needs no memory any more.
    #[inline]
    fn unbuffer(&mut self, peer: u32, length: u64) {
        self.buffered -= length;
        if let Some(peer) = self.peers[peer as usize].as_mut() {
            peer.buffered -= length;
            self.hosts.remove(peer.host, length);
        }
    }

    /// The application refuses a request that it has.
    pub fn refuse(&mut self, slot: u32) {
        if let Some(rpc) = self.rpcs.get(slot).filter(|rpc| rpc.state == State::InService && !rpc.ended) {
            let (peer, id) = (rpc.peer, rpc.id);
            self.say(peer, Frame::Refused { rpc: id, code: RefusalCode::Aborted });
            self.release(slot, false, false);
        }
    }

    /// Our message of `slot` can never arrive, and this is why. Whoever waits is told.
    pub fn undeliverable(&mut self, slot: u32, why: Failure) {
        let Some(rpc) = self.rpcs.get(slot).filter(|rpc| !rpc.ended && rpc.out.is_some()) else { return };
        let (peer, id, ours, may_have_run) = (rpc.peer, rpc.id, rpc.ours, rpc.may_have_run());
        if ours {
            self.say(peer, Frame::Cancel { rpc: id });
            self.fail(slot, why, may_have_run);
        } else {
            self.say(peer, Frame::Refused { rpc: id, code: RefusalCode::Aborted });
            self.release(slot, false, false);
        }
    }

    /// The caller no longer wants an RPC of ours. The peer is told if it may know of it. The slot is free afterwards.
    pub fn cancel(&mut self, slot: u32) {
        let Some(rpc) = self.rpcs.get(slot).filter(|rpc| rpc.ours) else { return };
        let (peer, id) = (rpc.peer, rpc.id);
        // A complete one has nothing left to cancel, and an ack for it is on its way.
        if !rpc.ended && rpc.state != State::Complete && rpc.may_have_run() {
            self.say(peer, Frame::Cancel { rpc: id });
        }
        self.free(slot);
    }

    /// The endpoint is done with `slot`: it took the message of a complete RPC, or handled its last event. Gives its peer.
    #[inline]
    pub fn free(&mut self, slot: u32) -> Option<u32> {
        let ends = self.rpcs.get(slot)?;
        let (peer, buffered) = (ends.peer, ends.buffered());
        if ends.inc.is_some() {
            self.end_incoming(slot, peer);
        }
        let rpc = self.rpcs.remove(slot)?;
        self.unready(slot);
        self.awaited -= u32::from(rpc.awaited);
        self.timers.remove(slot);
        // An event of this RPC must never be read as one of the next in its slot.
        if rpc.untold {
            self.events.retain(|event| event.slot() != slot);
        }
        self.unbuffer(rpc.peer, buffered.into());
        if let Some(peer) = self.peers[rpc.peer as usize].as_mut() {
            if rpc.ours {
                peer.begun_by_us -= 1;
                peer.finished.insert(rpc.id.sequence());
            } else {
                peer.begun_by_peer -= 1;
            }
        }
        // Room got free, or is no longer waited for.
        self.leave_room(rpc.peer, rpc.id);
        Some(rpc.peer)
    }

    /// Nothing more is granted to the message of several records that came for `slot`.
    #[inline(never)]
    fn end_incoming(&mut self, slot: u32, peer: u32) {
        if let Some(inc) = self.rpcs.take_incoming(slot) {
            self.granter.end(&self.rpcs, peer, slot, &inc);
            self.grants_due |= !self.granter.is_idle();
        }
    }

    /// Ends what is not complete yet, or the endpoint's use of what is.
    pub(crate) fn end(&mut self, slot: u32, why: Failure) {
        let rpc = self.rpcs.taken(slot);
        let (may_have_run, cancelled) = (rpc.may_have_run(), rpc.state == State::InService);
        if rpc.ours {
            self.announce(Event::Failed { slot, why, may_have_run });
        } else {
            self.announce(Event::Released { slot, cancelled, acknowledged: false });
        }
    }

    pub(crate) fn fail(&mut self, slot: u32, why: Failure, may_have_run: bool) {
        // What is complete has its result, and that is what the caller gets.
        if self.rpcs.taken(slot).state != State::Complete {
            self.announce(Event::Failed { slot, why, may_have_run });
        }
    }

    pub(crate) fn release(&mut self, slot: u32, cancelled: bool, acknowledged: bool) {
        if self.rpcs.taken(slot).state != State::Complete {
            self.announce(Event::Released { slot, cancelled, acknowledged });
        }
    }

    /// An RPC ends once, whatever else happens to it: one event.
    fn announce(&mut self, event: Event) {
        let slot = event.slot();
        let rpc = self.rpcs.taken(slot);
        if !core::mem::replace(&mut rpc.ended, true) {
            self.unready(slot);
            self.timers.remove(slot);
            self.events.push_back(event);
        }
    }

    /// Gives an RPC its timer.
    #[inline]
    pub(crate) fn arm(&mut self, slot: u32, now: Instant) {
        let rpc = self.rpcs.taken(slot);
        let peer = self.peers[rpc.peer as usize].as_ref().expect("an open peer");
        self.timers.set(slot, peer.asks_at(now).min(rpc.deadline));
    }
}
