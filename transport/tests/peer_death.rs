//! Peers die without a word, say goodbye, come back: every call ends with a reply or a typed error, and the next one works.
#![cfg(feature = "aws-lc")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::tap::Tap;
use common::{Authority, LONG, bounded, echo, pass, patient, pattern, rebind, until};
use sealane::{CallOptions, CallStream, Delivery, Error, Fault, HandshakeError, Socket};

/// Silence after which a peer counts as dead in these tests.
const SILENCE: Duration = Duration::from_millis(300);

/// How long a handshake may take where nobody answers; ample where somebody does.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// The server falls silent in the middle of calls of all kinds: each ends with an error that says so.
#[test]
fn every_call_ends_when_the_peer_falls_silent() {
    bounded(|| {
        let ca = Authority::new();
        let tap = Tap::new();
        let server = ca.server().danger_wrap(tap.wrap()).bind("127.0.0.1:0").unwrap();
        let at = server.local_addr();
        let server = Arc::new(server);
        let serving = Arc::clone(&server);
        thread::spawn(move || {
            while let Ok(delivery) = serving.recv() {
                let Delivery::Request(request) = delivery else { continue };
                let _ = serving.reply(request.token, request.payload);
            }
        });
        let client = ca.client().peer_timeout(SILENCE).handshake_timeout(HANDSHAKE);
        let client = client.bind("127.0.0.1:0").unwrap();
        let peer = client.peer(at, "localhost").unwrap();
        client.call_with(&peer, b"warm", patient()).unwrap();
        let answered = AtomicU64::new(0);
        let silent = |error: &Error| {
            let is_it = matches!(error, Error::PeerSilent { address, .. } if *address == at);
            // What begins after the session was given up finds nobody at all.
            let nobody = matches!(error, Error::Handshake { .. });
            assert!(is_it || nobody, "{error:?}");
            assert_eq!(error.fault(), Fault::Path, "{error:?}");
            error.may_have_run()
        };
        thread::scope(|scope| {
            let callers: Vec<_> = (0..6usize)
                .map(|t| {
                    let (client, peer, answered) = (&client, &peer, &answered);
                    scope.spawn(move || {
                        loop {
                            // Small ones, some of several records, and long ones that are cut in the middle.
                            let sent = pattern(t as u64, [64, 20_000, 2_000_000][t % 3]);
                            match client.call(peer, &sent) {
                                Ok(back) => assert!(*back == *sent),
                                Err(error) => break error,
                            }
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            until("calls are answered", || answered.load(Ordering::Relaxed) > 50);
            tap.cut();
            let may_have_run = callers.into_iter().map(|c| silent(&c.join().unwrap())).collect::<Vec<_>>();
            assert!(may_have_run.iter().any(|may| *may), "what had been sent may have run");
        });
        assert!(client.info().rpcs.is_empty(), "{}", client.info());
        assert_eq!(client.info().held_bytes, 0, "{}", client.info());
        tap.mend();
        server.close().unwrap();
    });
}

/// Each way to send ends: one-way messages, told ones, sends, streams.
#[test]
fn every_kind_of_message_ends_when_the_peer_falls_silent() {
    bounded(|| {
        let ca = Authority::new();
        let tap = Tap::new();
        let server = ca.server().danger_wrap(tap.wrap()).bind("127.0.0.1:0").unwrap();
        let client = ca.client().stream_above(100_000).peer_timeout(SILENCE).handshake_timeout(HANDSHAKE);
        let client = client.bind("127.0.0.1:0").unwrap();
        let peer = client.peer(server.local_addr(), "localhost").unwrap();
        client.tell(&peer, b"warm").unwrap();
        // The response breaks off in the middle of its stream.
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let CallStream::Stream(mut stream) = client.call_stream(&peer, b"much").unwrap() else { panic!() };
                let mut part = vec![0; 10_000];
                let first = stream.read_some(&mut part).unwrap();
                assert!(first > 0);
                tap.cut();
                let mut read = first;
                loop {
                    match stream.read_some(&mut part) {
                        Ok(0) => panic!("it cannot end well: {read} bytes"),
                        Ok(n) => read += n,
                        Err(error) => break error,
                    }
                }
            });
            let request = loop {
                match server.recv_timeout(LONG).unwrap() {
                    Some(Delivery::Request(request)) => break request,
                    Some(_) => {}
                    None => panic!("the request comes"),
                }
            };
            server.reply(request.token, pattern(1, 40_000_000)).unwrap();
            let error = reader.join().unwrap();
            assert!(matches!(error, Error::SessionEnded { .. }), "{error:?}");
        });
        until("the dead session is left", || client.info().rpcs.is_empty());
        let told = client.tell(&peer, b"anybody?").unwrap_err();
        assert_eq!(told.fault(), Fault::Path, "{told:?}");
        let sent = client.send(&peer, b"anybody?", 1).unwrap();
        let one_way = client.send_one_way(&peer, b"anybody?").unwrap();
        let mut ended = Vec::new();
        while ended.len() < 2 {
            match client.recv_timeout(LONG).unwrap() {
                Some(Delivery::Failed(failed)) => {
                    assert_eq!(failed.error.fault(), Fault::Path, "{failed:?}");
                    ended.push(failed.id);
                }
                other => panic!("{other:?}"),
            }
        }
        ended.sort();
        let mut expected = vec![sent, one_way];
        expected.sort();
        assert_eq!(ended, expected);
    });
}

/// Nobody there at all: the handshake says so, and nothing can have run.
#[test]
fn nobody_there() {
    bounded(|| {
        let ca = Authority::new();
        let hole = ca.client().danger_helper_thread(false).bind("127.0.0.1:0").unwrap();
        let client = ca.client().handshake_timeout(SILENCE).bind("127.0.0.1:0").unwrap();
        let peer = client.peer(hole.local_addr(), "localhost").unwrap();
        for error in [client.call(&peer, b"?").unwrap_err(), client.connect(&peer).unwrap_err()] {
            let Error::Handshake { address, source } = &error else { panic!("{error:?}") };
            assert_eq!(*address, hole.local_addr());
            assert!(matches!(source, HandshakeError::TimedOut { .. }), "{error:?}");
            assert_eq!((error.may_have_run(), error.fault()), (false, Fault::Path));
        }
        until("it is forgotten", || client.info().sessions.is_empty());
    });
}

/// A call's deadline holds while its session is still being made.
#[test]
fn deadlines_hold_during_the_handshake() {
    bounded(|| {
        let ca = Authority::new();
        let hole = ca.client().danger_helper_thread(false).bind("127.0.0.1:0").unwrap();
        let client = ca.client().handshake_timeout(4 * LONG).bind("127.0.0.1:0").unwrap();
        let peer = client.peer(hole.local_addr(), "localhost").unwrap();
        let options = CallOptions::new().deadline(SILENCE);
        let error = client.call_with(&peer, b"?", options).unwrap_err();
        assert!(matches!(error, Error::Deadline { may_have_run: false, .. }), "{error:?}");
        assert_eq!(client.info().held_bytes, 0);
        // The second shard waits for the first one's handshake.
        let spread = ca.client().shards(2).handshake_timeout(100 * LONG).bind("127.0.0.1:0").unwrap();
        let peer = spread.peer(hole.local_addr(), "localhost").unwrap();
        let error = spread.shard(1).expect("there are two").call_with(&peer, b"?", options).unwrap_err();
        assert!(matches!(error, Error::Deadline { may_have_run: false, .. }), "{error:?}");
    });
}

/// [P-7.3] A server dies and a new one takes its port: calls fail until the old session is given up, then a new one is made.
#[test]
fn a_server_that_comes_back() {
    bounded(|| {
        let ca = Authority::new();
        let identity = ca.identity("localhost");
        let tap = Tap::new();
        let first = ca.server_as(identity.clone()).danger_wrap(tap.wrap()).bind("127.0.0.1:0").unwrap();
        let at = first.local_addr();
        let client = ca.client().peer_timeout(SILENCE).bind("127.0.0.1:0").unwrap();
        let peer = client.peer(at, "localhost").unwrap();
        thread::scope(|scope| {
            let call = scope.spawn(|| client.call_with(&peer, b"one", patient()));
            let Delivery::Request(request) = first.recv().unwrap() else { panic!("a request") };
            first.reply(request.token, b"first").unwrap();
            assert_eq!(&*call.join().unwrap().unwrap(), b"first");
        });
        // It dies without a word.
        tap.cut();
        drop(first);
        let second = echo(rebind(at, || ca.server_as(identity.clone())));
        let error = client.call_with(&peer, b"two", patient()).unwrap_err();
        assert!(matches!(error, Error::PeerSilent { may_have_run: true, .. }), "{error:?}");
        assert_eq!(&*client.call_with(&peer, b"three", patient()).unwrap(), b"three");
        assert_eq!(client.info().counters.handshakes_completed, 2);
        client.call(&peer, b"quit").unwrap();
        assert_eq!(second.join().unwrap(), 1, "what failed was not executed by the new one");
    });
}

/// A server that is replaced with a goodbye: the next call makes a new session at once.
#[test]
fn a_server_that_is_replaced() {
    bounded(|| {
        let ca = Authority::new();
        let identity = ca.identity("localhost");
        let client = ca.client().bind("127.0.0.1:0").unwrap();
        let first = ca.server_as(identity.clone()).bind("127.0.0.1:0").unwrap();
        let at = first.local_addr();
        let peer = client.peer(at, "localhost").unwrap();
        let first = echo(first);
        client.call_with(&peer, b"quit", patient()).unwrap();
        first.join().unwrap();
        until("the goodbye arrived", || client.info().sessions.is_empty());
        let second = echo(rebind(at, || ca.server_as(identity.clone())));
        assert_eq!(&*client.call_with(&peer, b"again", patient()).unwrap(), b"again");
        client.call(&peer, b"quit").unwrap();
        second.join().unwrap();
    });
}

/// A goodbye ends what is under way at the other side, at once and by name.
#[test]
fn a_graceful_close_ends_pending_calls() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server().bind("127.0.0.1:0").unwrap();
        let at = server.local_addr();
        // Silence would take longer than this test has: only a goodbye can end the calls.
        let client = ca.client().peer_timeout(8 * LONG).bind("127.0.0.1:0").unwrap();
        let peer = client.peer(at, "localhost").unwrap();
        thread::scope(|scope| {
            let call = scope.spawn(|| client.call(&peer, b"never answered"));
            let Delivery::Request(request) = server.recv().unwrap() else { panic!("a request") };
            let id = client.send(&peer, b"neither", 3).unwrap();
            let Delivery::Request(other) = server.recv().unwrap() else { panic!("a request") };
            assert_eq!(other.id.to_string().split(':').next_back(), id.to_string().split(':').next_back());
            server.close().unwrap();
            let error = call.join().unwrap().unwrap_err();
            assert!(matches!(error, Error::SessionEnded { address, may_have_run: true } if address == at), "{error:?}");
            assert_eq!(error.fault(), Fault::Peer);
            let Delivery::Failed(failed) = client.recv().unwrap() else { panic!("a failure") };
            assert_eq!((failed.id, failed.cookie), (id, 3));
            assert!(matches!(failed.error, Error::SessionEnded { .. }), "{failed:?}");
            assert!(matches!(server.reply(request.token, b"late"), Err(Error::Closed)));
        });
        assert!(client.info().sessions.is_empty(), "{}", client.info());
    });
}

