//! The tokio form: the same socket, as futures that may be dropped at any time.
#![cfg(all(feature = "aws-lc", feature = "tokio"))]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Authority, LONG, bounded, echo, numbered, patient, pattern};
use sealane::{AsyncSocket, CallOptions, Delivery, Error, Peer, Socket, Wait};
use tokio::time::timeout;

/// Runs a test on several threads, and fails it when it hangs.
fn run(test: impl Future<Output = ()> + Send + 'static) {
    bounded(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(async { timeout(3 * LONG, test).await.expect("it hangs") });
    });
}

/// A server as a task that echoes, until its socket is closed.
fn echo_task(server: &Arc<AsyncSocket>) -> tokio::task::JoinHandle<u64> {
    let server = Arc::clone(server);
    tokio::spawn(async move {
        let mut answered = 0;
        while let Ok(delivery) = server.recv().await {
            let Delivery::Request(request) = delivery else { continue };
            server.reply(request.token, request.payload).await.unwrap();
            answered += 1;
        }
        answered
    })
}

fn bind(ca: &Authority) -> (Arc<AsyncSocket>, Arc<AsyncSocket>, Peer) {
    let server = Arc::new(AsyncSocket::new(ca.server().bind("127.0.0.1:0").unwrap()).unwrap());
    let client = Arc::new(AsyncSocket::new(ca.client().bind("127.0.0.1:0").unwrap()).unwrap());
    let peer = client.peer(server.socket().local_addr(), "localhost").unwrap();
    (server, client, peer)
}

#[test]
fn calls_of_every_size() {
    run(async {
        let ca = Authority::new();
        let (server, client, peer) = bind(&ca);
        let serving = echo_task(&server);
        client.connect(&peer).await.unwrap();
        for (n, size) in [0, 1, 64, 1_024, 16_302, 16_303, 100_000, 4 << 20].into_iter().enumerate() {
            let sent = pattern(n as u64, size);
            assert!(*client.call(&peer, &sent).await.unwrap() == *sent, "{size} bytes");
        }
        client.tell(&peer, b"by the way").await.unwrap();
        serving.abort();
    });
}

