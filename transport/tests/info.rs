//! What a socket says about itself is true while things are under way, not only afterwards.
#![cfg(feature = "aws-lc")]
#![expect(clippy::disallowed_types, reason = "an address where nobody answers")]

mod common;

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::{Authority, LONG, bounded, echo, hostile, patient, pattern, seed, until, with_faults};
use proto::io::State;
use sealane::{CallOptions, Caps, Cipher, Counters, Datagrams, Delivery, Received, SendError, Step, Transmit};

/// A long request to a server that looks after its socket only when the test says so: what was sent is what is allowed without
/// grants, and the rest waits; on both sides the numbers fit each other.
#[test]
fn a_transfer_that_stands_still() {
    bounded(|| {
        const LENGTH: usize = 8 << 20;
        let ca = Authority::new();
        let server = ca.server().danger_helper_thread(false).bind("127.0.0.1:0").unwrap();
        let client = ca.client().bind("127.0.0.1:0").unwrap();
        let peer = client.peer(server.local_addr(), "localhost").unwrap();
        thread::scope(|scope| {
            let told = scope.spawn(|| client.tell(&peer, b"hello"));
            assert!(matches!(server.recv_timeout(LONG).unwrap(), Some(Delivery::OneWay(_))));
            while !told.is_finished() {
                let _ = server.try_recv();
            }
        });
        // Nobody looks after the server from here on.
        let id = client.send(&peer, pattern(1, LENGTH), 9).unwrap();
        until("what needs no grant was sent", || {
            let info = client.info();
            let rpc = info.rpcs[0].rpc;
            rpc.out_sent == rpc.out_granted
        });
        let info = client.info();
        assert_eq!(info.rpcs.len(), 1);
        let (call, rpc) = (&info.rpcs[0], info.rpcs[0].rpc);
        assert_eq!(call.address, server.local_addr());
        assert_eq!(rpc.state, State::Requesting);
        assert_eq!(rpc.out_length as usize, LENGTH);
        assert!(rpc.out_granted > 0 && (rpc.out_granted as usize) < LENGTH, "{info}");
        assert_eq!((rpc.in_length, rpc.in_received, rpc.in_granted), (0, 0, 0));
        assert_eq!(info.held_bytes, LENGTH as u64);
        let text = info.to_string();
        let line = format!("out {}/{}/{LENGTH} (sent/granted/length)", rpc.out_sent, rpc.out_granted);
        assert!(text.contains(&line) && text.contains("Requesting"), "{text}");
        assert!(text.contains(&format!("{LENGTH} bytes held")), "{text}");
        let unscheduled = rpc.out_granted;
        // The server looks once or twice: something arrived, and more is granted.
        until("something arrived", || {
            let _ = server.try_recv().unwrap();
            server.info().rpcs.iter().any(|call| call.rpc.in_received > 0)
        });
        let at_server = server.info();
        let coming = at_server.rpcs[0].rpc;
        assert_eq!((at_server.rpcs[0].address, coming.rpc), (client.local_addr(), rpc.rpc));
        assert_eq!((coming.state, coming.in_length as usize), (State::Receiving, LENGTH));
        assert!(coming.in_received as usize <= LENGTH && coming.in_received <= coming.in_granted, "{at_server}");
        assert_eq!((coming.out_length, coming.out_sent), (0, 0));
        assert!(at_server.to_string().contains("Receiving"), "{at_server}");
        until("grants come", || {
            let _ = server.try_recv().unwrap();
            client.info().rpcs[0].rpc.out_granted > unscheduled
        });
        let moved = client.info().rpcs[0].rpc;
        assert!(moved.out_sent <= moved.out_granted && moved.out_granted as usize <= LENGTH);
        // And now all of it.
        let request = loop {
            if let Some(Delivery::Request(request)) = server.try_recv().unwrap() {
                break request;
            }
        };
        let serving = server.info().rpcs[0].rpc;
        assert_eq!((serving.state, serving.in_received as usize), (State::InService, LENGTH));
        assert_eq!(server.info().counters.messages_delivered, 2);
        server.reply(request.token, pattern(2, 500)).unwrap();
        thread::scope(|scope| {
            let response = scope.spawn(|| client.wait(id));
            until("all is acknowledged", || {
                let _ = server.try_recv().unwrap();
                response.is_finished() && server.info().rpcs.is_empty() && client.info().rpcs.is_empty()
            });
            assert!(*response.join().unwrap().unwrap() == *pattern(2, 500));
        });
        assert_eq!((client.info().held_bytes, server.info().held_bytes), (0, 0));
    });
}

