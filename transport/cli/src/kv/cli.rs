//! `sealane kv cli`: commands to a server over Sealane, and its replies as text. For trying it out; `redis-cli` is for the other doors.

use anyhow::{Context, Result};
use kv::resp::command;
use sealane::{CallOptions, Identity, Socket, Trust};
use std::io::BufRead;
use std::net::SocketAddr;
use std::time::Duration;

use super::Certificates;

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the server is
    #[arg(long, value_name = "ADDR")]
    sealane: SocketAddr,
    /// The name that its certificate must have
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    name: String,
    #[command(flatten)]
    certificates: Certificates,
    /// The command; without one, each line of standard input is one
    words: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let own = args.certificates.read()?.context("a client needs --cert, --key and --ca")?;
    let socket = Socket::builder()
        .trust(Trust::pem(own.authority.as_bytes())?)
        .identity(Identity::pem(own.certificate.as_bytes(), own.key.as_bytes())?)
        .bind(if args.sealane.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    let peer = socket.peer(args.sealane, &args.name)?;
    let call = |bytes: Vec<u8>| -> Result<()> {
        let reply = socket.call_with(&peer, bytes, CallOptions::new().deadline(PATIENCE))?;
        crate::print(&String::from_utf8_lossy(&reply))
    };
    if !args.words.is_empty() {
        let words: Vec<&[u8]> = args.words.iter().map(String::as_bytes).collect();
        let mut bytes = Vec::new();
        command(&mut bytes, &words);
        call(bytes)?;
    } else {
        for line in std::io::stdin().lock().lines() {
            call((line? + "\r\n").into_bytes())?;
        }
    }
    Ok(socket.close()?)
}
