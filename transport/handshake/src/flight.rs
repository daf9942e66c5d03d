//! Owns the way of two byte streams per direction over a network that loses, reorders, repeats and alters packets. [P-6.2]
//!
//! Each packet carries one fragment and, in passing, how much of the other side's streams is here. What is not acknowledged
//! in time is sent again from the first missing byte on, in new packets: no packet number is used twice, for it is a nonce.
//! A packet whose tag is bad changes nothing. Until the other side's address is proven, at most three times what came from
//! it is sent to it. [P-6.4] The flight knows nothing of TLS: streams of bytes go in and come out.

use proto::time::Instant;
use record::aead::Crypto;
use wire::bytes::Writer;
use wire::handshake::{
    COOKIE_MAX, FLAG_ALERT, FLAG_CLIENT, FLAG_PING, HANDSHAKE_OVERHEAD, HandshakeFields, HandshakePacket, Level, Method,
};
use wire::ids::{SessionId, Side};
use wire::limits::{DATAGRAM_MIN, TAG_LEN};

use crate::assembly::NotKept;
use crate::contract::Reason;
use crate::error::Alert;
use crate::guard::Guard;
use crate::limits::{ACK_DELAY, DOUBT_AFTER, INITIAL_MAX, SEALED_MAX, WINDOW};
use crate::pace::Pace;

mod early;
mod parts;

use parts::{AlertOut, Credit, Stream};

/// What an accepted packet was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Part of the streams. `again`: it brought nothing new, or asked for an answer.
    Fragment { again: bool },
    /// An alert, and whether it is certain that the other side sent it.
    Alert { alert: Alert, proven: bool },
    /// A request of the first flight, or the response to one.
    Message(Vec<u8>),
    /// A sealed fragment beyond the longest stream: the other side's flight is too long.
    TooLong,
}

/// What a flight is between, and how.
pub(crate) struct Ends {
    pub(crate) side: Side,
    pub(crate) method: Method,
    pub(crate) local: SessionId,
    /// [`SessionId::NONE`] until a client has learned it.
    pub(crate) remote: SessionId,
    pub(crate) datagram_max: usize,
    /// Whether the other side's address is proven already.
    pub(crate) validated: bool,
}

/// The streams of one handshake.
pub(crate) struct Flight {
    crypto: &'static dyn Crypto,
    ends: Ends,
    streams: [Stream; 2],
    guards: [Option<Guard>; 2],
    cookie: Vec<u8>,
    number: u32,
    /// What to echo: one more than the highest number that came at each level, and when it came.
    echo: [(u32, Instant); 2],
    pace: Pace,
    credit: Option<Credit>,
    /// Whether the other side showed that it has the sealed level's keys.
    sealed_seen: bool,
    repeat_at: Option<Instant>,
    /// When a fragment was last sent.
    sent_at: Option<Instant>,
    ack_at: Option<Instant>,
    ack: bool,
    ping: bool,
    /// Whether the other side is poked when all is acknowledged: the client keeps the handshake going.
    poke: bool,
    alert: Option<AlertOut>,
    /// Whether the other side is known to have all that was sent.
    settled: bool,
    /// Requests of the first flight, or responses to them, and whether they go now.
    messages: Vec<(Vec<u8>, bool)>,
    /// The first flight's key. [P-6.9]
    early: Option<Guard>,
    /// What seals early responses where there is no sealed level. [P-6.11]
    reply: Option<Guard>,
    /// Where a packet stands that passed the public check already: the next one, or none.
    vouched: Option<usize>,
}

impl Flight {
    pub(crate) fn new(crypto: &'static dyn Crypto, ends: Ends, initial: Guard) -> Self {
        assert!(ends.datagram_max >= DATAGRAM_MIN, "every path carries datagrams of {DATAGRAM_MIN} bytes");
        Self {
            crypto,
            streams: [Stream::new(INITIAL_MAX), Stream::new(SEALED_MAX)],
            guards: [Some(initial), None],
            cookie: Vec::new(),
            number: 0,
            echo: [(0, Instant::ZERO); 2],
            pace: Pace::new(),
            credit: (!ends.validated).then(Credit::default),
            sealed_seen: false,
            repeat_at: None,
            sent_at: None,
            ack_at: None,
            ack: false,
            ping: false,
            poke: ends.side == Side::Client,
            alert: None,
            settled: false,
            messages: Vec::new(),
            early: None,
            reply: None,
            vouched: None,
            ends,
        }
    }

    pub(crate) const fn side(&self) -> Side {
        self.ends.side
    }

    pub(crate) const fn remote(&self) -> SessionId {
        self.ends.remote
    }

    pub(crate) const fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Whether anything was accepted so far.
    pub(crate) fn heard(&self) -> bool {
        self.echo.iter().any(|&(echo, _)| echo != 0)
    }

