//! Owns the keys of a capture: a key log's secrets, which session each belongs to, and the keys of lanes and epochs that follow from it.
//!
//! Everything is derived as `record` derives it for endpoints [P-6.3] [P-9.3]. Which secret is a session's is told by its handshake, whose
//! first bytes are clear; where that was not captured, secrets are tried on the first sealed packet, up to [`TRIALS_MAX`] times in all.

use std::collections::VecDeque;

use handshake::keylog::SESSION_LABEL;
use offload::software::crypto;
use record::aead::Cipher;
use record::error::OpenError;
use record::keys::{Chain, ControlKey, DataKey, SECRET_LEN, Secret};
use record::lanes::LaneSecrets;
use rustc_hash::FxHashMap;
use wire::handshake::{HandshakePacket, Level, Method};
use wire::ids::Side;
use wire::lanes::Lane;

use crate::error::Error;

/// How often a secret is tried on a packet of a session whose handshake was not captured, over the whole capture: some seconds.
pub const TRIALS_MAX: u32 = 1 << 20;
/// Epochs of a direction whose keys are kept.
const EPOCHS_KEPT: usize = 8;
/// How far a packet's epoch may lie ahead of the latest that opened: those between were not captured.
const EPOCHS_AHEAD: u8 = 32;
/// Sessions whose handshakes are remembered.
const HANDSHAKES_MAX: usize = 1 << 20;
/// Names of them: two each.
const NAMES_MAX: usize = 2 * HANDSHAKES_MAX;
const RANDOM_LEN: usize = 32;

/// The secrets of a key log.
#[derive(Debug, Default)]
pub struct KeyLog {
    secrets: Vec<Secret>,
    by_random: FxHashMap<[u8; RANDOM_LEN], usize>,
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let mut out = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |d: u8| char::from(d).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(out)
}

impl KeyLog {
    /// Reads the text of a key log. Lines of TLS's own secrets are let be.
    ///
    /// # Errors
    /// Which line is wrong, or that none is of use.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut log = Self::default();
        for (number, line) in text.lines().enumerate() {
            let mut words = line.split_ascii_whitespace();
            if words.next() != Some(SESSION_LABEL) {
                continue;
            }
            let wrong = |what| Error::KeyLogLine { line: number + 1, what };
            let random =
                words.next().and_then(hex).ok_or_else(|| wrong("its client random is not 64 hexadecimal digits"))?;
            let secret = words.next().and_then(hex::<SECRET_LEN>);
            let secret = secret.ok_or_else(|| wrong("its secret is not 64 hexadecimal digits"))?;
            log.by_random.insert(random, log.secrets.len());
            log.secrets.push(Secret::new(secret));
        }
        if log.secrets.is_empty() { Err(Error::KeyLogEmpty) } else { Ok(log) }
    }

    /// How many secrets of sessions there are.
    pub fn len(&self) -> usize {
        self.secrets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }
}

/// One line of a key log, as endpoints write it.
pub fn key_log_line(client_random: &[u8; RANDOM_LEN], secret: &[u8; SECRET_LEN]) -> String {
    let digits = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    format!("{SESSION_LABEL} {} {}\n", digits(client_random), digits(secret))
}

/// Two ends of a session, with what its handshake tells in clear.
#[derive(Clone, Copy, Debug, Default)]
struct Greeting {
    random: Option<[u8; RANDOM_LEN]>,
    cipher: Option<Cipher>,
    client: u64,
    server: u64,
}

/// Whose keys a direction has.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    secret: usize,
    cipher: Cipher,
    /// Who seals.
    sender: Side,
}

/// Finds the keys of each direction of each session.
#[derive(Debug)]
pub struct KeyRing {
    log: KeyLog,
    /// By either end's name of the session.
    greetings: FxHashMap<u64, usize>,
    all: Vec<Greeting>,
    trials_left: u32,
    /// What is addressed to which ids, by secret: sealed by the client, and by the server.
    owned: FxHashMap<usize, [Option<u64>; 2]>,
}

/// The client's random, or the server's suite, at the front of a stream of level 0 (RFC 8446 section 4.1).
fn hello(fragment: &[u8], from_client: bool) -> (Option<[u8; RANDOM_LEN]>, Option<Cipher>) {
    if from_client {
        let random = fragment.get(6..6 + RANDOM_LEN).and_then(|r| r.first_chunk().copied());
        return (random.filter(|_| fragment[0] == 1), None);
    }
    let suite = || {
        let at = 6 + RANDOM_LEN;
        let after = at + 1 + usize::from(*fragment.get(at)?);
        match fragment.get(after..after + 2)? {
            [0x13, 1] if fragment[0] == 2 => Some(Cipher::Aes128Gcm),
            [0x13, 2] if fragment[0] == 2 => Some(Cipher::Aes256Gcm),
            [0x13, 3] if fragment[0] == 2 => Some(Cipher::ChaCha20Poly1305),
            _ => None,
        }
    };
    (None, suite())
}

