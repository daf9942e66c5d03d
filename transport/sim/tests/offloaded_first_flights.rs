//! Engines left and right from the handshake on: full and resumed sessions, requests in the first flight, keys that change, all through losses and
//! disorder. What arrives is what was sent, and no number that a card had is sealed again. [P-3.5]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use endpoint::endpoint::{Endpoint, Sending, To};
use endpoint::events::Event;
use handshake::config::{ClientConfig, Clients, ServerConfig};
use handshake::identity::Identity;
use handshake::trust::Trust;
use proto::time::Instant;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use record::aead::Cipher;
use sim::host::address;
use sim::offloaded::{Engine, Plan, config, ledger, nic_of};
use sim::rng::Rng;
use wire::trailer::Kind;

const DATAGRAM: usize = 1472;
/// A first flight takes no more.
const EARLY_MAX: usize = 1 << 14;
/// Of each session: the first request goes early, where it can, which is in the handshake's own packets; its answer is longer, and a card's.
const SIZES: [usize; 5] = [EARLY, 64, 1400, 9000, 90_000];
const EARLY: usize = 1000;
/// Bytes of the answer to a message of so many.
const fn answer_len(len: usize) -> usize {
    if len == EARLY { 12_000 } else { len }
}
/// Unix seconds of the beginning: certificates are valid then.
const BEGAN: u64 = 1_800_000_000;

/// The authority, the server's chain and its key, in PEM.
fn credentials() -> [String; 3] {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    [authority, server.pem(), key.serialize_pem()]
}

/// Two endpoints and a network that loses and delays.
struct Pair {
    ends: [Endpoint; 2],
    target: u32,
    now: Instant,
    rng: Rng,
    loss: f64,
    /// A copy of each datagram, with another last byte, comes first: what somebody on the way can forge.
    forges: bool,
    /// Datagrams under way: when they arrive, in which order they left, at whom, and what they are.
    flying: Vec<(Instant, u64, usize, Vec<u8>)>,
    left: u64,
    lost: u64,
    answered: Vec<(u64, Vec<u8>)>,
}

impl Pair {
    fn new(plan: &Plan, [authority, chain, key]: &[String; 3]) -> Self {
        let trust = Trust::pem("authority", authority.as_bytes()).unwrap();
        let identity = Identity::pem("server", chain.as_bytes(), key.as_bytes()).unwrap();
        let mut configs = [0, 1].map(|host| config(plan, host));
        for config in &mut configs {
            config.unix_seconds_at_zero = BEGAN;
            config.datagram_bytes_max = DATAGRAM;
        }
        configs[0].client = Some(Arc::new(ClientConfig::new(&trust, None, &[Cipher::Aes128Gcm]).unwrap()));
        let server = ServerConfig::new(&identity, Clients::Anonymous, &[Cipher::Aes128Gcm]).unwrap();
        configs[1].server = Some(Arc::new(server.early_data(true)));
        configs[1].early_data_bytes_max = EARLY_MAX;
        let mut host = 0;
        let mut ends = configs.map(|config| {
            let mut rng = Rng::new(plan.seed, 70 + u64::from(host));
            let mut end = Endpoint::new(config, Box::new(move |bytes| rng.fill(bytes)));
            nic_of(plan, host).into_iter().for_each(|nic| end.set_nic(nic));
            host += 1;
            end
        });
        let target = ends[0].target(address(1), "localhost", DATAGRAM);
        let (now, rng) = (Instant::from_nanos(1_000_000_000), Rng::new(plan.seed, 60));
        let (flying, answered) = (Vec::new(), Vec::new());
        Self { ends, target, now, rng, loss: plan.loss, forges: false, flying, left: 0, lost: 0, answered }
    }

    fn chance(&mut self, of: f64) -> bool {
        (self.rng.below(1 << 20) as f64) < of * f64::from(1 << 20)
    }

    /// All that an end has to send leaves; some of it is lost, some late.
    fn leave(&mut self, from: usize) {
        let mut wire = vec![0; 1 << 16];
        while let Some(train) = self.ends[from].poll_transmit(self.now, &mut wire) {
            for datagram in wire[..train.len].chunks(train.segment.max(1)) {
                self.left += 1;
                let (lost, late) = (self.chance(self.loss), self.chance(self.loss * 2.0));
                self.lost += u64::from(lost);
                let way = Duration::from_micros(5 + if late { self.rng.below(80) } else { 0 });
                if self.forges {
                    let mut forged = datagram.to_vec();
                    *forged.last_mut().expect("a datagram") ^= 1;
                    self.flying.push((self.now + way, self.left, 1 - from, forged));
                }
                if !lost {
                    self.flying.push((self.now + way, self.left, 1 - from, datagram.to_vec()));
                }
            }
        }
    }

