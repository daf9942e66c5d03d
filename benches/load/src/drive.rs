//! The loop that keeps messages under way and checks what comes back.
//!
//! Owns verification, latencies and the two ways to load a peer: so many messages outstanding (closed loop), or arrivals at a rate that
//! waits for nobody (open loop). A latency ends when the reply is handed over; checking its bytes comes after and does not count
//! into it. Refuses: knowing transports, and starting anything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use crate::client::{Client, REPLY_TIMEOUT};
use crate::pattern::Pattern;
use crate::spec::{Mode, OUTSTANDING_MAX, Spec};

/// After so many timeouts in one cell the peer has failed.
const TIMEOUTS_MAX: u32 = 5;

/// Empty looks between two looks at the clock.
const LOOKS: u32 = 256;

/// What one phase did.
#[derive(Debug)]
pub(crate) struct Phase {
    pub(crate) count: u64,
    pub(crate) elapsed: Duration,
}

/// A message on its way.
#[derive(Clone, Copy, Debug)]
struct Sent {
    id: u64,
    at: Instant,
}

/// No message has this number.
const NOBODY: u64 = u64::MAX;

pub(crate) struct Drive {
    client: Box<dyn Client>,
    pattern: Arc<Pattern>,
    pub(crate) latency: Histogram<u64>,
    /// Of the one message of another size, where there is one.
    pub(crate) beside: Histogram<u64>,
    is_beside_out: bool,
    /// What checking replies took, where that is asked for.
    checking: Option<Duration>,
    /// Whether arrivals wait for nobody, so that looking at the network may not wait either.
    is_open: bool,
    mode: Mode,
    outstanding: u64,
    in_flight: u64,
    next: u64,
    /// Message N stands at N modulo the length.
    sent: Vec<Sent>,
    pub(crate) verified: u64,
    pub(crate) corrupt: u64,
    pub(crate) lost: u64,
    timeouts: u32,
    last_progress: Instant,
    looks: u32,
}

impl Drive {
    pub(crate) fn new(spec: &Spec, client: Box<dyn Client>, pattern: Arc<Pattern>) -> Result<Self> {
        let now = Instant::now();
        // Replies may overtake each other; so far apart they do not get.
        let slots = if spec.open.is_some() { OUTSTANDING_MAX } else { spec.outstanding } * 64;
        let slots = slots.next_power_of_two();
        let histogram = || Histogram::new_with_bounds(1, 60_000_000_000, 3);
        Ok(Self {
            client,
            pattern,
            latency: histogram()?,
            beside: histogram()?,
            is_beside_out: false,
            checking: None,
            is_open: false,
            mode: spec.mode,
            outstanding: spec.outstanding as u64,
            in_flight: 0,
            next: 0,
            sent: vec![Sent { id: NOBODY, at: now }; slots],
            verified: 0,
            corrupt: 0,
            lost: 0,
            timeouts: 0,
            last_progress: now,
            looks: 0,
        })
    }

    /// Keeps the messages outstanding for so long and at least one reply, and leaves them so.
    pub(crate) fn run(&mut self, time: Duration) -> Result<Phase> {
        let start = Instant::now();
        self.last_progress = start;
        let (mut count, mut now) = (0, start);
        loop {
            let elapsed = now - start;
            if elapsed >= time && count > 0 {
                return Ok(Phase { count, elapsed });
            }
            self.issue()?;
            let (delivered, at) = self.receive()?;
            count += delivered;
            now = at.unwrap_or(now);
        }
    }

    /// The same for so many replies, and what it took without the checks: they are timed apart.
    pub(crate) fn run_count(&mut self, count: u64) -> Result<Duration> {
        let start = Instant::now();
        self.last_progress = start;
        self.checking = Some(Duration::ZERO);
        let mut done = 0;
        while done < count {
            self.issue()?;
            done += self.receive()?.0;
        }
        let elapsed = start.elapsed();
        Ok(elapsed - self.checking.take().unwrap_or_default())
    }

