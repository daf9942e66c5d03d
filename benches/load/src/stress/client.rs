//! One client of a stress run: a socket, a session at a time, and the books of what it asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use sealane::fault::{Faults, Faulty, Tally};
use sealane::{Delivery, Identity, Peer, Socket, Trust, Wait};

use super::Shape;
use super::message::Content;
use crate::certs::{Credentials, SERVER_NAME};
use crate::spec::MESSAGE_BYTES_MAX;

/// Longest time of which latencies tell, in nanoseconds.
const LATENCY_MAX: u64 = 600_000_000_000;

/// How long a client sleeps at most before it looks whether something is late.
const LOOK: Duration = Duration::from_millis(100);

/// Messages that are so late wait among these for their answers.
type Waiting = HashMap<u64, Instant>;

/// What became of what was asked.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) asked: u64,
    pub(super) verified: u64,
    /// Of these, answered while requests were still begun.
    pub(super) in_time: u64,
    pub(super) corrupt: u64,
    pub(super) errors: u64,
    pub(super) timeouts: u64,
    pub(super) drops: u64,
    pub(super) sessions: u64,
    pub(super) latency: Histogram<u64>,
    pub(super) first_fault: Option<String>,
}

impl Books {
    pub(super) fn new() -> Result<Self> {
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX, 3)?;
        let (asked, verified, in_time, corrupt, errors) = (0, 0, 0, 0, 0);
        let (timeouts, drops, sessions, first_fault) = (0, 0, 0, None);
        Ok(Self { asked, verified, in_time, corrupt, errors, timeouts, drops, sessions, latency, first_fault })
    }

    pub(super) fn add(&mut self, other: &Self) -> Result<()> {
        self.asked += other.asked;
        self.verified += other.verified;
        self.in_time += other.in_time;
        self.corrupt += other.corrupt;
        self.errors += other.errors;
        self.timeouts += other.timeouts;
        self.drops += other.drops;
        self.sessions += other.sessions;
        self.latency.add(&other.latency)?;
        if self.first_fault.is_none() {
            self.first_fault.clone_from(&other.first_fault);
        }
        Ok(())
    }

    fn fault(&mut self, why: impl FnOnce() -> String) {
        self.first_fault.get_or_insert_with(why);
    }
}

/// A client with an open session.
pub(super) struct Client {
    number: usize,
    socket: Socket,
    peer: Peer,
    content: Content,
    outstanding: usize,
    messages_per_session: Option<u64>,
    /// Messages that the session has taken.
    in_session: u64,
    timeout: Duration,
    /// Under way, by number.
    sent: Waiting,
    /// The same, too late.
    late: Waiting,
    books: Books,
}

impl Client {
    pub(super) fn new(
        number: usize,
        shape: &Shape,
        timeout: Duration,
        faults: Option<Faults>,
        port: u16,
        credentials: &Credentials,
    ) -> Result<(Self, Option<Tally>)> {
        let identity = &credentials.client;
        let mut builder = Socket::builder()
            .trust(Trust::pem(credentials.authority.as_bytes())?)
            .identity(Identity::pem(identity.certificate.as_bytes(), identity.key.as_bytes())?)
            .message_bytes_max(MESSAGE_BYTES_MAX)
            .resumption(false)
            .wait(Wait::Block);
        let (tell, told) = std::sync::mpsc::channel();
        if let Some(faults) = faults {
            builder = builder.danger_wrap(move |inner| {
                let faulty = Faulty::new(inner, faults);
                // Who asked waits for it.
                let _ = tell.send(faulty.tally());
                Box::new(faulty)
            });
        }
        let socket = builder.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let peer = socket.peer(SocketAddr::from(([127, 0, 0, 1], port)), SERVER_NAME)?;
        socket.connect(&peer)?;
        let mut books = Books::new()?;
        books.sessions = 1;
        let client = Self {
            number,
            socket,
            peer,
            content: Content::new(number, shape.size),
            outstanding: shape.outstanding,
            messages_per_session: shape.messages_per_session,
            in_session: 0,
            timeout,
            sent: Waiting::new(),
            late: Waiting::new(),
            books,
        };
        Ok((client, told.try_recv().ok()))
    }

