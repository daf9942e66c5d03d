//! Owns what goes wrong in a run at one moment: crashes, cuts, clocks, sessions that are closed, and what those do who mean harm. What
//! happens to frames is `fault`'s.

use super::agenda::Todo;
use super::plan::{Mishap, TROUBLE, clock};
use super::run::Run;
use crate::clock::{MS, Skew, US};
use crate::malice::{Forgery, inside, outside};

/// Acts of strangers, and of a malicious host, in all.
const STRANGER_ACTS: f64 = 700.0;
const INSIDER_ACTS: f64 = 500.0;

impl Run {
    // ---- Mishaps ----

    pub(super) fn mishap(&mut self, mishap: Mishap) {
        let now = self.world.now();
        match mishap {
            Mishap::Crash { host, away } if self.world.endpoint(host).is_some() => {
                self.bury(host);
                self.world.crash(host);
                self.world.hooks.checker.calls.crash(host);
                self.world.hooks.checker.paths.restart(now, host);
                self.world.hooks.agenda.put(now + away, Todo::Start(host));
                self.count("crash");
            }
            // It is down already: later.
            Mishap::Crash { .. } => self.world.hooks.agenda.put(now + 5 * MS, Todo::Mishap(mishap)),
            Mishap::Cut { groups, time } => {
                self.cuts += 1;
                self.world.hooks.agenda.put(now + time, Todo::Join(self.cuts));
                self.cut(Some(groups));
                self.count("partition");
            }
            Mishap::Clock { host, drift_ppb, ahead_ns } => {
                let local = self.world.hosts()[host as usize].local(now).as_nanos() + ahead_ns;
                let rate = Skew { offset_ns: 0, drift_ppb }.local(now).as_nanos();
                self.world.set_clock(host, Skew { offset_ns: local.saturating_sub(rate) + 1, drift_ppb });
                self.world.trace.note(now, "clock", &[("host", host.into()), ("ahead", ahead_ns)]);
                self.count("clock_skew");
            }
            Mishap::Close { host } => self.close(host),
            Mishap::Rebind { host } => self.rebind(host),
        }
    }

    pub(super) fn start(&mut self, host: u32) {
        let now = self.world.now();
        let skew = clock(&mut self.rng);
        self.world.hooks.lives[host as usize] += 1;
        self.world.set_clock(host, skew);
        self.world.start(host);
        self.world.hooks.checker.paths.restart(now, host);
        self.count("restart");
        self.count("clock_skew");
    }

    pub(super) fn cut(&mut self, groups: Option<Vec<u8>>) {
        self.world.hooks.checker.paths.cut(self.world.now(), groups.clone());
        self.world.cut(groups);
    }

    pub(super) fn rebind(&mut self, host: u32) {
        self.world.rebind(host);
        let binding = self.world.hosts()[host as usize].binding;
        self.world.hooks.checker.paths.rebind(self.world.now(), host, binding);
        self.count("rebind");
    }

    fn close(&mut self, host: u32) {
        let open = self.world.endpoint(host).map(|endpoint| endpoint.open_sessions()).unwrap_or_default();
        if open.is_empty() {
            return;
        }
        let id = open[self.rng.below(open.len() as u64) as usize];
        let known = self.world.hooks.checker.wiretap.session(host, id.as_u64()).map(|(at, _)| at);
        if let Some(at) = known {
            self.world.hooks.checker.paths.close(at);
            self.world.trace.note(self.world.now(), "close", &[("host", host.into()), ("session", id.as_u64())]);
            self.world.with(host, |endpoint, _| endpoint.close_session(id));
            self.count("session_close");
        }
    }

    // ---- Malice ----

    fn send_forged(&mut self, forgery: &Forgery) {
        let at = self.world.now() + self.rng.below(20 * US);
        let id = self.world.inject(forgery.from, forgery.to, &forgery.bytes, at);
        self.world.hooks.forged.insert(id, forgery.unauthentic);
    }

    pub(super) fn stranger(&mut self) {
        let which = self.rng.below(outside::Act::ALL.len() as u64) as usize;
        self.stranger_does(which);
        self.after(TROUBLE as f64 / STRANGER_ACTS, Todo::Stranger);
    }

    /// A stranger does that, as often as it likes.
    pub(super) fn stranger_does(&mut self, which: usize) {
        let (act, name) = outside::Act::ALL[which % outside::Act::ALL.len()];
        for _ in 0..=self.rng.below(3) {
            let app = &mut self.world.hooks;
            if let Some(forgery) = app.stranger.act(act, &app.lives) {
                self.count(name);
                self.send_forged(&forgery);
            }
        }
    }

    pub(super) fn insider(&mut self) {
        let which = self.rng.below(inside::Act::ALL.len() as u64) as usize;
        // A session that is closed all the time is of no use to it.
        if inside::Act::ALL[which].0 != inside::Act::Close || self.rng.below(4) == 0 {
            self.insider_does(which);
        }
        self.after(TROUBLE as f64 / INSIDER_ACTS, Todo::Insider);
    }

    /// The malicious host does that.
    pub(super) fn insider_does(&mut self, which: usize) {
        let (act, name) = inside::Act::ALL[which % inside::Act::ALL.len()];
        let app = &mut self.world.hooks;
        let forgeries = app.insider.as_mut().map(|insider| insider.act(act, &app.checker.wiretap)).unwrap_or_default();
        if !forgeries.is_empty() {
            self.count(name);
        }
        forgeries.iter().for_each(|forgery| self.send_forged(forgery));
        // Else its endpoint would say that it knows nothing of what was begun.
        if act == inside::Act::Flood {
            self.world.hooks.muted = self.world.now() + self.rng.below(20 * MS);
        }
    }
}
