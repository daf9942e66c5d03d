//! Owns what a seed means: how many hosts, what network, which configuration, what goes wrong and when. All of it follows from the
//! seed; nothing of it is looked at again but by who drives the run.

use std::time::Duration;

use endpoint::config::Config;
use proto::config::{GrantWindow, Priorities};
use record::aead::Cipher;
use record::budget::Limits;

use crate::clock::{MS, SEC, Skew, Time, US};
use crate::fabric::Network;
use crate::fault::{Fault, Rule};
use crate::rng::Rng;

/// How long things go wrong.
pub const TROUBLE: Time = 2 * SEC;
/// Packets that are to be delivered in that time.
pub const PACKETS: u64 = 97_000;

/// Longest message.
pub const LENGTH_MAX: u64 = 3 << 20;

/// Something that happens once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// A host crashes, and is started again so much later, with another clock.
    Crash {
        /// Which.
        host: u32,
        /// How long it is away.
        away: Time,
    },
    /// The network is cut in two, for so long.
    Cut {
        /// On which side each host is.
        groups: Vec<u8>,
        /// How long.
        time: Time,
    },
    /// A host's clock goes on at another rate, and perhaps jumps ahead.
    Clock {
        /// Which.
        host: u32,
        /// The rate.
        drift_ppb: i32,
        /// The jump.
        ahead_ns: u64,
    },
    /// An application closes a session.
    Close {
        /// Whose.
        host: u32,
    },
    /// What a host began comes from another address from now on; the old one is dead.
    Rebind {
        /// Whose.
        host: u32,
    },
}

/// A seed's world and what happens in it.
#[derive(Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The network, and so how many hosts.
    pub network: Network,
    /// The host that keeps no rule, if there is one.
    pub malicious: Option<u32>,
    /// The configuration of all hosts.
    pub config: Config,
    /// Largest datagram of the network.
    pub datagram_max: usize,
    /// Clocks in the beginning.
    pub clocks: Vec<Skew>,
    /// What happens to frames.
    pub rules: Vec<Rule>,
    /// What happens once.
    pub mishaps: Vec<(Time, Mishap)>,
    /// Random loss never passes for silence, and sessions are not forgotten: then a live path must work.
    pub strict: bool,
    /// Packets that are to be delivered while things go wrong.
    pub packets: u64,
}

fn one_of<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.below(of.len() as u64) as usize]
}

/// A number in that range, all orders of magnitude alike.
fn spread(rng: &mut Rng, least: u64, most: u64) -> u64 {
    (least as f64 * (most as f64 / least as f64).powf(rng.unit())) as u64
}

/// A clock as hosts have it: most run well, some do not.
pub fn clock(rng: &mut Rng) -> Skew {
    Skew { offset_ns: 100_000_000_000 + rng.below(1_000_000_000_000), drift_ppb: drift(rng) }
}

fn drift(rng: &mut Rng) -> i32 {
    let most = one_of(rng, &[50_000, 50_000, 5_000_000, 200_000_000]);
    rng.below(2 * most) as i32 - most as i32
}

impl Plan {
    /// What the seed means.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 0xc4a0_5001);
        let hosts = 2 + rng.below(7) as u32;
        let network = network(&mut rng, hosts);
        let hosts = network.hosts();
        let malicious = (hosts > 2 && rng.chance(0.9)).then(|| hosts - 1);
        let (config, strict) = config(&mut rng, &network);
        let silence = (config.proto.peer_timeout.as_nanos() as Time).saturating_mul(1000);
        Self {
            seed,
            network,
            malicious,
            config,
            datagram_max: one_of(&mut rng, &[1232, 1452, 1472, 1472, 4000, 8972]),
            clocks: (0..hosts).map(|_| clock(&mut rng)).collect(),
            rules: rules(&mut rng, hosts),
            mishaps: mishaps(&mut rng, hosts, silence, malicious),
            strict,
            packets: PACKETS,
        }
    }
}

