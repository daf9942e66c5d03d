//! Owns the loop: what happens next, happens; the endpoints concerned are told, and what they have to send goes onto the wire.
//!
//! Whoever drives a world sets alarms, calls [`World::run`], and does what it wants at each alarm: sends messages, stops hosts, cuts
//! the network. [`Hooks`] see what happens in between, and judge each frame as it leaves its host.

use endpoint::endpoint::{Endpoint, Sending, To};
use endpoint::error::Misuse;
use endpoint::pool::{Buffer, Payload};
use endpoint::session::CallId;
use proto::time::Instant;
use wire::ids::Side;
use wire::trailer::Kind;

use crate::clock::{NEVER, NS, Skew, Time};
use crate::fabric::Node;
use crate::hooks::{Hooks, Lost, Spec, Verdict};
use crate::host::{Host, address, address_of, binding_of, host_at, secret};
use crate::link::{Frame, Frames, Offered, Port};
use crate::queue::{Happening, Queue};
use crate::rng::Rng;
use crate::trace::Trace;

mod looking;
mod rebind;
mod shards;

/// Why [`World::run`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// An alarm, with its token.
    Alarm(u64),
    /// The time is up.
    Time,
    /// Nothing is left to happen.
    Quiet,
    /// Who watches has seen enough.
    Halted,
}

/// What a world counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Things that happened.
    pub happenings: u64,
    /// Frames handed to endpoints.
    pub arrived: u64,
    /// Frames that did not arrive.
    pub lost: u64,
    /// Frames that endpoints sent to where nobody is.
    pub nowhere: u64,
}

/// A world.
#[derive(Debug)]
pub struct World<H> {
    spec: Spec,
    now: Time,
    queue: Queue,
    ports: Vec<(Port, Node)>,
    frames: Frames,
    hosts: Vec<Host>,
    /// Which pairs have a secret: client and server.
    pairs: Vec<(u32, u32)>,
    /// The side of a cut that each host is on.
    partition: Option<Vec<u8>>,
    spray: Rng,
    scratch: Vec<u8>,
    spare: Option<Buffer>,
    /// Who watches.
    pub hooks: H,
    /// What happened.
    pub trace: Trace,
    /// What was counted.
    pub counts: Counts,
}

impl<H: Hooks> World<H> {
    /// A world whose hosts have just been started and do not know each other.
    pub fn new(spec: Spec, hooks: H) -> Self {
        let count = spec.network.hosts();
        let ports = spec.network.ports().into_iter().map(|(port, node)| (Port::new(port), node)).collect();
        let hosts = (0..count).map(|_| Host::new(spec.card_frames)).collect();
        let mut world = Self {
            now: 0,
            queue: Queue::default(),
            ports,
            frames: Frames::default(),
            hosts,
            pairs: Vec::new(),
            partition: None,
            spray: Rng::new(spec.seed, 1),
            scratch: vec![0; 1 << 16],
            spare: None,
            hooks,
            trace: Trace::default(),
            counts: Counts::default(),
            spec,
        };
        for host in 0..count {
            world.start(host);
        }
        world
    }

    // ---- Hosts ----

    /// Starts a host that is down: with a new endpoint, which knows nothing of its earlier lives but the installed secrets.
    pub fn start(&mut self, host: u32) {
        let at = &mut self.hosts[host as usize];
        if at.endpoint.is_some() {
            return;
        }
        at.lives += 1;
        let mut rng = Rng::new(self.spec.seed, (2 + u64::from(at.lives)) << 32 | u64::from(host));
        let entropy = move |bytes: &mut [u8]| rng.fill(bytes);
        at.endpoint = Some(Endpoint::new((self.spec.config)(host), Box::new(entropy)));
        let lives = u64::from(at.lives);
        self.start_others(host);
        self.trace.note(self.now, "start", &[("host", host.into()), ("lives", lives)]);
        let of_host = |(client, server): &(u32, u32)| *client == host || *server == host;
        let pairs: Vec<_> = self.pairs.iter().copied().filter(of_host).collect();
        for (client, server) in pairs {
            self.install(host, client, server);
        }
    }

    /// Stops a host at once: nobody is told.
    pub fn crash(&mut self, host: u32) {
        let at = &mut self.hosts[host as usize];
        at.endpoint = None;
        at.more.clear();
        at.ways.clear();
        let frames = &mut self.frames;
        self.ports[host as usize].0.flush(|frame| frames.give_back(frame));
        self.trace.note(self.now, "crash", &[("host", host.into())]);
    }

