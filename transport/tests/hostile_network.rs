//! A network that loses, reorders, repeats, alters and shortens datagrams costs time, never a byte, a message or a second
//! execution.
#![cfg(feature = "aws-lc")]

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{
    Authority, Dice, LONG, bounded, echo, hostile, number_of, numbered, pass, patient, pattern, seed,
    with_counted_faults, with_faults,
};
use sealane::builder::Ready;
use sealane::fault::Faults;
use sealane::{Builder, Delivery, Socket};

/// The hostile network, which also alters and shortens.
fn brutal(seed: u64) -> Faults {
    Faults { corrupt: 0.01, truncate: 0.01, ..hostile(seed) }
}

fn sized(builder: Builder<Ready>, mtu: Option<u32>) -> Builder<Ready> {
    match mtu {
        Some(mtu) => builder.mtu(mtu),
        None => builder,
    }
}

/// 16 MiB there and back, byte by byte; and the faults did strike, and what they took was sent again.
fn large_message(mtu: Option<u32>, faults: fn(u64) -> Faults) {
    let seed = seed();
    let ca = Authority::new();
    let server = with_faults(sized(ca.server(), mtu), faults(seed)).bind("127.0.0.1:0").unwrap();
    let at = server.local_addr();
    let server = echo(server);
    let (client, tally) = with_counted_faults(sized(ca.client(), mtu), faults(seed + 1));
    let client = client.bind("127.0.0.1:0").unwrap();
    let peer = client.peer(at, "localhost").unwrap();
    let sent = pattern(seed, 16 << 20);
    let back = client.call_with(&peer, &sent, patient()).unwrap();
    assert!(*back == *sent, "the message was altered");
    let info = client.info();
    let tally = tally.recv().unwrap();
    let (out, into) = (tally.transmitted(), tally.received());
    for count in [out, into] {
        assert!(count.lost > 0 && count.reordered > 0 && count.duplicated > 0, "{count:?}");
    }
    // What comes back is cut as what went, so what was sealed beyond what was opened was sealed again.
    let counters = &info.counters;
    assert!(counters.records_sealed > counters.records_opened, "something was sent again:\n{info}");
    assert!(info.counters.dropped_duplicate > 0, "something came twice:\n{info}");
    if faults(0).corrupt > 0.0 {
        assert!(out.corrupted > 0 && out.truncated > 0, "{out:?}");
        assert!(info.counters.dropped_bad_tag > 0, "what was altered was noticed:\n{info}");
    }
    drop(client);
    drop(server);
}

#[test]
fn a_large_message_at_mtu_1500() {
    bounded(|| large_message(Some(1500), hostile));
}

#[test]
fn a_large_message_at_the_loopback_mtu() {
    bounded(|| large_message(None, hostile));
}

#[test]
fn a_large_message_altered_and_shortened() {
    bounded(|| large_message(Some(1500), brutal));
}

/// Calls of mixed sizes from several threads: all come back whole, and each request was executed once.
fn small_calls(mtu: Option<u32>, faults: fn(u64) -> Faults) {
    const THREADS: u64 = 4;
    const CALLS: u64 = 150;
    let seed = seed();
    let ca = Authority::new();
    let server = with_faults(sized(ca.server(), mtu), faults(seed)).bind("127.0.0.1:0").unwrap();
    let at = server.local_addr();
    let executed = Arc::new(Mutex::new(HashMap::new()));
    let ran = Arc::clone(&executed);
    let server = Arc::new(server);
    let serving = Arc::clone(&server);
    let handler = thread::spawn(move || {
        while let Ok(delivery) = serving.recv() {
            let Delivery::Request(request) = delivery else { continue };
            *ran.lock().unwrap().entry(number_of(&request.payload)).or_insert(0) += 1;
            serving.reply(request.token, request.payload).unwrap();
        }
    });
    let client = with_faults(sized(ca.client(), mtu), faults(seed + 1)).bind("127.0.0.1:0").unwrap();
    let peer = client.peer(at, "localhost").unwrap();
    thread::scope(|scope| {
        for t in 0..THREADS {
            let (client, peer) = (&client, &peer);
            scope.spawn(move || {
                let mut dice = Dice::new(seed ^ t);
                for n in 0..CALLS {
                    // Mostly small, some of several records, now and then of many.
                    let len = match dice.below(10) {
                        0 => dice.below(200_000),
                        1..=3 => dice.below(20_000),
                        _ => dice.below(1_400),
                    };
                    let sent = numbered(t * CALLS + n, len.max(8));
                    let back = client.call_with(peer, &sent, patient()).unwrap();
                    assert!(*back == *sent);
                }
            });
        }
    });
    let executed = std::mem::take(&mut *executed.lock().unwrap());
    assert_eq!(executed.len() as u64, THREADS * CALLS);
    assert!(executed.values().all(|times| *times == 1), "a request ran twice");
    client.close().unwrap();
    server.close().unwrap();
    handler.join().unwrap();
}

