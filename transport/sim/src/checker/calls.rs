//! Owns invariants 2, 3 and 6: what became of each call. It knows what was sent, by whom and to whom, and judges what endpoints tell.
//!
//! Of calls that a malicious host takes part in only that is asked which holds with any peer: that they end once, and run at most once.

use std::time::Duration;

use endpoint::error::Ended;
use endpoint::events::Event;
use endpoint::session::CallId;
use handshake::error::Error as HandshakeError;
use proto::io::Failure;
use proto::time::Instant;
use wire::control::RefusalCode;
use wire::trailer::Kind;

use super::bodies::is_body;
use super::paths::Paths;
use crate::clock::Time;
use crate::rng::FastMap;
use crate::wiretap::Wiretap;

/// A deadline is a timer: who waits is told when it fires, or when a clock that jumped ahead is looked at again.
const LATE: Duration = Duration::from_millis(25);

/// What a broken rule is, and which.
pub type Broken = (u8, String);

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// With its response; a one-way message by its acknowledgement.
    Reply,
    /// With an error.
    Error,
    /// Its caller gave it up.
    Cancelled,
    /// Its caller crashed.
    Crashed,
    /// The endpoint did not take it.
    NotTaken,
}

impl End {
    /// All ends, with their names.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Reply, "reply"),
        (Self::Error, "error"),
        (Self::Cancelled, "cancelled"),
        (Self::Crashed, "crashed"),
        (Self::NotTaken, "not_taken"),
    ];
}

/// A call as its caller wants it.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Who calls.
    pub from: u32,
    /// Whom.
    pub to: u32,
    /// Request or one-way.
    pub kind: Kind,
    /// Bytes of it.
    pub len: usize,
    /// Bytes of its response.
    pub response_len: usize,
    /// By the caller's own clock.
    pub deadline: Instant,
    /// The caller will give it up, or has a deadline: it need not be answered.
    pub patient: bool,
    /// Nothing disturbs it: it must be answered.
    pub must_succeed: bool,
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// What was wanted.
    pub wish: Wish,
    /// When it began.
    pub begun: Time,
    /// Its name at its caller.
    pub name: Option<CallId>,
    /// How it ended.
    pub end: Option<End>,
    /// The receiver's application had it.
    pub ran: bool,
    /// It was answered.
    pub replied: bool,
    /// It was refused.
    pub refused: bool,
    /// Its caller was told that it has not run and will not.
    cannot_run: bool,
}

/// All calls.
#[derive(Debug)]
pub struct Calls {
    seed: u64,
    malicious: Option<u32>,
    calls: Vec<Call>,
    /// Calls by caller, its name of the session, and RPC.
    names: FastMap<(u32, u64, u64), u64>,
    /// RPCs of a malicious host that ran somewhere.
    strange: FastMap<(u32, u64, u64), ()>,
    open: u64,
    /// Keys wear out so soon that a message that is stuck may use up its attempts. [P-3.4]
    pub worn: bool,
    /// How many ended how, in the order of [`End::ALL`].
    pub ends: [u64; End::ALL.len()],
}

fn key(host: u32, id: CallId) -> (u32, u64, u64) {
    (host, id.session.as_u64(), id.rpc.as_u48())
}

impl Calls {
    /// No call yet, in the world of `seed`.
    #[must_use]
    pub fn new(seed: u64, malicious: Option<u32>) -> Self {
        let (names, strange) = (FastMap::default(), FastMap::default());
        Self { seed, malicious, calls: Vec::new(), names, strange, open: 0, worn: false, ends: [0; End::ALL.len()] }
    }

    /// A call begins; its number is the cookie to send it with.
    pub fn begin(&mut self, now: Time, wish: Wish) -> u64 {
        self.open += 1;
        let (name, end) = (None, None);
        let (ran, replied, refused, cannot_run) = (false, false, false, false);
        self.calls.push(Call { wish, begun: now, name, end, ran, replied, refused, cannot_run });
        self.calls.len() as u64 - 1
    }

    /// Its caller's endpoint took it, or did not.
    pub fn taken(&mut self, call: u64, name: Option<CallId>) {
        let at = &mut self.calls[call as usize];
        at.name = name;
        match name {
            Some(name) => drop(self.names.insert(key(at.wish.from, name), call)),
            None => self.close(call, End::NotTaken),
        }
    }

