//! From the JSON of a run to what people read: a page and a figure beside it, and the table of the README.
//!
//! Owns which columns and which figure a command has, and the check that all of it still follows from the JSON. Refuses: measuring;
//! numbers come from the JSON as they are.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::page::{self, cell};
use crate::svg::{self, Bar};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the JSON of runs lies (NAME.json); pages and figures are written beside it.
    #[arg(default_value = "docs/performance")]
    folder: PathBuf,
    /// Where the generated table stands.
    #[arg(long, default_value = "README.md")]
    readme: PathBuf,
    /// Write nothing; fail if something is not what the JSON gives.
    #[arg(long)]
    check: bool,
}

const BEGIN: &str = "<!-- performance: begin -->";
const END: &str = "<!-- performance: end -->";

/// A column: its head, its field, how many digits after the point.
type Column = (&'static str, &'static str, usize);

/// What a command's page shows.
struct Look {
    columns: &'static [Column],
    /// Columns behind these that several tables have.
    more: &'static [Column],
    /// The field of the figure's bars, and what it is.
    bars: (&'static str, &'static str),
    /// The fields that name a group of bars, and the one that names a bar in it.
    group: &'static [&'static str],
    name: &'static str,
}

/// How a peer stands beside the others, and how much its rounds scatter: the last columns of every table of peers.
const BESIDE: &[Column] = &[
    ("to UDP", "ratio_to_udp", 2),
    ("to ideal kTLS", "ratio_to_ktls_ideal", 2),
    ("to TLS", "ratio_to_tls", 2),
    ("CPU to TLS", "cpu_ratio_to_tls", 2),
    ("CoV", "cov", 2),
];

const RTT: Look = Look {
    columns: &[
        ("bytes", "size", 0),
        ("peer", "peer", 0),
        ("p50 us", "p50_us", 2),
        ("p99 us", "p99_us", 2),
        ("p99.9 us", "p999_us", 2),
        ("CPU us", "cpu_us_per_rpc", 2),
    ],
    more: BESIDE,
    bars: ("p50_us", "median round trip, us; less is better"),
    group: &["size"],
    name: "peer",
};

const LOAD: Look = Look {
    columns: &[
        ("bytes", "size", 0),
        ("outstanding", "outstanding", 0),
        ("per second", "open_rate", 0),
        ("peer", "peer", 0),
        ("RPC/s", "rps", 0),
        ("p50 us", "p50_us", 2),
        ("p99 us", "p99_us", 2),
        ("CPU us", "cpu_us_per_rpc", 2),
    ],
    more: BESIDE,
    bars: ("rps", "RPCs per second; more is better"),
    group: &["size", "outstanding", "open_rate"],
    name: "peer",
};

const BULK: Look = Look {
    columns: &[
        ("bytes", "size", 0),
        ("outstanding", "outstanding", 0),
        ("peer", "peer", 0),
        ("MB/s", "mb_s", 0),
        ("CPU us per MB", "cpu_us_per_mb", 0),
    ],
    more: BESIDE,
    bars: ("mb_s", "10^6 bytes per second, one way; more is better"),
    group: &["size"],
    name: "peer",
};

const MEMORY: Look = Look {
    columns: &[
        ("what", "what", 0),
        ("session", "kind", 0),
        ("side", "side", 0),
        ("bytes", "size", 0),
        ("count", "count", 0),
        ("heap bytes each", "heap_bytes", 0),
        ("blocks", "heap_blocks", 1),
        ("resident bytes each", "resident_bytes", 0),
        ("goal", "goal_bytes", 0),
        ("met", "met", 0),
    ],
    more: &[],
    bars: ("heap_bytes", "bytes of the heap for each (of a message, beyond its own); less is better"),
    group: &["what", "kind", "size"],
    name: "side",
};

const INSTRUCTIONS: Look = Look {
    columns: &[
        ("mode", "mode", 0),
        ("bytes", "size", 0),
        ("peer", "peer", 0),
        ("instructions per RPC", "instructions", 0),
        ("to kTLS", "ratio_to_ktls", 2),
    ],
    more: &[],
    bars: ("instructions", "instructions of the whole machine per RPC; less is better"),
    group: &["mode", "size"],
    name: "peer",
};

const CORES: Look = Look {
    columns: &[
        ("shards", "shards", 0),
        ("client's", "client_shards", 0),
        ("handler us", "handler_us", 0),
        ("RPC/s", "rps", 0),
        ("client CPU us", "client_cpu_us", 2),
        ("server CPU us", "server_cpu_us", 2),
        ("to one shard", "ratio_to_one", 2),
    ],
    more: &[],
    bars: ("rps", "RPCs per second; more is better"),
    group: &["handler_us"],
    name: "shards",
};

const BRIEF: Look = Look {
    columns: &[],
    more: &[],
    bars: ("p50_us", "median round trip, us; less is better"),
    group: &["place", "size"],
    name: "peer",
};

