//! `sealane top`: what a process of Sealane's does now, redrawn every second, from the door that `--metrics` opened there. It keeps nothing
//! but the last look, by which it tells rates.
#![expect(clippy::disallowed_methods, reason = "it looks every real second")]

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use crate::observe;
use crate::observe::snapshot::Snapshot;

/// Rows of sessions, and of RPCs.
const ROWS: usize = 8;
/// Puts the cursor into the corner, and clears what follows: what was there is overwritten without flicker.
const HOME: &str = "\x1b[H\x1b[J";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where `--metrics` of a server or proxy is
    #[arg(value_name = "ADDR", default_value = "127.0.0.1:9464")]
    door: String,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    every: f64,
    /// Look twice, print once, and end
    #[arg(long)]
    once: bool,
    /// Print one JSON object a look: what there is, and `per_second` what was counted since the look before
    #[arg(long)]
    json: bool,
}

/// One look.
struct Look {
    at: Instant,
    snapshot: Snapshot,
}

impl Look {
    fn take(door: SocketAddr) -> Result<Self> {
        let text = observe::http::fetch(door, "/info.json")?;
        let snapshot =
            serde_json::from_str(&text).with_context(|| format!("what {door} says is of another version"))?;
        Ok(Self { at: Instant::now(), snapshot })
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let every = Duration::try_from_secs_f64(args.every).context("--every")?;
    ensure!(every >= Duration::from_millis(100), "--every {} is too often: at least 0.1", args.every);
    let door = args.door.to_socket_addrs().with_context(|| format!("looking up {}", args.door))?.next();
    let door = door.with_context(|| format!("{} has no address", args.door))?;
    let mut before = Look::take(door)?;
    let redraws = !args.json && !args.once && io::stdout().is_terminal();
    loop {
        thread::sleep(every);
        let now = match Look::take(door) {
            Ok(now) => now,
            Err(error) if args.once => return Err(error),
            // It may come back, such as a server that is started again.
            Err(error) => {
                eprintln!("{}{}", if redraws { HOME } else { "" }, crate::plain(&format!("sealane: {error:#}")));
                continue;
            }
        };
        let rates = rates(&before.snapshot, &now.snapshot, now.at - before.at);
        if args.json {
            let mut line = serde_json::to_value(&now.snapshot)?;
            line["per_second"] = json!(rates);
            crate::print(&format!("{line}\n"))?;
        } else {
            let page = crate::plain(&page(&now.snapshot, &rates));
            crate::print(&format!("{}{page}", if redraws { HOME } else { "" }))?;
        }
        if args.once {
            return Ok(());
        }
        before = now;
    }
}

/// What was counted between two looks, per second.
fn rates(before: &Snapshot, now: &Snapshot, span: Duration) -> BTreeMap<String, f64> {
    let per_second = |before: u64, now: u64| {
        // A server that was started again counts from zero.
        let counted = now.checked_sub(before).unwrap_or(now);
        (counted as f64 / span.as_secs_f64() * 10.0).round() / 10.0
    };
    let mut rates: BTreeMap<String, f64> = BTreeMap::new();
    for (name, count) in &now.counters {
        rates.insert(name.clone(), per_second(before.counters.get(name).copied().unwrap_or(0), *count));
    }
    for (priority, (then, bytes)) in before.sent_bytes_by_priority.iter().zip(&now.sent_bytes_by_priority).enumerate() {
        rates.insert(format!("sent_bytes_{priority}"), per_second(*then, *bytes));
    }
    for (name, then, count) in [
        ("segments_sent", before.segments_sent, now.segments_sent),
        ("segments_received", before.segments_received, now.segments_received),
        ("oversized", before.oversized, now.oversized),
        ("unsent", before.unsent, now.unsent),
    ] {
        rates.insert(name.to_owned(), per_second(then, count));
    }
    rates
}

/// A number of bytes that one can say aloud.
fn bytes(count: f64) -> String {
    let units = ["B", "KB", "MB", "GB", "TB"];
    let power = (count.max(1.0).log10() / 3.0).floor().min(4.0);
    let shown = count / 1000f64.powf(power);
    if power == 0.0 { format!("{shown:.0} B") } else { format!("{shown:.1} {}", units[power as usize]) }
}

fn page(now: &Snapshot, rates: &BTreeMap<String, f64>) -> String {
    let rate = |name: &str| rates.get(name).copied().unwrap_or(0.0);
    let mut text = format!("{}  records by {}, {}\n", now.addr, now.engine, now.backend);
    if now.offload != "off" {
        let _ = writeln!(text, "offload   {}", now.offload);
    }
    let half = now.sessions.saturating_sub(now.sessions_open);
    let _ = writeln!(
        text,
        "sessions  {} open, of these {} at rest; {half} in handshake",
        now.sessions_open, now.sessions_resting
    );
    let _ = writeln!(
        text,
        "messages  {} under way, {:.0}/s delivered, {:.0}/s in bundles; {} wait for room",
        now.rpcs,
        rate("messages_delivered"),
        rate("messages_bundled"),
        now.waiting
    );
    let _ = writeln!(
        text,
        "packets   {:.0}/s out, {:.0}/s in; records {:.0}/s sealed, {:.0}/s opened, {:.0}/s repeated",
        rate("packets_sent"),
        rate("datagrams_received"),
        rate("records_sealed"),
        rate("records_opened"),
        rate("records_repeated")
    );
    let _ = writeln!(
        text,
        "grants    {} may come, {} of ours wait for grants, {} held for acknowledgement, {} buffered",
        bytes(now.incoming_bytes as f64),
        bytes(now.ungranted_bytes as f64),
        bytes(now.held_bytes as f64),
        bytes(now.buffered_bytes as f64)
    );
    text.push_str("priority ");
    for priority in (0..now.sent_bytes_by_priority.len()).rev() {
        let _ = write!(text, " {priority}: {}/s ", bytes(rate(&format!("sent_bytes_{priority}"))));
    }
    text.push_str("\ndrops    ");
    let mut drops: Vec<(&str, u64)> = now.counters.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    drops.extend([("oversized", now.oversized), ("unsent", now.unsent)]);
    drops
        .retain(|(name, count)| *count > 0 && (name.starts_with("dropped_") || ["oversized", "unsent"].contains(name)));
    for (name, count) in &drops {
        let _ = write!(text, " {} {count} (+{:.0}/s) ", name.trim_start_matches("dropped_"), rate(name));
    }
    text.push_str(if drops.is_empty() { " none\n" } else { "\n" });
    if !now.busiest_sessions.is_empty() {
        let _ = writeln!(text, "\n{:<22} {:>6} {:>10}  {:<9} peer", "session with", "rpcs", "rtt", "state");
    }
    for session in now.busiest_sessions.iter().take(ROWS) {
        let rtt = session.rtt_us.map_or("-".to_owned(), |rtt| format!("{rtt:.1} us"));
        let state = if session.open { "open" } else { "handshake" };
        let _ =
            writeln!(text, "{:<22} {:>6} {rtt:>10}  {state:<9} {}", session.address, session.rpcs, session.identity);
    }
    if now.sessions > ROWS {
        let _ = writeln!(text, "and {} more", now.sessions - ROWS);
    }
    if !now.largest_rpcs.is_empty() {
        let _ = writeln!(
            text,
            "\n{:<22} {:<12} {:>32} {:>32}",
            "message with", "state", "out sent/granted/length", "in received/granted/length"
        );
    }
    for rpc in now.largest_rpcs.iter().take(ROWS) {
        let out = format!("{}/{}/{}", rpc.out_sent, rpc.out_granted, rpc.out_length);
        let inc = format!("{}/{}/{}", rpc.in_received, rpc.in_granted, rpc.in_length);
        let _ = writeln!(text, "{:<22} {:<12} {out:>32} {inc:>32}", rpc.address, rpc.state);
    }
    if now.rpcs > ROWS {
        let _ = writeln!(text, "and {} more", now.rpcs - ROWS);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_can_be_said() {
        let said = [0.0, 999.0, 1000.0, 1_500_000.0, 2e15].map(bytes);
        assert_eq!(said, ["0 B", "999 B", "1.0 KB", "1.5 MB", "2000.0 TB"]);
    }
}
