//! `sealane pcap scale`: how fast captures of several sizes are analysed. Each is made, read once, and compared with its truth.
#![expect(clippy::disallowed_methods, reason = "it measures")]

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use capture::analyze::Options;
use serde::Serialize;

use super::{Pass, Rates, make_files, pass};

/// Packets of a session.
const PACKETS_EACH: u64 = 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many packets: numbers, with k for thousands
    #[arg(value_delimiter = ',', value_parser = number, default_value = "1k,10k,50k,100k,250k,500k")]
    sizes: Vec<u64>,
    #[command(flatten)]
    rates: Rates,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn number(text: &str) -> Result<u64, String> {
    let (digits, times) = text.strip_suffix('k').map_or((text, 1), |digits| (digits, 1000));
    let number = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(times)).filter(|n| *n >= PACKETS_EACH);
    number.ok_or_else(|| format!("a number of packets, {PACKETS_EACH} at least, like 500 or 10k"))
}

#[derive(Debug, Serialize)]
struct Row {
    packets: u64,
    seconds: f64,
    pps: f64,
    us_per_packet: f64,
    mbps: f64,
    /// The bytes that were counted packet by packet are those of the file.
    mbps_checked: bool,
    found_is_truth: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    passes: u32,
    rows: Vec<Row>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let folder = std::env::temp_dir().join(format!("sealane-pcap-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let rows: Result<Vec<Row>> = args.sizes.iter().map(|packets| row(args, *packets, &folder)).collect();
    let _ = std::fs::remove_dir_all(&folder);
    let report = Report { passes: 1, rows: rows? };
    let well = report.rows.iter().all(|row| row.found_is_truth && row.mbps_checked);
    if args.json {
        crate::print(&format!("{}\n", serde_json::to_string(&report)?))?;
    } else {
        let mut text = format!(
            "{:>9}{:>10}{:>12}{:>11}{:>9}  bytes  found\n",
            "packets", "seconds", "packets/s", "us/packet", "Mbps"
        );
        for Row { packets, seconds, pps, us_per_packet, mbps, mbps_checked, found_is_truth } in &report.rows {
            let says = |well: bool, yes: &'static str, no: &'static str| if well { yes } else { no };
            text.push_str(&format!(
                "{packets:>9}{seconds:>10.4}{pps:>12.0}{us_per_packet:>11.3}{mbps:>9.0}  {:<6} {}\n",
                says(*mbps_checked, "= file", "DIFFER"),
                says(*found_is_truth, "= truth", "DIFFERS")
            ));
        }
        text.push_str(
            "one pass each, on one core, from the first byte of the file to the results, truth compared; Mbps are the file's bytes\n",
        );
        crate::print(&text)?;
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn row(args: &Args, packets: u64, folder: &std::path::Path) -> Result<Row> {
    let at = |ending: &str| folder.join(format!("{packets}.{ending}"));
    let plan = args.rates.plan(packets, packets / PACKETS_EACH);
    let (truth, file_bytes) = make_files(&plan, &at("pcap"), &at("truth.json"), &at("keys"))?;
    let Pass { analyzer, bytes, analysis, faults, .. } = pass(&at("pcap"), Options::default(), true, None)?;
    let counts = analyzer.counts();
    let begun = Instant::now();
    let differences = truth.differences(analyzer.first(), counts, None, faults)?;
    let seconds = (analysis + begun.elapsed()).as_secs_f64();
    std::fs::remove_file(at("pcap"))?;
    // A pcap file is its header of 24 bytes, and 16 bytes before each packet.
    let summed = 24 + 16 * counts.packets + counts.bytes;
    Ok(Row {
        packets: counts.packets,
        seconds,
        pps: counts.packets as f64 / seconds,
        us_per_packet: seconds * 1e6 / counts.packets as f64,
        mbps: file_bytes as f64 * 8.0 / seconds / 1e6,
        mbps_checked: summed == file_bytes && bytes == file_bytes,
        found_is_truth: differences.is_empty(),
    })
}