/// [P-8.9] Who closes asks for the acknowledgement that its response waits for, before it says goodbye: that is a packet more.
#[test]
fn a_close_asks_for_acknowledgements() {
    bounded(|| {
        let ca = Authority::new();
        // An acknowledgement comes by itself after a while: then there was nothing to ask for, and another turn is needed.
        let asked = (0..50).any(|_| {
            let server = ca.server().bind("127.0.0.1:0").unwrap();
            let client = ca.client().bind("127.0.0.1:0").unwrap();
            let peer = client.peer(server.local_addr(), "localhost").unwrap();
            thread::scope(|scope| {
                let call = scope.spawn(|| client.call(&peer, b"a question").unwrap());
                let Delivery::Request(request) = server.recv().unwrap() else { panic!("a request") };
                server.reply(request.token, b"an answer").unwrap();
                call.join().unwrap();
            });
            let before = server.info().counters.packets_sent;
            server.close().unwrap();
            server.info().counters.packets_sent - before == 2
        });
        assert!(asked);
    });
}

/// A client that leaves is forgotten by its server, and so are its requests.
#[test]
fn a_client_that_leaves_is_forgotten() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server().bind("127.0.0.1:0").unwrap();
        for _ in 0..10 {
            let client = ca.client().bind("127.0.0.1:0").unwrap();
            let peer = client.peer(server.local_addr(), "localhost").unwrap();
            client.send(&peer, b"bye", 0).unwrap();
            assert!(matches!(server.recv_timeout(LONG).unwrap(), Some(Delivery::Request(_))));
            drop(client);
        }
        until("all are forgotten", || {
            let _ = server.try_recv();
            let info = server.info();
            info.sessions.is_empty() && info.rpcs.is_empty()
        });
    });
}

