//! What someone on the path, beside it, or at a false address can do: nothing but make an attempt fail.
#![cfg(feature = "tls")]

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use common::pki::{Ca, client_config, server_config, usual, world};
use common::{CLIENT, CRYPTO, ONE_WAY, SERVER, World, forge, packet};
use handshake::contract::Reason;
use handshake::error::{Alert, Error, Stage};
use handshake::identity::Identity;
use handshake::limits::HINT_WAIT;
use handshake::server::refuse;
use proptest::prelude::*;
use proto::time::Instant;
use wire::bytes::Writer;
use wire::handshake::{FLAG_CLIENT, HANDSHAKE_OVERHEAD, HandshakeFields, HandshakePacket, Level, Method};
use wire::ids::{SessionId, Side};

/// Where the fields stand in a packet.
const FLAGS: usize = 1;
const RECEIVER: usize = 8;
const SENDER: usize = 16;
const METHOD: usize = 24;
const OFFSET: usize = 38;
const ACK_INITIAL: usize = 42;

type Log = Rc<RefCell<Vec<(Side, Vec<u8>)>>>;

/// A world whose datagrams are written down.
fn logged(mut world: World) -> (World, Log) {
    let log = Log::default();
    let tap = log.clone();
    world.tap = Box::new(move |side, bytes| tap.borrow_mut().push((side, bytes.clone())));
    (world, log)
}

/// Runs until the server's flight is out, and keeps it from the client.
fn held(mut world: World) -> (World, Vec<u8>, Vec<u8>) {
    let flight = Rc::new(RefCell::new(Vec::new()));
    let tap = flight.clone();
    world.tap = Box::new(move |side, bytes| {
        if side == Side::Server && tap.borrow().len() < 2 {
            tap.borrow_mut().push(std::mem::take(bytes));
        }
    });
    while flight.borrow().len() < 2 {
        world.step();
    }
    let flight = flight.borrow().clone();
    let [hello, sealed] = flight.try_into().unwrap();
    assert_eq!((packet(&hello).fields.level, packet(&sealed).fields.level), (Level::Initial, Level::Sealed));
    (world, hello, sealed)
}

fn sent_by(log: &Log, side: Side, n: usize) -> Vec<u8> {
    log.borrow().iter().filter(|(s, _)| *s == side).nth(n).unwrap().1.clone()
}

/// [P-6.4] To an address that never answers, at most three times what came from it is sent, however long the server's
/// chain and however often it repeats itself.
#[test]
fn amplification() {
    let ca = Ca::new();
    let (certificate, key) = ca.pair(&["localhost"], |_| ());
    let chain = Identity::pem("chain", certificate.repeat(20).as_bytes(), key.as_bytes()).unwrap();
    for (fragments, silent) in [(1, true), (2, true), (5, true), (2, false)] {
        let mut world = world(&client_config(&ca, None), "localhost", &server_config(&chain, None), 1232);
        let mut n = 0;
        world.tap = Box::new(move |side, bytes| {
            n += usize::from(side == Side::Client);
            // The true owner of the address sends nothing; nothing sent to it reaches the client either.
            if silent && (side == Side::Server || n > fragments) {
                bytes.clear();
            }
        });
        world.run_out();
        let received: usize = world.sent[0].iter().take(fragments).sum();
        let sent: usize = world.sent[1].iter().sum();
        if silent {
            assert!(sent <= 3 * received, "{sent} for {received}");
            assert!(sent > 0);
        } else {
            let all: usize = world.sent[0].iter().sum();
            assert!(sent > 3 * all, "once the address is proven there is no limit: {sent} for {all}");
            world.assert_agreed();
        }
    }
}

/// [P-6.2.3] A forged alert in clear text ends nothing while genuine packets come.
#[test]
fn forged_alert() {
    let (mut world, log) = logged(usual(true, 1452));
    world.step();
    let mut out = [0; 200];
    let first = sent_by(&log, Side::Client, 0);
    for alert in [Alert::INTERNAL_ERROR, Alert::BAD_CERTIFICATE, Alert::CERTIFICATE_REQUIRED] {
        let len = refuse(&CRYPTO, &packet(&first), alert, &mut out).unwrap();
        world.inject(Side::Client, out[..len].to_vec());
        // To the server, as if from the client.
        forge(&mut out[..len], |p| {
            p[FLAGS] |= FLAG_CLIENT;
            p[RECEIVER..RECEIVER + 8].copy_from_slice(&SERVER.as_u64().to_be_bytes());
        });
        world.inject(Side::Server, out[..len].to_vec());
    }
    world.run();
    world.assert_agreed();
    assert!(world.dropped.iter().filter(|&&r| r == Reason::Hint).count() >= 4, "{:?}", world.dropped);
}