impl KeyRing {
    /// With these secrets.
    pub fn new(log: KeyLog) -> Self {
        Self {
            log,
            greetings: FxHashMap::default(),
            all: Vec::new(),
            trials_left: TRIALS_MAX,
            owned: FxHashMap::default(),
        }
    }

    /// Takes from a packet of a handshake what it tells of the session's keys.
    pub fn handshake(&mut self, packet: &HandshakePacket<'_>) {
        let (sender, receiver) = (packet.fields.sender.as_u64(), packet.header.session.as_u64());
        let known = self.greetings.get(&sender).or_else(|| self.greetings.get(&receiver)).copied();
        let place = match known {
            Some(place) => place,
            None if self.all.len() < HANDSHAKES_MAX => {
                self.all.push(Greeting::default());
                self.all.len() - 1
            }
            None => return,
        };
        let greeting = &mut self.all[place];
        let (ours, theirs) = if packet.from_client() {
            (&mut greeting.client, &mut greeting.server)
        } else {
            (&mut greeting.server, &mut greeting.client)
        };
        *ours = sender;
        if receiver != 0 {
            *theirs = receiver;
        }
        let clear = packet.fields.method == Method::Tls && packet.fields.level == Level::Initial && !packet.alert();
        if clear && packet.fields.offset == 0 {
            let (random, cipher) = hello(packet.fragment, packet.from_client());
            greeting.random = greeting.random.or(random);
            greeting.cipher = greeting.cipher.or(cipher);
        }
        for id in [sender, receiver] {
            // Anybody may greet a session that is known under ever new names.
            if id != 0 && (self.greetings.len() < NAMES_MAX || self.greetings.contains_key(&id)) {
                self.greetings.insert(id, place);
            }
        }
    }

    /// Whose keys open what is addressed to `session`, as its handshake says.
    pub fn owner(&self, session: u64) -> Option<Owner> {
        let greeting = &self.all[*self.greetings.get(&session)?];
        let secret = *self.log.by_random.get(&greeting.random?)?;
        let cipher = greeting.cipher?;
        // What is addressed to the server's id was sealed by the client.
        let sender = if session == greeting.server { Side::Client } else { Side::Server };
        Some(Owner { secret, cipher, sender })
    }

    /// What is addressed to `session` has these keys.
    pub fn own(&mut self, owner: &Owner, session: u64) {
        self.owned.entry(owner.secret).or_default()[owner.sender as usize] = Some(session);
    }

    /// The session id of the other direction.
    pub fn peer(&self, owner: &Owner) -> Option<u64> {
        self.owned.get(&owner.secret)?[owner.sender.peer() as usize]
    }

    /// The keys of one lane.
    pub fn unsealer(&self, owner: &Owner, lane: Lane) -> Unsealer {
        Unsealer::new(&self.log.secrets[owner.secret], owner.cipher, owner.sender, lane)
    }

    /// Tries secrets until `opens` says that one is right.
    pub fn trial(&mut self, lane: Lane, opens: impl Fn(&mut Unsealer) -> bool) -> Option<Owner> {
        for secret in 0..self.log.secrets.len() {
            for cipher in Cipher::ALL {
                for sender in [Side::Client, Side::Server] {
                    self.trials_left = self.trials_left.checked_sub(1)?;
                    let owner = Owner { secret, cipher, sender };
                    if opens(&mut self.unsealer(&owner, lane)) {
                        return Some(owner);
                    }
                }
            }
        }
        None
    }
}

#[derive(Debug)]
struct Epoch {
    number: u64,
    data: DataKey,
    control: ControlKey,
}

impl Epoch {
    fn of(chain: &Chain) -> Self {
        let crypto = crypto();
        Self { number: chain.epoch(), data: chain.data_key(crypto), control: chain.control_key(crypto) }
    }
}

/// Opens what one side seals in one lane.
#[derive(Debug)]
pub struct Unsealer {
    /// At the latest epoch that opened.
    chain: Chain,
    /// The latest at the end.
    epochs: VecDeque<Epoch>,
    /// Who seals.
    pub sender: Side,
}

