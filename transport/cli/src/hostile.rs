//! `sealane demo hostile-relay`: a client, a server, and between them a relay that wants to read, alter, drop, repeat and make up what they
//! say; once over TCP in clear, once over Sealane. The same orders, the same five acts, and the same book in which the server writes what
//! it did: what the relay achieved is read there, not believed.

mod book;
mod clear;
mod sealed;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Orders that are sent in each act.
const ORDERS: u64 = 48;
/// The relay strikes at every such packet or message.
const EVERY: u64 = 3;
/// Less entropy than this, in bits per byte, is not ciphertext.
const ENTROPY_MIN: f64 = 7.9;

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What the relay does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Act {
    Read,
    Alter,
    Drop,
    Replay,
    Forge,
}

const ACTS: [Act; 5] = [Act::Read, Act::Alter, Act::Drop, Act::Replay, Act::Forge];

impl Act {
    const fn says(self) -> &'static str {
        match self {
            Self::Read => "read all that passes",
            Self::Alter => "alter every third piece",
            Self::Drop => "drop every third piece",
            Self::Replay => "send every piece again",
            Self::Forge => "make up an order",
        }
    }
}

/// What came of one act.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    /// Pieces (messages in clear, packets of Sealane) that passed the relay, and that it struck at.
    pieces: u64,
    struck: u64,
    /// Pieces in which the secret stands, and in which any part of an order or answer can be made out.
    secret_seen: u64,
    decoded: u64,
    /// Of what passed, or of what is sealed in it: bits per byte.
    entropy: f64,
    /// Bytes on the wire beyond those of orders and answers, in percent of these.
    overhead_percent: f64,
    /// Orders carried out that nobody gave as they were, twice, or that the relay made up; answers that the client took altered.
    altered: u64,
    twice: u64,
    made_up: u64,
    answers_altered: u64,
    /// Orders whose answer never came.
    unanswered: u64,
    /// What Sealane's server counted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    counters: BTreeMap<String, u64>,
}

impl Outcome {
    /// What the act is about: how often it succeeded.
    fn achieved(&self, act: Act) -> u64 {
        match act {
            Act::Read => self.secret_seen + self.decoded,
            Act::Alter => self.altered + self.answers_altered,
            Act::Drop => self.unanswered,
            Act::Replay => self.twice,
            Act::Forge => self.made_up,
        }
    }

    /// Anything at all that must not be.
    fn harm(&self) -> u64 {
        let weak = u64::from(self.entropy < ENTROPY_MIN);
        let seen = self.secret_seen + self.decoded + weak;
        seen + self.altered + self.twice + self.made_up + self.answers_altered + self.unanswered
    }

    fn words(&self, act: Act) -> String {
        match act {
            Act::Read => format!(
                "secret in {} of {} pieces, {} decoded, {:.2} bits/byte",
                self.secret_seen, self.pieces, self.decoded, self.entropy
            ),
            Act::Alter => format!(
                "{} struck: {} orders carried out altered, {} answers believed",
                self.struck, self.altered, self.answers_altered
            ),
            Act::Drop => format!("{} struck: {} of {ORDERS} orders without an answer", self.struck, self.unanswered),
            Act::Replay => format!("{} struck: {} orders carried out twice", self.struck, self.twice),
            Act::Forge => format!("{} sent: {} carried out", self.struck, self.made_up),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut rows = Vec::new();
    for act in ACTS {
        rows.push((act, clear::act(act)?, sealed::act(act)?));
    }
    let harm: u64 = rows.iter().map(|(_, _, sealed)| sealed.harm()).sum();
    // A relay that cannot even do it in clear proves nothing.
    let toothless: Vec<Act> = rows
        .iter()
        .filter(|(act, clear, sealed)| clear.achieved(*act) == 0 || (*act != Act::Read && sealed.struck == 0))
        .map(|row| row.0)
        .collect();
    let well = harm == 0 && toothless.is_empty();
    crate::print(&if args.json {
        let rows: Vec<_> =
            rows.iter().map(|(act, clear, sealed)| json!({ "act": act, "clear": clear, "sealane": sealed })).collect();
        format!("{}\n", json!({ "acts": rows, "orders": ORDERS, "harm": harm, "toothless": toothless, "well": well }))
    } else {
        shown(&rows, harm, &toothless)
    })?;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn shown(rows: &[(Act, Outcome, Outcome)], harm: u64, toothless: &[Act]) -> String {
    let mut text = format!("A relay between a client and a server; {ORDERS} orders in each act.\n");
    for (act, clear, sealed) in rows {
        let _ = writeln!(text, "\n{}", act.says());
        let _ = writeln!(text, "  in clear  {}", clear.words(*act));
        let _ = writeln!(text, "  Sealane   {}", sealed.words(*act));
        let counted: Vec<String> = sealed.counters.iter().map(|(name, count)| format!("{name} {count}")).collect();
        if !counted.is_empty() {
            let _ = writeln!(text, "            its server counted: {}", counted.join(", "));
        }
    }
    if let Some((_, clear, sealed)) = rows.first() {
        let _ = writeln!(
            text,
            "\nOn the wire beyond orders and answers: {:.1} % in clear (TCP's headers not counted), {:.1} % with Sealane \
             (headers, tags, acknowledgements).",
            clear.overhead_percent, sealed.overhead_percent
        );
    }
    text.push_str(
        "With Sealane the relay still sees who talks to whom and when, names of sessions and messages, and how long messages \
         are;\nit can drop everything, for as long as it drops everything: then calls fail, and say so.\n",
    );
    let _ = writeln!(
        text,
        "{}",
        match (harm, toothless) {
            (0, []) => "Nothing came of it with Sealane.".to_owned(),
            (0, _) => format!("The relay failed where it should not have, so this proves nothing: {toothless:?}"),
            _ => format!("{harm} things came of it with Sealane that must not."),
        }
    );
    text
}
