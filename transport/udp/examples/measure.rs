//! What the paths to the kernel cost on this machine: `cargo run --release -p udp --example measure`.
//!
//! Owns the numbers behind `PAGED_BYTES_MIN`, the default buffers, and the choice of unconnected sockets. Each row is the
//! best and the middle of many rounds; rows of one table take turns, so that a noisy neighbour hurts all alike.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "measures time, and compares with std's sockets"
)]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Instant;

use udp::{Datagrams, Mmsg, Options, Transmit, bind, connect, poll};

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const ROUNDS: usize = 2000;

fn main() {
    println!("{}\n", bind(LOCAL, &Options::default()).expect("loopback").caps());
    small_datagrams();
    large_datagrams();
    round_trips();
    buffers();
}

/// Nanoseconds of many rounds.
#[derive(Default)]
struct Sample(Vec<f64>);

impl Sample {
    fn add(&mut self, since: Instant, count: usize) {
        self.0.push(since.elapsed().as_nanos() as f64 / count as f64);
    }

    fn at(&mut self, quantile: f64) -> f64 {
        self.0.sort_by(f64::total_cmp);
        self.0[(quantile * (self.0.len() - 1) as f64) as usize]
    }

    fn text(&mut self) -> String {
        format!("{:>8.0} {:>8.0}", self.at(0.01), self.at(0.5))
    }
}

/// Runs `send` and `receive` in turns, each `count` times a round, for all candidates; prints a line for each.
fn compare(count: usize, candidates: &mut [(&str, &mut dyn Both)]) {
    println!("{:<44} {:>17} {:>17} {:>8}", "", "out: best, middle", "in: best, middle", "sum");
    let mut samples: Vec<_> = candidates.iter().map(|_| (Sample::default(), Sample::default())).collect();
    for _ in 0..ROUNDS {
        for ((_, candidate), (out, back)) in candidates.iter_mut().zip(&mut samples) {
            let since = Instant::now();
            (0..count).for_each(|_| candidate.send());
            out.add(since, count);
            let since = Instant::now();
            (0..count).for_each(|_| candidate.receive());
            back.add(since, count);
        }
    }
    for ((name, _), (out, back)) in candidates.iter().zip(&mut samples) {
        let sum = out.at(0.5) + back.at(0.5);
        println!("{name:<44} {} {} {sum:>8.0}", out.text(), back.text());
    }
    println!();
}

/// Something that sends, and receives what it sent.
trait Both {
    fn send(&mut self);
    fn receive(&mut self);
}

struct Ours {
    sender: Mmsg,
    receiver: Mmsg,
    bytes: Vec<u8>,
    segment: usize,
    tos: Option<u8>,
    into: Vec<u8>,
}

impl Ours {
    fn new(len: usize, segment: usize, gso: bool) -> Self {
        Self::with(&Options { gso, ..Options::default() }, len, segment)
    }

    fn with(options: &Options, len: usize, segment: usize) -> Self {
        let (sender, receiver) = (bind(LOCAL, options).expect("bind"), bind(LOCAL, options).expect("bind"));
        let (bytes, into) = (vec![1; len], vec![0; 65_535]);
        Self { sender, receiver, bytes, segment, tos: None, into }
    }
}

impl Both for Ours {
    fn send(&mut self) {
        let (to, bytes) = (self.receiver.local_addr(), self.bytes.as_slice());
        let train = Transmit { to, bytes, segment: self.segment, tos: self.tos };
        self.sender.transmit(&train).expect("send");
    }

    fn receive(&mut self) {
        let mut left = self.bytes.len();
        while left > 0 {
            left -= self.receiver.receive(&mut self.into).expect("receive").expect("loss").len;
        }
    }
}

struct Plain {
    sender: UdpSocket,
    receiver: UdpSocket,
    to: Option<SocketAddr>,
    bytes: Vec<u8>,
    into: Vec<u8>,
}

