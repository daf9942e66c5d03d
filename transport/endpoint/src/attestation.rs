//! Owns when evidence is shown and judged: after the keys are there, before anything of the application. [P-6.16]
//!
//! Evidence is a request, the first that its side begins, and its answer says whether it was taken. So the state machine brings it
//! through loss, like anything else, and a session of which nothing is demanded pays one comparison per packet.

use std::sync::Arc;
use std::time::Duration;

use attest::binding::Binding;
use attest::evidence::{EVIDENCE_MAX, Error as EvidenceError};
use attest::verdict::Verdict;
use handshake::error::{Error, Stage};
use handshake::params::TransportParams;
use handshake::sides::Sides;
use proto::io::{Event as MachineEvent, Failure, State as RpcState};
use proto::time::Instant;
use record::keys::Secret;
use wire::control::Frame;
use wire::ids::RpcId;
use wire::trailer::Kind;

use crate::endpoint::Endpoint;
use crate::evidence::{Attesting, Done, Outcome, SEQUENCE, Task, WORKS_MAX, Work};
use crate::pool::{Body, Payload};
use crate::session::{CallId, Queued};
use crate::state::State;

/// How long a session that was refused stays, so that the peer is told why.
const LINGER: Duration = Duration::from_secs(1);

impl Endpoint {
    /// The next evidence to be made or judged: then [`Self::work_done`] is told. Drained like events.
    pub fn poll_work(&mut self) -> Option<Work> {
        self.state.evidence.works.pop_front()
    }

    /// Something that [`Self::poll_work`] gave was done.
    pub fn work_done(&mut self, now: Instant, done: Done) {
        let state = &mut self.state;
        state.evidence.under_way -= 1;
        let Some((slot, session)) = state.session(done.session) else { return };
        let Some(attesting) = session.attesting.as_ref().filter(|attesting| !attesting.failed) else { return };
        let (whose, came) = (session.side.peer(), attesting.came);
        match (done.outcome, came) {
            (Outcome::Made(Ok(statement)), _) => state.show(now, slot, statement),
            (Outcome::Made(Err(why)), _) => state.attestation_failed(now, slot, &Error::NoEvidence { why }, None),
            (Outcome::Judged(_), None) => {}
            (Outcome::Judged(Ok(report)), Some(rpc)) => {
                state.counters.evidence_taken += 1;
                let session = state.at(slot);
                session.report = Some(Arc::new(report));
                session.origin = None;
                if let Some(attesting) = &mut session.attesting {
                    attesting.awaits_evidence = false;
                }
                if self.reply(now, CallId { session: done.session, rpc }, Payload::empty()).is_ok() {
                    self.state.attestation_settled(slot, now);
                }
            }
            (Outcome::Judged(Err(why)), Some(rpc)) => {
                state.counters.evidence_refused += 1;
                let code = vec![Verdict::of(&why).code()];
                let told = self.reply(now, CallId { session: done.session, rpc }, Body::Copied(code)).is_ok();
                let linger = told.then_some(now + LINGER);
                self.state.attestation_failed(now, slot, &Error::Evidence { whose, why }, linger);
            }
        }
    }
}

impl State {
    // ---- Begin ----

    /// A session of an endpoint that may have to show evidence begins nothing else with its first sequence.
    pub(crate) fn reserve_evidence(&mut self, slot: u32) {
        if self.config.attest.attester.is_some() {
            let session = self.at(slot);
            session.evidence_id = session.ids.take();
        }
    }

