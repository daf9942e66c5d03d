//! Owns one connection at the exit: pushes are written in their order, pulls answered in theirs, and each gets an answer however it ends.

use anyhow::{Context, Result, bail};
use sealane::{AsyncSocket, Payload, ReplyToken};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};

use crate::frame::{Answer, PUSH_HEAD_LEN};
use crate::limits::{CHUNK_BYTES, PULLS, PUSHES};
use crate::tally::Tally;
use crate::tcp;

/// Bytes to be written.
pub(crate) struct Push {
    pub(crate) number: u64,
    pub(crate) last: bool,
    pub(crate) payload: Payload,
    pub(crate) token: ReplyToken,
}

/// A wish for what comes back.
pub(crate) struct Pull {
    pub(crate) number: u64,
    pub(crate) token: ReplyToken,
}

/// Where what is asked of a connection goes. An entrance has so many of each under way at most, so a full one is a fault of its.
pub(crate) struct Doors {
    pub(crate) pushes: mpsc::Sender<Push>,
    pub(crate) pulls: mpsc::Sender<Pull>,
}

/// A connection to the target.
pub(crate) struct Carried {
    pushes: mpsc::Receiver<Push>,
    pulls: mpsc::Receiver<Pull>,
    /// By number, what came and was not answered.
    pushed: BTreeMap<u64, Push>,
    pulled: BTreeMap<u64, Pull>,
    /// How long a pull waits for bytes.
    wait: Duration,
}

impl Carried {
    pub(crate) fn new(wait: Duration) -> (Self, Doors) {
        let (to_pushes, pushes) = mpsc::channel(PUSHES);
        let (to_pulls, pulls) = mpsc::channel(PULLS);
        let (pushed, pulled) = (BTreeMap::new(), BTreeMap::new());
        (Self { pushes, pulls, pushed, pulled, wait }, Doors { pushes: to_pushes, pulls: to_pulls })
    }

    /// Carries bytes both ways until both have ended, one fails, or somebody says that it is over. Whether it ended by a reset.
    pub(crate) async fn run(mut self, socket: &AsyncSocket, stream: TcpStream, over: &Notify, tally: &Tally) -> bool {
        let (mut from, mut to) = stream.into_split();
        let both = async {
            let out = out(socket, tally, &mut self.pushes, &mut self.pushed, &mut to);
            let back = back(socket, tally, &mut self.pulls, &mut self.pulled, &mut from, self.wait);
            tokio::try_join!(out, back).map(drop)
        };
        let ended = tokio::select! {
            ended = both => ended,
            () = over.notified() => Err(anyhow::anyhow!("the entrance reset it, or is gone")),
        };
        if let Err(why) = &ended {
            tracing::debug!("a connection is reset: {why:#}");
            tcp::will_reset(AsRef::<TcpStream>::as_ref(&from));
        }
        // Without an orderly end, which would pass for the whole of it: where there was one, it was sent.
        to.forget();
        drop(from);
        // What was asked and not answered. After an orderly end these are pulls ahead of the last bytes.
        let answer = if ended.is_ok() { Answer::End } else { Answer::Reset };
        self.pushes.close();
        self.pulls.close();
        while let Ok(push) = self.pushes.try_recv() {
            self.pushed.insert(push.number, push);
        }
        while let Ok(pull) = self.pulls.try_recv() {
            self.pulled.insert(pull.number, pull);
        }
        let pushes = self.pushed.into_values().map(|push| (push.token, Answer::Closed));
        let pulls = self.pulled.into_values().map(|pull| (pull.token, answer));
        let pushes = pushes.map(|(token, closed)| (token, if ended.is_ok() { closed } else { Answer::Reset }));
        for (token, answer) in pushes.chain(pulls) {
            // Whoever asked may have gone.
            let _ = socket.reply(token, answer.bytes()).await;
        }
        ended.is_err()
    }
}

/// From the entrance to the target. After the last bytes, or once the target takes no more, whatever else is pushed is refused.
async fn out(
    socket: &AsyncSocket,
    tally: &Tally,
    pushes: &mut mpsc::Receiver<Push>,
    pushed: &mut BTreeMap<u64, Push>,
    to: &mut OwnedWriteHalf,
) -> Result<()> {
    let mut next = 0;
    loop {
        let Some(push) = pushed.get(&next) else {
            let push = pushes.recv().await.context("the exit ends")?;
            if push.number < next || push.number >= next + PUSHES as u64 || pushed.contains_key(&push.number) {
                bail!("push {} came when {next} was next", push.number);
            }
            pushed.insert(push.number, push);
            continue;
        };
        let bytes = &push.payload[PUSH_HEAD_LEN..];
        let written = async {
            to.write_all(bytes).await?;
            if push.last { to.shutdown().await } else { Ok(()) }
        };
        let (taken, last) = (written.await.is_ok(), push.last);
        tally.out(if taken { bytes.len() } else { 0 });
        let Some(push) = pushed.remove(&next) else { bail!("it was there") };
        let answer = if taken { Answer::Done } else { Answer::Closed };
        socket.reply(push.token, answer.bytes()).await.context("answering a push")?;
        next += 1;
        if last || !taken {
            return Ok(());
        }
    }
}

/// From the target to the entrance. Pulls that wait for long are given back: as long as any is under way, all later ones of all connections
/// are remembered at both ends.
async fn back(
    socket: &AsyncSocket,
    tally: &Tally,
    pulls: &mut mpsc::Receiver<Pull>,
    pulled: &mut BTreeMap<u64, Pull>,
    from: &mut OwnedReadHalf,
    wait: Duration,
) -> Result<()> {
    let (mut next, mut body) = (0, Vec::new());
    // All were given back. The entrance asks for the next when it has each of them.
    let mut idle = false;
    loop {
        if !pulled.contains_key(&next) {
            let pull = pulls.recv().await.context("the exit ends")?;
            if idle && pull.number > next {
                socket.reply(pull.token, Answer::Later.bytes()).await.context("answering a pull")?;
                continue;
            }
            idle = false;
            if pull.number < next || pull.number >= next + PULLS as u64 || pulled.contains_key(&pull.number) {
                bail!("pull {} came when {next} was next", pull.number);
            }
            pulled.insert(pull.number, pull);
            continue;
        }
        if body.is_empty() {
            body = Vec::with_capacity(1 + CHUNK_BYTES);
            body.push(Answer::Done as u8);
        }
        let Ok(read) = tokio::time::timeout(wait, tcp::read(from, &mut body)).await else {
            idle = true;
            while let Some((_, pull)) = pulled.pop_first() {
                socket.reply(pull.token, Answer::Later.bytes()).await.context("answering a pull")?;
            }
            continue;
        };
        read.context("the target")?;
        let mut body = std::mem::take(&mut body);
        let last = body.len() == 1;
        if last {
            body[0] = Answer::End as u8;
        }
        tally.back(body.len() - 1);
        let Some(pull) = pulled.remove(&next) else { bail!("it was there") };
        socket.reply(pull.token, body).await.context("answering a pull")?;
        next += 1;
        if last {
            return Ok(());
        }
    }
}
