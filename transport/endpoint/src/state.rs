//! Owns what an endpoint consists of, and the life of its sessions. The ways of a message through it are in `egress` and
//! `ingress`.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use handshake::cookie::Cookies;
use handshake::installed::KeyId;
use proto::heap::IndexHeap;
use proto::io::Failure;
use proto::machine::Machine;
use proto::time::Instant;
use record::seal::Message;
use wire::control::Frame;
use wire::ids::{SessionId, Side};
use wire::limits::PIGGYBACK_ACKS_MAX;

use crate::chunks::Chunks;
use crate::config::Config;
use crate::counters::Counters;
use crate::error::{Ended, Misuse};
use crate::events::{Event, Events};
use crate::evidence::Evidence;
use crate::installed::Installed;
use crate::lanes::LaneTable;
use crate::parting::Parting;
use crate::paths::Paths;
use crate::pool::{Body, Buffer, Payload, Pool};
use crate::rates::Strangers;
use crate::resting::Rests;
use crate::room::Room;
use crate::session::{Answered, Origin, Queued, Session};
use crate::spanned::Spanned;
use crate::tokens::Tokens;

/// Frames of sessions that may wait to be sent; of what peers ask for, what would go beyond is not said.
pub(crate) const NOTICES_MAX: usize = 1024;

/// Fills its argument with random bytes. The only randomness an endpoint has.
pub type Entropy = Box<dyn FnMut(&mut [u8]) + Send>;

/// The endpoint's side of one open RPC; the machine's side has the same slot.
#[derive(Debug, Default)]
pub struct Call {
    /// Our message, frozen.
    pub out: Option<Message<Body>>,
    /// Where the peer's message is put together, when it has several records.
    pub buffer: Option<Buffer>,
    /// The peer's message, once complete, when it is read as a stream. Few are, so it takes little room here.
    pub whole: Option<Box<Payload>>,
    /// It is delivered as a stream.
    pub streamed: bool,
    /// The caller's own number for it.
    pub cookie: u64,
    /// Somebody waits for just this one.
    pub waited: bool,
}

/// What is told with the end of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    cookie: u64,
    waited: bool,
    streamed: bool,
}

/// A peer that sessions are opened to: an address and the name that its certificate must have.
#[derive(Debug)]
pub struct Target {
    /// Where.
    pub address: SocketAddr,
    /// The name that its certificate must have.
    pub name: Arc<str>,
    /// The installed secret to use instead of TLS.
    pub key: Option<KeyId>,
    /// Largest datagram towards it.
    pub datagram_max: usize,
    /// The session in use.
    pub session: Option<u32>,
}

