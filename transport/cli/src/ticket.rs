//! `sealane ticket`: a server that publishes its ticket, and the judgement of one. `publish` serves: the private half of a ticket lives in
//! the process that takes its first flights, and nowhere else, so no command can make a ticket for another process.
#![expect(clippy::disallowed_methods, reason = "a ticket is judged by the real calendar")]

use anyhow::{Context, Result, bail};
use sealane::{Clients, Identity, InvalidTicket, Socket, Ticket, Trust};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{publish, serve};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Serve (each request is answered with its own bytes) and keep the ticket published until stopped. A ticket's private half lives
    /// in this process only: `serve --publish-ticket` does the same beside its other options
    Publish(Publish),
    /// Judge a ticket as a client does: who issued its certificate, its name, both their times, its signature
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
struct Publish {
    /// Address and port; port 0 lets the kernel choose
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4433")]
    listen: SocketAddr,
    /// The server's certificate chain (PEM)
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the ticket is written, and each new one; standard output if not given
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print one JSON object a line
    #[arg(long, requires = "output")]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// The ticket
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Authorities that its certificate is judged by (PEM)
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// The name that its certificate must have
    #[arg(long)]
    name: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Publish(args) => run_publish(args),
        Command::Verify(args) => run_verify(args),
    }
}

fn run_publish(args: &Publish) -> Result<()> {
    let identity = Identity::pem_files(&args.cert, &args.key)
        .with_context(|| format!("the identity in {} and {}", args.cert.display(), args.key.display()))?;
    let builder = Socket::builder().trust(Trust::nobody()).identity(identity).serve(Clients::Anonymous);
    let socket = Arc::new(builder.publish_tickets(publish::LIFETIME).bind(args.listen)?);
    if args.output.is_some() {
        let at = socket.local_addr();
        crate::print(&if args.json {
            format!("{}\n", json!({ "event": "listening", "addr": at.to_string(), "clients": "anonymous" }))
        } else {
            format!("listening on {at} for anonymous clients\n")
        })?;
    }
    publish::keep(&socket, args.output.as_deref(), args.json)?;
    serve::echo(&socket)
}

fn read(file: &Path) -> Result<Ticket, (&'static str, String)> {
    let text = std::fs::read_to_string(file).map_err(|error| ("unreadable", error.to_string()))?;
    Ticket::from_text(&text).map_err(|damage| ("damaged", damage.to_string()))
}

/// The short name of each reason, for programs.
fn reason(invalid: &InvalidTicket) -> &'static str {
    use sealane::HandshakeError as Error;
    match invalid {
        InvalidTicket::Damaged(_) => "damaged",
        InvalidTicket::Expired { .. } => "expired",
        InvalidTicket::NotYetValid { .. } => "not-yet-valid",
        InvalidTicket::TooLong { .. } => "too-long",
        InvalidTicket::Signature => "bad-signature",
        InvalidTicket::Certificate(Error::WrongName { .. } | Error::ServerName { .. }) => "wrong-name",
        InvalidTicket::Certificate(Error::Untrusted { .. } | Error::NothingTrusted { .. }) => "untrusted",
        InvalidTicket::Certificate(Error::Expired { .. }) => "certificate-expired",
        InvalidTicket::Certificate(Error::NotYetValid { .. }) => "certificate-not-yet-valid",
        InvalidTicket::Certificate(Error::Revoked { .. }) => "certificate-revoked",
        _ => "certificate",
    }
}

fn run_verify(args: &Verify) -> Result<()> {
    let trust = Trust::pem_file(&args.ca).with_context(|| format!("the authorities in {}", args.ca.display()))?;
    let judged = read(&args.file).and_then(|ticket| match ticket.verify(&trust, &args.name) {
        Ok(identity) => Ok((ticket, identity)),
        Err(invalid) => Err((reason(&invalid), invalid.to_string())),
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match judged {
        Ok((ticket, identity)) => crate::print(&if args.json {
            format!("{}\n", in_json(&ticket, &identity.to_string(), now))
        } else {
            let left = ticket.not_after().saturating_sub(now);
            format!("good: ticket {} of {identity}, for {left} more seconds\n", ticket.id())
        }),
        Err((reason, why)) => {
            if args.json {
                crate::print(&format!("{}\n", json!({ "good": false, "reason": reason, "why": why })))?;
            }
            bail!("{}: {reason}: {why}", args.file.display())
        }
    }
}

fn in_json(ticket: &Ticket, identity: &str, now: u64) -> Value {
    json!({
        "good": true,
        "id": ticket.id().to_string(),
        "identity": identity,
        "not_before": ticket.not_before(),
        "not_after": ticket.not_after(),
        "seconds_left": ticket.not_after().saturating_sub(now),
        "txt": ticket.to_txt(),
    })
}
