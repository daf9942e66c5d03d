//! Owns a card in software: it parses mailboxes and rings as bytes, counts records by itself, and garbles what is out of sequence.
//!
//! What it supports, rejects and guesses is in docs/OFFLOAD.md, part 4; a guess that a card will prove wrong is to be changed here first.
//! It works when it is looked at, one descriptor of each queue in turn: there is no order between queues, and whoever relies on one sees
//! records torn.

mod gcm;
mod report;
mod packets;
mod stream;

use std::collections::{HashMap, VecDeque};
use std::fmt;

use zeroize::Zeroizing;

pub use gcm::{Gcm, GcmKey, NONCE_LEN, TAG_LEN};
pub use report::{Report, Violation, Witness};

use crate::cmd::{ALLOC_DOMAIN, CREATE_OBJECT, CREATE_TIS, Caps, Command};
use crate::cqe::{Completion, Outcome};
use crate::device::{Device, Object, Queue, Region};
use crate::error::Failed;
use crate::wqe::{BLOCK, BadDescriptor, Body, Control, Piece, StaticParams, View};
use stream::Stream;

/// Syndromes of failed descriptors.
const LENGTH: u8 = 0x01;
const OPERATION: u8 = 0x02;
const PROTECTION: u8 = 0x04;
/// Status of a refused command: bad parameter.
const BAD_PARAMETER: u8 = 0x03;
/// Status: no such resource.
const BAD_RESOURCE: u8 = 0x05;
/// Where the model's memory begins, as descriptors name it. Not where it really is: a mistake there is found.
const BASE: u64 = 0x7f00_0000_0000;
const LKEY: u32 = 0x1234;
const PD: u32 = 0x51;
/// Longest inline header, as DPDK has it.
const INLINE_MAX: usize = 192;

/// What a modelled card can do, and how much memory it is given.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// What its firmware says.
    pub caps: Caps,
    /// Bytes of memory that it can read.
    pub memory_bytes: usize,
}

impl Default for Config {
    /// A ConnectX-6 Dx, as far as is known.
    fn default() -> Self {
        let caps = Caps {
            tls_tx: true,
            dek_objects: true,
            log_max_dek: 12,
            log_max_tis: 14,
            descriptor_bytes_max: 1024,
            log_max_ring: 15,
            tls12_gcm128: true,
            tls12_gcm256: true,
            log_max_lso: 18,
        };
        Self { caps, memory_bytes: 4 << 20 }
    }
}

#[derive(Debug, Default)]
struct Tis {
    params: Option<StaticParams>,
    stream: Option<Stream>,
    /// The queue that feeds it.
    queue: Option<u32>,
    /// It was fed, or told where it is, and no fence came since.
    unfenced: bool,
}

#[derive(Debug)]
struct Ring {
    number: u32,
    bytes: Vec<u8>,
    consumed: u16,
    produced: u16,
    broken: bool,
    completions: VecDeque<Completion>,
}

/// A card in software.
pub struct Model {
    config: Config,
    gcm: Box<dyn Gcm>,
    memory: Vec<u8>,
    next_object: u32,
    domains: Vec<u32>,
    keys: Vec<Zeroizing<Vec<u8>>>,
    deks: HashMap<u32, Box<dyn GcmKey>>,
    tis: HashMap<u32, Tis>,
    rings: Vec<Ring>,
    frames: VecDeque<Vec<u8>>,
    witness: Witness,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("tis", &self.tis.len()).field("rings", &self.rings.len()).finish_non_exhaustive()
    }
}

impl Model {
    /// A card that was just switched on.
    pub fn new(config: Config, gcm: Box<dyn Gcm>) -> Self {
        Self {
            memory: vec![0; config.memory_bytes],
            config,
            gcm,
            next_object: 1,
            domains: Vec::new(),
            keys: Vec::new(),
            deks: HashMap::new(),
            tis: HashMap::new(),
            rings: Vec::new(),
            frames: VecDeque::new(),
            witness: Witness::default(),
        }
    }

