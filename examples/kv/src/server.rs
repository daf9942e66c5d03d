//! Owns the event loop: one thread, one engine, three doors. A turn takes what is ready at all of them, runs it, logs it, and only then lets
//! the replies leave, each connection's in one write. It sleeps in the kernel while there is nothing to do.
//!
//! epoll is watched level-triggered: a socket of Sealane may have more than one look takes, and a connection whose turn was cut short must
//! be told of again. See decision 0029.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rustc_hash::FxHashMap;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::time::Timespec;
use rustls::ServerConfig;
use sealane::Socket;

use crate::engine::{Client, Engine, Limits};
use crate::floor::Floor;
use crate::log::{Fsync, Loaded};
use crate::pubsub::Notice;
use crate::resp::Out;
use crate::sessions::{self, Sessions};
use crate::stream::{Connection, Lent, Next};
use crate::tls::{Credentials, Tls};

const STOP: u64 = 0;
const TCP: u64 = 1;
const TLS: u64 = 2;
const SEALANE: u64 = 3;
const FLOOR: u64 = 4;
/// The first connection's.
const FIRST: u64 = 16;
/// Connections that are taken in one turn: each may be a handshake.
const ACCEPTED_PER_TURN: usize = 64;
/// Events of one turn.
const EVENTS: usize = 1024;
/// Connections that are let in.
const CONNECTIONS_MAX: usize = 30_000;
/// Connections that wait to be let in.
const BACKLOG: i32 = 1024;

/// What a server is to be.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where TCP is listened for, in clear text.
    pub tcp: Option<SocketAddr>,
    /// Where TLS over TCP is.
    pub tls: Option<SocketAddr>,
    /// Where Sealane is.
    pub sealane: Option<SocketAddr>,
    /// For TLS and Sealane.
    pub credentials: Option<Credentials>,
    /// The append-only file.
    pub log: Option<(PathBuf, Fsync)>,
    /// What may be used.
    pub limits: Limits,
}

/// A server that is bound and has loaded its log.
#[derive(Debug)]
pub struct Server {
    engine: Engine,
    epoll: OwnedFd,
    tcp: Option<TcpListener>,
    tls: Option<(TcpListener, Arc<ServerConfig>)>,
    sessions: Option<Sessions>,
    floor: Option<Floor>,
    socket: Option<Arc<Socket>>,
    connections: Vec<Option<Box<Connection>>>,
    free: Vec<usize>,
    by_id: FxHashMap<u64, usize>,
    next_id: u64,
    lent: Lent,
    stop: Stopper,
    /// A descriptor to give up when there are no others: so that who comes then can be told.
    spare: Option<File>,
    /// Connections that took part in this turn.
    active: Vec<usize>,
    again: Vec<usize>,
    sealane_again: bool,
    loaded: Option<Loaded>,
}

/// Ends a server from another thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    stopped: Arc<AtomicBool>,
    wake: Arc<OwnedFd>,
}

impl Stopper {
    /// The server's `run` returns soon.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE]
        .iter()
        .any(|no| error.raw_os_error() == Some(no.raw_os_error()))
}

