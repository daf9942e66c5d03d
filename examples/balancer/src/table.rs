//! Owns where packets go: sessions by both of their names, and messages under way. It takes a datagram and the time, and says which server,
//! or why none. It refuses to know sockets, and believes nothing but for counting.
//!
//! What does not lead anywhere is dropped, not guessed: a packet of a session that is not known here could only be answered by the one
//! server that knows it.

use crate::limits::{Limits, NAMES, SESSION_MESSAGES};
use crate::seen::{Backend, SEALED, Seen};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Instant;
use wire::header::Header;
use wire::ids::{RpcId, SessionId, Side};
use wire::lanes::Lane;
use wire::limits::DATA_HEADER_LEN;
use wire::packet::Packet;
use wire::slice::part_at;

/// Why a packet is not passed on; the name in [`Seen::dropped`].
pub(crate) type Dropped = &'static str;

pub(crate) const NO_ROOM: Dropped = "no_room";
pub(crate) const STRANGER: Dropped = "not_a_server";
pub(crate) const UNSENT: Dropped = "unsent";
const UNKNOWN: Dropped = "unknown_session";
const WRONG_WAY: Dropped = "wrong_way";

/// Where a client's packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Steered {
    /// Which server.
    pub(crate) backend: usize,
    /// The packet bears a name that the server gave, so its sender has seen an answer.
    pub(crate) proven: bool,
}

/// A message under way: sequences count in each lane. [P-9.2]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Message {
    client_shard: u8,
    server_shard: u8,
    rpc: RpcId,
}

/// A session, from its first packet on.
#[derive(Debug)]
struct Session {
    backend: usize,
    heard: Instant,
    from: SocketAddr,
    /// The server's names for it, and whether a client has said them.
    names: Vec<(SessionId, bool)>,
    proven: bool,
    /// When each message was heard of.
    under_way: HashMap<Message, Instant>,
}

/// All that is known.
#[derive(Debug)]
pub(crate) struct Table {
    limits: Limits,
    backends: Vec<Backend>,
    /// By the client's name: it stands in first packets, and in all that servers send.
    sessions: HashMap<SessionId, Session>,
    /// The server's name, which stands in all further packets of clients, and which server gave it; the client's.
    names: HashMap<SessionId, SessionId>,
    unproven: usize,
    messages: usize,
    address_changes: u64,
    dropped: BTreeMap<Dropped, u64>,
}

impl Table {
    pub(crate) fn new(backends: &[SocketAddr], limits: Limits) -> Self {
        let backends = backends.iter().map(|at| Backend::new(*at)).collect();
        let (sessions, names, dropped) = (HashMap::new(), HashMap::new(), BTreeMap::new());
        Self { limits, backends, sessions, names, unproven: 0, messages: 0, address_changes: 0, dropped }
    }

    pub(crate) fn seen(&self, addresses: u64) -> Seen {
        let (backends, dropped) = (self.backends.clone(), self.dropped.clone());
        Seen { backends, address_changes: self.address_changes, addresses, dropped, sealed: SEALED }
    }

    pub(crate) fn refuse(&mut self, why: Dropped) {
        *self.dropped.entry(why).or_default() += 1;
    }

    /// Where a datagram from a client's address goes.
    pub(crate) fn steer(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Result<Steered, Dropped> {
        let packet = Packet::parse(datagram).map_err(|refusal| refusal.name())?;
        let (header, client) = match packet {
            Packet::Handshake(packet) if packet.from_client() => {
                let known = packet.header.session;
                let client = if known == SessionId::NONE {
                    self.begin(now, from, packet.fields.sender)?
                } else {
                    self.of_name(known)?
                };
                (packet.header, client)
            }
            Packet::Data(header) | Packet::Control(header) => (header, self.of_name(header.session)?),
            // It names the session as the packet did that it answers. [P-5.5]
            Packet::Reset(packet) => (packet.header, packet.header.session),
            Packet::Handshake(_) | Packet::Retry(_) => return Err(WRONG_WAY),
        };
        let session = self.sessions.get_mut(&client).ok_or(UNKNOWN)?;
        let proven = match session.names.iter_mut().find(|(name, _)| *name == header.session) {
            Some((_, said)) => {
                *said = true;
                self.unproven -= usize::from(!session.proven);
                session.proven = true;
                self.address_changes += u64::from(session.from != from);
                (session.from, session.heard) = (from, now);
                true
            }
            None => false,
        };
        let backend = session.backend;
        if let Packet::Data(header) = packet {
            self.count(now, client, &header, Side::Client, datagram);
        }
        let seen = &mut self.backends[backend];
        seen.packets_to += 1;
        seen.bytes_to += datagram.len() as u64;
        Ok(Steered { backend, proven })
    }

    /// Whether a datagram from a server may go to the client that it was sent to, and what can be learned from it.
    pub(crate) fn pass_back(&mut self, now: Instant, backend: usize, datagram: &[u8]) -> Result<(), Dropped> {
        let packet = Packet::parse(datagram).map_err(|refusal| refusal.name())?;
        let client = match packet {
            Packet::Handshake(packet) if packet.from_client() => return Err(WRONG_WAY),
            Packet::Handshake(packet) => packet.header.session,
            Packet::Retry(packet) => packet.header.session,
            Packet::Data(header) | Packet::Control(header) => header.session,
            Packet::Reset(packet) => self.of_name(packet.header.session)?,
        };
        let session = self.sessions.get(&client).filter(|session| session.backend == backend).ok_or(UNKNOWN)?;
        let proven = session.proven;
        match packet {
            Packet::Handshake(packet) => self.learn(client, packet.fields.sender),
            Packet::Data(header) if proven => self.count(now, client, &header, Side::Server, datagram),
            _ => {}
        }
        let seen = &mut self.backends[backend];
        seen.packets_from += 1;
        seen.bytes_from += datagram.len() as u64;
        Ok(())
    }

    /// Forgets what was silent for too long.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let (limits, names) = (self.limits, &mut self.names);
        for session in self.sessions.values_mut() {
            let before = session.under_way.len();
            session.under_way.retain(|_, heard| now.saturating_duration_since(*heard) < limits.message_idle);
            let gone = before - session.under_way.len();
            self.messages -= gone;
            self.backends[session.backend].under_way -= gone as u64;
        }
        self.sessions.retain(|_, session| {
            let idle = if session.proven { limits.session_idle } else { limits.unproven };
            let keep = now.saturating_duration_since(session.heard) < idle;
            if !keep {
                for (name, _) in &session.names {
                    names.remove(name);
                }
                self.unproven -= usize::from(!session.proven);
                self.messages -= session.under_way.len();
                let seen = &mut self.backends[session.backend];
                seen.under_way -= session.under_way.len() as u64;
                seen.sessions_now -= 1;
                seen.unanswered -= u64::from(session.names.is_empty());
            }
            keep
        });
    }

