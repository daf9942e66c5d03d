//! How rates grow with cores: several sockets, a thread each, beside one.
//!
//! A socket has no shards yet, so what stands for one here is a socket of a server with a thread of its own, and a socket of a client
//! with another; the clients' work and the servers' are counted apart. With fewer than two cores for each shard the two get into each
//! other's way, and the report says so. Refuses: other transports, which scale by more connections in the same way.

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

/// Requests of each client without a reply.
const OUTSTANDING: usize = 16;

/// Bytes of each request and reply.
const SIZE: usize = 64;

/// What a number of shards did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CoresRow {
    /// Sockets of the server, and of clients, a thread each.
    pub shards: usize,
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
        "a socket has no shards yet: each shard here is a socket of the server and one of a client, a thread each"
            .to_owned(),
        format!("{cpus} CPUs for the threads of both sides; two for each shard are needed for them not to compete"),
    ];
    Ok(CoresReport { rows, cpus, notes })
}

fn round(shards: usize, handler_us: u64, span: Duration) -> Result<Round> {
    // Clients first: a server that is gone ends their calls.
    let [stop_clients, stop_servers] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let mut servers = Vec::new();
    let mut clients = Vec::new();
    let start = Instant::now();
    for number in 0..shards {
        let bind = || Socket::builder().installed_only().wait(Wait::Block);
        let server = bind().serve_installed().bind("127.0.0.1:0")?;
        let client = bind().bind("127.0.0.1:0")?;
        let secret = [number as u8 + 1; 32];
        server.install_session(client.local_addr(), Role::Server, secret, "client");
        let peer = client.install_session(server.local_addr(), Role::Client, secret, "server");
        let peer = peer.context("a client's end has a peer")?;
        let (serving, calling) = (stop_servers.clone(), stop_clients.clone());
        servers.push(thread::spawn(move || serve(&server, handler_us, &serving)));
        clients.push(thread::spawn(move || call(&client, &peer, &calling)));
    }
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
    Ok(round)
}

/// CPU time of this thread, in microseconds.
fn used() -> f64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as f64 * 1e6 + t.tv_nsec as f64 / 1e3
}

fn serve(socket: &Socket, handler_us: u64, stop: &AtomicBool) -> Result<f64> {
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

fn call(socket: &Socket, peer: &sealane::Peer, stop: &AtomicBool) -> Result<(u64, f64)> {
    let body = |number: u64| [number as u8; SIZE];
    let mut next = 0;
    while next < OUTSTANDING as u64 {
        socket.send(peer, &body(next), next)?;
        next += 1;
    }
    let mut replies = 0;
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_timeout(Duration::from_millis(20))? {
            Some(Delivery::Response(response)) => {
                ensure!(response.payload[..] == body(response.cookie), "reply {} is corrupt", response.cookie);
                replies += 1;
                socket.send(peer, &body(next), next)?;
                next += 1;
            }
            Some(other) => bail!("the server sent {other:?}"),
            None => {}
        }
    }
    Ok((replies, used()))
}

impl CoresReport {
    /// The figures for people to read.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:>7}{:>12}{:>11}{:>15}{:>15}{:>10}\n",
            "shards", "handler us", "rps", "client cpu us", "server cpu us", "to one"
        );
        for row in &self.rows {
            text += &format!(
                "{:>7}{:>12}{:>11.0}{:>15.2}{:>15.2}{:>10.2}\n",
                row.shards, row.handler_us, row.rps, row.client_cpu_us, row.server_cpu_us, row.ratio_to_one
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
