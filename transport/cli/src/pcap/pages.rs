//! The pages of `sealane pcap live`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::PoisonError;

use anyhow::{Context, Result};

use super::live::{Shown, Summary};
use crate::observe::http;

/// Serves what is shown, until the process ends; where.
pub(super) fn serve(at: SocketAddr, shown: Shown) -> Result<SocketAddr> {
    let summary = move || shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let answer = move |path: &str| match path {
        "/" => Some((http::HTML, page(&summary()))),
        "/metrics" => Some((http::METRICS, metrics(&summary()))),
        "/api/v1/stats/summary" => Some((http::JSON, serde_json::to_string(&summary()).ok()? + "\n")),
        _ => None,
    };
    http::open(at, "/, /metrics and /api/v1/stats/summary", answer)
        .with_context(|| format!("pages cannot be served at {at}"))
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
