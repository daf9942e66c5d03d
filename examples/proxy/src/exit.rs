//! Owns the side that connects to the target: which connections there are, whose they are, and whether anybody still wants
//! them.

use anyhow::{Context, Result};
use handed::Handed;
use sealane::{AsyncSocket, Delivery, PeerIdentity, PeerInfo, ReplyToken, Request};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::carried::{Carried, Doors, Pull, Push};
use crate::frame::{self, Answer, Ask, Name};
use crate::limits::Limits;
use crate::tally::Tally;
use crate::tcp;

/// The side that connects to the target. Cheap to clone.
#[derive(Clone)]
pub struct Exit(Arc<Inner>);

struct Inner {
    socket: AsyncSocket,
    /// Host and port; looked up for each connection.
    target: String,
    limits: Limits,
    permits: Arc<Semaphore>,
    table: Mutex<Table>,
    tally: Tally,
}

#[derive(Default)]
struct Table {
    connections: HashMap<Name, Entry>,
}

struct Entry {
    /// When its entrance last asked anything of it.
    heard: Instant,
    /// Who opened it: nobody else may use it, whatever names it knows.
    owner: PeerInfo,
    doors: Doors,
    over: Arc<Notify>,
}

impl std::fmt::Debug for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Exit({:?} to {})", self.0.socket, self.0.target)
    }
}

impl Exit {
    /// Carries connections that entrances ask for to `target`, a host and a port. Who may ask is whom `socket` serves.
    #[must_use]
    pub fn new(socket: AsyncSocket, target: impl Into<String>, limits: Limits) -> Self {
        let permits = Arc::new(Semaphore::new(limits.connections));
        let (table, tally) = (Mutex::default(), Tally::default());
        Self(Arc::new(Inner { socket, target: target.into(), limits, permits, table, tally }))
    }

    /// What it counted.
    pub fn tally(&self) -> &Tally {
        &self.0.tally
    }

    /// Its socket.
    pub fn socket(&self) -> &AsyncSocket {
        &self.0.socket
    }

    /// Serves until the socket fails or the future is dropped.
    ///
    /// # Errors
    /// Why the socket gives nothing more.
    pub async fn run(&self) -> Result<()> {
        tokio::select! {
            failed = self.serve() => failed,
            () = self.sweep() => Ok(()),
        }
    }

