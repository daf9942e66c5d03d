//! Trains leave and arrive whole, whatever the family and whether or not the kernel segments.

mod common;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use common::{bind, over_each_backend};
use udp::caps::TRAIN_BYTES_MAX;
use udp::{Datagrams, Gso, Options, Received, Transmit, poll};

const V4: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const V6: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), 0);

fn pair(address: SocketAddr, sender: &Options, receiver: &Options) -> (Box<dyn Datagrams>, Box<dyn Datagrams>) {
    (bind(address, sender).unwrap(), bind(address, receiver).unwrap())
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// Everything that has arrived: each call's description, and each datagram.
fn drain(socket: &mut dyn Datagrams) -> (Vec<Received>, Vec<Vec<u8>>) {
    let (mut into, mut calls, mut datagrams) = (vec![0; 65_535], Vec::new(), Vec::new());
    poll::wait_readable(&[socket.fds()], Some(Duration::from_secs(5))).unwrap();
    while let Some(got) = socket.receive(&mut into).unwrap() {
        assert!(!got.truncated);
        calls.push(got);
        datagrams.extend(got.datagrams(&into).map(<[u8]>::to_vec));
    }
    (calls, datagrams)
}

fn without_gso() -> Options {
    Options { gso: false, ..Options::default() }
}

fn without_gro() -> Options {
    Options { gro: false, ..Options::default() }
}

fn train_travels_as_one_call_each_way() {
    for address in [V4, V6] {
        let (mut sender, mut receiver) = pair(address, &Options::default(), &Options::default());
        assert!(matches!(sender.caps().gso, Gso::Segments(64..=128)), "{}", sender.caps());
        assert!(receiver.caps().gro);
        let bytes = pattern(1440 * 9 + 100);
        let to = receiver.local_addr();
        sender.transmit(&Transmit { to, bytes: &bytes, segment: 1440, tos: None }).unwrap();
        let (calls, datagrams) = drain(&mut receiver);
        let whole = Received { from: sender.local_addr(), len: bytes.len(), segment: 1440, tos: 0, truncated: false };
        assert_eq!(calls, [whole]);
        assert_eq!(datagrams, bytes.chunks(1440).collect::<Vec<_>>());
    }
}

fn large_datagrams_travel_as_one_train() {
    for address in [V4, V6] {
        let (mut sender, mut receiver) = pair(address, &Options::default(), &Options::default());
        let bytes = pattern(16_376 * 3 + 9);
        let to = receiver.local_addr();
        sender.transmit(&Transmit { to, bytes: &bytes, segment: 16_376, tos: None }).unwrap();
        let (calls, datagrams) = drain(&mut receiver);
        assert_eq!((calls.len(), calls[0].segment), (1, 16_376));
        assert_eq!(datagrams, bytes.chunks(16_376).collect::<Vec<_>>());
    }
}

fn datagrams_are_the_same_with_and_without_segmentation() {
    let mixes =
        [(Options::default(), without_gro()), (without_gso(), Options::default()), (without_gso(), without_gro())];
    for address in [V4, V6] {
        for (out, back) in &mixes {
            for (len, segment) in [(64, 64), (0, 0), (9000, 9000), (14_500, 1440), (3, 1)] {
                let (mut sender, mut receiver) = pair(address, out, back);
                let bytes = pattern(len);
                let to = receiver.local_addr();
                let train = Transmit { to, bytes: &bytes, segment, tos: None };
                sender.transmit(&train).unwrap();
                let (_, datagrams) = drain(&mut receiver);
                assert_eq!(datagrams, train.datagrams().collect::<Vec<_>>());
                assert_eq!(datagrams.concat(), bytes);
            }
        }
    }
}

fn forced_fallback_shows_in_the_caps() {
    let sender = bind(V4, &without_gso()).unwrap();
    assert_eq!(sender.caps().gso, Gso::NotWanted);
    assert_eq!(sender.caps().segments_max(), 1);
    assert!(sender.caps().to_string().contains("off by option"), "{}", sender.caps());
}

fn train_beyond_one_call_is_cut() {
    let (mut sender, mut receiver) = pair(V4, &Options::default(), &Options::default());
    let most = sender.caps().segments_max();
    let to = receiver.local_addr();
    // Too many datagrams, too many bytes, and a few bytes beyond what passes whole.
    for (len, segment) in [(most + 5, 1), (1440 * 100, 1440), (4 * 16_376, 16_376)] {
        let bytes = pattern(len);
        sender.transmit(&Transmit { to, bytes: &bytes, segment, tos: None }).unwrap();
        let (calls, datagrams) = drain(&mut receiver);
        assert!(calls.len() > 1 && calls.len() < 5, "{} calls", calls.len());
        assert_eq!(datagrams, bytes.chunks(segment).collect::<Vec<_>>());
    }
    assert!(matches!(sender.caps().gso, Gso::Segments(_)));
}

fn largest_train_passes_whole() {
    for address in [V4, V6] {
        let (mut sender, mut receiver) = pair(address, &Options::default(), &Options::default());
        let to = receiver.local_addr();
        for segment in [TRAIN_BYTES_MAX / 4, TRAIN_BYTES_MAX / 45] {
            let bytes = pattern(TRAIN_BYTES_MAX / segment * segment);
            sender.transmit(&Transmit { to, bytes: &bytes, segment, tos: None }).unwrap();
            let (calls, _) = drain(&mut receiver);
            assert_eq!((calls.len(), calls[0].len), (1, bytes.len()));
        }
    }
}

fn train_may_delimit_itself() {
    // The first two bytes say how long a datagram is.
    let stride = |bytes: &[u8]| match bytes {
        [a, b, ..] => usize::from(u16::from_be_bytes([*a, *b])),
        _ => 0,
    };
    let asks = Options { stride: Some(stride), ..Options::default() };
    let (mut sender, mut receiver) = pair(V4, &Options::default(), &asks);
    let to = receiver.local_addr();
    let train = |says: u16, len: usize| [&says.to_be_bytes()[..], &pattern(len - 2)].concat();
    for (says, len, segment, stride) in [
        (1000, 3500, 1000, 1000),
        (64, 64, 64, 64),
        // Nonsense splits nonsensically, but never beyond what has come.
        (0, 64, 64, 1),
        (9999, 64, 64, 64),
    ] {
        let bytes = train(says, len);
        sender.transmit(&Transmit { to, bytes: &bytes, segment, tos: None }).unwrap();
        let (calls, datagrams) = drain(&mut receiver);
        assert_eq!((calls.len(), calls[0].segment), (1, stride));
        assert_eq!(datagrams.concat(), bytes);
    }
    let mut into = [0; 10];
    sender.transmit(&Transmit::single(to, &train(64, 64))).unwrap();
    let got = receiver.receive(&mut into).unwrap().unwrap();
    assert_eq!((got.len, got.segment, got.truncated), (10, 10, true));
    sender.transmit(&Transmit::single(to, b"")).unwrap();
    assert_eq!(receiver.receive(&mut into).unwrap().map(|got| got.segment), Some(0));
}

fn type_of_service_arrives() {
    for address in [V4, V6] {
        let asks = Options { report_tos: true, ..Options::default() };
        let (mut sender, mut receiver) = pair(address, &Options::default(), &asks);
        let bytes = pattern(5000);
        let to = receiver.local_addr();
        for segment in [5000, 1000] {
            let train = Transmit { to, bytes: &bytes, segment, tos: Some(0xb9) };
            sender.transmit(&train).unwrap();
            let (calls, _) = drain(&mut receiver);
            assert_eq!((calls.len(), calls[0].tos, calls[0].segment), (1, 0xb9, segment));
        }
    }
}

fn short_buffer_truncates_and_says_so() {
    let (mut sender, mut receiver) = pair(V4, &Options::default(), &Options::default());
    sender.transmit(&Transmit::single(receiver.local_addr(), &pattern(100))).unwrap();
    let mut into = [0; 60];
    let got = receiver.receive(&mut into).unwrap().unwrap();
    assert_eq!((got.len, got.segment, got.truncated), (60, 60, true));
    assert_eq!(receiver.receive(&mut into).unwrap(), None);
}

#[test]
#[should_panic(expected = "a train of empty datagrams")]
fn train_without_a_size_is_our_own_bug() {
    let mut sender = bind(V4, &Options::default()).unwrap();
    let to = sender.local_addr();
    let _ = sender.transmit(&Transmit { to, bytes: b"abc", segment: 0, tos: None });
}

over_each_backend!(
    train_travels_as_one_call_each_way,
    large_datagrams_travel_as_one_train,
    datagrams_are_the_same_with_and_without_segmentation,
    forced_fallback_shows_in_the_caps,
    train_beyond_one_call_is_cut,
    largest_train_passes_whole,
    train_may_delimit_itself,
    type_of_service_arrives,
    short_buffer_truncates_and_says_so,
);
