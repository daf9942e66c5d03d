//! Owns a client's process: it makes the load that its job says and times every operation. Closed loop: each connection has so many
//! operations outstanding. Open loop: operations come at a rate, whether or not earlier ones are answered, and are timed from when they
//! were to begin.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::datagrams::Datagrams;
use crate::links::{Links, Sealane, Streams};
use crate::tls::Credentials;
use crate::workload::{self, Chooser, Op, Random, Workload};

/// An open loop's tail is also taken of each such span, in which it has a thousand operations at ten thousand a second: where the machine
/// itself stands still for milliseconds, that is the tail of some of them instead of all.
const SPAN: Duration = Duration::from_millis(100);
/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(5);

/// What operations travel over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// TCP in clear text.
    Tcp,
    /// TLS 1.3 over TCP.
    Tls,
    /// Sealane.
    Sealane,
    /// Bare datagrams in clear text: what UDP costs by itself.
    Udp,
    /// Datagrams that are sealed once by a key of their client's: what encrypting costs besides.
    UdpIdeal,
}

impl Peer {
    /// Those that a user has, in the order of rows.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Tls, Self::Sealane];

    /// Those that show how far the others could get.
    pub const FLOORS: [Self; 2] = [Self::Udp, Self::UdpIdeal];

    /// As rows name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Sealane => "sealane",
            Self::Udp => "udp",
            Self::UdpIdeal => "udp-ideal",
        }
    }
}

/// Long replies among short ones.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Long {
    /// How many of all operations are GETs of a long value.
    pub share: f64,
    /// Long values that there are: keys `long:0` and so on.
    pub count: u64,
}

/// What one client process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub(crate) peer: Peer,
    pub(crate) server: SocketAddr,
    pub(crate) credentials: Credentials,
    /// Which of how many processes.
    pub(crate) of: (u64, u64),
    /// Connections, or sessions of installed secrets, or callers of one session.
    pub(crate) endpoints: usize,
    /// Each has a session of its own, with installed secrets, so that there can be many.
    pub(crate) installed: bool,
    pub(crate) workload: Workload,
    pub(crate) records: u64,
    pub(crate) value: usize,
    /// Operations of each connection that are under way, in a closed loop.
    pub(crate) outstanding: usize,
    /// Most commands of one message.
    pub(crate) per_message: usize,
    /// Operations a second of this process, in an open loop.
    pub(crate) rate: Option<f64>,
    pub(crate) long: Option<Long>,
    pub(crate) warm_ms: u64,
    pub(crate) measure_ms: u64,
    pub(crate) seed: u64,
    pub(crate) cpu: Option<usize>,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Operations that ended while it was measured.
    pub(crate) ops: u64,
    /// All operations, those of the warm-up included.
    pub(crate) all: u64,
    /// Errors among them.
    pub(crate) errors: u64,
    pub(crate) seconds: f64,
    /// Of short operations: nanoseconds, and how many had them.
    pub(crate) short: Vec<(u64, u64)>,
    pub(crate) long: Vec<(u64, u64)>,
    /// The 99th percentile of short operations of each span, in nanoseconds.
    pub(crate) spans: Vec<u64>,
}

struct Message {
    began: Instant,
    endpoint: usize,
    count: usize,
    is_long: bool,
    /// Records to be written back.
    changes: Vec<u64>,
}

/// Everything of one run.
pub(crate) struct Worker {
    job: Job,
    links: Box<dyn Links>,
    chooser: Chooser,
    random: Random,
    value: Vec<u8>,
    messages: Vec<Option<Message>>,
    free: Vec<usize>,
    bytes: Vec<u8>,
    done: Vec<(u64, bool)>,
    short: Histogram<u64>,
    long: Histogram<u64>,
    span: Histogram<u64>,
    outcome: Outcome,
    measuring: bool,
    open: usize,
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}

fn pairs(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value())).collect()
}

impl Worker {
    /// Connects.
    pub(crate) fn new(job: Job, install: &mut dyn FnMut(SocketAddr, usize, usize) -> Result<()>) -> Result<Self> {
        let sockets = if job.installed { job.endpoints } else { 1 };
        let links: Box<dyn Links> = match job.peer {
            Peer::Tcp => Box::new(Streams::connect(job.server, None, job.endpoints)?),
            Peer::Tls => Box::new(Streams::connect(job.server, Some(&job.credentials), job.endpoints)?),
            Peer::Sealane if job.installed => Box::new(Sealane::install(job.server, job.endpoints, install)?),
            Peer::Sealane => Box::new(Sealane::connect(job.server, &job.credentials, job.endpoints)?),
            Peer::Udp => Box::new(Datagrams::connect(job.server, sockets, false)?),
            Peer::UdpIdeal => Box::new(Datagrams::connect(job.server, sockets, true)?),
        };
        let chooser = Chooser::new(job.workload, job.records, job.seed, job.of);
        Ok(Self {
            links,
            chooser,
            random: Random::new(job.seed ^ 0x5555),
            value: vec![b'v'; job.value],
            messages: Vec::new(),
            free: Vec::new(),
            bytes: Vec::new(),
            done: Vec::new(),
            short: histogram()?,
            long: histogram()?,
            span: histogram()?,
            outcome: Outcome::default(),
            measuring: false,
            open: 0,
            job,
        })
    }

    /// Makes the load.
    pub(crate) fn run(mut self) -> Result<Outcome> {
        let begun = Instant::now();
        let warm = begun + Duration::from_millis(self.job.warm_ms);
        let end = warm + Duration::from_millis(self.job.measure_ms);
        match self.job.rate {
            None => self.closed(warm, end)?,
            Some(rate) => self.paced(rate, warm, end)?,
        }
        self.outcome.seconds = self.job.measure_ms as f64 / 1e3;
        (self.outcome.short, self.outcome.long) = (pairs(&self.short), pairs(&self.long));
        Ok(self.outcome)
    }

