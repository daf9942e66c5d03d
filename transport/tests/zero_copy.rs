//! A message that is one packet is delivered where it was received and decrypted; and what was delivered stays as it is, however
//! much comes later and however much is kept.
#![cfg(feature = "aws-lc")]

mod common;

use std::sync::Arc;
use std::thread;

use common::tap::Tap;
use common::{Authority, bounded, number_of, numbered, patient};
use sealane::{Delivery, Payload, Peer, Socket};

/// Gives the length of each request, and whether it was delivered in place.
type Handler = thread::JoinHandle<Vec<(usize, bool)>>;

/// A client and a server that echoes, both tapped. The server notes which requests were delivered in place.
fn scene() -> (Socket, Peer, Tap, Arc<Socket>, Handler) {
    let ca = Authority::new();
    let (tap, server_tap) = (Tap::new(), Tap::new());
    let server = ca.server().danger_wrap(server_tap.wrap()).bind("127.0.0.1:0").unwrap();
    let server = Arc::new(server);
    let serving = Arc::clone(&server);
    let handler = thread::spawn(move || {
        let mut requests = Vec::new();
        while let Ok(Delivery::Request(request)) = serving.recv() {
            requests.push((request.payload.len(), server_tap.received_into(&request.payload)));
            let _ = serving.reply(request.token, request.payload);
        }
        requests
    });
    let client = ca.client().danger_wrap(tap.wrap()).bind("127.0.0.1:0").unwrap();
    let peer = client.peer(server.local_addr(), "localhost").unwrap();
    (client, peer, tap, server, handler)
}

#[test]
fn one_packet_is_delivered_in_place() {
    bounded(|| {
        let (client, peer, tap, server, handler) = scene();
        // The largest packet on loopback has 16,302 bytes of message.
        for size in [8, 64, 1_024, 4_096, 16_302] {
            for n in 0..20 {
                let back = client.call_with(&peer, numbered(n, size), patient()).unwrap();
                assert_eq!(number_of(&back), n);
                assert!(tap.received_into(&back), "a response of {size} bytes was copied");
            }
        }
        // More than one packet must be put together elsewhere.
        let back = client.call_with(&peer, numbered(0, 100_000), patient()).unwrap();
        assert!(!tap.received_into(&back), "the check can fail");
        server.close().unwrap();
        let requests = handler.join().unwrap();
        assert_eq!(requests.len(), 101);
        for (len, in_place) in requests {
            assert_eq!(in_place, len <= 16_302, "a request of {len} bytes");
        }
    });
}

/// A payload that is kept keeps its bytes while thousands of messages come and go through the same memory.
#[test]
fn payloads_keep_their_bytes() {
    bounded(|| {
        let (client, peer, _, server, handler) = scene();
        let sizes = [8, 64, 2_000, 10_000, 16_302, 50_000];
        let kept: Vec<Payload> = (0..sizes.len())
            .map(|n| client.call_with(&peer, numbered(n as u64, sizes[n]), patient()).unwrap())
            .collect();
        for n in 1_000..6_000u64 {
            let sent = numbered(n, 8 + (n as usize * 37) % 3_000);
            assert_eq!(number_of(&client.call_with(&peer, &sent, patient()).unwrap()), n);
        }
        for (n, payload) in kept.iter().enumerate() {
            assert_eq!((number_of(payload), payload.len()), (n as u64, sizes[n]));
        }
        server.close().unwrap();
        handler.join().unwrap();
    });
}

/// Hundreds of payloads are kept at once, small and large, on both sides, then given back out of order; the socket works on.
#[test]
fn holding_five_hundred_payloads() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server().bind("127.0.0.1:0").unwrap();
        let at = server.local_addr();
        let handler = thread::spawn(move || {
            let mut kept = Vec::new();
            while let Ok(Delivery::Request(request)) = server.recv() {
                if &*request.payload == b"quit" {
                    server.reply(request.token, b"bye").unwrap();
                    server.close().unwrap();
                    break;
                }
                server.reply(request.token, request.payload.clone()).unwrap();
                kept.push(request.payload);
            }
            kept
        });
        let client = ca.client().bind("127.0.0.1:0").unwrap();
        let peer = client.peer(at, "localhost").unwrap();
        let size = |n: u64| 8 + [100, 1_500, 9_000, 16_000, 40_000][n as usize % 5];
        let mut kept: Vec<(u64, Payload)> =
            (0..500).map(|n| (n, client.call_with(&peer, numbered(n, size(n)), patient()).unwrap())).collect();
        let whole = |kept: &[(u64, Payload)]| {
            kept.iter().for_each(|(n, payload)| assert_eq!((number_of(payload), payload.len()), (*n, size(*n))));
        };
        whole(&kept);
        // Every second one goes, and others come into what it leaves.
        let mut at = 0;
        kept.retain(|_| {
            at += 1;
            at % 2 == 0
        });
        for n in 500..1_500 {
            assert_eq!(number_of(&client.call_with(&peer, numbered(n, size(n)), patient()).unwrap()), n);
        }
        whole(&kept);
        client.call_with(&peer, b"quit", patient()).unwrap();
        let requests = handler.join().unwrap();
        assert_eq!(requests.len(), 1_500);
        for (n, payload) in requests.iter().enumerate() {
            assert_eq!(number_of(payload), n as u64);
        }
        // They outlive their sockets.
        drop(client);
        whole(&kept);
    });
}

/// Many small messages that arrive in one train: each keeps its own bytes.
#[test]
fn messages_of_one_train() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server().danger_helper_thread(false).bind("127.0.0.1:0").unwrap();
        let client = ca.client().bind("127.0.0.1:0").unwrap();
        let peer = client.peer(server.local_addr(), "localhost").unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let sizes = [8, 100, 1_200, 5_000];
                for n in 0..400u64 {
                    client.send_one_way(&peer, numbered(n, sizes[n as usize % 4])).unwrap();
                }
            });
            let mut kept = Vec::new();
            for _ in 0..400 {
                let Delivery::OneWay(message) = server.recv().unwrap() else { panic!("one-way messages") };
                kept.push(message.payload);
            }
            let mut numbers: Vec<u64> = kept.iter().map(|payload| number_of(payload)).collect();
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(0..400));
        });
    });
}

#[test]
fn parts_of_payloads() {
    bounded(|| {
        let (client, peer, tap, server, handler) = scene();
        let sent = numbered(5, 10_000);
        let whole = client.call_with(&peer, &sent, patient()).unwrap();
        let part = whole.slice(1_000..9_000);
        let part_of_part = part.slice(10..20);
        assert!(part.as_ptr() == whole[1_000..].as_ptr(), "a part is no copy");
        assert!(tap.received_into(&part_of_part));
        drop((whole, part));
        for n in 0..500 {
            client.call_with(&peer, numbered(n, 10_000), patient()).unwrap();
        }
        assert!(*part_of_part == sent[1_010..1_020], "a part keeps the whole");
        assert!(part_of_part.slice(3..3).is_empty());
        // A part can be sent on without a copy; it arrives as itself.
        let back = client.call_with(&peer, part_of_part.clone(), patient()).unwrap();
        assert!(*back == *part_of_part);
        server.close().unwrap();
        handler.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "slice 3..9 of 8 bytes")]
fn parts_must_be_within() {
    let payload: Payload = vec![0; 8].into();
    let _ = payload.slice(3..9);
}
