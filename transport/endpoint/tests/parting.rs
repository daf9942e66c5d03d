//! What of a handshake leaves with what somebody waits for, or behind it: a server's ticket, a client's last packet. [P-6.2] [P-6.8]
#![cfg(feature = "tls")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use endpoint::config::Config;
use endpoint::egress::Transmit;
use endpoint::endpoint::{Endpoint, Sending, To};
use endpoint::events::Event;
use endpoint::session::CallId;
use handshake::config::{ClientConfig, Clients, ServerConfig, Trust};
use handshake::identity::Identity;
use proto::time::Instant;
use record::aead::Cipher;
use wire::header::{Header, PacketType};
use wire::trailer::Kind;

const CLIENT: usize = 0;
const SERVER: usize = 1;

/// A client and a server, and what each of them was handed.
struct Pair {
    ends: [Endpoint; 2],
    target: u32,
    now: Instant,
    tickets: ClientConfig,
}

fn address(at: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, at as u8], 7000))
}

impl Pair {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let identity = Identity::pem("test", certificate.as_bytes(), key.as_bytes()).unwrap();
        let trust = Trust::pem("test", certificate.as_bytes()).unwrap();
        let config = || {
            let mut config = Config::new(offload::software::crypto());
            (config.unix_seconds_at_zero, config.datagram_bytes_max) = (1_790_000_000, 1452);
            config.proto.serving = true;
            config
        };
        let (mut client, mut server) = (config(), config());
        let tickets = ClientConfig::new(&trust, None, &Cipher::ALL).unwrap();
        client.client = Some(Arc::new(tickets.clone()));
        let serving = ServerConfig::new(&identity, Clients::Anonymous, &Cipher::ALL).unwrap();
        server.server = Some(Arc::new(serving.early_data(true)));
        server.early_data_bytes_max = 1 << 14;
        let mut seed = 1_u8;
        let mut ends = [client, server].map(|config| {
            seed += 1;
            let mut next = u64::from(seed);
            let random = move |bytes: &mut [u8]| {
                for byte in bytes {
                    next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                    *byte = (next >> 56) as u8;
                }
            };
            Endpoint::new(config, Box::new(random))
        });
        let target = ends[CLIENT].target(address(SERVER), "localhost", 1452);
        Self { ends, target, now: Instant::from_nanos(1_000_000_000), tickets }
    }

    /// A client that has a ticket, and no session.
    fn with_ticket() -> Self {
        let mut pair = Self::new();
        let id = pair.asked();
        pair.reply(id);
        pair.carry(SERVER);
        pair.pass(Duration::from_millis(5));
        let session = pair.ends[CLIENT].open_sessions()[0];
        pair.ends[CLIENT].close_session(session);
        pair.carry(CLIENT);
        pair.carry(SERVER);
        assert_eq!(pair.tickets(), 1);
        pair
    }

    /// What `from` sends next, and of which kinds its datagrams are.
    fn next(&mut self, from: usize) -> Option<(Vec<u8>, Transmit, Vec<PacketType>)> {
        let mut out = vec![0; 1 << 16];
        let train = self.ends[from].poll_transmit(self.now, &mut out)?;
        out.truncate(train.len);
        let kinds = out.chunks(train.segment).map(|datagram| Header::parse(datagram).unwrap().kind).collect();
        Some((out, train, kinds))
    }

    fn deliver(&mut self, from: usize, bytes: &[u8], train: Transmit) {
        let to = &mut self.ends[1 - from];
        let mut buffer = to.buffer();
        buffer.bytes()[..bytes.len()].copy_from_slice(bytes);
        to.handle_datagrams(self.now, address(from), buffer, bytes.len(), train.segment);
    }

    /// All that `from` sends now arrives: the kinds of it.
    fn carry(&mut self, from: usize) -> Vec<Vec<PacketType>> {
        let mut all = Vec::new();
        while let Some((bytes, train, kinds)) = self.next(from) {
            self.deliver(from, &bytes, train);
            all.push(kinds);
        }
        all
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.ends.iter_mut().for_each(|end| end.handle_timeout(self.now));
    }

    fn send(&mut self, early: bool) {
        self.ends[CLIENT].early_next(early);
        let body = self.ends[CLIENT].copy(b"a request");
        let sending =
            Sending { kind: Kind::Request, cookie: 0, waited: false, deadline: Instant::FAR, streamed: false };
        self.ends[CLIENT].send(self.now, To::Target(self.target), body, sending).unwrap();
        self.ends[CLIENT].early_next(false);
    }

    fn request(&mut self) -> Option<CallId> {
        std::iter::from_fn(|| self.ends[SERVER].poll_event()).find_map(|event| match event {
            Event::Request { id, .. } => Some(id),
            _ => None,
        })
    }

    fn reply(&mut self, id: CallId) {
        let body = self.ends[SERVER].copy(b"a reply");
        self.ends[SERVER].reply(self.now, id, body).unwrap();
    }

    fn replied(&mut self) -> bool {
        std::iter::from_fn(|| self.ends[CLIENT].poll_event()).any(|event| matches!(event, Event::Response { .. }))
    }

    fn tickets(&self) -> usize {
        self.tickets.tickets("localhost", Some(address(SERVER)))
    }

    /// Until the server has the first request of a full handshake.
    fn asked(&mut self) -> CallId {
        self.send(false);
        self.carry(CLIENT);
        self.carry(SERVER);
        let last = self.carry(CLIENT);
        assert_eq!(last, [[PacketType::Handshake, PacketType::Data]], "the last packet takes the request along");
        self.request().expect("it came")
    }
}

