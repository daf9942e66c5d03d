//! Owns the judgement of a run: whether the invariants of the design hold, all the time. It stands beside the endpoints and sees
//! what is sent, what arrives and what they tell; it never asks them for what it can know by itself.
//!
//! | invariant | judged |
//! |---|---|
//! | 1 no key and nonce twice | at each packet that leaves an honest host: `nonces` |
//! | 2 at most once, with a live path exactly once | at each event: `calls`, `paths` |
//! | 3 what is delivered is what was sent | at each delivery: `bodies` |
//! | 4 what is not authentic changes nothing but a counter | at each altered or forged packet that arrives: `views` |
//! | 5 grants within the budget, 7 memory under its caps | after all that an endpoint is told: `limits` |
//! | 6 every call ends | at its deadline, and when all is over |
//! | 8 same seed, same trace | by whoever runs it twice |

pub mod bodies;
pub mod nonces;
pub mod paths;
pub mod calls;
pub mod limits;
pub mod views;

use endpoint::config::Config;
use endpoint::endpoint::Endpoint;
use endpoint::events::Event;
use proto::time::Instant;
use record::budget::Limits;
use wire::control::packet_number;
use wire::header::Header;
use wire::limits::{DATA_HEADER_LEN, RECORD_HEADER_LEN};
use wire::slice::{Part, part_at, slice_at};

use crate::clock::Time;
use crate::fault::Altered;
use crate::link::Frame;
use crate::malice::forge::Forger;
use crate::rng::FastMap;
use crate::wiretap::Wiretap;
use calls::{Broken, Calls};
use limits::Peaks;
use nonces::Nonces;
use paths::Paths;
use views::View;

/// Of how many inputs one is followed by a look at everything.
const LOOK_EVERY: u64 = 512;

/// A rule was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant, as the design numbers them.
    pub invariant: u8,
    /// When.
    pub at: Time,
    /// What happened.
    pub what: String,
}

/// What the checker looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// Sealed packets that left.
    pub sealed: u64,
    /// Deliveries whose bytes were compared.
    pub bodies: u64,
    /// Altered or forged packets of which was seen that they changed nothing.
    pub unauthentic: u64,
    /// Times that all limits were compared.
    pub limits: u64,
    /// Times that everything was looked at.
    pub everything: u64,
}

/// The checker of one world.
#[derive(Debug)]
pub struct Checker {
    /// What all endpoints promise to keep to.
    config: Config,
    malicious: Option<u32>,
    /// What is known of sessions.
    pub wiretap: Wiretap,
    /// All calls.
    pub calls: Calls,
    /// All paths.
    pub paths: Paths,
    nonces: Nonces,
    /// Of which kinds of packets one was opened, by the name of the key of data: with keys that follow from the specification alone.
    opened: FastMap<u64, u8>,
    /// What an endpoint looked like before an altered or forged packet arrived.
    before: Option<(Altered, View)>,
    inputs: u64,
    /// What was looked at.
    pub looks: Looks,
    /// The most that was held.
    pub peaks: Peaks,
    broken: Option<Violation>,
}

impl Checker {
    /// Of a world in which `malicious` may break every rule.
    #[must_use]
    pub fn new(seed: u64, malicious: Option<u32>, config: Config, wiretap: Wiretap, paths: Paths) -> Self {
        let mut calls = Calls::new(seed, malicious);
        calls.worn = config.key_limits != Limits::PROTOCOL;
        Self {
            config,
            malicious,
            wiretap,
            calls,
            paths,
            nonces: Nonces::default(),
            opened: FastMap::default(),
            before: None,
            inputs: 0,
            looks: Looks::default(),
            peaks: Peaks::default(),
            broken: None,
        }
    }

    /// Endpoints are held to this configuration, whatever theirs is.
    pub fn judge_by(&mut self, config: Config) {
        self.config = config;
    }

    /// The first rule that was broken.
    #[must_use]
    pub const fn broken(&self) -> Option<&Violation> {
        self.broken.as_ref()
    }

    /// Whether a host keeps the rules.
    #[must_use]
    pub fn is_honest(&self, host: u32) -> bool {
        self.malicious != Some(host)
    }

    /// Takes note of a rule that was broken, if it was. Later ones follow from the first.
    pub fn judge<T>(&mut self, now: Time, judged: Result<T, Broken>) -> Option<T> {
        match judged {
            Ok(value) => Some(value),
            Err((invariant, what)) => {
                self.broken.get_or_insert(Violation { invariant, at: now, what });
                None
            }
        }
    }

    /// A frame leaves its host, as its endpoint made it.
    pub fn left(&mut self, now: Time, frame: &Frame) {
        self.wiretap.hear(now, frame);
        if matches!(frame.kind(), 1 | 2) && self.is_honest(frame.from) {
            self.looks.sealed += 1;
            let judged = self.sealed(frame).map_err(|what| (1, format!("host {}: {what}", frame.from)));
            self.judge(now, judged);
        }
    }

