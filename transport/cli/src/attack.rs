//! `sealane attack`: a real server and real clients on loopback, and an attacker beside or between them. Each attack says what it tried
//! and what came of it, which must be nothing; it ends with 1 if there was an effect: a request that ran twice or altered, a call that
//! failed, a session that ended, state that stayed.

mod server;
pub(crate) mod relay;
mod scene;
mod replay;
mod forge;
mod truncate;
mod reset;
mod downgrade;
mod flood;

use anyhow::Result;
use clap::Subcommand;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

pub(crate) use server::main_from_args;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    attack: Attack,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Attack {
    /// Send captured packets again, in any order, from anywhere, also to a server that was restarted
    Replay(Options),
    /// Send packets of all types that are made up, or altered copies of real ones
    Forge(Options),
    /// Send as many forged packets as there can be to the server of a busy session; measure what they cost it
    Flood(Options),
    /// Send real packets cut short or made longer, before the real ones
    Truncate(Options),
    /// Say that a session is forgotten: without proof, with old proof; and once, after a real restart, with proof
    Reset(Options),
    /// Stand between client and server and make their handshakes offer less
    Downgrade(Options),
}

#[derive(Debug, Clone, Copy, clap::Args)]
struct Options {
    /// How long to attack, in seconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=40))]
    seconds: u64,
    /// What the attacker's dice begin with; the same packets on the wire are not promised
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Options {
    const fn time(self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// What an attack came to.
#[derive(Debug, Default, Serialize)]
struct Report {
    attack: &'static str,
    /// Packets that the attacker sent, or altered on their way.
    attempts: u64,
    /// How many things came of it that must not.
    effect: u64,
    /// The first of them.
    effects: Vec<String>,
    /// Calls of honest clients meanwhile that were answered, byte for byte.
    calls: u64,
    /// What the server counted meanwhile: drops, resets, handshakes.
    counters: BTreeMap<String, u64>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// Effects that are told one by one.
const EFFECTS_SHOWN: usize = 8;

impl Report {
    fn new(attack: &'static str) -> Self {
        Self { attack, ..Self::default() }
    }

    /// Something came of it.
    fn effect(&mut self, what: impl Into<String>) {
        self.effect += 1;
        if self.effects.len() < EFFECTS_SHOWN {
            self.effects.push(what.into());
        }
    }

    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.effect(what());
        }
    }

    fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.more.insert(name.to_owned(), value.into());
    }

    fn shown(&self) -> String {
        let mut text =
            format!("{}: {} attempts, {} effects, {} calls\n", self.attack, self.attempts, self.effect, self.calls);
        for effect in &self.effects {
            _ = writeln!(text, "  effect: {effect}");
        }
        for (name, value) in &self.more {
            _ = writeln!(text, "  {name} {value}");
        }
        for (name, count) in &self.counters {
            _ = writeln!(text, "  server: {name} +{count}");
        }
        text
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let (run, options): (fn(Options) -> Result<Report>, Options) = match args.attack {
        Attack::Replay(options) => (replay::run, options),
        Attack::Forge(options) => (forge::run, options),
        Attack::Flood(options) => (flood::run, options),
        Attack::Truncate(options) => (truncate::run, options),
        Attack::Reset(options) => (reset::run, options),
        Attack::Downgrade(options) => (downgrade::run, options),
    };
    let report = run(options)?;
    crate::print(&if options.json { format!("{}\n", serde_json::to_string(&report)?) } else { report.shown() })?;
    Ok(if report.effect == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
