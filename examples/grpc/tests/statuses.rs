//! What comes back: metadata and statuses, whose calls are whose, limits, and who is let in.

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::odd::{Odd, odd, odd_with, posts, watch};
use common::{LONG, Running, builder, post, run, until};
use grpc::caller::Caller;
use grpc::certs::{CLIENT_NAME, Certificates, SERVER_NAME};
use grpc::channel::Channel;
use grpc::limits::Limits;
use grpc::message::{self, Answer};
use grpc::proto::board_client::BoardClient;
use grpc::proto::board_server::BoardServer;
use grpc::proto::{PostRequest, PostResponse};
use grpc::routes::Routes;
use sealane::{AsyncSocket, CallOptions};
use tokio_stream::StreamExt;
use tonic::codegen::http::{HeaderMap, Method};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

#[test]
fn metadata_both_ways() {
    run(async {
        let (_server, mut client, _odd) = odd();
        let mut request = Request::new(post("b", "echo"));
        let every_byte: Vec<u8> = (0..=255).collect();
        for value in ["one", "two; three", "with blanks  inside"] {
            request.metadata_mut().append("plain", value.parse().unwrap());
        }
        for value in [&every_byte[..], b"", b"\0"] {
            request.metadata_mut().append_bin("bytes-bin", MetadataValue::from_bytes(value));
        }
        let response = client.post(request).await.unwrap();
        let plain: Vec<_> = response.metadata().get_all("plain").iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!(plain, ["one", "two; three", "with blanks  inside"]);
        let bytes: Vec<_> =
            response.metadata().get_all_bin("bytes-bin").iter().map(|v| v.to_bytes().unwrap()).collect();
        assert_eq!(bytes, [&every_byte[..], b"", b"\0"]);
    });
}

#[test]
fn metadata_without_end_is_refused() {
    run(async {
        let (server, mut client, _odd) = odd();
        let mut request = Request::new(post("b", "x"));
        request.metadata_mut().insert("plain", "y".repeat(20_000).parse().unwrap());
        assert_eq!(client.post(request).await.unwrap_err().code(), Code::ResourceExhausted);
        // And in a response; the request's own fits just so.
        let mut request = Request::new(post("b", "x"));
        for _ in 0..300 {
            request.metadata_mut().append("plain", "y".parse().unwrap());
        }
        assert_eq!(client.post(request).await.unwrap_err().code(), Code::ResourceExhausted);
        server.idle().await;
    });
}

#[test]
fn a_status_with_details() {
    run(async {
        let (_server, mut client, _odd) = odd();
        let status = client.post(post("b", "details")).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.message(), "no: grün & 100 %");
        assert_eq!(status.details(), b"\x00\xffdetails");
        assert_eq!(status.metadata().get("why").unwrap(), "it was asked");
        assert_eq!(client.watch(watch("who")).await.unwrap_err().code(), Code::NotFound);
        // Behind what came before it.
        let mut notes = client.watch(watch("fails")).await.unwrap().into_inner();
        for number in 0..3 {
            assert_eq!(notes.next().await.unwrap().unwrap().number, number);
        }
        let status = notes.next().await.unwrap().unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::DataLoss, "torn"));
        assert!(notes.next().await.is_none());
    });
}

#[test]
fn unknown_methods_and_services() {
    run(async {
        let server = Running::new();
        let mut grpc = tonic::client::Grpc::new(server.channel());
        for path in ["/sealane.board.v1.Board/Nope", "/nobody.Knows/It", "/", "/sealane.board.v1.Board"] {
            let codec = tonic_prost::ProstCodec::<PostRequest, PostResponse>::default();
            grpc.ready().await.unwrap();
            let asked = grpc.unary(Request::new(post("b", "x")), path.parse().unwrap(), codec).await;
            assert_eq!(asked.unwrap_err().code(), Code::Unimplemented, "{path}");
        }
        server.idle().await;
    });
}

