//! Owns the fabric experiment: the set-up of the Homa paper's simulations, run on our endpoints.
//!
//! Every host sends one-way messages to all others, chosen at random, at times of a Poisson process, whether or not earlier ones have
//! arrived. Sessions are opened before, through the same network, and do not count. Messages count that begin after a
//! warm-up; load goes on until the last of them has arrived, or for as long as is stated.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use endpoint::config::Config;
use endpoint::endpoint::Endpoint;
use endpoint::events::Event;
use endpoint::pool::Payload;
use proto::config::{GrantWindow, Order, Priorities};
use proto::time::Instant;
use wire::ids::RpcId;
use wire::trailer::Kind;

use crate::clock::{MS, SEC, Time, US};
use crate::fabric::{Network, Node};
use crate::framing::{Framing, ideal_own, ideal_paper};
use crate::hooks::{Hooks, Spec};
use crate::host::host_at;
use crate::ideal::{Flow, Ideal};
use crate::rng::Rng;
use crate::slowdown::Slowdowns;
use crate::workload::{Arrival, Arrivals, Workload};
use crate::world::World;

/// What is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The network.
    pub network: Network,
    /// What is sent.
    pub workload: Workload,
    /// Share of each host's link that is used, headers included.
    pub load: f64,
    /// What counts on the wire.
    pub framing: Framing,
    /// All randomness comes from it.
    pub seed: u64,
    /// Messages that count.
    pub messages: u64,
    /// Part of that number that is sent before.
    pub warmup: f64,
    /// Part of that number that is sent after, at most, while the last that count have not arrived.
    pub drain: f64,
    /// Priorities as the endpoints measure them, instead of the paper's, which are computed before from the workload.
    pub measured: bool,
    /// The endpoint's own pacer keeps the card's queue short, instead of a card that asks when it is idle.
    pub pacer: bool,
    /// What is turned off.
    pub without: Vec<Mechanism>,
}

/// A mechanism that can be turned off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// Receivers say who may send: without, senders send all at once.
    Grants,
    /// What has the fewest bytes left goes first: without, the oldest does.
    Srpt,
    /// Data has priorities in the network: without, all has the lowest.
    Priorities,
    /// Several messages are granted at once: without, one is.
    Overcommitment,
    /// Responses hold back when their client awaits many: without, each sends its first bytes at once.
    IncastControl,
    /// The oldest message gets a share of the grants: without, long ones may wait for ever.
    FifoShare,
}

impl Mechanism {
    /// All of them, by name.
    pub const ALL: [(&str, Self); 6] = [
        ("grants", Self::Grants),
        ("srpt", Self::Srpt),
        ("priorities", Self::Priorities),
        ("overcommitment", Self::Overcommitment),
        ("incast-control", Self::IncastControl),
        ("fifo-share", Self::FifoShare),
    ];

    /// Turns it off.
    pub const fn turn_off(self, proto: &mut proto::config::Config) {
        match self {
            Self::Grants => {
                proto.unscheduled_bytes = proto.message_bytes_max;
                proto.unscheduled_bytes_min = proto.message_bytes_max;
            }
            Self::Srpt => proto.order = Order::Fifo,
            Self::Priorities => proto.priorities = Priorities::Off,
            Self::Overcommitment => proto.overcommit = Some(1),
            Self::IncastControl => proto.incast_calls = None,
            Self::FifoShare => proto.fifo_share_per_mille = 0,
        }
    }
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The result.
    pub slowdowns: Slowdowns,
    /// Frames that arrived at hosts.
    pub packets: u64,
    /// Things that happened.
    pub happenings: u64,
    /// Messages that the endpoints did not take: none, or the figures mean nothing.
    pub refused: u64,
    /// Messages that failed.
    pub failed: u64,
    /// Virtual time from the first to the last message that counts.
    pub measured: Time,
    /// Share of the hosts' links that was used meanwhile, on the way up.
    pub used: f64,
    /// Message bytes of that, as a share of the links.
    pub goodput: f64,
    /// The most bytes that ever waited at a switch's port towards a host.
    pub edge_queue_peak: u64,
    /// The same, of a port between switches.
    pub core_queue_peak: u64,
    /// The hash of all that happened.
    pub hash: u64,
    /// What hosts held.
    pub hosts: HostState,
}

/// What hosts hold, in the middle of the measurement.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostState {
    /// Sessions of a host, on average.
    pub sessions: f64,
    /// RPCs that a host has open, on average.
    pub rpcs: f64,
    /// The most that a host had.
    pub rpcs_max: usize,
    /// Bytes of its own messages that a host holds, on average.
    pub held_bytes: f64,
}

/// A message under way.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Time,
    bytes: u32,
    counts: bool,
}

