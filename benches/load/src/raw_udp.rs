//! Peers `udp`, `udp-pack` and `udp-ideal`: the floors. Datagrams with GSO and GRO, no framing, no retransmission.
//!
//! Owns: how messages become trains, and a window so that no receive buffer overflows. A message takes as many equal
//! datagrams as it needs (the last is padded by a few bytes), so several messages can share one train: those of one datagram do, longer
//! ones only in `udp-pack`. Both sides know
//! the size of messages, so a train is read as a stream of them. Sockets are connected.
//!
//! A lost datagram is noticed by silence: the client greets anew (an empty datagram), the server forgets what it had.
//! Refuses to hide a loss: each is counted by the caller.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, connect, recv, recvfrom, send};
use socket2::SockRef;
use udp::{Datagrams, Mmsg, Options, SendError, Transmit};

use crate::buffer::{Block, Buffer};
use crate::client::{Client, Deliver, REPLY_TIMEOUT};
use crate::layout::Layout;
use crate::pattern::Pattern;
use crate::served::Served;
use crate::spec::{Mode, PeerKind, SPIN, Spec};
use crate::udp_ideal::{Cut, Records};

/// Receive buffer to ask for; less where the system says so, and the window with it.
const RECEIVE_BUFFER_BYTES: usize = 16 << 20;

/// A greeting: an empty datagram. Answered with the same.
pub(crate) const HELLO: &[u8] = &[];

/// So many greetings in a row, with nothing between, are a farewell: a server in a thread must end too.
pub(crate) const FAREWELL: u32 = 3;

/// An acknowledgement inside a message that is larger than the window.
const ACK: &[u8] = &[1];

/// A connected socket and what it agreed on with its peer.
#[derive(Debug)]
pub(crate) struct Port {
    socket: Mmsg,
    peer: SocketAddr,
    mode: Mode,
    pub(crate) layout: Layout,
    /// Bytes that may be on their way to a receiver that does not read.
    pub(crate) window: usize,
}

impl Port {
    #[expect(clippy::field_reassign_with_default, reason = "`Options` is non-exhaustive")]
    pub(crate) fn bind(spec: &Spec) -> Result<Self> {
        let mut options = Options::default();
        options.receive_buffer_bytes = RECEIVE_BUFFER_BYTES;
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let socket = udp::bind(local, &options)?;
        if !spec.mode.polls() {
            SockRef::from(&socket.fds()).set_nonblocking(false)?;
        }
        let segments_max = socket.caps().segments_max();
        let layout = match spec.peer {
            PeerKind::UdpIdeal => Layout::of_records(Cut::new(spec.size), spec.mtu, segments_max),
            peer => Layout::new(spec.size, spec.mtu, segments_max, peer == PeerKind::UdpPack),
        };
        // The kernel counts its bookkeeping as well, which at worst doubles what a train takes.
        let window = (socket.caps().receive_buffer_bytes / 2).max(layout.train);
        Ok(Self { socket, peer: local, mode: spec.mode, layout, window })
    }