    /// The two get a secret: `client` may open sessions to `server`, in which both can send.
    pub fn acquaint(&mut self, client: u32, server: u32) {
        self.pairs.push((client, server));
        self.install(client, client, server);
        self.install(server, client, server);
    }

    fn install(&mut self, on: u32, client: u32, server: u32) {
        let secret = secret(self.spec.seed, client, server);
        let (side, other) = if on == client { (Side::Client, server) } else { (Side::Server, client) };
        let host = &mut self.hosts[on as usize];
        let Some(endpoint) = host.endpoint.as_mut() else { return };
        if let Some(target) = endpoint.install(address(other), side, &secret, "a host", self.spec.datagram_max) {
            host.ways.insert(other, To::Target(target));
        }
        for shard in &mut host.more {
            shard.install(address(other), side, &secret, "a host", self.spec.datagram_max);
        }
    }

    /// Begins a session of `from` to `to`, ahead of the first message.
    ///
    /// # Errors
    /// When no handshake can begin.
    pub fn connect(&mut self, from: u32, to: u32) -> Result<(), Misuse> {
        let local = self.hosts[from as usize].local(self.now);
        if let Some(To::Target(target)) = self.hosts[from as usize].way(to)
            && let Some(endpoint) = self.hosts[from as usize].endpoint.as_mut()
        {
            endpoint.connect(local, target)?;
            self.settle(from);
        }
        Ok(())
    }

    /// Those who could not begin a session with somebody use from now on the one that the other began.
    pub fn learn_sessions(&mut self) {
        self.hosts.iter_mut().for_each(Host::learn_sessions);
    }

    /// Sets a host's clock. It must not show less than before to an endpoint that runs.
    pub fn set_clock(&mut self, host: u32, skew: Skew) {
        self.hosts[host as usize].skew = skew;
        self.rearm(host);
    }

    /// Sends a message; its fate comes as an event with the cookie.
    ///
    /// # Errors
    /// When the endpoint does not take it, or the host is down or knows no way.
    pub fn send(&mut self, from: u32, to: u32, kind: Kind, body: Payload, cookie: u64) -> Result<CallId, Misuse> {
        let sending = Sending { kind, cookie, waited: false, deadline: Instant::FAR, streamed: false };
        self.send_with(from, to, body, sending)
    }

    /// The same, with everything that can be said of it.
    ///
    /// # Errors
    /// When the endpoint does not take it, or the host is down or knows no way.
    pub fn send_with(&mut self, from: u32, to: u32, body: Payload, sending: Sending) -> Result<CallId, Misuse> {
        let host = &mut self.hosts[from as usize];
        let (local, way) = (host.local(self.now), host.way(to));
        let (Some(endpoint), Some(way)) = (host.endpoint.as_mut(), way) else { return Err(Misuse::NoSession) };
        let facts = [
            ("host", from.into()),
            ("to", to.into()),
            ("len", body.len() as u64),
            ("one_way", (sending.kind == Kind::OneWay).into()),
            ("cookie", sending.cookie),
        ];
        let sent = endpoint.send(local, way, body, sending);
        self.trace.note(self.now, "call", &facts);
        self.settle(from);
        sent
    }

    /// Calls the endpoint of `host`, at the time that its own clock shows, then does what follows from it. `None` while it
    /// is down.
    pub fn with<T>(&mut self, host: u32, call: impl FnOnce(&mut Endpoint, Instant) -> T) -> Option<T> {
        let at = &mut self.hosts[host as usize];
        let local = at.local(self.now);
        let result = call(at.endpoint.as_mut()?, local);
        self.settle(host);
        Some(result)
    }

    // ---- The network ----

    /// Frames between hosts of different groups are lost from now on; `None` joins what was cut.
    pub fn cut(&mut self, groups: Option<Vec<u8>>) {
        let count = groups.as_ref().map_or(0, |groups| groups.iter().filter(|group| **group != 0).count());
        self.partition = groups;
        self.trace.note(self.now, "cut", &[("away", count as u64)]);
    }

    /// A datagram that no endpoint sent arrives at `to` at time `at`, as if from `from`. Gives its number.
    pub fn inject(&mut self, from: u32, to: u32, bytes: &[u8], at: Time) -> u64 {
        let frame = self.frames.take();
        let f = self.frames.get_mut(frame);
        f.bytes.extend_from_slice(bytes);
        (f.from, f.to, f.priority) = (from, to, 0);
        // Whoever makes it up sends it where it is heard.
        f.to_binding = self.hosts[to as usize].binding;
        let (id, tail, len) = (f.id, f.tail(), bytes.len() as u64);
        let facts = [("from", from.into()), ("host", to.into()), ("frame", id), ("len", len), ("tail", tail)];
        self.trace.note(self.now, "inject", &facts);
        let hosts = self.spec.network.hosts();
        // The port that leads to the host; of a pair, the other's.
        let port = if self.spec.network.racks == 0 { 1 - to } else { hosts + to };
        self.queue.push(at.max(self.now), Happening::Arrive { frame, port });
        id
    }

