//! AF_XDP on one side of a pair of virtual interfaces and an ordinary socket on the other: every datagram arrives, by the queues where they
//! can carry it and by the socket where not. It takes privileges; without them it says that it was skipped.
#![cfg(feature = "xdp")]

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::time::Duration;

use udp::poll::{pin_to_cpu, wait_readable};
use udp::xdp::apart::{Side, joined};
use udp::{Backend, Datagrams, Options, Transmit, backend};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

/// Runs both sides in networks of their own, or says why not.
fn over_veth<A: Send, B: Send>(mtu: u32, one: impl FnOnce(Side) -> A + Send, other: impl FnOnce(Side) -> B + Send) {
    let skipped = match Backend::Xdp.check() {
        Err(why) => Some(why),
        Ok(()) => joined(mtu, one, other).err().map(|error| format!("no networks of one's own: {error}")),
    };
    if let Some(why) = skipped {
        let _ = std::io::stderr().write_all(format!("SKIPPED a test of xdp: {why}\n").as_bytes());
    }
}

fn bound(ip: IpAddr, port: u16, backend: Backend) -> Box<dyn Datagrams> {
    let options = Options { report_tos: true, ..Options::default() };
    let bound = backend::bind((ip, port).into(), &options, backend).unwrap();
    assert_eq!(bound.caps().backend.instead_of, None);
    bound
}

/// Keeps the calling thread where it is. Not every process may use the first processor; then it is said, and the order may suffer.
fn stay() {
    if let Err(why) = pin_to_cpu(0) {
        let _ = std::io::stderr().write_all(format!("a thread may move: {why}\n").as_bytes());
    }
}

/// Sleeps until something is there, and takes it as single datagrams.
fn next(socket: &mut dyn Datagrams) -> (SocketAddr, u8, Vec<Vec<u8>>) {
    let mut into = vec![0; 65_535];
    for _ in 0..10_000 {
        if let Some(train) = socket.receive(&mut into).unwrap() {
            return (train.from, train.tos, train.datagrams(&into).map(<[u8]>::to_vec).collect());
        }
        assert!(wait_readable(&[socket.fds()], PATIENCE).unwrap().any(), "nothing came");
    }
    panic!("it rings for nothing");
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + seed) as u8).collect()
}

/// Lengths of trains and of their datagrams: single ones, whole and broken trains, and what no frame of 1,500 bytes holds.
const TRAINS: [(usize, usize); 9] =
    [(0, 0), (1, 1), (64, 64), (1400, 1400), (1452, 1452), (9 * 1400 + 7, 1400), (60_000, 1400), (40, 7), (64, 64)];

fn echo(socket: &mut dyn Datagrams, trains: usize) {
    let mut left: usize =
        TRAINS[..].iter().map(|(len, segment)| len.div_ceil(*segment.max(&1)).max(1)).sum::<usize>() * trains;
    while left > 0 {
        let (from, tos, datagrams) = next(socket);
        for datagram in datagrams {
            socket.transmit(&Transmit { tos: Some(tos), ..Transmit::single(from, &datagram) }).unwrap();
            left -= 1;
        }
    }
}

fn ask(socket: &mut dyn Datagrams, to: SocketAddr, rounds: usize) {
    for round in 0..rounds {
        for (seed, (len, segment)) in TRAINS.into_iter().enumerate() {
            let bytes = pattern(len, seed + round);
            let train = Transmit { to, bytes: &bytes, segment, tos: Some(0x28) };
            socket.transmit(&train).unwrap();
            let sent: Vec<&[u8]> = train.datagrams().collect();
            let mut back = Vec::new();
            while back.len() < sent.len() {
                let (from, tos, datagrams) = next(socket);
                assert_eq!((from, tos), (to, 0x28));
                back.extend(datagrams);
            }
            assert!(back == sent, "{len} bytes in datagrams of {segment}");
        }
    }
}

/// Both roles of AF_XDP, both families. Each thread stays on one processor: what it sent before it moved to another may be overtaken by
/// what it sends there, and datagrams would come in another order than the backends keep.
#[test]
fn trains_go_both_ways() {
    for family in [0, 1] {
        for (asks, answers) in
            [(Backend::Xdp, Backend::Mmsg), (Backend::Mmsg, Backend::Xdp), (Backend::Xdp, Backend::Xdp)]
        {
            let (tell, told) = mpsc::channel();
            over_veth(
                1500,
                move |side| {
                    stay();
                    let mut socket = bound(side.here[family], 0, asks);
                    let port = told.recv().unwrap();
                    ask(&mut *socket, (side.there[family], port).into(), 20);
                },
                move |side| {
                    stay();
                    let mut socket = bound(side.here[family], 0, answers);
                    tell.send(socket.local_addr().port()).unwrap();
                    echo(&mut *socket, 20);
                },
            );
        }
    }
}

