//! One figure: groups of bars, one bar per peer, a scale of powers of ten where values lie far apart.
//!
//! Owns the drawing, as text; it needs no library. Refuses: knowing what is drawn.

use std::collections::BTreeSet;
use std::fmt::Write;

/// A bar.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) value: f64,
}

const COLOURS: [&str; 9] =
    ["#4477aa", "#66ccee", "#99ddff", "#228833", "#ccbb44", "#ee6677", "#ff99aa", "#aa3377", "#222222"];
const BAR: f64 = 16.0;
const GAP: f64 = 22.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 60.0;
const HEIGHT: f64 = 260.0;
const LEGEND: f64 = 120.0;

/// Values further apart than this get a scale of powers.
const FAR: f64 = 30.0;

/// The scale of a figure: from a value to a share of its height.
#[derive(Debug)]
enum Scale {
    Linear { top: f64 },
    Powers { low: f64, high: f64 },
}

impl Scale {
    fn new(bars: &[Bar]) -> Self {
        let most = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
        let least = bars.iter().map(|bar| bar.value).filter(|value| *value > 0.0).fold(most, f64::min);
        if most / least > FAR {
            return Self::Powers { low: least.log10().floor(), high: most.log10().ceil() };
        }
        let step = 10_f64.powf(most.log10().floor());
        Self::Linear { top: (most / step).ceil() * step }
    }

    fn share(&self, value: f64) -> f64 {
        let share = match self {
            Self::Linear { top } => value / top,
            Self::Powers { low, high } => (value.max(f64::MIN_POSITIVE).log10() - low) / (high - low),
        };
        share.clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<f64> {
        match self {
            Self::Linear { top } => (0..=4).map(|quarter| top * f64::from(quarter) / 4.0).collect(),
            Self::Powers { low, high } => (*low as i32..=*high as i32).map(|power| 10_f64.powi(power)).collect(),
        }
    }
}

fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", trimmed(v / 1e6)),
        v if v >= 1e3 => format!("{}k", trimmed(v / 1e3)),
        v => trimmed(v),
    }
}

fn trimmed(value: f64) -> String {
    let digits = if value >= 100.0 { 0 } else { 2 };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Draws bars in the order in which they come.
pub(crate) fn draw(title: &str, unit: &str, bars: &[Bar]) -> String {
    let scale = Scale::new(bars);
    let mut names: Vec<&str> = Vec::new();
    let mut seen = BTreeSet::new();
    names.extend(bars.iter().map(|bar| bar.name.as_str()).filter(|name| seen.insert(*name)));
    let groups: Vec<&[Bar]> = bars.chunk_by(|a, b| a.group == b.group).collect();
    let width = LEFT + bars.len() as f64 * BAR + groups.len() as f64 * GAP + LEGEND;
    let bottom = TOP + HEIGHT;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{:.0}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"10\" y=\"22\" font-size=\"15\">{}</text>\n\
         <text x=\"10\" y=\"42\">{}</text>",
        bottom + 40.0,
        escaped(title),
        escaped(unit)
    );
    for tick in scale.ticks() {
        let y = bottom - scale.share(tick) * HEIGHT;
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            width - LEGEND,
            LEFT - 6.0,
            y + 4.0,
            short(tick)
        );
    }
    let mut x = LEFT + GAP / 2.0;
    for group in groups {
        let middle = x + group.len() as f64 * BAR / 2.0;
        for bar in group {
            let height = scale.share(bar.value) * HEIGHT;
            let colour = COLOURS[names.iter().position(|name| *name == bar.name).unwrap_or(0) % COLOURS.len()];
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{colour}\"><title>{}: {}</title></rect>",
                bottom - height,
                BAR - 2.0,
                escaped(&bar.name),
                short(bar.value)
            );
            x += BAR;
        }
        let _ = writeln!(
            svg,
            "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 18.0,
            escaped(&group[0].group)
        );
        x += GAP;
    }
    for (at, name) in names.iter().enumerate() {
        let y = TOP + at as f64 * 18.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{:.0}\" y=\"{y:.0}\" width=\"11\" height=\"11\" fill=\"{}\"/>\n<text x=\"{:.0}\" y=\"{:.0}\">{}</text>",
            width - LEGEND + 10.0,
            COLOURS[at % COLOURS.len()],
            width - LEGEND + 26.0,
            y + 10.0,
            escaped(name)
        );
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(group: &str, name: &str, value: f64) -> Bar {
        Bar { group: group.to_owned(), name: name.to_owned(), value }
    }

    #[test]
    fn bars_are_as_high_as_their_values() {
        let svg = draw("a < b", "us", &[bar("64 B", "udp", 5.0), bar("64 B", "tcp", 10.0)]);
        assert!(svg.contains("a &lt; b") && svg.contains("udp: 5") && svg.contains("tcp: 10"));
        assert!(svg.contains("height=\"130.0\"") && svg.contains("height=\"260.0\""), "{svg}");
    }

    #[test]
    fn far_values_get_powers() {
        let scale = Scale::new(&[bar("a", "a", 2.0), bar("a", "b", 2000.0)]);
        assert_eq!(scale.ticks(), [1.0, 10.0, 100.0, 1000.0, 10_000.0]);
        assert!((scale.share(100.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 2.5, 640.0, 1500.0, 2e6].map(short), ["0", "2.5", "640", "1.5k", "2M"]);
    }
}
