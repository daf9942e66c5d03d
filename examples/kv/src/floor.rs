//! Owns the floor of the comparison: the same engine behind bare datagrams, from anyone. In clear text, or each request and each reply
//! sealed once by a key of its client's and nothing else: what datagrams cost by themselves, used plainly. Only benchmarks open this door;
//! keys follow from their clients' numbers, for there is no secret to measure.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};

use anyhow::{Result, ensure};
use offload::software::crypto;
use record::aead::{Aead, Cipher, NONCE_LEN};
use rustc_hash::FxHashMap;

use crate::engine::{Client, Engine};
use crate::requests;
use crate::resp::Out;
use crate::stream::Lent;

/// Bytes of a datagram over IPv4 at most.
pub(crate) const DATAGRAM_MAX: usize = 65_507;
/// Bytes before the commands and before their replies.
const HEAD_BYTES: usize = 16;
/// Bytes behind what is sealed.
const TAG_BYTES: usize = 16;
/// Clients that have keys at once: more than a fleet has.
const CLIENTS_MAX: usize = 1 << 17;
/// Messages of one turn.
const REQUESTS_PER_TURN: usize = 256;

/// Which way a datagram goes: each has nonces of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Toward {
    Server,
    Client,
}

/// A client's key.
pub(crate) struct Key(Box<dyn Aead>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// That of this client's; none of the one that speaks in clear text, which is client zero.
    pub(crate) fn of(client: u64) -> Option<Self> {
        let bytes = [client.to_le_bytes(), client.to_be_bytes()].concat();
        (client != 0).then(|| Self(crypto().aead(Cipher::Aes128Gcm, &bytes)))
    }
}

/// Stands before the commands and before their replies: two numbers of 8 bytes in network order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// The request's; its reply has it too.
    pub(crate) number: u64,
    /// Whose key it is sealed by, or zero.
    pub(crate) client: u64,
}

impl Head {
    pub(crate) fn parse(datagram: &[u8]) -> Option<Self> {
        let (number, rest) = datagram.split_first_chunk()?;
        let client = rest.first_chunk()?;
        Some(Self { number: u64::from_be_bytes(*number), client: u64::from_be_bytes(*client) })
    }

    pub(crate) fn put(self, datagram: &mut Vec<u8>) {
        datagram.extend_from_slice(&self.number.to_be_bytes());
        datagram.extend_from_slice(&self.client.to_be_bytes());
    }

    fn nonce(self, toward: Toward) -> [u8; NONCE_LEN] {
        let mut nonce = [0; NONCE_LEN];
        nonce[0] = toward as u8;
        nonce[4..].copy_from_slice(&self.number.to_be_bytes());
        nonce
    }

    /// Seals what stands behind the head.
    pub(crate) fn seal(self, key: Option<&Key>, toward: Toward, datagram: &mut Vec<u8>) -> Result<()> {
        if let Some(key) = key {
            datagram.resize(datagram.len() + TAG_BYTES, 0);
            let (head, record) = datagram.split_at_mut(HEAD_BYTES);
            key.0.seal_in_place(&self.nonce(toward), head, record);
        }
        ensure!(datagram.len() <= DATAGRAM_MAX, "a message is longer than a datagram");
        Ok(())
    }

    /// What stands behind the head of a datagram that has one; none when it is not sealed by this key.
    pub(crate) fn open<'a>(self, key: Option<&Key>, toward: Toward, datagram: &'a mut [u8]) -> Option<&'a [u8]> {
        let (head, record) = datagram.split_at_mut(HEAD_BYTES);
        let Some(key) = key else { return Some(record) };
        let length = record.len().checked_sub(TAG_BYTES)?;
        key.0.open_in_place(&self.nonce(toward), head, record).ok()?;
        Some(&record[..length])
    }
}

/// The door.
#[derive(Debug)]
pub(crate) struct Floor {
    pub(crate) socket: UdpSocket,
    read: Vec<u8>,
    keys: FxHashMap<u64, Key>,
    replies: Vec<(SocketAddr, Vec<u8>)>,
}

impl Floor {
    pub(crate) fn bind(address: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, read: vec![0; DATAGRAM_MAX], keys: FxHashMap::default(), replies: Vec::new() })
    }

    /// Takes what is there and runs it; the replies stay until [`Self::write`].
    pub(crate) fn read(&mut self, engine: &mut Engine, lent: &mut Lent) -> Result<()> {
        let mut client = Client::new(0, "udp");
        while self.replies.len() < REQUESTS_PER_TURN {
            let (length, from) = match self.socket.recv_from(&mut self.read) {
                Ok(came) => came,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            };
            let datagram = &mut self.read[..length];
            let Some(head) = Head::parse(datagram) else { continue };
            let sealed = head.client != 0;
            if sealed && !self.keys.contains_key(&head.client) && self.keys.len() < CLIENTS_MAX {
                self.keys.extend(Key::of(head.client).map(|key| (head.client, key)));
            }
            let key = self.keys.get(&head.client);
            if sealed && key.is_none() {
                continue;
            }
            let Some(commands) = head.open(key, Toward::Server, datagram) else { continue };
            let mut out = Out { bytes: lent.take(), is_v3: false };
            head.put(&mut out.bytes);
            requests::run_message(engine, &mut client, commands, &mut out, DATAGRAM_MAX - TAG_BYTES);
            // What is too long for a datagram is lost, as datagrams are.
            if head.seal(key, Toward::Client, &mut out.bytes).is_ok() {
                self.replies.push((from, out.bytes));
            }
        }
        Ok(())
    }

    /// Sends the replies. What does not fit into a buffer of the kernel is lost, as datagrams are.
    pub(crate) fn write(&mut self, lent: &mut Lent) {
        for (to, replies) in self.replies.drain(..) {
            let _ = self.socket.send_to(&replies, to);
            lent.put(replies);
        }
    }
}
