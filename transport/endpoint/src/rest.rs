//! Owns when a session rests, and what wakes it. What is kept of it meanwhile is in `resting`. (decision 0020)
//!
//! A session rests when nothing was heard in it for a while and nothing is under way, or when more are awake than may be; that is found
//! out by looking at those that are awake in turn, so that a packet of one costs nothing. It wakes when the application wants something of
//! it, or when something comes that opens. That is found out with a context that is made for the one packet: so whoever forges packets wakes
//! nobody and makes nobody rest, and whoever repeats others' does so at a limited rate. [P-5.4]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use proto::io::{Failure, RpcInfo};
use proto::time::Instant;
use record::error::OpenError;
use wire::control::packet_number;
use wire::data::RecordView;
use wire::header::{Header, PacketType};
use wire::ids::SessionId;
use wire::limits::DATA_HEADER_LEN;
use wire::slice::{Part, part_at};

use crate::error::Ended;
use crate::session::{Phase, Session};
use crate::state::State;

/// Sessions that are looked at in one go: some 10 us, and 500 us if all of them rest.
const LOOKS_MAX: usize = 256;
/// A pause between two goes of one round, and the shortest between two rounds.
const PAUSE: Duration = Duration::from_millis(1);
const PAUSE_MIN: Duration = Duration::from_micros(100);
/// A pause between two rounds while more are awake than may be, because something is under way in all of them.
const PAUSE_CROWDED: Duration = Duration::from_millis(10);

impl State {
    // ---- To rest ----

    /// The session of that name is open and awake: from now on it may rest.
    pub(crate) fn is_awake(&mut self, id: SessionId) {
        self.rests.awake.push_back((id, Instant::ZERO));
        // At once where there are too many; else the look only finds out when it is time.
        if self.rests.look == Instant::FAR || self.rests.awake.len() > self.config.sessions_awake_max {
            self.rests.look = Instant::ZERO;
        }
    }

    /// Looks at sessions that are awake: what was silent for long rests, and what was not looked for longest where too many are awake.
    pub(crate) fn rest_idle(&mut self, now: Instant) {
        if now < self.rests.look {
            return;
        }
        if self.rests.left == 0 {
            self.rests.left = self.rests.awake.len();
        }
        let mut spared = false;
        for _ in 0..LOOKS_MAX.min(self.rests.left) {
            self.rests.left -= 1;
            let Some((id, before)) = self.rests.awake.pop_front() else { break };
            let Some((slot, session)) = self.session(id) else { continue };
            let heard = session.heard;
            let silent = now.since(heard) >= self.config.session_rests_after;
            // Where there are too many, who was heard since it was looked at last is spared once.
            let crowded = self.rests.awake.len() >= self.config.sessions_awake_max;
            let wanted = silent || crowded && heard <= before;
            if wanted && self.rest(now, slot) {
                continue;
            }
            spared |= crowded && !wanted;
            self.rests.awake.push_back((id, heard));
        }
        let pause = (self.config.session_rests_after / 4).max(PAUSE_MIN);
        self.rests.look = match () {
            () if self.rests.awake.is_empty() => Instant::FAR,
            () if self.rests.left > 0 || spared => now + PAUSE.min(pause),
            () if self.rests.awake.len() > self.config.sessions_awake_max => now + PAUSE_CROWDED.min(pause),
            () => now + pause,
        };
        self.rests.left = self.rests.left.min(self.rests.awake.len());
        if self.rests.awake.is_empty() {
            // Nothing is under way anywhere.
            self.pool.trim();
        }
    }

