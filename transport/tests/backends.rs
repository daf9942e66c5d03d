//! The same messages over each backend, between sockets of one backend and of two; and what a socket says when it cannot have the one that
//! was asked for. `SEALANE_BACKEND` runs all other tests over another backend.
#![cfg(feature = "aws-lc")]

mod common;

use std::io::Write;
use std::thread;

use common::{Authority, LONG, beside_echo, bounded, patient, pattern, seed, with_faults};
use sealane::{Backend, Delivery, Socket, Wait};

const SIZES: [usize; 7] = [0, 64, 1_400, 8_192, 16_303, 65_536, 1_048_576];

/// Each pair of backends that this machine and this build have.
fn pairs() -> Vec<(Backend, Backend)> {
    let works = |backend: &Backend| {
        let why = backend.check().err();
        if let Some(why) = &why {
            // Past the capture of output: a test that was not run must be seen.
            let _ = std::io::stderr().write_all(format!("SKIPPED backend {backend}: {why}\n").as_bytes());
        }
        why.is_none()
    };
    // AF_XDP wants an interface of its own: see `xdp.rs`.
    let there: Vec<Backend> = [Backend::Mmsg, Backend::IoUring].into_iter().filter(works).collect();
    there.iter().flat_map(|server| there.iter().map(|client| (*server, *client))).collect()
}

fn is(socket: &Socket, backend: Backend) {
    let used = socket.info().caps.backend;
    assert!(used.instead_of.is_none() && used.name.starts_with(backend.name()), "{used}");
}

#[test]
fn every_size_over_every_backend() {
    let ca = Authority::new();
    for (of_server, of_client) in pairs() {
        for (bind, mtu, wait) in [("127.0.0.1:0", 65_535, Wait::Spin), ("[::1]:0", 1_500, Wait::Block)] {
            let server = ca.server().backend(of_server).mtu(mtu).wait(wait).bind(bind).unwrap();
            let client = ca.client().backend(of_client).mtu(mtu).wait(wait).bind(bind).unwrap();
            is(&server, of_server);
            is(&client, of_client);
            let (server, client, peer) = beside_echo(server, client);
            for (seed, size) in SIZES.into_iter().enumerate() {
                let sent = pattern(seed as u64, size);
                let back = client.call_with(&peer, &sent, patient()).unwrap();
                assert!(*back == *sent, "{size} bytes from {of_client} to {of_server}");
            }
            client.call_with(&peer, b"quit", patient()).unwrap();
            assert_eq!(server.join().unwrap(), SIZES.len() as u64);
        }
    }
}

/// Threads that call, threads that come and go, and a network that loses.
#[test]
fn many_threads_over_a_bad_network() {
    bounded(|| {
        let (ca, seed) = (Authority::new(), seed());
        for (of_server, of_client) in pairs() {
            let server =
                with_faults(ca.server().backend(of_server), common::hostile(seed)).bind("127.0.0.1:0").unwrap();
            let client = ca.client().backend(of_client).bind("127.0.0.1:0").unwrap();
            let (server, client, peer) = beside_echo(server, client);
            for round in 0..3 {
                thread::scope(|scope| {
                    for caller in 0..4_u64 {
                        let (client, peer) = (&client, &peer);
                        scope.spawn(move || {
                            for n in 0..20 {
                                let sent = pattern(caller << 32 | round << 16 | n, 300 * (n as usize + 1));
                                assert!(*client.call_with(peer, &sent, patient()).unwrap() == *sent);
                            }
                        });
                    }
                });
            }
            client.call_with(&peer, b"quit", patient()).unwrap();
            server.join().unwrap();
        }
    });
}

/// Nobody is in a call: the helper thread alone takes in what comes, and what an application finds then is all of it.
#[test]
fn what_comes_while_nobody_calls() {
    let ca = Authority::new();
    for (of_server, of_client) in pairs() {
        let server = ca.server().backend(of_server).bind("127.0.0.1:0").unwrap();
        let client = ca.client().backend(of_client).bind("127.0.0.1:0").unwrap();
        let peer = client.peer(server.local_addr(), "localhost").unwrap();
        client.connect(&peer).unwrap();
        for n in 0..100_u8 {
            client.send_one_way(&peer, vec![n; 3_000]).unwrap();
        }
        let mut seen = [false; 100];
        while seen.contains(&false) {
            match server.recv_timeout(LONG).unwrap() {
                Some(Delivery::OneWay(message)) => {
                    assert!(!std::mem::replace(&mut seen[usize::from(message.payload[0])], true), "delivered twice");
                }
                other => panic!("{other:?} from {of_client} to {of_server}"),
            }
        }
    }
}

/// A backend that cannot be had is no failure: the socket works, and says what it does instead and why.
#[test]
fn a_backend_that_cannot_be_had_is_replaced() {
    let ca = Authority::new();
    for backend in Backend::NAMED {
        let (server, client, peer) = beside_echo(
            ca.server().backend(backend).bind("127.0.0.1:0").unwrap(),
            ca.client().bind("127.0.0.1:0").unwrap(),
        );
        client.call_with(&peer, b"hello", patient()).unwrap();
        client.call_with(&peer, b"quit", patient()).unwrap();
        server.join().unwrap();
        let bound = ca.client().backend(backend).bind("127.0.0.1:0").unwrap();
        let info = bound.info();
        match (backend.check(), &info.caps.backend.instead_of) {
            (Err(why), Some(said)) => assert!(said.contains(&why) && info.to_string().contains(&why), "{said}"),
            (Err(why), None) => panic!("{backend} cannot be had ({why}), but {info} does not say so"),
            (Ok(()), _) => {}
        }
    }
}
