//! `sealane offload sim`: calls between two hosts of the simulator, with modelled cards below the shipped engine. With a fault it ends with 0
//! when the fault was there, was found and was made good.

use anyhow::{Result, bail};
use mlx5_shim::fault::Fault;
use offload::nic::Config;
use serde::Serialize;
use sim::offloaded::{Engine, Outcome, Plan, run as run_pair};
use std::process::ExitCode;

use sealane::Cipher;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Messages, requests and responses together
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(2..))]
    messages: u64,
    /// Bytes of each; several take turns
    #[arg(long, value_delimiter = ',', default_value = "1024,16384")]
    bytes: Vec<usize>,
    /// Calls that are open at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    interleave: u64,
    /// Share of frames that are lost
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Share of frames that are late and overtaken
    #[arg(long, default_value_t = 0.0)]
    late: f64,
    /// Who seals at the client and at the server: software, rustcrypto, card
    #[arg(long, value_delimiter = ',', default_value = "card,card")]
    engines: Vec<String>,
    /// Records after which a key is changed, if that is to be early
    #[arg(long)]
    rekey_after: Option<u64>,
    /// What goes wrong at the client's card: skip-resync, reorder-queues, short-dump, reset
    #[arg(long)]
    fault: Option<String>,
    /// The cards do not cut segments into packets
    #[arg(long)]
    no_lso: bool,
    /// Less than so many bytes of records are sealed in software
    #[arg(long, default_value_t = Config::default().bytes_min)]
    bytes_min: usize,
    /// Queues of each card
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    queues: u64,
    /// All randomness comes from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    messages: u64,
    failed: u64,
    altered: u64,
    records: u64,
    sealed_by_device: u64,
    resyncs: u64,
    resyncs_without_key: u64,
    descriptors: u64,
    ring_bytes: u64,
    descriptors_per_message: f64,
    resyncs_per_message: f64,
    ring_bytes_per_message: f64,
    tag_failures: u64,
    lost: u64,
    repairs: u64,
    keys_to_device: u64,
    keys_given_up: u64,
    sessions_off: u64,
    sealed_twice: u64,
    sent_in_clear: u64,
    fault: Option<String>,
    strikes: u64,
    kept_from_card: u64,
    overtaken: u64,
    refused: Option<String>,
    well: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let plan = plan(args)?;
    let bar = crate::sim::bar(1000).with_message("calls");
    let outcome = run_pair(&plan, &mut |part| bar.set_position((part * 1000.0) as u64));
    bar.finish_and_clear();
    let report = report(&plan, args.fault.as_deref(), &outcome);
    let text = if args.json { format!("{}\n", serde_json::to_string(&report)?) } else { table(&report) };
    crate::print(&text)?;
    Ok(if report.well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn plan(args: &Args) -> Result<Plan> {
    let fault = match &args.fault {
        None => None,
        Some(wanted) => match Fault::ALL.iter().find(|(name, _)| name == wanted) {
            Some((_, fault)) => Some(*fault),
            None => bail!("no fault is called {wanted}; there are {}", Fault::ALL.map(|(name, _)| name).join(", ")),
        },
    };
    let engine = |wanted: &String| match Engine::ALL.iter().find(|(name, _)| name == wanted) {
        Some((_, engine)) => Ok(*engine),
        None => bail!("no engine is called {wanted}; there are {}", Engine::ALL.map(|(name, _)| name).join(", ")),
    };
    let [left, right] = &args.engines[..] else { bail!("--engines wants two: the client's and the server's") };
    if args.bytes.is_empty() || args.bytes.iter().any(|bytes| *bytes > 16 << 20) {
        bail!("--bytes wants sizes up to 16 MiB");
    }
    if !(0.0..=0.3).contains(&args.loss) || !(0.0..=0.5).contains(&args.late) {
        bail!("--loss is from 0 to 0.3, --late from 0 to 0.5");
    }
    Ok(Plan {
        seed: args.seed,
        messages: args.messages.next_multiple_of(2),
        sizes: args.bytes.clone(),
        interleave: args.interleave,
        loss: args.loss,
        late: args.late,
        engines: [engine(left)?, engine(right)?],
        cipher: Cipher::Aes128Gcm,
        rekey_after: args.rekey_after,
        fault,
        nic: Config { bytes_min: args.bytes_min, queues: args.queues as usize, ..Config::default() },
        lso: !args.no_lso,
        bundles: true,
    })
}

/// Whether the fault was there and was found: the card was refused, or what it did was repaired.
fn was_met(plan: &Plan, outcome: &Outcome) -> bool {
    let repaired = outcome.sum(|counters| counters.device_repairs) > 0;
    match plan.fault {
        None => outcome.tag_failures() == 0 && outcome.refused.is_none(),
        Some(Fault::ShortDump) => outcome.strikes > 0 && outcome.refused.is_some() && outcome.tag_failures() == 0,
        Some(Fault::Reset) => outcome.strikes > 0 && outcome.sum(|counters| counters.device_keys_given_up) > 0,
        // What crosses is kept from the card, and its keys are given up; what is only late and overtaken does no harm.
        Some(Fault::ReorderQueues) => {
            let kept = outcome.strikes > 0 && outcome.refused_descriptors >= outcome.strikes && outcome.overtaken > 0;
            let whole = outcome.tag_failures() == 0 && outcome.cards(|report| report.garbled) == 0;
            kept && whole && repaired && outcome.sum(|counters| counters.device_keys_given_up) > 0
        }
        Some(Fault::SkipResync) => outcome.strikes > 0 && outcome.tag_failures() > 0 && repaired,
    }
}

fn report(plan: &Plan, fault: Option<&str>, outcome: &Outcome) -> Report {
    let each = |count: u64| (count as f64 / plan.messages as f64 * 1000.0).round() / 1000.0;
    let sealed_twice = outcome.seen.twice + outcome.seen.differing + outcome.cards(|report| report.twice);
    let sent_in_clear = outcome.cards(|report| report.in_clear);
    let whole = outcome.messages == plan.messages && outcome.failed == 0 && outcome.altered == 0;
    Report {
        messages: outcome.messages,
        failed: outcome.failed,
        altered: outcome.altered,
        records: outcome.sum(|counters| counters.records_sealed),
        sealed_by_device: outcome.sum(|counters| counters.records_by_device),
        resyncs: outcome.nic.resyncs,
        resyncs_without_key: outcome.nic.progress_only,
        descriptors: outcome.nic.descriptors,
        ring_bytes: outcome.nic.blocks * 64,
        descriptors_per_message: each(outcome.nic.descriptors),
        resyncs_per_message: each(outcome.nic.resyncs),
        ring_bytes_per_message: each(outcome.nic.blocks * 64),
        tag_failures: outcome.tag_failures(),
        lost: outcome.lost,
        repairs: outcome.sum(|counters| counters.device_repairs),
        keys_to_device: outcome.nic.keys,
        keys_given_up: outcome.sum(|counters| counters.device_keys_given_up),
        sessions_off: outcome.sum(|counters| counters.device_off),
        sealed_twice,
        sent_in_clear,
        fault: fault.map(str::to_owned),
        strikes: outcome.strikes,
        kept_from_card: outcome.refused_descriptors,
        overtaken: outcome.overtaken,
        refused: outcome.refused.clone(),
        well: whole && sealed_twice == 0 && sent_in_clear == 0 && was_met(plan, outcome),
    }
}

fn table(report: &Report) -> String {
    let mut text = format!(
        "{} messages whole, {} failed, {} altered; {} of {} records sealed by cards\n\
         per message: {} descriptors, {} resyncs, {} bytes of ring\n\
         {} frames lost, {} tags wrong, {} messages repaired in software, {} keys given up, {} sealed twice, {} in clear\n",
        report.messages,
        report.failed,
        report.altered,
        report.sealed_by_device,
        report.records,
        report.descriptors_per_message,
        report.resyncs_per_message,
        report.ring_bytes_per_message,
        report.lost,
        report.tag_failures,
        report.repairs,
        report.keys_given_up,
        report.sealed_twice,
        report.sent_in_clear,
    );
    if let Some(fault) = &report.fault {
        text.push_str(&format!(
            "the fault {fault} struck {} times; {} descriptors were kept from the card, {} doorbells overtaken\n",
            report.strikes, report.kept_from_card, report.overtaken
        ));
    }
    if let Some(why) = &report.refused {
        text.push_str(&format!("a card was not used: {why}\n"));
    }
    text
}