    /// Its report, also once it was given away.
    pub fn witness(&self) -> Witness {
        self.witness.clone()
    }

    fn violation(&self, what: Violation) {
        self.witness.with(|report| report.violation(what));
    }

    /// Works off what was rung for: one descriptor of each queue in turn.
    fn work(&mut self) {
        loop {
            let mut worked = false;
            for at in 0..self.rings.len() {
                worked |= self.step(at);
            }
            if !worked {
                return;
            }
        }
    }

    /// The next descriptor of a queue, if there is one.
    fn step(&mut self, at: usize) -> bool {
        let ring = &self.rings[at];
        let pending = ring.produced.wrapping_sub(ring.consumed);
        if ring.broken || pending == 0 {
            return false;
        }
        // A descriptor may go round the ring's end.
        let blocks = (ring.bytes.len() / BLOCK) as u16;
        let take = pending.min(16);
        let bytes: Vec<u8> = (0..take)
            .flat_map(|i| {
                let block = usize::from(ring.consumed.wrapping_add(i) % blocks);
                ring.bytes[block * BLOCK..(block + 1) * BLOCK].iter().copied()
            })
            .collect();
        let (consumed, number) = (ring.consumed, ring.number);
        let outcome = match View::parse(&bytes) {
            Err(BadDescriptor::Length) => Err(LENGTH),
            Err(_) => Err(OPERATION),
            Ok(view) if view.control.index != consumed || view.control.queue != number => Err(OPERATION),
            Ok(view) => {
                self.witness.with(|report| {
                    report.descriptors += 1;
                    report.blocks += u64::from(view.blocks);
                });
                self.execute(&view).map(|()| (view.blocks, view.control.signal))
            }
        };
        let ring = &mut self.rings[at];
        match outcome {
            Ok((blocks, signal)) => {
                ring.consumed = consumed.wrapping_add(blocks);
                if signal {
                    let done = Completion { queue: number, index: consumed, outcome: Outcome::Done };
                    ring.completions.push_back(done);
                }
            }
            Err(syndrome) => {
                ring.broken = true;
                let outcome = Outcome::Failed { syndrome, vendor: 0 };
                ring.completions.push_back(Completion { queue: number, index: consumed, outcome });
                self.violation(Violation::Malformed);
            }
        }
        true
    }

    fn execute(&mut self, view: &View<'_>) -> Result<(), u8> {
        let control = view.control;
        if control.fence {
            let of_queue = self.tis.values_mut().filter(|tis| tis.queue == Some(control.queue));
            of_queue.for_each(|tis| tis.unfenced = false);
        }
        match view.body {
            Body::Nop => Ok(()),
            Body::Static(params) => {
                let tis = self.claim(control.tis, control.queue)?;
                let live = std::mem::replace(&mut tis.unfenced, false);
                (tis.params, tis.stream) = (Some(params), None);
                if live {
                    self.violation(Violation::NotFenced);
                }
                if self.deks.contains_key(&params.dek) { Ok(()) } else { Err(PROTECTION) }
            }
            Body::Progress { tis } => {
                let tis = self.claim(tis, control.queue)?;
                let live = std::mem::replace(&mut tis.unfenced, true);
                tis.stream = tis.params.map(Stream::new);
                let prepared = tis.stream.is_some();
                self.witness.with(|report| {
                    report.positioned += 1;
                    if live {
                        report.violation(Violation::NotFenced);
                    }
                    if !prepared {
                        report.violation(Violation::NotPrepared);
                    }
                });
                Ok(())
            }
            Body::Dump(piece) => {
                let mut bytes = self.gather(&[piece])?;
                self.seal(control, &mut bytes).map(drop)
            }
            Body::Send { each, header, checksums, pieces, count } => {
                if header.len() < 14 || header.len() > INLINE_MAX {
                    return Err(LENGTH);
                }
                let mut payload = self.gather(&pieces[..count])?;
                self.may_cut(each, payload.len())?;
                let sealed = control.tis == 0 || self.seal(control, &mut payload)?;
                let packet_len = each.map_or(payload.len().max(1), usize::from);
                for (i, slice) in payload.chunks(packet_len).enumerate() {
                    let frame = packets::frame(header, slice, i as u16, each.is_some(), checksums);
                    self.frames.push_back(frame);
                    self.witness.with(|report| {
                        report.frames += 1;
                        report.in_clear += u64::from(!sealed);
                    });
                }
                Ok(())
            }
        }
    }

