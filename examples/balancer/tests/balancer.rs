//! Real clients and real servers with the balancer between them, over loopback: who gets which session, and what becomes of it.

mod common;

use balancer::{Limits, Seen};
use common::{HELD, LONG, Scene, call};
use sealane::Delivery;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use wire::bytes::Writer;
use wire::handshake::{FLAG_CLIENT, HandshakeFields, HandshakePacket, Method};
use wire::header::{Header, PacketType};
use wire::ids::SessionId;

/// Looks again and again until `what` holds; fails when it never does.
#[expect(clippy::disallowed_methods, reason = "a test waits in the real world")]
fn until(why: &str, mut what: impl FnMut() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < LONG, "it never came true that {why}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Each server has so many sessions: it may hear the end of a handshake later than its client.
fn has(scene: &Scene, sessions: &[usize]) {
    until(&format!("the servers have {sessions:?} sessions"), || scene.sessions() == sessions);
    let steered: Vec<usize> = scene.seen().backends.iter().map(|backend| backend.sessions as usize).collect();
    assert_eq!(steered, sessions);
}

fn under_way(seen: &Seen) -> Vec<u64> {
    seen.backends.iter().map(|backend| backend.under_way).collect()
}

#[test]
fn sessions_are_spread_and_stay_where_they_are() {
    let scene = Scene::new(&[1; 3], Limits::default());
    let clients: Vec<_> = (0..9).map(|_| scene.client(scene.at)).collect();
    clients.iter().for_each(|(client, peer)| client.connect(peer).expect("a session"));
    has(&scene, &[3, 3, 3]);
    thread::scope(|scope| {
        for (number, (client, peer)) in clients.iter().enumerate() {
            scope.spawn(move || {
                let mut servers = Vec::new();
                for round in 0..24 {
                    let len = [1, 64, 1_400, 9_000, 70_000, 400_000][round % 6];
                    servers.push(call(client, peer, (number * 100 + round) as u64, len));
                }
                servers.dedup();
                assert_eq!(servers.len(), 1, "client {number} was answered by {servers:?}");
            });
        }
    });
    assert_eq!(scene.sessions(), [3, 3, 3], "no session began again");
    let seen = scene.seen();
    for backend in &seen.backends {
        // A late copy of a request may have counted once more.
        assert_eq!(backend.sessions, 3, "{seen}");
        assert!(backend.messages >= 3 * 24 && backend.answered >= 3 * 24, "{seen}");
        assert!(backend.stated_bytes >= 3 * 4 * 480_465, "{seen}");
        assert!(backend.bytes_to > backend.stated_bytes / 2 && backend.bytes_from > backend.stated_bytes / 2, "{seen}");
    }
}

#[test]
fn a_new_session_goes_where_the_fewest_messages_are_under_way() {
    let mut limits = Limits::default();
    limits.message_idle = 4 * LONG;
    let scene = Scene::new(&[1; 2], limits);
    let (busy, peer) = scene.client(scene.at);
    busy.connect(&peer).expect("a session");
    has(&scene, &[1, 0]);
    for number in 0..5 {
        // So long that no two share a packet, where only the first could be seen.
        busy.send(&peer, [vec![HELD], common::pattern(number, 3_000)].concat(), number).expect("sent");
    }
    until("five messages are under way", || under_way(&scene.seen()) == [5, 0]);
    let others: Vec<_> = (0..3).map(|_| scene.client(scene.at)).collect();
    others.iter().for_each(|(client, peer)| client.connect(peer).expect("a session"));
    has(&scene, &[1, 3]);
    let mut released = 0;
    until("all are answered", || {
        released += scene.servers[0].release();
        released == 5
    });
    for _ in 0..5 {
        assert!(matches!(busy.recv().expect("an answer"), Delivery::Response(_)));
    }
    until("nothing is under way", || under_way(&scene.seen()) == [0, 0]);
    let (last, peer) = scene.client(scene.at);
    last.connect(&peer).expect("a session");
    // With nothing under way, fewer sessions decide.
    has(&scene, &[2, 3]);
}

/// [P-9.1] Which shard of a server runs a message was chosen by its sender, and stands in clear: the kernel there goes by it as without
/// a balancer, and the balancer can count it.
#[test]
fn messages_of_one_session_reach_the_shards_that_they_name() {
    let scene = Scene::new(&[3], Limits::default());
    let (client, peer) = scene.client(scene.at);
    for round in 0..60 {
        assert_eq!(call(&client, &peer, round, 2_000 + round as usize * 100), 0);
    }
    let (seen, info) = (scene.seen(), scene.servers[0].socket.info());
    assert_eq!(info.counters.datagrams_handed_over, 0, "{info}");
    let shards = &seen.backends[0].shards;
    assert!(shards.len() == 3 && shards.values().all(|messages| *messages >= 15), "{seen}");
}

/// Something before the balancer that gives the client another address whenever it likes.
struct Nat {
    inside: UdpSocket,
    outside: Mutex<Arc<UdpSocket>>,
}

async fn bound() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.expect("a socket")
}

