//! Owns the time trace: what happened to each message and when, in a ring of fixed size that stops turning when something took too long.
//!
//! One writer, under the lock that the endpoint is under anyway: docs/decisions/0035-time-trace.md. A mark is written into the ring; one that
//! begins or ends a call is also looked up in a table. Off by default: then each place costs one branch. It judges nothing and draws nothing.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use proto::time::Instant;
use wire::ids::RpcId;

/// Calls whose beginning is remembered. More are open only where something is very wrong; then all are forgotten.
const OPEN_MAX: usize = 1 << 16;
/// Marks that are kept at most: 32 MB of them.
const MARKS_MAX: usize = 1 << 20;

/// What happened to a message. What the number of a [`Mark`] says stands behind each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Step {
    /// The application gave it: its bytes.
    Submitted,
    /// Packets of it left: so many.
    Sent,
    /// It left in a bundle with others: so many messages.
    Bundled,
    /// Packets of it left again: so many.
    Repeated,
    /// Its receiver granted: up to this byte.
    Granted,
    /// Its receiver misses something: from this byte on.
    Missed,
    /// We granted to its sender: up to this byte.
    Grants,
    /// We asked its sender for what is missing: from this byte on.
    Misses,
    /// A record of it was opened: its index.
    Opened,
    /// It was complete, and a request: its bytes.
    Request,
    /// It was complete, and the response to one of ours: its bytes.
    Response,
    /// It was complete, and wants no response: its bytes.
    OneWay,
    /// The application answered: bytes of the response.
    Replied,
    /// It ended without a response: given up, refused, or its peer was lost. 1 if it may have been done nevertheless.
    Failed,
}

impl Step {
    /// As it is written in traces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Sent => "sent",
            Self::Bundled => "bundled",
            Self::Repeated => "repeated",
            Self::Granted => "granted",
            Self::Missed => "missed",
            Self::Grants => "grants",
            Self::Misses => "misses",
            Self::Opened => "opened",
            Self::Request => "request",
            Self::Response => "response",
            Self::OneWay => "one-way",
            Self::Replied => "replied",
            Self::Failed => "failed",
        }
    }
}

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When, as the socket's clock counts.
    pub at: Instant,
    /// What.
    pub step: Step,
    /// With which peer: the number of its session here.
    pub peer: u32,
    /// In which RPC.
    pub rpc: RpcId,
    /// What [`Step`] says.
    pub value: u32,
}

/// Why a trace stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// With which peer.
    pub peer: u32,
    /// Which RPC.
    pub rpc: RpcId,
    /// How long it took: from submission to response or failure, or from request to reply.
    pub took: Duration,
}

/// What happened before something took too long; or before somebody wanted to know. Its text is what `sealane trace render` reads.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TimeTrace {
    /// What took too long. `None` when the trace was stopped by hand.
    pub cause: Option<Cause>,
    /// Everything that happened, the oldest first.
    pub marks: Vec<Mark>,
    /// Where each peer was whose session still exists.
    pub peers: Vec<(u32, SocketAddr)>,
}

impl fmt::Display for TimeTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "sealane-time-trace 1")?;
        if let Some(Cause { peer, rpc, took }) = self.cause {
            writeln!(f, "cause {peer} {rpc:?} {}", took.as_nanos())?;
        }
        for (peer, address) in &self.peers {
            writeln!(f, "peer {peer} {address}")?;
        }
        for Mark { at, step, peer, rpc, value } in &self.marks {
            writeln!(f, "{} {} {peer} {rpc:?} {value}", at.as_nanos(), step.name())?;
        }
        Ok(())
    }
}

/// A ring that turns.
struct Ring {
    now: Instant,
    slow: Duration,
    marks: Box<[Mark]>,
    /// How many were made. The next one goes to this place modulo the ring's length.
    count: u64,
    /// When calls that are open began, here or at the peer. Kept while the ring stands still: they end meanwhile.
    open: HashMap<(u32, RpcId), Instant>,
    cause: Option<Cause>,
}

/// The time trace of an endpoint, if it has one.
#[derive(Default)]
pub(crate) struct Trail(Option<Box<Ring>>);

impl Trail {
    /// One that keeps so many marks, and stops at calls that take longer than `slow`.
    pub(crate) fn new(wanted: Option<(Duration, usize)>) -> Self {
        Self(wanted.filter(|(_, marks)| *marks > 0).map(|(slow, marks)| {
            let rpc = RpcId::from_u48(0).expect("the first");
            let none = Mark { at: Instant::ZERO, step: Step::Submitted, peer: 0, rpc, value: 0 };
            let marks = vec![none; marks.min(MARKS_MAX)].into();
            Box::new(Ring { now: Instant::ZERO, slow, marks, count: 0, open: HashMap::new(), cause: None })
        }))
    }

    /// Whether marks are kept.
    #[inline]
    pub(crate) const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// What follows happens now.
    #[inline]
    pub(crate) fn look(&mut self, now: Instant) {
        if let Some(ring) = &mut self.0 {
            ring.now = now;
        }
    }

    /// This happened.
    #[inline]
    pub(crate) fn mark(&mut self, step: Step, peer: u32, rpc: RpcId, value: u32) {
        if let Some(ring) = &mut self.0 {
            ring.mark(step, peer, rpc, value);
        }
    }

    /// The application gives a message now. Only of a call something is awaited.
    #[inline]
    pub(crate) fn submitted(&mut self, now: Instant, peer: u32, rpc: RpcId, bytes: u32, is_call: bool) {
        if let Some(ring) = &mut self.0 {
            ring.now = now;
            ring.mark(Step::Submitted, peer, rpc, bytes);
            if is_call {
                ring.begin(peer, rpc);
            }
        }
    }

