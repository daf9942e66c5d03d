//! Owns one session of a made capture: its handshake's first packets, its messages, and what its receivers say.
//!
//! Of the handshake there are the two packets from which a key log's line is found: a ClientHello and a ServerHello, as short as TLS 1.3
//! lets them be. They would not complete a handshake; everything after them is what endpoints send.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use offload::software::crypto;
use record::aead::Cipher;
use record::budget::Limits;
use record::epochs::Outbound;
use record::keys::Secret;
use record::seal::{Id, Ids, Message, seal_control};
use wire::bytes::Writer;
use wire::control::Frame;
use wire::data::emit_header;
use wire::geometry::Geometry;
use wire::handshake::{FLAG_CLIENT, HandshakeFields, HandshakePacket, Method};
use wire::header::{Header, PacketType};
use wire::ids::{RpcId, SessionId, Side};
use wire::limits::{CONTROL_HEADER_LEN, DATA_HEADER_LEN, DATAGRAM_MIN, PACKET_OVERHEAD, TAG_LEN};
use wire::slice::slice_header;
use wire::trailer::{Kind, Trailer};

use super::fault::Fate;
use super::rng::Rng;
use super::{Out, Plan};
use crate::counts::{LINGER_NS, SealedCounts, What, Which};
use crate::frame::write_ethernet;
use crate::keys::key_log_line;
use crate::truth::{Fault, Truth};

/// Time between two packets of a session: from this, twice as much at most.
const STEP_NS: u64 = 1_000;
/// Time between two messages of a session.
const PAUSE_NS: u64 = 20_000;
/// Bytes that are sent without grants.
const UNSCHEDULED: u32 = 10_000;
/// Most records of a message.
const RECORDS_MAX: u64 = 20;
/// How likely a message is the last of its epoch.
const REKEY: f64 = 0.02;
/// Public key of the tag of packets that prove nothing. [P-6.2]
const PUBLIC_CHECK: &[u8; 32] = b"sealane/1 handshake public check";

/// One direction.
#[derive(Debug)]
struct End {
    address: SocketAddr,
    id: SessionId,
    keys: Outbound,
    ids: Ids,
    /// Control numbers since the last packet of this epoch that were taken and not sent; `None` before the first.
    skipped: Option<u64>,
    sent: bool,
}

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    rng: Rng,
    random: [u8; 32],
    secret: [u8; 32],
    client: End,
    server: End,
    /// Packets that it may still write.
    quota: u64,
    greeted: bool,
    cipher: Cipher,
    /// A request that waits for its response, and who sent it.
    unanswered: Option<(RpcId, Side)>,
    body: Vec<u8>,
}

impl Session {
    pub(super) fn new(plan: &Plan, number: u64, quota: u64) -> Self {
        let mut rng = Rng::new(plan.seed, number + 1);
        let (random, secret) = (rng.bytes(), rng.bytes());
        let low = (number & 0xff_ffff) as u32;
        // Each eighth session is one of IPv6.
        let (client, server): (IpAddr, IpAddr) = if number % 8 == 7 {
            let host = |low: u32| Ipv6Addr::new(0xfd00, 0x5ea1, 0, 0, 0, 0, (low >> 16) as u16, low as u16);
            (host(low + 2).into(), host(1).into())
        } else {
            (Ipv4Addr::from(0x0a00_0002 + low).into(), Ipv4Addr::new(10, 255, 0, 1).into())
        };
        let mut end = |address, port, side| End {
            address: SocketAddr::new(address, port),
            id: SessionId::new(number as u32, rng.next()),
            keys: Outbound::new(crypto(), &Secret::new(secret), plan.cipher, side, Limits::PROTOCOL),
            ids: Ids::new(side),
            skipped: None,
            sent: false,
        };
        let (client, server) = (end(client, 40_000, Side::Client), end(server, 4433, Side::Server));
        let body = (0..65_536u64).map(|at| (at * 7 + number) as u8).collect();
        let cipher = plan.cipher;
        Self { rng, random, secret, client, server, quota, greeted: false, cipher, unanswered: None, body }
    }

    pub(super) fn key_log_line(&self) -> String {
        key_log_line(&self.random, &self.secret)
    }

    /// Writes what comes next from `at_ns` on; when to go on, `None` at the end.
    pub(super) fn go_on(&mut self, plan: &Plan, at_ns: u64, out: &mut Out) -> Option<u64> {
        let mut now_ns = at_ns;
        if self.greeted {
            self.exchange(plan, &mut now_ns, out);
        } else {
            self.greet(&mut now_ns, out);
            self.greeted = true;
        }
        (self.quota > 0).then(|| now_ns + PAUSE_NS + self.rng.below(PAUSE_NS))
    }

