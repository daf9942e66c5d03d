//! Owns what proves a RESET: our own tokens, computed from a session's name alone so that they survive a restart, and those that
//! peers promised. [P-5.5]
//!
//! What is promised is not the token but its hash: a client's parameters, and with installed secrets those of both sides, stand in
//! clear in the handshake, and whoever read a token there could end the session. (QUIC forbids clients to have one.)
//!
//! Two ends never compute tokens under one key, or one could be made to give away the other's: who is asked about a session that it
//! does not know answers with the token for that name, whoever's session it is.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;

use hashbrown::HashTable;
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
    /// Whom secrets were installed for: the address as a keyed hash, the port, and the number of the secret.
    installed: BTreeSet<(u64, u16, u32)>,
    /// Slots of sessions whose peers promised something, by a keyed hash of the name that the peer has for it. There is one for each session,
    /// so the name and the promise are kept with that.
    promised: HashTable<(u32, u32)>,
    /// How many of several possible tokens were said.
    said: usize,
}

impl Tokens {
    /// With the key that the application keeps, or a random one.
    pub fn new(kept: Option<Secret>, random: Secret) -> Self {
        let lasting = kept.is_some();
        let (installed, promised) = (BTreeSet::new(), HashTable::new());
        Self { key: kept.unwrap_or(random), lasting, installed, promised, said: 0 }
    }

    /// Nobody else can choose what falls together.
    fn hash(&self, what: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(self.key.expose());
        what.hash(&mut hasher);
        hasher.finish()
    }

    /// The secret of that number was installed for a peer at `address`.
    pub fn install(&mut self, address: SocketAddr, number: u32) {
        self.installed.insert((self.hash(address.ip().to_canonical()), address.port(), number));
    }

    /// The numbers of up to `most` secrets that a peer at `address` may have: those of this port first, and what was installed last before what was before.
    pub fn secrets_of(&self, address: SocketAddr, most: usize) -> impl Iterator<Item = u32> {
        let (ip, port) = (self.hash(address.ip().to_canonical()), address.port());
        let (least, last) = (0, u32::MAX);
        let here = self.installed.range((ip, port, least)..=(ip, port, last));
        let near = self.installed.range((ip, 0, least)..=(ip, u16::MAX, last)).filter(move |(_, p, _)| *p != port);
        here.rev().chain(near.rev().take(most)).take(most).map(|(_, _, number)| *number)
    }

    /// So many more tokens are said now; gives how many there were before.
    pub fn turn(&mut self, more: usize) -> usize {
        let before = self.said;
        self.said = before.wrapping_add(more);
        before
    }

    /// The peer of the session in `slot` calls it `name`, and promised something for it.
    pub fn promise(&mut self, name: SessionId, slot: u32) {
        let hash = self.hash(name.as_u64());
        // Both halves of a word are as good as the whole.
        self.promised.insert_unique(spread(hash as u32), (hash as u32, slot), |(hash, _)| spread(*hash));
    }

    /// The session is over.
    pub fn forget(&mut self, name: SessionId, slot: u32) {
        let hash = self.hash(name.as_u64()) as u32;
        if let Ok(entry) = self.promised.find_entry(spread(hash), |entry| *entry == (hash, slot)) {
            entry.remove();
        }
    }

    /// The session that a peer calls `name` and proves by `given` that it does not know; `promise_of` tells how the peer of the session in a
    /// slot calls that, and what it promised for it.
    pub fn proven(
        &self,
        crypto: &dyn Crypto,
        name: SessionId,
        given: &Token,
        promise_of: impl Fn(u32) -> Option<(SessionId, Promise)>,
    ) -> Option<u32> {
        let hash = self.hash(name.as_u64()) as u32;
        let alike = self.promised.iter_hash(spread(hash)).filter(|(of, _)| *of == hash).take(NAMESAKES_MAX);
        let promised = alike.filter_map(|(_, slot)| Some((*slot, promise_of(*slot)?)));
        let mut named = promised.filter(|(_, (called, _))| *called == name).peekable();
        // A forged one costs a look, unless it names a session.
        named.peek()?;
        let given = promise(crypto, given);
        // Each in constant time: how far a guess is right cannot be measured.
        named.find(|(_, (_, promised))| crypto.equal(&promised[..], &given)).map(|(slot, _)| slot)
    }
}

/// A hash of 32 bits as one of 64: tables look at its upper bits, too.
const fn spread(hash: u32) -> u64 {
    (hash as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
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
        tokens.promise(session, 3);
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
        // What is kept with each session: its name, and what its peer promised.
        let kept = |slot: u32| Some((name(if slot == 7 { 10 } else { 9 }), promise(crypto, &[slot as u8; 16])));
        for slot in 0..4 {
            tokens.promise(name(9), slot);
        }
        tokens.promise(name(10), 7);
        for slot in 0..4u32 {
            assert_eq!(tokens.proven(crypto, name(9), &[slot as u8; 16], kept), Some(slot));
        }
        assert_eq!(tokens.proven(crypto, name(10), &[7; 16], kept), Some(7));
        assert_eq!(tokens.proven(crypto, name(9), &[7; 16], kept), None);
        assert_eq!(tokens.proven(crypto, name(9), &promise(crypto, &[1; 16]), kept), None);
        assert_eq!(tokens.proven(crypto, name(11), &[7; 16], kept), None);
        assert_eq!(tokens.proven(crypto, name(9), &[1; 16], |_| None), None);
        tokens.forget(name(9), 2);
        assert_eq!(tokens.proven(crypto, name(9), &[2; 16], kept), None);
        for slot in 0..1000 {
            tokens.promise(name(12), slot);
        }
        let looks = std::cell::Cell::new(0);
        let kept = |_| {
            looks.set(looks.get() + 1);
            Some((name(12), [9; 16]))
        };
        assert_eq!(tokens.proven(crypto, name(12), &[8; 16], kept), None);
        assert!(looks.get() <= NAMESAKES_MAX, "a bounded number is looked at");
    }

    /// Secrets of the very port come first, those of the host after them, nobody else's ever.
    #[test]
    fn secrets_by_address() {
        let mut tokens = tokens();
        let at = |ip: [u8; 4], port: u16| SocketAddr::from((ip, port));
        let key = |n: u32| n;
        let here = [10, 0, 0, 1];
        tokens.install(at(here, 9), key(9));
        tokens.install(at(here, 1), key(1));
        tokens.install(at(here, 5), key(5));
        tokens.install(at(here, 5), key(6));
        tokens.install(at([10, 0, 0, 2], 5), key(7));
        let of = |port, most| tokens.secrets_of(at(here, port), most).collect::<Vec<_>>();
        assert_eq!(of(5, 9), [6, 5, 9, 1]);
        assert_eq!(of(9, 2), [9, 6]);
        assert_eq!(of(77, 2), [9, 6]);
        assert_eq!(of(5, 1), [6]);
    }
}
