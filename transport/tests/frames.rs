//! Frames as the modelled card made them, onto an interface, byte for byte: the kernel of the other side checks each Ethernet, IP and UDP header
//! and every checksum, and a stock socket behind it opens what is in them. Ways and neighbours are the kernel's own. [P-3.5]
//!
//! It takes privileges and networks of its own; without them it says that it was skipped.
#![cfg(all(feature = "xdp", feature = "aws-lc"))]

mod common;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};

use common::{Authority, bounded, echo, numbered, patient};
use mlx5_shim::cmd::Caps;
use mlx5_shim::cqe::Completion;
use mlx5_shim::device::{Device, Object, Queue, Region};
use mlx5_shim::error::Failed;
use mlx5_shim::model::{Config, Model};
use offload::frame::{Cable, Ways};
use offload::gcm::Provided;
use offload::ladder::{Climb, given, test};
use offload::proof::NoWire;
use offload::software::crypto;
use offload::ways::Kernel;
use sealane::Offload;
use udp::xdp::apart::{Side, joined};
use udp::xdp::raw::Raw;

const SIZES: [usize; 5] = [1100, 3000, 20_000, 100_000, 400_000];

/// What went onto the wire: how many frames, and the last one. One test at a time uses it.
static SENT: Mutex<(u64, Vec<u8>)> = Mutex::new((0, Vec::new()));
static ALONE: Mutex<()> = Mutex::new(());

/// A card with an interface to send by.
#[derive(Debug)]
struct Wired {
    inner: Box<dyn Device>,
    raw: Raw,
}

impl Device for Wired {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn pd(&self) -> u32 {
        self.inner.pd()
    }

    fn create(&mut self, mailbox: &[u8]) -> Result<Object, Failed> {
        self.inner.create(mailbox)
    }

    fn destroy(&mut self, object: Object) {
        self.inner.destroy(object);
    }

    fn open_queue(&mut self, blocks: u32) -> Result<Queue, Failed> {
        self.inner.open_queue(blocks)
    }

    fn region(&self) -> Region {
        self.inner.region()
    }

    fn memory(&mut self) -> &mut [u8] {
        self.inner.memory()
    }

    fn post(&mut self, queue: Queue, index: u16, blocks: &[u8]) -> Result<(), Failed> {
        self.inner.post(queue, index, blocks)
    }

    fn doorbell(&mut self, queue: Queue, produced: u16, last: u16) -> Result<(), Failed> {
        self.inner.doorbell(queue, produced, last)
    }

    fn complete(&mut self, queue: Queue) -> Option<Completion> {
        self.inner.complete(queue)
    }

    fn reset_queue(&mut self, queue: Queue) -> Result<Queue, Failed> {
        self.inner.reset_queue(queue)
    }

    /// Like a real card it sends by itself and has nothing left to be sent by hand.
    fn next_frame(&mut self, frame: &mut Vec<u8>) -> bool {
        while self.inner.next_frame(frame) {
            let mut sent = SENT.lock().unwrap_or_else(PoisonError::into_inner);
            self.raw.send(frame).expect("the interface takes what its MTU allows");
            *sent = (sent.0 + 1, frame.clone());
        }
        false
    }
}

/// The modelled card behind the interface of this network, tested, with the kernel's ways.
fn climbed(local: SocketAddr) -> (Climb, Box<dyn Ways>) {
    let model = Model::new(Config::default(), Box::new(Provided(crypto())));
    let mut cable = Cable { from: local, vlan: None };
    let mut fill = |bytes: &mut [u8]| bytes.fill(7);
    let mut climb = test(given(Box::new(model)), crypto(), &mut NoWire, &mut cable, local, &mut fill);
    let raw = Raw::of("sealane0").expect("the interface of this network");
    climb.device = climb.device.map(|inner| Box::new(Wired { inner, raw }) as Box<dyn Device>);
    (climb, Box::new(Kernel::new(local)))
}

/// Past the capture of output: a test that was not run must be seen.
fn skipped(why: &str) {
    let _ = std::io::stderr().write_all(format!("SKIPPED frames of a card on an interface: {why}\n").as_bytes());
}

