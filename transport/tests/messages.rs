//! Messages of every size, kind and direction arrive whole, once, and say from whom.
#![cfg(feature = "aws-lc")]

mod common;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::{Authority, LONG, beside_echo, echo, pattern};
use sealane::{CallOptions, CallStream, Cipher, Clients, Delivery, Error, PeerIdentity, Socket, StreamKind, Wait};

const SIZES: [usize; 14] =
    [0, 1, 15, 64, 1_000, 1_400, 1_500, 8_192, 16_301, 16_302, 16_303, 65_536, 200_000, 1_048_576];

#[test]
fn every_size_comes_back_whole() {
    let ca = Authority::new();
    for (bind, mtu) in [("127.0.0.1:0", None), ("127.0.0.1:0", Some(1500)), ("[::1]:0", None), ("[::1]:0", Some(1280))]
    {
        let (mut server, mut client) = (ca.server(), ca.client());
        if let Some(mtu) = mtu {
            (server, client) = (server.mtu(mtu), client.mtu(mtu));
        }
        let server = server.bind(bind).unwrap();
        let at = server.local_addr();
        let server = echo(server);
        let client = client.bind(bind).unwrap();
        let peer = client.peer(at, "localhost").unwrap();
        for (seed, size) in SIZES.into_iter().enumerate() {
            let sent = pattern(seed as u64, size);
            let back = client.call(&peer, &sent).unwrap();
            assert!(*back == *sent, "{size} bytes over {bind} at MTU {mtu:?}");
        }
        client.call(&peer, b"quit").unwrap();
        assert_eq!(server.join().unwrap(), SIZES.len() as u64);
    }
}

#[test]
fn the_largest_message_and_one_byte_more() {
    let ca = Authority::new();
    let (server, client, peer) =
        beside_echo(ca.server().bind("127.0.0.1:0").unwrap(), ca.client().bind("127.0.0.1:0").unwrap());
    let sent = pattern(7, 64 << 20);
    let back = client.call(&peer, &sent).unwrap();
    assert!(*back == *sent);
    let error = client.call(&peer, vec![0; (64 << 20) + 1]).unwrap_err();
    assert!(matches!(error, Error::TooLong { length: 67_108_865, limit: 67_108_864 }), "{error}");
    assert!(!error.may_have_run());
    client.call(&peer, b"quit").unwrap();
    server.join().unwrap();
}

#[test]
fn every_cipher_works() {
    let ca = Authority::new();
    for cipher in Cipher::ALL {
        let (server, client, peer) = beside_echo(
            ca.server().cipher(cipher).bind("127.0.0.1:0").unwrap(),
            ca.client().bind("127.0.0.1:0").unwrap(),
        );
        let sent = pattern(1, 100_000);
        assert!(*client.call(&peer, &sent).unwrap() == *sent);
        assert_eq!(client.info().sessions[0].cipher, cipher);
        client.call(&peer, b"quit").unwrap();
        server.join().unwrap();
    }
}

#[test]
fn every_way_of_waiting_works() {
    let ca = Authority::new();
    for wait in [Wait::Spin, Wait::Block, Wait::Adaptive] {
        let (server, client, peer) = beside_echo(
            ca.server().wait(wait).bind("127.0.0.1:0").unwrap(),
            ca.client().wait(wait).bind("127.0.0.1:0").unwrap(),
        );
        for seed in 0..50 {
            let sent = pattern(seed, 64);
            assert!(*client.call(&peer, &sent).unwrap() == *sent);
        }
        client.call(&peer, b"quit").unwrap();
        server.join().unwrap();
    }
}

