//! What has come is taken at once, in its order and no more than was asked for, from all shards; what goes goes at once, and what cannot
//! stays.

mod common;

use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::Duration;

use common::{LONG, number_of, numbered, until};
use sealane::builder::Ready;
use sealane::{Body, Builder, Delivery, Error, Peer, ReplyToken, Role, Socket};
use udp::poll::wait_readable;

const ALL: u64 = 40;

/// A server, and a client of its that is built as told.
fn pair(shards: u16, limit: impl Fn(Builder<Ready>) -> Builder<Ready>) -> (Socket, Socket, Peer) {
    let builder = || Socket::builder().installed_only().shards(shards);
    let server = builder().serve_installed().bind("127.0.0.1:0").unwrap();
    let client = limit(builder()).bind("127.0.0.1:0").unwrap();
    server.install_session(client.local_addr(), Role::Server, [7; 32], "client");
    let peer = client.install_session(server.local_addr(), Role::Client, [7; 32], "server").unwrap();
    (server, client, peer)
}

/// A server to whom so many numbered requests have come, and the client that sent them.
fn asked(shards: u16) -> (Socket, Socket) {
    let (server, client, peer) = pair(shards, |builder| builder);
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

/// Numbered requests of so many bytes.
fn requests(numbers: Range<u64>, bytes: usize) -> VecDeque<(Body<'static>, u64)> {
    numbers.map(|number| (numbered(number, bytes).into(), number)).collect()
}

/// Takes so many requests, and has for each what it is answered with: itself.
fn replies(server: &Socket, count: u64) -> VecDeque<(ReplyToken, Body<'static>)> {
    let mut came = VecDeque::new();
    while came.len() < count as usize {
        assert!(server.recv_many(&mut came, usize::MAX, LONG).unwrap() > 0, "{} of {count}", came.len());
    }
    let echo = |delivery| match delivery {
        Delivery::Request(request) => (request.token, request.payload.into()),
        other => panic!("{other:?}"),
    };
    came.into_iter().map(echo).collect()
}

/// The numbers of so many responses, each to the request with that number.
fn answers(client: &Socket, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let Some(delivery) = client.recv_timeout(LONG).unwrap() else { panic!("{numbers:?} of {count}") };
        let Delivery::Response(response) = delivery else { panic!("{delivery:?}") };
        assert_eq!(number_of(&response.payload), response.cookie);
        numbers.push(response.cookie);
    }
    numbers.sort_unstable();
    numbers
}

#[test]
fn what_goes_at_once_travels_together() {
    for shards in [1, 2] {
        let (server, client, peer) = pair(shards, |builder| builder);
        // What waits for a session to open does not travel together.
        client.send(&peer, numbered(0, 100), 0).unwrap();
        server.reply_many(&mut replies(&server, 1)).unwrap();
        assert_eq!(answers(&client, 1), [0]);
        // More than one lock is held for.
        let mut out = requests(0..300, 100);
        client.send_many(&peer, &mut out).unwrap();
        assert!(out.is_empty());
        let mut back = replies(&server, 300);
        server.reply_many(&mut back).unwrap();
        assert!(back.is_empty());
        assert_eq!(answers(&client, 300), (0..300).collect::<Vec<_>>());
        for (who, socket) in [("client", &client), ("server", &server)] {
            let sealed = socket.info().counters.records_sealed;
            assert!(sealed < 150, "{sealed} records of the {who} with {shards} shards for 300 messages");
        }
        client.send_many(&peer, &mut out).unwrap();
        server.reply_many(&mut back).unwrap();
    }
}

#[test]
fn what_cannot_go_stays() {
    let (server, client, peer) = pair(1, |builder| builder.message_bytes_max(1000));
    let mut out = requests(0..2, 100);
    out.extend(requests(2..3, 1001));
    out.extend(requests(3..5, 100));
    for _ in 0..2 {
        let error = client.send_many(&peer, &mut out).unwrap_err();
        assert!(matches!(error, Error::TooLong { length: 1001, limit: 1000 }), "{error}");
        assert_eq!(
            out.iter().map(|(body, number)| (body.len(), *number)).collect::<Vec<_>>(),
            [(1001, 2), (100, 3), (100, 4)]
        );
    }
    out.pop_front();
    client.send_many(&peer, &mut out).unwrap();
    server.reply_many(&mut replies(&server, 4)).unwrap();
    assert_eq!(answers(&client, 4), [0, 1, 3, 4]);
    client.close().unwrap();
    out = requests(0..2, 100);
    assert!(matches!(client.send_many(&peer, &mut out), Err(Error::Closed)));
    assert_eq!(out.len(), 2);
}

#[test]
fn who_gave_up_is_left_out() {
    let (server, client, peer) = pair(1, |builder| builder);
    client.send_many(&peer, &mut requests(0..2, 100)).unwrap();
    let given_up = client.send(&peer, numbered(9, 100), 9).unwrap();
    client.send_many(&peer, &mut requests(2..4, 100)).unwrap();
    let mut back = replies(&server, 5);
    assert!(client.abort(given_up));
    until("the server knows", || server.info().rpcs.len() == 4);
    let error = server.reply_many(&mut back).unwrap_err();
    assert!(matches!(error, Error::UnknownRequest { .. }), "{error}");
    assert_eq!(back.len(), 2);
    server.reply_many(&mut back).unwrap();
    assert_eq!(answers(&client, 4), [0, 1, 2, 3]);
}

#[test]
fn many_wait_for_room() {
    let (server, client, peer) = pair(1, |builder| builder.send_bytes_max(100_000));
    std::thread::scope(|scope| {
        scope.spawn(|| (0..10).for_each(|_| server.reply_many(&mut replies(&server, 1)).unwrap()));
        // Two do not fit, so each waits for the response to the one before.
        client.send_many(&peer, &mut requests(0..10, 60_000)).unwrap();
    });
    assert_eq!(answers(&client, 10), (0..10).collect::<Vec<_>>());
}
