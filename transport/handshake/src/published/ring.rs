//! Owns the server's side of published tickets: the private keys, which exist in this process only, and the memory of what came under
//! each. [P-6.10] [P-6.12]
//!
//! A key is made by the process that will use it, lives in memory, and is wiped when its ticket's time is over or the process ends. So
//! a flight that was recorded opens here, while its ticket holds, or nowhere. The memory of a key holds what is unique in each flight,
//! the encapsulated key, and forgets nothing while the key lives: what it has no room for is refused, never run.

use core::fmt;
use core::time::Duration;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use record::aead::Cipher;
use rustls::crypto::hpke::{EncapsulatedSecret, HpkePrivateKey};
use wire::handshake::Method;
use wire::ids::SessionId;
use zeroize::Zeroizing;

use super::ticket::{Draft, Ticket, TicketId, to_be_signed};
use super::verify::SCHEMES;
use super::{HPKE, KEY_LEN, OPENING_LEN, Verdict, associated, info};
use crate::error::Error;
use crate::limits::{PUBLISHED_BACKDATED, PUBLISHED_LIFETIME, PUBLISHED_LIFETIME_MIN};
use crate::own::Identity;

/// What a server's tickets are made with, and what it remembers of them. Its keys die with it.
pub struct Publisher {
    identity: Identity,
    ciphers: Vec<Cipher>,
    lifetime: Duration,
    flights_max: usize,
    keys: Mutex<Vec<Arc<Key>>>,
}

/// The private half of one ticket.
struct Key {
    ticket: Ticket,
    id: TicketId,
    digest: [u8; 32],
    private: HpkePrivateKey,
    seen: Mutex<HashSet<[u8; KEY_LEN]>>,
}

/// What is sought of a ring: an opening, from where it came.
pub(crate) struct Sought<'a> {
    pub(crate) opening: &'a [u8],
    /// The client's name for the session.
    pub(crate) session: SessionId,
    pub(crate) method: Method,
    pub(crate) unix_seconds: u64,
}

