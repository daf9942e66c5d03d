//! Whatever strangers send, and whatever they alter or repeat of what others sent, is dropped and counted by its reason: no
//! session, no RPC, no second execution comes of it, and calls go on.
#![cfg(feature = "aws-lc")]
#![allow(clippy::disallowed_types, reason = "the attacker has a socket of its own")]

mod common;

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::tap::Tap;
use common::{Authority, Dice, bounded, number_of, numbered, patient, pattern, seed, until};
use sealane::{Counters, Delivery, Info, Peer, Socket};

const DATA: u8 = 1;
const CONTROL: u8 = 2;
const HANDSHAKE: u8 = 3;
/// A byte beyond the headers of a DATA packet and its record: sealed.
const SEALED_AT: usize = 20 + 13 + 3;

/// What kind of packet it is.
fn kind(packet: &[u8]) -> u8 {
    packet[0] & 0xf
}

/// A server that notes how often it executed what, and a client of it whose packets are recorded.
struct Scene {
    server: Arc<Socket>,
    client: Socket,
    peer: Peer,
    tap: Tap,
    server_tap: Tap,
    executed: Arc<Mutex<HashMap<u64, u32>>>,
    attacker: UdpSocket,
}

impl Scene {
    fn new() -> Self {
        let ca = Authority::new();
        let (tap, server_tap) = (Tap::new(), Tap::new());
        let server = ca.server().handshake_timeout(Duration::from_secs(2));
        let server = Arc::new(server.danger_wrap(server_tap.wrap()).bind("127.0.0.1:0").unwrap());
        let executed = Arc::new(Mutex::new(HashMap::new()));
        let (serving, ran) = (Arc::clone(&server), Arc::clone(&executed));
        thread::spawn(move || {
            while let Ok(delivery) = serving.recv() {
                let Delivery::Request(request) = delivery else { panic!("requests only") };
                *ran.lock().unwrap().entry(number_of(&request.payload)).or_insert(0) += 1;
                let _ = serving.reply(request.token, request.payload);
            }
        });
        let client = ca.client().danger_wrap(tap.wrap()).bind("127.0.0.1:0").unwrap();
        let peer = client.peer(server.local_addr(), "localhost").unwrap();
        let attacker = UdpSocket::bind("127.0.0.1:0").unwrap();
        Self { server, client, peer, tap, server_tap, executed, attacker }
    }

    fn call(&self, number: u64, len: usize) {
        let sent = numbered(number, len);
        assert!(*self.client.call_with(&self.peer, &sent, patient()).unwrap() == *sent);
    }

    /// Waits until nothing of the protocol is under way any more.
    fn settle(&self) {
        let open = |socket: &Socket| socket.info().rpcs.len();
        until("all is acknowledged", || open(&self.server) + open(&self.client) == 0);
        common::pass(Duration::from_millis(20));
    }

    /// Sends all of `datagrams` to `victim` while nothing else happens; what it counted meanwhile.
    fn attack(&self, victim: &Socket, datagrams: &[Vec<u8>]) -> Change {
        self.settle();
        let before = victim.info();
        for batch in datagrams.chunks(64) {
            let expected = victim.info().counters.datagrams_received + batch.len() as u64;
            for datagram in batch {
                self.attacker.send_to(datagram, victim.local_addr()).unwrap();
            }
            until("it was received", || victim.info().counters.datagrams_received >= expected);
        }
        Change { before, after: victim.info() }
    }

    fn close(self) {
        self.client.close().unwrap();
        self.server.close().unwrap();
    }
}

/// What an attack changed.
struct Change {
    before: Info,
    after: Info,
}

impl Change {
    fn by(&self, counter: impl Fn(&Counters) -> u64) -> u64 {
        counter(&self.after.counters) - counter(&self.before.counters)
    }

