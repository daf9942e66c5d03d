//! Owns a server's memory of the tickets that it gave out. There may be one for each session that is open, so what is kept has nothing
//! in reserve, and a client's certificates are kept once for its session and all its tickets. [P-6.8]

use std::collections::{HashMap, VecDeque};

use zeroize::Zeroizing;

use crate::identity::{PeerCertificate, PeerIdentity};
use crate::limits::{TICKET_BYTES_MAX, TICKET_LIFETIME, TICKETS_SERVER_MAX};

/// Until when a ticket is good, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms(u64);

impl Terms {
    /// Those of tickets from a full handshake at `now`, in which the first of the certificates ends at `not_after`; and of all that go back
    /// to it.
    pub(crate) fn of_full(now: u64, not_after: u64) -> Self {
        Self(not_after.min(now.saturating_add(TICKET_LIFETIME.as_secs())))
    }

    pub(crate) const fn hold(self, now: u64) -> bool {
        now < self.0
    }
}

/// The name of an entry, as rustls makes them: random.
pub(crate) type Name = [u8; 32];

/// Clients whose certificates are looked for when one more shows some.
const CLIENTS_KNOWN_MAX: usize = 16;

/// What resumes one session.
struct Entry {
    name: Name,
    terms: Terms,
    /// What was taken out of the rest, and from where.
    certificate: Option<PeerCertificate>,
    at: u32,
    rest: Zeroizing<Box<[u8]>>,
}

/// A chain as TLS writes it in a list: each certificate behind its length.
fn listed(certificate: &PeerCertificate) -> Vec<u8> {
    let list = |der: &Vec<u8>| [&(der.len() as u32).to_be_bytes()[1..], der].concat();
    certificate.chain().iter().flat_map(list).collect()
}

impl Entry {
    fn new(name: Name, terms: Terms, value: &[u8], client: &PeerIdentity) -> Self {
        let whole = || Self { name, terms, certificate: None, at: 0, rest: Zeroizing::new(Box::from(value)) };
        let PeerIdentity::Certificate(certificate) = client else { return whole() };
        let list = listed(certificate);
        if list.is_empty() {
            return whole();
        }
        // How rustls writes what it wants kept is its own affair: where the list does not stand in it as it is, all is kept.
        let Some(at) = value.windows(list.len()).position(|part| part == list) else { return whole() };
        let mut rest = Zeroizing::new(vec![0; value.len() - list.len()].into_boxed_slice());
        rest[..at].copy_from_slice(&value[..at]);
        rest[at..].copy_from_slice(&value[at + list.len()..]);
        Self { name, terms, certificate: Some(certificate.clone()), at: at as u32, rest }
    }

    /// What [`Self::new`] was given.
    fn value(&self) -> Vec<u8> {
        let (before, after) = self.rest.split_at(self.at as usize);
        [before, &self.certificate.as_ref().map(listed).unwrap_or_default(), after].concat()
    }

    /// Bytes, as if nobody else had the certificates.
    fn bytes(&self) -> usize {
        let chain = self.certificate.iter().flat_map(|certificate| certificate.chain()).map(Vec::len).sum::<usize>();
        size_of::<Self>() + self.rest.len() + chain
    }
}

/// All of it.
#[derive(Default)]
pub(crate) struct Given {
    /// By the beginning of the name.
    entries: HashMap<u64, Box<Entry>>,
    /// Oldest first; what was used stays until it comes to the front.
    order: VecDeque<u64>,
    bytes: usize,
    clients: VecDeque<PeerCertificate>,
}

