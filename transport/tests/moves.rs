//! A client's address changes while it has calls under way, as when a NAT forgets it: the session goes on where the client is. [P-2.3]
#![cfg(feature = "aws-lc")]
#![expect(clippy::disallowed_types, reason = "what stands in the way has sockets of its own")]

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{Authority, bounded, patient, pattern, until};
use sealane::Info;

/// Something that stands between a client and a server and gives the client another address whenever it likes.
struct Nat {
    inside: UdpSocket,
    outside: Mutex<Arc<UdpSocket>>,
    server: SocketAddr,
    client: Mutex<Option<SocketAddr>>,
    over: AtomicBool,
}

fn bind() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    socket
}

impl Nat {
    fn new(server: SocketAddr) -> Arc<Self> {
        let (outside, client) = (Mutex::new(Arc::new(bind())), Mutex::default());
        let nat = Arc::new(Self { inside: bind(), outside, server, client, over: AtomicBool::new(false) });
        let (out, back) = (Arc::clone(&nat), Arc::clone(&nat));
        thread::spawn(move || {
            let mut buffer = vec![0; 65_535];
            while !out.over.load(Ordering::Relaxed) {
                let Ok((len, from)) = out.inside.recv_from(&mut buffer) else { continue };
                *out.client.lock().unwrap() = Some(from);
                let _ = out.outside.lock().unwrap().send_to(&buffer[..len], out.server);
            }
        });
        thread::spawn(move || {
            let mut buffer = vec![0; 65_535];
            while !back.over.load(Ordering::Relaxed) {
                // What comes to an address that it gave up is lost.
                let outside = Arc::clone(&back.outside.lock().unwrap());
                let Ok((len, _)) = outside.recv_from(&mut buffer) else { continue };
                let still = Arc::ptr_eq(&outside, &back.outside.lock().unwrap());
                if let Some(client) = back.client.lock().unwrap().filter(|_| still) {
                    let _ = back.inside.send_to(&buffer[..len], client);
                }
            }
        });
        nat
    }

    fn forget(&self) -> SocketAddr {
        let socket = bind();
        let at = socket.local_addr().unwrap();
        *self.outside.lock().unwrap() = Arc::new(socket);
        at
    }
}

fn place(info: &Info) -> SocketAddr {
    assert_eq!(info.sessions.len(), 1, "{info}");
    info.sessions[0].origin.address
}

#[test]
fn a_client_behind_a_nat_that_forgets_it() {
    bounded(|| {
        let ca = Authority::new();
        let server = Arc::new(ca.server().bind("127.0.0.1:0").unwrap());
        let nat = Nat::new(server.local_addr());
        let client = ca.client().bind("127.0.0.1:0").unwrap();
        let peer = client.peer(nat.inside.local_addr().unwrap(), "localhost").unwrap();
        let serving = Arc::clone(&server);
        thread::spawn(move || {
            while let Ok(delivery) = serving.recv() {
                if let sealane::Delivery::Request(request) = delivery {
                    let _ = serving.reply(request.token, request.payload);
                }
            }
        });
        client.call_with(&peer, b"warm", patient()).unwrap();
        let (first, session) = (place(&server.info()), server.info().sessions[0].id);
        let (answered, over) = (AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for t in 0..3usize {
                let (client, peer, answered, over) = (&client, &peer, &answered, &over);
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let sent = pattern(t as u64, [64, 9_000, 400_000][t]);
                        assert!(*client.call_with(peer, &sent, patient()).unwrap() == *sent);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for moves in 1..=3 {
                let at = nat.forget();
                until("the session follows", || place(&server.info()) == at);
                let before = answered.load(Ordering::Relaxed);
                until("calls are answered there", || answered.load(Ordering::Relaxed) > before + 10);
                assert_eq!(server.info().counters.sessions_moved, moves);
            }
            over.store(true, Ordering::Relaxed);
        });
        let info = server.info();
        assert_eq!(info.sessions[0].id, session, "it is the same one: {info}");
        assert_ne!(place(&info), first);
        // The route there is as wide as it was.
        assert!(info.sessions[0].datagram_max > 1232, "{}", info.sessions[0].datagram_max);
        nat.over.store(true, Ordering::Relaxed);
        client.close().unwrap();
        server.close().unwrap();
    });
}
