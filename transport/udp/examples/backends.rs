//! What each backend costs beside the others, in one run: `cargo run --release -p udp --features io-uring,xdp --example backends`. Over
//! loopback, and over a pair of virtual interfaces, which takes privileges.
//!
//! Owns the numbers of decision 0021. Rows of one table take turns, so that a noisy neighbour hurts all alike; each is the best and the
//! middle of many rounds, and the last column compares the middle of what a train costs both sides with the first row's.
#![expect(clippy::disallowed_methods, reason = "measures time")]

#[path = "backends/ring_sends.rs"]
mod ring_sends;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ring_sends::RingSends;
use udp::xdp::apart;
use udp::{Backend, Datagrams, Options, Transmit, backend, poll};

const ROUNDS: usize = 400;
const TRIPS: usize = 3000;
/// Bytes of a train and of its datagrams.
const TRAINS: [(usize, usize); 4] = [(64, 64), (1400, 1400), (8 * 1400, 1400), (40 * 1400, 1400)];

/// A sender and a receiver, and where the receiver is.
struct Lane {
    name: &'static str,
    sender: Box<dyn Datagrams>,
    receiver: Box<dyn Datagrams>,
    to: SocketAddr,
    out: Vec<f64>,
    back: Vec<f64>,
    trips: Vec<f64>,
}

impl Lane {
    fn new(name: &'static str, sender: Box<dyn Datagrams>, receiver: Box<dyn Datagrams>) -> Self {
        let to = receiver.local_addr();
        Self { name, sender, receiver, to, out: Vec::new(), back: Vec::new(), trips: Vec::new() }
    }

    /// One train, its sending and its receiving timed apart.
    fn round(&mut self, bytes: &[u8], segment: usize, into: &mut [u8]) {
        let since = Instant::now();
        self.sender.transmit(&Transmit { to: self.to, bytes, segment, tos: None }).expect("send");
        let sent = Instant::now();
        let mut left = bytes.len();
        while left > 0 {
            left -= self.receiver.receive(into).expect("receive").map_or(0, |train| train.len);
        }
        self.out.push((sent - since).as_nanos() as f64);
        self.back.push(sent.elapsed().as_nanos() as f64);
    }

    /// Datagrams there and back between two threads that spin.
    fn trips(&mut self, bytes: &[u8]) {
        let (sender, receiver, to, trips) = (&mut self.sender, &mut self.receiver, self.to, &mut self.trips);
        let deadline = Instant::now() + Duration::from_secs(5);
        thread::scope(|scope| {
            scope.spawn(move || {
                let _ = poll::pin_to_cpu(1);
                let mut into = vec![0; 65_535];
                let mut left = TRIPS;
                while left > 0 && Instant::now() < deadline {
                    if let Some(train) = receiver.receive(&mut into).expect("receive") {
                        let back =
                            Transmit { segment: train.segment, ..Transmit::single(train.from, &into[..train.len]) };
                        receiver.transmit(&back).expect("send");
                        left -= 1;
                    }
                }
            });
            scope.spawn(move || {
                let _ = poll::pin_to_cpu(0);
                let mut into = vec![0; 65_535];
                for _ in 0..TRIPS {
                    let since = Instant::now();
                    sender.transmit(&Transmit::single(to, bytes)).expect("send");
                    while sender.receive(&mut into).expect("receive").is_none() && Instant::now() < deadline {}
                    trips.push(since.elapsed().as_nanos() as f64);
                }
            });
        });
    }
}

fn at(samples: &mut [f64], quantile: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get((quantile * samples.len().saturating_sub(1) as f64) as usize).copied().unwrap_or(f64::NAN)
}

fn compare(lanes: &mut [Lane]) {
    let mut into = vec![0; 65_535];
    for (len, segment) in TRAINS {
        let bytes = vec![7; len];
        for _ in 0..ROUNDS {
            lanes.iter_mut().for_each(|lane| lane.round(&bytes, segment, &mut into));
        }
        println!("{} x {segment} bytes in one train, one thread, ns", len / segment);
        println!("{:<34} {:>17} {:>17} {:>9} {:>6}", "", "out: best, middle", "in: best, middle", "sum", "ratio");
        let mut first = None;
        for lane in lanes.iter_mut() {
            let (out, back) = (std::mem::take(&mut lane.out), std::mem::take(&mut lane.back));
            let mut sums: Vec<f64> = out.iter().zip(&back).map(|(out, back)| out + back).collect();
            let (mut out, mut back) = (out, back);
            let sum = at(&mut sums, 0.5);
            let text = |s: &mut [f64]| format!("{:>8.0} {:>8.0}", at(s, 0.01), at(s, 0.5));
            let ratio = sum / *first.get_or_insert(sum);
            println!("{:<34} {} {} {sum:>9.0} {ratio:>6.2}", lane.name, text(&mut out), text(&mut back));
        }
        println!();
    }
    for len in [64, 1400] {
        let bytes = vec![7; len];
        for _ in 0..5 {
            lanes.iter_mut().filter(|lane| !lane.name.contains("send")).for_each(|lane| lane.trips(&bytes));
        }
        println!("{len} bytes there and back, two spinning threads, ns: best, middle, 99 %, ratio of middles");
        let mut first = None;
        for lane in lanes.iter_mut().filter(|lane| !lane.name.contains("send")) {
            let mut trips = std::mem::take(&mut lane.trips);
            let middle = at(&mut trips, 0.5);
            let ratio = middle / *first.get_or_insert(middle);
            println!(
                "{:<34} {:>8.0} {middle:>8.0} {:>9.0} {ratio:>6.2}",
                lane.name,
                at(&mut trips, 0.01),
                at(&mut trips, 0.99)
            );
        }
        println!();
    }
}

