//! Owns how sessions come to be: handshakes that begin, move, succeed or fail. The handshakes themselves are a crate below.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use handshake::contract::{Progress, Setup};
use handshake::error::{Alert, Error};
use handshake::identity::PeerIdentity;
use handshake::installed::KeyId;
use handshake::params::{LAYOUT_ALIGNED, LAYOUT_SPANNING, TransportParams};
use handshake::secrets::Established;
use handshake::server::{Offer, Sound, offer, refuse, sound};
use handshake::{client::Client, server::Server};
use proto::io::Failure;
use proto::time::Instant;
use record::budget::OpenFailures;
use record::epochs::{Inbound, Outbound};
use record::seal::Ids;
use wire::control::Frame;
use wire::handshake::{HandshakePacket, RetryPacket};
use wire::ids::{SessionId, Side};

use crate::error::{Ended, Misuse};
use crate::rates::host;
use crate::session::{Early, Keys, Phase, Session};
use crate::state::State;

/// DONE is said again at most this often, however often a lost copy makes the peer ask.
const DONE_PAUSE: Duration = Duration::from_millis(1);
/// How often it is said to what only looks like a repeat, which anyone could send. A client repeats itself some fifty times.
const DONES_UNPROVEN: u8 = 64;

/// Why a stranger's packet begins no handshake.
enum Unmade {
    /// It is not one that can, or something else must come first.
    Refused,
    /// More begin than may.
    RateLimited,
}

impl State {
    /// The handshake of `slot` has its secrets: the session opens. [P-6.3]
    pub(crate) fn open(&mut self, slot: u32, established: Established, now: Instant) {
        let crypto = self.config.crypto;
        let Established { peer, secret, cipher, identity, mutual, rtt, exchange, resumed, early, sides, .. } =
            established;
        let session = self.sessions[slot as usize].as_mut().expect("a session in use");
        session.keys = Some(Box::new(Keys {
            sealing: Outbound::new(crypto, &secret, cipher, session.side, self.config.key_limits),
            opening: Inbound::new(crypto, &secret, cipher, session.side.peer()),
            failures: OpenFailures::new(cipher),
            since: now,
            asked: None,
        }));
        session.cipher = cipher;
        session.peer_id = peer.session;
        session.identity = self.rests.shared(identity);
        session.origin = None;
        session.mutual = mutual;
        (session.exchange, session.resumed, session.early.taken) = (exchange, resumed, early);
        session.message_max = peer.message_max as usize;
        session.sends_slices = self.config.spans && peer.layouts & LAYOUT_SPANNING != 0;
        session.peer_datagram_max = usize::from(peer.datagram_max);
        session.datagram_max = session.datagram_max.min(usize::from(peer.datagram_max)).max(wire::limits::DATAGRAM_MIN);
        session.heard = now;
        session.promise = peer.reset_token;
        self.tokens.promise(peer.session, slot);
        self.machine.open_peer(slot, session.side, rtt, peer.unscheduled, host(session.address.ip()));
        self.is_awake(self.sessions[slot as usize].as_ref().expect("a session in use").id);
        self.counters.handshakes_completed += 1;
        if self.idle_look == Instant::FAR {
            self.idle_look = now + self.config.session_idle / 4;
        }
        self.plan_lanes(slot, &secret, &peer, rtt, now);
        self.begin_attestation(now, slot, &secret, sides.as_ref(), &peer);
        match &self.at(slot).phase {
            // The server may still refuse our certificate.
            Phase::Connecting(client) if client.must_wait_for_done() => {}
            Phase::Connecting(_) => {
                self.start_sending(slot, now);
                if early {
                    self.hold_last(slot, now);
                }
            }
            Phase::Accepting(_) => {
                // Others talk on at once, and what they are answered says the same; or they repeat themselves, and are told.
                if mutual {
                    self.say_done(slot, now);
                }
                self.start_sending(slot, now);
                self.enter_early(slot, now);
            }
            Phase::Open => {}
        }
    }

