//! Owns "I do not know this session": when it is said, and what it does to who hears it. [P-5.5]

use std::net::SocketAddr;

use handshake::installed::KeyId;
use proto::io::Failure;
use proto::time::Instant;
use record::keys::Secret;
use wire::ids::SessionId;
use wire::reset::{RESET_LEN, ResetPacket};

use crate::error::Ended;
use crate::state::State;
use crate::tokens::{Promise, Token, promise, token};

/// Tokens that answer one packet: which of several secrets its session was of cannot be known any more.
const TOKENS_MAX: usize = 4;

/// Answers to strangers that may wait to be sent.
const STRANGERS_MAX: usize = 64;

impl State {
    /// Whoever is at `to` is told something, and nothing of it is kept. Whether there was room.
    pub(crate) fn answer_stranger(&mut self, to: SocketAddr, bytes: &[u8]) -> bool {
        let room = self.strangers.len() < STRANGERS_MAX;
        if room {
            self.strangers.push_back((to, bytes.to_vec()));
        }
        room
    }

    /// What is told the peer of our session `id`, which is made with the installed secret `key`, or with none.
    pub(crate) fn promise(&self, id: SessionId, key: Option<KeyId>) -> Promise {
        promise(self.config.crypto, &self.token(id, key))
    }

    fn token(&self, id: SessionId, key: Option<KeyId>) -> Token {
        let crypto = self.config.crypto;
        let of_secret = key.filter(|_| !self.tokens.lasting).and_then(|key| self.token_key(key));
        token(crypto, of_secret.as_ref().unwrap_or(&self.tokens.key), id)
    }

    fn token_key(&self, key: KeyId) -> Option<Secret> {
        let (key, side) = self.installed.get(&key)?;
        Some(key.reset_key(self.config.crypto, *side))
    }

    /// A sealed packet of `len` bytes came for a session that we do not know: its sender is told so, if that is small, rare and of use.
    pub(crate) fn unknown(&mut self, now: Instant, from: SocketAddr, session: SessionId, len: usize) {
        self.counters.dropped_unknown_session += 1;
        // All answers together are smaller than the packet.
        let most = ((len - 1) / RESET_LEN).min(TOKENS_MAX);
        if most == 0 || !self.rates.may_reset(from, now) {
            return;
        }
        let secrets = if self.tokens.lasting { 0 } else { TOKENS_MAX };
        let keys: Vec<Option<KeyId>> =
            self.tokens.secrets_of(from, secrets).map(|at| Some(self.installed.id(at))).chain([None]).collect();
        // Each time with another one in front: short packets are answered by one token each, and may be all that ever comes.
        let first = self.tokens.turn(most.min(keys.len())) % keys.len();
        for &key in keys.iter().cycle().skip(first).take(most.min(keys.len())) {
            let token = self.token(session, key);
            let mut out = [0; RESET_LEN];
            ResetPacket::emit(session, &token, &mut out);
            self.counters.resets_sent += u64::from(self.answer_stranger(from, &out));
        }
    }

    /// A peer, or somebody else, says that it does not know a session.
    pub(crate) fn reset(&mut self, packet: &ResetPacket<'_>) {
        let promise_of = |slot: u32| match self.sessions[slot as usize].as_deref() {
            Some(session) => Some((session.peer_id, session.promise)),
            None => self.rests.at(slot).map(|resting| (resting.peer_id, resting.promise)),
        };
        let proven = self.tokens.proven(self.config.crypto, packet.header.session, packet.token, promise_of);
        // A handshake that nobody was told of yet ends in its own way.
        match proven.filter(|slot| self.at(*slot).may_send) {
            Some(slot) => {
                self.counters.resets_taken += 1;
                self.close(slot, &Ended::Failed(Failure::PeerRestarted));
            }
            None => self.counters.dropped_reset += 1,
        }
    }
}
