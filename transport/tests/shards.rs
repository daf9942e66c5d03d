//! Sockets with several shards over the loopback interface: threads that share nothing but a port. [P-9.1] [P-9.2]

mod common;

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{LONG, bounded, number_of, numbered, until};
use sealane::builder::Ready;
use sealane::{Builder, Delivery, Error, Peer, Role, Socket, Wait};

const ANY: &str = "127.0.0.1:0";

fn builder(shards: u16) -> Builder<Ready> {
    Socket::builder().installed_only().wait(Wait::Block).shards(shards)
}

/// A server and a client of so many shards, and the server as the client's peer.
fn pair(servers: u16, clients: u16) -> (Arc<Socket>, Arc<Socket>, Peer) {
    let server = builder(servers).serve_installed().bind(ANY).unwrap();
    let client = builder(clients).bind(ANY).unwrap();
    let peer = introduce(&server, &client);
    (Arc::new(server), Arc::new(client), peer)
}

fn introduce(server: &Socket, client: &Socket) -> Peer {
    server.install_session(client.local_addr(), Role::Server, [7; 32], "client");
    client.install_session(server.local_addr(), Role::Client, [7; 32], "server").expect("a client's end has a peer")
}

/// How often each request ran, by number, and in which shard.
type Ran = Arc<Mutex<HashMap<u64, Vec<usize>>>>;

/// A thread for each shard, which answers until the socket is closed.
fn serve(server: &Arc<Socket>) -> (Ran, Vec<thread::JoinHandle<()>>) {
    let ran = Ran::default();
    let threads = (0..server.shard_count()).map(|number| {
        let (server, ran) = (Arc::clone(server), Arc::clone(&ran));
        thread::spawn(move || {
            let shard = server.shard(number).expect("there is one");
            while let Ok(delivery) = shard.recv() {
                if let Delivery::Request(request) = delivery {
                    ran.lock().unwrap().entry(number_of(&request.payload)).or_default().push(number);
                    let _ = shard.reply(request.token, request.payload);
                }
            }
        })
    });
    let threads = threads.collect();
    (ran, threads)
}