impl Plain {
    fn new(len: usize, connected: bool) -> Self {
        let (sender, receiver) = (UdpSocket::bind(LOCAL).expect("bind"), UdpSocket::bind(LOCAL).expect("bind"));
        receiver.set_nonblocking(true).expect("option");
        let to = receiver.local_addr().expect("address");
        if connected {
            sender.connect(to).expect("connect");
        }
        let to = (!connected).then_some(to);
        Self { sender, receiver, to, bytes: vec![1; len], into: vec![0; 65_535] }
    }
}

impl Both for Plain {
    fn send(&mut self) {
        match self.to {
            Some(to) => self.sender.send_to(&self.bytes, to),
            None => self.sender.send(&self.bytes),
        }
        .expect("send");
    }

    fn receive(&mut self) {
        self.receiver.recv_from(&mut self.into).expect("receive");
    }
}

/// Receives without anything there.
struct Empty(Mmsg, UdpSocket);

impl Both for Empty {
    fn send(&mut self) {
        assert!(self.0.receive(&mut [0; 64]).expect("receive").is_none());
    }

    fn receive(&mut self) {
        assert!(self.1.recv_from(&mut [0; 64]).is_err());
    }
}

/// The whole is one datagram.
fn itself(bytes: &[u8]) -> usize {
    bytes.len()
}

fn small_datagrams() {
    println!("64 bytes, ns per datagram");
    let mut with_tos = Ours::with(&Options { report_tos: true, ..Options::default() }, 64, 64);
    with_tos.tos = Some(0x28);
    let plain = Options { stride: Some(itself), ..Options::default() };
    let mut connected = Ours::with(&plain, 64, 64);
    connected.sender = connect(LOCAL, connected.receiver.local_addr(), &plain).expect("connect");
    compare(
        32,
        &mut [
            ("ours", &mut Ours::new(64, 64, true)),
            ("ours with a type of service, reported", &mut with_tos),
            ("ours, trains delimit themselves", &mut Ours::with(&plain, 64, 64)),
            ("ours, the same and connected", &mut connected),
            ("std, unconnected (sendto, recvfrom)", &mut Plain::new(64, false)),
            ("std, connected (send, recvfrom)", &mut Plain::new(64, true)),
        ],
    );
    println!("receiving nothing: ours stands under out, std's recvfrom under in");
    let idle = UdpSocket::bind(LOCAL).expect("bind");
    idle.set_nonblocking(true).expect("option");
    let ours = bind(LOCAL, &Options::default()).expect("bind");
    compare(32, &mut [("", &mut Empty(ours, idle))]);
}

fn large_datagrams() {
    for (len, segment) in [
        (1440, 1440),
        (2048, 2048),
        (3000, 3000),
        (4096, 4096),
        (8192, 8192),
        (16_376, 16_376),
        (4 * 16_376, 16_376),
        (4 * 16_367, 16_367),
        (8 * 8183, 8183),
        (45 * 1440, 1440),
    ] {
        println!("{} x {segment} bytes, ns per {}", len / segment, len);
        // With a type of service even datagrams of ordinary size go through sendmsg; they are the control.
        compare(
            if len > 20_000 { 4 } else { 16 },
            &mut [("UDP_SEGMENT", &mut Ours::new(len, segment, true)), ("plain", &mut Ours::new(len, segment, false))],
        );
    }
}

/// One end of a pair: sends if told so, else spins until it has received.
type Side = Box<dyn FnMut(bool) + Send>;
type Pair = (Side, Side);
type Maker = fn() -> Pair;

