//! A process forks while its sockets are in use: the child cannot seal, send or receive with them, and is told why; the parent goes on;
//! with sockets of its own the child can do what it likes.
#![cfg(feature = "aws-lc")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::tap::Tap;
use common::{Authority, bounded, echo, patient};
use sealane::{Error, Fault, Peer, Socket};
use udp::fork::danger_in_a_child;

/// What a child finds wrong, by number: 0 when all is as it should be.
fn child(ca: &Authority, client: &Socket, peer: &Peer) -> u8 {
    let forked = |error: Option<Error>| matches!(&error, Some(e @ Error::Forked) if e.fault() == Fault::Caller);
    let refused = [
        forked(client.call(peer, b"of the child").err()),
        forked(client.call_with(peer, b"of the child", patient()).err()),
        forked(client.send(peer, b"of the child", 0).err()),
        forked(client.try_send(peer, b"of the child", 0).err()),
        forked(client.send_one_way(peer, b"of the child").err()),
        forked(client.tell(peer, b"of the child").err()),
        forked(client.connect(peer).err()),
        forked(client.recv().err()),
        forked(client.try_recv().err()),
        forked(client.close().err()),
    ];
    if let Some(at) = refused.iter().position(|is| !is) {
        return 10 + at as u8;
    }
    let Ok(own) = ca.client().bind("127.0.0.1:0") else { return 1 };
    let Ok(to) = own.peer(peer.address(), "localhost") else { return 2 };
    if own.call_with(&to, b"its own", patient()).ok().as_deref() != Some(b"its own") {
        return 3;
    }
    u8::from(own.close().is_err()) * 4
}

#[test]
fn a_forked_child_is_refused_and_the_parent_goes_on() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server().bind("127.0.0.1:0").unwrap();
        let at = server.local_addr();
        let serving = echo(server);
        let tap = Tap::new();
        let client = ca.client().danger_wrap(tap.wrap()).bind("127.0.0.1:0").unwrap();
        let peer = client.peer(at, "localhost").unwrap();
        client.call_with(&peer, b"warm", patient()).unwrap();
        for _ in 0..10 {
            assert_eq!(danger_in_a_child(|| child(&ca, &client, &peer)).unwrap(), 0);
            client.call_with(&peer, b"the parent goes on", patient()).unwrap();
        }
        // Dropped in the child, it says no goodbye in the parent's name.
        let other = ca.client().bind("127.0.0.1:0").unwrap();
        let theirs = other.peer(at, "localhost").unwrap();
        other.call_with(&theirs, b"warm", patient()).unwrap();
        let mut slot = Some(other);
        assert_eq!(danger_in_a_child(|| u8::from(slot.take().map(drop).is_none())).unwrap(), 0);
        slot.as_ref().unwrap().call_with(&theirs, b"still there", patient()).unwrap();
        // While other threads call all the time, who may hold whatever lock there is.
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        client.call_with(&peer, b"all the time", patient()).unwrap();
                    }
                });
            }
            for _ in 0..20 {
                let refused = |error: Result<_, Error>| matches!(error, Err(Error::Forked));
                let all = || {
                    refused(client.call(&peer, b"x"))
                        && refused(client.recv().map(|_| client.call(&peer, b"x").unwrap()))
                };
                assert_eq!(danger_in_a_child(|| u8::from(!all())).unwrap(), 0);
            }
            over.store(true, Ordering::Relaxed);
        });
        client.call_with(&peer, b"quit", patient()).unwrap();
        serving.join().unwrap();
    });
}
