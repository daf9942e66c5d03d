//! The pages of `sealane pcap live`: as much of HTTP as a browser and a scraper need, one request a connection, to who may reach the address.
#![expect(clippy::disallowed_types, reason = "a server")]

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::live::{Shown, Summary};

/// How long a reader may take to ask, and to read.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a question that are read.
const QUESTION_MAX: usize = 8 << 10;

/// Serves what is shown, until the process ends; where.
pub(super) fn serve(at: SocketAddr, shown: Shown) -> Result<SocketAddr> {
    let listener = TcpListener::bind(at).with_context(|| format!("pages cannot be served at {at}"))?;
    let bound = listener.local_addr()?;
    thread::Builder::new().name("pages".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let summary = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // Who does not listen any more has lost nothing but its page.
            let _ = answer(stream, &summary);
        }
    })?;
    Ok(bound)
}

fn answer(mut stream: TcpStream, summary: &Summary) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut question = Vec::new();
    let mut piece = [0; 1024];
    while !question.windows(4).any(|end| end == b"\r\n\r\n") && question.len() < QUESTION_MAX {
        match stream.read(&mut piece)? {
            0 => break,
            n => question.extend_from_slice(&piece[..n]),
        }
    }
    let question = String::from_utf8_lossy(&question);
    let mut words = question.split_ascii_whitespace();
    let (status, kind, body) = match (words.next(), words.next()) {
        (Some("GET"), Some("/")) => ("200 OK", "text/html; charset=utf-8", page(summary)),
        (Some("GET"), Some("/metrics")) => ("200 OK", "text/plain; version=0.0.4", metrics(summary)),
        (Some("GET"), Some("/api/v1/stats/summary")) => {
            ("200 OK", "application/json", serde_json::to_string(summary)? + "\n")
        }
        (Some("GET"), Some(_)) => {
            let here = "there are /, /metrics and /api/v1/stats/summary\n";
            ("404 Not Found", "text/plain", here.to_owned())
        }
        _ => ("405 Method Not Allowed", "text/plain", "only GET\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    Ok(stream.write_all(body.as_bytes())?)
}

/// The text format of Prometheus.
fn metrics(summary: &Summary) -> String {
    let mut text = String::new();
    let sealed = summary.sealed.iter().flat_map(|sealed| sealed.each());
    for (name, count) in summary.counts.each().chain(sealed).chain([("dropped_by_kernel", summary.dropped)]) {
        let _ = write!(text, "# TYPE sealane_pcap_{name}_total counter\nsealane_pcap_{name}_total {count}\n");
    }
    let _ =
        write!(text, "# TYPE sealane_pcap_open_messages gauge\nsealane_pcap_open_messages {}\n", summary.open_messages);
    text
}

fn page(summary: &Summary) -> String {
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=1><title>{0}</title>\
         <style>body{{font:14px system-ui,sans-serif;margin:2em}}td{{padding:.1em 1em;border-bottom:1px solid #ddd}}\
         td+td{{text-align:right}}</style><h1>{0}</h1><p>{1:.1} s, {2:.0} packets/s, {3} dropped by the kernel, {4} messages open; \
         <a href=/metrics>metrics</a>, <a href=/api/v1/stats/summary>JSON</a></p><table>",
        summary.interface.replace('<', "&lt;"),
        summary.seconds,
        summary.pps,
        summary.dropped,
        summary.open_messages
    );
    let sealed = summary.sealed.iter().flat_map(|sealed| sealed.each());
    for (name, count) in summary.counts.each().chain(sealed) {
        let _ = write!(page, "<tr><td>{}<td>{count}", name.replace('_', " "));
    }
    page.push_str("</table><h2>Last</h2><ul>");
    for fault in &summary.recent {
        let _ = write!(page, "<li>{fault}");
    }
    page.push_str("</ul></html>\n");
    page
}