    /// A valid sealed packet of the peer came: it finished its half of the handshake, too. Nothing of it is kept.
    pub(crate) fn confirm(&mut self, slot: u32, now: Instant) {
        self.forget_acceptance(slot);
        self.handshake_timers.remove(slot);
        self.last_words(slot, now);
        self.part(slot, now);
        self.start_sending(slot, now);
    }

    /// A client finished its handshake and never said anything after it: nothing of the handshake is kept for longer than that may
    /// take. Else each such client had a place among the handshakes for as long as its session lives.
    fn release_acceptance(&mut self, slot: u32) {
        let session = self.at(slot);
        if session.keys.is_some() && matches!(&session.phase, Phase::Accepting(server) if server.is_over()) {
            self.forget_acceptance(slot);
            self.at(slot).phase = Phase::Open;
        }
    }

    /// The session is found by our name for it from now on.
    pub(crate) fn forget_acceptance(&mut self, slot: u32) {
        let session = self.at(slot);
        if let Phase::Accepting(server) = &session.phase {
            let key = (session.address, server.client());
            self.accepting.remove(&key);
        }
    }

    pub(crate) fn say_done(&mut self, slot: u32, now: Instant) {
        let session = self.at(slot);
        if session.done_said == Instant::ZERO || now.since(session.done_said) >= DONE_PAUSE {
            session.done_said = now;
            self.notices.push_back((slot, Frame::Done));
        }
    }

    pub(crate) fn setup(&mut self, session: SessionId, datagram_max: usize, key: Option<KeyId>, now: Instant) -> Setup {
        let local = TransportParams {
            session,
            // Nobody states less than every path carries, or more than any does: the peer would refuse it. [P-5.6]
            datagram_max: (self.config.datagram_bytes_max.min(datagram_max))
                .clamp(wire::limits::DATAGRAM_MIN, wire::limits::DATAGRAM_MAX) as u16,
            message_max: self.config.proto.message_bytes_max,
            unscheduled: self.config.proto.unscheduled_bytes.min(self.config.proto.message_bytes_max),
            reset_token: self.promise(session, key),
            layouts: LAYOUT_ALIGNED | if self.config.takes_slices { LAYOUT_SPANNING } else { 0 },
            shards: self.config.shard.count,
            idle: Duration::ZERO,
            shows: self.config.attest.shows(),
            demands: self.config.attest.demands(),
        };
        Setup {
            crypto: self.config.crypto,
            local,
            datagram_max: wire::limits::DATAGRAM_MIN,
            now,
            unix_seconds: self.config.unix_seconds_at_zero + now.as_nanos() / 1_000_000_000,
            lifetime: self.config.handshake_timeout,
        }
    }

    pub(crate) fn nonce(&mut self) -> [u8; 16] {
        let mut nonce = [0; 16];
        (self.entropy)(&mut nonce);
        nonce
    }

    // ---- Ours ----