    /// A client's end.
    pub(crate) fn connected(spec: &Spec, server: u16) -> Result<Self> {
        let mut port = Self::bind(spec)?;
        port.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, server)))?;
        SockRef::from(&port.socket.fds()).set_read_timeout(Some(REPLY_TIMEOUT))?;
        Ok(port)
    }

    /// Waits for a client's greeting, and answers it.
    pub(crate) fn accept(&mut self) -> Result<()> {
        let fds = self.socket.fds();
        SockRef::from(&fds).set_nonblocking(false)?;
        let (_, len, from) = recvfrom(fds, &mut [0; 16][..], RecvFlags::empty())?;
        let from = from.and_then(|from| SocketAddr::try_from(from).ok());
        ensure!(len == HELLO.len(), "the client did not greet");
        self.connect(from.context("a datagram without a source")?)?;
        self.send_one(HELLO)
    }

    /// The number of the port that it has.
    pub(crate) fn number(&self) -> u16 {
        self.socket.local_addr().port()
    }

    fn connect(&mut self, peer: SocketAddr) -> Result<()> {
        self.peer = peer;
        connect(self.socket.fds(), &peer).context("cannot connect a UDP socket")
    }

    /// What the next read brings; `None` for nothing, now or within the socket's timeout.
    pub(crate) fn receive(&self, into: &mut [u8]) -> Result<Option<usize>, Errno> {
        if self.mode == Mode::Adaptive {
            let since = Instant::now();
            while since.elapsed() < SPIN {
                match self.receive_now(into, RecvFlags::DONTWAIT) {
                    Ok(None) => std::hint::spin_loop(),
                    found => return found,
                }
            }
        }
        self.receive_now(into, if self.mode.polls() { RecvFlags::DONTWAIT } else { RecvFlags::empty() })
    }

    fn receive_now(&self, into: &mut [u8], flags: RecvFlags) -> Result<Option<usize>, Errno> {
        match recv(self.socket.fds(), into, flags) {
            Ok((len, _)) => Ok(Some(len)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub(crate) fn send_one(&self, datagram: &[u8]) -> Result<()> {
        loop {
            match send(self.socket.fds(), datagram, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN | Errno::INTR) => std::hint::spin_loop(),
                // The server is gone; silence will say so.
                Err(Errno::CONNREFUSED) => return Ok(()),
                Err(e) => bail!("cannot send a datagram: {e}"),
            }
        }
    }

    /// Sends whole messages, or a part of one that is larger than a train.
    pub(crate) fn send_trains(&mut self, bytes: &[u8]) -> Result<()> {
        for mut train in bytes.chunks(self.layout.train) {
            if train.len() <= self.layout.segment {
                self.send_one(train)?;
                continue;
            }
            loop {
                let transmit = Transmit { to: self.peer, bytes: train, segment: self.layout.segment, tos: None };
                match self.socket.transmit(&transmit) {
                    Ok(()) => break,
                    Err(SendError::WouldBlock { sent }) => train = &train[sent..],
                    Err(e) => return Err(e).context("cannot send a train"),
                }
            }
        }
        Ok(())
    }

    /// Sends one message that is larger than the window: never more than a window ahead of the acknowledgements.
    fn send_in_blocks(&mut self, message: &[u8]) -> Result<()> {
        let mut acks_missing = 0;
        for block in message.chunks(self.block()) {
            let since = Instant::now();
            while acks_missing >= 2 {
                match self.receive(&mut [0; 16])? {
                    Some(len) if len == ACK.len() => acks_missing -= 1,
                    // The client gave this message up.
                    Some(0) => return self.send_one(HELLO),
                    // Something was lost; whoever waits for this message will notice.
                    _ if since.elapsed() > REPLY_TIMEOUT => return Ok(()),
                    _ => {}
                }
            }
            self.send_trains(block)?;
            acks_missing += 1;
        }
        Ok(())
    }

    /// Bytes between two acknowledgements, where there are any: whole trains, half a window.
    fn block(&self) -> usize {
        (self.window / 2 / self.layout.train).max(1) * self.layout.train
    }

    /// The records of a peer that seals, made by `new`.
    fn records(&self, spec: &Spec, new: fn(Cut, usize, usize) -> Records) -> Option<Records> {
        let Layout { stride, train, .. } = self.layout;
        // What leaves in blocks is cut anew.
        let at_once = if stride <= self.window { train } else { stride };
        (spec.peer == PeerKind::UdpIdeal).then(|| new(Cut::new(spec.size), stride, at_once))
    }

    /// Sends messages, in blocks if they are that large.
    fn send_messages(&mut self, messages: &[u8]) -> Result<()> {
        if self.layout.stride <= self.window {
            return self.send_trains(messages);
        }
        messages.chunks(self.layout.stride).try_for_each(|message| self.send_in_blocks(message))
    }
}

/// Messages as they come in, end to end.
#[derive(Debug)]
struct Inbox {
    bytes: Block,
    filled: usize,
}

/// What one receive call meant.
#[derive(Debug, PartialEq, Eq)]
enum Arrival {
    Nothing,
    Hello,
    Bytes,
}

impl Inbox {
    fn new(port: &Port) -> Self {
        Self { bytes: Block::amid_page(port.layout.stride + (64 << 10)), filled: 0 }
    }

    fn fill(&mut self, port: &Port) -> Result<Arrival, Errno> {
        let has_acks = port.layout.stride > port.window;
        let space = &mut self.bytes[self.filled..];
        let Some(len) = port.receive(space)? else { return Ok(Arrival::Nothing) };
        match len {
            0 => return Ok(Arrival::Hello),
            1 if has_acks => return Ok(Arrival::Nothing),
            _ => {}
        }
        let before = self.filled;
        self.filled += len;
        if has_acks && before / port.block() != self.filled / port.block() {
            let _ = port.send_one(ACK);
        }
        Ok(Arrival::Bytes)
    }

    fn whole(&self, port: &Port) -> usize {
        self.filled / port.layout.stride * port.layout.stride
    }

    fn consume(&mut self, len: usize) {
        self.bytes.copy_within(len..self.filled, 0);
        self.filled -= len;
    }
}

/// The client.
pub(crate) struct Caller {
    port: Port,
    records: Option<Records>,
    pattern: Arc<Pattern>,
    size: usize,
    unsent: Range<u64>,
    expected: u64,
    stage: Buffer,
    inbox: Inbox,
}

impl Caller {
    pub(crate) fn connect(spec: &Spec, server: u16, pattern: &Arc<Pattern>) -> Result<Self> {
        let port = Port::connected(spec, server)?;
        let inbox = Inbox::new(&port);
        let (pattern, size) = (pattern.clone(), spec.size);
        let records = port.records(spec, Records::client);
        let mut caller = Self {
            port,
            records,
            pattern,
            size,
            unsent: 0..0,
            expected: 0,
            stage: Buffer::with_capacity(64 << 10),
            inbox,
        };
        caller.greet()?;
        Ok(caller)
    }

    /// Asks the server to start over, and waits for its answer. What else arrives is forgotten.
    fn greet(&mut self) -> Result<()> {
        for _ in 1..FAREWELL {
            self.port.send_one(HELLO)?;
            let since = Instant::now();
            while since.elapsed() < REPLY_TIMEOUT {
                self.inbox.filled = 0;
                if self.inbox.fill(&self.port)? == Arrival::Hello {
                    self.inbox.filled = 0;
                    return Ok(());
                }
            }
        }
        bail!("the server does not answer")
    }

    fn push(&mut self) -> Result<()> {
        let Layout { stride, train, .. } = self.port.layout;
        let in_flight = |first: u64, expected: u64| (first - expected) as usize * stride;
        while !self.unsent.is_empty() {
            let first = self.unsent.start;
            let used = in_flight(first, self.expected);
            let room = self.port.window.saturating_sub(used) / stride;
            let room = if used == 0 { room.max(1) } else { room };
            let count = room.min(self.unsent.end as usize - first as usize).min((train / stride).max(1));
            match (count, &mut self.records) {
                (0, _) => break,
                // Each has records, and a train, of its own.
                (_, Some(records)) => {
                    for id in first..first + count as u64 {
                        records.out.seal(self.pattern.message(id), |sealed| self.port.send_messages(sealed))?;
                    }
                }
                (1, None) => self.port.send_messages(self.pattern.padded(first, stride))?,
                (_, None) => {
                    self.stage.clear();
                    for id in first..first + count as u64 {
                        self.stage.append(self.pattern.padded(id, stride));
                    }
                    self.port.send_trains(self.stage.filled())?;
                }
            }
            self.unsent.start += count as u64;
        }
        Ok(())
    }
}

impl Client for Caller {
    fn send(&mut self, ids: Range<u64>) -> Result<()> {
        if self.unsent.is_empty() {
            self.unsent = ids;
        } else {
            self.unsent.end = ids.end;
        }
        self.push()
    }

    fn receive(&mut self, deliver: Deliver<'_>) -> Result<bool> {
        match self.inbox.fill(&self.port) {
            Ok(Arrival::Bytes) => {}
            Ok(_) => return Ok(false),
            Err(e) => bail!("cannot receive: {e}"),
        }
        let whole = self.inbox.whole(&self.port);
        for message in self.inbox.bytes[..whole].chunks_mut(self.port.layout.stride) {
            match &mut self.records {
                Some(records) => deliver(self.expected, records.back.open(message)?),
                None => deliver(self.expected, &message[..self.size]),
            }
            self.expected += 1;
        }
        self.inbox.consume(whole);
        if let Some(records) = &mut self.records {
            records.back.open_some(&self.inbox.bytes[..self.inbox.filled])?;
        }
        self.push()?;
        Ok(true)
    }

    fn reset(&mut self, next: u64) -> Result<()> {
        self.unsent = next..next;
        self.expected = next;
        if let Some(records) = &mut self.records {
            records.back.forget();
        }
        self.greet()
    }
}

/// The server's socket.
pub(crate) struct Echo {
    port: Port,
    records: Option<Records>,
}

impl Echo {
    pub(crate) fn bind(spec: &Spec) -> Result<Self> {
        let port = Port::bind(spec)?;
        let records = port.records(spec, Records::server);
        Ok(Self { port, records })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// Waits for a client.
    pub(crate) fn accept(mut self) -> Result<Box<dyn Served>> {
        self.port.accept()?;
        let inbox = Inbox::new(&self.port);
        Ok(Box::new(Server { port: self.port, records: self.records, inbox, greetings: 0 }))
    }
}

/// The server with its client.
struct Server {
    port: Port,
    records: Option<Records>,
    inbox: Inbox,
    greetings: u32,
}

impl Served for Server {
    fn turn(&mut self) -> Result<bool> {
        let Self { port, records, inbox, greetings } = self;
        match inbox.fill(port) {
            Ok(Arrival::Nothing) => std::hint::spin_loop(),
            Ok(Arrival::Hello) => {
                *greetings += 1;
                inbox.filled = 0;
                if let Some(records) = records {
                    records.back.forget();
                }
                port.send_one(HELLO)?;
            }
            Ok(Arrival::Bytes) => {
                *greetings = 0;
                let whole = inbox.whole(port);
                match records {
                    Some(records) => {
                        for message in inbox.bytes[..whole].chunks_exact_mut(port.layout.stride) {
                            records.out.seal(records.back.open(message)?, |sealed| port.send_messages(sealed))?;
                        }
                    }
                    None => port.send_messages(&inbox.bytes[..whole])?,
                }
                inbox.consume(whole);
                if let Some(records) = records {
                    records.back.open_some(&inbox.bytes[..inbox.filled])?;
                }
            }
            Err(Errno::CONNREFUSED) => return Ok(false),
            Err(e) => bail!("cannot receive: {e}"),
        }
        Ok(*greetings < FAREWELL)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // One more: a server in the middle of a large message takes the first as its end.
        for _ in 0..=FAREWELL {
            let _ = self.port.send_one(HELLO);
        }
    }
}
