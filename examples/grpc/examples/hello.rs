//! A server and a client on one page, as docs/GRPC.md shows them.
#![forbid(unsafe_code)]

// guide: begin
use std::sync::Arc;

use grpc::board::Boards;
use grpc::certs::{Certificates, SERVER_NAME};
use grpc::channel::Channel;
use grpc::limits::Limits;
use grpc::proto::board_client::BoardClient;
use grpc::proto::board_server::BoardServer;
use grpc::proto::{PostRequest, WatchRequest};
use grpc::routes::Routes;
use grpc::server::Server;
use sealane::{AsyncSocket, Clients, Socket};
use tokio_stream::StreamExt;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let certificates = Certificates::generate()?; // for development; others come from files
    let socket = Socket::builder()
        .trust(certificates.trust()?)
        .identity(certificates.server.identity()?)
        .serve(Clients::Authenticated)
        .bind("127.0.0.1:0")?;
    let at = socket.local_addr();
    let routes = Routes::new().with(BoardServer::new(Boards::default())); // as tonic-build generates it
    tokio::spawn(Server::new(routes, Limits::default()).serve(Arc::new(AsyncSocket::new(socket)?)));

    let socket =
        Socket::builder().trust(certificates.trust()?).identity(certificates.client.identity()?).bind("127.0.0.1:0")?;
    let socket = Arc::new(AsyncSocket::new(socket)?);
    let peer = socket.peer(at, SERVER_NAME)?; // the name that its certificate must have
    let mut client = BoardClient::new(Channel::new(socket, peer)); // as tonic-build generates it
    for text in ["hello", "again"] {
        client.post(PostRequest { board: "news".into(), text: text.into() }).await?;
    }
    let mut notes = client.watch(WatchRequest { board: "news".into(), follow: false }).await?.into_inner();
    while let Some(note) = notes.try_next().await? {
        println!("{}: {} by {}", note.number, note.text, note.author);
    }
    Ok(())
}
// guide: end