    fn sealed(&mut self, frame: &Frame) -> Result<(), String> {
        let header = Header::parse(&frame.bytes).map_err(|why| format!("a packet that is none: {why}"))?;
        let name = header.session.as_u64();
        let Some(session) = self.wiretap.session_of(frame.from, frame.to, name) else {
            return Err(format!("a packet of a session that nobody opened: {header:?}"));
        };
        let side = session.side(frame.from);
        let Some(epoch) = session.named(side, header.epoch) else {
            return Err(format!("a packet of an epoch that cannot live beside {}: {header:?}", session.epoch(side)));
        };
        let key = session.key_name(side, epoch);
        let seen = self.opened.entry(key).or_default();
        // A slice does not open by itself; its message's first record does. [P-4.6]
        let alone = frame.kind() == 2 || slice_at(&frame.bytes, DATA_HEADER_LEN).is_err();
        if *seen & frame.kind() == 0 && alone {
            *seen |= frame.kind();
            let forger = Forger::new(session.keys(side, epoch), header.session);
            if !forger.opens(&frame.bytes) {
                return Err(format!("epoch {epoch} is not sealed with its keys: {header:?}"));
            }
        }
        if frame.kind() == 2 {
            let number = packet_number(&frame.bytes).map_err(|why| format!("a packet that is none: {why}"))?;
            return self.nonces.control(key, number);
        }
        let direction = session.key_name(side, 0);
        let mut at = DATA_HEADER_LEN;
        while at < frame.bytes.len() {
            match part_at(&frame.bytes, at).map_err(|why| format!("a record that is none: {why}"))? {
                Part::Record(view) => {
                    let sealed = &frame.bytes[at + RECORD_HEADER_LEN..view.sealed.end];
                    self.nonces.record(direction, epoch, view.number.as_u64(), sealed)?;
                    at = view.sealed.end;
                }
                Part::Slice(view) => {
                    let (name, slice) = ((direction, epoch, view.number.as_u64()), &frame.bytes[view.bytes.clone()]);
                    self.nonces.slice(name, view.slice.start, view.sealed_len, slice)?;
                    at = view.bytes.end;
                }
            }
        }
        Ok(())
    }

    /// A frame is about to be handed to an endpoint; `altered` says what it must not be taken for.
    pub fn arriving(&mut self, altered: Option<Altered>, frame: &Frame, endpoint: &Endpoint) {
        let slice = || frame.kind() == 1 && slice_at(&frame.bytes, DATA_HEADER_LEN).is_ok();
        let altered = altered.map(|altered| if slice() { Altered::Slice } else { altered });
        self.before = altered.map(|altered| (altered, View::of(endpoint, altered, frame.id)));
    }

    /// It was.
    pub fn arrived(&mut self, now: Time, frame: &Frame, endpoint: &Endpoint) {
        if let Some((altered, before)) = self.before.take() {
            self.looks.unauthentic += 1;
            let after = View::of(endpoint, altered, frame.id);
            let judged = before.unchanged(&after).map_err(|what| {
                let start = &frame.bytes[..frame.bytes.len().min(48)];
                (4, format!("host {}: a packet that is not authentic changed {what}: {start:02x?}", frame.to))
            });
            self.judge(now, judged);
        }
    }

    /// An endpoint was told something and has done what follows from it.
    pub fn settled(&mut self, now: Time, host: u32, endpoint: &Endpoint) {
        if self.is_honest(host) {
            self.inputs += 1;
            self.looks.limits += 1;
            let judged = if self.inputs.is_multiple_of(LOOK_EVERY) {
                self.looks.everything += 1;
                limits::everything(endpoint, &self.config, &mut self.peaks)
            } else {
                limits::totals(&endpoint.holdings(), &self.config, &mut self.peaks)
            };
            self.judge(now, judged.map_err(|(invariant, what)| (invariant, format!("host {host}: {what}"))));
        }
    }

    /// An endpoint tells something. Gives the call of a request or one-way message that arrived, if it is one of ours.
    pub fn event(&mut self, now: Time, host: u32, local: Instant, event: &Event) -> Option<u64> {
        if matches!(event, Event::Request { .. } | Event::OneWay { .. } | Event::Response { .. }) {
            self.looks.bodies += 1;
        }
        if let Event::Moved { session, address } = event {
            let judged = self.paths.moved((host, session.as_u64()), *address, &self.wiretap);
            self.judge(now, judged);
        }
        let judged = self.calls.event(host, local, event, (&self.wiretap, &self.paths));
        self.judge(now, judged).flatten()
    }
}
