//! First flights by published ticket over real sockets: what is found, judged, taken, marked, refused, and never run twice. [P-6.10]
//! [P-6.11] [P-6.12]
#![cfg(feature = "aws-lc")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "an application may sleep, an attacker has sockets"
)]

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::tap::Tap;
use common::{Authority, Server, hostile, numbered, rebind, with_faults};
use sealane::builder::Ready;
use sealane::{
    Builder, CallOptions, Clients, Error, Identity, InvalidTicket, Peer, PeerIdentity, Protection, Socket, Ticket,
    TicketFiles, TicketSource, Trust, Upgrade,
};

const EARLY: CallOptions = CallOptions::new().early(true);
const HOUR: Duration = Duration::from_secs(3600);
const WAYS: [Upgrade; 2] = [Upgrade::TicketOnly, Upgrade::ForwardSecret];

fn builder(identity: Identity) -> Builder<Ready> {
    Socket::builder().trust(Trust::nobody()).identity(identity).serve(Clients::Anonymous).publish_tickets(HOUR)
}

/// Answers every request with its own bytes: nobody says who he is.
fn echo(socket: Socket) -> Server {
    Server::new(socket, |request| {
        assert_eq!(*request.peer.identity(), PeerIdentity::Anonymous);
        request.payload.to_vec()
    })
}

fn server(ca: &Authority) -> Server {
    echo(builder(ca.identity("localhost")).bind("127.0.0.1:0").unwrap())
}

fn client(ca: &Authority, source: impl TicketSource + 'static, way: Upgrade) -> Builder<Ready> {
    Socket::builder().trust(ca.trust()).anonymous().tickets_from(source, way)
}

/// What a server publishes now, for whoever asks.
fn source(server: &Server) -> impl TicketSource + use<> {
    let socket = Arc::clone(&server.socket);
    move |name: &str| (name == "localhost").then(|| socket.publish_ticket().ok()).flatten()
}

/// One ticket, for ever.
fn fixed(ticket: Ticket) -> impl TicketSource {
    move |_: &str| Some(ticket.clone())
}

fn bound(builder: Builder<Ready>, at: SocketAddr) -> (Socket, Peer) {
    let client = builder.bind("127.0.0.1:0").unwrap();
    let peer = client.peer(at, "localhost").unwrap();
    (client, peer)
}

/// [P-6.12] The very first words to a server bring the request; it runs once and says how it came. What follows is as always, and so is
/// what does not ask for it.
#[test]
fn taken_and_marked() {
    let ca = Authority::new();
    let server = server(&ca);
    for way in WAYS {
        let (client, peer) = bound(client(&ca, source(&server), way), server.at);
        for n in 0..10u64 {
            let message = numbered(n + 100 * way as u64, 500);
            assert_eq!(*client.call_with(&peer, &message, EARLY).unwrap(), *message);
            assert_eq!(server.ran(&message), [Protection::PublishedTicket], "session {n}, {way:?}");
            let later = numbered(1000 + n + 100 * way as u64, 5000);
            assert_eq!(*client.call_with(&peer, &later, EARLY).unwrap(), *later);
            assert_eq!(server.ran(&later), [Protection::Full]);
            let session = client.info().sessions.into_iter().find(|session| session.open).unwrap();
            let PeerIdentity::Certificate(shown) = &*session.origin.identity else { panic!("{session:?}") };
            assert_eq!(shown.names()[0].to_string(), "localhost");
            assert_eq!(session.exchange.is_some(), way == Upgrade::ForwardSecret);
            client.disconnect(&peer).unwrap();
        }
        let plain = numbered(7 + way as u64, 9);
        client.call(&peer, &plain).unwrap();
        assert_eq!(server.ran(&plain), [Protection::Full]);
        assert_eq!(client.info().counters.early_sent, 10);
    }
}