    /// Whether nothing is under way in a session, nothing owed, and nothing to be said.
    fn may_rest(&self, slot: u32, session: &Session) -> bool {
        let is_open = matches!(session.phase, Phase::Open) && session.may_send && !session.dying && !session.closing;
        let keys_idle = |keys: &crate::session::Keys| keys.asked.is_none() && keys.sealing.may_rest();
        is_open
            // Lanes are looked for where the session stands.
            && session.root.is_none()
            && session.queued.is_empty()
            && session.early.requests.is_empty()
            && session.attesting.is_none()
            && session.evidence_id.is_none()
            && session.keys.as_deref().is_some_and(keys_idle)
            && self.machine.may_rest(slot, session.ids.next_sequence())
            && self.handshake_timers.key(slot).is_none()
            && !self.flights.contains(&slot)
            && self.notices.iter().all(|(of, _)| *of != slot)
            && self.parting.last.is_none_or(|(of, _)| of != slot)
            && self.parting.ticket.as_ref().is_none_or(|ticket| ticket.slot != slot)
    }

    /// The session in `slot` rests, if it may: whether it does.
    fn rest(&mut self, now: Instant, slot: u32) -> bool {
        let Some(session) = self.sessions[slot as usize].as_deref() else { return false };
        if !self.may_rest(slot, session) || !self.paths.is_settled(now, slot) {
            return false;
        }
        let next = session.ids.next_sequence();
        let Some(peer) = self.machine.rest(slot, next) else { return false };
        let Some(mut session) = self.sessions[slot as usize].take() else { return false };
        let keys = session.keys.take().expect("an open session has keys");
        self.rests.put(crate::resting::Resting::new(*session, *keys, peer));
        self.counters.sessions_rested += 1;
        true
    }

    // ---- To wake ----

    /// Wakes the session in `slot`, which is in use.
    #[cold]
    #[inline(never)]
    pub(crate) fn wake(&mut self, slot: u32) {
        let resting = self.rests.take(slot).expect("a session in use");
        let (session, peer) = resting.wake(self.config.crypto, self.config.key_limits);
        self.is_awake(session.id);
        self.sessions[slot as usize] = Some(Box::new(session));
        self.machine.wake(slot, peer);
        self.counters.sessions_woken += 1;
    }

    /// Wakes the session that is called that, if it rests.
    pub(crate) fn rouse(&mut self, id: SessionId) {
        if self.rests.get(id).is_some() {
            self.wake(id.slot());
        }
    }

    /// Whether a session is called that, resting or not.
    pub(crate) fn has_session(&self, id: SessionId) -> bool {
        self.session(id).is_some() || self.rests.get(id).is_some()
    }

    /// A sealed packet came for a session that rests: its slot, if the packet, or its first record, is the peer's.
    #[cold]
    #[inline(never)]
    pub(crate) fn knocked(&mut self, now: Instant, header: &Header, packet: &[u8]) -> Option<u32> {
        let resting = self.rests.get(header.session)?;
        if !resting.opening.names(header.epoch) {
            self.counters.dropped_wrong_epoch += 1;
            return None;
        }
        let proof = match header.kind {
            PacketType::Control => self.control_proves(header, packet),
            _ => match part_at(packet, DATA_HEADER_LEN) {
                Ok(Part::Record(view)) => self.record_proves(now, header, packet, &view),
                // No message comes in where nothing is under way.
                Ok(Part::Slice(_)) => {
                    self.counters.dropped_slice += 1;
                    return None;
                }
                Err(why) => {
                    self.counters.refuse(why);
                    return None;
                }
            },
        };
        let slot = header.session.slot();
        match proof {
            Ok(true) => {
                self.wake(slot);
                return Some(slot);
            }
            Ok(false) => {}
            Err(OpenError::Trailer) => self.counters.dropped_nonsense += 1,
            Err(OpenError::Tag) => {
                self.counters.dropped_bad_tag += 1;
                if self.rests.get_mut(header.session).is_some_and(crate::resting::Resting::refused) {
                    self.close(slot, &Ended::Failed(Failure::SessionClosed));
                }
            }
        }
        None
    }