    /// Counts what only the end tells.
    pub(super) fn finish(self, truth: &mut Truth) {
        truth.counts.flows += u64::from(self.client.sent) + u64::from(self.server.sent);
    }

    fn end(&mut self, side: Side) -> (&mut End, &mut End) {
        match side {
            Side::Client => (&mut self.client, &mut self.server),
            Side::Server => (&mut self.server, &mut self.client),
        }
    }

    /// Writes a packet from `sender`, a little later than the last.
    fn write(&mut self, sender: Side, packet: &[u8], now_ns: &mut u64, out: &mut Out) -> Vec<u8> {
        *now_ns += STEP_NS + self.rng.below(STEP_NS);
        self.quota -= 1;
        let (from, to) = self.end(sender);
        let mut frame = Vec::with_capacity(packet.len() + 62);
        write_ethernet(from.address, to.address, packet, &mut frame);
        out.packet(*now_ns, frame.clone());
        frame
    }

    /// The packets from which the session's keys are found.
    fn greet(&mut self, now_ns: &mut u64, out: &mut Out) {
        let suite = match self.cipher {
            Cipher::Aes128Gcm => [0x13, 1],
            Cipher::Aes256Gcm => [0x13, 2],
            Cipher::ChaCha20Poly1305 => [0x13, 3],
        };
        let client_hello = [&[3, 3][..], &self.random, &[0, 0, 2], &suite, &[1, 0, 0, 0]].concat();
        let server_hello = [&[3, 3][..], &self.rng.bytes::<32>(), &[0], &suite, &[0, 0, 0]].concat();
        for (side, kind, body) in [(Side::Client, 1, client_hello), (Side::Server, 2, server_hello)] {
            let fragment = [&[kind, 0, 0, body.len() as u8][..], &body].concat();
            let (client, server) = (self.client.id, self.server.id);
            let (flags, sender, receiver) = match side {
                Side::Client => (FLAG_CLIENT, client, SessionId::NONE),
                Side::Server => (0, server, client),
            };
            let fields = HandshakeFields::first(sender, Method::Tls);
            let mut packet = [0; DATAGRAM_MIN];
            let mut w = Writer::new(&mut packet);
            let header = HandshakePacket::header(flags, receiver, client);
            HandshakePacket::emit(&header, &fields, &[], fragment.len(), &mut w);
            w.put(&fragment);
            let n = w.len();
            let tag = crypto().hmac(PUBLIC_CHECK, &packet[..n]);
            packet[n..n + TAG_LEN].copy_from_slice(&tag[..TAG_LEN]);
            // The client's first packet is padded. [P-6.4]
            let len = if side == Side::Client { packet.len() } else { n + TAG_LEN };
            self.write(side, &packet[..len], now_ns, out);
            out.truth.counts.handshake += 1;
        }
    }

    /// A message, or what else there is room for.
    fn exchange(&mut self, plan: &Plan, now_ns: &mut u64, out: &mut Out) {
        if self.rng.chance(REKEY) {
            let side = if self.rng.chance(0.5) { Side::Client } else { Side::Server };
            self.rekey(plan, side, now_ns, out);
        }
        let (sender, kind, answers) = match self.unanswered.take() {
            Some((rpc, side)) => (side.peer(), Kind::Response, Some(rpc)),
            None => {
                let sender = if self.rng.chance(0.8) { Side::Client } else { Side::Server };
                (sender, if self.rng.chance(0.9) { Kind::Request } else { Kind::OneWay }, None)
            }
        };
        if self.quota == 0 {
            return;
        }
        let records = match self.rng.below(20) {
            0..12 => 1,
            12..17 => 2 + self.rng.below(3),
            17..19 => 5 + self.rng.below(8),
            _ => 13 + self.rng.below(RECORDS_MAX - 12),
        };
        let (geometry, fate) = self.drawn(plan, records);
        self.message(plan, sender, kind, answers, geometry, &fate, now_ns, out);
    }

    /// How a message of so many records is cut, and what befalls it. What does not fit the rest is one of one record without any fault.
    fn drawn(&mut self, plan: &Plan, records: u64) -> (Geometry, Fate) {
        let spanning = if plan.spanning_records { self.cut(plan, records).spanning() } else { None };
        let drawn = match spanning {
            Some(geometry) => Fate::draw_spanning(plan, &mut self.rng, geometry),
            None => Fate::draw(plan, &mut self.rng, records as u16),
        };
        if drawn.packets() > self.quota {
            return (self.cut(plan, 1), Fate::plain());
        }
        (spanning.unwrap_or_else(|| self.cut(plan, records)), drawn)
    }

