//! Owns the record of a run: a hash of everything that happened, and on request one line of JSON for each thing.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io::Write;

use endpoint::events::Event;

use crate::clock::Time;
use crate::rng::mix;

/// Most facts of an entry that are kept for [`Trace::last`].
const FACTS_KEPT: usize = 8;

/// An entry that is kept for later.
#[derive(Clone, Copy, Debug)]
struct Kept {
    now: Time,
    what: &'static str,
    facts: [(&'static str, u64); FACTS_KEPT],
    count: usize,
}

/// What happened.
pub struct Trace {
    hash: u64,
    entries: u64,
    lines: Option<Box<dyn Write + Send>>,
    line: String,
    last: VecDeque<Kept>,
    last_max: usize,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("hash", &self.hash).field("entries", &self.entries).finish_non_exhaustive()
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            hash: 0x5ea1_a4e5_ea1a_4e00,
            entries: 0,
            lines: None,
            line: String::new(),
            last: VecDeque::new(),
            last_max: 0,
        }
    }
}

/// One entry as a line of JSON.
fn print(line: &mut String, now: Time, what: &str, facts: &[(&'static str, u64)]) {
    let _ = write!(line, "{{\"t\":{now},\"what\":\"{what}\"");
    for (name, value) in facts {
        let _ = write!(line, ",\"{name}\":{value}");
    }
    line.push('}');
}

impl Trace {
    /// Also writes each entry as a line of JSON: `{"t":picoseconds,"what":"send",...}`.
    pub fn write_to(&mut self, lines: Box<dyn Write + Send>) {
        self.lines = Some(lines);
    }

    /// Keeps the last entries, for whoever asks what came before something.
    pub fn keep_last(&mut self, entries: usize) {
        self.last_max = entries;
    }

    fn keep(&mut self, now: Time, what: &'static str, facts: &[(&'static str, u64)]) {
        if self.last.len() >= self.last_max {
            self.last.pop_front();
        }
        let mut kept = Kept { now, what, facts: [("", 0); FACTS_KEPT], count: facts.len().min(FACTS_KEPT) };
        kept.facts[..kept.count].copy_from_slice(&facts[..kept.count]);
        self.last.push_back(kept);
    }

    /// The last entries as lines of JSON, the oldest first.
    #[must_use]
    pub fn last(&self) -> Vec<String> {
        let line = |kept: &Kept| {
            let mut line = String::new();
            print(&mut line, kept.now, kept.what, &kept.facts[..kept.count]);
            line
        };
        self.last.iter().map(line).collect()
    }

    /// Writes out what is still in memory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> std::io::Result<()> {
        self.lines.as_mut().map_or(Ok(()), |lines| lines.flush())
    }

    /// Something happened, and what there is to say of it.
    pub fn note(&mut self, now: Time, what: &'static str, facts: &[(&'static str, u64)]) {
        self.entries += 1;
        let mut hash = mix(self.hash ^ now) ^ what.len() as u64 ^ u64::from(what.as_bytes()[0]);
        for (_, value) in facts {
            hash = mix(hash ^ value);
        }
        self.hash = hash;
        if self.last_max > 0 {
            self.keep(now, what, facts);
        }
        if let Some(lines) = &mut self.lines {
            self.line.clear();
            print(&mut self.line, now, what, facts);
            self.line.push('\n');
            // A trace that cannot be written any more ends; the run does not depend on it.
            if lines.write_all(self.line.as_bytes()).is_err() {
                self.lines = None;
            }
        }
    }

    /// An endpoint told something.
    pub fn event(&mut self, now: Time, host: u32, event: &Event) {
        let host = ("host", u64::from(host));
        match event {
            Event::Request { payload, .. } => self.note(now, "request", &[host, ("len", payload.len() as u64)]),
            Event::OneWay { payload, .. } => self.note(now, "one_way", &[host, ("len", payload.len() as u64)]),
            Event::Response { cookie, payload, .. } => {
                self.note(now, "response", &[host, ("len", payload.len() as u64), ("cookie", *cookie)]);
            }
            Event::Answer { payload, .. } => self.note(now, "answer", &[host, ("len", payload.len() as u64)]),
            Event::Stream { length, .. } => self.note(now, "stream", &[host, ("len", *length as u64)]),
            Event::Readable { .. } => self.note(now, "readable", &[host]),
            Event::Failed { cookie, may_have_run, .. } => {
                self.note(now, "failed", &[host, ("cookie", *cookie), ("may_have_run", u64::from(*may_have_run))]);
            }
            Event::Arrived { cookie, .. } => self.note(now, "acknowledged", &[host, ("cookie", *cookie)]),
            Event::Cancelled { .. } => self.note(now, "cancelled", &[host]),
            Event::Connected { .. } => self.note(now, "connected", &[host]),
            Event::Moved { .. } => self.note(now, "moved", &[host]),
            Event::ConnectFailed { .. } => self.note(now, "connect_failed", &[host]),
        }
    }

    /// The same for the same run, bit for bit; another for any other run.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// How many things happened.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.entries
    }
}