fn end(server: &Arc<Socket>, threads: Vec<thread::JoinHandle<()>>) {
    server.close().unwrap();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// The kernel has brought everything to the right shard, and nothing was dropped that must not be.
fn assert_steered(socket: &Socket) {
    let counters = socket.info().counters;
    assert_eq!(counters.datagrams_handed_over, 0, "{}", socket.info());
    assert_eq!(counters.dropped_malformed + counters.dropped_bad_tag + counters.dropped_nonsense, 0);
}

/// [P-9.2] One thread with an ordinary socket, and a server whose shards all answer it.
#[test]
fn one_client_is_served_by_all_shards() {
    bounded(|| {
        let (server, client, peer) = pair(3, 1);
        let (ran, threads) = serve(&server);
        for n in 0..300 {
            let body = numbered(n, 8 + (n as usize * 331) % 40_000);
            assert!(*client.call(&peer, &body).unwrap() == *body);
        }
        assert_steered(&server);
        end(&server, threads);
        let ran = ran.lock().unwrap();
        assert!(ran.len() == 300 && ran.values().all(|by| by.len() == 1));
        for shard in 0..3 {
            let part = ran.values().filter(|by| by[0] == shard).count();
            assert!((80..=120).contains(&part), "shard {shard} ran {part}");
        }
    });
}

/// A shard that does not answer has a part of what is open, and the others answer all that follows: it does not come to have all of it.
#[test]
fn a_slow_shard_is_spared() {
    bounded(|| {
        let (server, client, peer) = pair(2, 1);
        let serving = Arc::clone(&server);
        let serving = thread::spawn(move || {
            let shard = serving.shard(0).expect("there are two");
            while let Ok(Delivery::Request(request)) = shard.recv() {
                let _ = shard.reply(request.token, request.payload);
            }
        });
        client.connect(&peer).unwrap();
        const OPEN: u64 = 12;
        for n in 0..300 {
            client.send(&peer, numbered(n, 8), n).unwrap();
            if n >= OPEN {
                let answered = client.recv_timeout(LONG).unwrap();
                assert!(matches!(answered, Some(Delivery::Response(_))), "{n}: the slow shard has all {OPEN}");
            }
        }
        server.close().unwrap();
        serving.join().unwrap();
    });
}

/// [P-9.2] A thread for each shard at both ends: each gets the answers to what it asked, and each request runs once.
#[test]
fn responses_come_to_the_thread_that_asked() {
    for (servers, clients) in [(2, 2), (2, 3), (3, 2)] {
        bounded(move || {
            let (server, client, peer) = pair(servers, clients);
            let (ran, threads) = serve(&server);
            let callers: Vec<_> = (0..clients as usize)
                .map(|number| {
                    let (client, peer) = (Arc::clone(&client), peer);
                    thread::spawn(move || {
                        let shard = client.shard(number).expect("there is one");
                        let name = |n: u64| number as u64 * 1_000_000 + n;
                        for n in 0..16 {
                            shard.send(&peer, numbered(name(n), 8 + n as usize * 700), n).unwrap();
                        }
                        for n in 16..400 {
                            let Delivery::Response(response) = shard.recv().unwrap() else { panic!("not a response") };
                            assert_eq!(number_of(&response.payload), name(response.cookie));
                            shard.send(&peer, numbered(name(n), 8 + n as usize % 9_000), n).unwrap();
                        }
                        for _ in 0..16 {
                            assert!(matches!(shard.recv().unwrap(), Delivery::Response(_)));
                        }
                        assert!(shard.try_recv().unwrap().is_none());
                    })
                })
                .collect();
            callers.into_iter().for_each(|caller| caller.join().unwrap());
            assert_steered(&server);
            assert_steered(&client);
            end(&server, threads);
            let ran = ran.lock().unwrap();
            assert!(ran.len() == 400 * clients as usize && ran.values().all(|by| by.len() == 1));
            let shards: std::collections::BTreeSet<usize> = ran.values().map(|by| by[0]).collect();
            assert_eq!(shards.len(), servers as usize);
        });
    }
}

/// The plain methods of a socket work over all of its shards: `recv` takes from any, `reply`, `wait` and `abort` find the right one.
#[test]
fn the_whole_socket() {
    bounded(|| {
        let (server, client, peer) = pair(3, 2);
        let serving = Arc::clone(&server);
        let one = thread::spawn(move || {
            let mut served = 0;
            while let Ok(delivery) = serving.recv() {
                if let Delivery::Request(request) = delivery {
                    let aborted = request.payload.len() == 10;
                    match serving.reply(request.token, request.payload) {
                        Ok(()) => served += 1,
                        Err(error) => assert!(aborted, "{error}"),
                    }
                }
            }
            served
        });
        let callers: Vec<_> = (0..4)
            .map(|thread_number: u64| {
                let (client, peer) = (Arc::clone(&client), peer);
                thread::spawn(move || {
                    for n in 0..50 {
                        let body = numbered(thread_number * 1000 + n, 500);
                        assert!(*client.call(&peer, &body).unwrap() == *body);
                        let id = client.send(&peer, &body, n).unwrap();
                        assert!(*client.wait(id).unwrap() == *body);
                        client.tell(&peer, &body).unwrap();
                    }
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        // From any shard, too.
        for cookie in 0..20 {
            client
                .shard(cookie as usize % 2)
                .expect("there is one")
                .send(&peer, numbered(cookie, 100), cookie)
                .unwrap();
        }
        let mut cookies: Vec<u64> = (0..20)
            .map(|_| match client.recv_timeout(LONG).unwrap() {
                Some(Delivery::Response(response)) => response.cookie,
                other => panic!("{other:?}"),
            })
            .collect();
        cookies.sort_unstable();
        assert!(cookies.into_iter().eq(0..20));
        assert!(client.recv_timeout(Duration::from_millis(1)).unwrap().is_none());
        let id = client.send(&peer, numbered(1, 10), 0).unwrap();
        client.abort(id);
        assert!(
            client
                .info()
                .rpcs
                .iter()
                .all(|call| call.rpc.rpc.began() != sealane::Side::Client || call.rpc.out_length != 10)
        );
        server.close().unwrap();
        let served = one.join().unwrap();
        // What was aborted may have arrived, and then may have been answered before the end.
        let arrived = u64::from(server.info().counters.messages_delivered > 4 * 150 + 20);
        assert!((4 * 100 + 20..=4 * 100 + 20 + arrived).contains(&served), "{served}");
    });
}

/// One descriptor covers all shards.
#[test]
fn one_descriptor_for_all_shards() {
    bounded(|| {
        let (server, client, peer) = pair(2, 2);
        let ready = server.readiness().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (serving, stopping) = (Arc::clone(&server), Arc::clone(&stop));
        let turns = thread::spawn(move || {
            let mut served = 0;
            while !stopping.load(Ordering::Relaxed) {
                udp::poll::wait_readable(&[ready.as_fd()], Some(Duration::from_millis(20))).unwrap();
                while let Some(delivery) = serving.try_recv().unwrap() {
                    if let Delivery::Request(request) = delivery {
                        serving.reply(request.token, request.payload).unwrap();
                        served += 1;
                    }
                }
            }
            served
        });
        for n in 0..100 {
            let shard = client.shard(n % 2).expect("there is one");
            assert!(*shard.call(&peer, numbered(n as u64, 3_000)).unwrap() == *numbered(n as u64, 3_000));
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(turns.join().unwrap(), 100);
    });
}

/// [P-9.2] A shard whose session was not opened yet waits for the first one, or says so; when a session ends, all shards begin anew.
#[test]
fn sessions_open_and_end_for_all_shards() {
    bounded(|| {
        let (server, client, peer) = pair(2, 2);
        let (_, threads) = serve(&server);
        let last = client.shard(1).expect("there is one");
        assert!(client.shard(2).is_none());
        assert!(matches!(last.try_send(&peer, numbered(0, 10), 0), Err(Error::Connecting)));
        until("the session opens by itself", || last.try_send(&peer, numbered(0, 10), 0).is_ok());
        assert!(matches!(last.recv().unwrap(), Delivery::Response(_)));
        for round in 0..5 {
            for number in [1, 0] {
                let shard = client.shard(number).expect("there is one");
                assert!(*shard.call(&peer, numbered(round, 10)).unwrap() == *numbered(round, 10));
            }
            client.disconnect(&peer).unwrap();
            until("no shard has a lane of it", || {
                client.info().sessions.is_empty() && server.info().sessions.is_empty()
            });
        }
        end(&server, threads);
    });
}

/// A server that ended and is there again: whichever shard calls next, it does so in a new session.
#[test]
fn a_server_that_comes_back() {
    bounded(|| {
        let (server, client, peer) = pair(2, 2);
        let at = server.local_addr();
        let (_, threads) = serve(&server);
        for number in [0, 1] {
            client.shard(number).expect("there is one").call(&peer, numbered(1, 10)).unwrap();
        }
        end(&server, threads);
        drop(server);
        let server = common::rebind(at, || builder(2).serve_installed());
        server.install_session(client.local_addr(), Role::Server, [7; 32], "client");
        let server = Arc::new(server);
        let (_, threads) = serve(&server);
        for number in [1, 0] {
            let shard = client.shard(number).expect("there is one");
            until("calls go on", || shard.call(&peer, numbered(2, 10)).is_ok());
        }
        end(&server, threads);
    });
}

/// What cannot work is said at once.
#[test]
fn numbers_that_cannot_be() {
    for count in [0, 257] {
        assert!(matches!(builder(count).bind(ANY), Err(Error::Config(_))));
    }
    let one = builder(1).bind(ANY).unwrap();
    assert!(one.shard_count() == 1 && one.shard(0).is_some() && one.shard(1).is_none());
    let taken = builder(2).bind(one.local_addr()).unwrap_err();
    assert!(matches!(taken, Error::Bind { .. }));
}

/// Certificates: the first shard shakes hands for all.
#[cfg(feature = "aws-lc")]
#[test]
fn one_handshake_for_all_shards() {
    bounded(|| {
        let ca = common::Authority::new();
        let server = Arc::new(ca.server().shards(2).bind(ANY).unwrap());
        let client = ca.client().shards(2).bind(ANY).unwrap();
        let peer = client.peer(server.local_addr(), "localhost").unwrap();
        let (ran, threads) = serve(&server);
        for n in 0..40 {
            let shard = client.shard(n as usize % 2).expect("there is one");
            assert!(*shard.call(&peer, numbered(n, 20_000)).unwrap() == *numbered(n, 20_000));
        }
        assert_eq!(server.info().counters.handshakes_completed, 1);
        assert!(client.info().sessions.iter().all(|session| session.origin.identity.to_string().contains("localhost")));
        end(&server, threads);
        assert!(ran.lock().unwrap().values().all(|by| by.len() == 1));
    });
}