    /// The session has its keys: what each side demands of the other, if anything.
    pub(crate) fn begin_attestation(
        &mut self,
        now: Instant,
        slot: u32,
        secret: &Secret,
        sides: Option<&Sides>,
        peer: &TransportParams,
    ) {
        let (ours, theirs) = (&self.config.attest, peer);
        let (shows, demands) = (ours.shows(), ours.demands());
        let session = self.sessions[slot as usize].as_ref().expect("a session in use");
        let side = session.side;
        let shown = |shows: Option<u16>, demands: &Option<Vec<u16>>| {
            demands.as_ref().map(|formats| shows.is_some_and(|shown| formats.contains(&shown)))
        };
        let (they_show, we_show) = (shown(theirs.shows, &demands), shown(shows, &theirs.demands));
        if we_show != Some(true)
            && let Some(id) = self.at(slot).evidence_id.take()
        {
            self.machine.skip(slot, id.message().rpc());
        }
        if they_show.is_none() && we_show.is_none() {
            return;
        }
        let crypto = self.config.crypto;
        let bound = |side| sides.map(|sides| Binding::new(sides.binding(crypto, secret, side)));
        let (binding, theirs) = (bound(side), bound(side.peer()));
        let missing = they_show == Some(false);
        let demanded = we_show == Some(false);
        let (Some(binding), Some(theirs)) = (binding, theirs) else {
            unreachable!("one side demands evidence, so both know what it is tied to")
        };
        self.at(slot).attesting = Some(Box::new(Attesting {
            awaits_evidence: they_show.is_some(),
            awaits_verdict: we_show.is_some(),
            may_send: false,
            came: None,
            failed: false,
            lost: None,
            theirs,
        }));
        self.evidence.timers.set(slot, now + self.config.handshake_timeout);
        let whose = side.peer();
        if missing {
            return self.attestation_failed(now, slot, &Error::EvidenceMissing { whose }, None);
        }
        if demanded {
            return self.attestation_failed(now, slot, &Error::EvidenceDemanded { whose }, None);
        }
        if they_show.is_some() {
            self.machine.admit_first(slot, EVIDENCE_MAX as u32);
        }
        if let (Some(_), Some(attester)) = (we_show, self.config.attest.attester.clone()) {
            self.work(now, slot, Task::Make { attester, binding });
        }
    }

    fn work(&mut self, now: Instant, slot: u32, task: Task) {
        if self.evidence.under_way >= WORKS_MAX {
            let whose = self.at(slot).side.peer();
            return self.attestation_failed(now, slot, &Error::Evidence { whose, why: EvidenceError::Busy }, None);
        }
        self.evidence.under_way += 1;
        let session = self.at(slot).id;
        self.evidence.works.push_back(Work { session, task });
    }

    /// Our evidence goes to the peer.
    fn show(&mut self, now: Instant, slot: u32, statement: Vec<u8>) {
        let session = self.at(slot);
        let Some(id) = session.evidence_id.take() else { return };
        // It is none of the messages that the peer states a length for.
        let limit = core::mem::replace(&mut session.message_max, EVIDENCE_MAX);
        let body = Body::Copied(statement);
        self.room.hold(body.len());
        let message = Queued {
            id,
            kind: Kind::Request,
            body,
            cookie: 0,
            waited: false,
            streamed: false,
            deadline: Instant::FAR,
            aborted: false,
            early: false,
        };
        let begun = self.begin(slot, message, now);
        debug_assert!(begun.is_ok(), "a statement is no longer than evidence may be");
        self.at(slot).message_max = limit;
        self.counters.evidence_shown += 1;
    }

    // ---- What comes ----

    /// Whether an RPC with that peer is about evidence.
    pub(crate) fn is_evidence(&self, peer: u32, rpc: RpcId) -> bool {
        let session = self.sessions[peer as usize].as_ref();
        rpc.sequence() == SEQUENCE
            && session.is_some_and(|session| {
                let ours = rpc.began() == session.side;
                let awaits = |of: &Attesting| if ours { of.awaits_verdict } else { of.awaits_evidence || of.failed };
                session.attesting.as_deref().is_some_and(awaits)
            })
    }

    /// A message about evidence is complete. It is not for the application.
    pub(crate) fn evidence_came(&mut self, call: u32, peer: u32, rpc: RpcId, state: RpcState, payload: &Payload) {
        let now = self.at(peer).heard;
        let (side, theirs) = {
            let session = self.at(peer);
            (session.side, session.attesting.as_ref().map(|attesting| attesting.theirs.clone()))
        };
        let Some(theirs) = theirs else { return };
        if rpc.began() == side {
            self.ended.push(call);
            return self.verdict_came(now, peer, payload);
        }
        let policy = self.config.attest.policy.clone();
        let attesting = self.at(peer).attesting.as_mut().filter(|of| !of.failed && of.came.is_none());
        let (Some(attesting), Some(policy)) = (attesting, policy) else { return };
        attesting.came = Some(rpc);
        if state != RpcState::InService {
            self.ended.push(call);
            let why = EvidenceError::Malformed("it is not a request");
            self.counters.evidence_refused += 1;
            return self.attestation_failed(now, peer, &Error::Evidence { whose: side.peer(), why }, None);
        }
        let unix_seconds = self.config.unix_seconds_at_zero + now.as_nanos() / 1_000_000_000;
        let statement = payload.to_vec();
        self.work(now, peer, Task::Judge { policy, statement, binding: theirs, unix_seconds });
    }