#[test]
fn responses_find_their_requests_by_id_and_cookie() {
    let ca = Authority::new();
    let (server, client, peer) =
        beside_echo(ca.server().bind("127.0.0.1:0").unwrap(), ca.client().bind("127.0.0.1:0").unwrap());
    let ids: Vec<_> = (0..100u64).map(|n| client.send(&peer, pattern(n, n as usize * 37), n).unwrap()).collect();
    // One is taken out of turn, by its name.
    assert!(*client.wait(ids[50]).unwrap() == *pattern(50, 50 * 37));
    let mut seen = [false; 100];
    for _ in 0..99 {
        let Delivery::Response(response) = client.recv().unwrap() else { panic!("a response") };
        let n = response.cookie;
        assert_eq!(response.id, ids[n as usize]);
        assert!(*response.payload == *pattern(n, n as usize * 37));
        assert!(!std::mem::replace(&mut seen[n as usize], true));
    }
    assert!(!seen[50]);
    assert!(matches!(client.wait(ids[50]), Err(Error::UnknownCall(_))), "its response was taken already");
    client.call(&peer, b"quit").unwrap();
    server.join().unwrap();
}

#[test]
fn one_way_messages_arrive_once_and_say_from_whom() {
    let ca = Authority::new();
    let server = ca.server().bind("127.0.0.1:0").unwrap();
    let at = server.local_addr();
    let client = ca.client().bind("127.0.0.1:0").unwrap();
    let peer = client.peer(at, "localhost").unwrap();
    let teller = thread::spawn(move || {
        for n in 0..20u64 {
            client.send_one_way(&peer, pattern(n, n as usize * 5_000)).unwrap();
        }
        client.tell(&peer, b"last").unwrap();
        client.close().unwrap();
    });
    let mut seen = 0;
    loop {
        let delivery = server.recv_timeout(LONG).unwrap().expect("it comes");
        let Delivery::OneWay(message) = delivery else { panic!("a one-way message") };
        let PeerIdentity::Certificate(certificate) = message.peer.identity() else {
            panic!("the client has a certificate")
        };
        assert!(certificate.names().iter().any(|name| name.to_string().contains("client")));
        seen += 1;
        if *message.payload == *b"last" {
            break;
        }
    }
    // The last one may overtake longer ones: no order is promised.
    while seen < 21 {
        assert!(matches!(server.recv_timeout(LONG).unwrap(), Some(Delivery::OneWay(_))));
        seen += 1;
    }
    teller.join().unwrap();
    assert!(server.recv_timeout(Duration::from_millis(50)).unwrap().is_none(), "nothing comes twice");
}

#[test]
fn both_sides_may_ask_in_one_session() {
    let ca = Authority::new();
    let server = ca.server().bind("127.0.0.1:0").unwrap();
    let at = server.local_addr();
    let client = Arc::new(ca.client().serve(Clients::Authenticated).bind("127.0.0.1:0").unwrap());
    let peer = client.peer(at, "localhost").unwrap();
    let asking = Arc::clone(&client);
    let caller = thread::spawn(move || asking.call(&peer, b"what is your name?").unwrap());
    let Delivery::Request(question) = server.recv().unwrap() else { panic!("a request") };
    // Before it answers, the server asks back, in the session that the client began.
    let back = server.send(&question.peer.peer(), b"who wants to know?", 5).unwrap();
    assert_eq!(client.info().sessions.len(), 1, "in the same session");
    let Delivery::Request(asked_back) = client.recv().unwrap() else { panic!("a request") };
    assert!(*asked_back.payload == *b"who wants to know?");
    client.reply(asked_back.token, b"a client").unwrap();
    assert!(*server.wait(back).unwrap() == *b"a client");
    server.reply(question.token, b"a server").unwrap();
    let answer = thread::spawn(move || {
        let _ = server.recv_timeout(Duration::from_millis(200));
    });
    assert!(*caller.join().unwrap() == *b"a server");
    answer.join().unwrap();
}

