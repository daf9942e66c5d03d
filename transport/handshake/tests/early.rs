//! Requests in the first flight: taken once, by the server that gave the ticket, and answered within one round trip. [P-6.9]
#![cfg(feature = "tls")]

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use common::pki::{Ca, client_config, server_config, world};
use common::{CLIENT, Faults, MakeServer, ONE_WAY, SERVER, World, client_addr, forge, packet, setup};
use handshake::client::Client;
use handshake::config::{ClientConfig, ServerConfig};
use handshake::cookie::Cookies;
use handshake::limits::EARLY_MESSAGES_MAX;
use handshake::server::Server;
use proto::time::Instant;
use wire::handshake::{EARLY_BODY_MAX, EARLY_ID_LEN, Level};
use wire::ids::Side;

const DATAGRAM: usize = 1232;

/// A client that has something to say at once.
fn hasty(client: &ClientConfig, server: &ServerConfig) -> World {
    let client = Client::tls_at(client, "localhost", None, true, &setup(CLIENT, DATAGRAM, Instant::ZERO)).unwrap();
    let server = server.clone();
    let make: MakeServer =
        Box::new(move |first, validated, now| Server::tls(&server, first, validated, &setup(SERVER, DATAGRAM, now)));
    World::new(client, make, DATAGRAM)
}

/// What came of it: requests at the server and when, responses at the client and when.
#[derive(Default)]
struct Seen {
    requests: Vec<(Vec<u8>, Instant)>,
    responses: Vec<(Vec<u8>, Instant)>,
}

/// Runs it to its end; the server answers each request with the same bytes.
fn run(world: &mut World) -> Seen {
    let mut seen = Seen::default();
    while world.step() {
        while let Some(request) = world.server.as_mut().and_then(Server::early) {
            let server = world.server.as_mut().unwrap();
            if server.takes_early() {
                server.send_early(request.clone());
            }
            seen.requests.push((request, world.now));
        }
        while let Some(response) = world.client.early() {
            assert!(world.at_client.established.is_some(), "before the server has proven itself");
            seen.responses.push((response, world.now));
        }
    }
    seen
}

/// A server that takes requests in the first flight, and a client that has a ticket of it.
fn pair(ca: &Ca) -> (ClientConfig, ServerConfig) {
    let (client, server) = (client_config(ca, None), server_config(&ca.issue(&["localhost"]), None).early_data(true));
    first(&client, &server);
    (client, server)
}

fn first(client: &ClientConfig, server: &ServerConfig) {
    let mut world = world(client, "localhost", server, DATAGRAM);
    world.run();
    world.run_out();
    assert_eq!(client.tickets("localhost", None), 1);
}

fn request(n: u8) -> Vec<u8> {
    vec![n; EARLY_ID_LEN + EARLY_BODY_MAX]
}

/// Everything that a client sends, as it sends it.
fn record(world: &mut World) -> Rc<RefCell<Vec<Vec<u8>>>> {
    let recorded = Rc::new(RefCell::new(Vec::new()));
    let into = recorded.clone();
    world.tap = Box::new(move |from, bytes| {
        if from == Side::Client {
            into.borrow_mut().push(bytes.clone());
        }
    });
    recorded
}

/// [P-6.9] The requests are there after half a round trip and the responses after a whole one, as many and as long as a first
/// flight may bring.
#[test]
fn one_round_trip() {
    let ca = Ca::new();
    let (client, server) = pair(&ca);
    let mut world = hasty(&client, &server);
    let requests: Vec<Vec<u8>> = (0..EARLY_MESSAGES_MAX as u8).map(request).collect();
    for request in &requests {
        assert!(world.client.takes_early());
        world.client.send_early(request.clone());
    }
    assert!(!world.client.takes_early(), "that is enough");
    let recorded = record(&mut world);
    let seen = run(&mut world);
    world.assert_agreed();
    let at = |n: u32| Instant::ZERO + ONE_WAY * n;
    assert_eq!(seen.requests, requests.iter().map(|r| (r.clone(), at(1))).collect::<Vec<_>>());
    assert_eq!(seen.responses, requests.iter().map(|r| (r.clone(), at(2))).collect::<Vec<_>>());
    for end in [&world.at_client, &world.at_server] {
        assert!(end.established.as_ref().unwrap().early && end.established.as_ref().unwrap().resumed);
    }
    for datagram in recorded.borrow().iter() {
        assert!(!datagram.windows(64).any(|window| window == &requests[1][..64]), "in clear");
    }
}

