//! Owns the door of Sealane: each request is one message with one or several commands, its response has their replies. What a client set up
//! (version 3, a name, subscriptions) is kept per session; one that set up nothing costs nothing here. What is published leaves as one-way
//! messages. Nothing here blocks: what there is no room to send for waits, and with it what its session asks for next.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::Result;
use rustc_hash::FxHashMap;
use sealane::{
    Clients, Delivery, Error, Identity, Payload, Peer, Readiness, ReplyToken, Request, RpcId, Socket, Trust,
};

use crate::engine::{Client, Engine};
use crate::requests;
use crate::resp::Out;
use crate::stream::{Lent, UNSENT_MAX};
use crate::tls::Credentials;

/// Bytes of replies in one response.
const REPLIES_MAX: usize = 60 << 20;
/// Requests of one turn.
const REQUESTS_PER_TURN: usize = 256;
/// Bytes of replies of one turn.
const REPLIES_PER_TURN: usize = 8 << 20;
/// Replies up to this are copied into the socket's own buffers, longer ones handed over.
const COPIED_MAX: usize = 8 << 10;
/// Sessions whose set-up is kept.
const KEPT_MAX: usize = 100_000;
/// After so long without a word a session's set-up is forgotten, unless it is subscribed.
const KEPT_MS: u64 = 3_600_000;
/// How often that is looked at.
const TIDY_MS: u64 = 10_000;
/// Notices whose failure is still noticed.
const WATCHED_NOTICES: usize = 4096;
/// Bytes of messages that one client has not acknowledged; further ones wait here. All together have no limit, as those of connections have
/// none: it would let those that take nothing use up what the others need.
const PEER_SEND_BYTES_MAX: u64 = 32 << 20;
/// Requests of one session that wait because its replies do. Further ones are refused, as those are past `UNSENT_MAX` bytes.
const WAITING_MAX: usize = 1024;

struct Kept {
    client: Client,
    seen_ms: u64,
}

/// A session that is behind.
#[derive(Default)]
struct Behind {
    /// Replies and notices for which there was no room.
    out: VecDeque<(Option<ReplyToken>, Payload)>,
    /// Bytes of the notices among them.
    notice_bytes: usize,
    /// What came meanwhile. As a connection with bytes that have not left is not read, this does not run before those have.
    requests: VecDeque<Request>,
    request_bytes: usize,
}

/// The door.
pub(crate) struct Sessions {
    socket: Arc<Socket>,
    readiness: Readiness,
    kept: FxHashMap<Peer, Kept>,
    plain: Client,
    /// What came and has not run.
    came: VecDeque<Delivery>,
    replies: Vec<(Peer, ReplyToken, Vec<u8>)>,
    behind: FxHashMap<Peer, Behind>,
    /// Those of them whose requests may run.
    ready: Vec<Peer>,
    /// There may be room again.
    looked: bool,
    notices: VecDeque<(RpcId, Peer)>,
    tidied_ms: u64,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sessions({:?})", self.socket)
    }
}

/// Binds a socket for clients with certificates of the authority. The loop polls it, so it needs no thread of its own.
pub(crate) fn bind(address: std::net::SocketAddr, credentials: &Credentials) -> Result<Socket> {
    let trust = Trust::pem(credentials.authority.as_bytes())?;
    let identity = Identity::pem(credentials.certificate.as_bytes(), credentials.key.as_bytes())?;
    let builder = Socket::builder().trust(trust).identity(identity).serve(Clients::Authenticated);
    Ok(builder
        .send_bytes_max(u64::MAX)
        .peer_send_bytes_max(PEER_SEND_BYTES_MAX)
        .danger_helper_thread(false)
        .bind(address)?)
}

impl Sessions {
    pub(crate) fn new(socket: Arc<Socket>) -> Result<Self> {
        let readiness = socket.readiness()?;
        Ok(Self {
            socket,
            readiness,
            kept: FxHashMap::default(),
            plain: Client::new(0, "sealane"),
            came: VecDeque::new(),
            replies: Vec::new(),
            behind: FxHashMap::default(),
            ready: Vec::new(),
            looked: false,
            notices: VecDeque::new(),
            tidied_ms: 0,
        })
    }

