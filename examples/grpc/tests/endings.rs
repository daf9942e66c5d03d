//! How calls end: metadata and statuses, deadlines, cancellation, limits, peers that go away.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::{Cut, LONG, Running, builder, post, run, until};
use grpc::caller::Caller;
use grpc::certs::{CLIENT_NAME, Certificates, SERVER_NAME};
use grpc::channel::Channel;
use grpc::limits::Limits;
use grpc::message::{self, Answer};
use grpc::proto::board_client::BoardClient;
use grpc::proto::board_server::{Board, BoardServer};
use grpc::proto::{ImportResponse, Note, PostRequest, PostResponse, WatchRequest};
use grpc::routes::Routes;
use sealane::{AsyncSocket, CallOptions};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt, iter, once, pending};
use tonic::codegen::http::{HeaderMap, Method};
use tonic::metadata::{BinaryMetadataKey, MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status, Streaming};

/// Answers by what it is asked, and counts what it works on.
#[derive(Clone, Default)]
struct Odd {
    working: Arc<AtomicUsize>,
    begun: Arc<Notify>,
}

/// One that is worked on.
struct Working(Arc<AtomicUsize>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Odd {
    fn begin(&self) -> Working {
        self.working.fetch_add(1, Ordering::SeqCst);
        self.begun.notify_one();
        Working(Arc::clone(&self.working))
    }

    fn count(&self) -> usize {
        self.working.load(Ordering::SeqCst)
    }
}

type Notes = std::pin::Pin<Box<dyn Stream<Item = Result<Note, Status>> + Send>>;

#[tonic::async_trait]
impl Board for Odd {
    type WatchStream = Notes;
    type ChatStream = Notes;

    async fn post(&self, request: Request<PostRequest>) -> Result<Response<PostResponse>, Status> {
        let _working = self.begin();
        let metadata = request.metadata().clone();
        match request.get_ref().text.as_str() {
            "wait" => std::future::pending().await,
            "panic" => panic!("as asked"),
            "long" => Ok(Response::new(PostResponse { number: 0, author: "x".repeat(6 << 20) })),
            "details" => {
                let mut metadata = MetadataMap::new();
                metadata.insert("why", "it was asked".parse().unwrap());
                let details = Bytes::from_static(b"\x00\xffdetails");
                Err(Status::with_details_and_metadata(Code::FailedPrecondition, "no: grün & 100 %", details, metadata))
            }
            _ => {
                // What came goes back: what is plain as it was, and what is binary.
                let mut response = Response::new(PostResponse::default());
                for key in ["plain", "bytes-bin"] {
                    if key.ends_with("-bin") {
                        let values = metadata.get_all_bin(key).iter();
                        for value in values {
                            response
                                .metadata_mut()
                                .append_bin(BinaryMetadataKey::from_static("bytes-bin"), value.clone());
                        }
                    } else {
                        for value in metadata.get_all(key) {
                            response.metadata_mut().append("plain", value.clone());
                        }
                    }
                }
                Ok(response)
            }
        }
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Notes>, Status> {
        let working = self.begin();
        let board = request.into_inner().board;
        if board == "who" {
            return Err(Status::not_found("nobody"));
        }
        let first = (0..3).map(|number| Ok(Note { number, ..Note::default() }));
        let notes: Notes = match board.as_str() {
            "fails" => Box::pin(iter(first).chain(once(Err(Status::data_loss("torn"))))),
            "panics" => Box::pin(iter(first).chain(once(()).map(|()| panic!("as asked")))),
            "panics later" => {
                let (tell, later) = mpsc::channel::<()>(1);
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    let _ = tell.send(()).await;
                });
                Box::pin(iter(first).chain(ReceiverStream::new(later).map(|()| panic!("as asked"))))
            }
            "long" => Box::pin(iter(first).chain(once(Ok(Note { text: "x".repeat(6 << 20), ..Note::default() })))),
            "endless" => Box::pin(iter(0..).map(|number| Ok(Note { number, ..Note::default() }))),
            _ => Box::pin(iter(first).chain(pending())),
        };
        // The stream is what is worked on.
        Ok(Response::new(Box::pin(notes.map(move |note| {
            let _ = &working;
            note
        }))))
    }

    async fn import(&self, request: Request<Streaming<PostRequest>>) -> Result<Response<ImportResponse>, Status> {
        let _working = self.begin();
        let mut posts = request.into_inner();
        let mut done = ImportResponse::default();
        while let Some(post) = posts.try_next().await? {
            done.notes += 1;
            if post.text == "enough" {
                // Without having read the rest.
                return Ok(Response::new(done));
            }
        }
        Ok(Response::new(done))
    }

    async fn chat(&self, request: Request<Streaming<PostRequest>>) -> Result<Response<Notes>, Status> {
        let working = self.begin();
        // It never asks for the rest of what it was sent.
        let posts = request.into_inner();
        Ok(Response::new(Box::pin(pending().map(move |note| {
            let _ = (&working, &posts);
            note
        }))))
    }
}

fn odd() -> (Running, BoardClient<Channel>, Odd) {
    odd_with(Limits::default())
}

fn odd_with(limits: Limits) -> (Running, BoardClient<Channel>, Odd) {
    let odd = Odd::default();
    let server = Running::with(Routes::new().with(BoardServer::new(odd.clone())), limits, |builder| builder);
    let client = server.client();
    (server, client, odd)
}

fn watch(board: &str) -> WatchRequest {
    WatchRequest { board: board.to_owned(), follow: false }
}

/// A stream of posts that goes on as long as the returned sender lives.
fn posts() -> (mpsc::Sender<PostRequest>, ReceiverStream<PostRequest>) {
    let (tell, told) = mpsc::channel(1);
    (tell, ReceiverStream::new(told))
}

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
        assert!(matches!(ask(message::cancel(5)).await, Answer::Done));
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
