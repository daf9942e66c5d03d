//! Owns the example's service: notice boards, one method of each kind. It knows tonic and nothing of what carries it, but for the name of
//! its caller.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sealane::{PeerIdentity, PeerInfo};
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Extensions, Request, Response, Status, Streaming};

use crate::proto::board_server::Board;
use crate::proto::{ImportResponse, Note, PostRequest, PostResponse, WatchRequest};

/// Boards that there are at once.
const BOARDS_MAX: usize = 1_000;
/// Notes on one board.
const NOTES_MAX: usize = 100_000;
/// Notes that are made ready before they are asked for.
const READY: usize = 16;

/// The notes of a board; who follows it waits for the next.
type Notes = watch::Sender<Vec<Arc<Note>>>;

/// All boards.
#[derive(Clone, Debug, Default)]
pub struct Boards(Arc<Mutex<HashMap<String, Arc<Notes>>>>);

impl Boards {
    /// The board of this name, made when it is first named.
    fn named(&self, name: &str) -> Result<Arc<Notes>, Status> {
        if name.is_empty() {
            return Err(Status::invalid_argument("a board has a name"));
        }
        let mut boards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(board) = boards.get(name) {
            return Ok(Arc::clone(board));
        }
        if boards.len() >= BOARDS_MAX {
            return Err(Status::resource_exhausted(format!("there are {BOARDS_MAX} boards; no more are allowed")));
        }
        let board = Arc::new(Notes::new(Vec::new()));
        boards.insert(name.to_owned(), Arc::clone(&board));
        Ok(board)
    }

    fn post(&self, post: PostRequest, author: &str) -> Result<Note, Status> {
        let board = self.named(&post.board)?;
        let mut posted = None;
        board.send_if_modified(|notes| {
            if notes.len() < NOTES_MAX {
                let number = notes.len() as u64 + 1;
                let note = Arc::new(Note { number, author: author.to_owned(), text: post.text });
                notes.push(Arc::clone(&note));
                posted = Some(note);
            }
            posted.is_some()
        });
        match posted {
            Some(note) => Ok(Note::clone(&note)),
            None => Err(Status::resource_exhausted(format!("the board {:?} is full", post.board))),
        }
    }
}

/// The name in the caller's certificate, which the handshake verified.
fn caller(extensions: &Extensions) -> String {
    match extensions.get::<PeerInfo>().map(PeerInfo::identity) {
        Some(PeerIdentity::Certificate(certificate)) => certificate.names().first().map(ToString::to_string),
        Some(other) => Some(other.to_string()),
        None => None,
    }
    .unwrap_or_else(|| "nobody".to_owned())
}

#[tonic::async_trait]
impl Board for Boards {
    type WatchStream = ReceiverStream<Result<Note, Status>>;
    type ChatStream = ReceiverStream<Result<Note, Status>>;

    async fn post(&self, request: Request<PostRequest>) -> Result<Response<PostResponse>, Status> {
        let author = caller(request.extensions());
        let note = self.post(request.into_inner(), &author)?;
        Ok(Response::new(PostResponse { number: note.number, author: note.author }))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let WatchRequest { board, follow } = request.into_inner();
        let mut notes = self.named(&board)?.subscribe();
        let (tell, told) = mpsc::channel(READY);
        tokio::spawn(async move {
            let mut seen = 0;
            loop {
                let new = notes.borrow_and_update()[seen..].to_vec();
                seen += new.len();
                for note in new {
                    if tell.send(Ok(Note::clone(&note))).await.is_err() {
                        return;
                    }
                }
                if !follow {
                    return;
                }
                tokio::select! {
                    _ = tell.closed() => return,
                    changed = notes.changed() => if changed.is_err() { return },
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(told)))
    }

    async fn import(&self, request: Request<Streaming<PostRequest>>) -> Result<Response<ImportResponse>, Status> {
        let author = caller(request.extensions());
        let mut posts = request.into_inner();
        let mut done = ImportResponse::default();
        while let Some(post) = posts.try_next().await? {
            done.notes += 1;
            done.bytes += post.text.len() as u64;
            self.post(post, &author)?;
        }
        Ok(Response::new(done))
    }

    async fn chat(&self, request: Request<Streaming<PostRequest>>) -> Result<Response<Self::ChatStream>, Status> {
        let author = caller(request.extensions());
        let mut posts = request.into_inner();
        let boards = self.clone();
        let (tell, told) = mpsc::channel(READY);
        tokio::spawn(async move {
            loop {
                let note = tokio::select! {
                    _ = tell.closed() => return,
                    post = posts.try_next() => match post {
                        Ok(Some(post)) => boards.post(post, &author),
                        Ok(None) => return,
                        Err(status) => Err(status),
                    },
                };
                let failed = note.is_err();
                if tell.send(note).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(told)))
    }
}