/// Measures messages.
#[derive(Debug)]
struct Meter {
    network: Network,
    framing: Framing,
    open: HashMap<(u32, u32, RpcId), Sent>,
    /// Messages that count and have not arrived.
    awaited: u64,
    failed: u64,
    slowdowns: Slowdowns,
}

impl Meter {
    fn record(&mut self, now: Time, from: u32, to: u32, sent: &Sent) {
        let between = self.network.rack(from) != self.network.rack(to);
        let took = (now - sent.at) as f64;
        let paper = took / ideal_paper(&self.network, sent.bytes, between) as f64;
        let own = took / ideal_own(&self.network, self.framing, sent.bytes, between) as f64;
        self.slowdowns.record(sent.bytes, paper, own);
    }

    /// What else the message needs when it is alone, it needs here as well.
    fn record_scheduled(&mut self, now: Time, flow: &Flow) {
        let between = self.network.rack(flow.from) != self.network.rack(flow.to);
        let beyond = ideal_own(&self.network, self.framing, flow.bytes, between) - self.link_time(flow.bytes);
        let took = (now - flow.at + beyond) as f64;
        let paper = ideal_paper(&self.network, flow.bytes, between) as f64;
        if flow.counts {
            self.slowdowns.record_scheduled(flow.bytes, took / paper);
        }
    }

    /// Time that a message's frames take on a host's link.
    fn link_time(&self, bytes: u32) -> Time {
        self.framing.data(bytes) * 8 * (SEC / self.network.host_rate)
    }

    /// What has not arrived counts as if it did now: it would take longer, and to leave it out would be worse.
    fn give_up(&mut self, now: Time) {
        for ((from, to, _), sent) in std::mem::take(&mut self.open) {
            if sent.counts {
                self.record(now, from, to, &sent);
                self.slowdowns.record_unfinished(sent.bytes);
            }
        }
    }
}

impl Hooks for Meter {
    fn event(&mut self, now: Time, host: u32, _: &mut Endpoint, _: Instant, event: Event) {
        match event {
            Event::OneWay { id, from, payload } => {
                let from = host_at(from.address).expect("a host");
                let Some(sent) = self.open.remove(&(from, host, id.rpc)) else { return };
                debug_assert_eq!(payload.len(), sent.bytes as usize);
                if sent.counts {
                    self.awaited -= 1;
                    self.record(now, from, host, &sent);
                }
            }
            Event::Failed { .. } | Event::ConnectFailed { .. } => self.failed += 1,
            _ => {}
        }
    }
}

/// Bytes of a message that nobody has to grant: the paper's, one packet and 7,886 bytes.
const UNSCHEDULED: u32 = 9328;
const FIFO: u32 = 10_000;

/// The largest message for each priority, from the highest down: as many levels as the paper gave to unscheduled packets, each with the
/// same part of the bytes that nobody grants and of the ends of those that are granted, by bytes left. The paper computes them
/// before, from the workload; so do we here, as a run may be too short to measure them.
fn cutoffs(plan: &Plan) -> [u32; 8] {
    let levels = 8 - plan.workload.scheduled_levels as usize;
    let mut parts: Vec<(u32, f64)> = Vec::new();
    let mut before = 0.0;
    for &(bytes, cumulative) in plan.workload.points() {
        let cut = plan.framing.cut(bytes);
        for index in 0..cut.records() {
            let left = bytes - cut.bytes(index as u16).start as u32;
            if cut.offset_of(index + 1) <= UNSCHEDULED || left <= UNSCHEDULED {
                parts.push((left, (cumulative - before) * f64::from(plan.framing.frame(cut, index as u16))));
            }
        }
        before = cumulative;
    }
    parts.sort_by_key(|(left, _)| *left);
    let all: f64 = parts.iter().map(|(_, weight)| weight).sum();
    let (mut cutoffs, mut level, mut sum) = ([0; 8], 0, 0.0);
    for (left, weight) in parts {
        sum += weight;
        cutoffs[level] = left;
        if level + 1 < levels && sum >= all * (level + 1) as f64 / levels as f64 {
            level += 1;
        }
    }
    cutoffs[level] = u32::MAX;
    cutoffs
}

