//! Owns what somebody who has all installed secrets learns from the wire: which sessions there are, what both ends call them, and
//! their keys. Made from the specification and from what stands in the packets, [P-6.6] [P-6.3], not from the endpoints' own keys.
//!
//! The checker needs it to tell keys apart, a malicious peer to speak in its own sessions.

use std::collections::HashMap;
use std::fmt;

use offload::software::crypto;
use record::aead::{Aead, Cipher, NONCE_LEN};
use record::keys::{Secret, expand_label};
use wire::handshake::{HandshakePacket, Level, Method};
use wire::ids::Side;
use wire::packet::Packet;

use crate::clock::Time;
use crate::host::secret;
use crate::link::Frame;
use crate::rng::FastMap;

/// The type of HANDSHAKE packets. [P-5.1]
const HANDSHAKE: u8 = 3;
/// Where packets state their epoch. [P-5.1]
pub const EPOCH_AT: usize = 2;
/// What a client says first, and what a server answers. [P-6.6]
const HELLO: u8 = 1;
const ANSWER: u8 = 2;

/// What one side of a session seals with in one epoch.
pub struct Keys {
    /// The epoch.
    pub epoch: u64,
    /// Of data records.
    pub data: (Box<dyn Aead>, [u8; NONCE_LEN]),
    /// Of control packets.
    pub control: (Box<dyn Aead>, [u8; NONCE_LEN]),
    /// Which cipher both are of.
    pub cipher: Cipher,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({:?})", self.cipher)
    }
}

/// A session, as the wire tells.
#[derive(Debug)]
pub struct Session {
    /// Who began it, and what it calls it.
    pub client: (u32, u64),
    /// Who answered, and what it calls it.
    pub server: (u32, u64),
    /// Since when.
    pub since: Time,
    cipher: Cipher,
    /// The epochs of what client and server seal.
    epochs: [Epochs; 2],
}

/// The epochs of one direction.
#[derive(Debug)]
struct Epochs {
    /// Their secrets, the latest last.
    secrets: Vec<Secret>,
    /// What tells each key of data from all others.
    names: Vec<u64>,
}

impl Epochs {
    fn new(secret: Secret) -> Self {
        let mut epochs = Self { secrets: Vec::new(), names: Vec::new() };
        epochs.push(secret);
        epochs
    }

    fn push(&mut self, secret: Secret) {
        let key = expand(&secret, b"data key", 16);
        self.names.push(u64::from_be_bytes(key[..8].try_into().expect("eight bytes")));
        self.secrets.push(secret);
    }

    /// The next one begins.
    fn advance(&mut self) {
        let last = self.secrets.last().expect("there is one");
        self.push(secret_of(last, b"epoch"));
    }

    /// The one that a packet names: of those that may live. [P-6.5]
    fn named(&self, byte: u8) -> Option<u64> {
        let latest = self.names.len() as u64 - 1;
        (latest.saturating_sub(3)..=latest).find(|epoch| *epoch as u8 == byte)
    }
}

const fn index(sender: Side) -> usize {
    match sender {
        Side::Client => 0,
        Side::Server => 1,
    }
}

fn expand(secret: &Secret, label: &[u8], len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    expand_label(crypto(), secret, label, b"", &mut out);
    out
}

fn secret_of(secret: &Secret, label: &[u8]) -> Secret {
    Secret::new(expand(secret, label, 32).try_into().expect("32 bytes"))
}

impl Session {
    /// What `sender` seals with, in an epoch that it has begun.
    #[must_use]
    pub fn keys(&self, sender: Side, epoch: u64) -> Keys {
        let traffic = &self.epochs[index(sender)].secrets[epoch as usize];
        let key = |key: &[u8], iv: &[u8]| {
            let aead = crypto().aead(self.cipher, &expand(traffic, key, self.cipher.key_len()));
            (aead, expand(traffic, iv, NONCE_LEN).try_into().expect("12 bytes"))
        };
        Keys { epoch, data: key(b"data key", b"data iv"), control: key(b"ctl key", b"ctl iv"), cipher: self.cipher }
    }

    /// The latest epoch in which `sender` sealed anything.
    #[must_use]
    pub fn epoch(&self, sender: Side) -> u64 {
        self.epochs[index(sender)].names.len() as u64 - 1
    }

    /// The epoch of `sender`'s that a packet names, if it is one of the last four.
    #[must_use]
    pub fn named(&self, sender: Side, byte: u8) -> Option<u64> {
        self.epochs[index(sender)].named(byte)
    }

    /// Which side `host` is. (A session with oneself there is none.)
    #[must_use]
    pub const fn side(&self, host: u32) -> Side {
        if self.client.0 == host { Side::Client } else { Side::Server }
    }

    /// Host and name of the other end than `side`.
    #[must_use]
    pub const fn far(&self, side: Side) -> (u32, u64) {
        match side {
            Side::Client => self.server,
            Side::Server => self.client,
        }
    }

    /// The name of the key with which `sender` seals data in an epoch that it has begun.
    #[must_use]
    pub fn key_name(&self, sender: Side, epoch: u64) -> u64 {
        self.epochs[index(sender)].names[epoch as usize]
    }
}

