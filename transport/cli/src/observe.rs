//! Owns the door for those who watch: `/metrics` as Prometheus reads it, `/info.json` for `sealane top`. It answers one reader at a time,
//! changes nothing, and asks nobody who they are: it belongs on loopback or behind something that does.
#![expect(clippy::disallowed_types, reason = "who scrapes comes by TCP")]
#![expect(clippy::disallowed_methods, reason = "a reader has so much real time")]

pub(crate) mod registry;
pub(crate) mod snapshot;

use anyhow::{Context, Result};
use sealane::{Info, Meters};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use registry::Registry;

/// What one reader may take: it holds up the next.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a request that are read; of those only the first line says anything.
const REQUEST_MAX: usize = 8 << 10;
/// Bytes of an answer that are read: several times what the longest has.
const ANSWER_MAX: usize = 4 << 20;
/// How old an answer may be: each look holds the socket's lock, and whoever reads in a loop shall not.
pub(crate) const SAME: Duration = Duration::from_millis(100);
/// How long to wait when the system has no more files for readers.
const OUT_OF_FILES: Duration = Duration::from_millis(100);

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
        let Some(wanted) = self.metrics else { return Ok(()) };
        let at = open(wanted, label, info)?;
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
fn open(wanted: SocketAddr, label: &str, info: impl Fn() -> Info + Send + 'static) -> Result<SocketAddr> {
    let listener = TcpListener::bind(wanted).with_context(|| format!("the door for metrics at {wanted}"))?;
    let at = listener.local_addr()?;
    let registry = Registry::default();
    let meters = metrics::with_local_recorder(&registry, || Meters::new(label));
    let mut looks = Looks { look: info, last: None };
    let mut answer = move |path: &str| match path {
        "/metrics" => {
            meters.publish(looks.at(Instant::now()));
            Some(("text/plain; version=0.0.4; charset=utf-8", registry.text()))
        }
        "/info.json" => Some(("application/json", format!("{}\n", snapshot::of(looks.at(Instant::now()))))),
        _ => None,
    };
    thread::spawn(move || {
        for reader in listener.incoming() {
            match reader {
                // Who went away has had enough.
                Ok(reader) => drop(serve(reader, &mut answer)),
                Err(_) => thread::sleep(OUT_OF_FILES),
            }
        }
    });
    Ok(at)
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

fn serve(
    mut reader: TcpStream,
    answer: &mut impl FnMut(&str) -> Option<(&'static str, String)>,
) -> std::io::Result<()> {
    let end = Instant::now() + PATIENCE;
    let is_whole = |bytes: &[u8]| bytes.windows(4).any(|window| window == b"\r\n\r\n");
    let request = read(&mut reader, end, REQUEST_MAX, is_whole)?;
    if !is_whole(&request) {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let request = String::from_utf8_lossy(&request);
    let mut words = request.split_ascii_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let told = if method == "GET" { answer(path.split('?').next().unwrap_or_default()) } else { None };
    let (status, kind, body) = match (method, told) {
        ("GET", Some((kind, body))) => ("200 OK", kind, body),
        ("GET", None) => ("404 Not Found", "text/plain", "there are /metrics and /info.json\n".to_owned()),
        _ => ("405 Method Not Allowed", "text/plain", "only GET\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    write(&mut reader, end, &[head, body].concat())
}

/// What is left until `end`.
fn left(end: Instant) -> std::io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Reads until it is enough, or to the end.
fn read(
    from: &mut TcpStream,
    end: Instant,
    most: usize,
    is_enough: impl Fn(&[u8]) -> bool,
) -> std::io::Result<Vec<u8>> {
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    while !is_enough(&bytes) {
        from.set_read_timeout(Some(left(end)?))?;
        match from.read(&mut part)? {
            0 => break,
            read if bytes.len() + read > most => {
                return Err(std::io::Error::new(ErrorKind::InvalidData, format!("more than {most} bytes")));
            }
            read => bytes.extend_from_slice(&part[..read]),
        }
    }
    Ok(bytes)
}

/// Writes all of it, if it is taken until `end`.
fn write(to: &mut TcpStream, end: Instant, text: &str) -> std::io::Result<()> {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        to.set_write_timeout(Some(left(end)?))?;
        match to.write(rest)? {
            0 => return Err(ErrorKind::WriteZero.into()),
            written => rest = &rest[written..],
        }
    }
    Ok(())
}

/// Reads `path` from such a door.
pub(crate) fn fetch(at: SocketAddr, path: &str) -> Result<String> {
    let mut door =
        TcpStream::connect_timeout(&at, PATIENCE).with_context(|| format!("nobody tells anything at {at}"))?;
    let end = Instant::now() + PATIENCE;
    write(&mut door, end, &format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"))?;
    let answer = read(&mut door, end, ANSWER_MAX, |_| false).with_context(|| format!("reading what {at} says"))?;
    let answer = String::from_utf8(answer).with_context(|| format!("what is at {at} says is no text"))?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("what is at {at} does not speak HTTP"))?;
    let status = head.lines().next().unwrap_or_default();
    anyhow::ensure!(status.contains(" 200 "), "{at} says {status:?} to {path}: is it a server of Sealane's?");
    Ok(body.to_owned())
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
        let at = open("127.0.0.1:0".parse().expect("an address"), "test", move || told.info()).expect("a door");
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
        let text = fetch(at, "/metrics").expect("metrics");
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
        let text = fetch(at, "/metrics").expect("metrics");
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
        // The page that lists them is as true.
        let page = include_str!("../../../docs/EVERYDAY.md");
        let listed = names(page);
        let missing: Vec<_> = listed.difference(&there).collect();
        assert!(missing.is_empty(), "docs/EVERYDAY.md names {missing:?}");
    }

    #[test]
    fn other_paths_and_methods_are_refused() {
        let (_socket, at) = door();
        let why = fetch(at, "/").expect_err("no such page").to_string();
        assert!(why.contains("404"), "{why}");
        let mut door = TcpStream::connect(at).expect("a door");
        door.write_all(b"POST /metrics HTTP/1.1\r\n\r\n").expect("sent");
        let mut answer = String::new();
        door.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
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

        let asked = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let mut reader = TcpStream::connect(listener.local_addr().expect("its address")).expect("a reader");
        reader.write_all(b"POST /metrics HTTP/1.1\r\n\r\n").expect("sent");
        let tells = Arc::clone(&asked);
        let mut answer = move |_: &str| {
            tells.store(true, std::sync::atomic::Ordering::Relaxed);
            None
        };
        serve(listener.accept().expect("the reader").0, &mut answer).expect("an answer");
        assert!(!asked.load(std::sync::atomic::Ordering::Relaxed), "an answer was built for nobody");
    }

    #[test]
    fn a_door_that_never_ends_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let at = listener.local_addr().expect("its address");
        let talks = thread::spawn(move || {
            let mut reader = listener.accept().expect("a reader").0;
            while reader.write_all(&[b'x'; 1 << 16]).is_ok() {}
        });
        let why = format!("{:#}", fetch(at, "/metrics").expect_err("no end"));
        assert!(why.contains(&format!("more than {ANSWER_MAX} bytes")) || why.contains("timed out"), "{why}");
        talks.join().expect("it was left");
    }
}