fn network(rng: &mut Rng, hosts: u32) -> Network {
    let rate = one_of(rng, &[1, 10, 10, 25, 100]) * 1_000_000_000;
    let network = Network {
        host_rate: rate,
        core_rate: 4 * rate,
        switch_delay: spread(rng, US / 10, 30 * US),
        send_delay: spread(rng, US / 2, 20 * US),
        receive_delay: spread(rng, US / 2, 20 * US),
        queue_bytes: one_of(rng, &[30_000, 200_000, u64::MAX]),
        ..Network::one_switch(hosts)
    };
    match hosts {
        2 if rng.chance(0.5) => Network { racks: 0, ..network },
        4 | 6 | 8 if rng.chance(0.4) => Network { racks: 2, hosts_per_rack: hosts / 2, spines: 2, ..network },
        _ => network,
    }
}

fn config(rng: &mut Rng, network: &Network) -> (Config, bool) {
    let mut config = Config::new(offload::software::crypto());
    config.cipher = one_of(rng, &[Cipher::Aes128Gcm, Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305]);
    config.handshake_timeout = Duration::from_secs(3);
    config.handshakes_max = one_of(rng, &[32, 64, 4096]);
    config.send_bytes_max = one_of(rng, &[4 << 20, 256 << 20]);
    // As long as a session is used it is not forgotten, so this shows only where nothing is said for long.
    config.session_idle =
        one_of(rng, &[Duration::from_millis(1500), Duration::from_secs(3600), Duration::from_secs(3600)]);
    // In some worlds sessions rest as soon as they may, in most others at times.
    config.session_rests_after =
        one_of(rng, &[Duration::from_micros(50), Duration::from_millis(5), Duration::from_secs(1)]);
    config.sessions_awake_max = one_of(rng, &[1, 4, 4096]);
    // Most keys wear out all the time, some hardly ever. Where the most that they may protect is lowered, too, it is still more than the
    // longest message needs, and the next epoch is wanted so late that messages have to wait for it: where it is wanted at a quarter, a
    // session does not bring enough, while nobody answers, to use up the other three.
    config.key_limits = one_of(
        rng,
        &[
            Limits::PROTOCOL,
            Limits::PROTOCOL.rekey_after(30),
            Limits::PROTOCOL.rekey_after(200),
            Limits::PROTOCOL.rekey_after(1000),
            Limits::lowered(16).late(),
        ],
    );
    // In some worlds nobody has bundles. There keys wear out sooner, so that messages wait for the next one.
    config.bundles = rng.chance(0.7) && config.key_limits != Limits::lowered(16).late();
    let silence = one_of(rng, &[100, 200, 400]);
    let proto = &mut config.proto;
    proto.serving = true;
    proto.peer_timeout = Duration::from_millis(silence);
    // Pauses must be able to outgrow the longest queue, as they do by default: who asks again before an answer can be there has everything
    // sent again that stands in that queue.
    proto.resend_max = Duration::from_millis(silence) / 5;
    proto.resend_min = Duration::from_micros(one_of(rng, &[200, 1000]));
    proto.stall_timeout = Duration::from_millis(1500);
    proto.unscheduled_bytes = one_of(rng, &[1500, 5000, 20_000, 128 << 10]);
    proto.incoming_bytes_max = one_of(rng, &[10_000, 60_000, 300_000, 2 << 20]);
    proto.buffered_bytes_max = one_of(rng, &[8 << 20, 32 << 20, 1 << 30]);
    proto.buffered_bytes_per_host_max = proto.buffered_bytes_max / 2;
    proto.buffered_bytes_per_peer_max = one_of(rng, &[6 << 20, proto.buffered_bytes_max]);
    proto.message_bytes_max = 4 << 20;
    proto.rpcs_per_peer_max = one_of(rng, &[700, 1 << 16]);
    proto.intervals_max = one_of(rng, &[512, 4096]);
    proto.waiting_max = one_of(rng, &[16, 256]);
    proto.link_bits_per_second = rng.chance(0.4).then_some(network.host_rate);
    proto.grant_window = one_of(rng, &[GrantWindow::Dynamic, GrantWindow::Dynamic, GrantWindow::Fixed(30_000)]);
    proto.overcommit = one_of(rng, &[None, None, Some(1), Some(8)]);
    proto.priorities = one_of(
        rng,
        &[
            Priorities::Measured { messages: 100 },
            Priorities::Measured { messages: 1000 },
            Priorities::Off,
            Priorities::Fixed([300, 1500, 10_000, u32::MAX, 0, 0, 0, 0]),
        ],
    );
    proto.incast_calls = one_of(rng, &[None, Some(4), Some(64)]);
    // Nor do all take records that span packets.
    config.spans = rng.chance(0.8);
    let strict = config.session_idle > Duration::from_secs(60) && proto.rpcs_per_peer_max > 1000;
    (config, strict)
}

