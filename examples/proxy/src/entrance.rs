//! Owns the side that accepts connections and asks the exit to carry them.

use anyhow::{Context, Result, bail, ensure};
use sealane::{AsyncSocket, CallOptions, Payload, Peer};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::frame::{self, Answer, Ask, Name};
use crate::limits::{Limits, PULLS, PUSHES};
use crate::tally::Tally;
use crate::tcp;

/// How long to wait when the system has no more files for connections.
const OUT_OF_FILES: Duration = Duration::from_millis(100);
/// How long the exit is told of a reset: it finds out otherwise too, later.
const FAREWELL: Duration = Duration::from_secs(5);

/// The side that accepts connections. Cheap to clone.
#[derive(Clone)]
pub struct Entrance(Arc<Inner>);

struct Inner {
    socket: AsyncSocket,
    exit: Peer,
    limits: Limits,
    tally: Tally,
}

impl std::fmt::Debug for Entrance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entrance({:?} to {})", self.0.socket, self.0.exit.address())
    }
}

/// A call under way, which ends when nobody wants it any more.
struct Asked(JoinHandle<Result<Payload, sealane::Error>>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Asked {
    async fn answer(&mut self) -> Result<(Answer, Payload)> {
        let payload = (&mut self.0).await.context("the call was given up")?.context("the way to the exit")?;
        Answer::of(&payload).context("the exit speaks another language")
    }
}

impl Entrance {
    /// Carries connections to the exit at `exit`, in one session of `socket`.
    #[must_use]
    pub fn new(socket: AsyncSocket, exit: Peer, limits: Limits) -> Self {
        Self(Arc::new(Inner { socket, exit, limits, tally: Tally::default() }))
    }

    /// What it counted.
    pub fn tally(&self) -> &Tally {
        &self.0.tally
    }

    /// Its socket.
    pub fn socket(&self) -> &AsyncSocket {
        &self.0.socket
    }

    /// Accepts until the future is dropped. Connections that are carried then go on.
    pub async fn run(&self, listener: TcpListener) {
        let permits = Arc::new(Semaphore::new(self.0.limits.connections));
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                tokio::time::sleep(OUT_OF_FILES).await;
                continue;
            };
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                tracing::warn!(%from, most = self.0.limits.connections, "a connection too many");
                self.0.tally.refuse();
                tcp::will_reset(&stream);
                continue;
            };
            let this = self.clone();
            tokio::spawn(async move {
                this.carry(stream).await;
                drop(permit);
            });
        }
    }

    /// Says now and then that the connection is there: nothing is asked of one whose application takes nothing, or that is half closed.
    async fn stay(&self, connection: Name) -> Result<()> {
        let every = self.0.limits.silence / 4;
        loop {
            tokio::time::sleep(every).await;
            let options = CallOptions::new().deadline(every);
            match self.0.socket.call_with(&self.0.exit, Ask::Here(connection).bytes(), options).await {
                Ok(answer) if matches!(Answer::of(&answer), Some((Answer::Done, _))) => {}
                // It may also have ended just now, which pushes and pulls tell.
                Ok(_) => tracing::debug!("the exit has no such connection"),
                Err(why) => tracing::debug!(%why, "the exit does not answer"),
            }
        }
    }

    async fn carry(&self, stream: TcpStream) {
        tcp::prepare(&stream);
        let connection = match self.open().await {
            Ok(connection) => connection,
            Err(why) => {
                tracing::warn!("a connection is not carried: {why:#}");
                self.0.tally.refuse();
                tcp::will_reset(&stream);
                return;
            }
        };
        self.0.tally.open();
        let (mut from, mut to) = stream.into_split();
        let ended = tokio::select! {
            ended = async { tokio::try_join!(self.up(connection, &mut from), self.down(connection, &mut to)) } => ended.map(drop),
            never = self.stay(connection) => never,
        };
        if let Err(why) = &ended {
            tracing::debug!("a connection is reset: {why:#}");
            tcp::will_reset(AsRef::<TcpStream>::as_ref(&from));
            // Without an orderly end, which would pass for the whole of it.
            to.forget();
            drop(from);
            let options = CallOptions::new().deadline(FAREWELL);
            let _ = self.0.socket.call_with(&self.0.exit, Ask::Reset(connection).bytes(), options).await;
        }
        self.0.tally.end(ended.is_err());
    }

    async fn open(&self) -> Result<Name> {
        // The exit takes a while to connect; the rest is for the handshake.
        let options = CallOptions::new().deadline(2 * self.0.limits.connect);
        let answer = self.0.socket.call_with(&self.0.exit, Ask::Open.bytes(), options).await;
        let answer = answer.with_context(|| format!("the exit at {}", self.0.exit.address()))?;
        match Answer::of(&answer) {
            Some((Answer::Done, name)) => Ok(name[..].try_into().context("the exit's name of it")?),
            Some((Answer::Refused, why)) => bail!("the exit: {}", String::from_utf8_lossy(&why)),
            _ => bail!("the exit speaks another language"),
        }
    }

    fn ask(&self, body: Vec<u8>) -> Asked {
        let this = Arc::clone(&self.0);
        Asked(tokio::spawn(async move { this.socket.call(&this.exit, body).await }))
    }

    /// From the application to the exit.
    async fn up(&self, connection: Name, from: &mut OwnedReadHalf) -> Result<()> {
        let mut pushes = VecDeque::with_capacity(PUSHES);
        let (mut number, mut body) = (0, Vec::new());
        loop {
            // With all under way, or none: one of them is not waited for.
            let full = pushes.len() == PUSHES;
            if !full && body.is_empty() {
                body = Ask::Push { connection, number, last: false }.bytes();
            }
            tokio::select! {
                biased;
                taken = taken(&mut pushes), if !pushes.is_empty() => {
                    if taken? { continue } else { return Ok(()) }
                }
                read = tcp::read(from, &mut body), if !full => read.context("the application")?,
            }
            let mut body = std::mem::take(&mut body);
            let last = body.len() == frame::PUSH_HEAD_LEN;
            body[frame::PUSH_HEAD_LEN - 1] = u8::from(last);
            self.0.tally.out(body.len() - frame::PUSH_HEAD_LEN);
            pushes.push_back(self.ask(body));
            number += 1;
            if last {
                break;
            }
        }
        while !pushes.is_empty() {
            if !taken(&mut pushes).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// From the exit to the application.
    async fn down(&self, connection: Name, to: &mut OwnedWriteHalf) -> Result<()> {
        let pull = |number: u64| self.ask(Ask::Pull { connection, number }.bytes());
        let mut pulls: VecDeque<Asked> = (0..PULLS as u64).map(pull).collect();
        let mut number = PULLS as u64;
        loop {
            let mut first = pulls.pop_front().context("there is always one")?;
            let (answer, bytes) = first.answer().await?;
            match answer {
                Answer::Done => {
                    to.write_all(&bytes).await.context("the application")?;
                    self.0.tally.back(bytes.len());
                }
                Answer::End => {
                    // The application may have gone meanwhile: it wanted nothing more either.
                    let _ = to.shutdown().await;
                    return Ok(());
                }
                // All are given back, and one waits for what comes next.
                Answer::Later => {
                    number -= 1 + pulls.len() as u64;
                    while let Some(mut also) = pulls.pop_front() {
                        ensure!(also.answer().await?.0 == Answer::Later, "the exit answers out of order");
                    }
                    pulls.push_back(pull(number));
                    number += 1;
                    continue;
                }
                Answer::Closed | Answer::Reset | Answer::Refused => bail!("the exit reset it"),
            }
            while pulls.len() < PULLS {
                pulls.push_back(pull(number));
                number += 1;
            }
        }
    }
}

/// Waits for the first push. Whether the exit goes on taking.
async fn taken(pushes: &mut VecDeque<Asked>) -> Result<bool> {
    let first = pushes.front_mut().context("there is one")?;
    let (answer, _) = first.answer().await?;
    pushes.pop_front();
    match answer {
        Answer::Done => Ok(true),
        Answer::Closed => Ok(false),
        Answer::End | Answer::Reset | Answer::Refused | Answer::Later => bail!("the exit reset it"),
    }
}
