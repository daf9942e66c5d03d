//! Several sockets on one port, and the kernel's program that picks one of them.

use std::io::ErrorKind;
use std::time::Duration;

use udp::poll::wait_readable;
use udp::{Datagrams, Mmsg, Options, Rule, Transmit, bind, steering};

const RULE: Rule = Rule { type_at: 0, type_max: 2, receiver_at: 5 };

fn group(count: u16) -> steering::Group {
    steering::bind("127.0.0.1:0".parse().unwrap(), &Options::default(), count, &RULE).unwrap()
}

fn client() -> Mmsg {
    bind("127.0.0.1:0".parse().unwrap(), &Options::default()).unwrap()
}

/// Which of the sockets has something, and what.
fn arrived(sockets: &mut [Mmsg]) -> (usize, Vec<u8>) {
    let fds: Vec<_> = sockets.iter().map(Datagrams::fds).collect();
    let ready = wait_readable(&fds, Some(Duration::from_secs(5))).unwrap();
    let at = (0..sockets.len()).find(|at| ready.has(*at)).expect("something came");
    let mut into = vec![0; 65_535];
    let got = sockets[at].receive(&mut into).unwrap().expect("it is readable");
    into.truncate(got.len);
    (at, into)
}

/// What the byte says, goes where it says; another type, a number that there is not and a datagram that is too short go to the first.
#[test]
fn the_kernel_steers() {
    let mut group = group(3);
    assert!(group.steered);
    let (to, mut client) = (group.sockets[0].local_addr(), client());
    assert!(group.sockets.iter().all(|socket| socket.local_addr() == to));
    for (kind, receiver, expected) in
        [(0x11, 0, 0), (0x11, 1, 1), (0x12, 2, 2), (0x12, 3, 0), (0x11, 255, 0), (0x13, 1, 0), (0x1f, 2, 0)]
    {
        let bytes = [kind, 9, 9, 9, 9, receiver, 9, 9];
        for _ in 0..20 {
            client.transmit(&Transmit::single(to, &bytes)).unwrap();
            assert_eq!(arrived(&mut group.sockets), (expected, bytes.to_vec()), "{kind:x} {receiver}");
        }
    }
    for short in [&[0x11_u8, 9, 9, 9, 9][..], &[0x11], &[]] {
        client.transmit(&Transmit::single(to, short)).unwrap();
        assert_eq!(arrived(&mut group.sockets), (0, short.to_vec()));
    }
}

/// A train arrives whole where its first datagram is for.
#[test]
fn a_train_is_steered_as_one() {
    let mut group = group(2);
    let (to, mut client) = (group.sockets[0].local_addr(), client());
    let mut train = vec![7; 40_000];
    (train[0], train[5]) = (0x11, 1);
    client.transmit(&Transmit { to, bytes: &train, segment: 1_000, tos: None }).unwrap();
    let mut came = Vec::new();
    while came.len() < train.len() {
        let (at, bytes) = arrived(&mut group.sockets);
        assert_eq!(at, 1);
        came.extend(bytes);
    }
    assert_eq!(came, train);
}

/// Each of them sends from the port that they share.
#[test]
fn all_send_from_one_port() {
    let mut group = group(2);
    let (port, mut client) = (group.sockets[0].local_addr(), client());
    let to = client.local_addr();
    for socket in &mut group.sockets {
        socket.transmit(&Transmit::single(to, b"x")).unwrap();
        let mut into = [0; 100];
        wait_readable(&[client.fds()], Some(Duration::from_secs(5))).unwrap();
        assert_eq!(client.receive(&mut into).unwrap().expect("it came").from, port);
    }
}

/// A port that is taken is refused, also by a group, and nobody gets a group's port by the usual way.
#[test]
fn a_port_is_taken_once() {
    let taken = client();
    let refused = steering::bind(taken.local_addr(), &Options::default(), 2, &RULE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AddrInUse);
    let group = group(2);
    let refused = bind(group.sockets[0].local_addr(), &Options::default()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AddrInUse);
    let refused = steering::bind(group.sockets[0].local_addr(), &Options::default(), 2, &RULE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AddrInUse, "two groups do not share one");
}

/// One alone is an ordinary socket.
#[test]
fn a_group_of_one() {
    let mut group = group(1);
    assert!(!group.steered && group.sockets.len() == 1);
    let (to, mut client) = (group.sockets[0].local_addr(), client());
    client.transmit(&Transmit::single(to, &[0x11, 0, 0, 0, 0, 7])).unwrap();
    assert_eq!(arrived(&mut group.sockets).0, 0);
}
