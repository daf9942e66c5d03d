//! Owns one run: it makes a plan's world, lets things go wrong in it while hosts call each other, then lets all end and looks whether
//! it did.

use std::collections::BTreeMap;
use std::time::Duration;

use endpoint::endpoint::{Endpoint, Sending, To};
use endpoint::pool::Payload;
use proto::time::Instant;
use wire::ids::SessionId;
use wire::trailer::Kind;

use super::agenda::{Served, Todo};
use super::app::App;
use super::plan::{LENGTH_MAX, Plan, TROUBLE};
use super::sabotage::Sabotage;
use crate::checker::Checker;
use crate::checker::bodies::body;
use crate::checker::calls::Wish;
use crate::checker::limits::nothing_left;
use crate::checker::paths::Paths;
use crate::clock::{MS, SEC, Time, US};
use crate::fault::Faults;
use crate::hooks::Spec;
use crate::host::host_at;
use crate::rng::Rng;
use crate::wiretap::Wiretap;
use crate::world::{Stop, World};

/// Calls of one host that may be open before it makes another.
const OPEN_MAX: u64 = 600;
/// How long all that began may take to end, once nothing goes wrong any more: handshakes that fail, peers that stay silent, messages
/// that stall.
const ENDS_WITHIN: Time = 8 * SEC;
/// How long calls may take when nothing was wrong for long.
const CALM_WITHIN: Time = 2 * SEC;
/// Until peers are asked again about another address after a "no": a second of a clock that runs a fifth too slow, and some more.
const DOUBTS: Time = 1300 * MS;
/// How often it is looked whether all has ended.
const LOOK: Time = 20 * MS;
/// Entries of the trace that are shown when a rule was broken.
const LAST: usize = 40;
/// Counters of endpoints that tell of changing keys, and addresses.
const OF_KEYS: [&str; 5] = ["sessions_moved", "epochs_begun", "epochs_wanted", "messages_held", "attempts"];

/// A run.
#[derive(Debug)]
pub struct Run {
    /// What it is about.
    pub plan: Plan,
    /// Its world.
    pub world: World<App>,
    pub(super) rng: Rng,
    /// Mishaps that happened, by name.
    pub happened: BTreeMap<&'static str, u64>,
    /// Drops of endpoints that are gone.
    gone: BTreeMap<&'static str, u64>,
    /// How often keys changed at endpoints that are gone, and what that took.
    pub keys: BTreeMap<&'static str, u64>,
    /// How often the network was cut, or joined for good.
    pub(super) cuts: u32,
    /// How long a silent peer is asked.
    silence: Time,
}

