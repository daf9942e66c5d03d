//! How rates grow with cores: a socket with several shards, a thread each, beside one with one, and one client in one session.
//!
//! The CPU time of client and server is counted apart. Where requests cost something the client has one thread, whatever the server
//! has, so that it takes little from the CPUs that the server works on; where they cost nothing it has as many shards as the server. With
//! fewer than two cores for each shard the two get into each other's way, and the report says so. Refuses: other transports, which scale
//! by more connections.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::time::{ClockId, clock_gettime};
use sealane::{Delivery, Role, Socket, Wait};
use serde::{Deserialize, Serialize};

use crate::cpu;
use crate::report::{median, rounded};

/// Requests without a reply for each of the server's shards.
const OUTSTANDING: u64 = 16;
/// The same where they cost something: so many that the server is never without one while the client sleeps.
const OUTSTANDING_DEAR: u64 = 32;
/// How long a client sleeps between two looks where requests cost something: woken for each reply it would take a third of a CPU.
const NAP: Duration = Duration::from_millis(1);

/// Replies that are taken at once, at most.
const TAKEN_MAX: usize = 64;
/// Bytes of each request and reply.
const SIZE: usize = 64;

/// What a number of shards did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CoresRow {
    /// Shards of the server, a thread each.
    pub shards: usize,
    /// The same of the client.
    #[serde(default)]
    pub client_shards: usize,
    /// CPU time that each request costs its handler.
    pub handler_us: u64,
    /// Requests answered per second, all shards; the median over rounds.
    pub rps: f64,
    /// CPU time of the clients' threads per request.
    pub client_cpu_us: f64,
    /// The same of the servers', without the handler's.
    pub server_cpu_us: f64,
    /// `rps` against one shard.
    pub ratio_to_one: f64,
}

/// All that a run gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CoresReport {
    /// The figures.
    pub rows: Vec<CoresRow>,
    /// CPUs that the process may use.
    pub cpus: usize,
    /// What must be known to read them.
    pub notes: Vec<String>,
}

/// One round of one cell: replies, seconds, CPU microseconds of clients and of servers.
#[derive(Clone, Copy, Debug)]
struct Round {
    replies: u64,
    seconds: f64,
    client_us: f64,
    server_us: f64,
}

/// Measures these numbers of shards in turns, with a handler that costs nothing and with one that costs 100 us.
///
/// # Errors
/// When a call fails or a reply is not what was asked.
pub fn measure(shards: &[usize], rounds: u32, span: Duration, progress: &mut dyn FnMut(String)) -> Result<CoresReport> {
    ensure!(shards.iter().all(|count| (1..=64).contains(count)), "shards must be within 1 and 64");
    ensure!(shards.contains(&1) && rounds > 0, "one shard is what the others are compared with");
    let mut rows: Vec<CoresRow> = Vec::new();
    for handler_us in [0, 100] {
        let mut found = vec![Vec::new(); shards.len()];
        for _ in 0..rounds {
            for (at, &count) in shards.iter().enumerate() {
                progress(format!("{count} shards, {handler_us} us each request"));
                found[at].push(round(count, handler_us, span)?);
            }
        }
        let first = rows.len();
        for (&shards, rounds) in shards.iter().zip(found) {
            let middle = |of: fn(&Round) -> f64| rounded(median(rounds.iter().map(of).collect()));
            rows.push(CoresRow {
                shards,
                client_shards: client_shards(shards, handler_us),
                handler_us,
                rps: middle(|round| round.replies as f64 / round.seconds),
                client_cpu_us: middle(|round| round.client_us / round.replies as f64),
                server_cpu_us: rounded(middle(|round| round.server_us / round.replies as f64) - handler_us as f64),
                ratio_to_one: 0.0,
            });
        }
        let one = rows[first..].iter().find(|row| row.shards == 1).map_or(1.0, |row| row.rps);
        rows[first..].iter_mut().for_each(|row| row.ratio_to_one = rounded(row.rps / one));
    }
    let cpus = cpu::allowed().len();
    let notes = vec![
        "one server and one client in one session; a thread for each shard, whose CPU time is counted without helper threads"
            .to_owned(),
        format!("{cpus} CPUs for the threads of both sides; two for each shard are needed for them not to compete"),
    ];
    Ok(CoresReport { rows, cpus, notes })
}

/// Where requests cost nothing, the client's own work is to be seen as well; else it is to be small.
const fn client_shards(shards: usize, handler_us: u64) -> usize {
    if handler_us == 0 { shards } else { 1 }
}

