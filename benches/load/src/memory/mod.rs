//! What sessions, sockets and messages under way cost in memory.
//!
//! Owns the measurement: which sessions are made and when memory is looked at. The client's side is this process, the server's a child,
//! so each has counts and a resident set of its own. Refuses: judging; the goals stand beside the figures in `report`.
//!
//! As many sessions come from installed secrets, by a short handshake each, as by TLS; those of TLS hold certificates and tickets beside.

mod report;
mod server;
mod session;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sealane::{Delivery, Peer, Socket};
use serde::{Deserialize, Serialize};

use crate::certs::{Credentials, SERVER_NAME};
use report::Rows;
pub use report::{MemoryReport, MemoryRow, Site};
use server::Child;
use session::{Kind, client_socket, secret};

/// Sockets that the client's sessions are spread over: a server slows down a host that begins more handshakes than a host does.
const CLIENTS: usize = 20;

/// Handshakes that are under way at each socket, at most. When half of them have ended others follow: so neither side waits for the other.
const AT_ONCE: usize = 100;

/// After so long nothing is left to be acknowledged, and what was needed only for handshakes is gone.
const SETTLED: Duration = Duration::from_millis(1500);

/// After so long what was under way has come to rest.
const ARRIVED: Duration = Duration::from_millis(400);

/// So long a reply may take, and a peer may be silent, while others make their handshakes.
const PATIENCE: Duration = Duration::from_secs(20);

/// So long full handshakes go on: more sessions than there is time for are not made, and how many were is told.
const HANDSHAKES_MAX: Duration = Duration::from_secs(60);

/// Sessions after which it is told how many there are.
const TOLD_EVERY: usize = 10_000;

/// Sessions that are made while everybody who asks for memory is remembered, which is slow.
const RECORDED_SESSIONS: usize = 300;

/// Messages that are held unanswered: how many bytes, and how many of them.
const HELD: [(usize, usize); 5] = [(64, 1000), (1024, 1000), (16_000, 200), (65_536, 100), (1 << 20, 16)];

/// The crates whose functions name where memory was asked for.
const OURS: [&str; 9] = ["endpoint", "handshake", "proto", "record", "wire", "offload", "udp", "attest", "sealane"];

/// Functions of ours that name a place, innermost first.
const SITE_DEPTH: usize = 3;

/// What one process holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Use {
    bytes: i64,
    blocks: i64,
    resident: i64,
}

impl Use {
    fn now() -> Self {
        let held = heap::held();
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<i64>().ok()).unwrap_or(0);
        Self { bytes: held.bytes, blocks: held.blocks, resident: pages * rustix::param::page_size() as i64 }
    }

    fn since(self, before: Self) -> Self {
        Self {
            bytes: self.bytes - before.bytes,
            blocks: self.blocks - before.blocks,
            resident: self.resident - before.resident,
        }
    }
}

/// Both sides at one time.
#[derive(Clone, Copy, Debug)]
struct Both {
    client: Use,
    server: Use,
}

/// Measures all of it with so many installed sessions.
///
/// # Errors
/// When the running binary has not [`heap::Counting`] as its allocator, or a call fails.
pub fn measure(sessions: usize, progress: &mut dyn FnMut(&str)) -> Result<MemoryReport> {
    ensure!((1..=1_000_000).contains(&sessions), "{sessions} sessions are not within 1 and 1000000");
    ensure!(heap::count(), "this program does not count what it allocates");
    let credentials = Credentials::generate()?;
    let mut rows = Rows::default();
    for kind in [Kind::Tls, Kind::Installed] {
        progress(&format!("{sessions} sessions, {}", kind.name()));
        let mut world = World::new(kind, &credentials, sessions)?;
        rows.add_endpoints(kind, &world.bare, &world.bound, world.clients.len());
        let made = world.open(sessions, progress)?;
        let opened = world.look()?;
        rows.add_sessions(kind, made, &world.bound, &opened);
        if kind == Kind::Installed {
            progress("messages under way");
            for (size, count) in HELD {
                let (before, held, after) = world.hold(size, count)?;
                rows.add_messages(size, count, &before, &held, &after);
            }
        }
    }
    let few = sessions.min(RECORDED_SESSIONS);
    for kind in [Kind::Tls, Kind::Installed] {
        progress(&format!("who asked for it, {}", kind.name()));
        let mut world = World::new(kind, &credentials, few)?;
        world.server.record()?;
        heap::record();
        world.open(few, &mut |_| ())?;
        std::thread::sleep(SETTLED);
        rows.add_sites(kind, "server", few, world.server.recorded()?);
        rows.add_sites(kind, "client", few, recorded());
    }
    Ok(rows.report(sessions))
}

/// Runs the server of this measurement if the arguments (without the program's name) ask for one; who measures memory calls this before
/// it reads its own command line.
pub fn main_from_args(args: impl IntoIterator<Item = String>) -> Option<Result<()>> {
    (args.into_iter().next()? == server::SUBCOMMAND).then(server::serve)
}

