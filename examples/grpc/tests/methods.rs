//! Each kind of method, over real sockets: unary, and streams of the server, the client, and both.

mod common;

use common::{Running, post, run};
use grpc::certs::CLIENT_NAME;
use grpc::proto::WatchRequest;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{StreamExt, iter};

#[test]
fn unary() {
    run(async {
        let server = Running::new();
        let mut client = server.client();
        for number in 1..=20 {
            let posted = client.post(post("news", "hello")).await.unwrap().into_inner();
            assert_eq!((posted.number, posted.author.as_str()), (number, CLIENT_NAME));
        }
        server.idle().await;
        // One request and its response each, and the handshake.
        let info = server.socket.info();
        assert_eq!(info.counters.messages_delivered, 20, "{info}");
    });
}

#[test]
fn a_short_stream_each_way_is_one_message_each_way() {
    run(async {
        let server = Running::new();
        let mut client = server.client();
        let posts: Vec<_> = (0..10).map(|n| post("news", n.to_string())).collect();
        let done = client.import(iter(posts)).await.unwrap().into_inner();
        assert_eq!((done.notes, done.bytes), (10, 10));
        server.idle().await;
        assert_eq!(server.socket.info().counters.messages_delivered, 1);
    });
}

#[test]
fn a_stream_of_the_server() {
    run(async {
        let server = Running::new();
        let mut client = server.client();
        for n in 0..500 {
            client.post(post("news", n.to_string())).await.unwrap();
        }
        let watch = WatchRequest { board: "news".to_owned(), follow: false };
        let notes: Vec<_> = client.watch(watch).await.unwrap().into_inner().collect().await;
        let texts: Vec<_> = notes.into_iter().map(|note| note.unwrap().text).collect();
        assert_eq!(texts, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
        server.idle().await;
    });
}

/// What comes later is told as soon as it comes, to all who follow.
#[test]
fn a_stream_that_is_followed() {
    run(async {
        let server = Running::new();
        let mut client = server.client();
        let watch = WatchRequest { board: "news".to_owned(), follow: true };
        let mut first = client.watch(watch.clone()).await.unwrap().into_inner();
        let mut second = server.client().watch(watch).await.unwrap().into_inner();
        for n in 0..50 {
            client.post(post("news", n.to_string())).await.unwrap();
            for stream in [&mut first, &mut second] {
                assert_eq!(stream.next().await.unwrap().unwrap().text, n.to_string());
            }
        }
        drop((first, second));
        server.idle().await;
    });
}

#[test]
fn a_stream_of_the_client() {
    run(async {
        let server = Running::new();
        let mut client = server.client();
        let (tell, told) = mpsc::channel(1);
        let sending = tokio::spawn(async move {
            for n in 0..300u64 {
                // Some wait, some come together, some are long.
                if n % 50 == 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
                tell.send(post("news", "x".repeat((n * 997 % 40_000) as usize))).await.unwrap();
            }
        });
        let done = client.import(ReceiverStream::new(told)).await.unwrap().into_inner();
        assert_eq!(done.notes, 300);
        assert_eq!(done.bytes, (0..300u64).map(|n| n * 997 % 40_000).sum::<u64>());
        sending.await.unwrap();
        server.idle().await;
    });
}

/// Each answer depends on the question before it, so nothing may wait for more of the same.
#[test]
fn a_conversation() {
    run(async {
        let server = Running::new();
        let mut client = server.client();
        let (ask, asked) = mpsc::channel(1);
        let mut notes = client.chat(ReceiverStream::new(asked)).await.unwrap().into_inner();
        for n in 1..=100u64 {
            ask.send(post("news", format!("question {n}"))).await.unwrap();
            let note = notes.next().await.unwrap().unwrap();
            assert_eq!((note.number, note.text), (n, format!("question {n}")));
        }
        drop(ask);
        assert!(notes.next().await.is_none());
        server.idle().await;
    });
}

/// Both directions at full speed, with pieces of all sizes.
#[test]
fn a_long_conversation() {
    run(async {
        const NOTES: u64 = 3_000;
        let server = Running::new();
        let mut client = server.client();
        let text = |n: u64| "y".repeat((n * 131 % 5_000) as usize);
        let notes = client.chat(iter((0..NOTES).map(move |n| post("news", text(n))))).await.unwrap().into_inner();
        let notes: Vec<_> = notes.collect().await;
        assert_eq!(notes.len() as u64, NOTES);
        for (n, note) in notes.into_iter().enumerate() {
            let note = note.unwrap();
            assert!(note.number == n as u64 + 1 && note.text == text(n as u64), "note {n}");
        }
        server.idle().await;
    });
}

#[test]
fn many_at_once() {
    run(async {
        let server = Running::new();
        let channel = server.channel();
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..200 {
            let mut client = grpc::proto::board_client::BoardClient::new(channel.clone());
            tasks.spawn(async move {
                let board = format!("board {}", n % 40);
                match n % 4 {
                    0 => drop(client.post(post(&board, "x")).await.unwrap()),
                    1 => {
                        let watch = WatchRequest { board, follow: false };
                        let mut notes = client.watch(watch).await.unwrap().into_inner();
                        while let Some(note) = notes.next().await {
                            note.unwrap();
                        }
                    }
                    2 => {
                        let posts = iter((0..30).map(move |_| post(&board, "z".repeat(9_000))));
                        assert_eq!(client.import(posts).await.unwrap().into_inner().notes, 30);
                    }
                    _ => {
                        let (ask, asked) = mpsc::channel(1);
                        let mut notes = client.chat(ReceiverStream::new(asked)).await.unwrap().into_inner();
                        for n in 0..10 {
                            ask.send(post(&board, n.to_string())).await.unwrap();
                            assert_eq!(notes.next().await.unwrap().unwrap().text, n.to_string());
                        }
                    }
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        server.idle().await;
    });
}