    async fn serve(&self) -> Result<()> {
        loop {
            // Entrances only ask.
            if let Delivery::Request(request) = self.0.socket.recv().await.context("receiving")? {
                self.take(request);
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, token: ReplyToken, body: Vec<u8>) {
        let this = Arc::clone(&self.0);
        // Who does not take its answer holds up nobody else.
        tokio::spawn(async move {
            let _ = this.socket.reply(token, body).await;
        });
    }

    fn take(&self, request: Request) {
        let Request { peer, payload, token, .. } = request;
        let Some(ask) = Ask::parse(&payload) else {
            let why = b"this exit speaks another version".to_vec();
            return self.answer(token, [Answer::Refused.bytes(), why].concat());
        };
        let owner = peer.identity();
        match ask {
            Ask::Open => self.open(peer.clone(), token),
            Ask::Here(connection) => {
                let known = self.table().of(&connection, owner).is_some();
                self.answer(token, if known { Answer::Done } else { Answer::Reset }.bytes());
            }
            Ask::Reset(connection) => {
                if let Some(entry) = self.table().of(&connection, owner) {
                    entry.over.notify_one();
                }
                self.answer(token, Answer::Done.bytes());
            }
            Ask::Push { connection, number, last } => {
                let push = Push { number, last, payload, token };
                self.hand(&connection, owner, Handed::Push(push));
            }
            Ask::Pull { connection, number } => {
                self.hand(&connection, owner, Handed::Pull(Pull { number, token }));
            }
        }
    }

    /// Gives an ask to its connection. One with more under way than there can be is reset.
    fn hand(&self, connection: &Name, owner: &PeerIdentity, handed: Handed) {
        let refused = {
            let mut table = self.table();
            match table.of(connection, owner) {
                None => Some((handed, false)),
                Some(entry) => handed.to(&entry.doors).err().map(|(handed, full)| {
                    if full {
                        entry.over.notify_one();
                    }
                    (handed, full)
                }),
            }
        };
        if let Some((handed, _)) = refused {
            self.answer(handed.token(), Answer::Reset.bytes());
        }
    }

    fn open(&self, owner: PeerInfo, token: ReplyToken) {
        let Ok(permit) = Arc::clone(&self.0.permits).try_acquire_owned() else {
            self.0.tally.refuse();
            let why = format!("{} connections are open already", self.0.limits.connections).into_bytes();
            return self.answer(token, [Answer::Refused.bytes(), why].concat());
        };
        let this = self.clone();
        tokio::spawn(async move { this.carry(owner, token, permit).await });
    }

    async fn carry(&self, owner: PeerInfo, token: ReplyToken, permit: OwnedSemaphorePermit) {
        let stream = match self.connect().await {
            Ok(stream) => stream,
            Err(why) => {
                tracing::warn!("a connection is not carried: {why:#}");
                self.0.tally.refuse();
                return self.answer(token, [Answer::Refused.bytes(), format!("{why:#}").into_bytes()].concat());
            }
        };
        let (carried, doors) = Carried::new(self.0.limits.wait);
        let (connection, over) = (frame::name(), Arc::new(Notify::new()));
        let entry = Entry { heard: Instant::now(), owner, doors, over: Arc::clone(&over) };
        self.table().connections.insert(connection, entry);
        self.0.tally.open();
        self.answer(token, [&Answer::Done.bytes()[..], &connection].concat());
        let reset = carried.run(&self.0.socket, stream, &over, &self.0.tally).await;
        self.table().connections.remove(&connection);
        self.0.tally.end(reset);
        drop(permit);
    }

    async fn connect(&self) -> Result<TcpStream> {
        let connecting = TcpStream::connect(&self.0.target);
        let connected = tokio::time::timeout(self.0.limits.connect, connecting).await;
        let target = || format!("the target {}", self.0.target);
        let stream = connected.context("it does not answer").and_then(|done| Ok(done?)).with_context(target)?;
        tcp::prepare(&stream);
        Ok(stream)
    }

    /// Resets what entrances left behind: they are gone, or their resets were lost.
    async fn sweep(&self) {
        loop {
            tokio::time::sleep(self.0.limits.silence / 4).await;
            self.table().sweep(self.0.limits);
        }
    }
}

impl Table {
    /// A connection of which its owner asks something, which it is alive by.
    fn of(&mut self, connection: &Name, owner: &PeerIdentity) -> Option<&Entry> {
        let entry = self.connections.get_mut(connection).filter(|entry| *entry.owner.identity() == *owner)?;
        entry.heard = Instant::now();
        Some(entry)
    }

    fn sweep(&self, limits: Limits) {
        let now = Instant::now();
        for entry in self.connections.values() {
            if now.duration_since(entry.heard) > limits.silence {
                entry.over.notify_one();
            }
        }
    }
}

mod handed {
    use super::{Doors, Pull, Push, ReplyToken};
    use tokio::sync::mpsc::error::TrySendError;

    /// What is asked of one connection.
    pub(super) enum Handed {
        Push(Push),
        Pull(Pull),
    }

    impl Handed {
        /// Through its door; otherwise itself again, and whether the door was full.
        pub(super) fn to(self, doors: &Doors) -> Result<(), (Self, bool)> {
            fn back<T>(why: TrySendError<T>, name: fn(T) -> Handed) -> (Handed, bool) {
                match why {
                    TrySendError::Full(ask) => (name(ask), true),
                    TrySendError::Closed(ask) => (name(ask), false),
                }
            }
            match self {
                Self::Push(push) => doors.pushes.try_send(push).map_err(|why| back(why, Self::Push)),
                Self::Pull(pull) => doors.pulls.try_send(pull).map_err(|why| back(why, Self::Pull)),
            }
        }

        pub(super) fn token(self) -> ReplyToken {
            match self {
                Self::Push(push) => push.token,
                Self::Pull(pull) => pull.token,
            }
        }
    }
}
