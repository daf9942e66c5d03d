//! Owns resumption tickets (RFC 8446 section 2.2): what a server remembers of those it gave out, and a client of those it
//! was given. [P-6.8]
//!
//! A ticket is the name of an entry in the server's memory, and is taken out of it when it is used: nobody can use one
//! twice, neither at this server nor at one that was started again, which has forgotten all. So early data sealed for one
//! runs at most once. Both memories are bounded; what has no room falls out, oldest first, and costs a full handshake.
//!
//! A chain of resumptions would carry an identity beyond its certificate: an entry ends with the certificates that the
//! full handshake checked, and a day after that handshake at the latest.

use core::fmt;
use core::net::SocketAddr;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::server::StoresServerSessions;
use zeroize::Zeroizing;

use crate::identity::PeerIdentity;
use crate::kept::{Given, Name, Terms};
use crate::limits::{TICKET_SERVERS_MAX, TICKETS_PER_SERVER};

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

// ---- Server ----

/// What a server remembers of the tickets that it gave out.
#[derive(Default)]
pub(crate) struct ServerTickets(Mutex<Given>);

impl fmt::Debug for ServerTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerTickets({})", lock(&self.0).len())
    }
}

/// The part of one handshake in them.
#[derive(Debug)]
pub(crate) struct Issue {
    tickets: Arc<ServerTickets>,
    now: u64,
    part: Mutex<IssuePart>,
}

#[derive(Debug, Default)]
struct IssuePart {
    /// Of the ticket that this handshake resumes by.
    resumed: Option<Terms>,
    /// Given out by this handshake, and not yet in memory.
    pending: Vec<(Name, Zeroizing<Vec<u8>>)>,
}

impl Issue {
    pub(crate) fn new(tickets: &Arc<ServerTickets>, now: u64) -> Arc<Self> {
        Arc::new(Self { tickets: Arc::clone(tickets), now, part: Mutex::default() })
    }

    /// The handshake is complete: what it gave out is good, for as long as the client's certificates are. The client, who may be known.
    pub(crate) fn complete(&self, not_after: u64, client: PeerIdentity) -> PeerIdentity {
        let mut part = lock(&self.part);
        let terms = part.resumed.unwrap_or_else(|| Terms::of_full(self.now, not_after));
        let mut given = lock(&self.tickets.0);
        let client = given.known(client);
        for (name, value) in part.pending.drain(..) {
            given.put(name, terms, &value, &client);
        }
        client
    }
}

impl StoresServerSessions for Issue {
    fn put(&self, name: Vec<u8>, value: Vec<u8>) -> bool {
        let value = Zeroizing::new(value);
        let Ok(name) = Name::try_from(name) else { return false };
        lock(&self.part).pending.push((name, value));
        true
    }

    fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
        // A ticket that stays where it is could be used twice.
        None
    }

    fn take(&self, name: &[u8]) -> Option<Vec<u8>> {
        let (terms, value) = lock(&self.tickets.0).take(name.try_into().ok()?)?;
        if !terms.hold(self.now) {
            return None;
        }
        lock(&self.part).resumed = Some(terms);
        Some(value.to_vec())
    }

    fn can_cache(&self) -> bool {
        true
    }
}

// ---- Client ----

/// Whom a ticket is for: the name in the certificate, and where.
pub(crate) type Place = (Arc<str>, Option<SocketAddr>);

/// What a client remembers of the tickets that it was given.
#[derive(Default)]
pub(crate) struct ClientTickets(Mutex<Received>);

#[derive(Default)]
struct Received {
    places: HashMap<Place, Vec<Ticket>>,
    order: VecDeque<Place>,
}

struct Ticket {
    terms: Terms,
    mutual: bool,
    value: Tls13ClientSessionValue,
}

impl ClientTickets {
    fn put(&self, place: &Place, ticket: Ticket) {
        let mut received = lock(&self.0);
        if !received.places.contains_key(place) {
            received.order.push_back(place.clone());
            if received.order.len() > TICKET_SERVERS_MAX
                && let Some(oldest) = received.order.pop_front()
            {
                received.places.remove(&oldest);
            }
        }
        let tickets = received.places.entry(place.clone()).or_default();
        if tickets.len() == TICKETS_PER_SERVER {
            tickets.remove(0);
        }
        // Most have one.
        tickets.reserve_exact(1);
        tickets.push(ticket);
    }

