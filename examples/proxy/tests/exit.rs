//! What an exit takes, and from whom: entrances that fall silent, ask for too much, or ask for what others opened.

#[expect(dead_code, reason = "programs here are few")]
mod common;

use common::{Pair, bounded};
use proxy::Limits;
use sealane::fault::Faults;
use sealane::{AsyncSocket, Payload, Peer};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PUSH: u8 = 2;
const PULL: u8 = 3;
const RESET: u8 = 4;
const HERE: u8 = 5;
const DONE: u8 = 0;
const GONE: u8 = 3;
const REFUSED: u8 = 4;
const LATER: u8 = 5;

/// One who says what it likes to an exit.
struct Talker(AsyncSocket, Peer);

impl Talker {
    fn new(pair: &Pair, number: usize) -> Self {
        let (socket, exit) = pair.talker(number);
        Self(socket, exit)
    }

    async fn ask(&self, parts: &[&[u8]]) -> Payload {
        self.0.call(&self.1, parts.concat()).await.expect("an answer")
    }

    /// The name of a new connection.
    async fn open(&self) -> Vec<u8> {
        let answer = self.ask(&[&[1, 2]]).await;
        assert_eq!((answer[0], answer.len()), (DONE, 17));
        answer[1..].to_vec()
    }

    async fn push(&self, connection: &[u8], bytes: &[u8]) -> u8 {
        self.ask(&[&[PUSH], connection, &0u64.to_be_bytes(), &[0], bytes]).await[0]
    }
}

#[test]
fn an_idle_connection_keeps_one_ask_open_and_goes_on() {
    bounded(async {
        let mut limits = Limits::default();
        limits.wait = Duration::from_millis(50);
        let mut pair = Pair::new(limits, Faults::default()).await;
        let (mut near, mut far) = pair.connect().await;
        for round in 0..3u8 {
            while pair.entrance.socket().info().rpcs.len() > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let said = vec![round; 300_000];
            for back in [false, true] {
                let (from, to) = if back { (&mut far, &mut near) } else { (&mut near, &mut far) };
                let mut heard = vec![0; said.len()];
                let (sent, got) = tokio::join!(from.write_all(&said), to.read_exact(&mut heard));
                sent.expect("written");
                got.expect("it comes");
                assert!(heard == said, "round {round}");
            }
        }
        drop(far);
        assert_eq!(near.read(&mut [0]).await.expect("its end"), 0);
        drop(near);
        assert_eq!(pair.settled(1).await.reset, 0);
    });
}

#[test]
fn a_connection_that_nobody_asks_anything_of_is_reset_and_others_live() {
    bounded(async {
        let mut limits = Limits::default();
        (limits.silence, limits.wait) = (Duration::from_secs(5), Duration::from_millis(50));
        let pair = Pair::new(limits, Faults::default()).await;
        let talker = Talker::new(&pair, 0);
        let forgotten = talker.open().await;
        let mut far = pair.accept().await;
        let used = talker.open().await;
        let _used_far = pair.accept().await;
        while pair.exit.tally().counts().ended == 0 {
            assert_eq!(talker.ask(&[&[HERE], &used]).await[0], DONE);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        far.read(&mut [0]).await.expect_err("no orderly end");
        assert_eq!(talker.ask(&[&[HERE], &forgotten]).await[0], GONE);
        assert_eq!(talker.ask(&[&[PULL], &used, &0u64.to_be_bytes()]).await[0], LATER);
        assert_eq!(pair.exit.tally().counts().reset, 1);
    });
}

#[test]
fn a_connection_is_its_openers_alone() {
    bounded(async {
        let pair = Pair::new(Limits::default(), Faults::default()).await;
        let (owner, stranger) = (Talker::new(&pair, 0), Talker::new(&pair, 1));
        let connection = owner.open().await;
        let mut far = pair.accept().await;
        assert_eq!(stranger.push(&connection, b"theirs").await, GONE);
        assert_eq!(stranger.ask(&[&[PULL], &connection, &0u64.to_be_bytes()]).await[0], GONE);
        assert_eq!(stranger.ask(&[&[HERE], &connection]).await[0], GONE);
        // A reset is answered alike, whoever asks; it did nothing.
        stranger.ask(&[&[RESET], &connection]).await;
        assert_eq!(owner.push(&connection, b"ours").await, DONE);
        let mut heard = [0; 4];
        far.read_exact(&mut heard).await.expect("it comes");
        assert_eq!(&heard, b"ours");
        assert_eq!(owner.ask(&[&[RESET], &connection]).await[0], DONE);
        far.read(&mut [0]).await.expect_err("no orderly end");
    });
}

#[test]
fn more_than_a_chunk_is_not_taken() {
    bounded(async {
        const CHUNK: usize = 32 << 10;
        let mut pair = Pair::new(Limits::default(), Faults::default()).await;
        let talker = Talker::new(&pair, 0);
        let connection = talker.open().await;
        let mut far = pair.accept().await;
        assert_eq!(talker.push(&connection, &[7; CHUNK + 1]).await, REFUSED);
        assert_eq!(talker.push(&connection, &[7; CHUNK]).await, DONE);
        far.read_exact(&mut [0; CHUNK]).await.expect("it comes");
        // And neither socket takes what no proxy would say.
        let long = vec![0; CHUNK + 1000];
        talker.0.call(&talker.1, long.clone()).await.expect_err("the exit's socket refuses it");
        let exit = pair.entrance.socket().peer(talker.1.address(), "localhost").expect("an address");
        pair.entrance.socket().call(&exit, long).await.expect_err("the entrance's socket refuses it");
        let (mut near, mut far) = pair.connect().await;
        near.write_all(b"x").await.expect("written");
        far.read_exact(&mut [0]).await.expect("others go on");
    });
}