    /// Asks for so long, waits for what is under way, and gives its books.
    pub(super) fn run(mut self, barrier: &Barrier, duration: Duration) -> Result<Books> {
        barrier.wait();
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.ask()?;
            self.take(end, end)?;
        }
        let last = Instant::now() + self.timeout;
        while !(self.sent.is_empty() && self.late.is_empty()) && Instant::now() < last {
            self.take(end, last)?;
        }
        self.books.drops = (self.sent.len() + self.late.len()) as u64;
        // Each of these had its time.
        self.books.timeouts += self.sent.len() as u64;
        if self.books.drops > 0 {
            let (number, drops) = (self.number, self.books.drops);
            self.books.fault(|| format!("client {number}: {drops} requests were never answered"));
        }
        Ok(self.books)
    }

    /// Begins as many requests as may be under way, in a new session where the old one has had its share.
    fn ask(&mut self) -> Result<()> {
        while self.sent.len() < self.outstanding {
            if self.messages_per_session.is_some_and(|most| self.in_session >= most) {
                if !self.sent.is_empty() {
                    return Ok(());
                }
                self.socket.disconnect(&self.peer)?;
                self.in_session = 0;
                self.books.sessions += 1;
            }
            let number = self.books.asked;
            let message = self.content.message(number);
            let at = Instant::now();
            self.books.asked += 1;
            self.in_session += 1;
            match self.socket.send(&self.peer, message, number) {
                Ok(_) => drop(self.sent.insert(number, at)),
                Err(error) => {
                    self.failed(number, &error);
                    // What is under way does not grow by it: to go on would be to spin here past the end.
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn failed(&mut self, number: u64, error: &sealane::Error) {
        self.books.errors += 1;
        let client = self.number;
        self.books.fault(|| format!("client {client}, message {number}: {error}"));
    }

    /// Takes what comes until `until` at most, and looks for what is late. What comes before `end` counts into the rate.
    fn take(&mut self, end: Instant, until: Instant) -> Result<()> {
        let span = until.saturating_duration_since(Instant::now()).min(LOOK);
        let mut next = self.socket.recv_timeout(span)?;
        let now = Instant::now();
        while let Some(delivery) = next {
            match delivery {
                Delivery::Response(response) => self.answered(response.cookie, &response.payload, now, now <= end),
                Delivery::Failed(failed) => {
                    if self.sent.remove(&failed.cookie).or(self.late.remove(&failed.cookie)).is_some() {
                        self.failed(failed.cookie, &failed.error);
                    }
                }
                other => bail!("the server sent {other:?}"),
            }
            next = if self.sent.is_empty() { None } else { self.socket.try_recv()? };
        }
        self.sweep(now);
        Ok(())
    }

    fn answered(&mut self, number: u64, reply: &[u8], now: Instant, in_time: bool) {
        let client = self.number;
        let Some(at) = self.sent.remove(&number).or_else(|| self.late.remove(&number)) else {
            self.books.corrupt += 1;
            return self
                .books
                .fault(|| format!("client {client}: an answer to message {number}, which nobody waits for"));
        };
        self.books.latency.saturating_record((now - at).as_nanos() as u64);
        match self.content.differs(number, reply) {
            None => {
                self.books.verified += 1;
                self.books.in_time += u64::from(in_time);
            }
            Some(byte) => {
                self.books.corrupt += 1;
                let len = reply.len();
                self.books
                    .fault(|| format!("client {client}, message {number}: byte {byte} of {len} is not as it was sent"));
            }
        }
    }

    /// What is too late makes room for others, and may still come.
    fn sweep(&mut self, now: Instant) {
        let Self { sent, late, books, timeout, number: client, .. } = self;
        sent.retain(|number, at| {
            let in_time = now - *at < *timeout;
            if !in_time {
                books.timeouts += 1;
                books.fault(|| format!("client {client}, message {number}: no answer within {timeout:?}"));
                late.insert(*number, *at);
            }
            in_time
        });
    }
}
