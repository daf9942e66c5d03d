//! Sealane over AF_XDP on one side of a pair of virtual interfaces, over an ordinary socket on the other: messages of every size, either
//! side as the client, at an MTU of 1,500. It takes privileges; without them it says that it was skipped.
#![cfg(all(feature = "xdp", feature = "aws-lc"))]

mod common;

use std::io::Write;
use std::sync::mpsc;
use std::thread;

use common::{Authority, bounded, echo, hostile, patient, pattern, with_faults};
use sealane::{Backend, Socket, Wait};
use udp::xdp::apart::joined;

const SIZES: [usize; 8] = [0, 64, 1_400, 1_500, 8_192, 16_303, 65_536, 1_048_576];

fn is(socket: &Socket, backend: Backend) {
    let used = socket.info().caps.backend;
    assert!(used.instead_of.is_none() && used.name.starts_with(backend.name()), "{used}");
}

/// A client over one backend calls a server over the other, each in a network of its own; `faulty` says whether the network loses.
fn talk(of_client: Backend, of_server: Backend, family: usize, wait: Wait, faulty: bool) {
    let ca = Authority::new();
    let (tell, told) = mpsc::channel();
    let (client_ca, server_ca) = (&ca, &ca);
    let skipped = match Backend::Xdp.check() {
        Err(why) => Some(why),
        Ok(()) => {
            let talked = joined(
                1500,
                move |side| {
                    let builder = client_ca.client().backend(of_client).wait(wait);
                    let client = builder.bind((side.here[family], 0)).unwrap();
                    is(&client, of_client);
                    let port: u16 = told.recv().unwrap();
                    let peer = client.peer((side.there[family], port), "localhost").unwrap();
                    for (seed, size) in SIZES.into_iter().enumerate() {
                        let sent = pattern(seed as u64, size);
                        let back = client.call_with(&peer, &sent, patient()).unwrap();
                        assert!(*back == *sent, "{size} bytes from {of_client} to {of_server}");
                    }
                    thread::scope(|scope| {
                        for caller in 0..3_u64 {
                            let (client, peer) = (&client, &peer);
                            scope.spawn(move || {
                                for n in 0..50 {
                                    let sent = pattern(caller << 32 | n, 40 * (n as usize + 1));
                                    assert!(*client.call_with(peer, &sent, patient()).unwrap() == *sent);
                                }
                            });
                        }
                    });
                    client.call_with(&peer, b"quit", patient()).unwrap();
                },
                move |side| {
                    let mut builder = server_ca.server().backend(of_server).wait(wait);
                    if faulty {
                        builder = with_faults(builder, hostile(7));
                    }
                    let server = builder.bind((side.here[family], 0)).unwrap();
                    is(&server, of_server);
                    tell.send(server.local_addr().port()).unwrap();
                    assert!(echo(server).join().unwrap() >= SIZES.len() as u64 + 150);
                },
            );
            talked.err().map(|error| format!("no networks of one's own: {error}"))
        }
    };
    if let Some(why) = skipped {
        // Past the capture of output: a test that was not run must be seen.
        let _ = std::io::stderr().write_all(format!("SKIPPED Sealane over xdp: {why}\n").as_bytes());
    }
}

#[test]
fn a_client_over_xdp() {
    bounded(|| talk(Backend::Xdp, Backend::Mmsg, 0, Wait::Adaptive, false));
}

#[test]
fn a_server_over_xdp() {
    bounded(|| talk(Backend::Mmsg, Backend::Xdp, 0, Wait::Block, false));
}

#[test]
fn both_over_xdp_and_ipv6() {
    bounded(|| talk(Backend::Xdp, Backend::Xdp, 1, Wait::Spin, false));
}

#[test]
fn a_server_over_xdp_in_a_bad_network() {
    bounded(|| talk(Backend::Mmsg, Backend::Xdp, 1, Wait::Adaptive, true));
}
