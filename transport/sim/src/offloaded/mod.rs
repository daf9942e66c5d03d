//! Owns pairs of hosts that seal with different engines: processor with either library, or a modelled card below the shipped engine of NICs.
//! Calls of given sizes, many at once, through losses and disorder; what came, and what was sealed by whom.

pub mod ledger;

use std::collections::HashMap;
use std::time::Duration;

use endpoint::config::Config;
use endpoint::counters::Counters;
use endpoint::endpoint::Endpoint;
use endpoint::events::Event;
use endpoint::pool::Payload;
use mlx5_shim::device::Device;
use mlx5_shim::fault::{Fault, Faulty, Trigger};
use mlx5_shim::model::{Config as Card, Model, Report, Witness};
use offload::frame::Cable;
use offload::gcm::Provided;
use offload::ladder::{Climb, given, test};
use offload::nic::{Config as NicConfig, Counters as NicCounters, Nic};
use offload::proof::NoWire;
use proto::time::Instant;
use record::aead::Cipher;
use wire::limits::DATA_HEADER_LEN;
use wire::trailer::Kind;

use crate::clock::{MS, SEC, Time, US};
use crate::fabric::Network;
use crate::hooks::{Hooks, Spec, Verdict};
use crate::host::address;
use crate::link::Frame;
use crate::rng::Rng;
use crate::world::World;
use ledger::{CARD, PURE, SOFTWARE, Seen};

/// Who seals for a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The processor, with the library of the default build.
    Software,
    /// The processor, with the library in pure Rust.
    RustCrypto,
    /// A modelled card, and the processor for what is not worth it.
    Card,
}

impl Engine {
    /// All of them, with their names.
    pub const ALL: [(&str, Self); 3] =
        [("software", Self::Software), ("rustcrypto", Self::RustCrypto), ("card", Self::Card)];
}

/// What a pair does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// All randomness comes from it.
    pub seed: u64,
    /// Messages, requests and responses together.
    pub messages: u64,
    /// Bytes of each; they take turns.
    pub sizes: Vec<usize>,
    /// Calls that are open at once.
    pub interleave: u64,
    /// Share of frames that are lost.
    pub loss: f64,
    /// Share of frames that are late, and overtaken.
    pub late: f64,
    /// The engines of client and server.
    pub engines: [Engine; 2],
    /// The cipher.
    pub cipher: Cipher,
    /// Records after which the next epoch is wanted, if that is early.
    pub rekey_after: Option<u64>,
    /// What goes wrong between the client's engine and its card.
    pub fault: Option<Fault>,
    /// How the cards are used.
    pub nic: NicConfig,
    /// The cards cut segments themselves.
    pub lso: bool,
    /// Small messages travel together.
    pub bundles: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 1,
            messages: 1000,
            sizes: vec![64, 1024, 16_384],
            interleave: 16,
            loss: 0.0,
            late: 0.0,
            engines: [Engine::Card; 2],
            cipher: Cipher::Aes128Gcm,
            rekey_after: None,
            fault: None,
            nic: NicConfig::default(),
            lso: true,
            bundles: true,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Messages that arrived whole and as they were sent.
    pub messages: u64,
    /// Calls that did not end in their response.
    pub failed: u64,
    /// Messages that arrived altered.
    pub altered: u64,
    /// What the seals were.
    pub seen: Seen,
    /// What the engines of both hosts counted, together.
    pub nic: NicCounters,
    /// What both endpoints counted.
    pub counters: [Counters; 2],
    /// What the cards saw, of client and server.
    pub reports: Vec<Report>,
    /// How often the fault struck.
    pub strikes: u64,
    /// Descriptors that were kept from the card.
    pub refused_descriptors: u64,
    /// How often the card worked a queue later than one that was rung for afterwards.
    pub overtaken: u64,
    /// Why a card was not used, if one was not.
    pub refused: Option<String>,
    /// Datagrams that were lost on purpose.
    pub lost: u64,
    /// Virtual time that it took.
    pub time: Time,
}

impl Outcome {
    /// Packets that did not open at their receivers.
    pub fn tag_failures(&self) -> u64 {
        self.counters.iter().map(|counters| counters.dropped_bad_tag).sum()
    }

    /// Of both endpoints, what `of` picks.
    pub fn sum(&self, of: impl Fn(&Counters) -> u64) -> u64 {
        self.counters.iter().map(of).sum()
    }

    /// The same of the cards' reports.
    pub fn cards(&self, of: impl Fn(&Report) -> u64) -> u64 {
        self.reports.iter().map(of).sum()
    }
}

