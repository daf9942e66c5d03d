//! Owns who listens to which channel, and what was published for them until the loop takes it along.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::glob;
use crate::resp::Out;

/// Something that was published.
#[derive(Debug)]
pub struct Published {
    channel: Vec<u8>,
    payload: Vec<u8>,
}

/// For one client.
#[derive(Debug)]
pub struct Notice {
    /// Which client.
    pub to: u64,
    pattern: Option<Vec<u8>>,
    published: Arc<Published>,
}

impl Notice {
    /// Writes it as the client's version of the protocol wants it.
    pub fn write(&self, out: &mut Out) {
        out.push(if self.pattern.is_some() { 4 } else { 3 });
        match &self.pattern {
            Some(pattern) => {
                out.bulk(b"pmessage");
                out.bulk(pattern);
            }
            None => out.bulk(b"message"),
        }
        out.bulk(&self.published.channel);
        out.bulk(&self.published.payload);
    }
}

/// Channels and patterns, with the clients that listen.
#[derive(Debug, Default)]
pub struct Channels {
    exact: BTreeMap<Vec<u8>, BTreeSet<u64>>,
    patterns: BTreeMap<Vec<u8>, BTreeSet<u64>>,
    /// What was published and not taken yet.
    pub notices: Vec<Notice>,
}

impl Channels {
    fn of(&mut self, pattern: bool) -> &mut BTreeMap<Vec<u8>, BTreeSet<u64>> {
        if pattern { &mut self.patterns } else { &mut self.exact }
    }

    /// A client listens from now on.
    pub fn join(&mut self, client: u64, name: &[u8], pattern: bool) {
        self.of(pattern).entry(name.to_vec()).or_default().insert(client);
    }

    /// It no longer does.
    pub fn leave(&mut self, client: u64, name: &[u8], pattern: bool) {
        let of = self.of(pattern);
        if let Some(clients) = of.get_mut(name) {
            clients.remove(&client);
            if clients.is_empty() {
                of.remove(name);
            }
        }
    }

    /// Tells all who listen; how many.
    pub fn publish(&mut self, channel: &[u8], payload: &[u8]) -> usize {
        let before = self.notices.len();
        if self.exact.is_empty() && self.patterns.is_empty() {
            return 0;
        }
        let published = Arc::new(Published { channel: channel.to_vec(), payload: payload.to_vec() });
        let exact = self.exact.get(channel).into_iter().flatten();
        self.notices.extend(exact.map(|to| Notice { to: *to, pattern: None, published: published.clone() }));
        for (pattern, clients) in self.patterns.iter().filter(|(pattern, _)| glob::fits(pattern, channel)) {
            let one = |to: &u64| Notice { to: *to, pattern: Some(pattern.clone()), published: published.clone() };
            self.notices.extend(clients.iter().map(one));
        }
        self.notices.len() - before
    }

    /// Channels that fit a pattern.
    pub fn names(&self, pattern: Option<&[u8]>) -> Vec<&[u8]> {
        let fits = |name: &&[u8]| pattern.is_none_or(|pattern| glob::fits(pattern, name));
        self.exact.keys().map(Vec::as_slice).filter(fits).collect()
    }

    /// Clients that listen to a channel by name.
    pub fn listeners(&self, channel: &[u8]) -> usize {
        self.exact.get(channel).map_or(0, BTreeSet::len)
    }

    /// Patterns that anybody listens to.
    pub fn patterns(&self) -> usize {
        self.patterns.len()
    }
}
