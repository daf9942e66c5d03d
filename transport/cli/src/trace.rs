//! `sealane trace`: a time trace, which a slow call left, as a picture: a row for each message, a tick for each thing that happened to it.
//! Also what `serve` and `call` do to have one.

mod picture;
mod text;

use anyhow::{Context, Result, ensure};
use sealane::Builder;
use sealane::builder::Ready;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use text::{Mark, Trace};

/// Marks that are kept: about ten thousand short calls.
const MARKS: usize = 1 << 16;

/// What a command that has a socket needs to be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Wanted {
    /// Keep a time trace, and stop it when a call takes longer than so many microseconds
    #[arg(long, value_name = "MICROSECONDS", requires = "trace_out")]
    trace_slow: Option<u64>,
    /// Write it there then, for `sealane trace render`; a later one replaces it
    #[arg(long, value_name = "FILE", requires = "trace_slow")]
    trace_out: Option<PathBuf>,
}

impl Wanted {
    pub(crate) fn apply(&self, builder: Builder<Ready>) -> Builder<Ready> {
        match self.trace_slow {
            Some(slow) => builder.time_trace(Duration::from_micros(slow), MARKS),
            None => builder,
        }
    }

    /// Where a trace goes, if one is wanted.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.trace_out.as_deref()
    }
}

/// Writes a trace, and says so. Whoever looks meanwhile finds the one before, or all of this one.
pub(crate) fn write(trace: &sealane::TimeTrace, file: &Path) -> Result<()> {
    let is_device = fs::metadata(file).is_ok_and(|found| !found.is_file());
    let mut beside = file.as_os_str().to_owned();
    if !is_device {
        beside.push(".new");
    }
    fs::write(&beside, trace.to_string())
        .and_then(|()| if is_device { Ok(()) } else { fs::rename(&beside, file) })
        .with_context(|| format!("cannot write the time trace {}", file.display()))?;
    let took = trace.cause.map_or_else(String::new, |cause| format!(" of a call that took {:?}", cause.took));
    eprintln!("sealane: time trace{took} in {}; see it: sealane trace render {0} -o trace.html", file.display());
    Ok(())
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Draw a time trace
    Render(RenderArgs),
}

#[derive(Debug, clap::Args)]
struct RenderArgs {
    /// What `--trace-out` or `TimeTrace` wrote
    file: PathBuf,
    /// Where the picture goes: a page, or with a name that ends in .svg only the picture
    #[arg(short, long, value_name = "FILE", required_unless_present = "json")]
    out: Option<PathBuf>,
    /// Print one JSON object: the call that was slow, and its steps
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let Command::Render(args) = &args.command;
    let said = fs::read_to_string(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let trace = Trace::parse(&said).with_context(|| format!("{} is no time trace", args.file.display()))?;
    ensure!(!trace.marks.is_empty(), "nothing happened in {}", args.file.display());
    if let Some(out) = &args.out {
        let picture = picture::of(&trace);
        let only = out.extension().is_some_and(|extension| extension == "svg");
        let text = if only { picture } else { picture::page(&trace, &picture) };
        fs::write(out, text).with_context(|| format!("cannot write {}", out.display()))?;
    }
    let slow = trace.slow();
    crate::print(&if args.json {
        let shown = |mark: &&Mark| json!({ "step": mark.step, "at_us": since(&slow, mark), "value": mark.value });
        let steps: Vec<_> = slow.iter().map(shown).collect();
        let took = trace.cause.as_ref().map(|cause| cause.nanos as f64 / 1e3);
        let rpc = trace.cause.as_ref().map(|cause| cause.rpc.clone());
        format!("{}\n", json!({ "marks": trace.marks.len(), "rpc": rpc, "took_us": took, "steps": steps }))
    } else {
        let out = args
            .out
            .as_ref()
            .map_or_else(String::new, |out| format!("{} marks in {}\n", trace.marks.len(), out.display()));
        out + &crate::plain(&in_words(&trace, &slow))
    })
}

/// Microseconds from the first of these.
fn since(all: &[&Mark], mark: &Mark) -> f64 {
    let first = all.first().map_or(0, |first| first.nanos);
    mark.nanos.saturating_sub(first) as f64 / 1e3
}

fn in_words(trace: &Trace, slow: &[&Mark]) -> String {
    let Some(cause) = &trace.cause else { return "it was stopped by hand\n".to_owned() };
    let mut text = format!("{} with {} took {:.1} us\n", cause.rpc, trace.peer(&cause.peer), cause.nanos as f64 / 1e3);
    for mark in slow {
        text.push_str(&format!("  {:>12.1} us  {:<10} {}\n", since(slow, mark), mark.step, mark.value));
    }
    text
}
