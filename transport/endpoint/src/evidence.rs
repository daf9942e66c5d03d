//! Owns what a session waits for before the application has it, what is computed for that, and the configuration. [P-6.16] When
//! what happens is in `attestation`.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use attest::binding::Binding;
use attest::claims::Report;
use attest::evidence::{Attester, Error, statement};
use attest::policy::Policy;
use proto::heap::IndexHeap;
use proto::io::Failure;
use proto::time::Instant;
use wire::ids::{RpcId, SessionId, Side};

/// The sequence that evidence has among what its side begins: a side that may have to show some begins nothing else with it.
pub(crate) const SEQUENCE: u64 = 0;
/// Evidence that is made or judged at once; what comes beyond is refused. Each holds 60 KB at most.
pub(crate) const WORKS_MAX: usize = 512;

/// What an endpoint shows of what runs in it, and what it wants to see of its peers.
#[derive(Clone, Debug, Default)]
pub struct Attest {
    /// Makes our evidence, for peers that demand it.
    pub attester: Option<Arc<dyn Attester>>,
    /// What peers must show. Without it nothing is demanded.
    pub policy: Option<Arc<Policy>>,
}

impl Attest {
    pub(crate) fn shows(&self) -> Option<u16> {
        self.attester.as_ref().map(|attester| attester.format().code)
    }

    pub(crate) fn demands(&self) -> Option<Vec<u16>> {
        self.policy.as_ref().map(|policy| policy.formats().collect())
    }
}

/// A session whose evidence is not settled.
#[derive(Debug)]
pub(crate) struct Attesting {
    /// The peer must show evidence, and none was found good.
    pub(crate) awaits_evidence: bool,
    /// The peer judges ours.
    pub(crate) awaits_verdict: bool,
    /// The handshake lets the application send.
    pub(crate) may_send: bool,
    /// The peer's evidence is here, and is judged or was.
    pub(crate) came: Option<RpcId>,
    /// It was refused, or cannot come: only the farewell is left.
    pub(crate) failed: bool,
    /// Its RPC, or ours, ended without what was awaited.
    pub(crate) lost: Option<Failure>,
    /// What the peer's evidence must contain.
    pub(crate) theirs: Binding,
}

impl Attesting {
    /// Whether a message of the peer's must not be looked at now: all but the evidence and the answer to ours.
    pub(crate) fn leaves_unread(&self, rpc: RpcId, side: Side) -> bool {
        let ours = rpc.began() == side;
        let evidence = rpc.sequence() == SEQUENCE && (!ours || self.awaits_verdict);
        (self.awaits_evidence || self.failed) && !evidence
    }
}

/// What an endpoint has to do with evidence.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) works: VecDeque<Work>,
    /// Handed out or waiting, and not done.
    pub(crate) under_way: usize,
    /// Sessions that are not settled, and when they are given up.
    pub(crate) timers: IndexHeap<Instant>,
}

/// Evidence to be made or judged: milliseconds of computing, which change nothing until [`crate::endpoint::Endpoint::work_done`] is told.
/// So a driver may let another thread do it.
pub struct Work {
    pub(crate) session: SessionId,
    pub(crate) task: Task,
}

pub(crate) enum Task {
    Make { attester: Arc<dyn Attester>, binding: Binding },
    Judge { policy: Arc<Policy>, statement: Vec<u8>, binding: Binding, unix_seconds: u64 },
}

/// What came of a [`Work`].
pub struct Done {
    pub(crate) session: SessionId,
    pub(crate) outcome: Outcome,
}

pub(crate) enum Outcome {
    Made(Result<Vec<u8>, Error>),
    Judged(Result<Report, Error>),
}

impl Work {
    /// Does it. A platform's library that panics has failed, and takes nobody along.
    #[must_use]
    pub fn run(self) -> Done {
        // Nothing that may be left half done is seen again: the parts are shared and cannot be changed from here.
        let attempt = |task: &dyn Fn() -> Outcome| catch_unwind(AssertUnwindSafe(task));
        let outcome = match &self.task {
            Task::Make { attester, binding } => attempt(&|| Outcome::Made(statement(&**attester, binding)))
                .unwrap_or_else(|_| Outcome::Made(Err(Error::Unavailable("its library panicked".to_owned())))),
            Task::Judge { policy, statement, binding, unix_seconds } => {
                attempt(&|| Outcome::Judged(policy.judge(statement, binding, *unix_seconds)))
                    .unwrap_or(Outcome::Judged(Err(Error::Malformed("its verifier panicked"))))
            }
        };
        Done { session: self.session, outcome }
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if matches!(self.task, Task::Make { .. }) { "make" } else { "judge" };
        write!(f, "Work({what}, {:?})", self.session)
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Done({:?})", self.session)
    }
}
