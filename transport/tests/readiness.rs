//! The pollable descriptor: an application's own event loop that looks into the socket only when the descriptor tells it to
//! misses nothing, neither messages nor timers.
#![cfg(feature = "aws-lc")]

mod common;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::tap::Tap;
use common::{Authority, LONG, bounded, hostile, numbered, patient, pattern, seed, with_faults};
use sealane::{Delivery, Error, Socket};
use udp::poll::{Set, wait_readable};

/// The next delivery, by an event loop that only looks when the descriptor says so; and how often it looked.
fn next(socket: &Socket, fd: &impl AsFd, looks: &mut u64) -> Delivery {
    loop {
        let ready = wait_readable(&[fd.as_fd()], Some(LONG)).unwrap();
        assert!(ready.any(), "the descriptor stays silent: {}", socket.info());
        *looks += 1;
        if let Some(delivery) = socket.try_recv().unwrap() {
            return delivery;
        }
    }
}

/// A server whose event loop serves until it is told to stop.
fn serve(server: Socket, stop: Arc<AtomicBool>) -> thread::JoinHandle<(u64, u64)> {
    thread::spawn(move || {
        let readiness = server.readiness().unwrap();
        let (mut served, mut looks) = (0, 0);
        while !stop.load(Ordering::SeqCst) {
            let ready = wait_readable(&[readiness.as_fd()], Some(Duration::from_millis(100))).unwrap();
            if !ready.any() {
                continue;
            }
            looks += 1;
            while let Some(delivery) = server.try_recv().unwrap() {
                let Delivery::Request(request) = delivery else { panic!("requests only") };
                server.reply(request.token, request.payload).unwrap();
                served += 1;
            }
        }
        (served, looks)
    })
}

/// Without the helper thread, so that nobody but the loop looks after the socket.
#[test]
fn an_event_loop_serves_two_hundred_calls() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server().danger_helper_thread(false).bind("127.0.0.1:0").unwrap();
        let at = server.local_addr();
        let stop = Arc::new(AtomicBool::new(false));
        let server = serve(server, Arc::clone(&stop));
        let client = ca.client().bind("127.0.0.1:0").unwrap();
        let peer = client.peer(at, "localhost").unwrap();
        for n in 0..200 {
            let sent = numbered(n, 8 + (n as usize * 3_001) % 100_000);
            assert!(*client.call_with(&peer, &sent, patient()).unwrap() == *sent);
        }
        stop.store(true, Ordering::SeqCst);
        let (served, looks) = server.join().unwrap();
        assert_eq!(served, 200);
        assert!(looks < 200_000, "{looks} looks: the descriptor is readable all the time");
    });
}

/// What is answered in an open batch waits for its end.
#[test]
fn a_batch_is_not_cut_short() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server().danger_helper_thread(false).bind("127.0.0.1:0").unwrap();
        let readiness = server.readiness().unwrap();
        let client = ca.client().bind("127.0.0.1:0").unwrap();
        let peer = client.peer(server.local_addr(), "localhost").unwrap();
        let caller = thread::spawn(move || client.call(&peer, b"a question").unwrap().len());
        let mut looks = 0;
        let Delivery::Request(request) = next(&server, &readiness, &mut looks) else { panic!("a request") };
        let batch = server.batch();
        let before = server.info().segments_sent;
        server.reply(request.token, b"answer").unwrap();
        assert_eq!(server.info().segments_sent, before, "it waits");
        drop(batch);
        assert!(server.info().segments_sent > before);
        while !caller.is_finished() {
            assert!(server.try_recv().unwrap().is_none());
        }
        assert_eq!(caller.join().unwrap(), 6);
    });
}

/// Losses on the way make timers matter: they ring through the same descriptor.
#[test]
fn timers_ring_through_the_descriptor() {
    bounded(|| {
        let seed = seed();
        let ca = Authority::new();
        let server = with_faults(ca.server().danger_helper_thread(false).mtu(1500), hostile(seed));
        let server = server.bind("127.0.0.1:0").unwrap();
        let at = server.local_addr();
        let stop = Arc::new(AtomicBool::new(false));
        let server = serve(server, Arc::clone(&stop));
        let client = ca.client().mtu(1500).bind("127.0.0.1:0").unwrap();
        let peer = client.peer(at, "localhost").unwrap();
        for n in 0..100 {
            let sent = pattern(n, (n as usize * 3_001) % 60_000);
            assert!(*client.call_with(&peer, &sent, patient()).unwrap() == *sent);
        }
        stop.store(true, Ordering::SeqCst);
        assert_eq!(server.join().unwrap().0, 100);
    });
}

