//! `sealane offload`: whether a network card here can seal for us, and what that does. Cards are looked for and put to the test by the crate
//! `offload`; the simulation is the crate `sim`'s; here are command lines, tables and JSON.

mod probe;
mod sim;

use anyhow::Result;
use clap::Subcommand;
use std::process::ExitCode;

pub(crate) use probe::finding;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say whether a card here can seal for us, and if not, what is missing. Sends nothing
    Probe(probe::Args),
    /// Put a card to the test on real frames and print a report
    Selftest(probe::TestArgs),
    /// Return test frames to who puts a card to the test
    Reflect(probe::ReflectArgs),
    /// Run calls between two hosts whose cards are modelled, with faults if wanted
    Sim(sim::Args),
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match &args.what {
        What::Probe(args) => probe::probe(args),
        What::Selftest(args) => probe::selftest(args),
        What::Reflect(args) => probe::reflect(args),
        What::Sim(args) => sim::run(args),
    }
}