#[test]
fn two_hundred_tasks_at_once() {
    run(async {
        let ca = Authority::new();
        let (server, client, peer) = bind(&ca);
        let serving = echo_task(&server);
        let tasks: Vec<_> = (0..200u64)
            .map(|t| {
                let client = Arc::clone(&client);
                tokio::spawn(async move {
                    for n in 0..10 {
                        let sent = numbered(t * 10 + n, 8 + (t * 131 + n * 1_777) as usize % 30_000);
                        assert!(*client.call_with(&peer, &sent, patient()).await.unwrap() == *sent);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let client = Arc::into_inner(client).expect("all tasks have ended");
        client.close().await.unwrap();
        server.socket().close().unwrap();
        assert_eq!(serving.await.unwrap(), 2_000);
    });
}

#[test]
fn sends_come_back_by_cookie() {
    run(async {
        let ca = Authority::new();
        let (server, client, peer) = bind(&ca);
        let serving = echo_task(&server);
        for n in 0..100 {
            client.send(&peer, numbered(n, 500), n).await.unwrap();
        }
        let mut seen = [false; 100];
        for _ in 0..100 {
            let Delivery::Response(response) = client.recv().await.unwrap() else { panic!("a response") };
            assert!(*response.payload == *numbered(response.cookie, 500));
            assert!(!std::mem::replace(&mut seen[response.cookie as usize], true));
        }
        serving.abort();
    });
}

/// [P-8.6] Who drops a call's future no longer wants the response: the server is told.
#[test]
fn a_dropped_call_is_cancelled_at_the_server() {
    run(async {
        let ca = Authority::new();
        let (server, client, peer) = bind(&ca);
        for dropped_by_select in [false, true] {
            let call = client.call(&peer, b"never mind");
            let request = async {
                let Delivery::Request(request) = server.recv().await.unwrap() else { panic!("a request") };
                request
            };
            let request = if dropped_by_select {
                tokio::select! {
                    biased;
                    response = call => panic!("{response:?}"),
                    request = request => request,
                }
            } else {
                let calling = Arc::clone(&client);
                let task = tokio::spawn(async move { calling.call(&peer, b"never mind").await.map(drop) });
                let request = request.await;
                drop(call);
                task.abort();
                assert!(task.await.unwrap_err().is_cancelled());
                request
            };
            while !server.info().rpcs.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let error = server.reply(request.token, b"too late").await.unwrap_err();
            assert!(matches!(error, Error::UnknownRequest(_)), "{error:?}");
            assert!(client.info().rpcs.is_empty(), "{}", client.info());
        }
    });
}

/// [P-8.6] A server that works on an answer hears that nobody waits for it any more, whatever the reason; and nothing while somebody does.
#[test]
fn a_server_hears_of_callers_that_gave_up() {
    run(async {
        let ca = Authority::new();
        let (server, client, peer) = bind(&ca);
        let asked = async || {
            let Delivery::Request(request) = server.recv().await.unwrap() else { panic!("a request") };
            request
        };
        // Answered, in spite of one who listened meanwhile.
        let (back, ()) = tokio::join!(client.call(&peer, b"wanted"), async {
            let request = asked().await;
            assert!(timeout(Duration::from_millis(50), server.cancelled(&request.token)).await.is_err());
            server.reply(request.token, b"here").await.unwrap();
        });
        assert_eq!(&*back.unwrap(), b"here");
        // Dropped, by a caller that the server listens for already.
        let calling = Arc::clone(&client);
        let call = tokio::spawn(async move { calling.call(&peer, b"dropped").await.map(drop) });
        let request = asked().await;
        let (heard, ()) = tokio::join!(server.cancelled(&request.token), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            call.abort();
        });
        heard.unwrap();
        // Its deadline; and once more of what ended before.
        let late = client.call_with(&peer, b"late", CallOptions::new().deadline(Duration::from_millis(20)));
        let (error, request) = tokio::join!(late, asked());
        assert!(matches!(error.unwrap_err(), Error::Deadline { .. }));
        server.cancelled(&request.token).await.unwrap();
        server.cancelled(&request.token).await.unwrap();
        // The client is gone.
        let calling = Arc::clone(&client);
        let call = tokio::spawn(async move { calling.call(&peer, b"gone").await.map(drop) });
        let request = asked().await;
        let (heard, ()) = tokio::join!(server.cancelled(&request.token), async {
            tokio::task::spawn_blocking(move || client.socket().close()).await.unwrap().unwrap();
        });
        heard.unwrap();
        assert!(call.await.unwrap().is_err());
        // And the server itself.
        let client = AsyncSocket::new(ca.client().bind("127.0.0.1:0").unwrap()).unwrap();
        let peer = client.peer(server.socket().local_addr(), "localhost").unwrap();
        let call = tokio::spawn(async move { client.call(&peer, b"x").await.map(drop) });
        let request = asked().await;
        let (heard, ()) = tokio::join!(server.cancelled(&request.token), async {
            let closing = Arc::clone(&server);
            tokio::task::spawn_blocking(move || closing.socket().close()).await.unwrap().unwrap();
        });
        assert!(matches!(heard, Ok(()) | Err(Error::Closed)), "{heard:?}");
        assert!(call.await.unwrap().is_err());
    });
}

/// tokio's timeout around a call, and the call's own deadline.
#[test]
fn timeouts_and_deadlines() {
    run(async {
        let ca = Authority::new();
        let (server, client, peer) = bind(&ca);
        client.connect(&peer).await.unwrap();
        let span = Duration::from_millis(100);
        assert!(timeout(span, client.call(&peer, b"slow")).await.is_err());
        let error = client.call_with(&peer, b"slow", CallOptions::new().deadline(span)).await.unwrap_err();
        assert!(matches!(error, Error::Deadline { may_have_run: true, .. }), "{error:?}");
        // Neither is open any more on either side, and the socket works.
        while !client.info().rpcs.is_empty() || !server.info().rpcs.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for _ in 0..2 {
            assert!(matches!(server.recv().await.unwrap(), Delivery::Request(_)));
        }
        let serving = echo_task(&server);
        assert_eq!(&*client.call_with(&peer, b"quick", patient()).await.unwrap(), b"quick");
        serving.abort();
    });
}

/// Futures that were dropped while they waited in `recv` lose nothing.
#[test]
fn a_dropped_recv_loses_nothing() {
    run(async {
        let ca = Authority::new();
        let (server, client, peer) = bind(&ca);
        let sender = tokio::spawn(async move {
            for n in 0..500u64 {
                client.send_one_way(&peer, numbered(n, 100)).await.unwrap();
                if n % 10 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            client
        });
        let mut seen = [false; 500];
        let mut left = 500;
        while left > 0 {
            let received = timeout(Duration::from_micros(200), server.recv()).await;
            let Ok(delivery) = received else { continue };
            let Delivery::OneWay(message) = delivery.unwrap() else { panic!("one-way messages") };
            let number = common::number_of(&message.payload) as usize;
            assert!(!std::mem::replace(&mut seen[number], true));
            left -= 1;
        }
        sender.await.unwrap();
    });
}

/// Nor do they take the word that something came from those that still wait.
#[test]
fn a_dropped_recv_does_not_swallow_the_wake_up_of_others() {
    run(async {
        let ca = Authority::new();
        let (server, client, peer) = bind(&ca);
        client.connect(&peer).await.unwrap();
        let impatient = Arc::clone(&server);
        let (gave_up, given_up) = tokio::sync::oneshot::channel();
        let impatient = tokio::spawn(async move {
            assert!(timeout(Duration::from_millis(50), impatient.recv()).await.is_err());
            gave_up.send(()).unwrap();
            std::future::pending::<()>().await;
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let waiting = Arc::clone(&server);
        let waiting = tokio::spawn(async move { waiting.recv().await.unwrap() });
        given_up.await.unwrap();
        client.send_one_way(&peer, b"for who is there").await.unwrap();
        let delivery = timeout(LONG, waiting).await.expect("who waits is told").unwrap();
        assert!(matches!(delivery, Delivery::OneWay(_)));
        impatient.abort();
    });
}

/// Several tasks wait in `recv` of one socket: each request is given to one of them.
#[test]
fn several_tasks_serve_one_socket() {
    run(async {
        let ca = Authority::new();
        let (server, client, peer) = bind(&ca);
        let serving: Vec<_> = (0..4).map(|_| echo_task(&server)).collect();
        let done = Arc::new(AtomicU64::new(0));
        let tasks: Vec<_> = (0..8u64)
            .map(|t| {
                let (client, done) = (Arc::clone(&client), Arc::clone(&done));
                tokio::spawn(async move {
                    for n in 0..50 {
                        let sent = numbered(t * 50 + n, 300);
                        assert!(*client.call_with(&peer, &sent, patient()).await.unwrap() == *sent);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        server.socket().close().unwrap();
        let mut answered = 0;
        for task in serving {
            answered += task.await.unwrap();
        }
        assert_eq!((answered, done.load(Ordering::Relaxed)), (400, 400));
    });
}

/// Closing ends what tasks wait for.
#[test]
fn close_ends_what_tasks_wait_for() {
    run(async {
        let ca = Authority::new();
        let (server, client, peer) = bind(&ca);
        let calling = Arc::clone(&client);
        let call = tokio::spawn(async move { calling.call(&peer, b"never answered").await.map(drop) });
        let Delivery::Request(_request) = server.recv().await.unwrap() else { panic!("a request") };
        let waiting = Arc::clone(&client);
        let waiting = tokio::spawn(async move { waiting.recv().await.map(drop) });
        tokio::time::sleep(Duration::from_millis(50)).await;
        let closing = Arc::clone(&client);
        tokio::task::spawn_blocking(move || closing.socket().close()).await.unwrap().unwrap();
        let error = waiting.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Closed), "{error:?}");
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Closed | Error::SessionEnded { .. }), "{error:?}");
        let error = client.call(&peer, b"x").await.unwrap_err();
        assert!(matches!(error, Error::Closed), "{error:?}");
    });
}

/// The peer's goodbye ends calls of tasks, and its silence does too: timers fire without any other traffic.
#[test]
fn goodbye_and_silence() {
    run(async {
        let ca = Authority::new();
        let tap = common::tap::Tap::new();
        let server = ca.server().danger_wrap(tap.wrap()).bind("127.0.0.1:0").unwrap();
        let server = Arc::new(AsyncSocket::new(server).unwrap());
        let silence = Duration::from_millis(300);
        let client = ca.client().peer_timeout(silence).bind("127.0.0.1:0").unwrap();
        let client = AsyncSocket::new(client).unwrap();
        let peer = client.peer(server.socket().local_addr(), "localhost").unwrap();
        client.tell(&peer, b"warm").await.unwrap();
        tap.cut();
        let error = client.call(&peer, b"anybody?").await.unwrap_err();
        assert!(matches!(error, Error::PeerSilent { .. }), "{error:?}");
        tap.mend();
        let (error, ()) = tokio::join!(client.call(&peer, b"never answered"), async {
            while !matches!(server.recv().await.unwrap(), Delivery::Request(_)) {}
            server.socket().close().unwrap();
        });
        let error = error.unwrap_err();
        assert!(matches!(error, Error::SessionEnded { .. }), "{error:?}");
    });
}

/// A server that blocks threads and a client of tasks understand each other, and the other way round.
#[test]
fn blocking_and_async_together() {
    run(async {
        let ca = Authority::new();
        let server = ca.server().bind("127.0.0.1:0").unwrap();
        let at = server.local_addr();
        let server = echo(server);
        let client = AsyncSocket::new(ca.client().bind("127.0.0.1:0").unwrap()).unwrap();
        let peer = client.peer(at, "localhost").unwrap();
        for n in 0..50 {
            let sent = pattern(n, n as usize * 997);
            assert!(*client.call_with(&peer, &sent, patient()).await.unwrap() == *sent);
        }
        client.call(&peer, b"quit").await.unwrap();
        tokio::task::spawn_blocking(move || assert_eq!(server.join().unwrap(), 50)).await.unwrap();

        let server = Arc::new(AsyncSocket::new(ca.server().bind("127.0.0.1:0").unwrap()).unwrap());
        let at = server.socket().local_addr();
        let serving = echo_task(&server);
        let client: Socket = ca.client().bind("127.0.0.1:0").unwrap();
        let blocking = tokio::task::spawn_blocking(move || {
            let peer = client.peer(at, "localhost").unwrap();
            for n in 0..50 {
                let sent = pattern(n, n as usize * 997);
                assert!(*client.call_with(&peer, &sent, patient()).unwrap() == *sent);
            }
        });
        blocking.await.unwrap();
        serving.abort();
    });
}

/// `send` waits for space instead of failing.
#[test]
fn send_waits_for_space() {
    run(async {
        let ca = Authority::new();
        let server = Arc::new(AsyncSocket::new(ca.server().bind("127.0.0.1:0").unwrap()).unwrap());
        let serving = echo_task(&server);
        let client = ca.client().send_bytes_max(100_000).bind("127.0.0.1:0").unwrap();
        let client = AsyncSocket::new(client).unwrap();
        let peer = client.peer(server.socket().local_addr(), "localhost").unwrap();
        for n in 0..40 {
            client.send(&peer, pattern(n, 60_000), n).await.unwrap();
            assert!(client.info().held_bytes <= 100_000);
        }
        for _ in 0..40 {
            assert!(matches!(client.recv().await.unwrap(), Delivery::Response(_)));
        }
        serving.abort();
    });
}

/// A call's deadline holds while it waits for room.
#[test]
fn deadlines_hold_without_room() {
    run(async {
        let ca = Authority::new();
        let server = AsyncSocket::new(ca.server().bind("127.0.0.1:0").unwrap()).unwrap();
        let client = AsyncSocket::new(ca.client().send_bytes_max(100_000).bind("127.0.0.1:0").unwrap()).unwrap();
        let peer = client.peer(server.socket().local_addr(), "localhost").unwrap();
        client.send(&peer, pattern(1, 60_000), 1).await.unwrap();
        let Delivery::Request(_held) = server.recv().await.unwrap() else { panic!("no request") };
        let options = CallOptions::new().deadline(Duration::from_millis(50));
        let error = client.call_with(&peer, pattern(2, 60_000), options).await.unwrap_err();
        assert!(matches!(error, Error::Deadline { may_have_run: false, .. }), "{error}");
    });
}

/// A socket that spins keeps its runtime from sleeping; one that blocks does not.
#[test]
fn the_runtime_sleeps_as_the_socket_was_told() {
    const CALLS: u64 = 200;
    let slept = |wait: Wait| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ca = Authority::new();
            let server = AsyncSocket::new(ca.server().wait(wait).bind("127.0.0.1:0").unwrap()).unwrap();
            let server = Arc::new(server);
            let client = AsyncSocket::new(ca.client().wait(wait).bind("127.0.0.1:0").unwrap()).unwrap();
            let peer = client.peer(server.socket().local_addr(), "localhost").unwrap();
            let serving = echo_task(&server);
            client.call(&peer, b"warm").await.unwrap();
            let sleeps = || tokio::runtime::Handle::current().metrics().worker_park_count(0);
            let before = sleeps();
            for n in 0..CALLS {
                client.call_with(&peer, numbered(n, 100), patient()).await.unwrap();
            }
            serving.abort();
            sleeps() - before
        })
    };
    bounded(move || {
        assert!(slept(Wait::Block) >= CALLS);
        assert_eq!(slept(Wait::Spin), 0);
    });
}

#[test]
fn outside_of_a_runtime_it_says_so() {
    let ca = Authority::new();
    let error = AsyncSocket::new(ca.client().bind("127.0.0.1:0").unwrap()).unwrap_err();
    assert!(matches!(error, Error::System { .. }), "{error:?}");
    assert!(error.to_string().contains("tokio runtime"), "{error}");
}

/// [P-6.16] A task that waits for evidence is woken by the thread that judges it.
#[test]
fn evidence_wakes_who_waits() {
    use sealane::attestation::{Asks, Measurement, Mock};
    run(async {
        let ca = Authority::new();
        let measured = |value: &str| Measurement { register: 0, value: value.as_bytes().to_vec() };
        let mock = Arc::new(Mock::measured(vec![measured("GOOD")]));
        let policy = |value: &str| Asks::new().verifier(Mock::default()).pin(measured(value)).development();
        let server = ca.server().attester(mock.clone()).attestation_policy(policy("GOOD")).bind("127.0.0.1:0").unwrap();
        let server = Arc::new(AsyncSocket::new(server).unwrap());
        let serving = echo_task(&server);
        for (value, taken) in [("GOOD", true), ("BAD", false), ("GOOD", true)] {
            let client =
                ca.client().attester(mock.clone()).attestation_policy(policy(value)).bind("127.0.0.1:0").unwrap();
            let client = AsyncSocket::new(client).unwrap();
            let peer = client.peer(server.socket().local_addr(), "localhost").unwrap();
            assert_eq!(client.connect(&peer).await.is_ok(), taken);
            assert_eq!(client.call(&peer, b"x").await.is_ok(), taken);
        }
        drop(server);
        serving.abort();
    });
}
