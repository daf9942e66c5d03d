//! A forked child cannot use the sockets of its parent, in either direction, and its own it can; the parent notices nothing.

mod common;

use common::{bind, over_each_backend};
use std::time::Duration;
use udp::batch::{Datagrams, SendError, Transmit};
use udp::fork::{Mark, danger_in_a_child};
use udp::mmsg::Options;
use udp::poll::wait_readable;

const ANY: &str = "127.0.0.1:0";

fn next(socket: &mut dyn Datagrams) -> Vec<u8> {
    let mut into = vec![0; 1 << 16];
    for _ in 0..100 {
        if let Some(train) = socket.receive(&mut into).unwrap() {
            into.truncate(train.len);
            return into;
        }
        wait_readable(&[socket.fds()], Some(Duration::from_secs(5))).unwrap();
    }
    panic!("nothing came");
}

/// What a child finds wrong, by number: 0 when all is as it should be.
fn child(ours: &mut dyn Datagrams, at: std::net::SocketAddr, mark: Mark) -> u8 {
    let refused = |sent: Result<(), SendError>| matches!(sent, Err(SendError::Other(_)));
    if !mark.is_forked() {
        return 1;
    }
    if !refused(ours.transmit(&Transmit::single(at, b"of the child"))) {
        return 2;
    }
    let train = Transmit { to: at, bytes: &[1; 5_000], segment: 1_000, tos: None };
    if !refused(ours.transmit(&train)) {
        return 3;
    }
    if ours.receive(&mut [0; 2000]).is_ok() {
        return 4;
    }
    let own = Mark::new();
    if own.is_forked() || !mark.is_forked() {
        return 5;
    }
    let mut socket = udp::hot::bind(ANY.parse().unwrap(), &Options::default()).unwrap();
    if socket.transmit(&Transmit::single(at, b"of its own socket")).is_err() {
        return 6;
    }
    // A child of the child.
    let inner = danger_in_a_child(|| {
        let later = Mark::new();
        u8::from(!own.is_forked() || !mark.is_forked() || later.is_forked())
    });
    if inner.ok() != Some(0) || own.is_forked() { 7 } else { 0 }
}

fn a_forked_child_cannot_use_the_sockets_of_its_parent() {
    let mark = Mark::new();
    assert!(!mark.is_forked());
    let mut receiver = udp::mmsg::bind(ANY.parse().unwrap(), &Options::default()).unwrap();
    let mut plain = udp::mmsg::bind(ANY.parse().unwrap(), &Options::default()).unwrap();
    let mut hot = udp::hot::bind(ANY.parse().unwrap(), &Options::default()).unwrap();
    let mut present = bind(ANY.parse().unwrap(), &Options::default()).unwrap();
    let at = receiver.local_addr();
    for socket in [&mut plain as &mut dyn Datagrams, &mut hot, &mut present] {
        // Something waits that is the parent's.
        receiver.transmit(&Transmit::single(socket.local_addr(), b"for the parent")).unwrap();
        assert_eq!(danger_in_a_child(|| child(socket, at, mark)).unwrap(), 0);
        assert_eq!(next(&mut receiver), b"of its own socket", "and nothing else came of the child");
        assert!(!mark.is_forked());
        socket.transmit(&Transmit::single(at, b"of the parent")).unwrap();
        assert_eq!(next(&mut receiver), b"of the parent");
        assert_eq!(next(socket), b"for the parent");
    }
}

/// A child that panics or ends otherwise is told of.
#[test]
fn the_number_of_a_child() {
    assert_eq!(danger_in_a_child(|| 17).unwrap(), 17);
    assert_eq!(danger_in_a_child(|| panic!("on purpose")).unwrap(), 255);
}

over_each_backend!(a_forked_child_cannot_use_the_sockets_of_its_parent);
