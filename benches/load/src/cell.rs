//! One cell: a fixed number of messages outstanding, for a fixed time, every reply verified.
//!
//! Owns timing and verification; they are the same for all peers. A latency ends when the reply is handed over; checking
//! its bytes comes after and does not count into it. Refuses: knowing transports.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;

use crate::certs::Credentials;
use crate::client::{Client, REPLY_TIMEOUT};
use crate::pattern::Pattern;
use crate::raw_udp;
use crate::sample::Sample;
use crate::server::Host;
use crate::spec::{Mode, Spec};
use crate::{connect, cpu};

/// After so many timeouts in one cell the peer has failed.
const TIMEOUTS_MAX: u32 = 5;

/// Empty looks between two looks at the clock.
const LOOKS: u32 = 256;

/// How long to run before measuring, and how long to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// Runs one cell from the start of its server to its end.
pub(crate) fn run(spec: &Spec, host: &Host, credentials: &Credentials, timing: Timing) -> Result<Sample> {
    let pattern = Arc::new(Pattern::new(spec.size, raw_udp::padding_bytes_max(spec.size)));
    let mut server = host.start(spec, credentials)?;
    let since = Instant::now();
    let client = connect::connect(spec, server.port, credentials, &pattern)
        .with_context(|| format!("cannot connect peer `{}`", spec.peer))?;
    let connect = since.elapsed();
    let session = client.session();
    let mut drive = Drive::new(spec, client, pattern)?;
    drive.run(timing.warm_up)?;
    drive.drain()?;
    drive.latency.reset();
    let cpu_before = server.cpu_time()? + cpu::process_time();
    let phase = drive.run(timing.measured)?;
    let cpu = (server.cpu_time()? + cpu::process_time()).saturating_sub(cpu_before);
    drive.drain()?;
    Ok(Sample {
        p50_us: drive.latency.value_at_quantile(0.50) as f64 / 1e3,
        p99_us: drive.latency.value_at_quantile(0.99) as f64 / 1e3,
        rps: phase.count as f64 / phase.elapsed.as_secs_f64(),
        cpu_us_per_rpc: cpu.as_secs_f64() * 1e6 / phase.count as f64,
        connect_us: connect.as_secs_f64() * 1e6,
        verified: drive.verified,
        corrupt: drive.corrupt,
        lost: drive.lost,
        read_bytes: spec.read_bytes,
        session,
    })
}

/// What one phase did.
#[derive(Debug)]
struct Phase {
    count: u64,
    elapsed: Duration,
}

/// A message on its way.
#[derive(Clone, Copy, Debug)]
struct Sent {
    id: u64,
    at: Instant,
}

/// No message has this number.
const NOBODY: u64 = u64::MAX;

struct Drive {
    client: Box<dyn Client>,
    pattern: Arc<Pattern>,
    latency: Histogram<u64>,
    mode: Mode,
    outstanding: u64,
    in_flight: u64,
    next: u64,
    /// Message N stands at N modulo the length.
    sent: Vec<Sent>,
    verified: u64,
    corrupt: u64,
    lost: u64,
    timeouts: u32,
    last_progress: Instant,
    looks: u32,
}

impl Drive {
    fn new(spec: &Spec, client: Box<dyn Client>, pattern: Arc<Pattern>) -> Result<Self> {
        let now = Instant::now();
        // Replies may overtake each other; so far apart they do not get.
        let slots = (spec.outstanding * 64).next_power_of_two();
        Ok(Self {
            client,
            pattern,
            latency: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
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
    fn run(&mut self, time: Duration) -> Result<Phase> {
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

    /// Waits for what is still on its way.
    fn drain(&mut self) -> Result<()> {
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
        let slots = self.sent.len() as u64;
        while self.next < last {
            let slot = &mut self.sent[(self.next % slots) as usize];
            if slot.id != NOBODY {
                break;
            }
            *slot = Sent { id: self.next, at };
            self.next += 1;
        }
        self.in_flight += self.next - first;
        self.client.send(first..self.next)
    }

    /// Takes what is there: how many replies, and the time, if it was looked at.
    fn receive(&mut self) -> Result<(u64, Option<Instant>)> {
        let slots = self.sent.len() as u64;
        let (mut delivered, mut arrived) = (0, None);
        let Self { client, pattern, sent, latency, verified, corrupt, .. } = self;
        let progress = client.receive(&mut |id, reply| {
            let at = *arrived.get_or_insert_with(Instant::now);
            let slot = &mut sent[(id % slots) as usize];
            if slot.id != id {
                // Nobody waits for this one: it came twice, or was never sent.
                *corrupt += 1;
                return;
            }
            slot.id = NOBODY;
            delivered += 1;
            latency.saturating_record((at - slot.at).as_nanos() as u64);
            if pattern.verify(id, reply) {
                *verified += 1;
            } else {
                *corrupt += 1;
            }
        })?;
        self.in_flight -= delivered;
        if delivered > 0 {
            self.last_progress = arrived.unwrap_or(self.last_progress);
            return Ok((delivered, arrived));
        }
        self.looks += 1;
        if !progress && self.mode == Mode::Spin && !self.looks.is_multiple_of(LOOKS) {
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
        drive.run(REPLY_TIMEOUT + Duration::from_millis(20)).unwrap();
        drive.drain().unwrap();
        assert_eq!((drive.corrupt, drive.lost), (0, 1));
        assert_eq!(drive.verified, drive.next - 1);
        assert!(drive.next > 4);
    }
}
