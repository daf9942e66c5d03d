//! Owns RESETs: forged ones by the thousand, which must do nothing; a real restart, which the client must be told of at once; and the
//! genuine RESET of that, again and again, which must do nothing any more.
#![expect(clippy::disallowed_methods, reason = "an attacker has a clock of its own")]

use anyhow::{Result, ensure};
use sealane::Error;
use sim::rng::Rng;
use std::thread;
use std::time::{Duration, Instant};

use super::relay::{Captured, Relay};
use super::scene::{Scene, compare, meanwhile, same_sessions, sessions, warm};
use super::{Options, Report};

const CLIENTS: usize = 2;
/// The type of a RESET.
const RESET: u8 = 4;
/// Far less than the silence after which a peer counts as dead, 3 s; far more than a restart takes.
const AT_ONCE: Duration = Duration::from_secs(2);

pub(super) fn run(options: Options) -> Result<Report> {
    let mut report = Report::new("reset");
    let scene = Scene::new()?;
    let mut server = scene.server()?;
    let relay = Relay::start(server.at)?;
    let at = relay.at()?;
    let callers = warm(&scene, at, CLIENTS)?;
    let (before, names) = (server.status()?, sessions(&callers));
    let mut rng = Rng::new(options.seed, 0xa77a_0004);
    meanwhile(&callers, options.time() / 2, &mut report, |end| forge(&relay, end, &mut rng))?;
    same_sessions(&names, &callers, &mut report);
    compare(&mut server, &before, CLIENTS, &mut report)?;

    // A real one: the server is killed with a request in its hands.
    relay.forget();
    let caller = &callers[0];
    let (mut server, error, told) = thread::scope(|scope| -> Result<_> {
        let waiting = scope.spawn(|| (caller.hang().err(), Instant::now()));
        let until = Instant::now() + AT_ONCE;
        while server.status()?.rpcs == 0 {
            ensure!(Instant::now() < until, "the request never arrived");
            thread::sleep(Duration::from_millis(5));
        }
        let server = scene.restart(server)?;
        let started = Instant::now();
        let (error, ended) = waiting.join().expect("a client does not panic");
        Ok((server, error, ended.saturating_duration_since(started)))
    })?;
    let unknown = matches!(&error, Some(Error::PeerRestarted { may_have_run: true, .. }));
    report.expect(unknown, || format!("a call that was under way at a restart ended with {error:?}"));
    report.expect(told < AT_ONCE, || format!("it was told of the restart after {told:?}"));
    report.figure("genuine", u64::from(unknown));
    report.figure("told_after_ms", told.as_millis() as u64);
    // The other client finds out by its next call. Then both have new sessions.
    let found_out = callers[1].call(100);
    report.expect(matches!(&found_out, Err(Error::PeerRestarted { .. })), || {
        format!("the first call after a restart ended with {found_out:?}")
    });
    for caller in &callers {
        let next = caller.call(100);
        report.expect(next.is_ok(), || format!("the next call after a restart ended with {next:?}"));
    }
    let (before, names) = (server.status()?, sessions(&callers));
    let genuine: Vec<Captured> = relay.captured().into_iter().filter(|packet| packet.kind() == RESET).collect();
    report.expect(!genuine.is_empty(), || "the server said no RESET".to_owned());
    meanwhile(&callers, options.time() / 2, &mut report, |end| replay(&relay, &genuine, end, &mut rng))?;
    same_sessions(&names, &callers, &mut report);
    compare(&mut server, &before, CLIENTS, &mut report)?;
    Ok(report)
}

/// The names of all sessions, and proofs that are none: for who is to believe it, and for the other end.
fn forge(relay: &Relay, end: Instant, rng: &mut Rng) -> Result<u64> {
    let (mut attempts, mut seen) = (0, Vec::new());
    while Instant::now() < end {
        if attempts % 4096 == 0 {
            seen = relay.captured();
        }
        let like = &seen[rng.below(seen.len() as u64) as usize];
        let mut bytes = vec![0x14, 0, 0, 7, 0, 0, 0, 32];
        bytes.extend(like.session().unwrap_or_default());
        // What else was said on the way may be a proof, too: of handshakes, of other packets.
        let other = &seen[rng.below(seen.len() as u64) as usize].bytes;
        let at = rng.below(other.len() as u64) as usize;
        bytes.extend(other.iter().skip(at).take(16));
        let said = bytes.len();
        bytes.resize(32, 0);
        rng.fill(&mut bytes[said..]);
        relay.inject(!like.to_server, like.client, &bytes);
        relay.inject(like.to_server, like.client, &bytes);
        attempts += 2;
    }
    Ok(attempts)
}

/// What was genuine once, of sessions that are gone; and the same proof for those that there are now.
fn replay(relay: &Relay, genuine: &[Captured], end: Instant, rng: &mut Rng) -> Result<u64> {
    let mut attempts = 0;
    let seen = relay.captured();
    while Instant::now() < end && !genuine.is_empty() {
        let packet = &genuine[rng.below(genuine.len() as u64) as usize];
        let mut bytes = packet.bytes.clone();
        if rng.below(2) == 0 {
            let other = &seen[rng.below(seen.len() as u64) as usize];
            // A name with its own proof is what it was; all others are not.
            bytes[8..16].copy_from_slice(&other.session().unwrap_or_default());
        }
        relay.inject(packet.to_server, packet.client, &bytes);
        relay.inject(!packet.to_server, packet.client, &bytes);
        attempts += 2;
    }
    Ok(attempts)
}
