//! Owns the replay of captured packets: all that passed, handshakes too, in any order and any number of times, from the address that they
//! came from and from others, to the server, to the clients, and to a server that was killed and started again.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "an attacker has clocks and sockets of its own"
)]

use anyhow::{Context, Result};
use sealane::Error;
use sim::rng::Rng;
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use super::relay::{Captured, Relay};
use super::scene::{ANYWHERE, Caller, Scene, compare, meanwhile, same_sessions, sessions, warm};
use super::{Options, Report};

const CLIENTS: usize = 3;

pub(super) fn run(options: Options) -> Result<Report> {
    let mut report = Report::new("replay");
    let scene = Scene::new()?;
    let mut server = scene.server()?;
    let relay = Relay::start(server.at)?;
    let mut rng = Rng::new(options.seed, 0xa77a_0001);
    let elsewhere: Vec<UdpSocket> = (0..4).map(|_| UdpSocket::bind(ANYWHERE)).collect::<Result<_, _>>()?;
    let mut replay = |relay: &Relay, server: SocketAddr, end: Instant| {
        let mut attempts = 0;
        let mut seen = relay.captured();
        while Instant::now() < end {
            if attempts % 4096 == 0 {
                seen = relay.captured();
            }
            let packet = &seen[rng.below(seen.len() as u64) as usize];
            again(relay, packet, server, &elsewhere, &mut rng);
            attempts += 1;
        }
        Ok(attempts)
    };
    let at = relay.at()?;
    let callers = warm(&scene, at, CLIENTS)?;
    let (before, names) = (server.status()?, sessions(&callers));
    meanwhile(&callers, options.time() / 2, &mut report, |end| replay(&relay, server.at, end))?;
    same_sessions(&names, &callers, &mut report);
    compare(&mut server, &before, CLIENTS, &mut report)?;
    drop(callers);

    // Sessions of which the server will know nothing. What of theirs was captured is all that there is.
    relay.forget();
    let old = warm(&scene, at, CLIENTS)?;
    let idle: Vec<Caller<'_>> = Vec::new();
    old.iter().try_for_each(|caller| caller.call(2_000))?;
    drop(old);
    let mut server = scene.restart(server)?;
    let before = server.status()?;
    meanwhile(&idle, options.time() / 2, &mut report, |end| replay(&relay, server.at, end))?;
    let after = compare(&mut server, &before, 0, &mut report)?;
    report.expect(after.ran == 0, || format!("{} requests ran at a server that nobody called", after.ran));
    let handshakes = after.counters.get("handshakes_completed").copied().unwrap_or(0);
    report.expect(handshakes == 0, || format!("{handshakes} handshakes were completed with nobody"));
    let caller = scene.client(at)?;
    let called: Result<(), Error> = caller.call(100);
    report.calls += u64::from(called.is_ok());
    called.context("a call after it all")?;
    Ok(report)
}

fn again(relay: &Relay, packet: &Captured, server: SocketAddr, elsewhere: &[UdpSocket], rng: &mut Rng) {
    let other = &elsewhere[rng.below(elsewhere.len() as u64) as usize];
    let Captured { to_server, client, bytes } = packet;
    // What cannot be sent is lost, as on any network.
    match rng.below(8) {
        0..5 => relay.inject(*to_server, *client, bytes),
        5 | 6 => drop(other.send_to(bytes, if *to_server { server } else { *client })),
        // Back to its sender.
        _ => relay.inject(!*to_server, *client, bytes),
    }
}