/// All of an endpoint.
pub struct State {
    pub(crate) config: Config,
    /// After so much silence a session takes no new calls: [`Config::session_idle`] is near.
    pub(crate) silence_max: Duration,
    pub(crate) entropy: Entropy,
    /// Those that are awake.
    pub(crate) sessions: Vec<Option<Box<Session>>>,
    pub(crate) rests: Rests,
    pub(crate) sessions_free: Vec<u32>,
    pub(crate) sessions_open: usize,
    pub(crate) targets: Chunks<Target>,
    /// Handshakes that others began, by where they come from and the name they gave.
    pub(crate) accepting: HashMap<(SocketAddr, SessionId), u32>,
    pub(crate) cookies: Cookies,
    pub(crate) rates: Strangers,
    pub(crate) tokens: Tokens,
    #[cfg(feature = "tls")]
    pub(crate) tickets: crate::tickets::Tickets,
    pub(crate) paths: Paths,
    pub(crate) lanes: LaneTable,
    pub(crate) evidence: Evidence,
    /// Where the datagrams come from that are being handled.
    pub(crate) from: SocketAddr,
    /// Secrets for sessions that are not negotiated by TLS, by their public id, and which end we are with each.
    pub(crate) installed: Installed,
    pub(crate) machine: Machine,
    pub(crate) calls: Vec<Option<Call>>,
    pub(crate) pool: Pool,
    pub(crate) events: Events,
    pub(crate) counters: Counters,
    pub(crate) trail: crate::trail::Trail,
    /// Sessions whose handshake may have something to send.
    pub(crate) flights: VecDeque<u32>,
    pub(crate) handshake_timers: IndexHeap<Instant>,
    /// Sessions whose peer was asked for the next epoch: when to ask again.
    pub(crate) epoch_timers: IndexHeap<Instant>,
    /// The first of these times.
    pub(crate) epochs_due: Instant,
    /// The first deadline of what waits for a handshake.
    pub(crate) queue_deadline: Instant,
    /// When to look for idle sessions next.
    pub(crate) idle_look: Instant,
    /// Frames of the sessions themselves, not of an RPC.
    pub(crate) notices: VecDeque<(u32, Frame)>,
    /// Answers to strangers, for whom nothing is kept.
    pub(crate) strangers: VecDeque<(SocketAddr, Vec<u8>)>,
    /// What of handshakes waits for something to leave with.
    pub(crate) parting: Parting,
    /// What of our messages is held.
    pub(crate) room: Room,
    /// RPCs whose message was delivered and that can be forgotten.
    pub(crate) ended: Vec<u32>,
    /// The message that is sent next may go with a first flight.
    pub(crate) early_next: bool,
    /// Responses to requests of first flights whose session is open now.
    pub(crate) early_answered: Vec<Answered>,
    /// Messages of one record that arrived in the datagrams being handled: slot and place.
    pub(crate) landed: Vec<(u32, core::ops::Range<usize>)>,
    /// The spanning record that was sealed last.
    pub(crate) spanned: Spanned,
    /// What seals while it sends, where there is such a thing.
    pub(crate) device: Option<Box<crate::device::Device>>,
}

