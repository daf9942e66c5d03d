//! Connections over real sockets, through an entrance and an exit: long transfers over a bad network, ends of one side, resets, a side that
//! stalls, too many, and proxies that vanish.

#[expect(dead_code, reason = "nobody here talks to an exit by himself")]
mod common;

use common::{Pair, bounded, pattern, read_all};
use proxy::Limits;
use sealane::fault::Faults;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Loses, reorders and repeats.
fn bad() -> Faults {
    Faults { loss: 0.03, reorder: 0.05, duplicate: 0.02, ..Faults::default() }
}

#[test]
fn long_transfers_both_ways_over_a_bad_network() {
    bounded(async {
        let mut pair = Pair::new(Limits::default(), bad()).await;
        let mut all = tokio::task::JoinSet::new();
        for number in 0..4u64 {
            let (near, far) = pair.connect().await;
            let bytes = 3_000_000 + 12_345 * number as usize;
            for (stream, out, back) in [(near, number, number + 100), (far, number + 100, number)] {
                all.spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    let sent = tokio::spawn(async move {
                        to.write_all(&pattern(out, bytes)).await.expect("written");
                        to.shutdown().await.expect("ended");
                        to
                    });
                    let got = read_all(&mut from).await.expect("read to its end");
                    assert!(got == pattern(back, bytes), "{} of {bytes} bytes of {back} came", got.len());
                    sent.await.expect("sent");
                });
            }
        }
        while let Some(done) = all.join_next().await {
            done.expect("no side failed");
        }
        let ended = pair.settled(4).await;
        assert_eq!((ended.opened, ended.reset, ended.refused), (4, 0, 0), "{ended:?}");
        assert_eq!(ended.bytes_out, 4 * 3_000_000 + 6 * 12_345, "{ended:?}");
        assert_eq!(ended.bytes_back, ended.bytes_out, "{ended:?}");
    });
}

#[test]
fn one_side_ends_and_still_hears_the_other() {
    bounded(async {
        let mut pair = Pair::new(Limits::default(), Faults::default()).await;
        let (mut near, mut far) = pair.connect().await;
        near.write_all(b"question").await.expect("written");
        near.shutdown().await.expect("ended");
        assert_eq!(read_all(&mut far).await.expect("the question, and its end"), b"question");
        for word in ["an", "swer"] {
            far.write_all(word.as_bytes()).await.expect("written");
        }
        drop(far);
        assert_eq!(read_all(&mut near).await.expect("the answer, and its end"), b"answer");
        drop(near);
        assert_eq!(pair.settled(1).await.reset, 0);

        // And the other way round: the server says all it has to say first.
        let (mut near, mut far) = pair.connect().await;
        far.write_all(b"welcome").await.expect("written");
        far.shutdown().await.expect("ended");
        assert_eq!(read_all(&mut near).await.expect("all of it"), b"welcome");
        near.write_all(b"thanks").await.expect("written");
        near.shutdown().await.expect("ended");
        assert_eq!(read_all(&mut far).await.expect("all of it"), b"thanks");
        assert_eq!(pair.settled(2).await.reset, 0);
    });
}

#[test]
fn a_reset_is_a_reset_at_the_other_end() {
    bounded(async {
        let mut pair = Pair::new(Limits::default(), Faults::default()).await;
        for near_resets in [true, false] {
            let (mut near, mut far) = pair.connect().await;
            near.write_all(b"x").await.expect("written");
            far.read_exact(&mut [0]).await.expect("it is open");
            let (resets, mut hears) = if near_resets { (near, far) } else { (far, near) };
            socket2::SockRef::from(&resets).set_linger(Some(Duration::ZERO)).expect("a socket");
            drop(resets);
            let heard = read_all(&mut hears).await.expect_err("no orderly end");
            assert_eq!(heard.kind(), ErrorKind::ConnectionReset, "the near side resets: {near_resets}");
        }
        assert_eq!(pair.settled(2).await.reset, 2);
    });
}