    /// Whether a record is the peer's, and may wake: most are of messages that were not here before. What is of others is repeated by the
    /// peer, who lacks our word, or by anybody who saw it.
    fn record_proves(
        &mut self,
        now: Instant,
        header: &Header,
        packet: &[u8],
        view: &RecordView,
    ) -> Result<bool, OpenError> {
        let Self { rests, config, .. } = self;
        let mut trial = core::mem::take(&mut rests.trial);
        let Some(resting) = rests.get(header.session) else { return Ok(false) };
        let proof =
            resting.opening.proves_record(config.crypto, (header.session, header.epoch), packet, view, &mut trial);
        let rpc = view.number.message().rpc();
        let new = rpc.began() != resting.side && resting.peer.is_new(rpc.sequence());
        rests.trial = trial;
        proof?;
        let may = new || self.rates.may_wake(now);
        self.counters.dropped_duplicate += u64::from(!may);
        Ok(may)
    }

    /// Whether a control packet is the peer's, and new.
    fn control_proves(&mut self, header: &Header, packet: &[u8]) -> Result<bool, OpenError> {
        let Ok(number) = packet_number(packet) else {
            self.counters.dropped_truncated += 1;
            return Ok(false);
        };
        let Self { rests, config, counters, .. } = self;
        let mut trial = core::mem::take(&mut rests.trial);
        let Some(resting) = rests.get(header.session) else { return Ok(false) };
        let (new, of) = (resting.opening.may_be_new(header.epoch, number), (header.session, header.epoch));
        let proof = match new {
            true => resting.opening.proves_control(config.crypto, of, packet, number, &mut trial),
            false => Ok(()),
        };
        counters.dropped_replayed_control += u64::from(!new);
        rests.trial = trial;
        proof.map(|()| new)
    }

    // ---- What concerns those that rest ----

    /// Forgets sessions of which nothing was heard for long. What we began in one ends by itself, by an answer or by silence, and is
    /// waited for; what a peer began may be with the application for ever.
    pub(crate) fn forget_idle(&mut self, now: Instant) {
        if now < self.idle_look {
            return;
        }
        self.gather_heard(now);
        let ours = |rpc: &RpcInfo| {
            self.sessions[rpc.peer as usize].as_ref().is_some_and(|session| session.side == rpc.rpc.began())
        };
        let busy: HashSet<u32> = self.machine.rpcs().filter(ours).map(|rpc| rpc.peer).collect();
        self.forget_resting(now);
        for slot in 0..self.sessions.len() as u32 {
            let idle =
                |s: &Session| s.keys.is_some() && !s.id.is_lane() && now.since(s.heard) >= self.config.session_idle;
            if self.sessions[slot as usize].as_deref().is_some_and(idle) && !busy.contains(&slot) {
                self.close(slot, &Ended::Failed(Failure::SessionClosed));
            }
        }
        self.idle_look = if self.sessions_open > 0 { now + self.config.session_idle / 4 } else { Instant::FAR };
    }

    /// Forgets sessions at rest of which nothing was heard for long.
    pub(crate) fn forget_resting(&mut self, now: Instant) {
        let over = |resting: &&crate::resting::Resting| now.since(resting.heard) >= self.config.session_idle;
        let over: Vec<u32> = self.rests.iter().filter(over).map(|resting| resting.id.slot()).collect();
        for slot in over {
            self.close(slot, &Ended::Failed(Failure::SessionClosed));
        }
    }

    /// The way to `address` takes datagrams of `datagram_max` bytes at most.
    pub(crate) fn narrow_resting(&mut self, address: SocketAddr, datagram_max: usize) {
        for resting in self.rests.iter_mut().filter(|resting| resting.address() == address) {
            resting.datagram_max = resting.datagram_max.min(datagram_max as u32);
        }
    }

    /// What the session in `slot` is called, whether it rests or not.
    pub(crate) fn id_of(&self, slot: u32) -> Option<SessionId> {
        let awake = self.sessions[slot as usize].as_ref().map(|session| session.id);
        awake.or_else(|| self.rests.at(slot).map(|resting| resting.id))
    }
}