/// The endpoints' configuration for a network with the paper's round trip of 7.75 us at 10 Gbit/s.
#[must_use]
pub fn config(plan: &Plan) -> Config {
    let mut config = Config::new(offload::software::crypto());
    config.segment_packets_max = 1;
    config.send_bytes_max = 1 << 40;
    config.kept_buffers_min = 0;
    config.kept_bytes_max = 4 << 20;
    let proto = &mut config.proto;
    proto.serving = true;
    // RTTbytes: what the link carries while a grant comes back.
    proto.unscheduled_bytes = UNSCHEDULED;
    proto.unscheduled_bytes_min = UNSCHEDULED;
    proto.grant_window = GrantWindow::Fixed(10_000);
    proto.grant_step_bytes = Some(1);
    // As much, too: the default is that of a faster network.
    proto.fifo_increment_bytes = FIFO;
    proto.overcommit = Some(plan.workload.scheduled_levels);
    if !plan.measured {
        proto.priorities = Priorities::Fixed(cutoffs(plan));
    }
    proto.priority_by_left = true;
    if plan.pacer {
        proto.link_bits_per_second = Some(plan.network.host_rate);
        proto.link_usage_per_mille = 1000;
        proto.link_packet_bytes = plan.framing.packet_bytes();
        proto.backlog_max = Duration::ZERO;
        proto.defer_bytes_min = 0;
        proto.pacer_fifo_per_mille = 0;
    }
    proto.incoming_bytes_max = 1 << 30;
    proto.buffered_bytes_max = 1 << 40;
    // Nothing is lost here, and long messages wait long for their turn: silence means nothing.
    proto.resend_min = Duration::from_millis(100);
    proto.resend_max = Duration::from_millis(400);
    proto.peer_timeout = Duration::from_secs(60);
    plan.without.iter().for_each(|mechanism| mechanism.turn_off(proto));
    config
}

/// The rate at which each host begins messages, per second.
#[must_use]
pub fn rate(plan: &Plan) -> f64 {
    let wire_bytes = match plan.framing {
        Framing::Paper => plan.workload.mean() / plan.workload.paper_goodput,
        Framing::Sealane => plan.workload.mean_of(|bytes| Framing::Sealane.message(bytes, UNSCHEDULED) as f64),
    };
    plan.load * plan.network.host_rate as f64 / 8.0 / wire_bytes
}

/// Hosts up to which every pair has a session; of more, those that will need one.
const MESHED: u32 = 256;

/// Opens sessions, a few at a time. One is enough for both directions.
fn open_sessions(world: &mut World<Meter>, arrivals: impl Iterator<Item = Arrival>) {
    let hosts = world.spec().network.hosts();
    let pairs: BTreeSet<(u32, u32)> = if hosts <= MESHED {
        (0..hosts).flat_map(|client| (client + 1..hosts).map(move |server| (server - client, client))).collect()
    } else {
        arrivals.map(|message| (message.from.abs_diff(message.to), message.from.min(message.to))).collect()
    };
    let pairs: Vec<_> = pairs.into_iter().map(|(distance, client)| (client, client + distance)).collect();
    for (client, server) in &pairs {
        world.acquaint(*client, *server);
    }
    // Each host begins or answers about two at a time.
    for some in pairs.chunks(hosts as usize) {
        world.run(world.now() + 20 * US);
        for (client, server) in some {
            world.connect(*client, *server).expect("a handshake begins");
        }
    }
    world.run(world.now() + 100 * MS);
    world.learn_sessions();
}

/// How far a run is.
struct Phases {
    warmup: u64,
    messages: u64,
    last: u64,
    begun: u64,
}

impl Phases {
    const fn counts(&self) -> bool {
        self.begun > self.warmup && self.begun <= self.warmup + self.messages
    }
    const fn is_over(&self, awaited: u64) -> bool {
        self.begun > self.warmup + self.messages && (awaited == 0 || self.begun > self.last)
    }
}