#[test]
fn many_small_calls() {
    bounded(|| small_calls(None, hostile));
}

#[test]
fn many_small_calls_at_mtu_1500() {
    bounded(|| small_calls(Some(1500), hostile));
}

#[test]
fn many_small_calls_altered_and_shortened() {
    bounded(|| small_calls(Some(1500), brutal));
}

/// One-way messages: all arrive, none twice.
#[test]
fn one_way_messages_arrive_exactly_once() {
    bounded(|| {
        const MESSAGES: u64 = 1_500;
        let seed = seed();
        let ca = Authority::new();
        let server = with_faults(ca.server().mtu(1500), hostile(seed)).bind("127.0.0.1:0").unwrap();
        let at = server.local_addr();
        let (client, tally) = with_counted_faults(ca.client().mtu(1500), hostile(seed + 1));
        let client = client.bind("127.0.0.1:0").unwrap();
        let peer = client.peer(at, "localhost").unwrap();
        let teller = thread::spawn(move || {
            let mut dice = Dice::new(seed);
            for n in 0..MESSAGES {
                let len = if dice.below(20) == 0 { 60_000 } else { 2_000 };
                client.send_one_way(&peer, numbered(n, 8 + dice.below(len))).unwrap();
            }
            client
        });
        let mut seen = vec![false; MESSAGES as usize];
        for _ in 0..MESSAGES {
            let delivery = server.recv_timeout(LONG).unwrap().expect("all arrive");
            let Delivery::OneWay(message) = delivery else { panic!("a one-way message") };
            let number = number_of(&message.payload) as usize;
            assert!(!std::mem::replace(&mut seen[number], true), "message {number} came twice");
        }
        let _client = teller.join().unwrap();
        // Whatever is still repeated now is a copy.
        let late = server.recv_timeout(Duration::from_millis(300)).unwrap();
        assert!(late.is_none(), "{late:?}");
        assert!(tally.recv().unwrap().transmitted().lost > 0);
        assert!(server.info().counters.dropped_duplicate > 0, "{}", server.info());
    });
}

/// Each handshake completes although three of ten datagrams are lost each way, and so does what waited for it.
#[test]
fn handshakes_complete_at_thirty_percent_loss() {
    bounded(|| {
        let seed = seed();
        let ca = Authority::new();
        let server = ca.server().mtu(1500).bind("127.0.0.1:0").unwrap();
        let at = server.local_addr();
        let server = echo(server);
        let mut lost = 0;
        for n in 0..20 {
            let faults = Faults { loss: 0.3, seed: seed + n, ..Faults::default() };
            let (client, tally) = with_counted_faults(ca.client().mtu(1500), faults);
            let client = client.bind("127.0.0.1:0").unwrap();
            let peer = client.peer(at, "localhost").unwrap();
            client.connect(&peer).unwrap();
            let sent = pattern(n, 5_000);
            assert!(*client.call_with(&peer, &sent, patient()).unwrap() == *sent);
            let tally = tally.recv().unwrap();
            lost += tally.transmitted().lost + tally.received().lost;
        }
        assert!(lost > 0);
        drop(server);
    });
}

/// A handler that takes four times the silence after which a peer counts as dead: its caller is told to wait.
#[test]
fn a_slow_handler_keeps_its_call_alive() {
    bounded(|| {
        let ca = Authority::new();
        let silence = Duration::from_millis(300);
        let server = ca.server().peer_timeout(silence).bind("127.0.0.1:0").unwrap();
        let at = server.local_addr();
        let handler = thread::spawn(move || {
            let Delivery::Request(request) = server.recv().unwrap() else { panic!("a request") };
            pass(4 * silence);
            server.reply(request.token, request.payload).unwrap();
            let _ = server.recv_timeout(LONG);
        });
        let client: Socket = ca.client().peer_timeout(silence).bind("127.0.0.1:0").unwrap();
        let peer = client.peer(at, "localhost").unwrap();
        let back = client.call_with(&peer, b"take your time", patient()).unwrap();
        assert_eq!(&*back, b"take your time");
        client.send_one_way(&peer, b"thanks").unwrap();
        handler.join().unwrap();
    });
}
