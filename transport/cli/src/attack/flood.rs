//! Owns the flood: as many forged packets as there can be, while sessions of the server are in use; what one costs the server, and how
//! much throughput is left beside the same flood to another port of the machine.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "an attacker has clocks and sockets of its own"
)]

use anyhow::{Context, Result};
use sim::rng::Rng;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use udp::batch::{Datagrams, Transmit};

use super::relay::Relay;
use super::scene::{ANYWHERE, Caller, Scene, compare, same_sessions, sessions, warm};
use super::server::Server;
use super::{Options, Report};

/// Forged packets per second that are aimed at.
const RATE: u64 = 200_000;
/// Packets that the kernel takes at once.
const TRAIN: usize = 64;
/// Trains that are made in advance and sent in turn: 16,000 packets.
const TRAINS: usize = 250;
/// Trains that leave together: every 2.6 ms.
const BURST: u64 = 8;
/// Calls under way at once while throughput is measured.
const CALLERS: usize = 4;

pub(super) fn run(options: Options) -> Result<Report> {
    let mut report = Report::new("flood");
    let scene = Scene::new()?;
    let mut server = scene.server()?;
    let relay = Relay::start(server.at)?;
    // What an attacker on the path knows: the server's names of sessions. It does not stay in the way of calls.
    let seen = warm(&scene, relay.at()?, 1)?;
    let names: Vec<[u8; 8]> =
        relay.captured().iter().filter(|p| p.to_server && p.kind() == 1).filter_map(|p| p.session()).collect();
    let callers = warm(&scene, server.at, CALLERS)?;
    // Bound and never read: as far as the kernel carries a packet without anybody's help.
    let sink = UdpSocket::bind(ANYWHERE).context("another port")?;
    let trains = trains(&names, &mut Rng::new(options.seed, 0xa77a_0005));
    let (server_at, elsewhere) = (server.at, sink.local_addr()?);
    let flood = Flood { server: server_at, to: server_at, trains: &trains, burst: BURST };
    let (before, sessions_before) = (server.status()?, sessions(&callers));

    // Rounds in turn, so that all have the same luck with the machine.
    let rounds = 2 * options.seconds.clamp(1, 6);
    let slice = options.time() / (2 * rounds as u32);
    let [mut here, mut there] = [Sum::NONE; 2];
    for _ in 0..rounds {
        here.add(&round(&mut server, &callers, slice, &flood, true, &mut report)?);
        there.add(&round(&mut server, &callers, slice, &Flood { to: elsewhere, ..flood }, true, &mut report)?);
    }
    let [mut idle_here, mut idle_there, mut trickle_here, mut trickle_there] = [Sum::NONE; 4];
    for _ in 0..rounds {
        let mut idle = |sum: &mut Sum, to, burst| -> Result<()> {
            sum.add(&round(&mut server, &callers, slice / 3, &Flood { to, burst, ..flood }, false, &mut report)?);
            Ok(())
        };
        idle(&mut idle_here, server_at, BURST)?;
        idle(&mut idle_there, elsewhere, BURST)?;
        idle(&mut trickle_here, server_at, 1)?;
        idle(&mut trickle_there, elsewhere, 1)?;
    }
    report.attempts = here.sent + idle_here.sent + trickle_here.sent;
    report.calls =
        [&here, &there, &idle_here, &idle_there, &trickle_here, &trickle_there].map(|sum| sum.calls).iter().sum();
    same_sessions(&sessions_before, &callers, &mut report);
    drop(seen);
    compare(&mut server, &before, CALLERS, &mut report)?;
    let per_second = |count: u64, sum: &Sum| (count as f64 / sum.time.as_secs_f64()).round();
    report.figure("forged_per_second", per_second(here.sent, &here));
    report.figure("forged_received_per_second", per_second(here.received, &here));
    report.figure("calls_per_second", per_second(here.calls, &here));
    report.figure("calls_per_second_other_port", per_second(there.calls, &there));
    let ratio = (here.calls as f64 / here.time.as_secs_f64()) / (there.calls as f64 / there.time.as_secs_f64());
    report.figure("throughput_ratio", (ratio * 1e3).round() / 1e3);
    // With hardly any calls what the server computes is for the flood; what it computes anyway is what it does beside the other.
    let rate = |sum: &Sum| sum.cpu_ns as f64 / sum.time.as_secs_f64();
    let cost = |here: &Sum, there: &Sum| {
        let spent = (rate(here) - rate(there)) * here.time.as_secs_f64();
        (spent / here.received.max(1) as f64).round()
    };
    report.figure("server_ns_per_forged_packet", cost(&idle_here, &idle_there));
    // In use, a server looks at the network anyway: what it spent beyond what its calls cost beside the other flood.
    let of_calls = there.cpu_ns as f64 / there.calls.max(1) as f64 * here.calls as f64;
    let busy = (here.cpu_ns as f64 - of_calls) / here.received.max(1) as f64;
    report.figure("server_ns_per_forged_packet_in_use", busy.round());
    // A server that sleeps is woken by each train, which costs what it costs.
    report.figure("server_ns_per_forged_packet_woken_by_each_train", cost(&trickle_here, &trickle_there));
    Ok(report)
}

/// Rounds of one kind, added up.
#[derive(Clone, Copy)]
struct Sum {
    time: Duration,
    sent: u64,
    /// Of the forged ones, by the server.
    received: u64,
    calls: u64,
    cpu_ns: u64,
}

impl Sum {
    const NONE: Self = Self { time: Duration::ZERO, sent: 0, received: 0, calls: 0, cpu_ns: 0 };

    fn add(&mut self, other: &Self) {
        self.time += other.time;
        self.sent += other.sent;
        self.received += other.received;
        self.calls += other.calls;
        self.cpu_ns += other.cpu_ns;
    }
}

