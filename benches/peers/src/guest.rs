//! `peers guest`: what benches/vm/run.sh runs inside of the machine that it makes, and how it shows what came out.
//!
//! Owns the arguments and the table. Refuses: measuring (`load::guest`), and making the machine.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use load::guest::Costs;
use load::parse_sizes;

use crate::render;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Bytes of each request and reply.
    #[arg(long, default_value = "64,1024,8192,16384,65000")]
    sizes: String,
    /// RPCs to measure, of small messages; fewer of long ones.
    #[arg(long, default_value_t = 300)]
    count: u64,
    /// What the machine is, to be printed with the figures.
    #[arg(long, default_value = "not one whose clock counts instructions")]
    machine: String,
    /// Measure nothing; show what a run printed.
    #[arg(long)]
    show: Option<PathBuf>,
    /// With --show: JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// With --show: also write NAME.json, a page and a figure into this folder.
    #[arg(long)]
    out: Option<PathBuf>,
    /// NAME for --out.
    #[arg(long, default_value = "instructions")]
    name: String,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let Some(path) = &args.show else {
        let sizes = parse_sizes(&args.sizes)?;
        let costs = load::guest::costs(&sizes, args.count, &args.machine, &mut |what| eprintln!("{what}"))?;
        // One line: a console carries it.
        println!("{}", serde_json::to_string(&costs)?);
        return check(&costs);
    };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let costs: Costs = serde_json::from_str(&text).context("not what a run prints")?;
    let mut value = serde_json::to_value(&costs)?;
    value["command"] = "benches/vm/run.sh".into();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        print(&costs);
    }
    if let Some(folder) = &args.out {
        render::store(folder, &args.name, &value)?;
    }
    check(&costs)
}

fn check(costs: &Costs) -> Result<()> {
    for failure in &costs.failed {
        eprintln!("peer `{}` failed at {} B: {}", failure.peer, failure.size, failure.error);
    }
    ensure!(costs.failed.is_empty() && !costs.rows.is_empty(), "{} cells failed", costs.failed.len());
    Ok(())
}

fn print(costs: &Costs) {
    println!(
        "Instructions per RPC of the whole machine, in thousands, and their ratio to kernel TLS ({})",
        costs.machine
    );
    for group in costs.rows.chunk_by(|a, b| (a.mode, a.size) == (b.mode, b.size)) {
        println!(
            "\n{} B, {}\n{:<10}{:>12}{:>10}{:>8}",
            group[0].size, group[0].mode, "peer", "thousand", "to ktls", "RPCs"
        );
        for row in group {
            let ratio = row.ratio_to_ktls.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            println!("{:<10}{:>12.2}{ratio:>10}{:>8}", row.peer.name(), row.instructions / 1e3, row.count);
        }
    }
    for missing in &costs.missing {
        println!("\n{:<10}not measured: {}", missing.peer.name(), missing.why);
    }
}
