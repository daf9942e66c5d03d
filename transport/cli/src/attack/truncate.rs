//! Owns packets of another length: before each real one come copies of it that are cut short or made longer.

use anyhow::Result;
use sim::rng::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::relay::{Captured, Relay};
use super::scene::{Scene, compare, meanwhile, same_sessions, sessions, warm};
use super::{Options, Report};

const CLIENTS: usize = 3;

pub(super) fn run(options: Options) -> Result<Report> {
    let mut report = Report::new("truncate");
    let scene = Scene::new()?;
    let mut server = scene.server()?;
    let relay = Relay::start(server.at)?;
    let made = Arc::new(AtomicU64::new(0));
    let (mut rng, counting) = (Rng::new(options.seed, 0xa77a_0003), Arc::clone(&made));
    // Handshakes are made under it, too.
    relay.tamper(Some(Box::new(move |packet| {
        let copies = copies(packet, &mut rng);
        counting.fetch_add(copies.len() as u64 - 1, Ordering::Relaxed);
        copies
    })));
    let before = server.status()?;
    let callers = warm(&scene, relay.at()?, CLIENTS)?;
    let names = sessions(&callers);
    meanwhile(&callers, options.time(), &mut report, |_| Ok(0))?;
    relay.tamper(None);
    report.attempts = made.load(Ordering::Relaxed);
    same_sessions(&names, &callers, &mut report);
    compare(&mut server, &before, CLIENTS, &mut report)?;
    Ok(report)
}

/// Copies of other lengths, and then the packet as it was.
fn copies(packet: &Captured, rng: &mut Rng) -> Vec<Vec<u8>> {
    let bytes = &packet.bytes;
    let mut cut = bytes.clone();
    cut.truncate(rng.below(bytes.len() as u64) as usize);
    let mut longer = bytes.clone();
    // In a datagram that says no length, what follows a whole record is judged by itself, and the record stands. [P-5.2]
    let states_length = bytes.get(6..8).is_some_and(|segment| segment != [0, 0]);
    longer.resize(bytes.len() + 1 + rng.below(100) as usize, rng.below(256) as u8);
    let longer = states_length.then_some(longer);
    [Some(cut), longer, Some(bytes.clone())].into_iter().flatten().collect()
}
