//! What it takes to have messages sealed by a card, beside sealing them in software: `engine WHO BYTES MESSAGES OPEN`, to be counted from outside
//! (`benches/offload.sh`). WHO: `none` freezes messages and binds them, which all do; `card` hands them to the shipped engine, to its guard and
//! to a card that does nothing; `software` seals each record; `aead` runs the cipher over as many bytes and does nothing else.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::hint::black_box;
use std::net::SocketAddr;

use mlx5_shim::cmd::Caps;
use mlx5_shim::cqe::{Completion, Outcome};
use mlx5_shim::device::{Device, Object, Queue, Region};
use mlx5_shim::error::Failed;
use mlx5_shim::guard::Guarded;
use mlx5_shim::model::Config as Card;
use mlx5_shim::wqe::BLOCK;
use offload::frame::Cable;
use offload::nic::{Config, Nic};
use offload::plan::{KeyName, Material, Plan};
use offload::software::crypto;
use record::aead::{Cipher, NONCE_LEN};
use record::budget::Limits;
use record::epochs::Outbound;
use record::keys::Secret;
use record::seal::{Ids, Message};
use wire::geometry::Geometry;
use wire::ids::Side;
use wire::trailer::{Kind, Trailer};

/// What Ethernet carries.
const DATAGRAM: usize = 1472;
/// Records of a segment, as long messages leave: 64 KiB.
const SEGMENT: u32 = 44;
const BLOCKS: usize = 1024;
const CIPHER: Cipher = Cipher::Aes128Gcm;
/// In clear in front of each record.
const OWN: [u8; 20] = [1; 20];

/// A card's host side and nothing behind it: a ring, a doorbell, completions.
#[derive(Debug)]
struct Idle {
    memory: Vec<u8>,
    rings: Vec<(Vec<u8>, u16, VecDeque<u16>)>,
    objects: u32,
    entry: [u8; 64],
}

impl Device for Idle {
    fn name(&self) -> &str {
        "idle"
    }

    fn caps(&self) -> Caps {
        Card::default().caps
    }

    fn pd(&self) -> u32 {
        1
    }

    fn create(&mut self, _: &[u8]) -> Result<Object, Failed> {
        self.objects += 1;
        Ok(Object { number: self.objects, handle: self.objects.into() })
    }

    fn destroy(&mut self, _: Object) {}

    fn open_queue(&mut self, _: u32) -> Result<Queue, Failed> {
        let handle = self.rings.len();
        self.rings.push((vec![0; BLOCKS * BLOCK], 0, VecDeque::with_capacity(BLOCKS)));
        Ok(Queue { handle, number: handle as u32 + 1, blocks: BLOCKS as u32 })
    }

    fn region(&self) -> Region {
        Region { address: 0, lkey: 1, len: self.memory.len() }
    }

    fn memory(&mut self) -> &mut [u8] {
        &mut self.memory
    }

    fn post(&mut self, queue: Queue, index: u16, blocks: &[u8]) -> Result<(), Failed> {
        let (ring, _, signalled) = &mut self.rings[queue.handle];
        for (i, block) in blocks.chunks_exact(BLOCK).enumerate() {
            let at = (usize::from(index) + i) % BLOCKS * BLOCK;
            ring[at..at + BLOCK].copy_from_slice(block);
        }
        if blocks[11] & 8 != 0 {
            signalled.push_back(index);
        }
        Ok(())
    }

    fn doorbell(&mut self, queue: Queue, produced: u16, last: u16) -> Result<(), Failed> {
        let (ring, doorbell, _) = &mut self.rings[queue.handle];
        *doorbell = produced;
        black_box(&ring[usize::from(last) % BLOCKS * BLOCK..][..8]);
        Ok(())
    }

    fn complete(&mut self, queue: Queue) -> Option<Completion> {
        // What the card would have written is there already, but for the index.
        self.entry[60..62].copy_from_slice(&self.rings[queue.handle].2.pop_front()?.to_be_bytes());
        Completion::read(&self.entry, 0, 1)
    }

    fn reset_queue(&mut self, queue: Queue) -> Result<Queue, Failed> {
        Ok(queue)
    }
}

