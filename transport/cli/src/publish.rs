//! Owns keeping a published ticket where clients find it: written at once, and again before half of its time is over, by renaming a whole
//! file, so that nobody reads half of one.
#![expect(clippy::disallowed_methods, reason = "tickets are renewed in real time")]

use anyhow::{Context, Result};
use sealane::{Socket, Ticket};
use serde_json::json;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long each ticket is valid.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3600);
/// How often it is looked whether there is a new one.
const LOOK: Duration = Duration::from_secs(5);

/// Publishes the ticket of a socket to a file, or to standard output, and goes on in a thread of its own.
pub(crate) fn keep(socket: &Arc<Socket>, file: Option<&Path>, json: bool) -> Result<()> {
    let mut last = socket.publish_ticket()?;
    publish(&last, file, json)?;
    let (socket, file) = (Arc::clone(socket), file.map(Path::to_owned));
    thread::spawn(move || {
        loop {
            thread::sleep(LOOK);
            let Ok(ticket) = socket.publish_ticket() else { return };
            if ticket == last {
                continue;
            }
            match publish(&ticket, file.as_deref(), json) {
                Ok(()) => last = ticket,
                // The disk may be full now and not later; the old one holds for half of its time.
                Err(error) => drop(writeln!(io::stderr(), "sealane: the ticket was not published: {error:#}")),
            }
        }
    });
    Ok(())
}

fn publish(ticket: &Ticket, file: Option<&Path>, json: bool) -> Result<()> {
    let Some(file) = file else { return crate::print(&ticket.to_text()) };
    write(ticket, file).with_context(|| format!("cannot write {}", file.display()))?;
    let (id, until) = (ticket.id().to_string(), ticket.not_after());
    crate::print(&if json {
        format!("{}\n", json!({ "event": "ticket", "file": file, "id": id, "not_after": until }))
    } else {
        format!("ticket {id} in {}, valid until {until} (seconds since 1970)\n", file.display())
    })
}

fn write(ticket: &Ticket, file: &Path) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = file.with_file_name(name);
    fs::write(&new, ticket.to_text())?;
    fs::rename(&new, file)
}