/// [P-6.9] Without a ticket, or with one that does not allow it, nothing can be said before the server answered.
#[test]
fn not_without_leave() {
    let ca = Ca::new();
    let identity = ca.issue(&["localhost"]);
    let client = client_config(&ca, None);
    let refuses = server_config(&identity, None);
    assert!(!hasty(&client, &refuses).client.takes_early());
    first(&client, &refuses);
    assert!(!hasty(&client, &refuses).client.takes_early());
    // Who must show who it is, shows nothing in a first flight.
    let known = client_config(&ca, Some(&ca.issue(&["client"])));
    let asks = server_config(&identity, Some(&ca)).early_data(true);
    first(&known, &asks);
    assert!(!hasty(&known, &asks).client.takes_early());
    // And who does not want it now, does not.
    let (client, server) = pair(&ca);
    assert!(!common::pki::world(&client, "localhost", &server, DATAGRAM).client.takes_early());
}

/// [P-6.9] A server that was started again, another server, and one that no longer takes them: the handshake is a full one or
/// a resumption, and the client knows that its request was not taken.
#[test]
fn not_taken() {
    let ca = Ca::new();
    let identity = ca.issue(&["localhost"]);
    let other = server_config(&identity, None).early_data(true);
    for change in [0, 1] {
        let (client, server) = pair(&ca);
        let server = if change == 0 { other.clone() } else { server.early_data(false) };
        let mut world = hasty(&client, &server);
        world.client.send_early(request(1));
        let seen = run(&mut world);
        world.assert_agreed();
        assert!(seen.requests.is_empty() && seen.responses.is_empty());
        let established = world.at_client.established.as_ref().unwrap();
        assert!(!established.early);
        assert_eq!(established.resumed, change == 1);
        assert_eq!(client.tickets("localhost", None), 1, "it has a good one again");
    }
}

/// [P-6.9] A recorded first flight that is sent again brings nothing to anybody: not to the same process, not to one that was
/// started again, not to a second server.
#[test]
fn replayed() {
    let ca = Ca::new();
    let (client, server) = pair(&ca);
    let mut world = hasty(&client, &server);
    world.client.send_early(request(1));
    let recorded = record(&mut world);
    assert_eq!(run(&mut world).requests.len(), 1);
    let identity = ca.issue(&["localhost"]);
    for target in [server, server_config(&identity, None).early_data(true)] {
        let mut again = hasty(&client_config(&ca, None), &target);
        again.tap = Box::new(|from, bytes| {
            if from == Side::Client {
                bytes.clear();
            }
        });
        for _ in 0..3 {
            for datagram in recorded.borrow().iter() {
                again.inject(Side::Server, datagram.clone());
            }
        }
        assert_eq!(run(&mut again).requests.len(), 0);
        assert!(again.at_server.established.is_none());
    }
}

