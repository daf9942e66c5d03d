//! Owns the picture of a time trace: time to the right, a row for each message.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::text::{Mark, Trace};
use super::{in_words, since};

/// Rows at most: those nearest to what was slow.
const ROWS: usize = 60;
const WIDTH: f64 = 1000.0;
const LEFT: f64 = 220.0;
const TOP: f64 = 64.0;
const ROW: f64 = 18.0;

/// Each step with its colour: what is given and taken, what travels, what is said about it.
const COLOURS: &[(&str, &str)] = &[
    ("submitted", "#1f77b4"),
    ("replied", "#1f77b4"),
    ("sent", "#2ca02c"),
    ("bundled", "#98df8a"),
    ("repeated", "#d62728"),
    ("granted", "#9467bd"),
    ("grants", "#c5b0d5"),
    ("missed", "#ff7f0e"),
    ("misses", "#ffbb78"),
    ("opened", "#8c564b"),
    ("request", "#000000"),
    ("response", "#000000"),
    ("one-way", "#000000"),
    ("failed", "#e377c2"),
];

fn colour(step: &str) -> &'static str {
    COLOURS.iter().find(|(name, _)| *name == step).map_or("#7f7f7f", |(_, colour)| colour)
}

/// Text may come from a file that somebody else wrote.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Messages of the time that is shown: their names, and what happened to each. What was slow comes first.
fn rows(trace: &Trace, from: u64, to: u64) -> Vec<(String, Vec<&Mark>)> {
    let mut found: BTreeMap<(&str, &str), Vec<&Mark>> = BTreeMap::new();
    for mark in trace.marks.iter().filter(|mark| (from..=to).contains(&mark.nanos)) {
        found.entry((&mark.peer, &mark.rpc)).or_default().push(mark);
    }
    let is_slow =
        |peer: &str, rpc: &str| trace.cause.as_ref().is_some_and(|cause| cause.peer == peer && cause.rpc == rpc);
    let mut rows: Vec<_> = found.into_iter().collect();
    // The last ones to move were there when it happened.
    rows.sort_by_key(|((peer, rpc), marks)| {
        (!is_slow(peer, rpc), std::cmp::Reverse(marks.last().map(|mark| mark.nanos)))
    });
    rows.truncate(ROWS);
    rows.into_iter().map(|((peer, rpc), marks)| (format!("{} {rpc}", trace.peer(peer)), marks)).collect()
}

/// As SVG.
pub(super) fn of(trace: &Trace) -> String {
    let slow = trace.slow();
    let (first, last) = match (slow.first(), slow.last()) {
        (Some(first), Some(last)) => (first.nanos, last.nanos),
        _ => (trace.marks[0].nanos, trace.marks[trace.marks.len() - 1].nanos),
    };
    let margin = (last - first) / 20 + 1;
    let (from, to) = (first.saturating_sub(margin), last.saturating_add(margin));
    let x = |nanos: u64| LEFT + (nanos - from) as f64 / (to - from) as f64 * (WIDTH - LEFT - 10.0);
    let rows = rows(trace, from, to);
    let height = TOP + rows.len() as f64 * ROW + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (at, (name, colour)) in COLOURS.iter().enumerate() {
        let left = 10.0 + at as f64 * 70.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"8\" width=\"4\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"18\">{name}</text>",
            left + 7.0
        );
    }
    for tenth in 0..=10u64 {
        let nanos = from + (u128::from(to - from) * u128::from(tenth) / 10) as u64;
        let micros = (nanos as f64 - first as f64) / 1e3;
        let _ = writeln!(
            svg,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"48\" y2=\"{height}\" stroke=\"#dddddd\"/><text x=\"{0:.1}\" y=\"44\" \
             text-anchor=\"middle\">{micros:.1} us</text>",
            x(nanos)
        );
    }
    for (at, (name, marks)) in rows.iter().enumerate() {
        let y = TOP + at as f64 * ROW;
        let (start, end) = (x(marks[0].nanos), x(marks[marks.len() - 1].nanos));
        let weight = if at == 0 && trace.cause.is_some() { " font-weight=\"bold\"" } else { "" };
        let _ = writeln!(
            svg,
            "<text x=\"4\" y=\"{}\"{weight}>{}</text><rect x=\"{start:.1}\" y=\"{}\" width=\"{:.1}\" height=\"2\" fill=\"#bbbbbb\"/>",
            y + 4.0,
            escaped(name),
            y - 1.0,
            end - start
        );
        for mark in marks {
            let micros = (mark.nanos as f64 - first as f64) / 1e3;
            let _ = writeln!(
                svg,
                "<rect x=\"{:.1}\" y=\"{}\" width=\"2\" height=\"12\" fill=\"{}\"><title>{} {} at {micros:.1} us</title></rect>",
                x(mark.nanos) - 1.0,
                y - 6.0,
                colour(&mark.step),
                escaped(&mark.step),
                mark.value
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// A page with the picture, and the steps of what was slow as a table.
pub(super) fn page(trace: &Trace, picture: &str) -> String {
    let slow = trace.slow();
    let heading = in_words(trace, &[]);
    let mut page = format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>Sealane time trace</title>\n<h1>Time trace</h1>\n<p>{}</p>\n{picture}",
        escaped(heading.trim())
    );
    if !slow.is_empty() {
        page.push_str("<table>\n<tr><th>us</th><th>since the last</th><th>step</th><th>value</th></tr>\n");
        let mut before = 0.0;
        for mark in &slow {
            let at = since(&slow, mark);
            let _ = writeln!(
                page,
                "<tr><td>{at:.1}</td><td>{:.1}</td><td>{}</td><td>{}</td></tr>",
                at - before,
                escaped(&mark.step),
                mark.value
            );
            before = at;
        }
        page.push_str("</table>\n");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mark_is_in_the_picture_and_nothing_breaks_out_of_it() {
        let text = "sealane-time-trace 1\ncause 3 c7 2000\n1000 submitted 3 c7 5\n1500 sent 3 c8 1\n2000 <b> 3 c7 1\n3000 response 3 c7 5\n";
        let trace = Trace::parse(text).expect("a trace");
        let svg = of(&trace);
        assert_eq!(svg.matches("<title>").count(), 4, "{svg}");
        assert!(svg.contains("peer 3 c7") && svg.contains("peer 3 c8") && !svg.contains("<b>"), "{svg}");
        let page = page(&trace, &svg);
        assert!(page.contains("<td>2.0</td>") && !page.contains("<b>"), "{page}");
    }

    #[test]
    fn times_may_be_as_far_apart_as_numbers_go() {
        let most = u64::MAX;
        let text = format!(
            "sealane-time-trace 1\ncause 3 c7 {most}\n0 submitted 3 c7 5\n{most} response 3 c7 {most}\n{most} sent 3 c8 1\n"
        );
        let trace = Trace::parse(&text).expect("a trace");
        assert_eq!(of(&trace).matches("<title>").count(), 3);
        assert_eq!(trace.slow().len(), 2);
    }

    #[test]
    fn every_step_has_a_colour() {
        use sealane::Step::*;
        for step in [
            Submitted, Sent, Bundled, Repeated, Granted, Missed, Grants, Misses, Opened, Request, Response, OneWay,
            Replied, Failed,
        ] {
            assert!(COLOURS.iter().any(|(name, _)| *name == step.name()), "{step:?}");
        }
    }
}
