//! Links with a small MTU or little room: what is too big or too much is refused in words, with and without segmentation.
//!
//! Loopback's MTU of 64 KiB and lack of a queue hide most of it, so these tests run themselves again in a network namespace
//! of their own, where loopback is an ordinary link. Where namespaces are not allowed they say so and pass.

use std::env;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use udp::{Datagrams, Gso, Options, SendError, Transmit, bind, caps::route, path_mtu, poll};

const MARK: &str = "UDP_TEST_IN_NAMESPACE";
const MTU: usize = 1500;

/// A link with an ordinary MTU.
const SMALL: &str = "ip link set lo mtu 1500 up && ip link show lo | grep -q 'mtu 1500'";
/// A slow link with an ordinary MTU and a queue that holds all we have, so that the socket's buffer fills first.
const SLOW: &str = "ip link set lo mtu 1500 up && tc qdisc add dev lo root tbf rate 8mbit burst 1600 limit 1000000";

/// Whether we are inside; else runs the named test inside, with loopback set up so, and reports its failure.
fn is_inside(setup: &str, test: &str) -> bool {
    if env::var_os(MARK).is_some() {
        return true;
    }
    let script = format!("{setup} || exit 77; exec \"$0\" --exact {test} --nocapture");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "sh", "-c", &script]);
    let output = command.arg(env::current_exe().unwrap()).env(MARK, "1").output();
    match output {
        Ok(output) if output.status.success() => {
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
        }
        Ok(output) if output.status.code() == Some(101) => {
            panic!("inside: {}", String::from_utf8_lossy(&output.stderr));
        }
        other => eprintln!("not run, no network namespace with such a link: {other:?}"),
    }
    false
}

fn localhosts() -> [(SocketAddr, usize); 2] {
    // With the room in one packet of 1500 bytes.
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    [(v4, MTU - 28), ((Ipv6Addr::LOCALHOST, 0).into(), MTU - 48)]
}

#[test]
fn datagram_beyond_the_mtu_is_too_big() {
    if !is_inside(SMALL, "datagram_beyond_the_mtu_is_too_big") {
        return;
    }
    for (address, fits) in localhosts() {
        for gso in [true, false] {
            let mut sender = bind(address, &Options { gso, ..Options::default() }).unwrap();
            let mut receiver = bind(address, &Options::default()).unwrap();
            let to = receiver.local_addr();
            let (bytes, mut into) = (vec![1; 10_000], vec![0; 65_535]);
            // Single, single of the size that is given to segmentation, and a train.
            for (len, segment) in [(fits + 1, fits + 1), (5000, 5000), (10_000, fits + 1), (10_000, 4000)] {
                let train = Transmit { to, bytes: &bytes[..len], segment, tos: None };
                let result = sender.transmit(&train);
                assert!(matches!(result, Err(SendError::TooBig)), "{len}/{segment}: {result:?}");
            }
            assert_eq!(receiver.receive(&mut into).unwrap(), None);
            // And what fits still goes, in trains if they are wanted.
            let train = Transmit { to, bytes: &bytes, segment: fits, tos: None };
            sender.transmit(&train).unwrap();
            assert_eq!(matches!(sender.caps().gso, Gso::Segments(_)), gso);
            let got = receiver.receive(&mut into).unwrap().unwrap();
            assert_eq!(got.segment, fits);
        }
    }
}

#[test]
fn datagram_beyond_the_mtu_is_cut_where_allowed() {
    if !is_inside(SMALL, "datagram_beyond_the_mtu_is_cut_where_allowed") {
        return;
    }
    for (address, fits) in localhosts() {
        let options = Options { dont_fragment: false, ..Options::default() };
        let mut sender = bind(address, &options).unwrap();
        let mut receiver = bind(address, &Options::default()).unwrap();
        let (bytes, mut into) = (vec![1; 10_000], vec![0; 65_535]);
        for segment in [10_000, 4000] {
            let to = receiver.local_addr();
            sender.transmit(&Transmit { to, bytes: &bytes, segment, tos: None }).unwrap();
            for datagram in bytes.chunks(segment) {
                assert!(datagram.len() > fits);
                let got = receiver.receive(&mut into).unwrap().unwrap();
                assert_eq!((got.len, got.segment), (datagram.len(), datagram.len()));
                if got.len < segment {
                    break;
                }
            }
            while receiver.receive(&mut into).unwrap().is_some() {}
        }
        assert!(matches!(sender.caps().gso, Gso::Segments(_)), "fragments are no refusal");
    }
}