/// Makes a VLAN on top of the interface. Its addresses here and there. `None` with a kernel that has no VLANs.
fn tagged(interface: &str, here: u16, there: u16) -> Option<([IpAddr; 2], [IpAddr; 2])> {
    let ips = |n: u16| [IpAddr::from([10, 98, 0, n as u8]), IpAddr::from([0xfd00, 0x98, 0, 0, 0, 0, 0, n])];
    let [v4, v6] = ips(here);
    for words in [
        format!("link add link {interface} name tagged type vlan id 7"),
        format!("address add {v4}/24 dev tagged"),
        format!("address add {v6}/64 dev tagged nodad"),
        "link set tagged up".to_owned(),
    ] {
        let done = Command::new("ip").args(words.split(' ')).output().expect("the command `ip` made this network");
        let said = String::from_utf8_lossy(&done.stderr);
        if said.contains("Unknown device type") {
            skipped(&format!("ip {words}: this kernel has no VLANs"));
            return None;
        }
        assert!(done.status.success(), "ip {words}: {said}");
    }
    Some((ips(here), ips(there)))
}

/// Datagrams that the kernel of this network refused for their checksum.
fn refused_for_checksum(family: usize) -> u64 {
    if family == 1 {
        let text = std::fs::read_to_string("/proc/thread-self/net/snmp6").unwrap();
        let line = text.lines().find(|line| line.starts_with("Udp6InCsumErrors")).expect("it counts that");
        return line.split_whitespace().nth(1).unwrap().parse().unwrap();
    }
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:")).map(|line| line.split(' '));
    let at = lines.next().unwrap().position(|name| name == "InCsumErrors").expect("it counts that");
    lines.next().unwrap().nth(at).unwrap().parse().unwrap()
}

fn client(side: Side, family: usize, vlan: bool, ca: &Authority, told: &mpsc::Receiver<u16>) {
    let ends = if vlan { tagged("sealane0", 1, 2) } else { Some((side.here, side.there)) };
    let Some((here, there)) = ends else { return };
    *SENT.lock().unwrap_or_else(PoisonError::into_inner) = (0, Vec::new());
    let client = ca.client().mtu(1500).offload(Offload::Climbed(climbed)).bind((here[family], 0)).unwrap();
    assert_eq!(client.info().offload, "model seals");
    let peer = client.peer((there[family], told.recv().unwrap()), "localhost").unwrap();
    for (n, size) in (0..).zip(SIZES.into_iter().cycle().take(15)) {
        let message = numbered(n, size);
        assert!(*client.call_with(&peer, &message, patient()).unwrap() == *message, "{size} bytes");
    }
    let info = client.info();
    let (frames, mut last) = std::mem::take(&mut *SENT.lock().unwrap_or_else(PoisonError::into_inner));
    assert!(frames > 0 && frames == info.counters.records_by_device, "{frames} frames, {info}");
    // One whose last byte is another: that the kernel looks at all.
    *last.last_mut().expect("a frame") ^= 1;
    Raw::of("sealane0").unwrap().send(&last).unwrap();
    client.call_with(&peer, b"quit", patient()).unwrap();
}

fn frames_arrive(family: usize, vlan: bool) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let ca = Authority::new();
    let (tell, told) = mpsc::channel();
    let (client_ca, server_ca) = (&ca, &ca);
    let talked = joined(
        1500,
        move |side| client(side, family, vlan, client_ca, &told),
        move |side| {
            let ends = if vlan { tagged("sealane1", 2, 1) } else { Some((side.here, side.there)) };
            let Some((here, _)) = ends else { return };
            let server = server_ca.server().bind((here[family], 0)).unwrap();
            tell.send(server.local_addr().port()).unwrap();
            assert_eq!(echo(server).join().unwrap(), 15);
            assert_eq!(refused_for_checksum(family), 1, "the altered frame, and none of the card's");
        },
    );
    if let Err(error) = talked {
        skipped(&format!("no networks of one's own: {error}"));
    }
}

#[test]
fn over_ipv4() {
    bounded(|| frames_arrive(0, false));
}

#[test]
fn over_ipv6() {
    bounded(|| frames_arrive(1, false));
}

#[test]
fn in_a_vlan() {
    bounded(|| {
        frames_arrive(0, true);
        frames_arrive(1, true);
    });
}