fn nic(keys: &mut Outbound) -> Nic {
    let entry = Completion { queue: 1, index: 0, outcome: Outcome::Done }.emit(0, 1);
    let idle = Idle { memory: vec![0; offload::ladder::MEMORY_BYTES], rings: Vec::new(), objects: 0, entry };
    let cable = Cable { from: SocketAddr::from(([192, 0, 2, 1], 1)), vlan: None };
    let config = Config { bytes_min: 0, ..Config::default() };
    let mut nic = Nic::new(Box::new(Guarded::new(idle)), Box::new(cable), config).expect("it refuses nothing");
    let (cipher, key, salt) = keys.device_key(crypto(), 0).expect("a fresh key");
    assert!(nic.install(KEY, &Material { cipher, key, salt }), "it takes all");
    nic
}

const KEY: KeyName = KeyName { session: 1, epoch: 0 };

/// Gives the next segment of a message to the card. Whether there is another one.
fn hand(nic: &mut Nic, message: &mut Message<&[u8]>, next: &mut u32) -> bool {
    let end = (*next + SEGMENT).min(message.geometry().records());
    let records = *next..end;
    let (record_len, last_len) = (message.record_len(records.start as u16), message.record_len((end - 1) as u16));
    let (sequence, count) = (message.id().rpc().sequence(), end - records.start);
    let handed = message.hand_over(records).expect("nobody sealed it");
    let mut plan = Plan {
        key: KEY,
        to: SocketAddr::from(([192, 0, 2, 2], 2)),
        header: &OWN,
        message: sequence,
        first: handed.first().as_u64(),
        count,
        record_len,
        last_len,
        write: &mut |i, out| handed.write(i, out),
    };
    nic.take(&mut plan).expect("there is room");
    *next = end;
    end < message.geometry().records()
}

fn main() {
    let mut args = std::env::args().skip(1);
    let who = args.next().expect("who");
    let mut number = || args.next().and_then(|arg| arg.parse::<usize>().ok()).expect("a number");
    let (bytes, messages, open) = (number(), number(), number());
    let body = vec![7; bytes];
    let secret = Secret::new([5; record::keys::SECRET_LEN]);
    let mut keys = Outbound::new(crypto(), &secret, CIPHER, Side::Client, Limits::PROTOCOL);
    let mut nic = nic(&mut keys);
    let aead = crypto().aead(CIPHER, &[1; 16]);
    let mut ids = Ids::new(Side::Client);
    let geometry = Geometry::cut(bytes, DATAGRAM);
    let mut sealed = vec![0; 1 << 16];
    let mut under_way = Vec::with_capacity(open);
    for _ in 0..messages / open {
        for _ in 0..open {
            let id = ids.take().expect("there are many");
            let mut message = Message::freeze(id, &body[..], Trailer::new(geometry, Kind::Request), &[]);
            message.bind(&mut keys).expect("the key protects more");
            under_way.push((message, 0, true));
        }
        match who.as_str() {
            "card" => {
                // Segments of all that are open take turns, and each turn rings once.
                while under_way.iter().any(|(_, _, more)| *more) {
                    for (message, next, more) in under_way.iter_mut().filter(|(_, _, more)| *more) {
                        *more = hand(&mut nic, message, next);
                    }
                    nic.flush();
                    nic.poll();
                }
            }
            "software" => {
                for (message, _, _) in &under_way {
                    for i in 0..geometry.records() as u16 {
                        message.seal(&keys, i, &mut sealed[..message.record_len(i)]);
                        black_box(&sealed);
                    }
                }
            }
            "aead" => {
                for (message, _, _) in &under_way {
                    for i in 0..geometry.records() as u16 {
                        let len = message.record_len(i) - 13;
                        aead.seal(
                            &[i as u8; NONCE_LEN],
                            &[0; 13],
                            &body[geometry.bytes(i)],
                            &[0; 16],
                            &mut sealed[..len],
                        );
                        black_box(&sealed);
                    }
                }
            }
            _ => drop(black_box(&under_way)),
        }
        for (mut message, _, _) in under_way.drain(..) {
            message.unbind(&mut keys);
        }
    }
    let per = |count: u64| count as f64 / messages as f64;
    let counters = nic.counters;
    println!("{} {} {}", per(counters.descriptors), per(counters.resyncs), per(counters.blocks * 64));
}