/// What was counted adds up.
#[test]
fn counters_add_up() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server().bind("127.0.0.1:0").unwrap();
        let client = ca.client().bind("127.0.0.1:0").unwrap();
        let peer = client.peer(server.local_addr(), "localhost").unwrap();
        assert_eq!(client.info().counters, Counters::default());
        thread::scope(|scope| {
            let handler = scope.spawn(|| {
                for _ in 0..100 {
                    let Delivery::Request(request) = server.recv().unwrap() else { panic!("a request") };
                    server.reply(request.token, request.payload).unwrap();
                }
            });
            for n in 0..100 {
                client.call_with(&peer, pattern(n, 100), patient()).unwrap();
            }
            handler.join().unwrap();
        });
        until("all is acknowledged", || server.info().rpcs.is_empty() && client.info().rpcs.is_empty());
        for info in [client.info(), server.info()] {
            let c = &info.counters;
            assert_eq!((c.messages_delivered, c.handshakes_completed, c.handshakes_failed), (100, 1, 0), "{info}");
            assert!(c.records_sealed >= 100 && c.records_opened >= 100, "{info}");
            assert!(c.packets_sent >= c.records_sealed + c.controls_sealed, "{info}");
            assert!(c.datagrams_received >= c.records_opened + c.controls_opened, "{info}");
            let unverified = c.dropped_bad_tag + c.dropped_truncated + c.dropped_malformed + c.dropped_nonsense;
            assert_eq!(unverified, 0, "{info}");
            // Every counter that is not zero is shown with its name.
            let text = info.to_string();
            for (name, value) in c.iter() {
                assert_eq!(text.contains(&format!("{name} {value}\n")), value > 0, "{name}: {text}");
            }
        }
        let (mine, theirs) = (client.info().counters, server.info().counters);
        assert!(theirs.records_opened <= mine.records_sealed && mine.records_opened <= theirs.records_sealed);
    });
}

/// Records that are sealed again because they got lost are counted as such.
#[test]
fn repeats_are_counted() {
    bounded(|| {
        let seed = seed();
        let ca = Authority::new();
        let server = ca.server().mtu(1500).bind("127.0.0.1:0").unwrap();
        let at = server.local_addr();
        let server = echo(server);
        let client = with_faults(ca.client().mtu(1500), hostile(seed)).bind("127.0.0.1:0").unwrap();
        let peer = client.peer(at, "localhost").unwrap();
        client.call_with(&peer, pattern(seed, 4 << 20), patient()).unwrap();
        let counters = client.info().counters;
        assert!(counters.records_repeated > 0, "{}", client.info());
        assert!(counters.records_repeated < counters.records_sealed);
        drop(server);
    });
}