    /// The client's name of the session that a server gave this name.
    fn of_name(&self, name: SessionId) -> Result<SessionId, Dropped> {
        self.names.get(&name).copied().ok_or(UNKNOWN)
    }

    /// The session of a first packet: one that is there already, or a new one, at the server with the least to do. First of all its first
    /// flights count that are not answered: or a server that is gone, and has nothing to do, would get all of them.
    fn begin(&mut self, now: Instant, from: SocketAddr, client: SessionId) -> Result<SessionId, Dropped> {
        if self.sessions.contains_key(&client) {
            return Ok(client);
        }
        if self.sessions.len() >= self.limits.sessions || self.unproven >= self.limits.sessions / 2 {
            return Err(NO_ROOM);
        }
        let least = (0..self.backends.len()).min_by_key(|at| {
            let seen = &self.backends[*at];
            (seen.unanswered, seen.under_way, seen.sessions_now)
        });
        let backend = least.ok_or(NO_ROOM)?;
        let (names, under_way) = (Vec::new(), HashMap::new());
        self.sessions.insert(client, Session { backend, heard: now, from, names, proven: false, under_way });
        self.unproven += 1;
        let seen = &mut self.backends[backend];
        (seen.sessions, seen.sessions_now, seen.unanswered) =
            (seen.sessions + 1, seen.sessions_now + 1, seen.unanswered + 1);
        Ok(client)
    }

    /// A server gave the session a name. One that a client has said stays; of the others the latest do.
    fn learn(&mut self, client: SessionId, name: SessionId) {
        // A name that stands for another session is not taken from it.
        let Some(session) = self.sessions.get_mut(&client).filter(|_| !self.names.contains_key(&name)) else { return };
        self.backends[session.backend].unanswered -= u64::from(session.names.is_empty());
        if session.names.len() >= NAMES {
            let Some(oldest) = session.names.iter().position(|(_, said)| !said) else { return };
            self.names.remove(&session.names.remove(oldest).0);
        }
        session.names.push((name, false));
        self.names.insert(name, client);
    }

    /// Counts the messages of a DATA packet. A message begins with the first packet of who began it, and is answered by the first packet of
    /// the other side with its id; attempts do not matter. [P-3.1] [P-3.4] A late copy of a request counts once more, until it is forgotten.
    fn count(&mut self, now: Instant, client: SessionId, header: &Header, sender: Side, datagram: &[u8]) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let seen = &mut self.backends[session.backend];
        let lane = Lane::from_steer(header.steer);
        let (client_shard, server_shard) = match sender {
            Side::Client => (lane.from, lane.to),
            Side::Server => (lane.to, lane.from),
        };
        let mut at = DATA_HEADER_LEN;
        while let Ok(part) = part_at(datagram, at) {
            at = part.end();
            let message = Message { client_shard, server_shard, rpc: part.number().message().rpc() };
            if message.rpc.began() != sender {
                let answered = session.under_way.remove(&message).is_some();
                self.messages -= usize::from(answered);
                seen.answered += u64::from(answered);
                seen.under_way -= u64::from(answered);
            } else if let Some(heard) = session.under_way.get_mut(&message) {
                *heard = now;
            } else if session.under_way.len() < SESSION_MESSAGES && self.messages < self.limits.messages {
                session.under_way.insert(message, now);
                self.messages += 1;
                seen.messages += 1;
                seen.under_way += 1;
                *seen.shards.entry(server_shard).or_default() += 1;
                let stated = datagram[DATA_HEADER_LEN - 4..DATA_HEADER_LEN].first_chunk().copied();
                seen.stated_bytes += u64::from(stated.map_or(0, u32::from_be_bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests;
