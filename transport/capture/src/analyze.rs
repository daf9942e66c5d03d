//! Owns the single pass over a capture: packets in, counts, messages and events out. Memory is bounded, whatever comes: what is over is
//! handed out and forgotten, but for which sequences that were (`flow`, `open`).

use std::net::SocketAddr;

use rustc_hash::FxHashMap;
use wire::bundle;
use wire::control::packet_number;
use wire::header::Header;
use wire::limits::{DATA_HEADER_LEN, HEADER_LEN, TRAILER_LEN, VERSION};
use wire::packet::Packet;
use wire::slice::{Part, part_at};

use crate::counts::{BACK_MAX_NS, Counts, Event, FlowRow, MessageRow, SealedCounts, What, Which};
use crate::file;
use crate::flow::{Flow, Heard};
use crate::frame::{self, Datagram, Framed};
use crate::keys::{KeyLog, KeyRing};
use crate::message::Arrival;
use crate::open::{Key, Open, Place};

mod sealed;
mod slices;

/// Most directions of lanes that are followed: two of each session that an endpoint can have, and as many again.
pub const FLOWS_MAX: usize = 4 * wire::limits::SESSIONS_MAX;
/// Where a record's content type stands in a DATA packet, and what it begins with; the same of a slice. [P-4.1] [P-4.6]
const RECORD_STARTS: [[u8; 3]; 2] = [[0x17, 3, 3], [0x18, 3, 3]];

/// What to do besides counting.
#[derive(Debug, Default)]
pub struct Options {
    /// Opens what is sealed.
    pub key_log: Option<KeyLog>,
    /// All that happens to this many messages is told, for pictures of them; of the others only what should not happen.
    pub followed: usize,
    /// Only datagrams from or to this port are read.
    pub port: Option<u16>,
}

/// Analyses packets in the order in which they were captured.
#[derive(Debug)]
pub struct Analyzer {
    counts: Counts,
    sealed: SealedCounts,
    ring: Option<KeyRing>,
    port: Option<u16>,
    to_follow: usize,
    flows: Vec<Flow>,
    by_session: FxHashMap<(u64, u16), u32>,
    open: Open,
    slices: slices::Slices,
    /// Runs of sequences that all flows remember, but for the first of each set.
    spare_runs: usize,
    now_ns: u64,
    first_ns: Option<u64>,
    /// Digest of the first packet, which tells captures apart.
    first: u64,
    rows: Vec<MessageRow>,
    events: Vec<Event>,
    scratch: Vec<u8>,
}

