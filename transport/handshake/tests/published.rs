//! First flights by published ticket: taken once, in the handshake that they were sent with, and answered within one round trip.
//! [P-6.11] [P-6.12]
#![cfg(feature = "tls")]

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use common::pki::{Ca, client_config, server_config};
use common::{CLIENT, CRYPTO, Faults, MakeServer, ONE_WAY, SERVER, TODAY, World, packet, setup};
use handshake::client::Client;
use handshake::config::{Algorithms, ClientConfig, Clients, ServerConfig};
use handshake::contract::Reason;
use handshake::cookie::Cookies;
use handshake::error::{Alert, Error};
use handshake::exchange::KeyExchange;
use handshake::identity::{Identity, PeerIdentity};
use handshake::limits::{EARLY_MESSAGES_MAX, PUBLISHED_LIFETIME, STALE_WAIT};
use handshake::published::{Publisher, Verdict, VerifiedTicket};
use handshake::server::{Offer, Server, offer, refuse};
use proto::time::Instant;
use record::aead::Cipher;
use wire::handshake::{EARLY_BODY_MAX, EARLY_ID_LEN, Level};
use wire::ids::Side;

const DATAGRAM: usize = 1232;

/// The ticket is all there is, or a TLS handshake stands beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Alone,
    Beside,
}

const WAYS: [Way; 2] = [Way::Alone, Way::Beside];

/// A server process and what its clients know.
struct Scene {
    ca: Ca,
    identity: Identity,
    publisher: Arc<Publisher>,
    server: ServerConfig,
    client: ClientConfig,
    ticket: VerifiedTicket,
}

impl Scene {
    fn new() -> Self {
        Self::with(100)
    }

    fn with(flights_max: usize) -> Self {
        let ca = Ca::new();
        let identity = ca.issue(&["localhost"]);
        let publisher = publisher(&identity, flights_max);
        let server = server_config(&identity, None).publish(Some(publisher.clone()));
        let ticket = publisher.ticket(TODAY).unwrap().verify(&ca.trust(), "localhost", TODAY).unwrap();
        Self { client: client_config(&ca, None), ca, identity, publisher, server, ticket }
    }

    /// The same server, started again.
    fn restarted(&self) -> (Arc<Publisher>, ServerConfig) {
        let publisher = publisher(&self.identity, 100);
        publisher.ticket(TODAY).unwrap();
        (publisher.clone(), server_config(&self.identity, None).publish(Some(publisher)))
    }

    fn client(&self, way: Way, secret: u8) -> Client {
        let setup = setup(CLIENT, DATAGRAM, Instant::ZERO);
        let secret = [secret; 32];
        match way {
            Way::Alone => Client::by_ticket(&self.ticket, Cipher::Aes128Gcm, &secret, [1; 16], &setup).unwrap(),
            Way::Beside => {
                Client::tls_by_ticket(&self.client, "localhost", None, &self.ticket, &secret, &setup).unwrap()
            }
        }
    }

    fn world(&self, way: Way, secret: u8) -> World {
        world(self.client(way, secret), &self.publisher, &self.server)
    }
}

fn publisher(identity: &Identity, flights_max: usize) -> Arc<Publisher> {
    Arc::new(Publisher::new(identity, &Cipher::ALL, PUBLISHED_LIFETIME, flights_max))
}

/// A server as an endpoint has it.
fn world(client: Client, publisher: &Arc<Publisher>, server: &ServerConfig) -> World {
    let (publisher, server) = (publisher.clone(), server.clone());
    let make: MakeServer = Box::new(move |first, validated, now| {
        let setup = setup(SERVER, DATAGRAM, now);
        match offer(first) {
            Some(Offer::Published(_)) => Server::by_ticket(&publisher, [2; 16], first, validated, &setup),
            _ => Server::tls(&server, first, validated, &setup),
        }
    });
    World::new(client, make, DATAGRAM)
}

#[derive(Default)]
struct Seen {
    requests: Vec<(Vec<u8>, Instant)>,
    responses: Vec<(Vec<u8>, Instant)>,
}