    /// Whether the sealed level's keys are there.
    pub(crate) const fn can_seal(&self) -> bool {
        self.guards[1].is_some()
    }

    /// Whether the other side showed that it is who agreed on the keys.
    pub(crate) const fn is_proven(&self) -> bool {
        match self.ends.side {
            Side::Client => self.can_seal(),
            Side::Server => self.sealed_seen,
        }
    }

    /// The sealed level begins.
    #[cfg(feature = "tls")]
    pub(crate) fn set_sealed(&mut self, guard: Guard) {
        self.guards[1] = Some(guard);
        if self.ends.side == Side::Client {
            // The server has the first flight, or will never take it.
            (self.messages, self.early) = (Vec::new(), None);
        }
    }

    /// Appends to a stream.
    pub(crate) fn write(&mut self, level: Level, bytes: &[u8]) {
        self.streams[level.index()].out.extend_from_slice(bytes);
    }

    /// What is next in order in one of the other side's streams.
    pub(crate) fn read(&mut self, level: Level) -> Option<Vec<u8>> {
        self.streams[level.index()].inward.take()
    }

    /// Ends all sending but that of an alert, if one is given. The alert is sealed where that is possible.
    pub(crate) fn fail(&mut self, alert: Option<Alert>) {
        (self.repeat_at, self.ack_at, self.ack, self.ping, self.poke) = (None, None, false, false, false);
        self.streams.iter_mut().for_each(|stream| stream.out = Vec::new());
        (self.messages, self.early) = (Vec::new(), None);
        self.alert = alert.map(|alert| AlertOut { alert, due: true });
    }

    /// All is done: nothing is sent any more.
    pub(crate) fn finish(&mut self) {
        self.fail(None);
    }

    /// All that was sent was acknowledged by deeds: nothing needs to be repeated. What follows, tickets, is sent once: to lose
    /// it costs a later handshake some time, and this one nothing. [P-6.8]
    pub(crate) fn settle(&mut self) {
        self.settled = true;
        (self.repeat_at, self.ack_at) = (None, None);
        for stream in &mut self.streams {
            (stream.acked, stream.next) = (stream.sent, stream.sent);
        }
    }

    /// A server wants the address proven: everything goes out again, with its cookie.
    pub(crate) fn retry(&mut self, cookie: &[u8]) {
        debug_assert!(cookie.len() <= COOKIE_MAX, "checked by the parser");
        self.cookie = cookie.to_vec();
        self.repeat_at = None;
        self.repeat_messages();
        self.resend_all(Level::Initial);
    }

    fn resend_all(&mut self, level: Level) {
        let stream = &mut self.streams[level.index()];
        (stream.acked, stream.next) = (0, 0);
    }

    // ---- in ----

