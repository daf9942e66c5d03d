//! Owns the picture: lines over the positions of a distribution, as SVG. No dependency, no script, no colour that two eyes of ten confuse.

use std::fmt::Write as _;

/// A line of a picture.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) colour: &'static str,
    pub(crate) dashed: bool,
    /// Position from 0 to 1, and a slowdown of 1 or more.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Colours after Okabe and Ito.
pub(crate) const COLOURS: [&str; 6] = ["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 60.0;
const MOST: f64 = 100.0;

fn x(position: f64) -> f64 {
    LEFT + position.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
}

fn y(slowdown: f64) -> f64 {
    let part = slowdown.clamp(1.0, MOST).ln() / MOST.ln();
    HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, what: &str) {
    let what = what.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(out, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{what}</text>"#);
}

/// The picture: slowdown on a logarithmic scale over the position among all messages, sizes below.
pub(crate) fn svg(title: &str, sizes: &[(f64, u32)], lines: &[Line]) -> String {
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>
"##
    );
    text(&mut out, LEFT, 20.0, "start", title);
    for slowdown in [1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0] {
        let at = y(slowdown);
        let _ = writeln!(out, r##"<path d="M{LEFT} {at:.1}H{:.1}" stroke="#ddd"/>"##, WIDTH - RIGHT);
        text(&mut out, LEFT - 6.0, at + 4.0, "end", &slowdown.to_string());
    }
    for (position, bytes) in sizes {
        let at = x(*position);
        let _ = writeln!(out, r##"<path d="M{at:.1} {TOP}V{:.1}" stroke="#eee"/>"##, HEIGHT - BOTTOM);
        text(&mut out, at, HEIGHT - BOTTOM + 16.0, "middle", &bytes.to_string());
    }
    text(&mut out, (LEFT + WIDTH) / 2.0, HEIGHT - 24.0, "middle", "message bytes, at each tenth of all messages");
    for (at, line) in lines.iter().enumerate() {
        let mut path = String::new();
        for (position, slowdown) in &line.points {
            let _ = write!(path, "{}{:.1} {:.1}", if path.is_empty() { 'M' } else { 'L' }, x(*position), y(*slowdown));
        }
        let dash = if line.dashed { r#" stroke-dasharray="5 4""# } else { "" };
        let colour = line.colour;
        let _ = writeln!(out, r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>"#);
        let (from, across) = (LEFT + 10.0 + 150.0 * (at % 4) as f64, TOP + 8.0 + 16.0 * (at / 4) as f64);
        let _ = writeln!(out, r#"<path d="M{from} {across}h24" stroke="{colour}" stroke-width="2"{dash}/>"#);
        text(&mut out, from + 30.0, across + 4.0, "start", &line.name);
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_its_lines() {
        let line =
            Line { name: "a<b".to_owned(), colour: COLOURS[0], dashed: true, points: vec![(0.0, 1.0), (1.0, 1e9)] };
        let picture = svg("title", &[(0.5, 100)], &[line]);
        assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
        assert!(picture.contains("M60.0 380.0L700.0 40.0") && picture.contains("a&lt;b"));
    }
}
