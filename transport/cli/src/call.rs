//! `sealane call`: one request or many to one server, one after the other; prints the reply, or how long replies took. It is no load
//! generator: that is `benches/peers`.
#![expect(clippy::disallowed_methods, reason = "round trips are measured by the real clock")]

use anyhow::{Context, Result, bail, ensure};
use sealane::{CallOptions, Identity, Payload, Socket, Trust};
use serde_json::json;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::{packets, profile, trace};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server: host:port, 10.0.0.1:port or [::1]:port
    #[arg(value_name = "ADDR")]
    server: String,
    /// The name that its certificate must have [default: the host of ADDR]
    #[arg(long)]
    name: Option<String>,
    /// Authorities that the server's certificate is judged by (PEM)
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// Our own certificate chain (PEM), where the server wants one
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Send this text
    #[arg(long, value_name = "TEXT", conflicts_with = "size")]
    data: Option<String>,
    /// Send so many bytes, and see whether the same come back
    #[arg(long, value_name = "BYTES", required_unless_present = "data")]
    size: Option<usize>,
    /// Call so often, one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Give up on the handshake, and on each call, after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    timeout: f64,
    #[command(flatten)]
    trace: trace::Wanted,
    #[command(flatten)]
    profile: profile::Choice,
    #[command(flatten)]
    packets: packets::Cut,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What a run of calls came to.
struct Outcome {
    reply: Payload,
    /// Replies that were the request's bytes.
    echoed: u32,
    handshake: Duration,
    /// Of each call, sorted.
    round_trips: Vec<Duration>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let deadline = Duration::try_from_secs_f64(args.timeout).context("--timeout")?;
    ensure!(!deadline.is_zero(), "--timeout 0 leaves no time for a reply");
    let host = host(&args.server)?;
    let name = args.name.as_deref().unwrap_or(host);
    let server = args.server.to_socket_addrs().with_context(|| format!("looking up {}", args.server))?.next();
    let Some(server) = server else { bail!("{} has no address", args.server) };
    let body = match (&args.data, args.size) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, size) => pattern(size.unwrap_or(0)),
    };
    let outcome = calls(args, server, name, &body, deadline)?;
    crate::print(&if args.json {
        in_json(args, server, name, &body, &outcome)
    } else {
        in_words(args, &body, &outcome)
    })?;
    ensure!(
        args.data.is_some() || outcome.echoed == args.count,
        "{} of {} replies differ from their request",
        args.count - outcome.echoed,
        args.count
    );
    Ok(())
}

fn calls(args: &Args, server: SocketAddr, name: &str, body: &[u8], deadline: Duration) -> Result<Outcome> {
    let trust = Trust::pem_file(&args.ca).with_context(|| format!("the authorities in {}", args.ca.display()))?;
    let builder = Socket::builder().trust(trust);
    let builder = match (&args.cert, &args.key) {
        (Some(cert), Some(key)) => builder.identity(
            Identity::pem_files(cert, key)
                .with_context(|| format!("the identity in {} and {}", cert.display(), key.display()))?,
        ),
        _ => builder.anonymous(),
    };
    let any = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let builder = args.packets.apply(args.profile.apply(builder));
    let socket = args.trace.apply(builder).handshake_timeout(deadline).bind(SocketAddr::new(any, 0))?;
    let peer = socket.peer(server, name)?;
    let begun = Instant::now();
    socket.connect(&peer).with_context(|| format!("no session with {server} as {name}"))?;
    let handshake = begun.elapsed();
    let mut round_trips = Vec::with_capacity(args.count as usize);
    let mut echoed = 0;
    let mut last = None;
    let mut all = || -> Result<()> {
        for n in 1..=args.count {
            let begun = Instant::now();
            let reply = socket
                .call_with(&peer, body, CallOptions::new().deadline(deadline))
                .with_context(|| format!("call {n} of {} to {server}", args.count))?;
            round_trips.push(begun.elapsed());
            echoed += u32::from(*reply == *body);
            last = Some(reply);
        }
        Ok(())
    };
    // What a call failed of is what one wants to see.
    let called = all();
    if let (Some(file), Some(found)) = (args.trace.file(), socket.time_trace()) {
        trace::write(&found, file)?;
    }
    called?;
    socket.close()?;
    round_trips.sort_unstable();
    let reply = last.context("no call was made")?;
    Ok(Outcome { reply, echoed, handshake, round_trips })
}

/// The host of `host:port`, without the brackets of an IPv6 address.
pub(crate) fn host(server: &str) -> Result<&str> {
    let (host, _) = server.rsplit_once(':').with_context(|| format!("{server:?} has no port"))?;
    Ok(host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host))
}

/// Bytes in which no part looks like another, so that a misplaced piece shows.
fn pattern(bytes: usize) -> Vec<u8> {
    let words = (0..bytes.div_ceil(8) as u64).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    words.take(bytes).collect()
}

/// The nearest rank: the smallest round trip that at least that share of them does not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

fn micros(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e7).round() / 10.0
}

fn in_json(args: &Args, server: SocketAddr, name: &str, body: &[u8], outcome: &Outcome) -> String {
    let mut report = json!({
        "addr": server.to_string(),
        "name": name,
        "count": args.count,
        "bytes": body.len(),
        "reply_bytes": outcome.reply.len(),
        "echoed": outcome.echoed,
        "handshake_ms": micros(outcome.handshake) / 1e3,
        "p50_us": micros(percentile(&outcome.round_trips, 50)),
        "p99_us": micros(percentile(&outcome.round_trips, 99)),
    });
    if args.data.is_some() {
        report["reply"] = String::from_utf8_lossy(&outcome.reply).into();
    }
    format!("{report}\n")
}

fn in_words(args: &Args, body: &[u8], outcome: &Outcome) -> String {
    let mut text = String::new();
    if args.data.is_some() {
        text.push_str(&String::from_utf8_lossy(&outcome.reply));
        text.push('\n');
    }
    if args.count > 1 || args.data.is_none() {
        let [p50, p99] = [50, 99].map(|percent| micros(percentile(&outcome.round_trips, percent)));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{} of {} replies are their request's {} B; round trip p50 {p50} us, p99 {p99} us; handshake {} us",
            outcome.echoed,
            args.count,
            body.len(),
            micros(outcome.handshake),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_host_of_the_address() {
        assert_eq!(host("db.example:1").expect("a host"), "db.example");
        assert_eq!(host("10.0.0.1:1").expect("a host"), "10.0.0.1");
        assert_eq!(host("[::1]:1").expect("a host"), "::1");
        assert!(host("db.example").is_err());
    }

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let sorted: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!(micros(percentile(&sorted, 50)), 100.0);
        assert_eq!(micros(percentile(&sorted, 99)), 198.0);
        assert_eq!(micros(percentile(&sorted[..1], 99)), 1.0);
    }

    #[test]
    fn the_pattern_has_its_length_and_does_not_repeat() {
        for bytes in [0, 1, 7, 8, 4096] {
            assert_eq!(pattern(bytes).len(), bytes);
        }
        let pattern = pattern(64 * 1024);
        let words: std::collections::BTreeSet<&[u8]> = pattern.chunks(8).collect();
        assert_eq!(words.len(), 8 * 1024);
    }
}
