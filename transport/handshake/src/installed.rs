//! Owns sessions from installed secrets: two ends that were given one 32-byte secret agree on fresh keys. [P-6.6]
//!
//! Three messages, each a type byte, a length and a MAC: the client's hello, the server's answer, the client's finish. The
//! session's secret mixes the installed one with both hellos, nonces included, so a restart, a clone or a second
//! installation of a secret never repeats a key. MAC keys differ by role and by message: nothing can be sent back to its
//! sender or taken for another message. A repeated hello meets a fresh nonce of the server: it makes one half-open
//! handshake that ends by itself, never a session.
//!
//! Every packet's tag is made under a key of the secret as well, so that a forged packet is dropped and ends nothing.
//! There is no forward secrecy: who learns the installed secret can read what was recorded. TLS has it.

use core::fmt;
use std::sync::Arc;

use record::aead::{Cipher, Crypto};
use record::keys::{SECRET_LEN, Secret, expand_label};
use wire::bytes::Reader;
use wire::handshake::{HandshakePacket, Level, Method};
use wire::ids::Side;
use zeroize::Zeroizing;

use crate::error::{Alert, Error, Failure};
use crate::flight::Flight;
use crate::guard::Guard;
use crate::identity::PeerIdentity;
use crate::params::{PARAMS_MAX, TransportParams};
use crate::secrets::Agreed;
use crate::sides::{Shown, Sides};

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 16;

/// Bytes of a message's MAC.
const MAC_LEN: usize = 32;

/// Bytes before a message's body: type, length.
const HEAD_LEN: usize = 3;

const HELLO: u8 = 1;
const ANSWER: u8 = 2;
const FINISH: u8 = 3;

/// Most bytes in front of a hello's cipher: a key id, or the opening of a published ticket. [P-6.11]
const NAME_MAX: usize = 96;

/// Most bytes of a message.
const MESSAGE_MAX: usize = HEAD_LEN + NAME_MAX + 1 + NONCE_LEN + PARAMS_MAX + MAC_LEN;

mod by;

pub(crate) use by::By;

/// The public name of an installed secret; says nothing about it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// A secret that was installed here and at the other side.
#[derive(Clone)]
pub struct InstalledKey {
    id: KeyId,
    root: Secret,
    cipher: Cipher,
    label: Arc<str>,
}

impl InstalledKey {
    /// From 32 secret bytes of full entropy that both sides have. `label` is what deliveries call the other side.
    #[must_use]
    pub fn new(crypto: &dyn Crypto, secret: &Secret, cipher: Cipher, label: impl Into<Arc<str>>) -> Self {
        let root = Secret::new(crypto.hkdf_extract(b"sealane/1 installed", secret.expose()));
        let mut id = [0; 8];
        expand_label(crypto, &root, b"inst id", b"", &mut id);
        Self { id: KeyId(id), root, cipher, label: label.into() }
    }

    /// From the secret of a first flight by published ticket: the two sides talk as with an installed one. [P-6.11]
    #[cfg(feature = "tls")]
    pub(crate) fn published(root: &crate::published::Root, cipher: Cipher) -> Self {
        Self { id: KeyId([0; 8]), root: root.secret().clone(), cipher, label: "".into() }
    }

    /// Its public name: the same on both sides, and what a first packet is looked up by.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The key of packets that go out from `side`.
    fn packet_key(&self, crypto: &dyn Crypto, side: Side) -> Zeroizing<[u8; 32]> {
        self.key(crypto, if side == Side::Client { b"inst c pkt" } else { b"inst s pkt" })
    }

    fn key(&self, crypto: &dyn Crypto, label: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; SECRET_LEN]);
        expand_label(crypto, &self.root, label, b"", &mut *key);
        key
    }

    /// What proves RESETs of sessions with this secret, by who says so: a session's name is the same in both directions of what is
    /// said of it, so with one key for both sides each could be made to give away the other's tokens. [P-5.5]
    #[must_use]
    pub fn reset_key(&self, crypto: &dyn Crypto, side: Side) -> Secret {
        Secret::new(*self.key(crypto, if side == Side::Client { b"inst c reset" } else { b"inst s reset" }))
    }

    /// What protects the packets of a handshake with this secret.
    pub(crate) fn guard(&self, crypto: &dyn Crypto, side: Side) -> Guard {
        Guard::Mac { local: self.packet_key(crypto, side), remote: self.packet_key(crypto, side.peer()) }
    }
}

impl fmt::Debug for InstalledKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstalledKey({:?}, {}, {:?})", self.id, self.cipher, self.label)
    }
}

/// Which secret a client's first packet speaks of.
#[must_use]
pub(crate) fn key_id(packet: &HandshakePacket<'_>) -> Option<KeyId> {
    let fields = &packet.fields;
    if fields.method != Method::Installed || fields.level != Level::Initial || fields.offset != 0 || packet.alert() {
        return None;
    }
    let mut r = Reader::new(packet.fragment);
    if r.u8().ok()? != HELLO {
        return None;
    }
    r.u16().ok()?;
    r.array().ok().map(KeyId)
}

