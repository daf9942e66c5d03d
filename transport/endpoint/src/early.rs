//! Owns requests that come with a first flight, before their session is open, and what is answered to them. [P-6.9]
//!
//! Such a request has the ordinary name of an RPC. It travels in a packet of the handshake; when the session opens, both ends
//! enter it into the state machine as one that was sent, or that arrived, and from there on everything is as usual: what got
//! lost is asked for, what came twice runs once, and a response that was too late or too long for the handshake goes in
//! records. A server that did not take the first flight never saw it, and the client sends it like any other request.

use std::sync::Arc;

use handshake::limits::EARLY_MESSAGES_MAX;
use proto::io::Arrival;
use proto::time::Instant;
use wire::bytes::Reader;
use wire::geometry::Geometry;
use wire::handshake::{EARLY_BODY_MAX, EARLY_ID_LEN};
use wire::ids::{RpcId, SessionId, Side};
use wire::trailer::{Kind, Trailer};

use crate::endpoint::Endpoint;
use crate::error::Ended;
use crate::events::Event;
use crate::pool::Body;
use crate::session::{Answer, Answered, CallId, EarlyRequest, Origin, Phase, Protection};
use crate::state::State;

/// Sequences of requests in a first flight lie below this: the window of every peer is larger. [P-7.2]
const SEQUENCES_MAX: u64 = 1 << 16;

fn message(rpc: RpcId, body: &[u8]) -> Vec<u8> {
    let id = rpc.as_u48().to_be_bytes();
    [&id[id.len() - EARLY_ID_LEN..], body].concat()
}

fn parse(message: &[u8]) -> Option<(RpcId, &[u8])> {
    let mut r = Reader::new(message);
    let rpc = RpcId::from_u48(r.u48().ok()?).ok()?;
    (rpc.began() == Side::Client).then_some((rpc, r.rest()))
}

impl Endpoint {
    /// Whether what is sent next may go with the first flight, if it is a request that is short enough and has to wait for a
    /// handshake to a server that gave us a ticket for it.
    pub fn early_next(&mut self, on: bool) {
        self.state.early_next = on;
    }

    /// The application answers nothing now: a flight that waits for a reply goes. Whether there was one; then it is to be transmitted.
    pub fn let_flight_go(&mut self) -> bool {
        self.state.let_flight_go()
    }

    /// Whether a request that was delivered waits for its reply: nobody answered it, and its caller did not give up.
    pub fn is_asked(&self, id: CallId) -> bool {
        self.request(id).is_some() || self.state.awaited(id).is_some()
    }

    /// Responses that were given before their sessions were open go the ordinary way.
    pub(crate) fn answer_early(&mut self, now: Instant) {
        while let Some(Answered { id, body, sent }) = self.state.early_answered.pop() {
            if self.reply(now, id, body).is_err() {
                let _ = self.refuse(id);
            } else if sent
                && let Some((peer, _)) = self.state.session(id.session)
                && let Some(slot) = self.state.machine.find(peer, id.rpc)
            {
                self.state.machine.sent_elsewhere(now, slot);
            }
        }
    }
}

impl State {
    // ---- Client ----

    /// Whether anything may go in a first flight: to whom evidence is demanded of, nothing goes before it. [P-6.16]
    pub(crate) fn early_may_go(&self) -> bool {
        self.early_next && self.config.attest.policy.is_none()
    }

    /// The message that was queued last goes with the first flight, if it may.
    pub(crate) fn offer_early(&mut self, slot: u32) {
        if !self.early_may_go() {
            return;
        }
        let session = self.at(slot);
        let Phase::Connecting(client) = &mut session.phase else { return };
        let Some(queued) = session.queued.back_mut() else { return };
        let fits = queued.body.len() <= EARLY_BODY_MAX && queued.id.message().rpc().sequence() < SEQUENCES_MAX;
        if queued.kind != Kind::Request || queued.streamed || !fits || !client.takes_early() {
            return;
        }
        client.send_early(message(queued.id.message().rpc(), &queued.body));
        queued.early = true;
        self.counters.early_sent += 1;
        self.flights.push_back(slot);
    }

    // ---- Both ----

    /// What a handshake has of a first flight, after whatever it did.
    pub(crate) fn early(&mut self, now: Instant, slot: u32) {
        loop {
            let Some(session) = self.sessions[slot as usize].as_mut().filter(|session| !session.dying) else { return };
            let came = match &mut session.phase {
                Phase::Connecting(client) => client.early(),
                Phase::Accepting(server) => server.early(),
                Phase::Open => None,
            };
            let Some(came) = came else { return };
            let side = session.side;
            match (parse(&came), side) {
                (None, _) => self.counters.dropped_nonsense += 1,
                (Some((rpc, body)), Side::Server) => self.early_request(now, slot, rpc, body),
                (Some((rpc, body)), Side::Client) => self.early_response(now, slot, rpc, body),
            }
        }
    }

    /// The server has proven itself, and the session is open: the response ends an RPC as if it had come in a record.
    fn early_response(&mut self, now: Instant, slot: u32, rpc: RpcId, body: &[u8]) {
        let Some(call) = self.machine.find(slot, rpc) else { return self.counters.dropped_unexpected += 1 };
        let geometry = Geometry::cut(body.len(), self.at(slot).datagram_max);
        let trailer = Trailer { unscheduled: geometry.length(), ..Trailer::new(geometry, Kind::Response) };
        match self.machine.arrived(now, slot, rpc, Some(call), 0, &trailer) {
            Arrival::New { slot: call, complete: true, .. } => {
                let payload = self.pool.copy(body);
                self.deliver(call, payload);
            }
            _ => self.counters.dropped_unexpected += 1,
        }
    }

