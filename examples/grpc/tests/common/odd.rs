//! A service that answers by what it is asked, and says how much it works on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use grpc::channel::Channel;
use grpc::limits::Limits;
use grpc::proto::board_client::BoardClient;
use grpc::proto::board_server::{Board, BoardServer};
use grpc::proto::{ImportResponse, Note, PostRequest, PostResponse, WatchRequest};
use grpc::routes::Routes;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt, iter, once, pending};
use tonic::metadata::{BinaryMetadataKey, MetadataMap};
use tonic::{Code, Request, Response, Status, Streaming};

use super::Running;

/// Answers by what it is asked, and counts what it works on.
#[derive(Clone, Default)]
pub struct Odd {
    working: Arc<AtomicUsize>,
    /// Rings when work begins.
    pub begun: Arc<Notify>,
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

    /// How many it works on.
    pub fn count(&self) -> usize {
        self.working.load(Ordering::SeqCst)
    }
}

pub type Notes = std::pin::Pin<Box<dyn Stream<Item = Result<Note, Status>> + Send>>;

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

/// A server of it, and a client.
pub fn odd() -> (Running, BoardClient<Channel>, Odd) {
    odd_with(Limits::default())
}

/// The same with these limits.
pub fn odd_with(limits: Limits) -> (Running, BoardClient<Channel>, Odd) {
    let odd = Odd::default();
    let server = Running::with(Routes::new().with(BoardServer::new(odd.clone())), limits, |builder| builder);
    let client = server.client();
    (server, client, odd)
}

/// To watch a board.
pub fn watch(board: &str) -> WatchRequest {
    WatchRequest { board: board.to_owned(), follow: false }
}

/// A stream of posts that goes on as long as the returned sender lives.
pub fn posts() -> (mpsc::Sender<PostRequest>, ReceiverStream<PostRequest>) {
    let (tell, told) = mpsc::channel(1);
    (tell, ReceiverStream::new(told))
}
