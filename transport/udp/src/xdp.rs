//! The backend past the kernel's IP (AF_XDP): frames straight to and from the queues of one interface.
//!
//! Owns the choice, datagram by datagram, between those queues and an ordinary socket on the same port. The socket keeps the port ours and
//! carries whatever the queues cannot: to ourselves, by another interface, to a neighbour that the kernel has yet to find, longer than a
//! frame, fragments. So nothing is lost by using this backend where it does not fit; it is only not used then.
//!
//! Routes and neighbours are the kernel's. Once a second one datagram to each peer goes by the socket, so that the kernel keeps looking
//! after the neighbour, and afterwards both are asked for again.
//!
//! Tried and left: one interface for several sockets, which needs a program that knows them all.

#[doc(hidden)]
pub mod apart;
mod frame;
mod program;
mod queue;
#[doc(hidden)]
pub mod raw;
mod routes;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use self::frame::{Ends, Mac};
use self::program::Attached;
use self::queue::Queue;
use self::routes::{Interface, Routes};
use crate::batch::{Datagrams, Received, SendError, Transmit};
use crate::caps::{Caps, Gso};
use crate::fork::{self, Mark};
use crate::mmsg::{self, Mmsg, Options};
use crate::poll::{Set, wait_readable};
use crate::sys;

/// Queues of the interface that are served; what comes by others takes its usual way to the socket.
const QUEUES_MAX: u32 = 8;
/// How long a neighbour is believed without asking again.
const BELIEVED: Duration = Duration::from_secs(1);
/// How long the socket is used before the kernel is asked again for a neighbour that it did not know.
const UNKNOWN: Duration = Duration::from_millis(5);
/// Peers whose neighbours are remembered.
const PEERS_MAX: usize = 4096;
/// Frames that are handed over as one train.
const TRAIN_MAX: usize = 64;
/// Trains by the queues, or so many times [`EMPTY`] empty looks, after which the socket is looked at.
const TURNS: u32 = 64;
/// What an empty look counts as.
const EMPTY: u32 = 4;
/// How soon to try again what the interface did not take.
const RETRY: Duration = Duration::from_micros(100);

/// How often, and after which pause, a queue is asked for again that is busy: a quarter of a second in all.
const BUSY_TRIES: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// A socket's port, served by an interface's queues.
#[derive(Debug)]
pub struct Xdp {
    /// The program goes first, so that what comes takes its usual way.
    _program: Attached,
    queues: Vec<Queue>,
    main: Mmsg,
    /// Where it is bound; plain v4 if it is v4.
    local: SocketAddr,
    caps: Caps,
    interface: Interface,
    routes: Routes,
    ways: HashMap<IpAddr, Way>,
    /// The longest IP packet that the interface takes and a frame of ours holds.
    packet_max: usize,
    dont_fragment: bool,
    report_tos: bool,
    /// Queues and socket, to wait on; empty while nobody does.
    set: Set,
    watched: bool,
    looks: u32,
    /// The interface has not taken all that was pushed.
    is_behind: bool,
    mark: Mark,
}

/// How a peer is reached.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// By the queues to this neighbour; otherwise by the socket.
    neighbour: Option<Mac>,
    until: Instant,
}

/// Whether this process may use AF_XDP on this kernel: found out by asking for what it takes.
///
/// # Errors
/// Why not, in words.
pub fn check() -> Result<(), String> {
    let tried = queue::socket().and_then(|_| program::table(1));
    tried.map(drop).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            format!("AF_XDP is forbidden here: it takes CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF ({error})")
        }
        Some(libc::EAFNOSUPPORT | libc::ENOSYS | libc::EINVAL) => format!("this kernel has no AF_XDP ({error})"),
        _ => format!("AF_XDP does not work here ({error})"),
    })
}