    pub(crate) fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Takes what is there and runs it; the replies stay until [`Self::write`]. Whether there may be more.
    ///
    /// What comes meanwhile is for the next turn: who came first does not wait until nobody comes any more.
    pub(crate) fn read(&mut self, engine: &mut Engine, lent: &mut Lent, ids: &mut u64) -> Result<bool> {
        self.looked = true;
        let mut full = false;
        if self.came.is_empty() {
            full = self.socket.try_recv_many(&mut self.came, REQUESTS_PER_TURN)? == REQUESTS_PER_TURN;
        }
        let mut bytes = 0;
        while bytes < REPLIES_PER_TURN {
            let next = match self.waited() {
                Some(request) => Delivery::Request(request),
                None => match self.came.pop_front() {
                    Some(delivery) => delivery,
                    None => return Ok(full),
                },
            };
            match next {
                Delivery::Request(request) => {
                    let Some(request) = self.waits(request) else { continue };
                    let peer = request.peer.peer();
                    let replies = self.run(engine, &peer, &request.payload, lent.take(), ids);
                    bytes += replies.len();
                    self.replies.push((peer, request.token, replies));
                }
                Delivery::OneWay(message) => {
                    // Commands whose replies nobody wants.
                    let replies = self.run(engine, &message.peer.peer(), &message.payload, lent.take(), ids);
                    lent.put(replies);
                }
                Delivery::Failed(failed) => self.failed(engine, failed.id),
                _ => {}
            }
        }
        Ok(true)
    }

    /// Whether there is something to run that waited.
    pub(crate) fn has_waited(&self) -> bool {
        !self.ready.is_empty()
    }

    /// A request that waited and may run now.
    fn waited(&mut self) -> Option<Request> {
        while let Some(peer) = self.ready.last() {
            if let Some(behind) = self.behind.get_mut(peer).filter(|behind| behind.out.is_empty()) {
                if let Some(request) = behind.requests.pop_front() {
                    behind.request_bytes -= request.payload.len();
                    return Some(request);
                }
                self.behind.remove(peer);
            }
            self.ready.pop();
        }
        None
    }

    /// Gives the request back if it may run now.
    fn waits(&mut self, request: Request) -> Option<Request> {
        if self.behind.is_empty() {
            return Some(request);
        }
        let Some(behind) = self.behind.get_mut(&request.peer.peer()).filter(|behind| !behind.out.is_empty()) else {
            return Some(request);
        };
        behind.request_bytes += request.payload.len();
        if behind.requests.len() >= WAITING_MAX || behind.request_bytes > UNSENT_MAX {
            behind.request_bytes -= request.payload.len();
            let _ = self.socket.refuse(request.token);
        } else {
            behind.requests.push_back(request);
        }
        None
    }

    fn run(&mut self, engine: &mut Engine, peer: &Peer, bytes: &[u8], into: Vec<u8>, ids: &mut u64) -> Vec<u8> {
        let mut out = Out { bytes: into, is_v3: false };
        let kept = if self.kept.is_empty() { None } else { self.kept.get_mut(peer) };
        if let Some(kept) = kept {
            kept.seen_ms = engine.store.now_ms;
            out.is_v3 = kept.client.is_v3;
            requests::run_message(engine, &mut kept.client, bytes, &mut out, REPLIES_MAX);
            if kept.client.is_plain() {
                self.kept.remove(peer);
            }
            return out.bytes;
        }
        // Its number is only used up when the client sets something up.
        self.plain.id = *ids;
        requests::run_message(engine, &mut self.plain, bytes, &mut out, REPLIES_MAX);
        if !self.plain.is_plain() {
            *ids += 1;
            let mut client = std::mem::replace(&mut self.plain, Client::new(0, "sealane"));
            if self.kept.len() < KEPT_MAX {
                self.kept.insert(*peer, Kept { client, seen_ms: engine.store.now_ms });
            } else {
                engine.leave(&mut client);
                out.bytes.clear();
                out.error("ERR max number of clients reached");
            }
        }
        out.bytes
    }

    fn failed(&mut self, engine: &mut Engine, id: RpcId) {
        let Some((_, peer)) = self.notices.iter().find(|(of, _)| *of == id) else { return };
        if let Some(mut kept) = self.kept.remove(peer) {
            engine.leave(&mut kept.client);
        }
    }

