//! What has come is taken at once, in its order and no more than was asked for, from all shards.

mod common;

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::time::Duration;

use common::{LONG, number_of, numbered, until};
use sealane::{Delivery, Role, Socket};
use udp::poll::wait_readable;

const ALL: u64 = 40;

/// A server to whom so many numbered requests have come, and the client that sent them.
fn asked(shards: u16) -> (Socket, Socket) {
    let builder = || Socket::builder().installed_only().shards(shards);
    let server = builder().serve_installed().bind("127.0.0.1:0").unwrap();
    let client = builder().bind("127.0.0.1:0").unwrap();
    server.install_session(client.local_addr(), Role::Server, [7; 32], "client");
    let peer = client.install_session(server.local_addr(), Role::Client, [7; 32], "server").unwrap();
    for number in 0..ALL {
        client.send(&peer, numbered(number, 100), number).unwrap();
    }
    until("all requests have come", || server.info().counters.messages_delivered == ALL);
    (server, client)
}

/// Answers what came, and gives the numbers.
fn answer(server: &Socket, came: VecDeque<Delivery>) -> Vec<u64> {
    let _together = server.batch();
    let answered = came.into_iter().map(|delivery| {
        let Delivery::Request(request) = delivery else { panic!("{delivery:?}") };
        let number = number_of(&request.payload);
        server.reply(request.token, request.payload).unwrap();
        number
    });
    answered.collect()
}

#[test]
fn in_their_order_and_no_more_than_asked_for() {
    let (server, client) = asked(1);
    let (mut order, mut counts) = (Vec::new(), Vec::new());
    while order.len() < ALL as usize {
        let mut came = VecDeque::new();
        counts.push(server.recv_many(&mut came, 7, LONG).unwrap());
        assert_eq!(came.len(), *counts.last().unwrap());
        order.extend(answer(&server, came));
    }
    assert_eq!(order, (0..ALL).collect::<Vec<_>>());
    assert_eq!(counts, [7, 7, 7, 7, 7, 5]);
    let (mut came, mut answers) = (VecDeque::new(), Vec::new());
    while answers.len() < ALL as usize {
        assert!(client.recv_many(&mut came, usize::MAX, LONG).unwrap() > 0, "no answer after {answers:?}");
        for delivery in came.drain(..) {
            let Delivery::Response(response) = delivery else { panic!("{delivery:?}") };
            assert_eq!(number_of(&response.payload), response.cookie);
            answers.push(response.cookie);
        }
    }
    answers.sort_unstable();
    assert_eq!(answers, order);
}

#[test]
fn an_event_loop_takes_them_in_one_look() {
    let (server, _client) = asked(1);
    let ready = server.readiness().unwrap();
    assert!(wait_readable(&[ready.as_fd()], Some(LONG)).unwrap().has(0));
    let mut came = VecDeque::new();
    // What is left keeps the descriptor readable.
    assert_eq!(server.try_recv_many(&mut came, 30).unwrap(), 30);
    assert!(wait_readable(&[ready.as_fd()], Some(LONG)).unwrap().has(0));
    assert_eq!(server.try_recv_many(&mut came, 30).unwrap(), 10);
    assert_eq!(answer(&server, came), (0..ALL).collect::<Vec<_>>());
}

#[test]
fn of_all_shards() {
    let (server, _client) = asked(2);
    let mut came = VecDeque::new();
    let first = server.recv_many(&mut came, 30, LONG).unwrap();
    assert!((1..=30).contains(&first), "{first}");
    assert_eq!(server.recv_many(&mut came, 0, LONG).unwrap(), 0);
    assert_eq!(first + server.try_recv_many(&mut came, usize::MAX).unwrap(), ALL as usize);
    let mut order = answer(&server, came);
    order.sort_unstable();
    assert_eq!(order, (0..ALL).collect::<Vec<_>>());
}

#[test]
fn nothing_is_not_an_error() {
    for shards in [1, 2] {
        let socket = Socket::builder().installed_only().shards(shards).bind("127.0.0.1:0").unwrap();
        let mut came = VecDeque::new();
        assert_eq!(socket.try_recv_many(&mut came, 10).unwrap(), 0);
        assert_eq!(socket.recv_many(&mut came, 0, Duration::from_millis(5)).unwrap(), 0);
        assert_eq!(socket.recv_many(&mut came, 10, Duration::from_millis(5)).unwrap(), 0);
        socket.close().unwrap();
        assert!(socket.try_recv_many(&mut came, 10).is_err() && socket.recv_many(&mut came, 10, LONG).is_err());
    }
}
