//! Owns the making of captures: real packets of sessions, sealed by the code of endpoints under keys that follow from a seed, with losses,
//! copies and replays of which it writes down what they are as it makes them. It knows what is in the capture by construction: nothing of
//! the analyser is used.
//!
//! Sessions begin at random times and go on a message at a time; packets wait in a heap for their time. So memory is that of what is under
//! way, whatever the length of the capture.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write;

use record::aead::Cipher;

use crate::analyze::digest;
use crate::error::Error;
use crate::file::Writer;
use crate::frame::Link;
use crate::truth::{Truth, digest_name};

mod rng;
mod session;
mod fault;

use rng::Rng;
use session::Session;

/// Packets that a session has at least: two of its handshake, and a message.
pub const PACKETS_EACH_MIN: u64 = 4;
/// When captures begin: 1 January 2026.
const EPOCH_NS: u64 = 1_767_225_600_000_000_000;
/// Time for each packet, on average.
const PACE_NS: u64 = 2_000;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Packets, exactly.
    pub packets: u64,
    /// Sessions.
    pub flows: u64,
    /// How likely each record of a longer message begins a gap.
    pub gap_rate: f64,
    /// How likely each record comes after its successor.
    pub reorder: f64,
    /// How likely each record or control packet is there twice.
    pub dup: f64,
    /// How likely a record of a complete message comes again once it is over.
    pub replay: f64,
    /// How likely each record of a longer message is sent again by a later attempt.
    pub retransmit: f64,
    /// All randomness comes from it.
    pub seed: u64,
    /// What seals.
    pub cipher: Cipher,
    /// Bytes of a packet of the network.
    pub mtu: usize,
    /// Whether messages travel in records that span packets, where these are small. [P-4.6]
    pub spanning_records: bool,
}

impl Plan {
    fn check(&self) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::Plan(what));
        let rates = [
            ("gap rate", self.gap_rate),
            ("reorder rate", self.reorder),
            ("dup rate", self.dup),
            ("replay rate", self.replay),
            ("retransmit rate", self.retransmit),
        ];
        if let Some((name, rate)) = rates.into_iter().find(|(_, rate)| !(0.0..=1.0).contains(rate)) {
            return wrong(format!("a {name} of {rate} is none: from 0 to 1"));
        }
        if !(1280..=9000).contains(&self.mtu) {
            return wrong(format!("an MTU of {} is none: from 1280 to 9000", self.mtu));
        }
        if self.flows == 0 || self.flows > wire::limits::SESSIONS_MAX as u64 {
            return wrong(format!("{} flows: from 1 to {}", self.flows, wire::limits::SESSIONS_MAX));
        }
        if self.packets < self.flows * PACKETS_EACH_MIN {
            return wrong(format!(
                "{} packets are too few for {} flows: each has {PACKETS_EACH_MIN} at least",
                self.packets, self.flows
            ));
        }
        Ok(())
    }
}

/// A packet that waits for its time. Ordered by time, then by when it was made.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    time_ns: u64,
    serial: u64,
    bytes: Vec<u8>,
}

/// What sessions write to: packets for the capture, and the truth of them.
#[derive(Debug, Default)]
struct Out {
    waiting: BinaryHeap<Reverse<Waiting>>,
    serial: u64,
    truth: Truth,
}

impl Out {
    fn packet(&mut self, time_ns: u64, bytes: Vec<u8>) {
        let counts = &mut self.truth.counts;
        counts.packets += 1;
        counts.bytes += bytes.len() as u64;
        counts.sealane += 1;
        self.serial += 1;
        self.waiting.push(Reverse(Waiting { time_ns, serial: self.serial, bytes }));
    }
}

/// Makes a capture. Gives its truth, its key log, and the output.
///
/// # Errors
/// When the plan makes no sense, or the output fails.
pub fn generate<W: Write>(plan: &Plan, output: W) -> Result<(Truth, String, W), Error> {
    plan.check()?;
    let mut out = Out::default();
    let mut writer = Writer::new(output, Link::Ethernet)?;
    let mut first = None;
    let mut key_log = String::new();
    let mut rng = Rng::new(plan.seed, 0);
    let span_ns = plan.packets * PACE_NS;
    // When each session goes on: those that have not begun are numbers, so that only few have keys.
    let mut next: BinaryHeap<Reverse<(u64, u64)>> =
        (0..plan.flows).map(|session| Reverse((EPOCH_NS + rng.below(span_ns), session))).collect();
    let mut sessions: rustc_hash::FxHashMap<u64, Session> = rustc_hash::FxHashMap::default();
    loop {
        let now_ns = next.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
        while out.waiting.peek().is_some_and(|Reverse(waiting)| waiting.time_ns < now_ns) {
            let Some(Reverse(Waiting { time_ns, bytes, .. })) = out.waiting.pop() else { break };
            first.get_or_insert_with(|| digest(time_ns, &bytes));
            writer.packet(time_ns, &bytes)?;
        }
        let Some(Reverse((at, number))) = next.pop() else { break };
        let session = sessions.entry(number).or_insert_with(|| {
            let quota = plan.packets / plan.flows + u64::from(number < plan.packets % plan.flows);
            let session = Session::new(plan, number, quota);
            key_log.push_str(&session.key_log_line());
            session
        });
        match session.go_on(plan, at, &mut out) {
            Some(later) => next.push(Reverse((later, number))),
            None => {
                if let Some(session) = sessions.remove(&number) {
                    session.finish(&mut out.truth);
                }
            }
        }
    }
    let mut truth = out.truth;
    truth.first = digest_name(first.unwrap_or_default());
    truth.faults.sort_unstable();
    Ok((truth, key_log, writer.finish()?))
}