    // ---- The loop ----

    /// An alarm with that token, at that time.
    pub fn alarm(&mut self, at: Time, token: u64) {
        self.queue.push(at.max(self.now), Happening::Alarm { token });
    }

    /// Lets things happen until an alarm, until nothing is left, or up to `until`, which is then the time.
    pub fn run(&mut self, until: Time) -> Stop {
        loop {
            if self.hooks.halted() {
                return Stop::Halted;
            }
            let Some((at, what)) = self.queue.pop(until) else {
                if self.queue.is_empty() {
                    return Stop::Quiet;
                }
                self.now = until;
                return Stop::Time;
            };
            self.now = at;
            self.counts.happenings += 1;
            match what {
                Happening::Alarm { token } => return Stop::Alarm(token),
                Happening::Arrive { frame, port } => match self.ports[port as usize].1 {
                    Node::Host(host) => self.arrive(frame, host),
                    node => {
                        let port = self.spec.network.route(node, self.frames.get(frame).to, &mut self.spray);
                        self.offer(port, frame);
                    }
                },
                Happening::Free { port } => {
                    self.ports[port as usize].0.alarmed = false;
                    self.transmit(port);
                    if port < self.spec.network.hosts() {
                        self.pump(port);
                        self.rearm(port);
                    }
                }
                Happening::Wake { host } => {
                    let host_at = &mut self.hosts[host as usize];
                    if host_at.wake == at {
                        host_at.wake = NEVER;
                        self.settle(host);
                    }
                }
            }
        }
    }

    /// A frame is given to a port.
    fn offer(&mut self, port: u32, frame: u32) {
        let f = self.frames.get(frame);
        match self.ports[port as usize].0.offer(frame, f.wire, f.priority) {
            Offered::Waits => self.transmit(port),
            Offered::Dropped => self.lose(frame, Lost::QueueFull),
        }
    }

    /// A port begins with its next frame, if it can.
    fn transmit(&mut self, at: u32) {
        let port = &mut self.ports[at as usize].0;
        let frames = &self.frames;
        let started = port.start(self.now, |frame| frames.get(frame).wire);
        // Of a card, the endpoint wants to know; of others only who waits.
        let card = at < self.spec.network.hosts();
        if !port.alarmed && port.free_at() > self.now && (card || port.waiting() > 0) {
            port.alarmed = true;
            self.queue.push(port.free_at(), Happening::Free { port: at });
        }
        let Some((frame, out)) = started else { return };
        let arrives = out + port.spec().delay;
        if card {
            self.leave(frame, at, arrives);
        } else {
            self.queue.push(arrives, Happening::Arrive { frame, port: at });
        }
    }

    /// A frame leaves its host: the network's faults strike here.
    fn leave(&mut self, frame: u32, port: u32, arrives: Time) {
        let f = self.frames.get(frame);
        self.trace.note(
            self.now,
            "leave",
            &[
                ("host", f.from.into()),
                ("to", f.to.into()),
                ("frame", f.id),
                ("kind", f.kind().into()),
                ("prio", f.priority.into()),
                ("len", f.bytes.len() as u64),
                ("tail", f.tail()),
            ],
        );
        self.hooks.left(self.now, f);
        self.bind_frame(frame);
        let f = self.frames.get(frame);
        if self.partition.as_ref().is_some_and(|groups| groups[f.from as usize] != groups[f.to as usize]) {
            return self.lose(frame, Lost::Partition);
        }
        let verdict = self.hooks.verdict(self.now, f);
        let mut arrives = arrives;
        match verdict {
            Verdict::Pass => {}
            Verdict::Drop => return self.lose(frame, Lost::Judged),
            Verdict::Delay(by) => arrives += by,
            Verdict::Duplicate(by) => {
                let copy = self.frames.take();
                let original = self.frames.get(frame).clone();
                let id = self.frames.get(copy).id;
                *self.frames.get_mut(copy) = Frame { id, ..original };
                self.trace.note(self.now, "copy", &[("frame", id), ("by", by)]);
                self.queue.push(arrives + by, Happening::Arrive { frame: copy, port });
            }
            Verdict::Corrupt { at, xor } => {
                if let Some(byte) = self.frames.get_mut(frame).bytes.get_mut(at as usize) {
                    *byte ^= xor;
                }
                self.trace.note(self.now, "corrupt", &[("at", at.into()), ("xor", xor.into())]);
            }
            Verdict::Truncate(len) => {
                self.frames.get_mut(frame).bytes.truncate(len as usize);
                self.trace.note(self.now, "truncate", &[("len", len.into())]);
            }
            Verdict::Extend { by, with } => {
                let bytes = &mut self.frames.get_mut(frame).bytes;
                bytes.resize(bytes.len() + by as usize, with);
                self.trace.note(self.now, "extend", &[("by", by.into()), ("with", with.into())]);
            }
        }
        self.queue.push(arrives, Happening::Arrive { frame, port });
    }

