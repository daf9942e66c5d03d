//! Owns forgery: packets of all types that nobody sealed, made of nothing or of what was seen, to both ends, with the addresses of both.
#![expect(clippy::disallowed_methods, reason = "an attacker has a clock of its own")]

use anyhow::Result;
use sim::rng::Rng;
use std::time::Instant;

use super::relay::{Captured, Relay};
use super::scene::{Scene, compare, meanwhile, same_sessions, sessions, warm};
use super::{Options, Report};

const CLIENTS: usize = 3;
/// Longest packet made of nothing.
const LEN_MAX: u64 = 1_400;

pub(super) fn run(options: Options) -> Result<Report> {
    let mut report = Report::new("forge");
    let scene = Scene::new()?;
    let mut server = scene.server()?;
    let relay = Relay::start(server.at)?;
    let callers = warm(&scene, relay.at()?, CLIENTS)?;
    let (before, names) = (server.status()?, sessions(&callers));
    let mut rng = Rng::new(options.seed, 0xa77a_0002);
    let mut kinds = [0_u64; 16];
    meanwhile(&callers, options.time(), &mut report, |end| {
        let (mut attempts, mut seen) = (0, Vec::new());
        while Instant::now() < end {
            if attempts % 4096 == 0 {
                seen = relay.captured();
            }
            let like = &seen[rng.below(seen.len() as u64) as usize];
            let bytes = forged(like, &mut rng);
            kinds[usize::from(bytes[0] & 0xf)] += 1;
            relay.inject(like.to_server, like.client, &bytes);
            attempts += 1;
        }
        Ok(attempts)
    })?;
    same_sessions(&names, &callers, &mut report);
    compare(&mut server, &before, CLIENTS, &mut report)?;
    let names = ["data", "control", "handshake", "reset", "retry"];
    for (name, count) in names.into_iter().zip(&kinds[1..]) {
        report.figure(&format!("forged_{name}"), *count);
    }
    Ok(report)
}

/// A packet that differs from every real one where it matters: in something that a tag or a token covers.
fn forged(like: &Captured, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = like.bytes.clone();
    match rng.below(4) {
        // Of nothing, with what can be read on the way: a version, a type, a session.
        0 => {
            bytes = vec![0; 17 + rng.below(LEN_MAX) as usize];
            rng.fill(&mut bytes);
            bytes[0] = 0x10 | (1 + rng.below(5)) as u8;
            bytes[1..8].fill(0);
            bytes[8..16].copy_from_slice(&like.session().unwrap_or_default());
        }
        // A RESET.
        1 if rng.below(4) == 0 => {
            bytes.resize(32, 0);
            bytes[..8].copy_from_slice(&[0x14, 0, 0, 7, 0, 0, 0, 32]);
            rng.fill(&mut bytes[16..]);
        }
        // Another tag. Of a handshake's packet, what is padding means nothing: any byte of the first ones.
        _ if bytes.len() > 60 => {
            let at = if like.kind() == 3 { rng.below(50) } else { bytes.len() as u64 - 1 - rng.below(16) };
            bytes[at as usize] ^= 1 + rng.below(255) as u8;
        }
        _ => bytes[0] = 0x10,
    }
    bytes
}