#[test]
fn messages_that_are_too_long() {
    run(async {
        let (server, mut client, _odd) = odd();
        // What is sent, what would come back, and what comes in a stream.
        let status = client.post(post("b", "x".repeat(6 << 20))).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        let status = client.post(post("b", "long")).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        let mut notes = client.watch(watch("long")).await.unwrap().into_inner();
        let mut count = 0;
        let status = loop {
            match notes.next().await.unwrap() {
                Ok(_) => count += 1,
                Err(status) => break status,
            }
        };
        assert_eq!((count <= 3, status.code()), (true, Code::ResourceExhausted), "{status}");
        let (tell, told) = posts();
        let (done, ()) = tokio::join!(client.import(told), async move {
            tell.send(post("b", "fits")).await.unwrap();
            let _ = tell.send(post("b", "x".repeat(6 << 20))).await;
        });
        assert_eq!(done.unwrap_err().code(), Code::ResourceExhausted);
        server.idle().await;
    });
}

/// A server holds no more of a call than its own limits allow, whatever those of the client are.
#[test]
fn pieces_that_are_too_long_for_the_server() {
    run(async {
        let mut limits = Limits::default();
        limits.piece_bytes = 1 << 10;
        let (server, mut client, _odd) = odd_with(limits);
        let long = || post("b", "x".repeat(100 << 10));
        let status = client.post(long()).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        let (tell, told) = posts();
        let (done, ()) = tokio::join!(client.import(told), async move {
            tell.send(post("b", "fits")).await.unwrap();
            let _ = tell.send(long()).await;
        });
        let status = done.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        server.idle().await;
    });
}

/// What the socket of either end takes no longer is said the same way.
#[test]
fn messages_that_are_too_long_for_a_socket() {
    run(async {
        let routes = || Routes::new().with(BoardServer::new(Odd::default()).max_decoding_message_size(64 << 20));
        let wide = || Limits::default();
        let server = Running::with(routes(), wide(), |builder| builder.message_bytes_max(1 << 20));
        let status = server.client().post(post("b", "x".repeat(3 << 20))).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        let (channel, _socket) = server.channel_with(|builder| builder.message_bytes_max(1 << 20));
        let status = BoardClient::new(channel).post(post("b", "x".repeat(3 << 20))).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    });
}

#[test]
fn a_handler_that_panics() {
    run(async {
        let (server, mut client, odd) = odd();
        let status = client.post(post("b", "panic")).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{status}");
        // Before anything was sent, and after it.
        let status = client.watch(watch("panics")).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{status}");
        let mut notes = client.watch(watch("panics later")).await.unwrap().into_inner();
        for _ in 0..3 {
            notes.next().await.unwrap().unwrap();
        }
        let status = notes.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{status}");
        client.post(post("b", "x")).await.unwrap();
        until("nothing is worked on", || odd.count() == 0).await;
        server.idle().await;
    });
}

#[test]
fn too_many_calls() {
    run(async {
        let mut limits = Limits::default();
        (limits.calls, limits.calls_per_session) = (5, 3);
        let (server, client, odd) = odd_with(limits);
        let mut kept = Vec::new();
        for _ in 0..3 {
            kept.push(client.clone().watch(watch("waits")).await.unwrap());
        }
        let status = client.clone().post(post("b", "x")).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        let other = server.client();
        for _ in 0..2 {
            kept.push(other.clone().watch(watch("waits")).await.unwrap());
        }
        let status = server.client().post(post("b", "x")).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        kept.clear();
        until("nothing is worked on", || odd.count() == 0).await;
        client.clone().post(post("b", "x")).await.unwrap();
        server.idle().await;
    });
}

/// Handlers know who asks, by the handshake.
#[test]
fn the_callers_identity() {
    run(async {
        let server = Running::new();
        let posted = server.client().post(post("b", "x")).await.unwrap().into_inner();
        assert_eq!(posted.author, CLIENT_NAME);
    });
}