    fn may_cut(&self, each: Option<u16>, len: usize) -> Result<(), u8> {
        let Some(each) = each else { return Ok(()) };
        let most = 1usize << self.config.caps.log_max_lso;
        // One packet by LSO: what the card does with it is not known.
        let refused = self.config.caps.log_max_lso == 0 || len > most || len <= usize::from(each);
        if refused { Err(OPERATION) } else { Ok(()) }
    }

    /// The TIS, which belongs to the first queue that speaks of it.
    fn claim(&mut self, number: u32, queue: u32) -> Result<&mut Tis, u8> {
        let tis = self.tis.get_mut(&number).ok_or(PROTECTION)?;
        if *tis.queue.get_or_insert(queue) != queue {
            tis.queue = Some(queue);
            self.witness.with(|report| report.violation(Violation::TwoQueues));
        }
        Ok(tis)
    }

    /// Seals what a TIS is fed. Whether it did: a TIS that was told nothing lets everything through as it is.
    fn seal(&mut self, control: Control, bytes: &mut [u8]) -> Result<bool, u8> {
        let witness = self.witness.clone();
        let tis = self.claim(control.tis, control.queue)?;
        // What told it where it is must have been fenced off before it is fed.
        if tis.unfenced && tis.stream.as_ref().is_some_and(Stream::is_new) {
            witness.with(|report| report.violation(Violation::NotFenced));
        }
        tis.unfenced = true;
        let (Some(mut stream), Some(params)) = (tis.stream.take(), tis.params) else {
            witness.with(|report| report.violation(Violation::NotPrepared));
            return Ok(false);
        };
        let key = self.deks.get(&params.dek).ok_or(PROTECTION)?;
        witness.with(|report| stream.feed(&**key, bytes, report));
        self.claim(control.tis, control.queue)?.stream = Some(stream);
        Ok(true)
    }

    fn gather(&self, pieces: &[Piece]) -> Result<Vec<u8>, u8> {
        let mut bytes = Vec::new();
        for piece in pieces {
            let start = piece.address.checked_sub(BASE).ok_or(PROTECTION)? as usize;
            let place = start.checked_add(piece.len as usize).map(|end| start..end);
            let found = place.and_then(|place| self.memory.get(place)).filter(|_| piece.lkey == LKEY);
            bytes.extend_from_slice(found.ok_or(PROTECTION)?);
        }
        Ok(bytes)
    }

    fn number(&mut self) -> u32 {
        let number = self.next_object;
        self.next_object += 1;
        number
    }

    fn ring(&mut self, queue: Queue) -> Result<&mut Ring, Failed> {
        self.rings.get_mut(queue.handle).ok_or(Failed::NoQueue)
    }
}

impl Device for Model {
    fn name(&self) -> &str {
        "model"
    }

    fn caps(&self) -> Caps {
        self.config.caps
    }

    fn pd(&self) -> u32 {
        PD
    }

