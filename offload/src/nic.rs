//! Owns the engine of a NIC: makes descriptors of plans, gives the card only what it needs to be told, and learns what became of it.
//!
//! A plan is taken whole or not at all. What was taken, nobody seals again: its repair is another attempt of its message, in software. When
//! the card fails, the keys that it worked with are given up as possibly disclosed: what it made of them before it stopped is not known.

pub(crate) mod queue;

use std::collections::VecDeque;
use std::fmt;

use mlx5_shim::cmd::{alloc_domain, create_dek, create_tis};
use mlx5_shim::device::{Device, Object, Region};
use mlx5_shim::error::Failed;
use mlx5_shim::spread::Map;
use mlx5_shim::wqe::{Control, Descriptor, Piece, STATIC_BLOCKS, StaticParams, send_blocks};
use record::aead::Cipher;

use crate::context::Needed;
use crate::frame::{HEADERS_MAX, Headers, Ways};
use crate::plan::{KeyName, Material, Not, Plan};
use queue::{Found, Queue};

/// How a NIC is used.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Queues that messages are spread over. Default 2. More of them wait less for each other; each has its own contexts and memory.
    pub queues: usize,
    /// Contexts of a queue. Default 128: of as many sessions one after the other, none costs the card a firmware command.
    pub contexts: usize,
    /// Building blocks of a ring, of 64 bytes. Default 1,024.
    pub blocks: u32,
    /// Less than so many bytes of records are sealed in software. Default 1,024: below it, telling the card costs more than sealing.
    pub bytes_min: usize,
    /// The card cuts segments into packets itself, where it can. Default true.
    pub lso: bool,
    /// Errors after which the card is not used any more. Default 3.
    pub failures_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { queues: 2, contexts: 128, blocks: 1024, bytes_min: 1024, lso: true, failures_max: 3 }
    }
}

/// What was done, since the engine was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Plans taken.
    pub plans: u64,
    /// Records of these.
    pub records: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Descriptors posted.
    pub descriptors: u64,
    /// Blocks of these, of 64 bytes.
    pub blocks: u64,
    /// Times that a context had to be told where it is.
    pub resyncs: u64,
    /// Of these, without the key and the number, which it knew.
    pub progress_only: u64,
    /// Plans not taken because a queue was full.
    pub full: u64,
    /// Keys given to the card.
    pub keys: u64,
    /// Keys given up because the card failed.
    pub keys_retired: u64,
    /// Times that a queue stopped.
    pub failures: u64,
    /// Contexts that were given to another key.
    pub evictions: u64,
}

#[derive(Debug)]
struct Dek {
    object: Object,
    salt: [u8; 4],
}

/// The engine of a NIC.
pub struct Nic {
    device: Box<dyn Device>,
    ways: Box<dyn Ways>,
    config: Config,
    region: Region,
    /// The most payload of one LSO descriptor; 0: each packet is one.
    lso_max: usize,
    domain: u32,
    queues: Vec<Queue>,
    deks: Map<KeyName, Dek>,
    /// Keys that are to be destroyed when nothing under way needs them.
    dying: Vec<(KeyName, Object)>,
    retired: VecDeque<KeyName>,
    /// IPv4's id of the next packet.
    id: u16,
    off: bool,
    /// What was done.
    pub counters: Counters,
}