impl Run {
    /// The world of a plan, in which nothing happened yet.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let hosts = plan.network.hosts();
        let config = plan.config.clone();
        let mut spec = Spec::new(plan.seed, plan.network);
        spec.datagram_max = plan.datagram_max;
        spec.config = Box::new(move |_| config.clone());
        let wiretap = Wiretap::new(plan.seed, plan.config.cipher);
        let handshake = plan.config.handshake_timeout.as_nanos() as Time * 1000;
        // A clock that runs slow makes it longer.
        let paths = Paths::new(hosts, 2 * handshake, plan.strict);
        let checker = Checker::new(plan.seed, plan.malicious, plan.config.clone(), wiretap, paths);
        let faults = Faults::new(plan.rules.clone(), Rng::new(plan.seed, 0xc4a0_5002));
        let app = App::new(plan.seed, hosts, plan.malicious, checker, faults);
        let mut world = World::new(spec, app);
        world.trace.keep_last(LAST);
        let mut happened = BTreeMap::new();
        for host in 0..hosts {
            world.set_clock(host, plan.clocks[host as usize]);
            *happened.entry("clock_skew").or_default() += 1;
        }
        for a in 0..hosts {
            for b in (0..hosts).filter(|b| *b != a) {
                world.acquaint(a, b);
            }
        }
        let silence = plan.config.proto.peer_timeout.as_nanos() as Time * 1000;
        let rng = Rng::new(plan.seed, 0xc4a0_5003);
        Self { plan, world, rng, happened, gone: BTreeMap::new(), keys: BTreeMap::new(), cuts: 0, silence }
    }

    /// A rule will be broken on purpose.
    pub fn sabotage(&mut self, sabotage: Sabotage) {
        self.world.hooks.sabotage = sabotage;
        let mut judged_by = self.plan.config.clone();
        match sabotage {
            Sabotage::SmallBudget => judged_by.proto.incoming_bytes_max /= 4,
            Sabotage::SmallBuffers => judged_by.proto.buffered_bytes_max = 1000,
            _ => {}
        }
        self.world.hooks.checker.judge_by(judged_by);
    }

    pub(super) fn hosts(&self) -> u32 {
        self.plan.network.hosts()
    }

    fn is_malicious(&self, host: u32) -> bool {
        self.plan.malicious == Some(host)
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    /// Runs it to its end, or to the first rule that is broken.
    pub fn run(&mut self) {
        self.trouble();
        self.finish();
    }

    /// Lets all end, and looks whether it did.
    pub(super) fn finish(&mut self) {
        if self.ends() && self.probe() && self.calm() {
            self.quiet();
        }
    }

    /// Lets time pass and does what is to do. `false` when a rule was broken.
    pub(super) fn pass(&mut self, until: Time) -> bool {
        loop {
            let next = self.world.hooks.agenda.next_at().unwrap_or(until).min(until);
            self.world.alarm(next, 0);
            if self.world.run(until) == Stop::Halted {
                return false;
            }
            let now = self.world.now();
            while let Some(todo) = self.world.hooks.agenda.due(now) {
                self.act(todo);
                if self.world.hooks.checker.broken().is_some() {
                    return false;
                }
            }
            if now >= until {
                return true;
            }
        }
    }

    // ---- Trouble ----

    fn trouble(&mut self) -> bool {
        for (at, mishap) in core::mem::take(&mut self.plan.mishaps) {
            self.world.hooks.agenda.put(at, Todo::Mishap(mishap));
        }
        let agenda = &mut self.world.hooks.agenda;
        agenda.put(0, Todo::Call);
        agenda.put(MS, Todo::Stranger);
        agenda.put(2 * MS, Todo::Insider);
        (0..TROUBLE / MS).for_each(|at| agenda.put(at * MS + US, Todo::Tick));
        self.pass(TROUBLE)
    }

    fn act(&mut self, todo: Todo) {
        match todo {
            Todo::Call => self.next_call(),
            Todo::Answer(served, refuse) => {
                if self.world.hooks.lives[served.host as usize] == served.life {
                    self.answer(served, refuse);
                }
            }
            Todo::Cancel(call) => self.cancel(call),
            Todo::Mishap(mishap) => self.mishap(mishap),
            Todo::Start(host) => self.start(host),
            Todo::Join(cut) if cut == self.cuts => self.cut(None),
            Todo::Join(_) | Todo::Tick => {}
            Todo::Stranger => self.stranger(),
            Todo::Insider => self.insider(),
        }
    }

    fn answer(&mut self, served: Served, refuse: bool) {
        let now = self.world.now();
        let response = self.world.hooks.response(&served);
        let answer = |endpoint: &mut Endpoint, local| match refuse {
            true => endpoint.refuse(served.id),
            false => endpoint.reply(local, served.id, response),
        };
        if let Some(outcome) = self.world.with(served.host, answer) {
            self.world.hooks.answered(now, served, refuse, outcome);
        }
    }

    pub(super) fn after(&mut self, mean: f64, todo: Todo) {
        let at = self.world.now() + 1 + self.rng.exponential(mean) as Time;
        if at < TROUBLE {
            self.world.hooks.agenda.put(at, todo);
        }
    }

    fn next_call(&mut self) {
        let from = self.rng.below(self.hosts().into()) as u32;
        let other = self.rng.below((self.hosts() - 1).into()) as u32;
        let to = if other >= from { other + 1 } else { other };
        let wish = self.wish(from, to);
        // Sessions that one end forgot are good for little but questions: few calls there.
        let dead =
            self.world.hooks.checker.paths.restarted_since(from, to, self.world.now().saturating_sub(self.silence));
        let few = dead && self.rng.below(8) != 0;
        if !few && self.world.hooks.checker.calls.open() < OPEN_MAX * u64::from(self.hosts()) {
            self.call(wish);
        }
        // As many as bring the packets that were planned.
        let counts = (self.world.counts.arrived, self.world.hooks.checker.calls.begun());
        let left = (self.plan.packets as f64 - counts.0 as f64).max(self.plan.packets as f64 / 50.0);
        let packets_per_call = (counts.0 as f64 + 200.0) / (counts.1 as f64 + 20.0);
        let time_left = (TROUBLE - self.world.now()) as f64;
        self.after(time_left * packets_per_call / left, Todo::Call);
    }

    fn length(&mut self) -> usize {
        let most = match self.rng.below(10_000) {
            ..8000 => 900,
            8000..9400 => 9000,
            9400..9940 => 60_000,
            9940..9996 => 300_000,
            _ => LENGTH_MAX,
        };
        self.rng.below(most) as usize
    }

    fn wish(&mut self, from: u32, to: u32) -> Wish {
        let kind = if self.rng.below(4) == 0 { Kind::OneWay } else { Kind::Request };
        let (len, response_len) = (self.length(), if kind == Kind::OneWay { 0 } else { self.length() });
        let local = self.world.hosts()[from as usize].local(self.world.now());
        let patient = self.rng.below(8) == 0;
        let deadline = match patient && self.rng.below(2) == 0 {
            true => local + core::time::Duration::from_nanos(1 + self.rng.exponential(8e6) as u64),
            false => Instant::FAR,
        };
        Wish { from, to, kind, len, response_len, deadline, patient, must_succeed: false }
    }

    /// How a host reaches another: mostly as it was told, sometimes in a session that the other began.
    fn way(&mut self, from: u32, to: u32) -> Option<To> {
        if self.rng.below(10) == 0 {
            let endpoint = self.world.endpoint(from)?;
            let with = endpoint.sessions().into_iter().filter(|s| s.open && host_at(s.origin.address) == Some(to));
            let sessions: Vec<SessionId> = with.map(|s| s.id).filter(|id| endpoint.is_session_open(*id)).collect();
            if !sessions.is_empty() {
                return Some(To::Session(sessions[self.rng.below(sessions.len() as u64) as usize]));
            }
        }
        self.world.hosts()[from as usize].way(to)
    }

    pub(super) fn call(&mut self, wish: Wish) {
        if self.world.endpoint(wish.from).is_none() {
            return;
        }
        let told = self.world.hosts()[wish.from as usize].way(wish.to);
        let way = if self.world.hooks.calm { told } else { self.way(wish.from, wish.to) };
        let Some(way) = way else { return };
        let now = self.world.now();
        let call = self.world.hooks.checker.calls.begin(now, wish);
        let bytes = Payload::from(body(self.plan.seed, call, false, wish.len));
        let facts = [
            ("host", wish.from.into()),
            ("to", wish.to.into()),
            ("len", wish.len as u64),
            ("one_way", (wish.kind == Kind::OneWay).into()),
            ("cookie", call),
        ];
        self.world.trace.note(now, "call", &facts);
        let Wish { kind, deadline, .. } = wish;
        let sending = Sending { kind, cookie: call, waited: false, deadline, streamed: false };
        let taken = self.world.with(wish.from, |endpoint, local| endpoint.send(local, way, bytes, sending).ok());
        self.world.hooks.checker.calls.taken(call, taken.flatten());
        if wish.patient && wish.deadline == Instant::FAR {
            let mean = if self.rng.below(2) == 0 { 60.0 * US as f64 } else { 5.0 * MS as f64 };
            let at = now + self.rng.exponential(mean) as Time;
            self.world.hooks.agenda.put(at, Todo::Cancel(call));
        }
    }

    pub(super) fn cancel(&mut self, call: u64) {
        let known = self.world.hooks.checker.calls.get(call);
        if let (None, Some(name)) = (known.end, known.name) {
            let from = known.wish.from;
            let now = self.world.now();
            self.world.trace.note(now, "cancel", &[("host", from.into()), ("cookie", call)]);
            // It may have ended just now, and its caller not know it yet: then that end is the one that is told.
            if self.world.with(from, |endpoint, _| endpoint.abort(name)) == Some(true) {
                self.world.hooks.checker.calls.cancel(call);
            }
        }
    }

    // ---- Ends ----

    /// Nothing goes wrong any more, everybody answers: all calls end.
    fn ends(&mut self) -> bool {
        if self.world.hooks.checker.broken().is_some() {
            return false;
        }
        self.cuts += 1;
        self.cut(None);
        self.world.hooks.muted = 0;
        self.world.hooks.calm = true;
        let stays = |todo: &Todo| matches!(todo, Todo::Answer(..) | Todo::Cancel(_) | Todo::Start(_));
        self.world.hooks.agenda.retain(stays);
        for host in 0..self.hosts() {
            if self.world.endpoint(host).is_none() {
                self.world.hooks.agenda.retain(|todo| !matches!(todo, Todo::Start(at) if *at == host));
                self.start(host);
            }
        }
        for served in core::mem::take(&mut self.world.hooks.unanswered) {
            let refuse = self.rng.below(4) == 0;
            if self.world.hooks.lives[served.host as usize] == served.life {
                self.answer(served, refuse);
            }
        }
        self.wait(ENDS_WITHIN, "no trouble any more")
    }

    /// Waits until no call is open.
    fn wait(&mut self, most: Time, since: &str) -> bool {
        let end = self.world.now() + most;
        while self.world.hooks.checker.calls.open() > 0 {
            let now = self.world.now();
            if now >= end {
                let (call, open) = self.world.hooks.checker.calls.first_open().expect("one is open");
                let what = format!("call {call} has not ended {} ms after {since}: {open:?}", most / MS);
                self.world.hooks.checker.judge::<()>(now, Err((6, what)));
                return false;
            }
            if !self.pass(now + LOOK) {
                return false;
            }
        }
        true
    }

    /// Who still believes in a session that its peer forgot finds out.
    fn probe(&mut self) -> bool {
        self.round(|_| 1, false);
        self.wait(ENDS_WITHIN, "calls in sessions that may be gone")
    }

    /// With a live path, each call is executed exactly once, and answered.
    fn calm(&mut self) -> bool {
        // Every other host is heard from a new address first: where nobody raised doubts for a while, no call is lost by that. [P-2.3]
        if self.plan.config.session_idle > Duration::from_secs(60) {
            if !self.pass(self.world.now() + DOUBTS) {
                return false;
            }
            for host in (0..self.hosts()).step_by(2) {
                if !self.is_malicious(host) {
                    self.rebind(host);
                }
            }
        }
        self.round(|rng| 1 + rng.below(3), true);
        self.wait(CALM_WITHIN, "calls on paths that are alive")
    }

    fn round(&mut self, calls: impl Fn(&mut Rng) -> u64, must_succeed: bool) {
        let honest: Vec<u32> = (0..self.hosts()).filter(|host| !self.is_malicious(*host)).collect();
        for &from in &honest {
            for &to in honest.iter().filter(|to| **to != from) {
                for _ in 0..calls(&mut self.rng) {
                    let wish = self.wish(from, to);
                    let len = wish.len.min(100_000);
                    self.call(Wish { len, deadline: Instant::FAR, patient: false, must_succeed, ..wish });
                }
            }
        }
    }

    /// Nothing of any call is left.
    fn quiet(&mut self) {
        let end = self.world.now() + ENDS_WITHIN;
        loop {
            if !self.pass(self.world.now() + LOOK) {
                return;
            }
            let idle = |host: &u32| {
                let holdings = self.world.endpoint(*host).map(|endpoint| endpoint.holdings()).unwrap_or_default();
                holdings.machine.rpcs == 0 && holdings.accepting == 0
            };
            let honest: Vec<u32> = (0..self.hosts()).filter(|host| !self.is_malicious(*host)).collect();
            let now = self.world.now();
            if now < end && !honest.iter().all(idle) {
                continue;
            }
            for host in honest {
                if let Some(judged) = self.world.endpoint(host).map(nothing_left) {
                    let judged = judged.map_err(|(invariant, what)| (invariant, format!("host {host}: {what}")));
                    self.world.hooks.checker.judge(now, judged);
                }
            }
            return;
        }
    }

    // ---- Counting ----

    pub(super) fn bury(&mut self, host: u32) {
        if let Some(endpoint) = self.world.endpoint(host) {
            let dropped: Vec<_> = endpoint.counters().iter().filter(|(name, _)| name.starts_with("dropped_")).collect();
            for (name, count) in dropped {
                *self.gone.entry(name).or_default() += count;
            }
            let of_keys = |(name, _): &(&'static str, u64)| OF_KEYS.contains(name);
            for (name, count) in endpoint.counters().iter().filter(of_keys) {
                *self.keys.entry(name).or_default() += count;
            }
        }
    }

    /// What endpoints dropped, by reason.
    #[must_use]
    pub fn refused(&mut self) -> BTreeMap<&'static str, u64> {
        (0..self.hosts()).for_each(|host| self.bury(host));
        core::mem::take(&mut self.gone)
    }
}