/// [P-6.9] A first flight that never reached the server, and is brought there by somebody else: it is taken once, and the
/// answer is for nobody but the client.
#[test]
fn brought_by_another() {
    let ca = Ca::new();
    let (client, server) = pair(&ca);
    let mut world = hasty(&client, &server);
    world.client.send_early(request(1));
    let mut out = vec![0; DATAGRAM];
    let mut flight = Vec::new();
    while let Some(len) = world.client.poll_transmit(Instant::ZERO, &mut out) {
        flight.push(out[..len].to_vec());
    }
    let mut total = 0;
    for _ in 0..3 {
        let mut again = hasty(&client_config(&ca, None), &server);
        again.tap = Box::new(|from, bytes| {
            if from == Side::Client {
                bytes.clear();
            }
        });
        flight.iter().for_each(|datagram| again.inject(Side::Server, datagram.clone()));
        let seen = run(&mut again);
        total += seen.requests.len();
        assert!(seen.responses.is_empty());
    }
    assert_eq!(total, 1);
}

/// [P-6.9] Requests that overtake a part of the ClientHello wait for it; altered ones are dropped; cut ones, too. A ClientHello that was
/// altered brings nothing.
#[test]
fn altered() {
    let ca = Ca::new();
    let mut taken = Vec::new();
    for way in 0..4 {
        let (client, server) = pair(&ca);
        let mut world = hasty(&client, &server);
        world.client.send_early(request(7));
        let held = Rc::new(RefCell::new(Vec::new()));
        let early = move |bytes: &[u8]| packet(bytes).fields.level == Level::Early;
        let (hold, mut once) = (held.clone(), true);
        world.tap = Box::new(move |from, bytes| {
            if from != Side::Client || bytes == b"DONE" {
                return;
            }
            let fields = packet(bytes).fields;
            match way {
                // The second half of the ClientHello comes behind the request.
                0 if once && fields.level == Level::Initial && fields.offset > 0 => {
                    once = false;
                    hold.borrow_mut().push(core::mem::take(bytes));
                }
                1 if early(bytes) => *bytes.last_mut().unwrap() ^= 1,
                2 if early(bytes) => bytes.truncate(bytes.len() - 9),
                3 if fields.level == Level::Initial && fields.offset > 0 => forge(bytes, |b| {
                    let at = b.len() - 60;
                    b[at] ^= 1;
                }),
                _ => {}
            }
        });
        let mut seen = Seen::default();
        loop {
            if !held.borrow().is_empty() {
                let late: Vec<Vec<u8>> = held.borrow_mut().drain(..).collect();
                late.into_iter().for_each(|datagram| world.inject(Side::Server, datagram));
            }
            if !world.step() {
                break;
            }
            while let Some(request) = world.server.as_mut().and_then(Server::early) {
                seen.requests.push((request, world.now));
            }
        }
        taken.push(seen.requests.len());
    }
    assert_eq!(taken, [1, 0, 0, 0]);
}

/// [P-6.9] Under load the client proves its address first; its requests come along the second time.
#[test]
fn with_cookies() {
    let ca = Ca::new();
    let (client, server) = pair(&ca);
    let mut world = hasty(&client, &server);
    let _ = client_addr();
    world.cookies = Some(Cookies::new(&common::CRYPTO, &record::keys::Secret::new([3; 32])));
    world.client.send_early(request(1));
    let seen = run(&mut world);
    world.assert_agreed();
    assert_eq!((seen.requests.len(), seen.responses.len()), (1, 1));
}

/// [P-6.9] Where a fifth of all datagrams is lost, handshakes complete, and what the client takes for taken was taken.
#[test]
fn under_loss() {
    let ca = Ca::new();
    let (client, server) = pair(&ca);
    let mut answered = 0;
    for seed in 0..100 {
        if client.tickets("localhost", None) == 0 {
            first(&client, &server);
        }
        let faults = Faults { loss: 20, duplicate: 10, corrupt: 5, jitter_us: 2000 };
        let mut world = hasty(&client, &server).with(faults, seed);
        world.client.send_early(request(1));
        let seen = run(&mut world);
        world.assert_agreed();
        assert!(seen.requests.is_empty() || world.at_client.established.as_ref().unwrap().early);
        assert!(seen.responses.is_empty() || !seen.requests.is_empty());
        answered += u32::from(!seen.responses.is_empty());
    }
    assert!(answered > 40, "{answered} of 100");
}
