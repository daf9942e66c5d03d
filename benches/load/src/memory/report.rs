//! The figures of the memory measurement beside their goals.
//!
//! Owns the arithmetic per session and per message, and the table. Refuses: measuring.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::session::Kind;
use super::{Both, Use};

/// Goal for an idle session, both sides together.
const SESSION_BYTES: f64 = 1536.0;

/// Goal for an idle endpoint.
const ENDPOINT_BYTES: f64 = 256.0 * 1024.0;

/// What may come to a message under way: so many bytes, or this share of it, whichever is more.
const MESSAGE_BYTES: f64 = 512.0;
const MESSAGE_SHARE: f64 = 0.05;

/// One kind of thing on one side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryRow {
    /// `idle session`, `idle endpoint`, `message under way`.
    pub what: String,
    /// How sessions came about: `installed` or `tls`.
    pub kind: String,
    /// `client`, `server` or `both`.
    pub side: String,
    /// Of a message, its bytes.
    pub size: Option<usize>,
    /// How many were there.
    pub count: usize,
    /// Bytes that each asked the allocator for; of a message, beyond its own.
    pub heap_bytes: f64,
    /// In so many blocks.
    pub heap_blocks: f64,
    /// Growth of the resident set for each; of a message, beyond its own bytes.
    pub resident_bytes: f64,
    /// What is kept of it after the message was answered, for the next: asked for and not given back.
    pub kept_bytes: Option<f64>,
    /// Most bytes of the heap that each should take.
    pub goal_bytes: Option<f64>,
    /// Whether it takes no more.
    pub met: Option<bool>,
}

/// Where the bytes of an idle session were asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// How sessions came about.
    pub kind: String,
    /// `client` or `server`.
    pub side: String,
    /// Functions, innermost first.
    pub site: String,
    /// Bytes per session.
    pub bytes: f64,
    /// Blocks per session.
    pub blocks: f64,
}

/// All that a run gave.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MemoryReport {
    /// Sessions from installed secrets.
    pub sessions: usize,
    /// The figures.
    pub rows: Vec<MemoryRow>,
    /// Where the bytes of sessions are, in a run of fewer sessions.
    pub sites: Vec<Site>,
    /// What must be known to read them.
    pub notes: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Rows(MemoryReport);

impl Rows {
    fn add(&mut self, what: &str, kind: Kind, side: &str, count: usize, all: Use) -> &mut MemoryRow {
        let each = |bytes: i64| (bytes as f64 / count as f64 * 10.0).round() / 10.0;
        self.0.rows.push(MemoryRow {
            what: what.to_owned(),
            kind: kind.name().to_owned(),
            side: side.to_owned(),
            size: None,
            count,
            heap_bytes: each(all.bytes),
            heap_blocks: each(all.blocks),
            resident_bytes: each(all.resident),
            kept_bytes: None,
            goal_bytes: None,
            met: None,
        });
        self.0.rows.last_mut().expect("it was just put there")
    }

    pub(crate) fn add_endpoints(&mut self, kind: Kind, bare: &Both, bound: &Both, clients: usize) {
        let (client, server) = (bound.client.since(bare.client), bound.server.since(bare.server));
        self.add("idle endpoint", kind, "client", clients, client).judge(ENDPOINT_BYTES);
        self.add("idle endpoint", kind, "server", 1, server).judge(ENDPOINT_BYTES);
    }

    pub(crate) fn add_sessions(&mut self, kind: Kind, count: usize, before: &Both, after: &Both) {
        let (client, server) = (after.client.since(before.client), after.server.since(before.server));
        self.add("idle session", kind, "client", count, client);
        self.add("idle session", kind, "server", count, server);
        let both = Use {
            bytes: client.bytes + server.bytes,
            blocks: client.blocks + server.blocks,
            resident: client.resident + server.resident,
        };
        self.add("idle session", kind, "both", count, both).judge(SESSION_BYTES);
    }

    pub(crate) fn add_messages(&mut self, size: usize, count: usize, before: &Both, held: &Both, after: &Both) {
        let own = (size * count) as i64;
        let beyond = |held: Use, before: Use| {
            let all = held.since(before);
            Use { bytes: all.bytes - own, resident: all.resident - own, ..all }
        };
        for (side, before, held, after) in
            [("client", before.client, held.client, after.client), ("server", before.server, held.server, after.server)]
        {
            let kept = after.since(before).bytes as f64 / count as f64;
            let row = self.add("message under way", Kind::Installed, side, count, beyond(held, before));
            row.size = Some(size);
            row.kept_bytes = Some(kept.round());
            row.judge(MESSAGE_BYTES.max(MESSAGE_SHARE * size as f64));
        }
    }

    pub(crate) fn add_sites(&mut self, kind: Kind, side: &str, count: usize, sites: Vec<(String, i64, i64)>) {
        for (site, bytes, blocks) in sites {
            let (bytes, blocks) = (bytes as f64 / count as f64, blocks as f64 / count as f64);
            // What is less than a byte a session is no part of a session.
            if bytes >= 1.0 {
                let (kind, side) = (kind.name().to_owned(), side.to_owned());
                let (bytes, blocks) = ((bytes * 10.0).round() / 10.0, (blocks * 100.0).round() / 100.0);
                self.0.sites.push(Site { kind, side, site, bytes, blocks });
            }
        }
    }

    pub(crate) fn report(mut self, sessions: usize) -> MemoryReport {
        self.0.sessions = sessions;
        self.0.notes = [
            "heap: bytes that were asked for, tables at the size to which they have grown; resident: what the process has in memory, \
             the allocator's own bytes included; memory of the kernel is in neither",
            "installed: secrets that both ends were given, opened by the short handshake and one request each, over 20 sockets of a \
             client and one of the server; tls: full handshakes, both ends authenticated, one socket each",
            "who asked for it is a run of its own with fewer sessions: what tables have in reserve differs from the figures above",
        ]
        .map(str::to_owned)
        .into();
        self.0
    }
}

impl MemoryRow {
    fn judge(&mut self, goal: f64) {
        self.goal_bytes = Some(goal);
        self.met = Some(self.heap_bytes <= goal);
    }
}

impl MemoryReport {
    /// The figures for people to read.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<18}{:<11}{:<8}{:>9}{:>9}{:>13}{:>9}{:>13}{:>11}{:>10}  {}\n",
            "what", "session", "side", "bytes", "count", "heap each", "blocks", "resident", "kept", "goal", "met"
        );
        let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"));
        for row in &self.rows {
            let size = row.size.map_or_else(|| "-".to_owned(), |size| size.to_string());
            let _ = writeln!(
                text,
                "{:<18}{:<11}{:<8}{:>9}{:>9}{:>13.0}{:>9.1}{:>13.0}{:>11}{:>10}  {}",
                row.what,
                row.kind,
                row.side,
                size,
                row.count,
                row.heap_bytes,
                row.heap_blocks,
                row.resident_bytes,
                shown(row.kept_bytes),
                shown(row.goal_bytes),
                row.met.map_or("", |met| if met { "yes" } else { "NO" })
            );
        }
        for group in self.sites.chunk_by(|a, b| (&a.kind, &a.side) == (&b.kind, &b.side)) {
            let _ = writeln!(text, "\nwho asked for an idle session's bytes: {}, {}", group[0].kind, group[0].side);
            for site in group {
                let _ = writeln!(text, "{:>9.0} B in {:>6.2} blocks  {}", site.bytes, site.blocks, site.site);
            }
        }
        for note in &self.notes {
            let _ = write!(text, "\n{note}");
        }
        text
    }
}
