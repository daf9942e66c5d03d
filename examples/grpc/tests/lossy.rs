//! A network that loses, reorders and repeats costs time, and nothing else: every call runs once, and streams stay in order.

mod common;

use common::{Running, post, run};
use grpc::board::Boards;
use grpc::limits::Limits;
use grpc::proto::WatchRequest;
use grpc::proto::board_client::BoardClient;
use grpc::proto::board_server::BoardServer;
use grpc::routes::Routes;
use sealane::fault::{Faults, Faulty};
use tokio_stream::{StreamExt, iter};

fn faults(seed: u64) -> Faults {
    Faults { loss: 0.05, reorder: 0.05, duplicate: 0.02, seed, ..Faults::default() }
}

#[test]
fn calls_and_streams_under_loss() {
    run(async {
        let given = std::env::var("SEALANE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| getrandom::u64().unwrap());
        println!("SEALANE_SEED={seed}");
        let routes = Routes::new().with(BoardServer::new(Boards::default()));
        let server = Running::with(routes, Limits::default(), |builder| {
            builder.mtu(1500).danger_wrap(move |inner| Box::new(Faulty::new(inner, faults(seed))))
        });
        let (channel, _socket) = server.channel_with(|builder| {
            builder.mtu(1500).danger_wrap(move |inner| Box::new(Faulty::new(inner, faults(seed + 1))))
        });
        let mut client = BoardClient::new(channel);
        // Each number is given once: a call that ran twice would leave a gap.
        for number in 1..=200 {
            assert_eq!(
                client.post(post("calls", "x".repeat(number as usize * 37))).await.unwrap().into_inner().number,
                number
            );
        }
        let text = |n: u64| format!("{n} {}", "y".repeat((n * 7_919 % 20_000) as usize));
        let posts = (0..300).map(move |n| post("chat", text(n)));
        let mut notes = client.chat(iter(posts)).await.unwrap().into_inner();
        for n in 0..300 {
            let note = notes.next().await.unwrap().unwrap();
            assert!(note.number == n + 1 && note.text == text(n), "note {n}");
        }
        assert!(notes.next().await.is_none());
        let watch = WatchRequest { board: "chat".to_owned(), follow: false };
        let notes: Vec<_> = client.watch(watch).await.unwrap().into_inner().collect().await;
        assert!(notes.len() == 300 && notes.iter().zip(0..).all(|(note, n)| note.as_ref().unwrap().text == text(n)));
        server.idle().await;
    });
}