impl fmt::Debug for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nic").field("device", &self.device).field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl Nic {
    /// An engine on `device`, whose capabilities were looked at and which proved itself ([`crate::ladder`]).
    ///
    /// # Errors
    /// When the card does not give what the engine needs.
    pub fn new(mut device: Box<dyn Device>, ways: Box<dyn Ways>, config: Config) -> Result<Self, Failed> {
        let region = device.region();
        let domain = device.create(&alloc_domain())?.number;
        let count = config.queues.max(1);
        let each = (region.len / count) & !63;
        let queues: Result<_, Failed> = (0..count)
            .map(|i| Ok(Queue::new(device.open_queue(config.blocks)?, i * each..(i + 1) * each, config.contexts)))
            .collect();
        Ok(Self {
            queues: queues?,
            lso_max: lso_max(config.lso, device.caps().log_max_lso),
            device,
            ways,
            config,
            region,
            domain,
            deks: Map::default(),
            dying: Vec::new(),
            retired: VecDeque::new(),
            id: 0,
            off: false,
            counters: Counters::default(),
        })
    }

    /// What its card is called.
    pub fn name(&self) -> &str {
        self.device.name()
    }

    /// Whether the card seals with `cipher` in the format of our records.
    pub fn knows_cipher(&self, cipher: Cipher) -> bool {
        let caps = self.device.caps();
        match cipher {
            Cipher::Aes128Gcm => caps.tls12_gcm128,
            Cipher::Aes256Gcm => caps.tls12_gcm256,
            Cipher::ChaCha20Poly1305 => false,
        }
    }

    /// The fewest bytes of records that it takes.
    pub const fn bytes_min(&self) -> usize {
        self.config.bytes_min
    }

    /// Whether it failed for good.
    pub const fn is_off(&self) -> bool {
        self.off
    }

    // ---- Keys ----

    /// Whether the card knows that key.
    pub fn knows(&self, key: KeyName) -> bool {
        self.deks.contains_key(&key)
    }

    /// How many keys the card knows.
    pub fn keys(&self) -> usize {
        self.deks.len()
    }

    /// Gives the card a key. Whether it took it.
    pub fn install(&mut self, key: KeyName, material: &Material) -> bool {
        if self.off || !self.knows_cipher(material.cipher) {
            return false;
        }
        self.bury();
        let mailbox = create_dek(&material.key, self.device.pd());
        let Ok(object) = self.device.create(&mailbox[..]) else { return false };
        self.counters.keys += 1;
        if let Some(old) = self.deks.insert(key, Dek { object, salt: material.salt }) {
            self.dying.push((key, old.object));
        }
        true
    }

    /// The keys for which `lives` says no are taken from the card, as soon as nothing under way needs them.
    pub fn forget(&mut self, lives: impl Fn(KeyName) -> bool) {
        let gone: Vec<_> = self.deks.keys().copied().filter(|key| !lives(*key)).collect();
        for key in gone {
            self.queues.iter_mut().for_each(|queue| queue.contexts.forget(key));
            if let Some(dek) = self.deks.remove(&key) {
                self.dying.push((key, dek.object));
            }
        }
        self.bury();
    }

    /// Destroys keys that nothing under way needs.
    fn bury(&mut self) {
        let Self { dying, queues, device, .. } = self;
        let (kept, gone) = std::mem::take(dying)
            .into_iter()
            .partition::<Vec<_>, _>(|(key, _)| queues.iter().any(|queue| queue.uses(*key)));
        *dying = kept;
        gone.into_iter().for_each(|(_, object)| device.destroy(object));
    }

    /// A key that the card may have disclosed when it failed: nothing more may be sealed with it. The oldest that was not asked for.
    pub fn next_retired(&mut self) -> Option<KeyName> {
        self.retired.pop_front()
    }

    // ---- Plans ----

    fn queue_of(&self, message: u64) -> usize {
        // Messages of one peer follow each other: spread them all the same.
        (message.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % self.queues.len()
    }

    /// Whether it would take a plan of that length now. Asked before records are handed over, because what is handed over is not
    /// sealed by anybody else.
    pub fn may_take(&mut self, key: KeyName, message: u64, count: u32, bytes: usize) -> Result<(), Not> {
        if bytes < self.config.bytes_min {
            return Err(Not::Small);
        }
        if self.off || !self.retired.is_empty() {
            return Err(Not::Broken);
        }
        if !self.deks.contains_key(&key) {
            return Err(Not::UnknownKey);
        }
        let at = self.queue_of(message);
        // All single packets, after a resync.
        let most = u64::from(STATIC_BLOCKS) + 1 + u64::from(count) * u64::from(send_blocks(HEADERS_MAX + 20));
        if most > u64::from(self.config.blocks) / 2 || bytes > self.region.len / self.queues.len() / 2 {
            return Err(Not::TooLong);
        }
        if self.queues[at].has_room(most, bytes) {
            return Ok(());
        }
        // What the card was not told of yet cannot complete.
        self.flush();
        self.poll();
        if !self.retired.is_empty() {
            return Err(Not::Broken);
        }
        if self.queues[at].has_room(most, bytes) {
            return Ok(());
        }
        self.counters.full += 1;
        Err(Not::Full)
    }

    /// Seals and sends the records of a plan, at the next [`Self::flush`].
    ///
    /// # Errors
    /// Why not. The card was told nothing then, or the queue was emptied.
    pub fn take(&mut self, plan: &mut Plan<'_>) -> Result<(), Not> {
        self.may_take(plan.key, plan.message, plan.count, plan.bytes())?;
        let way = self.ways.way(plan.to).ok_or(Not::NoWay)?;
        let dek = &self.deks[&plan.key];
        let params = StaticParams { number: plan.first, salt: dek.salt, dek: dek.object.number };
        let at = self.queue_of(plan.message);
        let Self { device, queues, counters, domain, .. } = self;
        let (queue, device) = (&mut queues[at], &mut **device);
        let make = || device.create(&create_tis(*domain, device.pd())).ok();
        let context = queue.contexts.of(plan.key, make).ok_or(Not::Full)?;
        counters.evictions += std::mem::take(&mut queue.contexts.evicted);
        let place = queue.take(plan.bytes()).ok_or(Not::Full)?;
        let mut start = place.start;
        for i in 0..plan.count {
            let end = start + plan.len_of(i);
            (plan.write)(i, &mut device.memory()[start..end]);
            start = end;
        }
        let needed = queue.contexts.needs(context, plan.first);
        let tis = queue.contexts.tis(context);
        let segments = Segments { lso_max: self.lso_max, plan };
        let mut posted = Posted::default();
        let told = resync(queue, device, tis, needed, &params, &mut posted);
        let address = self.region.address + place.start as u64;
        let told = told.and_then(|()| {
            let mut offset = 0;
            for segment in segments.iter() {
                let header = Headers::new(&way, plan.to, self.id, plan.header, segment.each);
                self.id = self.id.wrapping_add(segment.packets);
                let piece = Piece { len: segment.bytes as u32, lkey: self.region.lkey, address: address + offset };
                offset += segment.bytes as u64;
                let fence = posted.fence_data && offset == segment.bytes as u64;
                let signal = segment.last;
                let blocks = queue.post(device, |control| {
                    let control = Control { tis, fence, signal, ..control };
                    match segment.packets {
                        1 => Descriptor::send(control, header.bytes(), &[piece]),
                        _ => Descriptor::lso(control, segment.each as u16, header.bytes(), &[piece]),
                    }
                })?;
                posted.count(blocks);
            }
            Ok(())
        });
        if told.is_err() {
            self.stopped(at);
            return Err(Not::Broken);
        }
        queue.contexts.fed(context, needed, plan.first, plan.count);
        queue.depart(plan.key);
        counters.plans += 1;
        counters.records += u64::from(plan.count);
        counters.bytes += plan.bytes() as u64;
        counters.descriptors += posted.descriptors;
        counters.blocks += posted.blocks;
        counters.resyncs += u64::from(needed != Needed::Nothing);
        counters.progress_only += u64::from(needed == Needed::Progress);
        Ok(())
    }

    /// Tells the card of all that was taken.
    pub fn flush(&mut self) {
        for at in 0..self.queues.len() {
            if self.queues[at].ring(&mut *self.device).is_err() {
                self.stopped(at);
            }
        }
    }

    /// Takes note of what the card is done with.
    pub fn poll(&mut self) {
        for at in 0..self.queues.len() {
            if self.queues[at].poll(&mut *self.device) == Found::Stopped {
                self.stopped(at);
            }
        }
        if !self.dying.is_empty() {
            self.bury();
        }
    }

    /// A queue stopped: what it made of what it was told is not known.
    fn stopped(&mut self, at: usize) {
        self.counters.failures += 1;
        let (keys, started) = self.queues[at].reset(&mut *self.device);
        self.off |= started.is_err() || self.counters.failures >= u64::from(self.config.failures_max);
        for key in keys {
            // A key that was forgotten meanwhile is nobody's any more.
            if let Some(dek) = self.deks.remove(&key) {
                self.dying.push((key, dek.object));
                self.retired.push_back(key);
                self.counters.keys_retired += 1;
            }
        }
        for key in &self.retired {
            self.queues.iter_mut().for_each(|queue| queue.contexts.forget(*key));
        }
        self.bury();
    }

    /// A frame for which the card has no wire; see [`Device::next_frame`].
    pub fn next_frame(&mut self, frame: &mut Vec<u8>) -> bool {
        self.device.next_frame(frame)
    }
}