    fn cut(&mut self, plan: &Plan, records: u64) -> Geometry {
        Geometry::cut(self.length(plan, records), datagram(plan))
    }

    /// A length that is cut into so many records.
    fn length(&mut self, plan: &Plan, records: u64) -> usize {
        let most = (datagram(plan) - PACKET_OVERHEAD) as u64;
        let length = if records == 1 && self.rng.chance(0.7) {
            self.rng.below(200)
        } else {
            (records - 1) * most + 1 + self.rng.below(most)
        };
        length as usize
    }

    #[expect(clippy::too_many_arguments, reason = "one call, and all of it is of this message")]
    fn message(
        &mut self,
        plan: &Plan,
        sender: Side,
        kind: Kind,
        answers: Option<RpcId>,
        geometry: Geometry,
        fate: &Fate,
        now_ns: &mut u64,
        out: &mut Out,
    ) {
        let length = geometry.length() as usize;
        let mut trailer = Trailer::new(geometry, kind);
        trailer.unscheduled = geometry.length().min(UNSCHEDULED);
        let shift = self.rng.below(64) as usize;
        let body: Vec<u8> = self.body.iter().cycle().skip(shift).take(length).copied().collect();
        let (ours, theirs) = self.end(sender);
        let id = answers.map_or_else(|| ours.ids.take().expect("few sequences are used"), Id::response);
        let rpc = id.message().rpc();
        let which = Which { session: theirs.id.as_u64(), steer: 0, rpc: rpc.as_u48(), bundle: false };
        let mut message = Message::freeze(id, body, trailer, &[]);
        let packet_len = DATA_HEADER_LEN + message.record_len(0);
        let header = Header {
            kind: PacketType::Data,
            flags: 0,
            epoch: 0,
            priority: if geometry.records() == 1 { 7 } else { 3 },
            steer: 0,
            segment: if geometry.records() == 1 { 0 } else { packet_len as u16 },
            session: theirs.id,
        };
        if kind == Kind::Request {
            self.unanswered = Some((rpc, sender));
        }
        let mut sealed: Vec<Option<Vec<u8>>> = vec![None; geometry.records() as usize];
        let mut attempt = 0;
        for step in &fate.steps {
            let ours = self.end(sender).0;
            if step.attempt > attempt {
                message.unbind(&mut ours.keys);
                attempt = step.attempt;
            }
            message.bind(&mut ours.keys).expect("keys that protect little");
            ours.sent = true;
            let header = Header { epoch: ours.keys.epoch() as u8, ..header };
            let packet = packet(&message, &ours.keys, &header, step.index);
            let frame = self.write(sender, &packet, now_ns, out);
            let counts = &mut out.truth.counts;
            (counts.data, counts.records) = (counts.data + 1, counts.records + 1);
            counts.slices += u64::from(message.is_sliced(step.index));
            opened(&mut out.truth.sealed, &message, step.index, step.what);
            fault(&mut out.truth, step.what, which, step.index, 0);
            if step.attempt == 0 {
                sealed[usize::from(step.index)] = Some(frame);
            }
        }
        message.unbind(&mut self.end(sender).0.keys);
        let counts = &mut out.truth.counts;
        counts.messages += 1;
        counts.complete += u64::from(fate.gaps.is_empty());
        for (from, len) in &fate.gaps {
            fault(&mut out.truth, What::Gap, which, *from, *len);
        }
        for index in &fate.replays {
            let frame = sealed[usize::from(*index)].clone().expect("it was sent");
            self.quota -= 1;
            out.packet(*now_ns + LINGER_NS + 1 + self.rng.below(1_000_000_000), frame);
            let counts = &mut out.truth.counts;
            (counts.data, counts.records) = (counts.data + 1, counts.records + 1);
            opened(&mut out.truth.sealed, &message, *index, What::Replay);
            fault(&mut out.truth, What::Replay, which, *index, 0);
        }
        self.heard(plan, sender.peer(), rpc, geometry.length(), now_ns, out);
    }

    /// What the receiver of a message says of it, as far as there is room.
    fn heard(&mut self, plan: &Plan, receiver: Side, rpc: RpcId, length: u32, now_ns: &mut u64, out: &mut Out) {
        if length > UNSCHEDULED {
            let grant = Frame::Grant { rpc, offset: length, priority: self.rng.below(8) as u8 };
            self.control(plan, receiver, &[grant], now_ns, out);
        }
        if self.rng.chance(0.3) {
            self.control(plan, receiver, &[Frame::Ack { rpc }], now_ns, out);
        }
    }

