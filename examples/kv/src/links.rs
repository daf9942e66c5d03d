//! Owns a client's connections, over each of the three: messages of commands go out, and it is told when all replies of one are there. The
//! same for all: what is ready for one connection leaves in one call, and a client that has nothing to do sleeps in the kernel.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::time::Timespec;
use sealane::{Delivery, Identity, Peer, Readiness, Role, Socket, Trust, Wait};

use crate::resp::reply_bytes;
use crate::stream::READ_BYTES;
use crate::tls::{Credentials, Tls};

/// The name that a server's certificate must have.
pub(crate) const SERVER_NAME: &str = "localhost";
/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Sockets that installed sessions are spread over: a server slows down a host that begins more handshakes than a host does.
pub(crate) const SOCKETS: usize = 8;
/// Messages taken from a socket at once.
const TAKEN_MAX: usize = 256;
/// Connections from one address, which has some 28,000 ports. Where an address is chosen the kernel takes milliseconds to find one of them,
/// so that is done for more than these only.
const OF_ONE_ADDRESS: usize = 25_000;
/// Handshakes begun at once by each socket.
const AT_ONCE: usize = 50;

/// Told of each message whose replies are there: its tag, and whether one of them was an error.
pub(crate) type Took<'a> = &'a mut dyn FnMut(u64, bool);