/// A digest of some bytes (FNV-1a): to tell captures apart, not to prove anything.
pub fn digest(time_ns: u64, bytes: &[u8]) -> u64 {
    let each = time_ns.to_be_bytes().into_iter().chain(bytes.iter().copied());
    each.fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Analyzer {
    /// Nothing seen yet.
    pub fn new(options: Options) -> Self {
        Self {
            counts: Counts::default(),
            sealed: SealedCounts::default(),
            ring: options.key_log.map(KeyRing::new),
            port: options.port,
            to_follow: options.followed,
            flows: Vec::new(),
            by_session: FxHashMap::default(),
            open: Open::default(),
            slices: slices::Slices::default(),
            spare_runs: 0,
            now_ns: 0,
            first_ns: None,
            first: 0,
            rows: Vec::new(),
            events: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Takes one packet in.
    pub fn packet(&mut self, packet: &file::Packet<'_>) {
        if self.first_ns.is_none() {
            self.first_ns = Some(packet.time_ns);
            self.first = digest(packet.time_ns, packet.bytes);
        }
        self.counts.packets += 1;
        self.counts.bytes += packet.bytes.len() as u64;
        if packet.time_ns.saturating_add(BACK_MAX_NS) < self.now_ns {
            // Else one time too late would make all later messages over as they begin.
            self.counts.clock_jumps += 1;
            self.now_ns = packet.time_ns;
        }
        self.now_ns = self.now_ns.max(packet.time_ns);
        while let Some(place) = self.open.over(self.now_ns) {
            self.end(place);
        }
        match frame::read(packet.link, packet.bytes) {
            Framed::Udp(datagram) if self.port.is_none_or(|p| datagram.from.port() == p || datagram.to.port() == p) => {
                parts(datagram.payload, |part| self.part(packet.time_ns, &datagram, part));
            }
            Framed::Udp(_) => self.counts.not_sealane += 1,
            Framed::Cut => self.counts.cut_short += 1,
            Framed::Fragment | Framed::Other => self.counts.not_udp += 1,
        }
    }

    /// What was counted so far; messages that are open count for nothing yet but their records.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The same, of what was opened; `None` without a key log.
    pub const fn sealed_counts(&self) -> Option<&SealedCounts> {
        if self.ring.is_some() { Some(&self.sealed) } else { None }
    }

    /// Digest of the first packet.
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// When the first packet came, and the last.
    pub fn span_ns(&self) -> (u64, u64) {
        (self.first_ns.unwrap_or(0), self.now_ns)
    }

    /// Messages that are open.
    pub fn open_messages(&self) -> usize {
        self.open.len()
    }

    /// How many messages and events wait to be taken.
    pub fn waiting(&self) -> usize {
        self.rows.len() + self.events.len()
    }

    /// Takes what is over since it was last asked, and what happened.
    pub fn take(&mut self) -> (Vec<MessageRow>, Vec<Event>) {
        (std::mem::take(&mut self.rows), std::mem::take(&mut self.events))
    }

    /// Whether a key log was given, and which flows could not be opened by it.
    pub fn flows(&self) -> impl Iterator<Item = FlowRow> + '_ {
        self.flows.iter().map(Flow::row)
    }

    /// The capture is at its end: all messages are over.
    pub fn finish(&mut self) {
        self.rows.reserve(self.open.len());
        for place in self.open.rest() {
            self.close(place);
        }
        for flow in &mut self.flows {
            flow.finish(&mut self.counts);
        }
    }

    /// One packet of a segment.
    fn part(&mut self, time_ns: u64, datagram: &Datagram<'_>, bytes: &[u8]) {
        let parsed = if is_plausible(bytes) { Packet::parse(bytes).ok() } else { None };
        let Some(packet) = parsed else {
            self.counts.not_sealane += 1;
            return;
        };
        self.counts.sealane += 1;
        match packet {
            Packet::Data(header) => {
                self.counts.data += 1;
                if let Some(flow) = self.flow(&header, datagram, bytes.len()) {
                    self.data(time_ns, flow, &header, bytes);
                }
            }
            Packet::Control(header) => {
                self.counts.control += 1;
                if let Some(flow) = self.flow(&header, datagram, bytes.len()) {
                    self.control(time_ns, flow, &header, bytes);
                }
            }
            Packet::Handshake(packet) => {
                self.counts.handshake += 1;
                if let Some(ring) = &mut self.ring {
                    ring.handshake(&packet);
                }
            }
            Packet::Reset(_) => self.counts.reset += 1,
            Packet::Retry(_) => self.counts.retry += 1,
        }
    }

    fn flow(&mut self, header: &Header, datagram: &Datagram<'_>, len: usize) -> Option<u32> {
        let key = (header.session.as_u64(), header.steer);
        let at = match self.by_session.get(&key) {
            Some(at) => *at,
            None => self.new_flow(key, datagram.from, datagram.to)?,
        };
        let flow = &mut self.flows[at as usize];
        flow.packets += 1;
        flow.bytes += len as u64;
        Some(at)
    }

    #[cold]
    fn new_flow(&mut self, key: (u64, u16), from: SocketAddr, to: SocketAddr) -> Option<u32> {
        let at = self.flows.len();
        if at == FLOWS_MAX {
            return None;
        }
        self.counts.flows += 1;
        self.flows.push(Flow::new(key.0, key.1, from, to));
        self.by_session.insert(key, at as u32);
        Some(at as u32)
    }

    fn data(&mut self, time_ns: u64, flow: u32, header: &Header, bytes: &[u8]) {
        let stated = u32::from_be_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
        let mut at = DATA_HEADER_LEN;
        while at < bytes.len() {
            let record = match part_at(bytes, at) {
                Ok(Part::Record(record)) => record,
                Ok(Part::Slice(view)) => {
                    at = view.bytes.end;
                    self.slice_of(time_ns, flow, header, bytes, &view);
                    continue;
                }
                Err(_) => return,
            };
            at = record.sealed.end;
            let number = record.number;
            let is_bundle = number.index() == bundle::INDEX;
            let tag = &bytes[at - 4..at];
            let arrival = Arrival {
                time_ns,
                index: if is_bundle { 0 } else { number.index() },
                attempt: number.message().attempt(),
                payload: (record.plaintext_len() - TRAILER_LEN) as u32,
                check: u32::from_le_bytes([tag[0], tag[1], tag[2], tag[3]]),
                length: stated,
            };
            let key = (flow, number.message().rpc().as_u48(), is_bundle);
            // What a tag does not prove changes nothing, here as at an endpoint. [P-5.4]
            let Some(told) = self.unseal(time_ns, key, header, bytes, &record, stated) else { continue };
            self.record(key, &arrival, told);
        }
    }

    fn record(&mut self, key: Key, arrival: &Arrival, told: sealed::Told) {
        self.counts.records += 1;
        let change = |place: &mut Place| {
            sealed::tell(&mut place.message, told, arrival.time_ns);
            (place.message.take(arrival), place.followed)
        };
        let changed = self.open.change(key, self.now_ns, change);
        if changed.is_none()
            && let Some(place) = self.open.end(key)
        {
            self.end(place);
        }
        let (what, followed) = match changed {
            Some(changed) => changed,
            None if self.flows[key.0 as usize].is_over(key.1, key.2) => (What::Replay, false),
            None => {
                let followed = self.to_follow > 0;
                self.to_follow -= usize::from(followed);
                self.counts.messages += 1;
                self.flows[key.0 as usize].messages += 1;
                // A bundle is one record, whatever length its packet says.
                let arrival = if key.2 { Arrival { length: arrival.payload, ..*arrival } } else { *arrival };
                self.open.begin(key, &arrival, followed);
                self.open.change(key, 0, change).expect("it was just begun")
            }
        };
        match what {
            What::OutOfOrder => self.counts.out_of_order += 1,
            What::Duplicate => self.counts.duplicates += 1,
            What::Retransmission => self.counts.retransmissions += 1,
            What::Replay => self.counts.replays += 1,
            What::Conflict => self.counts.conflicts += 1,
            _ => {}
        }
        if followed || what.is_fault() {
            let Arrival { time_ns, index, attempt, payload, .. } = *arrival;
            self.events.push(Event { time_ns, which: self.which(key), index, attempt, what, value: payload });
        }
    }

    fn control(&mut self, time_ns: u64, flow: u32, header: &Header, bytes: &[u8]) {
        let Ok(number) = packet_number(bytes) else { return };
        let Some(frames) = self.unseal_control(flow, header, number, bytes) else { return };
        if self.flows[flow as usize].hear(header.epoch, number, &mut self.counts) == Heard::New {
            self.frames(time_ns, flow, frames);
        }
    }

    fn which(&self, (flow, rpc, bundle): Key) -> Which {
        let flow = &self.flows[flow as usize];
        Which { session: flow.session, steer: flow.steer, rpc, bundle }
    }

    /// That message is over, and its sequence is remembered.
    fn end(&mut self, place: Place) {
        let (flow, rpc, bundle) = place.key;
        self.flows[flow as usize].end(rpc, bundle, &mut self.spare_runs);
        self.close(place);
    }

    fn close(&mut self, place: Place) {
        let Place { key, message, .. } = place;
        let which = self.which(key);
        let time_ns = message.last_ns;
        let events = &mut self.events;
        let row = message.close(which, |index, value| {
            events.push(Event { time_ns, which, index, attempt: 0, what: What::Gap, value });
        });
        self.counts.complete += u64::from(row.complete_ns.is_some());
        self.counts.gaps += u64::from(row.gaps);
        self.counts.lost += u64::from(row.lost);
        self.rows.push(row);
    }
}

/// The packets of a datagram that the kernel handed over as one. [P-5.1]
fn parts(payload: &[u8], mut each: impl FnMut(&[u8])) {
    let segment = match payload.get(..HEADER_LEN) {
        Some(header) if header[0] >> 4 == VERSION => usize::from(u16::from_be_bytes([header[6], header[7]])),
        _ => 0,
    };
    if segment < HEADER_LEN || payload.len() <= segment {
        return each(payload);
    }
    payload.chunks(segment).for_each(each);
}

/// Whether it is worth a look: other programs' datagrams are captured too. Bit 63 of a session's id is always set. [P-2.1]
fn is_plausible(bytes: &[u8]) -> bool {
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else { return false };
    let named = header[8] & 0x80 != 0;
    match header[0] {
        0x11 => {
            let start = bytes.get(DATA_HEADER_LEN..DATA_HEADER_LEN + 3);
            named && start.is_some_and(|start| RECORD_STARTS.iter().any(|of| start == of))
        }
        0x12 | 0x14 | 0x15 => named,
        0x13 => bytes.get(HEADER_LEN).is_some_and(|first| first & 0x80 != 0) && (named || header[8..] == [0; 8]),
        _ => false,
    }
}

/// An RPC as a person reads it: who began it, and its sequence.
pub fn rpc_name(rpc: u64) -> String {
    format!("{}{}", if rpc & 1 == 0 { 'c' } else { 's' }, rpc >> 1)
}
