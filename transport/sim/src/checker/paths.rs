//! Owns what is known of the paths between hosts: when they were cut, when hosts were away. So it says of a call that failed whether
//! it should have.

use std::net::SocketAddr;

use crate::clock::{SEC, Time};
use crate::host::{binding_of, host_at};
use crate::rng::FastMap;
use crate::wiretap::Wiretap;

use super::calls::Call;

/// How long a change of address may be felt: questions about another stand for a second, and after a "no" there is a second's pause.
const REBOUND: Time = 3 * SEC;

/// The paths of a world.
#[derive(Debug)]
pub struct Paths {
    hosts: u32,
    /// When each host crashed or was started last.
    restarted: Vec<Option<Time>>,
    /// Until when each pair was cut.
    cut_until: Vec<Time>,
    /// How often each host's address changed, and when last.
    rebound: Vec<(u16, Option<Time>)>,
    /// The sides of the cut that there is now.
    cut: Option<Vec<u8>>,
    /// Sessions that an application closed.
    closed: FastMap<u32, ()>,
    /// How long a handshake may take: a session that never opened may have suffered for so long.
    handshake: Time,
    /// Whether questions are asked long enough for random loss not to pass for silence.
    strict: bool,
}

impl Paths {
    /// All hosts are up, and nothing is cut.
    #[must_use]
    pub fn new(hosts: u32, handshake: Time, strict: bool) -> Self {
        let pairs = (hosts * hosts) as usize;
        let (restarted, cut_until, closed) = (vec![None; hosts as usize], vec![0; pairs], FastMap::default());
        let rebound = vec![(0, None); hosts as usize];
        Self { hosts, restarted, cut_until, rebound, cut: None, closed, handshake, strict }
    }

    /// A host crashes, or is started again.
    pub fn restart(&mut self, now: Time, host: u32) {
        self.restarted[host as usize] = Some(now);
    }

    /// Whether one of the two crashed or was started since then.
    #[must_use]
    pub fn restarted_since(&self, a: u32, b: u32, since: Time) -> bool {
        [a, b].iter().any(|host| self.restarted[*host as usize].is_some_and(|at| at > since))
    }

    /// The network is cut, or joined.
    pub fn cut(&mut self, now: Time, groups: Option<Vec<u8>>) {
        if let Some(groups) = core::mem::replace(&mut self.cut, groups) {
            for a in 0..self.hosts {
                for b in 0..self.hosts {
                    if groups[a as usize] != groups[b as usize] {
                        self.cut_until[(a * self.hosts + b) as usize] = now;
                    }
                }
            }
        }
    }

    /// A host is heard from another address from now on.
    pub fn rebind(&mut self, now: Time, host: u32, binding: u16) {
        self.rebound[host as usize] = (binding, Some(now));
    }

    /// A host believes that the peer of its session is at that address now. It must be one that this peer has or had: who copies packets
    /// of others must not seem to be them. [P-2.3]
    ///
    /// # Errors
    /// When it is somewhere else.
    pub fn moved(&self, (host, name): (u32, u64), to: SocketAddr, wiretap: &Wiretap) -> Result<(), (u8, String)> {
        let client = wiretap.session(host, name).map(|(_, session)| session).filter(|session| session.server.0 == host);
        let known = client.is_some_and(|session| {
            let peer = session.client.0;
            host_at(to) == Some(peer) && (1..=self.rebound[peer as usize].0).contains(&binding_of(to))
        });
        if known {
            Ok(())
        } else {
            Err((4, format!("host {host}: session {name:x} moved to {to}, where its peer never was")))
        }
    }

    /// An application closes a session.
    pub fn close(&mut self, session: u32) {
        self.closed.insert(session, ());
    }

    fn is_cut(&self, a: u32, b: u32) -> bool {
        self.cut.as_ref().is_some_and(|groups| groups[a as usize] != groups[b as usize])
    }

    /// Whether two hosts were cut off from each other after `since`.
    fn was_cut(&self, a: u32, b: u32, since: Time) -> bool {
        self.is_cut(a, b) || self.cut_until[(a * self.hosts + b) as usize] > since
    }

    /// Whether its peer was out of reach at some time since the session of a call began. Where keys protect little, they may have been used
    /// up by then at the end that asks and is not answered; the other one hears of it when it sends next. [P-6.5]
    #[must_use]
    pub fn may_be_worn_out(&self, call: &Call, wiretap: &Wiretap) -> bool {
        let session = call.name.and_then(|name| wiretap.session(call.wish.from, name.session.as_u64()));
        session.is_some_and(|(_, session)| self.was_cut(call.wish.from, call.wish.to, session.since))
    }

    /// Whether the path of a call that ends now was alive all the time, and its session known at both ends.
    #[must_use]
    pub fn is_live(&self, call: &Call, wiretap: &Wiretap) -> bool {
        let (a, b) = (call.wish.from, call.wish.to);
        let session = call.name.and_then(|name| wiretap.session(a, name.session.as_u64()));
        let (known, since) = match session {
            Some((at, session)) if wiretap.is_whole(at) => (session.since, call.begun),
            _ => (call.begun.saturating_sub(self.handshake), call.begun.saturating_sub(self.handshake)),
        };
        if session.is_some_and(|(at, _)| self.closed.contains_key(&at)) {
            return false;
        }
        // Until a peer that is heard elsewhere is believed, and while strangers raise doubts, it is as if the two were cut off.
        let rebound = |host: u32| self.rebound[host as usize].1.is_some_and(|at| at + REBOUND > call.begun);
        if rebound(a) || rebound(b) {
            return false;
        }
        let restarted = |host: u32| self.restarted[host as usize].is_some_and(|at| at >= known);
        self.strict && !restarted(a) && !restarted(b) && !self.was_cut(a, b, since)
    }
}