    /// The newest that still holds.
    fn take(&self, place: &Place, now: u64) -> Option<Ticket> {
        let mut received = lock(&self.0);
        let tickets = received.places.get_mut(place)?;
        while let Some(ticket) = tickets.pop() {
            if ticket.terms.hold(now) {
                return Some(ticket);
            }
        }
        None
    }

    /// How many there are for one place.
    pub(crate) fn count(&self, place: &Place) -> usize {
        lock(&self.0).places.get(place).map_or(0, Vec::len)
    }
}

impl fmt::Debug for ClientTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientTickets(for {} servers)", lock(&self.0).places.len())
    }
}

/// The part of one handshake in them.
#[derive(Debug)]
pub(crate) struct Purse {
    tickets: Arc<ClientTickets>,
    place: Place,
    now: u64,
    part: Mutex<PursePart>,
}

#[derive(Clone, Copy, Debug, Default)]
struct PursePart {
    taken: Option<(Terms, bool)>,
    /// What tickets of this handshake are good for, once it is complete.
    given: Option<(Terms, bool)>,
}

impl Purse {
    pub(crate) fn new(tickets: &Arc<ClientTickets>, place: Place, now: u64) -> Arc<Self> {
        Arc::new(Self { tickets: Arc::clone(tickets), place, now, part: Mutex::default() })
    }

    /// Whether both sides proved who they are in the handshake that this one resumes.
    pub(crate) fn was_mutual(&self) -> bool {
        lock(&self.part).taken.is_some_and(|(_, mutual)| mutual)
    }

    /// The handshake is complete: tickets may come.
    pub(crate) fn complete(&self, resumed: bool, mutual: bool, not_after: u64) {
        let mut part = lock(&self.part);
        let fresh = (Terms::of_full(self.now, not_after), mutual);
        part.given = Some(if resumed { part.taken.unwrap_or(fresh) } else { fresh });
    }
}

impl ClientSessionStore for Purse {
    // Nothing is remembered of groups: the first share always is of the best one, or one HelloRetryRequest in bad company
    // would weaken all handshakes after it.
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        if let Some((terms, mutual)) = lock(&self.part).given {
            self.tickets.put(&self.place, Ticket { terms, mutual, value });
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let Ticket { terms, mutual, value } = self.tickets.take(&self.place, self.now)?;
        lock(&self.part).taken = Some((terms, mutual));
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TICKET_LIFETIME;

    fn issue(tickets: &Arc<ServerTickets>, now: u64) -> Arc<Issue> {
        Issue::new(tickets, now)
    }

    /// [P-6.8] An entry is taken once, by whoever comes first; what a handshake gave out counts when it is complete.
    #[test]
    fn taken_once() {
        let tickets = Arc::new(ServerTickets::default());
        let first = issue(&tickets, 1000);
        assert!(first.put([1; 32].into(), [9; 50].into()));
        assert_eq!(issue(&tickets, 1000).take(&[1; 32]), None, "not complete");
        first.complete(u64::MAX, PeerIdentity::Anonymous);
        assert_eq!(issue(&tickets, 1000).get(&[1; 32]), None);
        assert_eq!(issue(&tickets, 1000).take(&[1; 32]), Some([9; 50].into()));
        assert_eq!(issue(&tickets, 1000).take(&[1; 32]), None, "used");
    }

    /// [P-6.8] A ticket ends with the certificates that the full handshake checked and a day after it, however often it was
    /// resumed in between.
    #[test]
    fn ends() {
        let day = TICKET_LIFETIME.as_secs();
        for (not_after, last) in [(u64::MAX, 1000 + day - 1), (5000, 4999)] {
            let tickets = Arc::new(ServerTickets::default());
            let full = issue(&tickets, 1000);
            full.put([1; 32].into(), [9; 50].into());
            full.complete(not_after, PeerIdentity::Anonymous);
            let resumed = issue(&tickets, last);
            assert!(resumed.take(&[1; 32]).is_some());
            resumed.put([2; 32].into(), [9; 50].into());
            resumed.complete(u64::MAX, PeerIdentity::Anonymous);
            assert_eq!(issue(&tickets, last + 1).take(&[2; 32]), None);
        }
    }
}