    /// Messages arrive at random (Poisson) at `rate` per second, for so long. Each latency begins when its message should have been
    /// sent, not when there was time for it.
    pub(crate) fn run_open(&mut self, rate: f64, time: Duration) -> Result<Phase> {
        self.is_open = true;
        let mut gaps = Gaps { state: 0x9E37_79B9_7F4A_7C15, mean_ns: 1e9 / rate };
        let start = Instant::now();
        self.last_progress = start;
        let (mut count, mut due) = (0, start + gaps.next());
        loop {
            let now = Instant::now();
            if now - start >= time {
                self.is_open = false;
                return Ok(Phase { count, elapsed: now - start });
            }
            let first = self.next;
            if self.pattern.has_beside() && !self.is_beside_out && self.take_slot(now) {
                self.pattern.set_beside(first);
                self.is_beside_out = true;
            }
            while due <= now && self.in_flight + (self.next - first) < OUTSTANDING_MAX as u64 && self.take_slot(due) {
                due += gaps.next();
            }
            if self.next > first {
                self.in_flight += self.next - first;
                self.client.send(first..self.next)?;
            }
            count += self.receive()?.0;
        }
    }

    /// The next message is on its way since `at`, if its slot is free.
    fn take_slot(&mut self, at: Instant) -> bool {
        let slots = self.sent.len() as u64;
        let slot = &mut self.sent[(self.next % slots) as usize];
        let is_free = slot.id == NOBODY;
        if is_free {
            *slot = Sent { id: self.next, at };
            self.next += 1;
        }
        is_free
    }

    /// Waits for what is still on its way.
    pub(crate) fn drain(&mut self) -> Result<()> {
        self.last_progress = Instant::now();
        while self.in_flight > 0 {
            self.receive()?;
        }
        Ok(())
    }

    fn issue(&mut self) -> Result<()> {
        let first = self.next;
        let last = first + (self.outstanding - self.in_flight);
        if first == last {
            return Ok(());
        }
        let at = Instant::now();
        while self.next < last && self.take_slot(at) {}
        self.in_flight += self.next - first;
        self.client.send(first..self.next)
    }

    /// Takes what is there: how many replies, and the time, if it was looked at.
    fn receive(&mut self) -> Result<(u64, Option<Instant>)> {
        let slots = self.sent.len() as u64;
        let (mut delivered, mut arrived) = (0, None);
        let Self { client, pattern, sent, latency, beside, is_beside_out, checking, verified, corrupt, .. } = self;
        let mut deliver = |id: u64, reply: &[u8]| {
            let at = *arrived.get_or_insert_with(Instant::now);
            let slot = &mut sent[(id % slots) as usize];
            if slot.id != id {
                // Nobody waits for this one: it came twice, or was never sent.
                *corrupt += 1;
                return;
            }
            slot.id = NOBODY;
            delivered += 1;
            let took = (at - slot.at).as_nanos() as u64;
            if pattern.is_beside(id) {
                beside.saturating_record(took);
                *is_beside_out = false;
            } else {
                latency.saturating_record(took);
            }
            let since = checking.as_ref().map(|_| Instant::now());
            *(if pattern.verify(id, reply) { &mut *verified } else { &mut *corrupt }) += 1;
            if let (Some(checking), Some(since)) = (checking.as_mut(), since) {
                *checking += since.elapsed();
            }
        };
        let progress = if self.is_open { client.look(&mut deliver) } else { client.receive(&mut deliver) }?;
        self.in_flight -= delivered;
        if delivered > 0 {
            self.last_progress = arrived.unwrap_or(self.last_progress);
            return Ok((delivered, arrived));
        }
        self.looks += 1;
        if !progress && self.mode.polls() && !self.looks.is_multiple_of(LOOKS) {
            std::hint::spin_loop();
            return Ok((0, None));
        }
        let now = Instant::now();
        if progress {
            self.last_progress = now;
        } else if now - self.last_progress >= REPLY_TIMEOUT {
            self.give_up(now)?;
        }
        Ok((0, Some(now)))
    }