fn look(report: &Value) -> Result<&'static Look> {
    let command = report["command"].as_str().context("it does not say which command made it")?;
    Ok(match command.split(' ').nth(1) {
        _ if command.contains("vm/run.sh") => &INSTRUCTIONS,
        Some("rtt") => &RTT,
        Some("load") => &LOAD,
        Some("bulk") => &BULK,
        Some("memory") => &MEMORY,
        Some("cores") => &CORES,
        Some("brief") => &BRIEF,
        _ => bail!("nothing is known of the command `{command}`"),
    })
}

fn rows(report: &Value) -> &[Value] {
    report["rows"].as_array().map_or(&[], Vec::as_slice)
}

/// The page of a run.
fn page_of(name: &str, report: &Value) -> Result<String> {
    let look = look(report)?;
    let used: Vec<&Column> = look
        .columns
        .iter()
        .chain(look.more)
        .filter(|(_, field, _)| rows(report).iter().any(|row| !row[field].is_null()))
        .collect();
    let mut text = format!(
        "# {name}\n\nGenerated by `peers render` from [{name}.json]({name}.json), which `{}` printed.\n\n![{name}]({name}.svg)\n\n",
        report["command"].as_str().unwrap_or_default()
    );
    if report["parts"].is_array() {
        text += page::tables(report).trim_start();
    }
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    if !used.is_empty() {
        text += &line(used.iter().map(|(head, ..)| (*head).to_owned()).collect());
        text += &line(used.iter().map(|_| "---".to_owned()).collect());
        for row in rows(report) {
            text += &line(used.iter().map(|(_, field, digits)| cell(&row[field], *digits)).collect());
        }
    }
    text += &page::missing(report);
    for (side, sites) in sites(report) {
        let _ = write!(
            text,
            "\nWho asked for an idle session's bytes, {side}:\n\n| bytes | blocks | functions, innermost first |\n|---|---|---|\n"
        );
        text.extend(sites.iter().map(|site| {
            format!("| {} | {} | `{}` |\n", cell(&site["bytes"], 0), cell(&site["blocks"], 2), cell(&site["site"], 0))
        }));
    }
    for note in report["notes"].as_array().into_iter().flatten() {
        let _ = write!(text, "\n{}.\n", cell(note, 0));
    }
    if let Some(machine) = report["machine"].as_str() {
        let _ = write!(text, "\n{machine}.\n");
    }
    if let Some(environment) = report["environment"].as_object() {
        let facts: Vec<String> = environment.iter().map(|(key, value)| format!("{key} {}", cell(value, 0))).collect();
        let _ = write!(text, "\n{}.\n", facts.join(", "));
    }
    Ok(text)
}

/// Where sessions' bytes were asked for, by kind and side.
fn sites(report: &Value) -> Vec<(String, &[Value])> {
    let sites = report["sites"].as_array().map_or(&[][..], Vec::as_slice);
    let groups = sites.chunk_by(|a, b| a["kind"] == b["kind"] && a["side"] == b["side"]);
    groups.map(|group| (format!("{}, {}", cell(&group[0]["kind"], 0), cell(&group[0]["side"], 0)), group)).collect()
}

fn figure(name: &str, report: &Value) -> Result<String> {
    let look = look(report)?;
    let bars: Vec<Bar> = rows(report)
        .iter()
        .filter_map(|row| {
            let fields = look.group.iter().filter(|field| !row[**field].is_null());
            let group: Vec<String> = fields.map(|field| place(field, &row[*field])).collect();
            let value = row[look.bars.0].as_f64()?;
            Some(Bar { group: group.join(", "), name: cell(&row[look.name], 0), value })
        })
        .collect();
    Ok(svg::draw(name, look.bars.1, &bars))
}

fn place(field: &str, value: &Value) -> String {
    let text = cell(value, 0);
    match field {
        "size" => bytes(value.as_u64().unwrap_or(0)),
        "outstanding" => format!("{text} out"),
        "handler_us" => format!("handler {text} us"),
        "open_rate" => format!("{text}/s"),
        _ => text,
    }
}

fn bytes(size: u64) -> String {
    match size {
        _ if size >= 1 << 20 && size.is_multiple_of(1 << 20) => format!("{} MiB", size >> 20),
        _ if size >= 1 << 10 && size.is_multiple_of(1 << 10) => format!("{} KiB", size >> 10),
        _ => format!("{size} B"),
    }
}

/// What the README's table has: a run, a field, what it is.
const SUMMARY: [(&str, &str, &str); 7] = [
    ("rtt-spin", "ratio_to_udp", "round trip, spinning, to raw UDP (less is better)"),
    ("rtt-spin", "ratio_to_ktls_ideal", "round trip, spinning, to ideal kTLS (less is better)"),
    ("rtt-spin", "ratio_to_tls", "round trip, spinning, to TLS over TCP (less is better)"),
    ("rtt-mtu1500", "ratio_to_ktls_ideal", "the same with packets of 1,500 bytes, to ideal kTLS"),
    ("load", "ratio_to_ktls_ideal", "RPC/s, 64 outstanding, to ideal kTLS (more is better)"),
    ("bulk", "ratio_to_ktls_ideal", "MB/s one way, to ideal kTLS (more is better)"),
    ("instructions", "ratio_to_ktls", "instructions of the machine per RPC, blocking, to kernel TLS (less is better)"),
];