#[test]
fn a_side_that_stalls_holds_up_only_itself_and_loses_nothing() {
    bounded(async {
        const BYTES: usize = 64 << 20;
        /// What the kernels of both ends buffer, and our windows, is far less.
        const STALLED_MAX: usize = 48 << 20;
        let mut pair = Pair::new(Limits::default(), Faults::default()).await;
        let (near, mut stalled) = pair.connect().await;
        let (mut from, mut to) = near.into_split();
        let written = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counts = std::sync::Arc::clone(&written);
        let sending = tokio::spawn(async move {
            let all = pattern(1, BYTES);
            for part in all.chunks(1 << 16) {
                to.write_all(part).await.expect("written");
                counts.fetch_add(part.len(), std::sync::atomic::Ordering::Relaxed);
            }
            to.shutdown().await.expect("ended");
        });
        // Others go on meanwhile.
        let (mut other, mut echo) = pair.connect().await;
        let mut seen = usize::MAX;
        loop {
            for _ in 0..20 {
                other.write_all(b"still here").await.expect("written");
                let mut bytes = [0; 10];
                echo.read_exact(&mut bytes).await.expect("it comes");
                echo.write_all(&bytes).await.expect("written");
                other.read_exact(&mut bytes).await.expect("it comes back");
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = written.load(std::sync::atomic::Ordering::Relaxed);
            if now == seen && now > 0 {
                break;
            }
            seen = now;
        }
        assert!(seen < STALLED_MAX, "{seen} bytes were taken of one that reads none");
        let held = pair.entrance.socket().info().held_bytes;
        assert!(held < 1 << 20, "{held} bytes are held in the entrance");
        let got = read_all(&mut stalled).await.expect("all of it");
        assert!(got == pattern(1, BYTES), "{} bytes came", got.len());
        sending.await.expect("sent");
        drop(stalled);
        assert!(read_all(&mut from).await.expect("its end").is_empty());
    });
}

/// A connection that is reset, at once or a moment later.
async fn refused(door: SocketAddr) {
    let ended = match TcpStream::connect(door).await {
        Ok(mut stream) => read_all(&mut stream).await,
        Err(why) => Err(why),
    };
    assert_eq!(ended.expect_err("it is not carried").kind(), ErrorKind::ConnectionReset);
}

#[test]
fn one_too_many_is_closed_and_room_comes_back() {
    bounded(async {
        let mut limits = Limits::default();
        limits.connections = 2;
        let mut pair = Pair::new(limits, Faults::default()).await;
        let first = pair.connect().await;
        let _second = pair.connect().await;
        refused(pair.door).await;
        pair.until(|near, _| near.refused == 1).await;
        drop(first);
        pair.settled(1).await;
        let (mut near, mut far) = pair.connect().await;
        near.write_all(b"in").await.expect("written");
        far.read_exact(&mut [0; 2]).await.expect("it comes");
    });
}

#[test]
fn a_target_that_is_not_there_is_said() {
    bounded(async {
        let pair = Pair::nowhere().await;
        refused(pair.door).await;
        pair.until(|near, far| (near.refused, far.refused, far.opened) == (1, 1, 0)).await;
    });
}

/// Whichever proxy vanishes, without a word: the program at the other end learns of it.
#[test]
fn a_proxy_that_vanishes_takes_its_connections_with_it() {
    bounded(async {
        let mut limits = Limits::default();
        limits.silence = Duration::from_secs(2);
        let mut pair = Pair::new(limits, Faults::default()).await;
        let (mut near, mut far) = pair.connect().await;
        near.write_all(b"x").await.expect("written");
        far.read_exact(&mut [0]).await.expect("it is open");
        pair.cut.cut();
        let gone = [read_all(&mut near).await, read_all(&mut far).await];
        for heard in gone {
            assert_eq!(heard.expect_err("no orderly end").kind(), ErrorKind::ConnectionReset);
        }
        pair.until(|_, far| (far.opened, far.ended, far.reset) == (1, 1, 1)).await;
    });
}