fn run(world: &mut World) -> Seen {
    let mut seen = Seen::default();
    while world.step() {
        while let Some(request) = world.server.as_mut().and_then(Server::early) {
            let server = world.server.as_mut().unwrap();
            assert!(server.is_by_ticket());
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

fn request(n: u8) -> Vec<u8> {
    vec![n; EARLY_ID_LEN + EARLY_BODY_MAX]
}

fn record(world: &mut World, side: Side) -> Rc<RefCell<Vec<Vec<u8>>>> {
    let recorded = Rc::new(RefCell::new(Vec::new()));
    let into = recorded.clone();
    world.tap = Box::new(move |from, bytes| {
        if from == side {
            into.borrow_mut().push(bytes.clone());
        }
    });
    recorded
}

fn mute(world: &mut World) {
    world.tap = Box::new(|from, bytes| {
        if from == Side::Client {
            bytes.clear();
        }
    });
}

fn verdict(world: &World) -> Option<Verdict> {
    world.at_client.established.as_ref().unwrap().verdict
}

/// [P-6.11] Both ways: requests are there after half a round trip, responses after a whole one; who the server is, is known; who the
/// client is, is not; nothing is in clear.
#[test]
fn one_round_trip() {
    let scene = Scene::new();
    for (n, way) in WAYS.into_iter().enumerate() {
        let mut world = scene.world(way, n as u8);
        let requests: Vec<Vec<u8>> = (0..EARLY_MESSAGES_MAX as u8).map(request).collect();
        for request in &requests {
            assert!(world.client.takes_early());
            world.client.send_early(request.clone());
        }
        assert!(!world.client.takes_early(), "that is enough");
        let recorded = record(&mut world, Side::Client);
        let seen = run(&mut world);
        world.assert_agreed();
        let at = |n: u32| Instant::ZERO + ONE_WAY * n;
        assert_eq!(seen.requests, requests.iter().map(|r| (r.clone(), at(1))).collect::<Vec<_>>());
        assert_eq!(seen.responses, requests.iter().map(|r| (r.clone(), at(2))).collect::<Vec<_>>());
        let [client, server] = [&world.at_client, &world.at_server].map(|end| end.established.as_ref().unwrap());
        for end in [client, server] {
            assert!(end.early && !end.resumed && !end.mutual);
            assert_eq!(end.verdict, Some(Verdict::Taken));
            // [P-6.1] What follows a handshake beside it is as secret as any.
            let exchange = (way == Way::Beside).then_some(KeyExchange::X25519MlKem768);
            assert_eq!(end.exchange, exchange);
        }
        let PeerIdentity::Certificate(shown) = &client.identity else { panic!("{:?}", client.identity) };
        assert_eq!(shown.names()[0].to_string(), "localhost");
        assert_eq!(server.identity, PeerIdentity::Anonymous);
        for datagram in recorded.borrow().iter() {
            assert!(!datagram.windows(64).any(|window| window == &requests[1][..64]), "in clear");
        }
    }
    assert_eq!(scene.publisher.remembered(), 2);
}

/// [P-6.12] A recorded flight that is sent again brings nothing to anybody: not to the same process, which says so under its keys, not to
/// one that was started again, not to a second server.
#[test]
fn replayed() {
    for way in WAYS {
        let scene = Scene::new();
        let mut world = scene.world(way, 1);
        world.client.send_early(request(1));
        let recorded = record(&mut world, Side::Client);
        assert_eq!(run(&mut world).requests.len(), 1);
        let second = Scene::new();
        let (restarted, its_config) = scene.restarted();
        let targets = [
            (scene.publisher.clone(), scene.server.clone()),
            (restarted, its_config),
            (second.publisher.clone(), second.server.clone()),
        ];
        for (publisher, server) in targets {
            let before = publisher.remembered();
            let mut again = self::world(scene.client(way, 9), &publisher, &server);
            mute(&mut again);
            for _ in 0..3 {
                recorded.borrow().iter().for_each(|datagram| again.inject(Side::Server, datagram.clone()));
            }
            assert_eq!(run(&mut again).requests.len(), 0, "{way:?}");
            assert!(again.at_server.established.is_none());
            assert_eq!(publisher.remembered(), before);
        }
    }
}

/// [P-6.12] A flight that somebody else brings to its server, ever so often, is taken once. The client that comes after it is told under
/// keys that it may have run, and so does not send it again.
#[test]
fn brought_by_another() {
    for way in WAYS {
        let scene = Scene::new();
        let mut world = scene.world(way, 1);
        world.client.send_early(request(1));
        let mut out = vec![0; DATAGRAM];
        let mut flight = Vec::new();
        while let Some(len) = world.client.poll_transmit(Instant::ZERO, &mut out) {
            flight.push(out[..len].to_vec());
        }
        let mut total = 0;
        for _ in 0..3 {
            let mut again = scene.world(way, 9);
            mute(&mut again);
            flight.iter().for_each(|datagram| again.inject(Side::Server, datagram.clone()));
            let seen = run(&mut again);
            total += seen.requests.len();
            assert!(seen.responses.is_empty());
        }
        assert_eq!(total, 1, "{way:?}");
        flight.iter().for_each(|datagram| world.inject(Side::Server, datagram.clone()));
        assert_eq!(run(&mut world).requests.len(), 0);
        world.assert_agreed();
        assert_eq!(verdict(&world), Some(Verdict::Seen));
        assert!(!world.at_client.established.as_ref().unwrap().early);
    }
}

/// [P-6.12] A memory that is full forgets nothing and takes nothing: the client is told under keys that its request will not run.
#[test]
fn full_memory() {
    for way in WAYS {
        let scene = Scene::with(2);
        let mut recorded = Vec::new();
        for n in 0..5u8 {
            let mut world = scene.world(way, n);
            world.client.send_early(request(n));
            let flight = record(&mut world, Side::Client);
            let taken = run(&mut world).requests.len();
            world.assert_agreed();
            assert_eq!(taken, usize::from(n < 2));
            assert_eq!(verdict(&world), Some(if n < 2 { Verdict::Taken } else { Verdict::Refused }));
            recorded.push(flight);
        }
        assert_eq!(scene.publisher.remembered(), 2);
        for flight in recorded {
            let mut again = scene.world(way, 9);
            mute(&mut again);
            flight.borrow().iter().for_each(|datagram| again.inject(Side::Server, datagram.clone()));
            assert_eq!(run(&mut again).requests.len(), 0, "also much later");
        }
    }
}

/// [P-6.11] Splicing: somebody puts the opening that a client sent into a handshake of its own, and that client's requests beside it. The
/// requests do not open there, so nobody but the client can have the answers.
#[test]
fn spliced() {
    let scene = Scene::new();
    for way in WAYS {
        let mut victim = scene.world(way, way as u8);
        victim.client.send_early(request(1));
        let mut out = vec![0; DATAGRAM];
        let mut early = Vec::new();
        while let Some(len) = victim.client.poll_transmit(Instant::ZERO, &mut out) {
            if packet(&out[..len]).fields.level == Level::Early {
                early.push(out[..len].to_vec());
            }
        }
        assert_eq!(early.len(), 1);
        // The very same secret, even: more than an attacker has. Its first message is another one, though.
        let mut attacker = match way {
            Way::Alone => {
                let setup = setup(CLIENT, DATAGRAM, Instant::ZERO);
                let client =
                    Client::by_ticket(&scene.ticket, Cipher::Aes128Gcm, &[way as u8; 32], [7; 16], &setup).unwrap();
                world(client, &scene.publisher, &scene.server)
            }
            Way::Beside => scene.world(way, way as u8),
        };
        // The requests come behind the first words, as they would.
        attacker.step();
        assert!(attacker.server.is_some());
        early.into_iter().for_each(|datagram| attacker.inject(Side::Server, datagram));
        assert!(run(&mut attacker).requests.is_empty(), "{way:?}");
        attacker.assert_agreed();
        assert!(attacker.dropped.contains(&Reason::Tag));
    }
}

/// [P-6.11] What is altered on its way is not taken: openings, hellos, requests.
#[test]
fn altered() {
    for way in WAYS {
        for part in 0..3 {
            let scene = Scene::new();
            let mut world = scene.world(way, 1);
            world.client.send_early(request(1));
            world.tap = Box::new(move |from, bytes| {
                if from == Side::Server || bytes == b"DONE" {
                    return;
                }
                let level = packet(bytes).fields.level;
                match part {
                    0 if level == Level::Early => *bytes.last_mut().unwrap() ^= 1,
                    1 if level == Level::Early => bytes[100] ^= 1,
                    // Somewhere in the hello; its public check holds again where there is one.
                    2 if level == Level::Initial && packet(bytes).fields.offset == 0 && bytes.len() > 200 => {
                        common::forge(bytes, |bytes| bytes[110] ^= 1);
                    }
                    _ => {}
                }
            });
            assert_eq!(run(&mut world).requests.len(), 0, "{way:?}, {part}");
        }
    }
}

/// [P-6.12] An opening that somebody copied into a packet of its own is not remembered: the client that made it is not kept out.
#[test]
fn a_copied_opening_keeps_nobody_out() {
    let scene = Scene::new();
    let mut client = scene.client(Way::Alone, 1);
    let mut out = vec![0; DATAGRAM];
    let len = client.poll_transmit(Instant::ZERO, &mut out).unwrap();
    let setup = setup(SERVER, DATAGRAM, Instant::ZERO);
    let mut copied = out[..len].to_vec();
    // The nonce, behind opening and cipher.
    copied[53 + 3 + 88 + 1] ^= 1;
    let refused = Server::by_ticket(&scene.publisher, [2; 16], &packet(&copied), false, &setup);
    assert!(matches!(refused, Err(Reason::Tag)));
    assert_eq!(scene.publisher.remembered(), 0);
    assert!(Server::by_ticket(&scene.publisher, [2; 16], &packet(&out[..len]), false, &setup).is_ok());
    assert_eq!(scene.publisher.remembered(), 1);
}

/// [P-6.11] [P-6.9] A server never seals under a key of a first flight: the same flight, brought twice with all memory lost in between,
/// is answered under different keys, and what one answer is sealed with does not open the other.
#[test]
fn a_server_never_repeats_a_key() {
    for way in WAYS {
        let scene = Scene::new();
        let mut world = scene.world(way, 1);
        world.client.send_early(request(1));
        let mut out = vec![0; DATAGRAM];
        let mut flight = Vec::new();
        while let Some(len) = world.client.poll_transmit(Instant::ZERO, &mut out) {
            flight.push(out[..len].to_vec());
        }
        let mut answers = Vec::new();
        for nonce in 0..2u8 {
            let now = Instant::ZERO;
            // Each time another memory, as if the first had forgotten.
            let forgetful = scene.publisher.danger_forgetful();
            let server = server_config(&scene.identity, None).publish(Some(forgetful.clone()));
            let first = packet(&flight[0]);
            let setup = setup(SERVER, DATAGRAM, now);
            let mut server = match way {
                Way::Alone => Server::by_ticket(&forgetful, [nonce; 16], &first, true, &setup).unwrap(),
                Way::Beside => Server::tls(&server, &first, true, &setup).unwrap(),
            };
            for datagram in &flight {
                let _ = server.handle(now, &packet(datagram), datagram.len());
            }
            assert!(server.early().is_some(), "{way:?}");
            server.send_early(request(5));
            while let Some(len) = server.poll_transmit(now, &mut out) {
                if packet(&out[..len]).fields.level == Level::Early {
                    answers.push((packet(&out[..len]).fields.number, packet(&out[..len]).fragment.to_vec()));
                }
            }
        }
        let [(number, one), (other_number, other)] = &answers[..] else { panic!("{} answers", answers.len()) };
        assert_eq!((number, one.len()), (other_number, other.len()));
        // The same plaintext under the same number: with one key these were equal.
        assert_ne!(one, other, "{way:?}");
    }
}

/// [P-6.12] A server that does not know the ticket says so in clear. A client without TLS beside it waits a little for something better
/// and then ends this attempt; with TLS beside it the handshake goes on, and there is no verdict.
#[test]
fn stale() {
    let scene = Scene::new();
    let (publisher, server) = scene.restarted();
    let mut world = self::world(scene.client(Way::Beside, 1), &publisher, &server);
    world.client.send_early(request(1));
    assert!(run(&mut world).requests.is_empty());
    world.assert_agreed();
    assert_eq!(verdict(&world), None);
    let mut client = scene.client(Way::Alone, 2);
    let mut out = vec![0; DATAGRAM];
    let len = client.poll_transmit(Instant::ZERO, &mut out).unwrap();
    let first = packet(&out[..len]);
    let Some(Offer::Published(id)) = offer(&first) else { panic!("no offer") };
    assert!(scene.publisher.knows(id, TODAY) && !publisher.knows(id, TODAY));
    let setup = setup(SERVER, DATAGRAM, Instant::ZERO);
    assert!(matches!(Server::by_ticket(&publisher, [0; 16], &first, false, &setup), Err(Reason::Tag)));
    let mut alert = vec![0; 200];
    let len = refuse(&CRYPTO, &first, Alert::UNKNOWN_PSK_IDENTITY, &mut alert).unwrap();
    client.handle(Instant::ZERO, &packet(&alert[..len]), len).unwrap();
    let before = Instant::ZERO + (STALE_WAIT - Duration::from_nanos(1));
    assert_eq!(client.handle_timeout(before), Ok(()));
    let refused = client.handle_timeout(Instant::ZERO + STALE_WAIT).unwrap_err();
    assert_eq!(refused, Error::Refused { alert: Alert::UNKNOWN_PSK_IDENTITY, proven: false });
}

/// [P-6.12] Keys end with their tickets; a server whose clients show who they are takes no such flight at all.
#[test]
fn not_taken() {
    let scene = Scene::new();
    let id = scene.ticket.id();
    let end = scene.ticket.ticket().not_after();
    assert!(scene.publisher.knows(id, end - 1) && !scene.publisher.knows(id, end));
    assert!(scene.ticket.holds(end - 1) && !scene.ticket.holds(end));
    let asks = server_config(&scene.identity, Some(&scene.ca)).publish(Some(scene.publisher.clone()));
    assert!(asks.publisher().is_none());
    let known = client_config(&scene.ca, Some(&scene.ca.issue(&["client"])));
    let setup = setup(CLIENT, DATAGRAM, Instant::ZERO);
    let client = Client::tls_by_ticket(&known, "localhost", None, &scene.ticket, &[1; 32], &setup).unwrap();
    let mut world = self::world(client, &scene.publisher, &asks);
    world.client.send_early(request(1));
    assert!(run(&mut world).requests.is_empty());
    world.assert_agreed();
    assert_eq!((verdict(&world), scene.publisher.remembered()), (None, 0));
}

/// [P-6.12] A server that wants another key exchange asks for a new ClientHello. Somebody else could send that one, so the requests of the
/// first are not taken beside it.
#[test]
fn not_behind_a_retry_of_tls() {
    let scene = Scene::new();
    let algorithms = Algorithms { exchanges: &[KeyExchange::Secp384r1], ..Algorithms::default() };
    let picky = ServerConfig::with(&scene.identity, Clients::Anonymous, &algorithms).unwrap();
    let mut world =
        self::world(scene.client(Way::Beside, 1), &scene.publisher, &picky.publish(Some(scene.publisher.clone())));
    world.client.send_early(request(1));
    assert!(run(&mut world).requests.is_empty());
    world.assert_agreed();
}

/// [P-6.4] Under load the client proves its address first; its requests come along the second time, and are taken.
#[test]
fn with_cookies() {
    for way in WAYS {
        let scene = Scene::new();
        let mut world = scene.world(way, 1);
        world.cookies = Some(Cookies::new(&CRYPTO, &record::keys::Secret::new([3; 32])));
        world.client.send_early(request(1));
        let seen = run(&mut world);
        world.assert_agreed();
        assert_eq!((seen.requests.len(), seen.responses.len()), (1, 1));
    }
}

/// [P-6.11] Where a fifth of all datagrams is lost, handshakes complete, and what the client takes for taken was taken.
#[test]
fn under_loss() {
    for way in WAYS {
        let scene = Scene::with(1000);
        let mut answered = 0;
        for seed in 0..100 {
            let faults = Faults { loss: 20, duplicate: 10, corrupt: 5, jitter_us: 2000 };
            let mut world = scene.world(way, seed as u8).with(faults, seed);
            world.client.send_early(request(1));
            let seen = run(&mut world);
            world.assert_agreed();
            assert!(seen.requests.is_empty() || world.at_client.established.as_ref().unwrap().early);
            assert!(seen.responses.is_empty() || !seen.requests.is_empty());
            answered += u32::from(!seen.responses.is_empty());
        }
        assert!(answered > 20, "{answered} of 100, {way:?}");
    }
}