/// All connections of a client process.
pub(crate) trait Links {
    /// Adds a message to what leaves with the next [`Self::flush`]. It has so many commands.
    fn send(&mut self, endpoint: usize, tag: u64, commands: &[u8], count: usize) -> Result<()>;
    /// Lets it leave.
    fn flush(&mut self) -> Result<()>;
    /// Waits for replies, at most so long.
    fn wait(&mut self, most: Duration, took: Took<'_>) -> Result<()>;
}

/// Whether any of so many replies is an error, or there are others than so many.
pub(crate) fn has_error(mut bytes: &[u8], count: usize) -> Result<bool> {
    let mut error = false;
    for _ in 0..count {
        let length = reply_bytes(bytes).ok().flatten().context("a reply is cut short")?;
        error |= matches!(bytes[0], b'-' | b'_') || bytes.starts_with(b"$-1");
        bytes = &bytes[length..];
    }
    ensure!(bytes.is_empty(), "there are more replies than commands");
    Ok(error)
}

/// Until one of the connections has something, at most so long. The kernel's timeouts here are whole milliseconds, rounded up, in which an
/// open loop would begin late: what is shorter is waited for awake, by looking once.
pub(crate) fn wait_for(epoll: &OwnedFd, events: &mut Vec<Event>, most: Duration) -> Result<()> {
    let most = if most < Duration::from_millis(1) { Duration::ZERO } else { most };
    let timeout = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: most.subsec_nanos().into() };
    events.clear();
    match epoll::wait(epoll, rustix::buffer::spare_capacity(events), Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

// ---- TCP, and TLS over it ----

struct Stream {
    stream: TcpStream,
    tls: Option<Box<Tls>>,
    /// Commands that have not left.
    unsent: Vec<u8>,
    /// Replies that are not whole.
    left: Vec<u8>,
    /// Tag and replies still to come of each message.
    open: VecDeque<(u64, usize, bool)>,
    dirty: bool,
    watched_for_room: bool,
}

/// Connections of TCP.
pub(crate) struct Streams {
    epoll: OwnedFd,
    streams: Vec<Stream>,
    dirty: Vec<usize>,
    read: Vec<u8>,
    plain: Vec<u8>,
    sealed: Vec<u8>,
    events: Vec<Event>,
}

impl Streams {
    pub(crate) fn connect(server: SocketAddr, secure: Option<&Credentials>, count: usize) -> Result<Self> {
        let config = secure.map(Credentials::client_config).transpose()?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut streams = Vec::with_capacity(count);
        for at in 0..count {
            let local = SocketAddr::from(([127, 0, 2, 1 + (at / OF_ONE_ADDRESS) as u8], 0));
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            let _ = socket.set_tcp_congestion(b"cubic");
            socket.set_tcp_nodelay(true)?;
            if count > OF_ONE_ADDRESS {
                socket.bind(&local.into())?;
            }
            socket.connect(&server.into()).with_context(|| format!("connection {at}"))?;
            let stream = TcpStream::from(socket);
            let tls = config.as_ref().map(|config| Tls::client(config, SERVER_NAME)).transpose()?;
            let mut one = Stream {
                stream,
                tls: tls.map(Box::new),
                unsent: Vec::new(),
                left: Vec::new(),
                open: VecDeque::new(),
                dirty: false,
                watched_for_room: false,
            };
            one.shake_hands()?;
            one.stream.set_nonblocking(true)?;
            epoll::add(&epoll, &one.stream, EventData::new_u64(at as u64), EventFlags::IN)?;
            streams.push(one);
        }
        Ok(Self {
            epoll,
            streams,
            dirty: Vec::new(),
            read: vec![0; READ_BYTES],
            plain: Vec::new(),
            sealed: Vec::new(),
            events: Vec::with_capacity(1024),
        })
    }
}

impl Stream {
    fn shake_hands(&mut self) -> Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        self.stream.set_read_timeout(Some(PATIENCE))?;
        let (mut read, mut plain, mut wire) = (vec![0; READ_BYTES], Vec::new(), Vec::new());
        let mut came = 0;
        loop {
            tls.take(&mut read[..came], &mut plain, &mut wire)?;
            self.stream.write_all(&wire)?;
            wire.clear();
            if tls.is_open {
                return Ok(());
            }
            came = self.stream.read(&mut read)?;
            ensure!(came > 0, "the server hung up during the handshake");
        }
    }

    fn flush(&mut self, sealed: &mut Vec<u8>, clear: bool) -> Result<()> {
        // What was sealed and not taken stays sealed: `clear` says that all of `unsent` is plain.
        if clear && let Some(tls) = &mut self.tls {
            let end = tls.seal(&self.unsent, sealed, 0)?;
            self.unsent.clear();
            self.unsent.extend_from_slice(&sealed[..end]);
        }
        match (&self.stream).write(&self.unsent) {
            Ok(count) if count == self.unsent.len() => self.unsent.clear(),
            Ok(count) => _ = self.unsent.drain(..count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn took(&mut self, bytes: &[u8], took: Took<'_>) -> Result<()> {
        let whole;
        let mut rest = bytes;
        if !self.left.is_empty() {
            self.left.extend_from_slice(bytes);
            whole = std::mem::take(&mut self.left);
            rest = &whole;
        }
        while !rest.is_empty() {
            let Some(length) = reply_bytes(rest).ok().context("not a reply")? else { break };
            let Some((tag, count, error)) = self.open.front_mut() else { bail!("a reply that nobody asked for") };
            *error |= matches!(rest[0], b'-' | b'_') || rest.starts_with(b"$-1");
            *count -= 1;
            if *count == 0 {
                took(*tag, *error);
                self.open.pop_front();
            }
            rest = &rest[length..];
        }
        self.left.extend_from_slice(rest);
        Ok(())
    }
}

impl Links for Streams {
    fn send(&mut self, endpoint: usize, tag: u64, commands: &[u8], count: usize) -> Result<()> {
        let stream = &mut self.streams[endpoint];
        // Sealed bytes that wait must leave before anything else is sealed.
        ensure!(!stream.watched_for_room || stream.tls.is_none(), "a client sends more than its server reads");
        stream.unsent.extend_from_slice(commands);
        stream.open.push_back((tag, count, false));
        if !std::mem::replace(&mut stream.dirty, true) {
            self.dirty.push(endpoint);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        for at in self.dirty.drain(..) {
            let stream = &mut self.streams[at];
            stream.dirty = false;
            stream.flush(&mut self.sealed, true)?;
            if !stream.unsent.is_empty() && !stream.watched_for_room {
                stream.watched_for_room = true;
                let flags = EventFlags::IN | EventFlags::OUT;
                epoll::modify(&self.epoll, &stream.stream, EventData::new_u64(at as u64), flags)?;
            }
        }
        Ok(())
    }

    fn wait(&mut self, most: Duration, took: Took<'_>) -> Result<()> {
        wait_for(&self.epoll, &mut self.events, most)?;
        for event in &self.events {
            let at = event.data.u64() as usize;
            let stream = &mut self.streams[at];
            if stream.watched_for_room {
                stream.flush(&mut self.sealed, false)?;
                if stream.unsent.is_empty() {
                    stream.watched_for_room = false;
                    epoll::modify(&self.epoll, &stream.stream, EventData::new_u64(at as u64), EventFlags::IN)?;
                }
            }
            let count = match stream.stream.read(&mut self.read) {
                Ok(0) => bail!("the server hung up"),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            };
            if let Some(tls) = &mut stream.tls {
                self.plain.clear();
                let mut wire = Vec::new();
                tls.take(&mut self.read[..count], &mut self.plain, &mut wire)?;
                let plain = std::mem::take(&mut self.plain);
                stream.took(&plain, took)?;
                self.plain = plain;
            } else {
                stream.took(&self.read[..count], took)?;
            }
        }
        Ok(())
    }
}

// ---- Sealane ----

/// Sessions of Sealane, over one or several sockets.
pub(crate) struct Sealane {
    /// Only where there are several is any of them watched.
    sockets: Vec<(Socket, Option<Readiness>)>,
    epoll: OwnedFd,
    peers: Vec<(usize, Peer)>,
    pending: Vec<(usize, u64, Vec<u8>)>,
    came: VecDeque<Delivery>,
    spare: Vec<Vec<u8>>,
    /// Commands of each message, by the low bits of its tag.
    counts: rustc_hash::FxHashMap<u64, usize>,
    events: Vec<Event>,
}

/// The secret of an installed session, known to both ends and worth nothing.
pub(crate) fn secret(number: usize) -> [u8; 32] {
    let mut secret = [11; 32];
    secret[..8].copy_from_slice(&(number as u64).to_le_bytes());
    secret
}

impl Sealane {
    fn over(sockets: Vec<Socket>, peers: Vec<(usize, Peer)>) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let many = sockets.len() > 1;
        let mut with = Vec::new();
        for (at, socket) in sockets.into_iter().enumerate() {
            let readiness = if many { Some(socket.readiness()?) } else { None };
            if let Some(readiness) = &readiness {
                epoll::add(&epoll, readiness.as_fd(), EventData::new_u64(at as u64), EventFlags::IN)?;
            }
            with.push((socket, readiness));
        }
        Ok(Self {
            sockets: with,
            epoll,
            peers,
            pending: Vec::new(),
            came: VecDeque::new(),
            spare: Vec::new(),
            counts: rustc_hash::FxHashMap::default(),
            events: Vec::with_capacity(64),
        })
    }

    /// One session of TLS, for so many callers.
    pub(crate) fn connect(server: SocketAddr, credentials: &Credentials, callers: usize) -> Result<Self> {
        let trust = Trust::pem(credentials.authority.as_bytes())?;
        let identity = Identity::pem(credentials.certificate.as_bytes(), credentials.key.as_bytes())?;
        let socket = Socket::builder().trust(trust).identity(identity).wait(Wait::Block).bind("127.0.0.1:0")?;
        let peer = socket.peer(server, SERVER_NAME)?;
        socket.connect(&peer)?;
        Self::over(vec![socket], vec![(0, peer); callers])
    }

    /// So many sessions of installed secrets; `install` has the server install those of one socket: its address, the first, the step.
    pub(crate) fn install(
        server: SocketAddr,
        count: usize,
        install: &mut dyn FnMut(SocketAddr, usize, usize) -> Result<()>,
    ) -> Result<Self> {
        let sockets: Vec<Socket> = (0..SOCKETS.min(count))
            .map(|at| {
                let builder = Socket::builder().installed_only().peer_timeout(PATIENCE).wait(Wait::Block);
                // Their one loop polls them all.
                let builder = builder.danger_helper_thread(false);
                builder.bind(format!("127.0.1.{}:0", at + 1))
            })
            .collect::<Result<_, _>>()?;
        let step = sockets.len();
        let mut peers = Vec::with_capacity(count);
        for (at, socket) in sockets.iter().enumerate() {
            install(socket.local_addr(), at, step)?;
        }
        for number in 0..count {
            let at = number % step;
            let peer = sockets[at].install_session(server, Role::Client, secret(number), "server");
            peers.push((at, peer.context("a client's end has a peer")?));
        }
        for some in peers.chunks(AT_ONCE * step) {
            for (at, peer) in some {
                sockets[*at].send(peer, b"PING\r\n", 0)?;
            }
            for (at, _) in some {
                match sockets[*at].recv_timeout(PATIENCE)?.context("a session did not open")? {
                    Delivery::Response(response) if *response.payload == *b"+PONG\r\n" => {}
                    other => bail!("a session did not open: {other:?}"),
                }
            }
        }
        Self::over(sockets, peers)
    }

    /// What came out of one socket.
    fn take(&mut self, took: Took<'_>) -> Result<()> {
        for delivery in self.came.drain(..) {
            match delivery {
                Delivery::Response(response) => {
                    let count = self.counts.remove(&response.cookie).context("a reply that nobody asked for")?;
                    took(response.cookie, has_error(&response.payload, count)?);
                }
                Delivery::Failed(failed) => bail!("a message failed: {}", failed.error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Links for Sealane {
    fn send(&mut self, endpoint: usize, tag: u64, commands: &[u8], count: usize) -> Result<()> {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(commands);
        self.counts.insert(tag, count);
        self.pending.push((endpoint, tag, bytes));
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        // What leaves by one socket travels together.
        self.pending.sort_by_key(|(endpoint, ..)| self.peers[*endpoint].0);
        let mut batch = None;
        for (endpoint, tag, bytes) in self.pending.drain(..) {
            let (at, peer) = &self.peers[endpoint];
            if batch.as_ref().is_none_or(|(of, _)| of != at) {
                batch = Some((*at, self.sockets[*at].0.batch()));
            }
            self.sockets[*at].0.send(peer, &bytes, tag)?;
            self.spare.push(bytes);
        }
        Ok(())
    }

    fn wait(&mut self, most: Duration, took: Took<'_>) -> Result<()> {
        if self.sockets.len() == 1 {
            self.sockets[0].0.recv_many(&mut self.came, TAKEN_MAX, most)?;
            return self.take(took);
        }
        wait_for(&self.epoll, &mut self.events, most)?;
        for at in 0..self.events.len() {
            let socket = self.events[at].data.u64() as usize;
            self.sockets[socket].0.try_recv_many(&mut self.came, TAKEN_MAX)?;
            self.take(took)?;
        }
        Ok(())
    }
}