    fn lose(&mut self, frame: u32, why: Lost) {
        self.counts.lost += 1;
        let f = self.frames.get(frame);
        self.trace.note(self.now, "lost", &[("frame", f.id), ("why", why as u64)]);
        self.hooks.lost(self.now, f, why);
        self.frames.give_back(frame);
    }

    /// A frame reaches a host.
    fn arrive(&mut self, frame: u32, at: u32) {
        if self.lose_dead(frame) {
            return;
        }
        let shard = self.arrives_at(at, frame);
        let host = &mut self.hosts[at as usize];
        let local = host.local(self.now);
        let Some(endpoint) = host.shard(shard) else { return self.lose(frame, Lost::HostDown) };
        let f = self.frames.get(frame);
        self.trace.note(self.now, "arrive", &[("host", at.into()), ("frame", f.id)]);
        self.counts.arrived += 1;
        self.hooks.arriving(self.now, f, endpoint);
        // One buffer for all, while nobody keeps it: it stays in the cache.
        let mut buffer = self.spare.take().unwrap_or_else(|| endpoint.buffer());
        let len = f.bytes.len();
        buffer.bytes()[..len].copy_from_slice(&f.bytes);
        self.spare = endpoint.handle_datagrams(local, address_of(f.from, f.from_binding), buffer, len, len);
        self.hooks.arrived(self.now, f, endpoint);
        self.frames.give_back(frame);
        self.settle(at);
    }

    /// An endpoint was told something: what it wants to say, to send, and to be called for.
    fn settle(&mut self, at: u32) {
        if !self.hosts[at as usize].more.is_empty() {
            self.settle_shards(at);
        }
        let host = &mut self.hosts[at as usize];
        let local = host.local(self.now);
        let Some(endpoint) = host.endpoint.as_mut() else { return };
        loop {
            while let Some(event) = endpoint.poll_event() {
                self.trace.event(self.now, at, &event);
                self.hooks.event(self.now, at, endpoint, local, event);
            }
            if endpoint.timeout().is_none_or(|due| due > local) {
                break;
            }
            endpoint.handle_timeout(local);
        }
        self.pump(at);
        self.rearm(at);
        if let Some(endpoint) = &self.hosts[at as usize].endpoint {
            self.hooks.settled(self.now, at, endpoint);
        }
    }

    /// A host's card takes what the endpoint has to send, as far as it has room.
    fn pump(&mut self, at: u32) {
        loop {
            let host = &mut self.hosts[at as usize];
            let local = host.local(self.now);
            let card = &self.ports[at as usize].0;
            if card.free_at() > self.now && card.waiting() >= host.card_frames {
                return;
            }
            let Some(train) = host.next_train(local, &mut self.scratch) else { return };
            let to = host_at(train.to).filter(|to| *to < self.spec.network.hosts() && *to != at);
            let Some(to) = to else {
                self.counts.nowhere += 1;
                continue;
            };
            for bytes in self.scratch[..train.len].chunks(train.segment) {
                let frame = self.frames.take();
                let f = self.frames.get_mut(frame);
                f.bytes.extend_from_slice(bytes);
                (f.from, f.to, f.priority) = (at, to, train.priority);
                f.to_binding = binding_of(train.to);
                f.wire = (self.spec.charge)(f);
                let wire = f.wire;
                self.ports[at as usize].0.offer(frame, wire, 0);
            }
            self.transmit(at);
        }
    }

    /// The event queue knows when a host's timer wants to be called.
    fn rearm(&mut self, at: u32) {
        let host = &mut self.hosts[at as usize];
        let due = host.due();
        let Some(due) = due.filter(|due| *due != Instant::FAR) else { return };
        // Not now: whatever is due now was called for, or waits for the card.
        let due = host.skew.global(due).max(self.now + NS);
        if due < host.wake {
            host.wake = due;
            self.queue.push(due, Happening::Wake { host: at });
        }
    }
}
