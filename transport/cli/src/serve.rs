//! `sealane serve`: a server that returns what it gets, for trying a network and for `sealane call`. Anonymous clients must be let in
//! by name. It keeps no state beyond the socket's and runs until it is stopped.
#![expect(clippy::disallowed_methods, reason = "statistics are printed every few real seconds")]

use anyhow::{Context, Result};
use sealane::{Clients, Delivery, Error, Identity, Info, Socket, Trust};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::{observe, packets, profile, publish, trace};

/// How often to look whether a time trace stopped.
const TRACE_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Answer each request with its own bytes (the only service so far)
    #[arg(long, required = true)]
    echo: bool,
    /// Address and port; port 0 lets the kernel choose
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4433")]
    listen: SocketAddr,
    /// The server's certificate chain (PEM)
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Authorities whose clients are let in (PEM); clients must then authenticate
    #[arg(long, value_name = "FILE", required_unless_present = "allow_anonymous")]
    ca: Option<PathBuf>,
    /// Let in anyone who can reach the address, unauthenticated
    #[arg(long, conflicts_with = "ca")]
    allow_anonymous: bool,
    /// Take first flights by published ticket, write the ticket to this file, and a new one in good time
    #[arg(long, value_name = "FILE", conflicts_with = "ca")]
    publish_ticket: Option<PathBuf>,
    /// Print the socket's counters every so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    stats: Option<u64>,
    #[command(flatten)]
    door: observe::Door,
    #[command(flatten)]
    trace: trace::Wanted,
    #[command(flatten)]
    profile: profile::Choice,
    #[command(flatten)]
    packets: packets::Cut,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let (trust, clients) = match &args.ca {
        Some(ca) => {
            let trust = Trust::pem_file(ca);
            (trust.with_context(|| format!("the authorities in {}", ca.display()))?, Clients::Authenticated)
        }
        None => (Trust::nobody(), Clients::Anonymous),
    };
    let identity = Identity::pem_files(&args.cert, &args.key)
        .with_context(|| format!("the identity in {} and {}", args.cert.display(), args.key.display()))?;
    let builder = Socket::builder().trust(trust).identity(identity).serve(clients);
    let builder = if args.publish_ticket.is_some() { builder.publish_tickets(publish::LIFETIME) } else { builder };
    let builder = args.packets.apply(args.profile.apply(builder));
    let socket = Arc::new(args.trace.apply(builder).bind(args.listen)?);
    let at = socket.local_addr();
    let who = if args.ca.is_some() { "authenticated" } else { "anonymous" };
    crate::print(&if args.json {
        format!("{}\n", json!({ "event": "listening", "addr": at.to_string(), "clients": who }))
    } else {
        format!("listening on {at} for {who} clients\n")
    })?;
    if let Some(file) = &args.publish_ticket {
        publish::keep(&socket, Some(file), args.json)?;
    }
    let told = Arc::clone(&socket);
    args.door.start("serve", args.json, move || told.info())?;
    if let Some(file) = args.trace.file() {
        let (socket, file) = (Arc::clone(&socket), file.to_owned());
        thread::spawn(move || keep_traces(&socket, &file));
    }
    if let Some(seconds) = args.stats {
        let (socket, json) = (Arc::clone(&socket), args.json);
        thread::spawn(move || print_stats(&socket, Duration::from_secs(seconds), json));
    }
    echo(&socket)
}

/// Answers until the socket itself fails.
pub(crate) fn echo(socket: &Socket) -> Result<()> {
    loop {
        if let Delivery::Request(request) = socket.recv().context("receiving")? {
            let (peer, bytes) = (request.peer.addr(), request.payload.len());
            if let Err(error) = socket.reply(request.token, request.payload) {
                report(&error, peer, bytes)?;
            }
        }
    }
}

/// A client that went away is no reason to leave the others alone.
fn report(error: &Error, peer: SocketAddr, bytes: usize) -> Result<()> {
    Ok(writeln!(io::stderr(), "sealane: no reply of {bytes} B to {peer}: {error}")?)
}

/// Writes what led to slow calls, the latest in the place of the one before.
fn keep_traces(socket: &Socket, file: &Path) {
    loop {
        if let Some(found) = socket.time_trace()
            && let Err(why) = trace::write(&found, file)
        {
            eprintln!("sealane: {why:#}");
        }
        thread::sleep(TRACE_PAUSE);
    }
}

fn print_stats(socket: &Socket, every: Duration, json: bool) {
    loop {
        thread::sleep(every);
        let info = socket.info();
        let text = if json { stats(&info) } else { info.to_string() };
        if crate::print(&format!("{text}\n")).is_err() {
            return;
        }
    }
}

/// Every counter by its name, those at zero too: a reader need not know which there are.
fn stats(info: &Info) -> String {
    let counters: serde_json::Map<String, Value> =
        info.counters.iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
    let stats = json!({
        "event": "stats",
        "counters": counters,
        "link_bits_per_second": info.link_rate.bits_per_second(),
        "oversized": info.oversized,
        "unsent": info.unsent,
        "held_bytes": info.held_bytes,
        "sessions": info.sessions.len(),
        "rpcs": info.rpcs.len(),
    });
    stats.to_string()
}