/// Everything that was learnt.
#[derive(Debug)]
pub struct Wiretap {
    seed: u64,
    cipher: Cipher,
    /// First messages of clients, by host and its name of the session.
    hellos: HashMap<(u32, u64), Vec<u8>>,
    sessions: Vec<Session>,
    /// The session that a host calls so.
    names: FastMap<(u32, u64), u32>,
}

/// The first message of a stream of which `fragment` is the beginning.
fn first_message(fragment: &[u8], kind: u8) -> Option<Vec<u8>> {
    let [first, high, low, ..] = *fragment else { return None };
    let len = 3 + usize::from(u16::from_be_bytes([high, low]));
    (first == kind && fragment.len() >= len).then(|| fragment[..len].to_vec())
}

impl Wiretap {
    /// Of the world of `seed`, whose hosts use `cipher`.
    #[must_use]
    pub fn new(seed: u64, cipher: Cipher) -> Self {
        Self { seed, cipher, hellos: HashMap::new(), sessions: Vec::new(), names: FastMap::default() }
    }

    /// A frame leaves its host, unaltered.
    pub fn hear(&mut self, now: Time, frame: &Frame) {
        if frame.kind() == HANDSHAKE
            && let Ok(Packet::Handshake(packet)) = Packet::parse(&frame.bytes)
            && packet.fields.method == Method::Installed
            && !packet.alert()
        {
            self.handshake(now, frame, &packet);
        } else if let Some((side, session)) = self.of_sealed(frame)
            && session.epochs[index(side)].named(frame.bytes[EPOCH_AT].wrapping_sub(1)) == Some(session.epoch(side))
        {
            session.epochs[index(side)].advance();
        }
    }

    /// The session of a sealed packet, and which side it is from.
    fn of_sealed(&mut self, frame: &Frame) -> Option<(Side, &mut Session)> {
        let name = frame.bytes.get(8..16).filter(|_| matches!(frame.kind(), 1 | 2))?;
        let at = self.session_at(frame.from, frame.to, u64::from_be_bytes(name.try_into().expect("eight bytes")))?;
        let session = &mut self.sessions[at];
        Some((session.side(frame.from), session))
    }

    fn handshake(&mut self, now: Time, frame: &Frame, packet: &HandshakePacket<'_>) {
        let (from, to) = (frame.from, frame.to);
        let (sender, receiver) = (packet.fields.sender.as_u64(), packet.header.session.as_u64());
        let first = packet.fields.level == Level::Initial && packet.fields.offset == 0;
        if packet.from_client() {
            if first && let Some(hello) = first_message(packet.fragment, HELLO) {
                self.hellos.entry((from, sender)).or_insert(hello);
            }
            // It says whom it believes to speak with.
            if let Some(&session) = self.names.get(&(to, receiver)).filter(|_| receiver != 0)
                && self.sessions[session as usize].client == (from, sender)
            {
                self.names.entry((from, sender)).or_insert(session);
            }
        } else if first
            && !self.names.contains_key(&(from, sender))
            && let Some(answer) = first_message(packet.fragment, ANSWER)
            && let Some(hello) = self.hellos.get(&(to, receiver))
        {
            let root = crypto().hkdf_extract(b"sealane/1 installed", secret(self.seed, to, from).expose());
            let mixed = Secret::new(crypto().hkdf_extract(&root, &[&hello[..], &answer].concat()));
            let secret = secret_of(&mixed, b"inst session");
            let of = |label: &[u8]| Epochs::new(secret_of(&secret, label));
            let session = Session {
                client: (to, receiver),
                server: (from, sender),
                since: now,
                cipher: self.cipher,
                epochs: [of(b"c traffic"), of(b"s traffic")],
            };
            self.names.insert((from, sender), self.sessions.len() as u32);
            self.sessions.push(session);
        }
    }

    /// The session that `host` calls `name`, with its number.
    #[must_use]
    pub fn session(&self, host: u32, name: u64) -> Option<(u32, &Session)> {
        let at = *self.names.get(&(host, name))?;
        Some((at, &self.sessions[at as usize]))
    }

    /// The session of a sealed packet that `from` sent to `to`, who calls it `name`; or to where that one may have moved, which is
    /// somebody else, or nobody. [P-2.3]
    #[must_use]
    pub fn session_of(&self, from: u32, to: u32, name: u64) -> Option<&Session> {
        self.session_at(from, to, name).map(|at| &self.sessions[at])
    }

    fn session_at(&self, from: u32, to: u32, name: u64) -> Option<usize> {
        let far = |s: &Session| s.far(s.side(from));
        let is_it = |s: &Session| (s.client.0 == from || s.server.0 == from) && far(s).1 == name;
        let known = self.names.get(&(to, name)).map(|at| *at as usize);
        // A client's first message may have been answered twice: then it has said which answer it took.
        let elsewhere = || self.sessions.iter().rfind(|s| is_it(s)).map(far);
        known.or_else(|| {
            let far = elsewhere()?;
            self.names.get(&far).map(|at| *at as usize).or_else(|| self.sessions.iter().rposition(is_it))
        })
    }

    /// All sessions, the oldest first; also those of which only the server's half ever was.
    #[must_use]
    pub fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    /// Whether both ends use the session.
    #[must_use]
    pub fn is_whole(&self, at: u32) -> bool {
        self.names.get(&self.sessions[at as usize].client) == Some(&at)
    }
}
