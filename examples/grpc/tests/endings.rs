//! How calls end before their time: deadlines, cancellation, ends that do not read, peers that go away.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::odd::{Odd, odd, odd_with, posts, watch};
use common::{LONG, Running, builder, post, run, until};
use grpc::certs::SERVER_NAME;
use grpc::channel::Channel;
use grpc::limits::Limits;
use grpc::proto::board_client::BoardClient;
use grpc::proto::board_server::BoardServer;
use grpc::routes::Routes;
use sealane::AsyncSocket;
use sealane::fault::Cut;
use tokio_stream::StreamExt;
use tonic::{Code, Request};

#[test]
fn deadlines() {
    run(async {
        let (server, mut client, odd) = odd();
        let soon = Duration::from_millis(100);
        fn within<T>(span: Duration, message: T) -> Request<T> {
            let mut request = Request::new(message);
            request.set_timeout(span);
            request
        }
        let status = client.post(within(soon, post("b", "wait"))).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        let mut notes = client.watch(within(soon, watch("waits"))).await.unwrap().into_inner();
        let status = loop {
            if let Err(status) = notes.next().await.unwrap() {
                break status;
            }
        };
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        let (_tell, told) = posts();
        let status = client.import(within(soon, told)).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        // One that was over before it began.
        let status = client.post(within(Duration::ZERO, post("b", "x"))).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        // The channel's own.
        let mut hasty = BoardClient::new(server.channel().timeout(soon));
        let status = hasty.post(post("b", "wait")).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        until("nothing is worked on", || odd.count() == 0).await;
        server.idle().await;
        // And one that is kept.
        client.post(within(LONG, post("b", "x"))).await.unwrap();
    });
}

/// A server keeps the deadline by itself, also where nobody asks any more.
#[test]
fn a_server_keeps_deadlines_by_itself() {
    run(async {
        let (server, mut client, odd) = odd();
        let mut request = Request::new(watch("waits"));
        request.set_timeout(Duration::from_millis(200));
        let notes = client.watch(request).await.unwrap();
        assert_eq!(odd.count(), 1);
        // Nobody reads it, nobody drops it.
        until("nothing is worked on", || odd.count() == 0).await;
        server.idle().await;
        drop(notes);
    });
}

#[test]
fn a_call_that_is_dropped_is_dropped_at_the_server() {
    run(async {
        let (server, client, odd) = odd();
        for _ in 0..3 {
            let mut calling = client.clone();
            let call = tokio::spawn(async move { calling.post(post("b", "wait")).await.map(drop) });
            odd.begun.notified().await;
            assert_eq!(odd.count(), 1);
            call.abort();
            until("nothing is worked on", || odd.count() == 0).await;
        }
        // A request that is not complete.
        let mut calling = client.clone();
        let (tell, told) = posts();
        let call = tokio::spawn(async move { calling.import(told).await.map(drop) });
        tell.send(post("b", "one")).await.unwrap();
        odd.begun.notified().await;
        call.abort();
        until("nothing is worked on", || odd.count() == 0).await;
        assert!(tell.is_closed() || tell.send(post("b", "two")).await.is_err(), "who sends is told");
        server.idle().await;
    });
}

#[test]
fn a_stream_that_is_dropped_is_dropped_at_the_server() {
    run(async {
        let (server, mut client, odd) = odd();
        for board in ["waits", "endless"] {
            for read in [0, 2] {
                let mut notes = client.watch(watch(board)).await.unwrap().into_inner();
                for _ in 0..read {
                    notes.next().await.unwrap().unwrap();
                }
                assert_eq!(odd.count(), 1);
                // Outside of the runtime's threads, too.
                std::thread::spawn(move || drop(notes)).join().unwrap();
                until("nothing is worked on", || odd.count() == 0).await;
            }
        }
        let (_tell, told) = posts();
        let notes = client.chat(told).await.unwrap();
        assert_eq!(odd.count(), 1);
        drop(notes);
        until("nothing is worked on", || odd.count() == 0).await;
        server.idle().await;
    });
}

/// A stream that nobody reads does not make its server work ahead without end.
#[test]
fn who_does_not_read_holds_the_server_back() {
    run(async {
        let (server, mut client, _odd) = odd();
        let mut notes = client.watch(watch("endless")).await.unwrap().into_inner();
        notes.next().await.unwrap().unwrap();
        let sent = || server.socket.info().counters.records_sealed;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let before = sent();
        tokio::time::sleep(Duration::from_millis(300)).await;
        // Keeping a session alive may take a packet; parts of 64 KiB would be thousands.
        assert!(sent() - before < 50, "{} records", sent() - before);
        for number in 1..20_000 {
            assert_eq!(notes.next().await.unwrap().unwrap().number, number);
        }
    });
}

