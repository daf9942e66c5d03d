//! Owns the man in the middle of handshakes: what client and server offer each other is changed on its way, so that they would agree on
//! less. Either they notice, or nothing was changed that counts. Each way to tamper is tried with a new client.
#![expect(clippy::disallowed_methods, reason = "attacks take real time")]

use anyhow::{Context, Result};
use sealane::Cipher;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use super::relay::{Captured, Relay};
use super::scene::{Scene, compare};
use super::{Options, Report};

const HANDSHAKE: u8 = 3;
/// The key of the check that handshake packets in clear carry: public, so an attacker makes it good again. [P-6.2]
const PUBLIC: &[u8; 32] = b"sealane/1 handshake public check";
/// Where the method, the level, and the length of the cookie stand. [P-6.2]
const METHOD_AT: usize = 24;
const LEVEL_AT: usize = 25;
const COOKIE_AT: usize = 50;

/// What is changed in the clear streams: every place that reads so, in one direction, then reads otherwise.
struct Way {
    name: &'static str,
    to_server: bool,
    from: &'static [u8],
    to: &'static [u8],
}

const fn way(name: &'static str, to_server: bool, from: &'static [u8], to: &'static [u8]) -> Way {
    assert!(from.len() == to.len());
    Way { name, to_server, from, to }
}

/// Numbers of RFC 8446 (sections 4.2.7, B.4), of X25519MLKEM768, and of our transport parameters [P-6.3].
const WAYS: &[Way] = &[
    way("post-quantum group from offer and share", true, &[0x11, 0xec], &[0x0a, 0x0a]),
    way("group X25519 from the offer", true, &[0x00, 0x1d], &[0x0a, 0x0a]),
    way("first suite from the offer", true, &[0x13, 0x01], &[0x0a, 0x0a]),
    way("strong suite from the offer", true, &[0x13, 0x02], &[0x0a, 0x0a]),
    way("third suite from the offer", true, &[0x13, 0x03], &[0x0a, 0x0a]),
    way("TLS 1.2 as the only version", true, &[0x02, 0x03, 0x04], &[0x02, 0x03, 0x03]),
    way("another ALPN name", true, b"sealane/1", b"sealane/0"),
    way("the server's name", true, b"localhost", b"otherhost"),
    way("longest message in the client's parameters", true, &[3, 4, 4, 0, 0, 0], &[3, 4, 0, 0, 1, 0]),
    way("record layouts in the client's parameters", true, &[5, 1, 3, 6, 2], &[5, 1, 1, 6, 2]),
    way("shards in the client's parameters", true, &[6, 2, 0, 1, 7], &[6, 2, 0, 2, 7]),
    way("the promise of a reset", true, &[7, 16], &[9, 16]),
    way("TLS 1.2 in the server's answer", false, &[0x00, 0x02, 0x03, 0x04], &[0x00, 0x02, 0x03, 0x03]),
    way("another suite in the server's answer", false, &[0x13, 0x01, 0x00], &[0x13, 0x03, 0x00]),
    way("another group in the server's answer", false, &[0x11, 0xec], &[0x00, 0x1d]),
];

pub(super) fn run(options: Options) -> Result<Report> {
    let mut report = Report::new("downgrade");
    let scene = Scene::new()?;
    let mut server = scene.server()?;
    let before = server.status()?;
    // All at once: what fails by silence takes its time. Again, as long as there is time.
    let end = Instant::now() + options.time();
    let (mut rounds, mut failed, mut unaltered) = (0_u64, 0_u64, 0_u64);
    while rounds == 0 || Instant::now() < end {
        let tries: Vec<Result<Try>> = thread::scope(|scope| {
            let threads: Vec<_> = WAYS.iter().map(|way| scope.spawn(|| attempt(&scene, server.at, way))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a client does not panic")).collect()
        });
        for (way, tried) in WAYS.iter().zip(tries) {
            let Try { struck, connected, open } = tried?;
            report.attempts += struck;
            match connected {
                true if struck == 0 => unaltered += 1,
                true => report.effect(format!("{}: changed {struck} times, and a session was made", way.name)),
                false => failed += 1,
            }
            report.expect(struck > 0, || format!("{}: there was nothing to change", way.name));
            report.expect(open == usize::from(connected), || format!("{}: {open} sessions are open", way.name));
        }
        rounds += 1;
    }
    // What nobody changes is what both want most.
    let relay = Relay::start(server.at)?;
    let caller = scene.client(relay.at()?)?;
    caller.call(1_000).context("a call that nobody disturbed")?;
    report.calls += 1;
    let cipher = caller.socket.info().sessions.first().map(|session| session.cipher);
    report.expect(cipher == Some(Cipher::Aes128Gcm), || format!("without an attacker they agree on {cipher:?}"));
    compare(&mut server, &before, 1, &mut report)?;
    report.figure("ways", WAYS.len() as u64);
    report.figure("rounds", rounds);
    report.figure("failed", failed);
    report.figure("unaltered", unaltered);
    Ok(report)
}

/// What came of one way with one client.
struct Try {
    /// Packets that were changed.
    struck: u64,
    connected: bool,
    open: usize,
}

fn attempt(scene: &Scene, server: SocketAddr, way: &'static Way) -> Result<Try> {
    let relay = Relay::start(server)?;
    let struck = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&struck);
    relay.tamper(Some(Box::new(move |packet| vec![tampered(packet, way, &counting)])));
    let caller = scene.client(relay.at()?)?;
    let connected = caller.socket.connect(&caller.peer).is_ok();
    let open = caller.socket.info().sessions.iter().filter(|session| session.open).count();
    Ok(Try { struck: struck.load(Ordering::Relaxed), connected, open })
}

fn tampered(packet: &Captured, way: &Way, struck: &AtomicU64) -> Vec<u8> {
    let mut bytes = packet.bytes.clone();
    let clear = packet.kind() == HANDSHAKE && bytes.get(METHOD_AT..=LEVEL_AT) == Some(&[1, 0]);
    if !clear || packet.to_server != way.to_server {
        return bytes;
    }
    let Some((start, end)) = fragment(&bytes) else { return bytes };
    let mut changed = false;
    for at in start..end.saturating_sub(way.from.len() - 1) {
        if bytes[at..at + way.from.len()] == *way.from {
            bytes[at..at + way.from.len()].copy_from_slice(way.to);
            changed = true;
        }
    }
    if changed {
        struck.fetch_add(1, Ordering::Relaxed);
        let tag = offload::software::crypto().hmac(PUBLIC, &bytes[..end]);
        bytes[end..end + 16].copy_from_slice(&tag[..16]);
    }
    bytes
}

/// Where the fragment of a HANDSHAKE packet begins and ends; the tag follows it.
fn fragment(bytes: &[u8]) -> Option<(usize, usize)> {
    let length_at = COOKIE_AT + 1 + usize::from(*bytes.get(COOKIE_AT)?);
    let [high, low] = *bytes.get(length_at..length_at + 2)? else { return None };
    let start = length_at + 2;
    let end = start + usize::from(u16::from_be_bytes([high, low]));
    (bytes.len() >= end + 16).then_some((start, end))
}