/// [P-6.2.3] When nothing genuine comes, the alert is what the caller is told, with the doubt.
#[test]
fn unanswered_alert() {
    let (mut world, log) = logged(usual(false, 1452));
    world.step();
    let first = sent_by(&log, Side::Client, 0);
    world.tap = Box::new(|_, bytes| bytes.clear());
    world.server = None;
    let mut out = [0; 200];
    let len = refuse(&CRYPTO, &packet(&first), Alert::ACCESS_DENIED, &mut out).unwrap();
    world.inject(Side::Client, out[..len].to_vec());
    let at = world.now + ONE_WAY + HINT_WAIT;
    world.run_out();
    assert_eq!(world.at_client.error, Some(Error::Refused { alert: Alert::ACCESS_DENIED, proven: false }));
    assert_eq!(world.at_client.error_at, Some(at));
}

/// [P-6.2] A sealed fragment that was altered is dropped, whichever bit it is; so is one that is sent back to its sender.
#[test]
fn altered_and_reflected() {
    let (world, log) = logged(usual(true, 1452));
    let mut probe = world;
    probe.step();
    let client_hello = sent_by(&log, Side::Client, 0);
    let (mut world, hello, sealed) = held(probe);
    world.inject(Side::Client, hello);
    let mut copies = 0;
    for bit in (0..sealed.len() * 8).step_by(37) {
        let mut copy = sealed.clone();
        copy[bit / 8] ^= 1 << (bit % 8);
        world.inject(Side::Client, copy);
        copies += 1;
    }
    let mut back = client_hello;
    forge(&mut back, |p| p[RECEIVER..RECEIVER + 8].copy_from_slice(&CLIENT.as_u64().to_be_bytes()));
    world.inject(Side::Client, back);
    world.run();
    world.assert_agreed();
    let count = |reason| world.dropped.iter().filter(|&&r| r == reason).count();
    assert!(count(Reason::Tag) > copies / 2, "{:?}", world.dropped);
    assert!(count(Reason::Direction) >= 1);
}

/// [P-6.2] Sealed packets that overtake the ServerHello are kept: nothing is sent twice.
#[test]
fn overtaken() {
    let (mut world, hello, sealed) = held(usual(false, 1452));
    let client = &mut world.client;
    let early = client.handle(world.now, &packet(&sealed), sealed.len());
    assert_eq!(early, Ok(handshake::contract::Progress::Taken));
    let done = client.handle(world.now, &packet(&hello), hello.len());
    assert_eq!(done, Ok(handshake::contract::Progress::Established));
}

/// [P-6.2] Once there are keys, nothing that anyone can append to the clear stream reaches TLS.
#[test]
fn appended_to_the_clear_stream() {
    let (mut world, hello, sealed) = held(usual(false, 1452));
    let end = packet(&hello).fragment.len() as u32;
    let mut extra = hello.clone();
    forge(&mut extra, |p| p[OFFSET..OFFSET + 4].copy_from_slice(&end.to_be_bytes()));
    for datagram in [&hello, &extra, &sealed] {
        assert!(world.client.handle(world.now, &packet(datagram), datagram.len()).is_ok());
    }
    assert!(world.client.established().is_some());
}

/// [P-6.2] Packets of other handshakes and methods change nothing.
#[test]
fn of_others() {
    let (mut world, hello, _) = held(usual(false, 1452));
    assert_eq!(world.client.handle(world.now, &packet(&hello), hello.len()), Ok(handshake::contract::Progress::Taken));
    let give = |world: &mut World, change: &dyn Fn(&mut [u8])| {
        let mut copy = hello.clone();
        forge(&mut copy, |p| change(p));
        world.client.handle(world.now, &packet(&copy), copy.len())
    };
    use handshake::contract::Progress::Dropped;
    assert_eq!(give(&mut world, &|p| p[RECEIVER] ^= 1), Ok(Dropped(Reason::Session)));
    assert_eq!(give(&mut world, &|p| p[METHOD] = 2), Ok(Dropped(Reason::Method)));
    assert_eq!(give(&mut world, &|p| p[OFFSET] = 0x70), Ok(Dropped(Reason::Beyond)));
    // By now the client knows its server.
    assert_eq!(give(&mut world, &|p| p[SENDER] ^= 1), Ok(Dropped(Reason::Session)));
    world.run();
    world.assert_agreed();
}

/// [P-6.2] A forged acknowledgement costs time only: it is not believed for ever.
#[test]
fn forged_acknowledgement() {
    let (mut world, log) = logged(usual(false, 1232));
    let mut n = 0;
    let tap = log.clone();
    world.tap = Box::new(move |side, bytes| {
        tap.borrow_mut().push((side, bytes.clone()));
        n += usize::from(side == Side::Client);
        // The second fragment of the ClientHello is lost.
        if side == Side::Client && n == 2 {
            bytes.clear();
        }
    });
    while world.sent[1].is_empty() {
        world.step();
    }
    let mut ack = sent_by(&log, Side::Server, 0);
    let hello_len: u32 = (0..2).map(|i| packet(&sent_by(&log, Side::Client, i)).fragment.len() as u32).sum();
    forge(&mut ack, |p| p[ACK_INITIAL..ACK_INITIAL + 4].copy_from_slice(&hello_len.to_be_bytes()));
    world.inject(Side::Client, ack);
    world.run();
    world.assert_agreed();
}

