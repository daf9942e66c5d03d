//! Target `acts`: two hosts and a malicious one, driven by a script, under the simulator's checker: whatever they do and suffer, the
//! invariants of the design hold.

use sim::chaos::plan::Plan;
use sim::chaos::run::Run;
use sim::chaos::script::Act;
use sim::clock::US;
use sim::fault::Fault;

use crate::input::Input;

/// Acts of one script.
const ACTS_MAX: usize = 200;

fn host(input: &mut Input<'_>) -> u32 {
    input.u8().into()
}

fn length(input: &mut Input<'_>) -> u32 {
    let (high, low) = (input.u8(), input.u8());
    // Mostly short; now and then up to 3 MB.
    if high < 250 { u32::from(high) * u32::from(low) / 16 } else { u32::from(low) * 12_000 }
}

fn act(input: &mut Input<'_>) -> Act {
    match input.u8() % 16 {
        0..5 => {
            let (from, how) = (host(input), input.u8());
            let (len, response_len) = (length(input), length(input));
            Act::Call { from, next: how & 1 != 0, one_way: how & 6 == 6, len, response_len, patient: how & 8 != 0 }
        }
        5 => Act::Cancel(input.u8()),
        6..8 => Act::Pass(input.u8()),
        8..10 => {
            let by = (1 + u64::from(input.u8())) * 10 * US;
            Act::Strike(match input.u8() % 7 {
                0 => Fault::Loss,
                1 => Fault::Reorder(by),
                2 => Fault::Duplicate(by),
                3 => Fault::Corrupt,
                4 => Fault::Truncate,
                5 => Fault::Extend,
                _ => Fault::Burst(by),
            })
        }
        10 => Act::Crash(host(input), input.u8()),
        11 => Act::Clock(host(input), input.u16()),
        12 => Act::Close(host(input)),
        13 => Act::Cut(host(input), input.u8()),
        14 => Act::Stranger(input.u8()),
        _ => Act::Insider(input.u8()),
    }
}

/// The script that bytes mean: the seed of a configuration, then acts.
#[must_use]
pub fn script(data: &[u8]) -> (u64, Vec<Act>) {
    let mut input = Input::new(data);
    let seed = input.u8().into();
    let mut acts = Vec::new();
    while !input.is_empty() && acts.len() < ACTS_MAX {
        acts.push(act(&mut input));
    }
    (seed, acts)
}

/// The target.
///
/// # Panics
/// When a rule was broken.
pub fn acts(data: &[u8]) {
    let (seed, acts) = script(data);
    if let Err(broken) = Run::new(Plan::scripted(seed)).follow(acts.iter().copied()) {
        panic!("{broken:?} of seed {seed} and {acts:#?}");
    }
}