    /// Of this RPC nothing is awaited any more, whatever became of it.
    #[inline]
    pub(crate) fn forget(&mut self, peer: u32, rpc: RpcId) {
        if let Some(ring) = &mut self.0 {
            ring.open.remove(&(peer, rpc));
        }
    }

    /// This happens now.
    #[inline]
    pub(crate) fn mark_at(&mut self, now: Instant, step: Step, peer: u32, rpc: RpcId, value: u32) {
        if let Some(ring) = &mut self.0 {
            ring.now = now;
            ring.mark(step, peer, rpc, value);
        }
    }

    /// What is in the ring if it stopped, or in any case; it turns again from then on.
    pub(crate) fn take(&mut self, even_if_it_turns: bool) -> Option<(Option<Cause>, Vec<Mark>)> {
        let ring = self.0.as_mut().filter(|ring| even_if_it_turns || ring.cause.is_some())?;
        let kept = ring.count.min(ring.marks.len() as u64);
        let at = |number: u64| ring.marks[(number % ring.marks.len() as u64) as usize];
        let marks = (ring.count - kept..ring.count).map(at).collect();
        ring.count = 0;
        Some((ring.cause.take(), marks))
    }
}

impl Ring {
    #[cold]
    #[inline(never)]
    fn mark(&mut self, step: Step, peer: u32, rpc: RpcId, value: u32) {
        let began = match step {
            Step::Request => {
                self.begin(peer, rpc);
                None
            }
            Step::Response | Step::Replied | Step::Failed => self.open.remove(&(peer, rpc)),
            _ => None,
        };
        if self.cause.is_some() {
            return;
        }
        let len = self.marks.len() as u64;
        self.marks[(self.count % len) as usize] = Mark { at: self.now, step, peer, rpc, value };
        self.count += 1;
        let took = began.map(|began| self.now.since(began));
        self.cause = took.filter(|took| *took >= self.slow).map(|took| Cause { peer, rpc, took });
    }

    fn begin(&mut self, peer: u32, rpc: RpcId) {
        if self.open.len() >= OPEN_MAX {
            self.open.clear();
        }
        self.open.insert((peer, rpc), self.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rpc(sequence: u64) -> RpcId {
        RpcId::from_u48(sequence << 1).expect("a name")
    }

    fn ms(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn it_stops_at_what_is_slow_and_turns_again_when_it_was_taken() {
        let mut trail = Trail::new(Some((Duration::from_millis(10), 4)));
        trail.submitted(ms(0), 7, rpc(1), 0, true);
        trail.mark_at(ms(9), Step::Response, 7, rpc(1), 0);
        trail.submitted(ms(20), 7, rpc(2), 0, true);
        assert!(trail.take(false).is_none(), "nothing was slow");
        trail.look(ms(21));
        trail.mark(Step::Sent, 7, rpc(2), 1);
        trail.look(ms(30));
        trail.mark(Step::Response, 7, rpc(2), 5);
        // It stands still: what follows would push out what led there.
        for _ in 0..9 {
            trail.mark(Step::Sent, 7, rpc(3), 1);
        }
        let (cause, marks) = trail.take(false).expect("it stopped");
        assert_eq!(cause, Some(Cause { peer: 7, rpc: rpc(2), took: Duration::from_millis(10) }));
        // Four of the five fit.
        let steps: Vec<_> = marks.iter().map(|mark| (mark.at, mark.step)).collect();
        let expected =
            [(ms(9), Step::Response), (ms(20), Step::Submitted), (ms(21), Step::Sent), (ms(30), Step::Response)];
        assert_eq!(steps, expected);
        trail.mark(Step::Sent, 7, rpc(3), 1);
        let (cause, marks) = trail.take(true).expect("by hand");
        assert_eq!((cause, marks.len()), (None, 1));
    }

    #[test]
    fn what_fails_is_slow_too_and_nothing_stays_open() {
        let open = |trail: &Trail| trail.0.as_ref().map_or(0, |ring| ring.open.len());
        let mut trail = Trail::new(Some((Duration::from_millis(10), 8)));
        trail.submitted(ms(0), 7, rpc(1), 0, true);
        trail.submitted(ms(0), 7, rpc(2), 0, true);
        trail.submitted(ms(0), 7, rpc(3), 0, false);
        trail.mark_at(ms(0), Step::Request, 7, rpc(4), 0);
        assert_eq!(open(&trail), 3, "nothing is awaited of a one-way message");
        trail.mark_at(ms(30), Step::Failed, 7, rpc(1), 1);
        // It stands still, and others end.
        trail.mark_at(ms(31), Step::Response, 7, rpc(2), 0);
        trail.forget(7, rpc(4));
        assert_eq!(open(&trail), 0);
        let (cause, marks) = trail.take(false).expect("it stopped");
        assert_eq!(cause, Some(Cause { peer: 7, rpc: rpc(1), took: Duration::from_millis(30) }));
        assert_eq!(marks.last().map(|mark| mark.step), Some(Step::Failed));
    }

    #[test]
    fn off_it_keeps_nothing() {
        for mut trail in [Trail::default(), Trail::new(None), Trail::new(Some((Duration::ZERO, 0)))] {
            trail.mark(Step::Submitted, 0, rpc(1), 0);
            assert!(!trail.is_on() && trail.take(true).is_none());
        }
    }
}