    fn create(&mut self, mailbox: &[u8]) -> Result<Object, Failed> {
        let refused = |opcode, status| Err(Failed::Refused { opcode, status, syndrome: 0 });
        let Ok(command) = Command::parse(mailbox) else {
            self.violation(Violation::Malformed);
            return refused(0, BAD_PARAMETER);
        };
        let number = self.number();
        match command {
            Command::QueryCaps(_) => return refused(crate::cmd::QUERY_CAPS, BAD_PARAMETER),
            Command::AllocDomain if self.domains.len() > 64 => return refused(ALLOC_DOMAIN, BAD_RESOURCE),
            Command::AllocDomain => self.domains.push(number),
            Command::CreateTis { tls, domain, pd } => {
                if !tls || pd != PD || !self.domains.contains(&domain) {
                    return refused(CREATE_TIS, BAD_PARAMETER);
                }
                if self.tis.len() >= 1 << self.config.caps.log_max_tis {
                    return refused(CREATE_TIS, BAD_RESOURCE);
                }
                self.tis.insert(number, Tis::default());
            }
            Command::CreateDek { key, pd } => {
                let caps = self.config.caps;
                let known = if key.len() == 16 { caps.tls12_gcm128 } else { caps.tls12_gcm256 };
                if pd != PD || !known {
                    return refused(CREATE_OBJECT, BAD_PARAMETER);
                }
                if self.deks.len() >= 1 << caps.log_max_dek {
                    return refused(CREATE_OBJECT, BAD_RESOURCE);
                }
                self.deks.insert(number, self.gcm.key(&key));
                // Two objects may hold one key: what is sealed with it is judged by the key.
                let name = self.keys.iter().position(|known| *known == key).unwrap_or_else(|| {
                    self.keys.push(key);
                    self.keys.len() - 1
                });
                self.witness.with(|report| report.keys.insert(number, name as u32));
            }
        }
        Ok(Object { number, handle: number.into() })
    }

    fn destroy(&mut self, object: Object) {
        self.work();
        let number = object.number;
        self.deks.remove(&number);
        self.tis.remove(&number);
        self.domains.retain(|domain| *domain != number);
    }

    fn open_queue(&mut self, blocks: u32) -> Result<Queue, Failed> {
        let blocks = blocks.next_power_of_two();
        if blocks > 1 << self.config.caps.log_max_ring {
            return Err(Failed::System { errno: 22 });
        }
        let (handle, number) = (self.rings.len(), 0x100 + self.rings.len() as u32);
        let bytes = vec![0; blocks as usize * BLOCK];
        let completions = VecDeque::new();
        self.rings.push(Ring { number, bytes, consumed: 0, produced: 0, broken: false, completions });
        Ok(Queue { handle, number, blocks })
    }

    fn region(&self) -> Region {
        Region { address: BASE, lkey: LKEY, len: self.memory.len() }
    }

    fn memory(&mut self) -> &mut [u8] {
        &mut self.memory
    }

    fn post(&mut self, queue: Queue, index: u16, blocks: &[u8]) -> Result<(), Failed> {
        let ring = self.ring(queue)?;
        let count = ring.bytes.len() / BLOCK;
        for (i, block) in blocks.chunks(BLOCK).enumerate() {
            let at = (usize::from(index) + i) % count * BLOCK;
            ring.bytes[at..at + block.len()].copy_from_slice(block);
        }
        Ok(())
    }

    fn doorbell(&mut self, queue: Queue, produced: u16, _last: u16) -> Result<(), Failed> {
        let ring = self.ring(queue)?;
        if ring.broken {
            return Err(Failed::Broken);
        }
        ring.produced = produced;
        Ok(())
    }

    fn complete(&mut self, queue: Queue) -> Option<Completion> {
        self.work();
        let ring = self.ring(queue).ok()?;
        let completion = ring.completions.pop_front()?;
        // As the card says it and software reads it.
        let entry = completion.emit(0, 1);
        Completion::read(&entry, 0, 1)
    }

    fn reset_queue(&mut self, queue: Queue) -> Result<Queue, Failed> {
        let number = queue.number;
        let ring = self.ring(queue)?;
        (ring.consumed, ring.produced, ring.broken) = (0, 0, false);
        ring.completions.clear();
        // What a TIS knew of its place is gone with the queue that fed it.
        for tis in self.tis.values_mut().filter(|tis| tis.queue == Some(number)) {
            (tis.params, tis.stream, tis.unfenced) = (None, None, false);
        }
        Ok(queue)
    }

    fn next_frame(&mut self, frame: &mut Vec<u8>) -> bool {
        self.work();
        match self.frames.pop_front() {
            Some(next) => {
                *frame = next;
                true
            }
            None => false,
        }
    }
}
