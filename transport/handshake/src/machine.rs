//! Owns one handshake from its first packet to its end, on either side: a flight, a method, and what they have come to.
//!
//! ```text
//! Running --agreed--> Done --confirmed--> Over
//!    |                  |                  ^
//!    +--failed--> Failed (repeats alert) --+
//! ```

use std::collections::VecDeque;

use proto::time::Instant;
use wire::handshake::{HandshakePacket, Level, Method};
use wire::header::Header;
use wire::ids::Side;

use crate::contract::{Progress, Reason};
use crate::error::{Alert, Error, Failure, Stage};
use crate::flight::{Arrival, Flight};
use crate::installed::Exchange;
use crate::limits::{EARLY_MAX, EARLY_MESSAGES_MAX, HINT_WAIT, LINGER, STALE_WAIT};
use crate::secrets::{Agreed, Established};
#[cfg(feature = "tls")]
use crate::tls::Tls;

/// How the two sides come to a common secret.
pub(crate) enum Engine {
    #[cfg(feature = "tls")]
    Tls(Box<Tls>),
    Installed(Box<Exchange>),
}

impl Engine {
    fn start(&mut self, flight: &mut Flight) {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.start(flight),
            Self::Installed(exchange) => exchange.start(flight),
        }
    }

    fn read(&mut self, bytes: &[u8], flight: &mut Flight) -> Result<(), Failure> {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.read(bytes, flight),
            Self::Installed(exchange) => exchange.read(bytes, flight),
        }
    }

    fn agreed(&mut self) -> Result<Option<Agreed>, Failure> {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.agreed(),
            Self::Installed(exchange) => Ok(exchange.agreed()),
        }
    }

    const fn method(&self) -> Method {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(_) => Method::Tls,
            Self::Installed(exchange) => exchange.method(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Done,
    Failed { until: Instant },
    Over,
}

/// One side of one handshake.
pub(crate) struct Machine {
    flight: Flight,
    engine: Engine,
    state: State,
    deadline: Instant,
    /// An alert that anyone could have sent, and when it is believed.
    hint: Option<(Instant, Alert)>,
    /// Sealed packets that came before their keys: when, header and datagram.
    early: Vec<(Instant, Header, Vec<u8>)>,
    established: Option<Established>,
    must_wait: bool,
    /// Messages of the first flight that came.
    messages: VecDeque<Vec<u8>>,
}

impl Machine {
    pub(crate) fn new(flight: Flight, engine: Engine, deadline: Instant) -> Self {
        let mut machine = Self {
            flight,
            engine,
            state: State::Running,
            deadline,
            hint: None,
            early: Vec::new(),
            established: None,
            must_wait: false,
            messages: VecDeque::new(),
        };
        if machine.flight.side() == Side::Client {
            machine.engine.start(&mut machine.flight);
        }
        machine
    }

    pub(crate) const fn flight(&mut self) -> &mut Flight {
        &mut self.flight
    }

    /// Whether it is under way: neither done nor failed.
    pub(crate) const fn is_running(&self) -> bool {
        matches!(self.state, State::Running)
    }

    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Bytes of the other side's that it holds.
    pub(crate) fn buffered(&self) -> usize {
        let early: usize = self.early.iter().map(|(_, _, datagram)| datagram.len()).sum();
        self.flight.buffered() + early + self.messages.iter().map(Vec::len).sum::<usize>()
    }

    pub(crate) const fn must_wait(&self) -> bool {
        self.must_wait
    }

    pub(crate) const fn established(&mut self) -> Option<Established> {
        self.established.take()
    }

    pub(crate) fn confirmed(&mut self) {
        if self.state == State::Done {
            self.over();
        }
    }

    pub(crate) fn cancel(&mut self, now: Instant) {
        if self.state == State::Running {
            self.fail(now, Some(Alert::USER_CANCELED));
        }
    }

    // ---- the first flight ----

    /// Whether a message of the first flight can go.
    pub(crate) fn takes_message(&self) -> bool {
        self.state == State::Running && self.flight.takes_message()
    }

    /// Sends a message of the first flight. Only after [`Self::takes_message`].
    pub(crate) fn send_message(&mut self, message: Vec<u8>) {
        self.flight.send_message(message);
    }

    /// The next message that came: for a server a request that its client may have sent, for a client, once the server has
    /// proven itself, the response to one.
    pub(crate) fn message(&mut self) -> Option<Vec<u8>> {
        let proven = self.flight.side() == Side::Server || self.state == State::Done;
        if proven { self.messages.pop_front() } else { None }
    }

    fn keep_message(&mut self, message: Vec<u8>) {
        // Behind the end of its handshake a first flight is too late: the session has ways of its own.
        let late = self.flight.side() == Side::Server && self.state != State::Running;
        if !late && self.messages.len() < EARLY_MESSAGES_MAX {
            self.messages.push_back(message);
        }
    }

    // ---- in ----

    pub(crate) fn handle(
        &mut self,
        now: Instant,
        packet: &HandshakePacket<'_>,
        datagram_len: usize,
    ) -> Result<Progress, Error> {
        match self.state {
            State::Over => return Ok(Progress::Dropped(Reason::Over)),
            State::Failed { .. } => {
                let genuine = self.flight.alert_again(packet, datagram_len);
                return Ok(if genuine { Progress::Closing } else { Progress::Dropped(Reason::Over) });
            }
            State::Running | State::Done => {}
        }
        match self.flight.receive(now, now, packet, datagram_len) {
            Ok(arrival) => self.arrived(now, arrival),
            Err(Reason::Early) => Ok(self.keep_early(now, packet)),
            Err(reason) => Ok(Progress::Dropped(reason)),
        }
    }

    fn arrived(&mut self, now: Instant, arrival: Arrival) -> Result<Progress, Error> {
        let again = match arrival {
            Arrival::Alert { alert, proven } => return self.alerted(now, alert, proven),
            Arrival::TooLong => {
                self.fail(now, Some(Alert::RECORD_OVERFLOW));
                return Err(Error::FlightTooLarge);
            }
            Arrival::Message(message) => {
                self.keep_message(message);
                return Ok(Progress::Taken);
            }
            Arrival::Fragment { again } => again,
        };
        if self.state == State::Done {
            if self.flight.side() == Side::Client {
                self.after_the_end();
            }
            let waits = again && self.flight.side() == Side::Server;
            return Ok(if waits { Progress::Unconfirmed } else { Progress::Taken });
        }
        match self.advance(now) {
            Ok(true) => Ok(Progress::Established),
            Ok(false) => Ok(Progress::Taken),
            Err(failure) => {
                self.fail(now, failure.alert);
                Err(failure.error)
            }
        }
    }

    /// Gives the method what is next in order, and asks what it has come to. True: it is complete.
    fn advance(&mut self, now: Instant) -> Result<bool, Failure> {
        let knew = (self.flight.can_seal(), self.flight.knows_messages());
        for level in Level::STREAMS {
            while let Some(bytes) = self.flight.read(level) {
                self.engine.read(&bytes, &mut self.flight)?;
            }
        }
        if knew != (self.flight.can_seal(), self.flight.knows_messages()) {
            for (came, header, datagram) in core::mem::take(&mut self.early) {
                let Ok(packet) = HandshakePacket::parse(header, &datagram) else { continue };
                match self.flight.receive(now, came, &packet, datagram.len()) {
                    Ok(Arrival::TooLong) => {
                        let alert = Some(Alert::RECORD_OVERFLOW);
                        return Err(Failure { error: Error::FlightTooLarge, alert });
                    }
                    Ok(Arrival::Message(message)) => self.keep_message(message),
                    _ => {}
                }
            }
            while let Some(bytes) = self.flight.read(Level::Sealed) {
                self.engine.read(&bytes, &mut self.flight)?;
            }
        }
        if self.flight.is_proven() {
            // Whoever holds these keys is not who sent an alert in clear text.
            self.hint = None;
        }
        let Some(agreed) = self.engine.agreed()? else { return Ok(false) };
        // The ids in clear text are the ones that the other side means. [P-6.3]
        if agreed.peer.session != self.flight.remote() {
            let error = Error::Protocol { reason: String::from("session ids inside and outside differ") };
            return Err(Failure { error, alert: Some(Alert::ILLEGAL_PARAMETER) });
        }
        self.must_wait = agreed.must_wait;
        self.established = Some(Established {
            peer: agreed.peer,
            secret: agreed.secret,
            cipher: agreed.cipher,
            identity: agreed.identity,
            mutual: agreed.mutual,
            exchange: agreed.exchange,
            resumed: agreed.resumed,
            early: agreed.early,
            sides: agreed.sides,
            #[cfg(feature = "tls")]
            verdict: agreed.verdict,
            rtt: self.flight.pace().shortest().unwrap_or_default(),
        });
        self.state = State::Done;
        self.hint = None;
        if self.flight.side() == Side::Server {
            self.flight.settle();
        }
        Ok(true)
    }

    /// What a server says after its Finished is tickets. Whatever is wrong with them is no reason to end what was agreed.
    fn after_the_end(&mut self) {
        while let Some(bytes) = self.flight.read(Level::Sealed) {
            if self.engine.read(&bytes, &mut self.flight).is_err() {
                return;
            }
        }
    }

    /// A sealed packet that overtook what its keys come from is kept, as far as there is room.
    fn keep_early(&mut self, now: Instant, packet: &HandshakePacket<'_>) -> Progress {
        let kept: usize = self.early.iter().map(|(_, _, datagram)| datagram.len()).sum();
        // A server has the keys of the sealed level before any client can; a request may overtake the ClientHello.
        let hopeless = match packet.fields.level {
            Level::Early => self.engine.method() == Method::Installed || self.flight.knows_messages(),
            Level::Initial | Level::Sealed => self.flight.side() == Side::Server,
        };
        if hopeless || packet.fragment.is_empty() || kept + packet.len() > EARLY_MAX {
            return Progress::Dropped(Reason::Early);
        }
        self.early.push((now, packet.header, [packet.covered, &packet.tag[..]].concat()));
        Progress::Taken
    }

    /// The other side says that it failed.
    ///
    /// Who can see our packets can forge an alert in clear text. Believed at once are only those that a server can say in
    /// no other way, to a client that has no keys yet: such a forger could end the attempt with a false ServerHello just as
    /// well. Others, and all that concern an installed secret, wait for a genuine packet to prove them wrong. [P-6.2.3]
    fn alerted(&mut self, now: Instant, alert: Alert, proven: bool) -> Result<Progress, Error> {
        let clear_only = [Alert::HANDSHAKE_FAILURE, Alert::PROTOCOL_VERSION, Alert::NO_APPLICATION_PROTOCOL];
        let at_once = self.engine.method() == Method::Tls
            && self.flight.side() == Side::Client
            && !self.flight.can_seal()
            && clear_only.contains(&alert);
        if proven || at_once {
            self.fail(now, None);
            return Err(refused(alert, proven, self.flight.side()));
        }
        if self.state == State::Running && !self.flight.is_proven() {
            let stale = self.is_stale(alert);
            self.hint.get_or_insert((now + if stale { STALE_WAIT } else { HINT_WAIT }, alert));
        }
        Ok(Progress::Dropped(Reason::Hint))
    }

    /// Whether an alert says that the server does not know the published ticket.
    fn is_stale(&self, alert: Alert) -> bool {
        alert == Alert::UNKNOWN_PSK_IDENTITY && self.by_ticket()
    }

    /// Whether a first flight by published ticket is part of it.
    pub(crate) const fn by_ticket(&self) -> bool {
        match &self.engine {
            #[cfg(feature = "tls")]
            Engine::Tls(tls) => tls.by_ticket(),
            Engine::Installed(exchange) => matches!(exchange.method(), Method::Published),
        }
    }

    // ---- time ----

    pub(crate) fn timeout(&self) -> Option<Instant> {
        let own = match self.state {
            State::Over => return None,
            State::Failed { until } => until,
            State::Running | State::Done => self.deadline,
        };
        let hint = self.hint.map(|(at, _)| at);
        hint.into_iter().chain(self.flight.timeout()).chain([own]).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        match self.state {
            State::Over => return Ok(()),
            State::Failed { until } if until <= now => self.over(),
            State::Done if self.deadline <= now => {
                self.over();
                // A server is done; whether its client lives is the session's business now.
                if self.flight.side() == Side::Client {
                    return Err(Error::TimedOut { stage: Stage::Confirmation });
                }
            }
            State::Running if self.deadline <= now => return Err(self.expire()),
            State::Running if self.hint.is_some_and(|(at, _)| at <= now) => {
                return Err(self.expire());
            }
            State::Failed { .. } | State::Done | State::Running => self.flight.handle_timeout(now),
        }
        Ok(())
    }

    fn expire(&mut self) -> Error {
        let hint = self.hint;
        self.over();
        match hint {
            Some((_, alert)) => refused(alert, false, self.flight.side()),
            None if self.flight.heard() => Error::TimedOut { stage: Stage::Underway },
            None => Error::TimedOut { stage: Stage::Silence },
        }
    }

    // ---- out ----

    pub(crate) fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        if self.state == State::Over { None } else { self.flight.poll(now, out) }
    }

    /// With an alert to send it stays for a while; otherwise it is over.
    fn fail(&mut self, now: Instant, alert: Option<Alert>) {
        self.over();
        if alert.is_some() {
            self.flight.fail(alert);
            self.state = State::Failed { until: self.deadline.min(now + LINGER) };
        }
    }

    fn over(&mut self) {
        self.state = State::Over;
        (self.hint, self.early, self.established) = (None, Vec::new(), None);
        self.messages.clear();
        self.flight.finish();
    }
}