impl State {
    pub(crate) fn random_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        (self.entropy)(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    pub(crate) fn session(&self, id: SessionId) -> Option<(u32, &Session)> {
        let slot = id.slot();
        self.sessions.get(slot as usize)?.as_deref().filter(|session| session.id == id).map(|session| (slot, session))
    }

    /// The session in `slot`, which is in use. Wakes it if it rests.
    #[inline]
    pub(crate) fn at(&mut self, slot: u32) -> &mut Session {
        if self.sessions[slot as usize].is_none() {
            self.wake(slot);
        }
        self.sessions[slot as usize].as_mut().expect("a session in use")
    }

    /// A free slot and a name for the session that will be in it.
    pub(crate) fn reserve(&mut self) -> Result<(u32, SessionId), Misuse> {
        if self.sessions_open >= self.config.sessions_max {
            return Err(Misuse::TooManySessions(self.sessions_open));
        }
        let random = self.random_u64();
        let slot = self.sessions_free.pop().unwrap_or_else(|| {
            self.sessions.push(None);
            (self.sessions.len() - 1) as u32
        });
        self.sessions_open += 1;
        Ok((slot, SessionId::new(slot, random)))
    }

    /// Gives back a slot that [`Self::reserve`] gave out.
    pub(crate) fn unreserve(&mut self, slot: u32) {
        self.sessions[slot as usize] = None;
        self.sessions_free.push(slot);
        self.sessions_open -= 1;
    }

    /// Application data may go: what waited for it does.
    pub(crate) fn start_sending(&mut self, slot: u32, now: Instant) {
        if self.holds_back(slot) {
            return;
        }
        let session = self.at(slot);
        if core::mem::replace(&mut session.may_send, true) {
            return;
        }
        let queued = core::mem::take(&mut session.queued);
        self.announce_lanes(slot);
        let session = self.at(slot);
        if session.side == Side::Client {
            let session = session.id;
            self.events.push_back(Event::Connected { session });
        }
        for message in queued {
            if message.aborted {
                self.machine.skip(slot, message.id.message().rpc());
                continue;
            }
            let id = self.call_id(slot, message.id.message().rpc());
            let (cookie, waited) = (message.cookie, message.waited);
            if let Err(why) = self.begin_queued(slot, message, now) {
                let why = match why {
                    Misuse::TooLong { .. } => Ended::Failed(Failure::Refused(wire::control::RefusalCode::TooLong)),
                    _ => Ended::Failed(Failure::SessionClosed),
                };
                self.trail.mark(crate::trail::Step::Failed, slot, id.rpc, 0);
                let (may_have_run, address) = (false, Box::new(self.at(slot).address));
                self.events.push_back(Event::Failed { id, cookie, waited, why, may_have_run, address });
            }
        }
    }

    /// The same for what waited for a handshake, which needs no copy of it in its place.
    #[cold]
    fn begin_queued(&mut self, slot: u32, message: Queued, now: Instant) -> Result<(), Misuse> {
        self.begin(slot, message, now)
    }

    /// Freezes a message and hands it to the machine. [P-3.3]
    #[inline(always)]
    pub(crate) fn begin(&mut self, slot: u32, message: Queued, now: Instant) -> Result<(), Misuse> {
        let Queued { id, kind, body, cookie, waited, streamed, deadline, early, .. } = message;
        let rpc = id.message().rpc();
        let length = body.len();
        let session = self.sessions[slot as usize].as_mut().expect("a session in use");
        let (early, limit) = (early && session.early.taken, session.message_max);
        let geometry = session.cut(length.min(limit), self.device.is_some());
        if length > limit {
            self.room.let_go(length);
            // The id was taken and is never used: our floor must not wait for it. [P-7.2]
            self.machine.skip(slot, rpc);
            return Err(Misuse::TooLong { length, limit });
        }
        session.sending_bytes += length as u64;
        let floor = self.machine.floor(slot);
        let mut acks = [rpc; PIGGYBACK_ACKS_MAX];
        let acks_len = if geometry.records() == 1 && length + 256 < session.datagram_max {
            self.machine.take_acks(slot, floor, &mut acks)
        } else {
            0
        };
        let trailer = self.machine.trailer_to_begin(slot, rpc, kind, geometry);
        let call_slot = self.machine.begin(now, slot, rpc, kind, geometry, deadline);
        if early {
            self.machine.sent_elsewhere(now, call_slot);
        }
        let place = self.place_for(call_slot);
        let out = Some(Message::freeze(id, body, trailer, &acks[..acks_len]));
        *place = Some(Call { out, cookie, waited, streamed, ..Call::default() });
        Ok(())
    }

    /// Where the endpoint's side of a new RPC goes, emptied.
    #[inline]
    fn place_for(&mut self, slot: u32) -> &mut Option<Call> {
        if self.calls.len() <= slot as usize {
            self.calls.resize_with(slot as usize + 1, || None);
        }
        let place = &mut self.calls[slot as usize];
        *place = None;
        place
    }

    pub(crate) fn put_call(&mut self, slot: u32) -> &mut Call {
        self.place_for(slot).insert(Call::default())
    }

    pub(crate) fn call(&mut self, slot: u32) -> Option<&mut Call> {
        self.calls.get_mut(slot as usize)?.as_mut()
    }

    /// Forgets an RPC; its memory goes back.
    pub(crate) fn drop_call(&mut self, slot: u32) -> Option<Caller> {
        let peer = self.machine.free(slot);
        // Whatever landed for it in the datagrams being handled must not be taken for its slot's next RPC.
        if !self.landed.is_empty() {
            self.landed.retain(|(landed, _)| *landed != slot);
        }
        let place = self.calls.get_mut(slot as usize)?;
        let call = place.as_mut()?;
        if let Some(out) = &mut call.out {
            let length = out.geometry().length();
            self.room.let_go(length as usize);
            if let Some(session) = peer.and_then(|peer| self.sessions[peer as usize].as_mut()) {
                session.sending_bytes -= u64::from(length);
                if let Some(keys) = session.keys.as_mut() {
                    out.unbind(&mut keys.sealing);
                }
            }
        }
        if let Some(body) = Message::end(&mut call.out) {
            self.pool.sent(body);
        }
        let caller = Caller { cookie: call.cookie, waited: call.waited, streamed: call.streamed };
        if let Some(buffer) = call.buffer.take() {
            self.pool.give_back(buffer);
        }
        // In its place: to move all of it out would be the most work of its end.
        *place = None;
        Some(caller)
    }

    /// From whom that is which comes in a session.
    #[inline]
    pub(crate) fn origin(&mut self, slot: u32) -> Arc<Origin> {
        let session = self.sessions[slot as usize].as_mut().expect("a session in use");
        let origin = session.origin.get_or_insert_with(|| {
            Arc::new(Origin::of(session.id, session.address, &session.identity, session.report.as_ref()))
        });
        // Whatever changes one of these forgets the origin: nobody is taken for whom it was before.
        debug_assert!(
            origin.address == session.address
                && Arc::ptr_eq(&origin.identity, &session.identity)
                && origin.report.as_ref().map(Arc::as_ptr) == session.report.as_ref().map(Arc::as_ptr),
            "the origin of {:?} is of before",
            session.id
        );
        Arc::clone(origin)
    }

    /// Does what could wait: forgets what has ended, carries out what the machine tells. Whether there was any of that.
    pub(crate) fn tidy(&mut self) -> bool {
        let any = !self.ended.is_empty();
        if any {
            // In the order in which they ended, which mostly is that of their sequences: what is finished is then one interval.
            let mut ended = core::mem::take(&mut self.ended);
            ended.drain(..).for_each(|slot| _ = self.drop_call(slot));
            debug_assert!(self.ended.is_empty(), "to forget a call ends no other");
            self.ended = ended;
        }
        self.drain_machine() || any
    }

    /// Carries out what the machine tells.
    pub(crate) fn drain_machine(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.machine.next_event() {
            any = true;
            if !self.evidence.timers.is_empty() && self.evidence_ended(&event) {
                continue;
            }
            match event {
                proto::io::Event::Failed { slot, why, may_have_run } => {
                    let Some((rpc, peer, _)) = self.machine.rpc(slot) else { continue };
                    let id = self.call_id(peer, rpc);
                    self.trail.mark(crate::trail::Step::Failed, peer, rpc, may_have_run.into());
                    if let Some(call) = self.drop_call(slot) {
                        if call.streamed {
                            self.events.push_back(Event::Readable { id });
                        }
                        let (cookie, waited, why, address) =
                            (call.cookie, call.waited, Ended::Failed(why), Box::new(self.at(peer).address));
                        self.events.push_back(Event::Failed { id, cookie, waited, why, may_have_run, address });
                    }
                    if why == Failure::PeerSilent {
                        self.retire(peer);
                    }
                }
                proto::io::Event::Released { slot, cancelled, acknowledged } => {
                    let Some((rpc, peer, _)) = self.machine.rpc(slot) else { continue };
                    let (id, ours) = (self.call_id(peer, rpc), rpc.began() == self.at(peer).side);
                    self.trail.forget(peer, rpc);
                    if let Some(call) = self.drop_call(slot) {
                        if cancelled || call.streamed {
                            self.events.push_back(Event::Cancelled { id });
                        } else if ours && acknowledged {
                            self.events.push_back(Event::Arrived { id, cookie: call.cookie, waited: call.waited });
                        }
                    }
                }
            }
        }
        any
    }

    /// Ends what stands in a slot: a session without others' lanes, or a lane. What was under way in it fails.
    pub(crate) fn close_one(&mut self, slot: u32, why: &Ended) {
        self.retire(slot);
        self.attestation_cut(slot);
        self.forget_acceptance(slot);
        self.drop_early(slot);
        self.tidy();
        if self.sessions[slot as usize].as_ref().is_some_and(|s| s.keys.is_some()) {
            let failure = if let Ended::Failed(failure) = why { *failure } else { Failure::SessionClosed };
            self.machine.close_peer(slot, failure);
            self.drain_machine();
        }
        let Some(session) = self.sessions[slot as usize].take() else { return };
        self.tokens.forget(session.peer_id, slot);
        self.paths.forget(slot);
        self.fail_all(session.queued, slot, session.id, session.address, why);
        self.end_parting(slot);
        self.set_epoch_timer(slot, None);
        self.notices.retain(|(s, _)| *s != slot);
        self.flights.retain(|s| *s != slot);
        self.unreserve(slot);
        self.forget_device_keys();
    }
}