/// Closing a socket ends what other threads wait for in it.
#[test]
fn close_ends_what_other_threads_wait_for() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server().bind("127.0.0.1:0").unwrap();
        let client = Arc::new(ca.client().bind("127.0.0.1:0").unwrap());
        let peer = client.peer(server.local_addr(), "localhost").unwrap();
        let asking = Arc::clone(&client);
        let caller = thread::spawn(move || asking.call(&peer, b"never answered").map(drop));
        let Delivery::Request(_request) = server.recv().unwrap() else { panic!("a request") };
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let socket = Arc::clone(&client);
                thread::spawn(move || socket.recv().map(drop))
            })
            .collect();
        let looking = Arc::clone(&client);
        let looking = thread::spawn(move || looking.recv_timeout(4 * LONG).map(drop));
        pass(Duration::from_millis(50));
        client.close().unwrap();
        for waiter in waiting.into_iter().chain([looking]) {
            let error = waiter.join().unwrap().unwrap_err();
            assert!(matches!(error, Error::Closed), "{error:?}");
        }
        let error = caller.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Closed | Error::SessionEnded { .. }), "{error:?}");
    });
}

/// A server is closed while requests keep coming in and a thread of its own waits for them: nothing breaks.
#[test]
fn close_amid_traffic() {
    bounded(|| {
        let ca = Authority::new();
        for _ in 0..4 {
            let server = Arc::new(ca.server().bind("127.0.0.1:0").unwrap());
            let at = server.local_addr();
            let handlers: Vec<_> = (0..2)
                .map(|_| {
                    let server = Arc::clone(&server);
                    thread::spawn(move || {
                        while let Ok(Delivery::Request(request)) = server.recv() {
                            let _ = server.reply(request.token, request.payload);
                        }
                    })
                })
                .collect();
            let clients: Vec<Socket> =
                (0..2).map(|_| ca.client().handshake_timeout(SILENCE).bind("127.0.0.1:0").unwrap()).collect();
            thread::scope(|scope| {
                let callers: Vec<_> = clients
                    .iter()
                    .cycle()
                    .take(8)
                    .map(|client| {
                        scope.spawn(move || {
                            let peer = client.peer(at, "localhost").unwrap();
                            let mut n = 0;
                            while client.call_with(&peer, pattern(n, 3_000), patient()).is_ok() {
                                n += 1;
                            }
                            n
                        })
                    })
                    .collect();
                until("calls are answered", || server.info().counters.messages_delivered > 200);
                server.close().unwrap();
                let answered: Vec<_> = callers.into_iter().map(|c| c.join().unwrap()).collect();
                assert!(answered.iter().all(|n| *n > 0), "{answered:?}");
            });
            for handler in handlers {
                handler.join().expect("a thread in recv() outlives the close");
            }
        }
    });
}

/// A socket that was dropped has left its port: the next one can have it at once.
#[test]
fn a_dropped_socket_leaves_its_port_at_once() {
    bounded(|| {
        let ca = Authority::new();
        let mut socket = ca.server().bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr();
        for round in 0..100 {
            // Now and then with the helper thread in the kernel.
            pass(Duration::from_millis(round % 3));
            drop(socket);
            socket = ca.server().bind(at).unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
    });
}

/// Two threads that connect to one peer at once both learn how it went.
#[test]
fn connecting_twice_at_once() {
    bounded(|| {
        let ca = Authority::new();
        let hole = ca.client().danger_helper_thread(false).bind("127.0.0.1:0").unwrap();
        let client = ca.client().handshake_timeout(SILENCE).bind("127.0.0.1:0").unwrap();
        let peer = client.peer(hole.local_addr(), "localhost").unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let error = client.connect(&peer).unwrap_err();
                    assert!(matches!(error, Error::Handshake { .. }), "{error:?}");
                });
            }
        });
    });
}