#[test]
fn one_socket_many_peers_many_threads() {
    let ca = Authority::new();
    let servers: Vec<_> = (0..8).map(|_| ca.server().bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<_> = servers.iter().map(Socket::local_addr).collect();
    let servers: Vec<_> = servers.into_iter().map(echo).collect();
    let client = ca.client().bind("127.0.0.1:0").unwrap();
    thread::scope(|scope| {
        for (t, address) in addresses.iter().cycle().take(16).enumerate() {
            let client = &client;
            scope.spawn(move || {
                let peer = client.peer(*address, "localhost").unwrap();
                for n in 0..30 {
                    let sent = pattern(t as u64 * 1000 + n, (n as usize * 991) % 40_000);
                    assert!(*client.call(&peer, &sent).unwrap() == *sent);
                }
            });
        }
    });
    assert_eq!(client.info().sessions.len(), 8);
    for address in &addresses {
        client.call(&client.peer(*address, "localhost").unwrap(), b"quit").unwrap();
    }
    assert_eq!(servers.into_iter().map(|s| s.join().unwrap()).sum::<u64>(), 480);
}

#[test]
fn long_messages_can_be_read_while_they_arrive() {
    let ca = Authority::new();
    let server = ca.server().stream_above(100_000).bind("127.0.0.1:0").unwrap();
    let at = server.local_addr();
    let server = thread::spawn(move || {
        let mut received = Vec::new();
        let Delivery::Stream(mut stream) = server.recv().unwrap() else { panic!("a stream") };
        assert_eq!((stream.kind, stream.len()), (StreamKind::Request, 3_000_000));
        let mut part = vec![0; 70_000];
        loop {
            match stream.read_some(&mut part).unwrap() {
                0 => break,
                n => received.extend_from_slice(&part[..n]),
            }
        }
        let token = stream.into_token().expect("it was read to its end");
        server.reply(token, received).unwrap();
        let _ = server.recv_timeout(Duration::from_secs(2));
    });
    let client = ca.client().bind("127.0.0.1:0").unwrap();
    let peer = client.peer(at, "localhost").unwrap();
    let sent = pattern(3, 3_000_000);
    let CallStream::Stream(mut stream) = client.call_stream(&peer, &sent).unwrap() else { panic!("a stream") };
    let mut back = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut back).unwrap();
    assert!(back == sent);
    drop(stream);
    client.close().unwrap();
    server.join().unwrap();
}

#[test]
fn deadlines_aborts_and_late_replies() {
    let ca = Authority::new();
    let server = ca.server().bind("127.0.0.1:0").unwrap();
    let at = server.local_addr();
    let client = ca.client().bind("127.0.0.1:0").unwrap();
    let peer = client.peer(at, "localhost").unwrap();
    let options = CallOptions::new().deadline(Duration::from_millis(100));
    let error = thread::scope(|scope| {
        let caller = scope.spawn(|| client.call_with(&peer, b"slow", options));
        let Delivery::Request(request) = server.recv().unwrap() else { panic!("a request") };
        let error = caller.join().unwrap().unwrap_err();
        // The caller told the peer that it gave up; a reply now goes nowhere, and its sender is told.
        while server.info().rpcs.iter().any(|rpc| rpc.id.rpc.sequence() == 0) {
            let _ = server.try_recv();
        }
        let late = server.reply(request.token, b"too late").unwrap_err();
        assert!(matches!(late, Error::UnknownRequest(_)), "{late}");
        error
    });
    assert!(matches!(error, Error::Deadline { may_have_run: true, .. }), "{error}");
    let id = client.send(&peer, b"never mind", 0).unwrap();
    assert!(client.abort(id));
    assert!(!client.abort(id), "it has ended");
    assert!(matches!(client.wait(id), Err(Error::UnknownCall(_))));
    assert_eq!(client.info().rpcs.len(), 0);
}

#[test]
fn a_full_send_buffer_says_so_or_blocks() {
    let ca = Authority::new();
    let (server, client, peer) = beside_echo(
        ca.server().bind("127.0.0.1:0").unwrap(),
        ca.client().send_bytes_max(100_000).bind("127.0.0.1:0").unwrap(),
    );
    let body = pattern(1, 60_000);
    client.try_send(&peer, &body, 1).unwrap();
    let error = client.try_send(&peer, &body, 2).unwrap_err();
    assert!(matches!(error, Error::WouldBlock { held: 60_000, limit: 100_000 }), "{error}");
    assert!(matches!(client.try_send_one_way(&peer, &body), Err(Error::WouldBlock { .. })));
    client.try_send_one_way(&peer, &body[..40_000]).unwrap();
    // The blocking form waits for the first to be done.
    client.send(&peer, &body, 3).unwrap();
    for _ in 0..2 {
        assert!(matches!(client.recv().unwrap(), Delivery::Response(_)));
    }
    client.call(&peer, b"quit").unwrap();
    server.join().unwrap();
}