/// Two threads that spin, 64 bytes there and back.
fn round_trips() {
    println!("64 bytes there and back, two spinning threads, ns: best, middle, 99 %");
    let makers: [(&str, Maker); 5] = [
        ("ours", || our_pair(&Options::default(), false)),
        ("ours, type of service reported", || our_pair(&Options { report_tos: true, ..Options::default() }, false)),
        ("ours, trains delimit themselves", || {
            our_pair(&Options { stride: Some(itself), ..Options::default() }, false)
        }),
        ("ours, the same and connected", || {
            our_pair(&Options { stride: Some(itself), reuse_port: true, ..Options::default() }, true)
        }),
        ("std, connected", std_pair),
    ];
    let mut samples: Vec<_> = makers.iter().map(|_| Sample::default()).collect();
    const TRIPS: usize = 20_000;
    for _ in 0..5 {
        for ((_, make), sample) in makers.iter().zip(&mut samples) {
            let (mut client, mut server) = make();
            let echo = thread::spawn(move || {
                let _ = poll::pin_to_cpu(1);
                for _ in 0..TRIPS {
                    server(false);
                    server(true);
                }
            });
            let pinned = thread::spawn(move || {
                let _ = poll::pin_to_cpu(0);
                let mut sample = Sample::default();
                for _ in 0..TRIPS {
                    let since = Instant::now();
                    client(true);
                    client(false);
                    sample.add(since, 1);
                }
                sample
            });
            sample.0.extend(pinned.join().expect("client").0);
            echo.join().expect("server");
        }
    }
    for ((name, _), sample) in makers.iter().zip(&mut samples) {
        println!("{name:<44} {} {:>8.0}", sample.text(), sample.at(0.99));
    }
    println!();
}

fn our_pair(options: &Options, connected: bool) -> Pair {
    let (mut a, mut b) = (bind(LOCAL, options).expect("bind"), bind(LOCAL, options).expect("bind"));
    let (to_a, to_b) = (a.local_addr(), b.local_addr());
    if connected {
        a = connect(to_a, to_b, options).expect("connect");
        b = connect(to_b, to_a, options).expect("connect");
    }
    let side = |mut socket: Mmsg, to: SocketAddr| -> Side {
        let mut into = vec![0; 65_535];
        Box::new(move |is_send| {
            if is_send {
                socket.transmit(&Transmit::single(to, &[1; 64])).expect("send");
            } else {
                while socket.receive(&mut into).expect("receive").is_none() {}
            }
        })
    };
    (side(a, to_b), side(b, to_a))
}

fn std_pair() -> Pair {
    let (a, b) = (UdpSocket::bind(LOCAL).expect("bind"), UdpSocket::bind(LOCAL).expect("bind"));
    a.connect(b.local_addr().expect("address")).expect("connect");
    b.connect(a.local_addr().expect("address")).expect("connect");
    let side = |socket: UdpSocket| -> Side {
        socket.set_nonblocking(true).expect("option");
        let mut into = vec![0; 65_535];
        Box::new(move |is_send| {
            if is_send {
                socket.send(&[1; 64]).expect("send");
            } else {
                while socket.recv(&mut into).is_err() {}
            }
        })
    };
    (side(a), side(b))
}

/// How much a receiver that pauses keeps, and whether a deep buffer is a slow one.
fn buffers() {
    println!("bytes sent before the first is lost, while nobody receives");
    println!("{:<24} {:>14} {:>14} {:>14} {:>14}", "asked for", "64", "1440", "45 x 1440", "4 x 16376");
    for bytes in [106_496, 1 << 20, 4 << 20, 16 << 20] {
        let options = Options { receive_buffer_bytes: bytes, ..Options::default() };
        print!("{bytes:<24}");
        for (len, segment) in [(64, 64), (1440, 1440), (45 * 1440, 1440), (4 * 16_367, 16_367)] {
            let mut pair = Ours::with(&options, len, segment);
            let most = (4 * bytes / len).max(8);
            (0..most).for_each(|_| pair.send());
            let mut kept = 0;
            while let Some(got) = pair.receiver.receive(&mut pair.into).expect("receive") {
                kept += got.len;
            }
            print!(" {kept:>14}");
        }
        println!();
    }
    println!("\n45 x 1440 bytes, ns per train, by how many wait at once (memory falls out of the caches)");
    for waiting in [1, 4, 16, 48] {
        println!("{waiting} waiting");
        compare(waiting, &mut [("UDP_SEGMENT", &mut Ours::new(45 * 1440, 1440, true))]);
    }
}