/// [P-6.10] Tickets in a file, in a folder by name, renewed while clients live; none, a damaged one, another server's: then there is no
/// first flight, and the call works all the same.
#[test]
fn in_files() {
    let ca = Authority::new();
    let server = server(&ca);
    let ticket = server.socket.publish_ticket().unwrap();
    assert_eq!(server.socket.publish_ticket().unwrap(), ticket, "it is the same for half an hour");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("localhost.ticket");
    let other = echo(builder(Authority::new().identity("localhost")).bind("127.0.0.1:0").unwrap());
    let wrong_name = echo(builder(ca.identity("elsewhere")).bind("127.0.0.1:0").unwrap());
    let text = ticket.to_text();
    let cases = [
        (Some(text.clone()), true),
        (None, false),
        (Some(text.replace('A', "")), false),
        (Some(other.socket.publish_ticket().unwrap().to_text()), false),
        (Some(wrong_name.socket.publish_ticket().unwrap().to_text()), false),
        (Some(format!("# of a server\n{text}")), true),
    ];
    let sources = [TicketFiles::new(&file), TicketFiles::new(dir.path())];
    for (nth, files) in sources.into_iter().enumerate() {
        let (client, peer) = bound(client(&ca, files.clone(), Upgrade::TicketOnly), server.at);
        for (n, (text, good)) in cases.iter().enumerate() {
            match text {
                Some(text) => std::fs::write(&file, text).unwrap(),
                None => std::fs::remove_file(&file).unwrap(),
            }
            let message = numbered((100 * nth + n) as u64, 100);
            client.call_with(&peer, &message, EARLY).unwrap();
            let expected = if *good { Protection::PublishedTicket } else { Protection::Full };
            assert_eq!(server.ran(&message), [expected], "case {n}");
            client.disconnect(&peer).unwrap();
        }
    }
    // Names lead nowhere else: there is a ticket one folder up.
    let inner = dir.path().join("inner");
    std::fs::create_dir_all(inner.join("a")).unwrap();
    for name in ["../localhost", "a/../../localhost"] {
        assert!(inner.join(format!("{name}.ticket")).exists());
        assert!(TicketFiles::new(&inner).ticket(name).is_none(), "{name}");
    }
    for name in ["../localhost", ".", "..", "/etc/passwd", "a/../localhost"] {
        assert!(TicketFiles::new(dir.path()).ticket(name).is_none(), "{name}");
    }
    let refused = ticket.verify(&Authority::new().trust(), "localhost").unwrap_err();
    assert!(matches!(refused, InvalidTicket::Certificate(_)), "{refused}");
    assert!(ticket.verify(&ca.trust(), "localhost").is_ok());
    let over = ticket.verify_at(&ca.trust(), "localhost", ticket.not_after()).unwrap_err();
    assert_eq!(over, InvalidTicket::Expired { seconds: 0 });
}

/// [P-6.12] [P-7.3] A server that was started again is another process: it cannot open the flight, runs nothing, and the caller is told that
/// nobody knows. The next call has no flight by that ticket, and works; a new ticket is used again.
#[test]
fn restarted_server() {
    let ca = Authority::new();
    for way in WAYS {
        let first = server(&ca);
        let (at, ticket) = (first.at, first.socket.publish_ticket().unwrap());
        let current = Arc::new(Mutex::new(ticket));
        let shown = Arc::clone(&current);
        let found = move |_: &str| Some(shown.lock().unwrap().clone());
        let (client, peer) = bound(client(&ca, found, way), at);
        drop(first);
        let second = echo(rebind(at, || builder(ca.identity("localhost"))));
        let unknown = client.call_with(&peer, b"perhaps", EARLY).unwrap_err();
        assert!(matches!(unknown, Error::PeerRestarted { may_have_run: true, .. }), "{unknown:?}, {way:?}");
        client.call_with(&peer, b"again", EARLY).unwrap();
        assert_eq!(second.ran(b"again"), [Protection::Full]);
        client.disconnect(&peer).unwrap();
        client.call_with(&peer, b"a third time", EARLY).unwrap();
        assert_eq!(second.ran(b"a third time"), [Protection::Full], "the old ticket is not tried again");
        client.disconnect(&peer).unwrap();
        *current.lock().unwrap() = second.socket.publish_ticket().unwrap();
        client.call_with(&peer, b"and early", EARLY).unwrap();
        assert_eq!(second.ran(b"and early"), [Protection::PublishedTicket]);
        assert!(second.ran(b"perhaps").is_empty());
    }
}

