//! `sealane kv`: a key-value server of the Redis protocol behind TCP, TLS over TCP and Sealane at once, and what compares the three. All of it
//! is crate `kv`'s; here are its arguments, its certificates and its tables.

mod cli;
mod measure;
mod serve;

use anyhow::{Context, Result};
use kv::commands::missing::MISSING;
use kv::commands::{COMMANDS, flags};
use kv::tls::Credentials;
use std::fmt::Write as _;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Serve one data set at up to three doors
    Serve(serve::Args),
    /// Send one command, or those of standard input, and print the replies
    Cli(cli::Args),
    /// The commands that there are, and those that are missing
    Commands(CommandsArgs),
    /// YCSB A to F over TCP, TLS and Sealane, against one server, in turns
    Bench(measure::BenchArgs),
    /// Many clients at one fixed load: what one more costs
    Fleet(measure::FleetArgs),
}

#[derive(Debug, clap::Args)]
struct CommandsArgs {
    /// Print a table of Markdown, as it stands in docs/KV.md
    #[arg(long)]
    markdown: bool,
}

/// Where certificates come from.
#[derive(Debug, clap::Args)]
pub(crate) struct Certificates {
    /// Our certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "key", requires = "ca")]
    cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Authorities that are trusted (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    ca: Option<PathBuf>,
}

impl Certificates {
    /// Those that were named, if they were.
    fn read(&self) -> Result<Option<Credentials>> {
        let (Some(cert), Some(key), Some(ca)) = (&self.cert, &self.key, &self.ca) else { return Ok(None) };
        let read =
            |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
        Ok(Some(Credentials { authority: read(ca)?, certificate: read(cert)?, key: read(key)? }))
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Serve(args) => serve::run(args),
        Command::Cli(args) => cli::run(args),
        Command::Commands(args) => crate::print(&commands(args.markdown)),
        Command::Bench(args) => measure::bench(args),
        Command::Fleet(args) => measure::fleet(args),
    }
}

fn commands(markdown: bool) -> String {
    let mut text = String::new();
    let names = |wanted: &dyn Fn(&kv::commands::Command) -> bool| {
        let names: Vec<&str> = COMMANDS.iter().filter(|command| wanted(command)).map(|command| command.name).collect();
        names.join(" ")
    };
    let groups = [
        ("read", names(&|command| !command.has(flags::WRITE) && !command.has(flags::ADMIN))),
        ("write", names(&|command| command.has(flags::WRITE))),
        ("clients and server", names(&|command| command.has(flags::ADMIN))),
    ];
    if markdown {
        text.push_str("| | commands | why not |\n|---|---|---|\n");
        for (group, names) in groups {
            let _ = writeln!(text, "| {group} | {names} | |");
        }
        for (group, names, why) in MISSING {
            let _ = writeln!(text, "| missing: {group} | {} | {why} |", names.join(" "));
        }
        return text;
    }
    for (group, names) in groups {
        let _ = writeln!(text, "{group}:\n  {names}");
    }
    text.push_str("\nmissing:\n");
    for (group, names, why) in MISSING {
        let _ = writeln!(text, "{group} ({why}):\n  {}", names.join(" "));
    }
    text
}
