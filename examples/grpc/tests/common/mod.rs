//! What the tests share: a server with all services on loopback, channels to it, and an end for tests that hang.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(unreachable_pub, reason = "a module that every test file includes for itself")]

pub mod odd;

use std::sync::Arc;
use std::time::Duration;

use grpc::board::Boards;
use grpc::certs::{Certificates, Pair, SERVER_NAME};
use grpc::channel::Channel;
use grpc::limits::Limits;
use grpc::proto::PostRequest;
use grpc::proto::board_client::BoardClient;
use grpc::proto::board_server::BoardServer;
use grpc::routes::Routes;
use grpc::server::Server;
use sealane::builder::Ready;
use sealane::{AsyncSocket, Builder, Clients, Socket};

/// What a test waits for at most.
pub const LONG: Duration = Duration::from_secs(60);

/// Runs a test on several threads, and fails it when it hangs.
pub fn run(test: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(2 * LONG, tokio::spawn(test)).await.expect("it hangs").unwrap() });
    // What a test left behind must not keep it.
    runtime.shutdown_background();
}

/// Waits until `what` holds.
pub async fn until(why: &str, what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.unwrap_or_else(|_| panic!("it never came true that {why}"));
}

/// A socket of this owner, before it is bound.
pub fn builder(certificates: &Certificates, owner: &Pair) -> Builder<Ready> {
    Socket::builder().trust(certificates.trust().unwrap()).identity(owner.identity().unwrap())
}

/// A server.
pub struct Running {
    pub certificates: Certificates,
    pub socket: Arc<AsyncSocket>,
    pub server: Server<Routes>,
}

impl Running {
    /// With notice boards alone.
    pub fn new() -> Self {
        Self::with(Routes::new().with(BoardServer::new(Boards::default())), Limits::default(), |builder| builder)
    }

    /// With these services and limits, over a socket that `change` has its say in.
    pub fn with(routes: Routes, limits: Limits, change: impl FnOnce(Builder<Ready>) -> Builder<Ready>) -> Self {
        let certificates = Certificates::generate().unwrap();
        let bound = change(builder(&certificates, &certificates.server).serve(Clients::Authenticated));
        let socket = Arc::new(AsyncSocket::new(bound.bind("127.0.0.1:0").unwrap()).unwrap());
        let server = Server::new(routes, limits);
        tokio::spawn(server.clone().serve(Arc::clone(&socket)));
        Self { certificates, socket, server }
    }

    /// A channel over a socket of its own.
    pub fn channel(&self) -> Channel {
        self.channel_with(|builder| builder).0
    }

    /// The same over a socket that `change` has its say in; and that.
    pub fn channel_with(&self, change: impl FnOnce(Builder<Ready>) -> Builder<Ready>) -> (Channel, Arc<AsyncSocket>) {
        let bound = change(builder(&self.certificates, &self.certificates.client)).bind("127.0.0.1:0").unwrap();
        let socket = Arc::new(AsyncSocket::new(bound).unwrap());
        let peer = socket.peer(self.socket.socket().local_addr(), SERVER_NAME).unwrap();
        (Channel::new(Arc::clone(&socket), peer), socket)
    }

    /// A client of the notice boards.
    pub fn client(&self) -> BoardClient<Channel> {
        BoardClient::new(self.channel())
    }

    /// Waits until the server works on nothing.
    pub async fn idle(&self) {
        until("the server works on nothing", || self.server.calls() == 0 && self.socket.info().rpcs.is_empty()).await;
    }
}

/// A note for a board.
pub fn post(board: &str, text: impl Into<String>) -> PostRequest {
    PostRequest { board: board.to_owned(), text: text.into() }
}
