//! `sealane pcap`: captures of Sealane packets, made with what is in them known beforehand, analysed, and watched as they pass. What is
//! counted and how is the capture crate's; definitions stand in docs/CAPTURES.md.
#![expect(clippy::disallowed_methods, reason = "how long the analysis took is what is told")]

mod live;
mod pages;
mod scale;

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use capture::analyze::{Analyzer, Options};
use capture::counts::{Counts, Event, MessageRow, SealedCounts, Which};
use capture::file::Reader;
use capture::generate::{Plan, generate};
use capture::keys::KeyLog;
use capture::store::Store;
use capture::truth::{Fault, Truth};
use clap::Subcommand;
use sealane::Cipher;
use serde::Serialize;

/// Rows and events that are kept before they go to the database: some ten megabytes.
const BATCH: usize = 1 << 16;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    pcap: Pcap,
}

#[derive(Debug, Subcommand)]
enum Pcap {
    /// Make a capture from a seed, with what is in it beside it: FILE.truth.json and FILE.keys
    Gen(Gen),
    /// Analyse a capture in one pass, compare it with its truth, and tell of each message
    Analyze(Analyze),
    /// Make and analyse captures of several sizes, and say how fast that was
    Scale(scale::Args),
    /// Watch an interface, and show what passes on a page and to Prometheus
    Live(live::Args),
}

/// What a made capture holds.
#[derive(Clone, Debug, clap::Args)]
struct Rates {
    /// How likely each record of a longer message begins a gap
    #[arg(long, default_value_t = 0.05)]
    gap_rate: f64,
    /// How likely each record comes after its successor
    #[arg(long, default_value_t = 0.02)]
    reorder: f64,
    /// How likely each record or control packet is there twice
    #[arg(long, default_value_t = 0.01)]
    dup: f64,
    /// How likely a record of a complete message comes again once it is over
    #[arg(long, default_value_t = 0.001)]
    replay: f64,
    /// How likely each record of a longer message is sent again by a later attempt
    #[arg(long, default_value_t = 0.01)]
    retransmit: f64,
    /// All randomness comes from it
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// What seals
    #[arg(long, default_value = "aes-128-gcm", value_parser = cipher)]
    cipher: Cipher,
    /// Bytes of a packet of the network
    #[arg(long, default_value_t = 1500)]
    mtu: usize,
    /// Send messages of three packets and more in records that span packets, where these are small
    #[arg(long)]
    spanning_records: bool,
}