/// What the two say to each other, and what the network does to it.
struct Load {
    rng: Rng,
    loss: f64,
    late: f64,
    open: u64,
    done: u64,
    failed: u64,
    altered: u64,
    lost: u64,
    lengths: HashMap<u64, usize>,
}

/// The bytes of a message of that number.
fn body(cookie: u64, len: usize) -> Payload {
    let mut bytes = vec![cookie as u8; len];
    if len >= 8 {
        bytes[..8].copy_from_slice(&cookie.to_be_bytes());
    }
    Payload::from(bytes)
}

impl Hooks for Load {
    fn verdict(&mut self, _: Time, frame: &Frame) -> Verdict {
        // Handshakes have tests of their own.
        if frame.bytes.len() < DATA_HEADER_LEN || !matches!(frame.bytes[0] & 0xf, 1 | 2) {
            return Verdict::Pass;
        }
        let dice = self.rng.below(1 << 20) as f64 / f64::from(1 << 20);
        if dice < self.loss {
            self.lost += 1;
            Verdict::Drop
        } else if dice < self.loss + self.late {
            Verdict::Delay(5 * US + self.rng.below(60) * US)
        } else {
            Verdict::Pass
        }
    }

    fn event(&mut self, _: Time, _: u32, endpoint: &mut Endpoint, local: Instant, event: Event) {
        match event {
            Event::Request { id, payload, .. } => drop(endpoint.reply(local, id, payload)),
            Event::Response { cookie, payload, .. } => {
                self.open -= 1;
                let right = self.lengths.remove(&cookie).is_some_and(|len| payload[..] == body(cookie, len)[..]);
                *(if right { &mut self.done } else { &mut self.altered }) += 2;
            }
            Event::Failed { .. } => {
                self.open -= 1;
                self.failed += 1;
            }
            _ => {}
        }
    }
}

/// The modelled card of a host, put to the test, and its engine.
fn card(plan: &Plan, host: u32, fault: Option<Fault>) -> (Result<Nic, String>, Witness, Option<Trigger>) {
    let mut config = Card::default();
    if !plan.lso {
        config.caps.log_max_lso = 0;
    }
    let model = Model::new(config, Box::new(Provided(&CARD)));
    let witness = model.witness();
    // What software does wrong stands above the guard, which every card in use has; what a card does wrong, below.
    let (device, below): (Box<dyn Device>, _) = match fault.filter(|fault| *fault != Fault::ReorderQueues) {
        None => (Box::new(model), None),
        Some(fault) => {
            let (faulty, trigger) = Faulty::new(model, fault);
            (Box::new(faulty), Some(trigger))
        }
    };
    // A fault of what only the self-test uses strikes there; the others begin when the card is trusted.
    if let Some(trigger) = below.as_ref().filter(|_| fault == Some(Fault::ShortDump)) {
        trigger.arm();
    }
    let mut cable = Cable { from: address(host), vlan: None };
    let mut rng = Rng::new(plan.seed, 0x0ff1_0ad0 + u64::from(host));
    let climb: Climb =
        test(given(device), &SOFTWARE, &mut NoWire, &mut cable, address(1 - host), &mut |bytes| rng.fill(bytes));
    // The test seals numbers of a key of its own with both: those are not the sessions'.
    let refused = climb.fault().map(|rung| format!("{}: {}", rung.name, rung.why));
    let Some(device) = climb.device.filter(|_| refused.is_none()) else {
        return (Err(refused.unwrap_or_default()), witness, below);
    };
    let (device, trigger) = match fault {
        Some(Fault::ReorderQueues) => {
            let (faulty, trigger) = Faulty::new(device, Fault::ReorderQueues);
            (Box::new(faulty) as Box<dyn Device>, Some(trigger))
        }
        _ => (device, below),
    };
    if let Some(trigger) = &trigger {
        trigger.arm();
    }
    (Nic::new(device, Box::new(cable), plan.nic).map_err(|error| error.to_string()), witness, trigger)
}

/// The engine of a host's card, if the plan gives it one, for endpoints that are driven by others. Its seals are in the ledger.
///
/// # Panics
/// When the model does not stand its test.
pub fn nic_of(plan: &Plan, host: u32) -> Option<Nic> {
    let wanted = plan.engines[host as usize] == Engine::Card;
    wanted.then(|| card(plan, host, None).0.expect("a card without a fault is trusted"))
}

