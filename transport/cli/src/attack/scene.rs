//! Owns what all attacks have in common: certificates, a server, clients that call it and check every byte, and the comparison of before
//! and after.
#![expect(clippy::disallowed_methods, reason = "attacks take real time")]

use anyhow::{Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sealane::builder::Ready;
use sealane::{Builder, CallOptions, Error, Identity, Payload, Peer, Socket, Trust};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Report;
use super::server::{Server, Spec, Status};

/// Bytes that name a request.
pub(super) const NUMBER_LEN: usize = 8;
/// The byte behind the number of a request that is not to be answered.
pub(super) const UNANSWERED: u8 = 0xff;
/// How long a half-open handshake may stay at the server.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(2);
/// After which a call counts as lost.
const PATIENCE: Duration = Duration::from_secs(8);
/// Where the system chooses the port.
pub(super) const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Longest request of the mix.
const LEN_MAX: u64 = 40_000;

fn filler(number: u64, at: usize) -> u8 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24) as u8 ^ (at as u8).wrapping_mul(31)
}

/// A request of `len` bytes.
fn request(number: u64, len: usize, answered: bool) -> Vec<u8> {
    let mark = if answered { 0 } else { UNANSWERED };
    let head = number.to_le_bytes().into_iter().chain([mark]);
    head.chain((NUMBER_LEN + 1..len).map(|at| filler(number, at))).collect()
}

/// Whether a request is as it was made.
pub(super) fn is_intact(payload: &[u8]) -> bool {
    let Some((number, rest)) = payload.split_first_chunk::<NUMBER_LEN>() else { return false };
    let number = u64::from_le_bytes(*number);
    let mark = rest.first().is_some_and(|mark| matches!(*mark, 0 | UNANSWERED));
    mark && rest.iter().enumerate().skip(1).all(|(at, byte)| *byte == filler(number, NUMBER_LEN + at))
}

/// What a request is answered with.
pub(super) fn response(request: &[u8]) -> Vec<u8> {
    request.iter().rev().map(|byte| byte ^ 0x5a).collect()
}

/// A server's world: who may be in it.
pub(super) struct Scene {
    spec: Mutex<Spec>,
    client: (String, String),
    /// How many requests were numbered.
    numbers: AtomicU64,
}

impl Scene {
    pub(super) fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate()?;
        let ca = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let identity = |name: &str| -> Result<(String, String)> {
            let key = KeyPair::generate()?;
            let chain = CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &issuer)?.pem();
            Ok((chain, key.serialize_pem()))
        };
        let (chain, key) = identity("localhost")?;
        let client = identity("client")?;
        let handshake_ms = HANDSHAKE.as_millis() as u64;
        let spec = Spec { at: ANYWHERE, ca, chain, key, reset_key: Some([0x5e; 32]), handshake_ms, floor: 0 };
        Ok(Self { spec: Mutex::new(spec), client, numbers: AtomicU64::new(1) })
    }

    fn spec(&self) -> MutexGuard<'_, Spec> {
        self.spec.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn server(&self) -> Result<Server> {
        let server = Server::start(&self.spec())?;
        self.spec().at = server.at;
        Ok(server)
    }

    /// Kills the server and starts another at its place.
    pub(super) fn restart(&self, server: Server) -> Result<Server> {
        server.kill()?;
        self.spec().floor = self.numbers.load(Ordering::Relaxed);
        self.server()
    }

    pub(super) fn builder(&self) -> Result<Builder<Ready>> {
        let trust = Trust::pem(self.spec().ca.as_bytes())?;
        let identity = Identity::pem(self.client.0.as_bytes(), self.client.1.as_bytes())?;
        Ok(Socket::builder().trust(trust).identity(identity).handshake_timeout(HANDSHAKE))
    }

    /// A client of a server at `at`.
    pub(super) fn client(&self, at: SocketAddr) -> Result<Caller<'_>> {
        let socket = self.builder()?.bind(ANYWHERE)?;
        let peer = socket.peer(at, "localhost")?;
        Ok(Caller { socket, peer, scene: self })
    }
}

/// A client.
pub(super) struct Caller<'a> {
    pub(super) socket: Socket,
    pub(super) peer: Peer,
    scene: &'a Scene,
}