/// Floods the server, or another port, while its clients call: as much as they can, or now and then.
fn round(
    server: &mut Server,
    callers: &[Caller<'_>],
    time: Duration,
    flood: &Flood<'_>,
    busy: bool,
    report: &mut Report,
) -> Result<Sum> {
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let before = server.status()?;
    let begun = Instant::now();
    let end = begun + time;
    let failed = &mut Vec::new();
    let calls = thread::scope(|scope| -> Result<u64> {
        let attacker = scope.spawn(|| flood.send(&over, &sent));
        let calls = if busy { many(callers, end, failed) } else { few(&callers[0], end, failed) };
        over.store(true, Ordering::Relaxed);
        attacker.join().expect("an attacker does not panic")?;
        Ok(calls)
    })?;
    let time = begun.elapsed();
    // What is still in the socket's buffer is taken, too.
    thread::sleep(Duration::from_millis(5));
    let after = server.status()?;
    failed.drain(..).for_each(|why| report.effect(format!("a call failed: {why}")));
    let dropped = |status: &super::server::Status| {
        status.counters.iter().filter(|(name, _)| name.starts_with("dropped_")).map(|(_, count)| count).sum::<u64>()
    };
    let received = if flood.to == flood.server { dropped(&after) - dropped(&before) } else { 0 };
    Ok(Sum { time, sent: sent.into_inner(), received, calls, cpu_ns: after.cpu_ns - before.cpu_ns })
}

fn many(callers: &[Caller<'_>], end: Instant, failed: &mut Vec<String>) -> u64 {
    let results: Vec<(u64, Vec<String>)> = thread::scope(|scope| {
        let threads: Vec<_> = (callers.iter().zip(1..))
            .map(|(caller, seed)| {
                scope.spawn(move || {
                    let mut failed = Vec::new();
                    (caller.calls(end, seed, &mut failed), failed)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a client does not panic")).collect()
    });
    results.into_iter().map(|(calls, why)| (failed.extend(why), calls).1).sum()
}

fn few(caller: &Caller<'_>, end: Instant, failed: &mut Vec<String>) -> u64 {
    let mut calls = 0;
    while Instant::now() < end {
        match caller.call(64) {
            Ok(()) => calls += 1,
            Err(why) => failed.push(why.to_string()),
        }
        thread::sleep(Duration::from_millis(20));
    }
    calls
}

/// Where trains go, and how many at once.
#[derive(Clone, Copy)]
struct Flood<'a> {
    server: SocketAddr,
    to: SocketAddr,
    trains: &'a [Train],
    burst: u64,
}

impl Flood<'_> {
    /// Sends trains in turn, at [`RATE`] packets per second or as fast as the machine lets it.
    fn send(&self, over: &AtomicBool, sent: &AtomicU64) -> Result<()> {
        let mut socket = udp::mmsg::bind(ANYWHERE, &udp::mmsg::Options::default())?;
        let begun = Instant::now();
        let (mut count, mut ahead) = (0, 0);
        for train in self.trains.iter().cycle() {
            while count >= ahead && !over.load(Ordering::Relaxed) {
                let due = begun.elapsed().as_nanos() as u64 * RATE / 1_000_000_000;
                if due >= count {
                    ahead = count + self.burst * TRAIN as u64;
                } else {
                    thread::sleep(Duration::from_micros(50));
                }
            }
            if over.load(Ordering::Relaxed) {
                break;
            }
            // What the kernel does not take now is lost, as any packet may be.
            let taken = socket.transmit(&Transmit { to: self.to, bytes: &train.bytes, segment: train.len, tos: None });
            sent.fetch_add(taken.map_or(0, |()| TRAIN as u64), Ordering::Relaxed);
            count += TRAIN as u64;
        }
        Ok(())
    }
}

/// Bytes of a forged packet of each type: what real ones have, or what their layout asks for.
const LENS: [(u8, usize); 5] = [(1, 120), (2, 60), (3, 120), (4, 32), (5, 57)];

/// Forged packets of all types, a train of each in turn: of sessions that there are and that there are not, with tags and tokens made
/// up.
fn trains(names: &[[u8; 8]], rng: &mut Rng) -> Vec<Train> {
    let train = |(kind, len): &(u8, usize)| Train {
        len: *len,
        bytes: (0..TRAIN).flat_map(|_| packet(*kind, *len, names, rng)).collect(),
    };
    LENS.iter().cycle().take(TRAINS).map(train).collect()
}

/// Packets that the kernel takes at once, and how long each is.
struct Train {
    len: usize,
    bytes: Vec<u8>,
}

fn packet(kind: u8, len: usize, names: &[[u8; 8]], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes[..8].fill(0);
    bytes[0] = 0x10 | kind;
    if rng.below(2) == 0 && !names.is_empty() {
        bytes[8..16].copy_from_slice(&names[rng.below(names.len() as u64) as usize]);
    }
    match kind {
        1 => {
            // A record that is as long as the packet, of a first attempt.
            bytes[20..25].copy_from_slice(&[0x17, 3, 3, 0, (len - 25) as u8]);
            bytes[30] &= 0xf8;
        }
        3 => {
            // A fragment of a handshake, as long as the packet; half of them a client's first.
            bytes[1] = 1;
            bytes[16] |= 0x80;
            bytes[24..26].copy_from_slice(&[1, rng.below(2) as u8]);
            bytes[50] = 0;
            bytes[51..53].copy_from_slice(&((len - 53 - 16) as u16).to_be_bytes());
            if rng.below(2) == 0 {
                bytes[8..16].fill(0);
                bytes[25] = 0;
            }
        }
        5 => bytes[20] = 20,
        _ => {}
    }
    bytes
}