    /// Takes a packet that came at `came`, or says why not.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        came: Instant,
        packet: &HandshakePacket<'_>,
        datagram_len: usize,
    ) -> Result<Arrival, Reason> {
        self.addressed(packet)?;
        if packet.fields.level == Level::Early {
            return self.receive_message(packet, datagram_len);
        }
        let vouched = self.vouched.take() == Some(packet.covered.as_ptr().addr());
        let (fragment, proven) = if vouched { (packet.fragment.to_vec(), false) } else { self.open(packet)? };
        if let Some(credit) = &mut self.credit {
            credit.received += datagram_len;
        }
        if packet.alert() {
            let alert = Alert(fragment.first().copied().unwrap_or_default());
            return Ok(Arrival::Alert { alert, proven });
        }
        // Who puts our session id into a packet received one of ours: 43 bits of it are random. [P-6.4]
        if packet.header.session == self.ends.local {
            self.credit = None;
        }
        if self.ends.remote == SessionId::NONE {
            self.ends.remote = packet.fields.sender;
            self.cookie = Vec::new();
        }
        self.sealed_seen |= packet.fields.level == Level::Sealed;
        let echo = &mut self.echo[packet.fields.level.index()];
        let heard = packet.fields.number.saturating_add(1);
        if heard > echo.0 {
            *echo = (heard, came);
        }
        if proven {
            self.pace.echo(packet.fields.echo, packet.fields.echo_age, came);
        }
        self.acknowledged(now, packet);
        self.keep(now, packet, &fragment)
    }

    /// Whether the packet is for this handshake at all.
    fn addressed(&self, packet: &HandshakePacket<'_>) -> Result<(), Reason> {
        let (ends, to, from) = (&self.ends, packet.header.session, packet.fields.sender);
        let first = ends.side == Side::Server && to == SessionId::NONE;
        if packet.from_client() == (ends.side == Side::Client) {
            Err(Reason::Direction)
        } else if packet.fields.method != ends.method {
            Err(Reason::Method)
        } else if (to != ends.local && !first) || (ends.remote != SessionId::NONE && from != ends.remote) {
            // An alert may come from a server that made no session and so has no name for one.
            let refusal = packet.alert() && to == ends.local && from == ends.local;
            if refusal { Ok(()) } else { Err(Reason::Session) }
        } else {
            Ok(())
        }
    }

    /// The fragment in clear, and whether the other side must have sent it.
    fn open(&self, packet: &HandshakePacket<'_>) -> Result<(Vec<u8>, bool), Reason> {
        let Some(Some(guard)) = self.guards.get(packet.fields.level.index()) else {
            return Err(Reason::Early);
        };
        if let Some(fragment) = guard.open(self.crypto, packet) {
            return Ok((fragment, guard.proves()));
        }
        // A server that does not know an installed secret cannot say so under it.
        if packet.alert()
            && packet.fields.level == Level::Initial
            && let Some(fragment) = Guard::Public.open(self.crypto, packet)
        {
            return Ok((fragment, false));
        }
        Err(Reason::Tag)
    }

    fn acknowledged(&mut self, now: Instant, packet: &HandshakePacket<'_>) {
        let mut progress = false;
        for level in Level::STREAMS {
            // What is acknowledged of the sealed stream counts only under its seal.
            if level > packet.fields.level {
                continue;
            }
            let stream = &mut self.streams[level.index()];
            let ack = packet.fields.acks[level.index()] as usize;
            if ack > stream.acked && ack <= stream.sent {
                (stream.acked, stream.next) = (ack, stream.next.max(ack));
                progress = true;
            }
        }
        if progress {
            self.pace.progress();
            let waiting = self.poke || self.streams.iter().any(|stream| stream.acked < stream.sent);
            self.repeat_at = waiting.then(|| now + self.pace.interval());
        }
    }

    fn keep(&mut self, now: Instant, packet: &HandshakePacket<'_>, fragment: &[u8]) -> Result<Arrival, Reason> {
        let level = packet.fields.level;
        let offset = packet.fields.offset as usize;
        let inward = &mut self.streams[level.index()].inward;
        // Once there are keys the initial stream is complete; what anyone may append to it must not reach TLS.
        let complete = level == Level::Initial && self.guards[1].is_some();
        let fresh = match inward.insert(offset, if complete { &[] } else { fragment }) {
            Ok(fresh) => fresh,
            Err(NotKept::TooFar) if level == Level::Sealed => return Ok(Arrival::TooLong),
            Err(NotKept::TooFar | NotKept::TooScattered) => return Err(Reason::Beyond),
        };
        let again = packet.ping() || (!fragment.is_empty() && !fresh);
        if again {
            self.ack = true;
            // The other side repeats itself, so it lacks what we said last; no need to wait for our own clock.
            if self.sent_at.is_some_and(|at| now.since(at) >= self.pace.round_trip()) {
                self.streams.iter_mut().for_each(|stream| stream.next = stream.acked);
            }
        } else if fresh {
            self.pace.progress();
            self.ack_at.get_or_insert(now + ACK_DELAY);
        }
        Ok(Arrival::Fragment { again })
    }

    // ---- time ----

    pub(crate) fn timeout(&self) -> Option<Instant> {
        self.repeat_at.into_iter().chain(self.ack_at).min()
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.ack_at.is_some_and(|at| at <= now) {
            (self.ack_at, self.ack) = (None, true);
        }
        if self.repeat_at.is_none_or(|at| at > now) {
            return;
        }
        self.repeat_at = None;
        // What the path was believed to carry may be why nothing came back.
        self.ends.datagram_max = DATAGRAM_MIN;
        let repeats = self.pace.repeat();
        self.repeat_messages();
        self.streams.iter_mut().for_each(|stream| stream.next = stream.acked);
        // Acknowledgements in clear can be forged; nothing is lost by not believing them for ever.
        if repeats.is_multiple_of(DOUBT_AFTER)
            && !self.is_proven()
            && !self.guards[0].as_ref().is_some_and(Guard::proves)
        {
            self.resend_all(Level::Initial);
        }
        self.ping = self.poke && self.streams.iter().all(|stream| stream.next == stream.out.len());
    }

    // ---- out ----

    /// Whether a datagram that was just written may have so many bytes of padding, because more follows it at once.
    pub(crate) fn pad(&mut self, bytes: usize) -> bool {
        let has_more = |stream: &Stream| stream.next < stream.out.len().min(stream.acked + WINDOW);
        let more = self.messages.iter().any(|(_, due)| *due) || self.streams.iter().any(has_more);
        more && self.credit.as_mut().is_none_or(|credit| credit.take(bytes))
    }

    /// Writes the next datagram, if there is one to be sent now.
    pub(crate) fn poll(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        let out_max = out.len().min(self.ends.datagram_max);
        let out = &mut out[..out_max];
        if let Some(alert) = &self.alert {
            return if alert.due { self.emit_alert(now, out) } else { None };
        }
        for level in Level::STREAMS {
            let stream = &self.streams[level.index()];
            let end = stream.out.len().min(stream.acked + WINDOW);
            if self.guards[level.index()].is_some() && stream.next < end {
                let room = out.len().saturating_sub(HANDSHAKE_OVERHEAD + self.cookie.len());
                let range = stream.next..end.min(stream.next + room);
                let fragment = stream.out[range.clone()].to_vec();
                if fragment.is_empty() {
                    return None;
                }
                let len = self.emit(now, out, 0, level, range.start, &fragment)?;
                let stream = &mut self.streams[level.index()];
                (stream.next, stream.sent) = (range.end, stream.sent.max(range.end));
                if self.settled {
                    stream.acked = stream.next;
                    self.repeat_at = None;
                }
                self.ping = false;
                return Some(len);
            }
            // A client's requests go behind its first words, a server's responses behind its last.
            if (level == Level::Initial) == (self.ends.side == Side::Client)
                && let Some(at) = self.messages.iter().position(|(_, due)| *due)
            {
                return self.poll_message(now, out, at);
            }
        }
        if self.ping || self.ack {
            let level = if self.can_seal() && (self.ends.side == Side::Client || self.sealed_seen) {
                Level::Sealed
            } else {
                Level::Initial
            };
            let flags = if self.ping { FLAG_PING } else { 0 };
            let offset = self.streams[level.index()].next;
            let len = self.emit(now, out, flags, level, offset, &[])?;
            self.ping = false;
            return Some(len);
        }
        None
    }

    fn emit_alert(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        let level = if self.can_seal() { Level::Sealed } else { Level::Initial };
        let code = self.alert.as_ref()?.alert.0;
        let len = self.emit(now, out, FLAG_ALERT, level, 0, &[code])?;
        self.alert.as_mut()?.due = false;
        self.repeat_at = None;
        Some(len)
    }

    /// One packet. `None`: the address is not proven and has had enough, or numbers have run out.
    fn emit(
        &mut self,
        now: Instant,
        out: &mut [u8],
        flags: u8,
        level: Level,
        offset: usize,
        fragment: &[u8],
    ) -> Option<usize> {
        let ends = &self.ends;
        let packet_len = HANDSHAKE_OVERHEAD + self.cookie.len() + fragment.len();
        // A client pads the start of its stream, so that three times its length leave room for the server's flight. [P-6.4]
        let opens = ends.remote == SessionId::NONE
            && offset == 0
            && !fragment.is_empty()
            && flags == 0
            && level == Level::Initial;
        let len = if opens { packet_len.max(DATAGRAM_MIN) } else { packet_len };
        let out = out.get_mut(..len)?;
        if self.credit.as_mut().is_some_and(|credit| !credit.take(len)) {
            return None;
        }
        let number = self.number;
        self.number = number.checked_add(1)?;

        let (client, side_flag) = match ends.side {
            Side::Client => (ends.local, FLAG_CLIENT),
            Side::Server => (ends.remote, 0),
        };
        let header = HandshakePacket::header(flags | side_flag, ends.remote, client);
        // A number that came in clear may be anyone's; one that came sealed is the other side's.
        let (echo, heard_at) = if self.echo[1].0 != 0 { self.echo[1] } else { self.echo[0] };
        let fields = HandshakeFields {
            sender: ends.local,
            method: ends.method,
            level,
            number,
            echo,
            echo_age: u32::try_from(now.since(heard_at).as_micros()).unwrap_or(u32::MAX),
            offset: offset as u32,
            acks: [0, 1].map(|i: usize| self.streams[i].inward.contiguous() as u32),
        };
        let (packet, padding) = out.split_at_mut(packet_len);
        let mut w = Writer::new(packet);
        HandshakePacket::emit(&header, &fields, &self.cookie, fragment.len(), &mut w);
        let head = w.len();
        w.put(fragment);
        debug_assert_eq!(w.room(), TAG_LEN);
        let guard = if level == Level::Early { self.message_guard(true) } else { self.guards[level.index()].as_ref() };
        guard?.seal(self.crypto, number, head, packet);
        padding.fill(0);

        self.pace.sent(number, now);
        if level == Level::Early {
            return Some(len);
        }
        (self.ack, self.ack_at) = (false, None);
        if !fragment.is_empty() {
            self.sent_at = Some(now);
        }
        if flags != 0 || !fragment.is_empty() {
            let at = now + self.pace.interval();
            self.repeat_at.get_or_insert(at);
        }
        Some(len)
    }
}