    fn verdict_came(&mut self, now: Instant, slot: u32, payload: &Payload) {
        let whose = self.at(slot).side.peer();
        match payload.first() {
            None => {
                if let Some(attesting) = &mut self.at(slot).attesting {
                    attesting.awaits_verdict = false;
                }
                self.attestation_settled(slot, now);
            }
            Some(code) => {
                let verdict = Verdict::from_code(*code);
                self.attestation_failed(now, slot, &Error::EvidenceRefused { whose, verdict }, None);
            }
        }
    }

    /// The machine says that an RPC about evidence ended in another way than by being answered. True: the application is told nothing.
    pub(crate) fn evidence_ended(&mut self, event: &MachineEvent) -> bool {
        let (slot, why) = match *event {
            MachineEvent::Failed { slot, why, .. } => (slot, Some(why)),
            MachineEvent::Released { slot, .. } => (slot, None),
        };
        let Some((rpc, peer, _)) = self.machine.rpc(slot) else { return false };
        let attesting = self.at(peer).attesting.as_mut();
        let Some(attesting) = attesting.filter(|_| rpc.sequence() == SEQUENCE) else { return false };
        // A peer that was refused knows it now; any other end leaves something awaited that does not come any more.
        if attesting.failed || why.is_some() {
            attesting.lost = why;
            self.evidence.timers.set(peer, Instant::ZERO);
        }
        self.drop_call(slot);
        true
    }

    // ---- Ends ----

    /// What one side demands is there: when that is all, the application's turn has come.
    fn attestation_settled(&mut self, slot: u32, now: Instant) {
        let session = self.at(slot);
        let awaits = |of: &Attesting| of.awaits_evidence || of.awaits_verdict || of.failed;
        if session.attesting.as_deref().is_none_or(awaits) {
            return;
        }
        let settled = session.attesting.take();
        self.evidence.timers.remove(slot);
        if settled.is_some_and(|settled| settled.may_send) {
            self.start_sending(slot, now);
        }
    }

    /// There will be no session: who waits for it is told why. With `linger` the peer is told first; else it hears CLOSE at once.
    fn attestation_failed(&mut self, now: Instant, slot: u32, why: &Error, linger: Option<Instant>) {
        let session = self.at(slot);
        let Some(attesting) = session.attesting.as_mut().filter(|attesting| !attesting.failed) else { return };
        attesting.failed = true;
        self.will_not_be(slot, why);
        // Also without a farewell to wait for this is done later: whoever called is in the middle of something.
        self.evidence.timers.set(slot, linger.unwrap_or(now));
    }

    /// Sessions whose evidence did not come in time, or was refused, end.
    pub(crate) fn attestation_timeouts(&mut self, now: Instant) {
        while let Some((_, slot)) = self.evidence.timers.peek().filter(|(at, _)| *at <= now) {
            self.evidence.timers.remove(slot);
            let session = self.at(slot);
            let Some(attesting) = session.attesting.as_ref() else { continue };
            if attesting.failed {
                self.say_farewell(slot);
                continue;
            }
            let why = match (attesting.lost, session.side.peer()) {
                (Some(Failure::Refused(_)), whose) => Error::EvidenceRefused { whose, verdict: Verdict::Other },
                _ => Error::TimedOut { stage: Stage::Evidence },
            };
            self.attestation_failed(now, slot, &why, None);
        }
    }

    fn say_farewell(&mut self, slot: u32) {
        self.tidy();
        self.at(slot).closing = true;
        self.machine.close_peer(slot, Failure::SessionClosed);
        self.drain_machine();
        self.notices.push_back((slot, Frame::Close));
    }

    /// Whether anything of that session waits for evidence: then the application must not send in it.
    pub(crate) fn holds_back(&mut self, slot: u32) -> bool {
        let Some(attesting) = &mut self.at(slot).attesting else { return false };
        attesting.may_send = true;
        true
    }

    /// The session ends in the middle: who waits for it is told.
    pub(crate) fn attestation_cut(&mut self, slot: u32) {
        if self.at(slot).attesting.is_some() {
            let (whose, verdict) = (self.at(slot).side.peer(), Verdict::Other);
            self.attestation_failed(Instant::ZERO, slot, &Error::EvidenceRefused { whose, verdict }, None);
            self.evidence.timers.remove(slot);
        }
    }
}