/// What was posted for a plan.
#[derive(Default)]
struct Posted {
    descriptors: u64,
    blocks: u64,
    /// What tells the context where it is was posted: the first data must wait for it.
    fence_data: bool,
}

impl Posted {
    fn count(&mut self, blocks: u16) {
        self.descriptors += 1;
        self.blocks += u64::from(blocks);
    }
}

/// Tells a context where it is, as far as it needs that. Fences stand where any of three drivers has one: before the first word, because
/// bytes for the context may be on their way, and before the first data.
fn resync(
    queue: &mut Queue,
    device: &mut dyn Device,
    tis: u32,
    needed: Needed,
    params: &StaticParams,
    posted: &mut Posted,
) -> Result<(), Failed> {
    if needed == Needed::All {
        let told = |control| Descriptor::static_params(Control { tis, fence: true, ..control }, params);
        posted.count(queue.post(device, told)?);
    }
    if needed != Needed::Nothing {
        let fence = needed == Needed::Progress;
        posted.count(queue.post(device, |control| Descriptor::progress(Control { fence, ..control }, tis))?);
        posted.fence_data = true;
    }
    Ok(())
}

/// The most payload of one LSO descriptor; 0 when there is no LSO.
const fn lso_max(wanted: bool, log_max: u8) -> usize {
    if !wanted || log_max == 0 {
        0
    } else if log_max >= 16 {
        65_535
    } else {
        1 << log_max
    }
}

/// How a plan is told: descriptors of packets of one length each.
struct Segments<'a, 'b> {
    lso_max: usize,
    plan: &'a Plan<'b>,
}

/// What one descriptor sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    packets: u16,
    /// Bytes of each packet's record.
    each: usize,
    bytes: usize,
    last: bool,
}

impl Segments<'_, '_> {
    fn iter(&self) -> impl Iterator<Item = Segment> + '_ {
        let plan = self.plan;
        // UDP's length is not changed by the card, so a shorter last record is told by itself.
        let even = if plan.last_len == plan.record_len { plan.count } else { plan.count - 1 };
        let group = (self.lso_max / plan.record_len.max(1)).clamp(1, u16::MAX.into()) as u32;
        let mut at = 0;
        std::iter::from_fn(move || {
            if at == plan.count {
                return None;
            }
            let packets = if at < even { group.min(even - at) } else { 1 };
            let each = plan.len_of(at);
            at += packets;
            let bytes = each * packets as usize;
            Some(Segment { packets: packets as u16, each, bytes, last: at == plan.count })
        })
    }
}
