//! Cells of tables from JSON, and the tables of a brief, which are the same on the terminal and in docs/performance.

use std::fmt::Write;

use serde_json::Value;

/// A table: its title, the array of its rows, and of each column its head, its field and its digits.
type Table = (&'static str, &'static str, &'static [(&'static str, &'static str, usize)]);

const TABLES: [Table; 3] = [
    (
        "How sessions begin",
        "sessions",
        &[
            ("where", "place", 0),
            ("what", "what", 0),
            ("peer", "peer", 0),
            ("p50 us", "p50_us", 1),
            ("p95 us", "p95_us", 1),
            ("to steady", "to_steady", 1),
            ("Sealane to it", "sealane_ratio", 2),
        ],
    ),
    (
        "There and back",
        "rows",
        &[
            ("where", "place", 0),
            ("bytes", "size", 0),
            ("peer", "peer", 0),
            ("p50 us", "p50_us", 1),
            ("MB/s", "mb_s", 0),
            ("Sealane to it", "sealane_ratio", 2),
        ],
    ),
    ("Parts", "parts", &[("what", "what", 0), ("bytes", "size", 0), ("ns", "ns", 1), ("MB/s", "mb_s", 0)]),
];

const NOTES: &str = "\
handshake: until the client's keys are in use. fresh, resumed, 0-rtt: until the reply to a first request of 64 bytes; the client's socket is
there before (TCP: connect is part of it). reconnect: the end of the session before and all of the next, by a full handshake, until that
reply; the session before is made off the clock. steady: such a round trip in an open session, two processes, blocking calls. In
process both sides run in one thread without a kernel and without pauses, and the ticket for the next session is part of all. MB/s over
sockets: 10^6 bytes of payload one way, sixteen messages under way, each echoed; in process: of one message at a time. copy: the bytes
copied there and back, nothing sealed.";

/// All tables, in Markdown.
pub(crate) fn tables(report: &Value) -> String {
    let mut text = String::new();
    for (title, field, columns) in TABLES {
        let heads: Vec<&str> = columns.iter().map(|(head, ..)| *head).collect();
        let _ = write!(text, "\n## {title}\n\n| {} |\n|{}\n", heads.join(" | "), "---|".repeat(columns.len()));
        for row in report[field].as_array().into_iter().flatten() {
            let cells: Vec<String> = columns.iter().map(|(_, field, digits)| cell(&row[field], *digits)).collect();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
    }
    let _ = write!(text, "\n{NOTES}\n");
    text
}

/// A figure, a word or nothing.
pub(crate) fn cell(value: &Value, digits: usize) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::String(text) => text.clone(),
        other => other.as_f64().map_or_else(|| other.to_string(), |number| format!("{number:.digits$}")),
    }
}

/// What the machine does not have, a sentence each.
pub(crate) fn missing(report: &Value) -> String {
    let missing = report["missing"].as_array().into_iter().flatten();
    let say = |peer: &Value| format!("\n`{}` was not measured: {}\n", cell(&peer["peer"], 0), cell(&peer["why"], 0));
    missing.map(say).collect()
}
