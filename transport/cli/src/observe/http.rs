//! As much of HTTP as a scraper, a browser and `sealane top` need: one request a connection, one reader at a time. Asks nobody who they
//! are: a page belongs on loopback or behind something that does.
#![expect(clippy::disallowed_types, reason = "who reads comes by TCP")]
#![expect(clippy::disallowed_methods, reason = "a reader has so much real time")]

use anyhow::{Context, Result};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// What one reader may take: it holds up the next.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a request that are read; of those only the first line says anything.
const REQUEST_MAX: usize = 8 << 10;
/// Bytes of an answer that are read: several times what the longest has.
const ANSWER_MAX: usize = 4 << 20;
/// How long to wait when the system has no more files for readers.
const OUT_OF_FILES: Duration = Duration::from_millis(100);

/// Kinds of pages.
pub(crate) const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
pub(crate) const JSON: &str = "application/json";
pub(crate) const HTML: &str = "text/html; charset=utf-8";

/// Serves until the process ends what `answer` gives for a path: its kind and its text, or nothing. Who asks for another hears which
/// `pages` there are. Gives where.
///
/// # Errors
/// The system's.
pub(crate) fn open(
    wanted: SocketAddr,
    pages: &'static str,
    mut answer: impl FnMut(&str) -> Option<(&'static str, String)> + Send + 'static,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind(wanted)?;
    let at = listener.local_addr()?;
    thread::Builder::new().name("pages".to_owned()).spawn(move || {
        for reader in listener.incoming() {
            match reader {
                // Who went away has had enough.
                Ok(reader) => drop(serve(reader, pages, &mut answer)),
                Err(_) => thread::sleep(OUT_OF_FILES),
            }
        }
    })?;
    Ok(at)
}

fn serve(
    mut reader: TcpStream,
    pages: &str,
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
        ("GET", None) => ("404 Not Found", "text/plain", format!("there are {pages}\n")),
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
    use std::sync::Arc;

    fn door() -> SocketAddr {
        open("127.0.0.1:0".parse().expect("an address"), "/one", |path| {
            Some((JSON, "1".to_owned())).filter(|_| path == "/one")
        })
        .expect("a door")
    }

    #[test]
    fn other_paths_and_methods_are_refused() {
        let at = door();
        assert_eq!(fetch(at, "/one").expect("a page"), "1");
        let why = fetch(at, "/").expect_err("no such page").to_string();
        assert!(why.contains("404"), "{why}");
        let mut door = TcpStream::connect(at).expect("a door");
        door.write_all(b"POST /one HTTP/1.1\r\n\r\n").expect("sent");
        let mut answer = String::new();
        door.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    }

    #[test]
    fn nothing_is_looked_up_for_nobody() {
        let asked = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let mut reader = TcpStream::connect(listener.local_addr().expect("its address")).expect("a reader");
        reader.write_all(b"POST /one HTTP/1.1\r\n\r\n").expect("sent");
        let tells = Arc::clone(&asked);
        let mut answer = move |_: &str| {
            tells.store(true, std::sync::atomic::Ordering::Relaxed);
            None
        };
        serve(listener.accept().expect("the reader").0, "/one", &mut answer).expect("an answer");
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
