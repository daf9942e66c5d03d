//! Owns what the sessions of one host hold together: who opens many sessions gets no more memory by it. [P-8.7]

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// One host that others' sessions come from.
#[derive(Debug, Default)]
struct Host {
    key: u64,
    sessions: u32,
    buffered: u64,
}

/// Hosts with open sessions, by number.
#[derive(Debug, Default)]
pub struct Hosts {
    by_key: BTreeMap<u64, u32>,
    hosts: Vec<Host>,
    free: Vec<u32>,
}

impl Hosts {
    /// A session with the host of that key opens; the host's number.
    pub fn join(&mut self, key: u64) -> u32 {
        let at = *self.by_key.entry(key).or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.hosts.push(Host::default());
                self.hosts.len() as u32 - 1
            })
        });
        let host = &mut self.hosts[at as usize];
        host.key = key;
        host.sessions += 1;
        at
    }

    /// A session with that host ended, and nothing of it is buffered any more. With the last the number is free.
    pub fn leave(&mut self, at: u32) {
        let host = &mut self.hosts[at as usize];
        host.sessions -= 1;
        if host.sessions == 0 {
            debug_assert_eq!(host.buffered, 0, "what was buffered went with the sessions");
            self.by_key.remove(&host.key);
            *host = Host::default();
            self.free.push(at);
        }
    }

    /// Bytes of its messages that are buffered.
    pub fn buffered(&self, at: u32) -> u64 {
        self.hosts[at as usize].buffered
    }

    /// So many more are.
    pub fn add(&mut self, at: u32, bytes: u64) {
        self.hosts[at as usize].buffered += bytes;
    }

    /// So many are not any more.
    pub fn remove(&mut self, at: u32, bytes: u64) {
        self.hosts[at as usize].buffered -= bytes;
    }

    /// The most of one.
    pub fn most(&self) -> u64 {
        self.hosts.iter().map(|host| host.buffered).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_with_the_last_session_gone() {
        let mut hosts = Hosts::default();
        let (a, b) = (hosts.join(1), hosts.join(2));
        assert_eq!((hosts.join(1), a == b), (a, false));
        hosts.add(a, 10);
        assert_eq!((hosts.buffered(a), hosts.buffered(b), hosts.most()), (10, 0, 10));
        hosts.leave(a);
        assert_eq!((hosts.join(3) == a, hosts.buffered(a)), (false, 10), "one session is left");
        hosts.remove(a, 10);
        hosts.leave(a);
        assert_eq!((hosts.join(4), hosts.join(1) == a), (a, false));
    }
}