/// A call belongs to the session that opened it: nobody else can pull its parts, send to it, or end it.
#[test]
fn calls_of_others() {
    run(async {
        let (server, mut client, odd) = odd();
        let mut notes = client.watch(watch("endless")).await.unwrap().into_inner();
        notes.next().await.unwrap().unwrap();
        // The same certificate, another session.
        let (_, socket) = server.channel_with(|builder| builder);
        let peer = socket.peer(server.socket.socket().local_addr(), SERVER_NAME).unwrap();
        let thief = Caller::new(socket, peer);
        for number in 0..200 {
            let asks =
                [message::pull(number, 1), message::touch(number), message::cancel(number), message::item(number, 1)];
            for (n, ask) in asks.into_iter().enumerate() {
                let answer = thief.call_with(ask, CallOptions::new().deadline(LONG)).await.unwrap();
                match Answer::parse(Bytes::from_owner(answer)).unwrap() {
                    Answer::Failed(status) => assert_eq!(status.code(), Code::Unavailable),
                    // There is nothing to end, so it has ended.
                    Answer::Done => assert_eq!(n, 2),
                    part => panic!("{part:?}"),
                }
            }
        }
        assert_eq!(odd.count(), 1);
        for number in 1..5_000 {
            assert_eq!(notes.next().await.unwrap().unwrap().number, number);
        }
    });
}

/// Who does not keep to the order of parts, or sends anything at all, is told so and harms nobody.
#[test]
fn nonsense() {
    run(async {
        let (server, _client, odd) = odd();
        let (_, socket) = server.channel_with(|builder| builder);
        let peer = socket.peer(server.socket.socket().local_addr(), SERVER_NAME).unwrap();
        let rude = Caller::new(socket, peer);
        let ask = async |message: Vec<u8>| {
            let answer = rude.call_with(message, CallOptions::new().deadline(LONG)).await.unwrap();
            Answer::parse(Bytes::from_owner(answer)).unwrap()
        };
        for bytes in [&b""[..], b"hello", &[0xff; 30], &[1], &[1, 7, 0, 200]] {
            let Answer::Failed(status) = ask(bytes.to_vec()).await else { panic!("a failure") };
            assert_eq!(status.code(), Code::Internal);
        }
        let head = |number| {
            let path = "/sealane.board.v1.Board/Chat".parse().unwrap();
            let mut headers = HeaderMap::new();
            headers.insert("content-type", "application/grpc".parse().unwrap());
            message::open(number, &Method::POST, &path, &headers).unwrap()
        };
        assert!(matches!(ask(head(5)).await, Answer::Done));
        for wrong in [head(5), message::pull(5, 4), message::pull(5, 1 << 60), message::item(5, 6)] {
            let Answer::Failed(status) = ask(wrong).await else { panic!("a failure") };
            assert_eq!(status.code(), Code::Internal);
        }
        // One part asked for twice, which is not there yet: one of the two is told so, the other when the call ends.
        assert!(matches!(ask(message::pull(5, 0)).await, Answer::Part(_)));
        let (mut one, mut other) = (Box::pin(ask(message::pull(5, 1))), Box::pin(ask(message::pull(5, 1))));
        let (refused, waits) = tokio::select! {
            refused = &mut one => (refused, other),
            refused = &mut other => (refused, one),
        };
        assert!(matches!(refused, Answer::Failed(status) if status.code() == Code::Internal));
        let (ended, told) = tokio::join!(ask(message::cancel(5)), waits);
        assert!(matches!(ended, Answer::Done));
        assert!(matches!(told, Answer::Failed(status) if status.code() == Code::Cancelled));
        until("nothing is worked on", || odd.count() == 0).await;
        server.idle().await;
    });
}

/// Who is somebody else is found out, whichever end it is.
#[test]
fn strangers() {
    run(async {
        let server = Running::new();
        let others = Certificates::generate().unwrap();
        let at = server.socket.socket().local_addr();
        let ask = async |bound: sealane::Builder<sealane::builder::Ready>, name: &str| {
            let socket = Arc::new(AsyncSocket::new(bound.bind("127.0.0.1:0").unwrap()).unwrap());
            let peer = socket.peer(at, name).unwrap();
            BoardClient::new(Channel::new(socket, peer)).post(post("b", "x")).await
        };
        // The server's name is another, its authority is unknown to the client, the client's authority to the server.
        let own = &server.certificates;
        let status = ask(builder(own, &own.client), "other.example").await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        let status = ask(builder(&others, &own.client), SERVER_NAME).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        let status = ask(builder(own, &others.client), SERVER_NAME).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        assert!(ask(builder(own, &own.client), SERVER_NAME).await.is_ok());
    });
}