    /// Counts what is on its way as lost, and starts over.
    fn give_up(&mut self, now: Instant) -> Result<()> {
        self.timeouts += 1;
        self.lost += self.in_flight;
        ensure!(self.timeouts <= TIMEOUTS_MAX, "{} messages without a reply", self.lost);
        self.sent.iter_mut().for_each(|slot| slot.id = NOBODY);
        self.in_flight = 0;
        self.last_progress = now;
        self.client.reset(self.next)
    }
}

/// Gaps between arrivals that know nothing of each other.
struct Gaps {
    state: u64,
    mean_ns: f64,
}

impl Gaps {
    fn next(&mut self) -> Duration {
        // xorshift64*, of which the upper 53 bits make a number above 0 and up to 1.
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let random = self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        let uniform = (random + 1) as f64 / (1_u64 << 53) as f64;
        Duration::from_nanos((-uniform.ln() * self.mean_ns) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Deliver;
    use crate::spec::PeerKind;
    use std::collections::VecDeque;
    use std::ops::Range;

    /// Echoes in memory, and spoils or swallows the messages it is told to.
    struct Memory {
        pattern: Arc<Pattern>,
        waiting: VecDeque<u64>,
        spoil: u64,
        swallow: u64,
    }

    impl Client for Memory {
        fn send(&mut self, ids: Range<u64>) -> Result<()> {
            self.waiting.extend(ids.filter(|&id| id != self.swallow));
            Ok(())
        }

        fn receive(&mut self, deliver: Deliver<'_>) -> Result<bool> {
            let Some(id) = self.waiting.pop_front() else { return Ok(false) };
            let mut reply = self.pattern.message(id).to_vec();
            reply[0] ^= u8::from(id == self.spoil);
            deliver(id, &reply);
            Ok(true)
        }

        fn reset(&mut self, _: u64) -> Result<()> {
            Ok(())
        }
    }

    fn drive(outstanding: usize, spoil: u64, swallow: u64) -> Drive {
        let mut spec = Spec::new(PeerKind::Udp, Mode::Spin, 64);
        spec.outstanding = outstanding;
        let pattern = Arc::new(Pattern::new(64, 0));
        let waiting = VecDeque::new();
        let client = Memory { pattern: pattern.clone(), waiting, spoil, swallow };
        Drive::new(&spec, Box::new(client), pattern).unwrap()
    }

    #[test]
    fn a_spoiled_reply_is_counted() {
        let mut drive = drive(4, 5, NOBODY);
        drive.run(Duration::from_millis(5)).unwrap();
        drive.drain().unwrap();
        assert_eq!((drive.corrupt, drive.lost), (1, 0));
        assert_eq!(drive.verified, drive.next - 1);
    }

    #[test]
    fn a_lost_message_is_counted_and_the_run_goes_on() {
        let mut drive = drive(1, NOBODY, 3);
        drive.run(REPLY_TIMEOUT + Duration::from_millis(500)).unwrap();
        drive.drain().unwrap();
        assert_eq!((drive.corrupt, drive.lost), (0, 1));
        assert_eq!(drive.verified, drive.next - 1);
        assert!(drive.next > 4);
    }

    #[test]
    fn arrivals_have_the_rate_and_the_spread_of_chance() {
        let mut gaps = Gaps { state: 1, mean_ns: 1000.0 };
        let all: Vec<f64> = (0..100_000).map(|_| gaps.next().as_nanos() as f64).collect();
        let mean = all.iter().sum::<f64>() / 1e5;
        let deviation = (all.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / 1e5).sqrt();
        assert!((mean - 1000.0).abs() < 20.0 && (deviation - 1000.0).abs() < 30.0, "{mean} {deviation}");
    }

    #[test]
    fn an_open_loop_counts_from_when_a_message_was_due() {
        // One message is swallowed: the peer stands still until it is given up, and those that were due meanwhile say so.
        let mut drive = drive(1, NOBODY, 100);
        let phase = drive.run_open(1000.0, Duration::from_millis(300)).unwrap();
        assert!(phase.count > 100 && drive.corrupt == 0, "{phase:?}");
        let (next, verified) = (drive.next, drive.verified);
        assert_eq!(next - verified, drive.in_flight);
    }
}
