//! Owns what proves a RESET: our own tokens, computed from a session's name alone so that they survive a restart, and those that
//! peers promised. [P-5.5]
//!
//! What is promised is not the token but its hash: a client's parameters, and with installed secrets those of both sides, stand in
//! clear in the handshake, and whoever read a token there could end the session. (QUIC forbids clients to have one.)
//!
//! Two ends never compute tokens under one key, or one could be made to give away the other's: who is asked about a session that it
//! does not know answers with the token for that name, whoever's session it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use handshake::installed::KeyId;
use record::aead::Crypto;
use record::keys::Secret;
use wire::ids::SessionId;
use wire::reset::TOKEN_LEN;

/// What proves a RESET of one session.
pub type Token = [u8; TOKEN_LEN];

/// What a peer is told of a token beforehand: who knows it can tell the right one, and cannot say it.
pub type Promise = [u8; TOKEN_LEN];

/// Names the one use of this hash; no secret.
const PROMISE: &[u8; 32] = b"sealane/1 promise of reset token";

/// Sessions that peers call the same, which are compared with a RESET: honest peers choose at random, and there is one.
const NAMESAKES_MAX: usize = 8;

/// The token of `session` under `key`.
pub fn token(crypto: &dyn Crypto, key: &Secret, session: SessionId) -> Token {
    let mac = crypto.hmac(key.expose(), &session.as_u64().to_be_bytes());
    *mac.first_chunk().expect("half of an HMAC")
}

/// What is said of a token beforehand.
pub fn promise(crypto: &dyn Crypto, token: &Token) -> Promise {
    *crypto.hmac(PROMISE, token).first_chunk().expect("half of an HMAC")
}

/// Tokens, and what they are computed with.
pub struct Tokens {
    /// The endpoint's own key.
    pub(crate) key: Secret,
    /// It outlives the process: it is used for all sessions. Else those of an installed secret have a key of that secret.
    pub(crate) lasting: bool,
    /// Whom secrets were installed for.
    installed: BTreeSet<(IpAddr, u16, KeyId)>,
    /// What peers promised, by their name of the session and our slot.
    promised: BTreeMap<(u64, u32), Promise>,
    /// How many of several possible tokens were said.
    said: usize,
}

impl Tokens {
    /// With the key that the application keeps, or a random one.
    pub fn new(kept: Option<Secret>, random: Secret) -> Self {
        let lasting = kept.is_some();
        let (installed, promised) = (BTreeSet::new(), BTreeMap::new());
        Self { key: kept.unwrap_or(random), lasting, installed, promised, said: 0 }
    }

    /// A secret was installed for a peer at `address`.
    pub fn install(&mut self, address: SocketAddr, key: KeyId) {
        self.installed.insert((address.ip().to_canonical(), address.port(), key));
    }

    /// Up to `most` secrets that a peer at `address` may have: those of this port first.
    pub fn secrets_of(&self, address: SocketAddr, most: usize) -> impl Iterator<Item = KeyId> {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let (least, last) = (KeyId([0; 8]), KeyId([0xff; 8]));
        let here = self.installed.range((ip, port, least)..=(ip, port, last));
        let near = self.installed.range((ip, 0, least)..=(ip, u16::MAX, last)).filter(move |(_, p, _)| *p != port);
        here.chain(near.take(most)).take(most).map(|(_, _, key)| *key)
    }

    /// So many more tokens are said now; gives how many there were before.
    pub fn turn(&mut self, more: usize) -> usize {
        let before = self.said;
        self.said = before.wrapping_add(more);
        before
    }

    /// The peer of the session in `slot` calls it `name`, and promised this for it.
    pub fn promise(&mut self, name: SessionId, slot: u32, promise: Promise) {
        self.promised.insert((name.as_u64(), slot), promise);
    }

    /// The session is over.
    pub fn forget(&mut self, name: SessionId, slot: u32) {
        self.promised.remove(&(name.as_u64(), slot));
    }

    /// The session that a peer calls `name` and proves by `given` that it does not know.
    pub fn proven(&self, crypto: &dyn Crypto, name: SessionId, given: &Token) -> Option<u32> {
        let name = name.as_u64();
        let mut named = self.promised.range((name, 0)..=(name, u32::MAX)).take(NAMESAKES_MAX).peekable();
        // A forged one costs a look, unless it names a session.
        named.peek()?;
        let given = promise(crypto, given);
        // Each in constant time: how far a guess is right cannot be measured.
        named.find(|(_, promised)| crypto.equal(&promised[..], &given)).map(|((_, slot), _)| *slot)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("promised", &self.promised.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        Tokens::new(None, Secret::new([1; 32]))
    }

    /// [P-5.5] A token is half of an HMAC-SHA256 over the name, and says nothing of itself when printed.
    #[test]
    fn what_a_token_is() {
        let (crypto, key) = (offload::software::crypto(), Secret::new([7; 32]));
        let session = SessionId::from_u64(0x8877_6655_4433_2211);
        let mac = crypto.hmac(&[7; 32], &[0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
        assert_eq!(token(crypto, &key, session), mac[..16]);
        let mut tokens = tokens();
        tokens.promise(session, 3, [0xab; 16]);
        assert_eq!(format!("{tokens:?}"), "Tokens { promised: 1, .. }");
        let promised = promise(crypto, &[9; 16]);
        assert_eq!(promised, crypto.hmac(b"sealane/1 promise of reset token", &[9; 16])[..16]);
    }

    /// Only the right token of the right name finds a session, also among namesakes, and only as long as there is one; what was
    /// promised does not.
    #[test]
    fn promises() {
        let crypto = offload::software::crypto();
        let mut tokens = tokens();
        let name = |n: u64| SessionId::from_u64(n);
        for slot in 0..4 {
            tokens.promise(name(9), slot, promise(crypto, &[slot as u8; 16]));
        }
        tokens.promise(name(10), 7, promise(crypto, &[7; 16]));
        for slot in 0..4u32 {
            assert_eq!(tokens.proven(crypto, name(9), &[slot as u8; 16]), Some(slot));
        }
        assert_eq!(tokens.proven(crypto, name(9), &[7; 16]), None);
        assert_eq!(tokens.proven(crypto, name(9), &promise(crypto, &[1; 16])), None);
        assert_eq!(tokens.proven(crypto, name(11), &[7; 16]), None);
        tokens.forget(name(9), 2);
        assert_eq!(tokens.proven(crypto, name(9), &[2; 16]), None);
        for slot in 0..1000 {
            tokens.promise(name(12), slot, [9; 16]);
        }
        assert_eq!(tokens.proven(crypto, name(12), &[8; 16]), None, "and a bounded number is looked at");
    }

    /// Secrets of the very port come first, those of the host after them, nobody else's ever.
    #[test]
    fn secrets_by_address() {
        let mut tokens = tokens();
        let at = |ip: [u8; 4], port: u16| SocketAddr::from((ip, port));
        let key = |n: u8| KeyId([n; 8]);
        let here = [10, 0, 0, 1];
        tokens.install(at(here, 9), key(9));
        tokens.install(at(here, 1), key(1));
        tokens.install(at(here, 5), key(5));
        tokens.install(at(here, 5), key(6));
        tokens.install(at([10, 0, 0, 2], 5), key(7));
        let of = |port, most| tokens.secrets_of(at(here, port), most).map(|key| key.0[0]).collect::<Vec<_>>();
        assert_eq!(of(5, 9), [5, 6, 1, 9]);
        assert_eq!(of(9, 2), [9, 1]);
        assert_eq!(of(77, 2), [1, 5]);
        assert_eq!(of(5, 1), [5]);
    }
}
