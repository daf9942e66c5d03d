//! Owns a recorder of the `metrics` facade that keeps numbers and tells them as Prometheus reads them (text format 0.0.4). No histograms:
//! Sealane publishes none.

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// All series of one name.
#[derive(Debug, Default)]
struct Family {
    help: String,
    /// Gauges keep the bits of an `f64`, counters a number.
    gauge: bool,
    /// By labels, as they are written.
    series: Vec<(String, Arc<AtomicU64>)>,
}

/// Everything that was registered.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<BTreeMap<String, Family>>);

/// Backslash, quote and line end are written as Prometheus asks.
fn escaped(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}

impl Registry {
    fn describe(&self, name: &KeyName, help: &SharedString) {
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        families.entry(name.as_str().to_owned()).or_default().help = help.to_string();
    }

    fn cell(&self, key: &Key, gauge: bool) -> Arc<AtomicU64> {
        let labels: Vec<String> =
            key.labels().map(|label| format!("{}=\"{}\"", label.key(), escaped(label.value(), true))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(key.name().to_owned()).or_default();
        family.gauge = gauge;
        if let Some((_, cell)) = family.series.iter().find(|(known, _)| *known == labels) {
            return Arc::clone(cell);
        }
        let cell = Arc::new(AtomicU64::new(0));
        family.series.push((labels, Arc::clone(&cell)));
        cell
    }

    /// All numbers, as text.
    pub(crate) fn text(&self) -> String {
        let families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (name, family) in &*families {
            let kind = if family.gauge { "gauge" } else { "counter" };
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", escaped(&family.help, false));
            for (labels, cell) in &family.series {
                let bits = cell.load(Ordering::Relaxed);
                let _ = if family.gauge {
                    writeln!(text, "{name}{labels} {}", f64::from_bits(bits))
                } else {
                    writeln!(text, "{name}{labels} {bits}")
                };
            }
        }
        text
    }
}

impl Recorder for Registry {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&key, &help);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&key, &help);
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key, false))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key, true))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_prometheus_reads() {
        let registry = Registry::default();
        metrics::with_local_recorder(&registry, || {
            metrics::describe_counter!("a_total", "what a\nis");
            metrics::counter!("a_total", "who" => "b\"c\\d").absolute(1 << 60);
            metrics::counter!("a_total", "who" => "b\"c\\d").increment(1);
            metrics::gauge!("g").set(2.5);
        });
        let expected = "# HELP a_total what a\\nis\n# TYPE a_total counter\na_total{who=\"b\\\"c\\\\d\"} 1152921504606846977\n\
                        # HELP g \n# TYPE g gauge\ng 2.5\n";
        assert_eq!(registry.text(), expected);
    }
}