/// [P-6.8] The ticket goes in front of the first reply, in one train, and the client has it.
#[test]
fn a_ticket_with_the_reply() {
    let mut pair = Pair::new();
    let id = pair.asked();
    assert!(pair.next(SERVER).is_none(), "it waits for the reply");
    pair.reply(id);
    let (bytes, train, kinds) = pair.next(SERVER).unwrap();
    assert_eq!(kinds, [PacketType::Handshake, PacketType::Data]);
    pair.deliver(SERVER, &bytes, train);
    assert!(pair.replied());
    assert_eq!(pair.tickets(), 1);
}

/// [P-6.8] It does not wait for an application that takes its time, or for one whose session ends.
#[test]
fn a_ticket_without_a_reply() {
    let mut pair = Pair::new();
    let id = pair.asked();
    assert!(pair.next(SERVER).is_none());
    assert!(pair.ends[SERVER].timeout().unwrap() <= pair.now + Duration::from_micros(50), "somebody comes back");
    pair.pass(Duration::from_micros(50));
    assert_eq!(pair.carry(SERVER)[0], [PacketType::Handshake]);
    assert_eq!(pair.tickets(), 1);
    pair.reply(id);
    pair.carry(SERVER);
    assert!(pair.replied());

    let mut pair = Pair::new();
    pair.asked();
    let session = pair.ends[SERVER].open_sessions()[0];
    pair.ends[SERVER].close_session(session);
    let kinds = pair.carry(SERVER).concat();
    assert!(kinds.contains(&PacketType::Handshake) && kinds.contains(&PacketType::Control), "{kinds:?}");
}

/// [P-6.9] A client whose early request was taken looks for the reply before it sends its last packet; that goes with the next request, or
/// by itself soon after.
#[test]
fn the_reply_before_the_last_packet() {
    for talks_on in [true, false] {
        let mut pair = Pair::with_ticket();
        pair.send(true);
        pair.carry(CLIENT);
        let id = pair.request().expect("it came with the first flight");
        assert!(pair.ends[SERVER].let_flight_go());
        let (flight, train, _) = pair.next(SERVER).unwrap();
        pair.reply(id);
        pair.deliver(SERVER, &flight, train);
        assert_eq!(pair.ends[CLIENT].open_sessions().len(), 1, "the client is done");
        assert!(pair.next(CLIENT).is_none(), "the reply may be there already");
        pair.carry(SERVER);
        assert!(pair.replied());
        assert!(pair.next(CLIENT).is_none());
        if talks_on {
            pair.send(false);
            assert_eq!(pair.carry(CLIENT)[0], [PacketType::Handshake, PacketType::Data]);
            assert!(pair.request().is_some(), "the server could open it");
        } else {
            assert!(pair.ends[CLIENT].timeout().unwrap() <= pair.now + Duration::from_micros(50));
            pair.pass(Duration::from_micros(50));
            assert_eq!(pair.carry(CLIENT)[0][0], PacketType::Handshake);
        }
        pair.pass(Duration::from_micros(50));
        pair.carry(SERVER);
        assert_eq!(pair.tickets(), 1, "the next handshake can resume");
    }
}

/// [P-6.9] A server's flight leaves with the reply to the early request, in one train, and its client has the reply with it. It does not wait
/// for an application that takes its time, or that asks for more instead of answering.
#[test]
fn the_flight_with_the_reply() {
    let mut pair = Pair::with_ticket();
    pair.send(true);
    assert_eq!(pair.carry(CLIENT), [[PacketType::Handshake; 3]], "the request leaves with the first flight");
    let id = pair.request().expect("it came with the first flight");
    assert!(pair.next(SERVER).is_none(), "it waits for the reply");
    pair.reply(id);
    assert_eq!(pair.carry(SERVER), [[PacketType::Handshake; 3]]);
    assert!(pair.replied());

    let mut pair = Pair::with_ticket();
    pair.send(true);
    pair.carry(CLIENT);
    let id = pair.request().expect("it came with the first flight");
    assert!(pair.next(SERVER).is_none());
    assert!(pair.ends[SERVER].timeout().unwrap() <= pair.now + Duration::from_micros(50), "somebody comes back");
    pair.pass(Duration::from_micros(50));
    assert_eq!(pair.carry(SERVER), [[PacketType::Handshake; 2]]);
    pair.reply(id);
    pair.carry(SERVER);
    assert!(pair.replied());

    let mut pair = Pair::with_ticket();
    pair.send(true);
    pair.carry(CLIENT);
    assert!(pair.ends[SERVER].let_flight_go());
    assert_eq!(pair.carry(SERVER), [[PacketType::Handshake; 2]]);
    assert!(!pair.ends[SERVER].let_flight_go());
}
