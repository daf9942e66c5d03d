//! `sealane pcap live`: an interface is watched, and what passes is shown while it does.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use capture::analyze::{Analyzer, Options};
use capture::counts::{Counts, SealedCounts};
use capture::file::Packet;
use capture::frame::Link;
use capture::keys::KeyLog;
use serde::Serialize;
use udp::sniff::Sniffer;

use super::pages;

/// How long the watcher waits for a packet before it looks at the clock.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often what is shown is renewed.
const RENEW: Duration = Duration::from_millis(200);
/// Events that are shown.
const RECENT_MAX: usize = 50;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The interface, such as lo or eth0
    interface: String,
    /// Stop after so many seconds, and print what was seen [default: never; the pages show it meanwhile]
    #[arg(long)]
    duration: Option<u64>,
    /// Where the page, /metrics and /api/v1/stats/summary are served
    #[arg(long, default_value = "127.0.0.1:9999")]
    http: SocketAddr,
    /// Read only datagrams from or to this port
    #[arg(long)]
    port: Option<u16>,
    /// Open what is sealed with the secrets in this key log; it is read once, so start it before the sessions only if it is there
    #[arg(long)]
    keylog: Option<PathBuf>,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

/// What is shown.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    pub(super) interface: String,
    pub(super) seconds: f64,
    pub(super) pps: f64,
    /// Packets that the kernel had no room for.
    pub(super) dropped: u64,
    pub(super) open_messages: usize,
    pub(super) counts: Counts,
    pub(super) sealed: Option<SealedCounts>,
    /// The last things that should not happen.
    pub(super) recent: VecDeque<String>,
}

pub(super) type Shown = Arc<Mutex<Summary>>;

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let key_log = match &args.keylog {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            Some(KeyLog::parse(&text).with_context(|| format!("{} is no key log", path.display()))?)
        }
        None => None,
    };
    let sniffer = Sniffer::open(&args.interface, PATIENCE).map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ": it takes CAP_NET_RAW, which root has",
            _ => "",
        };
        anyhow::Error::from(error).context(format!("interface {} cannot be watched{why}", args.interface))
    })?;
    let begun = Instant::now();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut analyzer = Analyzer::new(Options { key_log, followed: 0, port: args.port });
    let summary = Summary {
        interface: args.interface.clone(),
        seconds: 0.0,
        pps: 0.0,
        dropped: 0,
        open_messages: 0,
        counts: Counts::default(),
        sealed: None,
        recent: VecDeque::new(),
    };
    let shown: Shown = Arc::new(Mutex::new(summary));
    let http = pages::serve(args.http, Arc::clone(&shown))?;
    if !args.json {
        crate::print(&format!("watching {}; http://{http}/ and /metrics, /api/v1/stats/summary\n", args.interface))?;
    } else {
        eprintln!("http://{http}/");
    }
    let mut buffer = vec![0; 1 << 17];
    let mut renewed = Instant::now();
    let ends = args.duration.map(|seconds| begun + Duration::from_secs(seconds));
    // An interface may go away: what was seen until then is told all the same.
    let mut broken = None;
    while broken.is_none() && ends.is_none_or(|ends| Instant::now() < ends) {
        match sniffer.next(&mut buffer) {
            Ok(Some(passed)) => analyzer.packet(&Packet {
                // The system's clock may be set meanwhile; this one goes on.
                time_ns: (since + begun.elapsed()).as_nanos() as u64,
                link: Link::Raw,
                original_len: passed.original_len as u32,
                bytes: &buffer[..passed.len],
            }),
            Ok(None) => {}
            Err(error) => broken = Some(error),
        }
        if renewed.elapsed() >= RENEW {
            renewed = Instant::now();
            renew(&shown, &mut analyzer, &sniffer, begun.elapsed());
        }
    }
    analyzer.finish();
    renew(&shown, &mut analyzer, &sniffer, begun.elapsed());
    let summary = shown.lock().unwrap_or_else(PoisonError::into_inner);
    let text = if args.json {
        format!("{}\n", serde_json::to_string(&*summary)?)
    } else {
        summary.counts.each().map(|(name, count)| format!("{:<21}{count:>12}\n", name.replace('_', " "))).collect()
    };
    crate::print(&text)?;
    match broken {
        None => Ok(ExitCode::SUCCESS),
        Some(error) => Err(anyhow::Error::from(error).context(format!("watching {}", args.interface))),
    }
}

fn renew(shown: &Shown, analyzer: &mut Analyzer, sniffer: &Sniffer, elapsed: Duration) {
    let (_, events) = analyzer.take();
    let mut summary = shown.lock().unwrap_or_else(PoisonError::into_inner);
    summary.seconds = elapsed.as_secs_f64();
    summary.counts = analyzer.counts().clone();
    summary.sealed = analyzer.sealed_counts().cloned();
    summary.open_messages = analyzer.open_messages();
    summary.pps = summary.counts.packets as f64 / summary.seconds;
    summary.dropped += sniffer.dropped().unwrap_or(0);
    for fault in events.iter().filter_map(capture::truth::Fault::of) {
        summary.recent.push_front(fault.to_string());
    }
    summary.recent.truncate(RECENT_MAX);
}