    /// What is due arrives, and what follows from it happens.
    fn arrive(&mut self) {
        self.flying.sort_by_key(|(at, left, _, _)| (*at, *left));
        let due = self.flying.partition_point(|(at, _, _, _)| *at <= self.now);
        for (_, _, to, bytes) in self.flying.drain(..due).collect::<Vec<_>>() {
            let mut buffer = self.ends[to].buffer();
            buffer.bytes()[..bytes.len()].copy_from_slice(&bytes);
            let from: SocketAddr = address(1 - to as u32);
            self.ends[to].handle_datagrams(self.now, from, buffer, bytes.len(), bytes.len());
        }
        for end in 0..2 {
            if self.ends[end].timeout().is_some_and(|at| at <= self.now) {
                self.ends[end].handle_timeout(self.now);
            }
            while let Some(event) = self.ends[end].poll_event() {
                match event {
                    Event::Request { id, payload, .. } => {
                        let body = self.ends[end].copy(&vec![payload[0]; answer_len(payload.len())]);
                        self.ends[end].reply(self.now, id, body).unwrap();
                    }
                    Event::Response { cookie, payload, .. } => self.answered.push((cookie, payload.to_vec())),
                    Event::Failed { why, .. } => panic!("{why}"),
                    _ => {}
                }
            }
        }
    }

    /// Goes on until so many are answered, and then for a while, so that tickets and acknowledgements arrive.
    fn until(&mut self, answers: usize) {
        let mut quiet = 0;
        let end = self.now + Duration::from_secs(20);
        while quiet < 400 {
            assert!(self.now < end, "{} of {answers} answers", self.answered.len());
            (0..2).for_each(|from| self.leave(from));
            self.now += Duration::from_micros(5);
            self.arrive();
            quiet = if self.answered.len() < answers { 0 } else { quiet + 1 };
        }
    }

    /// A session: a request as early as it can be, others behind it, all at once. Whether it was resumed.
    fn session(&mut self) -> bool {
        for (cookie, size) in (0..).zip(SIZES) {
            self.ends[0].early_next(cookie == 0);
            let body = self.ends[0].copy(&vec![cookie as u8 + 1; size]);
            let sending =
                Sending { kind: Kind::Request, cookie, waited: false, deadline: Instant::FAR, streamed: false };
            self.ends[0].send(self.now, To::Target(self.target), body, sending).unwrap();
        }
        self.ends[0].early_next(false);
        self.until(SIZES.len());
        let mut answered = std::mem::take(&mut self.answered);
        answered.sort();
        for ((cookie, bytes), (wanted, size)) in answered.into_iter().zip((0..).zip(SIZES)) {
            assert!(cookie == wanted && bytes == vec![cookie as u8 + 1; answer_len(size)], "message {cookie}");
        }
        let resumed = self.ends[0].sessions()[0].resumed;
        for end in &mut self.ends {
            end.open_sessions().into_iter().for_each(|session| end.close_session(session));
        }
        for _ in 0..200 {
            (0..2).for_each(|from| self.leave(from));
            self.now += Duration::from_micros(5);
            self.arrive();
        }
        resumed
    }
}

/// Each engine with each, and each network, with keys that change early.
#[test]
fn engines_left_and_right() {
    let credentials = credentials();
    for (_, left) in Engine::ALL {
        for (_, right) in Engine::ALL {
            for (loss, rekey_after) in [(0.0, None), (0.03, None), (0.03, Some(60))] {
                let plan = Plan { engines: [left, right], loss, rekey_after, ..Plan::default() };
                let mut pair = Pair::new(&plan, &credentials);
                ledger::begin();
                let resumed = (0..5).map(|_| pair.session()).filter(|resumed| *resumed).count() as u64;
                // A ticket can be lost with what it came in; then the next session is a full one.
                assert!(resumed == 4 || loss > 0.0 && resumed > 1, "{resumed} of {plan:?}");
                let [here, there] = [0, 1].map(|end: usize| *pair.ends[end].counters());
                let said = format!("{plan:?}\n{here:?}\n{there:?}");
                assert!(here.early_sent >= resumed && there.early_taken > 0, "{said}");
                assert_eq!((here.dropped_bad_tag, there.dropped_bad_tag), (0, 0), "{said}");
                for (engine, counters) in [(left, here), (right, there)] {
                    assert_eq!(counters.records_by_device > 0, engine == Engine::Card, "{said}");
                }
                assert_eq!(loss > 0.0, pair.lost > 0, "{said}");
                assert_eq!(rekey_after.is_some(), here.epochs_begun > 0, "{said}");
                let seen = ledger::seen();
                assert_eq!((seen.twice, seen.differing), (0, 0), "{said}");
                assert_eq!(seen.by_card > 0, left == Engine::Card || right == Engine::Card, "{said}");
            }
        }
    }
}

/// [P-3.5] What cannot be believed is no report of bad tags: cards are used on, and no key is given up.
#[test]
fn forged_packets_burn_nothing() {
    let plan = Plan { engines: [Engine::Card; 2], ..Plan::default() };
    let mut pair = Pair::new(&plan, &credentials());
    pair.forges = true;
    ledger::begin();
    for _ in 0..3 {
        pair.session();
    }
    for end in &pair.ends {
        let counters = end.counters();
        assert!(counters.dropped_bad_tag > 50 && counters.records_by_device > 50, "{counters:?}");
        assert_eq!((counters.device_off, counters.device_keys_given_up, counters.epochs_begun), (0, 0, 0));
    }
    assert_eq!((ledger::seen().twice, ledger::seen().differing), (0, 0));
}