/// How many packets an interface has passed to the kernel's UDP, by its own count: what AF_XDP takes is not among them.
fn through_the_kernel() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let line = text.lines().filter(|line| line.starts_with("Udp:")).nth(1).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

/// The queues carry what they are there for: the kernel's UDP sees next to nothing of it. And what another port is for still arrives.
#[test]
fn the_queues_carry_it_and_nothing_else() {
    let (tell, told) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    over_veth(
        1500,
        move |side| {
            let mut socket = bound(side.here[0], 0, Backend::Xdp);
            let mut plain = bound(side.here[0], 0, Backend::Mmsg);
            let [port, other]: [u16; 2] = told.recv().unwrap();
            let before = through_the_kernel();
            let to = SocketAddr::from((side.there[0], port));
            for n in 0..1000_u32 {
                socket.transmit(&Transmit::single(to, &n.to_le_bytes())).unwrap();
                assert_eq!(next(&mut *socket).2, [n.to_le_bytes()]);
            }
            let by_kernel = through_the_kernel() - before;
            assert!(by_kernel < 100, "{by_kernel} of 1000 came by the kernel");
            plain.transmit(&Transmit::single((side.there[0], other).into(), b"beside")).unwrap();
            assert_eq!(next(&mut *plain).2, [b"beside"]);
            end.send(()).unwrap();
        },
        move |side| {
            let mut socket = bound(side.here[0], 0, Backend::Mmsg);
            let mut other = bound(side.here[0], 0, Backend::Mmsg);
            tell.send([socket.local_addr().port(), other.local_addr().port()]).unwrap();
            for _ in 0..1000 {
                let (from, _, datagrams) = next(&mut *socket);
                socket.transmit(&Transmit::single(from, &datagrams[0])).unwrap();
            }
            let (from, _, datagrams) = next(&mut *other);
            other.transmit(&Transmit::single(from, &datagrams[0])).unwrap();
            ended.recv().unwrap();
        },
    );
}

/// Longer than a frame, to ourselves, to nobody: the socket beside carries it or says so.
#[test]
fn what_the_queues_cannot_carry_goes_by_the_socket() {
    let (tell, told) = mpsc::channel();
    over_veth(
        9000,
        move |side| {
            let mut socket = bound(side.here[0], 0, Backend::Xdp);
            let port = told.recv().unwrap();
            let to = SocketAddr::from((side.there[0], port));
            for len in [3000, 8900, 100, 8900, 8900] {
                let bytes = pattern(len, len);
                socket.transmit(&Transmit::single(to, &bytes)).unwrap();
                assert_eq!(next(&mut *socket).2, [bytes]);
            }
            let own = socket.local_addr();
            socket.transmit(&Transmit::single(own, b"to ourselves")).unwrap();
            assert_eq!(next(&mut *socket).2, [b"to ourselves"]);
            assert!(socket.transmit(&Transmit::single(to, &[0; 9000])).is_err(), "longer than the interface takes");
            assert!(socket.transmit(&Transmit::single(([192, 0, 2, 1], 9).into(), b"nowhere")).is_err(), "no route");
            assert!(socket.transmit(&Transmit::single((side.there[1], port).into(), b"v6")).is_err(), "another family");
        },
        move |side| {
            let mut socket = bound(side.here[0], 0, Backend::Mmsg);
            tell.send(socket.local_addr().port()).unwrap();
            for _ in 0..5 {
                let (from, _, datagrams) = next(&mut *socket);
                socket.transmit(&Transmit::single(from, &datagrams[0])).unwrap();
            }
        },
    );
}

/// The interface is free again when the socket is gone; while it is there, a second one falls back and says why.
#[test]
fn one_socket_has_the_interface() {
    over_veth(
        1500,
        |side| {
            let first = bound(side.here[0], 0, Backend::Xdp);
            let second = backend::bind((side.here[0], 0).into(), &Options::default(), Backend::Xdp).unwrap();
            let why = second.caps().backend.instead_of.clone().expect("it is taken");
            assert!(why.contains("xdp: ") && why.contains("sealane0"), "{why}");
            drop(first);
            bound(side.here[0], 0, Backend::Xdp);
            let wildcard = backend::bind(([0, 0, 0, 0], 0).into(), &Options::default(), Backend::Xdp).unwrap();
            let why = wildcard.caps().backend.instead_of.clone().expect("it has no one interface");
            assert!(why.contains("bind to an address"), "{why}");
        },
        |_| (),
    );
}
