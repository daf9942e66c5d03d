//! Owns the fan-in experiment: many responses, or many messages, for one host at once, through a switch whose ports hold little. When
//! all of a burst have arrived the next begins.

use endpoint::config::Config;
use endpoint::endpoint::Endpoint;
use endpoint::events::Event;
use endpoint::pool::Payload;
use hdrhistogram::Histogram;
use proto::config::GrantWindow;
use proto::time::Instant;
use wire::trailer::Kind;

use crate::clock::{MS, NS, SEC, Time, US};
use crate::experiment::Mechanism;
use crate::fabric::Network;
use crate::hooks::{Hooks, Lost, Spec};
use crate::link::Frame;
use crate::world::{Stop, World};

/// How many come together, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// A client sends so many requests at one moment, spread over the servers; responses are large.
    Requests,
    /// So many hosts send one message each to one host, at one moment.
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
    message: Payload,
    /// When the burst began.
    began: Time,
    /// Whether it counts.
    counts: bool,
    latency: Histogram<u64>,
    /// Messages that arrived or failed.
    done: u64,
    last: Time,
    failed: u64,
    dropped: u64,
}

impl Hooks for Watch {
    fn lost(&mut self, _: Time, _: &Frame, why: Lost) {
        self.dropped += u64::from(why == Lost::QueueFull && self.counts);
    }
    fn event(&mut self, now: Time, _: u32, endpoint: &mut Endpoint, local: Instant, event: Event) {
        match event {
            Event::Request { id, .. } => {
                let message = self.message.clone();
                endpoint.reply(local, id, message).expect("it is in service and fits");
            }
            Event::Response { .. } | Event::OneWay { .. } => {
                self.done += 1;
                self.last = now;
                if self.counts {
                    self.latency.saturating_record((now - self.began) / NS);
                }
            }
            Event::Failed { .. } => {
                self.done += 1;
                self.failed += 1;
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
    let watch = Watch {
        message: Payload::from(vec![0; plan.bytes as usize]),
        began: 0,
        counts: false,
        latency: Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("the bounds are in order"),
        done: 0,
        last: 0,
        failed: 0,
        dropped: 0,
    };
    let mut world = World::new(spec, watch);
    open_sessions(&mut world, servers, plan.pattern);
    let start = world.now() + MS;
    world.run(start);
    let packets = world.counts.arrived;
    let (mut sessions, mut rpcs) = (0, 0);
    // One burst that does not count: round trips and traffic become known.
    let rounds = 1 + plan.messages.div_ceil(plan.senders.into()).max(1);
    let mut took = 0;
    for round in 0..rounds {
        let (before, began) = (world.hooks.done, world.now());
        (world.hooks.began, world.hooks.counts) = (began, round > 0);
        for sender in 0..plan.senders {
            let sent = match plan.pattern {
                Pattern::Requests => {
                    let to = 1 + sender % servers;
                    world.send(CLIENT, to, Kind::Request, Payload::from(vec![0; REQUEST]), 0)
                }
                Pattern::OneWay => world.send(1 + sender, CLIENT, Kind::OneWay, world.hooks.message.clone(), 0),
            };
            sent.expect("it is taken");
        }
        while world.hooks.done < before + u64::from(plan.senders) && world.now() < began + 10 * SEC {
            world.run(world.now() + 20 * US);
            look(&world, &mut sessions, &mut rpcs);
        }
        took += if round > 0 { world.hooks.last - began } else { 0 };
        world.run(world.now() + 5 * MS);
        progress((round + 1) as f64 / rounds as f64);
    }
    let took = took.max(1) as f64 / SEC as f64;
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