    /// Begins a handshake with `target`, in a session of its own.
    pub(crate) fn begin_handshake(&mut self, now: Instant, target: u32) -> Result<u32, Misuse> {
        let (slot, id) = self.reserve()?;
        let to = &self.targets[target as usize];
        let (address, key, name) = (to.address, to.key, to.name.clone());
        let datagram_max = to.datagram_max.min(self.config.datagram_bytes_max);
        // What the path carries is only believed so far: what is repeated goes in datagrams that every path carries.
        let setup = self.setup(id, datagram_max, key, now);
        let setup = Setup { datagram_max: datagram_max.max(wire::limits::DATAGRAM_MIN), ..setup };
        let client = match key.and_then(|key| self.installed.get(&key).cloned()) {
            Some((key, Side::Client)) => Ok(Client::installed(&key, self.nonce(), &setup)),
            Some((_, Side::Server)) => Err(Misuse::NoTrust),
            None => self.first_client(target, &name, address, &setup),
        };
        match client {
            Ok(client) => {
                self.new_session(
                    slot,
                    id,
                    Side::Client,
                    address,
                    datagram_max,
                    Phase::Connecting(Box::new(client)),
                    now,
                );
                self.at(slot).target = Some(target);
                self.targets[target as usize].session = Some(slot);
                Ok(slot)
            }
            Err(why) => {
                self.unreserve(slot);
                Err(why)
            }
        }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn tls_client(&self, name: &str, address: SocketAddr, setup: &Setup) -> Result<Client, Misuse> {
        let config = self.config.client.as_ref().ok_or(Misuse::NoTrust)?;
        Client::tls_at(config, name, Some(address), self.early_may_go(), setup).map_err(Misuse::Handshake)
    }

    #[cfg(not(feature = "tls"))]
    pub(crate) fn tls_client(&self, _: &str, _: SocketAddr, _: &Setup) -> Result<Client, Misuse> {
        Err(Misuse::NoTrust)
    }

    #[expect(clippy::too_many_arguments, reason = "what a session begins with")]
    fn new_session(
        &mut self,
        slot: u32,
        id: SessionId,
        side: Side,
        address: SocketAddr,
        datagram_max: usize,
        phase: Phase,
        now: Instant,
    ) {
        self.sessions[slot as usize] = Some(Box::new(Session {
            id,
            peer_id: SessionId::NONE,
            promise: [0; wire::reset::TOKEN_LEN],
            side,
            address,
            phase,
            keys: None,
            cipher: self.config.cipher,
            identity: Arc::new(PeerIdentity::Anonymous),
            mutual: false,
            exchange: None,
            resumed: false,
            datagram_max,
            peer_datagram_max: datagram_max,
            message_max: self.config.proto.message_bytes_max as usize,
            sends_slices: false,
            ids: Ids::new(side),
            may_send: false,
            queued: VecDeque::new(),
            sending_bytes: 0,
            heard: now,
            dying: false,
            closing: false,
            renewing: false,
            done_said: Instant::ZERO,
            dones_left: DONES_UNPROVEN,
            target: None,
            steer: 0,
            root: None,
            early: Early::default(),
            attesting: None,
            evidence_id: None,
            report: None,
            origin: None,
        }));
        self.reserve_evidence(slot);
        self.flights.push_back(slot);
    }

    /// A server under load wants our address proven.
    pub(crate) fn retry(&mut self, packet: &RetryPacket<'_>) {
        let Some((slot, _)) = self.session(packet.header.session) else {
            return self.counters.dropped_unknown_session += 1;
        };
        let taken = match &mut self.at(slot).phase {
            Phase::Connecting(client) => client.retry(packet) == Progress::Taken,
            Phase::Accepting(_) | Phase::Open => false,
        };
        if taken { self.flights.push_back(slot) } else { self.counters.dropped_handshake += 1 }
    }

    // ---- Others' ----

    /// A HANDSHAKE packet, of a handshake that is known or of a new one.
    pub(crate) fn handshake(&mut self, now: Instant, from: SocketAddr, packet: &HandshakePacket<'_>, len: usize) {
        let known = match self.session(packet.header.session) {
            Some((slot, _)) => Some(slot),
            None if packet.header.session != SessionId::NONE => return self.counters.dropped_unknown_session += 1,
            None => self.accepting.get(&(from, packet.fields.sender)).copied(),
        };
        match known.map_or_else(|| self.accept(now, from, packet, len), Ok) {
            Ok(slot) => self.handshake_of(now, slot, packet, len),
            Err(Unmade::Refused) => self.counters.dropped_handshake += 1,
            Err(Unmade::RateLimited) => self.counters.dropped_rate_limited += 1,
        }
    }

    fn handshake_of(&mut self, now: Instant, slot: u32, packet: &HandshakePacket<'_>, len: usize) {
        let session = self.at(slot);
        let progress = match &mut session.phase {
            Phase::Connecting(client) => client.handle(now, packet, len),
            Phase::Accepting(server) => server.handle(now, packet, len),
            // The client repeats its last flight: our DONE got lost. What would prove that is forgotten, so it counts.
            Phase::Open if session.side == Side::Server && session.dones_left > 0 => {
                session.dones_left -= 1;
                Ok(Progress::Unconfirmed)
            }
            Phase::Open => return self.counters.dropped_handshake += 1,
        };
        self.flights.push_back(slot);
        match progress {
            Err(why) => self.handshake_failed(now, slot, why),
            Ok(Progress::Established) => {
                let established = match &mut self.at(slot).phase {
                    Phase::Connecting(client) => client.established(),
                    Phase::Accepting(server) => server.established(),
                    Phase::Open => None,
                };
                if let Some(established) = established {
                    self.settle_flight(slot, &established, now);
                    self.open(slot, established, now);
                }
            }
            Ok(Progress::Unconfirmed) => self.say_done(slot, now),
            Ok(Progress::Dropped(_)) => self.counters.dropped_handshake += 1,
            Ok(_) => {}
        }
        self.early(now, slot);
    }

    /// A stranger's first packet: a new handshake, if it can be one.
    fn accept(
        &mut self,
        now: Instant,
        from: SocketAddr,
        packet: &HandshakePacket<'_>,
        len: usize,
    ) -> Result<u32, Unmade> {
        let offer = offer(packet).ok_or(Unmade::Refused)?;
        // Under load a stranger proves its address before anything is kept. [P-6.4]
        let validated = self.cookies.check(self.config.crypto, packet, from, now);
        let loaded = self.accepting.len() >= self.config.handshakes_max / 4;
        let unproven = loaded && !validated;
        if unproven || !self.rates.may_begin(from, validated, now) || !self.may_open_ticket(offer, now) {
            if validated || !self.rates.may_answer(from, now) {
                return Err(Unmade::RateLimited);
            }
            let mut out = [0; handshake::cookie::RETRY_LEN];
            if let Some(len) = self.cookies.retry(self.config.crypto, packet, from, now, &mut out) {
                self.answer_stranger(from, &out[..len]);
            }
            return Err(Unmade::Refused);
        }
        if self.accepting.len() >= self.config.handshakes_max {
            return Err(Unmade::Refused);
        }
        let sound = sound(self.config.crypto, packet).ok_or(Unmade::Refused)?;
        let (slot, id) = self.reserve().map_err(|_| Unmade::Refused)?;
        let key = if let Offer::Installed(key) = offer { Some(key) } else { None };
        let setup = self.setup(id, self.config.datagram_bytes_max, key, now);
        // What came this way in one datagram, will go the other way in one.
        let datagram_max = len.clamp(wire::limits::DATAGRAM_MIN, wire::limits::PACKET_MAX);
        let setup = Setup { datagram_max, ..setup };
        match self.server(offer, now, packet, sound, validated, &setup) {
            Some(server) => {
                let datagram_max = self.config.datagram_bytes_max;
                self.new_session(slot, id, Side::Server, from, datagram_max, Phase::Accepting(Box::new(server)), now);
                self.accepting.insert((from, packet.fields.sender), slot);
                Ok(slot)
            }
            None => {
                self.unreserve(slot);
                Err(Unmade::Refused)
            }
        }
    }

    fn server(
        &mut self,
        offer: Offer,
        now: Instant,
        packet: &HandshakePacket<'_>,
        sound: Sound,
        validated: bool,
        setup: &Setup,
    ) -> Option<Server> {
        #[cfg(not(feature = "tls"))]
        let _ = sound;
        match offer {
            Offer::Installed(id) => {
                match self.installed.get(&id).cloned() {
                    Some((key, Side::Server)) => Server::installed(&key, self.nonce(), packet, validated, setup).ok(),
                    // Our own hello, sent back to us. Who answered it would have a session with itself, and take what it says
                    // for what its peer says. [P-6.6]
                    Some((_, Side::Client)) => None,
                    None => self.turn_away(now, packet, Alert::UNKNOWN_PSK_IDENTITY),
                }
            }
            #[cfg(feature = "tls")]
            Offer::Published(id) => self.server_by_ticket(id, now, packet, validated, setup),
            #[cfg(feature = "tls")]
            Offer::Tls if self.config.server.is_some() => {
                let config = self.config.server.clone()?;
                Server::tls_sound(&config, packet, sound, validated, setup).ok()
            }
            // TLS without a certificate of ours; or, without the feature `tls`, all that `handshake` may know because another crate of the
            // build has turned it on there.
            _ => self.turn_away(now, packet, Alert::ACCESS_DENIED),
        }
    }

    /// Tells a stranger that there will be no handshake. It cannot be sure of it, as anyone could say so.
    pub(crate) fn turn_away(&mut self, now: Instant, packet: &HandshakePacket<'_>, alert: Alert) -> Option<Server> {
        let (from, mut out) = (self.from, [0; 256]);
        if self.rates.may_answer(from, now)
            && let Some(len) = refuse(self.config.crypto, packet, alert, &mut out)
        {
            self.answer_stranger(from, &out[..len]);
        }
        None
    }

    // ---- Ends ----

    /// A handshake failed. Its farewell goes out before it is forgotten.
    fn handshake_failed(&mut self, now: Instant, slot: u32, why: Error) {
        if self.at(slot).dying || self.fall_back(now, slot, &why) {
            return;
        }
        self.will_not_be(slot, &why);
        self.tidy();
        if self.at(slot).keys.is_some() {
            self.machine.close_peer(slot, Failure::SessionClosed);
            self.drain_machine();
            self.at(slot).keys = None;
        }
        self.flights.push_back(slot);
        self.handshake_timers.set(slot, now);
    }

    /// Forgets a session whose handshake failed, once it has said so.
    fn bury(&mut self, slot: u32) {
        let over = match &self.at(slot).phase {
            Phase::Connecting(client) => client.is_over(),
            Phase::Accepting(server) => server.is_over(),
            Phase::Open => true,
        };
        if over && self.at(slot).dying {
            self.close(slot, &Ended::Failed(Failure::SessionClosed));
        }
    }

    /// Handshakes whose time has come repeat themselves, or give up.
    pub(crate) fn handshake_timeouts(&mut self, now: Instant) {
        while let Some((_, slot)) = self.handshake_timers.peek().filter(|(at, _)| *at <= now) {
            self.handshake_timers.remove(slot);
            let outcome = match &mut self.at(slot).phase {
                Phase::Connecting(client) => client.handle_timeout(now),
                Phase::Accepting(server) => server.handle_timeout(now),
                Phase::Open => {
                    self.bury_remains();
                    continue;
                }
            };
            self.flights.push_back(slot);
            if let Err(why) = outcome {
                self.handshake_failed(now, slot, why);
            } else if self.at(slot).dying {
                self.bury(slot);
            } else {
                self.release_acceptance(slot);
                self.rearm(slot, now);
            }
        }
    }

    /// The handshake's timer, as it stands after whatever it did.
    pub(crate) fn rearm(&mut self, slot: u32, now: Instant) {
        let timeout = match &self.at(slot).phase {
            Phase::Connecting(client) => client.timeout(),
            Phase::Accepting(server) => server.timeout(),
            Phase::Open => self.remains_due(now),
        };
        match timeout {
            Some(at) => self.handshake_timers.set(slot, at.max(now + Duration::from_nanos(1))),
            None if self.at(slot).dying => self.handshake_timers.set(slot, now + Duration::from_millis(1)),
            None => {
                self.handshake_timers.remove(slot);
            }
        }
    }
}
