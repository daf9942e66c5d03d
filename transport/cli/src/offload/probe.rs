//! `sealane offload probe`, `selftest` and `reflect`: the rungs from "there may be a card" to "it is used", each with what was found.

#![expect(clippy::disallowed_types, reason = "frames of a test come back by a socket of its own")]

use anyhow::{Context, Result};
use mlx5_shim::device::Device;
use mlx5_shim::model::{Config, Model};
use offload::frame::{Cable, Ways};
use offload::gcm::Provided;
use offload::ladder::{Climb, NAMES, Rung, find, given, test};
use offload::proof::{NoWire, Tap};
use offload::software::crypto;
use offload::ways::Kernel;
use serde::Serialize;
use std::fmt::Write;
use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The device; otherwise the first one
    #[arg(long)]
    device: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TestArgs {
    /// The device; otherwise the first one
    #[arg(long)]
    device: Option<String>,
    /// Where `sealane offload reflect` returns the frames: a machine that this card has a way to
    #[arg(long, required_unless_present = "model")]
    to: Option<SocketAddr>,
    /// Put the model to the test instead of a card
    #[arg(long)]
    model: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReflectArgs {
    /// Where to listen
    #[arg(long)]
    listen: SocketAddr,
}

#[derive(Debug, Serialize)]
struct Report {
    device: Option<String>,
    engine: &'static str,
    why: String,
    rungs: Vec<RungReport>,
}

#[derive(Debug, Serialize)]
struct RungReport {
    rung: &'static str,
    /// Yes, no, or not tried.
    holds: Option<bool>,
    why: String,
}

fn report(climb: &Climb) -> Report {
    let tried = |name: &str| climb.rungs.iter().find(|rung| rung.name == name);
    let rungs = NAMES.iter().map(|name| match tried(name) {
        Some(Rung { name, holds, why }) => RungReport { rung: name, holds: Some(*holds), why: why.clone() },
        None => RungReport { rung: name, holds: None, why: "not tried".to_owned() },
    });
    let proven = climb.fault().is_none() && climb.rungs.len() == NAMES.len();
    let why = match climb.fault() {
        Some(rung) => format!("{}: {}", rung.name, rung.why),
        None if proven => "every rung holds".to_owned(),
        None => "there is a card, which was not put to the test: `sealane offload selftest` does that".to_owned(),
    };
    Report {
        device: climb.device.as_ref().map(|device| device.name().to_owned()),
        engine: if proven { "card" } else { "software" },
        why,
        rungs: rungs.collect(),
    }
}

fn show(climb: &Climb, json: bool) -> Result<()> {
    let report = report(climb);
    if json {
        return crate::print(&format!("{}\n", serde_json::to_string(&report)?));
    }
    let mut text = String::new();
    for rung in &report.rungs {
        let holds = rung.holds.map_or("-", |holds| if holds { "yes" } else { "no" });
        writeln!(text, "{:14} {:4} {}", rung.rung, holds, rung.why)?;
    }
    writeln!(text, "records are sealed by: {} ({})", report.engine, report.why)?;
    crate::print(&text)
}

/// What `doctor` says of it: one line.
pub(crate) fn finding() -> String {
    report(&find(None)).why
}

pub(crate) fn probe(args: &Args) -> Result<ExitCode> {
    show(&find(args.device.as_deref()), args.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Frames that come back from a machine that returns them.
struct Returned(UdpSocket);

impl Tap for Returned {
    fn next(&mut self, _: &mut dyn Device) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 1 << 16];
        let len = self.0.recv(&mut bytes).ok()?;
        bytes.truncate(len);
        Some(bytes)
    }
}

pub(crate) fn selftest(args: &TestArgs) -> Result<ExitCode> {
    // Without a source of randomness nothing here is safe: there is nothing to fall back to.
    let mut entropy = |bytes: &mut [u8]| getrandom::fill(bytes).expect("the system gives randomness");
    let climb = match args.to {
        Some(to) if !args.model => {
            let any: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
            let socket = UdpSocket::bind(any).context("cannot make a socket for what comes back")?;
            socket.connect(to).with_context(|| format!("there is no way to {to}"))?;
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            let mut ways: Box<dyn Ways> = Box::new(Kernel::new(socket.local_addr()?));
            test(find(args.device.as_deref()), crypto(), &mut Returned(socket), &mut *ways, to, &mut entropy)
        }
        _ => {
            let (from, to) = (SocketAddr::from(([192, 0, 2, 1], 1)), SocketAddr::from(([192, 0, 2, 2], 2)));
            let model = Model::new(Config::default(), Box::new(Provided(crypto())));
            test(given(Box::new(model)), crypto(), &mut NoWire, &mut Cable { from, vlan: None }, to, &mut entropy)
        }
    };
    show(&climb, args.json)?;
    Ok(if climb.fault().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns every datagram that looks like one of a test, to where it came from. It answers with no more than it was sent.
pub(crate) fn reflect(args: &ReflectArgs) -> Result<ExitCode> {
    let socket = UdpSocket::bind(args.listen).with_context(|| format!("cannot listen at {}", args.listen))?;
    crate::print(&format!("returning test frames at {}\n", socket.local_addr()?))?;
    let mut bytes = vec![0; 1 << 16];
    loop {
        let (len, from) = socket.recv_from(&mut bytes)?;
        if bytes[..len].starts_with(&offload::proof::OWN) {
            let _ = socket.send_to(&bytes[..len], from);
        }
    }
}
