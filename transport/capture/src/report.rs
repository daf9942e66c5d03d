//! Owns the report: one HTML page that needs nothing else, with a picture of the first messages' timelines.

use std::fmt::Write as _;

use crate::analyze::{Analyzer, rpc_name};
use crate::counts::{Event, MessageRow, What};

const WIDTH: f64 = 900.0;
const LEFT: f64 = 210.0;
const ROW: f64 = 18.0;
/// Marks of one message that are drawn: a long one would make the page long.
const MARKS_MAX: usize = 2_000;

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;margin:2em auto;max-width:1160px;color:#222;background:#fff}\
table{border-collapse:collapse;margin:1em 0}td,th{padding:.15em .8em;border-bottom:1px solid #ddd;text-align:left}\
td.n{text-align:right;font-variant-numeric:tabular-nums}svg{display:block;max-width:100%}svg text{font-size:11px}.columns{display:flex;gap:3em;flex-wrap:wrap}";

/// How each event is drawn: colour, and whether above the bar.
const fn mark(what: What) -> (&'static str, bool) {
    match what {
        What::Record => ("#3b7dd8", false),
        What::OutOfOrder => ("#e0a100", false),
        What::Duplicate => ("#8e5bd0", false),
        What::Retransmission => ("#0f9d78", false),
        What::Replay => ("#c2185b", false),
        What::Conflict | What::Gap => ("#d32f2f", false),
        What::Grant => ("#2e7d32", true),
        What::Resend => ("#ef6c00", true),
        What::Ack => ("#607d8b", true),
        What::Refused => ("#d32f2f", true),
    }
}

const KEY: [What; 10] = [
    What::Record,
    What::OutOfOrder,
    What::Duplicate,
    What::Retransmission,
    What::Replay,
    What::Gap,
    What::Grant,
    What::Resend,
    What::Ack,
    What::Refused,
];

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The page about a capture called `name`: `messages` are those that were followed, `events` what happened to them.
pub fn page(name: &str, analyzer: &Analyzer, messages: &[MessageRow], events: &[Event]) -> String {
    let mut page = String::new();
    let name = escaped(name);
    let (first, last) = analyzer.span_ns();
    let _ =
        write!(page, "<!doctype html><html lang=en><meta charset=utf-8><title>{name}</title><style>{STYLE}</style>");
    let _ = write!(page, "<h1>{name}</h1><p>{:.6} s of packets. ", last.saturating_sub(first) as f64 / 1e9);
    page.push_str(if analyzer.sealed_counts().is_some() {
        "Sealed parts were opened with a key log.</p>"
    } else {
        "Without a key log: grants, acknowledgements and what else is sealed is not shown.</p>"
    });
    page.push_str("<div class=columns>");
    table(&mut page, "In clear", analyzer.counts().each());
    if let Some(sealed) = analyzer.sealed_counts() {
        table(&mut page, "Sealed", sealed.each());
    }
    page.push_str("</div>");
    timelines(&mut page, analyzer.counts().messages, messages, events);
    page.push_str("</html>\n");
    page
}

fn table(page: &mut String, title: &str, counts: impl Iterator<Item = (&'static str, u64)>) {
    let _ = write!(page, "<table><tr><th>{title}<th>");
    for (name, count) in counts {
        let _ = write!(page, "<tr><td>{}<td class=n>{count}", name.replace('_', " "));
    }
    page.push_str("</table>");
}

fn timelines(page: &mut String, all: u64, messages: &[MessageRow], events: &[Event]) {
    let _ = write!(
        page,
        "<h2>Timelines</h2><p>The first {} of {all} messages, each from its first packet to its end. ",
        messages.len()
    );
    page.push_str("Above a bar: what its receiver said. Records that came after a message was over are not drawn.</p>");
    let of = |row: &MessageRow| {
        let which = row.which;
        events.iter().filter(move |event| event.which == which && event.what != What::Replay).take(MARKS_MAX)
    };
    let begin = messages.iter().map(|row| row.first_ns).min().unwrap_or(0);
    let end =
        messages.iter().flat_map(|row| of(row).map(|event| event.time_ns).chain([row.last_ns])).max().unwrap_or(1);
    let scale = WIDTH / (end.saturating_sub(begin).max(1)) as f64;
    let x = |ns: u64| LEFT + ns.saturating_sub(begin) as f64 * scale;
    let height = 40.0 + ROW * messages.len() as f64;
    let _ = write!(
        page,
        "<svg viewBox='0 0 {} {height}' role=img aria-label='timelines of messages'>",
        LEFT + WIDTH + 20.0
    );
    for (at, what) in KEY.into_iter().enumerate() {
        let at = at as f64 * 105.0;
        let _ = write!(page, "<rect x={at} y=4 width=8 height=8 fill='{}'/>", mark(what).0);
        let _ = write!(page, "<text x={} y=12>{}</text>", at + 12.0, what.name().replace('_', " "));
    }
    for (at, row) in messages.iter().enumerate() {
        let y = 30.0 + ROW * at as f64;
        let kind = row.told.as_deref().and_then(|told| told.kind).unwrap_or(if row.which.bundle {
            "bundle"
        } else {
            "message"
        });
        let total = row.total.map_or_else(|| "?".to_owned(), |total| total.to_string());
        let label =
            format!("{kind} {} to {:08x}, {}/{total}", rpc_name(row.which.rpc), row.which.session >> 32, row.seen);
        let _ = write!(page, "<text x=0 y={}>{label}</text>", y + 9.0);
        let (from, to) = (x(row.first_ns), x(row.last_ns));
        let fill = if row.complete_ns.is_some() { "#cfe0f7" } else { "#f7cfcf" };
        let _ = write!(
            page,
            "<rect x={from:.1} y={} width={:.1} height=6 fill='{fill}'><title>{} B, {} ns</title></rect>",
            y + 3.0,
            (to - from).max(1.0),
            row.length,
            row.last_ns - row.first_ns
        );
        for event in of(row) {
            let (colour, above) = mark(event.what);
            let (top, height) = if above { (y, 4.0) } else { (y + 3.0, 8.0) };
            let _ = write!(
                page,
                "<rect x={:.1} y={top} width=1.5 height={height} fill='{colour}'><title>{} {} {}</title></rect>",
                x(event.time_ns),
                event.what.name(),
                event.index,
                event.value
            );
        }
    }
    page.push_str("</svg>");
}
