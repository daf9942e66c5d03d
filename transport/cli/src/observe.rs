//! Owns what those see who watch a socket: `/metrics` as Prometheus reads it, `/info.json` for `sealane top`. It changes nothing.
#![expect(clippy::disallowed_methods, reason = "an answer is good for so much real time")]

pub(crate) mod http;
pub(crate) mod registry;
pub(crate) mod snapshot;

use anyhow::{Context, Result};
use sealane::{Info, Meters};
use serde_json::json;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use registry::Registry;

/// How old an answer may be: each look holds the socket's lock, and whoever reads in a loop shall not.
pub(crate) const SAME: Duration = Duration::from_millis(100);
/// The pages that there are.
const PAGES: &str = "/metrics and /info.json";

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Door {
    /// Tell Prometheus (/metrics) and `sealane top` (/info.json) here what the socket does; port 0 lets the kernel choose
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
}

impl Door {
    pub(crate) const fn is_wanted(&self) -> bool {
        self.metrics.is_some()
    }

    /// Opens the door if it was asked for, and says where it is.
    pub(crate) fn start(&self, label: &str, json: bool, info: impl Fn() -> Info + Send + 'static) -> Result<()> {
        self.start_with(label, json, info, || || ())
    }

    /// The same; `more` registers further metrics with the recorder, and what it gives publishes them before each answer.
    pub(crate) fn start_with<P: FnMut() + Send + 'static>(
        &self,
        label: &str,
        json: bool,
        info: impl Fn() -> Info + Send + 'static,
        more: impl FnOnce() -> P,
    ) -> Result<()> {
        let Some(wanted) = self.metrics else { return Ok(()) };
        let at = open(wanted, label, info, more)?;
        if !at.ip().is_loopback() {
            eprintln!("sealane: anybody who reaches {at} reads who our peers are and what they do");
        }
        crate::print(&if json {
            format!("{}\n", json!({ "event": "metrics", "addr": at.to_string() }))
        } else {
            format!("metrics on http://{at}/metrics\n")
        })
    }
}

/// Serves until the process ends. Gives where.
fn open<P: FnMut() + Send + 'static>(
    wanted: SocketAddr,
    label: &str,
    info: impl Fn() -> Info + Send + 'static,
    more: impl FnOnce() -> P,
) -> Result<SocketAddr> {
    let registry = Registry::default();
    let (meters, mut more) = metrics::with_local_recorder(&registry, || (Meters::new(label), more()));
    let mut looks = Looks { look: info, last: None };
    let answer = move |path: &str| match path {
        "/metrics" => {
            meters.publish(looks.at(Instant::now()));
            more();
            Some((http::METRICS, registry.text()))
        }
        "/info.json" => Some((http::JSON, format!("{}\n", snapshot::of(looks.at(Instant::now()))))),
        _ => None,
    };
    http::open(wanted, PAGES, answer).with_context(|| format!("the door for metrics at {wanted}"))
}

/// Looks at a socket, but not more often than is of use.
struct Looks<F> {
    look: F,
    last: Option<(Instant, Info)>,
}

impl<F: Fn() -> Info> Looks<F> {
    fn at(&mut self, now: Instant) -> &Info {
        let last = self.last.take().filter(|(then, _)| now.duration_since(*then) < SAME);
        &self.last.insert(last.unwrap_or_else(|| (now, (self.look)()))).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealane::Socket;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn door() -> (Arc<Socket>, SocketAddr) {
        let socket = Arc::new(Socket::builder().installed_only().bind("127.0.0.1:0").expect("a socket"));
        let told = Arc::clone(&socket);
        let more = || || ();
        let at = open("127.0.0.1:0".parse().expect("an address"), "test", move || told.info(), more).expect("a door");
        (socket, at)
    }

    /// Names of metrics in `text`: words that begin with `sealane_`.
    fn names(text: &str) -> BTreeSet<&str> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        words.filter(|word| word.starts_with("sealane_")).collect()
    }

    #[test]
    fn every_counter_is_told_with_type_and_help() {
        let (socket, at) = door();
        let text = http::fetch(at, "/metrics").expect("metrics");
        for (name, _) in socket.info().counters.iter() {
            let line = match name.strip_prefix("dropped_") {
                Some(why) => format!("sealane_dropped_total{{socket=\"test\",reason=\"{why}\"}} 0\n"),
                None => format!("sealane_{name}_total{{socket=\"test\"}} 0\n"),
            };
            assert!(text.contains(&line), "{line} is missing: {text}");
        }
        for name in names(&text) {
            let heads = [format!("# HELP {name} "), format!("# TYPE {name} ")];
            assert!(heads.iter().all(|head| text.matches(head.as_str()).count() == 1), "{name}: {text}");
        }
    }

    #[test]
    fn the_dashboard_shows_only_what_there_is() {
        let (_socket, at) = door();
        let text = http::fetch(at, "/metrics").expect("metrics");
        let dashboard: serde_json::Value =
            serde_json::from_str(include_str!("../../../docs/grafana/sealane.json")).expect("JSON");
        let panels = dashboard["panels"].as_array().expect("panels");
        let asked = |panel: &serde_json::Value| {
            let targets = panel["targets"].as_array().cloned().unwrap_or_default();
            targets.iter().filter_map(|target| Some(target["expr"].as_str()?.to_owned())).collect::<Vec<_>>()
        };
        let there = names(&text);
        for panel in panels {
            let asked = asked(panel);
            assert!(!asked.is_empty(), "a panel asks for nothing: {panel}");
            for expression in &asked {
                let named = names(expression);
                assert!(!named.is_empty() && named.is_subset(&there), "{expression}: {named:?} of {there:?}");
            }
        }
        // The page that lists them is as true. A proxy's are looked at there.
        let page = include_str!("../../../docs/EVERYDAY.md");
        let listed = names(page);
        let missing: Vec<_> = listed.difference(&there).filter(|name| !name.starts_with("sealane_proxy_")).collect();
        assert!(missing.is_empty(), "docs/EVERYDAY.md names {missing:?}");
    }

    #[test]
    fn only_what_is_asked_for_is_looked_at_and_not_twice_at_once() {
        let looked = std::cell::Cell::new(0);
        let socket = Socket::builder().installed_only().bind("127.0.0.1:0").expect("a socket");
        let look = || {
            looked.set(looked.get() + 1);
            socket.info()
        };
        let mut looks = Looks { look, last: None };
        let first = Instant::now();
        for (after, expected) in [(Duration::ZERO, 1), (SAME / 2, 1), (SAME, 2), (SAME * 3 / 2, 2), (SAME * 4, 3)] {
            looks.at(first + after);
            assert_eq!(looked.get(), expected, "{after:?} after the first");
        }
    }
}
