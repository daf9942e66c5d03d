//! Owns the man in the middle: clients talk to it as if it were the server, and it passes on what they say, sees all of it, may change
//! it, and can speak with the address of either.
#![expect(clippy::disallowed_types, reason = "an attacker has sockets of its own")]

use anyhow::{Context, Result};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Packets that are kept.
const KEPT: usize = 20_000;
/// How long a thread sleeps in the kernel before it looks whether it is over.
const NAP: Duration = Duration::from_millis(20);
/// What the sockets of the relay should hold.
const DATAGRAM_MAX: usize = 65_535;

/// A packet that passed.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    pub(crate) to_server: bool,
    /// Whose it is.
    pub(crate) client: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

impl Captured {
    /// DATA 1, CONTROL 2, HANDSHAKE 3, RESET 4, RETRY 5.
    pub(crate) fn kind(&self) -> u8 {
        self.bytes.first().map_or(0, |first| first & 0xf)
    }

    /// Its receiver's name of the session.
    pub(crate) fn session(&self) -> Option<[u8; 8]> {
        self.bytes.get(8..16)?.first_chunk().copied()
    }
}

/// What becomes of a packet: what is passed on in its place.
pub(crate) type Tamper = Box<dyn FnMut(&Captured) -> Vec<Vec<u8>> + Send>;

#[derive(Default)]
struct Inner {
    captured: Vec<Captured>,
    tamper: Option<Tamper>,
    /// With which socket it speaks to the server for each client.
    upstream: HashMap<SocketAddr, Arc<UdpSocket>>,
}

struct Shared {
    front: UdpSocket,
    server: SocketAddr,
    over: AtomicBool,
    inner: Mutex<Inner>,
}

/// A relay that runs.
pub(crate) struct Relay(Arc<Shared>);

fn bind() -> Result<UdpSocket> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).context("a socket of the attacker's")?;
    socket.set_read_timeout(Some(NAP))?;
    Ok(socket)
}

impl Relay {
    pub(crate) fn start(server: SocketAddr) -> Result<Self> {
        let (over, inner) = (AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { front: bind()?, server, over, inner });
        let running = Arc::clone(&shared);
        thread::spawn(move || running.listen());
        Ok(Self(shared))
    }

    /// What clients take for the server.
    pub(crate) fn at(&self) -> Result<SocketAddr> {
        Ok(self.0.front.local_addr()?)
    }

    /// What passed so far.
    pub(crate) fn captured(&self) -> Vec<Captured> {
        self.0.lock().captured.clone()
    }

    /// Forgets what passed.
    pub(crate) fn forget(&self) {
        self.0.lock().captured.clear();
    }

    /// Packets are changed from now on.
    pub(crate) fn tamper(&self, tamper: Option<Tamper>) {
        self.0.lock().tamper = tamper;
    }

    /// Sends bytes to the server with a client's address, or to the client with the server's.
    pub(crate) fn inject(&self, to_server: bool, client: SocketAddr, bytes: &[u8]) {
        let upstream = self.0.lock().upstream.get(&client).cloned();
        self.0.send(to_server, client, upstream.as_deref(), bytes);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What cannot be sent is lost, as on any network.
    fn send(&self, to_server: bool, client: SocketAddr, upstream: Option<&UdpSocket>, bytes: &[u8]) {
        if to_server {
            let _ = upstream.map(|socket| socket.send_to(bytes, self.server));
        } else {
            let _ = self.front.send_to(bytes, client);
        }
    }

    /// Takes packets from `socket` until it is over.
    fn take(&self, socket: &UdpSocket, mut each: impl FnMut(SocketAddr, &[u8])) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        while !self.over.load(Ordering::Relaxed) {
            match socket.recv_from(&mut buffer) {
                Ok((len, from)) => each(from, &buffer[..len]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                // What an earlier datagram met on its way says nothing of the next.
                Err(_) => {}
            }
        }
    }

    fn listen(self: Arc<Self>) {
        self.take(&self.front, |client, bytes| {
            let known = self.lock().upstream.get(&client).cloned();
            let Some(upstream) = known.or_else(|| self.meet(client)) else { return };
            self.pass(true, client, &upstream, bytes);
        });
    }

    fn meet(self: &Arc<Self>, client: SocketAddr) -> Option<Arc<UdpSocket>> {
        let upstream = Arc::new(bind().ok()?);
        self.lock().upstream.insert(client, Arc::clone(&upstream));
        let (running, socket) = (Arc::clone(self), Arc::clone(&upstream));
        thread::spawn(move || running.take(&socket, |_, bytes| running.pass(false, client, &socket, bytes)));
        Some(upstream)
    }

    fn pass(&self, to_server: bool, client: SocketAddr, upstream: &UdpSocket, bytes: &[u8]) {
        let packet = Captured { to_server, client, bytes: bytes.to_vec() };
        let mut inner = self.lock();
        let instead = inner.tamper.as_mut().map(|tamper| tamper(&packet));
        if inner.captured.len() < KEPT {
            inner.captured.push(packet);
        }
        drop(inner);
        match instead {
            None => self.send(to_server, client, Some(upstream), bytes),
            Some(packets) => packets.iter().for_each(|bytes| self.send(to_server, client, Some(upstream), bytes)),
        }
    }
}