impl Nat {
    async fn carry(self: Arc<Self>, to: SocketAddr) {
        let (mut up, mut down, mut client) = (vec![0; 65_535], vec![0; 65_535], None);
        loop {
            // What comes to an address that it gave up is lost.
            let outside = Arc::clone(&self.outside.lock().expect("nobody panicked"));
            tokio::select! {
                came = self.inside.recv_from(&mut up) => {
                    let (len, from) = came.expect("a datagram");
                    client = Some(from);
                    let _ = outside.send_to(&up[..len], to).await;
                }
                came = outside.recv_from(&mut down) => {
                    let (len, _) = came.expect("a datagram");
                    let _ = self.inside.send_to(&down[..len], client.expect("it was heard first")).await;
                }
            }
        }
    }

    fn forget(&self, runtime: &tokio::runtime::Runtime) {
        *self.outside.lock().expect("nobody panicked") = Arc::new(runtime.block_on(bound()));
    }
}

/// [P-2.3] The server sees that its client moved and asks for proof, as without a balancer; the session stays at its server.
#[test]
fn a_client_that_moves_keeps_its_server() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let scene = Scene::new(&[1; 2], Limits::default());
    // So that the client's server is not the one that is taken first.
    let (other, peer) = scene.client(scene.at);
    let first = call(&other, &peer, 0, 64);
    let (inside, outside) = runtime.block_on(async { (bound().await, bound().await) });
    let before = inside.local_addr().expect("its address");
    let nat = Arc::new(Nat { inside, outside: Mutex::new(Arc::new(outside)) });
    runtime.spawn(Arc::clone(&nat).carry(scene.at));
    let (client, peer) = scene.client(before);
    let server = call(&client, &peer, 1, 64);
    assert_ne!(server, first);
    let session = || scene.servers[server].socket.info().sessions[0].clone();
    let began = session();
    let mut at = began.origin.address;
    for moves in 1..=2 {
        nat.forget(&runtime);
        let mut round = moves * 1_000;
        until("the server follows", || {
            round += 1;
            assert_eq!(call(&client, &peer, round, [64, 9_000, 200_000][round as usize % 3]), server);
            session().origin.address != at
        });
        at = session().origin.address;
        assert_eq!(scene.servers[server].socket.info().counters.sessions_moved, moves);
        assert_eq!(call(&client, &peer, round + 1, 30_000), server);
    }
    assert_eq!(scene.sessions(), [1, 1]);
    assert_eq!(session().id, began.id, "it is the same session");
    assert_eq!(scene.seen().address_changes, 2, "{}", scene.seen());
}

/// [P-2.3] A session outlives the socket that stood for its client: what comes later comes to the server from another address.
#[test]
fn a_session_outlives_the_socket_of_its_client() {
    let mut limits = Limits::default();
    limits.address_idle = Duration::from_secs(1);
    let scene = Scene::new(&[1; 2], limits);
    let (client, peer) = scene.client(scene.at);
    let server = call(&client, &peer, 0, 9_000);
    until("nothing stands for a silent client", || scene.seen().addresses == 0);
    let mut round = 0;
    until("the server follows", || {
        round += 1;
        assert_eq!(call(&client, &peer, round, 9_000), server);
        scene.servers[server].socket.info().counters.sessions_moved >= 1
    });
    has(&scene, &[1, 0]);
    assert_eq!(scene.seen().address_changes, 0, "the client is where it was");
}