/// Sessions: who, how, since when they can be used.
#[test]
fn sessions_are_shown() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server().cipher(Cipher::ChaCha20Poly1305).mtu(1500).bind("127.0.0.1:0").unwrap();
        let at = server.local_addr();
        let hole = ca.client().danger_helper_thread(false).bind("127.0.0.1:0").unwrap();
        let client = ca.client().handshake_timeout(Duration::from_secs(5)).bind("127.0.0.1:0").unwrap();
        client.connect(&client.peer(at, "localhost").unwrap()).unwrap();
        client.send(&client.peer(hole.local_addr(), "nobody").unwrap(), b"?", 0).unwrap();
        let info = client.info();
        assert_eq!(info.local_addr, client.local_addr());
        let find = |address| info.sessions.iter().find(|s| s.origin.address == address).expect("it is shown");
        let session = find(at);
        assert!(session.open && session.mutual);
        assert_eq!(session.cipher, Cipher::ChaCha20Poly1305);
        assert_eq!(session.datagram_max, 1_472, "what the server said it takes");
        assert!(session.rtt.is_some());
        let identity = session.origin.identity.to_string();
        assert!(identity.contains("localhost"), "{identity}");
        assert!(!find(hole.local_addr()).open);
        assert_eq!(info.held_bytes, 1, "what waits for the handshake");
        let text = info.to_string();
        assert!(text.contains(&at.to_string()) && text.contains("handshake") && text.contains("open"), "{text}");
        assert!(text.contains(&session.cipher.to_string()) && text.contains(info.engine), "{text}");
    });
}

/// Calls that end before there is a session are in the time trace as well: one that was too late, and one whose handshake was refused.
#[test]
fn a_call_that_never_left_is_traced_to_its_end() {
    bounded(|| {
        let (ca, other) = (Authority::new(), Authority::named("other"));
        let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = other.server().bind("127.0.0.1:0").unwrap();
        for at in [nobody.local_addr().unwrap(), server.local_addr()] {
            let client = ca.client().time_trace(Duration::from_nanos(1), 64).bind("127.0.0.1:0").unwrap();
            let peer = client.peer(at, "localhost").unwrap();
            let options =
                CallOptions::new().deadline(if at == server.local_addr() { LONG } else { Duration::from_millis(20) });
            client.call_with(&peer, b"hello", options).unwrap_err();
            let trace = client.time_trace().expect("it was slow");
            let steps: Vec<Step> = trace.marks.iter().map(|mark| mark.step).collect();
            assert!(matches!(steps[..], [Step::Submitted, .., Step::Failed]), "{trace}");
            assert!(trace.cause.is_some(), "{trace}");
        }
    });
}

/// Weighs what the kernel took, and has no room for the rest of every third train.
struct Weighed {
    inner: Box<dyn Datagrams>,
    bytes: Arc<AtomicU64>,
    trains: u64,
}

impl Datagrams for Weighed {
    fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr()
    }

    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    fn transmit(&mut self, train: &Transmit<'_>) -> Result<(), SendError> {
        self.trains += 1;
        let is_cut = self.trains.is_multiple_of(3) && train.bytes.len() > train.segment;
        let sent = if is_cut { train.segment } else { train.bytes.len() };
        self.inner.transmit(&Transmit { bytes: &train.bytes[..sent], ..*train })?;
        self.bytes.fetch_add(sent as u64, Ordering::SeqCst);
        if is_cut { Err(SendError::WouldBlock { sent }) } else { Ok(()) }
    }

    fn receive(&mut self, into: &mut [u8]) -> io::Result<Option<Received>> {
        self.inner.receive(into)
    }

    fn fds(&self) -> BorrowedFd<'_> {
        self.inner.fds()
    }

    fn next_due(&self) -> Option<Duration> {
        self.inner.next_due()
    }
}

/// Bytes sent are those that the kernel took, once each, also where it took a part of a train.
#[test]
fn bytes_sent_are_what_the_kernel_took() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server().bind("127.0.0.1:0").unwrap();
        let bytes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&bytes);
        let client = ca.client().danger_wrap(move |inner| Box::new(Weighed { inner, bytes: counted, trains: 0 }));
        let client = client.bind("127.0.0.1:0").unwrap();
        let peer = client.peer(server.local_addr(), "localhost").unwrap();
        let echoing = echo(server);
        for seed in 0..4 {
            let message = pattern(seed, 1 << 20);
            assert!(*client.call(&peer, &message).unwrap() == message);
        }
        assert!(bytes.load(Ordering::SeqCst) > 4 << 20);
        until("what was told is what was sent", || {
            client.info().sent_bytes.iter().sum::<u64>() == bytes.load(Ordering::SeqCst)
        });
        client.call(&peer, b"quit").unwrap();
        echoing.join().unwrap();
    });
}