/// Binds to an address that an interface of Ethernet has.
///
/// # Errors
/// As [`mmsg::bind`]; and when there is no such interface, it has a program already, or the kernel refuses.
pub fn bind(address: SocketAddr, options: &Options) -> io::Result<Xdp> {
    let main = mmsg::bind(address, options)?.part_of("xdp (AF_XDP)");
    let local = SocketAddr::new(main.local_addr().ip().to_canonical(), main.local_addr().port());
    let refused = |why: String| io::Error::new(io::ErrorKind::Unsupported, why);
    if local.ip().is_unspecified() {
        return Err(refused(format!(
            "it serves one interface: bind to an address that one has, not to {}",
            local.ip()
        )));
    }
    let name = sys::interface_with(local)?.ok_or_else(|| refused(format!("no interface has the address {local}")))?;
    let mut routes = Routes::new()?;
    let interface = routes.interface(&name)?.ok_or_else(|| refused(format!("{name} is no Ethernet")))?;
    let doing = |what: &str, error: &io::Error| io::Error::new(error.kind(), format!("{what} of {name}: {error}"));
    let frame_bytes = if interface.mtu + frame::ETHERNET <= Queue::frame_max(2048) { 2048 } else { 4096 };
    let first = first_queue(interface.index, frame_bytes).map_err(|error| doing("a queue", &error))?;
    // More are stated than are in use: the first that cannot be had ends them.
    let others = (1..interface.queues.min(QUEUES_MAX)).map_while(|n| Queue::open(interface.index, n, frame_bytes).ok());
    let queues: Vec<Queue> = [first].into_iter().chain(others).collect();
    let sockets: Vec<_> = queues.iter().map(Queue::fd).collect();
    let frame_max = Queue::frame_max(frame_bytes) as i32;
    let program = program::attach(interface.index, local, frame_max, &sockets)
        .map_err(|error| doing("the program (one socket can have it)", &error))?;
    let set = Set::new()?;
    queues.iter().map(Queue::fd).chain([main.fds()]).try_for_each(|fd| set.add(fd))?;
    let mut caps = main.caps().clone();
    caps.backend.name = if program.in_driver { "xdp (AF_XDP in the driver)" } else { "xdp (AF_XDP, generic)" };
    if options.gso {
        // One call takes a train, whatever the kernel can.
        caps.gso = Gso::Segments(caps.segments_max().max(TRAIN_MAX));
    }
    Ok(Xdp {
        _program: program,
        queues,
        main,
        local,
        caps,
        interface,
        routes,
        ways: HashMap::new(),
        packet_max: interface.mtu.min(frame_bytes - frame::ETHERNET),
        dont_fragment: options.dont_fragment,
        report_tos: options.report_tos,
        set,
        watched: true,
        looks: 0,
        is_behind: false,
        mark: Mark::new(),
    })
}

/// The kernel lets go of a queue some time after its socket was closed, so one that is busy is tried again for a while.
fn first_queue(interface: u32, frame_bytes: usize) -> io::Result<Queue> {
    for _ in 0..BUSY_TRIES {
        match Queue::open(interface, 0, frame_bytes) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => drop(wait_readable(&[], Some(BUSY_PAUSE))?),
            done => return done,
        }
    }
    Queue::open(interface, 0, frame_bytes)
}

impl Xdp {
    /// The neighbour to whom frames for `to` go; `None` when they go by the socket.
    fn neighbour(&mut self, to: IpAddr) -> Option<Mac> {
        let now = sys::now();
        match self.ways.get(&to) {
            Some(way) if way.until > now => return way.neighbour,
            _ => {}
        }
        if self.ways.len() >= PEERS_MAX {
            self.ways.clear();
        }
        let known = self.ways.contains_key(&to);
        // A failed question is no neighbour: the socket knows its way.
        let neighbour = self.routes.next_hop(to, self.interface.index).ok().flatten();
        let until = now + if neighbour.is_some() { BELIEVED } else { UNKNOWN };
        self.ways.insert(to, Way { neighbour, until });
        // Once per question by the kernel, so that it looks after the neighbour; the first time that has just been done, or is about to be.
        neighbour.filter(|_| !known)
    }

    fn push(&mut self, train: &Transmit<'_>, to: SocketAddr, neighbour: Mac) -> Result<(), SendError> {
        let ends = Ends { from: (self.interface.mac, self.local), to: (neighbour, to) };
        let (tos, dont_fragment, mut sent) = (train.tos.unwrap_or(0), self.dont_fragment, 0);
        let Some(queue) = self.queues.first_mut() else { return self.main.transmit(train) };
        for datagram in train.datagrams() {
            let push = |queue: &mut Queue| {
                queue.push(|frame| frame::write(frame, &ends, datagram, tos, dont_fragment).unwrap_or(0))
            };
            if !push(queue) {
                self.is_behind = !queue.kick().map_err(SendError::Other)?;
                if !push(queue) {
                    return Err(SendError::WouldBlock { sent });
                }
            }
            sent += datagram.len();
        }
        self.is_behind = !queue.kick().map_err(SendError::Other)?;
        Ok(())
    }

