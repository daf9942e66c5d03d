//! Owns key shares that are made before they are needed: a client's half of a key exchange depends on nothing, and makes up a tenth of what
//! its handshake computes before the first byte leaves.
//!
//! Each share is used once, by whoever comes first, and only by the process that made it: a forked child has a copy of its parent's, and
//! leaves them alone. At most [`READY_MAX`] are kept, and none before a handshake wanted one, so that a server makes none.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768;
use rustls::crypto::{ActiveKeyExchange, CompletedKeyExchange, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, ProtocolVersion};

/// Shares that are kept at most. A memory that leaks one leaks one session that is yet to come.
pub const READY_MAX: usize = 2;

/// The hybrid X25519MLKEM768.
pub(crate) static HYBRID: Ready = Ready::new(X25519MLKEM768);

/// Makes the shares that handshakes of this process took since it was called last. For a moment in which nobody waits: each takes about
/// 50 us. Whether there was anything to do.
pub fn make() -> bool {
    HYBRID.make()
}

/// Shares, and the process that made each.
type Made = Vec<(u32, Box<dyn ActiveKeyExchange>)>;

/// A group whose shares are made ahead.
pub(crate) struct Ready {
    group: &'static dyn SupportedKxGroup,
    wanted: AtomicUsize,
    made: Mutex<Made>,
}

impl Ready {
    const fn new(group: &'static dyn SupportedKxGroup) -> Self {
        Self { group, wanted: AtomicUsize::new(0), made: Mutex::new(Vec::new()) }
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
        self.group.start_and_complete(peer)
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

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ready({:?})", self.group.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
