//! Owns the sockets: one that clients reach, and for each address of a client one towards the servers.
//!
//! One socket towards the servers for all clients would need no table of addresses, as all packets name their session. But then the balancer
//! would have to decide which address of a client to believe, and whoever copies a packet could have a session's answers. With one for each
//! address a server sees a client move, and asks for proof behind its keys.

use crate::limits::{DATAGRAM_MAX, Limits, RECEIVE_BYTES, SWEEP};
use crate::seen::Seen;
use crate::table::{NO_ROOM, STRANGER, Table, UNSENT};
use std::collections::HashMap;
use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// A balancer; it works while [`Balancer::run`] does.
#[derive(Clone, Debug)]
pub struct Balancer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    front: UdpSocket,
    backends: Vec<SocketAddr>,
    limits: Limits,
    addresses: AtomicU64,
    table: Mutex<Table>,
}

/// What stands for a client's address towards the servers.
struct Way {
    socket: Arc<UdpSocket>,
    heard: Instant,
    /// A session was heard from here that its server had named.
    proven: bool,
    back: AbortHandle,
}

impl Balancer {
    /// Listens for clients of these servers.
    ///
    /// # Errors
    /// What the system says; servers that are none, twice the same, or of both IPv4 and IPv6.
    pub async fn bind(listen: SocketAddr, backends: &[SocketAddr], limits: Limits) -> Result<Self> {
        let wrong = |why: &str| Err(Error::new(ErrorKind::InvalidInput, why));
        let Some(first) = backends.first() else { return wrong("no servers are given") };
        if backends.iter().any(|at| at.is_ipv4() != first.is_ipv4()) {
            return wrong("servers must be all of IPv4 or all of IPv6");
        }
        if (1..backends.len()).any(|at| backends[..at].contains(&backends[at])) {
            return wrong("a server is given twice");
        }
        let (front, table) = (socket(listen).await?, Mutex::new(Table::new(backends, limits)));
        let addresses = AtomicU64::new(0);
        Ok(Self(Arc::new(Shared { front, backends: backends.to_vec(), limits, addresses, table })))
    }

    /// Where clients reach it.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.0.front.local_addr()
    }

    /// What passed up to now.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.0.table().seen(self.0.addresses.load(Ordering::Relaxed))
    }

    /// Carries packets until the future is dropped.
    ///
    /// # Errors
    /// What the system says of the socket that clients reach.
    pub async fn run(&self) -> Result<()> {
        let shared = &self.0;
        let mut ways: HashMap<SocketAddr, Way> = HashMap::new();
        // They end with this function.
        let mut backs = JoinSet::new();
        let mut buffer = vec![0; DATAGRAM_MAX];
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                came = shared.front.recv_from(&mut buffer) => {
                    let (len, from) = came?;
                    shared.forward(from, &buffer[..len], &mut ways, &mut backs).await;
                }
                _ = sweep.tick() => {
                    let now = Instant::now();
                    shared.table().sweep(now.into_std());
                    ways.retain(|_, way| way.stays(now, &shared.limits));
                    while backs.try_join_next().is_some() {}
                }
            }
            shared.addresses.store(ways.len() as u64, Ordering::Relaxed);
        }
    }
}

impl Way {
    /// Whether it is still of use; else it ends.
    fn stays(&self, now: Instant, limits: &Limits) -> bool {
        let idle = if self.proven { limits.address_idle } else { limits.unproven };
        let stays = !self.back.is_finished() && now.saturating_duration_since(self.heard) < idle;
        if !stays {
            self.back.abort();
        }
        stays
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client's datagram, to its server.
    async fn forward(
        self: &Arc<Self>,
        from: SocketAddr,
        datagram: &[u8],
        ways: &mut HashMap<SocketAddr, Way>,
        backs: &mut JoinSet<()>,
    ) {
        let now = Instant::now();
        let steered = self.table().steer(now.into_std(), from, datagram);
        let steered = match steered {
            Ok(steered) => steered,
            Err(why) => return self.table().refuse(why),
        };
        if !ways.contains_key(&from) {
            let strangers = || ways.values().filter(|way| !way.proven).count();
            let room =
                ways.len() < self.limits.addresses && (steered.proven || strangers() < self.limits.addresses / 2);
            let Some(way) = self.way(from, room, backs).await else { return self.table().refuse(NO_ROOM) };
            ways.insert(from, way);
        }
        let Some(way) = ways.get_mut(&from) else { return };
        way.proven |= steered.proven;
        way.heard = now;
        if way.socket.send_to(datagram, self.backends[steered.backend]).await.is_err() {
            self.table().refuse(UNSENT);
        }
    }

    /// A socket for a client's address, if there is room and the system has one.
    async fn way(self: &Arc<Self>, client: SocketAddr, room: bool, backs: &mut JoinSet<()>) -> Option<Way> {
        let any = match self.backends.first()? {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = Arc::new(if room { socket((any, 0).into()).await.ok()? } else { return None });
        let back = backs.spawn(Arc::clone(self).back(Arc::clone(&socket), client));
        Some(Way { socket, heard: Instant::now(), proven: false, back })
    }

    /// Servers' datagrams, to the client that they were sent to.
    async fn back(self: Arc<Self>, socket: Arc<UdpSocket>, client: SocketAddr) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let datagram = &buffer[..len];
            let passed = match self.backends.iter().position(|at| *at == from) {
                Some(backend) => self.table().pass_back(Instant::now().into_std(), backend, datagram),
                None => Err(STRANGER),
            };
            let sent = match passed {
                Ok(()) => self.front.send_to(datagram, client).await.map(drop).map_err(|_| UNSENT),
                Err(why) => Err(why),
            };
            if let Err(why) = sent {
                self.table().refuse(why);
            }
        }
    }
}

async fn socket(at: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(at).await?;
    // As much as the system allows; with less, bursts are lost and sent again.
    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BYTES);
    Ok(socket)
}
