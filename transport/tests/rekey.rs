//! Keys change every 1,000 records over real sockets, in both directions at once, under many threads: nothing is lost, nothing
//! comes twice, nobody notices.
#![cfg(feature = "aws-lc")]

mod common;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::{Authority, number_of, numbered};
use sealane::fault::Faults;
use sealane::{Clients, Delivery, Peer, Socket};

const THREADS: u64 = 4;
const CALLS: u64 = 1500;

/// What came to one socket, by its number, and how often.
type Ran = Mutex<HashMap<u64, u32>>;

/// Answers until it is told to stop. The first request tells who asks.
fn serve(socket: &Socket, ran: &Ran, asker: &Mutex<Option<Peer>>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_timeout(Duration::from_millis(20)) {
            Ok(Some(Delivery::Request(request))) => {
                asker.lock().unwrap().get_or_insert_with(|| request.peer.peer());
                *ran.lock().unwrap().entry(number_of(&request.payload)).or_default() += 1;
                socket.reply(request.token, request.payload).unwrap();
            }
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Calls of one thread, the longer ones in between, each answered with its own bytes.
fn call(socket: &Socket, peer: &Peer, thread: u64, answered: &AtomicU64) {
    for n in 0..CALLS {
        let number = thread << 32 | n;
        let len = if n % 50 == 0 { 30_000 } else { 8 + (n as usize * 7) % 200 };
        let reply = socket.call(peer, numbered(number, len)).unwrap();
        assert_eq!(number_of(&reply), number);
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

fn run(faults: Option<Faults>) {
    let ca = Authority::new();
    let rough = |builder| match &faults {
        Some(faults) => common::with_faults(builder, faults.clone()),
        None => builder,
    };
    let a = rough(ca.server().rekey_after_records(1000)).bind("127.0.0.1:0").unwrap();
    let client = ca.client().serve(Clients::Authenticated).rekey_after_records(1000);
    let b = rough(client).bind("127.0.0.1:0").unwrap();
    let to_a = b.peer(a.local_addr(), "localhost").unwrap();
    let (ran_a, ran_b) = (Ran::default(), Ran::default());
    let (b_as_seen, nobody) = (Mutex::new(None), Mutex::new(None));
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| serve(&a, &ran_a, &b_as_seen, &stop));
        scope.spawn(|| serve(&b, &ran_b, &nobody, &stop));
        b.call(&to_a, numbered(u64::MAX, 8)).unwrap();
        let to_b = b_as_seen.lock().unwrap().expect("it asked");
        thread::scope(|scope| {
            for t in 0..THREADS {
                let (a, b, to_a, to_b, answered) = (&a, &b, &to_a, &to_b, &answered);
                scope.spawn(move || call(b, to_a, t, answered));
                scope.spawn(move || call(a, to_b, t, answered));
            }
        });
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(answered.into_inner(), 2 * THREADS * CALLS);
    for (ran, extra) in [(ran_a, 1), (ran_b, 0)] {
        let ran = ran.into_inner().unwrap();
        assert_eq!(ran.len() as u64, THREADS * CALLS + extra);
        assert!(ran.values().all(|times| *times == 1), "each ran once");
    }
    for socket in [&a, &b] {
        let info = socket.info();
        // Requests and responses, some of them in one record with others.
        let (records, messages) = (info.counters.records_sealed, info.counters.messages_bundled);
        assert!(
            records + messages >= 2 * THREADS * CALLS && info.counters.epochs_begun >= records / 1000 - 2,
            "{info}"
        );
        assert_eq!((info.counters.messages_held, info.counters.handshakes_completed), (0, 1), "{info}");
        assert_eq!(info.sessions.len(), 1, "{info}");
    }
}

/// [P-6.5] On a quiet network.
#[test]
fn every_thousand_records() {
    run(None);
}

/// [P-6.5] Where packets are lost, doubled and overtake each other.
#[test]
fn every_thousand_records_on_a_hostile_network() {
    run(Some(common::hostile(7)));
}