    /// Sends the replies; without `durable` what they say must not be told, and their callers get an error.
    pub(crate) fn write(&mut self, lent: &mut Lent, durable: bool) {
        if std::mem::take(&mut self.looked) && !self.behind.is_empty() {
            self.catch_up();
        }
        if self.replies.is_empty() {
            return;
        }
        let socket = Arc::clone(&self.socket);
        let _together = (self.replies.len() > 1).then(|| socket.batch());
        for (peer, token, replies) in std::mem::take(&mut self.replies) {
            // A caller that is gone wants no reply.
            if !durable {
                let _ = socket.refuse(token);
            } else if replies.len() > COPIED_MAX || !self.behind.is_empty() {
                let replies = lent.lend(replies);
                self.send(peer, Some(token), replies);
            } else {
                if let Ok(Some(token)) = socket.try_reply(token, &replies) {
                    self.behind.entry(peer).or_default().out.push_back((Some(token), replies.clone().into()));
                }
                lent.put(replies);
            }
        }
    }

    /// Sends a reply or a notice, behind what waits already.
    fn send(&mut self, peer: Peer, token: Option<ReplyToken>, bytes: Payload) {
        let left = match self.behind.get(&peer).is_some_and(|behind| !behind.out.is_empty()) {
            true => Some((token, bytes)),
            false => send_now(&self.socket, &mut self.notices, &peer, token, bytes),
        };
        if let Some((token, bytes)) = left {
            let behind = self.behind.entry(peer).or_default();
            behind.notice_bytes += if token.is_none() { bytes.len() } else { 0 };
            behind.out.push_back((token, bytes));
        }
    }

    /// There may be room for what waits.
    fn catch_up(&mut self) {
        let _together = self.socket.batch();
        for (peer, behind) in &mut self.behind {
            while let Some((token, bytes)) = behind.out.pop_front() {
                let notice_bytes = if token.is_none() { bytes.len() } else { 0 };
                if let Some(left) = send_now(&self.socket, &mut self.notices, peer, token, bytes) {
                    behind.out.push_front(left);
                    break;
                }
                behind.notice_bytes -= notice_bytes;
            }
            if behind.out.is_empty() && !behind.requests.is_empty() {
                self.ready.push(*peer);
            }
        }
        self.behind.retain(|_, behind| !behind.out.is_empty() || !behind.requests.is_empty());
    }

    /// Sends what was published for these clients: one message each. Who leaves too much of it waiting is no longer told.
    pub(crate) fn notify(&mut self, engine: &mut Engine, notices: &FxHashMap<u64, Vec<&crate::pubsub::Notice>>) {
        if self.kept.is_empty() {
            return;
        }
        let socket = Arc::clone(&self.socket);
        let _together = socket.batch();
        let mut told = Vec::new();
        for (peer, kept) in &self.kept {
            let Some(of) = notices.get(&kept.client.id) else { continue };
            let mut out = Out { bytes: Vec::new(), is_v3: kept.client.is_v3 };
            of.iter().for_each(|notice| notice.write(&mut out));
            told.push((*peer, out.bytes));
        }
        for (peer, bytes) in told {
            self.send(peer, None, bytes.into());
            if self.behind.get(&peer).is_some_and(|behind| behind.notice_bytes > UNSENT_MAX)
                && let Some(mut kept) = self.kept.remove(&peer)
            {
                engine.leave(&mut kept.client);
            }
        }
        let over = self.notices.len().saturating_sub(WATCHED_NOTICES);
        self.notices.drain(..over);
    }

    /// Forgets sessions that were silent for long.
    pub(crate) fn tick(&mut self, now_ms: u64) {
        if now_ms < self.tidied_ms + TIDY_MS {
            return;
        }
        self.tidied_ms = now_ms;
        self.kept.retain(|_, kept| kept.client.is_subscribed() || now_ms.saturating_sub(kept.seen_ms) < KEPT_MS);
    }
}

/// Sends a reply or a notice; gives back what there is no room for. A client that is gone wants neither.
fn send_now(
    socket: &Socket,
    notices: &mut VecDeque<(RpcId, Peer)>,
    peer: &Peer,
    token: Option<ReplyToken>,
    bytes: Payload,
) -> Option<(Option<ReplyToken>, Payload)> {
    match token {
        Some(token) => match socket.try_reply(token, bytes.clone()) {
            Ok(Some(token)) => Some((Some(token), bytes)),
            Ok(None) | Err(_) => None,
        },
        None => match socket.try_send_one_way(peer, bytes.clone()) {
            Err(Error::WouldBlock { .. }) => Some((None, bytes)),
            Ok(id) => {
                notices.push_back((id, *peer));
                None
            }
            Err(_) => None,
        },
    }
}