/// [P-6.12] A whole conversation is recorded and sent again, many times and in any order, to the same server, to another one, and to one
/// that was started again: nothing runs a second time.
#[test]
fn replayed() {
    let ca = Authority::new();
    for way in WAYS {
        let server = server(&ca);
        let tap = Tap::new();
        let (client, peer) = bound(client(&ca, source(&server), way).danger_wrap(tap.wrap()), server.at);
        client.call_with(&peer, b"once", EARLY).unwrap();
        client.call(&peer, b"twice?").unwrap();
        assert_eq!(server.ran(b"once"), [Protection::PublishedTicket]);
        let recorded = tap.take_sent();
        assert!(recorded.len() >= 3);
        let replay = |at: SocketAddr| {
            let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..3 {
                recorded.iter().chain(recorded.iter().rev()).for_each(|datagram| {
                    stranger.send_to(datagram, at).unwrap();
                });
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        replay(server.at);
        assert_eq!((server.ran(b"once").len(), server.ran(b"twice?").len()), (1, 1), "{way:?}");
        let other = self::server(&ca);
        other.socket.publish_ticket().unwrap();
        replay(other.at);
        assert!(other.ran.lock().unwrap().is_empty());
        let at = server.at;
        drop((server, client));
        let again = echo(rebind(at, || builder(ca.identity("localhost"))));
        again.socket.publish_ticket().unwrap();
        replay(at);
        assert!(again.ran.lock().unwrap().is_empty());
    }
}

/// [P-6.12] A server remembers as many first flights as it was told, and takes no more; requests beyond run like any others.
#[test]
fn full_memory() {
    let ca = Authority::new();
    for way in WAYS {
        let few = builder(ca.identity("localhost")).published_flights_max(3);
        let server = echo(few.bind("127.0.0.1:0").unwrap());
        for n in 0..6u64 {
            let (client, peer) = bound(client(&ca, source(&server), way), server.at);
            let message = numbered(n, 64);
            client.call_with(&peer, &message, EARLY).unwrap();
            let expected = if n < 3 { Protection::PublishedTicket } else { Protection::Full };
            assert_eq!(server.ran(&message), [expected], "{way:?}");
        }
    }
}

/// [P-6.12] Where the network loses, reorders and repeats, every request runs exactly once, however it came.
#[test]
fn hostile_network() {
    let ca = Authority::new();
    for way in WAYS {
        let socket = with_faults(builder(ca.identity("localhost")), hostile(1)).bind("127.0.0.1:0").unwrap();
        let server = echo(socket);
        let (client, peer) = bound(with_faults(client(&ca, source(&server), way), hostile(2)), server.at);
        for n in 0..40u64 {
            let message = numbered(n, 300);
            assert_eq!(*client.call_with(&peer, &message, EARLY).unwrap(), *message);
            client.disconnect(&peer).unwrap();
            assert_eq!(server.ran(&message).len(), 1, "message {n}");
        }
        assert!(server.ran.lock().unwrap().values().any(|ran| ran == &[Protection::PublishedTicket]));
    }
}

/// [P-6.12] Other credentials, other keys: what was published before a reload is not known any more.
#[test]
fn reloaded() {
    let ca = Authority::new();
    let server = server(&ca);
    let before = server.socket.publish_ticket().unwrap();
    server.socket.reload(None, Some(ca.identity("localhost"))).unwrap();
    let after = server.socket.publish_ticket().unwrap();
    assert_ne!(before.id(), after.id());
    let (stale, peer) = bound(client(&ca, fixed(before), Upgrade::ForwardSecret), server.at);
    let unknown = stale.call_with(&peer, b"old", EARLY).unwrap_err();
    assert!(matches!(unknown, Error::PeerRestarted { .. }), "{unknown:?}");
    let (fresh, peer) = bound(client(&ca, fixed(after), Upgrade::ForwardSecret), server.at);
    fresh.call_with(&peer, b"new", EARLY).unwrap();
    assert_eq!(server.ran(b"new"), [Protection::PublishedTicket]);
    // A client that trusts others now believes no ticket of before.
    fresh.disconnect(&peer).unwrap();
    fresh.reload(Some(Authority::new().trust()), None).unwrap();
    assert!(matches!(fresh.call_with(&peer, b"never", EARLY), Err(Error::Handshake { .. })));
    assert!(server.ran(b"never").is_empty());
}

/// [P-6.12] Published tickets and authenticated clients exclude each other; who was not told to publish has nothing to publish.
#[test]
fn not_where_clients_prove_themselves() {
    let ca = Authority::new();
    let error = ca.server().publish_tickets(HOUR).bind("127.0.0.1:0").unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    let plain = ca.server().bind("127.0.0.1:0").unwrap();
    assert!(matches!(plain.publish_ticket(), Err(Error::Config(_))));
}

/// [P-6.12] The async form does the same, and asks where it may block.
#[cfg(feature = "tokio")]
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn asynchronous() {
    let ca = Authority::new();
    let server = server(&ca);
    let (client, peer) = bound(client(&ca, source(&server), Upgrade::TicketOnly), server.at);
    let client = sealane::AsyncSocket::new(client).unwrap();
    client.call_with(&peer, b"async", EARLY).await.unwrap();
    assert_eq!(server.ran(b"async"), [Protection::PublishedTicket]);
}

/// [P-6.10] Tickets out of DNS: strings are joined, records of others left alone, several records looked through.
#[cfg(feature = "dns")]
#[test]
fn in_dns() {
    let ca = Authority::new();
    // Names below localhost are not asked for anywhere (RFC 6761 section 6.3).
    let server = echo(builder(ca.identity("db.example")).bind("127.0.0.1:0").unwrap());
    let ticket = server.socket.publish_ticket().unwrap();
    let strings = ticket.to_txt();
    assert!(strings.len() > 2);
    let found = dns::Responder::start(vec![vec!["v=spf1 -all".into()], strings]);
    let source = sealane::TicketDns::server(found.at).unwrap();
    assert_eq!(source.ticket("db.example"), Some(ticket));
    assert_eq!(source.ticket("127.0.0.1"), None);
    let client = client(&ca, source, Upgrade::ForwardSecret).bind("127.0.0.1:0").unwrap();
    let peer = client.peer(server.at, "db.example").unwrap();
    client.call_with(&peer, b"by DNS", EARLY).unwrap();
    assert_eq!(server.ran(b"by DNS"), [Protection::PublishedTicket]);
    for records in [Vec::new(), vec![vec!["sealane-ticket=AAAA".into()]], vec![vec!["sealane-ticket=!".into()]]] {
        let nothing = dns::Responder::start(records);
        assert_eq!(sealane::TicketDns::server(nothing.at).unwrap().ticket("db.example"), None);
    }
    // What is asked for is asked for by the name that is agreed on.
    assert!(found.asked.lock().unwrap().iter().all(|name| name.eq_ignore_ascii_case("_sealane.db.example.")));
}

/// A DNS server of one name.
#[cfg(feature = "dns")]
mod dns {
    use std::net::{SocketAddr, UdpSocket};
    use std::sync::{Arc, Mutex};

    pub(crate) struct Responder {
        pub(crate) at: SocketAddr,
        pub(crate) asked: Arc<Mutex<Vec<String>>>,
    }

    impl Responder {
        /// Answers every question for TXT with these records, each of several strings (RFC 1035 section 4).
        pub(crate) fn start(records: Vec<Vec<String>>) -> Self {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let at = socket.local_addr().unwrap();
            let asked: Arc<Mutex<Vec<String>>> = Arc::default();
            let noting = Arc::clone(&asked);
            std::thread::spawn(move || {
                let mut query = [0; 4096];
                while let Ok((len, from)) = socket.recv_from(&mut query) {
                    let (reply, name) = answer(&query[..len], &records);
                    noting.lock().unwrap().push(name);
                    let _ = socket.send_to(&reply, from);
                }
            });
            Self { at, asked }
        }
    }

    fn answer(query: &[u8], records: &[Vec<String>]) -> (Vec<u8>, String) {
        let (mut at, mut name) = (12, String::new());
        while query[at] != 0 {
            let len = usize::from(query[at]);
            name += &format!("{}.", String::from_utf8_lossy(&query[at + 1..at + 1 + len]));
            at += 1 + len;
        }
        let end = at + 5;
        let mut reply = query[..2].to_vec();
        // A response, recursion asked for and available, no error; one question, so many answers.
        reply.extend([0x81, 0x80, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
        reply.extend(&query[12..end]);
        for strings in records {
            let data: Vec<u8> =
                (strings.iter()).flat_map(|string| [&[string.len() as u8][..], string.as_bytes()].concat()).collect();
            // The question's name, TXT, IN, a minute.
            reply.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60]);
            reply.extend((data.len() as u16).to_be_bytes());
            reply.extend(data);
        }
        (reply, name)
    }
}