/// A call's deadline holds while it waits for room to be sent in: nothing was sent then.
#[test]
fn deadlines_hold_without_room() {
    common::bounded(|| {
        let ca = Authority::new();
        let server = ca.server().bind("127.0.0.1:0").unwrap();
        let client = ca.client().send_bytes_max(100_000).bind("127.0.0.1:0").unwrap();
        let peer = client.peer(server.local_addr(), "localhost").unwrap();
        let body = pattern(3, 60_000);
        client.send(&peer, &body, 1).unwrap();
        // It is in service, so the client holds it.
        let Delivery::Request(_held) = server.recv().unwrap() else { panic!("no request") };
        let error = client.call_with(&peer, &body, CallOptions::new().deadline(Duration::from_millis(50))).unwrap_err();
        assert!(matches!(error, Error::Deadline { may_have_run: false, .. }), "{error}");
        assert_eq!(client.info().rpcs.len(), 1);
    });
}

/// A response for which there is no room gives the right to answer back, and nothing waits.
#[test]
fn try_reply_never_blocks() {
    common::bounded(|| {
        let ca = Authority::new();
        let server = ca.server().send_bytes_max(100_000).danger_helper_thread(false).bind("127.0.0.1:0").unwrap();
        let client = ca.client().bind("127.0.0.1:0").unwrap();
        let at = server.local_addr();
        let caller = std::thread::spawn(move || {
            let peer = client.peer(at, "localhost").unwrap();
            let ids = [0, 1].map(|cookie| client.send(&peer, b"long", cookie).unwrap());
            ids.map(|id| client.wait(id).unwrap().len())
        });
        let [first, second] = [0, 1].map(|_| match server.recv().unwrap() {
            Delivery::Request(request) => request.token,
            other => panic!("{other:?}"),
        });
        let body = pattern(2, 60_000);
        assert!(server.try_reply(first, &body).unwrap().is_none());
        // Nobody polls the server's socket meanwhile, so the first is still held.
        let mut left = server.try_reply(second, &body).unwrap();
        assert!(left.is_some());
        while let Some(token) = left {
            assert!(server.try_recv().unwrap().is_none());
            left = server.try_reply(token, &body).unwrap();
        }
        while !caller.is_finished() {
            assert!(server.try_recv().unwrap().is_none());
        }
        assert_eq!(caller.join().unwrap(), [60_000; 2]);
    });
}

/// A client that takes nothing uses up what is for itself, and not what is for others.
#[test]
fn one_peer_has_a_limit_of_its_own() {
    common::bounded(|| {
        let ca = Authority::new();
        let server = ca.server().peer_send_bytes_max(100_000).danger_helper_thread(false).bind("127.0.0.1:0").unwrap();
        let at = server.local_addr();
        let request = || match server.recv().unwrap() {
            Delivery::Request(request) => (request.peer.peer(), request.token),
            other => panic!("{other:?}"),
        };
        let idle = ca.client().danger_helper_thread(false).bind("127.0.0.1:0").unwrap();
        let peer = idle.peer(at, "localhost").unwrap();
        let ids = std::thread::scope(|scope| {
            let connecting = scope.spawn(|| idle.connect(&peer).unwrap());
            while !connecting.is_finished() {
                assert!(server.try_recv().unwrap().is_none());
            }
            connecting.join().unwrap();
            [0, 1].map(|cookie| idle.send(&peer, b"long", cookie).unwrap())
        });
        let [(session, first), (_, second)] = [request(), request()];
        let body = pattern(4, 60_000);
        assert!(server.try_reply(first, &body).unwrap().is_none());
        // Nobody polls that client's socket.
        let second = server.try_reply(second, &body).unwrap().expect("no room");
        assert!(matches!(
            server.try_send_one_way(&session, &body),
            Err(Error::WouldBlock { held: 60_000, limit: 100_000 })
        ));
        let other = ca.client().bind("127.0.0.1:0").unwrap();
        let beside = std::thread::spawn(move || {
            let peer = other.peer(at, "localhost").unwrap();
            other.call(&peer, b"long").unwrap().len()
        });
        assert!(server.try_reply(request().1, &body).unwrap().is_none());
        while !beside.is_finished() {
            assert!(server.try_recv().unwrap().is_none());
        }
        assert_eq!(beside.join().unwrap(), 60_000);
        // It reads after all; the blocking form waits for it.
        let reader = std::thread::spawn(move || ids.map(|id| idle.wait(id).unwrap().len()));
        server.reply(second, &body).unwrap();
        while !reader.is_finished() {
            assert!(server.try_recv().unwrap().is_none());
        }
        assert_eq!(reader.join().unwrap(), [60_000; 2]);
    });
}