fn round(shards: usize, handler_us: u64, span: Duration) -> Result<Round> {
    // Clients first: a server that is gone ends their calls.
    let [stop_clients, stop_servers] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let bind = |shards: usize| Socket::builder().installed_only().wait(Wait::Block).shards(shards as u16);
    let callers = client_shards(shards, handler_us);
    let server = Arc::new(bind(shards).serve_installed().bind("127.0.0.1:0")?);
    let client = Arc::new(bind(callers).bind("127.0.0.1:0")?);
    server.install_session(client.local_addr(), Role::Server, [1; 32], "client");
    let peer = client.install_session(server.local_addr(), Role::Client, [1; 32], "server");
    let peer = peer.context("a client's end has a peer")?;
    client.connect(&peer)?;
    let servers: Vec<_> = (0..shards)
        .map(|number| {
            let (server, stop) = (server.clone(), stop_servers.clone());
            thread::spawn(move || serve(&server, number, handler_us, &stop))
        })
        .collect();
    let start = Instant::now();
    let clients: Vec<_> = (0..callers)
        .map(|number| {
            let (client, stop) = (client.clone(), stop_clients.clone());
            let nap = (handler_us > 0).then_some(NAP);
            let each = if nap.is_some() { OUTSTANDING_DEAR } else { OUTSTANDING };
            let outstanding = each * shards as u64 / callers as u64;
            thread::spawn(move || call(&client, number, &peer, outstanding, nap, &stop))
        })
        .collect();
    thread::sleep(span);
    stop_clients.store(true, Ordering::SeqCst);
    let seconds = start.elapsed().as_secs_f64();
    let mut round = Round { replies: 0, seconds, client_us: 0.0, server_us: 0.0 };
    for client in clients {
        let Ok(done) = client.join() else { bail!("a client panicked") };
        let (replies, used) = done?;
        round.replies += replies;
        round.client_us += used;
    }
    stop_servers.store(true, Ordering::SeqCst);
    for server in servers {
        let Ok(used) = server.join() else { bail!("a server panicked") };
        round.server_us += used?;
    }
    ensure!(round.replies > 0, "no reply came");
    let detours = server.info().counters.datagrams_handed_over + client.info().counters.datagrams_handed_over;
    ensure!(detours == 0, "the kernel does not steer: {detours} datagrams took a detour");
    Ok(round)
}

/// CPU time of this thread, in microseconds.
fn used() -> f64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as f64 * 1e6 + t.tv_nsec as f64 / 1e3
}

fn serve(socket: &Socket, number: usize, handler_us: u64, stop: &AtomicBool) -> Result<f64> {
    let socket = socket.shard(number).context("there is a shard for each thread")?;
    while !stop.load(Ordering::Relaxed) {
        if let Some(Delivery::Request(request)) = socket.recv_timeout(Duration::from_millis(20))? {
            let until = used() + handler_us as f64;
            while handler_us > 0 && used() < until {
                std::hint::spin_loop();
            }
            // A client that has ended wants no answer.
            let _ = socket.reply(request.token, request.payload);
        }
    }
    Ok(used())
}

fn call(
    socket: &Socket,
    number: usize,
    peer: &sealane::Peer,
    outstanding: u64,
    nap: Option<Duration>,
    stop: &AtomicBool,
) -> Result<(u64, f64)> {
    let socket = socket.shard(number).context("there is a shard for each thread")?;
    let body = |number: u64| [number as u8; SIZE];
    let mut next = 0;
    while next < outstanding {
        socket.send(peer, &body(next), next)?;
        next += 1;
    }
    let (mut replies, mut came) = (0, VecDeque::new());
    while !stop.load(Ordering::Relaxed) {
        let count = match nap {
            None => socket.recv_many(&mut came, TAKEN_MAX, Duration::from_millis(20))?,
            Some(_) => socket.try_recv_many(&mut came, TAKEN_MAX)?,
        };
        if let (0, Some(nap)) = (count, nap) {
            thread::sleep(nap);
        }
        // What follows the replies that came together leaves together.
        let _batch = (count > 1).then(|| socket.batch());
        for delivery in came.drain(..) {
            let Delivery::Response(response) = delivery else { bail!("the server sent {delivery:?}") };
            ensure!(response.payload[..] == body(response.cookie), "reply {} is corrupt", response.cookie);
            replies += 1;
            socket.send(peer, &body(next), next)?;
            next += 1;
        }
    }
    Ok((replies, used()))
}

impl CoresReport {
    /// The figures for people to read.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:>7}{:>9}{:>12}{:>11}{:>15}{:>15}{:>10}\n",
            "shards", "client", "handler us", "rps", "client cpu us", "server cpu us", "to one"
        );
        for row in &self.rows {
            text += &format!(
                "{:>7}{:>9}{:>12}{:>11.0}{:>15.2}{:>15.2}{:>10.2}\n",
                row.shards,
                row.client_shards,
                row.handler_us,
                row.rps,
                row.client_cpu_us,
                row.server_cpu_us,
                row.ratio_to_one
            );
        }
        text + "\n" + &self.notes.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_shards_answers() {
        let report = measure(&[1, 2], 1, Duration::from_millis(60), &mut |_| ()).unwrap();
        assert_eq!(report.rows.len(), 4);
        assert!(report.rows.iter().all(|row| row.rps > 0.0 && row.client_cpu_us > 0.0), "{report:?}");
        assert!(measure(&[2], 1, Duration::from_millis(10), &mut |_| ()).is_err());
    }
}