/// A client's first packet as it looks from outside; no server takes it.
fn made_up_flight(number: u32) -> Vec<u8> {
    let sender = SessionId::new(number, u64::from(number) << 32);
    let fields = HandshakeFields::first(sender, Method::Tls);
    let mut bytes = vec![0; 1_232];
    let header = HandshakePacket::header(FLAG_CLIENT, SessionId::NONE, sender);
    HandshakePacket::emit(&header, &fields, b"", 0, &mut Writer::new(&mut bytes));
    bytes
}

/// Garbage goes nowhere; who invents sessions and addresses has half of the room, for as long as a handshake may take.
#[test]
fn garbage_is_dropped_and_strangers_are_bounded() {
    let mut limits = Limits::default();
    (limits.sessions, limits.addresses, limits.unproven) = (32, 16, Duration::from_secs(6));
    let scene = Scene::new(&[1; 2], limits);
    let (client, peer) = scene.client(scene.at);
    let server = call(&client, &peer, 0, 64);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut unknown = vec![0; 100];
    let session = SessionId::new(1, 0x1234_5678_9abc_def0);
    let header = Header { kind: PacketType::Data, flags: 0, epoch: 0, priority: 0, steer: 0, segment: 0, session };
    header.emit(&mut Writer::new(&mut unknown));
    let dropped = || scene.seen().dropped;
    for number in 0..64 {
        runtime.block_on(async {
            let stranger = bound().await;
            for bytes in [&made_up_flight(number), &[0x11][..], &[0x2f; 200], &unknown] {
                stranger.send_to(bytes, scene.at).await.expect("sent");
            }
        });
        // One after the other, so that none is lost on the way.
        until("they are dropped", || dropped().get("unknown_session") == Some(&(u64::from(number) + 1)));
    }
    let seen = scene.seen();
    assert_eq!((seen.dropped["truncated"], seen.dropped["wrong_version"]), (64, 64), "{seen}");
    assert!(seen.dropped["no_room"] >= 48, "{seen}");
    let remembered: u64 = seen.backends.iter().map(|backend| backend.sessions_now).sum();
    assert!(remembered <= 16 + 1 && seen.addresses <= 8 + 1, "{seen}");
    assert_eq!(call(&client, &peer, 1, 100_000), server, "who is known is served");
    until("strangers are forgotten", || scene.seen().addresses == 1);
    until("their sessions too", || scene.seen().backends.iter().map(|backend| backend.sessions_now).sum::<u64>() == 1);
    let (newcomer, peer) = scene.client(scene.at);
    call(&newcomer, &peer, 2, 64);
}

/// Nothing that the balancer links can seal or open; the same question about its tests, which can, is answered otherwise.
#[test]
fn it_links_nothing_that_uses_keys() {
    let linked = |edges: &str| {
        let arguments =
            ["tree", "--offline", "--locked", "-p", "balancer", "--prefix", "none", "--format", "{p}", "-e", edges];
        let out = Command::new(env!("CARGO")).args(arguments).output().expect("cargo runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).expect("names of packages");
        text.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect::<Vec<_>>()
    };
    let cryptic = |name: &String| {
        let ours = ["record", "handshake", "endpoint", "offload", "attest", "sealane"];
        let theirs =
            ["ring", "aws-lc-rs", "rustls", "aes-gcm", "chacha20poly1305", "aead", "hkdf", "hmac", "sha2", "rcgen"];
        ours.contains(&name.as_str()) || theirs.contains(&name.as_str())
    };
    let normal = linked("normal");
    assert!(normal.iter().any(|name| name == "wire") && !normal.iter().any(cryptic), "{normal:?}");
    assert!(linked("normal,dev").iter().any(cryptic));
}