/// [P-6.2] The same for the server's flight: what is acknowledged of its sealed part counts only under seal.
#[test]
fn forged_acknowledgement_of_the_server() {
    let (mut world, hello, sealed) = held(usual(false, 1452));
    let acks = [packet(&hello).fragment.len() as u32, packet(&sealed).fragment.len() as u32];
    world.inject(Side::Server, crafted(Side::Client, Level::Initial, 0, &[], acks, true));
    world.run();
    world.assert_agreed();
}

/// [P-6.3] Whoever alters the ClientHello, transport parameters included, gets no session: the transcript tells.
#[test]
fn parameters_are_authenticated() {
    let token = CLIENT.as_u64().to_be_bytes().repeat(2);
    let mut world = usual(false, 9000);
    let (mut changed, tap_token) = (0, token.clone());
    let seen = Rc::new(RefCell::new(0));
    let counter = seen.clone();
    world.tap = Box::new(move |side, bytes| {
        let at = bytes.windows(16).position(|w| w == tap_token);
        if let (Side::Client, Some(at)) = (side, at) {
            forge(bytes, |p| p[at] ^= 1);
            changed += 1;
            *counter.borrow_mut() = changed;
        }
    });
    world.run_out();
    assert!(*seen.borrow() > 0, "the parameters stand in the ClientHello");
    assert!(world.at_client.established.is_none() && world.at_server.established.is_none());
    assert_eq!(world.at_client.error, Some(Error::TimedOut { stage: Stage::Underway }));
}

/// A packet with a good public check and any content.
fn crafted(from: Side, level: Level, offset: u32, fragment: &[u8], acks: [u32; 2], known: bool) -> Vec<u8> {
    let (sender, receiver, flags) = match from {
        Side::Client => (CLIENT, if known { SERVER } else { SessionId::NONE }, FLAG_CLIENT),
        Side::Server => (SERVER, CLIENT, 0),
    };
    let fields = HandshakeFields { sender, method: Method::Tls, level, number: 99, echo: 1, echo_age: 7, offset, acks };
    let mut bytes = vec![0; HANDSHAKE_OVERHEAD + fragment.len()];
    let mut w = Writer::new(&mut bytes);
    HandshakePacket::emit(&HandshakePacket::header(flags, receiver, CLIENT), &fields, b"", fragment.len(), &mut w);
    w.put(fragment);
    forge(&mut bytes, |_| ());
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever packets are made up and whenever they come: no panic, an end on both sides, and never two ends that
    /// believe different things.
    #[test]
    fn any_packets(packets in proptest::collection::vec(
        (any::<bool>(), any::<bool>(), prop_oneof![0u32..3000, any::<u32>()],
         proptest::collection::vec(any::<u8>(), 0..100), any::<[u32; 2]>(), any::<bool>(), 0usize..8), 0..12))
    {
        let mut world = usual(true, 1232);
        let mut step = 0;
        for (client, sealed, offset, fragment, acks, known, when) in packets {
            while step < when && world.step() {
                step += 1;
            }
            let from = if client { Side::Client } else { Side::Server };
            let level = if sealed { Level::Sealed } else { Level::Initial };
            let offset = offset.min(u32::MAX - 100);
            world.inject(from.peer(), crafted(from, level, offset, &fragment, acks, known));
        }
        world.run();
        if world.at_client.error.is_none() && world.at_server.error.is_none() {
            world.assert_agreed();
        }
        world.run_out();
    }

    /// Genuine packets with bytes changed, with and without a public check that holds again.
    #[test]
    fn altered_packets(changes in proptest::collection::vec((0usize..12, any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6)) {
        let mut world = usual(true, 1232);
        let mut n = 0;
        world.tap = Box::new(move |_, bytes| {
            for (at, index, value, check) in &changes {
                if *at == n && bytes.len() > 60 {
                    let at = index.index(bytes.len());
                    let mut copy = bytes.clone();
                    copy[at] = *value;
                    let parses = matches!(wire::packet::Packet::parse(&copy), Ok(wire::packet::Packet::Handshake(_)));
                    *bytes = copy;
                    if *check && parses && packet(bytes).fields.level == Level::Initial {
                        forge(bytes, |_| ());
                    }
                }
            }
            n += 1;
        });
        world.run();
        if world.at_client.error.is_none() && world.at_server.error.is_none() {
            world.assert_agreed();
        }
    }
}

/// A flood of fragments at the edge of what is kept: bounded, counted, and no obstacle.
#[test]
fn flood() {
    let mut world = usual(false, 1232);
    let mut n = 0;
    world.tap = Box::new(move |_, bytes| {
        n += 1;
        // The second fragment of the ClientHello is lost.
        if n == 2 {
            bytes.clear();
        }
    });
    world.step();
    assert_eq!(world.now, Instant::ZERO + ONE_WAY);
    for i in 0..2000u32 {
        world.inject(Side::Server, crafted(Side::Client, Level::Initial, 4000 + i * 37, &[1], [0; 2], false));
    }
    world.run();
    world.assert_agreed();
    assert!(world.dropped.iter().filter(|&&r| r == Reason::Beyond).count() > 1000);
}