fn bound(ip: std::net::IpAddr, backend: Backend) -> Option<Box<dyn Datagrams>> {
    let bound = backend::bind((ip, 0).into(), &Options::default(), backend).expect("bind");
    match &bound.caps().backend.instead_of {
        Some(why) => {
            println!("left out: {why}");
            None
        }
        None => Some(bound),
    }
}

fn lane(name: &'static str, sender: Option<Box<dyn Datagrams>>, receiver: Option<Box<dyn Datagrams>>) -> Option<Lane> {
    Some(Lane::new(name, sender?, receiver?))
}

fn over_loopback() {
    println!("== loopback\n");
    let ip = std::net::IpAddr::from([127, 0, 0, 1]);
    let ours = |backend| bound(ip, backend);
    let ring = |zero_copy| RingSends::bind(ip, zero_copy).map(|ring| Box::new(ring) as Box<dyn Datagrams>);
    let lanes = [
        lane("mmsg", ours(Backend::Mmsg), ours(Backend::Mmsg)),
        lane("io-uring", ours(Backend::IoUring), ours(Backend::IoUring)),
        lane("io-uring, send by the ring", ring(false), ours(Backend::IoUring)),
        lane("io-uring, send without copying", ring(true), ours(Backend::IoUring)),
    ];
    compare(&mut lanes.into_iter().flatten().collect::<Vec<_>>());
}

type Bound = Vec<Option<Box<dyn Datagrams>>>;

/// Sockets of these backends on both sides of a pair of their own, handed to `then` in its network.
fn on_a_pair(backends: &[Backend], then: impl FnOnce(apart::Side, Bound, Bound) + Send) -> std::io::Result<()> {
    let (give, given) = mpsc::channel::<Bound>();
    let bind_all =
        |side: apart::Side| -> Bound { backends.iter().map(|&backend| bound(side.here[0], backend)).collect() };
    apart::joined(
        1500,
        move |side| {
            let here = bind_all(side);
            then(side, here, given.recv().expect("the other side"));
        },
        move |side| give.send(bind_all(side)).expect("the other side"),
    )
    .map(drop)
}

fn over_veth() {
    println!("== pairs of virtual interfaces, MTU 1,500\n");
    // A program on an interface slows all that goes through it, so AF_XDP has a pair of its own; one socket of an interface can have it.
    let measured = on_a_pair(&[Backend::Mmsg, Backend::IoUring, Backend::Mmsg], |side, senders, receivers| {
        let ring = RingSends::bind(side.here[0], true).map(|ring| Box::new(ring) as Box<dyn Datagrams>);
        let [sockets, uring, _] = <[_; 3]>::try_from(senders).ok().expect("three were bound");
        let senders = [("mmsg", sockets), ("io-uring", uring), ("mmsg, send without copying", ring)];
        let plain = senders.into_iter().zip(receivers).filter_map(|((name, a), b)| lane(name, a, b));
        let mut lanes: Vec<Lane> = plain.collect();
        let measured = on_a_pair(&[Backend::Xdp, Backend::Mmsg], move |_, senders, receivers| {
            let names = ["xdp", "mmsg beside that program"];
            let beside = names.into_iter().zip(senders).zip(receivers).filter_map(|((name, a), b)| lane(name, a, b));
            lanes.extend(beside);
            lanes.iter().for_each(|lane| println!("{}: {}", lane.name, lane.sender.caps().backend));
            println!();
            compare(&mut lanes);
        });
        if let Err(error) = measured {
            println!("left out: {error}");
        }
    });
    if let Err(error) = measured {
        println!("left out: {error}");
    }
}

fn main() {
    over_loopback();
    over_veth();
}