fn recorded() -> Vec<(String, i64, i64)> {
    let sites = heap::recorded(&OURS, SITE_DEPTH).into_iter();
    sites.map(|(name, held)| (name, held.bytes, held.blocks)).collect()
}

/// A server in a child process, and its clients' sockets in this one.
struct World {
    kind: Kind,
    // Dropped before the server, which their goodbyes go to.
    clients: Vec<Socket>,
    peers: Vec<Vec<Peer>>,
    server: Child,
    /// Before the sockets were there, and after.
    bare: Both,
    bound: Both,
}

impl World {
    /// Sockets for so many sessions. The list of peers is the application's: there is room for it before anything is counted.
    fn new(kind: Kind, credentials: &Credentials, sessions: usize) -> Result<Self> {
        let mut server = Child::start(credentials)?;
        let count = match kind {
            Kind::Installed => CLIENTS,
            Kind::Tls => 1,
        };
        let peers = (0..count).map(|_| Vec::with_capacity(sessions.div_ceil(count))).collect();
        let bare = Both { client: Use::now(), server: server.look()? };
        server.bind(kind)?;
        let clients = (0..count).map(|at| client_socket(kind, credentials, at)).collect::<Result<Vec<_>>>()?;
        let mut world = Self { kind, clients, peers, server, bare, bound: bare };
        world.bound = world.look()?;
        Ok(world)
    }

    fn look(&mut self) -> Result<Both> {
        self.look_after(SETTLED)
    }

    fn look_after(&mut self, span: Duration) -> Result<Both> {
        std::thread::sleep(span);
        Ok(Both { client: Use::now(), server: self.server.look()? })
    }

    /// Opens so many sessions, each by one request and its reply, or as many as there is time for. How many.
    fn open(&mut self, count: usize, progress: &mut dyn FnMut(&str)) -> Result<usize> {
        let sockets = self.clients.len();
        if self.kind == Kind::Installed {
            for (at, socket) in self.clients.iter().enumerate() {
                self.server.install(socket.local_addr(), at, sockets, count)?;
            }
        }
        let (began, mut told) = (Instant::now(), 0);
        let mut waiting = vec![0; sockets];
        loop {
            let ends = self.kind == Kind::Tls && began.elapsed() > HANDSHAKES_MAX;
            for (at, socket) in self.clients.iter().enumerate() {
                let numbers = (0..count).skip(at).step_by(sockets).skip(self.peers[at].len());
                for number in numbers.take(if ends { 0 } else { AT_ONCE - waiting[at] }) {
                    let peer = self.kind.peer(socket, self.server.port, number)?;
                    socket.send(&peer, b"hello", 0)?;
                    self.peers[at].push(peer);
                    waiting[at] += 1;
                }
            }
            let made: usize = self.peers.iter().map(Vec::len).sum();
            if waiting.iter().all(|waiting| *waiting == 0) {
                return Ok(made);
            }
            if made >= told + TOLD_EVERY {
                told = made;
                progress(&format!("{made} of {count} sessions, {}", self.kind.name()));
            }
            for (socket, waiting) in self.clients.iter().zip(&mut waiting) {
                // The last of them wait for nobody.
                let ended = if *waiting < AT_ONCE { *waiting } else { AT_ONCE / 2 };
                replies(socket, ended, 5)?;
                *waiting -= ended;
            }
        }
    }

    /// So many requests of `size` bytes that the server holds: before, meanwhile, and after it answered.
    fn hold(&mut self, size: usize, count: usize) -> Result<(Both, Both, Both)> {
        let body = vec![7; size];
        self.server.hold(count)?;
        let before = self.look_after(ARRIVED)?;
        for _ in 0..count {
            self.clients[0].send(&self.peers[0][0], &body, 0)?;
        }
        self.server.await_held()?;
        let held = self.look_after(ARRIVED)?;
        self.server.release()?;
        replies(&self.clients[0], count, size)?;
        let after = self.look_after(ARRIVED)?;
        Ok((before, held, after))
    }
}

/// Takes so many replies of `size` bytes.
fn replies(socket: &Socket, count: usize, size: usize) -> Result<()> {
    for _ in 0..count {
        match socket.recv_timeout(PATIENCE)?.context("a reply did not come")? {
            Delivery::Response(response) => ensure!(response.payload.len() == size, "a reply of another length"),
            other => anyhow::bail!("the server sent {other:?}"),
        }
    }
    Ok(())
}

impl Kind {
    fn peer(self, socket: &Socket, port: u16, number: usize) -> Result<Peer> {
        // One server, bound to all addresses; a session of TLS with each of them.
        let (network, host) = (1 + number / 62_500, number % 62_500);
        let at = SocketAddr::from(([127, network as u8, (host / 250) as u8, (host % 250 + 1) as u8], port));
        match self {
            Self::Tls => Ok(socket.peer(at, SERVER_NAME)?),
            Self::Installed => {
                let at = SocketAddr::from(([127, 0, 0, 1], port));
                let role = sealane::Role::Client;
                socket.install_session(at, role, secret(number), "server").context("a client's end has a peer")
            }
        }
    }
}