    /// Both sides go over to the next epoch of what `side` seals.
    fn rekey(&mut self, plan: &Plan, side: Side, now_ns: &mut u64, out: &mut Out) {
        let epoch = (self.end(side).0.keys.epoch() + 1) as u8;
        self.control(plan, side, &[Frame::EpochWanted { epoch }], now_ns, out);
        self.control(plan, side.peer(), &[Frame::EpochReady { epoch }], now_ns, out);
        let ours = self.end(side).0;
        ours.keys.advance(crypto());
        ours.skipped = None;
    }

    /// Says something, unless there is no room for it. It may be lost, or be there twice.
    fn control(&mut self, plan: &Plan, sender: Side, frames: &[Frame], now_ns: &mut u64, out: &mut Out) {
        if self.quota == 0 {
            return;
        }
        let lost = self.rng.chance(plan.gap_rate);
        let twice = self.quota > 1 && self.rng.chance(plan.dup);
        let (ours, theirs) = self.end(sender);
        let epoch = ours.keys.epoch() as u8;
        let (key, number) = ours.keys.current().next_control().expect("keys that protect little");
        if lost {
            // Nobody knows of numbers before the first, or after the last.
            if let Some(skipped) = &mut ours.skipped {
                *skipped += 1;
            }
            return;
        }
        let mut bytes = [0; 4 * Frame::LEN_MAX];
        let mut w = Writer::new(&mut bytes);
        frames.iter().for_each(|frame| frame.emit(&mut w));
        let n = w.len();
        let header = Header {
            kind: PacketType::Control,
            flags: 0,
            epoch,
            priority: 7,
            steer: 0,
            segment: 0,
            session: theirs.id,
        };
        let mut packet = [0; CONTROL_HEADER_LEN + 4 * Frame::LEN_MAX + TAG_LEN];
        let len = seal_control(key, number, &header, &bytes[..n], &mut packet);
        let truth = &mut out.truth;
        truth.counts.control_missing += ours.skipped.replace(0).unwrap_or(0);
        ours.sent = true;
        for frame in frames {
            match frame {
                Frame::Grant { .. } => truth.sealed.grants += 1,
                Frame::Ack { .. } => truth.sealed.acks += 1,
                _ => truth.sealed.other_frames += 1,
            }
        }
        for copy in 0..1 + u64::from(twice) {
            self.write(sender, &packet[..len], now_ns, out);
            out.truth.counts.control += 1;
            out.truth.counts.control_duplicates += copy;
            out.truth.sealed.opened_control += 1;
        }
    }
}

fn datagram(plan: &Plan) -> usize {
    // Room for IPv6 and UDP.
    plan.mtu - 48
}

/// A packet with record `index`, or with the slice that has its place. Its record is sealed anew for each slice, to the same bytes. [P-4.6]
fn packet(message: &Message<Vec<u8>>, keys: &Outbound, header: &Header, index: u16) -> Vec<u8> {
    let geometry = message.geometry();
    let mut packet = vec![0; DATA_HEADER_LEN];
    emit_header(&mut Writer::new(&mut packet), header, geometry.length());
    if message.is_sliced(index) {
        let span = geometry.sealed_with(index);
        let mut sealed = vec![0; geometry.span_sealed_len(&span)];
        let number = message.seal_span(keys, index, &mut sealed);
        let slice = geometry.slice(&span, index);
        packet.extend(slice_header(number, &slice, sealed.len()));
        packet.extend(&sealed[slice]);
    } else {
        packet.resize(DATA_HEADER_LEN + message.record_len(index), 0);
        message.seal(keys, index, &mut packet[DATA_HEADER_LEN..]);
    }
    packet
}

/// Counts what keys tell of that packet. A record that spans packets opens once, and copies of its slices bring nothing.
fn opened(sealed: &mut SealedCounts, message: &Message<Vec<u8>>, index: u16, what: What) {
    let geometry = message.geometry();
    let sliced = message.is_sliced(index);
    if sliced && what == What::Duplicate {
        return;
    }
    let is_last = u32::from(index) + 1 == geometry.sealed_with(index).end;
    sealed.opened_records += u64::from(!sliced || is_last);
    sealed.opened_bytes += geometry.bytes(index).len() as u64;
}

/// Writes down what a record is.
fn fault(truth: &mut Truth, what: What, which: Which, index: u16, len: u32) {
    let counts = &mut truth.counts;
    match what {
        What::OutOfOrder => counts.out_of_order += 1,
        What::Duplicate => counts.duplicates += 1,
        What::Replay => counts.replays += 1,
        What::Retransmission => counts.retransmissions += 1,
        What::Gap => (counts.gaps, counts.lost) = (counts.gaps + 1, counts.lost + u64::from(len)),
        _ => return,
    }
    truth.faults.push(Fault { what, which, index, len });
}
