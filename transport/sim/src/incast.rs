//! Owns the fan-in experiment: many responses, or many messages, for one host at once, through a switch whose ports hold little.

use endpoint::config::Config;
use endpoint::endpoint::Endpoint;
use endpoint::pool::Payload;
use endpoint::state::Event;
use hdrhistogram::Histogram;
use proto::config::GrantWindow;
use proto::time::Instant;
use wire::trailer::Kind;

use crate::clock::{MS, SEC, Time, US};
use crate::experiment::Mechanism;
use crate::fabric::Network;
use crate::hooks::{Hooks, Lost, Spec};
use crate::link::Frame;
use crate::rng::Rng;
use crate::world::{Stop, World};

/// How many come together, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// A client keeps so many requests outstanding, spread over the servers; responses are large.
    Requests,
    /// So many hosts send one message each at one moment, again and again, each time when all have arrived.
    OneWay,
}

/// What is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How it comes together.
    pub pattern: Pattern,
    /// Requests outstanding, or senders.
    pub senders: u32,
    /// Servers, at most; there are no more than senders.
    pub servers: u32,
    /// Bytes of each response or message.
    pub bytes: u32,
    /// Responses or messages that count.
    pub messages: u64,
    /// Bytes that wait at a port of the switch at each priority; what comes on top is lost.
    pub buffer: u64,
    /// All randomness comes from it.
    pub seed: u64,
    /// What is turned off.
    pub without: Vec<Mechanism>,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Message bits per second of virtual time.
    pub throughput: f64,
    /// Time from call to delivery, in nanoseconds.
    pub latency: Histogram<u64>,
    /// Frames that the switch dropped.
    pub dropped: u64,
    /// Frames handed to hosts.
    pub packets: u64,
    /// RPCs that failed.
    pub failed: u64,
    /// The most bytes that waited at the port to the client.
    pub queue_peak: u64,
    /// What the receiver held at its busiest: sessions and open RPCs.
    pub sessions: usize,
    /// See above.
    pub rpcs: usize,
    /// The hash of all that happened.
    pub hash: u64,
}

/// Bytes of a request.
const REQUEST: usize = 100;
/// The client, or the receiver.
const CLIENT: u32 = 0;

#[derive(Debug)]
struct Watch {
    response: Payload,
    /// When message n was sent.
    sent: Vec<Time>,
    latency: Histogram<u64>,
    done: u64,
    measured_from: u64,
    failed: u64,
    dropped: u64,
    /// Cookies of requests that are answered, to be replaced.
    again: Vec<u64>,
    last: Time,
}

impl Watch {
    fn arrived(&mut self, now: Time, sent: Time) {
        self.done += 1;
        if self.done > self.measured_from {
            self.latency.saturating_record((now - sent) / 1000);
        }
        self.last = now;
    }
}

impl Hooks for Watch {
    fn lost(&mut self, _: Time, _: &Frame, why: Lost) {
        self.dropped += u64::from(why == Lost::QueueFull);
    }
    fn event(&mut self, now: Time, _: u32, endpoint: &mut Endpoint, local: Instant, event: Event) {
        match event {
            Event::Request { id, .. } => {
                let response = self.response.clone();
                endpoint.reply(local, id, response).expect("it is in service and fits");
            }
            Event::Response { cookie, .. } => {
                self.arrived(now, self.sent[cookie as usize]);
                self.again.push(cookie);
            }
            Event::OneWay { .. } => {
                let sent = self.sent[0];
                self.arrived(now, sent);
            }
            Event::Failed { cookie, .. } => {
                self.failed += 1;
                self.again.push(cookie);
            }
            _ => {}
        }
    }
}

fn config(plan: &Plan) -> Config {
    let mut config = Config::new(offload::software::crypto());
    config.segment_packets_max = 1;
    config.send_bytes_max = 1 << 40;
    let proto = &mut config.proto;
    proto.serving = true;
    // As much as a round trip carries; the rest is the default.
    proto.unscheduled_bytes = 10_000;
    proto.unscheduled_bytes_min = 10_000;
    proto.grant_window = GrantWindow::Fixed(10_000);
    proto.grant_step_bytes = Some(1);
    plan.without.iter().for_each(|mechanism| mechanism.turn_off(proto));
    config
}