/// What an opening turned out to be.
pub(crate) struct Opened {
    pub(crate) secret: Zeroizing<[u8; 32]>,
    pub(crate) verdict: Verdict,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Publisher {
    /// Tickets of the first certificate of `identity`, for sessions sealed with one of `ciphers`, valid for `lifetime` (at most
    /// [`PUBLISHED_LIFETIME`]); of each, `flights_max` first flights are taken.
    #[must_use]
    pub fn new(identity: &Identity, ciphers: &[Cipher], lifetime: Duration, flights_max: usize) -> Self {
        let lifetime = lifetime.clamp(PUBLISHED_LIFETIME_MIN, PUBLISHED_LIFETIME);
        let keys = Mutex::default();
        Self { identity: identity.clone(), ciphers: ciphers.to_vec(), lifetime, flights_max, keys }
    }

    /// The ticket to be published at `unix_seconds`: the last one while more than half of its time is left, else a new one, with a
    /// key of its own. At most three keys live at once.
    ///
    /// # Errors
    /// [`Error::OwnKey`] when the certificate's key cannot sign, [`Error::Internal`] when there is no randomness.
    pub fn ticket(&self, unix_seconds: u64) -> Result<Ticket, Error> {
        let mut keys = lock(&self.keys);
        keys.retain(|key| key.lives(unix_seconds));
        let half = self.lifetime.as_secs() / 2;
        if let Some(newest) = keys.last().filter(|key| {
            // A clock that was set back must not make a key live longer.
            key.ticket.not_before <= unix_seconds && key.ticket.not_after.saturating_sub(unix_seconds) > half
        }) {
            return Ok(newest.ticket.clone());
        }
        let (public, private) =
            HPKE.generate_key_pair().map_err(|error| Error::Internal { reason: error.to_string() })?;
        let key = public.0.try_into().map_err(|_| Error::Internal { reason: String::from("an X25519 key") })?;
        let ticket = self.sign(key, unix_seconds)?;
        let (id, digest) = (ticket.id(), ticket.digest());
        if keys.len() >= KEYS_MAX {
            keys.remove(0);
        }
        keys.push(Arc::new(Key { ticket: ticket.clone(), id, digest, private, seen: Mutex::default() }));
        Ok(ticket)
    }

    fn sign(&self, key: [u8; KEY_LEN], unix_seconds: u64) -> Result<Ticket, Error> {
        let not_before = unix_seconds.saturating_sub(PUBLISHED_BACKDATED.as_secs().min(self.lifetime.as_secs() / 4));
        let not_after = not_before + self.lifetime.as_secs();
        let chain: Vec<&[u8]> = self.identity.chain().collect();
        let draft = Draft { ciphers: &self.ciphers, not_before, not_after, key, chain: &chain };
        let bytes = draft.encode();
        let (scheme, signature) = self.identity.sign(SCHEMES, &to_be_signed(&bytes))?;
        Ticket::signed(bytes, scheme, &signature)
            .map_err(|damage| Error::OwnCertificate { origin: "a published ticket".into(), reason: damage.to_string() })
    }

    /// Whether there is a living key for this ticket.
    #[must_use]
    pub fn knows(&self, id: TicketId, unix_seconds: u64) -> bool {
        self.key(id, unix_seconds).is_some()
    }

    pub(crate) fn takes(&self, cipher: Cipher) -> bool {
        self.ciphers.contains(&cipher)
    }

    fn key(&self, id: TicketId, unix_seconds: u64) -> Option<Arc<Key>> {
        lock(&self.keys).iter().find(|key| key.id == id && key.lives(unix_seconds)).cloned()
    }

    /// Opens an opening, and remembers it. `None`: it is for no living key of ours, or altered; nothing was remembered.
    pub(crate) fn open(&self, sought: &Sought<'_>) -> Option<Opened> {
        self.open_if(sought, |_| true)
    }

    /// [`Self::open`], and nothing is remembered either when `sound` does not hold of the secret.
    pub(crate) fn open_if(&self, sought: &Sought<'_>, sound: impl FnOnce(&[u8; 32]) -> bool) -> Option<Opened> {
        let opening: &[u8; OPENING_LEN] = sought.opening.try_into().ok()?;
        let (id, rest) = opening.split_first_chunk()?;
        let key = self.key(TicketId(*id), sought.unix_seconds)?;
        let (enc, sealed) = rest.split_first_chunk::<KEY_LEN>()?;
        let associated = associated(sought.session, sought.method);
        let enc_of = EncapsulatedSecret(enc.to_vec());
        let opened = HPKE.open(&enc_of, &info(&key.digest), &associated, sealed, &key.private);
        let opened = Zeroizing::new(opened.ok()?);
        let secret = Zeroizing::new(<[u8; 32]>::try_from(&opened[..]).ok()?);
        if !sound(&secret) {
            return None;
        }
        let mut seen = lock(&key.seen);
        let verdict = if seen.contains(enc) {
            Verdict::Seen
        } else if seen.len() >= self.flights_max {
            Verdict::Refused
        } else {
            seen.insert(*enc);
            Verdict::Taken
        };
        Some(Opened { secret, verdict })
    }

    /// The same keys with another memory, an empty one. For tests of what holds even then: nothing else has a use for it.
    #[doc(hidden)]
    #[must_use]
    pub fn danger_forgetful(&self) -> Arc<Self> {
        let forget = |key: &Arc<Key>| {
            let private = HpkePrivateKey::from(key.private.secret_bytes().to_vec());
            let (ticket, seen) = (key.ticket.clone(), Mutex::default());
            Arc::new(Key { ticket, id: key.id, digest: key.digest, private, seen })
        };
        let keys = Mutex::new(lock(&self.keys).iter().map(forget).collect());
        let (identity, ciphers) = (self.identity.clone(), self.ciphers.clone());
        Arc::new(Self { identity, ciphers, lifetime: self.lifetime, flights_max: self.flights_max, keys })
    }

    /// How many first flights are remembered, over all keys.
    #[must_use]
    pub fn remembered(&self) -> usize {
        lock(&self.keys).iter().map(|key| lock(&key.seen).len()).sum()
    }
}

/// Most keys at once: a ticket is replaced at half of its time, so two live, and a third while clocks are set.
const KEYS_MAX: usize = 3;

impl Key {
    const fn lives(&self, unix_seconds: u64) -> bool {
        unix_seconds < self.ticket.not_after
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = lock(&self.keys).len();
        write!(f, "Publisher({keys} keys, {} flights)", self.remembered())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::Trust;

    const NOW: u64 = 1_790_000_000;

    /// [P-6.11] An opening is good for one session's name and one kind of handshake, unaltered, while its ticket holds.
    #[test]
    fn what_an_opening_is_for() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let identity = Identity::pem("test", certificate.as_bytes(), key.as_bytes()).unwrap();
        let trust = Trust::pem("test", certificate.as_bytes()).unwrap();
        let publisher = Publisher::new(&identity, &Cipher::ALL, PUBLISHED_LIFETIME, 10);
        let ticket = publisher.ticket(NOW).unwrap().verify(&trust, "localhost", NOW).unwrap();
        let [session, other] = [1, 2].map(|slot| SessionId::new(slot, 7));
        let opening = ticket.opening(&[7; 32], session, Method::Published).unwrap();
        let open = |opening: &[u8], session, method, unix_seconds| {
            publisher
                .open(&Sought { opening, session, method, unix_seconds })
                .map(|opened| (*opened.secret, opened.verdict))
        };
        assert!(open(&opening, other, Method::Published, NOW).is_none());
        assert!(open(&opening, session, Method::Tls, NOW).is_none());
        assert!(open(&opening, session, Method::Published, ticket.ticket().not_after()).is_none());
        assert!(open(&opening[1..], session, Method::Published, NOW).is_none());
        for at in 0..opening.len() {
            let mut altered = opening;
            altered[at] ^= 1;
            assert!(open(&altered, session, Method::Published, NOW).is_none(), "byte {at}");
        }
        assert_eq!(publisher.remembered(), 0);
        assert_eq!(open(&opening, session, Method::Published, NOW), Some(([7; 32], Verdict::Taken)));
        assert_eq!(open(&opening, session, Method::Published, NOW), Some(([7; 32], Verdict::Seen)));
        // [P-6.12] What prints says no secret.
        let printed = format!("{publisher:?} {ticket:?}");
        assert!(!printed.contains("private") && !printed.contains("secret"), "{printed}");
    }
}