    fn closed(&mut self, warm: Instant, end: Instant) -> Result<()> {
        for endpoint in 0..self.job.endpoints {
            self.issue(endpoint, self.job.outstanding, Instant::now())?;
        }
        let mut freed = vec![0; self.job.endpoints];
        let mut dirty = Vec::new();
        loop {
            self.links.flush()?;
            let since = Instant::now();
            self.wait(SILENCE)?;
            let now = Instant::now();
            // A wait may end with a part of a reply.
            ensure!(
                !self.done.is_empty() || now.saturating_duration_since(since) < SILENCE,
                "no reply for five seconds"
            );
            self.measuring = now >= warm && now < end;
            if now >= end {
                return self.finish();
            }
            for (endpoint, count) in self.settle(now)? {
                if freed[endpoint] == 0 {
                    dirty.push(endpoint);
                }
                freed[endpoint] += count;
            }
            for endpoint in dirty.drain(..) {
                let count = std::mem::take(&mut freed[endpoint]);
                self.issue(endpoint, count, now)?;
            }
        }
    }

    fn paced(&mut self, rate: f64, warm: Instant, end: Instant) -> Result<()> {
        let mut next = Instant::now();
        let mut span_ends = warm + SPAN;
        loop {
            let now = Instant::now();
            if now >= end {
                return self.finish();
            }
            if now >= span_ends {
                self.outcome.spans.push(self.span.value_at_quantile(0.99));
                self.span.reset();
                span_ends = now + SPAN;
            }
            while next <= now {
                let endpoint = self.random.below(self.job.endpoints as u64) as usize;
                // Timed from when it was to begin; what is sent late was still to begin then.
                self.measuring = next >= warm;
                match self.job.long {
                    Some(long) if self.random.unit() < long.share => self.issue_long(endpoint, long, next)?,
                    _ => self.issue(endpoint, 1, next)?,
                }
                next += Duration::from_secs_f64(self.random.until_next(rate));
            }
            self.links.flush()?;
            self.wait(next.saturating_duration_since(Instant::now()))?;
            let now = Instant::now();
            self.measuring = now >= warm;
            self.settle(now)?;
        }
    }

    /// Waits for what is under way: the server is to be at rest for the next.
    fn finish(&mut self) -> Result<()> {
        self.measuring = false;
        let since = Instant::now();
        while self.open > 0 && since.elapsed() < Duration::from_secs(5) {
            self.links.flush()?;
            self.settle(Instant::now())?;
            self.wait(Duration::from_millis(100))?;
        }
        self.settle(Instant::now())?;
        Ok(())
    }

    fn wait(&mut self, most: Duration) -> Result<()> {
        let done = &mut self.done;
        self.links.wait(most, &mut |tag, error| done.push((tag, error)))
    }

    /// Counts what ended; gives each connection's operations that may begin anew.
    fn settle(&mut self, now: Instant) -> Result<Vec<(usize, usize)>> {
        let mut freed = Vec::with_capacity(self.done.len());
        for (tag, error) in std::mem::take(&mut self.done) {
            let Some(mut message) = self.messages[tag as usize].take() else { continue };
            self.free.push(tag as usize);
            self.open -= 1;
            self.outcome.errors += u64::from(error);
            let changes = std::mem::take(&mut message.changes);
            let ended = message.count - changes.len();
            self.outcome.all += ended as u64;
            if self.measuring && ended > 0 {
                self.outcome.ops += ended as u64;
                let nanos = now.saturating_duration_since(message.began).as_nanos().max(1) as u64;
                if message.is_long {
                    self.long.saturating_record_n(nanos, ended as u64);
                } else {
                    self.short.saturating_record_n(nanos, ended as u64);
                    self.span.saturating_record_n(nanos, ended as u64);
                }
            }
            if !changes.is_empty() {
                self.bytes.clear();
                for record in &changes {
                    workload::write(&mut self.bytes, Op::Update(*record), &self.value);
                }
                let (endpoint, began) = (message.endpoint, message.began);
                let count = changes.len();
                self.send(Message { began, endpoint, count, is_long: false, changes: Vec::new() })?;
            }
            if ended > 0 {
                freed.push((message.endpoint, ended));
            }
        }
        Ok(freed)
    }

    fn send(&mut self, message: Message) -> Result<()> {
        let tag = self.free.pop().unwrap_or(self.messages.len());
        self.links.send(message.endpoint, tag as u64, &self.bytes, message.count)?;
        self.open += 1;
        match self.messages.get_mut(tag) {
            Some(free) => *free = Some(message),
            None => self.messages.push(Some(message)),
        }
        Ok(())
    }

    /// So many operations, in messages.
    fn issue(&mut self, endpoint: usize, mut count: usize, began: Instant) -> Result<()> {
        while count > 0 {
            let now = count.min(self.job.per_message);
            count -= now;
            self.bytes.clear();
            let mut changes = Vec::new();
            for _ in 0..now {
                let op = self.chooser.next();
                if let Op::ReadToChange(record) = op {
                    changes.push(record);
                }
                workload::write(&mut self.bytes, op, &self.value);
            }
            self.send(Message { began, endpoint, count: now, is_long: false, changes })?;
        }
        Ok(())
    }

    fn issue_long(&mut self, endpoint: usize, long: Long, began: Instant) -> Result<()> {
        let key = format!("long:{}", self.random.below(long.count));
        self.bytes.clear();
        crate::resp::command(&mut self.bytes, &[b"GET", key.as_bytes()]);
        self.send(Message { began, endpoint, count: 1, is_long: true, changes: Vec::new() })
    }
}
