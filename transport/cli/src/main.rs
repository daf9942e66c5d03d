//! The `sealane` command: what it understands, and how it ends. Each subcommand is a module of its own; nothing of the protocol
//! is decided here. It ends with 0 when all went well, 1 on failure, 2 when the command line makes no sense.
#![forbid(unsafe_code)]

mod man;
mod profile;
mod packets;
mod observe;
mod top;
mod trace;
mod certs;
mod publish;
mod serve;
mod ticket;
mod call;
mod handshake;
mod sim;
mod attack;
mod hostile;
mod demo;
mod audit;
mod offload;
mod doctor;
mod kv;
mod proxy;
mod tensor;
mod stress;
mod slo;
mod targets;
mod pcap;

use anyhow::{Error, Result};
use clap::{CommandFactory, Parser, Subcommand};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Encrypted messages between machines of a datacenter, from a shell.
#[derive(Debug, Parser)]
#[command(name = "sealane", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Try it on one machine:
  sealane demo
  sealane certs --out certs
  sealane serve --echo --listen 127.0.0.1:4433 --cert certs/server.pem --key certs/server.key --ca certs/ca.pem
  sealane call 127.0.0.1:4433 --cert certs/client.pem --key certs/client.key --ca certs/ca.pem --data hello

Set SEALANE_LOG=debug to see what happens inside. Exit codes: 0 well, 1 failed, 2 wrong usage.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Show on this machine what Sealane does and what it costs, beside UDP, TCP, ideal kTLS and TLS
    Demo(demo::Args),
    /// Say what this machine offers, and what to change
    Doctor(doctor::Args),
    /// Make certificates for development: an authority, a server, a client
    Certs(certs::Args),
    /// Answer calls from other machines
    Serve(serve::Args),
    /// Call a server and print its reply, or how long replies take
    Call(call::Args),
    /// Time from nothing to the first reply: full, resumed, with early data and by published ticket, beside TLS over TCP
    Handshake(handshake::Args),
    /// Publish a server's ticket, or say what one is worth
    Ticket(ticket::Args),
    /// Run many hosts in virtual time: their figures beside published ones, what fan-in does
    Sim(sim::Args),
    /// Attack a server and clients on this machine: what comes of it must be nothing
    Attack(attack::Args),
    /// Prove by looking at everything: that no key seals two things under one nonce
    Audit(audit::Args),
    /// Network cards that seal for us: whether there is one, its test, and the same with modelled cards
    Offload(offload::Args),
    /// A key-value server of the Redis protocol behind TCP, TLS and Sealane at once, and its benchmarks
    Kv(kv::Args),
    /// Carry TCP connections of existing programs over Sealane: one process at each end
    Proxy(proxy::Args),
    /// Tensors in messages: there and back, and what it takes to read one
    Tensor(tensor::Args),
    /// What a process of Sealane's does now: sessions, messages, grants, priorities, drops
    Top(top::Args),
    /// Draw what led to a slow call
    Trace(trace::Args),
    /// Write pages for `man`
    Man(man::ManArgs),
    /// Print what a shell is to source to complete this command
    Completions(man::CompletionsArgs),
    /// Many clients against one server, every reply verified, over a network as bad as is asked for
    Stress(stress::Args),
    /// Hold the figures of a run against limits
    Slo(slo::Args),
    /// Measure what must not get worse, and hold a run against an earlier one
    Targets(targets::Args),
    /// Captures of Sealane packets: make, analyse, watch
    Pcap(pcap::Args),
}

fn main() -> ExitCode {
    // The demo's servers are this program, started again.
    if let Some(served) = load::server::main_from_args(std::env::args().skip(1)) {
        return served.map_or_else(|error| explain(&error), |()| ExitCode::SUCCESS);
    }
    // So are those of stress runs,
    if let Some(served) = load::stress::main_from_args(std::env::args().skip(1)) {
        return served.map_or_else(|error| explain(&error), |()| ExitCode::SUCCESS);
    }
    // the processes whose memory is looked at,
    if let Some(served) = targets::main_from_args(std::env::args().skip(1)) {
        return served.map_or_else(|error| explain(&error), |()| ExitCode::SUCCESS);
    }
    // those of attacks,
    if let Some(served) = attack::main_from_args(std::env::args().skip(1)) {
        return served.map_or_else(|error| explain(&error), |()| ExitCode::SUCCESS);
    }
    // and those of the key-value benchmarks, and their clients.
    if let Some(served) = ::kv::child::main_from_args(std::env::args().skip(1)) {
        return served.map_or_else(|error| explain(&error), |()| ExitCode::SUCCESS);
    }
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("SEALANE_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let ended = match &cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Certs(args) => certs::run(args).map(|()| ExitCode::SUCCESS),
        Command::Serve(args) => serve::run(args).map(|()| ExitCode::SUCCESS),
        Command::Call(args) => call::run(args).map(|()| ExitCode::SUCCESS),
        Command::Handshake(args) => handshake::run(args).map(|()| ExitCode::SUCCESS),
        Command::Ticket(args) => ticket::run(args).map(|()| ExitCode::SUCCESS),
        Command::Sim(args) => sim::run(args),
        Command::Attack(args) => attack::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Offload(args) => offload::run(args),
        Command::Kv(args) => kv::run(args).map(|()| ExitCode::SUCCESS),
        Command::Proxy(args) => proxy::run(args).map(|()| ExitCode::SUCCESS),
        Command::Tensor(args) => tensor::run(args).map(|()| ExitCode::SUCCESS),
        Command::Top(args) => top::run(args).map(|()| ExitCode::SUCCESS),
        Command::Trace(args) => trace::run(args).map(|()| ExitCode::SUCCESS),
        Command::Man(args) => man::man(Cli::command(), args).map(|()| ExitCode::SUCCESS),
        Command::Completions(args) => man::completions(Cli::command(), args).map(|()| ExitCode::SUCCESS),
        Command::Stress(args) => stress::run(args),
        Command::Slo(args) => slo::run(args),
        Command::Targets(args) => Ok(targets::run(args)),
        Command::Pcap(args) => pcap::run(args),
    };
    ended.unwrap_or_else(|error| explain(&error))
}

/// Prints an error with its causes, one a line.
fn explain(error: &Error) -> ExitCode {
    // Who pipes us into `head` has seen enough, which is no failure.
    if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    let mut text = format!("sealane: {error}\n");
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Some errors repeat their cause in their own words.
        if !said.contains(&cause) {
            text.push_str(&format!("  because: {cause}\n"));
        }
        said = cause;
    }
    // Nobody is left to tell when standard error is gone.
    let _ = io::stderr().write_all(text.as_bytes());
    ExitCode::FAILURE
}

/// Prints a whole answer; unlike `println!` it lets a closed pipe be an error.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Words of others for a terminal: what would command it is shown, not obeyed.
fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_do_not_command_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\r\nc\u{9b}1m"), "a\\u{1b}[2Jb\\r\nc\\u{9b}1m");
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
