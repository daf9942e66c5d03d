//! What is long leaves, and is taken, in turns: whoever asks for something short meanwhile has it before the long one is through.

mod common;

use common::{pattern, until};
use sealane::{Delivery, Peer, Role, Socket, Wait};

const LONG_BYTES: usize = 512 << 10;

/// Two sockets that do something only while they are asked to, and the client's way to the server.
fn pair() -> (Socket, Socket, Peer) {
    let builder = || Socket::builder().installed_only().wait(Wait::Spin).danger_helper_thread(false);
    let server = builder().serve_installed().bind("127.0.0.1:0").unwrap();
    let client = builder().bind("127.0.0.1:0").unwrap();
    server.install_session(client.local_addr(), Role::Server, [7; 32], "client");
    let peer = client.install_session(server.local_addr(), Role::Client, [7; 32], "server").unwrap();
    (server, client, peer)
}

/// What comes next, by looks at this socket alone.
fn next(socket: &Socket) -> Delivery {
    let mut came = None;
    until("something comes", || {
        came = socket.try_recv().unwrap();
        came.is_some()
    });
    came.unwrap()
}

fn answer(server: &Socket, bytes: usize) {
    let Delivery::Request(request) = next(server) else { panic!("a request was sent") };
    server.reply(request.token, pattern(1, bytes)).unwrap();
}

/// The client has its session, asked for something long, and granted all of it.
fn granted() -> (Socket, Socket, Peer) {
    let (server, client, peer) = pair();
    client.send(&peer, b"a session", 0).unwrap();
    // Each has a part in it.
    until("the session is there", || {
        if let Some(Delivery::Request(request)) = server.try_recv().unwrap() {
            server.reply(request.token, b"yes").unwrap();
        }
        client.try_recv().unwrap().is_some()
    });
    client.send(&peer, b"long", 1).unwrap();
    answer(&server, LONG_BYTES);
    // What needs no grant is there; the rest is granted.
    until("the rest is granted", || {
        assert!(client.try_recv().unwrap().is_none());
        client.info().incoming_bytes >= (LONG_BYTES / 2) as u64
    });
    (server, client, peer)
}

/// All of a long response may leave when a short request comes: the short response is there first.
#[test]
fn a_short_response_passes_a_long_one() {
    let (server, client, peer) = granted();
    client.send(&peer, b"short", 2).unwrap();
    answer(&server, 5);
    let Delivery::Response(first) = next(&client) else { panic!("a response was asked for") };
    assert_eq!((first.cookie, first.payload.len()), (2, 5));
    let mut second = None;
    until("the long one comes", || {
        assert!(server.try_recv().unwrap().is_none());
        second = client.try_recv().unwrap();
        second.is_some()
    });
    let Some(Delivery::Response(second)) = second else { panic!("a response was asked for") };
    assert_eq!((second.cookie, second.payload.len()), (1, LONG_BYTES));
    assert!(*second.payload == *pattern(1, LONG_BYTES), "other bytes");
}

/// One look takes a part of what has come of a long message, and leaves the rest for the next.
#[test]
fn a_look_takes_a_part() {
    let (server, client, _) = granted();
    for _ in 0..100 {
        assert!(server.try_recv().unwrap().is_none());
    }
    let received = || client.info().rpcs[0].rpc.in_received as usize;
    let before = received();
    assert!(client.try_recv().unwrap().is_none());
    let after = received();
    assert!(before < after && after < LONG_BYTES, "{before} bytes, then {after}");
    let Delivery::Response(response) = next(&client) else { panic!("a response was asked for") };
    assert_eq!(response.payload.len(), LONG_BYTES);
}
