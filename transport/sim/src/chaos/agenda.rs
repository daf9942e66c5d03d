//! Owns what the driver of a run is going to do, in order of time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use endpoint::session::CallId;

use super::plan::Mishap;
use crate::clock::Time;

/// A request that its receiver's application has.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// Whose application.
    pub host: u32,
    /// In which of the host's lives.
    pub life: u32,
    /// Its name there.
    pub id: CallId,
    /// Which call it is; none of ours when a malicious host sent it.
    pub call: Option<u64>,
}

/// Something to do.
#[derive(Clone, Debug)]
pub enum Todo {
    /// The next call.
    Call,
    /// A late answer, or refusal.
    Answer(Served, bool),
    /// The caller gives up.
    Cancel(u64),
    /// Something goes wrong.
    Mishap(Mishap),
    /// A host is started again.
    Start(u32),
    /// The network is joined, if nothing cut it since.
    Join(u32),
    /// A stranger does something.
    Stranger,
    /// The malicious host does something.
    Insider,
    /// Nothing: so that what is due in between is not late.
    Tick,
}

#[derive(Debug)]
struct Entry(Time, u64, Todo);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    /// The other way round: the heap gives out its greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.0, other.1).cmp(&(self.0, self.1))
    }
}

/// What is to do.
#[derive(Debug, Default)]
pub struct Agenda {
    heap: BinaryHeap<Entry>,
    count: u64,
}

impl Agenda {
    /// To be done then.
    pub fn put(&mut self, at: Time, todo: Todo) {
        self.count += 1;
        self.heap.push(Entry(at, self.count, todo));
    }

    /// When something is to be done next.
    #[must_use]
    pub fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|entry| entry.0)
    }

    /// What is due.
    pub fn due(&mut self, now: Time) -> Option<Todo> {
        if self.next_at()? > now { None } else { self.heap.pop().map(|entry| entry.2) }
    }

    /// Keeps only what the filter says.
    pub fn retain(&mut self, stays: impl Fn(&Todo) -> bool) {
        self.heap.retain(|entry| stays(&entry.2));
    }
}
