//! Owns the client's side of the floor: connected sockets, one for each endpoint or one for all. What is not answered for [`PATIENCE`] is sent anew, as
//! something of its own, so that a lost datagram costs that long and ends nothing.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustc_hash::FxHashMap;
use rustix::event::epoll::{self, Event, EventData, EventFlags};

use crate::floor::{DATAGRAM_MAX, Head, Key, Toward};
use crate::links::{Links, Took, has_error, wait_for};

/// How long nothing may come before a request is sent anew: far more than any reply takes.
const PATIENCE: Duration = Duration::from_millis(50);

struct Endpoint {
    socket: UdpSocket,
    client: u64,
    key: Option<Key>,
}

struct Request {
    tag: u64,
    endpoint: usize,
    commands: Vec<u8>,
    count: usize,
}

/// All endpoints of a process.
pub(crate) struct Datagrams {
    epoll: OwnedFd,
    endpoints: Vec<Endpoint>,
    /// Numbers of requests, in the order of when they were sent; those that are not in `open` are answered.
    sent: VecDeque<(u64, Instant)>,
    open: FxHashMap<u64, Request>,
    pending: Vec<u64>,
    next: u64,
    /// The datagram that goes out.
    built: Vec<u8>,
    /// The datagram that came.
    read: Vec<u8>,
    events: Vec<Event>,
}

impl Datagrams {
    /// So many sockets, which all callers share. With `sealed` each has a key.
    pub(crate) fn connect(server: SocketAddr, count: usize, sealed: bool) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut endpoints = Vec::with_capacity(count);
        for at in 0..count {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(server)?;
            socket.set_nonblocking(true)?;
            epoll::add(&epoll, &socket, EventData::new_u64(at as u64), EventFlags::IN)?;
            // No other process has this number, and none has it again while a server lives.
            let client = if sealed { u64::from(std::process::id()) << 32 | (at as u64 + 1) } else { 0 };
            endpoints.push(Endpoint { socket, client, key: Key::of(client) });
        }
        Ok(Self {
            epoll,
            endpoints,
            sent: VecDeque::new(),
            open: FxHashMap::default(),
            pending: Vec::new(),
            next: 0,
            built: Vec::with_capacity(DATAGRAM_MAX),
            read: vec![0; DATAGRAM_MAX],
            events: Vec::with_capacity(64),
        })
    }

    fn add(&mut self, request: Request) {
        self.open.insert(self.next, request);
        self.pending.push(self.next);
        self.next += 1;
    }

    /// Takes what came for an endpoint, if anything did.
    fn take(&mut self, at: usize, took: Took<'_>) -> Result<bool> {
        let Endpoint { socket, key, .. } = &self.endpoints[at];
        let length = match socket.recv(&mut self.read) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let datagram = &mut self.read[..length];
        let head = Head::parse(datagram).context("a reply is cut short")?;
        let replies = head.open(key.as_ref(), Toward::Client, datagram).context("a reply that is not the server's")?;
        // Another reply may have come to the same request, sent again.
        if let Some(request) = self.open.remove(&head.number) {
            took(request.tag, has_error(replies, request.count)?);
        }
        Ok(true)
    }

    /// What was not answered is begun anew under another number: no number is sealed twice.
    fn repeat(&mut self) -> Result<()> {
        let now = Instant::now();
        while let Some((number, at)) = self.sent.front().copied() {
            let answered = !self.open.contains_key(&number);
            if !answered && now.saturating_duration_since(at) < PATIENCE {
                break;
            }
            self.sent.pop_front();
            if let Some(request) = self.open.remove(&number) {
                self.add(request);
            }
        }
        self.flush()
    }
}

impl Links for Datagrams {
    fn send(&mut self, endpoint: usize, tag: u64, commands: &[u8], count: usize) -> Result<()> {
        let endpoint = endpoint % self.endpoints.len();
        self.add(Request { tag, endpoint, commands: commands.to_vec(), count });
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let now = Instant::now();
        for number in self.pending.drain(..) {
            let request = self.open.get(&number).context("a request that is not open")?;
            let Endpoint { socket, client, key } = &self.endpoints[request.endpoint];
            let head = Head { number, client: *client };
            self.built.clear();
            head.put(&mut self.built);
            self.built.extend_from_slice(&request.commands);
            head.seal(key.as_ref(), Toward::Server, &mut self.built)?;
            match socket.send(&self.built) {
                Ok(_) => {}
                // Lost, like any other.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            self.sent.push_back((number, now));
        }
        Ok(())
    }

    fn wait(&mut self, most: Duration, took: Took<'_>) -> Result<()> {
        // With one socket, looking is cheaper than asking whether to look.
        if self.endpoints.len() == 1 && self.take(0, took)? {
            return self.repeat();
        }
        wait_for(&self.epoll, &mut self.events, most.min(PATIENCE))?;
        for at in 0..self.events.len() {
            self.take(self.events[at].data.u64() as usize, took)?;
        }
        self.repeat()
    }
}