/// Some of each kind all the time, and times in which one kind is frequent between two hosts or everywhere.
fn rules(rng: &mut Rng, hosts: u32) -> Vec<Rule> {
    let kinds = |rng: &mut Rng| {
        let late = spread(rng, 5 * US, 2 * MS);
        [Fault::Loss, Fault::Reorder(late), Fault::Duplicate(late), Fault::Corrupt, Fault::Truncate, Fault::Extend]
    };
    let mut rules = Vec::new();
    for _ in 0..24 {
        let start = rng.below(TROUBLE);
        let host = |rng: &mut Rng| rng.chance(0.5).then(|| rng.below(hosts.into()) as u32);
        let (from, to) = (host(rng), host(rng));
        let fault = if rng.chance(0.3) {
            Fault::Burst(spread(rng, 100 * US, 10 * MS))
        } else {
            let kinds = kinds(rng);
            one_of(rng, &kinds)
        };
        let (time, chance) = match fault {
            Fault::Burst(_) => (spread(rng, 100 * US, 3 * MS), 1.0),
            _ => (spread(rng, MS, 200 * MS), 0.02 + 0.18 * rng.unit()),
        };
        rules.push(Rule { from, to, start, end: (start + time).min(TROUBLE), chance, fault });
    }
    for fault in kinds(rng) {
        let chance = spread(rng, 3, 100) as f64 / 10_000.0;
        rules.push(Rule { from: None, to: None, start: 0, end: TROUBLE, chance, fault });
    }
    rules
}

fn mishaps(rng: &mut Rng, hosts: u32, silence: Time, malicious: Option<u32>) -> Vec<(Time, Mishap)> {
    let mut mishaps = Vec::new();
    for _ in 0..6 + rng.below(4) {
        let host = rng.below(hosts.into()) as u32;
        let away = if rng.chance(0.2) { 2 * silence } else { spread(rng, 100 * US, 60 * MS) };
        mishaps.push((rng.below(TROUBLE), Mishap::Crash { host, away }));
    }
    for _ in 0..6 + rng.below(6) {
        let mut groups: Vec<u8> = (0..hosts).map(|_| rng.below(2) as u8).collect();
        // Somebody is on the other side.
        let odd = rng.below(hosts.into()) as usize;
        groups[odd] = 1 - groups[(odd + 1) % hosts as usize];
        let time = if rng.chance(0.15) { silence + silence / 4 } else { spread(rng, 200 * US, 50 * MS) };
        mishaps.push((rng.below(TROUBLE), Mishap::Cut { groups, time }));
    }
    for _ in 0..6 {
        let host = rng.below(hosts.into()) as u32;
        let ahead_ns = if rng.chance(0.5) { spread(rng, 1000, 20_000_000) } else { 0 };
        mishaps.push((rng.below(TROUBLE), Mishap::Clock { host, drift_ppb: drift(rng), ahead_ns }));
    }
    for _ in 0..8 {
        mishaps.push((rng.below(TROUBLE), Mishap::Close { host: rng.below(hosts.into()) as u32 }));
    }
    for _ in 0..3 + rng.below(4) {
        let (at, host) = (rng.below(TROUBLE), rng.below(hosts.into()) as u32);
        // Who keeps no rule says what it likes from wherever it likes: nobody follows it.
        if malicious != Some(host) {
            mishaps.push((at, Mishap::Rebind { host }));
        }
    }
    mishaps
}
