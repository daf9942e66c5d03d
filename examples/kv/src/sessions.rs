//! Owns the door of Sealane: each request is one message with one or several commands, its response has their replies. What a client set up
//! (version 3, a name, subscriptions) is kept per session; one that set up nothing costs nothing here. What is published leaves as one-way
//! messages.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::Result;
use rustc_hash::FxHashMap;
use sealane::{Clients, Delivery, Identity, Peer, Readiness, ReplyToken, RpcId, Socket, Trust};

use crate::engine::{Client, Engine};
use crate::requests;
use crate::resp::Out;
use crate::stream::Lent;
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
/// Bytes of messages held until their receivers have them.
const SEND_BYTES_MAX: u64 = 1 << 30;

struct Kept {
    client: Client,
    seen_ms: u64,
}

/// The door.
pub(crate) struct Sessions {
    socket: Arc<Socket>,
    readiness: Readiness,
    kept: FxHashMap<Peer, Kept>,
    plain: Client,
    replies: Vec<(ReplyToken, Vec<u8>)>,
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
    Ok(builder.send_bytes_max(SEND_BYTES_MAX).danger_helper_thread(false).bind(address)?)
}

impl Sessions {
    pub(crate) fn new(socket: Arc<Socket>) -> Result<Self> {
        let readiness = socket.readiness()?;
        Ok(Self {
            socket,
            readiness,
            kept: FxHashMap::default(),
            plain: Client::new(0, "sealane"),
            replies: Vec::new(),
            notices: VecDeque::new(),
            tidied_ms: 0,
        })
    }

    pub(crate) fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Takes what is there and runs it; the replies stay until [`Self::write`]. Whether there may be more.
    pub(crate) fn read(&mut self, engine: &mut Engine, lent: &mut Lent, ids: &mut u64) -> Result<bool> {
        let mut bytes = 0;
        while self.replies.len() < REQUESTS_PER_TURN && bytes < REPLIES_PER_TURN {
            match self.socket.try_recv()? {
                None => return Ok(false),
                Some(Delivery::Request(request)) => {
                    let replies = self.run(engine, &request.peer.peer, &request.payload, lent.take(), ids);
                    bytes += replies.len();
                    self.replies.push((request.token, replies));
                }
                Some(Delivery::OneWay(message)) => {
                    // Commands whose replies nobody wants.
                    let replies = self.run(engine, &message.peer.peer, &message.payload, lent.take(), ids);
                    lent.put(replies);
                }
                Some(Delivery::Failed(failed)) => self.failed(engine, failed.id),
                Some(_) => {}
            }
        }
        Ok(true)
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
        if self.replies.is_empty() {
            return;
        }
        let _together = (self.replies.len() > 1).then(|| self.socket.batch());
        for (token, replies) in self.replies.drain(..) {
            // A caller that is gone wants no reply.
            if !durable {
                let _ = self.socket.refuse(token);
            } else if replies.len() <= COPIED_MAX {
                let _ = self.socket.reply(token, &replies);
                lent.put(replies);
            } else {
                let _ = self.socket.reply(token, replies);
            }
        }
    }

    /// Sends what was published for these clients: one message each.
    pub(crate) fn notify(&mut self, notices: &FxHashMap<u64, Vec<&crate::pubsub::Notice>>) {
        if self.kept.is_empty() {
            return;
        }
        let _together = self.socket.batch();
        for (peer, kept) in &self.kept {
            let Some(of) = notices.get(&kept.client.id) else { continue };
            let mut out = Out { bytes: Vec::new(), is_v3: kept.client.is_v3 };
            of.iter().for_each(|notice| notice.write(&mut out));
            if let Ok(id) = self.socket.send_one_way(peer, out.bytes) {
                self.notices.push_back((id, *peer));
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