fn key(name: &Name) -> u64 {
    name.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

impl Given {
    /// The same client; its certificates are those that others of its sessions have, if it was here lately.
    pub(crate) fn known(&mut self, client: PeerIdentity) -> PeerIdentity {
        let PeerIdentity::Certificate(certificate) = client else { return client };
        if let Some(known) = self.clients.iter().find(|known| **known == certificate) {
            return PeerIdentity::Certificate(known.clone());
        }
        if self.clients.len() == CLIENTS_KNOWN_MAX {
            self.clients.pop_front();
        }
        self.clients.push_back(certificate.clone());
        PeerIdentity::Certificate(certificate)
    }

    /// Takes an entry out: until when it is good, and what was kept.
    pub(crate) fn take(&mut self, name: &Name) -> Option<(Terms, Zeroizing<Vec<u8>>)> {
        let key = key(name);
        self.entries.get(&key).filter(|entry| entry.name == *name)?;
        let entry = self.remove(key)?;
        Some((entry.terms, Zeroizing::new(entry.value())))
    }

    fn remove(&mut self, key: u64) -> Option<Box<Entry>> {
        let entry = self.entries.remove(&key)?;
        self.bytes -= entry.bytes();
        Some(entry)
    }

    /// Keeps `value`, which `client` may resume by until `terms` end.
    pub(crate) fn put(&mut self, name: Name, terms: Terms, value: &[u8], client: &PeerIdentity) {
        let (key, entry) = (key(&name), Box::new(Entry::new(name, terms, value, client)));
        self.remove(key);
        self.bytes += entry.bytes();
        self.order.push_back(key);
        self.entries.insert(key, entry);
        while self.order.len() > TICKETS_SERVER_MAX || self.bytes > TICKET_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.remove(oldest);
        }
    }

    /// How many can be used.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(chain: &[&[u8]]) -> PeerIdentity {
        PeerIdentity::Certificate(PeerCertificate::new(chain.iter().map(|der| der.to_vec()).collect(), [7; 32]))
    }

    fn name(n: usize) -> Name {
        let mut name = [3; 32];
        name[..8].copy_from_slice(&n.to_be_bytes());
        name
    }

    proptest! {
        /// What is taken is what was put, wherever the certificates stand in it, and whether or not.
        #[test]
        fn kept_as_it_was(before in prop::collection::vec(any::<u8>(), 0..60), after in prop::collection::vec(any::<u8>(), 0..60),
            chain in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..3), there in any::<bool>()) {
            let der: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
            let client = client(&der);
            let PeerIdentity::Certificate(certificate) = &client else { unreachable!() };
            let list = if there { listed(certificate) } else { Vec::new() };
            let value = [&before[..], &list, &after].concat();
            let mut given = Given::default();
            given.put(name(1), Terms(9), &value, &client);
            prop_assert_eq!(given.take(&name(2)).map(|_| ()), None);
            let (terms, taken) = given.take(&name(1)).expect("it is there");
            prop_assert_eq!((&*taken, terms.hold(8), terms.hold(9)), (&value, true, false));
            prop_assert_eq!((given.len(), given.bytes), (0, 0));
            prop_assert!(given.take(&name(1)).is_none());
        }
    }

    /// A client's certificates are kept once, however many tickets it has and wherever they came from.
    #[test]
    fn certificates_are_shared() {
        let mut given = Given::default();
        let value = [&[1; 40][..], &[0, 1, 144], &[5; 400], &[2; 40]].concat();
        for n in 0..20 {
            let client = given.known(client(&[&[5; 400]]));
            given.put(name(n), Terms(9), &value, &client);
        }
        assert!(given.entries.values().all(|entry| entry.rest.len() == 80));
        let first = given.clients[0].chain().as_ptr();
        let same = |entry: &Entry| entry.certificate.as_ref().is_some_and(|shared| shared.chain().as_ptr() == first);
        assert!(given.entries.values().all(|entry| same(entry)));
        assert_eq!(given.clients.len(), 1);
        assert_eq!(given.known(PeerIdentity::Anonymous), PeerIdentity::Anonymous);
    }

    /// [P-6.8] However many tickets are given out, memory is bounded, and the oldest are forgotten.
    #[test]
    fn bounded() {
        let mut given = Given::default();
        for n in 0..TICKETS_SERVER_MAX + 10 {
            given.put(name(n), Terms(9), &[0; 60], &PeerIdentity::Anonymous);
        }
        assert_eq!((given.len(), given.order.len()), (TICKETS_SERVER_MAX, TICKETS_SERVER_MAX));
        assert!(given.take(&name(9)).is_none() && given.take(&name(10)).is_some());
        for n in 0..100 {
            given.put(name(1 << 40 | n), Terms(9), &vec![0; 1 << 20], &PeerIdentity::Anonymous);
        }
        assert!(given.bytes <= TICKET_BYTES_MAX && given.len() < 100);
    }
}