/// Says that there is no room, as far as the connection takes it.
fn turn_away(stream: &TcpStream) {
    let _ = io::Write::write(&mut &*stream, b"-ERR max number of clients reached\r\n");
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    // Where the host's default is bbr its pacing slows every message on loopback: as the other comparisons do.
    let _ = socket.set_tcp_congestion(b"cubic");
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into()).with_context(|| format!("cannot listen at {address}"))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl Server {
    /// Binds all doors, and loads the log.
    ///
    /// # Errors
    /// When an address is taken, credentials are missing, or the log cannot be loaded.
    pub fn bind(config: &Config) -> Result<Self> {
        let mut engine = Engine::new(config.limits, now_ms());
        let loaded = match &config.log {
            Some((path, fsync)) => Some(engine.open_log(path, *fsync)?),
            None => None,
        };
        let credentials = || config.credentials.as_ref().context("TLS and Sealane need certificates");
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        epoll::add(&epoll, &wake, EventData::new_u64(STOP), EventFlags::IN)?;
        let tcp = config.tcp.map(listen).transpose()?;
        let tls = match config.tls {
            Some(address) => Some((listen(address)?, credentials()?.server_config()?)),
            None => None,
        };
        let socket = match config.sealane {
            Some(address) => Some(Arc::new(sessions::bind(address, credentials()?)?)),
            None => None,
        };
        let sessions = socket.clone().map(Sessions::new).transpose()?;
        if let Some(tcp) = &tcp {
            epoll::add(&epoll, tcp, EventData::new_u64(TCP), EventFlags::IN)?;
        }
        if let Some((tls, _)) = &tls {
            epoll::add(&epoll, tls, EventData::new_u64(TLS), EventFlags::IN)?;
        }
        if let Some(sessions) = &sessions {
            epoll::add(&epoll, sessions.readiness().as_fd(), EventData::new_u64(SEALANE), EventFlags::IN)?;
        }
        Ok(Self {
            engine,
            epoll,
            tcp,
            tls,
            sessions,
            floor: None,
            socket,
            connections: Vec::new(),
            free: Vec::new(),
            by_id: FxHashMap::default(),
            next_id: 1,
            lent: Lent::default(),
            stop: Stopper { stopped: Arc::default(), wake },
            spare: spare(),
            active: Vec::new(),
            again: Vec::new(),
            sealane_again: false,
            loaded,
        })
    }

    /// Opens the door that only benchmarks have; where it is.
    pub(crate) fn open_floor(&mut self) -> Result<SocketAddr> {
        let floor = self.floor.insert(Floor::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?);
        epoll::add(&self.epoll, &floor.socket, EventData::new_u64(FLOOR), EventFlags::IN)?;
        Ok(floor.socket.local_addr()?)
    }

    /// Where TCP, TLS and Sealane are listened for.
    pub fn addresses(&self) -> [Option<SocketAddr>; 3] {
        let tcp = self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok());
        let tls = self.tls.as_ref().and_then(|(tls, _)| tls.local_addr().ok());
        [tcp, tls, self.socket.as_ref().map(|socket| socket.local_addr())]
    }

    /// What loading the log found.
    pub fn loaded(&self) -> Option<Loaded> {
        self.loaded
    }

    /// Ends it from another thread.
    pub fn stopper(&self) -> Stopper {
        self.stop.clone()
    }

    /// The socket of Sealane, for who installs sessions in it.
    pub fn socket(&self) -> Option<Arc<Socket>> {
        self.socket.clone()
    }

    /// Serves until it is stopped.
    ///
    /// # Errors
    /// When the loop itself cannot go on.
    pub fn run(mut self) -> Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        let mut tick_ms = 0;
        while !self.stop.stopped.load(Ordering::SeqCst) {
            let busy = self.sealane_again || !self.again.is_empty();
            let wait = if busy { 0 } else { tick_ms };
            let timeout = Timespec { tv_sec: (wait / 1000) as i64, tv_nsec: (wait % 1000 * 1_000_000) as i64 };
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait for events"),
            }
            self.engine.begin(now_ms());
            self.turn(&events)?;
            tick_ms = self.engine.tick();
            self.engine.commit();
        }
        Ok(())
    }

    fn turn(&mut self, events: &[Event]) -> Result<()> {
        let (mut sealane, mut floor) = (std::mem::take(&mut self.sealane_again), false);
        for at in std::mem::take(&mut self.again) {
            self.read(at);
        }
        for event in events {
            match event.data.u64() {
                STOP => {}
                TCP => self.accept(false),
                TLS => self.accept(true),
                SEALANE => sealane = true,
                FLOOR => floor = true,
                token => self.read((token - FIRST) as usize),
            }
        }
        if let Some(sessions) = self.sessions.as_mut().filter(|_| sealane) {
            self.sealane_again = sessions.read(&mut self.engine, &mut self.lent, &mut self.next_id)?;
        }
        if let Some(door) = self.floor.as_mut().filter(|_| floor) {
            door.read(&mut self.engine, &mut self.lent)?;
        }
        let durable = self.engine.commit();
        self.take_notices();
        let mut active = std::mem::take(&mut self.active);
        for at in active.drain(..) {
            self.write(at, durable);
        }
        self.active = active;
        if let Some(floor) = &mut self.floor {
            floor.write(&mut self.lent);
        }
        if let Some(sessions) = &mut self.sessions {
            sessions.write(&mut self.lent, durable);
            self.sealane_again |= sessions.has_waited();
            sessions.tick(self.engine.store.now_ms);
        }
        Ok(())
    }

    fn read(&mut self, at: usize) {
        let Some(Some(connection)) = self.connections.get_mut(at) else { return };
        match connection.read(&mut self.engine, &mut self.lent) {
            Ok(()) => self.active.push(at),
            Err(_) => self.close(at),
        }
    }

    fn write(&mut self, at: usize, durable: bool) {
        let Some(Some(connection)) = self.connections.get_mut(at) else { return };
        // What is not durable must not be told: its clients see that the connection ended, and cannot know.
        if !durable && !connection.replies.is_empty() {
            return self.close(at);
        }
        match connection.write(&mut self.lent) {
            Ok(Next::Close) | Err(_) => self.close(at),
            Ok(next) => {
                if next == Next::Again {
                    self.again.push(at);
                }
                self.watch(at);
            }
        }
    }

    /// A connection with bytes that have not left is watched for room, and not read.
    fn watch(&mut self, at: usize) {
        let Some(Some(connection)) = self.connections.get_mut(at) else { return };
        let wants = connection.has_unsent();
        if wants != connection.watched_for_room {
            connection.watched_for_room = wants;
            let flags = if wants { EventFlags::OUT } else { EventFlags::IN };
            let data = EventData::new_u64(FIRST + at as u64);
            let _ = epoll::modify(&self.epoll, connection.stream(), data, flags);
        }
    }

    fn close(&mut self, at: usize) {
        let Some(mut connection) = self.connections.get_mut(at).and_then(Option::take) else { return };
        let _ = epoll::delete(&self.epoll, connection.stream());
        self.engine.leave(&mut connection.client);
        self.by_id.remove(&connection.client.id);
        self.engine.counts.connected -= 1;
        self.free.push(at);
    }

    fn accept(&mut self, secure: bool) {
        for _ in 0..ACCEPTED_PER_TURN {
            let listener = if secure { self.tls.as_ref().map(|(tls, _)| tls) } else { self.tcp.as_ref() };
            let Some(listener) = listener else { return };
            let stream = match listener.accept() {
                // Whoever waits at the door would ring for ever. It is said of an empty door, too.
                Err(error) if is_out_of_descriptors(&error) => {
                    self.spare = None;
                    let waited = listener.accept().map(|(stream, _)| turn_away(&stream));
                    self.spare = spare();
                    if waited.is_err() {
                        return;
                    }
                    continue;
                }
                Err(_) => return,
                Ok((stream, _)) => stream,
            };
            if self.engine.counts.connected as usize >= CONNECTIONS_MAX {
                turn_away(&stream);
                continue;
            }
            if let Err(error) = self.welcome(stream, secure) {
                eprintln!("sealane kv: a client could not be let in: {error:#}");
            }
        }
    }

    fn welcome(&mut self, stream: TcpStream, secure: bool) -> Result<()> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let tls = match &self.tls {
            Some((_, config)) if secure => Some(Tls::server(config)?),
            _ => None,
        };
        let at = self.free.last().copied().unwrap_or(self.connections.len());
        epoll::add(&self.epoll, &stream, EventData::new_u64(FIRST + at as u64), EventFlags::IN)?;
        self.free.pop();
        let client = Client::new(self.next_id, if secure { "tls" } else { "tcp" });
        let connection = Some(Box::new(Connection::new(stream, tls, client)));
        match self.connections.get_mut(at) {
            Some(free) => *free = connection,
            None => self.connections.push(connection),
        }
        self.by_id.insert(self.next_id, at);
        self.next_id += 1;
        self.engine.counts.clients += 1;
        self.engine.counts.connected += 1;
        Ok(())
    }

    /// What was published in this turn goes to those who listen.
    fn take_notices(&mut self) {
        if self.engine.channels.notices.is_empty() {
            return;
        }
        let notices = std::mem::take(&mut self.engine.channels.notices);
        let mut of: FxHashMap<u64, Vec<&Notice>> = FxHashMap::default();
        for notice in &notices {
            of.entry(notice.to).or_default().push(notice);
        }
        for (id, theirs) in &of {
            let Some(at) = self.by_id.get(id).copied() else { continue };
            let Some(Some(connection)) = self.connections.get_mut(at) else { continue };
            let mut out = Out { bytes: std::mem::take(&mut connection.replies), is_v3: connection.client.is_v3 };
            theirs.iter().for_each(|notice| notice.write(&mut out));
            connection.replies = out.bytes;
            // Twice does no harm: the second time there is nothing to write.
            self.active.push(at);
        }
        if let Some(sessions) = &mut self.sessions {
            sessions.notify(&mut self.engine, &of);
        }
    }
}