#[test]
fn full_buffer_tells_how_much_was_taken() {
    if !is_inside(SLOW, "full_buffer_tells_how_much_was_taken") {
        return;
    }
    const LONG: Option<Duration> = Some(Duration::from_secs(20));
    for (address, _) in localhosts() {
        let options = Options { gso: false, send_buffer_bytes: 20_000, ..Options::default() };
        let mut sender = bind(address, &options).unwrap();
        let mut receiver = bind(address, &Options::default()).unwrap();
        let bytes: Vec<u8> = (0..1440 * 40).map(|i| (i / 1440) as u8).collect();
        let (mut from, mut refusals) = (0, 0);
        loop {
            let (to, bytes) = (receiver.local_addr(), &bytes[from..]);
            match sender.transmit(&Transmit { to, bytes, segment: 1440, tos: None }) {
                Ok(()) => break,
                Err(SendError::WouldBlock { sent }) => {
                    assert_eq!(sent % 1440, 0);
                    (from, refusals) = (from + sent, refusals + 1);
                }
                Err(error) => panic!("{error}"),
            }
            assert!(poll::wait_writable(sender.fds(), LONG).unwrap());
        }
        assert!(refusals > 0, "the buffer never filled");
        let (mut into, mut all) = (vec![0; 65_535], Vec::new());
        while all.len() < bytes.len() {
            assert!(poll::wait_readable(&[receiver.fds()], LONG).unwrap().any());
            while let Some(got) = receiver.receive(&mut into).unwrap() {
                all.extend_from_slice(&into[..got.len]);
            }
        }
        assert_eq!(all, bytes);
    }
}

#[test]
fn route_tells_its_mtu() {
    if !is_inside(SMALL, "route_tells_its_mtu") {
        return;
    }
    for (address, _) in localhosts() {
        assert_eq!(path_mtu(address).unwrap(), MTU as u32);
    }
    let error = path_mtu(SocketAddr::from(([192, 0, 2, 1], 9))).unwrap_err();
    assert!(error.to_string().contains("192.0.2.1:9"), "{error}");
}

#[test]
fn route_tells_where_packets_come_from() {
    for (address, _) in localhosts() {
        let route = route(address).unwrap();
        assert_eq!((route.local.ip(), route.to_self), (address.ip(), true));
    }
    let other = route((Ipv4Addr::new(127, 0, 0, 2), 9).into()).unwrap();
    assert_eq!((other.local.ip(), other.to_self), (Ipv4Addr::LOCALHOST.into(), false));
}

#[test]
fn loopback_carries_large_packets() {
    for (address, _) in localhosts() {
        assert!(path_mtu(address).unwrap() >= 16_384);
    }
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    assert!(path_mtu((IpAddr::V6(mapped), 9).into()).unwrap() >= 16_384);
}

#[test]
fn datagram_beyond_udp_is_too_big() {
    for (address, _) in localhosts() {
        for gso in [true, false] {
            let mut sender = bind(address, &Options { gso, ..Options::default() }).unwrap();
            let to = sender.local_addr();
            let bytes = vec![0; 140_000];
            for len in [65_530, 70_000] {
                let result = sender.transmit(&Transmit::single(to, &bytes[..len]));
                assert!(matches!(result, Err(SendError::TooBig)), "{len}: {result:?}");
            }
            let train = Transmit { to, bytes: &bytes, segment: 70_000, tos: None };
            assert!(matches!(sender.transmit(&train), Err(SendError::TooBig)));
        }
    }
}