/// A client's event loop: responses, failures by deadline and by silence come through the descriptor.
#[test]
fn a_client_that_polls() {
    bounded(|| {
        let ca = Authority::new();
        let tap = Tap::new();
        let server = ca.server().danger_wrap(tap.wrap()).bind("127.0.0.1:0").unwrap();
        let at = server.local_addr();
        let client = ca.client().danger_helper_thread(false).peer_timeout(Duration::from_millis(300));
        let client = client.bind("127.0.0.1:0").unwrap();
        let readiness = client.readiness().unwrap();
        let peer = client.peer(at, "localhost").unwrap();
        let server = Arc::new(server);
        let serving = Arc::clone(&server);
        let handler = thread::spawn(move || {
            while let Ok(delivery) = serving.recv() {
                let Delivery::Request(request) = delivery else { continue };
                let _ = serving.reply(request.token, request.payload);
            }
        });
        let mut looks = 0;
        for n in 0..200 {
            let id = client.send(&peer, numbered(n, 5_000), n).unwrap();
            let Delivery::Response(response) = next(&client, &readiness, &mut looks) else { panic!("a response") };
            assert_eq!((response.id, response.cookie), (id, n));
            assert!(*response.payload == *numbered(n, 5_000));
        }
        // Nothing under way: the descriptor falls silent, once what is left to say was said.
        let mut quiet = false;
        for _ in 0..1_000 {
            if !wait_readable(&[readiness.as_fd()], Some(Duration::from_millis(200))).unwrap().any() {
                quiet = true;
                break;
            }
            assert!(client.try_recv().unwrap().is_none());
        }
        assert!(quiet, "the descriptor is readable all the time: {}", client.info());
        tap.cut();
        client.send(&peer, b"anybody?", 1_000).unwrap();
        let Delivery::Failed(failed) = next(&client, &readiness, &mut looks) else { panic!("a failure") };
        assert_eq!(failed.cookie, 1_000);
        assert!(matches!(failed.error, Error::PeerSilent { .. }), "{failed:?}");
        tap.mend();
        server.close().unwrap();
        handler.join().unwrap();
    });
}

/// The descriptor may be watched in a set with others, and what was there before it was asked for is told of, too.
#[test]
fn what_came_before_is_told_of() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server().bind("127.0.0.1:0").unwrap();
        let client = ca.client().bind("127.0.0.1:0").unwrap();
        let peer = client.peer(server.local_addr(), "localhost").unwrap();
        // The helper thread files it meanwhile.
        client.tell(&peer, b"early").unwrap();
        let readiness = server.readiness().unwrap();
        let set = Set::new().unwrap();
        set.add(readiness.as_fd()).unwrap();
        assert!(set.wait(Some(LONG)).unwrap());
        assert!(matches!(server.try_recv().unwrap(), Some(Delivery::OneWay(_))));
        // And several at once are all told of, one look each.
        for _ in 0..50 {
            client.send_one_way(&peer, b"more").unwrap();
        }
        let mut looks = 0;
        for _ in 0..50 {
            assert!(matches!(next(&server, &readiness, &mut looks), Delivery::OneWay(_)));
        }
    });
}

/// Another thread files what it did not wait for: the loop is told.
#[test]
fn other_threads_wake_the_loop() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server().bind("127.0.0.1:0").unwrap();
        let client = ca.client().bind("127.0.0.1:0").unwrap();
        let peer = client.peer(server.local_addr(), "localhost").unwrap();
        let readiness = client.readiness().unwrap();
        thread::scope(|scope| {
            // The response to `send` may well arrive while this thread waits for its own call.
            scope.spawn(|| {
                for n in 0..100 {
                    client.send(&peer, numbered(n, 100), n).unwrap();
                    client.call_with(&peer, numbered(n, 100), patient()).unwrap();
                }
            });
            scope.spawn(|| {
                for _ in 0..200 {
                    let Delivery::Request(request) = server.recv().unwrap() else { panic!("a request") };
                    server.reply(request.token, request.payload).unwrap();
                }
                // Until all is acknowledged.
                while server.recv_timeout(Duration::from_millis(300)).unwrap().is_some() {}
            });
            let mut looks = 0;
            let mut seen = [false; 100];
            for _ in 0..100 {
                let Delivery::Response(response) = next(&client, &readiness, &mut looks) else { panic!() };
                assert!(!std::mem::replace(&mut seen[response.cookie as usize], true));
            }
        });
    });
}

/// What was refused for want of room: the loop is told when there is some again, though another thread took the acknowledgements.
#[test]
fn room_rings_through_the_descriptor() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server().send_bytes_max(100_000).bind("127.0.0.1:0").unwrap();
        let at = server.local_addr();
        let client = ca.client().bind("127.0.0.1:0").unwrap();
        let caller = thread::spawn(move || {
            let peer = client.peer(at, "localhost").unwrap();
            let ids = [0, 1].map(|cookie| client.send(&peer, b"long", cookie).unwrap());
            ids.map(|id| client.wait(id).unwrap().len())
        });
        let readiness = server.readiness().unwrap();
        let mut looks = 0;
        let [first, second] = [0, 1].map(|_| match next(&server, &readiness, &mut looks) {
            Delivery::Request(request) => request.token,
            other => panic!("{other:?}"),
        });
        let body = pattern(3, 60_000);
        // In a batch, or it might be gone before the second is tried.
        let batch = server.batch();
        assert!(server.try_reply(first, &body).unwrap().is_none());
        let second = server.try_reply(second, &body).unwrap().expect("no room");
        drop(batch);
        // The helper thread pumps meanwhile: this one does not look.
        while server.info().held_bytes > 0 {
            thread::yield_now();
        }
        assert!(wait_readable(&[readiness.as_fd()], Some(Duration::ZERO)).unwrap().any(), "nobody tells of the room");
        while server.try_recv().unwrap().is_some() {}
        assert!(server.try_reply(second, &body).unwrap().is_none());
        assert_eq!(caller.join().unwrap(), [60_000; 2]);
    });
}