    fn close(&mut self, call: u64, end: End) {
        let at = &mut self.calls[call as usize];
        if at.end.is_none() {
            at.end = Some(end);
            self.open -= 1;
            self.ends[End::ALL.iter().position(|(e, _)| *e == end).expect("all ends are listed")] += 1;
        }
    }

    /// Its caller gives it up.
    pub fn cancel(&mut self, call: u64) {
        self.close(call, End::Cancelled);
    }

    /// A host stops: nobody waits any more for what it began.
    pub fn crash(&mut self, host: u32) {
        for call in 0..self.calls.len() as u64 {
            if self.calls[call as usize].wish.from == host {
                self.close(call, End::Crashed);
            }
        }
    }

    /// The application answers, or refuses.
    pub fn answered(&mut self, call: u64, refused: bool) {
        let at = &mut self.calls[call as usize];
        at.replied |= !refused;
        at.refused |= refused;
    }

    /// A call.
    #[must_use]
    pub fn get(&self, call: u64) -> &Call {
        &self.calls[call as usize]
    }

    /// How many began.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.calls.len() as u64
    }

    /// How many have not ended.
    #[must_use]
    pub const fn open(&self) -> u64 {
        self.open
    }

    /// One that has not ended.
    #[must_use]
    pub fn first_open(&self) -> Option<(usize, &Call)> {
        self.calls.iter().enumerate().find(|(_, call)| call.end.is_none())
    }

    fn concerns_malicious(&self, call: &Call) -> bool {
        self.malicious.is_some_and(|host| call.wish.from == host || call.wish.to == host)
    }

    /// An endpoint tells something. Gives the call of a request or one-way message that arrived, if it is one of ours.
    ///
    /// # Errors
    /// What must not be.
    pub fn event(
        &mut self,
        host: u32,
        local: Instant,
        event: &Event,
        (wiretap, paths): (&Wiretap, &Paths),
    ) -> Result<Option<u64>, Broken> {
        match event {
            Event::Request { id, payload, .. } => self.runs(host, *id, Kind::Request, payload, wiretap),
            Event::OneWay { id, payload, .. } => self.runs(host, *id, Kind::OneWay, payload, wiretap),
            Event::Response { id, cookie, payload, .. } => self.response(host, *id, *cookie, payload).map(|()| None),
            Event::Arrived { id, cookie, .. } => self.acknowledged(host, *id, *cookie).map(|()| None),
            Event::Failed { id, cookie, why, may_have_run, .. } => {
                self.ours(host, *id, *cookie)?;
                self.failed(*cookie, why, *may_have_run, local, (wiretap, paths)).map(|()| None)
            }
            _ => Ok(None),
        }
    }

    /// A message reaches an application.
    fn runs(
        &mut self,
        host: u32,
        id: CallId,
        kind: Kind,
        payload: &[u8],
        wiretap: &Wiretap,
    ) -> Result<Option<u64>, Broken> {
        let Some((_, session)) = wiretap.session(host, id.session.as_u64()) else {
            return Err((4, format!("host {host} has a message in a session that nobody opened: {id:?}")));
        };
        let (from, name) = session.far(session.side(host));
        if Some(from) == self.malicious {
            // It may send whatever it likes, but nothing twice.
            return match self.strange.insert(key(host, id), ()) {
                Some(()) => Err((2, format!("host {host} ran {id:?} of the malicious host twice"))),
                None => Ok(self.names.get(&(from, name, id.rpc.as_u48())).copied()),
            };
        }
        let Some(&number) = self.names.get(&(from, name, id.rpc.as_u48())) else {
            return Err((4, format!("host {host} has a message that host {from} never sent: {id:?}")));
        };
        let call = &mut self.calls[number as usize];
        if call.wish.to != host || call.wish.kind != kind {
            return Err((3, format!("call {number} is not what was sent: {kind:?} at host {host}: {call:?}")));
        }
        if call.cannot_run {
            return Err((2, format!("call {number} ran after its caller was told that it cannot: {call:?}")));
        }
        if core::mem::replace(&mut call.ran, true) {
            return Err((2, format!("call {number} ran twice: {call:?}")));
        }
        if payload.len() != call.wish.len || !is_body(self.seed, number, false, payload) {
            return Err((3, format!("call {number} came altered: {} bytes: {call:?}", payload.len())));
        }
        Ok(Some(number))
    }

    /// An event is of a call that its caller has open.
    fn ours(&self, host: u32, id: CallId, cookie: u64) -> Result<(), Broken> {
        let Some(call) = self.calls.get(cookie as usize) else {
            return Err((2, format!("host {host} was told of call {cookie}, which there is not")));
        };
        if call.wish.from != host || call.name.is_some_and(|name| name != id) {
            return Err((2, format!("host {host} was told of call {cookie} as {id:?}: {call:?}")));
        }
        match call.end {
            Some(_) => Err((2, format!("call {cookie} ended twice: {call:?}"))),
            None => Ok(()),
        }
    }

    fn response(&mut self, host: u32, id: CallId, cookie: u64, payload: &[u8]) -> Result<(), Broken> {
        self.ours(host, id, cookie)?;
        let call = &self.calls[cookie as usize];
        if !self.concerns_malicious(call) {
            if !call.ran || !call.replied {
                return Err((2, format!("call {cookie} has a response that nobody gave: {call:?}")));
            }
            if payload.len() != call.wish.response_len || !is_body(self.seed, cookie, true, payload) {
                return Err((3, format!("the response to call {cookie} came altered: {call:?}")));
            }
        }
        self.close(cookie, End::Reply);
        Ok(())
    }

    fn acknowledged(&mut self, host: u32, id: CallId, cookie: u64) -> Result<(), Broken> {
        self.ours(host, id, cookie)?;
        let call = &self.calls[cookie as usize];
        if call.wish.kind != Kind::OneWay || !self.concerns_malicious(call) && !call.ran {
            return Err((2, format!("call {cookie} was acknowledged and never arrived: {call:?}")));
        }
        self.close(cookie, End::Reply);
        Ok(())
    }

    fn failed(
        &mut self,
        cookie: u64,
        why: &Ended,
        may_have_run: bool,
        local: Instant,
        (wiretap, paths): (&Wiretap, &Paths),
    ) -> Result<(), Broken> {
        let call = self.calls[cookie as usize];
        let strange = self.concerns_malicious(&call);
        self.close(cookie, End::Error);
        if !strange && !may_have_run {
            if call.ran {
                return Err((
                    2,
                    format!("call {cookie} ran, and its caller was told that it did not: {why}: {call:?}"),
                ));
            }
            self.calls[cookie as usize].cannot_run = true;
        }
        // That the end of a peer is only seen after silence, and how long that takes, is the configuration's.
        let live = !strange && paths.is_live(&call, wiretap);
        let fault = match why {
            Ended::Failed(Failure::Deadline) if local < call.wish.deadline => Some((6, "before its deadline")),
            Ended::Failed(Failure::Deadline) if local.since(call.wish.deadline) > LATE => {
                Some((6, "long after its deadline"))
            }
            Ended::Failed(Failure::Deadline) => None,
            Ended::Failed(Failure::Refused(RefusalCode::Aborted)) if strange || call.refused => None,
            Ended::Failed(Failure::Refused(_)) if strange => None,
            // It was sealed anew too often; a response like that ends in a refusal. Where nothing goes wrong, none is.
            Ended::Failed(Failure::KeysExhausted) if self.worn && !call.wish.must_succeed => None,
            Ended::Failed(Failure::Refused(RefusalCode::Aborted))
                if self.worn && call.ran && !call.wish.must_succeed =>
            {
                None
            }
            // A refusal is not remembered, and a response that was given up is not either: who asks again hears only that it
            // ran. [P-8.8]
            Ended::Failed(Failure::Refused(RefusalCode::Forgotten)) if call.ran && (!live || call.refused) => None,
            Ended::Failed(Failure::PeerSilent | Failure::SessionClosed | Failure::PeerRestarted) if !live => None,
            Ended::Failed(Failure::PeerRestarted)
                if self.worn && !call.wish.must_succeed && paths.may_be_worn_out(&call, wiretap) =>
            {
                None
            }
            Ended::Handshake(why) if !live && matches!(**why, HandshakeError::TimedOut { .. }) => None,
            Ended::Handshake(_) if strange => None,
            Ended::Failed(Failure::PeerSilent | Failure::SessionClosed | Failure::PeerRestarted)
            | Ended::Handshake(_) => Some((2, "although the path was alive")),
            _ => Some((2, "for no reason")),
        };
        match fault {
            Some((invariant, how)) => Err((invariant, format!("call {cookie} failed {how}: {why}: {call:?}"))),
            None if call.wish.must_succeed => Err((2, format!("call {cookie} must succeed: {why}: {call:?}"))),
            None => Ok(()),
        }
    }
}