/// A response that `recv` gave cannot be waited for any more, however the socket waits.
#[test]
fn what_was_taken_is_gone() {
    common::bounded(|| {
        let ca = Authority::new();
        let server = ca.server().bind("127.0.0.1:0").unwrap();
        let at = server.local_addr();
        let server = echo(server);
        for wait in [Wait::Spin, Wait::Block, Wait::Adaptive] {
            let client = ca.client().wait(wait).danger_helper_thread(false).bind("127.0.0.1:0").unwrap();
            let peer = client.peer(at, "localhost").unwrap();
            for _ in 0..20 {
                let id = client.send(&peer, b"once", 0).unwrap();
                assert!(matches!(client.recv().unwrap(), Delivery::Response(_)));
                assert!(matches!(client.wait(id), Err(Error::UnknownCall(_))));
            }
        }
        let client = ca.client().bind("127.0.0.1:0").unwrap();
        client.call(&client.peer(at, "localhost").unwrap(), b"quit").unwrap();
        server.join().unwrap();
    });
}

/// What nobody takes is not held without bound: the sender waits until somebody does, and loses nothing.
#[test]
fn an_inbox_that_nobody_reads_is_bounded() {
    const COUNT: usize = 60;
    let ca = Authority::new();
    let server = ca.server().buffered_bytes_max(400_000).bind("127.0.0.1:0").unwrap();
    let client = ca.client().bind("127.0.0.1:0").unwrap();
    let peer = client.peer(server.local_addr(), "localhost").unwrap();
    for n in 0..COUNT {
        client.send_one_way(&peer, pattern(n as u64, 60_000)).unwrap();
    }
    // The server's helper takes in what it may meanwhile.
    assert!(client.recv_timeout(Duration::from_millis(300)).unwrap().is_none());
    let delivered = server.info().counters.messages_delivered;
    assert!((1..COUNT as u64 / 2).contains(&delivered), "{delivered} of {COUNT} are held");
    let reader = thread::spawn(move || {
        for _ in 0..COUNT {
            assert!(matches!(server.recv_timeout(LONG).unwrap(), Some(Delivery::OneWay(_))));
        }
    });
    reader.join().unwrap();
    client.close().unwrap();
}

/// Who has long spun without a sleep is in no hurry to be rung for; when it sleeps in the end it is rung all the same.
#[test]
fn a_sleep_after_much_spinning_ends() {
    let ca = Authority::new();
    for wait in [Wait::Spin, Wait::Adaptive] {
        let (server, client, peer) = beside_echo(
            ca.server().wait(wait).bind("127.0.0.1:0").unwrap(),
            ca.client().wait(wait).bind("127.0.0.1:0").unwrap(),
        );
        for _ in 0..3 {
            for _ in 0..400 {
                assert_eq!(*client.call(&peer, b"quick").unwrap(), *b"quick");
            }
            // Long enough for everybody to go to sleep, the helper threads of those that spin included.
            common::pass(Duration::from_millis(60));
            let back = client.call_with(&peer, b"slow", CallOptions::new().deadline(LONG)).unwrap();
            assert_eq!(*back, *b"slow");
        }
        client.call(&peer, b"quit").unwrap();
        server.join().unwrap();
    }
}