impl Caller<'_> {
    /// Calls with `len` bytes and checks the answer.
    pub(super) fn call(&self, len: usize) -> Result<(), Error> {
        let number = self.scene.numbers.fetch_add(1, Ordering::Relaxed);
        let body = request(number, len, true);
        let options = CallOptions::new().deadline(PATIENCE);
        let answer = self.socket.call_with(&self.peer, body.as_slice(), options)?;
        if *answer == *response(&body) { Ok(()) } else { Err(Error::Config("an answer came altered".to_owned())) }
    }

    /// Calls what is never answered.
    pub(super) fn hang(&self) -> Result<Payload, Error> {
        let number = self.scene.numbers.fetch_add(1, Ordering::Relaxed);
        self.socket.call_with(&self.peer, request(number, 64, false), CallOptions::new().deadline(4 * PATIENCE))
    }

    /// Calls of all lengths until `end`; says of each that failed. Gives how many were answered.
    pub(super) fn calls(&self, end: Instant, mut seed: u64, failed: &mut Vec<String>) -> u64 {
        let mut answered = 0;
        while Instant::now() < end {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let len = match seed >> 60 {
                0 => (seed >> 30) % LEN_MAX,
                _ => (seed >> 30) % 900,
            };
            match self.call(NUMBER_LEN + 1 + len as usize) {
                Ok(()) => answered += 1,
                Err(error) => failed.push(error.to_string()),
            }
        }
        answered
    }
}

/// Clients call all the time while `attack` goes on, which is told when to end. Failures become effects.
pub(super) fn meanwhile(
    callers: &[Caller<'_>],
    time: Duration,
    report: &mut Report,
    attack: impl FnOnce(Instant) -> Result<u64>,
) -> Result<()> {
    let end = Instant::now() + time;
    let (attempts, calls) = thread::scope(|scope| {
        let threads: Vec<_> = (callers.iter().zip(1..))
            .map(|(caller, seed)| {
                scope.spawn(move || {
                    let mut failed = Vec::new();
                    (caller.calls(end, seed, &mut failed), failed)
                })
            })
            .collect();
        let attempts = attack(end);
        let calls: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("a client does not panic")).collect();
        (attempts, calls)
    });
    report.attempts += attempts?;
    for (answered, failed) in calls {
        report.calls += answered;
        failed.into_iter().for_each(|why| report.effect(format!("a call failed: {why}")));
    }
    Ok(())
}

/// What the server is after all has become quiet, compared with what it may be: `sessions` of clients that live, nothing else.
pub(super) fn compare(server: &mut Server, before: &Status, sessions: usize, report: &mut Report) -> Result<Status> {
    // Half-open handshakes end by themselves.
    let end = Instant::now() + 3 * HANDSHAKE;
    let mut after = server.status()?;
    while Instant::now() < end && (after.sessions_half > 0 || after.rpcs > 0 || after.sessions_open > sessions) {
        thread::sleep(Duration::from_millis(50));
        after = server.status()?;
    }
    for (what, count) in
        [("ran twice", after.twice), ("of an earlier life ran", after.old), ("ran altered", after.altered)]
    {
        report.expect(count == 0, || format!("{count} requests {what}"));
    }
    report.expect(after.sessions_open == sessions, || {
        format!("{} sessions are open at the server; there should be {sessions}", after.sessions_open)
    });
    let left = after.sessions_half + after.rpcs + after.held_bytes as usize;
    report.expect(left == 0, || {
        format!("{} half-open handshakes, {} RPCs, {} bytes stay", after.sessions_half, after.rpcs, after.held_bytes)
    });
    note(before, &after, report);
    Ok(after)
}

/// What the server counted between two looks.
pub(super) fn note(before: &Status, after: &Status, report: &mut Report) {
    for (name, count) in &after.counters {
        let moved = count.saturating_sub(before.counters.get(name).copied().unwrap_or(0));
        if moved > 0 && (name.starts_with("dropped_") || name.starts_with("resets_") || name.starts_with("handshakes_"))
        {
            *report.counters.entry(name.clone()).or_default() += moved;
        }
    }
}

/// No client has another session than before the attack, and all have one.
pub(super) fn same_sessions(before: &[Vec<String>], callers: &[Caller<'_>], report: &mut Report) {
    for (before, after) in before.iter().zip(sessions(callers)) {
        report.expect(*before == after, || format!("a client's sessions were {before:?} and are {after:?}"));
    }
}

/// What each client calls its sessions.
pub(super) fn sessions(callers: &[Caller<'_>]) -> Vec<Vec<String>> {
    let of = |caller: &Caller<'_>| {
        caller.socket.info().sessions.iter().filter(|s| s.open).map(|s| format!("{:?}", s.id)).collect()
    };
    callers.iter().map(of).collect()
}

/// So many clients, each in a session of its own in which it has called.
pub(super) fn warm(scene: &Scene, at: SocketAddr, count: usize) -> Result<Vec<Caller<'_>>> {
    let callers: Vec<Caller<'_>> = (0..count).map(|_| scene.client(at)).collect::<Result<_>>()?;
    for caller in &callers {
        for len in [9, 100, 5_000, 30_000] {
            caller.call(len)?;
        }
    }
    ensure!(sessions(&callers).iter().all(|of| of.len() == 1), "each client has a session");
    Ok(callers)
}