/// Nor does a server that does not read let its client send without end.
#[test]
fn a_server_that_does_not_read_holds_the_client_back() {
    run(async {
        let (server, mut client, _odd) = odd();
        let (tell, told) = posts();
        let notes = client.chat(told).await.unwrap();
        let mut sent = 0;
        let text = "x".repeat(60_000);
        while tokio::time::timeout(Duration::from_millis(500), tell.send(post("b", &text))).await.is_ok() {
            sent += 1;
            assert!(sent < 100, "it goes on and on");
        }
        drop(notes);
        server.idle().await;
    });
}

/// The rest of a request that nobody wants is not waited for.
#[test]
fn a_response_before_the_end_of_the_request() {
    run(async {
        let (server, mut client, _odd) = odd();
        let (tell, told) = posts();
        let (done, ()) = tokio::join!(client.import(told), async {
            tell.send(post("b", "one")).await.unwrap();
            tell.send(post("b", "enough")).await.unwrap();
        });
        assert_eq!(done.unwrap().into_inner().notes, 2);
        server.idle().await;
        drop(tell);
    });
}

/// Who is not heard of any more is forgotten; who only has nothing to say is not.
#[test]
fn a_client_that_vanished_is_forgotten() {
    run(async {
        let mut limits = Limits::default();
        limits.idle = Duration::from_millis(1_500);
        let (server, _client, odd) = odd_with(limits);
        let patient = server.channel().touch_every(Duration::from_millis(100));
        let mut here = BoardClient::new(patient).watch(watch("waits")).await.unwrap().into_inner();
        for _ in 0..3 {
            here.next().await.unwrap().unwrap();
        }
        let (channel, socket) = server.channel_with(|builder| builder);
        let mut gone = BoardClient::new(channel).watch(watch("waits")).await.unwrap().into_inner();
        gone.next().await.unwrap().unwrap();
        assert_eq!(odd.count(), 2);
        // Its touches are too rare for this server: as if it had vanished.
        until("one is forgotten", || odd.count() == 1).await;
        tokio::time::sleep(2 * limits.idle).await;
        assert_eq!(odd.count(), 1);
        drop((here, gone, socket));
        until("nothing is worked on", || odd.count() == 0).await;
    });
}

/// A server that says goodbye, or falls silent, or was started anew.
#[test]
fn peers_that_go_away() {
    run(async {
        let (server, _client, odd) = odd();
        let hasty = Duration::from_millis(300);
        let (channel, _socket) = server.channel_with(|builder| builder.handshake_timeout(hasty));
        let mut client = BoardClient::new(channel);
        let mut notes = client.watch(watch("waits")).await.unwrap().into_inner();
        for _ in 0..3 {
            notes.next().await.unwrap().unwrap();
        }
        let mut calling = client.clone();
        let call = tokio::spawn(async move { calling.post(post("b", "wait")).await.map(drop) });
        until("both are worked on", || odd.count() == 2).await;
        let at = server.socket.socket().local_addr();
        let Running { certificates, socket, .. } = server;
        tokio::task::spawn_blocking(move || socket.socket().close()).await.unwrap().unwrap();
        let status = notes.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        let status = call.await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        until("nothing is worked on", || odd.count() == 0).await;
        // Where nobody is.
        let bound = builder(&certificates, &certificates.client).handshake_timeout(hasty);
        let socket = Arc::new(AsyncSocket::new(bound.bind("127.0.0.1:0").unwrap()).unwrap());
        let peer = socket.peer(at, SERVER_NAME).unwrap();
        let status = BoardClient::new(Channel::new(socket, peer)).post(post("b", "x")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    });
}

#[test]
fn a_server_that_falls_silent() {
    run(async {
        let odd = Odd::default();
        let routes = Routes::new().with(BoardServer::new(odd.clone()));
        let cut = Cut::default();
        let server = Running::with(routes, Limits::default(), |builder| builder.danger_wrap(cut.wrap()));
        let (channel, _socket) = server.channel_with(|builder| builder.peer_timeout(Duration::from_millis(500)));
        let mut client = BoardClient::new(channel);
        let mut notes = client.watch(watch("waits")).await.unwrap().into_inner();
        for _ in 0..3 {
            notes.next().await.unwrap().unwrap();
        }
        cut.cut();
        let status = notes.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        let error = std::error::Error::source(&status).and_then(|source| source.downcast_ref::<sealane::Error>());
        assert!(matches!(error, Some(sealane::Error::PeerSilent { may_have_run: true, .. })), "{error:?}");
    });
}