/// Runs it. `progress` is told now and then which part of the messages has been sent.
pub fn run(plan: &Plan, mut progress: impl FnMut(f64)) -> Outcome {
    let part = |part: f64| (plan.messages as f64 * part) as u64;
    let (warmup, messages) = (part(plan.warmup), plan.messages);
    let mut phases = Phases { warmup, messages, last: warmup + messages + part(plan.drain), begun: 0 };
    let mut arrivals = Arrivals::new(&plan.workload, plan.network.hosts(), rate(plan), Rng::new(plan.seed, 2));
    let mut world = world(plan);
    open_sessions(&mut world, arrivals.clone().take(phases.last as usize + 1));
    let packets_before = world.counts.arrived;
    let start = world.now() + MS;
    let longest = plan.workload.points().last().expect("a point").0;
    let zeros = Payload::from(vec![0; longest as usize]);
    let mut ideal = Ideal::new(plan.network.hosts());
    let (mut refused, mut bytes_sent) = (0u64, 0u64);
    let (mut from_time, mut to_time, mut used) = (start, start, 0u64);
    let mut state = HostState::default();
    loop {
        let Arrival { at, from, to, bytes } = arrivals.next().expect("there is always another message");
        let now = start + at;
        world.run(now);
        phases.begun += 1;
        if phases.is_over(world.hooks.awaited) {
            break;
        }
        if phases.begun == warmup + 1 {
            (from_time, used) = (now, sent_bytes(&world));
        }
        if phases.begun == warmup + messages {
            (to_time, used) = (now, sent_bytes(&world) - used);
        }
        if phases.begun == warmup + messages / 2 {
            state = host_state(&world);
        }
        if phases.begun.is_multiple_of(1024) {
            progress((phases.begun as f64 / (warmup + messages) as f64).min(1.0));
        }
        let counts = phases.counts();
        let flow = Flow::new(at, (from, to), bytes, world.hooks.link_time(bytes), counts);
        ideal.begin(flow, |now, flow| world.hooks.record_scheduled(now, &flow));
        match world.send(from, to, Kind::OneWay, zeros.slice(0..bytes as usize), 0) {
            Ok(id) => {
                world.hooks.awaited += u64::from(counts);
                bytes_sent += if counts { u64::from(bytes) } else { 0 };
                world.hooks.open.insert((from, to, id.rpc), Sent { at: now, bytes, counts });
            }
            Err(_) => refused += 1,
        }
    }
    // With nothing that begins after: faster than in the run, so it stays a floor.
    ideal.finish(|now, flow| world.hooks.record_scheduled(now, &flow));
    let hosts = plan.network.hosts();
    let peak = |edge: bool| {
        let ports = world.ports().iter().skip(hosts as usize);
        let of_kind = ports.filter(|(_, node)| matches!(node, Node::Host(_)) == edge);
        of_kind.map(|(port, _)| port.counts.peak_all).max().unwrap_or(0)
    };
    let (edge_queue_peak, core_queue_peak) = (peak(true), peak(false));
    let measured = to_time - from_time;
    let capacity = measured as f64 / SEC as f64 * f64::from(hosts) * plan.network.host_rate as f64 / 8.0;
    world.hooks.give_up(world.now());
    Outcome {
        slowdowns: world.hooks.slowdowns.clone(),
        packets: world.counts.arrived - packets_before,
        happenings: world.counts.happenings,
        refused,
        failed: world.hooks.failed,
        measured,
        used: used as f64 / capacity,
        goodput: bytes_sent as f64 / capacity,
        edge_queue_peak,
        core_queue_peak,
        hash: world.trace.hash(),
        hosts: state,
    }
}

fn world(plan: &Plan) -> World<Meter> {
    let own = plan.clone();
    let mut spec = Spec::new(plan.seed, plan.network);
    spec.config = Box::new(move |_| config(&own));
    spec.datagram_max = plan.framing.datagram_max();
    spec.charge = plan.framing.charge();
    spec.card_frames = if plan.pacer { usize::MAX } else { 0 };
    let slowdowns = Slowdowns::new(&plan.workload, plan.load);
    let (network, framing) = (plan.network, plan.framing);
    World::new(spec, Meter { network, framing, open: HashMap::new(), awaited: 0, failed: 0, slowdowns })
}

/// Bytes that all hosts have sent.
fn sent_bytes(world: &World<Meter>) -> u64 {
    let hosts = world.spec().network.hosts() as usize;
    world.ports()[..hosts].iter().map(|(port, _)| port.counts.bytes).sum()
}

fn host_state(world: &World<Meter>) -> HostState {
    let mut state = HostState::default();
    let hosts = world.hosts().len() as f64;
    for endpoint in world.hosts().iter().filter_map(|host| host.endpoint.as_ref()) {
        let rpcs = endpoint.calls().len();
        state.sessions += endpoint.open_sessions().len() as f64 / hosts;
        state.rpcs += rpcs as f64 / hosts;
        state.rpcs_max = state.rpcs_max.max(rpcs);
        state.held_bytes += endpoint.held_bytes() as f64 / hosts;
    }
    state
}

impl Outcome {
    /// Takes what another replica of the same plan gave.
    pub fn add(&mut self, other: &Self) {
        self.slowdowns.add(&other.slowdowns);
        self.packets += other.packets;
        self.happenings += other.happenings;
        self.refused += other.refused;
        self.failed += other.failed;
        let (a, b) = (self.measured as f64, other.measured as f64);
        let mean = |x: f64, y: f64| (x * a + y * b) / (a + b);
        self.used = mean(self.used, other.used);
        self.goodput = mean(self.goodput, other.goodput);
        self.measured += other.measured;
        self.edge_queue_peak = self.edge_queue_peak.max(other.edge_queue_peak);
        self.core_queue_peak = self.core_queue_peak.max(other.core_queue_peak);
        // Whoever finishes first: the result must not depend on it.
        self.hash = self.hash.wrapping_add(other.hash);
    }
}
