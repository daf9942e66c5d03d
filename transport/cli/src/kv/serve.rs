//! `sealane kv serve`: binds the doors, says where they are and what is unsafe about them, and serves until it is stopped.

use anyhow::{Context, Result, bail};
use kv::engine::{Limits, memory};
use kv::log::Fsync;
use kv::server::{Config, Server};
use kv::store::Eviction;
use kv::tls::Credentials;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use super::Certificates;

/// Open files that are wanted: a connection each.
const FILES: u64 = 32_768;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --cert, --key and --ca certificates for development are made, and the command says where. \
                        Clients of TLS and Sealane must have certificates of the authority; TCP is clear text for anybody."
)]
pub(crate) struct Args {
    /// Redis protocol over TCP, in clear text
    #[arg(long, value_name = "ADDR")]
    tcp: Option<SocketAddr>,
    /// Redis protocol over TLS 1.3
    #[arg(long, value_name = "ADDR")]
    tls: Option<SocketAddr>,
    /// Redis protocol in messages of Sealane
    #[arg(long, value_name = "ADDR")]
    sealane: Option<SocketAddr>,
    /// Log every change to this file, and load it first
    #[arg(long, value_name = "FILE")]
    appendonly: Option<PathBuf>,
    /// When the log is made durable: always, everysec or no
    #[arg(long, value_name = "POLICY", default_value = "everysec", value_parser = fsync, requires = "appendonly")]
    fsync: Fsync,
    /// Bytes that keys and values may take, as 100mb; 0 is no limit
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = bytes)]
    maxmemory: usize,
    /// What goes then: noeviction, allkeys-lru or volatile-lru
    #[arg(long, value_name = "POLICY", default_value = "noeviction", value_parser = eviction)]
    maxmemory_policy: Eviction,
    #[command(flatten)]
    certificates: Certificates,
    #[command(flatten)]
    door: crate::observe::Door,
    /// Where certificates for development go; a folder that does not exist yet
    #[arg(long, value_name = "DIR", conflicts_with = "cert")]
    development_certs: Option<PathBuf>,
}

fn fsync(name: &str) -> Result<Fsync, String> {
    Fsync::parse(name).ok_or_else(|| "one of always, everysec, no".to_owned())
}

fn eviction(name: &str) -> Result<Eviction, String> {
    Eviction::parse(name).ok_or_else(|| "one of noeviction, allkeys-lru, volatile-lru".to_owned())
}

fn bytes(text: &str) -> Result<usize, String> {
    memory(text).ok_or_else(|| "a number of bytes, as 1048576, 100mb or 2gb".to_owned())
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.tcp.is_none() && args.tls.is_none() && args.sealane.is_none() {
        bail!("there is no door: give --tcp, --tls or --sealane an address");
    }
    if args.door.is_wanted() && args.sealane.is_none() {
        bail!("--metrics tells of Sealane's socket: give --sealane an address too");
    }
    let mut credentials = args.certificates.read()?;
    if credentials.is_none() && (args.tls.is_some() || args.sealane.is_some()) {
        credentials = Some(development(args)?);
    }
    let files = kv::child::raise_open_files(FILES);
    if files < FILES {
        eprintln!("sealane kv: only {files} open files are allowed, so at most about as many TCP and TLS clients");
    }
    if let Some(tcp) = args.tcp.filter(|tcp| !tcp.ip().is_loopback()) {
        eprintln!(
            "sealane kv: anybody who reaches {tcp} can read and change everything: TCP is clear text without a password"
        );
    }
    let server = Server::bind(&Config {
        tcp: args.tcp,
        tls: args.tls,
        sealane: args.sealane,
        credentials,
        log: args.appendonly.clone().map(|path| (path, args.fsync)),
        limits: Limits { memory_bytes_max: args.maxmemory, eviction: args.maxmemory_policy },
    })?;
    if let Some(loaded) = server.loaded() {
        if loaded.cut > 0 {
            eprintln!("sealane kv: the log's end was torn: {} bytes of an unfinished command were cut", loaded.cut);
        }
        crate::print(&format!("loaded {} commands, {} bytes\n", loaded.commands, loaded.bytes))?;
    }
    let [tcp, tls, sealane] = server.addresses();
    for (name, address) in [("tcp", tcp), ("tls", tls), ("sealane", sealane)] {
        if let Some(address) = address {
            crate::print(&format!("{name} on {address}\n"))?;
        }
    }
    if let Some(socket) = server.socket() {
        args.door.start("kv", false, move || socket.info())?;
    }
    crate::print("ready\n")?;
    server.run()
}

/// Certificates for trying it out, and where their files are.
fn development(args: &Args) -> Result<Credentials> {
    let made = load::certs::Credentials::generate()?;
    let dir = match &args.development_certs {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("sealane-kv-{}", std::process::id())),
    };
    let failed = || format!("cannot make {}", dir.display());
    std::fs::DirBuilder::new().mode(0o700).create(&dir).with_context(failed)?;
    let files = [
        ("ca.pem", &made.authority),
        ("server.pem", &made.server.certificate),
        ("server.key", &made.server.key),
        ("client.pem", &made.client.certificate),
        ("client.key", &made.client.key),
    ];
    for (name, text) in files {
        let path = dir.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).with_context(failed)?;
        file.write_all(text.as_bytes())?;
    }
    eprintln!(
        "sealane kv: no certificates were given, so some for development were made, in {}; do not use them for anything else",
        dir.display()
    );
    Ok(Credentials { authority: made.authority, certificate: made.server.certificate, key: made.server.key })
}