    /// Every datagram was dropped for a counted reason, and nothing came of any. One that claims several records may be
    /// counted for each.
    fn is_nothing_but(&self, datagrams: usize) {
        let (dropped, datagrams) = (self.by(Counters::dropped), datagrams as u64);
        assert!((datagrams..datagrams + datagrams / 20).contains(&dropped), "{dropped}: {}", self.after);
        assert_eq!(self.by(|c| c.messages_delivered), 0, "{}", self.after);
        assert_eq!(self.by(|c| c.records_opened), 0, "{}", self.after);
        assert_eq!(self.by(|c| c.controls_opened), 0, "{}", self.after);
        assert_eq!(self.by(|c| c.handshakes_completed), 0, "{}", self.after);
        self.no_state();
    }

    fn no_state(&self) {
        let sessions = |info: &Info| info.sessions.iter().map(|s| s.id).collect::<Vec<_>>();
        assert_eq!(sessions(&self.before), sessions(&self.after));
        assert!(self.after.rpcs.is_empty(), "{}", self.after);
        assert_eq!(self.after.held_bytes, 0);
    }
}

/// What was sent, what it is, and which counter it must raise.
type Case = (&'static str, Vec<u8>, fn(&Counters) -> u64);

fn with_byte(packet: &[u8], at: usize, change: impl Fn(u8) -> u8) -> Vec<u8> {
    let mut altered = packet.to_vec();
    altered[at] = change(altered[at]);
    altered
}

/// Each way for a datagram to be wrong has its own counter, and that one is raised. Among them are what this version does not
/// have: packet types to come [P-10.1], slices that no message waits for [P-4.6],
/// RESET [P-5.5], other epochs [P-6.5].
#[test]
fn every_reason_is_counted() {
    bounded(|| {
        let scene = Scene::new();
        (0..50).for_each(|n| scene.call(n, 100));
        scene.settle();
        let sent = scene.tap.take_sent();
        let data = sent.iter().rfind(|p| kind(p) == DATA).expect("requests were sent").clone();
        let control = sent.iter().rfind(|p| kind(p) == CONTROL).expect("acks were sent").clone();
        let longer = [&data[..], b"!"].concat();
        // The first of a record of 16 KB, and one of a record of no bytes. [P-4.6]
        let mut slice = with_byte(&data, 20, |_| 0x18);
        slice[33..37].copy_from_slice(&[0, 0, 0x40, 0]);
        let mut no_slice = slice.clone();
        no_slice[35..37].fill(0);
        let reset = [&with_byte(&data[..16], 0, |b| b & 0xf0 | 4)[..], &[7; 16]].concat();
        let reset = with_byte(&with_byte(&reset, 6, |_| 0), 7, |_| 0);
        let cases: [Case; 22] = [
            ("one byte", data[..1].to_vec(), |c| c.dropped_truncated),
            ("half a header", data[..10].to_vec(), |c| c.dropped_truncated),
            ("a header only", data[..20].to_vec(), |c| c.dropped_truncated),
            ("no whole record", data[..data.len() - 1].to_vec(), |c| c.dropped_truncated),
            ("control header only", control[..24].to_vec(), |c| c.dropped_truncated),
            ("longer than it says", longer, |c| c.dropped_oversized),
            ("version 0", with_byte(&data, 0, |b| b & 0xf), |c| c.dropped_wrong_version),
            ("version 2", with_byte(&data, 0, |b| b & 0xf | 0x20), |c| c.dropped_wrong_version),
            ("type 0", with_byte(&data, 0, |b| b & 0xf0), |c| c.dropped_unknown_type),
            ("type 15", with_byte(&data, 0, |b| b | 0xf), |c| c.dropped_unknown_type),
            ("type 6", with_byte(&data, 0, |b| b & 0xf0 | 6), |c| c.dropped_unknown_type),
            ("a reset", reset, |c| c.dropped_reset),
            ("another attempt", with_byte(&data, 30, |b| b ^ 1), |c| c.dropped_bad_tag),
            ("a slice of nothing", slice, |c| c.dropped_slice),
            ("no slice", no_slice, |c| c.dropped_malformed),
            ("a flag", with_byte(&data, 1, |b| b | 1), |c| c.dropped_malformed),
            ("priority 8", with_byte(&data, 3, |b| b | 8), |c| c.dropped_malformed),
            ("another session", with_byte(&data, 8, |b| !b), |c| c.dropped_unknown_session),
            ("another epoch", with_byte(&data, 2, |b| b + 1), |c| c.dropped_wrong_epoch),
            ("sealed byte", with_byte(&data, SEALED_AT, |b| !b), |c| c.dropped_bad_tag),
            ("the same request again", data.clone(), |c| c.dropped_duplicate),
            ("the same acks again", control.clone(), |c| c.dropped_replayed_control),
        ];
        for (what, datagram, counter) in cases {
            let change = scene.attack(&scene.server, &[datagram]);
            assert_eq!(change.by(counter), 1, "{what}: {}", change.after);
            change.is_nothing_wrong_with(what);
        }
        let fresh = with_byte(&control, 16, |b| b ^ 0x40);
        let change = scene.attack(&scene.server, &[fresh]);
        assert_eq!(change.by(|c| c.dropped_bad_tag), 1, "a control packet under a new number");
        // Back to the client: a response that it has already, and control packets that it saw.
        let sent = scene.server_tap.take_sent();
        let response = sent.iter().rfind(|p| kind(p) == DATA).expect("responses were sent").clone();
        let change = scene.attack(&scene.client, &[response]);
        assert_eq!(change.by(|c| c.dropped_unexpected), 1, "{}", change.after);
        change.no_state();
        scene.call(1000, 100_000);
        assert!(scene.executed.lock().unwrap().values().all(|times| *times == 1));
        scene.close();
    });
}

impl Change {
    /// Copies of genuine records open, and are then dropped: all else is nothing but a drop.
    fn is_nothing_wrong_with(&self, what: &str) {
        assert_eq!(self.by(Counters::dropped), 1, "{what}: {}", self.after);
        assert_eq!(self.by(|c| c.messages_delivered), 0, "{what}: {}", self.after);
        assert_eq!(self.by(|c| c.controls_opened), 0, "{what}: {}", self.after);
        self.no_state();
    }
}

/// Noise of all lengths, half of it with the beginning of a genuine packet: every datagram is counted as dropped, once.
#[test]
fn noise_is_dropped() {
    bounded(|| {
        let seed = seed();
        let scene = Scene::new();
        scene.call(1, 100);
        let session = scene.tap.take_sent().into_iter().rfind(|p| kind(p) == DATA).unwrap();
        let mut dice = Dice::new(seed);
        let noise: Vec<Vec<u8>> = (0..3_000)
            .map(|n| {
                let mut datagram = pattern(dice.roll(), 1 + dice.below(1_500));
                // The session's name and some of the header are no secret on the way.
                let known = dice.below(SEALED_AT.min(datagram.len()) + 1);
                if n % 2 == 0 {
                    datagram[..known].copy_from_slice(&session[..known]);
                }
                datagram
            })
            .collect();
        scene.attack(&scene.server, &noise).is_nothing_but(noise.len());
        scene.attack(&scene.client, &noise).is_nothing_but(noise.len());
        scene.call(2, 100_000);
        scene.close();
    });
}

/// [P-5.4] Every single bit of a genuine request and of a genuine control packet, flipped: dropped, each for a counted reason.
#[test]
fn every_flipped_bit_is_dropped() {
    bounded(|| {
        let scene = Scene::new();
        (0..50).for_each(|n| scene.call(n, 40));
        scene.settle();
        let sent = scene.tap.take_sent();
        for kind_of in [DATA, CONTROL] {
            let packet = sent.iter().rfind(|p| kind(p) == kind_of).unwrap();
            let flips: Vec<Vec<u8>> =
                (0..packet.len() * 8).map(|bit| with_byte(packet, bit / 8, |b| b ^ 1 << (bit % 8))).collect();
            let change = scene.attack(&scene.server, &flips);
            // A record that says it is shorter leaves a rest, which is refused on its own.
            let (dropped, most) = (change.by(Counters::dropped), flips.len() as u64);
            assert!((most..=most + 16).contains(&dropped), "{}", change.after);
            assert_eq!(change.by(|c| c.messages_delivered), 0);
            assert_eq!(change.by(|c| c.controls_opened), 0);
            change.no_state();
            // All but the few bits that only the network reads: priority, lengths.
            let clear = if kind_of == DATA { 3 + 32 + 16 } else { 0 };
            let copies = change.by(|c| c.dropped_duplicate);
            assert!(copies <= clear, "{copies} copies opened although they were altered");
        }
        scene.call(1000, 100_000);
        assert!(scene.executed.lock().unwrap().values().all(|times| *times == 1));
        scene.close();
    });
}

/// [P-5.4] [P-7.1] All that a client ever sent, again and from elsewhere: nothing runs twice, and no session comes of it. A first flight
/// cannot be told from that of a new client; what it begins ends by itself.
#[test]
fn replay_changes_nothing() {
    bounded(|| {
        let scene = Scene::new();
        (0..300).for_each(|n| scene.call(n, 8 + (n as usize * 397) % 30_000));
        scene.settle();
        let recorded = scene.tap.take_sent();
        assert!(recorded.iter().any(|p| kind(p) == HANDSHAKE), "the handshake was recorded");
        let (handshake, sealed): (Vec<_>, Vec<_>) = recorded.into_iter().partition(|p| kind(p) == HANDSHAKE);
        let change = scene.attack(&scene.server, &sealed);
        assert_eq!(change.by(Counters::dropped), sealed.len() as u64, "{}", change.after);
        assert_eq!(change.by(|c| c.messages_delivered), 0);
        assert_eq!(change.by(|c| c.controls_opened), 0);
        change.no_state();
        let change = scene.attack(&scene.server, &handshake);
        assert_eq!(change.by(|c| c.handshakes_completed), 0, "{}", change.after);
        let open = change.after.sessions.iter().filter(|session| session.open).count();
        assert_eq!(open, 1, "{}", change.after);
        assert!(change.after.sessions.len() <= 2, "{}", change.after);
        until("half-open handshakes end", || scene.server.info().sessions.len() == 1);
        scene.call(1000, 100_000);
        let executed = scene.executed.lock().unwrap();
        assert_eq!(executed.len(), 301);
        assert!(executed.values().all(|times| *times == 1), "a request ran twice");
        drop(executed);
        scene.close();
    });
}

/// Handshake packets, altered in any bit: no handshake comes of them and none is harmed.
#[test]
fn altered_handshakes_come_to_nothing() {
    bounded(|| {
        let seed = seed();
        let scene = Scene::new();
        scene.call(1, 100);
        let mut dice = Dice::new(seed);
        let handshake: Vec<_> = scene.tap.take_sent().into_iter().filter(|p| kind(p) == HANDSHAKE).collect();
        let flips: Vec<Vec<u8>> = (0..2_000)
            .map(|_| {
                let packet = &handshake[dice.below(handshake.len())];
                let bit = dice.below(packet.len() * 8);
                with_byte(packet, bit / 8, |b| b ^ 1 << (bit % 8))
            })
            .collect();
        let change = scene.attack(&scene.server, &flips);
        assert_eq!(change.by(|c| c.handshakes_completed), 0, "{}", change.after);
        assert_eq!(change.by(|c| c.messages_delivered), 0, "{}", change.after);
        change.no_state();
        scene.call(2, 100);
        scene.close();
    });
}

/// An attacker on the path is always first: before each genuine packet come copies of it, altered and not, from another
/// address, in both directions and from the first flight on. Every call still comes back whole and runs once: a copy is found to
/// be of its session wherever it comes from [P-2.2], and moves that nowhere [P-2.3].
#[test]
fn an_attacker_who_is_always_first() {
    bounded(|| {
        let seed = seed();
        let scene = Scene::new();
        for (tap, salt) in [(&scene.tap, 0), (&scene.server_tap, 1)] {
            let attacker = scene.attacker.try_clone().unwrap();
            let mut dice = Dice::new(seed + salt);
            tap.first(move |to: SocketAddr, packet: &[u8]| {
                for _ in 0..2 {
                    let bit = dice.below(packet.len() * 8);
                    let altered = with_byte(packet, bit / 8, |b| b ^ 1 << (bit % 8));
                    let _ = attacker.send_to(&altered, to);
                    let _ = attacker.send_to(&packet[..dice.below(packet.len())], to);
                }
                // First flights are left alone: a copy of one is a new client.
                if kind(packet) != HANDSHAKE {
                    let _ = attacker.send_to(packet, to);
                }
            });
        }
        thread::scope(|scope| {
            for t in 0..4 {
                let scene = &scene;
                scope.spawn(move || {
                    for n in 0..75 {
                        scene.call(t * 75 + n, 8 + (n as usize * 1_009) % 40_000);
                    }
                });
            }
        });
        let executed = scene.executed.lock().unwrap();
        assert_eq!(executed.len(), 300);
        assert!(executed.values().all(|times| *times == 1), "a request ran twice");
        drop(executed);
        let info = scene.server.info();
        assert_eq!(info.sessions.iter().filter(|session| session.open).count(), 1, "{info}");
        assert!(info.counters.dropped_bad_tag > 0 && info.counters.dropped_duplicate > 0, "{info}");
        scene.close();
    });
}

/// [P-9.1] [P-5.3] What others read on the way: between sockets of one shard `steer` is 0; control packets count up from 0, and no
/// number comes twice.
#[test]
fn clear_fields_say_what_they_must() {
    bounded(|| {
        let scene = Scene::new();
        (0..100).for_each(|n| scene.call(n, 1_000 + (n as usize * 1_999) % 50_000));
        scene.settle();
        for tap in [&scene.tap, &scene.server_tap] {
            let sent = tap.take_sent();
            let mut numbers = Vec::new();
            for packet in &sent {
                let steer = u16::from_be_bytes([packet[4], packet[5]]);
                let number = |at: usize| u64::from_be_bytes(packet[at..at + 8].try_into().expect("eight bytes"));
                match kind(packet) {
                    DATA => assert_eq!(steer, 0),
                    CONTROL => {
                        assert_eq!(steer, 0);
                        numbers.push(number(16));
                    }
                    _ => {}
                }
            }
            assert!(!numbers.is_empty());
            assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{numbers:?}");
        }
        scene.close();
    });
}

/// Calls go on while a flood of noise and copies comes in.
#[test]
fn calls_go_on_under_a_flood() {
    bounded(|| {
        let seed = seed();
        let scene = Scene::new();
        scene.call(0, 1_000);
        let recorded = scene.tap.take_sent();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let ordering = std::sync::atomic::Ordering::Relaxed;
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut dice = Dice::new(seed);
                while !stop.load(ordering) {
                    let noise = pattern(dice.roll(), 1 + dice.below(1_500));
                    let copy = &recorded[dice.below(recorded.len())];
                    for victim in [&*scene.server, &scene.client] {
                        let _ = scene.attacker.send_to(&noise, victim.local_addr());
                        let _ = scene.attacker.send_to(copy, victim.local_addr());
                    }
                    thread::yield_now();
                }
            });
            (1..300).for_each(|n| scene.call(n, 8 + (n as usize * 641) % 20_000));
            stop.store(true, ordering);
        });
        let executed = scene.executed.lock().unwrap();
        assert_eq!(executed.len(), 300);
        assert!(executed.values().all(|times| *times == 1), "a request ran twice");
        drop(executed);
        assert!(scene.server.info().counters.dropped() > 0);
        scene.close();
    });
}