/// What a client's first packet says of a published ticket: its name, the whole opening, and the cipher.
#[cfg(feature = "tls")]
pub(crate) fn opening<'a>(packet: &HandshakePacket<'a>) -> Option<(crate::published::TicketId, &'a [u8], Cipher)> {
    let fields = &packet.fields;
    if fields.method != Method::Published || fields.level != Level::Initial || fields.offset != 0 || packet.alert() {
        return None;
    }
    let mut r = Reader::new(packet.fragment);
    if r.u8().ok()? != HELLO {
        return None;
    }
    r.u16().ok()?;
    let opening = r.take(crate::published::OPENING_LEN).ok()?;
    let code = r.u8().ok()?;
    let cipher = Cipher::ALL.into_iter().find(|&cipher| cipher_code(cipher) == code)?;
    Some((crate::published::TicketId(*opening.first_chunk()?), opening, cipher))
}

/// One side of the exchange.
pub(crate) struct Exchange {
    crypto: &'static dyn Crypto,
    key: InstalledKey,
    /// What a hello begins with: how the server finds the secret.
    name: Vec<u8>,
    by: By,
    side: Side,
    nonce: [u8; NONCE_LEN],
    params: Vec<u8>,
    /// The other side's, as they came.
    their_params: Vec<u8>,
    /// The stream as far as it is not a whole message.
    pending: Vec<u8>,
    /// Hello and answer as they stand on the wire, as far as they are known.
    transcript: Vec<u8>,
    peer: Option<TransportParams>,
    agreed: Option<Agreed>,
}

impl Exchange {
    pub(crate) fn new(
        crypto: &'static dyn Crypto,
        key: InstalledKey,
        side: Side,
        nonce: [u8; NONCE_LEN],
        params: Vec<u8>,
    ) -> Self {
        let by = By::Installed;
        Self { name: key.id.0.to_vec(), ..Self::with(crypto, key, side, nonce, params, by) }
    }

    pub(crate) fn with(
        crypto: &'static dyn Crypto,
        key: InstalledKey,
        side: Side,
        nonce: [u8; NONCE_LEN],
        params: Vec<u8>,
        by: By,
    ) -> Self {
        let (pending, transcript, name, their_params) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (peer, agreed) = (None, None);
        Self { crypto, key, name, by, side, nonce, params, their_params, pending, transcript, peer, agreed }
    }

    /// With what its hello begins.
    #[cfg(feature = "tls")]
    pub(crate) fn named(self, opening: &[u8]) -> Self {
        Self { name: opening.to_vec(), ..self }
    }

    pub(crate) const fn method(&self) -> Method {
        match self.by {
            By::Installed => Method::Installed,
            #[cfg(feature = "tls")]
            By::Published { .. } => Method::Published,
        }
    }

    /// The client speaks first.
    pub(crate) fn start(&mut self, flight: &mut Flight) {
        let name = core::mem::take(&mut self.name);
        let cipher = [cipher_code(self.key.cipher)];
        let (nonce, params) = (self.nonce, self.params.clone());
        self.send(flight, HELLO, &[&name, &cipher, &nonce, &params]);
        self.by.begun(self.crypto, self.side, &self.transcript, flight);
    }

    /// Takes bytes of the other side's stream.
    pub(crate) fn read(&mut self, bytes: &[u8], flight: &mut Flight) -> Result<(), Failure> {
        self.pending.extend_from_slice(bytes);
        while let Some(&[kind, hi, lo]) = self.pending.first_chunk::<HEAD_LEN>() {
            let len = HEAD_LEN + usize::from(u16::from_be_bytes([hi, lo]));
            if len > MESSAGE_MAX {
                return Err(violation("a message is too long", Alert::DECODE_ERROR));
            }
            if self.pending.len() < len {
                break;
            }
            let rest = self.pending.split_off(len);
            let message = core::mem::replace(&mut self.pending, rest);
            self.message(kind, &message, flight)?;
        }
        Ok(())
    }

    /// What was agreed, once.
    pub(crate) const fn agreed(&mut self) -> Option<Agreed> {
        self.agreed.take()
    }

    fn message(&mut self, kind: u8, message: &[u8], flight: &mut Flight) -> Result<(), Failure> {
        let expected = match (self.side, self.peer.is_some()) {
            (Side::Server, false) => HELLO,
            (Side::Client, false) => ANSWER,
            (Side::Server, true) => FINISH,
            (Side::Client, true) => 0,
        };
        if kind != expected {
            return Err(violation("a message came out of order", Alert(10)));
        }
        let (covered, mac) = message
            .split_last_chunk::<MAC_LEN>()
            .filter(|(covered, _)| covered.len() >= HEAD_LEN)
            .ok_or_else(|| violation("a message is too short", Alert::DECODE_ERROR))?;
        if !self.crypto.equal(&self.mac(kind, covered), mac) {
            return Err(violation("a message's MAC is wrong", Alert::DECRYPT_ERROR));
        }
        let mut body = Reader::new(&covered[HEAD_LEN..]);
        match kind {
            HELLO => {
                self.hello(&mut body)?;
                self.transcript.extend_from_slice(message);
                self.by.begun(self.crypto, self.side, &self.transcript, flight);
                let (nonce, params) = (self.nonce, self.params.clone());
                self.send(flight, ANSWER, &[&nonce, &params]);
                self.by.mixed(self.crypto, &self.mixed(), flight);
            }
            ANSWER => {
                self.nonce_and_params(&mut body)?;
                self.transcript.extend_from_slice(message);
                self.by.mixed(self.crypto, &self.mixed(), flight);
                self.send(flight, FINISH, &[]);
                self.agree();
            }
            _ => self.agree(),
        }
        Ok(())
    }