/// What an alert of the other side means to our caller.
fn refused(alert: Alert, proven: bool, side: Side) -> Error {
    match (alert, side) {
        (Alert::NO_APPLICATION_PROTOCOL, _) => Error::AlpnMismatch,
        (Alert::HANDSHAKE_FAILURE, _) => Error::NothingInCommon,
        // A client that found out by itself says it with the server's word.
        (Alert::CERTIFICATE_REQUIRED, Side::Server) => Error::ClientCertificateMissing,
        _ => Error::Refused { alert, proven },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::Ends;
    use crate::installed::InstalledKey;
    use crate::limits::LIFETIME;
    use crate::params::TransportParams;
    use crate::test_crypto::CRYPTO;
    use record::aead::Cipher;
    use record::keys::Secret;
    use wire::ids::SessionId;
    use wire::packet::Packet;

    fn params(session: SessionId) -> TransportParams {
        TransportParams {
            session,
            datagram_max: 1232,
            message_max: 1,
            unscheduled: 1,
            layouts: 1,
            shards: 1,
            reset_token: [0; 16],
            idle: LIFETIME,
            shows: None,
            demands: None,
        }
    }

    /// [P-6.2] Of a first flight no more is held than it may bring, whatever comes before anybody looks.
    #[test]
    fn messages_have_a_limit() {
        let key = InstalledKey::new(&CRYPTO, &Secret::new([1; 32]), Cipher::Aes128Gcm, "x");
        let [local, remote] = [1, 2].map(|slot| SessionId::new(slot, 7));
        let ends =
            Ends { side: Side::Server, method: Method::Installed, local, remote, datagram_max: 1232, validated: true };
        let exchange = Exchange::new(&CRYPTO, key.clone(), Side::Server, [1; 16], params(local).encode());
        let flight = Flight::new(&CRYPTO, ends, key.guard(&CRYPTO, Side::Server));
        let mut machine = Machine::new(flight, Engine::Installed(Box::new(exchange)), Instant::ZERO + LIFETIME);
        (0..100).for_each(|_| machine.keep_message(vec![0; 1000]));
        assert_eq!(machine.buffered(), 1000 * EARLY_MESSAGES_MAX);
    }

    /// [P-6.3] A client whose packets bear another id than its authenticated parameters is refused.
    #[test]
    fn ids_inside_and_outside() {
        let key = InstalledKey::new(&CRYPTO, &Secret::new([1; 32]), Cipher::Aes128Gcm, "x");
        let [outside, inside, server] = [1, 2, 3].map(|slot| SessionId::new(slot, 7));
        let now = Instant::ZERO;
        let ends = |side, local, remote| {
            let (method, datagram_max, validated) = (Method::Installed, 1232, true);
            Ends { side, method, local, remote, datagram_max, validated }
        };
        let machine = |ends: Ends, params: &TransportParams| {
            let exchange = Exchange::new(&CRYPTO, key.clone(), ends.side, [1; 16], params.encode());
            let guard = key.guard(&CRYPTO, ends.side);
            let flight = Flight::new(&CRYPTO, ends, guard);
            Machine::new(flight, Engine::Installed(Box::new(exchange)), now + LIFETIME)
        };
        for (inside, agrees) in [(inside, false), (outside, true)] {
            let mut client = machine(ends(Side::Client, outside, SessionId::NONE), &params(inside));
            let mut answerer = machine(ends(Side::Server, server, outside), &params(server));
            let mut out = [0; 1232];
            let mut last = Ok(Progress::Taken);
            for _ in 0..3 {
                while let Some(len) = client.poll_transmit(now, &mut out) {
                    let Ok(Packet::Handshake(packet)) = Packet::parse(&out[..len]) else { panic!() };
                    last = answerer.handle(now, &packet, len);
                }
                while let Some(len) = answerer.poll_transmit(now, &mut out) {
                    let Ok(Packet::Handshake(packet)) = Packet::parse(&out[..len]) else { panic!() };
                    let _ = client.handle(now, &packet, len);
                }
            }
            assert_eq!(answerer.established().is_some(), agrees);
            assert_eq!(matches!(last, Err(Error::Protocol { .. })), !agrees, "{last:?}");
        }
    }
}