/// Runs it. `progress` is told now and then which part is done.
pub fn run(plan: &Plan, mut progress: impl FnMut(f64)) -> Outcome {
    let servers = match plan.pattern {
        Pattern::Requests => plan.servers.min(plan.senders).max(1),
        Pattern::OneWay => plan.senders,
    };
    let network = Network { queue_bytes: plan.buffer, ..Network::one_switch(servers + 1) };
    let own = plan.clone();
    let mut spec = Spec::new(plan.seed, network);
    spec.config = Box::new(move |_| config(&own));
    let slots = if plan.pattern == Pattern::Requests { plan.senders as usize } else { 1 };
    let watch = Watch {
        response: Payload::from(vec![0; plan.bytes as usize]),
        sent: vec![0; slots],
        latency: Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("the bounds are in order"),
        done: 0,
        measured_from: u64::from(plan.senders),
        failed: 0,
        dropped: 0,
        again: Vec::new(),
        last: 0,
    };
    let mut world = World::new(spec, watch);
    open_sessions(&mut world, servers, plan.pattern);
    let start = world.now() + MS;
    world.run(start);
    world.hooks.dropped = 0;
    let packets = world.counts.arrived;
    let (mut sessions, mut rpcs) = (0, 0);
    let mut rng = Rng::new(plan.seed, 3);
    let mut from = start;
    match plan.pattern {
        Pattern::Requests => {
            world.hooks.again = (0..u64::from(plan.senders)).collect();
            let total = plan.messages + u64::from(plan.senders);
            let mut next = start;
            while world.hooks.done < total && world.now() < start + 100 * SEC {
                if world.hooks.done <= u64::from(plan.senders) {
                    from = world.now();
                }
                // A request for each that was answered, by a client that looks once a microsecond.
                for cookie in std::mem::take(&mut world.hooks.again) {
                    let to = 1 + rng.below(servers.into()) as u32;
                    world.hooks.sent[cookie as usize] = world.now();
                    let body = Payload::from(vec![0; REQUEST]);
                    if world.send(CLIENT, to, Kind::Request, body, cookie).is_err() {
                        world.hooks.again.push(cookie);
                    }
                }
                next += US;
                world.run(next);
                if next.is_multiple_of(MS) {
                    progress(world.hooks.done as f64 / total as f64);
                    look(&world, &mut sessions, &mut rpcs);
                }
            }
        }
        Pattern::OneWay => {
            let rounds = plan.messages.div_ceil(plan.senders.into()).max(1);
            world.hooks.measured_from = 0;
            for round in 0..rounds {
                let before = world.hooks.done;
                world.hooks.sent[0] = world.now();
                for sender in 1..=plan.senders {
                    let body = world.hooks.response.clone();
                    world.send(sender, CLIENT, Kind::OneWay, body, 0).expect("it is taken");
                }
                let end = world.now() + 100 * SEC;
                while world.hooks.done < before + u64::from(plan.senders) && world.now() < end {
                    world.run(world.now() + 100 * US);
                    look(&world, &mut sessions, &mut rpcs);
                }
                progress((round + 1) as f64 / rounds as f64);
            }
        }
    }
    let took = (world.hooks.last.max(from + 1) - from) as f64 / SEC as f64;
    let bytes = world.hooks.latency.len() * u64::from(plan.bytes);
    let queue_peak = world.ports()[network.hosts() as usize].0.counts.peak_all;
    Outcome {
        throughput: bytes as f64 * 8.0 / took,
        latency: world.hooks.latency.clone(),
        dropped: world.hooks.dropped,
        packets: world.counts.arrived - packets,
        failed: world.hooks.failed,
        queue_peak,
        sessions,
        rpcs,
        hash: world.trace.hash(),
    }
}

fn look(world: &World<Watch>, sessions: &mut usize, rpcs: &mut usize) {
    if let Some(endpoint) = world.endpoint(CLIENT) {
        *rpcs = (*rpcs).max(endpoint.calls().len());
        *sessions = (*sessions).max(endpoint.open_sessions().len());
    }
}

fn open_sessions(world: &mut World<Watch>, servers: u32, pattern: Pattern) {
    for server in 1..=servers {
        match pattern {
            Pattern::Requests => world.acquaint(CLIENT, server),
            Pattern::OneWay => world.acquaint(server, CLIENT),
        }
        world.alarm(u64::from(server) * 2 * US, server.into());
    }
    while let Stop::Alarm(server) = world.run(SEC) {
        let server = server as u32;
        let (from, to) = if pattern == Pattern::Requests { (CLIENT, server) } else { (server, CLIENT) };
        world.connect(from, to).expect("a handshake begins");
    }
    world.learn_sessions();
}