/// The configuration of a host's endpoint.
pub fn config(plan: &Plan, host: u32) -> Config {
    let crypto: &'static dyn record::aead::Crypto = match plan.engines[host as usize] {
        Engine::RustCrypto => &PURE,
        Engine::Software | Engine::Card => &SOFTWARE,
    };
    let mut config = Config::new(crypto);
    config.cipher = plan.cipher;
    config.bundles = plan.bundles;
    config.proto.serving = true;
    config.proto.peer_timeout = Duration::from_millis(500);
    if let Some(records) = plan.rekey_after {
        config.key_limits = config.key_limits.rekey_after(records);
    }
    config
}

/// Runs a pair. `progress` is told which part is done.
pub fn run(plan: &Plan, progress: &mut dyn FnMut(f64)) -> Outcome {
    let mut outcome = Outcome::default();
    let mut spec = Spec::new(plan.seed, Network::pair());
    let of_host = plan.clone();
    spec.config = Box::new(move |host| config(&of_host, host));
    let rng = Rng::new(plan.seed, 0x00ff_10ad);
    let load = Load {
        rng,
        loss: plan.loss,
        late: plan.late,
        open: 0,
        done: 0,
        failed: 0,
        altered: 0,
        lost: 0,
        lengths: HashMap::new(),
    };
    let mut world = World::new(spec, load);
    let mut cards = Vec::new();
    for host in 0..2 {
        if plan.engines[host as usize] == Engine::Card {
            let (nic, witness, trigger) = card(plan, host, plan.fault.filter(|_| host == 0));
            match nic {
                Ok(nic) => world.with(host, |endpoint, _| endpoint.set_nic(nic)).expect("the host is up"),
                Err(why) => outcome.refused = Some(why),
            }
            cards.push((witness, trigger));
        }
    }
    // What the self-test sealed is not part of what is looked at.
    ledger::begin();
    let before: Vec<Report> = cards.iter().map(|(witness, _)| witness.report()).collect();
    world.acquaint(0, 1);
    drive(plan, &mut world, progress);
    let load = &world.hooks;
    (outcome.messages, outcome.failed, outcome.altered, outcome.lost) =
        (load.done, load.failed, load.altered, load.lost);
    outcome.time = world.now();
    outcome.seen = ledger::seen();
    for host in 0..2 {
        let Some(endpoint) = world.endpoint(host) else { continue };
        outcome.counters[host as usize] = *endpoint.counters();
        if let Some(nic) = endpoint.nic() {
            add(&mut outcome.nic, &nic.counters);
        }
    }
    for trigger in cards.iter().filter_map(|(_, trigger)| trigger.as_ref()) {
        outcome.strikes += trigger.strikes();
        outcome.refused_descriptors += trigger.refused();
        outcome.overtaken += trigger.overtaken();
    }
    outcome.reports = cards.iter().zip(before).map(|((witness, _), before)| since(witness.report(), &before)).collect();
    outcome
}

/// Calls until all are done, or a long time has passed.
fn drive(plan: &Plan, world: &mut World<Load>, progress: &mut dyn FnMut(f64)) {
    let calls = plan.messages.div_ceil(2);
    let (mut begun, mut last, mut looked) = (0, world.now(), 0);
    while begun < calls || world.hooks.open > 0 {
        while begun < calls && world.hooks.open < plan.interleave {
            let len = plan.sizes[(begun % plan.sizes.len() as u64) as usize];
            if world.send(0, 1, Kind::Request, body(begun, len), begun).is_err() {
                break;
            }
            world.hooks.lengths.insert(begun, len);
            world.hooks.open += 1;
            begun += 1;
        }
        let ended = world.hooks.done + world.hooks.failed + world.hooks.altered;
        if ended > looked {
            (last, looked) = (world.now(), ended);
            progress(ended as f64 / plan.messages as f64);
        } else if world.now() > last + 30 * SEC {
            world.hooks.failed += world.hooks.open;
            return;
        }
        world.run(world.now() + 20 * US);
    }
    // What is still on its way says what it has to say.
    world.run(world.now() + 20 * MS);
}

fn since(mut report: Report, before: &Report) -> Report {
    report.records -= before.records;
    report.garbled -= before.garbled;
    report.twice -= before.twice;
    report.malformed -= before.malformed;
    report.frames -= before.frames;
    report
}

fn add(sum: &mut NicCounters, one: &NicCounters) {
    sum.plans += one.plans;
    sum.records += one.records;
    sum.bytes += one.bytes;
    sum.descriptors += one.descriptors;
    sum.blocks += one.blocks;
    sum.resyncs += one.resyncs;
    sum.progress_only += one.progress_only;
    sum.full += one.full;
    sum.keys += one.keys;
    sum.keys_retired += one.keys_retired;
    sum.failures += one.failures;
    sum.evictions += one.evictions;
}
