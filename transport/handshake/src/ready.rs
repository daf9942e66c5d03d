//! Owns key shares that are made before they are needed: a client's half of a key exchange depends on nothing, and makes up a tenth of what
//! its handshake computes before the first byte leaves. Of a server's half of the hybrid that is true for the part of X25519.
//!
//! Each share is used once, by whoever comes first, and only by the process that made it: a forked child has a copy of its parent's, and
//! leaves them alone. At most [`READY_MAX`] are kept, and none before a handshake wanted one, so that a server makes none.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use rustls::crypto::aws_lc_rs::kx_group::{MLKEM768, X25519, X25519MLKEM768};
use rustls::crypto::{ActiveKeyExchange, CompletedKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, ProtocolVersion};

/// Shares that are kept at most. A memory that leaks one leaks one session that is yet to come.
pub const READY_MAX: usize = 2;

/// Bytes of what ML-KEM-768 encapsulates to (FIPS 203 table 3), which stands first in a client's share of the hybrid.
const ENCAPSULATION_KEY_LEN: usize = 1184;
/// Bytes of a share of X25519, which stands behind it.
const X25519_LEN: usize = 32;

/// The hybrid X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem).
pub(crate) static HYBRID: Ready = Ready::hybrid(X25519MLKEM768, &CLASSICAL);
/// Servers' part of it.
static CLASSICAL: Ready = Ready::new(X25519);

/// Makes the shares that handshakes of this process took since it was called last. For a moment in which nobody waits: each takes about
/// 50 us. Whether there was anything to do.
pub fn make() -> bool {
    HYBRID.make() | CLASSICAL.make()
}

/// Shares, and the process that made each.
type Made = Vec<(u32, Box<dyn ActiveKeyExchange>)>;

/// A group whose shares are made ahead.
pub(crate) struct Ready {
    group: &'static dyn SupportedKxGroup,
    /// The part of a hybrid that a server can make ahead.
    classical: Option<&'static Self>,
    wanted: AtomicUsize,
    made: Mutex<Made>,
}

impl Ready {
    const fn new(group: &'static dyn SupportedKxGroup) -> Self {
        Self { group, classical: None, wanted: AtomicUsize::new(0), made: Mutex::new(Vec::new()) }
    }

    const fn hybrid(group: &'static dyn SupportedKxGroup, classical: &'static Self) -> Self {
        Self { group, classical: Some(classical), wanted: AtomicUsize::new(0), made: Mutex::new(Vec::new()) }
    }

    /// Never waited for: who holds the lock may be a thread that a forked child does not have.
    fn made(&self) -> Option<MutexGuard<'_, Made>> {
        self.made.try_lock().ok()
    }

    fn make(&self) -> bool {
        let us = std::process::id();
        let mut any = false;
        for _ in 0..READY_MAX {
            let wanted = self.wanted.load(Ordering::Relaxed);
            let mine = |made: &[(u32, _)]| made.iter().filter(|(maker, _)| *maker == us).count();
            if self.made().is_none_or(|made| mine(&made) >= wanted) {
                break;
            }
            // Without the lock: who needs one now makes its own. Should it fail, it fails where somebody is told.
            let (Ok(share), Some(mut made)) = (self.group.start(), self.made()) else { break };
            made.retain(|(maker, _)| *maker == us);
            if made.len() < READY_MAX {
                made.push((us, share));
            }
            any = true;
        }
        any
    }
}

impl SupportedKxGroup for Ready {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let us = std::process::id();
        let ready = self.made().and_then(|mut made| {
            let at = made.iter().position(|(maker, _)| *maker == us)?;
            Some(made.swap_remove(at).1)
        });
        let one_more = |wanted: usize| Some((wanted + 1).min(READY_MAX));
        // It always gives something, so it never fails.
        let _ = self.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        ready.map_or_else(|| self.group.start(), Ok)
    }

    fn start_and_complete(&self, peer: &[u8]) -> Result<CompletedKeyExchange, Error> {
        match (self.classical, peer.split_at_checked(ENCAPSULATION_KEY_LEN)) {
            (Some(ahead), Some((encapsulation, point))) if point.len() == X25519_LEN => {
                answered(self.name(), encapsulation, ahead.start()?, point)
            }
            _ => self.group.start_and_complete(peer),
        }
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        self.group.ffdhe_group()
    }

    fn name(&self) -> NamedGroup {
        self.group.name()
    }

    fn fips(&self) -> bool {
        self.group.fips()
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        self.group.usable_for_version(version)
    }
}