    /// Frames of one peer that follow each other and are of one length, as a train.
    fn receive_frames(&mut self, into: &mut [u8]) -> Option<Received> {
        let scope = self.interface.index;
        self.queues.iter_mut().find_map(|queue| receive_from(queue, into, scope))
    }
}

fn receive_from(queue: &mut Queue, into: &mut [u8], scope: u32) -> Option<Received> {
    let mut train: Option<Received> = None;
    let mut count = 0;
    while let Some(frame) = queue.front() {
        let Some(parsed) = frame::parse(frame, scope) else {
            // The program lets nothing else through.
            queue.skip();
            continue;
        };
        let bytes = parsed.bytes;
        let at = train.map_or(0, |train| train.len);
        match &mut train {
            None => {
                let len = bytes.len().min(into.len());
                let truncated = len < bytes.len();
                train = Some(Received { from: parsed.from, len, segment: len, tos: parsed.tos, truncated });
                into[..len].copy_from_slice(&bytes[..len]);
            }
            Some(train) => {
                let follows = parsed.from == train.from && parsed.tos == train.tos && !train.truncated;
                let fits = !bytes.is_empty() && bytes.len() <= train.segment && at + bytes.len() <= into.len();
                if !follows || !fits {
                    break;
                }
                into[at..at + bytes.len()].copy_from_slice(bytes);
                train.len += bytes.len();
            }
        }
        let is_last = train.is_some_and(|train| bytes.len() < train.segment || train.segment == 0);
        queue.skip();
        count += 1;
        if is_last || count == TRAIN_MAX {
            break;
        }
    }
    train
}

impl Datagrams for Xdp {
    fn local_addr(&self) -> SocketAddr {
        self.main.local_addr()
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn transmit(&mut self, train: &Transmit<'_>) -> Result<(), SendError> {
        if self.mark.is_forked() {
            return Err(SendError::Other(fork::refusal()));
        }
        let to = SocketAddr::new(train.to.ip().to_canonical(), train.to.port());
        let longest = train.segment.min(train.bytes.len());
        if longest + frame::overhead(to.ip()) > self.packet_max || to.is_ipv4() != self.local.is_ipv4() {
            return self.main.transmit(train);
        }
        match self.neighbour(to.ip()) {
            Some(neighbour) => {
                assert!(train.segment > 0 || train.bytes.is_empty(), "a train of empty datagrams");
                self.push(train, to, neighbour)
            }
            None => self.main.transmit(train),
        }
    }

    fn receive(&mut self, into: &mut [u8]) -> io::Result<Option<Received>> {
        if self.mark.is_forked() {
            return Err(fork::refusal());
        }
        if self.is_behind
            && let Some(queue) = self.queues.first_mut()
        {
            self.is_behind = !queue.kick()?;
        }
        if self.looks < TURNS {
            if let Some(mut train) = self.receive_frames(into) {
                if !self.report_tos {
                    train.tos = 0;
                }
                self.looks += 1;
                return Ok(Some(train));
            }
            self.looks += EMPTY;
            if self.looks < TURNS {
                return Ok(None);
            }
        }
        self.looks = 0;
        let received = self.main.receive(into)?;
        if received.is_some() {
            // There may be more where it came from.
            self.looks = TURNS - EMPTY;
        }
        Ok(received)
    }

    fn fds(&self) -> BorrowedFd<'_> {
        self.set.fd()
    }

    fn set(&self) -> Option<&Set> {
        Some(&self.set)
    }

    fn watched(&mut self, on: bool) -> io::Result<()> {
        if self.watched != on {
            let change = if on { Set::add } else { Set::remove };
            self.queues.iter().map(Queue::fd).chain([self.main.fds()]).try_for_each(|fd| change(&self.set, fd))?;
            self.watched = on;
        }
        Ok(())
    }

    fn next_due(&self) -> Option<Duration> {
        self.is_behind.then_some(RETRY)
    }
}