    fn hello(&mut self, body: &mut Reader<'_>) -> Result<(), Failure> {
        let short = |_| violation("a hello is too short", Alert::DECODE_ERROR);
        let name = body.take(self.name.len()).map_err(short)?;
        let cipher = body.u8().map_err(short)?;
        if name != self.name {
            return Err(violation("a hello speaks of another secret", Alert::UNKNOWN_PSK_IDENTITY));
        }
        if cipher != cipher_code(self.key.cipher) {
            return Err(Failure { error: Error::NothingInCommon, alert: Some(Alert::HANDSHAKE_FAILURE) });
        }
        self.nonce_and_params(body)
    }

    fn nonce_and_params(&mut self, body: &mut Reader<'_>) -> Result<(), Failure> {
        let short = |_| violation("a message is too short", Alert::DECODE_ERROR);
        body.array::<NONCE_LEN>().map_err(short)?;
        self.their_params = body.rest().to_vec();
        let params = TransportParams::decode(&self.their_params).map_err(Failure::params)?;
        if self.side == Side::Client {
            self.by.heard(&self.their_params);
        }
        self.peer = Some(params);
        Ok(())
    }

    fn send(&mut self, flight: &mut Flight, kind: u8, parts: &[&[u8]]) {
        let len: usize = parts.iter().map(|part| part.len()).sum::<usize>() + MAC_LEN;
        let mut message = Vec::with_capacity(HEAD_LEN + len);
        message.push(kind);
        message.extend((len as u16).to_be_bytes());
        parts.iter().for_each(|part| message.extend_from_slice(part));
        let mac = self.mac(kind, &message);
        message.extend(mac);
        flight.write(Level::Initial, &message);
        if kind != FINISH {
            self.transcript.extend_from_slice(&message);
        }
    }

    /// The MAC of a message: over all that both said before, and over it.
    fn mac(&self, kind: u8, covered: &[u8]) -> [u8; MAC_LEN] {
        let label: &[u8] = match kind {
            HELLO => b"inst c hello",
            ANSWER => b"inst s answer",
            _ => b"inst c finish",
        };
        self.crypto.hmac(&self.key.key(self.crypto, label), &[&self.transcript, covered].concat())
    }

    fn agree(&mut self) {
        let Some(peer) = self.peer.clone() else { return };
        let mut secret = Zeroizing::new([0; SECRET_LEN]);
        expand_label(self.crypto, &self.mixed(), b"inst session", b"", &mut *secret);
        let ours = Shown { key: Vec::new(), params: self.params.clone() };
        let theirs = Shown { key: Vec::new(), params: self.their_params.clone() };
        let installed = || PeerIdentity::Installed { label: self.key.label.clone() };
        self.agreed = Some(Agreed {
            peer,
            // Who has the secret has no key of its own.
            sides: Some(Sides::new(self.side, ours, theirs)),
            secret: Secret::new(*secret),
            cipher: self.key.cipher,
            identity: self.by.identity().unwrap_or_else(installed),
            mutual: self.method() == Method::Installed,
            must_wait: false,
            exchange: None,
            resumed: false,
            early: self.by.is_taken(),
            #[cfg(feature = "tls")]
            verdict: self.by.verdict(),
        });
    }

    /// What both nonces are in.
    fn mixed(&self) -> Secret {
        Secret::new(self.crypto.hkdf_extract(self.key.root.expose(), &self.transcript))
    }
}

fn violation(reason: &str, alert: Alert) -> Failure {
    Failure { error: Error::Protocol { reason: String::from(reason) }, alert: Some(alert) }
}

const fn cipher_code(cipher: Cipher) -> u8 {
    match cipher {
        Cipher::Aes128Gcm => 1,
        Cipher::Aes256Gcm => 2,
        Cipher::ChaCha20Poly1305 => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_crypto::CRYPTO;
    use std::collections::HashSet;

    /// No key serves two purposes, two roles, or two secrets.
    #[test]
    fn keys_differ() {
        let mut seen = HashSet::new();
        for secret in [1, 2] {
            let key = InstalledKey::new(&CRYPTO, &Secret::new([secret; SECRET_LEN]), Cipher::Aes128Gcm, "x");
            for side in [Side::Client, Side::Server] {
                assert!(seen.insert(*key.packet_key(&CRYPTO, side)));
            }
            for label in [&b"inst c hello"[..], b"inst s answer", b"inst c finish"] {
                assert!(seen.insert(*key.key(&CRYPTO, label)));
            }
            assert!(seen.insert(*key.root.expose()));
        }
    }
}