impl Unsealer {
    /// From a session's secret.
    pub fn new(session: &Secret, cipher: Cipher, sender: Side, lane: Lane) -> Self {
        let crypto = crypto();
        let (client, server) = match sender {
            Side::Client => (lane.from, lane.to),
            Side::Server => (lane.to, lane.from),
        };
        let chain = if lane == Lane::MAIN {
            Chain::new(crypto, session, cipher, sender)
        } else {
            let secret = LaneSecrets::new(crypto, session).lane(crypto, client, server);
            Chain::new(crypto, &secret, cipher, sender)
        };
        let epochs = VecDeque::from([Epoch::of(&chain)]);
        Self { chain, epochs, sender }
    }

    /// Opens with the keys of the epoch that `byte` names. An epoch ahead of the latest is believed once it opened something.
    ///
    /// # Errors
    /// What `open` says, or that the tag does not verify when there are no such keys.
    pub fn with<T>(
        &mut self,
        byte: u8,
        open: impl FnOnce(&DataKey, &ControlKey) -> Result<T, OpenError>,
    ) -> Result<T, OpenError> {
        let latest = self.chain.epoch();
        let ahead = byte.wrapping_sub(latest as u8);
        if ahead == 0 || ahead > EPOCHS_AHEAD {
            let epoch = self.epochs.iter().rev().find(|epoch| epoch.number as u8 == byte).ok_or(OpenError::Tag)?;
            return open(&epoch.data, &epoch.control);
        }
        let mut chain = self.chain.clone();
        let mut between = VecDeque::new();
        for _ in 0..ahead {
            chain.advance(crypto());
            between.push_back(Epoch::of(&chain));
        }
        let newest = between.back().expect("it is ahead");
        let opened = open(&newest.data, &newest.control)?;
        self.chain = chain;
        self.epochs.append(&mut between);
        while self.epochs.len() > EPOCHS_KEPT {
            self.epochs.pop_front();
        }
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use wire::handshake::{FLAG_CLIENT, HandshakeFields};
    use wire::ids::SessionId;
    use wire::limits::TAG_LEN;

    use super::*;

    const CLIENT: u64 = 1 << 63 | 1;
    const SERVER: u64 = 1 << 63 | 2;
    /// The first of many more names.
    const MORE: u64 = 1 << 63 | 1 << 32;

    /// `sender` says something to `receiver`, which is 0 where that is not known yet.
    fn greet(ring: &mut KeyRing, sender: u64, receiver: u64, fragment: &[u8]) {
        let flags = if sender == CLIENT { FLAG_CLIENT } else { 0 };
        let [from, to] = [sender, receiver].map(SessionId::from_u64);
        let fields = HandshakeFields::first(from, Method::Tls);
        let header = HandshakePacket::header(flags, to, SessionId::from_u64(CLIENT));
        let (cookie, clear, covered, tag) = (&[], &[], &[], &[0; TAG_LEN]);
        ring.handshake(&HandshakePacket { header, fields, cookie, clear, fragment, covered, tag });
    }

    /// A ring that knows the session of [`CLIENT`] and [`SERVER`].
    fn ring() -> KeyRing {
        let random = [7; RANDOM_LEN];
        let mut ring = KeyRing::new(KeyLog::parse(&key_log_line(&random, &[9; SECRET_LEN])).unwrap());
        greet(&mut ring, CLIENT, 0, &[&[1, 0, 0, 34, 3, 3][..], &random].concat());
        greet(&mut ring, SERVER, CLIENT, &[&[2, 0, 0, 37, 3, 3][..], &random, &[0, 0x13, 1]].concat());
        assert!(ring.owner(CLIENT).is_some() && ring.owner(SERVER).is_some());
        ring
    }

    /// Anybody may greet a session that is known under ever new names: there is an end to those that are remembered, and what was known
    /// stays known.
    #[test]
    fn names_have_an_end() {
        let mut ring = ring();
        let beyond = MORE + NAMES_MAX as u64;
        (MORE..=beyond).for_each(|name| greet(&mut ring, name, CLIENT, &[]));
        assert_eq!((ring.greetings.len(), ring.all.len()), (NAMES_MAX, 1));
        assert!([CLIENT, SERVER, MORE].into_iter().all(|name| ring.owner(name).is_some()));
        assert!(ring.owner(beyond).is_none());
    }

    /// So there is to sessions.
    #[test]
    fn sessions_have_an_end() {
        let mut ring = ring();
        let beyond = MORE + HANDSHAKES_MAX as u64;
        (MORE..=beyond).for_each(|name| greet(&mut ring, name, 0, &[]));
        assert_eq!((ring.greetings.len(), ring.all.len()), (HANDSHAKES_MAX + 1, HANDSHAKES_MAX));
        assert!([CLIENT, SERVER].into_iter().all(|name| ring.owner(name).is_some()));
    }
}