/// A server's answer to a client's share of the hybrid, with our part of X25519 in `ahead`. ML-KEM's part stands first in the share and in
/// the secret.
fn answered(
    group: NamedGroup,
    encapsulation: &[u8],
    ahead: Box<dyn ActiveKeyExchange>,
    point: &[u8],
) -> Result<CompletedKeyExchange, Error> {
    let ours = ahead.pub_key().to_vec();
    let classical = ahead.complete(point)?;
    let CompletedKeyExchange { mut pub_key, secret, .. } = MLKEM768.start_and_complete(encapsulation)?;
    pub_key.extend(ours);
    // Of its full length at once: what grows leaves copies behind.
    let secret = [secret.secret_bytes(), classical.secret_bytes()].concat();
    Ok(CompletedKeyExchange { group, pub_key, secret: SharedSecret::from(secret) })
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ready({:?})", self.group.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's answer is what TLS's own hybrid makes of it, with a part that was made ahead and without; each part serves once. What is no
    /// share is refused.
    #[test]
    fn servers_answer() {
        static PART: Ready = Ready::new(X25519);
        let ready = Ready::hybrid(X25519MLKEM768, &PART);
        let mut parts = Vec::new();
        for _ in 0..4 {
            let client = X25519MLKEM768.start().unwrap();
            let answer = ready.start_and_complete(client.pub_key()).unwrap();
            assert_eq!(answer.group, NamedGroup::X25519MLKEM768);
            parts.push(answer.pub_key[answer.pub_key.len() - X25519_LEN..].to_vec());
            let secret = client.complete(&answer.pub_key).unwrap();
            assert_eq!(secret.secret_bytes(), answer.secret.secret_bytes());
            assert_eq!(secret.secret_bytes().len(), 64);
            assert!(PART.make());
        }
        parts.sort();
        parts.dedup();
        assert_eq!(parts.len(), 4);
        let share = X25519MLKEM768.start().unwrap().pub_key().to_vec();
        for len in [0, X25519_LEN, ENCAPSULATION_KEY_LEN, share.len() - 1] {
            assert!(ready.start_and_complete(&share[..len]).is_err());
        }
        let low = [&share[..ENCAPSULATION_KEY_LEN], &[0; X25519_LEN]].concat();
        assert!(ready.start_and_complete(&low).is_err(), "a point of low order");
    }

    /// Each share is given once, only those of this process are, and no more are made than were wanted.
    #[test]
    fn given_once() {
        let ready = Ready::new(X25519MLKEM768);
        assert!(!ready.make(), "nobody wanted one");
        let first = ready.start().unwrap();
        assert!(ready.make());
        assert_eq!(ready.made().unwrap().len(), 1);
        let kept = ready.made().unwrap()[0].1.pub_key().to_vec();
        let (second, third) = (ready.start().unwrap(), ready.start().unwrap());
        assert_eq!(second.pub_key(), kept, "the one that was ready");
        assert!(first.pub_key() != kept && third.pub_key() != kept);
        for _ in 0..5 {
            ready.make();
        }
        assert_eq!(ready.made().unwrap().len(), READY_MAX);
        // As in a forked child: what another process made stays untouched, and makes room.
        ready.made().unwrap().iter_mut().for_each(|(maker, _)| *maker ^= 1);
        let theirs: Vec<Vec<u8>> = ready.made().unwrap().iter().map(|(_, share)| share.pub_key().to_vec()).collect();
        assert!(!theirs.contains(&ready.start().unwrap().pub_key().to_vec()));
        ready.make();
        assert!(ready.made().unwrap().iter().all(|(maker, _)| *maker == std::process::id()));
        let peer = X25519MLKEM768.start_and_complete(ready.start().unwrap().pub_key()).unwrap();
        assert_eq!(peer.group, NamedGroup::X25519MLKEM768);
    }
}