/// The README's table: what Sealane's rows say, by size.
fn summary(runs: &[(String, Value)]) -> String {
    let is_ours = |row: &&Value| row["peer"] == "sealane" && row["open_rate"].is_null() && row["mode"] != "turns";
    let of = |run: &str| {
        let found = runs.iter().find(|(name, _)| name == run);
        found.map(|(_, report)| rows(report).iter().filter(is_ours).collect::<Vec<_>>()).unwrap_or_default()
    };
    let mut sizes: Vec<u64> =
        SUMMARY.iter().flat_map(|(run, ..)| of(run)).filter_map(|row| row["size"].as_u64()).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let heads: Vec<String> = sizes.iter().map(|size| bytes(*size)).collect();
    let mut text = format!("| | {} |\n|---|{}\n", heads.join(" | "), "---|".repeat(sizes.len()));
    for (run, field, what) in SUMMARY {
        let ours = of(run);
        if ours.iter().all(|row| row[field].is_null()) {
            continue;
        }
        let cells = sizes.iter().map(|size| {
            let row = ours.iter().find(|row| row["size"].as_u64() == Some(*size));
            row.map_or_else(String::new, |row| cell(&row[field], 2))
        });
        let _ = writeln!(text, "| [{what}](docs/performance/{run}.md) | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    text
}

fn with_summary(readme: &str, table: &str) -> Result<String> {
    let (before, rest) = readme.split_once(BEGIN).with_context(|| format!("no line `{BEGIN}`"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no line `{END}`"))?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

/// Writes a run's JSON, page and figure.
pub(crate) fn store(folder: &Path, name: &str, report: &Value) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(format!("{name}.json")), serde_json::to_string_pretty(report)? + "\n")?;
    std::fs::write(folder.join(format!("{name}.md")), page_of(name, report)?)?;
    std::fs::write(folder.join(format!("{name}.svg")), figure(name, report)?)?;
    Ok(())
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut runs = Vec::new();
    let entries = std::fs::read_dir(&args.folder).with_context(|| format!("cannot read {}", args.folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let report: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)
                .with_context(|| format!("{} is no JSON", path.display()))?;
            runs.push((name, report));
        }
    }
    runs.sort_by(|a, b| a.0.cmp(&b.0));
    ensure!(!runs.is_empty(), "no run in {}", args.folder.display());
    let mut files = Vec::new();
    for (name, report) in &runs {
        let about = || format!("{name}.json");
        files.push((args.folder.join(format!("{name}.md")), page_of(name, report).with_context(about)?));
        files.push((args.folder.join(format!("{name}.svg")), figure(name, report).with_context(about)?));
    }
    let readme =
        std::fs::read_to_string(&args.readme).with_context(|| format!("cannot read {}", args.readme.display()))?;
    let table = with_summary(&readme, &summary(&runs)).with_context(|| args.readme.display().to_string())?;
    files.push((args.readme.clone(), table));
    for (path, wanted) in files {
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        if args.check {
            ensure!(found == wanted, "{} is not what the JSON gives: run `peers render`", path.display());
        } else if found != wanted {
            std::fs::write(&path, wanted)?;
            eprintln!("wrote {}", path.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn runs() -> Vec<(String, Value)> {
        let row = |peer: &str, size: u64, ratio: f64| json!({ "peer": peer, "size": size, "p50_us": 5.0, "ratio_to_udp": ratio, "open_rate": null, "mode": "spin" });
        let rows = vec![row("udp", 64, 1.0), row("sealane", 64, 1.25), row("sealane", 1 << 20, 1.5)];
        vec![("rtt-spin".to_owned(), json!({ "command": "peers rtt --sizes 64", "rows": rows }))]
    }

    #[test]
    fn the_readmes_table_has_our_rows_by_size() {
        let table = summary(&runs());
        assert!(table.starts_with("| | 64 B | 1 MiB |\n"), "{table}");
        assert!(table.contains("| 1.25 | 1.50 |"), "{table}");
        assert_eq!(table.lines().count(), 3);
    }

    #[test]
    fn a_table_replaces_the_one_before_and_nothing_else() {
        let readme = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(with_summary(&readme, "new\n").unwrap(), format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert!(with_summary("a", "new").is_err());
    }

    #[test]
    fn a_page_has_the_columns_that_the_run_has() {
        let page = page_of("rtt-spin", &runs()[0].1).unwrap();
        assert!(
            page.contains("| bytes | peer | p50 us | to UDP |\n") && page.contains("| 64 | sealane | 5.00 | 1.25 |"),
            "{page}"
        );
        assert!(look(&json!({ "command": "peers dance" })).is_err());
    }
}