#[derive(Debug, clap::Args)]
struct Gen {
    /// How many packets, exactly
    #[arg(long, default_value_t = 100_000)]
    packets: u64,
    /// How many sessions
    #[arg(long, default_value_t = 1_000)]
    flows: u64,
    #[command(flatten)]
    rates: Rates,
    /// The capture; its truth and key log are named after it
    #[arg(short, long)]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 when found = truth, or no truth was given; 1 otherwise.")]
struct Analyze {
    /// A pcap or pcapng file
    file: PathBuf,
    /// Write messages, events and counts to this SQLite database, made anew
    #[arg(long)]
    db: Option<PathBuf>,
    /// What is in it, as its maker knew: the exit code is 1 unless that is found
    #[arg(long)]
    truth: Option<PathBuf>,
    /// Open and verify what is sealed with the secrets in this key log
    #[arg(long)]
    keylog: Option<PathBuf>,
    /// Write a page with pictures of the first messages' timelines
    #[arg(long)]
    html: Option<PathBuf>,
    /// Tell all that happens to this many messages, the first; of the others only what should not happen
    #[arg(long, default_value_t = 200)]
    timelines: usize,
    /// Read only datagrams from or to this port
    #[arg(long)]
    port: Option<u16>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn cipher(name: &str) -> Result<Cipher, String> {
    let known = Cipher::ALL.into_iter().find(|cipher| cipher.name() == name);
    known.ok_or_else(|| format!("one of {}", Cipher::ALL.map(Cipher::name).join(", ")))
}

impl Rates {
    const fn plan(&self, packets: u64, flows: u64) -> Plan {
        let Self { gap_rate, reorder, dup, replay, retransmit, seed, cipher, mtu, spanning_records } = *self;
        Plan { packets, flows, gap_rate, reorder, dup, replay, retransmit, seed, cipher, mtu, spanning_records }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match &args.pcap {
        Pcap::Gen(args) => make(args),
        Pcap::Analyze(args) => analyze(args),
        Pcap::Scale(args) => scale::run(args),
        Pcap::Live(args) => live::run(args),
    }
}

/// `name.pcap` with another ending.
fn beside(file: &Path, ending: &str) -> PathBuf {
    file.with_extension(ending)
}

#[derive(Debug, Serialize)]
struct Made<'a> {
    file: &'a Path,
    truth: &'a Path,
    keys: &'a Path,
    bytes: u64,
    seconds: f64,
    counts: &'a Counts,
}

fn make(args: &Gen) -> Result<ExitCode> {
    let begun = Instant::now();
    let (truth_at, keys_at) = (beside(&args.out, "truth.json"), beside(&args.out, "keys"));
    let (truth, bytes) = make_files(&args.rates.plan(args.packets, args.flows), &args.out, &truth_at, &keys_at)?;
    let seconds = begun.elapsed().as_secs_f64();
    if args.json {
        let made = Made { file: &args.out, truth: &truth_at, keys: &keys_at, bytes, seconds, counts: &truth.counts };
        crate::print(&format!("{}\n", serde_json::to_string(&made)?))?;
    } else {
        let Counts { packets, messages, gaps, duplicates, replays, out_of_order, retransmissions, .. } = truth.counts;
        crate::print(&format!(
            "{}: {packets} packets, {bytes} bytes, {messages} messages in {seconds:.2} s\n\
             {gaps} gaps, {out_of_order} out of order, {duplicates} duplicates, {retransmissions} retransmissions, {replays} replays\n\
             truth in {}, key log in {}\n",
            args.out.display(),
            truth_at.display(),
            keys_at.display()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    let file = File::create(path).map_err(|source| capture::error::Error::File { path: path.to_owned(), source })?;
    Ok(BufWriter::with_capacity(1 << 20, file))
}

fn open(path: &Path) -> Result<File> {
    Ok(File::open(path).map_err(|source| capture::error::Error::File { path: path.to_owned(), source })?)
}

/// Makes a capture and what goes with it; its truth and its length.
fn make_files(plan: &Plan, file: &Path, truth_at: &Path, keys_at: &Path) -> Result<(Truth, u64)> {
    let (truth, keys, output) = generate(plan, create(file)?)?;
    let written = output.into_inner().map_err(std::io::IntoInnerError::into_error).context("writing the capture")?;
    let mut truth_file = create(truth_at)?;
    truth.write(&mut truth_file)?;
    truth_file.into_inner().map_err(std::io::IntoInnerError::into_error).context("writing the truth")?;
    fs::write(keys_at, keys).with_context(|| format!("writing {}", keys_at.display()))?;
    Ok((truth, written.metadata()?.len()))
}

/// What one pass gave.
struct Pass {
    analyzer: Analyzer,
    /// Bytes that were read: all of the file.
    bytes: u64,
    /// From the first byte to the last result, without the database.
    analysis: Duration,
    database: Duration,
    faults: Vec<Fault>,
    /// Messages that were followed, and what happened to them.
    followed: (Vec<MessageRow>, Vec<Event>),
}

/// Reads a capture once. The clock of the analysis stands still while the database is written.
fn pass(file: &Path, options: Options, want_faults: bool, mut store: Option<&mut Store>) -> Result<Pass> {
    let followed_max = options.followed;
    let input = open(file)?;
    let begun = Instant::now();
    let mut database = Duration::ZERO;
    let mut reader = Reader::new(input).with_context(|| format!("{} cannot be analysed", file.display()))?;
    let mut analyzer = Analyzer::new(options);
    let mut faults = Vec::new();
    let mut followed = (Vec::new(), Vec::new());
    let mut whiches: std::collections::HashSet<Which> = std::collections::HashSet::new();
    let mut hand_on = |(rows, events): (Vec<MessageRow>, Vec<Event>)| -> Result<()> {
        if want_faults {
            faults.extend(events.iter().filter_map(Fault::of));
        }
        // The first of any message that is followed is its first record, however it came.
        for event in &events {
            if whiches.len() < followed_max {
                whiches.insert(event.which);
            }
        }
        if followed_max > 0 {
            followed.0.extend(rows.iter().filter(|row| whiches.contains(&row.which)).cloned());
            followed.1.extend(events.iter().filter(|event| whiches.contains(&event.which)).copied());
        }
        if let Some(store) = store.as_deref_mut() {
            let begun = Instant::now();
            store.add(&rows, &events)?;
            database += begun.elapsed();
        }
        Ok(())
    };
    while let Some(packet) = reader.next().with_context(|| format!("{} cannot be analysed", file.display()))? {
        analyzer.packet(&packet);
        if analyzer.waiting() >= BATCH {
            hand_on(analyzer.take())?;
        }
    }
    analyzer.finish();
    hand_on(analyzer.take())?;
    let analysis = begun.elapsed() - database;
    Ok(Pass { bytes: reader.bytes_read(), analyzer, analysis, database, faults, followed })
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    file: &'a Path,
    bytes: u64,
    seconds: f64,
    pps: f64,
    db_seconds: f64,
    pps_with_db: f64,
    counts: &'a Counts,
    sealed: Option<&'a SealedCounts>,
    truth: Option<bool>,
    differences: &'a [String],
}

fn analyze(args: &Analyze) -> Result<ExitCode> {
    let key_log = match &args.keylog {
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            Some(KeyLog::parse(&text).with_context(|| format!("{} is no key log", path.display()))?)
        }
        None => None,
    };
    let truth = match &args.truth {
        Some(path) => {
            let truth = Truth::read(BufReader::new(open(path)?));
            Some(truth.with_context(|| format!("{} cannot be used", path.display()))?)
        }
        None => None,
    };
    let followed = if args.html.is_some() || args.db.is_some() { args.timelines } else { 0 };
    let options = Options { key_log, followed, port: args.port };
    let mut store = args.db.as_deref().map(Store::create).transpose()?;
    let pass = pass(&args.file, options, truth.is_some(), store.as_mut())?;
    let Pass { analyzer, bytes, analysis, mut database, faults, followed } = pass;
    let begun = Instant::now();
    if let Some(store) = store {
        store.finish(&analyzer)?;
        database += begun.elapsed();
    }
    let begun = Instant::now();
    let differences = truth
        .as_ref()
        .map(|truth| truth.differences(analyzer.first(), analyzer.counts(), analyzer.sealed_counts(), faults));
    let differences = differences.transpose()?;
    let seconds = (analysis + begun.elapsed()).as_secs_f64();
    let db_seconds = database.as_secs_f64();
    if let Some(path) = &args.html {
        let page = capture::report::page(&args.file.display().to_string(), &analyzer, &followed.0, &followed.1);
        fs::write(path, page).with_context(|| format!("writing {}", path.display()))?;
    }
    let packets = analyzer.counts().packets as f64;
    let report = Report {
        file: &args.file,
        bytes,
        seconds,
        pps: packets / seconds,
        db_seconds,
        pps_with_db: packets / (seconds + db_seconds),
        counts: analyzer.counts(),
        sealed: analyzer.sealed_counts(),
        truth: differences.as_ref().map(Vec::is_empty),
        differences: differences.as_deref().unwrap_or_default(),
    };
    let text = if args.json { format!("{}\n", serde_json::to_string(&report)?) } else { report.text() };
    crate::print(&text)?;
    Ok(if report.truth == Some(false) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl Report<'_> {
    fn text(&self) -> String {
        let Self { seconds, pps, db_seconds, pps_with_db, .. } = self;
        let mut text = format!("{}: {} bytes in {seconds:.3} s, pps {pps:.0}\n", self.file.display(), self.bytes);
        if *db_seconds > 0.0 {
            text.push_str(&format!("database: {db_seconds:.3} s more, pps {pps_with_db:.0} with it\n"));
        }
        let mut lines = |title: &str, counts: &mut dyn Iterator<Item = (&'static str, u64)>| {
            text.push_str(&format!("{title}\n"));
            for (name, count) in counts {
                text.push_str(&format!("  {:<21}{count:>12}\n", name.replace('_', " ")));
            }
        };
        lines("in clear", &mut self.counts.each());
        match self.sealed {
            Some(sealed) => lines("sealed", &mut sealed.each()),
            None => text.push_str("no key log: what is sealed was not opened\n"),
        }
        match self.truth {
            Some(true) => text.push_str("found = truth\n"),
            Some(false) => {
                text.push_str("found and truth differ:\n");
                self.differences.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
            }
            None => {}
        }
        text
    }
}
