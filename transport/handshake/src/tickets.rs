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

use crate::limits::{TICKET_BYTES_MAX, TICKET_LIFETIME, TICKET_SERVERS_MAX, TICKETS_PER_SERVER, TICKETS_SERVER_MAX};

/// Until when a ticket is good, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Terms {
    /// When the full handshake was that all its resumptions go back to.
    born: u64,
    /// When the first of the certificates ends that were checked there.
    not_after: u64,
}

impl Terms {
    const fn hold(&self, now: u64) -> bool {
        now < self.not_after && now.saturating_sub(self.born) < TICKET_LIFETIME.as_secs()
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

// ---- Server ----

/// What a server remembers of the tickets that it gave out.
#[derive(Default)]
pub(crate) struct ServerTickets(Mutex<Given>);

#[derive(Default)]
struct Given {
    entries: HashMap<Vec<u8>, (Terms, Zeroizing<Vec<u8>>)>,
    /// Oldest first; names of entries that were used stay until they come to the front.
    order: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Given {
    fn remove(&mut self, id: &[u8]) -> Option<(Terms, Zeroizing<Vec<u8>>)> {
        let entry = self.entries.remove(id)?;
        self.bytes -= id.len() + entry.1.len();
        Some(entry)
    }

    fn put(&mut self, id: Vec<u8>, terms: Terms, value: Zeroizing<Vec<u8>>) {
        self.bytes += id.len() + value.len();
        self.order.push_back(id.clone());
        self.entries.insert(id, (terms, value));
        while self.order.len() > TICKETS_SERVER_MAX || self.bytes > TICKET_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.remove(&oldest);
        }
    }
}

impl fmt::Debug for ServerTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerTickets({})", lock(&self.0).entries.len())
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
    pending: Vec<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

impl Issue {
    pub(crate) fn new(tickets: &Arc<ServerTickets>, now: u64) -> Arc<Self> {
        Arc::new(Self { tickets: Arc::clone(tickets), now, part: Mutex::default() })
    }

    /// The handshake is complete: what it gave out is good, for as long as the client's certificates are.
    pub(crate) fn complete(&self, not_after: u64) {
        let mut part = lock(&self.part);
        let terms = part.resumed.unwrap_or(Terms { born: self.now, not_after });
        for (id, value) in part.pending.drain(..) {
            lock(&self.tickets.0).put(id, terms, value);
        }
    }
}

impl StoresServerSessions for Issue {
    fn put(&self, id: Vec<u8>, value: Vec<u8>) -> bool {
        lock(&self.part).pending.push((id, Zeroizing::new(value)));
        true
    }

    fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
        // A ticket that stays where it is could be used twice.
        None
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        let (terms, value) = lock(&self.tickets.0).remove(id)?;
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
pub(crate) type Place = (String, Option<SocketAddr>);

/// What a client remembers of the tickets that it was given.
#[derive(Default)]
pub(crate) struct ClientTickets(Mutex<Received>);

#[derive(Default)]
struct Received {
    places: HashMap<Place, VecDeque<Ticket>>,
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
        tickets.push_back(ticket);
        if tickets.len() > TICKETS_PER_SERVER {
            tickets.pop_front();
        }
    }

    /// The newest that still holds.
    fn take(&self, place: &Place, now: u64) -> Option<Ticket> {
        let mut received = lock(&self.0);
        let tickets = received.places.get_mut(place)?;
        while let Some(ticket) = tickets.pop_back() {
            if ticket.terms.hold(now) {
                return Some(ticket);
            }
        }
        None
    }

    /// How many there are for one place.
    pub(crate) fn count(&self, place: &Place) -> usize {
        lock(&self.0).places.get(place).map_or(0, VecDeque::len)
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
        let fresh = (Terms { born: self.now, not_after }, mutual);
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
        first.complete(u64::MAX);
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
            full.complete(not_after);
            let resumed = issue(&tickets, last);
            assert!(resumed.take(&[1; 32]).is_some());
            resumed.put([2; 32].into(), [9; 50].into());
            resumed.complete(u64::MAX);
            assert_eq!(issue(&tickets, last + 1).take(&[2; 32]), None);
        }
    }

    /// [P-6.8] However many tickets are given out, memory is bounded, and the oldest are forgotten.
    #[test]
    fn bounded() {
        let tickets = Arc::new(ServerTickets::default());
        let id = |n: usize| n.to_be_bytes().to_vec();
        for n in 0..TICKETS_SERVER_MAX + 10 {
            let one = issue(&tickets, 0);
            one.put(id(n), [0; 60].into());
            one.complete(u64::MAX);
        }
        assert_eq!(lock(&tickets.0).entries.len(), TICKETS_SERVER_MAX);
        assert_eq!(lock(&tickets.0).order.len(), TICKETS_SERVER_MAX);
        assert_eq!(issue(&tickets, 0).take(&id(9)), None);
        assert!(issue(&tickets, 0).take(&id(10)).is_some());
        for n in 0..100 {
            let one = issue(&tickets, 0);
            one.put(id(1 << 40 | n), [0; 1 << 20].into());
            one.complete(u64::MAX);
        }
        assert!(lock(&tickets.0).bytes <= TICKET_BYTES_MAX);
    }
}