    // ---- Server ----

    /// A request whose ticket was taken out of memory: no copy of it comes again but in this handshake.
    fn early_request(&mut self, now: Instant, slot: u32, rpc: RpcId, body: &[u8]) {
        // Whatever a ticket allows: who must show evidence has not shown any. [P-6.16]
        if self.config.attest.policy.is_some() {
            return self.counters.dropped_before_evidence += 1;
        }
        let (mut limit, mut protection) = (self.config.early_data_bytes_max, Protection::EarlyData);
        let session = self.at(slot);
        if matches!(&session.phase, Phase::Accepting(server) if server.is_by_ticket()) {
            // As many as a handshake hands on, and no longer ones than fit. [P-6.12]
            (limit, protection) = (EARLY_MESSAGES_MAX * EARLY_BODY_MAX, Protection::PublishedTicket);
        }
        let early = &mut session.early;
        if early.requests.iter().any(|request| request.rpc == rpc) {
            return self.counters.dropped_duplicate += 1;
        }
        if rpc.sequence() >= SEQUENCES_MAX {
            return self.counters.dropped_nonsense += 1;
        }
        if early.requests.len() == EARLY_MESSAGES_MAX || early.bytes + body.len() > limit {
            return self.counters.dropped_no_room += 1;
        }
        early.bytes += body.len();
        early.requests.push(EarlyRequest { rpc, length: body.len(), state: Answer::Awaited });
        let id = CallId { session: session.id, rpc };
        let from = Arc::new(Origin { protection, ..(*self.origin(slot)).clone() });
        let payload = self.pool.copy(body);
        self.counters.early_taken += 1;
        self.counters.messages_delivered += 1;
        self.events.push_back(Event::Request { id, from, payload });
        self.hold_flight(slot, now);
    }

    fn awaited(&self, id: CallId) -> Option<(u32, usize)> {
        let (slot, session) = self.session(id.session)?;
        let is_it = |request: &EarlyRequest| request.rpc == id.rpc && matches!(request.state, Answer::Awaited);
        Some((slot, session.early.requests.iter().position(is_it)?))
    }

    /// Answers a request whose session is not open yet; `false` when it is none. What fits goes behind our flight at
    /// once, under keys that our own randomness is in; what does not waits for the session.
    pub(crate) fn reply_early(&mut self, id: CallId, body: &mut Body) -> bool {
        let Some((slot, at)) = self.awaited(id) else { return false };
        let body = core::mem::take(body);
        let session = self.at(slot);
        let mut sent = false;
        if let Phase::Accepting(server) = &mut session.phase
            && body.len() <= EARLY_BODY_MAX
            && server.takes_early()
        {
            server.send_early(message(id.rpc, &body));
            sent = true;
        }
        session.early.requests[at].state = Answer::Given { body, sent };
        self.flights.push_back(slot);
        true
    }

    /// Refuses a request whose session is not open yet; `false` when it is none.
    pub(crate) fn refuse_early(&mut self, id: CallId) -> bool {
        let Some((slot, at)) = self.awaited(id) else { return false };
        self.at(slot).early.requests[at].state = Answer::Refused;
        true
    }

    /// The session is open: its early requests are RPCs like all others, and count as run. Before anything that was sealed
    /// with its keys could be opened, so no copy of them runs. [P-7.1]
    pub(crate) fn enter_early(&mut self, slot: u32, now: Instant) {
        let session = self.at(slot);
        let (id, datagram_max) = (session.id, session.datagram_max);
        for request in core::mem::take(&mut session.early.requests) {
            let geometry = Geometry::cut(request.length, datagram_max);
            let trailer = Trailer {
                unscheduled: geometry.length(),
                floor_distance: request.rpc.sequence() as u32,
                ..Trailer::new(geometry, Kind::Request)
            };
            let arrival = self.machine.arrived(now, slot, request.rpc, None, 0, &trailer);
            let Arrival::New { slot: call, complete: true, .. } = arrival else {
                // It ran and cannot be remembered: a session in which it might run again must not be.
                return self.abandon(slot, id);
            };
            self.put_call(call);
            let id = CallId { session: id, rpc: request.rpc };
            match request.state {
                Answer::Awaited => {}
                Answer::Given { body, sent } => self.early_answered.push(Answered { id, body, sent }),
                Answer::Refused => self.machine.refuse(call),
            }
        }
    }

    fn abandon(&mut self, slot: u32, id: SessionId) {
        self.early_answered.retain(|answered| answered.id.session != id);
        self.close(slot, &Ended::Failed(proto::io::Failure::SessionClosed));
    }

    /// A session ends before it was open: nobody waits for answers to its early requests any more.
    pub(crate) fn drop_early(&mut self, slot: u32) {
        let session = self.at(slot);
        let id = session.id;
        for request in core::mem::take(&mut session.early.requests) {
            if matches!(request.state, Answer::Awaited) {
                self.events.push_back(Event::Cancelled { id: CallId { session: id, rpc: request.rpc } });
            }
        }
    }
}
